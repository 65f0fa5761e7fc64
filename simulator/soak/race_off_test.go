//go:build !race

package soak

// fewSwaps are made by go test; make soak makes more.
const fewSwaps = 1_000

// sparse: of the crash matrix one of so many first cuts is made; make matrix makes all.
const sparse = 3

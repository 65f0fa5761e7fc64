//go:build !race

package soak

// fewSwaps are made by go test; make soak makes more.
const fewSwaps = 1_000

//go:build race

package soak

// fewSwaps are made under the race detector: there is one goroutine for a seed.
const fewSwaps = 100

// sparse: of the crash matrix one of so many first cuts is made.
const sparse = 20

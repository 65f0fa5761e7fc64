//go:build race

package safety_test

// usualRuns is small: the race detector makes each slow.
const usualRuns = 3

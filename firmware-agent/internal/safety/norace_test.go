//go:build !race

package safety_test

// usualRuns is for every day.
const usualRuns = 10

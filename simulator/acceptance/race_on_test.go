//go:build race

package acceptance

// raceDetector is whether the programs under test are built with the race
// detector, as the tests are.
const raceDetector = true

//go:build race

package journal

// stride: an exhaustive test tries one place of so many. Under the race detector
// each costs twenty times as much, and none has two goroutines; without it, all.
const stride = 23

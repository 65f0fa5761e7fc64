package cabinet

import "sync/atomic"

// offer enqueues without waiting. What does not fit is dropped and counted.
func offer[T any](queue chan<- T, v T, dropped *atomic.Uint64) bool {
	select {
	case queue <- v:
		return true
	default:
		dropped.Add(1)
		return false
	}
}

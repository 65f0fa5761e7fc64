package safety

import (
	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// State is what the loop says and did, for other goroutines.
type State struct {
	charging.Verdict
	// On are the slots whose chargers are on.
	On []int
	// Heated are the slots whose heaters were told to be on.
	Heated []int
	// Contactor is its own feedback, ContactorTold what it was told.
	Contactor     slot.Tri
	ContactorTold bool
	// Dropped counts the reports and cuts that did not fit.
	Dropped uint64
}

// State is the newest state. Any goroutine may ask. Its slices are nobody's to
// change.
func (l *Loop) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Cuts are the cuts since Cuts was asked last, for the journal.
func (l *Loop) Cuts() []protocol.ChargeCut {
	l.mu.Lock()
	defer l.mu.Unlock()
	cuts := l.cuts
	l.cuts = nil
	return cuts
}

// Verdict is what the safety rules say now.
func (l *Loop) Verdict() charging.Verdict { return l.State().Verdict }

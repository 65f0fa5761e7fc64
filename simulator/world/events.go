package world

import "time"

// Kind says what happened.
type Kind string

// What can happen. The first groups are physical; the last is what programs
// and people did around it, noted so that both can be read in one order.
const (
	Pulsed        Kind = "pulse"       // a coil was driven
	DoorOpened    Kind = "door_opened" // Serial: what was inside; Cause: how
	DoorShut      Kind = "door_shut"   // Serial: what is inside; Cause: latched or not
	BatteryIn     Kind = "battery_in"  // Person put Serial in
	BatteryOut    Kind = "battery_out" // Person took Serial out
	Plugged       Kind = "plugged"     // Cause: yes or no
	ButtonPressed Kind = "button_pressed"
	InputChanged  Kind = "input_changed" // smoke, water, a key, a stop or the mains; Cause: which
	FaultChanged  Kind = "fault_changed" // Cause: which

	// What flows and what burns.
	CurrentFlows    Kind = "current_flows" // into the battery Serial
	CurrentStops    Kind = "current_stops"
	ContactorCloses Kind = "contactor_closes"
	ContactorOpens  Kind = "contactor_opens"
	SmokeRises      Kind = "smoke_rises" // from the battery Serial

	AgentStarted   Kind = "agent_started"
	AgentKilled    Kind = "agent_killed"
	BackendStarted Kind = "backend_started"
	BackendKilled  Kind = "backend_killed"
	Scanned        Kind = "scanned"  // Person asked for a swap
	Answered       Kind = "answered" // and knows the answer; Cause: which
)

// Physical reports whether an event changed or tried to change a fact, rather
// than being what a program or a person did about it.
func (k Kind) Physical() bool {
	switch k {
	case AgentStarted, AgentKilled, BackendStarted, BackendKilled, Scanned, Answered, FaultChanged:
		return false
	}
	return true
}

// How a door came to open, and to be shut.
const (
	ByPulse    = "pulse"
	ByHand     = "hand"  // the bolt was pulled, somebody pulled the door
	ByForce    = "force" // the bolt was locked
	Latched    = "latched"
	NotLatched = "not_latched"
)

// Event is one thing that happened. N counts them from 1 without a gap, in the
// order in which they happened.
type Event struct {
	N       uint64        `json:"n"`
	At      time.Duration `json:"at_ns"`
	Kind    Kind          `json:"kind"`
	Cabinet string        `json:"cabinet_id,omitempty"`
	Slot    int           `json:"slot,omitempty"`
	Serial  string        `json:"battery_serial,omitempty"`
	Person  string        `json:"person,omitempty"`
	Cause   string        `json:"cause,omitempty"`
	// Pulse is the number of the pulse event that made a door open.
	Pulse uint64 `json:"pulse,omitempty"`
}

// maxEvents bounds the log: above it the older half goes. A day of a demo with
// three busy cabinets makes about a tenth of it.
const maxEvents = 1 << 20

func (w *World) note(e Event) uint64 {
	if len(w.log) >= maxEvents {
		w.log = append([]Event(nil), w.log[maxEvents/2:]...)
	}
	w.last++
	e.N = w.last
	w.log = append(w.log, e)
	return e.N
}

// Note adds to the log what a program or a person did.
func (w *World) Note(e Event) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(e.At)
	return w.note(e)
}

// Events returns what happened after event number after (0: everything), oldest
// first, as far as the log reaches back.
func (w *World) Events(after uint64) []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteFlows()
	if after >= w.last {
		return nil
	}
	fresh := int(w.last - after)
	if fresh > len(w.log) {
		fresh = len(w.log)
	}
	return append([]Event(nil), w.log[len(w.log)-fresh:]...)
}

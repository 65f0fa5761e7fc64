package world

import "time"

// Opening is one time that a door stood open: what was inside before, what is
// inside after, and whose hands changed it. The books are compared with these.
type Opening struct {
	Cabinet string        `json:"cabinet_id"`
	Slot    int           `json:"slot"`
	Cause   string        `json:"cause"`
	Opened  uint64        `json:"opened"` // number of the event
	Pulse   uint64        `json:"pulse"`  // number of the pulse that did it; 0: none
	Shut    uint64        `json:"shut"`   // 0: still open
	At      time.Duration `json:"at_ns"`
	Before  string        `json:"before"` // serial inside when it opened
	After   string        `json:"after"`  // serial inside when it was shut, or now
	// TakenBy took Before out, PutBy put After in; "" when nothing changed.
	TakenBy string `json:"taken_by"`
	PutBy   string `json:"put_by"`
}

// Taken is the serial that left the slot for good in this opening, or "".
func (o Opening) Taken() string {
	if o.Before == o.After {
		return ""
	}
	return o.Before
}

// Deposited is the serial that came into the slot for good, or "".
func (o Opening) Deposited() string {
	if o.Before == o.After {
		return ""
	}
	return o.After
}

// Openings folds events, oldest first, into the times that doors stood open, in
// the order in which they opened. What was taken and put back in one opening
// has not moved.
func Openings(events []Event) []Opening {
	type place struct {
		cabinet string
		slot    int
	}
	var all []Opening
	open := map[place]int{}
	for _, e := range events {
		at := place{e.Cabinet, e.Slot}
		i, isOpen := open[at]
		switch e.Kind {
		case DoorOpened:
			open[at] = len(all)
			all = append(all, Opening{
				Cabinet: e.Cabinet, Slot: e.Slot, Cause: e.Cause, Opened: e.N, Pulse: e.Pulse, At: e.At,
				Before: e.Serial, After: e.Serial,
			})
		case BatteryIn:
			if isOpen {
				all[i].After = e.Serial
				all[i].PutBy = e.Person
			}
		case BatteryOut:
			if isOpen {
				all[i].After = ""
				if e.Serial == all[i].Before {
					all[i].TakenBy = e.Person
				}
			}
		case DoorShut:
			if isOpen {
				all[i].Shut = e.N
				delete(open, at)
			}
		}
	}
	for i := range all {
		if all[i].Taken() == "" {
			all[i].TakenBy = ""
		}
		if all[i].Deposited() == "" {
			all[i].PutBy = ""
		}
	}
	return all
}

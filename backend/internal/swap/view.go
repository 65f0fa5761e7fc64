package swap

import (
	"time"

	"batteryswap/protocol"
)

// RiderID names a rider in the backend: a UUID in canonical text. Cabinets never
// see it.
type RiderID string

// State is where a swap stands in the backend.
type State string

// The states of a swap. A closed swap has an outcome.
const (
	StateRequested State = "requested"
	StateGranted   State = "granted"
	StateActive    State = "active"
	StateClosed    State = "closed"
)

// Step is what a rider's page shows of an open swap: which door, and what for.
type Step string

// The steps, as the cabinet's records tell them.
const (
	StepRequested Step = "requested" // asking the cabinet
	StepGranted   Step = "granted"   // a door is about to open
	StepDeposit   Step = "deposit"   // put the battery into Slot, close the door
	StepReopen    Step = "reopen"    // plug it in, Slot opened again
	StepVerify    Step = "verify"    // the battery is in and being recognised
	StepDispense  Step = "dispense"  // take the battery out of Slot, close the door
	StepReturn    Step = "return"    // take the own battery back out of Slot
	StepClosed    Step = "closed"
)

// Scan is one presentation of a cabinet's code by a rider.
type Scan struct {
	RiderID        RiderID
	CabinetID      protocol.CabinetID
	Presence       string // the code on the cabinet's screen, "" when none was given
	HandBack       bool
	IdempotencyKey string // 1 to 64 printable characters; the same key answers the stored result
}

// Refusal is why a scan did not become a swap. It is a value, not an error.
type Refusal struct {
	Reason protocol.Reason
	// SwapID is the rider's other open swap, for swap_open.
	SwapID protocol.SwapID
}

// View is a swap as its rider sees it.
type View struct {
	SwapID    protocol.SwapID
	CabinetID protocol.CabinetID
	RiderID   RiderID
	Kind      protocol.Kind
	State     State
	Step      Step
	Slot      int           // the door that Step speaks of, 0 when none
	Door      protocol.Door // of Slot, as last reported
	Outcome   protocol.Outcome
	Reason    protocol.Reason
	Deposited protocol.BatterySerial
	Soc       *int // of the deposited battery, %
	Taken     protocol.BatterySerial
	// Seq is the position of the last record that moved this view: the id of
	// its events. It rises with every change.
	Seq       uint64
	StartedAt time.Time
	UpdatedAt time.Time
	// Reachable is false while nothing has been heard of the cabinet for 60 s:
	// an open swap is then shown as unknown.
	Reachable bool
}

// CabinetView is a cabinet as pages and machines list it.
type CabinetView struct {
	CabinetID    protocol.CabinetID
	Station      string
	Street       string
	Reachable    bool
	LastSeen     time.Time // zero: never
	OutOfService protocol.Reason
	Slots        int
	// The next four count slots as SlotCounts does.
	Charged, Empty, Out, Holding int
	SwapOpen                     bool
	SwapSince                    time.Time          // when the open swap was asked for
	Backlog                      uint64             // journal records that the agent could not deliver yet, as it last said
	Inventory                    protocol.Inventory // of one cabinet only: lists do without
	// Latitude and Longitude are degrees of WGS-84; nil: nobody has said.
	Latitude, Longitude *float64
	Hotline             string // whom its riders call, "" when there is nobody
}

// SlotCounts are a cabinet's slots by what is known of them. Each is in one count,
// the first that fits; the rest is unknown.
type SlotCounts struct {
	Out     int // take no part in swaps
	Charged int // a battery to take
	Holding int // a battery that is not
	Empty   int // to put one in
}

// CountSlots counts what a cabinet said of its slots.
func CountSlots(inv protocol.Inventory) SlotCounts {
	var n SlotCounts
	for _, s := range inv {
		switch {
		case s.Out:
			n.Out++
		case s.Presence == protocol.HoldsBattery && s.Charged:
			n.Charged++
		case s.Presence == protocol.HoldsBattery:
			n.Holding++
		case s.Presence == protocol.PresenceEmpty:
			n.Empty++
		}
	}
	return n
}

// RiderView is a rider's own account.
type RiderView struct {
	RiderID        RiderID
	SwapsThisMonth int // counted swaps of the current Asia/Shanghai month
	SwapsTotal     int
	OpenCredits    int
	Batteries      []protocol.BatterySerial // in the rider's custody
	OpenSwap       protocol.SwapID
	Inactive       bool // no member today, or put out by staff: no swap begins
	// MemberFrom and MemberTo are the first and the last day of the membership, ""
	// for no bound.
	MemberFrom, MemberTo Day
}

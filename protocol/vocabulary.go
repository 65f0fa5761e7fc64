package protocol

import "slices"

// Kind is what a scan is for. The backend chooses it.
type Kind string

// The kinds of a swap.
const (
	KindSwap     Kind = "swap"
	KindOwed     Kind = "owed"      // take only: a debt of the fleet
	KindIssue    Kind = "issue"     // take only: a rider's first battery
	KindHandBack Kind = "hand_back" // deposit only
)

// Valid reports whether k is one of the kinds.
func (k Kind) Valid() bool {
	return k == KindSwap || k == KindOwed || k == KindIssue || k == KindHandBack
}

// Deposits reports whether the rider puts a battery in.
func (k Kind) Deposits() bool { return k == KindSwap || k == KindHandBack }

// Dispenses reports whether the rider takes a charged battery.
func (k Kind) Dispenses() bool { return k == KindSwap || k == KindOwed || k == KindIssue }

// NeedsPresence reports whether the rider must prove to stand at the cabinet.
// A swap needs no proof: it is deposit-first.
func (k Kind) NeedsPresence() bool { return k == KindOwed || k == KindIssue }

// Outcome is the sensed end of a swap.
type Outcome string

// The outcomes.
const (
	OutcomeNoDeposit     Outcome = "no_deposit"      // nothing deposited
	OutcomeSwapped       Outcome = "swapped"         // deposited and taken: counts
	OutcomeReturned      Outcome = "returned"        // deposited, own battery back
	OutcomeDepositedOwed Outcome = "deposited_owed"  // deposited and accepted, nothing taken: a credit
	OutcomeOwedTaken     Outcome = "owed_taken"      // counts
	OutcomeOwedNotTaken  Outcome = "owed_not_taken"  // credit freed
	OutcomeIssued        Outcome = "issued"          // first battery taken
	OutcomeIssueNotTaken Outcome = "issue_not_taken" // credit freed
	OutcomeHandedBack    Outcome = "handed_back"     // deposited and accepted
	OutcomeNotStarted    Outcome = "not_started"     // VOID, or fenced by a later boot
	OutcomeReview        Outcome = "review"          // more than one explanation
)

// Outcomes are all outcomes, in the order of the constants.
func Outcomes() []Outcome {
	return []Outcome{
		OutcomeNoDeposit, OutcomeSwapped, OutcomeReturned, OutcomeDepositedOwed, OutcomeOwedTaken, OutcomeOwedNotTaken,
		OutcomeIssued, OutcomeIssueNotTaken, OutcomeHandedBack, OutcomeNotStarted, OutcomeReview,
	}
}

func outcomesOf(k Kind) []Outcome {
	switch k {
	case KindSwap:
		return []Outcome{OutcomeNoDeposit, OutcomeSwapped, OutcomeReturned, OutcomeDepositedOwed, OutcomeReview}
	case KindOwed:
		return []Outcome{OutcomeOwedTaken, OutcomeOwedNotTaken, OutcomeReview}
	case KindIssue:
		return []Outcome{OutcomeIssued, OutcomeIssueNotTaken, OutcomeReview}
	case KindHandBack:
		return []Outcome{OutcomeHandedBack, OutcomeReturned, OutcomeNoDeposit, OutcomeReview}
	}
	return nil
}

// PossibleFor reports whether an agent can close a swap of this kind so.
func (o Outcome) PossibleFor(k Kind) bool { return slices.Contains(outcomesOf(k), o) }

// Counts reports whether a swap that ended so is counted as a swap.
func (o Outcome) Counts() bool { return o == OutcomeSwapped || o == OutcomeOwedTaken }

// Purpose is why a door is unlocked.
type Purpose string

// The purposes of an INTENT.
const (
	PurposeDeposit  Purpose = "deposit"
	PurposeDispense Purpose = "dispense"
	PurposeReturn   Purpose = "return"
	PurposeReopen   Purpose = "reopen" // the deposit slot again: "plug it in"
	// PurposeMaintenance is no swap's: by an order of staff.
	PurposeMaintenance Purpose = "maintenance"
)

// Valid reports whether p is one of the purposes.
func (p Purpose) Valid() bool {
	switch p {
	case PurposeDeposit, PurposeDispense, PurposeReturn, PurposeReopen, PurposeMaintenance:
		return true
	}
	return false
}

// Presence is what is known of a slot's content. The zero value is unknown.
type Presence string

// The three answers.
const (
	PresenceUnknown Presence = ""
	PresenceEmpty   Presence = "empty"
	HoldsBattery    Presence = "holds_battery"
)

// Valid reports whether p is one of the answers.
func (p Presence) Valid() bool {
	return p == PresenceUnknown || p == PresenceEmpty || p == HoldsBattery
}

// Door is what is known of a door. The zero value is unknown.
type Door string

// The three answers.
const (
	DoorUnknown Door = ""
	DoorOpen    Door = "open"
	DoorShut    Door = "shut"
)

// Valid reports whether d is one of the answers.
func (d Door) Valid() bool { return d == DoorUnknown || d == DoorOpen || d == DoorShut }

// ClockState says how far a record's wall time can be trusted.
type ClockState uint8

// The states of an agent's wall clock.
const (
	ClockUnsynchronised ClockState = iota // never synchronised since this boot
	ClockSynchronised
)

// Valid reports whether c is one of the states.
func (c ClockState) Valid() bool { return c <= ClockSynchronised }

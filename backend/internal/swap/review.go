package swap

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"batteryswap/protocol"
)

// Ruling is what a person decided that a case was. The list is closed: each has
// fixed entries for each kind of swap.
type Ruling string

// The rulings.
const (
	RuledTaken        Ruling = "taken"         // the rider left with a charged battery
	RuledReturned     Ruling = "returned"      // the rider left with the battery that had been put in
	RuledOwed         Ruling = "owed"          // the rider left without one: the fleet owes what the kind says
	RuledNotDeposited Ruling = "not_deposited" // no battery of the rider's is in
	RuledNoted        Ruling = "noted"         // of no rider's swap: nothing to book
)

// Rulings is the closed list.
func Rulings() []Ruling {
	return []Ruling{RuledTaken, RuledReturned, RuledOwed, RuledNotDeposited, RuledNoted}
}

// Ground is what a ruling rests on.
type Ground string

// The grounds.
const (
	GroundOnSite  Ground = "seen_on_site"   // staff looked into the slots
	GroundCamera  Ground = "camera"         // a recording shows it
	GroundRecords Ground = "records"        // inventories and records leave one explanation
	GroundRider   Ground = "rider"          // the rider says so, and nothing speaks against it
	GroundFound   Ground = "battery_found"  // the battery has turned up
	GroundBenefit Ground = "cannot_be_told" // nobody can know: for the rider
)

// Grounds is the closed list.
func Grounds() []Ground {
	return []Ground{GroundOnSite, GroundCamera, GroundRecords, GroundRider, GroundFound, GroundBenefit}
}

// ReviewDecision is a person's decision on one review.
type ReviewDecision struct {
	ReviewID int64
	Decision Ruling
	Reason   Ground
	By       string // who: a staff member's name or identifier
	// Deposited and Taken name the batteries where the books cannot know them:
	// the one that is in, the one that left.
	Deposited protocol.BatterySerial
	Taken     protocol.BatterySerial
}

// maxBy bounds the name of who decides, in bytes.
const maxBy = 64

// Validate says all fields that are wrong, or nil.
func (d ReviewDecision) Validate() error {
	var errs []error
	if !slices.Contains(Rulings(), d.Decision) {
		errs = append(errs, fmt.Errorf("decision %.20q: want one of %v", d.Decision, Rulings()))
	}
	if !slices.Contains(Grounds(), d.Reason) {
		errs = append(errs, fmt.Errorf("reason %.20q: want one of %v", d.Reason, Grounds()))
	}
	if d.Deposited != "" {
		errs = append(errs, named("deposited", d.Deposited.Validate()))
	}
	if d.Taken != "" {
		errs = append(errs, named("taken", d.Taken.Validate()))
	}
	return errors.Join(append(errs, checkBy(d.By))...)
}

func named(field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", field, err)
}

func checkBy(by string) error {
	if len(by) == 0 || len(by) > maxBy {
		return fmt.Errorf("by: %d bytes, want the name of who decides, 1 to %d", len(by), maxBy)
	}
	for _, r := range by {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return errors.New("by: want printable characters")
		}
	}
	return nil
}

// Decided is how a review was decided.
type Decided struct {
	Decision Ruling
	Reason   Ground
	By       string
	At       time.Time
}

// AlreadyDecided is the error of whoever decides a review after somebody else.
type AlreadyDecided struct {
	ReviewID int64
	Decided
}

func (e *AlreadyDecided) Error() string {
	return fmt.Sprintf("review %d: %s decided %s on %s (%s)", e.ReviewID, e.By, e.Decision, e.At.UTC().Format(time.RFC3339), e.Reason)
}

// Contradiction is the error of a decision that the facts in the books deny.
type Contradiction struct {
	Decision Ruling
	Why      string
	Possible []Ruling // that the facts leave
}

func (e *Contradiction) Error() string {
	return fmt.Sprintf("decision %s: %s: want one of %v", e.Decision, e.Why, e.Possible)
}

// Case is a review with what the ledger says of it: all that a decision rests on
// beside the rows of its swap.
type Case struct {
	ReviewID  int64
	SwapID    protocol.SwapID // "": of a record that belongs to no swap
	CabinetID protocol.CabinetID
	RiderID   RiderID
	Decided   *Decided
	// Batteries are the swap's last entries on each battery, by serial.
	Batteries []Entry
	// Next are the first entries of others on a battery after those; on a battery
	// without one of the swap's, after the review was opened.
	Next map[protocol.BatterySerial]Entry
	// Given is when hardship credits were given for it.
	Given []time.Time
	// Act names the entries that belong to no swap.
	Act protocol.SwapID
}

// ReviewFilter says which reviews are listed; the zero value lists all.
type ReviewFilter struct {
	Open      bool // only those that wait for a decision
	CabinetID protocol.CabinetID
	RiderID   RiderID
	Reason    protocol.Reason
}

// ReviewView is a review as it is listed.
type ReviewView struct {
	ReviewID     int64
	SwapID       protocol.SwapID
	CabinetID    protocol.CabinetID
	RiderID      RiderID
	Reason       protocol.Reason
	Explanations []protocol.Outcome
	At           time.Time // of the record that made it
	OpenedAt     time.Time
	Decided      *Decided // nil: it waits
}

// ReviewCase is all that is known of a review.
type ReviewCase struct {
	ReviewView
	Swap *Swap // nil: it belongs to none
	// Possible are the rulings that the facts in the books leave.
	Possible []Ruling
	// Before is the whole cabinet when the grant was accepted, After at the end.
	Before, After protocol.Inventory
	Records       []RecordView
	// Entries are the swap's lines of the ledger, and those of the decision.
	Entries   []Entry
	Batteries []Battery // of the case, as they are now
	Credits   []Credit  // of the swap, and hardship credits
}

// RecordView is one record as its cabinet wrote it.
type RecordView struct {
	Epoch   protocol.Epoch
	Seq     uint64
	BootSeq uint32
	Type    protocol.RecordType
	At      time.Time // zero: not dated
	Payload []byte    // JSON
	// Late marks a record of an epoch that was over when it came: it is evidence,
	// and in no count.
	Late bool
}

package swap

import (
	"time"

	"batteryswap/protocol"
)

// What is what an entry of the ledger says.
type What string

// The entries. The ledger is append-only; corrections and decisions are entries
// too.
const (
	Deposited      What = "deposit" // accepted; battery to the slot
	Taken          What = "take"    // battery to the rider; may count
	Returned       What = "return"  // an accepted deposit given back to its rider
	Held           What = "held"    // in a slot, not accepted; battery under review
	Doubted        What = "doubt"   // the rider may have it; battery under review
	Assigned       What = "assigned"
	Removed        What = "removed" // from its slot, under maintenance
	Added          What = "added"   // to its slot, likewise
	CreditOpened   What = "credit_opened"
	CreditTaken    What = "credit_reserved"
	CreditUsed     What = "credit_spent"
	CreditFreed    What = "credit_freed"
	CreditDue      What = "credit_due"     // taken against a credit that the books do not have yet
	CreditBalanced What = "credit_settled" // opened against a credit_due
	Resolved       What = "resolved"       // a battery under review has a place again
	Ruled          What = "decided"        // a review: its last entry
)

// TimeQuality says how a record's time was found.
type TimeQuality string

// The qualities, best first.
const (
	TimeWall    TimeQuality = "wall"    // the agent's clock was synchronised
	TimeStepped TimeQuality = "stepped" // synchronised later in the same boot: dated backwards
	TimeAge     TimeQuality = "age"     // receipt less the monotonic age
	TimeReceipt TimeQuality = "receipt" // first receipt; also of acts of the backend itself
)

// Stamp is where and when something happened that the books record.
type Stamp struct {
	At         time.Time
	Quality    TimeQuality
	ReceivedAt time.Time
	Epoch      protocol.Epoch // of the record; zero for acts of the backend
	Seq        uint64         // likewise 0
}

// Now is the stamp of an act of the backend itself.
func Now(t time.Time) Stamp { return Stamp{At: t, Quality: TimeReceipt, ReceivedAt: t} }

// Day is a day of Asia/Shanghai, as 2006-01-02; "" is none.
type Day string

// shanghai has had no daylight saving since 1991: an offset is the whole zone.
var shanghai = time.FixedZone("Asia/Shanghai", 8*60*60)

// DayOf is the Asia/Shanghai day that holds t.
func DayOf(t time.Time) Day { return Day(t.In(shanghai).Format(time.DateOnly)) }

// MonthOf is the first Asia/Shanghai day of the month that holds t.
func MonthOf(t time.Time) Day {
	y, m, _ := t.In(shanghai).Date()
	return Day(time.Date(y, m, 1, 0, 0, 0, 0, shanghai).Format(time.DateOnly))
}

// Entry is one line of the ledger, named by (SwapID, EntryNo). For a staff act,
// and for maintenance, SwapID names the act.
type Entry struct {
	SwapID        protocol.SwapID
	EntryNo       int
	What          What
	Kind          protocol.Kind
	RiderID       RiderID
	CabinetID     protocol.CabinetID
	Slot          int
	BatterySerial protocol.BatterySerial
	CreditID      CreditID
	Origin        Origin // of a credit_opened
	Counted       bool
	Day           Day  // of a take
	Derived       bool // from CLOSED alone
	// Holder is who has the battery from this entry on; "": it did not move.
	Holder Holder
	// ReviewID names the review that a person decided, or gave a hardship credit
	// for; By who did. Ruling and Ground are of a decided entry.
	ReviewID int64
	Ruling   Ruling
	Ground   Ground
	By       string
	Stamp
}

// Review is a case with more than one explanation, or one that the books did
// not expect: a person decides.
type Review struct {
	SwapID       protocol.SwapID // "": of a cabinet's record that belongs to none
	CabinetID    protocol.CabinetID
	RiderID      RiderID
	Reason       protocol.Reason
	Explanations []protocol.Outcome
	Inventory    protocol.Inventory
	Stamp
}

// enter appends an entry for a swap.
func (b *Books) enter(s *Swap, at Stamp, e Entry) {
	s.Entries++
	e.SwapID, e.EntryNo, e.Stamp = s.SwapID, s.Entries, at
	e.Kind, e.RiderID, e.CabinetID = s.Kind, s.RiderID, s.CabinetID
	b.add(e)
	b.touchSwap(s, at)
}

// add appends an entry, and counts it at its battery: an audit sees then whether
// one is missing.
func (b *Books) add(e Entry) {
	b.entries = append(b.entries, e)
	if x := b.Batteries[e.BatterySerial]; x != nil {
		x.Entries++
		b.touchBattery(x)
	}
}

// review opens the swap's one review.
func (b *Books) review(s *Swap, at Stamp, reason protocol.Reason) {
	b.reviewWith(s, at, Review{Reason: reason})
}

func (b *Books) reviewWith(s *Swap, at Stamp, r Review) {
	if s.Reviewed != "" {
		return
	}
	s.Reviewed = r.Reason
	r.SwapID, r.CabinetID, r.RiderID, r.Stamp = s.SwapID, s.CabinetID, s.RiderID, at
	b.reviews = append(b.reviews, r)
	b.touchSwap(s, at)
	if rider := b.Riders[s.RiderID]; rider != nil {
		rider.OpenReviews++
		b.touchRider(rider)
	}
}

// reviewRecord opens a review for a record that belongs to no swap.
func (b *Books) reviewRecord(c *Cabinet, at Stamp, reason protocol.Reason) {
	b.reviews = append(b.reviews, Review{CabinetID: c.CabinetID, Reason: reason, Stamp: at})
}

package soak

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"batteryswap/backend/fleet"
	"batteryswap/protocol"
)

// violation is an invariant that does not hold.
type violation struct {
	Invariant int // 0: the simulation itself is broken
	What      string
	At        time.Duration
}

func (v violation) String() string {
	return fmt.Sprintf("I%d violated after %v: %s", v.Invariant, v.At.Round(time.Millisecond), v.What)
}

// fail ends the run.
func (s *sim) fail(invariant int, format string, args ...any) {
	if s.broken == nil {
		s.broken = &violation{invariant, fmt.Sprintf(format, args...), s.now}
		s.note("VIOLATION %s", s.broken)
	}
}

// closed holds the sensed end of a swap against the facts: what the records say
// is so, or a person is asked.
func (d *device) closed(p protocol.Closed) {
	b, x := d.box, d.open
	if x == nil || x.id != p.SwapID {
		b.fail(3, "%s closes %s, which is not open", b.id, p.SwapID)
		return
	}
	x.ended, x.said = true, p
	x.took, x.gave = x.now()
	d.open, d.intent = nil, nil
	b.tally.Kinds[fmt.Sprintf("%s/%s", p.Kind, p.Outcome)]++
	b.note("%s %s of %s ends %s: in fact took %v, gave %v", b.id, p.Kind, x.rider, p.Outcome, serials(x.took), serials(x.gave))
	for _, y := range x.took {
		y.forgotten = false
	}
	if len(x.took) > 1 {
		b.fail(1, "%s: %d batteries left in swap %s", b.id, len(x.took), p.SwapID)
	}
	switch p.Outcome {
	case protocol.OutcomeReview:
		b.plain(x)
		return
	case protocol.OutcomeSwapped:
		d.want(p, true, true)
	case protocol.OutcomeOwedTaken, protocol.OutcomeIssued:
		d.want(p, false, true)
	case protocol.OutcomeDepositedOwed, protocol.OutcomeHandedBack:
		d.want(p, true, false)
	default:
		d.want(p, false, false)
	}
}

// want is I2 and I3 at the cabinet: an end says what was moved, no more, no less.
func (d *device) want(p protocol.Closed, gave, took bool) {
	b, x := d.box, d.box.deals[p.SwapID]
	if took != (len(x.took) > 0) || took && x.took[0].serial != p.Taken {
		b.fail(3, "%s: %s ends %s, taken %q; in fact %v left", b.id, p.SwapID, p.Outcome, p.Taken, serials(x.took))
	}
	if gave != (len(x.gave) > 0) || gave && x.gave[0].serial != p.Deposited {
		b.fail(2, "%s: %s ends %s, deposited %q; in fact %v is in", b.id, p.SwapID, p.Outcome, p.Deposited, serials(x.gave))
	}
}

func serials(bs []*battery) []protocol.BatterySerial {
	out := []protocol.BatterySerial{}
	for _, b := range bs {
		out = append(out, b.serial)
	}
	return out
}

// plain is the other half of I14: where people are honest and sensors sound, a
// power cut at any moment leaves one explanation only.
func (s *sim) plain(x *deal) {
	if !s.profile.wild {
		s.fail(14, "%s ends in a review (%s), though nobody cheated and no sensor lied", x.id, x.said.Reason)
	}
}

// committed is I9 and I10 after each message of a cabinet: what the books have is
// what its device has held, and no more is acknowledged than was committed.
func (s *sim) committed(b *box) {
	store := s.fleet.Store(s.wall())
	c := store.Cabinet(b.id)
	if c == nil || c.Epoch.IsZero() || c.LastSeq == 0 || c.Hole {
		return
	}
	h, ok := store.Hash(b.id, c.Epoch, c.LastSeq)
	if !ok || !b.facts.hashes[recordKey{c.Epoch, c.LastSeq}][h] {
		s.fail(9, "%s: record %d in the books was never on its device", b.id, c.LastSeq)
	}
	b.facts.acked[c.Epoch] = max(b.facts.acked[c.Epoch], c.LastSeq)
}

// acknowledged is I10 after each message to a cabinet.
func (b *box) acknowledged() {
	if b.core == nil {
		return
	}
	if st := b.core.Status(); st.Acked > b.facts.acked[st.Epoch] {
		b.fail(10, "%s takes %d for committed; the books have had %d", b.id, st.Acked, b.facts.acked[st.Epoch])
	}
}

// books is everything that must hold at rest, by the facts.
func (s *sim) books() {
	v := s.fleet.Store(s.wall()).View()
	for _, b := range s.boxes {
		s.atRest(b)
	}
	reviewed, cabinets := map[protocol.SwapID]int{}, map[protocol.CabinetID]bool{}
	for _, r := range v.Reviews {
		if r.SwapID == "" {
			cabinets[r.CabinetID] = true
		} else if reviewed[r.SwapID]++; reviewed[r.SwapID] > 1 {
			s.fail(14, "swap %s has %d reviews", r.SwapID, reviewed[r.SwapID])
		}
	}
	s.clocks(v)
	s.ledger(v, reviewed)
	s.custody(v, reviewed, cabinets)
	s.credits(v, reviewed)
}

// atRest is I13.
func (s *sim) atRest(b *box) {
	if b.core == nil {
		s.fail(13, "%s does not run", b.id)
		return
	}
	st := b.core.Status()
	if st.Open != "" {
		s.fail(13, "%s: swap %s is still open ten minutes after all doors were closed", b.id, st.Open)
	}
	if st.Tail != st.Acked {
		s.fail(13, "%s: records %d to %d are unsent ten minutes after the faults ended", b.id, st.Acked+1, st.Tail)
	}
	for id, x := range s.fleet.Store(s.wall()).Open() {
		if x.CabinetID == b.id {
			s.fail(13, "%s: swap %s is %s in the books ten minutes after the faults ended", b.id, id, x.State)
		}
	}
}

// clocks is I11: whatever a cabinet's clock says, nothing is dated before it was
// enrolled or after it was told, but for a day and five minutes.
func (s *sim) clocks(v fleet.Books) {
	for _, e := range v.Ledger {
		if e.At.Before(begin.AddDate(0, 0, -1)) || e.At.After(e.ReceivedAt.Add(5*time.Minute)) {
			s.fail(11, "swap %s: its %s is dated %s; it was told at %s", e.SwapID, e.What, e.At, e.ReceivedAt)
		}
	}
}

// ledger is I3 and I1: takes in fact and takes on the books are the same.
func (s *sim) ledger(v fleet.Books, reviewed map[protocol.SwapID]int) {
	takes := map[protocol.SwapID]protocol.BatterySerial{}
	deposits := map[protocol.SwapID]protocol.BatterySerial{}
	for _, e := range v.Ledger {
		switch e.What {
		case "take":
			if takes[e.SwapID] != "" {
				s.fail(3, "swap %s: two takes in the ledger", e.SwapID)
			}
			takes[e.SwapID] = e.BatterySerial
		case "deposit":
			deposits[e.SwapID] = e.BatterySerial
		}
	}
	for _, id := range slices.Sorted(maps.Keys(takes)) {
		x, serial := s.deals[id], takes[id]
		if x == nil || len(x.tooks()) == 0 || x.tooks()[0].serial != serial {
			s.fail(3, "swap %s: the ledger has the take of %s, which nobody took", id, serial)
		}
	}
	for _, x := range s.accepted {
		if reviewed[x.id] > 0 || !x.ended || s.untold(x, v) {
			continue
		}
		if n := len(x.took); n > 0 && takes[x.id] != x.took[0].serial {
			s.fail(3, "swap %s at %s: %v was taken; the ledger has %q", x.id, x.box.id, serials(x.took), takes[x.id])
		}
		if n := len(x.gave); n > 0 && deposits[x.id] != x.gave[0].serial {
			s.fail(2, "swap %s at %s: %v was deposited; the ledger has %q", x.id, x.box.id, serials(x.gave), deposits[x.id])
		}
		if row := v.Swaps[x.id]; row == nil || row.Outcome != x.said.Outcome {
			s.fail(3, "swap %s at %s ended %s; the books have %+v", x.id, x.box.id, x.said.Outcome, row)
		}
	}
}

func (x *deal) tooks() []*battery {
	if x.ended {
		return x.took
	}
	took, _ := x.now()
	return took
}

// custody is I2: where the books have a battery, there it is.
func (s *sim) custody(v fleet.Books, reviewed map[protocol.SwapID]int, cabinets map[protocol.CabinetID]bool) {
	for _, y := range s.batteries {
		x := v.Batteries[y.serial]
		if x == nil {
			if !y.foreign {
				s.fail(2, "battery %s is not in the books", y.serial)
			}
			continue
		}
		where := s.whereIs(y)
		switch {
		case x.Holder == "slot" && (y.slot == nil || where.id != x.CabinetID || y.slot.n != x.Slot),
			x.Holder == "rider" && y.slot != nil:
			if s.excused(y, x, reviewed, cabinets) {
				continue
			}
			s.fail(2, "battery %s: the books have it with %s %s %s %d; in fact it is %s", y.serial, x.Holder, x.RiderID, x.CabinetID, x.Slot, y.place(s))
		}
	}
}

// excused: a person has been asked of the last swap that this battery was part of.
func (s *sim) excused(y *battery, x *fleet.Battery, reviewed map[protocol.SwapID]int, cabinets map[protocol.CabinetID]bool) bool {
	if y.byForce != nil && y.byForce.known() || y.forgotten || cabinets[x.CabinetID] || y.slot != nil && cabinets[s.whereIs(y).id] {
		return true
	}
	for _, d := range s.accepted {
		if (reviewed[d.id] > 0 || !d.ended) && d.touched(y) {
			return true
		}
	}
	return false
}

func (x *deal) touched(y *battery) bool {
	for _, s := range x.order {
		if x.dispense[s] == y || x.deposit[s] == y || s.held == y {
			return true
		}
	}
	for _, z := range append(x.took, x.gave...) {
		if z == y {
			return true
		}
	}
	return x.said.Deposited == y.serial || x.said.Taken == y.serial
}

// untold: nobody can tell the books of this swap. They were restored since its
// ACCEPT, to a backup that has nothing of it but perhaps the request; and the
// epoch that told of it was left, so that its late records would be evidence only.
// The books may then have no row, or close the request as never started: that they
// do not know is the review that leaving an epoch makes, one of the whole cabinet.
func (s *sim) untold(x *deal, v fleet.Books) bool {
	row, c := v.Swaps[x.id], v.Cabinets[x.box.id]
	requested := row == nil || row.Nonce == (protocol.Nonce{}) && row.Outcome == protocol.OutcomeNotStarted && row.Entries == 0
	if !requested || x.since >= s.restored || c == nil || c.Epoch == x.epoch {
		return false
	}
	for _, r := range v.Reviews {
		if r.SwapID == "" && r.CabinetID == x.box.id && r.Reason == protocol.ReasonEpochReplaced {
			return true
		}
	}
	return false
}

// credits is I7 and I1: what the fleet owes a rider is what was deposited and not
// taken, and no rider has taken more than was given.
func (s *sim) credits(v fleet.Books, reviewed map[protocol.SwapID]int) {
	owed, doubt := map[fleet.RiderID]int{}, map[fleet.RiderID]bool{}
	for _, x := range s.accepted {
		if x.rider == nil {
			continue
		}
		if reviewed[x.id] > 0 || !x.ended || s.untold(x, v) {
			doubt[x.rider.id] = true
		}
		if x.kind != protocol.KindHandBack {
			owed[x.rider.id] += len(x.gave) - len(x.took)
		}
	}
	has, spent := map[fleet.RiderID]int{}, map[protocol.SwapID]int{}
	for _, c := range v.Credits {
		if c.State == "open" || c.State == "reserved" {
			has[c.RiderID]++
		}
		if x := v.Swaps[c.SwapID]; c.State == "reserved" && (x == nil || x.State == "closed" && reviewed[c.SwapID] == 0) {
			s.fail(7, "credit %s is reserved by swap %s, which is over", c.CreditID, c.SwapID)
		}
	}
	for _, e := range v.Ledger {
		if e.What == "credit_spent" || e.What == "credit_settled" {
			if spent[e.CreditID]++; spent[e.CreditID] > 1 {
				s.fail(7, "credit %s is spent twice", e.CreditID)
			}
		}
	}
	for _, r := range s.riders {
		want := owed[r.id] + r.credited
		if want < 0 && !doubt[r.id] {
			s.fail(1, "%s has taken %d more batteries than were given", r, -want)
		}
		row := v.Riders[r.id]
		if !doubt[r.id] && row != nil && row.OpenReviews == 0 && has[r.id]-row.CreditsDue != want {
			s.fail(7, "%s: the books owe %d batteries, %d taken in advance; by the facts it is %d", r, has[r.id], row.CreditsDue, want)
		}
	}
}

package swap

import (
	"batteryswap/protocol"
)

// Retelling folds one cabinet's records a second time, apart from all other
// cabinets: an audit holds the books against it. What a record says of its own
// swap comes out the same; custody and credits, which other cabinets move too,
// do not, and are not told.
type Retelling struct {
	Cabinet *Cabinet
	Swaps   map[protocol.SwapID]*Swap
	// Entries are those that follow from records alone, Reviews those that
	// records made; in order.
	Entries []Entry
	Reviews []Review
}

// Retell begins with a cabinet that has told nothing, and with the rows of all
// swaps that it will tell of, as they are now: they are put back to what they
// were before the first record.
func Retell(c Cabinet, rows []*Swap) *Retelling {
	t := &Retelling{Cabinet: &c, Swaps: make(map[protocol.SwapID]*Swap, len(rows))}
	for _, s := range rows {
		if s.CabinetID != c.CabinetID {
			t.Swaps[s.SwapID] = s // another's: a record of it makes a review, and no more
		} else if s.RiderID != "" || s.Nonce != (protocol.Nonce{}) {
			t.Swaps[s.SwapID] = s.untouched()
		}
		// A row without rider and grant was made by the first record.
	}
	return t
}

// untouched is the swap as it was granted, or only asked for.
func (s *Swap) untouched() *Swap {
	out := &Swap{
		SwapID: s.SwapID, CabinetID: s.CabinetID, RiderID: s.RiderID, Kind: s.Kind, State: StateGranted, Step: StepGranted,
		Epoch: s.Epoch, BootSeq: s.BootSeq, BootID: s.BootID, Nonce: s.Nonce, DepositSlots: s.DepositSlots, Dispense: s.Dispense,
		RequestedAt: s.RequestedAt,
	}
	if s.Nonce == (protocol.Nonce{}) {
		out.State, out.Step = StateRequested, StepRequested
	}
	return out
}

// Enter begins an epoch: what was open in the one before has no end.
func (t *Retelling) Enter(e protocol.Epoch, at Stamp) {
	b := NewBooks()
	for _, s := range t.Swaps {
		if s.CabinetID == t.Cabinet.CabinetID && s.Open() && s.State != StateRequested && s.Epoch == t.Cabinet.Epoch {
			b.Swaps[s.SwapID] = s
		}
	}
	b.LeaveEpoch(t.Cabinet, nil, at)
	b.EnterEpoch(t.Cabinet, e)
}

// Jump passes a hole up to a record that nobody has. What was under way then is
// given up.
func (t *Retelling) Jump(last uint64, at Stamp) {
	b := NewBooks()
	t.lendActive(b)
	b.Jump(t.Cabinet, last+1, at)
}

// GiveUp closes a swap that was moved to review.
func (t *Retelling) GiveUp(id protocol.SwapID, reason protocol.Reason, at Stamp) {
	if s := t.Swaps[id]; s != nil && s.Open() {
		NewBooks().giveUp(s, nil, reason, at)
	}
}

func (t *Retelling) lendActive(b *Books) {
	for id, s := range t.Swaps {
		if s.CabinetID == t.Cabinet.CabinetID && s.State == StateActive {
			t.lend(b, id)
		}
	}
}

// Ingest folds the records of one stored message.
func (t *Retelling) Ingest(rs []Record, rc Receipt) ([]Stored, Verdict) {
	b := NewBooks()
	b.apart = true
	b.Cabinets[t.Cabinet.CabinetID] = t.Cabinet
	boots := false
	for _, r := range rs {
		boots = boots || r.Type == protocol.RecordBoot
		if r.Type == protocol.RecordClosed && r.Malformed != nil {
			t.lendActive(b)
		}
		t.lend(b, SwapOf(r), SerialsOf(r)...)
	}
	if boots {
		for id, s := range t.Swaps {
			if s.State == StateGranted {
				t.lend(b, id)
			}
		}
	}
	stored, v := b.Ingest(t.Cabinet, t.Cabinet.Epoch, rs, rc)
	for id, s := range b.Swaps {
		t.Swaps[id] = s
	}
	ch := b.Changes()
	t.Reviews = append(t.Reviews, ch.Reviews...)
	for _, e := range ch.Entries {
		switch e.What {
		case Deposited, Taken, Returned, CreditOpened, Removed, Added:
			t.Entries = append(t.Entries, e)
		}
	}
	return stored, v
}

// lend puts a swap into the books with its rider, and its batteries where they
// are expected.
func (t *Retelling) lend(b *Books, id protocol.SwapID, serials ...protocol.BatterySerial) {
	s := t.Swaps[id]
	if s == nil {
		return
	}
	b.Swaps[id] = s
	if s.RiderID != "" {
		b.Riders[s.RiderID] = &Rider{RiderID: s.RiderID, Active: true}
	}
	for _, serial := range append(append(serials, s.Deposited), s.Pulsed...) {
		x := &Battery{BatterySerial: serial, Holder: UnderCheck, RiderID: s.RiderID}
		if serial == s.Deposited && s.Judgement == Accepted {
			x.Holder, x.RiderID, x.CabinetID, x.Slot = InSlot, "", s.CabinetID, s.DepositSlot
		}
		if serial != "" && b.Batteries[serial] == nil {
			b.AddBattery(x)
		}
	}
}

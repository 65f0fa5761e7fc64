package swap

import (
	"slices"

	"batteryswap/protocol"
)

// close books the sensed end of a swap.
func (b *Books) close(s *Swap, p protocol.Closed, at Stamp) {
	if s.State == StateClosed {
		if s.Outcome != p.Outcome {
			b.review(s, at, protocol.ReasonContradictsBooks)
		}
		return
	}
	if s.Kind == "" {
		s.Kind = p.Kind
	}
	outcome := b.judge(s, p, at)
	switch outcome {
	case protocol.OutcomeReturned:
		if s.Judgement == Accepted {
			b.bookReturn(s, at)
		}
	case protocol.OutcomeDepositedOwed:
		b.openCredit(s, at)
	case protocol.OutcomeOwedNotTaken, protocol.OutcomeIssueNotTaken:
		b.free(s, at)
	case protocol.OutcomeReview:
		if s.Taken == "" {
			b.reserveAny(s, at) // set aside until a person has decided
		}
		b.unclear(s, p, at)
	}
	b.untold(s, at)
	b.end(s, outcome, p.Reason, at)
}

// judge holds CLOSED against what came before, derives what is missing, and
// says how the books close the swap.
func (b *Books) judge(s *Swap, p protocol.Closed, at Stamp) protocol.Outcome {
	if p.Outcome == protocol.OutcomeReview {
		reason := p.Reason
		if !reason.Valid() {
			reason = protocol.ReasonHeldBattery
		}
		b.reviewWith(s, at, Review{Reason: reason, Explanations: valid(p.Explanations), Inventory: p.Inventory})
		return protocol.OutcomeReview
	}
	deposits := p.Outcome == protocol.OutcomeSwapped || p.Outcome == protocol.OutcomeDepositedOwed || p.Outcome == protocol.OutcomeHandedBack
	takes := p.Outcome == protocol.OutcomeSwapped || p.Outcome == protocol.OutcomeOwedTaken || p.Outcome == protocol.OutcomeIssued
	hasDeposit, hasTake := s.Judgement == Accepted, s.Taken != ""
	switch {
	case s.RiderID == "", p.Kind != s.Kind, !p.Outcome.PossibleFor(s.Kind),
		hasTake && !takes,
		hasDeposit && !deposits && p.Outcome != protocol.OutcomeReturned,
		s.Deposited != "" && p.Deposited != "" && p.Deposited != s.Deposited,
		s.DepositSlot != 0 && p.DepositSlot != 0 && p.DepositSlot != s.DepositSlot,
		hasTake && p.Taken != "" && p.Taken != s.Taken,
		hasTake && p.TakeSlot != 0 && p.TakeSlot != s.TakeSlot,
		deposits && !hasDeposit && (p.Deposited == "" || p.DepositSlot == 0),
		takes && !hasTake && (p.Taken == "" || p.TakeSlot == 0):
		b.review(s, at, protocol.ReasonContradictsBooks)
		return protocol.OutcomeReview
	}
	if deposits && !hasDeposit {
		b.review(s, at, protocol.ReasonContradictsBooks)
		b.bookDeposit(s, p.DepositSlot, p.Deposited, true, at)
	}
	if takes && !hasTake {
		b.review(s, at, protocol.ReasonContradictsBooks)
		b.bookTake(s, p.TakeSlot, p.Taken, true, at)
	}
	return p.Outcome
}

// valid keeps what is on the list: the rest is in the record.
func valid(os []protocol.Outcome) []protocol.Outcome {
	return slices.DeleteFunc(slices.Clone(os), func(o protocol.Outcome) bool {
		return !slices.ContainsFunc([]protocol.Kind{protocol.KindSwap, protocol.KindOwed, protocol.KindIssue, protocol.KindHandBack}, o.PossibleFor)
	})
}

// unclear puts under review what has more than one explanation: a battery that
// the closing inventory shows stays where it is.
func (b *Books) unclear(s *Swap, p protocol.Closed, at Stamp) {
	if s.Judgement == Accepted {
		if slices.Contains(p.Explanations, protocol.OutcomeReturned) && shown(p.Inventory, s.Deposited) == 0 {
			b.doubt(s, s.Deposited, at)
		}
	} else if serial := p.Deposited; serial != "" {
		slot := shown(p.Inventory, serial)
		if slot == 0 && len(p.Inventory) == 0 {
			slot = p.DepositSlot
		}
		if slot != 0 {
			b.hold(s, slot, serial, at)
		}
	}
	doubtful := slices.Clone(s.Pulsed)
	if p.Taken != "" && !slices.Contains(doubtful, p.Taken) {
		doubtful = append(doubtful, p.Taken)
	}
	for _, serial := range doubtful {
		if serial != s.Taken && shown(p.Inventory, serial) == 0 {
			b.doubt(s, serial, at)
		}
	}
}

// shown is the slot that holds the battery, closed, and no other: 0 is none.
func shown(inv protocol.Inventory, serial protocol.BatterySerial) int {
	slot := 0
	for _, st := range inv {
		if st.BatterySerial != serial {
			continue
		}
		if slot != 0 || !st.Closed || st.Presence != protocol.HoldsBattery {
			return 0
		}
		slot = st.Slot
	}
	return slot
}

// untold finds batteries that were deposited elsewhere on the ground that this
// swap had given them to its rider, which it did not. One that it did not take in
// is where staff have said since.
func (b *Books) untold(s *Swap, at Stamp) {
	gave := s.serials()
	for serial, x := range b.Batteries {
		if b.caughtUp(x, s) && slices.Contains(gave, serial) {
			b.review(s, at, protocol.ReasonSameSerialTwice)
		}
	}
}

// serials are the batteries that a swap may have given to its rider.
func (s *Swap) serials() []protocol.BatterySerial {
	var out []protocol.BatterySerial
	if s.Deposited != "" {
		out = append(out, s.Deposited)
	}
	for _, o := range s.Dispense {
		out = append(out, o.BatterySerial)
	}
	return out
}

// LeaveEpoch closes what is open at a cabinet whose journal is gone: nothing
// will be told of it any more. Reserved credits stay reserved. The inventory is
// the last that is known, as evidence. What that journal had told to books that
// were restored since, nobody will tell again: a person looks, once.
func (b *Books) LeaveEpoch(c *Cabinet, inv protocol.Inventory, at Stamp) {
	for _, s := range sorted(b.Swaps) {
		switch {
		case s.CabinetID != c.CabinetID || !s.Open():
		case s.State == StateRequested:
			b.notStarted(s, protocol.ReasonOutOfService, at)
		default:
			b.giveUp(s, inv, protocol.ReasonEpochReplaced, at)
		}
	}
	if !c.Epoch.IsZero() && !c.Forked {
		at.Epoch, at.Seq = c.Epoch, c.LastSeq
		b.reviewRecord(c, at, protocol.ReasonEpochReplaced)
	}
}

// giveUpAt gives up what is open at a cabinet whose end cannot be told any more;
// in a hole of the log a granted swap may have been accepted too.
func (b *Books) giveUpAt(c *Cabinet, reason protocol.Reason, at Stamp) {
	for _, s := range sorted(b.Swaps) {
		granted := s.State == StateGranted && reason == protocol.ReasonLogHole
		if s.CabinetID == c.CabinetID && (granted || s.State == StateActive) {
			b.giveUp(s, nil, reason, at)
		}
	}
}

// giveUp closes a swap of which nothing more is awaited.
func (b *Books) giveUp(s *Swap, inv protocol.Inventory, reason protocol.Reason, at Stamp) {
	b.reviewWith(s, at, Review{Reason: reason, Inventory: inv})
	b.untold(s, at)
	for _, serial := range s.Pulsed {
		if serial != s.Taken {
			b.doubt(s, serial, at)
		}
	}
	b.end(s, protocol.OutcomeReview, reason, at)
}

// EnterEpoch starts a cabinet's log anew.
func (b *Books) EnterEpoch(c *Cabinet, e protocol.Epoch) {
	c.Epoch, c.LastSeq, c.LastHash, c.Hole, c.Forked = e, 0, protocol.Hash{}, false, false
	c.BootSeq, c.BootID, c.ClockBoot, c.ClockOffsetMS = 0, protocol.BootID{}, 0, 0
	b.touchCabinet(c)
}

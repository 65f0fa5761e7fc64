package swap

import (
	"slices"

	"batteryswap/protocol"
)

// boot ends what a restart ended: a swap that was granted to an earlier boot of
// the same epoch and not accepted in it never will be.
func (b *Books) boot(c *Cabinet, p protocol.Boot, r Record, at Stamp) {
	c.BootID = p.BootID
	for _, s := range sorted(b.Swaps) {
		if s.CabinetID == c.CabinetID && s.State == StateGranted && s.Epoch == c.Epoch && s.BootSeq < r.BootSeq {
			b.notStarted(s, protocol.ReasonPowerCut, at)
		}
	}
}

// notStarted closes a swap that touched no door.
func (b *Books) notStarted(s *Swap, reason protocol.Reason, at Stamp) {
	b.free(s, at)
	for _, x := range b.Batteries {
		b.caughtUp(x, s)
	}
	b.end(s, protocol.OutcomeNotStarted, reason, at)
}

// end closes a swap, whatever it was.
func (b *Books) end(s *Swap, o protocol.Outcome, reason protocol.Reason, at Stamp) {
	s.State, s.Step, s.Outcome, s.ClosedAt = StateClosed, StepClosed, o, at.At
	s.Parked = false
	if reason.Valid() {
		s.Reason = reason
	}
	b.ended = append(b.ended, s)
	b.touchSwap(s, at)
}

// accept makes a granted swap active.
func (b *Books) accept(c *Cabinet, p protocol.Accept, at Stamp) {
	s := b.Swaps[p.SwapID]
	switch {
	case s == nil:
		b.lost(c, p, at)
		return
	case s.CabinetID != c.CabinetID:
		b.reviewRecord(c, at, protocol.ReasonContradictsBooks)
		return
	case s.State == StateActive:
		if s.Nonce != p.Nonce {
			b.review(s, at, protocol.ReasonContradictsBooks)
		}
		return
	case s.State == StateClosed && s.Outcome != protocol.OutcomeNotStarted:
		if s.Nonce != p.Nonce {
			b.review(s, at, protocol.ReasonContradictsBooks)
		}
		return
	case s.State == StateGranted && s.Nonce == p.Nonce && s.Kind == p.Kind:
	default:
		// The books never granted this, or took the grant back: after a restore
		// the cabinet knows better.
		b.review(s, at, protocol.ReasonContradictsBooks)
		s.ByFact = true
		if lost, ok := b.Lost[p.SwapID]; ok {
			s.adopt(c, lost.Grant)
		}
		s.Outcome, s.Reason, s.ClosedAt = "", "", Stamp{}.At
		b.reserveAny(s, at)
	}
	s.State, s.Step = StateActive, StepGranted
	b.touchSwap(s, at)
}

// adopt takes over what a grant said.
func (s *Swap) adopt(c *Cabinet, g protocol.Grant) {
	s.Kind, s.Nonce, s.BootID = g.Kind, g.Nonce, g.BootID
	s.Epoch, s.BootSeq = c.Epoch, c.BootSeq
	s.DepositSlots, s.Dispense = g.DepositSlots, g.Dispense
}

// lost makes the row of a swap that the books have lost, from the grant that
// the cabinet kept. Without a grant of ours there is no rider, and nothing
// counts.
func (b *Books) lost(c *Cabinet, p protocol.Accept, at Stamp) {
	s := b.stub(c, p.SwapID, at)
	if l, ok := b.Lost[p.SwapID]; ok {
		s.RiderID = l.RiderID
		s.adopt(c, l.Grant)
	}
	b.review(s, at, protocol.ReasonUnknownSwap)
	s.Step = StepGranted
	b.reserveAny(s, at)
	b.touchSwap(s, at)
}

// stub is a row for a swap that the books do not have.
func (b *Books) stub(c *Cabinet, id protocol.SwapID, at Stamp) *Swap {
	s := &Swap{
		SwapID: id, CabinetID: c.CabinetID, State: StateActive, ByFact: true, Step: StepGranted,
		Epoch: c.Epoch, BootSeq: c.BootSeq, BootID: c.BootID, RequestedAt: at.At,
	}
	b.Swaps[id] = s
	return s
}

// swapFor finds the swap that a record after ACCEPT tells of, and makes sure
// that it is under way or over. It returns nil for another cabinet's swap.
func (b *Books) swapFor(c *Cabinet, id protocol.SwapID, at Stamp) *Swap {
	s := b.Swaps[id]
	switch {
	case s == nil:
		s = b.stub(c, id, at)
		b.review(s, at, protocol.ReasonUnknownSwap)
	case s.CabinetID != c.CabinetID:
		b.reviewRecord(c, at, protocol.ReasonContradictsBooks)
		return nil
	case s.State == StateRequested, s.State == StateGranted, s.Outcome == protocol.OutcomeNotStarted, s.inHole():
		// A door moved, so a grant was accepted, though nobody said so; or it goes on
		// after a hole in the log.
		b.review(s, at, protocol.ReasonContradictsBooks)
		s.ByFact, s.State, s.Step = true, StateActive, StepGranted
		s.Outcome, s.Reason, s.ClosedAt = "", "", Stamp{}.At
		b.reserveAny(s, at)
	}
	return s
}

// inHole reports whether the swap was given up because its records may be in a
// hole of the log, and no person has decided on it since.
func (s *Swap) inHole() bool {
	return s.Outcome == protocol.OutcomeReview && s.Reason == protocol.ReasonLogHole && s.Reviewed != ""
}

// intent moves the view, and remembers which batteries a door was opened for.
func (b *Books) intent(s *Swap, p protocol.Intent, at Stamp) {
	if s.State == StateClosed {
		b.review(s, at, protocol.ReasonContradictsBooks)
		return
	}
	steps := map[protocol.Purpose]Step{
		protocol.PurposeDeposit: StepDeposit, protocol.PurposeReopen: StepReopen,
		protocol.PurposeDispense: StepDispense, protocol.PurposeReturn: StepReturn,
	}
	s.Step, s.Slot, s.Door = steps[p.Purpose], p.Slot, protocol.DoorUnknown
	if p.Purpose == protocol.PurposeDispense {
		serial := p.BatterySerial
		for _, o := range s.Dispense {
			if serial == "" && o.Slot == p.Slot {
				serial = o.BatterySerial
			}
		}
		if serial != "" && !slices.Contains(s.Pulsed, serial) && len(s.Pulsed) < protocol.MaxOffers {
			s.Pulsed = append(s.Pulsed, serial)
		}
	}
	b.touchSwap(s, at)
}

// door is informative: it moves the rider's page on, and proves nothing.
func (b *Books) door(c *Cabinet, p protocol.DoorMoved, at Stamp) protocol.SwapID {
	s := b.Swaps[p.SwapID]
	if s == nil || s.CabinetID != c.CabinetID || s.State != StateActive {
		return ""
	}
	if p.Slot == s.Slot && (p.Door == protocol.DoorOpen || p.Door == protocol.DoorShut) {
		s.Door = p.Door
		if p.Door == protocol.DoorShut && (s.Step == StepDeposit || s.Step == StepReopen) {
			s.Step = StepVerify
		}
	}
	b.touchSwap(s, at)
	return p.SwapID
}

// void ends a swap that will never be accepted.
func (b *Books) void(c *Cabinet, p protocol.Void, r Record, at Stamp) {
	s := b.Swaps[p.SwapID]
	switch {
	case s == nil: // nothing moved, and nothing is owed
	case s.CabinetID != c.CabinetID:
		b.reviewRecord(c, at, protocol.ReasonContradictsBooks)
	case s.State == StateRequested, s.State == StateGranted:
		b.notStarted(s, p.Reason, at)
	case s.Outcome == protocol.OutcomeNotStarted, !s.denied(c, p, r):
	default:
		b.review(s, at, protocol.ReasonContradictsBooks)
	}
}

// denied reports whether a VOID contradicts that the swap was accepted. It speaks
// of its own boot only, so a later boot or epoch that has forgotten the swap may
// answer a cancel that was sent again; and so may the boot that accepted it, once
// the swap is over.
func (s *Swap) denied(c *Cabinet, p protocol.Void, r Record) bool {
	switch {
	case s.Epoch != c.Epoch || r.BootSeq > s.BootSeq:
		return false
	case r.BootSeq < s.BootSeq:
		return true
	}
	return s.State != StateClosed || p.Reason != ""
}

// deposit books a battery that is in, closed and judged.
func (b *Books) deposit(s *Swap, p protocol.Deposit, at Stamp) {
	serial := p.Battery.BatterySerial
	again := s.Judgement == Accepted && p.Accepted && s.Deposited == serial && s.DepositSlot == p.Slot
	switch {
	case again:
		return
	case s.State == StateClosed, s.Judgement == Accepted, s.Taken != "":
		b.review(s, at, protocol.ReasonContradictsBooks)
		return
	case !p.Accepted:
		s.Judgement, s.DepositSlot, s.Deposited, s.Soc = NotAccepted, p.Slot, serial, p.Battery.Soc
		if p.Reason.Valid() {
			s.Reason = p.Reason
		}
		s.Step = StepVerify
		if x := b.Batteries[serial]; x != nil {
			b.caughtUp(x, s) // it goes back to its rider, or is held: where staff have said that it is stands
		}
		b.touchSwap(s, at)
		return
	case s.Kind != "" && !s.Kind.Deposits():
		b.review(s, at, protocol.ReasonContradictsBooks)
	}
	if len(s.DepositSlots) > 0 && !slices.Contains(s.DepositSlots, p.Slot) {
		b.review(s, at, protocol.ReasonContradictsBooks) // it was granted no such slot
	}
	s.Soc = p.Battery.Soc
	if p.Reason.Valid() {
		s.Reason = p.Reason
	}
	s.Step = StepVerify
	b.bookDeposit(s, p.Slot, serial, false, at)
}

// taken books the take: this counts.
func (b *Books) taken(s *Swap, p protocol.Taken, at Stamp) {
	switch {
	case s.Taken == p.BatterySerial && s.TakeSlot == p.Slot:
		return
	case s.State == StateClosed, s.Taken != "":
		// At most one battery leaves per swap (I1): the other is in doubt, and what
		// the swap left owed is set aside until a person has decided.
		b.review(s, at, protocol.ReasonContradictsBooks)
		if cr := b.Credits[s.SwapID]; s.Taken == "" && cr != nil && cr.State == CreditOpen {
			b.reserve(s, cr, at)
		}
		b.doubt(s, p.BatterySerial, at)
		return
	}
	offered := slices.ContainsFunc(s.Dispense, func(o protocol.Offer) bool {
		return o.Slot == p.Slot && o.BatterySerial == p.BatterySerial
	})
	if !offered || s.Kind == protocol.KindSwap && s.Judgement != Accepted {
		b.review(s, at, protocol.ReasonContradictsBooks)
	}
	b.bookTake(s, p.Slot, p.BatterySerial, false, at)
}

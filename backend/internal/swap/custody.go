package swap

import (
	"slices"

	"batteryswap/protocol"
)

// AddBattery puts a row into the books.
func (b *Books) AddBattery(x *Battery) {
	b.Batteries[x.BatterySerial] = x
	if x.Holder == InSlot {
		b.inSlot[slotKey{x.CabinetID, x.Slot}] = x.BatterySerial
	}
}

type slotKey struct {
	cabinet protocol.CabinetID
	slot    int
}

// place moves a battery. Every move has an entry: its caller makes it.
func (b *Books) place(x *Battery, h Holder, rider RiderID, cabinet protocol.CabinetID, slot int) {
	if key := (slotKey{x.CabinetID, x.Slot}); x.Holder == InSlot && b.inSlot[key] == x.BatterySerial {
		delete(b.inSlot, key)
	}
	x.Holder, x.RiderID, x.CabinetID, x.Slot = h, rider, cabinet, slot
	if h == InSlot {
		b.inSlot[slotKey{cabinet, slot}] = x.BatterySerial
	}
	b.touchBattery(x)
}

// battery finds a row, or makes one for a battery that nobody registered.
func (b *Books) battery(s *Swap, serial protocol.BatterySerial, at Stamp) (x *Battery, made bool) {
	if x = b.Batteries[serial]; x != nil {
		return x, false
	}
	x = &Battery{BatterySerial: serial, Foreign: true, Holder: UnderCheck}
	b.AddBattery(x)
	b.touchBattery(x)
	b.review(s, at, protocol.ReasonForeignSerial)
	return x, true
}

// bookDeposit enters an accepted deposit. The battery is expected to come from
// its rider.
func (b *Books) bookDeposit(s *Swap, slot int, serial protocol.BatterySerial, derived bool, at Stamp) {
	x, made := b.battery(s, serial, at)
	said := b.caughtUp(x, s) // staff have said that the rider has it, since the swap was granted
	e := Entry{What: Deposited, Slot: slot, BatterySerial: serial, Holder: InSlot, Derived: derived}
	switch {
	case made || b.hasIt(s, x):
	case s.Parked:
		// A silent cabinet speaks late: the rider has used the battery elsewhere
		// since, so this swap must end by giving it back.
		e.Holder = ""
		b.putAhead(x, s)
	default:
		// The same serial in two places: which of them is not ours to guess.
		b.review(s, at, protocol.ReasonSameSerialTwice)
		e.Holder = UnderCheck
		b.place(x, UnderCheck, "", s.CabinetID, slot)
	}
	if e.Holder == InSlot {
		if other := b.inSlot[slotKey{s.CabinetID, slot}]; other != "" && other != serial {
			b.displace(s, b.Batteries[other], at)
		}
		b.place(x, InSlot, "", s.CabinetID, slot)
	}
	s.Judgement, s.DepositSlot, s.Deposited = Accepted, slot, serial
	b.enter(s, at, e)
	if r := b.Riders[s.RiderID]; r != nil {
		r.Deposits++
		b.touchRider(r)
	}
	if said && e.Holder == InSlot {
		// It was put in and taken out by staff for its rider, or the other way round:
		// no clock that both trust says which.
		b.review(s, at, protocol.ReasonContradictsBooks)
		b.doubt(s, serial, at)
	}
}

// hasIt reports whether the books know how the rider came to have the battery:
// perhaps from an earlier swap, at a cabinet that has not told it yet. SwapIDs
// rise with time, those of swaps that a restored database had lost too.
func (b *Books) hasIt(s *Swap, x *Battery) bool {
	if s.RiderID == "" {
		return false
	}
	if x.RiderID == s.RiderID && (x.Holder == WithRider || x.Holder == UnderCheck) {
		return true
	}
	for _, o := range sorted(b.Swaps) {
		if o.SwapID >= s.SwapID || !o.Open() || o.RiderID != s.RiderID || x.isAheadOf(o) {
			continue
		}
		if dispensed := o.Taken == "" && o.offers(x.BatterySerial); dispensed || o.Judgement == Accepted && o.Deposited == x.BatterySerial {
			b.putAhead(x, o)
			return true
		}
	}
	return false
}

func (s *Swap) offers(serial protocol.BatterySerial) bool {
	return slices.ContainsFunc(s.Dispense, func(o protocol.Offer) bool { return o.BatterySerial == serial })
}

// displace takes a battery out of the slot that the books had it in: the
// cabinet's sensors found that slot empty before the deposit.
func (b *Books) displace(s *Swap, x *Battery, at Stamp) {
	b.review(s, at, protocol.ReasonContradictsBooks)
	b.enter(s, at, Entry{What: Held, Slot: x.Slot, BatterySerial: x.BatterySerial, Holder: UnderCheck})
	b.place(x, UnderCheck, "", x.CabinetID, x.Slot)
}

// bookTake enters a take, counts it, and spends the credit.
func (b *Books) bookTake(s *Swap, slot int, serial protocol.BatterySerial, derived bool, at Stamp) {
	x, _ := b.battery(s, serial, at)
	e := Entry{What: Taken, Slot: slot, BatterySerial: serial, Derived: derived, Day: DayOf(at.At)}
	rider := b.Riders[s.RiderID]
	e.Counted = rider != nil && (s.Kind == protocol.KindSwap || s.Kind == protocol.KindOwed)
	elsewhere := x.Holder == UnderCheck && x.CabinetID != "" && x.CabinetID != s.CabinetID
	switch {
	case b.caughtUp(x, s):
	case elsewhere:
		// It lies in another cabinet by now, which told of it first: it does not
		// come back to its rider.
		b.review(s, at, protocol.ReasonSameSerialTwice)
	default:
		e.Holder = WithRider
		here := x.Holder == InSlot && x.CabinetID == s.CabinetID || x.Holder == UnderCheck || x.Holder == WithStaff
		if !here {
			b.review(s, at, protocol.ReasonSameSerialTwice)
		}
		if !here || s.RiderID == "" {
			e.Holder = UnderCheck
		}
		b.place(x, e.Holder, s.RiderID, "", 0)
	}
	s.TakeSlot, s.Taken = slot, serial
	b.enter(s, at, e)
	if rider != nil {
		rider.Takes++
		if e.Counted {
			rider.Counted++
			b.changed.days[DayKey{rider.RiderID, s.CabinetID, e.Day}]++
		}
		if s.Kind == protocol.KindIssue {
			rider.Issued++
		}
		b.touchRider(rider)
	}
	b.spend(s, at)
}

// bookReturn gives an accepted deposit back to its rider.
func (b *Books) bookReturn(s *Swap, at Stamp) {
	x, _ := b.battery(s, s.Deposited, at)
	e := Entry{What: Returned, Slot: s.DepositSlot, BatterySerial: s.Deposited}
	switch {
	case b.caughtUp(x, s):
	case x.Holder == InSlot && x.CabinetID == s.CabinetID,
		s.RiderID != "" && x.Holder == UnderCheck && x.RiderID == s.RiderID: // in doubt, as the deposit came after staff's word
		e.Holder = WithRider
		b.place(x, WithRider, s.RiderID, "", 0)
	default:
		b.review(s, at, protocol.ReasonSameSerialTwice)
	}
	b.enter(s, at, e)
	if r := b.Riders[s.RiderID]; r != nil {
		r.Returns++
		b.touchRider(r)
	}
}

// hold puts a battery under review that is in the cabinet and was not accepted.
func (b *Books) hold(s *Swap, slot int, serial protocol.BatterySerial, at Stamp) {
	x, _ := b.battery(s, serial, at)
	b.place(x, UnderCheck, "", s.CabinetID, slot)
	b.enter(s, at, Entry{What: Held, Slot: slot, BatterySerial: serial, Holder: UnderCheck})
}

// doubt puts a battery under review that the rider may have.
func (b *Books) doubt(s *Swap, serial protocol.BatterySerial, at Stamp) {
	x, made := b.battery(s, serial, at)
	if b.caughtUp(x, s) {
		return
	}
	if here := x.Holder == InSlot && x.CabinetID == s.CabinetID; !here && !made {
		return // it is known to be elsewhere
	}
	b.enter(s, at, Entry{What: Doubted, Slot: x.Slot, BatterySerial: serial, Holder: UnderCheck})
	b.place(x, UnderCheck, s.RiderID, "", 0)
}

package swap

import (
	"fmt"

	"batteryswap/protocol"
)

// Place is where staff say that a battery is: with a rider, in a slot, or, the
// zero value, with staff.
type Place struct {
	RiderID   RiderID
	CabinetID protocol.CabinetID
	Slot      int
}

// Import registers a battery, with staff; one that is known stays where it is.
// It reports whether it was new to the registry.
func (b *Books) Import(act protocol.SwapID, no int, serial protocol.BatterySerial, typ string, at Stamp) bool {
	x := b.Batteries[serial]
	if x == nil {
		x = &Battery{BatterySerial: serial, Foreign: true, Holder: WithStaff}
		b.AddBattery(x)
		b.add(Entry{SwapID: act, EntryNo: no, What: Assigned, BatterySerial: serial, Holder: WithStaff, Stamp: at})
	}
	added := x.Foreign
	x.Type, x.Foreign = typ, false
	b.touchBattery(x)
	return added
}

// Assign books where staff say that a registered battery is.
func (b *Books) Assign(act protocol.SwapID, serial protocol.BatterySerial, to Place, at Stamp) error {
	x := b.Batteries[serial]
	if x == nil {
		return fmt.Errorf("battery_serial %q: not in the registry", serial)
	}
	e := Entry{SwapID: act, EntryNo: 1, What: Assigned, BatterySerial: serial, Holder: WithStaff, Stamp: at}
	switch {
	case to.RiderID != "":
		if b.Riders[to.RiderID] == nil {
			return fmt.Errorf("rider_id %q: no such rider", to.RiderID)
		}
		e.Holder, e.RiderID = WithRider, to.RiderID
	case to.CabinetID != "":
		c := b.Cabinets[to.CabinetID]
		if c == nil {
			return fmt.Errorf("cabinet_id %q: no such cabinet", to.CabinetID)
		}
		if to.Slot < 1 || to.Slot > c.Slots {
			return fmt.Errorf("slot is %d: want 1 to %d", to.Slot, c.Slots)
		}
		if other := b.inSlot[slotKey{to.CabinetID, to.Slot}]; other != "" && other != serial {
			return fmt.Errorf("slot %d of %s: the books have battery_serial %q there: assign that one first", to.Slot, to.CabinetID, other)
		}
		e.Holder, e.CabinetID, e.Slot = InSlot, to.CabinetID, to.Slot
	}
	x.AheadOf = nil
	b.place(x, e.Holder, e.RiderID, e.CabinetID, e.Slot)
	b.add(e)
	for _, s := range sorted(b.Swaps) {
		if e.Holder == WithRider && s.RiderID == e.RiderID && s.mayTakeIn() {
			b.putAhead(x, s)
		}
	}
	return nil
}

// mayTakeIn reports whether the swap's cabinet may yet tell of a deposit, perhaps of
// one that was made before now.
func (s *Swap) mayTakeIn() bool {
	return (s.State == StateGranted || s.State == StateActive) && (s.Kind == "" || s.Kind.Deposits()) && s.Judgement != Accepted
}

// StaffCredit gives a rider a first battery to come.
func (b *Books) StaffCredit(act protocol.SwapID, rider RiderID, at Stamp) error {
	if b.Riders[rider] == nil {
		return fmt.Errorf("rider_id %q: no such rider", rider)
	}
	cr := &Credit{CreditID: act, RiderID: rider, Origin: OriginStaff, State: CreditOpen, OpenedAt: at.At}
	b.Credits[act] = cr
	b.touchCredit(cr)
	b.add(Entry{
		SwapID: act, EntryNo: 1, What: CreditOpened, RiderID: rider, CreditID: act, Origin: OriginStaff, Stamp: at,
	})
	return nil
}

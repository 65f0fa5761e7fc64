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

// Import registers a battery; one that was foreign is registered as it stands.
// It reports whether anything changed.
func (b *Books) Import(act protocol.SwapID, no int, serial protocol.BatterySerial, at Stamp) bool {
	x := b.Batteries[serial]
	if x != nil {
		was := x.Foreign
		x.Foreign = false
		if was {
			b.touchBattery(x)
		}
		return was
	}
	x = &Battery{BatterySerial: serial, Holder: WithStaff}
	b.AddBattery(x)
	b.touchBattery(x)
	b.entries = append(b.entries, Entry{SwapID: act, EntryNo: no, What: Assigned, BatterySerial: serial, Holder: WithStaff, Stamp: at})
	return true
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
		if b.Cabinets[to.CabinetID] == nil {
			return fmt.Errorf("cabinet_id %q: no such cabinet", to.CabinetID)
		}
		if other := b.inSlot[slotKey{to.CabinetID, to.Slot}]; other != "" && other != serial {
			return fmt.Errorf("slot %d of %s: the books have battery_serial %q there: assign that one first", to.Slot, to.CabinetID, other)
		}
		e.Holder, e.CabinetID, e.Slot = InSlot, to.CabinetID, to.Slot
	}
	x.AheadOf = ""
	b.place(x, e.Holder, e.RiderID, e.CabinetID, e.Slot)
	b.entries = append(b.entries, e)
	return nil
}

// StaffCredit gives a rider a first battery to come.
func (b *Books) StaffCredit(act protocol.SwapID, rider RiderID, at Stamp) error {
	if b.Riders[rider] == nil {
		return fmt.Errorf("rider_id %q: no such rider", rider)
	}
	cr := &Credit{CreditID: act, RiderID: rider, Origin: OriginStaff, State: CreditOpen, OpenedAt: at.At}
	b.Credits[act] = cr
	b.touchCredit(cr)
	b.entries = append(b.entries, Entry{
		SwapID: act, EntryNo: 1, What: CreditOpened, RiderID: rider, CreditID: act, Origin: OriginStaff, Stamp: at,
	})
	return nil
}

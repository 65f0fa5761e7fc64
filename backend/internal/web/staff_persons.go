package web

import (
	"context"
	"slices"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// seesPersons reports whether somebody may see how often a single rider swaps, and
// whose a swap is: whoever keeps the fleet going has to. The union's staff see no
// figure of one rider, nor of a small group by adding single ones up, without that
// role of its own.
func seesPersons(a staff.Actor) bool { return a.Has(staff.Operator, staff.Admin, staff.Personal) }

// seesBatteries reports whether somebody may see which battery was in a swap. By the
// serial one swap leads to the next of the same rider.
func seesBatteries(a staff.Actor) bool { return seesPersons(a) || a.Has(fleetWork...) }

// impersonal takes from a rider what seesPersons does not hold for, and what leads to
// their swaps. Why somebody was refused is left: that is what the union is asked about.
func impersonal(a staff.Actor, d staff.RiderDetail) staff.RiderDetail {
	if seesPersons(a) {
		return d
	}
	d.Counted, d.Batteries = 0, nil
	d.Scans = slices.DeleteFunc(d.Scans, func(s staff.Scan) bool { return s.Reason == "" })
	for i := range d.Scans {
		d.Scans[i].SwapID, d.Scans[i].Other = "", ""
	}
	d.Credits = impersonalCredits(a, d.Credits)
	return d
}

// impersonalCredits leaves what the fleet owes whom, since which day, and takes what
// leads to the swap: a credit from a swap has its name, and begins when that ended.
func impersonalCredits(a staff.Actor, rows []staff.Credit) []staff.Credit {
	if seesPersons(a) {
		return rows
	}
	for i := range rows {
		c := &rows[i]
		c.CreditID, c.SwapID, c.From = "", "", ""
		c.OpenedAt = statistics.DayOf(c.OpenedAt).Begins()
	}
	return rows
}

// creditsOf are the open credits as somebody may see them.
func (w *Web) creditsOf(ctx context.Context) ([]staff.Credit, error) {
	rows, err := w.o.Staff.StaffCredits(ctx, "")
	return impersonalCredits(staff.Who(ctx), rows), err
}

// swapsOf lists swaps as somebody may see them.
func (w *Web) swapsOf(ctx context.Context, cabinet protocol.CabinetID, rider swap.RiderID, below protocol.SwapID) ([]staff.SwapRow, error) {
	a := staff.Who(ctx)
	if rider != "" && !seesPersons(a) {
		return nil, &staff.Refusal{Code: staff.NotPersonal}
	}
	rows, err := w.o.Staff.SwapRows(ctx, cabinet, rider, below)
	for i := range rows {
		impersonalSwap(a, &rows[i])
	}
	return rows, err
}

func impersonalSwap(a staff.Actor, v *staff.SwapRow) {
	if !seesPersons(a) {
		v.RiderID = ""
	}
	if !seesBatteries(a) {
		v.Deposited, v.Taken = "", ""
	}
}

// storyOf is what happened in a swap, as somebody may see it.
func (w *Web) storyOf(ctx context.Context, id protocol.SwapID) (staff.Story, error) {
	st, err := w.o.Staff.Story(ctx, id)
	impersonalSwap(staff.Who(ctx), &st.SwapRow)
	impersonalEvents(staff.Who(ctx), st.Events)
	return st, err
}

func impersonalEvents(a staff.Actor, events []staff.Event) {
	for i := range events {
		if !seesPersons(a) {
			events[i].RiderID = ""
		}
		if !seesBatteries(a) {
			events[i].Serial, events[i].Payload = "", nil
		}
	}
}

// cabinetFor is a cabinet as somebody may see it.
func (w *Web) cabinetFor(ctx context.Context, id protocol.CabinetID) (staff.CabinetDetail, error) {
	d, err := w.o.Staff.CabinetDetail(ctx, id)
	impersonalEvents(staff.Who(ctx), d.Records)
	for i := range d.Table { // what leaves one cabinet and comes to another was with one rider
		if s := &d.Table[i]; !seesBatteries(staff.Who(ctx)) {
			s.BatterySerial, s.Booked, s.Differs = "", "", false
		}
	}
	return d, err
}

// batteriesOf lists batteries as somebody may see them.
func (w *Web) batteriesOf(ctx context.Context, find, mark string) ([]staff.Battery, error) {
	rows, err := w.o.Staff.Batteries(ctx, find, mark)
	for i := range rows {
		if !seesPersons(staff.Who(ctx)) {
			rows[i].RiderID = ""
		}
	}
	return rows, err
}

// batteryOf is a battery and who had it, as somebody may see it.
func (w *Web) batteryOf(ctx context.Context, serial protocol.BatterySerial) (staff.BatteryDetail, error) {
	d, err := w.o.Staff.BatteryDetail(ctx, serial)
	if !seesPersons(staff.Who(ctx)) {
		d.RiderID = ""
	}
	impersonalEvents(staff.Who(ctx), d.History)
	return d, err
}

// faultsOf lists what riders reported, as somebody may see it.
func (w *Web) faultsOf(ctx context.Context) ([]staff.Fault, error) {
	rows, err := w.o.Staff.Faults(ctx)
	for i := range rows {
		if !seesPersons(staff.Who(ctx)) {
			rows[i].RiderID = ""
		}
	}
	return rows, err
}

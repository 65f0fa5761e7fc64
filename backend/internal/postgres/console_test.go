package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

func (d *deck) as(login string) context.Context {
	return staff.As(context.Background(), staff.Actor{Login: login, Roles: staff.Roles()})
}

func refusal(t *testing.T, err error, code string) {
	t.Helper()
	var r *staff.Refusal
	require.ErrorAs(t, err, &r)
	require.Equal(t, code, r.Code)
}

// TestStoryOfASwap: what happened in swap X, who has battery Y and who had it,
// why was rider Z refused.
func TestStoryOfASwap(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	d.battery("OWN", swap.Place{RiderID: alice})
	g := c.granted(alice, false)
	_, _, no, err := d.store.Request(t.Context(), swap.Scan{RiderID: bob, CabinetID: c.id, IdempotencyKey: "k"})
	require.NoError(t, err)
	require.Equal(t, protocol.ReasonBusy, no.Reason)
	taken := c.swapped(g, "OWN")
	c.write(protocol.Alarm{Kind: protocol.AlarmSlotFault, Slot: 4})
	k.sends(c)

	st, err := d.store.Story(t.Context(), g.SwapID)
	require.NoError(t, err)
	require.Equal(t, protocol.OutcomeSwapped, st.Outcome)
	var told []string
	for i, e := range st.Events {
		told = append(told, e.Source+" "+e.What)
		require.True(t, i == 0 || !e.At.Before(*st.Events[i-1].At), "in order")
	}
	require.Equal(t, []string{
		"scan scan", "record ACCEPT", "record INTENT", "record DOOR", "record DOOR", "record DEPOSIT", "ledger deposit",
		"record INTENT", "record DOOR", "record TAKEN", "ledger take", "record CLOSED",
	}, told)
	require.Equal(t, protocol.BatterySerial("OWN"), st.Events[5].Serial)
	require.Contains(t, string(st.Events[5].Payload), `"accepted":true`)
	require.NotContains(t, string(st.Events[1].Payload), "grant")
	_, err = d.store.Story(t.Context(), protocol.SwapID("01920000-0000-7000-8000-00000000dead"))
	require.ErrorIs(t, err, postgres.ErrNotFound)

	own, err := d.store.BatteryDetail(t.Context(), "OWN")
	require.NoError(t, err)
	require.Equal(t, swap.InSlot, own.Holder)
	require.Equal(t, "deposit", own.History[0].What)
	require.Equal(t, alice, own.History[1].RiderID, "before that the rider had it")
	got, err := d.store.BatteryDetail(t.Context(), taken)
	require.NoError(t, err)
	require.Equal(t, alice, got.RiderID)
	_, err = d.store.BatteryDetail(t.Context(), "NONE")
	require.ErrorIs(t, err, postgres.ErrNotFound)

	why, err := d.store.RiderDetail(t.Context(), bob)
	require.NoError(t, err)
	require.Equal(t, "R**", why.Name)
	require.Equal(t, protocol.ReasonBusy, why.Scans[0].Reason)
	rows, err := d.store.SwapRows(t.Context(), c.id, alice, "")
	require.NoError(t, err)
	require.Len(t, rows, 1)
	rows, err = d.store.SwapRows(t.Context(), "", "", g.SwapID)
	require.NoError(t, err)
	require.Empty(t, rows)
	alarms, err := d.store.Alarms(t.Context())
	require.NoError(t, err)
	require.Len(t, alarms, 1)
	require.Equal(t, 4, alarms[0].Slot)

	detail, err := d.store.CabinetDetail(t.Context(), c.id)
	require.NoError(t, err)
	require.Len(t, detail.Table, 12)
	require.Equal(t, protocol.BatterySerial("OWN"), detail.Table[2].Booked)
	require.Equal(t, "ALARM", detail.Records[0].What)
	fleet, err := d.store.Fleet(t.Context())
	require.NoError(t, err)
	require.Len(t, fleet, 1)
	require.NotEmpty(t, fleet[0].Needs)
	_, err = d.store.CabinetDetail(t.Context(), "hb-9999")
	require.ErrorIs(t, err, postgres.ErrNotFound)
}

// TestSlotOutAndIn: the configuration reaches the cabinet, and only its CONFIG
// record confirms it.
func TestSlotOutAndIn(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	ctx := d.as("wang")
	k.sends(c)
	require.ErrorContains(t, d.store.SetSlot(ctx, c.id, 5, true, " "), "reason: ")
	refusal(t, d.store.SetSlot(ctx, c.id, 13, true, "door is bent"), staff.SlotUnknown)
	require.ErrorIs(t, d.store.SetSlot(ctx, "hb-9999", 5, true, "door is bent"), postgres.ErrNotFound)
	require.NoError(t, d.store.SetSlot(ctx, c.id, 5, true, "door is bent"))
	require.NoError(t, d.store.SetSlot(ctx, c.id, 2, true, "door is bent"))
	require.NoError(t, d.store.SetSlot(ctx, c.id, 2, true, "door is bent"))
	send := func() postgres.Unconfirmed {
		t.Helper()
		all, err := d.store.Unconfirmed(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.NoError(t, all[0].HelloOK.Validate())
		return all[0]
	}
	u := send()
	require.Equal(t, []int{2, 5}, u.HelloOK.Config.SlotsOut)
	require.Equal(t, u.HelloOK.Config, c.hello().Config)
	require.Equal(t, c.bootID(), u.HelloOK.BootID)
	c.write(protocol.ConfigApplied{Config: u.HelloOK.Config})
	k.sends(c)
	all, err := d.store.Unconfirmed(t.Context())
	require.NoError(t, err)
	require.Empty(t, all, "confirmed")

	require.NoError(t, d.store.SetSlot(ctx, c.id, 5, false, "door is straight"))
	u = send()
	require.Equal(t, []int{2}, u.HelloOK.Config.SlotsOut)
	require.Equal(t, map[int]int64{5: 1}, u.HelloOK.Config.ClearFaults)
	require.NoError(t, d.store.SetService(ctx, c.id, true, "street is closed"))
	require.True(t, send().HelloOK.Config.OutOfService)
	lines, err := d.store.AuditLines(t.Context(), "wang", 0, 10)
	require.NoError(t, err)
	require.Len(t, lines, 5)
	require.Equal(t, "cabinet.out", lines[0].Act)
	require.JSONEq(t, `{"reason":"street is closed"}`, string(lines[0].Detail))
}

// TestRecall: every cabinet is told to keep the battery; what is marked by two
// at once is marked once.
func TestRecall(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c, other := d.cabinet("hb-0001"), d.cabinet("hb-0002")
	d.battery("OWN", swap.Place{RiderID: alice})
	ctx := d.as("wang")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { require.NoError(t, d.store.MarkBattery(ctx, "OWN", staff.Recalled, true, "swollen")) })
	}
	wg.Wait()
	for _, x := range []*cabinet{c, other} {
		cfg := x.hello().Config
		require.Equal(t, []protocol.BatterySerial{"OWN"}, cfg.FlaggedSerials)
		require.Equal(t, int64(2), cfg.Version)
	}
	refusal(t, d.store.MarkBattery(ctx, "OWN", staff.Gone, true, "scrapped"), staff.NotWithStaff)
	require.NoError(t, d.store.AssignBattery(ctx, "OWN", swap.Place{}))
	require.NoError(t, d.store.MarkBattery(ctx, "OWN", staff.Gone, true, "scrapped"))
	require.Empty(t, c.hello().Config.FlaggedSerials)
	b, err := d.store.BatteryDetail(ctx, "OWN")
	require.NoError(t, err)
	require.True(t, b.Is(staff.Gone))
	require.False(t, b.Is(staff.Recalled))
	found, err := d.store.Batteries(ctx, "O", staff.Gone)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Error(t, d.store.MarkBattery(ctx, "OWN", "lost", true, "somewhere"))
	require.ErrorIs(t, d.store.MarkBattery(ctx, "NONE", staff.Flagged, true, "somewhere"), postgres.ErrNotFound)

	var many []postgres.Battery
	for i := range protocol.MaxFlaggedSerials + 1 {
		many = append(many, postgres.Battery{BatterySerial: protocol.BatterySerial(fmt.Sprintf("M-%d", i))})
	}
	_, err = d.store.ImportBatteries(ctx, many)
	require.NoError(t, err)
	for i := range protocol.MaxFlaggedSerials {
		require.NoError(t, d.store.MarkBattery(ctx, many[i].BatterySerial, staff.Recalled, true, "bad lot"))
	}
	refusal(t, d.store.MarkBattery(ctx, many[protocol.MaxFlaggedSerials].BatterySerial, staff.Recalled, true, "bad lot"), staff.TooManyRecalled)
	require.NoError(t, c.hello().Validate())
}

// bookEmpty books that staff have fetched all batteries of a cabinet.
func (d *deck) bookEmpty(id protocol.CabinetID) {
	d.t.Helper()
	rows, err := d.direct().Query(d.t.Context(), `SELECT battery_serial FROM battery WHERE holder = 'slot' AND cabinet_id = $1`, string(id))
	require.NoError(d.t, err)
	inside, err := pgx.CollectRows(rows, pgx.RowTo[protocol.BatterySerial])
	require.NoError(d.t, err)
	for _, serial := range inside {
		require.NoError(d.t, d.store.AssignBattery(d.t.Context(), serial, swap.Place{}))
	}
}

func TestCabinetMovesAndRetires(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	ctx := d.as("li")
	require.NoError(t, d.store.MoveCabinet(ctx, c.id, "New place", "New street", "roadworks"))
	detail, err := d.store.CabinetDetail(ctx, c.id)
	require.NoError(t, err)
	require.Equal(t, "New street", detail.Street)
	d.battery("LAST", swap.Place{CabinetID: c.id, Slot: 12})
	err = d.store.RetireCabinet(ctx, c.id)
	refusal(t, err, staff.BatteriesInside)
	require.ErrorContains(t, err, "slot 12: LAST")
	keys, err := d.store.DeviceKeys(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, keys[c.id], "nothing was done")
	d.bookEmpty(c.id)
	require.NoError(t, d.store.RetireCabinet(ctx, c.id))
	keys, err = d.store.DeviceKeys(ctx)
	require.NoError(t, err)
	require.Empty(t, keys[c.id], "its key speaks no more")
	_, err = d.store.Cabinet(ctx, c.id)
	require.ErrorIs(t, err, postgres.ErrNotFound)
	fleet, err := d.store.Fleet(ctx)
	require.NoError(t, err)
	require.Empty(t, fleet)
	refusal(t, d.store.SetSlot(ctx, c.id, 5, true, "door is bent"), staff.Retired)
	_, _, no, err := d.store.Request(ctx, swap.Scan{RiderID: alice, CabinetID: c.id, IdempotencyKey: "k"})
	require.NoError(t, err)
	require.Equal(t, protocol.ReasonOutOfService, no.Reason)
	require.ErrorIs(t, d.store.RetireCabinet(ctx, "hb-9999"), postgres.ErrNotFound)
	d.honest()
}

// TestPeople: names are revealed for a reason that is written down; a code is
// new each time; of two who close a report the second is told who was first.
func TestPeople(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	d.cabinet("hb-0001")
	ctx := d.as("wang")
	_, err := d.store.Reveal(ctx, alice, "")
	require.ErrorContains(t, err, "reason: ")
	who, err := d.store.Reveal(ctx, alice, "police report 17")
	require.NoError(t, err)
	require.Equal(t, staff.Revealed{Name: "Rider a"}, who)
	lines, err := d.store.AuditLines(ctx, string(alice), 0, 10)
	require.NoError(t, err)
	require.Equal(t, "rider.reveal", lines[0].Act)
	require.NotContains(t, string(lines[0].Detail), "Rider a")
	_, err = d.store.Reveal(ctx, "00000000-0000-4000-8000-0000000000ff", "police report 17")
	require.ErrorIs(t, err, postgres.ErrNotFound)

	first, _, err := d.store.NewBindingCode(ctx, alice)
	require.NoError(t, err)
	second, until, err := d.store.NewBindingCode(ctx, alice)
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	require.Len(t, second, 8)
	detail, err := d.store.RiderDetail(ctx, alice)
	require.NoError(t, err)
	require.WithinDuration(t, until, *detail.CodeUntil, 0)
	found, err := d.store.Riders(ctx, "rider B")
	require.NoError(t, err)
	require.Len(t, found, 1)

	require.NoError(t, d.store.StaffCredit(ctx, alice))
	credits, err := d.store.StaffCredits(ctx, "")
	require.NoError(t, err)
	require.Equal(t, swap.OriginStaff, credits[0].Origin)

	id, err := d.store.RiderReport(ctx, staff.Fault{CabinetID: "hb-0001", Slot: 3, RiderID: alice, Kind: "door", Text: "it sticks"})
	require.NoError(t, err)
	_, err = d.store.RiderReport(ctx, staff.Fault{CabinetID: "hb-9999", RiderID: alice, Kind: "door"})
	require.ErrorIs(t, err, postgres.ErrNotFound)
	var mu sync.Mutex
	var wg sync.WaitGroup
	late := 0
	for _, who := range []string{"wang", "li"} {
		wg.Go(func() {
			err := d.store.CloseFault(d.as(who), id, "oiled the hinge")
			var r *staff.Refusal
			mu.Lock()
			defer mu.Unlock()
			if errors.As(err, &r) && r.Code == staff.AlreadyDone {
				late++
			} else {
				require.NoError(t, err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, late)
	faults, err := d.store.Faults(ctx)
	require.NoError(t, err)
	require.Equal(t, "oiled the hinge", faults[0].Note)
	check, err := d.store.VerifyAuditLog(ctx, "")
	require.NoError(t, err)
	require.NoError(t, check.Wrong)
}

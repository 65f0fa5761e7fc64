package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

func TestOneSwap(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	d.battery("OWN", swap.Place{RiderID: alice})
	g := c.granted(alice, false)
	require.Equal(t, protocol.KindSwap, g.Kind)
	require.Equal(t, riderRef("hb-0001", alice), g.RiderRef)
	require.Equal(t, []protocol.BatterySerial{"OWN"}, g.ExpectSerials)
	require.Equal(t, []int{3, 4}, g.DepositSlots)
	require.Len(t, g.Dispense, 2)

	c.accept(g)
	c.deposit(g, "OWN")
	k.sends(c)
	v, err := d.store.Swap(t.Context(), alice, g.SwapID)
	require.NoError(t, err)
	require.Equal(t, swap.StateActive, v.State)
	require.Equal(t, swap.StepVerify, v.Step)
	require.Equal(t, 3, v.Slot)
	require.Equal(t, protocol.BatterySerial("OWN"), v.Deposited)
	require.Equal(t, 31, *v.Soc)
	require.True(t, v.Reachable)

	o := c.take(g)
	c.write(protocol.Closed{
		SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeSwapped, DepositSlot: 3, Deposited: "OWN", TakeSlot: o.Slot, Taken: o.BatterySerial,
	})
	k.sends(c)
	after, err := d.store.Swap(t.Context(), alice, g.SwapID)
	require.NoError(t, err)
	require.Equal(t, swap.StateClosed, after.State)
	require.Equal(t, protocol.OutcomeSwapped, after.Outcome)
	require.Equal(t, o.BatterySerial, after.Taken)
	require.Greater(t, after.Seq, v.Seq)
	require.Equal(t, postgres.RiderReport{
		RiderID: alice, Deposits: 1, Takes: 1, Counted: 1,
		Batteries: []protocol.BatterySerial{o.BatterySerial}, OpenSwaps: []protocol.SwapID{},
	}, d.account(alice))
	r, err := d.store.Rider(t.Context(), alice)
	require.NoError(t, err)
	require.Equal(t, swap.RiderView{RiderID: alice, SwapsThisMonth: 1, SwapsTotal: 1, Batteries: []protocol.BatterySerial{o.BatterySerial}}, r)

	_, err = d.store.Swap(t.Context(), bob, g.SwapID)
	require.ErrorIs(t, err, postgres.ErrNotFound, "another rider's swap")
}

func TestOwedAtAnotherCabinet(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	a, b := d.cabinet("hb-0001"), d.cabinet("hb-0002")
	k := d.desk(d.store)
	d.battery("OWN", swap.Place{RiderID: alice})
	g := a.granted(alice, false)
	a.accept(g)
	a.deposit(g, "OWN")
	a.write(protocol.Closed{SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeDepositedOwed, DepositSlot: 3, Deposited: "OWN"})
	k.sends(a)
	require.Equal(t, 1, d.account(alice).OpenCredits)

	not := b.granted(alice, false)
	require.Equal(t, protocol.KindOwed, not.Kind)
	require.Empty(t, not.DepositSlots)
	b.accept(not)
	b.write(protocol.Closed{SwapID: not.SwapID, Kind: not.Kind, Outcome: protocol.OutcomeOwedNotTaken})
	k.sends(b)
	require.Equal(t, 1, d.account(alice).OpenCredits, "freed")

	owed := b.granted(alice, false)
	require.Equal(t, protocol.KindOwed, owed.Kind)
	b.accept(owed)
	o := b.take(owed)
	b.write(protocol.Closed{SwapID: owed.SwapID, Kind: owed.Kind, Outcome: protocol.OutcomeOwedTaken, TakeSlot: o.Slot, Taken: o.BatterySerial})
	k.sends(b)
	x := d.account(alice)
	require.Equal(t, 0, x.OpenCredits)
	require.Equal(t, 1, x.Counted)
	require.Equal(t, []protocol.BatterySerial{o.BatterySerial}, x.Batteries)
	require.Equal(t, "spent", query[string](d, `SELECT state FROM credit`))
}

func TestFirstBatteryAndHandBack(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	require.NoError(t, d.store.StaffCredit(t.Context(), alice))
	g := c.granted(alice, false)
	require.Equal(t, protocol.KindIssue, g.Kind)
	c.accept(g)
	o := c.take(g)
	c.write(protocol.Closed{SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeIssued, TakeSlot: o.Slot, Taken: o.BatterySerial})
	k.sends(c)
	x := d.account(alice)
	require.Equal(t, 0, x.Counted)
	require.Equal(t, 1, x.Issued)
	back := c.granted(alice, true)
	require.Equal(t, protocol.KindHandBack, back.Kind)
	require.Empty(t, back.Dispense)
	c.accept(back)
	c.deposit(back, o.BatterySerial)
	c.write(protocol.Closed{SwapID: back.SwapID, Kind: back.Kind, Outcome: protocol.OutcomeHandedBack, DepositSlot: 3, Deposited: o.BatterySerial})
	k.sends(c)
	x = d.account(alice)
	require.Empty(t, x.Batteries)
	require.Equal(t, 1, x.Deposits)

	_, _, no, err := d.store.Request(t.Context(), swap.Scan{RiderID: alice, CabinetID: "hb-0001", IdempotencyKey: "nothing"})
	require.NoError(t, err)
	require.Equal(t, &swap.Refusal{Reason: protocol.ReasonNoBattery}, no)
}

func TestSameKeySameAnswer(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	d.cabinet("hb-0002")
	d.battery("OWN", swap.Place{RiderID: alice})
	scan := swap.Scan{RiderID: alice, CabinetID: "hb-0001", IdempotencyKey: "one"}
	first, p, no, err := d.store.Request(t.Context(), scan)
	require.NoError(t, err)
	require.Nil(t, no)
	require.NotNil(t, p)
	again, p2, _, err := d.store.Request(t.Context(), scan)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Equal(t, p, p2, "not answered yet: prepare may be sent again")
	_, err = d.store.Prepared(t.Context(), "hb-0001", c.prepared(p))
	require.NoError(t, err)
	again, p2, _, err = d.store.Request(t.Context(), scan)
	require.NoError(t, err)
	require.Equal(t, first.SwapID, again.SwapID)
	require.Nil(t, p2, "answered")

	other := scan
	other.CabinetID = "hb-0002"
	_, _, _, err = d.store.Request(t.Context(), other)
	require.ErrorIs(t, err, postgres.ErrKeyReused)
	other.IdempotencyKey = "two"
	_, _, no, err = d.store.Request(t.Context(), other)
	require.NoError(t, err)
	require.Equal(t, &swap.Refusal{Reason: protocol.ReasonSwapOpen, SwapID: first.SwapID}, no)
	_, _, no2, err := d.store.Request(t.Context(), other)
	require.NoError(t, err)
	require.Equal(t, no, no2, "a refusal is stored too")

	for _, bad := range []string{"", "ключ", "a\x00b", string(make([]byte, 65))} {
		_, _, _, err = d.store.Request(t.Context(), swap.Scan{RiderID: alice, CabinetID: "hb-0001", IdempotencyKey: bad})
		require.ErrorContains(t, err, "idempotency key")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	d.battery("OWN", swap.Place{RiderID: alice})
	d.battery("BOBS", swap.Place{RiderID: bob})
	n := 0
	refused := func(r swap.RiderID, id protocol.CabinetID) protocol.Reason {
		n++
		_, _, no, err := d.store.Request(t.Context(), swap.Scan{RiderID: r, CabinetID: id, IdempotencyKey: string(rune('a' + n))})
		require.NoError(t, err)
		require.NotNil(t, no)
		return no.Reason
	}
	require.Equal(t, protocol.ReasonCabinetUnknown, refused(alice, "hb-0404"))
	require.Equal(t, protocol.ReasonCabinetUnknown, refused(alice, "x\x00"))
	require.Equal(t, protocol.ReasonRiderNotActive, refused("no rider", "hb-0001"))
	require.Equal(t, protocol.ReasonRiderNotActive, refused("00000000-0000-4000-8000-0000000000ff", "hb-0001"))
	g := c.granted(alice, false)
	require.Equal(t, protocol.ReasonBusy, refused(bob, "hb-0001"))
	require.Equal(t, protocol.ReasonSwapOpen, refused(alice, "hb-0001"))
	require.NoError(t, d.store.Refused(t.Context(), "hb-0001", protocol.Refused{SwapID: g.SwapID, Reason: protocol.ReasonBusy}))
	v, err := d.store.Swap(t.Context(), alice, g.SwapID)
	require.NoError(t, err)
	require.Equal(t, swap.StateGranted, v.State, "nothing but a record ends what was granted")
	require.NoError(t, d.exec(`UPDATE cabinet SET out_of_service = true`))
	require.Equal(t, protocol.ReasonOutOfService, refused(bob, "hb-0001"))
}

func TestRefusedByTheCabinet(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	other := d.cabinet("hb-0002")
	d.battery("OWN", swap.Place{RiderID: alice})
	_, p, _, err := d.store.Request(t.Context(), swap.Scan{RiderID: alice, CabinetID: "hb-0001", IdempotencyKey: "one"})
	require.NoError(t, err)
	no := protocol.Refused{SwapID: p.SwapID, Reason: protocol.ReasonNoChargedBattery}
	require.NoError(t, d.store.Refused(t.Context(), other.id, no), "another cabinet has no say")
	v, err := d.store.Swap(t.Context(), alice, p.SwapID)
	require.NoError(t, err)
	require.Equal(t, swap.StateRequested, v.State)
	g, err := d.store.Prepared(t.Context(), other.id, other.prepared(p))
	require.NoError(t, err)
	require.Nil(t, g, "nor can it prepare")
	require.NoError(t, d.store.Refused(t.Context(), c.id, no))
	v, err = d.store.Swap(t.Context(), alice, p.SwapID)
	require.NoError(t, err)
	require.Equal(t, protocol.OutcomeNotStarted, v.Outcome)
	require.Equal(t, protocol.ReasonNoChargedBattery, v.Reason)
	g, err = d.store.Prepared(t.Context(), c.id, c.prepared(p))
	require.NoError(t, err)
	require.Nil(t, g)
}

func TestGrantConditions(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	d.battery("OWN", swap.Place{RiderID: alice})
	keys := 0
	request := func() *protocol.Prepare {
		keys++
		_, p, no, err := d.store.Request(t.Context(), swap.Scan{RiderID: alice, CabinetID: "hb-0001", IdempotencyKey: string(rune('a' + keys))})
		require.NoError(t, err)
		require.Nil(t, no)
		return p
	}
	denied := func(m protocol.Prepared) {
		t.Helper()
		g, err := d.store.Prepared(t.Context(), "hb-0001", m)
		require.NoError(t, err)
		require.Nil(t, g)
	}
	p := request()
	m := c.prepared(p)
	wrong := m
	wrong.Epoch[0] ^= 1
	denied(wrong)
	wrong = m
	wrong.Dispense = nil
	denied(wrong)
	c.reboot()
	k.sends(c)
	denied(m) // of the boot before
	m.BootSeq = c.boot
	require.NoError(t, d.exec(`UPDATE swap SET requested_at = requested_at - interval '5 s'`))
	denied(m) // too old
	require.NoError(t, d.exec(`UPDATE swap SET requested_at = requested_at - interval '6 s'`))
	gone, err := d.store.ExpireRequests(t.Context())
	require.NoError(t, err)
	require.Equal(t, []postgres.Expired{{CabinetID: "hb-0001", SwapID: p.SwapID}}, gone)
	denied(m)
	gone, err = d.store.ExpireRequests(t.Context())
	require.NoError(t, err)
	require.Empty(t, gone)

	p = request()
	c.write(protocol.Void{SwapID: p.SwapID})
	k.sends(c)
	denied(c.prepared(p)) // voided
	p = request()
	m = c.prepared(p)
	g, err := d.store.Prepared(t.Context(), "hb-0001", m)
	require.NoError(t, err)
	require.NotNil(t, g)
	denied(m) // once
	c.reboot()
	k.sends(c)
	v, err := d.store.Swap(t.Context(), alice, p.SwapID)
	require.NoError(t, err)
	require.Equal(t, protocol.OutcomeNotStarted, v.Outcome, "the nonce died with its boot")
	p = request()
	used := c.prepared(p)
	used.Nonce = m.Nonce
	denied(used) // a nonce is granted once
	d.honest()
}

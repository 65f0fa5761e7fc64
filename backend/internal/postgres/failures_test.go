package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// TestFailure24FoundBadAfterItLeft: a battery that is recalled when a rider has
// it was taken all the same. It counts, the rider has it, and every cabinet is
// told to keep it.
func TestFailure24FoundBadAfterItLeft(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	d.battery("OWN", swap.Place{RiderID: alice})
	taken := c.swapped(c.granted(alice, false), "OWN")
	k.sends(c)
	before := d.account(alice)
	require.Equal(t, 1, before.Counted)
	require.Equal(t, []protocol.BatterySerial{taken}, before.Batteries)
	require.NoError(t, d.store.MarkBattery(d.as("wang"), taken, staff.Recalled, true, "swollen"))
	require.Equal(t, before, d.account(alice), "a physical fact is never undone")
	require.Equal(t, []protocol.BatterySerial{taken}, c.hello().Config.FlaggedSerials)
	d.honest()
}

// TestFailure41MembershipEndsDuringASwap: the swap finishes and counts; the next
// scan is refused.
func TestFailure41MembershipEndsDuringASwap(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	d.battery("OWN", swap.Place{RiderID: alice})
	g := c.granted(alice, false)
	c.accept(g)
	c.deposit(g, "OWN")
	k.sends(c)
	require.NoError(t, d.exec(`UPDATE rider SET active = false WHERE rider_id = $1`, string(alice)))
	o := c.take(g)
	c.write(protocol.Closed{
		SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeSwapped, DepositSlot: 3, Deposited: "OWN", TakeSlot: o.Slot, Taken: o.BatterySerial,
	})
	k.sends(c)
	x := d.account(alice)
	require.Equal(t, 1, x.Counted)
	require.Equal(t, []protocol.BatterySerial{o.BatterySerial}, x.Batteries)
	require.Zero(t, x.Reviews)
	require.Equal(t, protocol.ReasonRiderNotActive, d.answer(d.ask(alice, "hb-0001", "next")).refusal.Reason)
	d.honest()
}

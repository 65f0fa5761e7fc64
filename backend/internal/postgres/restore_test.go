package postgres_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// lost is a grant that the cabinet has and a restored database has not.
func (c *cabinet) lost(k protocol.Kind, r swap.RiderID) *protocol.Grant {
	c.d.keys++
	g := &protocol.Grant{
		SwapID: protocol.SwapID(fmt.Sprintf("01990000-0000-7000-8000-%012x", c.d.keys)), Kind: k,
		Nonce: protocol.Nonce{byte(c.d.keys), byte(c.d.keys >> 8), 7}, BootID: c.bootID(), RiderRef: riderRef(c.id, r),
	}
	g.DepositSlots, g.Dispense = c.offers(k)
	if k.Deposits() {
		g.ExpectSerials = []protocol.BatterySerial{"OWN"}
	}
	return g
}

// interleavings are all orders of a records of one log and b of another: true is
// the next of the first.
func interleavings(a, b int) [][]bool {
	if a == 0 && b == 0 {
		return [][]bool{nil}
	}
	var out [][]bool
	if a > 0 {
		for _, rest := range interleavings(a-1, b) {
			out = append(out, append([]bool{true}, rest...))
		}
	}
	if b > 0 {
		for _, rest := range interleavings(a, b-1) {
			out = append(out, append([]bool{false}, rest...))
		}
	}
	return out
}

// TestOriginAndSpendingInEveryOrder lets two cabinets tell a database, which was
// restored to before both, of a credit's origin and of its spending: in every
// order, each record a transaction of its own.
func TestOriginAndSpendingInEveryOrder(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	a, b := d.cabinet("hb-0001"), d.cabinet("hb-0002")
	k := d.desk(d.store)
	k.sends(a)
	k.sends(b)
	for i, order := range interleavings(3, 4) {
		r, err := d.store.AddRider(t.Context(), postgres.NewRider{Name: "R"})
		require.NoError(t, err)
		own, full := protocol.BatterySerial(fmt.Sprintf("OWN-%d", i)), protocol.BatterySerial(fmt.Sprintf("FULL-%d", i))
		d.battery(own, swap.Place{RiderID: r})
		for _, serial := range []protocol.BatterySerial{a.serials[3], b.serials[7]} {
			if serial != "" {
				require.NoError(t, d.store.AssignBattery(t.Context(), serial, swap.Place{}))
			}
		}
		delete(a.serials, 3)
		b.serials[7] = full
		d.battery(full, swap.Place{CabinetID: b.id, Slot: 7})

		origin, spending := a.lost(protocol.KindSwap, r), b.lost(protocol.KindOwed, r)
		a.accept(origin)
		a.write(protocol.Deposit{SwapID: origin.SwapID, Slot: 3, Battery: protocol.Battery{BatterySerial: own}, Accepted: true},
			protocol.Closed{SwapID: origin.SwapID, Kind: origin.Kind, Outcome: protocol.OutcomeDepositedOwed, DepositSlot: 3, Deposited: own})
		a.serials[3] = own
		b.accept(spending)
		b.write(protocol.Intent{SwapID: spending.SwapID, Slot: 7, Purpose: protocol.PurposeDispense, Pulse: 1, BatterySerial: full},
			protocol.Taken{SwapID: spending.SwapID, Slot: 7, BatterySerial: full},
			protocol.Closed{SwapID: spending.SwapID, Kind: spending.Kind, Outcome: protocol.OutcomeOwedTaken, TakeSlot: 7, Taken: full})
		delete(b.serials, 7)
		for _, first := range order {
			c := b
			if first {
				c = a
			}
			k.sendsUpto(c, int(c.acked)+1)
		}
		x := d.account(r)
		require.Equal(t, 0, x.OpenCredits, "I7: %v", order)
		require.Equal(t, 0, query[int](d, `SELECT credits_due FROM rider WHERE rider_id = $1`, string(r)), "I7: %v", order)
		require.Equal(t, []protocol.BatterySerial{full}, x.Batteries)
		require.Equal(t, 1, x.Counted)
	}
}

// TestManyCabinetsTellAtOnce: what was lost at several cabinets is found for each
// of them, though their messages come together; a cabinet that is not believed
// costs nothing.
func TestManyCabinetsTellAtOnce(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	k := d.desk(d.store)
	var cs []*cabinet
	var riders []swap.RiderID
	for i := range 6 {
		c := d.cabinet(protocol.CabinetID(fmt.Sprintf("hb-%04d", i+1)))
		r, err := d.store.AddRider(t.Context(), postgres.NewRider{Name: "R"})
		require.NoError(t, err)
		own := protocol.BatterySerial(fmt.Sprintf("OWN-%d", i))
		d.battery(own, swap.Place{RiderID: r})
		c.swapped(c.lost(protocol.KindSwap, r), own)
		cs, riders = append(cs, c), append(riders, r)
	}
	for _, c := range cs {
		require.True(t, k.Submit(c.log(1, len(c.raws))))
	}
	for i, c := range cs {
		k.sends(c)
		x := d.account(riders[i])
		require.Equal(t, 1, x.Counted)
		require.Equal(t, 1, x.Reviews)
	}
	require.Equal(t, int64(len(cs)), query[int64](d, `SELECT count(*) FROM review`))
}

// TestAHoleFreesTheCabinet: the end of its open swap is in a hole of the log.
func TestAHoleFreesTheCabinet(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	d.battery("OWN", swap.Place{RiderID: alice})
	d.battery("BOBS", swap.Place{RiderID: bob})
	g := c.granted(alice, false)
	c.accept(g)
	k.sends(c)
	c.deposit(g, "OWN")
	m := c.helloMessage()
	m.FirstSeq = m.TailSeq
	ok, err := d.store.Hello(t.Context(), c.id, m)
	require.NoError(t, err)
	require.Equal(t, m.TailSeq, ok.ResumeSeq)
	v, err := d.store.Swap(t.Context(), alice, g.SwapID)
	require.NoError(t, err)
	require.Equal(t, protocol.ReasonLogHole, v.Reason)
	delete(c.serials, 3)
	require.NotNil(t, c.granted(bob, false))
	d.honest()
}

package postgres_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

func orderID(n int) protocol.OrderID {
	return protocol.OrderID(fmt.Sprintf("019a0000-0000-7000-9000-%012d", n))
}

// maintained writes a whole maintenance that changed what it says.
func (c *cabinet) maintained(id protocol.OrderID, changes ...protocol.Change) {
	c.d.t.Helper()
	c.write(protocol.Maintenance{MaintenanceID: id, OrderID: id, What: protocol.OrderBegin})
	for _, ch := range changes {
		c.write(protocol.Intent{OrderID: id, Slot: ch.Slot, Purpose: protocol.PurposeMaintenance, Pulse: 1, BatterySerial: ch.Removed})
	}
	c.write(protocol.Maintenance{MaintenanceID: id, What: protocol.OrderEnd, Reason: protocol.ReasonKeyNotTurned, Changes: changes})
}

// answer is what an agent says to an order.
func (c *cabinet) answer(m protocol.MaintenanceRequest) protocol.MaintenanceAnswer {
	a := protocol.MaintenanceAnswer{OrderID: m.OrderID, Epoch: c.epoch, BootSeq: c.boot, BootID: c.bootID()}
	sum := sha256.Sum256([]byte(m.OrderID))
	copy(a.Nonce[:], sum[:])
	return a
}

func (d *deck) holder(serial protocol.BatterySerial) string {
	d.t.Helper()
	return query[string](d, `SELECT concat_ws(' ', holder, rider_id, cabinet_id, slot) FROM battery WHERE battery_serial = $1`, string(serial))
}

// TestMaintenanceMovesCustody: what a technician took out is with staff, what was
// put in is in its slot, and the history says who. What does not fit the books is
// booked for what it says, and a person looks, once.
func TestMaintenanceMovesCustody(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c, far := d.cabinet("hb-0001"), d.cabinet("hb-0002")
	k := d.desk(d.store)
	d.battery("SPARE", swap.Place{})
	d.battery("RIDER", swap.Place{RiderID: alice})
	reviews := func() string {
		return query[string](d, `SELECT coalesce(string_agg(reason, ' ' ORDER BY review_id), '') FROM review`)
	}
	o, m, err := d.store.OrderMaintenance(d.as("tech"), c.id, protocol.OrderBegin, 0, "")
	require.NoError(t, err)
	require.Equal(t, swap.OrderRequested, o.State)
	c.maintained(m.OrderID, protocol.Change{Slot: 3, Added: "hb-0001-8"}, protocol.Change{Slot: 7, Removed: "hb-0001-7"},
		protocol.Change{Slot: 8, Removed: "hb-0001-8", Added: "SPARE"})
	k.sends(c)
	require.Equal(t, "staff", d.holder("hb-0001-7"))
	require.Equal(t, "slot hb-0001 3", d.holder("hb-0001-8"), "moved within the cabinet")
	require.Equal(t, "slot hb-0001 8", d.holder("SPARE"))
	require.Empty(t, reviews())
	for _, serial := range []protocol.BatterySerial{"hb-0001-7", "SPARE"} {
		b, err := d.store.BatteryDetail(t.Context(), serial)
		require.NoError(t, err)
		require.Equal(t, "tech", b.History[0].By)
		require.Empty(t, b.History[0].SwapID)
		require.Contains(t, []string{"removed", "added"}, b.History[0].What)
	}

	for n, x := range []struct {
		change  protocol.Change
		holder  string
		reviews string
	}{
		{protocol.Change{Slot: 9, Added: "UNREGISTERED"}, "slot hb-0001 9", "foreign_serial"},
		{protocol.Change{Slot: 9, Removed: "UNREGISTERED", Forced: true}, "review", "inventory_differs"},
		{protocol.Change{Slot: 9, Added: "UNREGISTERED"}, "slot hb-0001 9", ""},
		{protocol.Change{Slot: 10, Added: "RIDER"}, "slot hb-0001 10", "contradicts_books"},
		{protocol.Change{Slot: 11, Added: "hb-0002-7"}, "review hb-0001 11", "same_serial_twice"},
		{protocol.Change{Slot: 12, Removed: "hb-0002-8"}, "slot hb-0002 8", "contradicts_books"},
		{protocol.Change{Slot: 8, Added: "hb-0001-7"}, "slot hb-0001 8", "contradicts_books"}, // SPARE was there
	} {
		was := reviews()
		c.maintained(orderID(n), x.change)
		k.sends(c)
		require.Equal(t, x.holder, d.holder(x.change.Removed+x.change.Added), "%+v", x.change)
		require.Equal(t, trim(was+" "+x.reviews), reviews(), "%+v", x.change)
		d.honest()
	}
	require.Equal(t, "review hb-0001 8", d.holder("SPARE"))

	// A rider has, by the books, what a technician finds in a slot: perhaps since.
	d.battery("RIDER-2", swap.Place{RiderID: bob})
	far.maintained(orderID(100), protocol.Change{Slot: 5, Removed: "RIDER-2"})
	k.sends(far)
	require.Equal(t, "review "+string(bob), d.holder("RIDER-2"))
	far.maintained(orderID(100), protocol.Change{Slot: 5, Removed: "RIDER-2"}) // said again by who lies: it is taken
	far.write(protocol.Maintenance{MaintenanceID: orderID(101), What: protocol.OrderEnd, Changes: []protocol.Change{
		{Slot: 6, Added: "TWICE"}, {Slot: 7, Added: "TWICE", Removed: "TWICE"}, {Slot: 8, Removed: "TWICE"},
	}})
	for _, changes := range [][]protocol.Change{{{Slot: 6}}, {{Slot: 6, Added: "X"}, {Slot: 6, Added: "Y"}}, {{Slot: 49, Added: "X"}}, {{Slot: 6, Added: "a b"}}} {
		far.write(protocol.Maintenance{MaintenanceID: orderID(102), What: protocol.OrderEnd, Changes: changes})
	}
	k.sends(far)
	require.Equal(t, 4, query[int](d, `SELECT count(*) FROM review WHERE reason = 'malformed_record'`))
	d.honest()
}

func trim(s string) string {
	for len(s) > 0 && s[len(s)-1] == ' ' {
		s = s[:len(s)-1]
	}
	for len(s) > 0 && s[0] == ' ' {
		s = s[1:]
	}
	return s
}

// TestMaintenanceOrders: an order is granted once, by whatever replica hears the
// answer, to the cabinet that it was for, in time, and it is done when its record
// says so.
func TestMaintenanceOrders(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c, other := d.cabinet("hb-0001"), d.cabinet("hb-0002")
	k := d.desk(d.store)
	k.sends(c)
	replica := d.open()
	ctx := context.Background()
	order := func(what protocol.Order, slot int) protocol.MaintenanceRequest {
		_, m, err := d.store.OrderMaintenance(d.as("tech"), c.id, what, slot, "")
		require.NoError(t, err)
		return m
	}
	stands := func(m protocol.MaintenanceRequest) staff.Order {
		o, err := replica.MaintenanceOrder(ctx, m.OrderID)
		require.NoError(t, err)
		return o
	}
	answered := func(c *cabinet, a protocol.MaintenanceAnswer) *protocol.MaintenanceGrant {
		g, err := replica.MaintenanceAnswered(ctx, c.id, a)
		require.NoError(t, err)
		return g
	}
	begin := order(protocol.OrderBegin, 0)
	a := c.answer(begin)
	require.Nil(t, answered(other, a), "another cabinet's")
	g := answered(c, a)
	require.Equal(t, &protocol.MaintenanceGrant{OrderID: begin.OrderID, What: protocol.OrderBegin, Nonce: a.Nonce, BootID: a.BootID}, g)
	require.Nil(t, answered(c, a), "once")
	require.Equal(t, swap.OrderGranted, stands(begin).State)

	c.write(protocol.Maintenance{MaintenanceID: begin.OrderID, OrderID: begin.OrderID, What: protocol.OrderBegin})
	k.sends(c)
	require.Equal(t, swap.OrderDone, stands(begin).State)
	page, err := replica.CabinetDetail(ctx, c.id)
	require.NoError(t, err)
	require.Equal(t, begin.OrderID, page.Maintenance.MaintenanceID)
	require.Equal(t, "tech", page.Maintenance.By)

	open := order(protocol.OrderOpen, 4)
	again := c.answer(open)
	again.Nonce = a.Nonce
	require.Nil(t, answered(c, again), "a nonce that has been used")
	stale := c.answer(open)
	stale.Epoch[3]++
	require.Nil(t, answered(c, stale), "of an epoch that does not count")
	c.reboot()
	k.sends(c)
	stale = c.answer(open)
	stale.BootSeq--
	require.Nil(t, answered(c, stale), "of a boot that is over")
	require.NoError(t, d.exec(`UPDATE maintenance_order SET requested_at = now() - interval '6 seconds' WHERE order_id = $1`, string(open.OrderID)))
	require.Nil(t, answered(c, c.answer(open)), "too late")
	require.Equal(t, swap.OrderRequested, stands(open).State)

	refused := order(protocol.OrderOpen, 4)
	no := c.answer(refused)
	no.Reason = protocol.ReasonKeyNotTurned
	require.Nil(t, answered(c, no))
	require.Nil(t, answered(c, c.answer(refused)))
	require.Equal(t, protocol.ReasonKeyNotTurned, stands(refused).Reason)
	require.Nil(t, answered(c, c.answer(protocol.MaintenanceRequest{OrderID: orderID(1)})), "nobody's order")

	c.write(protocol.Maintenance{MaintenanceID: begin.OrderID, What: protocol.OrderEnd, Reason: protocol.ReasonPowerCut})
	k.sends(c)
	page, err = replica.CabinetDetail(ctx, c.id)
	require.NoError(t, err)
	require.Nil(t, page.Maintenance)
	require.Len(t, page.Orders, 3)

	for what, slot := range map[protocol.Order]int{protocol.OrderOpen: 13, "shake": 0, protocol.OrderEnd: 2} {
		_, _, err := d.store.OrderMaintenance(d.as("tech"), c.id, what, slot, "")
		require.Error(t, err, "%s %d", what, slot)
	}
	_, _, err = d.store.OrderMaintenance(d.as("tech"), "hb-9999", protocol.OrderBegin, 0, "")
	require.ErrorIs(t, err, staff.ErrNotFound)
	lines, err := d.store.AuditLines(ctx, "tech", 0, 10)
	require.NoError(t, err)
	require.Len(t, lines, 3, "one for each act, none for what was refused before it")
	require.Equal(t, "maintenance.open", lines[0].Act)
	require.Contains(t, string(lines[0].Detail), `"slot": 4`)
}

// TestAnOrderThatIsSentTwice is one: by its key for ever, else while the cabinet may
// carry it out and shortly after. A door is opened once more by a new key only, and
// nobody gets the order of somebody else.
func TestAnOrderThatIsSentTwice(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c, far := d.cabinet("hb-0001"), d.cabinet("hb-0002")
	k := d.desk(d.store)
	replicas := []*postgres.Store{d.store, d.open()}
	order := func(login string, c *cabinet, what protocol.Order, slot int, key string) protocol.OrderID {
		o, m, err := replicas[1].OrderMaintenance(d.as(login), c.id, what, slot, key)
		require.NoError(t, err)
		require.Equal(t, m.OrderID, o.OrderID)
		require.Equal(t, []any{what, slot, login}, []any{o.What, o.Slot, o.By})
		return o.OrderID
	}
	old := func(id protocol.OrderID, by string) {
		require.NoError(t, d.exec(`UPDATE maintenance_order SET requested_at = requested_at - $2::interval, done_at = done_at - $2::interval WHERE order_id = $1`, string(id), by))
	}
	ids := make(chan protocol.OrderID, 20)
	at(20, func(i int) {
		_, m, err := replicas[i%2].OrderMaintenance(d.as("tech"), c.id, protocol.OrderBegin, 0, []string{"", "k1"}[i/2%2])
		if err != nil {
			t.Error(err)
		}
		ids <- m.OrderID
	})
	begin := <-ids
	for range 19 {
		require.Equal(t, begin, <-ids)
	}
	require.Equal(t, int64(1), query[int64](d, `SELECT count(*) FROM maintenance_order`))
	require.NotEqual(t, begin, order("li", c, protocol.OrderBegin, 0, ""), "somebody else's")
	require.NotEqual(t, begin, order("tech", far, protocol.OrderBegin, 0, ""), "another cabinet")
	c.write(protocol.Maintenance{MaintenanceID: begin, OrderID: begin, What: protocol.OrderBegin})
	k.sends(c)
	old(begin, "5 minutes")
	require.Equal(t, begin, order("tech", c, protocol.OrderBegin, 0, ""), "it is under way")

	open := order("tech", c, protocol.OrderOpen, 4, "k2")
	require.Equal(t, open, order("tech", c, protocol.OrderOpen, 4, "k3"), "asked for by another page while it is under way")
	require.NotEqual(t, open, order("tech", c, protocol.OrderOpen, 5, ""), "another door")
	c.write(protocol.Maintenance{MaintenanceID: begin, OrderID: open, What: protocol.OrderOpen, Slot: 4})
	k.sends(c)
	require.Equal(t, open, order("tech", c, protocol.OrderOpen, 4, "k2"))
	require.Equal(t, open, order("tech", c, protocol.OrderOpen, 4, ""), "its answer was lost")
	again := order("tech", c, protocol.OrderOpen, 4, "k4")
	require.NotEqual(t, open, again, "once more, wanted so")
	old(again, "1 minute")
	old(open, "1 minute")
	require.NotContains(t, []protocol.OrderID{open, again}, order("tech", c, protocol.OrderOpen, 4, ""), "a minute later it is another")
	require.Equal(t, open, order("tech", c, protocol.OrderOpen, 4, "k2"), "the key is not")
	_, _, err := d.store.OrderMaintenance(d.as("tech"), c.id, protocol.OrderOpen, 5, "k2")
	require.ErrorContains(t, err, "used for another order")
	var mistake *staff.Mistake
	require.ErrorAs(t, err, &mistake)
	_, _, err = d.store.OrderMaintenance(d.as("tech"), c.id, protocol.OrderOpen, 5, "é")
	require.ErrorAs(t, err, &mistake)

	c.write(protocol.Maintenance{MaintenanceID: begin, What: protocol.OrderEnd, Reason: protocol.ReasonKeyNotTurned})
	k.sends(c)
	old(begin, "1 minute")
	require.NotEqual(t, begin, order("tech", c, protocol.OrderBegin, 0, ""), "it is over")
}

// TestMaintenanceEndsWithItsEpoch: of what was under way in a journal that is
// lost, nothing more is told.
func TestMaintenanceEndsWithItsEpoch(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	_, m, err := d.store.OrderMaintenance(d.as("tech"), c.id, protocol.OrderBegin, 0, "")
	require.NoError(t, err)
	c.write(protocol.Maintenance{MaintenanceID: m.OrderID, OrderID: m.OrderID, What: protocol.OrderBegin})
	k.sends(c)
	c.format(2)
	c.hello()
	require.NoError(t, d.store.AcceptEpoch(t.Context(), c.id))
	page, err := d.store.CabinetDetail(t.Context(), c.id)
	require.NoError(t, err)
	require.Nil(t, page.Maintenance)
	d.honest()
}

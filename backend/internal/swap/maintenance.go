package swap

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"batteryswap/protocol"
)

// OrderState is where an order of maintenance stands.
type OrderState string

// The states of an order. What was granted is done when its record says so;
// nothing is concluded from silence.
const (
	OrderRequested OrderState = "requested" // the cabinet is asked for a nonce
	OrderGranted   OrderState = "granted"   // the cabinet may carry it out
	OrderDone      OrderState = "done"      // a record says so
	OrderRefused   OrderState = "refused"   // by the cabinet, for Reason
)

// Order is one that staff gave to a cabinet.
type Order struct {
	OrderID     protocol.OrderID
	CabinetID   protocol.CabinetID
	What        protocol.Order
	Slot        int
	State       OrderState
	Reason      protocol.Reason
	RequestedAt time.Time
}

// Answer takes the cabinet's answer to an order, and gives the grant. A nil grant
// comes with the reason why, for the log. The caller holds the cabinet's cursor
// and the order's row.
func (o *Order) Answer(c *Cabinet, m protocol.MaintenanceAnswer, now time.Time) (*protocol.MaintenanceGrant, error) {
	switch {
	case o.CabinetID != c.CabinetID || o.OrderID != m.OrderID:
		return nil, errors.New("not an order to this cabinet")
	case m.Reason != "" && (o.State == OrderRequested || o.State == OrderGranted):
		o.State, o.Reason = OrderRefused, m.Reason
		return nil, fmt.Errorf("the cabinet refuses: %s", m.Reason)
	case o.State != OrderRequested:
		return nil, fmt.Errorf("the order is %s: want requested", o.State)
	case m.Epoch != c.Epoch || c.Forked:
		return nil, fmt.Errorf("epoch %s: not the one that counts", m.Epoch)
	case m.BootSeq < c.BootSeq:
		return nil, fmt.Errorf("boot_seq is %d: boot %d has been told", m.BootSeq, c.BootSeq)
	case now.Sub(o.RequestedAt) >= PreparedWithin:
		return nil, fmt.Errorf("requested %s ago: want less than %s", now.Sub(o.RequestedAt), PreparedWithin)
	}
	g := &protocol.MaintenanceGrant{OrderID: o.OrderID, What: o.What, Slot: o.Slot, Nonce: m.Nonce, BootID: m.BootID}
	if err := g.Validate(); err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	o.State = OrderGranted
	return g, nil
}

// MaintenanceEvent is what a cabinet's record tells of maintenance.
type MaintenanceEvent struct {
	CabinetID     protocol.CabinetID
	MaintenanceID protocol.OrderID
	OrderID       protocol.OrderID // that was carried out, "" none
	What          protocol.Order
	Reason        protocol.Reason // why it ended by itself
	Stamp
}

// maintained books what maintenance did: a battery that is gone is with staff, one
// that came is in its slot. All that was taken out goes before all that was put
// in, for it may be the same battery.
func (b *Books) maintained(c *Cabinet, p protocol.Maintenance, at Stamp) {
	b.maintenance = append(b.maintenance, MaintenanceEvent{c.CabinetID, p.MaintenanceID, p.OrderID, p.What, p.Reason, at})
	if p.What != protocol.OrderEnd {
		return
	}
	v := visit{Books: b, c: c, at: at, act: actOf(c, at)}
	for _, ch := range p.Changes {
		if ch.Forced { // by staff, or by whoever forced the door
			v.ask(protocol.ReasonInventoryDiffers)
		}
	}
	for _, ch := range p.Changes {
		if ch.Removed != "" {
			v.removed(ch)
		}
	}
	for _, ch := range p.Changes {
		if ch.Added != "" {
			v.added(ch)
		}
	}
	if v.why != "" {
		b.reviews = append(b.reviews, Review{CabinetID: c.CabinetID, Reason: v.why, Inventory: p.Inventory, Stamp: at})
	}
}

// actOf names the entries of a record that belong to no swap: by the record, so
// that no two records can name the same, whatever they say. It is a UUIDv8.
func actOf(c *Cabinet, at Stamp) protocol.SwapID {
	sum := sha256.Sum256(fmt.Appendf(nil, "maintenance %s %s %d", c.CabinetID, at.Epoch, at.Seq))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	h := hex.EncodeToString(sum[:16])
	return protocol.SwapID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}

// visit is one maintenance that is being booked.
type visit struct {
	*Books
	c   *Cabinet
	at  Stamp
	act protocol.SwapID
	n   int
	why protocol.Reason // of its review, "" none
}

// ask has a person look: once for the whole visit.
func (v *visit) ask(why protocol.Reason) {
	if v.why == "" {
		v.why = why
	}
}

func (v *visit) enter(e Entry) {
	v.n++
	e.SwapID, e.EntryNo, e.CabinetID, e.Stamp = v.act, v.n, v.c.CabinetID, v.at
	v.add(e)
}

// battery finds a row, or makes one for a battery that nobody registered.
func (v *visit) battery(serial protocol.BatterySerial) *Battery {
	x := v.Batteries[serial]
	if x == nil {
		x = &Battery{BatterySerial: serial, Foreign: true, Holder: UnderCheck}
		v.AddBattery(x)
		v.ask(protocol.ReasonForeignSerial)
	}
	return x
}

// here reports whether the battery may be in this cabinet, or lost: then it is
// found.
func (v *visit) here(x *Battery) bool {
	return x.Holder == InSlot && x.CabinetID == v.c.CabinetID || x.Holder == WithStaff ||
		x.Holder == UnderCheck && (x.CabinetID == "" || x.CabinetID == v.c.CabinetID)
}

// removed enters a battery that is gone from its slot. If the books have it
// elsewhere, it may have been brought there since: it stays where it is, and a
// person looks.
func (v *visit) removed(ch protocol.Change) {
	e := Entry{What: Removed, Slot: ch.Slot, BatterySerial: ch.Removed}
	if v.apart {
		v.enter(e)
		return
	}
	x := v.battery(ch.Removed)
	switch {
	case ch.Forced && v.here(x):
		e.Holder = UnderCheck
		v.place(x, UnderCheck, "", "", 0)
	case v.here(x):
		e.Holder = WithStaff
		v.place(x, WithStaff, "", "", 0)
	default:
		v.ask(protocol.ReasonContradictsBooks)
	}
	v.enter(e)
	if e.Holder == "" && x.Holder == WithRider { // or the rider has had it since
		v.enter(Entry{What: Doubted, RiderID: x.RiderID, BatterySerial: ch.Removed, Holder: UnderCheck})
		v.place(x, UnderCheck, x.RiderID, "", 0)
	}
}

// added enters a battery that is in its slot now. What the books had there is not.
func (v *visit) added(ch protocol.Change) {
	e := Entry{What: Added, Slot: ch.Slot, BatterySerial: ch.Added, Holder: InSlot}
	if v.apart {
		v.enter(e)
		return
	}
	x := v.battery(ch.Added)
	if other := v.inSlot[slotKey{v.c.CabinetID, ch.Slot}]; other != "" && other != ch.Added {
		v.ask(protocol.ReasonContradictsBooks)
		y := v.Batteries[other]
		v.enter(Entry{What: Held, Slot: ch.Slot, BatterySerial: other, Holder: UnderCheck})
		v.place(y, UnderCheck, "", v.c.CabinetID, ch.Slot)
	}
	switch {
	case v.here(x):
	case x.Holder == WithRider: // who gave it to staff, or left it somewhere
		v.ask(protocol.ReasonContradictsBooks)
	default:
		v.ask(protocol.ReasonSameSerialTwice)
		e.Holder = UnderCheck
	}
	v.place(x, e.Holder, "", v.c.CabinetID, ch.Slot)
	v.enter(e)
}

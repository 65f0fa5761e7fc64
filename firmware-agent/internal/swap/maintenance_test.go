package swap

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

func orderID(n int) protocol.OrderID {
	return protocol.OrderID(fmt.Sprintf("01920000-0000-7000-9000-%012d", n))
}

// ask sends an order and gives the cabinet's answer.
func (r *rig) ask(n int, what protocol.Order, slotNumber int) protocol.MaintenanceAnswer {
	was := len(r.replies)
	r.event(MaintenanceRequest{protocol.MaintenanceRequest{OrderID: orderID(n), What: what, Slot: slotNumber}, r.nonce()})
	if len(r.replies) == was {
		return protocol.MaintenanceAnswer{}
	}
	a, ok := r.replies[len(r.replies)-1].(protocol.MaintenanceAnswer)
	require.True(r.t, ok, "%v", r.replies)
	return a
}

// grantFor makes the grant for an answer, with its envelope.
func (r *rig) grantFor(a protocol.MaintenanceAnswer, what protocol.Order, slotNumber int) MaintenanceGrant {
	g := protocol.MaintenanceGrant{OrderID: a.OrderID, What: what, Slot: slotNumber, Nonce: a.Nonce, BootID: a.BootID}
	b, err := json.Marshal(g)
	require.NoError(r.t, err)
	return MaintenanceGrant{g, b}
}

var orders int

// order has an order carried out, or says why not.
func (r *rig) order(what protocol.Order, slotNumber int) protocol.Reason {
	orders++
	a := r.ask(orders, what, slotNumber)
	if a.Reason != "" || !r.on {
		return a.Reason
	}
	was := len(r.replies)
	r.event(r.grantFor(a, what, slotNumber))
	if len(r.replies) > was {
		return r.replies[was].(protocol.MaintenanceAnswer).Reason
	}
	return ""
}

// maintained is the usual cabinet with the key turned and maintenance begun.
func maintained(t require.TestingT) *rig {
	r := usual(t)
	r.key = slot.Yes
	require.Empty(t, r.order(protocol.OrderBegin, 0))
	return r
}

// exchange is what a technician does at an open door: nil leaves it empty.
func (r *rig) exchange(n int, b *battery) {
	r.until(5*time.Second, "the door", func() bool { return r.box(n).open })
	r.wait(tick)
	r.box(n).in, r.box(n).mute = b, false
	r.wait(tick)
	r.shut(n)
	r.wait(4 * time.Second)
}

func (r *rig) ends() []protocol.Maintenance {
	var out []protocol.Maintenance
	for _, m := range records[protocol.Maintenance](r) {
		if m.What == protocol.OrderEnd {
			out = append(out, m)
		}
	}
	return out
}

// TestFailure44Maintenance: a technician removes, adds and changes batteries; the
// end tells each, nothing is tampering, and nobody swaps meanwhile.
func TestFailure44Maintenance(t *testing.T) {
	r := maintained(t)
	require.Equal(t, protocol.ReasonMaintenance, r.prepare(1, protocol.KindSwap).(protocol.Refused).Reason)
	require.Empty(t, r.order(protocol.OrderOpen, 4))
	require.Equal(t, []int{4}, r.machine.Slots(), "its charger is off")
	r.exchange(4, nil)
	require.Empty(t, r.order(protocol.OrderOpen, 1))
	r.exchange(1, charged("N1"))
	require.Empty(t, r.order(protocol.OrderOpen, 5))
	r.exchange(5, charged("N5"))
	require.Empty(t, r.order(protocol.OrderOpen, 3))
	r.exchange(3, r.box(3).in)
	require.Empty(t, r.order(protocol.OrderEnd, 0))
	r.wait(time.Second)
	require.Len(t, r.ends(), 1, "%s", r)
	end := r.ends()[0]
	require.Equal(t, []protocol.Change{{Slot: 1, Added: "N1"}, {Slot: 4, Removed: "C4"}, {Slot: 5, Removed: "F5", Added: "N5"}}, end.Changes)
	require.Len(t, end.Inventory, 5)
	require.NotEmpty(t, end.Grant)
	require.Len(t, r.pulses, 4)
	require.Empty(t, records[protocol.Tamper](r))
	require.Empty(t, r.durable().Alarms)

	require.Equal(t, protocol.ReasonMaintenance, r.prepare(2, protocol.KindSwap).(protocol.Refused).Reason, "the key is turned still")
	r.key = slot.No
	p, ok := r.prepare(3, protocol.KindSwap).(protocol.Prepared)
	require.True(t, ok)
	require.Len(t, p.Dispense, 3, "what was put in is given out")
	r.checkRest()
}

// TestMaintenanceMovesNoDoor: without the key switch, without a grant, or where a
// door must not open, none does, and the reason is told.
func TestMaintenanceMovesNoDoor(t *testing.T) {
	type refused struct {
		before func(*rig)
		slot   int
		why    protocol.Reason
	}
	for name, c := range map[string]refused{
		"key not turned":         {func(r *rig) { r.key = slot.No }, 4, protocol.ReasonKeyNotTurned},
		"key switch not read":    {func(r *rig) { r.key = slot.Unknown }, 4, protocol.ReasonKeyNotTurned},
		"smoke":                  {func(r *rig) { r.halt, r.refuse = true, protocol.ReasonAlarm }, 4, protocol.ReasonAlarm},
		"quarantine":             {func(r *rig) { r.safety = &Safety{Alarms: []Raised{{protocol.AlarmTemperature, 4}}} }, 4, protocol.ReasonAlarm},
		"silent slot":            {func(r *rig) { r.box(4).dead = true; r.wait(10 * time.Second) }, 4, protocol.ReasonSlotSilent},
		"no such slot":           {func(*rig) {}, 48, protocol.ReasonSlotSilent},
		"epoch waits":            {func(r *rig) { r.refuse = protocol.ReasonOutOfService }, 4, protocol.ReasonOutOfService},
		"over":                   {func(r *rig) { r.wait(15*time.Minute - PulseTime) }, 4, protocol.ReasonMaintenanceOver},
		"ended":                  {func(r *rig) { r.order(protocol.OrderEnd, 0); r.wait(time.Second) }, 4, protocol.ReasonNoMaintenance},
		"key turned back before": {func(r *rig) { r.key = slot.No; r.wait(5 * time.Second); r.key = slot.Yes }, 4, protocol.ReasonNoMaintenance},
		"restarted":              {func(r *rig) { r.restart(); r.wait(time.Minute) }, 4, protocol.ReasonNoMaintenance},
		"a forced door is open":  {func(r *rig) { r.box(3).open = true; r.wait(2 * time.Second) }, 4, protocol.ReasonBusy},
	} {
		t.Run(name, func(t *testing.T) {
			r := maintained(t)
			c.before(r)
			require.Equal(t, c.why, r.order(protocol.OrderOpen, c.slot), "%s", r)
			r.wait(20 * time.Second)
			require.Empty(t, r.pulses, "%s", r)
		})
	}
	for name, key := range map[string]slot.Tri{"no key": slot.No, "key switch not read": slot.Unknown} {
		t.Run("begin, "+name, func(t *testing.T) {
			r := usual(t)
			r.key = key
			require.Equal(t, protocol.ReasonKeyNotTurned, r.order(protocol.OrderBegin, 0))
			r.key = slot.Yes
			require.Equal(t, protocol.ReasonNoMaintenance, r.order(protocol.OrderOpen, 4))
			require.Equal(t, protocol.ReasonNoMaintenance, r.order(protocol.OrderEnd, 0))
			require.Empty(t, r.pulses)
		})
	}
}

// TestMaintenanceGrants: a nonce is good once, for what it was asked for, in this
// boot, for 15 s, and only while nothing speaks against it.
func TestMaintenanceGrants(t *testing.T) {
	granted := func(r *rig) (protocol.MaintenanceAnswer, MaintenanceGrant) {
		a := r.ask(1, protocol.OrderOpen, 4)
		require.Empty(t, a.Reason)
		return a, r.grantFor(a, protocol.OrderOpen, 4)
	}
	for name, spoil := range map[string]func(*rig, *MaintenanceGrant){
		"another nonce": func(_ *rig, g *MaintenanceGrant) { g.Nonce = protocol.Nonce{7} },
		"another slot":  func(_ *rig, g *MaintenanceGrant) { g.Slot = 3 },
		"another order": func(_ *rig, g *MaintenanceGrant) { g.OrderID = orderID(2) },
		"another boot":  func(_ *rig, g *MaintenanceGrant) { g.BootID = protocol.BootID{9} },
		"too late":      func(r *rig, _ *MaintenanceGrant) { r.wait(15 * time.Second) },
		"too large":     func(_ *rig, g *MaintenanceGrant) { g.Raw = make([]byte, maxOrderGrant+1) },
		"restarted":     func(r *rig, _ *MaintenanceGrant) { r.restart(); r.wait(time.Minute) },
		"while booting": func(r *rig, _ *MaintenanceGrant) { r.powerOff(); r.boot() },
	} {
		t.Run(name, func(t *testing.T) {
			r := maintained(t)
			_, g := granted(r)
			spoil(r, &g)
			r.event(g)
			r.wait(5 * time.Second)
			require.Empty(t, r.pulses, "%s", r)
			require.Len(t, r.rejected, 1)
		})
	}
	t.Run("twice, and again at any time", func(t *testing.T) {
		r := maintained(t)
		a, g := granted(r)
		require.Equal(t, a, r.ask(1, protocol.OrderOpen, 4), "the same nonce")
		r.ask(1, protocol.OrderOpen, 3)
		require.Equal(t, []string{whyOrder}, r.rejected)
		for range 10 {
			r.event(g)
			r.exchange(4, r.box(4).in)
			r.event(g)
			r.box(4).open = true
		}
		require.Len(t, r.pulses, 1)
	})
	t.Run("the key is turned back in between", func(t *testing.T) {
		r := maintained(t)
		_, g := granted(r)
		r.key = slot.No
		r.event(g)
		require.Equal(t, protocol.ReasonKeyNotTurned, r.replies[len(r.replies)-1].(protocol.MaintenanceAnswer).Reason)
		require.Empty(t, r.pulses)
	})
	t.Run("only so many wait", func(t *testing.T) {
		r := maintained(t)
		_, g := granted(r)
		for n := range maxOrders {
			require.Empty(t, r.ask(10+n, protocol.OrderOpen, 4).Reason)
		}
		r.event(g)
		require.Equal(t, []string{whyNonce}, r.rejected)
	})
}

// TestMaintenanceOneDoor (I8): while a door is open, or may still open, no other
// does; a door that sticks may be pulsed again.
func TestMaintenanceOneDoor(t *testing.T) {
	r := maintained(t)
	require.Empty(t, r.order(protocol.OrderOpen, 3))
	require.Equal(t, protocol.ReasonBusy, r.order(protocol.OrderOpen, 4), "nobody knows yet what the pulse did")
	r.wait(time.Minute)
	require.Equal(t, protocol.ReasonBusy, r.order(protocol.OrderOpen, 4))
	require.Equal(t, protocol.ReasonBusy, r.order(protocol.OrderOpen, 3), "it is open")
	r.shut(3)
	r.wait(4 * time.Second)

	r.box(4).stick = true
	require.Empty(t, r.order(protocol.OrderOpen, 4))
	r.wait(10 * time.Second)
	require.Equal(t, protocol.ReasonBusy, r.order(protocol.OrderOpen, 3), "its bolt is drawn")
	require.Empty(t, r.order(protocol.OrderOpen, 4), "once more")
	r.exchange(4, nil)

	r.box(1).jam = 1
	require.Empty(t, r.order(protocol.OrderOpen, 1))
	r.wait(10 * time.Second)
	require.Empty(t, r.order(protocol.OrderOpen, 5), "it has stayed closed")
	require.Len(t, r.pulses, 5)
}

// TestMaintenanceWaits: a swap is not disturbed, and one that is prepared does not
// begin when the key is turned.
func TestMaintenanceWaits(t *testing.T) {
	r := usual(t)
	p := r.prepare(1, protocol.KindSwap).(protocol.Prepared)
	r.key = slot.Yes
	require.Equal(t, protocol.ReasonBusy, r.order(protocol.OrderBegin, 0))
	r.event(r.grantOf(p, protocol.KindSwap, "R1"))
	r.wait(3 * time.Second)
	require.Equal(t, []protocol.Void{{SwapID: swapID(1), Reason: protocol.ReasonMaintenance}}, records[protocol.Void](r))

	r.key = slot.No
	r.start(2, protocol.KindSwap)
	r.key = slot.Yes
	require.Equal(t, protocol.ReasonBusy, r.order(protocol.OrderBegin, 0))
	r.deposit(flat("R1"))
	r.take(protocol.PurposeDispense)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
	r.wait(3 * time.Second)
	require.Empty(t, r.order(protocol.OrderBegin, 0))
	require.Equal(t, protocol.ReasonMaintenance, r.order(protocol.OrderBegin, 0))
}

// TestMaintenanceEndsByItself: when the key is turned back or the time is over,
// and not before every door is closed.
func TestMaintenanceEndsByItself(t *testing.T) {
	for why, cause := range map[protocol.Reason]func(*rig){
		protocol.ReasonKeyNotTurned:    func(r *rig) { r.key = slot.No; r.wait(5 * time.Second) },
		protocol.ReasonMaintenanceOver: func(r *rig) { r.wait(15 * time.Minute) },
	} {
		for _, open := range []bool{false, true} {
			r := maintained(t)
			if open {
				require.Empty(t, r.order(protocol.OrderOpen, 4))
				r.wait(time.Second)
				r.box(4).in = nil
			}
			cause(r)
			if open {
				require.Empty(t, r.ends(), "R2\n%s", r)
				require.Equal(t, boolInt(why == protocol.ReasonMaintenanceOver), r.alarms(protocol.AlarmDoorOpen), "as long as it lasts, a door may stand open")
				require.Equal(t, protocol.ReasonMaintenance, r.prepare(1, protocol.KindSwap).(protocol.Refused).Reason)
				r.shut(4)
				r.wait(5 * time.Second)
			}
			require.Len(t, r.ends(), 1, "%s", r)
			require.Equal(t, why, r.ends()[0].Reason)
			require.Empty(t, r.ends()[0].Grant)
			require.Len(t, r.ends()[0].Changes, boolInt(open))
		}
	}
	r := maintained(t)
	r.key = slot.No // it bounces
	r.tick()
	r.key = slot.Yes
	r.wait(10 * time.Second)
	require.Empty(t, r.ends())
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestMaintenanceHostile (T6): whoever signs a thousand orders opens as many doors
// an hour as the bucket has pulses, one at a time, and none without the key.
func TestMaintenanceHostile(t *testing.T) {
	r := usual(t)
	for range 1000 {
		require.Equal(t, protocol.ReasonKeyNotTurned, r.order(protocol.OrderBegin, 0))
		require.Equal(t, protocol.ReasonKeyNotTurned, r.order(protocol.OrderOpen, 4))
	}
	require.Empty(t, r.pulses)
	r.key = slot.Yes
	opened := 0
	for n := range 1400 {
		r.order(protocol.OrderBegin, 0)
		for slotNumber := 1; slotNumber <= 5; slotNumber++ {
			if r.order(protocol.OrderOpen, slotNumber) == "" {
				opened++
			}
		}
		r.wait(2 * tick)
		for i := range r.boxes {
			r.shut(i + 1)
		}
		if r.wait(3 * time.Second); n < 400 && n%200 == 199 {
			r.restart()
			r.wait(time.Minute)
		}
	}
	require.Positive(t, r.alarms(protocol.AlarmPulses))
	require.Greater(t, opened, r.limits.MaxPulsesPerHour, "the bucket fills again")
	require.Len(t, r.pulses, opened)
}

// TestMaintenanceHolds: what nobody can say how it came is kept from riders, and a
// held battery that staff have changed for another is held no more.
func TestMaintenanceHolds(t *testing.T) {
	held := func(r *rig, n int) bool { return r.durable().Alarmed(protocol.AlarmHeldBattery, n) }
	finish := func(r *rig) protocol.Maintenance {
		require.Empty(t, r.order(protocol.OrderEnd, 0))
		r.wait(90 * time.Second)
		require.Len(t, r.ends(), 1, "%s", r)
		return r.ends()[0]
	}
	t.Run("not plugged in", func(t *testing.T) {
		r := maintained(t)
		require.Empty(t, r.order(protocol.OrderOpen, 1))
		r.wait(time.Second)
		r.box(1).in, r.box(1).mute = charged("N1"), true
		r.shut(1)
		require.Empty(t, finish(r).Changes)
		require.True(t, held(r, 1))
	})
	t.Run("a slot that was forced", func(t *testing.T) {
		r := maintained(t)
		r.force(3)
		r.box(3).in = charged("X3")
		r.shut(3)
		require.Equal(t, []protocol.Change{{Slot: 3, Removed: "C3", Added: "X3", Forced: true}}, finish(r).Changes)
		require.True(t, held(r, 3))
		require.Len(t, records[protocol.Tamper](r), 1)
	})
	t.Run("held, and changed for another", func(t *testing.T) {
		r := usual(t)
		r.start(1, protocol.KindSwap)
		n := r.deposit(flat("X9"))
		r.opened(protocol.PurposeReturn)
		r.shut(n)
		r.closed()
		require.True(t, held(r, n))
		r.wait(4 * time.Second)
		r.key = slot.Yes
		require.Empty(t, r.order(protocol.OrderBegin, 0))
		require.Empty(t, r.order(protocol.OrderOpen, n))
		r.exchange(n, charged("N1"))
		require.Equal(t, []protocol.Change{{Slot: n, Removed: "X9", Added: "N1"}}, finish(r).Changes)
		require.False(t, held(r, n))
	})
	t.Run("the journal is lost meanwhile", func(t *testing.T) {
		r := maintained(t)
		require.Empty(t, r.order(protocol.OrderOpen, 4))
		b, err := r.durable().Carry(true)
		require.NoError(t, err)
		var next Durable
		require.NoError(t, json.Unmarshal(b, &next))
		require.True(t, next.Alarmed(protocol.AlarmHeldBattery, 4))
		require.Nil(t, next.Maintained)
	})
}

// TestMaintenanceNeedsNoDeadBoard: a slot that is silent does not keep the cabinet
// out of service for ever; one that was opened does, until staff take it out.
func TestMaintenanceNeedsNoDeadBoard(t *testing.T) {
	r := maintained(t)
	require.Empty(t, r.order(protocol.OrderOpen, 4))
	r.exchange(4, nil)
	r.box(4).dead, r.box(5).dead = true, true
	r.wait(10 * time.Second)
	require.Empty(t, r.order(protocol.OrderEnd, 0))
	r.wait(20 * time.Minute)
	require.Empty(t, r.ends(), "silence proves nothing")
	r.event(Configure{Config: protocol.CabinetConfig{Version: 1, SlotsOut: []int{4}}})
	r.wait(time.Second)
	require.Len(t, r.ends(), 1)
	require.Empty(t, r.ends()[0].Changes)
	require.True(t, r.durable().Alarmed(protocol.AlarmHeldBattery, 4))
}

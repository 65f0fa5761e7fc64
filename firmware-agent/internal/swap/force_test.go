package swap

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// force opens a door with a crowbar, and waits until that is told.
func (r *rig) force(n int) {
	told := len(records[protocol.Tamper](r))
	r.box(n).open, r.box(n).forced = true, true
	r.until(5*time.Second, "TAMPER", func() bool { return len(records[protocol.Tamper](r)) > told })
}

// TestFailure34Tamper: a door that nobody was granted.
func TestFailure34Tamper(t *testing.T) {
	r := usual(t)
	r.box(4).open, r.box(4).forced = true, true
	r.wait(time.Second)
	tampers := records[protocol.Tamper](r)
	require.Len(t, tampers, 1, "within a second of two agreeing readings")
	require.Equal(t, 4, tampers[0].Slot)
	require.Len(t, tampers[0].Inventory, 5)
	require.Equal(t, 1, r.alarms(protocol.AlarmTamper))
	require.Equal(t, protocol.ReasonBusy, r.refused(t, protocol.KindSwap))
	for range 20 { // a sensor that flaps
		r.box(4).open = !r.box(4).open
		r.wait(3 * time.Second)
	}
	require.Len(t, records[protocol.Tamper](r), 1)
	r.box(4).in = flat("X1") // a bad one for a good one
	r.shut(4)
	r.wait(70 * time.Second)
	require.False(t, r.durable().Alarmed(protocol.AlarmTamper, 4))
	require.True(t, r.durable().Alarmed(protocol.AlarmHeldBattery, 4), "%s", r)
	r.box(4).in.soc = 99
	r.wait(5 * time.Second)
	p := r.prepare(3, protocol.KindSwap).(protocol.Prepared)
	require.Len(t, p.Dispense, 1, "what came in by force is nobody's to take: %v", p)
}

// TestFailure34TamperDuringASwap: a slot of the swap that opens without a new
// pulse is one too.
func TestFailure34TamperDuringASwap(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	n := r.deposit(flat("R1"))
	k := r.opened(protocol.PurposeDispense)
	r.box(n).open, r.box(n).forced = true, true
	r.wait(2 * time.Second)
	require.Len(t, records[protocol.Tamper](r), 1)
	r.box(k).in = nil
	r.shut(k)
	r.wait(30 * time.Second)
	require.NotNil(t, r.open(), "the deposit slot is not closed")
	r.box(n).in = nil // the thief
	r.shut(n)
	c := r.closed()
	require.Equal(t, protocol.OutcomeReview, c.Outcome)
	require.Contains(t, c.Explanations, protocol.OutcomeSwapped)
	require.Equal(t, protocol.BatterySerial("C3"), c.Taken)
}

// A battery that came in by force is nobody's to take, also when the agent was
// restarted between the force and the closing.
func TestForcedInIsHeld(t *testing.T) {
	for _, restart := range []bool{false, true} {
		for _, rolled := range []bool{false, true} {
			t.Run(fmt.Sprint("restart ", restart, " rolled ", rolled), func(t *testing.T) {
				r := usual(t)
				r.force(1)
				r.box(1).in = charged("X1")
				if rolled {
					r.snapshot()
				}
				if restart {
					r.restart()
				}
				r.shut(1)
				r.wait(3 * time.Minute)
				require.False(t, r.durable().Alarmed(protocol.AlarmTamper, 1))
				require.True(t, r.durable().Alarmed(protocol.AlarmHeldBattery, 1))
				p, ok := r.prepare(1, protocol.KindSwap).(protocol.Prepared)
				require.True(t, ok)
				for _, f := range p.Dispense {
					require.NotEqual(t, protocol.BatterySerial("X1"), f.BatterySerial, "it is offered\n%s", r)
				}
			})
		}
	}
}

// What stayed where it was goes on: a crowbar must not take batteries out of use.
func TestForcedAndUntouchedGoesOn(t *testing.T) {
	for _, restart := range []bool{false, true} {
		r := usual(t)
		r.force(3)
		if restart {
			r.restart()
		}
		r.shut(3)
		r.wait(3 * time.Minute)
		require.Empty(t, r.durable().Alarms, "restart %v\n%s", restart, r)
		require.Empty(t, r.durable().Forced)
		all := records[protocol.Alarm](r)
		last := all[len(all)-1]
		require.True(t, last.Cleared)
		require.Len(t, last.Inventory, 5, "what force moved is to be seen")
	}
}

// A cabinet that is forced open everywhere remembers what it can; the rest is held.
func TestForcedEverywhere(t *testing.T) {
	var boxes []box
	for i := range maxForced + 2 {
		boxes = append(boxes, box{in: charged(protocol.BatterySerial(fmt.Sprintf("C%d", i+1)))})
	}
	r := newRig(t, boxes...)
	r.wait(4 * time.Second)
	for n := range boxes {
		r.force(n + 1)
	}
	require.Len(t, r.durable().Forced, maxForced)
	for n := range boxes {
		r.shut(n + 1)
	}
	r.wait(2 * time.Minute)
	require.Equal(t, Alarms{{protocol.AlarmHeldBattery, 1}, {protocol.AlarmHeldBattery, 2}}, r.durable().Alarms)
}

// A granted slot is robbed during the swap, and TAMPER is on disk. The rider does
// not take from the slot that was opened for it. After a cut that has two
// explanations: the rider took it, or the one who forced the door.
func TestForcedOutIsNotTheRidersTake(t *testing.T) {
	for _, cleared := range []bool{false, true} {
		r := usual(t)
		r.start(1, protocol.KindSwap)
		n := r.opened(protocol.PurposeDeposit)
		r.force(3)
		r.box(3).in = nil
		r.shut(3)
		r.wait(3 * time.Second)
		if cleared {
			r.wait(70 * time.Second)
		}
		r.box(n).in = flat("R1")
		r.shut(n)
		r.opened(protocol.PurposeDispense)
		i, _ := r.lastIntent()
		require.Equal(t, 4, i.Slot)
		r.restart()
		r.shut(4)
		c := r.closed()
		require.Equal(t, protocol.OutcomeReview, c.Outcome, "told as: %s, taken %s\n%s", c.Outcome, c.Taken, r)
		require.Contains(t, c.Explanations, protocol.OutcomeDepositedOwed, "the truth")
		require.Contains(t, c.Explanations, protocol.OutcomeSwapped)
	}
}

// A rider's battery that is robbed during the swap did not go back to the rider.
func TestForcedOutIsNotReturned(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	n := r.deposit(flat("R1"))
	dispense := r.opened(protocol.PurposeDispense)
	r.force(n)
	r.box(n).in = nil
	r.shut(n)
	r.wait(3 * time.Second)
	r.shut(dispense) // without having taken
	c := r.closed()
	require.Equal(t, protocol.OutcomeReview, c.Outcome, "%s", r)
	require.Contains(t, c.Explanations, protocol.OutcomeDepositedOwed, "the truth")
}

// A battery that a granted slot holds because somebody forced it is not the
// rider's deposit, even if it is the rider's battery.
func TestForcedInIsNoDeposit(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	n := r.opened(protocol.PurposeDeposit)
	require.Equal(t, 1, n)
	r.force(2)
	r.box(2).in = flat("R1")
	r.shut(2)
	r.wait(3 * time.Second)
	r.restart()
	r.shut(1)
	c := r.closed()
	require.Equal(t, protocol.OutcomeReview, c.Outcome, "%s", r)
	require.True(t, r.durable().Alarmed(protocol.AlarmHeldBattery, 2))
}

// What was refused and stays in is held: neither given out nor charged.
func TestHeldBatteryIsBarred(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	n := r.deposit(flat("X9"))
	require.Equal(t, n, r.opened(protocol.PurposeReturn))
	r.shut(n) // and leaves it in
	c := r.closed()
	require.Equal(t, protocol.OutcomeReview, c.Outcome)
	require.True(t, r.durable().Alarmed(protocol.AlarmHeldBattery, n))
	r.event(Configure{Config: protocol.CabinetConfig{Version: 1, FlaggedSerials: []protocol.BatterySerial{"F5"}}})
	r.wait(10 * time.Second)
	barred := func(n int) bool { return r.durable().Barred(r.ev[n-1].View(r.now)) }
	require.True(t, barred(n), "a held battery")
	require.True(t, barred(5), "a flagged battery")
	require.False(t, barred(3))
}

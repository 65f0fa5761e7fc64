package swap

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// TestFailure34ExchangedUnseen: a door that was open between two readings only, or
// behind a sensor that says "closed", is known by what lies behind it.
func TestFailure34ExchangedUnseen(t *testing.T) {
	held := Alarms{{protocol.AlarmHeldBattery, 3}}
	for _, x := range []struct {
		what  string
		slot  int
		steps []*battery // nil: empty
		mute  int        // so many of them, from the first, do not say who they are
		left  Alarms
	}{
		{"another for one", 3, []*battery{charged("X1")}, 0, held},
		{"out", 3, []*battery{nil}, 0, nil},
		{"out, another in", 3, []*battery{nil, charged("X1")}, 0, held},
		{"another that wakes up late", 3, []*battery{charged("X1"), charged("X1")}, 1, held},
		{"one into an empty slot", 1, []*battery{flat("X1"), flat("X1")}, 1, Alarms{{protocol.AlarmHeldBattery, 1}}},
		{"out and back", 3, []*battery{nil, charged("C3")}, 0, nil},
	} {
		t.Run(x.what, func(t *testing.T) {
			r := usual(t)
			r.wait(3 * time.Minute) // at rest for long
			was := r.box(x.slot).in
			for i, b := range x.steps {
				r.box(x.slot).in, r.box(x.slot).mute = b, i < x.mute
				r.wait(3 * time.Second)
			}
			told := records[protocol.Tamper](r)
			require.Len(t, told, 1, "%s", r)
			require.Equal(t, x.slot, told[0].Slot)
			require.Len(t, told[0].Inventory, 5)
			if was == nil {
				require.Equal(t, protocol.PresenceEmpty, told[0].Presence)
			} else {
				require.Equal(t, was.serial, told[0].BatterySerial)
			}
			r.wait(50 * time.Second)
			require.True(t, r.durable().Alarmed(protocol.AlarmTamper, x.slot), "it lasts long enough to be noticed")
			r.wait(15 * time.Second)
			require.ElementsMatch(t, x.left, r.durable().Alarms, "a minute is enough")
			r.wait(10 * time.Minute)
			require.Len(t, records[protocol.Tamper](r), 1)
		})
	}
}

// TestExchangedAtTheVeryEnd: what was judged when a swap was closed is what stays
// there, from the very next reading.
func TestExchangedAtTheVeryEnd(t *testing.T) {
	r := usual(t)
	r.box(3).jam, r.box(4).jam = 2, 2
	r.start(1, protocol.KindOwed)
	require.Equal(t, protocol.OutcomeOwedNotTaken, r.closed().Outcome)
	require.Empty(t, records[protocol.Tamper](r))
	r.box(4).in = charged("X1")
	r.wait(3 * time.Second)
	require.Len(t, records[protocol.Tamper](r), 1, "%s", r)
}

// TestLooseContactsAreToldOnce: what a slot seems to hold changes for hours; the
// journal is not filled with it.
func TestLooseContactsAreToldOnce(t *testing.T) {
	for _, x := range []struct {
		every time.Duration
		most  int
	}{{3 * time.Second, 1}, {90 * time.Second, 2}, {5 * time.Minute, 4}, {40 * time.Minute, 5}} {
		t.Run(x.every.String(), func(t *testing.T) {
			r := usual(t)
			for i := range int(3 * time.Hour / x.every) {
				r.box(3).in = charged([]protocol.BatterySerial{"X1", "C3"}[i%2])
				r.wait(x.every)
			}
			require.LessOrEqual(t, len(records[protocol.Tamper](r)), x.most)
			require.NotEmpty(t, records[protocol.Tamper](r))
		})
	}
}

// TestUnseenIsNotInvented: what a slot holds changes by a swap or by maintenance,
// between two readings too, and signs come and go; no door was forced for that.
func TestUnseenIsNotInvented(t *testing.T) {
	r := usual(t)
	unseen := func(p protocol.Purpose, b *battery) {
		n := r.opened(p)
		r.box(n).open, r.box(n).in, r.box(n).mute = false, b, false
	}
	r.start(1, protocol.KindSwap)
	r.deposit(flat("R1"))
	unseen(protocol.PurposeDispense, nil)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
	r.start(2, protocol.KindSwap, "R2")
	n := r.opened(protocol.PurposeDeposit)
	r.box(n).in, r.box(n).mute = flat("R2"), true
	r.shut(n)
	unseen(protocol.PurposeReopen, flat("R2"))
	unseen(protocol.PurposeDispense, nil)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)

	r = usual(t)
	r.start(1, protocol.KindSwap)
	r.deposit(flat("X9"))
	unseen(protocol.PurposeReturn, nil)
	require.Equal(t, protocol.OutcomeReturned, r.closed().Outcome)
	require.Empty(t, records[protocol.Tamper](r), "%s", r)

	r = maintained(t)
	require.Empty(t, r.order(protocol.OrderOpen, 4))
	r.until(5*time.Second, "the door", func() bool { return r.box(4).open })
	r.box(4).open, r.box(4).in = false, charged("N1")
	r.wait(10 * time.Second)
	require.Empty(t, r.order(protocol.OrderEnd, 0))
	r.until(time.Minute, "the end", func() bool { return len(r.ends()) == 1 })
	require.Empty(t, records[protocol.Tamper](r), "%s", r)

	r = usual(t)
	r.box(4).mute = true // its plug is loose
	r.wait(10 * time.Second)
	r.box(4).mute = false
	r.wait(10 * time.Second)
	r.box(4).dead = true
	r.wait(30 * time.Second)
	r.box(4).dead = false
	r.box(5).liar = true // its switch hangs
	r.wait(10 * time.Second)
	r.box(5).liar = false
	r.wait(10 * time.Second)
	r.restart()
	r.wait(time.Minute)
	require.Empty(t, records[protocol.Tamper](r), "%s", r)
	require.Empty(t, r.durable().Alarms)
}

// saysShut has a door's sensors say "closed" before the rider has done what it is for,
// while another slot is silent, so that the swap cannot end yet.
func (r *rig) saysShut(n, silent int, then *battery) {
	r.box(silent).dead = true
	r.wait(4 * time.Second)
	r.box(n).open = false // they say
	r.wait(4 * time.Second)
	r.box(n).in = then
	r.wait(4 * time.Second)
	r.box(silent).dead = false
}

// TestMovedBehindASensorThatLies: while the swap is open that has opened a door, what
// goes through it is that swap's, whatever the sensors say of the door.
func TestMovedBehindASensorThatLies(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	n := r.deposit(flat("R1"))
	r.saysShut(r.opened(protocol.PurposeDispense), n, nil)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome, "%s", r)
	require.Empty(t, records[protocol.Tamper](r))

	r = usual(t)
	r.start(1, protocol.KindSwap)
	n = r.deposit(flat("X9"))
	require.Equal(t, n, r.opened(protocol.PurposeReturn))
	r.restart() // which waits for every slot
	r.saysShut(n, 5, nil)
	require.Equal(t, protocol.OutcomeReturned, r.closed().Outcome, "%s", r)
	require.Empty(t, records[protocol.Tamper](r))

	r = usual(t)
	r.start(1, protocol.KindSwap)
	n = r.opened(protocol.PurposeDeposit)
	r.restart()
	r.saysShut(n, 5, flat("R1"))
	require.Equal(t, protocol.OutcomeDepositedOwed, r.closed().Outcome, "%s", r)
	require.Empty(t, records[protocol.Tamper](r))
	require.Empty(t, r.durable().Alarms)

	r = maintained(t)
	require.Empty(t, r.order(protocol.OrderOpen, 4))
	r.until(5*time.Second, "the door", func() bool { return r.box(4).open })
	r.saysShut(4, 5, nil)
	require.Empty(t, r.order(protocol.OrderEnd, 0))
	r.until(time.Minute, "the end", func() bool { return len(r.ends()) == 1 })
	require.Empty(t, records[protocol.Tamper](r))
	require.Empty(t, r.durable().Alarms)
}

// TestSomethingMuteInAnEmptySlot: it can be neither a deposit nor given out, and
// staff have to know.
func TestSomethingMuteInAnEmptySlot(t *testing.T) {
	r := usual(t)
	r.box(1).in, r.box(1).mute = flat("X1"), true
	r.wait(50 * time.Second)
	require.Empty(t, r.durable().Alarms, "a switch that hangs for a moment")
	r.wait(15 * time.Second)
	require.Equal(t, Alarms{{protocol.AlarmHeldBattery, 1}}, r.durable().Alarms)
	r.box(1).in = nil
	r.wait(5 * time.Second)
	require.Empty(t, r.durable().Alarms)
	require.Empty(t, records[protocol.Tamper](r))
}

// TestStaffExchangeWhatWasForced: what staff put in, by order, after a door was
// forced is held no more; nor does the alarm outlive what they took out.
func TestStaffExchangeWhatWasForced(t *testing.T) {
	for _, b := range []*battery{charged("N1"), nil} {
		r := usual(t)
		r.box(3).in = charged("X1")
		r.wait(3 * time.Second)
		require.True(t, r.durable().Alarmed(protocol.AlarmTamper, 3))
		r.key = slot.Yes
		require.Empty(t, r.order(protocol.OrderBegin, 0))
		require.Empty(t, r.order(protocol.OrderOpen, 3))
		r.exchange(3, b)
		require.Empty(t, r.order(protocol.OrderEnd, 0))
		r.until(time.Minute, "the end", func() bool { return len(r.ends()) == 1 })
		require.Empty(t, r.durable().Alarms, "%s", r)
		require.Empty(t, r.durable().Forced)
		r.wait(5 * time.Minute)
		require.Empty(t, r.durable().Alarms, "%s", r)
	}
}

// TestForcedInMaintenance: what comes in by force after staff had the door opened is
// held, and told as that.
func TestForcedInMaintenance(t *testing.T) {
	r := maintained(t)
	require.Empty(t, r.order(protocol.OrderOpen, 4))
	r.exchange(4, charged("N1"))
	r.force(4)
	r.exchange(4, charged("X1"))
	require.Empty(t, r.order(protocol.OrderEnd, 0))
	r.until(time.Minute, "the end", func() bool { return len(r.ends()) == 1 })
	require.Equal(t, []protocol.Change{{Slot: 4, Removed: "C4", Added: "X1", Forced: true}}, r.ends()[0].Changes)
	r.wait(3 * time.Minute)
	require.Equal(t, Alarms{{protocol.AlarmHeldBattery, 4}}, r.durable().Alarms)
}

// TestForceIsForgotten: years of visits with a mechanical key do not take a slot out
// of use for an hour each.
func TestForceIsForgotten(t *testing.T) {
	r := usual(t)
	for range 2 {
		r.force(3)
		r.shut(3)
		r.wait(65 * time.Second)
		require.Empty(t, r.durable().Alarms)
		r.now += 24 * time.Hour
		r.wait(10 * time.Second)
	}
}

// TestForcedAndMute: one mute battery is not another.
func TestForcedAndMute(t *testing.T) {
	r := usual(t)
	r.box(3).mute = true
	r.wait(10 * time.Second)
	r.force(3)
	r.box(3).in = charged("X1")
	r.shut(3)
	r.wait(2 * time.Minute)
	require.Equal(t, Alarms{{protocol.AlarmHeldBattery, 3}}, r.durable().Alarms)
}

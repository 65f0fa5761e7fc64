package swap

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// "What goes wrong in a real swap", row by row, as far as the machine decides
// it. The rows that are missing belong to the backend, the journal, the bus or
// the screen; those of refusals (1, 2, 3) and of power cuts (29) are in
// prepare_test.go and cuts_test.go.

func TestFailure04CancelAfterAcceptChangesNothing(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	r.event(Cancel{protocol.Cancel{SwapID: swapID(1)}})
	require.Contains(t, r.rejected, whyStarted)
	require.Empty(t, records[protocol.Void](r))
	r.deposit(flat("R1"))
	r.event(Cancel{protocol.Cancel{SwapID: swapID(1)}})
	r.take(protocol.PurposeDispense)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
}

// TestFailure05PulseWithoutEffect: a second pulse only when provably closed, and
// no third.
func TestFailure05PulseWithoutEffect(t *testing.T) {
	r := usual(t)
	r.box(1).jam = 1
	r.start(1, protocol.KindSwap)
	r.wait(2 * time.Second)
	require.Len(t, r.pulses, 1, "the door has 3 s")
	require.Equal(t, 1, r.deposit(flat("R1")))
	require.Len(t, r.pulses, 2)
	r.take(protocol.PurposeDispense)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
	i := records[protocol.Intent](r)
	require.Equal(t, []int{1, 2, 1}, []int{i[0].Pulse, i[1].Pulse, i[2].Pulse})

	r = usual(t) // no answer of the sensors: not one more pulse
	r.box(1).jam = 9
	r.start(1, protocol.KindSwap)
	r.box(1).dead = true
	r.wait(3 * time.Minute)
	require.Len(t, r.pulses, 1)
	r.box(1).dead = false
	r.wait(time.Minute)
	require.Equal(t, 2, r.open().pulses(1, protocol.PurposeDeposit), "at most two")
}

// TestFailure06And07DepositDoorJams: the next granted slot, and the jammed one is
// out of service.
func TestFailure06And07DepositDoorJams(t *testing.T) {
	r := usual(t)
	r.box(1).jam = jammed
	r.start(1, protocol.KindSwap)
	require.Equal(t, 2, r.deposit(flat("R1")))
	r.take(protocol.PurposeDispense)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
	require.True(t, r.durable().Alarmed(protocol.AlarmSlotFault, 1))
	require.Equal(t, protocol.ReasonNoEmptySlot, r.refused(t, protocol.KindHandBack), "slot 1 is out, 2 is full, only 3 is empty")

	r = usual(t) // all of them
	r.box(1).jam, r.box(2).jam = jammed, jammed
	r.start(1, protocol.KindSwap)
	c := r.closed()
	require.Equal(t, protocol.OutcomeNoDeposit, c.Outcome)
	require.Equal(t, protocol.ReasonDoorDidNotOpen, c.Reason)
	require.Equal(t, 2, r.alarms(protocol.AlarmSlotFault))
	require.Len(t, r.pulses, 4)
	r.restart()
	require.True(t, r.durable().Alarmed(protocol.AlarmSlotFault, 2), "a restart repairs no lock")
	// Staff say that both are repaired; a repair of long ago repairs nothing new.
	r.event(Configure{Config: protocol.CabinetConfig{Version: 1, SlotsOut: []int{1, 2}}})
	r.event(Configure{Config: protocol.CabinetConfig{Version: 2}})
	require.Len(t, r.durable().Alarms, 2, "in service again is not repaired")
	r.event(Configure{Config: protocol.CabinetConfig{Version: 5, ClearFaults: map[int]int64{1: 3, 2: 1}}})
	require.Empty(t, r.durable().Alarms)
	r.box(2).jam = 0
	r.start(2, protocol.KindSwap)
	require.Equal(t, 2, r.deposit(flat("R1")))
	r.take(protocol.PurposeDispense)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
	r.event(Configure{Config: protocol.CabinetConfig{Version: 6, ClearFaults: map[int]int64{1: 3, 2: 2}}})
	require.True(t, r.durable().Alarmed(protocol.AlarmSlotFault, 1))
}

func TestFailure08LockContradictsDoor(t *testing.T) {
	r := usual(t)
	r.wait(time.Second)
	// The door says shut, the bolt says drawn: not closed, so busy, then an alarm.
	r.box(2).unlocked = true
	r.wait(5 * time.Minute)
	require.Equal(t, 0, r.alarms(protocol.AlarmDoorOpen))
	r.wait(2 * time.Minute)
	require.Equal(t, 1, r.alarms(protocol.AlarmDoorOpen))
	r.wait(time.Hour)
	require.Equal(t, 1, r.alarms(protocol.AlarmDoorOpen), "once")
	r.shut(2)
	r.wait(5 * time.Second)
	require.Empty(t, r.durable().Alarms)
}

func TestFailure10ClosedEmptyEndsAtOnce(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	r.deposit(nil)
	at := r.now
	require.Equal(t, protocol.OutcomeNoDeposit, r.closed().Outcome)
	require.Less(t, r.now-at, 4*time.Second)
	require.Len(t, r.pulses, 1, "no second opening: the rider scans again")
	require.IsType(t, protocol.Prepared{}, r.prepare(2, protocol.KindSwap))
}

func TestFailure11LeftOpen(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	n := r.opened(protocol.PurposeDeposit)
	r.wait(40 * time.Second)
	require.Empty(t, r.prompts)
	r.wait(10 * time.Second)
	require.Equal(t, []Prompt{{n, protocol.PurposeDeposit}}, r.prompts)
	r.wait(30 * time.Second)
	require.Zero(t, r.alarms(protocol.AlarmDoorOpen))
	r.wait(20 * time.Second)
	require.Equal(t, 1, r.alarms(protocol.AlarmDoorOpen))
	r.wait(2 * time.Hour)
	require.NotNil(t, r.open(), "nothing is concluded from time")
	require.Equal(t, 1, r.alarms(protocol.AlarmDoorOpen), "once")
	require.Len(t, r.pulses, 1)
	r.shut(n)
	require.Equal(t, protocol.OutcomeNoDeposit, r.closed().Outcome)
	require.Empty(t, r.durable().Alarms)
}

func TestFailure12NotPluggedIn(t *testing.T) {
	cases := []struct {
		name string
		do   func(r *rig, n int)
		want protocol.Outcome
	}{
		{"plugged in", func(r *rig, n int) {
			r.box(n).mute = false
			r.wait(tick)
			r.shut(n)
			r.take(protocol.PurposeDispense)
		}, protocol.OutcomeSwapped},
		{"taken home", func(r *rig, n int) {
			r.box(n).in = nil
			r.wait(tick)
			r.shut(n)
		}, protocol.OutcomeNoDeposit},
		{"as it was, then taken out", func(r *rig, n int) {
			r.shut(n)
			r.take(protocol.PurposeReturn)
		}, protocol.OutcomeReturned},
		{"as it was, and left", func(r *rig, n int) {
			r.shut(n)
			r.shut(r.opened(protocol.PurposeReturn))
		}, protocol.OutcomeReview},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := usual(t)
			r.start(1, protocol.KindSwap)
			n := r.opened(protocol.PurposeDeposit)
			r.box(n).in, r.box(n).mute = flat("R1"), true
			r.shut(n)
			r.wait(14 * time.Second)
			require.Len(t, r.pulses, 1, "it has 15 s to say who it is")
			r.opened(protocol.PurposeReopen)
			c.do(r, n)
			require.Equal(t, c.want, r.closed().Outcome, "%s", r)
			require.Equal(t, 1, r.intents(protocol.PurposeReopen), "one re-opening")
		})
	}
}

// intents counts the intents of a purpose in the journal.
func (r *rig) intents(p protocol.Purpose) int {
	n := 0
	for _, i := range records[protocol.Intent](r) {
		if i.Purpose == p {
			n++
		}
	}
	return n
}

// TestFailure13WalkedAway: closed late, perhaps by a passer-by: verified, and
// nothing is dispensed or given back to whoever stands there.
func TestFailure13WalkedAway(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	n := r.opened(protocol.PurposeDeposit)
	r.box(n).in = flat("R1")
	r.wait(2 * time.Minute)
	require.Empty(t, records[protocol.Deposit](r), "not a deposit until closed")
	r.shut(n)
	c := r.closed()
	require.Equal(t, protocol.OutcomeDepositedOwed, c.Outcome)
	require.Equal(t, protocol.ReasonDepositLate, c.Reason)
	require.Len(t, r.pulses, 1)

	r = usual(t)
	r.start(1, protocol.KindSwap)
	n = r.opened(protocol.PurposeDeposit)
	r.box(n).in = flat("X9")
	r.wait(2 * time.Minute)
	r.shut(n)
	require.Equal(t, protocol.OutcomeReview, r.closed().Outcome)
	require.Len(t, r.pulses, 1)
	require.True(t, r.durable().Alarmed(protocol.AlarmHeldBattery, n))

	r = usual(t) // and a mute one is not re-opened
	r.start(1, protocol.KindHandBack)
	n = r.opened(protocol.PurposeDeposit)
	r.box(n).in, r.box(n).mute = flat("R1"), true
	r.wait(2 * time.Minute)
	r.shut(n)
	require.Equal(t, protocol.OutcomeReview, r.closed().Outcome)
	require.Len(t, r.pulses, 1)
}

// TestFailure35Recalled: a recalled battery that comes in stays in, whatever
// becomes of the swap, and is not given out. Its rider gets another for it.
func TestFailure35Recalled(t *testing.T) {
	recall := func(t *testing.T) *rig {
		r := usual(t)
		r.event(Configure{Config: protocol.CabinetConfig{Version: 1, FlaggedSerials: []protocol.BatterySerial{"R2", "X9"}}})
		r.start(1, protocol.KindSwap, "R1", "R2")
		return r
	}
	barred := func(r *rig, n int) bool { return r.durable().Barred(r.ev[n-1].View(r.now)) }

	r := recall(t)
	n := r.deposit(flat("R2"))
	r.take(protocol.PurposeDispense)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
	require.True(t, barred(r, n))

	r = recall(t) // nothing can be dispensed: owed, not given back
	r.box(3).jam, r.box(4).jam = jammed, jammed
	n = r.deposit(flat("R2"))
	c := r.closed()
	require.Equal(t, protocol.OutcomeDepositedOwed, c.Outcome, "%s", r)
	require.Zero(t, r.intents(protocol.PurposeReturn))
	require.True(t, barred(r, n))

	for name, b := range map[string]*battery{"somebody else's": flat("X9"), "too hot": {}} { // held
		r = recall(t)
		if name == "too hot" {
			*b = *flat("R2")
			b.hot = true
		}
		n = r.deposit(b)
		c = r.closed()
		require.Equal(t, protocol.OutcomeReview, c.Outcome, "%s: %s", name, r)
		require.Zero(t, r.intents(protocol.PurposeReturn), name)
		require.True(t, r.durable().Alarmed(protocol.AlarmHeldBattery, n), name)
	}
}

// TestFailure14To16NotAccepted: returned in the same slot, or held.
func TestFailure14To16NotAccepted(t *testing.T) {
	hot := flat("R1")
	hot.hot = true
	cases := []struct {
		name string
		b    *battery
		why  protocol.Reason
	}{
		{"somebody else's", flat("X9"), protocol.ReasonNotExpected},
		{"the serial of one that is inside", flat("C4"), protocol.ReasonSameSerialTwice},
		{"too hot", hot, protocol.ReasonTooHot},
	}
	for _, c := range cases {
		for _, taken := range []bool{true, false} {
			r := usual(t)
			r.start(1, protocol.KindSwap, "R1", "C4")
			b := *c.b
			r.deposit(&b)
			n := r.opened(protocol.PurposeReturn)
			d := records[protocol.Deposit](r)
			require.Len(t, d, 1)
			require.False(t, d[0].Accepted)
			require.Equal(t, c.why, d[0].Reason, c.name)
			if taken {
				r.box(n).in = nil
			}
			r.wait(tick)
			r.shut(n)
			end := r.closed()
			require.Equal(t, pick(taken, protocol.OutcomeReturned, protocol.OutcomeReview), end.Outcome, c.name)
			require.Equal(t, !taken, r.durable().Alarmed(protocol.AlarmHeldBattery, n), "%s\n%s", c.name, r)
			require.Zero(t, r.intents(protocol.PurposeDispense), "nothing for a battery that is not accepted")
			if !taken { // held until somebody has taken it out
				r.box(n).open, r.box(n).forced = true, true
				r.wait(3 * time.Second)
				r.box(n).in = nil
				r.shut(n)
				r.wait(70 * time.Second)
				require.Empty(t, r.durable().Alarms, "%s", r)
			}
		}
	}
}

func TestFailure18SensorsContradict(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	n := r.opened(protocol.PurposeDeposit)
	r.box(n).in, r.box(n).liar = flat("R1"), true // the switch says no
	r.shut(n)
	r.wait(14 * time.Second)
	require.Empty(t, records[protocol.Deposit](r), "unknown, never a choice")
	r.opened(protocol.PurposeReturn)
	require.Equal(t, protocol.ReasonSensorsDisagree, records[protocol.Deposit](r)[0].Reason)
	r.shut(n)
	c := r.closed()
	require.Equal(t, protocol.OutcomeReview, c.Outcome)
	require.Equal(t, []protocol.Outcome{protocol.OutcomeDepositedOwed, protocol.OutcomeNoDeposit}, c.Explanations)
}

// TestFailure09SlotHoldsABattery: a slot that was proposed as empty holds a
// battery. Found before the door opens, the next slot is used; come to light
// behind the open door, it is nobody's deposit and stays held.
func TestFailure09SlotHoldsABattery(t *testing.T) {
	r := usual(t)
	p := r.prepare(1, protocol.KindSwap).(protocol.Prepared)
	r.box(1).in = flat("X9")
	r.event(r.grantOf(p, protocol.KindSwap, "R1"))
	require.Equal(t, 2, r.deposit(flat("R1")))
	r.take(protocol.PurposeDispense)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
	require.Equal(t, protocol.BatterySerial("X9"), r.box(1).in.serial)
	for _, i := range records[protocol.Intent](r) {
		require.NotEqual(t, 1, i.Slot)
	}

	r = usual(t)
	r.start(1, protocol.KindSwap)
	r.deposit(flat("X9"))
	r.shut(r.opened(protocol.PurposeReturn))
	c := r.closed()
	require.Equal(t, protocol.OutcomeReview, c.Outcome)
	require.Zero(t, r.intents(protocol.PurposeDispense), "nothing for what the rider did not bring")
	require.True(t, r.durable().Alarmed(protocol.AlarmHeldBattery, 1))
	next := r.prepare(2, protocol.KindSwap).(protocol.Prepared)
	require.NotContains(t, next.DepositSlots, 1)
}

func TestFailure19DispenseDoorJams(t *testing.T) {
	r := usual(t)
	r.box(3).jam = jammed
	r.start(1, protocol.KindSwap)
	r.deposit(flat("R1"))
	n, b := r.take(protocol.PurposeDispense)
	require.Equal(t, 4, n)
	c := r.closed()
	require.Equal(t, protocol.OutcomeSwapped, c.Outcome)
	require.Equal(t, b.serial, c.Taken)
	require.True(t, r.durable().Alarmed(protocol.AlarmSlotFault, 3))
	require.Len(t, r.pulses, 4)
}

// TestFailure19NoAlternateWithoutProof: while the first slot is not closed with
// its battery inside, the next stays shut.
func TestFailure19NoAlternateWithoutProof(t *testing.T) {
	r := usual(t)
	r.box(3).stick = true
	r.start(1, protocol.KindSwap)
	r.deposit(flat("R1"))
	r.wait(5 * time.Minute)
	require.Len(t, r.pulses, 2, "the bolt is drawn: the door may open any moment")
	require.Equal(t, 1, r.alarms(protocol.AlarmDoorOpen))
	r.box(3).open, r.box(3).unlocked = true, false // at last
	r.wait(tick)
	r.box(3).in = nil
	r.wait(2 * tick)
	r.shut(3)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
}

func TestFailure20OfferedBatteryIsGone(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	n := r.opened(protocol.PurposeDeposit)
	r.box(3).in = nil // through the back wall
	r.box(n).in = flat("R1")
	r.wait(tick)
	r.shut(n)
	delete(r.accepted, "C3")
	got, _ := r.take(protocol.PurposeDispense)
	require.Equal(t, 4, got)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
	require.True(t, r.durable().Alarmed(protocol.AlarmSlotFault, 3))
}

func TestFailure21NothingCanBeDispensed(t *testing.T) {
	for _, jams := range []bool{false, true} {
		r := usual(t)
		r.box(3).jam, r.box(4).jam = jammed, jammed
		r.start(1, protocol.KindSwap)
		n := r.deposit(flat("R1"))
		want := protocol.OutcomeReturned
		if jams {
			want = protocol.OutcomeDepositedOwed
			r.box(n).jam = jammed
		} else {
			got, b := r.take(protocol.PurposeReturn)
			require.Equal(t, n, got)
			require.Equal(t, protocol.BatterySerial("R1"), b.serial)
		}
		require.Equal(t, want, r.closed().Outcome)
	}
	r := usual(t)
	r.box(3).jam, r.box(4).jam = jammed, jammed
	r.start(1, protocol.KindOwed)
	c := r.closed()
	require.Equal(t, protocol.OutcomeOwedNotTaken, c.Outcome)
	require.Equal(t, protocol.ReasonDoorDidNotOpen, c.Reason)
}

func TestFailure22NotTaken(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	r.deposit(flat("R1"))
	n := r.opened(protocol.PurposeDispense)
	r.shut(n)
	require.Equal(t, protocol.OutcomeDepositedOwed, r.closed().Outcome)
	require.Len(t, r.pulses, 2, "it is not opened again")
	p := r.prepare(2, protocol.KindOwed).(protocol.Prepared)
	require.Equal(t, n, p.Dispense[0].Slot, "sensed inside: back in stock")
}

func TestFailure23TakenAndLeftOpen(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	r.deposit(flat("R1"))
	n := r.opened(protocol.PurposeDispense)
	r.box(n).in = nil
	r.wait(110 * time.Second)
	require.Equal(t, []Prompt{{n, protocol.PurposeDispense}}, r.prompts)
	require.Zero(t, r.alarms(protocol.AlarmDoorOpen))
	r.wait(30 * time.Minute)
	require.Equal(t, 1, r.alarms(protocol.AlarmDoorOpen))
	require.Empty(t, records[protocol.Taken](r))
	r.shut(n) // whoever it is
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
}

func TestFailure25OwnBatteryIsBetter(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	own := flat("R1")
	own.soc = 99
	r.deposit(own)
	r.take(protocol.PurposeReturn)
	c := r.closed()
	require.Equal(t, protocol.OutcomeReturned, c.Outcome)
	require.Equal(t, protocol.ReasonNoChargedBattery, c.Reason)
}

// TestFailure32SafetyAlarmDuringASwap: no lock is pulsed any more; the sensors
// close the swap.
func TestFailure32SafetyAlarmDuringASwap(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	n := r.opened(protocol.PurposeDeposit)
	r.halt, r.refuse = true, protocol.ReasonAlarm
	r.box(n).in = flat("R1")
	r.wait(tick)
	r.shut(n)
	c := r.closed()
	require.Equal(t, protocol.OutcomeDepositedOwed, c.Outcome)
	require.Equal(t, protocol.ReasonAlarm, c.Reason)
	require.Len(t, r.pulses, 1)
	r.wait(time.Minute)
	require.Equal(t, protocol.ReasonAlarm, r.refused(t, protocol.KindOwed))

	r = usual(t) // between grant and ACCEPT
	p := r.prepare(1, protocol.KindSwap).(protocol.Prepared)
	r.halt = true
	r.event(r.grantOf(p, protocol.KindSwap, "R1"))
	r.wait(2 * time.Second)
	require.Equal(t, []protocol.Void{{SwapID: swapID(1), Reason: protocol.ReasonAlarm}}, records[protocol.Void](r))
}

// TestFailure33PulseWindow: no pulse later than 6 min after ACCEPT.
func TestFailure33PulseWindow(t *testing.T) {
	r := usual(t)
	r.box(3).stick = true
	r.start(1, protocol.KindSwap)
	r.deposit(flat("R1"))
	r.wait(7 * time.Minute)
	r.shut(3) // somebody presses it shut; the battery is inside
	c := r.closed()
	require.Equal(t, protocol.OutcomeDepositedOwed, c.Outcome)
	require.Equal(t, protocol.ReasonPulseWindowEnded, c.Reason)
	require.Len(t, r.pulses, 2)
}

func TestFailure33TakeAndReturnBetweenTwoReadings(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	r.deposit(flat("R1"))
	n := r.opened(protocol.PurposeDispense)
	b := r.box(n).in
	for range 7 { // in and out, in and out
		r.box(n).in = nil
		r.wait(tick)
		r.box(n).in = b
		r.wait(tick)
	}
	r.box(n).in = nil
	r.shut(n)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
	require.Len(t, records[protocol.Taken](r), 1)
}

// TestFailure36OneCauseOneAlarm: a dead line is one alarm, not one a slot.
func TestFailure36OneCauseOneAlarm(t *testing.T) {
	r := usual(t)
	for i := range r.boxes {
		r.boxes[i].dead = true
	}
	r.wait(10 * time.Minute)
	require.Equal(t, 1, r.alarms(protocol.AlarmBoardSilent))
	require.True(t, r.durable().Alarmed(protocol.AlarmBoardSilent, 0))
	for i := range r.boxes {
		r.boxes[i].dead = i == 2
	}
	r.wait(10 * time.Second)
	require.False(t, r.durable().Alarmed(protocol.AlarmBoardSilent, 0))
	require.True(t, r.durable().Alarmed(protocol.AlarmBoardSilent, 3), "%s", r)
	r.boxes[2].dead = false
	r.wait(5 * time.Second)
	require.Empty(t, r.durable().Alarms)
}

// TestFailure43DoorSticksAndOpensLater: "closed" needs the bolt, nothing else
// opens meanwhile, and no second pulse comes.
func TestFailure43DoorSticksAndOpensLater(t *testing.T) {
	r := usual(t)
	r.box(1).stick = true
	r.start(1, protocol.KindSwap)
	r.wait(time.Minute)
	require.Len(t, r.pulses, 1)
	require.NotNil(t, r.open())
	r.box(1).open, r.box(1).unlocked = true, false
	require.Equal(t, 1, r.deposit(flat("R1")))
	r.take(protocol.PurposeDispense)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
	require.Empty(t, records[protocol.Tamper](r), "a pulsed door that opens late is no thief")
}

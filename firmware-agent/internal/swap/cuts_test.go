package swap

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// The table "Power cut at …" of the protocol, row by row. Rows 16 (segment roll)
// and 18 (backend, broker) are of the journal and of the backend.

// cutWhen cuts the power at the n-th boundary so named; the rig stays off.
func (r *rig) cutWhen(where string, n int) {
	r.cut = func(at string) bool {
		if at != where {
			return false
		}
		n--
		return n == 0
	}
}

// off waits for the cut.
func (r *rig) off() {
	for range 4000 {
		if !r.on {
			r.cut = nil
			return
		}
		r.tick()
	}
	require.Fail(r.t, "the power was not cut", "%s", r)
}

// back boots and demands that no lock is pulsed until a new ACCEPT.
func (r *rig) back() {
	pulses := len(r.pulses)
	r.boot()
	r.wait(5 * time.Second)
	require.Len(r.t, r.pulses, pulses, "I6: a boot opened a door\n%s", r)
}

// begin prepares and grants without waiting for ACCEPT.
func (r *rig) begin(k protocol.Kind) {
	p, ok := r.prepare(1, k).(protocol.Prepared)
	require.True(r.t, ok)
	var expect []protocol.BatterySerial
	if k.Deposits() {
		expect = append(expect, "R1")
	}
	r.event(r.grantOf(p, k, expect...))
}

func (r *rig) noSwap() {
	require.Nil(r.t, r.open(), "%s", r)
	require.Empty(r.t, records[protocol.Closed](r), "%s", r)
}

func TestCut00AfterPreparedTheNonceIsGone(t *testing.T) {
	r := usual(t)
	p := r.prepare(1, protocol.KindSwap).(protocol.Prepared)
	g := r.grantOf(p, protocol.KindSwap, "R1")
	r.restart()
	r.event(g)
	r.wait(time.Minute)
	r.noSwap()
	require.Empty(t, r.pulses)
	require.Contains(t, r.rejected, whyNonce)
}

func TestCut01BeforeAcceptIsSyncedNothingBegan(t *testing.T) {
	r := usual(t)
	r.cutWhen("before ACCEPT", 1)
	r.begin(protocol.KindSwap)
	r.off()
	r.back()
	r.noSwap()
}

func TestCut02AfterAcceptNothingIsDeposited(t *testing.T) {
	for k, want := range map[protocol.Kind]protocol.Outcome{
		protocol.KindSwap: protocol.OutcomeNoDeposit, protocol.KindOwed: protocol.OutcomeOwedNotTaken,
		protocol.KindIssue: protocol.OutcomeIssueNotTaken, protocol.KindHandBack: protocol.OutcomeNoDeposit,
	} {
		r := usual(t)
		r.cutWhen("before INTENT", 1)
		r.begin(k)
		r.off()
		r.back()
		c := r.closed()
		require.Equal(t, want, c.Outcome)
		require.Equal(t, protocol.ReasonPowerCut, c.Reason)
	}
}

func TestCut03BeforeTheDepositPulse(t *testing.T) {
	r := usual(t)
	r.cutWhen("before pulse", 1)
	r.begin(protocol.KindSwap)
	r.off()
	r.back()
	require.Equal(t, protocol.OutcomeNoDeposit, r.closed().Outcome)
}

func TestCut04AfterTheDepositPulse(t *testing.T) {
	cases := []struct {
		name string
		kind protocol.Kind
		do   func(b *box)
		want protocol.Outcome
		why  protocol.Reason
	}{
		{"empty", protocol.KindSwap, func(*box) {}, protocol.OutcomeNoDeposit, protocol.ReasonPowerCut},
		{"in", protocol.KindSwap, func(b *box) { b.in = flat("R1") }, protocol.OutcomeDepositedOwed, protocol.ReasonPowerCut},
		{"in, to hand back", protocol.KindHandBack, func(b *box) { b.in = flat("R1") }, protocol.OutcomeHandedBack, protocol.ReasonPowerCut},
		{"not theirs", protocol.KindSwap, func(b *box) { b.in = flat("X9") }, protocol.OutcomeReview, protocol.ReasonHeldBattery},
		{"not plugged in", protocol.KindSwap, func(b *box) { b.in, b.mute = flat("R1"), true }, protocol.OutcomeReview, protocol.ReasonHeldBattery},
		{"too hot", protocol.KindSwap, func(b *box) { b.in = &battery{serial: "R1", soc: 10, hot: true} }, protocol.OutcomeReview, protocol.ReasonHeldBattery},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := usual(t)
			r.cutWhen("after pulse", 1)
			r.begin(c.kind)
			r.off()
			c.do(r.box(1))
			r.back()
			r.wait(5 * time.Minute)
			require.NotNil(t, r.open(), "R2: only closed gives a final reading\n%s", r)
			require.Equal(t, 1, r.alarms(protocol.AlarmDoorOpen), "%s", r)
			r.shut(1)
			end := r.closed()
			require.Equal(t, c.want, end.Outcome, "%s", r)
			require.Equal(t, c.why, end.Reason)
			held := c.want == protocol.OutcomeReview
			require.Equal(t, held, r.durable().Alarmed(protocol.AlarmHeldBattery, 1))
		})
	}
}

func TestCut05BeforeDepositIsSynced(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap, "R1")
	r.cutWhen("before DEPOSIT", 1)
	r.deposit(flat("R1"))
	r.off()
	r.back()
	require.Equal(t, protocol.OutcomeDepositedOwed, r.closed().Outcome)
	d := records[protocol.Deposit](r)
	require.Len(t, d, 1)
	require.True(t, d[0].Accepted)
	require.Equal(t, protocol.ReasonPowerCut, d[0].Reason)
}

func TestCut06AfterDeposit(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap, "R1")
	r.cutWhen("before INTENT", 1)
	r.deposit(flat("R1"))
	r.off()
	r.back()
	require.Equal(t, protocol.OutcomeDepositedOwed, r.closed().Outcome)
	require.Len(t, records[protocol.Deposit](r), 1)
}

// dispensing goes on to the dispense of slot 3, with the cut at a boundary.
func dispensing(t *testing.T, where string, n int) *rig {
	r := usual(t)
	r.start(1, protocol.KindSwap, "R1")
	r.cutWhen(where, n)
	r.deposit(flat("R1"))
	return r
}

func TestCut07BeforeTheDispensePulse(t *testing.T) {
	r := dispensing(t, "before pulse", 1)
	r.off()
	r.back()
	require.Equal(t, protocol.OutcomeDepositedOwed, r.closed().Outcome)
	i, _ := r.lastIntent()
	require.Zero(t, i.Slot)
}

func TestCut08AfterTheDispensePulse(t *testing.T) {
	cases := []struct {
		name string
		do   func(b *box)
		want protocol.Outcome
		why  protocol.Reason
	}{
		{"gone", func(b *box) { b.in = nil }, protocol.OutcomeSwapped, protocol.ReasonPowerCut},
		{"same", func(*box) {}, protocol.OutcomeDepositedOwed, protocol.ReasonPowerCut},
		{"other", func(b *box) { b.in = flat("X8") }, protocol.OutcomeReview, protocol.ReasonOtherBattery},
		{"not plugged in", func(b *box) { b.mute = true }, protocol.OutcomeReview, protocol.ReasonSensorsDisagree},
		{"sensors contradict", func(b *box) { b.liar = true }, protocol.OutcomeReview, protocol.ReasonSensorsDisagree},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := dispensing(t, "after pulse", 1)
			r.off()
			r.back()
			c.do(r.box(3))
			r.wait(30 * time.Second)
			require.NotNil(t, r.open(), "R2: slot 3 is open\n%s", r)
			r.shut(3)
			end := r.closed()
			require.Equal(t, c.want, end.Outcome, "%s", r)
			require.Equal(t, c.why, end.Reason)
		})
	}
}

func TestCut09TakenAndDoorOpen(t *testing.T) {
	for _, back := range []bool{false, true} {
		r := dispensing(t, "none", 1)
		n := r.opened(protocol.PurposeDispense)
		b := r.box(n).in
		r.box(n).in = nil
		r.powerOff()
		r.back()
		require.NotNil(t, r.open())
		want := protocol.OutcomeSwapped
		if back { // it may be put back
			r.box(n).in = b
			want = protocol.OutcomeDepositedOwed
		}
		r.shut(n)
		require.Equal(t, want, r.closed().Outcome)
	}
}

func TestCut10BeforeTakenIsSynced(t *testing.T) {
	r := dispensing(t, "before TAKEN", 1)
	r.take(protocol.PurposeDispense)
	r.off()
	r.back()
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
	require.Len(t, records[protocol.Taken](r), 1)
}

func TestCut10bBetweenTakenAndClosed(t *testing.T) {
	r := dispensing(t, "before CLOSED", 1)
	r.take(protocol.PurposeDispense)
	r.off()
	require.Len(t, records[protocol.Taken](r), 1)
	r.box(3).dead = true // even if nothing can be sensed any more: it counts
	r.back()
	c := r.closed()
	require.Equal(t, protocol.OutcomeSwapped, c.Outcome)
	require.Equal(t, protocol.BatterySerial("C3"), c.Taken)
	require.Equal(t, protocol.BatterySerial("R1"), c.Deposited)
	require.Len(t, records[protocol.Taken](r), 1, "I3")
}

func TestCut11And12AfterClosedNothingIsLeftToDo(t *testing.T) {
	r := dispensing(t, "none", 1)
	r.take(protocol.PurposeDispense)
	r.closed()
	n := len(r.journal)
	r.restart()
	r.wait(time.Minute)
	require.NotNil(t, r.machine)
	require.Len(t, r.journal, n+1, "BOOT, and no other record\n%s", r)
}

func TestCut13AlternateDispenseSlot(t *testing.T) {
	cases := []struct {
		name string
		do   func(r *rig)
		want protocol.Outcome
	}{
		{"the alternate is gone", func(r *rig) { r.box(4).in = nil }, protocol.OutcomeSwapped},
		{"both are inside", func(*rig) {}, protocol.OutcomeDepositedOwed},
		{"the first is gone", func(r *rig) { r.box(3).in = nil }, protocol.OutcomeReview},
		{"both are gone", func(r *rig) { r.box(3).in, r.box(4).in = nil, nil }, protocol.OutcomeReview},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := usual(t)
			r.box(3).jam = jammed
			r.start(1, protocol.KindSwap, "R1")
			r.cutWhen("after pulse", 3) // 3, 3, 4
			r.deposit(flat("R1"))
			r.off()
			c.do(r)
			r.back()
			r.wait(10 * time.Second)
			r.shut(4)
			require.Equal(t, c.want, r.closed().Outcome, "%s", r)
		})
	}
}

func TestCut14SecondDepositSlot(t *testing.T) {
	cases := []struct {
		name string
		do   func(r *rig)
		want protocol.Outcome
	}{
		{"the second has it", func(r *rig) { r.box(2).in = flat("R1") }, protocol.OutcomeDepositedOwed},
		{"none has it", func(*rig) {}, protocol.OutcomeNoDeposit},
		{"the first has it", func(r *rig) { r.box(1).in = flat("R1") }, protocol.OutcomeReview},
		{"both have one", func(r *rig) { r.box(1).in, r.box(2).in = flat("R1"), flat("R2") }, protocol.OutcomeReview},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := usual(t)
			r.box(1).jam = jammed
			r.cutWhen("after pulse", 3) // 1, 1, 2
			r.begin(protocol.KindSwap)
			r.off()
			c.do(r)
			r.back()
			r.wait(10 * time.Second)
			r.shut(2)
			require.Equal(t, c.want, r.closed().Outcome, "%s", r)
		})
	}
}

func TestCut15Return(t *testing.T) {
	cases := []struct {
		name string
		own  bool
		do   func(b *box)
		want protocol.Outcome
	}{
		{"own, gone", true, func(b *box) { b.in = nil }, protocol.OutcomeReturned},
		{"own, in", true, func(*box) {}, protocol.OutcomeDepositedOwed},
		{"own, another came", true, func(b *box) { b.in = flat("X7") }, protocol.OutcomeReview},
		{"bad, gone", false, func(b *box) { b.in = nil }, protocol.OutcomeReturned},
		{"bad, in", false, func(*box) {}, protocol.OutcomeReview},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := usual(t)
			r.start(1, protocol.KindSwap, "R1")
			deposit := flat("X9")
			if c.own {
				r.box(3).jam, r.box(4).jam = jammed, jammed
				deposit = flat("R1")
			}
			r.deposit(deposit)
			r.opened(protocol.PurposeReturn)
			r.powerOff()
			c.do(r.box(1))
			r.back()
			r.wait(10 * time.Second)
			r.shut(1)
			require.Equal(t, c.want, r.closed().Outcome, "%s", r)
		})
	}
}

// TestCut17TheFlashLied: the newest record has vanished, and the world is one
// step ahead of the journal. R5 finds the one explanation.
func TestCut17TheFlashLied(t *testing.T) {
	forget := func(r *rig, is protocol.Purpose) {
		i, ok := r.journal[len(r.journal)-1].p.(protocol.Intent)
		require.True(t, ok && i.Purpose == is, "%s", r)
		r.journal = r.journal[:len(r.journal)-1]
	}
	for _, taken := range []bool{true, false} {
		// INTENT dispense vanished: the journal says DEPOSIT.
		r := dispensing(t, "after pulse", 1)
		r.off()
		forget(r, protocol.PurposeDispense)
		want := protocol.OutcomeDepositedOwed
		if taken {
			r.box(3).in = nil
			want = protocol.OutcomeSwapped
		}
		r.back()
		require.NotNil(t, r.open(), "a granted slot is open\n%s", r)
		r.shut(3)
		require.Equal(t, want, r.closed().Outcome, "%s", r)

		// INTENT dispense of an owed vanished: the journal says ACCEPT.
		r = usual(t)
		r.cutWhen("after pulse", 1)
		r.begin(protocol.KindOwed)
		r.off()
		forget(r, protocol.PurposeDispense)
		want = protocol.OutcomeOwedNotTaken
		if taken {
			r.box(3).in = nil
			want = protocol.OutcomeOwedTaken
		}
		r.back()
		r.shut(3)
		require.Equal(t, want, r.closed().Outcome, "%s", r)

		// INTENT return vanished: the journal says INTENT dispense.
		r = usual(t)
		r.box(3).jam, r.box(4).jam = jammed, jammed
		r.start(1, protocol.KindSwap, "R1")
		r.cutWhen("after pulse", 5) // 3, 3, 4, 4, 1
		r.deposit(flat("R1"))
		r.off()
		forget(r, protocol.PurposeReturn)
		want = protocol.OutcomeDepositedOwed
		if taken {
			r.box(1).in = nil
			want = protocol.OutcomeReturned
		}
		r.back()
		require.NotNil(t, r.open(), "the deposit slot is open\n%s", r)
		r.shut(1)
		require.Equal(t, want, r.closed().Outcome, "%s", r)
	}
}

// TestR5DifferencesOutsideTheGrant: what the swap cannot have done makes its end
// uncertain too.
func TestR5DifferencesOutsideTheGrant(t *testing.T) {
	r := dispensing(t, "after pulse", 1)
	r.off()
	r.box(3).in = nil
	r.shut(3)
	r.box(5).in = flat("X5") // in the dark somebody changed a battery
	r.back()
	c := r.closed()
	require.Equal(t, protocol.OutcomeReview, c.Outcome)
	require.Equal(t, protocol.ReasonInventoryDiffers, c.Reason)
	require.True(t, r.durable().Alarmed(protocol.AlarmHeldBattery, 5))
}

// TestBootNeedsNoUnrelatedBoard: a slot that is silent and has nothing to do with
// the swap does not keep it open for ever; one that was pulsed does.
func TestBootNeedsNoUnrelatedBoard(t *testing.T) {
	r := dispensing(t, "after pulse", 1)
	r.off()
	r.box(3).in = nil
	r.shut(3)
	r.box(5).dead = true
	r.back()
	require.NotNil(t, r.open(), "an unknown slot is waited for")
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)

	r = dispensing(t, "after pulse", 1)
	r.off()
	r.box(3).in = nil
	r.shut(3)
	r.box(3).dead = true
	r.back()
	r.wait(20 * time.Minute)
	require.NotNil(t, r.open(), "silence proves nothing")
	require.Equal(t, 1, r.alarms(protocol.AlarmBoardSilent))
	r.box(3).dead = false
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
}

// TestTwoCuts: a restart that is cut again goes on where the facts are.
func TestTwoCuts(t *testing.T) {
	r := dispensing(t, "after pulse", 1)
	r.off()
	r.back()
	r.restart()
	r.restart()
	r.box(3).in = nil
	r.shut(3)
	r.cutWhen("before CLOSED", 1)
	r.off()
	r.back()
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
	require.Len(t, records[protocol.Taken](r), 1)
}

// TestRecoveryCannotPulse (I6): what a recovery gives are Effects, and a pulse is
// none; nothing that it gives holds one.
func TestRecoveryCannotPulse(t *testing.T) {
	effect := reflect.TypeFor[Effect]()
	require.False(t, reflect.TypeFor[Pulse]().Implements(effect))
	require.False(t, reflect.TypeFor[*Pulse]().Implements(effect))
	step, ok := reflect.TypeFor[Recovery]().MethodByName("Step")
	require.True(t, ok)
	for i := range step.Type.NumOut() {
		out := step.Type.Out(i).String()
		require.False(t, strings.Contains(out, "Pulse") || strings.Contains(out, "Plan"), "I6: Recovery.Step gives a %s", out)
	}
	for _, e := range []Effect{Append{}, Reply{}, Hurry{}, Rejected{}, Prompt{}} {
		for i := range reflect.TypeOf(e).NumField() {
			require.NotContains(t, reflect.TypeOf(e).Field(i).Type.String(), "Pulse", "I6: %T holds a pulse", e)
		}
	}
}

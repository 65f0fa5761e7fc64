package swap

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

func (r *rig) refused(t *testing.T, k protocol.Kind) protocol.Reason {
	t.Helper()
	m := r.prepare(9, k)
	ref, ok := m.(protocol.Refused)
	require.True(t, ok, "%+v", m)
	require.NoError(t, ref.Validate())
	return ref.Reason
}

func TestPrepareProposes(t *testing.T) {
	r := usual(t)
	r.box(4).in.soc = 99
	r.wait(5 * time.Second)
	p := r.prepare(1, protocol.KindSwap).(protocol.Prepared)
	require.NoError(t, p.Validate())
	require.Equal(t, []int{1, 2}, p.DepositSlots)
	require.Equal(t, []protocol.Offer{{Slot: 4, BatterySerial: "C4", Soc: 99}, {Slot: 3, BatterySerial: "C3", Soc: 96}}, p.Dispense,
		"the fullest first; the flat one in slot 5 is not offered")
	require.Equal(t, r.bootID(), p.BootID)
	require.Equal(t, r.bootSeq, p.BootSeq)

	r = usual(t)
	p = r.prepare(1, protocol.KindOwed).(protocol.Prepared)
	require.Empty(t, p.DepositSlots)
	require.NotEmpty(t, p.Dispense)
	r = usual(t)
	p = r.prepare(1, protocol.KindHandBack).(protocol.Prepared)
	require.NotEmpty(t, p.DepositSlots)
	require.Empty(t, p.Dispense)
}

func TestPrepareRepeatedGetsTheSameNonce(t *testing.T) {
	r := usual(t)
	first := r.prepare(1, protocol.KindSwap)
	r.wait(3 * time.Second)
	require.Equal(t, first, r.prepare(1, protocol.KindSwap))
	require.Equal(t, protocol.ReasonBusy, r.refused(t, protocol.KindSwap), "another swap waits")
	was := len(r.replies)
	r.prepare(1, protocol.KindOwed)
	require.Len(t, r.replies, was, "another kind under the same name is no answer")
	require.Contains(t, r.rejected, whyKind)
	r.event(r.grantOf(first.(protocol.Prepared), protocol.KindSwap, "R1"))
	r.until(5*time.Second, "ACCEPT", func() bool { return r.open() != nil })
	was = len(r.replies)
	r.prepare(1, protocol.KindSwap)
	require.Len(t, r.replies, was, "the records of an accepted swap are the answer")
}

func TestPrepareIsRefused(t *testing.T) {
	cases := []struct {
		name string
		kind protocol.Kind
		set  func(r *rig)
		want protocol.Reason
	}{
		{"a door is open", protocol.KindSwap, func(r *rig) { r.box(5).open = true }, protocol.ReasonBusy},
		{"a bolt is drawn", protocol.KindSwap, func(r *rig) { r.box(5).unlocked = true }, protocol.ReasonBusy},
		{"out of service", protocol.KindSwap, func(r *rig) { r.refuse = protocol.ReasonOutOfService }, protocol.ReasonOutOfService},
		{"alarm", protocol.KindSwap, func(r *rig) { r.refuse = protocol.ReasonAlarm }, protocol.ReasonAlarm},
		{"staff took it out", protocol.KindSwap, func(r *rig) {
			r.event(Configure{Config: protocol.CabinetConfig{Version: 1, OutOfService: true}})
		}, protocol.ReasonOutOfService},
		{"the only charged ones are flagged", protocol.KindSwap, func(r *rig) {
			r.event(Configure{Config: protocol.CabinetConfig{Version: 1, FlaggedSerials: []protocol.BatterySerial{"C3", "C4"}}})
		}, protocol.ReasonNoChargedBattery},
		{"their slots are out", protocol.KindOwed, func(r *rig) {
			r.event(Configure{Config: protocol.CabinetConfig{Version: 1, SlotsOut: []int{3, 4}}})
		}, protocol.ReasonNoChargedBattery},
		{"one empty slot for a hand back", protocol.KindHandBack, func(r *rig) { r.box(1).in = flat("Z1") }, protocol.ReasonNoEmptySlot},
		{"silent sensors are not empty", protocol.KindSwap, func(r *rig) { r.box(1).dead, r.box(2).dead = true, true }, protocol.ReasonNoEmptySlot},
		{"contradicting sensors are not empty", protocol.KindSwap, func(r *rig) {
			r.box(1).in, r.box(1).liar, r.box(2).in, r.box(2).mute = flat("Z1"), true, flat("Z2"), true
		}, protocol.ReasonNoEmptySlot},
		{"one serial in two places", protocol.KindSwap, func(r *rig) { r.box(4).in.serial = "C3" }, protocol.ReasonNoChargedBattery},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := usual(t)
			c.set(r)
			r.wait(8 * time.Second)
			require.Equal(t, c.want, r.refused(t, c.kind))
			require.Empty(t, r.minted, "no nonce for a refused one")
		})
	}
	t.Run("not read yet", func(t *testing.T) {
		r := newRig(t, box{}, box{in: charged("C2")})
		require.Equal(t, protocol.ReasonBusy, r.refused(t, protocol.KindSwap))
		r.refuse = protocol.ReasonOutOfService
		require.Equal(t, protocol.ReasonOutOfService, r.refused(t, protocol.KindSwap))
	})
}

func TestPrepareNeedsPresenceForATakeOnly(t *testing.T) {
	for k, needed := range map[protocol.Kind]bool{
		protocol.KindSwap: false, protocol.KindHandBack: false, protocol.KindOwed: true, protocol.KindIssue: true,
	} {
		r := usual(t)
		r.event(Prepare{Prepare: protocol.Prepare{SwapID: swapID(1), Kind: k}, Random: r.nonce()})
		_, refused := r.replies[0].(protocol.Refused)
		require.Equal(t, needed, refused, "%s", k)
	}
}

func TestGrantIsRefused(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(r *rig, g *Grant)
		why   string
	}{
		{"another nonce", func(_ *rig, g *Grant) { g.Nonce[3] = 9 }, whyNonce},
		{"another swap", func(_ *rig, g *Grant) { g.SwapID = swapID(2) }, whyNonce},
		{"another boot", func(_ *rig, g *Grant) { g.BootID[3] = 9 }, whyBoot},
		{"another kind", func(_ *rig, g *Grant) { g.Kind = protocol.KindHandBack }, whyKind},
		{"a deposit slot that was not proposed", func(_ *rig, g *Grant) { g.DepositSlots = []int{5} }, whySlots},
		{"a dispense slot that was not proposed", func(_ *rig, g *Grant) { g.Dispense = []protocol.Offer{{Slot: 5, BatterySerial: "F5"}} }, whySlots},
		{"another battery in a proposed slot", func(_ *rig, g *Grant) { g.Dispense = []protocol.Offer{{Slot: 3, BatterySerial: "C4"}} }, whySlots},
		{"no battery expected", func(_ *rig, g *Grant) { g.ExpectSerials = nil }, whySlots},
		{"an envelope that no record can carry", func(_ *rig, g *Grant) { g.Raw = []byte(string(g.Raw) + strings.Repeat(" ", maxGrant)) }, whyTooLarge},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := usual(t)
			p := r.prepare(1, protocol.KindSwap).(protocol.Prepared)
			good := r.grantOf(p, protocol.KindSwap, "R1")
			bad := r.grantOf(p, protocol.KindSwap, "R1")
			c.spoil(r, &bad)
			r.event(bad)
			r.wait(2 * time.Second)
			require.Equal(t, []string{c.why}, r.rejected)
			r.noSwap()
			require.Empty(t, r.pulses)
			r.event(good)
			r.until(5*time.Second, "ACCEPT of the good one", func() bool { return r.open() != nil })
		})
	}
}

func TestGrantUsesASubset(t *testing.T) {
	r := usual(t)
	p := r.prepare(1, protocol.KindSwap).(protocol.Prepared)
	p.DepositSlots, p.Dispense = p.DepositSlots[1:], p.Dispense[1:]
	r.event(r.grantOf(p, protocol.KindSwap, "R1"))
	require.Equal(t, 2, r.deposit(flat("R1")))
	n, b := r.take(protocol.PurposeDispense)
	require.Equal(t, 4, n)
	require.Equal(t, protocol.BatterySerial("C4"), b.serial)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
}

// TestGrantWaitsForNewReadings: what was read before the grant came does not
// count, and what has changed since voids the swap.
func TestGrantWaitsForNewReadings(t *testing.T) {
	r := usual(t)
	p := r.prepare(1, protocol.KindSwap).(protocol.Prepared)
	r.event(r.grantOf(p, protocol.KindSwap, "R1"))
	require.ElementsMatch(t, []int{1, 2, 3, 4}, r.hurried)
	require.Nil(t, r.open(), "nothing newer than the grant has been read")
	r.tick()
	require.NotNil(t, r.open())

	r = usual(t)
	p = r.prepare(1, protocol.KindSwap).(protocol.Prepared)
	r.box(3).in, r.box(4).in = nil, nil
	r.event(r.grantOf(p, protocol.KindSwap, "R1"))
	r.wait(2 * time.Second)
	r.noSwap()
	require.Equal(t, []protocol.Void{{SwapID: swapID(1), Reason: protocol.ReasonNoChargedBattery}}, records[protocol.Void](r))
	require.Empty(t, r.pulses)

	r = usual(t)
	p = r.prepare(1, protocol.KindSwap).(protocol.Prepared)
	for i := range r.boxes {
		r.boxes[i].dead = true
	}
	r.event(r.grantOf(p, protocol.KindSwap, "R1"))
	r.wait(20 * time.Second)
	r.noSwap()
	require.Len(t, records[protocol.Void](r), 1, "and without new readings it is void 15 s after prepared")
}

func TestGrantComesTooLateOrTwice(t *testing.T) {
	r := usual(t)
	p := r.prepare(1, protocol.KindSwap).(protocol.Prepared)
	g := r.grantOf(p, protocol.KindSwap, "R1")
	r.wait(16 * time.Second)
	r.event(g)
	r.wait(5 * time.Second)
	r.noSwap()
	require.Contains(t, r.rejected, whyNonce)
	require.Nil(t, r.prepare(1, protocol.KindSwap), "VOID holds for the whole boot")
	require.Contains(t, r.rejected, whyOver)

	r = usual(t)
	g = r.start(1, protocol.KindSwap)
	r.event(g)
	r.deposit(flat("R1"))
	r.event(g)
	r.take(protocol.PurposeDispense)
	r.event(g)
	r.closed()
	r.event(g)
	r.event(Prepare{Prepare: protocol.Prepare{SwapID: swapID(1), Kind: protocol.KindSwap}, Random: r.nonce(), Present: true})
	r.event(g)
	r.wait(time.Minute)
	require.Len(t, records[protocol.Accept](r), 1, "I5")
	require.Len(t, r.pulses, 2)
}

func TestCancel(t *testing.T) {
	r := usual(t)
	r.prepare(1, protocol.KindSwap)
	r.event(Cancel{protocol.Cancel{SwapID: swapID(1)}})
	r.event(Cancel{protocol.Cancel{SwapID: swapID(1)}})
	require.Equal(t, []protocol.Void{{SwapID: swapID(1)}}, records[protocol.Void](r))
	require.NotNil(t, r.prepare(2, protocol.KindSwap), "the next may come at once")

	// One of which nothing is known is answered too, but not without bound.
	r = usual(t)
	for n := range 100 {
		r.event(Cancel{protocol.Cancel{SwapID: swapID(100 + n)}})
	}
	require.Len(t, records[protocol.Void](r), voidsPerMinute)
	require.Contains(t, r.rejected, whyVoids)
	r.wait(61 * time.Second)
	r.event(Cancel{protocol.Cancel{SwapID: swapID(300)}})
	require.Len(t, records[protocol.Void](r), voidsPerMinute+1)
	require.Nil(t, r.prepare(300, protocol.KindSwap), "void in this boot")
}

func TestWishRecheckOpensNothing(t *testing.T) {
	r := usual(t)
	r.event(Wish{protocol.Wish{SwapID: swapID(1), What: protocol.WishRecheck}})
	require.Empty(t, r.hurried)
	r.start(1, protocol.KindSwap)
	n := r.opened(protocol.PurposeDeposit)
	r.hurried = nil
	for range 50 {
		r.event(Wish{protocol.Wish{SwapID: swapID(1), What: protocol.WishRecheck}})
	}
	require.Contains(t, r.hurried, n)
	require.Len(t, r.pulses, 1)
	r.restart()
	r.hurried = nil
	r.event(Wish{protocol.Wish{SwapID: swapID(1), What: protocol.WishRecheck}})
	require.NotEmpty(t, r.hurried, "after a restart too")
}

func TestConfigure(t *testing.T) {
	r := usual(t)
	cfg := protocol.CabinetConfig{Version: 3, SlotsOut: []int{2}, FlaggedSerials: []protocol.BatterySerial{"B7"}}
	r.event(Configure{Config: cfg, KeysVersion: 2})
	r.event(Configure{Config: cfg, KeysVersion: 2})
	require.Equal(t, []protocol.ConfigApplied{{Config: cfg, KeysVersion: 2}}, records[protocol.ConfigApplied](r))
	r.event(Configure{Config: protocol.CabinetConfig{Version: 2}, KeysVersion: 2})
	require.Equal(t, []string{whyVersion}, r.rejected)
	r.event(Configure{Config: cfg, KeysVersion: 3})
	require.Len(t, records[protocol.ConfigApplied](r), 2, "a newer key list is confirmed too")
	r.restart()
	require.Equal(t, cfg, r.durable().Config)
	require.Equal(t, int64(3), r.durable().KeysVersion)
	many := protocol.CabinetConfig{Version: 4, FlaggedSerials: make([]protocol.BatterySerial, protocol.MaxFlaggedSerials+1)}
	r.event(Configure{Config: many})
	require.Contains(t, r.rejected, whyConfig)
	require.Equal(t, cfg, r.durable().Config)
}

// TestBucket (I8): pulses come back an hour of running time after they were
// spent, and no swap begins with fewer than it may need.
func TestBucket(t *testing.T) {
	r := usual(t)
	r.limits.MaxPulsesPerHour = 20
	r.restart()
	for n := 1; n <= 2; n++ { // two pulses: 18 are left
		require.IsType(t, protocol.Prepared{}, r.prepare(n, protocol.KindSwap))
		r.event(Cancel{protocol.Cancel{SwapID: swapID(n)}})
	}
	r.start(3, protocol.KindSwap)
	r.deposit(nil)
	r.closed()
	r.start(4, protocol.KindSwap)
	r.deposit(nil)
	r.closed()
	require.IsType(t, protocol.Prepared{}, r.prepare(5, protocol.KindSwap))
	r.event(Cancel{protocol.Cancel{SwapID: swapID(5)}})
	r.start(6, protocol.KindSwap)
	r.deposit(nil)
	r.closed()
	require.Equal(t, protocol.ReasonBusy, r.refused(t, protocol.KindSwap))
	require.Equal(t, 1, r.alarms(protocol.AlarmPulses))
	r.powerOff()
	r.boot() // time without power refills nothing
	r.wait(50 * time.Minute)
	require.Equal(t, protocol.ReasonBusy, r.refused(t, protocol.KindSwap))
	r.restart()
	r.restart()
	require.Equal(t, protocol.ReasonBusy, r.refused(t, protocol.KindSwap), "nor does a restart")
	r.wait(61 * time.Minute)
	require.IsType(t, protocol.Prepared{}, r.prepare(10, protocol.KindSwap))
	require.False(t, r.durable().Alarmed(protocol.AlarmPulses, 0))
}

// TestBucketRefillsInALaterBoot: running time goes on where the last boot ended.
func TestBucketRefillsInALaterBoot(t *testing.T) {
	r := usual(t)
	r.limits.MaxPulsesPerHour = 18
	r.restart()
	r.wait(2 * time.Hour)
	r.start(1, protocol.KindSwap)
	r.deposit(nil)
	r.closed()
	r.restart()
	require.Equal(t, protocol.ReasonBusy, r.refused(t, protocol.KindSwap))
	r.wait(61 * time.Minute)
	require.IsType(t, protocol.Prepared{}, r.prepare(2, protocol.KindSwap))
}

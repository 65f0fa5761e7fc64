package safety_test

import (
	"flag"
	"hash/fnv"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
	"batteryswap/protocol/slotboard"
)

// `make safety` has a thousand runs of each danger in each trouble.
var (
	runsFlag = flag.Int("runs", usualRuns, "runs of each danger in each trouble")
	seedFlag = flag.Uint64("seed", 1, "chance begins here: the same seed is the same runs")
)

// limit is what a cut may take, from the fact to the last current.
const limit = 2 * time.Second

// danger is one thing that must take power away.
type danger struct {
	name string
	// fact makes it so, off says that the power that matters is gone.
	fact func(r *rig, n int, random *rand.Rand)
	off  func(b *boards, n int) bool
	kind protocol.AlarmKind
	slot bool // the alarm is the slot's
	// halt: no lock is moved any more. idle: it is of a slot that is not charged.
	halt, idle bool
}

func slotOff(b *boards, n int) bool { return !b.power(n) }
func allOff(b *boards, _ int) bool {
	for n := range b.units {
		if b.power(n + 1) {
			return false
		}
	}
	return true
}

func dangers() []danger {
	senses := func(bit slotboard.CabinetStatus) func(*rig, int, *rand.Rand) {
		return func(r *rig, _ int, _ *rand.Rand) { r.boards.own.Status |= bit }
	}
	is := func(change func(*unit, *rand.Rand)) func(*rig, int, *rand.Rand) {
		return func(r *rig, n int, random *rand.Rand) { change(r.boards.units[n-1], random) }
	}
	return []danger{
		{name: "smoke in the cabinet", fact: senses(slotboard.CabinetSmoke), off: allOff, kind: protocol.AlarmSmoke, halt: true},
		{
			name: "smoke in a slot", fact: is(func(u *unit, _ *rand.Rand) { u.smoke = true }),
			off: allOff, kind: protocol.AlarmSmoke, slot: true, halt: true,
		},
		{
			name: "over-temperature", fact: is(func(u *unit, _ *rand.Rand) { u.deciC = 605 }),
			off: slotOff, kind: protocol.AlarmTemperature, slot: true,
		},
		{
			name: "rate of rise",
			fact: is(func(u *unit, random *rand.Rand) { u.perS, u.risingAt = 1.2+1.5*random.Float64(), time.Now() }),
			off:  allOff, kind: protocol.AlarmHeatRate, slot: true, halt: true,
		},
		{
			name: "silent sensor", fact: is(func(u *unit, _ *rand.Rand) { u.mute = true }),
			off: slotOff, kind: protocol.AlarmSensorSilent, slot: true,
		},
		{
			name: "current while off", fact: is(func(u *unit, _ *rand.Rand) { u.stuck = true }),
			off: allOff, kind: protocol.AlarmCurrentOff, slot: true, halt: true, idle: true,
		},
		{name: "emergency stop", fact: senses(slotboard.EmergencyStop), off: allOff, kind: protocol.AlarmEmergencyOff, halt: true},
	}
}

// trouble is what else goes on meanwhile.
type trouble struct {
	name string
	do   func(r *rig, n int, random *rand.Rand)
	// within is how long after it the danger comes at most.
	within time.Duration
	// swaps: a swap is in the middle. told: the journal can still be written.
	swaps, told bool
}

func troubles() []trouble {
	const soon = 150 * time.Millisecond
	return []trouble{
		{name: "journal, broker and database dead", within: soon, do: func(r *rig, _ int, _ *rand.Rand) {
			r.whole.loseBroker()
			r.whole.killDisk()
		}},
		{name: "a disk that blocks for ever", within: soon, do: func(r *rig, _ int, _ *rand.Rand) {
			r.whole.loseBroker()
			r.whole.blockDisk()
		}},
		{name: "a swap in the middle", within: swapLasts, swaps: true, told: true, do: func(r *rig, _ int, random *rand.Rand) {
			r.whole.swap(random)
		}},
		{name: "a swap, and the disk blocks", within: soon, swaps: true, do: func(r *rig, _ int, random *rand.Rand) {
			r.whole.swap(random)
			time.Sleep(upTo(random, swapLasts-soon))
			r.whole.blockDisk()
		}},
		{name: "nobody polls", within: soon, do: func(r *rig, _ int, _ *rand.Rand) { r.stopPoller() }},
		{name: "a slot board that has just died", within: soon, told: true, do: func(r *rig, n int, _ *rand.Rand) {
			r.boards.set(func() { r.boards.units[(n+5)%len(r.boards.units)].dead = true })
		}},
	}
}

// TestPowerIsOffInTime makes every danger happen at a moment of chance, in every
// trouble, in a cabinet that charges nine batteries over 19200 baud.
func TestPowerIsOffInTime(t *testing.T) {
	for _, d := range dangers() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			for _, trouble := range troubles() {
				t.Run(trouble.name, func(t *testing.T) { runDangers(t, d, trouble) })
			}
		})
	}
}

// runDangers has all runs of a danger in a trouble, and tells the worst of them.
func runDangers(t *testing.T, d danger, trouble trouble) {
	worst, total, swaps := time.Duration(0), time.Duration(0), 0
	random := rand.New(rand.NewPCG(*seedFlag, number(d.name+trouble.name)))
	for range *runsFlag {
		synctest.Test(t, func(t *testing.T) {
			took, swap := runDanger(t, d, trouble, random)
			worst, total = max(worst, took), total+took
			if swap {
				swaps++
			}
		})
	}
	t.Logf("%-20s %-32s %d of %d runs in time: worst %v, mean %v", d.name, trouble.name, *runsFlag, *runsFlag,
		worst.Round(time.Millisecond), (total / time.Duration(*runsFlag)).Round(time.Millisecond))
	if trouble.swaps {
		require.Equal(t, *runsFlag, swaps, "swaps that were under way")
	}
}

// number is a name's, to seed chance with.
func number(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // it never fails
	return h.Sum64()
}

func runDanger(t *testing.T, d danger, trouble trouble, random *rand.Rand) (took time.Duration, swap bool) {
	t.Helper()
	r := newRig(t, rigOptions{slots: wholeSlots, device: 20 * time.Millisecond, whole: true})
	r.charging(chargedSlots()...)
	// Long enough for what is compared with the past to have one.
	time.Sleep(2*time.Second + upTo(random, time.Second))
	n := chargedSlots()[random.IntN(len(chargedSlots()))]
	if d.idle {
		n = fullSlot
	}
	trouble.do(r, n, random)
	time.Sleep(upTo(random, trouble.within))
	swap = r.whole.underWay()
	took = r.after(func() { d.fact(r, n, random) }, func() bool { return d.off(r.boards, n) })
	r.boards.mu.Lock()
	if perS := r.boards.units[n-1].perS; perS > 0 {
		// More than 1 °C in a second is so when the last second has brought 1 °C.
		took -= time.Duration(float64(time.Second) / perS)
	}
	r.boards.mu.Unlock()
	require.LessOrEqual(t, took, limit, "%s of slot %d, with %s: %s", d.name, n, trouble.name, r.whole)
	where := 0
	if d.slot {
		where = n
	}
	if trouble.name == troubles()[0].name {
		r.alarmed(d.kind, where)
		require.True(t, !d.halt || r.State().Halt)
	}
	if trouble.told {
		r.until("records of it", r.whole.cutTold(d.kind, where))
	}
	if trouble.swaps && d.halt {
		r.locksRest()
	}
	return took, swap
}

// locksRest: no lock moves while nobody clears the alarm. One pulse may have been on
// the line.
func (r *rig) locksRest() {
	r.t.Helper()
	pulses := func() int {
		r.boards.mu.Lock()
		defer r.boards.mu.Unlock()
		return r.boards.pulses
	}
	time.Sleep(time.Second)
	before := pulses()
	time.Sleep(10 * time.Second)
	require.Equal(r.t, before, pulses(), "a lock moved though power is cut: %s", r.whole)
}

package safety_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
	"batteryswap/protocol/slotboard"
)

// limit is what a cut may take, from the fact to the last current.
const limit = 2 * time.Second

// danger is one thing that must take power away.
type danger struct {
	name string
	// fact makes it so, off says that the power that matters is gone.
	fact func(r *rig, n int)
	off  func(b *boards, n int) bool
	kind protocol.AlarmKind
	slot bool // the alarm is the slot's
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
	return []danger{
		{"smoke in the cabinet", func(r *rig, _ int) { r.boards.own.Status |= slotboard.CabinetSmoke }, allOff, protocol.AlarmSmoke, false},
		{"smoke in a slot", func(r *rig, n int) { r.boards.units[n-1].smoke = true }, allOff, protocol.AlarmSmoke, true},
		{"over-temperature", func(r *rig, n int) { r.boards.units[n-1].deciC = 605 }, slotOff, protocol.AlarmTemperature, true},
		{"rate of rise", func(r *rig, n int) {
			u := r.boards.units[n-1]
			u.perS, u.risingAt = 1.2+1.5*rand.Float64(), time.Now()
		}, allOff, protocol.AlarmHeatRate, true},
		{"silent sensor", func(r *rig, n int) { r.boards.units[n-1].mute = true }, slotOff, protocol.AlarmSensorSilent, true},
		{"current while off", func(r *rig, n int) {
			r.boards.units[n-1].stuck = true
			r.want(others(len(r.boards.units), n)...)
		}, allOff, protocol.AlarmCurrentOff, true},
		{"emergency stop", func(r *rig, _ int) { r.boards.own.Status |= slotboard.EmergencyStop }, allOff, protocol.AlarmEmergencyOff, false},
	}
}

// others are all slots but one.
func others(slots, except int) []int {
	var out []int
	for n := 1; n <= slots; n++ {
		if n != except {
			out = append(out, n)
		}
	}
	return out
}

// trouble is what else goes on meanwhile.
type trouble struct {
	name string
	do   func(r *rig, n int)
}

func troubles() []trouble {
	return []trouble{
		// Journal, disk, broker and database are nowhere near the loop: when they
		// are dead, or block for ever, nobody plans and nobody takes what it reports.
		{"all else dead", func(r *rig, _ int) { r.planner() }},
		{"a swap in the middle", func(r *rig, n int) {
			other := n%len(r.boards.units) + 1
			r.poller.Hurry(true)
			r.poller.Watch(other, other%len(r.boards.units)+1)
			go func() { _ = r.driver.Unlock(r.t.Context(), other) }()
		}},
		{"a slot board that has just died", func(r *rig, n int) {
			r.boards.set(func() { r.boards.units[(n+5)%len(r.boards.units)].dead = true })
		}},
	}
}

// runs of each danger in each trouble. SAFETY_RUNS=1000 is the whole proof, which
// takes some minutes.
func runs() int {
	if n, err := strconv.Atoi(os.Getenv("SAFETY_RUNS")); err == nil {
		return n
	}
	return usualRuns
}

// TestPowerIsOffInTime makes every danger happen at a moment of chance, in every
// trouble, in a cabinet that charges twelve batteries over 19200 baud.
func TestPowerIsOffInTime(t *testing.T) {
	const slots = 12
	runs := runs()
	for _, d := range dangers() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			for _, trouble := range troubles() {
				worst, total := time.Duration(0), time.Duration(0)
				for range runs {
					synctest.Test(t, func(t *testing.T) {
						took := runDanger(t, slots, d, trouble)
						worst, total = max(worst, took), total+took
					})
				}
				t.Logf("%-22s %-34s %d runs: worst %v, mean %v", d.name, trouble.name, runs, worst.Round(time.Millisecond),
					(total / time.Duration(runs)).Round(time.Millisecond))
			}
		})
	}
}

func runDanger(t *testing.T, slots int, d danger, trouble trouble) time.Duration {
	t.Helper()
	r := newRig(t, rigOptions{slots: slots, device: 20 * time.Millisecond})
	all := others(slots, 0)
	r.want(all...)
	r.charging(all...)
	// Long enough for what is compared with the past to have one.
	time.Sleep(2*time.Second + time.Duration(rand.Int64N(int64(time.Second))))
	n := 1 + rand.IntN(slots)
	trouble.do(r, n)
	time.Sleep(time.Duration(rand.Int64N(int64(150 * time.Millisecond))))
	r.boards.mu.Lock()
	pulses := r.boards.pulses
	r.boards.mu.Unlock()
	took := r.after(func() { d.fact(r, n) }, func() bool { return d.off(r.boards, n) })
	r.boards.mu.Lock()
	if perS := r.boards.units[n-1].perS; perS > 0 {
		// More than 1 °C in a second is so when the last second has brought 1 °C.
		took -= time.Duration(float64(time.Second) / perS)
	}
	r.boards.mu.Unlock()
	require.LessOrEqual(t, took, limit, "%s of slot %d, with %s", d.name, n, trouble.name)
	where := 0
	if d.slot {
		where = n
	}
	if trouble.name == troubles()[0].name {
		r.alarmed(d.kind, where)
		if d.kind != protocol.AlarmTemperature && d.kind != protocol.AlarmSensorSilent {
			require.True(t, r.State().Halt)
		}
	}
	r.boards.mu.Lock()
	defer r.boards.mu.Unlock()
	require.LessOrEqual(t, r.boards.pulses-pulses, 1, "no lock is moved by the loop")
	return took
}

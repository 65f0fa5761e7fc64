package acceptance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"batteryswap/protocol"
	"batteryswap/simulator/process"
	"batteryswap/simulator/world"
)

const (
	// cutLimit is what a cut may take, from the cause in the world until no current
	// flows in it (I12). A machine too busy to run an agent in time fails here, too.
	cutLimit = 2 * time.Second
	// cutRuns is how often each cause is made; its cabinets share them.
	cutRuns = 20
	sharing = 2

	cutSlots = 12
	fullSlot = 7   // holds a battery that needs no charging
	cool     = 250 // 0.1 °C
)

// chargingSlots hold batteries that are charged; none is another's neighbour.
func chargingSlots() []int { return []int{1, 3, 5, 8, 10, 12} }

// hazard is one cause for which power goes.
type hazard struct {
	name   string
	config string // besides what all have
	// begin makes the cause, goesOn what of it goes on, end undoes it, and mend
	// what is left of it once the alarm is cleared. nil is nothing.
	begin, goesOn, end, mend func(*trial)
	// alarm is what is recorded; without one, only a restart lets a slot charge
	// again soon.
	alarm protocol.AlarmKind
	// whole: no slot may have power any more, else the one of the run.
	whole bool
	// switches: every charger must be off, too, not only without current.
	switches bool
}

// trial is one cabinet of a hazard.
type trial struct {
	hazard
	*cabinet
	slot  int // of this run
	spent []int
	rate  float64 // 0.1 °C/s

	began, ended time.Duration // of this run's cause, and of power
	after        uint64        // the last event before it
	done         bool
	alarms       float64
}

func hazards() []hazard {
	sense := func(change func(*world.CabinetSensors)) func(*trial) {
		return func(x *trial) { require.NoError(x.stage.t, x.stage.world.SetCabinet(x.stage.now(), x.id, change)) }
	}
	fault := func(name world.Fault, on bool) func(*trial) {
		return func(x *trial) {
			set := func() error { return x.stage.world.ClearFault(x.stage.now(), x.id, x.slot, name) }
			if on {
				set = func() error { return x.stage.world.SetFault(x.stage.now(), x.id, x.slot, name, world.Setting{}) }
			}
			require.NoError(x.stage.t, set())
		}
	}
	heat := func(deciC int) func(*trial) { return func(x *trial) { x.heat(deciC) } }
	return []hazard{
		{
			name: "smoke", whole: true, alarm: protocol.AlarmSmoke,
			begin: sense(func(c *world.CabinetSensors) { c.Smoke = true }),
			end:   sense(func(c *world.CabinetSensors) { c.Smoke = false }),
		}, {
			// Steps of 4 °C, so that the rate of rise, which is set to 10 °C/s, has no part in it.
			name: "over-temperature", alarm: protocol.AlarmTemperature,
			config: "batteries: [{name: frail, warm_c: 50, hot_c: 50, charge_max_c: 49, rise_c_per_s: 10}]\n",
			begin:  heat(505), end: heat(440), mend: heat(465),
		}, {
			name: "rate of rise", whole: true, alarm: protocol.AlarmHeatRate,
			goesOn: func(x *trial) { x.heat(cool + int(x.rate*(x.stage.now()-x.began).Seconds())) },
			end:    heat(cool),
		}, {
			name: "silent sensor", begin: fault(world.LostTemperature, true), end: fault(world.LostTemperature, false),
		}, {
			name: "current while off", whole: true, alarm: protocol.AlarmCurrentOff,
			begin: func(x *trial) { x.slot = fullSlot; fault(world.StuckCharger, true)(x) },
			end:   fault(world.StuckCharger, false),
		}, {
			// The stop opens the contactor by its own wires; the chargers are the agent's.
			name: "emergency stop", whole: true, switches: true, alarm: protocol.AlarmEmergencyOff,
			begin: sense(func(c *world.CabinetSensors) { c.EmergencyStop = true }),
			end:   sense(func(c *world.CabinetSensors) { c.EmergencyStop = false }),
		},
	}
}

// heat sets the temperature of the battery in the run's slot, in 0.1 °C.
func (x *trial) heat(deciC int) {
	s := x.stage
	s.t.Helper()
	require.NoError(s.t, s.world.ChangeBattery(s.now(), x.serial(x.slot), func(b *world.Battery) { b.TempDeciC = deciC }))
}

func (x *trial) serial(slot int) string { return fmt.Sprintf("BT-%s-%02d", x.id, slot) }

// powered says whether what the hazard takes power from still has it.
func (x *trial) powered() bool {
	return slices.ContainsFunc(x.stage.world.Facts(x.stage.now(), x.id), func(f world.SlotFacts) bool {
		return (x.whole || f.Slot == x.slot) && (f.CurrentMA > 0 || x.switches && f.ChargeOn)
	})
}

// charges says whether every slot that is not spent is charged.
func (x *trial) charges() bool {
	return !slices.ContainsFunc(x.stage.world.Facts(x.stage.now(), x.id), func(f world.SlotFacts) bool {
		return slices.Contains(chargingSlots(), f.Slot) && !slices.Contains(x.spent, f.Slot) && f.CurrentMA == 0
	})
}

// took is how long power has flowed after the cause.
func (x *trial) took() time.Duration {
	off := x.ended
	for _, e := range x.stage.world.Events(x.after) {
		if !x.switches && e.Cabinet == x.id && e.Kind == world.CurrentStops && (x.whole || e.Slot == x.slot) {
			off = e.At
		}
	}
	cause := x.began
	if x.rate > 0 && x.goesOn != nil {
		// More than 1 °C in a second is so when a second has brought 1 °C.
		cause += time.Duration(10 / x.rate * float64(time.Second))
	}
	return off - cause
}

// newTrial puts up a cabinet that charges, with its agent.
func (s *stage) newTrial(h hazard, changes ...func(*cabinet)) *trial {
	s.t.Helper()
	x := &trial{hazard: h, cabinet: s.prepareAgent(fmt.Sprintf("hb-%04d", len(s.cabinets)+1), cutSlots)}
	x.baud = 19200
	x.build()
	for _, n := range chargingSlots() {
		require.NoError(s.t, s.world.PutInSlot(x.id, n, world.Battery{Serial: x.serial(n), SocPermille: 300}))
		x.slot = n
		if x.heat(cool); x.mend != nil {
			x.mend(x)
		}
	}
	require.NoError(s.t, s.world.PutInSlot(x.id, fullSlot, world.Battery{Serial: x.serial(fullSlot), SocPermille: 970}))
	x.extraConfig = "charging: {budget_w: 10000, peaks: [\"00:00-24:00\"]}\n" + h.config
	for _, change := range changes {
		change(x.cabinet)
	}
	x.startBoards()
	x.startAgent()
	return x
}

// all waits until something is so of all trials, while what goes on goes on.
func all(s *stage, trials []*trial, every time.Duration, what string, is func(*trial) bool) {
	s.t.Helper()
	// A first sign that no second one confirms keeps power away for a minute.
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	defer cancel()
	waiting := slices.Clone(trials)
	err := process.Until(ctx, every, what, func() (bool, error) {
		for _, x := range trials {
			if x.goesOn != nil && x.began > 0 {
				x.goesOn(x)
			}
		}
		waiting = slices.DeleteFunc(waiting, is)
		return len(waiting) == 0, nil
	})
	for _, x := range waiting {
		s.t.Logf("%s, slot %d: %s", x.name, x.slot, what)
	}
	require.NoError(s.t, err)
}

// clearAlarm is what staff do on site.
func (x *trial) clearAlarm() bool {
	_, err := x.stage.tools.Run(x.stage.t.Context(), "", "firmware-agent", "clear-alarm", "all", "--config", filepath.Join(x.dir, "agent.yaml"))
	return err == nil
}

func (x *trial) turnKey(on bool) {
	s := x.stage
	require.NoError(s.t, s.world.SetCabinet(s.now(), x.id, func(c *world.CabinetSensors) { c.MaintenanceKey = on }))
}

// TestPowerIsOffInTime makes every cause, again and again, in cabinets whose agents
// are real processes at serial lines of 19200 baud, with neither a broker nor a
// backend to be found. Each alarm is recorded, and cleared as staff clear it.
func TestPowerIsOffInTime(t *testing.T) {
	s := bareStage(t, plainPrograms(t))
	random := rand.New(rand.NewPCG(5, 7))
	var trials []*trial
	for _, h := range hazards() {
		for range sharing {
			trials = append(trials, s.newTrial(h))
		}
	}
	all(s, trials, 50*time.Millisecond, "charging does not begin", (*trial).charges)
	took := map[string][]time.Duration{}
	for run := range cutRuns / sharing {
		random.Shuffle(len(trials), func(i, j int) { trials[i], trials[j] = trials[j], trials[i] })
		for i, x := range trials {
			pause(t, time.Duration(random.Int64N(int64(100*time.Millisecond))))
			x.begins(chargingSlots()[run%len(chargingSlots())], 12+15*random.Float64())
			for _, y := range trials[:i] {
				y.stillPowered()
			}
		}
		all(s, trials, 5*time.Millisecond, "power stays on", (*trial).gone)
		for _, x := range trials {
			took[x.name] = append(took[x.name], x.took())
			require.LessOrEqual(t, x.took(), cutLimit, "%s of slot %d, run %d", x.name, x.slot, run)
		}
		all(s, trials, 50*time.Millisecond, "no alarm is recorded", (*trial).recorded)
		for _, x := range trials {
			x.recovers(run)
		}
		all(s, trials, 200*time.Millisecond, "the alarm is not cleared", func(x *trial) bool { return x.alarm == "" || x.clearAlarm() })
		for _, x := range trials {
			if x.turnKey(false); x.mend != nil {
				x.mend(x)
			}
		}
		all(s, trials, 50*time.Millisecond, "charging does not begin again", (*trial).charges)
	}
	for _, h := range hazards() {
		require.Len(t, took[h.name], cutRuns)
		slices.Sort(took[h.name])
		t.Logf("%-18s %d runs: worst %v, median %v", h.name, cutRuns,
			took[h.name][cutRuns-1].Round(time.Millisecond), took[h.name][cutRuns/2].Round(time.Millisecond))
	}
}

// pause lets time pass between two causes.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// begins makes the cause.
func (x *trial) begins(slot int, rate float64) {
	s := x.stage
	x.slot, x.rate, x.done = slot, rate, false
	if last := s.world.Events(0); len(last) > 0 {
		x.after = last[len(last)-1].N
	}
	x.began = s.now()
	if x.begin != nil {
		x.begin(x)
	}
}

// stillPowered lets the cause go on, and notes when power has gone.
func (x *trial) stillPowered() {
	if x.goesOn != nil {
		x.goesOn(x)
	}
	x.gone()
}

func (x *trial) gone() bool {
	if !x.done && !x.powered() {
		x.ended, x.done = x.stage.now(), true
	}
	return x.done
}

// recorded says whether this run's alarm is in the journal.
func (x *trial) recorded() bool {
	return x.alarm == "" || metric(x.stage.t, x.metrics, "swap_alarms_total", `kind="`+string(x.alarm)+`"`) > x.alarms
}

// recovers ends the cause. A slot whose sensor was silent for too short a time to
// be an alarm is left alone for a minute: it is spent, until none is left and the
// agent is started anew.
func (x *trial) recovers(run int) {
	if x.end(x); x.alarm != "" {
		x.alarms++
		x.began = 0
		x.turnKey(true)
		return
	}
	if x.spent = append(x.spent, x.slot); len(x.spent) == len(chargingSlots()) {
		x.spent = nil
		x.Stop()
		x.startAgent()
	}
	x.began = 0
}

// TestCutWhileNobodyTakesTheLog: what keeps the log of an agent has stopped, as it
// does when its disk blocks. The agent charges, cuts and stops all the same.
func TestCutWhileNobodyTakesTheLog(t *testing.T) {
	t.Parallel()
	s := bareStage(t, plainPrograms(t))
	pipe := filepath.Join(s.dir, "pipe")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	full, err := os.OpenFile(pipe, os.O_RDWR|unix.O_NONBLOCK, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, full.Close()) })
	require.NoError(t, full.SetWriteDeadline(time.Now().Add(time.Second)))
	for err == nil {
		_, err = full.Write(make([]byte, 1<<12))
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the pipe is not full")

	h := hazards()[0]
	x := s.newTrial(h, func(c *cabinet) { c.Log = pipe })
	all(s, []*trial{x}, 50*time.Millisecond, "charging does not begin", (*trial).charges)
	x.begins(chargingSlots()[0], 0)
	all(s, []*trial{x}, 5*time.Millisecond, "power stays on", (*trial).gone)
	require.LessOrEqual(t, x.took(), cutLimit)
	all(s, []*trial{x}, 50*time.Millisecond, "no alarm is recorded", (*trial).recorded)
	require.NoError(t, x.Alone())
	began := time.Now()
	x.Stop()
	require.Less(t, time.Since(began), 8*time.Second, "it had to be killed")
}

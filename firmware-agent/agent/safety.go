package agent

import (
	"time"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/config"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/safety"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
	"batteryswap/protocol/slotboard"
)

// startSafety makes the loop that cuts power; it runs before anything polls or
// plans. It runs without a journal, too: then nothing is charged, and it sees to
// that.
func (a *Agent) startSafety() error {
	a.safety = safety.New(safety.Options{
		Board: a.board, Limits: a.safetyLimits(), Latched: a.latched(), Now: a.clock.now, Log: a.o.Log,
		Seen: a.seen,
	})
	return nil
}

// latched are the safety alarms that the journal tells of. Those that go by
// themselves are not latched.
func (a *Agent) latched() []charging.Alarm {
	var out []charging.Alarm
	for _, raised := range a.fold.State().Alarms {
		if raised.Kind.Safety() && raised.Kind != protocol.AlarmSupply && raised.Slot <= a.c.Board.Slots {
			out = append(out, charging.Alarm{Kind: raised.Kind, Slot: raised.Slot})
		}
	}
	return out
}

// lookLeft is how much older than a cycle's a reading may be before it is too old:
// time to read the slot out of turn, more than once.
const lookLeft = 800 * time.Millisecond

func (a *Agent) safetyLimits() charging.Limits {
	l := charging.DefaultLimits(a.c.Board.Slots)
	l.Columns = a.c.Board.Columns
	l.Types = batteryTypes(a.c)
	l.MaxAge = max(l.MaxAge, cycleTime(a.bus.Timing(), cycleExchanges(a.c))+lookLeft)
	l.Watchdog = time.Duration(slotboard.DefaultWatchdogS) * time.Second
	l.CurrentOffMA, l.AirHotC, l.BackupMinMV = a.c.Safety.CurrentWhenOffMA, a.c.Safety.AirHotC, a.c.Safety.BackupMinMV
	return l
}

func batteryTypes(c config.Config) charging.Types {
	convert := func(b config.Battery) charging.Type {
		return charging.Type{
			SerialPrefix: b.SerialPrefix, WarmC: b.WarmC, HotC: b.HotC, RiseCPerS: b.RiseCPerS,
			ChargeMinC: b.ChargeMinC, ColdC: b.ColdC, ChargeMaxC: b.ChargeMaxC,
			StoreSoc: b.StoreSoc, TargetSoc: b.TargetSoc, MaxSoc: b.MaxSoc,
			MaxMA: b.MaxMA, VoltageMV: b.VoltageMV, CapacityMAH: b.CapacityMAH,
		}
	}
	known, standard := c.BatteryTypes()
	types := charging.Types{Default: convert(standard)}
	for _, b := range known {
		types.Known = append(types.Known, convert(b))
	}
	return types
}

// plan are the charging plan's numbers for this configuration.
func (a *Agent) plan() charging.PlanLimits {
	windows := func(list []string) []charging.Window {
		var out []charging.Window
		for _, s := range list {
			if from, to, err := config.ParseWindow(s); err == nil { // it was checked
				out = append(out, charging.Window{From: from, To: to})
			}
		}
		return out
	}
	return charging.PlanLimits{
		BudgetW: a.c.Charging.BudgetW, HeaterW: a.c.Charging.HeaterW, ReleaseSoc: a.c.Limits.ReleaseSoc, Reserve: a.c.Charging.Reserve,
		Peaks: windows(a.c.Charging.Peaks), Cheap: windows(a.c.Charging.Cheap), Types: batteryTypes(a.c),
	}
}

// day is the local time of day, once the wall clock was synchronised.
func (a *Agent) day() charging.Day {
	if !a.clock.synced.Load() {
		return charging.Day{}
	}
	local := a.clock.wall().UTC().Add(time.Duration(a.c.Charging.UTCOffsetMin) * time.Minute)
	return charging.Day{Known: true, Minute: local.Hour()*60 + local.Minute()}
}

// meterW is what the whole cabinet takes, in W, where a meter says so.
func (a *Agent) meterW() slot.Value {
	m, _ := a.instruments.read(a.clock.now())
	return m.PowerW
}

// energyJ is what the cabinet has taken from the mains, in J, where a meter says so.
func (a *Agent) energyJ() (uint64, bool) {
	m, _ := a.instruments.read(a.clock.now())
	return m.EnergyJ, m.EnergyKnown
}

// seen takes what the safety loop has read itself.
func (a *Agent) seen(r driver.Report) {
	if a.cabinet != nil && r.Err == nil && r.Slot == driver.OwnBoard {
		a.cabinet.ObserveBoard(r.Cabinet)
	}
}

// exposeSafety tells what the safety loop says and did.
func (a *Agent) exposeSafety(e *exposition) { exposeState(e, a.safety.State(), a.safety.Beats()) }

func exposeState(e *exposition, s safety.State, turns uint64) {
	e.gauge("swap_cabinet_contactor_closed", "1 while the main contactor says that it is closed.", bit(s.Contactor == slot.Yes))
	e.gauge("swap_cabinet_halted", "1 while a safety alarm keeps every door shut.", bit(s.Halt))
	e.gauge("swap_slots_charging", "Slots whose chargers are on.", float64(len(s.On)))
	e.gauge("swap_slots_heated", "Slots whose heaters are on.", float64(len(s.Heated)))
	causes := map[string]float64{}
	for _, c := range s.Causes {
		causes[string(c.Kind)]++
	}
	e.gauges("swap_safety_causes", "Why charging power is cut, by kind.", "kind", causes)
	e.counter("swap_safety_turns_total", "Turns of the safety loop.", float64(turns))
	e.counter("swap_safety_dropped_total", "Readings and cuts that did not fit into the safety loop's queues.", float64(s.Dropped))
}

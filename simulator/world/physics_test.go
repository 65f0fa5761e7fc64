package world_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/simulator/world"
)

const place = "hb-0001"

// hall is a world with a cabinet of five slots, a half charged battery in each,
// and all chargers on.
func hall(t *testing.T, speed float64) *world.World {
	t.Helper()
	w := world.New(rand.New(rand.NewPCG(1, 2)), speed)
	require.NoError(t, w.AddCabinet(place, 5))
	for n := 1; n <= 5; n++ {
		require.NoError(t, w.PutInSlot(place, n, world.Battery{Serial: world.Serial(n), SocPermille: 500}))
		require.NoError(t, w.SwitchCharger(0, place, n, true))
	}
	return w
}

func facts(w *world.World, at time.Duration, slot int) world.SlotFacts {
	return w.Facts(at, place)[slot-1]
}

// when is the time of the first event of a kind, in any slot if slot is 0.
func when(t *testing.T, w *world.World, kind world.Kind, slot int) time.Duration {
	t.Helper()
	for _, e := range w.Events(0) {
		if e.Kind == kind && (slot == 0 || e.Slot == slot) {
			return e.At
		}
	}
	require.Fail(t, "never happened", "%s in slot %d", kind, slot)
	return 0
}

func TestChargeCurveTapersAndEnds(t *testing.T) {
	w := hall(t, 60)
	// Half of 20 Ah at 10 A is an hour to 100 %; above 90 % less and less flows.
	require.Equal(t, 10_000, facts(w, 30*time.Second, 1).CurrentMA)
	last := 10_000
	for at := 50 * time.Second; at < 90*time.Second; at += 5 * time.Second {
		f := facts(w, at, 1)
		if f.Battery.SocPermille > 905 && f.CurrentMA > 0 {
			require.Less(t, f.CurrentMA, last)
			last = f.CurrentMA
		}
	}
	f := facts(w, 5*time.Minute, 1)
	require.Equal(t, 1000, f.Battery.SocPermille, "and never above")
	require.Zero(t, f.CurrentMA)
	require.InDelta(t, 78, when(t, w, world.CurrentStops, 1).Seconds(), 15)

	require.NoError(t, w.LimitCharger(5*time.Minute, place, 2, world.ChargeLimits{MA: 3_000}))
	require.NoError(t, w.ChangeBattery(5*time.Minute, world.Serial(2), func(b *world.Battery) { b.SocPermille = 300 }))
	require.Equal(t, 3_000, facts(w, 5*time.Minute, 2).CurrentMA)
	require.NoError(t, w.LimitCharger(5*time.Minute, place, 2, world.ChargeLimits{MV: 50_000}))
	require.Zero(t, facts(w, 5*time.Minute, 2).CurrentMA, "the battery's voltage is above the limit")
}

func TestWhatIsWarm(t *testing.T) {
	const hour = time.Hour
	w := hall(t, 1)
	w.SetWeather(0, world.Weather{MeanDeciC: 200, SwingDeciC: 100, Begins: 3 * hour})
	require.InDelta(t, 100, w.Outside(0), 1)
	require.InDelta(t, 300, w.Outside(12*hour), 1)
	require.InDelta(t, 100, w.Outside(24*hour), 1)

	w = hall(t, 1)
	f := facts(w, 40*time.Minute, 3)
	require.Greater(t, f.AirDeciC, 300, "charging warms the slot")
	require.Greater(t, f.Battery.TempDeciC, f.AirDeciC, "and the battery more")
	require.NoError(t, w.SwitchAir(40*time.Minute, place, 3, true, false))
	require.NoError(t, w.SetFault(40*time.Minute, place, 4, world.DeadFan, world.Setting{}))
	require.NoError(t, w.SwitchAir(40*time.Minute, place, 4, true, false))
	cooled, dead := facts(w, 55*time.Minute, 3), facts(w, 55*time.Minute, 4)
	require.Less(t, cooled.AirDeciC, dead.AirDeciC-20, "a fan cools unless it is dead")
	require.NoError(t, w.SwitchAir(5*hour, place, 1, false, true))
	require.Greater(t, facts(w, 6*hour, 1).AirDeciC, facts(w, 6*hour, 2).AirDeciC+100, "a heater warms")
	require.InDelta(t, 250, facts(w, 6*hour, 5).Battery.TempDeciC, 15, "what is full cools down")
	sensors, err := w.SenseCabinet(6*hour, place)
	require.NoError(t, err)
	require.InDelta(t, 250, sensors.LowerTempDeciC, 15)
}

// However fast batteries charge, none warms up by 1 °C in a second: that is how
// agents know one that is on fire.
func TestChargingQuicklyIsNoAlarm(t *testing.T) {
	w := hall(t, 120)
	last := facts(w, 0, 3).Battery.TempDeciC
	for at := time.Second; at < 2*time.Minute; at += time.Second {
		now := facts(w, at, 3).Battery.TempDeciC
		require.Less(t, now-last, 3)
		last = now
	}
	require.Equal(t, 1000, facts(w, 2*time.Minute, 3).Battery.SocPermille)
}

func TestRunawaySpreadsUnlessItIsCut(t *testing.T) {
	begin := func() *world.World {
		w := hall(t, 120)
		require.NoError(t, w.SetFault(0, place, 3, world.Runaway, world.Setting{}))
		return w
	}
	w := begin()
	before, after := facts(w, 10*time.Second, 3).Battery.TempDeciC, facts(w, 11*time.Second, 3).Battery.TempDeciC
	require.InDelta(t, 20, after-before, 3, "2 °C/s, however fast physics runs")
	require.NoError(t, w.SwitchCharger(20*time.Second, place, 3, false))
	peak := facts(w, 20*time.Second, 3).Battery.TempDeciC
	require.Less(t, facts(w, time.Minute, 3).Battery.TempDeciC, peak, "cut in time, it cools")
	require.Less(t, facts(w, 10*time.Minute, 2).Battery.TempDeciC, 500, "and its neighbours never knew")

	w = begin()
	w.Advance(40 * time.Second)
	smoke := when(t, w, world.SmokeRises, 3)
	require.Less(t, smoke, 40*time.Second)
	s, err := w.Sense(40*time.Second, place, 3)
	require.NoError(t, err)
	require.True(t, s.Smoke)
	sensors, err := w.SenseCabinet(40*time.Second, place)
	require.NoError(t, err)
	require.True(t, sensors.Smoke, "and it rises to the cabinet's detector")
	require.NoError(t, w.SwitchCharger(40*time.Second, place, 3, false))
	require.Greater(t, facts(w, time.Minute, 3).Battery.TempDeciC, 1500, "too late: it burns without current")
	w.Advance(10 * time.Minute)
	for _, neighbour := range []int{2, 4, 1, 5} {
		require.Greater(t, when(t, w, world.SmokeRises, neighbour), smoke)
	}
}

// Power reaches a charger only through contactor and charge enable.
func TestWhatCutsPower(t *testing.T) {
	sensors := func(w *world.World, at time.Duration, change func(*world.CabinetSensors)) {
		require.NoError(t, w.SetCabinet(at, place, change))
	}
	flows := func(w *world.World, at time.Duration) bool { return facts(w, at, 1).CurrentMA > 0 }
	t.Run("contactor, stuck relay", func(t *testing.T) {
		w := hall(t, 1)
		require.NoError(t, w.SetFault(0, place, 1, world.StuckCharger, world.Setting{}))
		require.NoError(t, w.SwitchCharger(time.Second, place, 1, false))
		require.True(t, flows(w, time.Second))
		sensors(w, 2*time.Second, func(s *world.CabinetSensors) { s.ContactorClosed = false })
		require.False(t, flows(w, 2*time.Second))
		require.Equal(t, 2*time.Second, when(t, w, world.CurrentStops, 1))
		require.Equal(t, 2*time.Second, when(t, w, world.ContactorOpens, 0))
	})
	t.Run("emergency stop", func(t *testing.T) {
		w := hall(t, 1)
		sensors(w, time.Second, func(s *world.CabinetSensors) { s.EmergencyStop = true })
		require.False(t, flows(w, time.Second))
		sensors(w, 2*time.Second, func(s *world.CabinetSensors) { s.ContactorClosed = true })
		require.False(t, flows(w, 2*time.Second), "nothing closes it while the stop is pressed")
		sensors(w, 3*time.Second, func(s *world.CabinetSensors) { s.EmergencyStop = false })
		require.False(t, flows(w, 3*time.Second), "nor by itself afterwards")
		sensors(w, 4*time.Second, func(s *world.CabinetSensors) { s.ContactorClosed = true })
		require.True(t, flows(w, 4*time.Second))
	})
	t.Run("stuck contactor", func(t *testing.T) {
		w := hall(t, 1)
		require.NoError(t, w.SetFault(0, place, world.CabinetBoard, world.StuckContactor, world.Setting{}))
		sensors(w, time.Second, func(s *world.CabinetSensors) { s.ContactorClosed = false })
		require.True(t, flows(w, time.Second))
		require.NoError(t, w.SwitchCharger(2*time.Second, place, 1, false))
		require.False(t, flows(w, 2*time.Second), "the charger's own switch still works")
	})
	t.Run("mains", func(t *testing.T) {
		w := hall(t, 1)
		sensors(w, time.Second, func(s *world.CabinetSensors) { s.MainsDeciV = 1700 })
		s, err := w.SenseCabinet(time.Second, place)
		require.NoError(t, err)
		require.True(t, s.BackupInUse)
		require.True(t, flows(w, time.Second), "low, but chargers still run")
		sensors(w, 2*time.Second, func(s *world.CabinetSensors) { s.MainsDeciV = 0 })
		require.False(t, flows(w, 2*time.Second))
		later, err := w.SenseCabinet(10*time.Minute, place)
		require.NoError(t, err)
		require.Less(t, later.BackupMV, s.BackupMV, "the backup supply drains")
		m, err := w.ReadMeter(10*time.Minute, place)
		require.NoError(t, err)
		require.False(t, m.Live)
		require.Zero(t, m.PowerMW)
	})
}

func TestMeterCountsWhatFlows(t *testing.T) {
	w := hall(t, 1)
	m, err := w.ReadMeter(0, place)
	require.NoError(t, err)
	// Five batteries of 62.5 V at 10 A through chargers of 90 %, and 60 W.
	require.InDelta(t, 5*625/0.9+60, float64(m.PowerMW)/1000, 2)
	m, err = w.ReadMeter(10*time.Minute, place)
	require.NoError(t, err)
	require.InDelta(t, 600*float64(m.PowerMW)/1000, m.EnergyJ, 0.02*m.EnergyJ)
	for n := 1; n <= 5; n++ {
		require.NoError(t, w.SwitchCharger(10*time.Minute, place, n, false))
	}
	require.NoError(t, w.SetFault(10*time.Minute, place, 2, world.StuckCharger, world.Setting{}))
	m, err = w.ReadMeter(10*time.Minute, place)
	require.NoError(t, err)
	require.Greater(t, m.PowerMW, 700_000, "a stuck relay shows on the meter")
}

func TestSensorsOfABatteryThatFail(t *testing.T) {
	w := hall(t, 1)
	sense := func(at time.Duration, slot int) world.Sensed {
		s, err := w.Sense(at, place, slot)
		require.NoError(t, err)
		return s
	}
	before := sense(0, 1).Changes
	require.NoError(t, w.SetFault(0, place, 1, world.SilentBattery, world.Setting{}))
	silent := sense(0, 1)
	require.Nil(t, silent.Battery)
	require.Positive(t, silent.CurrentMA, "and current flows on")
	require.Greater(t, silent.Changes, before)

	require.NoError(t, w.SetFault(0, place, 2, world.FrozenBattery, world.Setting{}))
	was := sense(0, 2).Battery
	require.Equal(t, was, sense(20*time.Minute, 2).Battery)
	require.NoError(t, w.ClearFault(20*time.Minute, place, 2, world.FrozenBattery))
	require.Greater(t, sense(20*time.Minute, 2).Battery.SocPermille, was.SocPermille)

	require.NoError(t, w.SetFault(20*time.Minute, place, 3, world.LostTemperature, world.Setting{}))
	require.True(t, sense(20*time.Minute, 3).Battery.NoTemp)

	require.NoError(t, w.SetFault(20*time.Minute, place, 4, world.JumpingValues, world.Setting{}))
	seen := map[int]bool{}
	for range 50 {
		seen[sense(20*time.Minute, 4).Battery.TempDeciC] = true
	}
	require.Greater(t, len(seen), 10)
	require.Less(t, facts(w, 20*time.Minute, 4).Battery.TempDeciC, 600, "the truth is another")
}

// How often somebody looks changes nothing, and the same seed and acts give the
// same world.
func TestPhysicsIsTheSameHoweverOftenSomebodyLooks(t *testing.T) {
	course := func(look time.Duration) ([]world.SlotFacts, []world.Event) {
		w := hall(t, 1)
		w.SetWeather(0, world.Weather{MeanDeciC: 350, SwingDeciC: 80})
		require.NoError(t, w.SetFault(0, place, 3, world.Runaway, world.Setting{}))
		for at := time.Duration(0); at < 90*time.Second; at += look {
			w.Advance(at)
		}
		return w.Facts(90*time.Second, place), w.Events(0)
	}
	coarse, _ := course(7 * time.Second)
	fine, events := course(33 * time.Millisecond)
	for i := range fine {
		require.InDelta(t, fine[i].Battery.SocPermille, coarse[i].Battery.SocPermille, 3)
		require.InDelta(t, fine[i].Battery.TempDeciC, coarse[i].Battery.TempDeciC, 15)
	}
	same, again := course(33 * time.Millisecond)
	require.Equal(t, fine, same)
	require.Equal(t, events, again)
}

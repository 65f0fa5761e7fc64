package charging

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// bench is a guard that reads three slots and the cabinet every second.
type bench struct {
	t     *testing.T
	guard *Guard
	now   time.Duration
	slots []slot.Reading
	own   Cabinet
	quiet map[int]bool // boards that do not answer; 0 is the cabinet's
}

func newBench(t *testing.T, latched ...Alarm) *bench {
	b := &bench{t: t, guard: NewGuard(DefaultLimits(3), latched, 0), quiet: map[int]bool{}}
	for n := 1; n <= 3; n++ {
		b.slots = append(b.slots, slot.Reading{
			Slot: n, Switch: slot.Yes, BatteryLink: slot.Yes, Serial: "BT", IdentityEpoch: 1, CellMax: slot.Known(250), CellMin: slot.Known(240),
			Air: slot.Known(230), CurrentMA: slot.Known(0), ChargeEnabled: slot.No, Charging: slot.No, Smoke: slot.No,
		})
	}
	b.own = Cabinet{
		Smoke: slot.No, Water: slot.No, EmergencyStop: slot.No, Key: slot.No, BackupInUse: slot.No, Contactor: slot.No, BackupMV: slot.Known(12_600),
	}
	for n := 1; n <= 3; n++ {
		b.guard.Commanded(n, false, 0)
	}
	b.guard.CommandedContactor(false, 0)
	return b
}

// pass lets seconds pass and gives the verdict.
func (b *bench) pass(seconds int) Verdict {
	var v Verdict
	for range seconds {
		b.now += time.Second
		for i := range b.slots {
			if b.quiet[i+1] {
				b.guard.Missed(i + 1)
				continue
			}
			b.slots[i].At, b.slots[i].Alive = b.now, b.slots[i].Alive+1
			b.guard.Observe(b.slots[i])
		}
		if b.quiet[0] {
			b.guard.Missed(0)
		} else {
			b.own.At, b.own.Alive = b.now, b.own.Alive+1
			b.guard.ObserveCabinet(b.own)
		}
		v = b.guard.Judge(b.now)
	}
	return v
}

// on has slots charge.
func (b *bench) on(slots ...int) {
	b.guard.CommandedContactor(true, b.now)
	b.own.Contactor = slot.Yes
	for _, n := range slots {
		b.guard.Commanded(n, true, b.now)
		b.slots[n-1].ChargeEnabled, b.slots[n-1].Charging, b.slots[n-1].CurrentMA = slot.Yes, slot.Yes, slot.Known(9000)
	}
	require.Equal(b.t, []bool{true, true, true}, b.pass(3).Power)
}

func TestNothingHasPowerBeforeItIsRead(t *testing.T) {
	b := newBench(t)
	v := b.guard.Judge(0)
	require.False(t, v.Contactor)
	require.Equal(t, []bool{false, false, false}, v.Power)
	b.quiet[2] = true
	v = b.pass(1)
	require.False(t, v.Contactor, "what slot 2 does is not known")
	v = b.pass(40)
	require.True(t, v.Contactor, "its own watchdog has switched it off by now")
	require.Equal(t, []bool{true, false, true}, v.Power)
	require.Empty(t, v.Alarms)
}

// TestFailure16Hot: power goes at the first sign from the slot and its neighbours,
// the battery is in quarantine at the second, and stays so when it has cooled.
func TestFailure16Hot(t *testing.T) {
	b := newBench(t)
	b.on(1, 2, 3)
	b.slots[0].CellMax = slot.Known(600)
	b.slots[0].IdentityEpoch, b.slots[0].Serial = 2, "BT2" // another battery: not a rise
	v := b.pass(1)
	require.Equal(t, []bool{false, false, true}, v.Power)
	require.True(t, v.Contactor)
	require.Empty(t, v.Alarms)
	require.Equal(t, []Alarm{{protocol.AlarmTemperature, 1}}, b.pass(1).Alarms)
	b.slots[0].CellMax = slot.Known(250)
	v = b.pass(300)
	require.Contains(t, v.Alarms, Alarm{protocol.AlarmTemperature, 1})
	require.Equal(t, []bool{false, false, true}, v.Power)

	require.ErrorIs(t, b.guard.Clear(Alarm{protocol.AlarmTemperature, 1}, b.now), ErrNoKey)
	b.own.Key = slot.Yes
	b.pass(1)
	require.ErrorIs(t, b.guard.Clear(Alarm{protocol.AlarmSmoke, 1}, b.now), ErrNotOn)
	require.NoError(t, b.guard.Clear(Alarm{protocol.AlarmTemperature, 1}, b.now))
	require.Equal(t, []bool{true, true, true}, b.pass(1).Power)
}

func TestOneWrongReadingCostsAMinute(t *testing.T) {
	for name, spoil := range map[string]func(*bench){
		"hot":   func(b *bench) { b.slots[1].CellMax = slot.Known(700) },
		"smoke": func(b *bench) { b.own.Smoke = slot.Yes },
		"water": func(b *bench) { b.own.Water = slot.Yes },
		"stop":  func(b *bench) { b.own.EmergencyStop = slot.Yes },
	} {
		b := newBench(t)
		b.on(1, 2, 3)
		sound, own := b.slots[1], b.own
		spoil(b)
		require.NotEqual(t, []bool{true, true, true}, b.pass(1).Power, name)
		b.slots[1], b.own = sound, own
		b.slots[1].Alive, b.own.Alive = 1000, 1000
		require.NotEqual(t, []bool{true, true, true}, b.pass(50).Power, name)
		v := b.pass(20)
		require.Equal(t, []bool{true, true, true}, v.Power, name)
		require.Empty(t, v.Alarms, name)
	}
}

// TestFailure32SmokeHeatWater: each takes all power, keeps every door shut and is
// latched, also over a restart.
func TestFailure32SmokeHeatWater(t *testing.T) {
	for kind, c := range map[protocol.AlarmKind]struct {
		spoil func(*bench)
		slot  int
	}{
		protocol.AlarmSmoke:        {func(b *bench) { b.slots[2].Smoke = slot.Yes }, 3},
		protocol.AlarmWater:        {func(b *bench) { b.own.Water = slot.Yes }, 0},
		protocol.AlarmEmergencyOff: {func(b *bench) { b.own.EmergencyStop = slot.Yes }, 0},
		protocol.AlarmTemperature:  {func(b *bench) { b.slots[0].Air, b.own.UpperTemp = slot.Known(610), slot.Known(600) }, 0},
		protocol.AlarmCurrentOff:   {func(b *bench) { b.guard.Commanded(2, false, b.now) }, 2},
	} {
		b := newBench(t)
		b.on(1, 2, 3)
		c.spoil(b)
		v := b.pass(3)
		require.False(t, v.Contactor, kind)
		require.True(t, v.Halt, kind)
		require.Equal(t, []bool{false, false, false}, v.Power, kind)
		require.Contains(t, v.Alarms, Alarm{kind, c.slot})
		restarted := newBench(t, v.Alarms...)
		v = restarted.pass(100)
		require.True(t, v.Halt, kind)
		require.False(t, v.Contactor, kind)
	}
}

func TestRateOfRise(t *testing.T) {
	for name, c := range map[string]struct {
		deciC []int32 // each second
		cut   bool
		latch bool
	}{
		"slow":           {[]int32{258, 266, 274, 282}, false, false},
		"quick":          {[]int32{262, 275, 288}, true, true},
		"one jump up":    {[]int32{400, 250, 250}, true, false},
		"one jump down":  {[]int32{100, 250, 250}, false, false},
		"noise of 0.2 °": {[]int32{252, 248, 252, 248}, false, false},
	} {
		b := newBench(t)
		b.on(1)
		cut := false
		for _, d := range c.deciC {
			b.slots[0].CellMax = slot.Known(d)
			cut = !b.pass(1).Contactor || cut
		}
		require.Equal(t, c.cut, cut, name)
		require.Equal(t, c.latch, len(b.guard.Judge(b.now).Alarms) > 0, name)
	}
}

// TestSilentSensor: off at once, in quarantine when it stays so; a battery that
// was taken out is no silent one.
func TestSilentSensor(t *testing.T) {
	b := newBench(t)
	b.on(1, 2, 3)
	b.slots[0].CellMax = slot.Value{}
	v := b.pass(1)
	require.Equal(t, []bool{false, false, true}, v.Power)
	require.Empty(t, b.pass(5).Alarms)
	require.Equal(t, []Alarm{{protocol.AlarmSensorSilent, 1}}, b.pass(6).Alarms)

	b = newBench(t)
	b.on(1)
	b.slots[0].CellMax, b.slots[0].Switch = slot.Value{}, slot.No
	require.Empty(t, b.pass(30).Alarms)
}

// TestFailure37FrozenBoard: a board that answers copies of old readings while its
// charger is on takes the contactor with it, until it lives again.
func TestFailure37FrozenBoard(t *testing.T) {
	b := newBench(t)
	b.on(1, 2)
	for range 10 {
		b.slots[0].Alive-- // stands still
		b.pass(1)
	}
	v := b.guard.Judge(b.now)
	require.False(t, v.Contactor)
	require.False(t, v.Halt)
	require.Empty(t, v.Alarms)
	require.True(t, b.pass(3).Contactor)
}

func TestSupplyLowGoesByItself(t *testing.T) {
	b := newBench(t)
	b.on(1)
	b.own.BackupInUse = slot.Yes
	v := b.pass(1)
	require.Equal(t, []bool{false, false, false}, v.Power)
	require.True(t, v.Halt)
	require.Equal(t, []Alarm{{protocol.AlarmSupply, 0}}, v.Alarms)
	b.own.BackupInUse = slot.No
	v = b.pass(1)
	require.False(t, v.Halt)
	require.Empty(t, v.Alarms)
}

func TestNeighbours(t *testing.T) {
	l := Limits{Slots: 12, Columns: 4}
	require.ElementsMatch(t, []int{2, 5}, l.Neighbours(1))
	require.ElementsMatch(t, []int{2, 5, 7, 10}, l.Neighbours(6))
	require.ElementsMatch(t, []int{4, 7, 12}, l.Neighbours(8))
	l.Columns = 1
	require.ElementsMatch(t, []int{1, 3}, l.Neighbours(2))
	require.ElementsMatch(t, []int{11}, l.Neighbours(12))
}

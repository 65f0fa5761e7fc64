package charging

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// drawView is any slot at all.
func drawView(t *rapid.T, n int) slot.View {
	soc := rapid.IntRange(0, 100).Draw(t, "soc")
	v := slot.View{
		Slot: n, Fresh: rapid.IntRange(0, 9).Draw(t, "fresh") > 0, Closed: rapid.IntRange(0, 9).Draw(t, "closed") > 0,
		Content: rapid.SampledFrom([]slot.Content{slot.Identified, slot.Identified, slot.Identified, slot.Empty, slot.Mute}).Draw(t, "content"),
		Serial:  protocol.BatterySerial(fmt.Sprintf("BT%d", n)), Smoke: rapid.IntRange(0, 19).Draw(t, "smoke") == 0,
	}
	v.Battery.BatterySerial = v.Serial
	if rapid.IntRange(0, 9).Draw(t, "known") > 0 {
		v.Battery.Soc = &soc
		v.Charged = soc >= 90
	}
	if low := rapid.IntRange(-200, 600).Draw(t, "low"); low < 550 {
		v.CellMin, v.CellMax = slot.Known(int32(low)), slot.Known(int32(low+rapid.IntRange(0, 60).Draw(t, "spread")))
	}
	return v
}

// TestPlanKeepsItsBounds: whatever the world, no plan is above the budget, and no
// battery is charged outside its temperatures, while it is unknown or barred.
func TestPlanKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := DefaultPlan()
		limits.BudgetW = rapid.IntRange(100, 8000).Draw(t, "budget")
		slots := rapid.IntRange(1, 12).Draw(t, "slots")
		p := NewPlanner(limits, slots)
		now := time.Duration(0)
		for range rapid.IntRange(1, 8).Draw(t, "plans") {
			now += time.Duration(rapid.IntRange(1, 3600).Draw(t, "seconds")) * time.Second
			in := Situation{Now: now, Day: Day{Known: rapid.Bool().Draw(t, "day"), Minute: rapid.IntRange(0, day-1).Draw(t, "minute")}}
			for n := 1; n <= slots; n++ {
				in.Slots = append(in.Slots, drawView(t, n))
				in.Barred = append(in.Barred, rapid.IntRange(0, 9).Draw(t, "barred") == 0)
			}
			others := 0
			if rapid.Bool().Draw(t, "meter") {
				others = rapid.IntRange(0, 2000).Draw(t, "others")
				in.MeterW = slot.Known(int32(p.takesW + others))
			}
			watts, kind := others, DefaultType()
			orders := p.Plan(in)
			require.Len(t, orders, slots)
			working := false
			for _, o := range orders {
				v := in.Slots[o.Slot-1]
				if o.Heater == slot.AirOn {
					working = true
					watts += limits.HeaterW
					require.False(t, o.On, "what is too cold to be charged")
					require.False(t, in.Barred[o.Slot-1])
					require.True(t, v.Fresh && v.Closed && v.Content == slot.Identified && !v.Smoke)
					require.Less(t, int(v.CellMin.N), kind.ChargeMinC*10+cooled)
					require.LessOrEqual(t, int(v.CellMax.N), kind.ChargeMaxC*10)
				} else {
					require.Equal(t, slot.AirOff, o.Heater, "no heater is left to itself")
				}
				if !o.On {
					continue
				}
				working = true
				require.Positive(t, o.LimitMA, "no order without a limit")
				require.LessOrEqual(t, o.LimitMA, kind.MaxMA)
				watts += powerW(o.LimitMA, kind.VoltageMV)
				require.False(t, in.Barred[o.Slot-1])
				require.True(t, v.Fresh && v.Closed && v.Content == slot.Identified && !v.Smoke)
				require.NotNil(t, v.Battery.Soc)
				require.GreaterOrEqual(t, int(v.CellMin.N), kind.ChargeMinC*10)
				require.LessOrEqual(t, int(v.CellMax.N), kind.ChargeMaxC*10)
				require.True(t, v.CellMin.Known && v.CellMax.Known)
			}
			if working {
				require.LessOrEqual(t, watts, limits.BudgetW)
			}
		}
	})
}

// TestStarvingBatteryGetsItsTurn: with power for one charger only, and others that
// are always nearer to their goal, each battery is charged within some hours.
func TestStarvingBatteryGetsItsTurn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := DefaultPlan()
		limits.BudgetW = 800
		const slots = 5
		p := NewPlanner(limits, slots)
		last := map[int]time.Duration{}
		minute := rapid.IntRange(0, day-1).Draw(t, "minute")
		for at := time.Duration(0); at < 24*time.Hour; at += 5 * time.Minute {
			in := Situation{Now: at, Day: Day{Known: false, Minute: minute}, Barred: make([]bool, slots)}
			for n := 1; n <= slots; n++ {
				soc := 85 - 15*(n-1) + rapid.IntRange(0, 3).Draw(t, "soc") // never gets nearer
				in.Slots = append(in.Slots, slot.View{
					Slot: n, Fresh: true, Closed: true, Content: slot.Identified, Serial: "BT", Battery: protocol.Battery{Soc: &soc},
					CellMin: slot.Known(200), CellMax: slot.Known(220),
				})
			}
			for _, o := range p.Plan(in) {
				if o.On {
					last[o.Slot] = at
				}
			}
			for n := 1; n <= slots; n++ {
				require.Less(t, at-last[n], starving+slots*(stay+5*time.Minute)+time.Minute, "slot %d", n)
			}
		}
	})
}

// TestFailure17StaleOrMissing: what is not known, stale, hot or cold is not charged.
func TestFailure17StaleOrMissing(t *testing.T) {
	soc := func(n int) protocol.Battery { return protocol.Battery{BatterySerial: "B", Soc: &n} }
	sound := slot.View{
		Slot: 1, Fresh: true, Closed: true, Content: slot.Identified, Serial: "B", Battery: soc(50),
		CellMin: slot.Known(200), CellMax: slot.Known(250),
	}
	cases := []struct {
		name   string
		spoil  func(*slot.View)
		barred bool
		want   int // mA
	}{
		{"sound", func(*slot.View) {}, false, 10_000},
		{"barred", func(*slot.View) {}, true, 0},
		{"stale", func(v *slot.View) { v.Fresh = false }, false, 0},
		{"not closed", func(v *slot.View) { v.Closed = false }, false, 0},
		{"mute", func(v *slot.View) { v.Content = slot.Mute }, false, 0},
		{"empty", func(v *slot.View) { v.Content = slot.Empty }, false, 0},
		{"smoke", func(v *slot.View) { v.Smoke = true }, false, 0},
		{"slot fault", func(v *slot.View) { v.Fault = slot.LockFault }, false, 0},
		{"full by the charger", func(v *slot.View) { v.Full = true }, false, 0},
		{"soc unknown", func(v *slot.View) { v.Battery.Soc = nil }, false, 0},
		{"too cold", func(v *slot.View) { v.CellMin = slot.Known(-1) }, false, 0},
		{"cold", func(v *slot.View) { v.CellMin = slot.Known(0) }, false, 5_000},
		{"warm", func(v *slot.View) { v.CellMax = slot.Known(401) }, false, 5_000},
		{"too hot", func(v *slot.View) { v.CellMax = slot.Known(451) }, false, 0},
		{"temperature unknown", func(v *slot.View) { v.CellMax = slot.Value{} }, false, 0},
		{"nearly full", func(v *slot.View) { v.Battery = soc(91) }, false, 5_000},
		{"rests at its target", func(v *slot.View) { v.Battery = soc(94) }, false, 0},
	}
	for _, c := range cases {
		v := sound
		c.spoil(&v)
		got := 0
		for _, o := range NewPlanner(DefaultPlan(), 1).Plan(Situation{Slots: []slot.View{v}, Barred: []bool{c.barred}}) {
			got = o.LimitMA
		}
		require.Equal(t, c.want, got, c.name)
	}
}

// TestFailure40ClockWrongByYears: the plan does not ask the clock of a boot that
// was never synchronised, and one that is wrong changes the hour of charging, no
// more: a battery is never charged beyond its bounds, and the reserve always is.
func TestFailure40ClockWrongByYears(t *testing.T) {
	soc := 20
	v := slot.View{
		Slot: 1, Fresh: true, Closed: true, Content: slot.Identified, Serial: "B", Battery: protocol.Battery{Soc: &soc},
		CellMin: slot.Known(200), CellMax: slot.Known(250),
	}
	for minute := range day {
		for _, known := range []bool{true, false} {
			in := Situation{Day: Day{Known: known, Minute: minute}, Slots: []slot.View{v}, Barred: []bool{false}}
			require.True(t, NewPlanner(DefaultPlan(), 1).Plan(in)[0].On, "minute %d", minute)
		}
	}
}

// TestColdIsWarmedFirst: a battery that is too cold to be charged is warmed, within the
// budget, until it may be; a warm one is fanned before it must be charged more slowly,
// and nothing blows into smoke.
func TestColdIsWarmedFirst(t *testing.T) {
	soc := 50
	view := func(n int, deciC int32) slot.View {
		return slot.View{
			Slot: n, Fresh: true, Closed: true, Content: slot.Identified, Serial: "B", Battery: protocol.Battery{Soc: &soc},
			CellMin: slot.Known(deciC), CellMax: slot.Known(deciC + 5),
		}
	}
	limits := DefaultPlan()
	limits.BudgetW = limits.HeaterW + powerW(DefaultType().MaxMA/leastPart, DefaultType().VoltageMV)
	p := NewPlanner(limits, 2)
	plan := func(at int, deciC ...int32) []Order {
		in := Situation{Now: time.Duration(at) * time.Minute, Barred: make([]bool, 2)}
		for i, c := range deciC {
			in.Slots = append(in.Slots, view(i+1, c))
		}
		if len(deciC) == 1 {
			in.Slots = append(in.Slots, slot.View{Slot: 2, Fresh: true, Closed: true, Content: slot.Empty})
		}
		return p.Plan(in)
	}
	for at, c := range []struct {
		deciC  int32
		on     bool
		heater slot.Air
		fan    slot.Air
	}{
		{-100, false, slot.AirOn, slot.AirAuto}, {-1, false, slot.AirOn, slot.AirAuto},
		{15, false, slot.AirOn, slot.AirAuto}, // until it is well within
		{20, true, slot.AirOff, slot.AirAuto}, {0, true, slot.AirOff, slot.AirAuto}, {-2, false, slot.AirOn, slot.AirAuto},
		{200, true, slot.AirOff, slot.AirAuto}, {344, true, slot.AirOff, slot.AirAuto}, {345, true, slot.AirOff, slot.AirOn},
		{326, true, slot.AirOff, slot.AirOn}, {324, true, slot.AirOff, slot.AirAuto}, {500, false, slot.AirOff, slot.AirOn},
	} {
		o := plan(at, c.deciC)[0]
		require.Equal(t, Order{Slot: 1, On: c.on, LimitMA: o.LimitMA, Heater: c.heater, Fan: c.fan}, o, "%d", c.deciC)
		require.Equal(t, c.on, o.LimitMA > 0)
	}
	both := plan(20, -50, -50)
	require.Equal(t, slot.AirOn, both[0].Heater)
	require.Equal(t, slot.AirOn, both[1].Heater)
	p.limits.BudgetW = limits.HeaterW + 50
	both = plan(21, -50, -50)
	require.Equal(t, slot.AirOn, both[0].Heater)
	require.Equal(t, slot.AirOff, both[1].Heater, "beyond the budget")
	require.Equal(t, limits.HeaterW, p.TakesW())

	smoky := view(1, 400)
	smoky.Smoke = true
	require.Equal(t, slot.AirOff, p.Plan(Situation{Slots: []slot.View{smoky, view(2, 200)}, Barred: make([]bool, 2)})[0].Fan)
	p = NewPlanner(PlanLimits{BudgetW: 3000, ReleaseSoc: 90}, 2)
	require.Equal(t, slot.AirAuto, plan(22, -50)[0].Heater, "where there are none")
}

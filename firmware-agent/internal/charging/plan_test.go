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
			for _, o := range orders {
				v := in.Slots[o.Slot-1]
				require.True(t, o.On)
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
			if len(orders) > 0 {
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
				last[o.Slot] = at
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
			require.Len(t, NewPlanner(DefaultPlan(), 1).Plan(in), 1, "minute %d", minute)
		}
	}
}

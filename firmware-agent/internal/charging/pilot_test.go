package charging

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// The pilot: 64 swaps a day at two cabinets of twelve slots, eleven batteries in
// each, most of the riders at meal times. Energy at night costs 0.35, else 0.85 a
// kWh: only the ratio of the two matters.
const (
	swapsADay     = 64
	pilotDays     = 28
	pilotSlots    = 12
	cheapPrice    = 0.35
	usualPrice    = 0.85
	ownPowerW     = 60 // what a cabinet takes beside its chargers
	pilotCabinets = 2
)

// demand is which part of a day's riders come in a window.
func demand() []part {
	return []part{
		{Window{7 * 60, 11 * 60}, .16}, {Window{11 * 60, 13*60 + 30}, .30}, {Window{13*60 + 30, 17 * 60}, .14},
		{Window{17 * 60, 20 * 60}, .30}, {Window{20 * 60, 23 * 60}, .10},
	}
}

type part struct {
	Window
	of float64
}

// pilot is one cabinet through four weeks.
type pilot struct {
	riders, random *rand.Rand
	views          []slot.View
	soc            []float64
	next           int

	scans, granted int
	energyKWh      float64
	cost           float64
	peakW          int
	above95        int // minutes of batteries above 95 %
	minutes        int
}

func newPilot(seed uint64) *pilot {
	p := &pilot{riders: rand.New(rand.NewPCG(seed, 1)), random: rand.New(rand.NewPCG(seed, 2))}
	for n := 1; n <= pilotSlots; n++ {
		p.views, p.soc = append(p.views, slot.View{Slot: n}), append(p.soc, 0)
		if n > 1 {
			p.put(n, 90)
		} else {
			p.take(n)
		}
	}
	return p
}

func (p *pilot) put(n int, soc float64) {
	p.next++
	p.soc[n-1] = soc
	p.views[n-1] = slot.View{
		Slot: n, Fresh: true, Closed: true, Content: slot.Identified, Serial: protocol.BatterySerial(fmt.Sprintf("BT%05d", p.next)),
		CellMin: slot.Known(240), CellMax: slot.Known(270),
	}
}

func (p *pilot) take(n int) {
	p.views[n-1] = slot.View{Slot: n, Fresh: true, Closed: true, Content: slot.Empty}
}

// scan is one rider: a flat battery goes in, the fullest comes out.
func (p *pilot) scan() {
	p.scans++
	empty, best := 0, 0
	for i, v := range p.views {
		switch {
		case v.Content == slot.Empty:
			empty = i + 1
		case v.Charged && (best == 0 || p.soc[i] > p.soc[best-1]):
			best = i + 1
		}
	}
	if best == 0 {
		return
	}
	p.granted++
	p.put(empty, 10+30*p.random.Float64())
	p.take(best)
}

// planned is who decides: the slots that charge, with their currents.
type planned func(Situation) []Order

// atOnce charges everything, at once and at full power.
func atOnce(in Situation) []Order {
	var out []Order
	for _, v := range in.Slots {
		if v.Content == slot.Identified && *v.Battery.Soc < 100 {
			out = append(out, Order{Slot: v.Slot, On: true, LimitMA: DefaultType().MaxMA})
		}
	}
	return out
}

// run lets four weeks pass.
func (p *pilot) run(share float64, plan planned) {
	kind := DefaultType()
	for minute := range pilotDays * day {
		ofDay := minute % day
		for _, w := range demand() {
			if w.holds(ofDay) && p.riders.Float64() < w.of*share/float64(w.To-w.From) {
				p.scan()
			}
		}
		for i := range p.views {
			if v := &p.views[i]; v.Content == slot.Identified {
				soc := int(p.soc[i])
				v.Battery = protocol.Battery{BatterySerial: v.Serial, Soc: &soc}
				v.Charged = soc >= 90
			}
		}
		total := ownPowerW
		in := Situation{
			Now: time.Duration(minute) * time.Minute, Day: Day{Known: true, Minute: ofDay}, Slots: p.views, Barred: make([]bool, pilotSlots),
		}
		for _, o := range plan(in) {
			mA := o.LimitMA
			if p.soc[o.Slot-1] >= taperFrom {
				mA = min(mA, kind.MaxMA/2)
			}
			w := powerW(mA, kind.VoltageMV)
			total += w
			p.soc[o.Slot-1] = min(100, p.soc[o.Slot-1]+float64(mA)/60/float64(kind.CapacityMAH)*100)
			kWh := float64(w) / 60_000
			p.energyKWh += kWh
			price := usualPrice
			if (Window{22 * 60, 8 * 60}).holds(ofDay) {
				price = cheapPrice
			}
			p.cost += kWh * price
		}
		p.peakW = max(p.peakW, total-ownPowerW)
		for i, v := range p.views {
			if v.Content == slot.Identified {
				p.minutes++
				if p.soc[i] > 95 {
					p.above95++
				}
			}
		}
	}
}

// figures are what four weeks come to.
type figures struct {
	scans          int
	availability   float64 // %
	costADay       float64
	costPerSwap    float64
	kWhADay        float64
	peakW          int
	above95Percent float64 // part of the time that batteries rest above 95 %
}

func fourWeeks(cabinets int, plan func() planned) figures {
	var f figures
	granted, cost, above, minutes := 0, 0.0, 0, 0
	for c := range cabinets {
		p := newPilot(uint64(c) + 7)
		p.run(float64(swapsADay)/float64(cabinets), plan())
		f.scans += p.scans
		granted += p.granted
		cost += p.cost
		f.kWhADay += p.energyKWh / pilotDays
		f.peakW = max(f.peakW, p.peakW)
		above, minutes = above+p.above95, minutes+p.minutes
	}
	f.availability = 100 * float64(granted) / float64(f.scans)
	f.costADay, f.costPerSwap = cost/pilotDays, cost/float64(granted)
	f.above95Percent = 100 * float64(above) / float64(minutes)
	return f
}

func ours() planned {
	p := NewPlanner(DefaultPlan(), pilotSlots)
	return p.Plan
}

// TestPilotDemand: the plan keeps a charged battery for riders at less cost than
// charging at once, and never above the budget.
func TestPilotDemand(t *testing.T) {
	plan := fourWeeks(pilotCabinets, ours)
	naive := fourWeeks(pilotCabinets, func() planned { return atOnce })
	t.Logf("plan %+v", plan)
	t.Logf("at once %+v", naive)
	require.GreaterOrEqual(t, plan.availability, 99.0)
	require.Less(t, plan.costPerSwap, naive.costPerSwap)
	require.LessOrEqual(t, plan.peakW, DefaultPlan().BudgetW)
	require.Greater(t, naive.peakW, DefaultPlan().BudgetW)
}

// BenchmarkPilotDemand prints both side by side, for one, two and three cabinets.
func BenchmarkPilotDemand(b *testing.B) {
	for _, cabinets := range []int{1, pilotCabinets, 3} {
		for _, who := range []struct {
			name string
			plan func() planned
		}{{"plan", ours}, {"at_once", func() planned { return atOnce }}} {
			b.Run(fmt.Sprintf("%d_cabinets/%s", cabinets, who.name), func(b *testing.B) {
				var f figures
				for b.Loop() {
					f = fourWeeks(cabinets, who.plan)
				}
				b.ReportMetric(f.availability, "%available")
				b.ReportMetric(f.costADay, "cost/day")
				b.ReportMetric(f.costPerSwap, "cost/swap")
				b.ReportMetric(float64(f.peakW), "W-peak")
				b.ReportMetric(f.kWhADay, "kWh/day")
				b.ReportMetric(f.above95Percent, "%time>95soc")
			})
		}
	}
}

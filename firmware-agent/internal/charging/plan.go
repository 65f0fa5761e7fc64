package charging

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/slot"
)

// Numbers of the plan.
const (
	// resume is how far below its goal a battery is charged again, in %: one that
	// rests does not switch its charger on and off.
	resume = 2
	// cooled is how far a battery must be back within its temperature limits
	// before it is charged again, in 0.1 °C.
	cooled = 20
	// stay is how long a charger stays on, once it is, while another waits.
	stay = 10 * time.Minute
	// starving is how long a battery may wait while others are charged.
	starving = time.Hour
	// taperFrom is the soc, in %, from which a battery gets half the current.
	taperFrom = 90
	// leastPart of a battery's highest current is the least that it is charged
	// with, and limitStep the step of a limit, in mA.
	leastPart = 5
	limitStep = 100
	// efficiency of a charger, in %.
	efficiency = 90
	// coolFrom is how far below its upper temperature limit, in 0.1 °C, a battery's
	// fan is switched on, whatever the board thinks of the air; it goes on until it is
	// cooler by another coolBand.
	coolFrom, coolBand = 100, 20
	// margin is added to the time that charging before a peak takes, in %, and
	// leadLeast is the least of it.
	margin    = 50
	leadLeast = 30 * time.Minute
)

// PlanLimits are the numbers of a cabinet's plan.
type PlanLimits struct {
	// BudgetW is what all chargers and heaters, or with a meter the whole cabinet, may
	// take, in W.
	BudgetW int
	// HeaterW is what a slot's heater takes, in W; 0 where there are none.
	HeaterW int
	// ReleaseSoc is the soc, in %, from which a battery is given out.
	ReleaseSoc int
	// Reserve is how many charged batteries are wanted at any time.
	Reserve int
	// Peaks are when riders come; Cheap is when power is cheap. Local time.
	Peaks, Cheap []Window
	Types        Types
}

// DefaultPlan is the default plan: 3 kW is a usual single-phase feed of a street
// cabinet, 100 W a heater that warms a slot by 20 °C, riders come at meal times, and
// power is cheap at night.
func DefaultPlan() PlanLimits {
	return PlanLimits{
		BudgetW: 3000, HeaterW: 100, ReleaseSoc: slot.DefaultLimits().ReleaseSoc, Reserve: 4, Types: Types{Default: DefaultType()},
		Peaks: []Window{{11 * 60, 13*60 + 30}, {17 * 60, 20 * 60}},
		Cheap: []Window{{22 * 60, 8 * 60}},
	}
}

// Window is a time of each day, in minutes since midnight; one that ends before
// it begins goes over midnight.
type Window struct{ From, To int }

// String is "HH:MM-HH:MM".
func (w Window) String() string {
	return fmt.Sprintf("%02d:%02d-%02d:%02d", w.From/60, w.From%60, w.To/60, w.To%60)
}

const day = 24 * 60

func (w Window) holds(minute int) bool {
	if w.From <= w.To {
		return minute >= w.From && minute < w.To
	}
	return minute >= w.From || minute < w.To
}

// until is how many minutes are left until a minute of the day comes.
func until(from, to int) int { return ((to-from)%day + day) % day }

// Day is the local time of day, if it is known.
type Day struct {
	Known  bool
	Minute int // since midnight
}

// Situation is what the plan is made for.
type Situation struct {
	Now time.Duration // agent's monotonic clock
	Day Day
	// Slots are the views of all slots, in the order of their numbers.
	Slots []slot.View
	// Barred says of each slot that it is not charged, whatever its view shows: a
	// swap may open it, it is out of service, safety forbids it.
	Barred []bool
	// MeterW is what the whole cabinet takes, in W, where a meter is.
	MeterW slot.Value
}

// Planner remembers what the plan before was, so that it is kept to. It is not
// safe for concurrent use.
type Planner struct {
	limits PlanLimits
	slots  []turn // by slot number less 1
	at     time.Duration
	takesW int // what the chargers that are on are taken to take
}

// turn is what is remembered of one slot.
type turn struct {
	on     bool
	since  time.Duration
	waited time.Duration // while others were charged
	hot    bool          // out of its temperature limits, until it is well within
	cold   bool          // hot, but by the lower limit alone: to be warmed
	fan    bool
	// fed is until when a battery that has starved stays first.
	fed time.Duration
}

// NewPlanner makes a planner of a cabinet with that many slots.
func NewPlanner(l PlanLimits, slots int) *Planner {
	return &Planner{limits: l, slots: make([]turn, slots)}
}

// wish is a battery that may be charged, or warmed until it may be.
type wish struct {
	slot    int
	heat    bool
	rank    int // the lower the sooner
	soc     int
	limitMA int
	powerW  int
	// leastMA is the least current that is worth it.
	leastMA, voltageMV int
}

// powerW is what a charger takes, rounded up.
func powerW(milliamps, millivolts int) int {
	return (milliamps*(millivolts/1000)*100/efficiency + 999) / 1000
}

// within gives a wish that fits into what is left of the budget: with a lower
// current, or with none.
func (w wish) within(leftW int) wish {
	if w.powerW <= leftW {
		return w
	}
	if w.heat {
		return wish{}
	}
	w.limitMA = max(leftW, 0) * 1000 / (w.voltageMV / 1000) * efficiency / 100 / limitStep * limitStep
	w.powerW = powerW(w.limitMA, w.voltageMV)
	if w.limitMA < w.leastMA || w.powerW > leftW {
		return wish{}
	}
	return w
}

// Ranks of wishes.
const (
	rankStarving = iota
	rankReserve  // charged batteries are missing
	rankKeep     // is charged since a short while
	rankGoal     // has its goal to reach
)

// Plan says what every slot's charger, fan and heater are to do now, in the order of
// the slots' numbers. No charger and no heater is on beyond the budget.
func (p *Planner) Plan(in Situation) []Order {
	passed := max(in.Now-p.at, 0)
	p.at = in.Now
	wishes := p.wishes(in)
	slices.SortStableFunc(wishes, func(a, b wish) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.soc, a.soc), cmp.Compare(a.slot, b.slot))
	})
	left := p.limits.BudgetW - p.others(in.MeterW)
	chosen := map[int]wish{}
	for _, w := range wishes {
		if w = w.within(left); w.powerW > 0 {
			left -= w.powerW
			chosen[w.slot] = w
		}
	}
	p.takesW = 0
	var orders []Order
	for i := range p.slots {
		t := &p.slots[i]
		w, on := chosen[i+1]
		wants := slices.ContainsFunc(wishes, func(w wish) bool { return w.slot == i+1 })
		switch {
		case on && !t.on:
			if t.waited >= starving {
				t.fed = in.Now + stay
			}
			t.on, t.since, t.waited = true, in.Now, 0
		case !on:
			t.on = false
		}
		switch {
		case !wants:
			t.waited = 0
		case !on && len(chosen) > 0:
			t.waited += passed
		}
		o := Order{Slot: i + 1, On: on && !w.heat, LimitMA: w.limitMA, Fan: t.air(in.Slots[i], p.limits.Types)}
		switch {
		case on && w.heat:
			o.Heater = slot.AirOn
		case p.limits.HeaterW > 0:
			o.Heater = slot.AirOff // by itself it would be beyond the budget
		}
		if on {
			p.takesW += w.powerW
		}
		orders = append(orders, o)
	}
	return orders
}

// others is what the cabinet takes beside its chargers, as the meter tells.
func (p *Planner) others(meter slot.Value) int {
	if !meter.Known {
		return 0
	}
	return max(int(meter.N)-p.takesW, 0)
}

// wishes are the batteries that may be charged and have not reached their goal.
func (p *Planner) wishes(in Situation) []wish {
	ready := 0
	for i, v := range in.Slots {
		if v.Charged && !in.Barred[i] {
			ready++
		}
	}
	goal, busy := p.goal(in)
	reserve := p.limits.Reserve
	if busy {
		reserve = len(in.Slots)
	}
	var out []wish
	for i, v := range in.Slots {
		t := &p.slots[i]
		kind := p.limits.Types.Of(string(v.Serial))
		chargeable := t.chargeable(v, kind)
		heat := t.cold && p.limits.HeaterW > 0
		if !chargeable && !heat || in.Barred[i] {
			continue
		}
		w := wish{slot: i + 1, soc: *v.Battery.Soc, rank: rankGoal, heat: heat, powerW: p.limits.HeaterW}
		if !heat {
			w.limitMA = stage(v, kind)
			w.leastMA, w.voltageMV = kind.MaxMA/leastPart, kind.VoltageMV
			w.powerW = powerW(w.limitMA, w.voltageMV)
		}
		upTo := goal(kind)
		if ready < reserve && w.soc < p.limits.ReleaseSoc+resume {
			upTo, w.rank = max(upTo, min(p.limits.ReleaseSoc+resume, kind.MaxSoc)), rankReserve
		}
		if !t.on {
			upTo -= resume
		}
		if w.soc >= upTo || v.Full {
			continue
		}
		if t.on && in.Now-t.since < stay {
			w.rank = min(w.rank, rankKeep)
		}
		if t.waited >= starving || t.on && in.Now < t.fed {
			w.rank = rankStarving
		}
		out = append(out, w)
	}
	return out
}

// chargeable: closed, known, and within its temperatures.
func (t *turn) chargeable(v slot.View, kind Type) bool {
	t.cold = false
	if !v.Fresh || !v.Closed || v.Content != slot.Identified || v.Smoke || v.Fault != slot.NoFault || v.Battery.Soc == nil {
		t.hot = false
		return false
	}
	if !v.CellMin.Known || !v.CellMax.Known {
		return false
	}
	low, high := int32(kind.ChargeMinC*10), int32(kind.ChargeMaxC*10)
	if t.hot {
		low, high = low+cooled, high-cooled
	}
	t.hot = v.CellMin.N < low || v.CellMax.N > high
	t.cold = v.CellMin.N < low && v.CellMax.N <= high
	return !t.hot
}

// air is what a slot's fan is to do: to cool what gets warm before it must be charged
// more slowly, not at all while there is smoke, and else as the board thinks.
func (t *turn) air(v slot.View, types Types) slot.Air {
	from := int32(types.Of(string(v.Serial)).ChargeMaxC*10 - coolFrom)
	if t.fan {
		from -= coolBand
	}
	t.fan = v.Fresh && v.CellMax.Known && v.CellMax.N >= from
	switch {
	case v.Smoke:
		return slot.AirOff
	case t.fan:
		return slot.AirOn
	}
	return slot.AirAuto
}

// TakesW is what the plan's chargers and heaters take, in W.
func (p *Planner) TakesW() int { return p.takesW }

// stage is the charge current by temperature and soc: half when it is cold, near
// the upper limit, or nearly full.
func stage(v slot.View, kind Type) (limitMA int) {
	cold, warm := int(v.CellMin.N) < kind.ColdC*10, int(v.CellMax.N) > (kind.ChargeMaxC-5)*10
	if cold || warm || *v.Battery.Soc >= taperFrom {
		return kind.MaxMA / 2
	}
	return kind.MaxMA
}

// goal is how far batteries of a type are charged now, and whether it is a peak,
// or so soon before one that every battery has to be ready.
func (p *Planner) goal(in Situation) (goal func(Type) int, busy bool) {
	full := func(t Type) int { return t.MaxSoc }
	target := func(t Type) int { return t.TargetSoc }
	store := func(t Type) int { return t.StoreSoc }
	none := func(Type) int { return 0 }
	if !in.Day.Known {
		return target, true // availability first
	}
	if _, in := inside(p.limits.Peaks, in.Day.Minute); in {
		return target, true
	}
	peak, known := next(p.limits.Peaks, in.Day.Minute)
	if known && peak <= p.lead(in, full) {
		return full, true
	}
	left, cheap := inside(p.limits.Cheap, in.Day.Minute)
	switch {
	case cheap && left <= p.lead(in, target):
		return target, false
	case cheap:
		return store, false
	case len(p.limits.Cheap) == 0:
		return target, false
	}
	return none, false
}

// inside says whether a minute of the day lies in a window, and how many minutes
// are left of it.
func inside(windows []Window, minute int) (left int, in bool) {
	for _, w := range windows {
		if w.holds(minute) {
			return until(minute, w.To), true
		}
	}
	return 0, false
}

// next is how many minutes are left until the next window begins.
func next(windows []Window, minute int) (left int, known bool) {
	left = day
	for _, w := range windows {
		left, known = min(left, until(minute, w.From)), true
	}
	return left, known
}

// lead is how many minutes before it is needed charging to a goal must begin: what
// is missing, within the budget, and some more.
func (p *Planner) lead(in Situation, goal func(Type) int) int {
	missing, longest := 0, 0 // Wh/100, minutes
	for i, v := range in.Slots {
		if in.Barred[i] || v.Battery.Soc == nil {
			continue
		}
		kind := p.limits.Types.Of(string(v.Serial))
		percent := max(goal(kind)-*v.Battery.Soc, 0)
		missing += percent * kind.capacityWh()
		// One charger alone, with its taper.
		slow := max(goal(kind)-max(*v.Battery.Soc, taperFrom), 0)
		longest = max(longest, (percent+slow)*kind.capacityWh()*60/100/max(kind.PowerW(), 1))
	}
	minutes := missing * 60 / efficiency / max(p.limits.BudgetW, 1)
	minutes = max(minutes, longest)
	return minutes*(100+margin)/100 + int(leadLeast.Minutes())
}

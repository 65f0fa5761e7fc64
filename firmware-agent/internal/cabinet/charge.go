package cabinet

import (
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/swap"
)

// planEvery is how often the charging plan is made anew; at once when a swap
// begins to use other slots.
const planEvery = time.Second

// planned is the last plan.
type planned struct {
	done   bool
	at     time.Duration
	inUse  []int
	orders []charging.Order
}

// charge makes the plan and says it to who switches the chargers.
func (c *Core) charge(in swap.Input) {
	inUse, durable := c.inUse(), c.durable()
	if c.planned.done && in.Now-c.planned.at < planEvery && slices.Equal(inUse, c.planned.inUse) {
		return
	}
	s := charging.Situation{Now: in.Now, Day: c.o.Day(), Slots: in.Slots, MeterW: c.o.MeterW()}
	for i, v := range in.Slots {
		unsafe := c.safety != nil && !c.safety.Power[i]
		s.Barred = append(s.Barred, in.Halt || unsafe || slices.Contains(inUse, v.Slot) || durable.Barred(v))
	}
	c.planned = planned{done: true, at: in.Now, inUse: inUse, orders: c.planner.Plan(s)}
	c.stats.plannedW.Store(int64(c.planner.TakesW()))
	c.add(Charge{c.planned.orders})
}

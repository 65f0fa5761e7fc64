package cabinet

import (
	"context"
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/firmware-agent/internal/swap"
)

const (
	// chargeTime is what the board gets to switch one slot.
	chargeTime = 2 * time.Second
	// chargeAgain is how long to wait before a switch that the board's own
	// account does not show is ordered again; it doubles up to chargeSeldom.
	chargeAgain  = 2 * time.Second
	chargeSeldom = time.Minute
)

type chargeOrder struct {
	slot int
	on   bool
}

type chargeResult struct{ slot int }

// chargeTurn bounds the orders of one slot: one at a time, then a pause.
type chargeTurn struct {
	under  bool // an order is under way
	on     bool // the last order
	pause  time.Duration
	nextAt time.Duration
}

// charge compares what the board says of each charge switch with what it should
// be, and orders the difference.
func (c *Cabinet) charge(in swap.Input) {
	inUse, durable := c.inUse(), c.durable()
	for _, v := range in.Slots {
		turn := &c.chargeTurn[v.Slot]
		on := !in.Halt && charging.Decide(v, slices.Contains(inUse, v.Slot) || durable.Barred(v))
		if !v.Fresh || turn.under || v.ChargeEnabled == slot.TriOf(on) {
			if v.Fresh && !turn.under {
				turn.pause = 0
			}
			continue
		}
		if turn.on != on {
			turn.pause, turn.nextAt = 0, 0
		}
		if in.Now < turn.nextAt {
			continue
		}
		turn.pause = min(max(2*turn.pause, chargeAgain), chargeSeldom)
		turn.under, turn.on, turn.nextAt = true, on, in.Now+turn.pause
		c.chargings <- chargeOrder{v.Slot, on} // one order a slot: never blocks
	}
}

func (c *Cabinet) chargeDone(r chargeResult) { c.chargeTurn[r.slot].under = false }

// charger carries the orders out, one after the other.
func (c *Cabinet) charger(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-c.chargings:
			one, cancel := context.WithTimeout(ctx, chargeTime)
			if err := c.o.Board.Charge(one, o.slot, o.on); err != nil && ctx.Err() == nil {
				c.stats.chargeErrors.Add(1)
				c.o.Log.Debug("charge switch", "slot", o.slot, "err", err)
			}
			cancel()
			c.charged <- chargeResult{o.slot} // as many places as slots
		}
	}
}

package charging

import (
	"time"

	"batteryswap/firmware-agent/internal/slot"
)

// Cabinet is what the cabinet's own board said that matters to safety.
type Cabinet struct {
	At            time.Duration // agent's monotonic clock
	Smoke         slot.Tri
	Water         slot.Tri
	EmergencyStop slot.Tri
	Key           slot.Tri // the maintenance key is turned
	BackupInUse   slot.Tri // the mains are below 80 %
	Contactor     slot.Tri // its feedback: closed
	UpperTemp     slot.Value
	BackupMV      slot.Value
	Alive         uint16
}

// Bits of SlotBoard v1's fault bitmap (register 0001) that tell of heat.
const (
	faultChargeHot = 1 << 4
	faultSlotHot   = 1 << 22
)

// frozenAfter is how long a board's alive counter, +1 each second, may stand
// still before its answers are taken for copies of old ones.
const frozenAfter = 3 * time.Second

// contact is what is remembered of whether a board lives.
type contact struct {
	heard   bool
	at      time.Duration // the last good reading that was not a frozen board's
	alive   uint16
	aliveAt time.Duration
	frozen  bool
	misses  int // polls in a row that failed
}

// answered takes in the alive counter of a reading, and says whether the reading
// is of now.
func (c *contact) answered(at time.Duration, alive uint16) bool {
	if !c.heard || alive != c.alive {
		c.alive, c.aliveAt, c.frozen = alive, at, false
	} else if at-c.aliveAt > frozenAfter {
		c.frozen = true
	}
	c.heard, c.misses = true, 0
	if !c.frozen {
		c.at = at
	}
	return !c.frozen
}

// fresh: the board lives, and was read a moment ago.
func (c *contact) fresh(maxAge, now time.Duration) bool {
	return c.heard && !c.frozen && now-c.at <= maxAge
}

// Samples of a battery's temperature, for its rate of rise.
const (
	// riseOver is the least time between two readings that are compared: less,
	// and a sensor's noise of 0.1 °C is a rate.
	riseOver = 500 * time.Millisecond
	// riseWithin is how old a sample may be.
	riseWithin = 5 * time.Second
	// riseLeast is the least rise that counts, in 0.1 °C.
	riseLeast  = 5
	maxSamples = 32
)

type sample struct {
	at    time.Duration
	deciC int32
}

// climb is the temperatures of one battery in one slot, the newest last.
type climb struct {
	samples []sample
	// maybe: it gets warmer by more than half the limit, and is worth watching.
	maybe bool
}

// add takes a reading in and says whether the battery gets warmer by more than
// limit °C in a second. It compares with the two newest readings that are old
// enough: one that was too low proves nothing.
func (c *climb) add(at time.Duration, deciC int32, limit float64) bool {
	c.maybe = false
	old := c.samples
	for len(old) > 0 && (at-old[0].at > riseWithin || len(old) >= maxSamples) {
		old = old[1:]
	}
	c.samples = append(old[:len(old):len(old)], sample{at, deciC})
	var least float64
	compared := 0
	for i := len(old) - 1; i >= 0 && compared < 2; i-- {
		passed := at - old[i].at
		if passed < riseOver {
			continue
		}
		if compared == 0 {
			least = max(limit*passed.Seconds()*10, riseLeast)
			c.maybe = float64(deciC-old[i].deciC) > least/2
		}
		if compared++; float64(deciC-old[i].deciC) <= least {
			return false
		}
	}
	return compared > 0
}

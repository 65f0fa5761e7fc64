package charging

import (
	"cmp"
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/slot"
)

// ageLeft is how long before a reading is too old the slot is read out of turn.
const ageLeft = 600 * time.Millisecond

// idleLeft is the same of a slot that has no power: less, so that a poller that is a
// little late is left to it.
const idleLeft = 400 * time.Millisecond

// watchEvery is how often a battery that gets warmer is read.
const watchEvery = 100 * time.Millisecond

// Urgent are the slots whose next reading decides something: a first sign that a
// second reading may confirm, a charger that was just switched off, a slot that has or
// could have power and was not read for a while. The most urgent come first.
func (g *Guard) Urgent(now time.Duration) []int {
	var out, aged []int
	for i := range g.slots {
		s := &g.slots[i]
		if s.misses >= silentMisses {
			continue // who polls it will tell when it is back
		}
		sign := s.hot == 1 || s.rising == 1 || s.current == 1 || s.smog == 1
		died := s.told && !s.on && s.last.At <= s.offAt+CurrentDies && now > s.offAt+CurrentDies
		// While the contactor is closed a relay that sticks can give any slot power.
		live := g.cabinet.told && g.cabinet.closed && now-s.at > g.limits.MaxAge-idleLeft
		old := s.told && s.on && now-s.at > g.limits.MaxAge-ageLeft || live
		missed := s.unsure() && s.misses > 0
		climbs := s.climb.maybe && now-s.last.At >= watchEvery
		switch {
		case sign, climbs, died && s.heard, missed:
			out = append(out, i+1)
		case old:
			aged = append(aged, i+1)
		}
	}
	slices.SortStableFunc(aged, func(a, b int) int { return cmp.Compare(g.slots[a-1].at, g.slots[b-1].at) })
	return append(out, aged...)
}

// Off reports whether a slot's charger is off as far as is known: the order was
// taken, and no later reading speaks against it.
func (g *Guard) Off(slotNumber int) bool {
	s := &g.slots[slotNumber-1]
	echo := s.last.ChargeEnabled == slot.Yes && s.last.At > s.offAt
	return s.told && !s.on && !echo
}

// On reports whether a slot's charger is on as far as is known.
func (g *Guard) On(slotNumber int) bool {
	s := &g.slots[slotNumber-1]
	return s.told && s.on && s.last.ChargeEnabled != slot.No
}

// Contactor is what the contactor's feedback said last, and whether it was told
// to be closed.
func (g *Guard) Contactor() (closed slot.Tri, told bool) {
	return g.cabinet.last.Contactor, g.cabinet.told && g.cabinet.closed
}

// ContactorOff reports whether the contactor is open as far as is known.
func (g *Guard) ContactorOff() bool {
	c := &g.cabinet
	return c.told && !c.closed && !c.unsure && (c.last.Contactor != slot.Yes || c.last.At <= c.commandedAt)
}

// CabinetSilent reports whether the cabinet's own board has failed to answer so
// often that it is asked seldom.
func (g *Guard) CabinetSilent() bool { return g.cabinet.misses >= silentMisses }

// CabinetAt is when the cabinet's own board was last read.
func (g *Guard) CabinetAt() time.Duration { return g.cabinet.at }

// Silent reports whether a slot's board has failed to answer so often that whoever
// polls it must tell when it is back.
func (g *Guard) Silent(slotNumber int) bool { return g.slots[slotNumber-1].misses >= silentMisses }

// Order is what the plan wants of a slot's charger, its fan and its heater.
type Order struct {
	Slot int
	On   bool
	// LimitMA is the highest current, in mA; 0 is the battery's own.
	LimitMA     int
	Fan, Heater slot.Air
}

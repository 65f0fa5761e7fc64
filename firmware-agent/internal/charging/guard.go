package charging

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// Times of the safety rules, on the agent's monotonic clock.
const (
	// CurrentDies is how long current may flow after its charger was switched off.
	CurrentDies = 500 * time.Millisecond
	// calm is how long a cause must be over before power returns.
	calm = time.Minute
	// silentLatch is how long a battery may not tell its temperature before it is
	// in quarantine; its charger is off meanwhile.
	silentLatch = 10 * time.Second
	// contactorMoves is how long the contactor may take to do what it is told.
	contactorMoves = 2 * time.Second
	// afterWatchdog is added to a board's own watchdog before it is believed to
	// have switched off what it does not tell of.
	afterWatchdog = 5 * time.Second
	// coolBy is how far below warm a battery is no longer warm, in 0.1 °C.
	coolBy = 50
	// silentMisses polls in a row make a board silent.
	silentMisses = 3
	// agree is how many readings in a row latch an alarm.
	agree = 2
)

// Limits are the numbers of the safety rules.
type Limits struct {
	Slots int
	// Columns is how many slots stand side by side: neighbours are beside, above
	// and below.
	Columns int
	Types   Types
	// MaxAge is how old the last reading of a slot with power, or of the
	// cabinet's own board, may become.
	MaxAge time.Duration
	// Watchdog is after how much silence a board switches charging off by itself.
	Watchdog time.Duration
	// CurrentOffMA is the least current that counts as flowing, in mA.
	CurrentOffMA int
	// AirHotC is how hot the air in the cabinet may be, in °C.
	AirHotC int
	// BackupMinMV is the least voltage of the backup supply, in mV.
	BackupMinMV int
}

// DefaultLimits are the defaults: a reading is at most 1.8 s old (polls come every second), 300 mA is above
// the noise of a battery's shunt and below any charger's first stage, 60 °C is
// the default of a hot battery, 10.1 V is 80 % of a 12.6 V backup supply, and
// 30 s is SlotBoard v1's watchdog.
func DefaultLimits(slots int) Limits {
	return Limits{
		Slots: slots, Columns: 1, Types: Types{Default: DefaultType()}, MaxAge: 1800 * time.Millisecond,
		Watchdog: 30 * time.Second, CurrentOffMA: 300, AirHotC: 60, BackupMinMV: 10_100,
	}
}

// Alarm is a safety alarm. Slot 0 is the cabinet.
type Alarm struct {
	Kind protocol.AlarmKind
	Slot int
}

// compareAlarm orders alarms by slot and kind.
func compareAlarm(a, b Alarm) int {
	return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.Kind, b.Kind))
}

// Guard is the memory of the safety rules: what was read, what was commanded,
// which alarms are latched. It is not safe for concurrent use.
type Guard struct {
	limits  Limits
	slots   []slotGuard // by slot number less 1
	cabinet cabinetGuard
	latched []Alarm // sorted
	// over says until when a cause that is over still counts.
	over map[Alarm]time.Duration
}

// slotGuard is what is remembered of one slot.
type slotGuard struct {
	contact
	last slot.Reading // the newest that is not a frozen board's

	serial   string // of the battery in it, "" when unknown
	identity uint16
	climb    climb

	told  bool // an order was taken since the start; until then on is true
	on    bool
	offAt time.Duration

	warm                       bool
	hot, rising, current, smog int // readings in a row
	silent                     bool
	silentSince                time.Duration
}

// cabinetGuard is what is remembered of the cabinet's own board.
type cabinetGuard struct {
	contact
	last               Cabinet
	smoke, water, stop int // readings in a row
	welded             int
	told, closed       bool // commanded
	// unsure: the last order was to close it, and whether it was heard is not known.
	unsure      bool
	commandedAt time.Duration
}

// NewGuard makes a guard that has seen nothing yet, with the alarms that were
// latched when the agent ran last. Nothing has power before it has been read.
func NewGuard(l Limits, latched []Alarm, now time.Duration) *Guard {
	g := &Guard{limits: l, slots: make([]slotGuard, l.Slots), over: map[Alarm]time.Duration{}}
	for i := range g.slots {
		g.slots[i].on, g.slots[i].at = true, now // until it is known to be off
	}
	g.cabinet.at = now
	for _, a := range latched {
		g.latch(a)
	}
	return g
}

// Observe takes a slot's reading in.
func (g *Guard) Observe(r slot.Reading) {
	if r.Slot < 1 || r.Slot > len(g.slots) {
		return
	}
	s := &g.slots[r.Slot-1]
	if s.heard && r.At <= s.last.At || !s.answered(r.At, r.Alive) {
		return
	}
	before := s.last
	s.last = r
	s.identify(r)
	kind := g.limits.Types.Of(s.serial)
	flows := r.CurrentMA.Known && int(r.CurrentMA.N) >= g.limits.CurrentOffMA || r.Charging == slot.Yes
	dead := !s.on && r.At-s.offAt > CurrentDies
	count(&s.current, flows && dead)
	count(&s.smog, r.Smoke == slot.Yes)
	count(&s.hot, hotter(r.CellMax, kind.HotC) || hotter(r.Air, kind.HotC) || r.Faults&faultSlotHot != 0)
	rising := r.CellMax.Known && s.climb.add(r.At, r.CellMax.N, kind.RiseCPerS)
	count(&s.rising, rising)
	if !r.CellMax.Known {
		s.climb = climb{}
	}
	switch {
	case hotter(r.CellMax, kind.WarmC) || r.Faults&faultChargeHot != 0:
		s.warm = true
	case r.CellMax.Known && int(r.CellMax.N) < kind.WarmC*10-coolBy, r.Switch == slot.No:
		s.warm = false
	}
	powered := s.told && s.on || before.ChargeEnabled == slot.Yes || flows
	mute := r.Switch != slot.No && !r.CellMax.Known
	if mute && (powered || s.silent) {
		if !s.silent {
			s.silent, s.silentSince = true, r.At
		}
	} else {
		s.silent = false
	}
}

// identify follows which battery is in the slot: a look tells no serial, only
// that the battery has not changed.
func (s *slotGuard) identify(r slot.Reading) {
	same := r.IdentityEpoch == s.identity && r.Switch != slot.No
	switch {
	case r.Serial != "":
		if r.Serial != s.serial {
			s.climb = climb{}
		}
		s.serial = r.Serial
	case !same:
		s.serial, s.climb = "", climb{}
	}
	s.identity = r.IdentityEpoch
}

func count(row *int, is bool) {
	if *row++; !is {
		*row = 0
	}
}

// hotter: a temperature in 0.1 °C is at or above a limit in °C.
func hotter(v slot.Value, limitC int) bool { return v.Known && int(v.N) >= limitC*10 }

// Missed takes in that a board did not answer; slot 0 is the cabinet's own.
func (g *Guard) Missed(slotNumber int) {
	switch {
	case slotNumber == 0:
		g.cabinet.misses++
	case slotNumber >= 1 && slotNumber <= len(g.slots):
		g.slots[slotNumber-1].misses++
	}
}

// ObserveCabinet takes in what the cabinet's own board said.
func (g *Guard) ObserveCabinet(r Cabinet) {
	c := &g.cabinet
	if c.heard && r.At <= c.last.At || !c.answered(r.At, r.Alive) {
		return
	}
	c.last = r
	count(&c.smoke, r.Smoke == slot.Yes)
	count(&c.water, r.Water == slot.Yes)
	count(&c.stop, r.EmergencyStop == slot.Yes)
	if c.unsure && r.Contactor == slot.Yes && r.At > c.commandedAt {
		c.closed, c.unsure = true, false // it was heard
	}
	ordered := c.told && !c.closed && !c.unsure
	count(&c.welded, r.Contactor == slot.Yes && ordered && r.At-c.commandedAt > contactorMoves)
}

// Commanded takes in that a slot's board has taken an order.
func (g *Guard) Commanded(slotNumber int, on bool, at time.Duration) {
	s := &g.slots[slotNumber-1]
	if s.on && !on {
		s.offAt = at
	}
	s.told, s.on = true, on
}

// CommandedContactor takes in that the cabinet's board has taken an order.
func (g *Guard) CommandedContactor(closed bool, at time.Duration) {
	if c := &g.cabinet; !c.told || c.closed != closed || c.unsure {
		c.told, c.closed, c.unsure, c.commandedAt = true, closed, false, at
	}
}

// UnsureContactor takes in that the cabinet's board did not answer an order to close
// it: the contactor may be open or closed, and its feedback will tell.
func (g *Guard) UnsureContactor(at time.Duration) {
	c := &g.cabinet
	c.told, c.closed, c.unsure, c.commandedAt = true, false, true, at
}

// Neighbours are the slots beside, above and below a slot.
func (l Limits) Neighbours(n int) []int {
	var out []int
	columns := max(l.Columns, 1)
	row := (n - 1) / columns
	for _, m := range []int{n - columns, n - 1, n + 1, n + columns} {
		beside := (m-1)/columns == row && columns > 1
		if m >= 1 && m <= l.Slots && (beside || m == n-columns || m == n+columns) && !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

func (g *Guard) latch(a Alarm) {
	if i, found := slices.BinarySearchFunc(g.latched, a, compareAlarm); !found {
		g.latched = slices.Insert(g.latched, i, a)
	}
}

// Why an alarm is not cleared.
var (
	ErrNoKey = errors.New("the maintenance key is not turned")
	ErrStill = errors.New("its cause is not over")
	ErrNotOn = errors.New("no such alarm is latched")
)

// Clear takes a latched alarm back. It wants the maintenance key in a young
// reading, and the cause to be over. Its errors are ErrNoKey, ErrStill and ErrNotOn,
// bare: the caller knows which alarm it asked for.
func (g *Guard) Clear(a Alarm, now time.Duration) error {
	i, found := slices.BinarySearchFunc(g.latched, a, compareAlarm)
	c := &g.cabinet
	switch {
	case !found:
		return ErrNotOn
	case c.last.Key != slot.Yes || !c.fresh(g.limits.MaxAge, now):
		return ErrNoKey
	}
	for _, cause := range g.causes(now) {
		if cause == a {
			return ErrStill
		}
	}
	delete(g.over, a)
	g.latched = slices.Delete(slices.Clone(g.latched), i, i+1)
	return nil
}

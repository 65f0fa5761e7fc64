package cabinet

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/firmware-agent/internal/swap"
	"batteryswap/protocol"
)

// buttonWindow is for how long a press of the cabinet's button proves that the
// rider stands there.
const buttonWindow = 30 * time.Second

// CoreOptions are what decides for a cabinet needs to know. All functions must
// return quickly and may not call the cabinet back.
type CoreOptions struct {
	Slots int
	// State is the fold of the journal, with the BOOT of this boot in it.
	State  swap.Durable
	Random io.Reader
	Limits slot.Limits
	// MaxPulsesPerHour bounds the pulses of any hour of running time.
	MaxPulsesPerHour int
	// OutOfService says why no swap may begin, "" when one may: what the journal
	// and the backend's verdict make of it. nil is never.
	OutOfService func() protocol.Reason
	// Codes are the presence codes that the cabinet's screen shows, or showed
	// last. nil is none.
	Codes func() []string
	// Backlog counts the records that are not acknowledged. nil is none.
	Backlog func() uint64
	// EnergyJ is what the cabinet has taken from the mains, in J; false: not
	// known. nil is unknown.
	EnergyJ func() (uint64, bool)
	// Plan are the numbers of the charging plan, Day the local time of day, and
	// MeterW what the whole cabinet takes, in W. nil is unknown.
	Plan     charging.PlanLimits
	Day      func() charging.Day
	MeterW   func() slot.Value
	Software string
	Log      *slog.Logger
}

// Core decides everything that a cabinet does, and does nothing itself: a step
// takes what happened and gives the effects to carry out. It starts no goroutine,
// waits for nothing and reads no clock. One goroutine drives it.
type Core struct {
	o CoreOptions

	machine   *swap.Machine
	recovery  *swap.Recovery
	evidence  []slot.Evidence
	board     driver.CabinetReading
	boardSeen bool
	pressedAt time.Duration
	pressed   bool
	hurried   bool
	watched   []int
	rejected  rejections
	planner   *charging.Planner
	planned   planned
	safety    *charging.Verdict // nil: the safety loop has said nothing yet
	cuts      []protocol.ChargeCut
	telemetry telemetry
	played    played

	now     time.Duration // of the step
	effects []Effect      // of the step
	view    view          // after the last step
	stats   *stats
}

// NewCore makes the core of a cabinet at the time now of the agent's monotonic
// clock.
func NewCore(o CoreOptions, now time.Duration) (*Core, error) {
	if o.Slots < 1 || o.Slots > protocol.MaxSlots {
		return nil, fmt.Errorf("slots: %d, want 1 to %d", o.Slots, protocol.MaxSlots)
	}
	if o.State.BootSeq == 0 {
		return nil, errors.New("state: want the fold of a journal with the BOOT of this boot")
	}
	if o.OutOfService == nil {
		o.OutOfService = func() protocol.Reason { return "" }
	}
	if o.Codes == nil {
		o.Codes = func() []string { return nil }
	}
	if o.Backlog == nil {
		o.Backlog = func() uint64 { return 0 }
	}
	if o.EnergyJ == nil {
		o.EnergyJ = func() (uint64, bool) { return 0, false }
	}
	if o.Day == nil {
		o.Day = func() charging.Day { return charging.Day{} }
	}
	if o.MeterW == nil {
		o.MeterW = func() slot.Value { return slot.Value{} }
	}
	c := &Core{
		o: o, now: now, stats: &stats{}, planner: charging.NewPlanner(o.Plan, o.Slots),
		rejected: rejections{last: map[string]rejection{}},
	}
	for n := 1; n <= o.Slots; n++ {
		c.evidence = append(c.evidence, slot.New(n, o.Limits))
	}
	c.machine, c.recovery = swap.Boot(o.State, o.machine(), now)
	c.look(c.input(nil))
	return c, nil
}

func (o CoreOptions) machine() swap.Limits { return swap.Limits{MaxPulsesPerHour: o.MaxPulsesPerHour} }

// Observe takes what was read of a slot. The next step decides on it.
func (c *Core) Observe(r slot.Reading) {
	if r.Slot >= 1 && r.Slot <= len(c.evidence) {
		c.evidence[r.Slot-1] = c.evidence[r.Slot-1].Observe(r)
	}
}

// ObserveBoard takes what the cabinet's own board said.
func (c *Core) ObserveBoard(r driver.CabinetReading) {
	c.board, c.boardSeen = r, true
	if r.Button == slot.Yes {
		c.pressed, c.pressedAt = true, r.At
	}
}

// ObserveSafety takes what the safety loop says and what it has done since it was
// asked last.
func (c *Core) ObserveSafety(v charging.Verdict, cuts []protocol.ChargeCut) {
	c.safety, c.cuts = &v, append(c.cuts, cuts...)
}

// Step decides on what happened, at the time now of the agent's monotonic clock.
// Steps come with every input, and with Tick several times a second.
func (c *Core) Step(now time.Duration, what Input) []Effect {
	c.now, c.effects = now, nil
	in := c.input(c.take(what))
	if c.recovery != nil {
		// No lock is in reach here: a recovery's effects move none.
		r, m, effects := c.recovery.Step(c.o.machine(), in)
		c.recovery = &r
		if m != nil {
			c.machine, c.recovery = m, nil
		}
		c.do(effects)
	} else {
		m, plan := c.machine.Step(in)
		c.machine = &m
		c.do(plan.Effects)
		if p := plan.Pulse; p != nil {
			c.stats.pulses.Add(1)
			c.add(Pulse{p.Slot, p.Purpose, c.swapID()})
		}
	}
	c.look(in)
	c.hurry()
	c.charge(in)
	c.tell(in)
	return c.effects
}

// take makes an event of an input; nil is none for the machine.
func (c *Core) take(what Input) swap.Event {
	switch what := what.(type) {
	case Command:
		return c.command(what)
	case swap.Rejected:
		c.reject(what)
	case Tick:
		c.flushRejects()
	case swap.Event:
		return what
	}
	return nil
}

// input is what the machine sees now.
func (c *Core) input(event swap.Event) swap.Input {
	in := swap.Input{Now: c.now, Event: event, Refuse: c.o.OutOfService(), Key: c.key()}
	for _, e := range c.evidence {
		v := e.View(in.Now)
		in.Halt = in.Halt || v.Smoke
		in.Slots = append(in.Slots, v)
	}
	if c.boardFresh() && (c.board.Smoke == slot.Yes || c.board.EmergencyStop == slot.Yes || c.board.Water == slot.Yes) {
		in.Halt = true
	}
	if c.safety != nil {
		in.Halt = in.Halt || c.safety.Halt
		in.Safety = &swap.Safety{Cuts: c.cuts}
		for _, a := range c.safety.Alarms {
			in.Safety.Alarms = append(in.Safety.Alarms, swap.Raised{Kind: a.Kind, Slot: a.Slot})
		}
		c.cuts = nil
	}
	if in.Halt && in.Refuse == "" {
		in.Refuse = protocol.ReasonAlarm
	}
	return in
}

// boardFresh: what the cabinet's own board said last is young enough to be believed.
func (c *Core) boardFresh() bool {
	return c.boardSeen && c.now-c.board.At <= c.o.Limits.SensorStale
}

// key is whether the key switch is turned, as far as that is known now.
func (c *Core) key() slot.Tri {
	if !c.boardFresh() {
		return slot.Unknown
	}
	return c.board.MaintenanceKey
}

// command makes an event of a message; nil for one that only looks, or that is
// not for a cabinet.
func (c *Core) command(cmd Command) swap.Event {
	switch m := cmd.Message.(type) {
	case protocol.Prepare:
		if nonce, ok := c.nonce(); ok {
			return swap.Prepare{Prepare: m, Random: nonce, Present: c.present(m.Presence)}
		}
	case protocol.Grant:
		return swap.Grant{Grant: m, Raw: cmd.Raw}
	case protocol.Cancel:
		return swap.Cancel{Cancel: m}
	case protocol.Wish:
		return swap.Wish{Wish: m}
	case protocol.MaintenanceRequest:
		if nonce, ok := c.nonce(); ok {
			return swap.MaintenanceRequest{MaintenanceRequest: m, Random: nonce}
		}
	case protocol.MaintenanceGrant:
		return swap.MaintenanceGrant{MaintenanceGrant: m, Raw: cmd.Raw}
	case protocol.InventoryRequest:
		c.add(Send{protocol.InventoryReport{Slots: c.Inventory()}})
	default:
		c.reject(swap.Rejected{Type: m.MessageType(), Why: "unexpected"})
	}
	return nil
}

// nonce draws one.
func (c *Core) nonce() (n protocol.Nonce, ok bool) {
	if _, err := io.ReadFull(c.o.Random, n[:]); err != nil {
		c.o.Log.Error("no nonce", "err", err)
		return n, false
	}
	return n, true
}

// present reports whether the rider has proved to stand at the cabinet.
func (c *Core) present(code string) bool {
	for _, shown := range c.o.Codes() {
		if code != "" && code == shown {
			return true
		}
	}
	return c.pressed && c.now-c.pressedAt <= buttonWindow
}

// hurry has the slots that are in use read as often as the line allows.
func (c *Core) hurry() {
	slots := c.inUse()
	if on := len(slots) > 0; on != c.hurried || !slices.Equal(slots, c.watched) {
		c.hurried, c.watched = on, slots
		c.add(Pace{on, slots})
	}
}

// inUse are the slots that a swap or maintenance may open, or has.
func (c *Core) inUse() []int {
	if c.recovery != nil {
		return c.recovery.Slots()
	}
	return c.machine.Slots()
}

func (c *Core) durable() swap.Durable {
	if c.recovery != nil {
		return c.recovery.Durable()
	}
	return c.machine.Durable()
}

func (c *Core) swapID() protocol.SwapID {
	if o := c.durable().Open; o != nil {
		return o.SwapID
	}
	return ""
}

package cabinet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/firmware-agent/internal/swap"
	"batteryswap/protocol"
)

// Bounds of the queues, and the pace of the loop.
const (
	maxCommands = 64
	// maxReadings holds more than a whole cycle of the largest cabinet.
	maxReadings = 4 * protocol.MaxSlots
	maxRereads  = 8
	// pace is how often the loop decides when nothing happens.
	pace = 250 * time.Millisecond
	// unlockTime is what the board gets to answer a pulse; it ends before the
	// machine counts on it (swap.PulseTime).
	unlockTime = swap.PulseTime - 2*time.Second
	// rereadTime is what reading one slot again may take.
	rereadTime = 2 * time.Second
	// buttonWindow is for how long a press of the cabinet's button proves that
	// the rider stands there.
	buttonWindow = 30 * time.Second
)

// Journal keeps every fact before it is acted on.
type Journal interface {
	// Append returns when the records are on the device. After an error nothing
	// may be done that needs a record.
	Append(...protocol.Payload) error
}

// Board is what the cabinet does to its board; see driver.Board.
type Board interface {
	Poll(ctx context.Context, slotNumber int) (slot.Reading, error)
	Unlock(ctx context.Context, slotNumber int) error
	Charge(ctx context.Context, slotNumber int, on bool) error
}

// Sensors is who reads the slots in turn: it is told when and where it matters.
type Sensors interface {
	Hurry(on bool)
	Watch(slots ...int)
}

// Options are what a cabinet needs. All functions must return quickly and may
// not call the cabinet back.
type Options struct {
	Slots int
	// State is the fold of the journal, with the BOOT of this boot in it.
	State   swap.Durable
	Journal Journal
	Board   Board
	Sensors Sensors
	// Send hands a message to the link. false is "dropped": the protocol asks
	// again.
	Send func(protocol.Message) bool
	// Now is the agent's monotonic clock.
	Now    func() time.Duration
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
	Backlog  func() uint64
	Software string
	Log      *slog.Logger
}

// Command is a verified message with the envelope that it came in.
type Command struct {
	Message protocol.Message
	Raw     []byte
}

// Cabinet owns the slots. Run is its goroutine.
type Cabinet struct {
	o Options

	commands  chan Command
	readings  chan slot.Reading
	boards    chan driver.CabinetReading
	configs   chan swap.Configure
	rejects   chan swap.Rejected
	answers   chan int
	rereads   chan []int
	chargings chan chargeOrder
	charged   chan chargeResult

	// What follows belongs to the goroutine of Run.
	machine    *swap.Machine
	recovery   *swap.Recovery
	evidence   []slot.Evidence
	board      driver.CabinetReading
	boardSeen  bool
	pressedAt  time.Duration
	pressed    bool
	hurried    bool
	watched    []int
	rejected   rejections
	chargeTurn []chargeTurn
	telemetry  telemetry

	stats stats

	mu   sync.Mutex
	view view // what Inventory and others look at
}

// view is the last state, for other goroutines.
type view struct {
	durable swap.Durable
	slots   []slot.View
	at      time.Duration
	out     protocol.Reason
}

// New makes a cabinet. Run runs it.
func New(o Options) (*Cabinet, error) {
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
	c := &Cabinet{
		o:         o,
		commands:  make(chan Command, maxCommands),
		readings:  make(chan slot.Reading, maxReadings),
		boards:    make(chan driver.CabinetReading, 4),
		configs:   make(chan swap.Configure, 4),
		rejects:   make(chan swap.Rejected, maxCommands),
		answers:   make(chan int, 1),
		rereads:   make(chan []int, maxRereads),
		chargings: make(chan chargeOrder, o.Slots),
		charged:   make(chan chargeResult, o.Slots),

		chargeTurn: make([]chargeTurn, o.Slots+1),
		rejected:   rejections{last: map[string]rejection{}},
	}
	for n := 1; n <= o.Slots; n++ {
		c.evidence = append(c.evidence, slot.New(n, o.Limits))
	}
	c.machine, c.recovery = swap.Boot(o.State, c.limits(), o.Now())
	c.publish(c.input(nil))
	return c, nil
}

func (c *Cabinet) limits() swap.Limits { return swap.Limits{MaxPulsesPerHour: c.o.MaxPulsesPerHour} }

// Deliver enqueues a command. false is "dropped": the queue is full.
func (c *Cabinet) Deliver(cmd Command) bool { return offer(c.commands, cmd, &c.stats.commandsDropped) }

// Observe enqueues what was read of a slot. false is "dropped".
func (c *Cabinet) Observe(r slot.Reading) bool { return offer(c.readings, r, &c.stats.readingsDropped) }

// ObserveBoard enqueues what the cabinet's own board said. false is "dropped".
func (c *Cabinet) ObserveBoard(r driver.CabinetReading) bool {
	return offer(c.boards, r, &c.stats.readingsDropped)
}

// Configure enqueues a configuration and the version of the key list in use. It
// is journalled when it is newer. false is "dropped".
func (c *Cabinet) Configure(cfg protocol.CabinetConfig, keysVersion int64) bool {
	return offer(c.configs, swap.Configure{Config: cfg, KeysVersion: keysVersion}, &c.stats.commandsDropped)
}

// Reject enqueues that a message was refused before it became a command: a wrong
// key, a foreign topic. false is "dropped".
func (c *Cabinet) Reject(t protocol.Type, why string) bool {
	return offer(c.rejects, swap.Rejected{Type: t, Why: why}, &c.stats.commandsDropped)
}

// Run owns the cabinet until ctx ends, or until the journal fails: then nothing
// more is done to any lock, and the error says why. Run returns after everything
// that it started has ended.
func (c *Cabinet) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var started sync.WaitGroup
	defer started.Wait()
	defer stop()
	started.Go(func() { c.reread(ctx) })
	started.Go(func() { c.charger(ctx) })

	ticks := time.NewTicker(pace)
	defer ticks.Stop()
	for {
		event, err := c.next(ctx, ticks.C)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if err := c.step(ctx, &started, event); err != nil {
			return err
		}
	}
}

// next waits for something to happen, and takes in all readings that wait: what
// is decided is decided on the newest.
func (c *Cabinet) next(ctx context.Context, ticks <-chan time.Time) (swap.Event, error) {
	var event swap.Event
	select {
	case <-ctx.Done():
		return nil, nil
	case cmd := <-c.commands:
		event = c.command(cmd)
	case cfg := <-c.configs:
		event = cfg
	case n := <-c.answers:
		event = swap.Answered{Slot: n}
	case r := <-c.rejects:
		if err := c.reject(r); err != nil {
			return nil, err
		}
	case r := <-c.readings:
		c.observe(r)
	case r := <-c.boards:
		c.observeBoard(r)
	case r := <-c.charged:
		c.chargeDone(r)
	case <-ticks:
		if err := c.flushRejects(); err != nil {
			return nil, err
		}
	}
	for {
		select {
		case r := <-c.readings:
			c.observe(r)
		case r := <-c.boards:
			c.observeBoard(r)
		default:
			return event, nil
		}
	}
}

func (c *Cabinet) observe(r slot.Reading) {
	if r.Slot >= 1 && r.Slot <= len(c.evidence) {
		c.evidence[r.Slot-1] = c.evidence[r.Slot-1].Observe(r)
	}
}

func (c *Cabinet) observeBoard(r driver.CabinetReading) {
	c.board, c.boardSeen = r, true
	if r.Button == slot.Yes {
		c.pressed, c.pressedAt = true, r.At
	}
}

// input is what the machine sees now.
func (c *Cabinet) input(event swap.Event) swap.Input {
	in := swap.Input{Now: c.o.Now(), Event: event, Refuse: c.o.OutOfService()}
	for _, e := range c.evidence {
		v := e.View(in.Now)
		in.Halt = in.Halt || v.Smoke
		in.Slots = append(in.Slots, v)
	}
	fresh := c.boardSeen && in.Now-c.board.At <= c.o.Limits.SensorStale
	if fresh && (c.board.Smoke == slot.Yes || c.board.EmergencyStop == slot.Yes || c.board.Water == slot.Yes) {
		in.Halt = true
	}
	if in.Halt && in.Refuse == "" {
		in.Refuse = protocol.ReasonAlarm
	}
	return in
}

// step decides and does.
func (c *Cabinet) step(ctx context.Context, started *sync.WaitGroup, event swap.Event) error {
	in := c.input(event)
	if c.recovery != nil {
		// No lock is in reach here: a recovery's effects move none.
		r, m, effects := c.recovery.Step(c.limits(), in)
		c.recovery = &r
		if m != nil {
			c.machine, c.recovery = m, nil
		}
		if err := c.do(effects); err != nil {
			return err
		}
	} else {
		m, plan := c.machine.Step(in)
		c.machine = &m
		if err := c.do(plan.Effects); err != nil {
			return err
		}
		if p := plan.Pulse; p != nil {
			c.pulse(ctx, started, *p)
		}
	}
	c.publish(in)
	c.hurry()
	c.charge(in)
	c.tell(in)
	return nil
}

// do does effects in order. An error ends the cabinet's work: what is not
// journalled must not happen.
func (c *Cabinet) do(effects []swap.Effect) error {
	for _, e := range effects {
		switch e := e.(type) {
		case swap.Append:
			if err := c.append(e.Payloads); err != nil {
				return err
			}
		case swap.Reply:
			c.reply(e.Message)
		case swap.Hurry:
			offer(c.rereads, e.Slots, &c.stats.rereadsDropped)
		case swap.Rejected:
			if err := c.reject(e); err != nil {
				return err
			}
		case swap.Prompt:
			c.stats.prompts.Add(1)
			c.o.Log.Info("a door waits to be closed", "slot", e.Slot, "event", e.Purpose, "swap_id", c.swapID())
		}
	}
	return nil
}

// maxLot bounds the records of one Append; a journal takes no more.
const maxLot = 16

func (c *Cabinet) append(payloads []protocol.Payload) error {
	for _, p := range payloads {
		c.note(p)
	}
	for len(payloads) > 0 {
		n := min(len(payloads), maxLot)
		if err := c.o.Journal.Append(payloads[:n]...); err != nil {
			return fmt.Errorf("journal %s: %w", payloads[0].RecordType(), err)
		}
		payloads = payloads[n:]
	}
	return nil
}

func (c *Cabinet) reply(m protocol.Message) {
	if p, ok := m.(protocol.Prepared); ok && len(p.DepositSlots) == 0 {
		c.pressed = false // one press, one swap
	}
	if r, ok := m.(protocol.Refused); ok {
		c.stats.refused.add(string(r.Reason))
		c.o.Log.Info("prepare refused", "swap_id", r.SwapID, "reason", r.Reason)
	}
	c.send(m)
}

func (c *Cabinet) send(m protocol.Message) {
	if !c.o.Send(m) {
		c.stats.messagesDropped.Add(1)
	}
}

// pulse unlocks a slot once, beside the loop: the line is slow, and readings
// must go on. What comes of it, the sensors tell.
func (c *Cabinet) pulse(ctx context.Context, started *sync.WaitGroup, p swap.Pulse) {
	c.stats.pulses.Add(1)
	id := c.swapID()
	started.Go(func() {
		// A stop of the agent does not take back a pulse that is on its way.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTime)
		defer cancel()
		if err := c.o.Board.Unlock(ctx, p.Slot); err != nil {
			c.stats.pulseErrors.Add(1)
			c.o.Log.Warn("the board did not confirm a pulse", "slot", p.Slot, "event", p.Purpose, "swap_id", id, "err", err)
		}
		c.answers <- p.Slot // one pulse at a time: never blocks
	})
}

// reread reads slots again that a decision waits for, before their turn.
func (c *Cabinet) reread(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case slots := <-c.rereads:
			for _, n := range slots {
				one, cancel := context.WithTimeout(ctx, rereadTime)
				r, err := c.o.Board.Poll(one, n)
				cancel()
				if err == nil {
					c.Observe(r)
				}
			}
		}
	}
}

// command makes an event of a message; nil for one that only looks, or that is
// not for a cabinet.
func (c *Cabinet) command(cmd Command) swap.Event {
	switch m := cmd.Message.(type) {
	case protocol.Prepare:
		e := swap.Prepare{Prepare: m, Present: c.present(m.Presence)}
		if _, err := io.ReadFull(c.o.Random, e.Random[:]); err != nil {
			c.o.Log.Error("no nonce", "swap_id", m.SwapID, "err", err)
			return nil
		}
		return e
	case protocol.Grant:
		return swap.Grant{Grant: m, Raw: cmd.Raw}
	case protocol.Cancel:
		return swap.Cancel{Cancel: m}
	case protocol.Wish:
		return swap.Wish{Wish: m}
	case protocol.InventoryRequest:
		c.send(protocol.InventoryReport{Slots: c.Inventory()})
	default:
		c.Reject(m.MessageType(), "unexpected")
	}
	return nil
}

// present reports whether the rider has proved to stand at the cabinet.
func (c *Cabinet) present(code string) bool {
	for _, shown := range c.o.Codes() {
		if code != "" && code == shown {
			return true
		}
	}
	return c.pressed && c.o.Now()-c.pressedAt <= buttonWindow
}

// hurry has the slots of a swap read as often as the line allows.
func (c *Cabinet) hurry() {
	slots := c.inUse()
	if on := len(slots) > 0; on != c.hurried {
		c.hurried = on
		c.o.Sensors.Hurry(on)
	}
	if !slices.Equal(slots, c.watched) {
		c.watched = slots
		c.o.Sensors.Watch(slots...)
	}
}

// inUse are the slots that a swap may open, or has.
func (c *Cabinet) inUse() []int {
	if c.recovery != nil {
		return c.recovery.Slots()
	}
	return c.machine.Slots()
}

func (c *Cabinet) durable() swap.Durable {
	if c.recovery != nil {
		return c.recovery.Durable()
	}
	return c.machine.Durable()
}

func (c *Cabinet) swapID() protocol.SwapID {
	if o := c.durable().Open; o != nil {
		return o.SwapID
	}
	return ""
}

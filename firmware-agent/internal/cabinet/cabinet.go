package cabinet

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"batteryswap/firmware-agent/internal/charging"
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
}

// Safety is who switches the chargers and cuts their power. All of it returns at
// once.
type Safety interface {
	// Verdict is what the safety rules say now.
	Verdict() charging.Verdict
	// Cuts are the cuts of power since it was asked last.
	Cuts() []protocol.ChargeCut
	// Want says which slots are to be charged; it holds for a short while.
	Want([]charging.Order)
}

// Sensors is who reads the slots in turn: it is told when and where it matters.
type Sensors interface {
	Hurry(on bool)
	Watch(slots ...int)
}

// Options are what a cabinet needs. All functions must return quickly and may
// not call the cabinet back.
type Options struct {
	CoreOptions
	Journal Journal
	Board   Board
	Safety  Safety
	Sensors Sensors
	// Send hands a message to the link. false is "dropped": the protocol asks
	// again.
	Send func(protocol.Message) bool
	// Now is the agent's monotonic clock.
	Now func() time.Duration
}

// Command is a verified message with the envelope that it came in.
type Command struct {
	Message protocol.Message
	Raw     []byte
}

// Cabinet owns the slots. Run is its goroutine, the only one that drives core.
type Cabinet struct {
	o    Options
	core *Core

	commands chan Command
	readings chan slot.Reading
	boards   chan driver.CabinetReading
	configs  chan swap.Configure
	rejects  chan swap.Rejected
	answers  chan int
	rereads  chan []int

	stats *stats
	beats atomic.Uint64

	mu   sync.Mutex
	view view // what Inventory and others look at
}

// New makes a cabinet. Run runs it.
func New(o Options) (*Cabinet, error) {
	core, err := NewCore(o.CoreOptions, o.Now())
	if err != nil {
		return nil, err
	}
	c := &Cabinet{
		o: o, core: core, stats: core.stats,
		commands: make(chan Command, maxCommands),
		readings: make(chan slot.Reading, maxReadings),
		boards:   make(chan driver.CabinetReading, 4),
		configs:  make(chan swap.Configure, 4),
		rejects:  make(chan swap.Rejected, maxCommands),
		answers:  make(chan int, 1),
		rereads:  make(chan []int, maxRereads),
	}
	c.publish()
	return c, nil
}

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

// Beats counts the turns of the loop: it stands still when the loop does, or the
// journal for which it waits.
func (c *Cabinet) Beats() uint64 { return c.beats.Load() }

// Run owns the cabinet until ctx ends, or until the journal fails: then nothing
// more is done to any lock, and the error says why. Run returns after everything
// that it started has ended.
func (c *Cabinet) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var started sync.WaitGroup
	defer started.Wait()
	defer stop()
	started.Go(func() { c.reread(ctx) })

	ticks := time.NewTicker(pace)
	defer ticks.Stop()
	for {
		what := c.next(ctx, ticks.C)
		if ctx.Err() != nil {
			return nil
		}
		c.beats.Add(1)
		c.core.ObserveSafety(c.o.Safety.Verdict(), c.o.Safety.Cuts())
		if err := c.carryOut(ctx, &started, c.core.Step(c.o.Now(), what)); err != nil {
			return err
		}
		c.publish()
	}
}

// next waits for something to happen, and takes in all readings that wait: what
// is decided is decided on the newest.
func (c *Cabinet) next(ctx context.Context, ticks <-chan time.Time) (what Input) {
	select {
	case <-ctx.Done():
		return nil
	case cmd := <-c.commands:
		what = cmd
	case cfg := <-c.configs:
		what = cfg
	case n := <-c.answers:
		what = swap.Answered{Slot: n}
	case r := <-c.rejects:
		what = r
	case r := <-c.readings:
		c.core.Observe(r)
	case r := <-c.boards:
		c.core.ObserveBoard(r)
	case <-ticks:
		what = Tick{}
	}
	for {
		select {
		case r := <-c.readings:
			c.core.Observe(r)
		case r := <-c.boards:
			c.core.ObserveBoard(r)
		default:
			return what
		}
	}
}

// carryOut does the effects of a step in order. An error ends the cabinet's
// work: what is not journalled must not happen.
func (c *Cabinet) carryOut(ctx context.Context, started *sync.WaitGroup, effects []Effect) error {
	for _, e := range effects {
		switch e := e.(type) {
		case Append:
			if err := c.o.Journal.Append(e.Payloads...); err != nil {
				return fmt.Errorf("journal %s: %w", e.Payloads[0].RecordType(), err)
			}
		case Send:
			if !c.o.Send(e.Message) {
				c.stats.messagesDropped.Add(1)
			}
		case Pulse:
			c.pulse(ctx, started, e)
		case Reread:
			offer(c.rereads, e.Slots, &c.stats.rereadsDropped)
		case Pace:
			c.o.Sensors.Hurry(e.Hurry)
			c.o.Sensors.Watch(e.Watch...)
		case Charge:
			c.o.Safety.Want(e.Orders)
		}
	}
	return nil
}

// pulse unlocks a slot once, beside the loop: the line is slow, and readings
// must go on. What comes of it, the sensors tell.
func (c *Cabinet) pulse(ctx context.Context, started *sync.WaitGroup, p Pulse) {
	started.Go(func() {
		// A stop of the agent does not take back a pulse that is on its way.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTime)
		defer cancel()
		if err := c.o.Board.Unlock(ctx, p.Slot); err != nil {
			c.stats.pulseErrors.Add(1)
			c.o.Log.Warn("the board did not confirm a pulse", "slot", p.Slot, "event", p.Purpose, "swap_id", p.SwapID, "err", err)
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

package agent

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/cabinet"
	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/journal"
	"batteryswap/firmware-agent/internal/link"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/firmware-agent/internal/swap"
	"batteryswap/protocol"
)

// Disk is what the journal asks of a file system.
type Disk = journal.Disk

// File is one file of a Disk.
type File = journal.File

// Reading is what a board said of one slot.
type Reading = slot.Reading

// CabinetReading is what the cabinet's own board said.
type CabinetReading = driver.CabinetReading

// KeyRing holds the keys that speak for the backend.
type KeyRing = link.KeyRing

// Tri is the answer of a sensor.
type Tri = slot.Tri

// Value is a measured number, or the absence of one.
type Value = slot.Value

// The answers of a sensor.
const (
	Unknown = slot.Unknown
	No      = slot.No
	Yes     = slot.Yes
)

// TriOf is Yes for true and No for false.
func TriOf(b bool) Tri { return slot.TriOf(b) }

// Known is a number that was measured.
func Known(n int32) Value { return slot.Known(n) }

// PulseTime is within what time Answered must follow Hands.Unlock.
const PulseTime = swap.PulseTime

// Hands carry out what a Core decides. None may call the Core back. One that
// panics ends this boot in the middle of a step, as a power cut does.
type Hands interface {
	// Publish hands a signed message to the broker.
	Publish(topic string, payload []byte)
	// Tell is telemetry: it decides nothing, and is not signed here.
	Tell(protocol.Telemetry)
	Unlock(slotNumber int)
	Charge(slotNumber int, on bool)
	Reread(slots []int)
	Pace(hurry bool, watch []int)
}

// CoreOptions are what one boot of an agent needs when its clock, disk, serial
// line and broker are replaced. All are needed but Verify and Segment.
type CoreOptions struct {
	CabinetID        protocol.CabinetID
	Slots            int
	MaxPulsesPerHour int
	DeviceKey        crypto.Signer
	Keys             *KeyRing
	// Verify is how signatures of the backend are verified; nil: as in production.
	Verify protocol.Verify
	Disk   Disk
	// Segment is the size of the journal's files, in bytes; 0: that of production.
	Segment int64
	// Mono is the monotonic clock since this boot began, Wall what the wall clock
	// says, Synchronised whether somebody disciplines it.
	Mono         func() time.Duration
	Wall         func() time.Time
	Synchronised func() bool
	Random       io.Reader  // nonces, epochs, the boot's id
	Jitter       *rand.Rand // of the link
	Hands        Hands
	Software     string
	Log          *slog.Logger
}

// OpenKeyRing takes a signed key list whose newer ones are kept nowhere.
func OpenKeyRing(root ed25519.PublicKey, signed []byte, log *slog.Logger) (*KeyRing, error) {
	return link.OpenKeyRing(root, signed, "", log)
}

// Core is one boot of the agent without goroutines, clock, disk, serial line or
// broker: the parts that decide in production, wired in the same way. One
// goroutine drives it. What ends a boot in production makes Err say why; then
// nothing more may be asked of it but Close.
type Core struct {
	o CoreOptions
	logbook
	clock   *clock
	cabinet *cabinet.Core // nil: out of service, see doc.go
	link    *link.Core
	up      bool // the broker is connected
	// charging are the slots whose chargers were ordered on.
	charging map[int]bool
	inbox    []cabinet.Input
	err      error
}

// NewCore boots. An error means that this boot cannot begin.
func NewCore(o CoreOptions) (*Core, error) {
	c := &Core{o: o, clock: newClock(o.Synchronised, o.Wall, o.Mono), charging: map[int]bool{}}
	c.software, c.log = o.Software, o.Log
	if _, err := io.ReadFull(o.Random, c.bootID[:]); err != nil {
		return nil, fmt.Errorf("draw a boot id: %w", err)
	}
	err := c.begin(o.Disk, journal.Options{
		Clock: c.clock.read, Random: o.Random, SegmentBytes: o.Segment,
		Appended: func(r protocol.Record) { c.fail(c.fold.Add(r)) },
	})
	if errors.Is(err, journal.ErrInUse) {
		return nil, err
	}
	if err != nil {
		c.outOfJournal(err)
	} else if c.cabinet, err = cabinet.NewCore(c.cabinetOptions(), o.Mono()); err != nil {
		return nil, err
	}
	c.link = link.NewCore(c.linkOptions())
	return c, nil
}

func (c *Core) cabinetOptions() cabinet.CoreOptions {
	return cabinet.CoreOptions{
		Slots: c.o.Slots, State: c.fold.State(), Random: c.o.Random, Limits: slot.DefaultLimits(),
		MaxPulsesPerHour: c.o.MaxPulsesPerHour, OutOfService: c.outOfService, Backlog: c.backlog,
		Software: c.software, Log: c.log, Plan: charging.DefaultPlan(),
	}
}

func (c *Core) linkOptions() link.Options {
	o := link.Options{
		CabinetID: c.o.CabinetID, BootID: c.bootID, Software: c.software, DeviceKey: c.o.DeviceKey, Keys: c.o.Keys, Verify: c.o.Verify,
		Clock: func() (uint64, protocol.ClockState) {
			mono, _, state := c.clock.read()
			return mono, state
		},
		Random: c.o.Jitter, Log: c.log, Inventory: c.Inventory,
		ConfigVersion: func() int64 { return c.fold.State().Config.Version },
		Deliver:       c.deliver,
		Greeted:       c.greeted,
		Rejected:      func(t protocol.Type, why string) { c.enqueue(swap.Rejected{Type: t, Why: why}) },
	}
	if c.journal != nil {
		o.Journal = shipped{c.journal}
	}
	return o
}

// enqueue keeps an input until the link is done with the message it is of.
func (c *Core) enqueue(what cabinet.Input) {
	if c.cabinet != nil {
		c.inbox = append(c.inbox, what)
	}
}

func (c *Core) deliver(m protocol.Message, raw []byte) bool {
	if c.cabinet == nil {
		if no := refusal(m, c.bootID); no != nil {
			c.send(no)
		}
	}
	if _, ok := m.(protocol.Guide); ok {
		return true // there is no screen here
	}
	c.enqueue(cabinet.Command{Message: m, Raw: raw})
	return true
}

func (c *Core) greeted(m protocol.HelloOK, keysVersion int64) bool {
	if c.cabinet == nil {
		return true
	}
	if err := c.judged(m.Verdict); err != nil {
		c.fail(err)
		return true
	}
	c.enqueue(swap.Configure{Config: m.Config, KeysVersion: keysVersion})
	return true
}

func (c *Core) fail(err error) {
	if c.err == nil && err != nil {
		c.err = err
	}
}

// Err is why this boot cannot go on, or nil.
func (c *Core) Err() error { return c.err }

// Close lets the disk go, as an orderly stop does.
func (c *Core) Close() error {
	if c.journal == nil {
		return nil
	}
	return c.journal.Close()
}

// Connected says that the broker was reached, or is lost.
func (c *Core) Connected(now time.Time, up bool) {
	if c.up = up; up {
		c.link.Greet(now)
		c.ship(now)
	}
}

// Receive takes a message as the broker hands it over.
func (c *Core) Receive(now time.Time, topic string, retained bool, payload []byte) {
	c.link.Receive(now, topic, retained, payload)
	for len(c.inbox) > 0 && c.err == nil {
		what := c.inbox[0]
		c.inbox = c.inbox[1:]
		c.step(what)
	}
	c.ship(now)
}

// Observe takes what was read of a slot; the next step decides on it.
func (c *Core) Observe(r Reading) {
	if c.cabinet != nil {
		c.cabinet.Observe(r)
	}
}

// ObserveCabinet takes what the cabinet's own board said.
func (c *Core) ObserveCabinet(r CabinetReading) {
	if c.cabinet != nil {
		c.cabinet.ObserveBoard(r)
	}
}

// Tick decides on what was observed, and sends what is due.
func (c *Core) Tick(now time.Time) {
	if c.cabinet != nil {
		c.step(cabinet.Tick{})
	}
	c.ship(now)
}

// WatchClock looks whether the wall clock was set.
func (c *Core) WatchClock() {
	if step, ok := c.clock.look(); ok && c.cabinet != nil && c.err == nil {
		c.fail(c.journal.Append(step))
	}
}

// Answered says that the board has answered a pulse, or never will.
func (c *Core) Answered(slotNumber int) { c.step(swap.Answered{Slot: slotNumber}) }

// step carries the effects of one step out, in order.
func (c *Core) step(what cabinet.Input) {
	if c.cabinet == nil || c.err != nil {
		return
	}
	for _, e := range c.cabinet.Step(c.o.Mono(), what) {
		switch e := e.(type) {
		case cabinet.Append:
			if err := c.journal.Append(e.Payloads...); err != nil {
				c.fail(fmt.Errorf("journal %s: %w", e.Payloads[0].RecordType(), err))
				return
			}
		case cabinet.Send:
			c.send(e.Message)
		case cabinet.Pulse:
			c.o.Hands.Unlock(e.Slot)
		case cabinet.Charge:
			c.charge(e.Orders)
		case cabinet.Reread:
			c.o.Hands.Reread(e.Slots)
		case cabinet.Pace:
			c.o.Hands.Pace(e.Hurry, e.Watch)
		}
	}
}

// charge switches what is not as ordered. There is no safety loop here: what it
// adds is beside every decision.
func (c *Core) charge(orders []charging.Order) {
	for n := 1; n <= c.o.Slots; n++ {
		on := slices.ContainsFunc(orders, func(o charging.Order) bool { return o.Slot == n && o.On })
		if on != c.charging[n] {
			c.charging[n] = on
			c.o.Hands.Charge(n, on)
		}
	}
}

// ship sends what the link has due.
func (c *Core) ship(now time.Time) {
	if !c.up || c.err != nil {
		return
	}
	for m := c.link.Due(now); m != nil; m = c.link.Due(now) {
		c.send(m)
	}
}

func (c *Core) send(m protocol.Message) {
	if !c.up {
		return
	}
	if t, ok := m.(protocol.Telemetry); ok {
		c.o.Hands.Tell(t)
		return
	}
	if out, err := c.link.Wrap(m); err == nil {
		c.o.Hands.Publish(out.Topic, out.Payload)
	}
}

// Inventory is every slot as it is known.
func (c *Core) Inventory() protocol.Inventory {
	if c.cabinet == nil {
		return nil
	}
	return c.cabinet.Inventory()
}

// Status is what a simulation asks of a boot that is under way.
type Status struct {
	Epoch        protocol.Epoch
	BootID       protocol.BootID
	BootSeq      uint32
	Tail, Acked  uint64
	Open         protocol.SwapID // the swap that is accepted and not closed
	OutOfService bool
}

// Status tells where this boot stands.
func (c *Core) Status() Status {
	s := Status{BootID: c.bootID, OutOfService: c.cabinet == nil}
	if c.journal == nil {
		return s
	}
	pos := c.journal.Position()
	s.Epoch, s.BootSeq, s.Tail, s.Acked = pos.Epoch, pos.BootSeq, pos.TailSeq, pos.AckedSeq
	s.OutOfService = s.OutOfService || c.outOfService() != ""
	if o := c.fold.State().Open; o != nil {
		s.Open = o.SwapID
	}
	return s
}

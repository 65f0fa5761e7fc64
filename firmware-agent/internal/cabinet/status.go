package cabinet

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/firmware-agent/internal/swap"
	"batteryswap/protocol"
)

// view is the state after a step.
type view struct {
	durable swap.Durable
	slots   []slot.View
	at      time.Duration
	out     protocol.Reason
	scene   Scene
}

func (c *Core) look(in swap.Input) {
	out := in.Refuse
	if out == "" && c.durable().Config.OutOfService {
		out = protocol.ReasonOutOfService
	}
	if out == "" && c.forStaff() {
		out = protocol.ReasonMaintenance
	}
	c.view = view{durable: c.durable(), slots: in.Slots, at: in.Now, out: out, scene: c.scene(in.Slots, out)}
}

// Inventory is every slot as it was known at the last step.
func (c *Core) Inventory() protocol.Inventory { return c.view.inventory() }

// publish shows other goroutines what the last step knew.
func (c *Cabinet) publish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.view = c.core.view
}

func (c *Cabinet) look() view {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view
}

func (v view) inventory() protocol.Inventory {
	inv := make(protocol.Inventory, 0, len(v.slots))
	for _, s := range v.slots {
		inv = append(inv, s.State(v.at, v.durable.Out(s)))
	}
	return inv
}

// Inventory is every slot as it is known now, for hello.
func (c *Cabinet) Inventory() protocol.Inventory { return c.look().inventory() }

// Config is the configuration that is in effect, and the version of the key list
// that was confirmed with it.
func (c *Cabinet) Config() (cfg protocol.CabinetConfig, keysVersion int64) {
	d := c.look().durable
	return d.Config, d.KeysVersion
}

// SwapID names the open swap, "" when there is none.
func (c *Cabinet) SwapID() protocol.SwapID {
	if o := c.look().durable.Open; o != nil {
		return o.SwapID
	}
	return ""
}

// counts is a counter for each of a closed list of names.
type counts struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (c *counts) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]uint64{}
	}
	c.n[name]++
}

func (c *counts) all() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.n)
}

type stats struct {
	pulses, pulseErrors             atomic.Uint64
	prompts                         atomic.Uint64
	commandsDropped                 atomic.Uint64
	readingsDropped, rereadsDropped atomic.Uint64
	messagesDropped                 atomic.Uint64
	plannedW                        atomic.Int64
	closed, refused, rejected       counts
	records, alarms, cuts           counts
}

// Stats are what is counted, since the start. The names are those of the
// protocol.
type Stats struct {
	Pulses, PulseErrors uint64
	Prompts             uint64 // a door that nobody closes
	CommandsDropped     uint64 // the queue was full
	ReadingsDropped     uint64
	RereadsDropped      uint64
	MessagesDropped     uint64            // the link took no more
	Closed              map[string]uint64 // by outcome
	Refused             map[string]uint64 // prepares, by reason
	Rejected            map[string]uint64 // commands, by why
	Records             map[string]uint64 // by type
	Alarms              map[string]uint64 // raised, by kind
	Cuts                map[string]uint64 // of power, by cause

	// As it is now.
	PlannedW     int // of chargers and heaters
	SwapOpen     bool
	PulsesLeft   int
	AlarmsOn     int
	SlotsFresh   int // whose readings are young enough
	SlotsCharged int
	SlotsEmpty   int
	SlotsOut     int
	OutOfService bool
}

// Stats counts. Any goroutine may ask.
func (c *Cabinet) Stats() Stats {
	s := Stats{
		PlannedW: int(c.stats.plannedW.Load()), Pulses: c.stats.pulses.Load(), PulseErrors: c.stats.pulseErrors.Load(),
		Prompts:         c.stats.prompts.Load(),
		CommandsDropped: c.stats.commandsDropped.Load(), ReadingsDropped: c.stats.readingsDropped.Load(),
		RereadsDropped: c.stats.rereadsDropped.Load(), MessagesDropped: c.stats.messagesDropped.Load(),
		Closed: c.stats.closed.all(), Refused: c.stats.refused.all(), Rejected: c.stats.rejected.all(),
		Records: c.stats.records.all(), Alarms: c.stats.alarms.all(), Cuts: c.stats.cuts.all(),
	}
	v := c.look()
	s.SwapOpen, s.AlarmsOn, s.OutOfService = v.durable.Open != nil, len(v.durable.Alarms), v.out != ""
	s.SlotsCharged, s.SlotsEmpty = v.scene.Charged, v.scene.Empty
	s.PulsesLeft = v.durable.PulsesLeft(c.o.machine(), v.at)
	for _, one := range v.slots {
		s.SlotsFresh += count(one.Fresh)
		s.SlotsOut += count(v.durable.Out(one))
	}
	return s
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// note counts and logs a record that is about to be written.
func (c *Core) note(p protocol.Payload) {
	c.stats.records.add(p.RecordType().String())
	switch p := p.(type) {
	case protocol.Accept:
		c.o.Log.Info("swap accepted", "swap_id", p.SwapID, "event", p.Kind)
	case protocol.Intent:
		c.o.Log.Info("unlocking", "swap_id", p.SwapID, "slot", p.Slot, "event", p.Purpose)
	case protocol.Deposit:
		c.o.Log.Info("deposit judged", "swap_id", p.SwapID, "slot", p.Slot, "battery_serial", p.Battery.BatterySerial, "reason", p.Reason)
	case protocol.Closed:
		c.stats.closed.add(string(p.Outcome))
		c.o.Log.Info("swap closed", "swap_id", p.SwapID, "event", p.Outcome, "reason", p.Reason)
	case protocol.Void:
		c.stats.closed.add(string(protocol.OutcomeNotStarted))
		c.o.Log.Info("swap void", "swap_id", p.SwapID, "reason", p.Reason)
	case protocol.Maintenance:
		c.o.Log.Info("maintenance", "event", p.What, "slot", p.Slot, "reason", p.Reason)
	case protocol.Tamper:
		c.o.Log.Warn("a door was opened that nobody was granted", "slot", p.Slot)
	case protocol.ChargeCut:
		c.stats.cuts.add(string(p.Kind))
		c.o.Log.Warn("power was cut", "event", p.Kind, "slot", p.Slot)
	case protocol.Alarm:
		if p.Cleared {
			c.o.Log.Info("alarm cleared", "event", p.Kind, "slot", p.Slot)
			return
		}
		c.stats.alarms.add(string(p.Kind))
		c.o.Log.Warn("alarm", "event", p.Kind, "slot", p.Slot, "swap_id", p.SwapID)
	}
}

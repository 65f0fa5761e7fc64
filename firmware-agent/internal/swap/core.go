package swap

import (
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// Times of the protocol, on the agent's monotonic clock.
const (
	// grantWindow is from prepared to ACCEPT; then the swap is void.
	grantWindow = 15 * time.Second
	// openWindow is from the board's answer to a pulse until the door must have
	// been seen open.
	openWindow = 3 * time.Second
	// pulseWindow is from ACCEPT to the last pulse. A pulse that is decided on
	// may reach the lock as late as PulseTime after, so the decision ends earlier.
	pulseWindow = 6 * time.Minute
	// verifyWindow is how long a closed slot may take to show what it holds.
	verifyWindow = 15 * time.Second
	// wakeWindow is how long reading every slot once may take after a start.
	wakeWindow = 10 * time.Second
	// bootWindow is the same after a restart: boards and batteries wake up.
	bootWindow = 30 * time.Second
	// lateDeposit: a deposit door that closes later than this after its pulse
	// may have been closed by a passer-by.
	lateDeposit = 90 * time.Second
	// unknownWindow is how long a slot that the swap has not touched may stay
	// unknown before it is left out of a decision.
	unknownWindow = 60 * time.Second

	promptAfter        = 45 * time.Second
	alarmAfterDeposit  = 90 * time.Second
	alarmAfterDispense = 120 * time.Second
	alarmAfterAny      = 6 * time.Minute
	silentAfter        = 60 * time.Second
	// tamperClear is how long a door that was forced must be closed, and what it
	// holds stay the same, before it is trusted again. It doubles with each TAMPER
	// of a slot in a boot, up to tamperClearMax, until tamperForgotten: a broken latch
	// or a loose plug must not fill the journal.
	tamperClear     = 60 * time.Second
	tamperClearMax  = time.Hour
	tamperForgotten = 24 * time.Hour
	faultAfter      = 5 * time.Second
)

// PulseTime bounds how long the board may take to answer a pulse. Who does the
// pulse gives up by then, and nothing of it may reach the lock later.
const PulseTime = 10 * time.Second

// MaxPulsesPerHour bounds Limits.MaxPulsesPerHour: so many pulses are remembered,
// and a snapshot has to hold them.
const MaxPulsesPerHour = 600

const (
	// maxPulses is for one purpose at one slot.
	maxPulses = 2
	// pulsesOfSwap is what a swap can need at most; with fewer in the bucket
	// none is begun. Deposit 2 × 2, reopen 2, dispense 3 × 2, return 2 leaves
	// four to spare.
	pulsesOfSwap = 18
	// maxEnded bounds the memory of ended swaps.
	maxEnded = 64
	// voidsPerMinute bounds VOID records that answer cancels of unknown swaps.
	voidsPerMinute = 6
	// maxDoorRecords bounds the DOOR records of one swap: a flapping sensor
	// must not fill the journal.
	maxDoorRecords = 32
)

// door is what is remembered of a slot's door, in RAM.
type door struct {
	licensed bool // pulsed in this boot (or before, for what was found open), not closed since it opened
	open     bool // seen open, and not closed since
	opened   bool // seen open since the last pulse
	ajar     bool // not provably closed, since ajarSince
	prompted bool
	faulty   bool // a fault of its signals, since faultSince
	unclear  bool // closed, and what it holds is not decided, since unclearSince

	ajarSince    time.Duration
	faultSince   time.Duration
	unclearSince time.Duration
	freshAt      time.Duration // the last time that its readings were fresh
	forcedAt     time.Duration // TAMPER was told in this boot, or it held something else since
	trust        time.Duration // so long after that it is trusted again; 0: tamperClear
	known        Kept          // what it held when last read closed; forgotten at a pulse
	// proved is what it held, nothing or a serial, when that was last decided. It is
	// not set while somebody is let in, or while TAMPER is on; and in RAM only: what
	// is changed while the agent does not run, or shortly before, is not noticed.
	proved Kept
}

// license is a pulse: the door may open, and what it held is known no more.
func (d *door) license() { d.licensed, d.known, d.proved = true, Kept{}, Kept{} }

// decided: all signs agree that it is empty, or which battery is in.
func decided(v slot.View) bool { return v.Content == slot.Empty || v.Content == slot.Identified }

// keptIn is what a closed slot shows of its content.
func keptIn(v slot.View) Kept {
	return Kept{Slot: v.Slot, Presence: v.Presence(), Serial: v.Serial}
}

// core is what the Machine and Recovery share: the durable state, the watch over
// the doors, and the effects of the step that is being made. It cannot pulse.
type core struct {
	durable     Durable
	in          Input
	effects     []Effect
	doors       []door        // by slot number; use door to reach one
	startedAt   time.Duration // of the machine or the recovery
	doorRecords int

	// ended are the last swaps that this boot will not begin again.
	ended []protocol.SwapID
	// voids bounds VOID records for swaps that this boot never saw.
	voidsAt time.Duration
	voids   int
}

func newCore(d Durable, now time.Duration) core {
	return core{durable: d, startedAt: now}
}

// door is what is remembered of a slot's door.
func (c *core) door(n int) *door {
	for len(c.doors) <= n {
		c.doors = append(c.doors, door{freshAt: c.startedAt})
	}
	return &c.doors[n]
}

// begin starts a step.
func (c *core) begin(in Input) {
	c.in, c.effects, c.doors = in, nil, slices.Clone(c.doors)
	c.watchSafety()
	c.watch()
}

func (c *core) add(e Effect) { c.effects = append(c.effects, e) }

// append journals a record. Records in a row make one lot.
func (c *core) append(p protocol.Payload) {
	d, err := c.durable.fold(uint64(max(c.in.Now, 0).Milliseconds()), p)
	if err != nil {
		// Only an ACCEPT can fail, and accept has tried it before.
		return
	}
	c.durable = d
	if n := len(c.effects); n > 0 {
		if last, ok := c.effects[n-1].(Append); ok {
			c.effects[n-1] = Append{append(slices.Clip(last.Payloads), p)}
			return
		}
	}
	c.add(Append{[]protocol.Payload{p}})
}

func (c *core) raise(kind protocol.AlarmKind, slotNumber int) {
	if !c.durable.Alarmed(kind, slotNumber) {
		c.append(protocol.Alarm{Kind: kind, Slot: slotNumber, SwapID: c.swapID()})
	}
}

func (c *core) clear(kind protocol.AlarmKind, slotNumber int) {
	if c.durable.Alarmed(kind, slotNumber) {
		c.append(protocol.Alarm{Kind: kind, Slot: slotNumber, Cleared: true})
	}
}

func (c *core) remember(id protocol.SwapID) {
	c.ended = append(slices.Clone(c.ended[max(0, len(c.ended)+1-maxEnded):]), id)
}

// over reports whether this boot has ended the swap.
func (c *core) over(id protocol.SwapID) bool { return slices.Contains(c.ended, id) }

// cancel answers one that comes for a swap that is not prepared: by a VOID
// record, once, unless the swap has begun.
func (c *core) cancel(id protocol.SwapID) {
	switch {
	case id == c.swapID():
		c.add(Rejected{protocol.TypeCancel, whyStarted})
		return
	case c.over(id):
		return // a record has said how it ended
	case c.in.Now-c.voidsAt >= time.Minute:
		c.voidsAt, c.voids = c.in.Now, 0
	}
	if c.voids >= voidsPerMinute {
		c.add(Rejected{protocol.TypeCancel, whyVoids})
		return
	}
	c.voids++
	c.append(protocol.Void{SwapID: id})
	c.remember(id)
}

func (c *core) swapID() protocol.SwapID {
	if c.durable.Open == nil {
		return ""
	}
	return c.durable.Open.SwapID
}

// inventory is the whole cabinet as a record carries it.
func (c *core) inventory() protocol.Inventory {
	inv := make(protocol.Inventory, 0, len(c.in.Slots))
	for _, v := range c.in.Slots {
		inv = append(inv, slot.Brief(v.State(c.in.Now, c.durable.Out(v))))
	}
	return inv
}

// elsewhere reports whether another slot shows the same serial.
func (c *core) elsewhere(s protocol.BatterySerial, slotNumber int) bool {
	for _, v := range c.in.Slots {
		if v.Slot != slotNumber && v.Fresh && v.Serial == s {
			return true
		}
	}
	return false
}

// watch follows every door: it tells an opening that nobody was granted, one
// that takes too long, a fault of the lock and a board that fell silent.
func (c *core) watch() {
	silent := 0
	for _, v := range c.in.Slots {
		d := c.door(v.Slot)
		if !v.Fresh {
			if c.in.Now-d.freshAt >= silentAfter {
				silent++
			}
			continue
		}
		d.freshAt = c.in.Now
		c.watchFault(v, d)
		c.watchOpening(v, d)
		if !v.Closed || decided(v) {
			d.unclear = false
		} else if !d.unclear {
			d.unclear, d.unclearSince = true, c.in.Now
		}
		if v.Closed {
			c.watchClosed(v, d)
		} else {
			c.watchOverdue(v, d)
		}
	}
	c.watchSilence(silent)
}

// watchSilence tells a dead board once; when all are dead the cause is the line,
// and that is one alarm, not one for each slot.
func (c *core) watchSilence(silent int) {
	if all := silent > 0 && silent == len(c.in.Slots); all {
		c.raise(protocol.AlarmBoardSilent, 0)
		return
	}
	c.clear(protocol.AlarmBoardSilent, 0)
	for _, v := range c.in.Slots {
		if v.Fresh {
			c.clear(protocol.AlarmBoardSilent, v.Slot)
		} else if c.in.Now-c.door(v.Slot).freshAt >= silentAfter {
			c.raise(protocol.AlarmBoardSilent, v.Slot)
		}
	}
}

func (c *core) watchFault(v slot.View, d *door) {
	switch {
	case v.Fault == slot.NoFault:
		d.faulty = false
	case !d.faulty:
		d.faulty, d.faultSince = true, c.in.Now
	case c.in.Now-d.faultSince >= faultAfter:
		c.raise(protocol.AlarmSlotFault, v.Slot)
	}
}

func (c *core) watchOpening(v slot.View, d *door) {
	if v.Ajar && !d.ajar {
		d.ajar, d.ajarSince = true, c.in.Now
		c.add(Hurry{[]int{v.Slot}})
	}
	if v.Door != protocol.DoorOpen || d.open {
		return
	}
	d.open, d.opened = true, true
	if d.licensed {
		c.doorMoved(v.Slot, protocol.DoorOpen)
		return
	}
	if !c.durable.Alarmed(protocol.AlarmTamper, v.Slot) {
		c.forced(d, d.known, v.Slot)
	}
}

func (c *core) doorMoved(slotNumber int, moved protocol.Door) {
	o := c.durable.Open
	if o == nil || c.doorRecords >= maxDoorRecords {
		return
	}
	c.doorRecords++
	c.append(protocol.DoorMoved{SwapID: o.SwapID, Slot: slotNumber, Purpose: o.purposeOf(slotNumber), Door: moved})
}

// purposeOf is why a slot was last unlocked in this swap, "" when it was not.
func (o *Open) purposeOf(slotNumber int) protocol.Purpose {
	for _, i := range slices.Backward(o.Intents) {
		if i.Slot == slotNumber {
			return i.Purpose
		}
	}
	return ""
}

func (c *core) watchClosed(v slot.View, d *door) {
	d.ajar, d.prompted = false, false
	c.clear(protocol.AlarmDoorOpen, v.Slot)
	if d.open {
		if d.licensed {
			c.doorMoved(v.Slot, protocol.DoorShut)
		}
		d.open, d.licensed = false, false
	}
	if v.Content == slot.Unclear {
		return
	}
	now := keptIn(v)
	switch {
	case c.durable.Alarmed(protocol.AlarmTamper, v.Slot):
		if decided(v) && d.known != now {
			d.known, d.forcedAt = now, c.in.Now
		}
		if c.in.Now-max(v.ClosedSince, d.forcedAt) < max(d.trust, tamperClear) {
			return
		}
		// A battery that came in by force is nobody's to take, and neither is one
		// of which nobody knows, or that does not say which it is.
		if was, _ := c.durable.before(v.Slot); v.Content != slot.Empty && (was != now || now.Serial == "") {
			c.raise(protocol.AlarmHeldBattery, v.Slot)
		}
		c.append(protocol.Alarm{Kind: protocol.AlarmTamper, Slot: v.Slot, Cleared: true, Inventory: c.inventory()})
	case decided(v) && d.proved.Presence != "" && d.proved != now:
		// It was open between two readings, or behind a sensor that lies.
		c.forced(d, d.proved, v.Slot)
		return
	}
	d.known = now
	c.prove(v, d)
	c.watchUnasked(v, d)
	if v.Content == slot.Empty && (c.durable.Open == nil || c.durable.Open.purposeOf(v.Slot) == "") {
		c.clear(protocol.AlarmHeldBattery, v.Slot)
	}
}

// watchUnasked holds a slot in which something stays that nobody was asked to put
// there and that does not say what it is: staff have to look.
func (c *core) watchUnasked(v slot.View, d *door) {
	if v.Content == slot.Mute && d.proved.Presence == protocol.PresenceEmpty && d.unclear && c.in.Now-d.unclearSince >= unknownWindow {
		c.raise(protocol.AlarmHeldBattery, v.Slot)
	}
}

// watchOverdue prompts, and raises an alarm once, for a door that is not closed.
func (c *core) watchOverdue(v slot.View, d *door) {
	if !d.ajar || c.durable.Alarmed(protocol.AlarmTamper, v.Slot) {
		return
	}
	if c.inWindow(d) {
		return
	}
	limit, waits := alarmAfterAny, c.in.Now-d.ajarSince
	if d.licensed && c.durable.Open != nil {
		purpose := c.durable.Open.purposeOf(v.Slot)
		limit = alarmAfterDispense
		if purpose == protocol.PurposeDeposit || purpose == protocol.PurposeReopen {
			limit = alarmAfterDeposit
		}
		if waits >= promptAfter && !d.prompted {
			d.prompted = true
			c.add(Prompt{v.Slot, purpose})
		}
	}
	if waits >= limit {
		c.raise(protocol.AlarmDoorOpen, v.Slot)
	}
}

package swap

import (
	"maps"
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// Limits are what a cabinet's configuration sets of the machine.
type Limits struct {
	// MaxPulsesPerHour bounds the pulses of any hour of running time; no more
	// than the constant of that name.
	MaxPulsesPerHour int
}

// phase is where the machine stands, in RAM.
type phase uint8

const (
	idle        phase = iota
	prepared          // a nonce is minted; with a grant when offer.grant is set
	unlocked          // act has been pulsed: wait for its door, and for it to close
	verify            // a battery is in, closed: who is it?
	choose            // the deposit is in: which slot to dispense from
	settling          // nothing more will be pulsed: wait for the sensors
	maintaining       // staff work at the cabinet: no swap
)

// proposal is a prepared swap.
type proposal struct {
	reply protocol.Prepared
	kind  protocol.Kind
	at    time.Duration
	grant *Grant // arrived at grantAt; its slots are being read again
	asked time.Duration
}

// act is the last pulse.
type act struct {
	slot       int
	serial     protocol.BatterySerial // of what the slot held
	purpose    protocol.Purpose
	at         time.Duration // decided
	answered   bool          // the board has spoken, or will not, at answeredAt
	answeredAt time.Duration
}

// Machine is the swap machine while the agent runs. It is a value: Step returns
// the next one.
type Machine struct {
	core
	limits   Limits
	phase    phase
	proposal proposal
	act      act
	reopened bool
	nonce    protocol.Nonce // of the open swap
	// reason is what a plain end will say; since is when the phase began.
	reason protocol.Reason
	since  time.Duration

	// orders wait for their grants. stopping and keyOffSince are of the maintenance
	// that is under way.
	orders      []order
	stopping    stopping
	keyOffSince time.Duration

	pulse *Pulse
}

// Reasons of Rejected: why a command was refused.
const (
	whyNonce    = "nonce"      // not the nonce of the prepared swap: late, replayed or of another boot
	whyBoot     = "boot_id"    // of another boot
	whyKind     = "kind"       // not the kind that was prepared
	whySlots    = "slots"      // not among the proposed ones
	whyTooLarge = "too_large"  // larger than a record can carry
	whyOver     = "swap_over"  // this boot has ended that swap
	whyStarted  = "started"    // a cancel after ACCEPT
	whyVoids    = "many_voids" // cancels of swaps that were never prepared here
	whyVersion  = "version"    // a configuration that is not newer
	whyConfig   = "config"     // a configuration that is not valid
	whyOrder    = "order"      // another order under the same identifier
)

// Step says what happened to the machine and what is to be done.
func (m Machine) Step(in Input) (Machine, Plan) {
	m.begin(in)
	m.pulse = nil
	switch ev := in.Event.(type) {
	case Prepare:
		m.prepare(ev)
	case Grant:
		m.granted(ev)
	case Cancel:
		if m.phase == prepared && ev.SwapID == m.proposal.reply.SwapID {
			m.void("")
		} else {
			m.cancel(ev.SwapID)
		}
	case Wish:
		m.wish(ev)
	case Answered:
		if (m.phase == unlocked || m.phase == maintaining) && ev.Slot == m.act.slot && !m.act.answered {
			m.act.answered, m.act.answeredAt = true, in.Now
		}
	case MaintenanceRequest:
		m.askedOrder(ev)
	case MaintenanceGrant:
		m.grantedOrder(ev)
	case Configure:
		m.configure(ev)
	}
	for was := phase(0xff); m.phase != was && m.pulse == nil; {
		was = m.phase
		m.advance()
	}
	return m, Plan{Effects: m.effects, Pulse: m.pulse}
}

// advance moves on as far as what is known now allows, by one phase.
func (m *Machine) advance() {
	switch m.phase {
	case prepared:
		m.advancePrepared()
	case unlocked:
		m.advanceUnlocked()
	case verify:
		m.advanceVerify()
	case choose:
		m.advanceChoose()
	case settling:
		id := m.swapID()
		if m.settle(m.reason, false) {
			m.end(id)
		}
	case maintaining:
		m.advanceMaintenance()
	}
}

// enter moves to a phase.
func (m *Machine) enter(p phase) { m.phase, m.since = p, m.in.Now }

// finish stops pulsing: the sensors say the rest. The first reason stays.
func (m *Machine) finish(why protocol.Reason) {
	if m.reason == "" {
		m.reason = why
	}
	m.enter(settling)
}

// end forgets the swap.
func (m *Machine) end(id protocol.SwapID) {
	m.remember(id)
	m.proposal, m.act, m.reopened, m.nonce, m.reason = proposal{}, act{}, false, protocol.Nonce{}, ""
	m.enter(idle)
}

// mayPulse reports whether a lock may be pulsed now for the open swap.
func (m *Machine) mayPulse() bool {
	o := m.durable.Open
	since := m.in.Now - time.Duration(o.MonoMS)*time.Millisecond
	return !m.in.Halt && o.BootSeq == m.durable.BootSeq && since < pulseWindow-PulseTime && m.left() > 0
}

func (m *Machine) left() int { return m.durable.PulsesLeft(m.limits, m.in.Now) }

// PulsesLeft is how many pulses the bucket holds at a time of this boot.
func (d Durable) PulsesLeft(l Limits, now time.Duration) int {
	run := d.BaseMS + uint64(max(now, 0).Milliseconds())
	return max(0, min(l.MaxPulsesPerHour, MaxPulsesPerHour)-len(unspent(d.SpentMS, run)))
}

// open journals an INTENT and has the lock pulsed once. It refuses when a pulse
// is not allowed any more, when the slot has had its pulses for this purpose or
// is in quarantine or would give out a battery that has become unfit, or when
// another door of this swap is not closed; then nothing is written.
func (m *Machine) open(v slot.View, purpose protocol.Purpose) bool {
	o := m.durable.Open
	done := o.pulses(v.Slot, purpose)
	if purpose == protocol.PurposeDispense && v.Battery.Soc != nil && !v.Fit {
		return false
	}
	if !m.mayPulse() || m.durable.Quarantined(v.Slot) || done >= maxPulses || !v.Fresh || !v.Closed || !m.othersClosed(v.Slot) {
		return false
	}
	m.append(protocol.Intent{SwapID: o.SwapID, Slot: v.Slot, Purpose: purpose, Pulse: done + 1, BatterySerial: v.Serial})
	m.pulse = &Pulse{Slot: v.Slot, Purpose: purpose}
	m.act = act{slot: v.Slot, serial: v.Serial, purpose: purpose, at: m.in.Now}
	d := m.door(v.Slot)
	d.license()
	d.opened = false
	m.enter(unlocked)
	return true
}

// othersClosed reports whether every other slot that this swap pulsed is closed:
// at most one door is commanded open.
func (m *Machine) othersClosed(except int) bool {
	for _, n := range m.durable.Open.pulsed(protocol.PurposeDeposit, protocol.PurposeDispense) {
		if v := m.in.view(n); n != except && (!v.Fresh || !v.Closed) {
			return false
		}
	}
	return true
}

// wish has the slots of the swap read again. It never opens anything.
func (c *core) wish(w Wish) {
	if o := c.durable.Open; o != nil && o.SwapID == w.SwapID {
		c.add(Hurry{o.granted()})
	}
}

// configure journals a newer configuration or key list. A slot that staff say is
// repaired has its fault cleared.
func (c *core) configure(ev Configure) {
	newer := ev.Config.Version > c.durable.Config.Version
	switch {
	case newer && ev.Config.Validate() != nil:
		c.add(Rejected{protocol.TypeHelloOK, whyConfig})
		return
	case !newer && ev.Config.Version < c.durable.Config.Version:
		c.add(Rejected{protocol.TypeHelloOK, whyVersion})
		return
	case !newer && ev.KeysVersion <= c.durable.KeysVersion:
		return
	}
	cfg := c.durable.Config
	if newer {
		for _, n := range slices.Sorted(maps.Keys(ev.Config.ClearFaults)) {
			if ev.Config.ClearFaults[n] > cfg.ClearFaults[n] {
				c.clear(protocol.AlarmSlotFault, n)
			}
		}
		cfg = ev.Config
	}
	c.append(protocol.ConfigApplied{Config: cfg, KeysVersion: max(ev.KeysVersion, c.durable.KeysVersion)})
}

// Durable is what the journal holds once all effects so far are done.
func (c *core) Durable() Durable { return c.durable }

// SwapID names the open swap, "" when there is none.
func (c *core) SwapID() protocol.SwapID { return c.swapID() }

// Slots are those that the open or prepared swap may open, or maintenance.
func (m *Machine) Slots() []int {
	if m.phase == prepared {
		p := m.proposal.reply
		return grantSlots(protocol.Grant{DepositSlots: p.DepositSlots, Dispense: p.Dispense})
	}
	out := m.core.Slots()
	for _, o := range m.orders {
		if m.phase == maintaining && o.asked.Slot != 0 && !slices.Contains(out, o.asked.Slot) {
			out = append(slices.Clone(out), o.asked.Slot)
		}
	}
	return out
}

// Slots are those that the open swap may have opened, or maintenance has.
func (c *core) Slots() []int {
	switch d := c.durable; {
	case d.Open != nil:
		return d.Open.granted()
	case d.Maintained != nil:
		return d.Maintained.Opened
	}
	return nil
}

package slot

import (
	"time"

	"batteryswap/protocol"
)

// Content is what a slot holds, as far as all signs agree.
type Content uint8

// The answers. Unclear is also what contradicting or bouncing signs give.
const (
	Unclear    Content = iota
	Empty              // the switch and the battery link both say no
	Mute               // something is in, and no serial
	Identified         // something is in, and it says who it is
)

// contentOf is what one reading says. Silence is never "empty": an empty slot
// needs a switch and a battery link that both say no.
func contentOf(r Reading) Content {
	switch {
	case r.Switch == Yes && r.BatteryLink == Yes && protocol.BatterySerial(r.Serial).Validate() == nil:
		return Identified
	case r.Switch == Yes:
		return Mute
	case r.Switch == No && r.BatteryLink == No && r.Serial == "":
		return Empty
	}
	return Unclear
}

// Fault is what is wrong with a slot itself, as its signals tell.
type Fault uint8

// The faults of a slot.
const (
	NoFault      Fault = iota
	LockDisagree       // the bolt says locked while the door is open, for Stable
	LockFault          // the board reports a jammed lock or a stuck coil
)

// Bits of SlotBoard v1's fault bitmap (register 0001).
const (
	faultsOfBattery = 1<<13 - 1 // protection bits of the battery's electronics
	faultLockJam    = 1 << 16
	faultBMSTimeout = 1 << 19
	faultSlotHot    = 1 << 22
	faultSmoke      = 1 << 23
	faultForeign    = 1 << 24
	faultCoilStuck  = 1 << 25

	faultsOfLock = faultLockJam | faultCoilStuck
	// unfit keeps a battery from being given out.
	unfit = faultsOfBattery | faultBMSTimeout | faultSlotHot | faultSmoke | faultForeign
)

// What a battery of the pilot can plausibly report. The voltages span packs of
// 36 to 72 V, flat to full; the temperatures end where the safety rules' first
// threshold begins.
const (
	minVoltageMV = 20_000
	maxVoltageMV = 100_000
	minCellC     = -20.0
	maxCellC     = 55.0
)

// View is what may be believed of a slot now. Every value that is not known is
// the zero value.
type View struct {
	Slot int
	// At is when the newest reading came; meaningful while Seen.
	At   time.Duration
	Seen bool
	// Fresh: the newest reading is young enough and the board is not frozen.
	// While it is false nothing below is known.
	Fresh bool

	// Ajar: the newest reading alone says that the door is not provably closed.
	Ajar bool
	// Door is what two successive readings agree on.
	Door protocol.Door
	// Closed: shut and locked in every reading for Limits.Stable, the first of
	// them at ClosedSince, by a board that is alive.
	Closed      bool
	ClosedSince time.Duration

	// Content is what two successive readings agree on, Serial the battery's
	// when it is Identified.
	Content Content
	Serial  protocol.BatterySerial

	// Battery holds what is known of soc, voltage and temperature, as of
	// BatteryAt. Its serial is that of the content.
	Battery   protocol.Battery
	BatteryAt time.Duration
	// Fit: no protection, fault or implausible value speaks against giving it
	// out. Charged: Fit, known, fresh, and soc at or above the release level.
	Fit     bool
	Charged bool

	// CellMin and CellMax are the newest reading's, in 0.1 °C.
	CellMin, CellMax Value
	Full             bool
	Charging         bool
	// ChargeEnabled is the board's own account of the charge switch.
	ChargeEnabled Tri
	Fault         Fault
	Smoke         bool
}

// View says what may be believed at the time now.
func (e Evidence) View(now time.Duration) View {
	v := View{Slot: e.slot, Seen: e.row > 0, At: e.last.At}
	if !v.Seen || e.frozen || now-e.last.At > e.limits.SensorStale {
		return v
	}
	v.Fresh = true
	v.Ajar = !isClosed(e.last)
	v.Full, v.Charging = e.last.Full == Yes, e.last.Charging == Yes
	v.Smoke = e.last.Smoke == Yes
	v.ChargeEnabled, v.CellMin, v.CellMax = e.last.ChargeEnabled, e.last.CellMin, e.last.CellMax
	switch {
	case e.last.Faults&faultsOfLock != 0:
		v.Fault = LockFault
	case e.odd && e.last.At-e.oddSince >= e.limits.Stable:
		v.Fault = LockDisagree
	}
	// A board that froze says for a while what was so: the time that counts is up to
	// the last reading at which it was seen to have counted on.
	if e.closing && e.aliveAt-e.closingSince >= e.limits.Stable {
		v.Closed, v.ClosedSince = true, e.closingSince
	}
	if e.row < 2 {
		return v
	}
	v.Door = agreedDoor(e.before.DoorOpen, e.last.DoorOpen)
	v.Content = contentOf(e.last)
	if v.Content != contentOf(e.before) || (v.Content == Identified && e.before.Serial != e.last.Serial) {
		v.Content = Unclear
	}
	if v.Content == Identified {
		v.Serial = protocol.BatterySerial(e.last.Serial)
		e.viewBattery(&v, now)
	}
	return v
}

func (e Evidence) viewBattery(v *View, now time.Duration) {
	v.Battery = protocol.Battery{BatterySerial: v.Serial}
	if !e.batteryOK || e.battery.BatterySerial != v.Serial || now-e.batteryAt > e.limits.SocStale {
		return
	}
	v.Battery, v.BatteryAt = e.battery, e.batteryAt
	v.Fit = e.last.Faults&unfit == 0 && e.last.Smoke != Yes && Implausible(v.Battery) == ""
	v.Charged = v.Fit && *v.Battery.Soc >= e.limits.ReleaseSoc
}

// Implausible says why a battery's own numbers are not believed or not safe, or
// "" when they are. What is not known is not plausible.
func Implausible(b protocol.Battery) protocol.Reason {
	switch {
	case b.CellMaxC != nil && (*b.CellMaxC < minCellC || *b.CellMaxC > maxCellC):
		return protocol.ReasonTooHot
	case b.CellMaxC == nil || b.VoltageMV == nil || b.Soc == nil,
		*b.VoltageMV < minVoltageMV || *b.VoltageMV > maxVoltageMV:
		return protocol.ReasonVoltage
	}
	return ""
}

func agreedDoor(a, b Tri) protocol.Door {
	switch {
	case a == Yes && b == Yes:
		return protocol.DoorOpen
	case a == No && b == No:
		return protocol.DoorShut
	}
	return protocol.DoorUnknown
}

// Presence is the content in the words of the protocol.
func (v View) Presence() protocol.Presence {
	switch v.Content {
	case Empty:
		return protocol.PresenceEmpty
	case Mute, Identified:
		return protocol.HoldsBattery
	}
	return protocol.PresenceUnknown
}

// State is the slot in the words of the protocol, each value with its age. out
// says that the slot takes no part in swaps.
func (v View) State(now time.Duration, out bool) protocol.SlotState {
	s := protocol.SlotState{
		Slot: v.Slot, Door: v.Door, Closed: v.Closed, Presence: v.Presence(), BatterySerial: v.Serial,
		Soc: v.Battery.Soc, VoltageMV: v.Battery.VoltageMV, CellMaxC: v.Battery.CellMaxC,
		Charging: v.Charging, Charged: v.Charged, Out: out,
	}
	if v.Seen {
		age := (now - v.At).Milliseconds()
		s.AgeMS = &age
	}
	if v.Battery.Soc != nil {
		age := (now - v.BatteryAt).Milliseconds()
		s.SocAgeMS = &age
	}
	return s
}

// Brief is a slot's state as a record carries it: without ages and without the
// measurements that no book needs, so that 48 slots fit into one record.
func Brief(s protocol.SlotState) protocol.SlotState {
	s.VoltageMV, s.CellMaxC, s.AgeMS, s.SocAgeMS, s.Charging = nil, nil, nil, nil, false
	return s
}

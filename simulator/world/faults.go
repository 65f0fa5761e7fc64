package world

import (
	"fmt"
	"slices"
	"time"
)

// Fault is something that is broken, by name.
type Fault string

// What can be broken. Where a fault takes a count or a delay, its Setting says.
const (
	// Locks and doors.
	StuckLock    Fault = "stuck_lock"    // no pulse moves the bolt
	FailedPulse  Fault = "failed_pulse"  // a pulse does nothing
	StickingDoor Fault = "sticking_door" // the bolt is pulled, the door opens Delay later; 0: only by hand
	NoLatch      Fault = "no_latch"      // a pushed door is shut, its bolt does not catch

	// Sensors of a slot.
	DoorFlaps     Fault = "door_flaps"     // says anything
	BoltFlaps     Fault = "bolt_flaps"     // says anything
	PresenceFlaps Fault = "presence_flaps" // says anything
	LyingDoor     Fault = "lying_door"     // says the opposite
	LyingBolt     Fault = "lying_bolt"     // says the opposite
	LyingPresence Fault = "lying_presence" // says the opposite
	CoilStuck     Fault = "coil_stuck"     // the coil seems to be driven for ever
	SlotSmoke     Fault = "slot_smoke"     // the slot's smoke sensor answers

	// Batteries and chargers of a slot.
	DeadLink     Fault = "dead_link"     // the connector reaches nothing
	StuckCharger Fault = "stuck_charger" // current flows though it is switched off

	SilentBattery   Fault = "silent_battery"   // its electronics answer nothing, and current flows on
	FrozenBattery   Fault = "frozen_battery"   // its electronics repeat what was so when it froze
	LostTemperature Fault = "lost_temperature" // its electronics do not know its temperature
	JumpingValues   Fault = "jumping_values"   // soc and temperature are anything
	Runaway         Fault = "runaway"          // the battery heats itself up while current flows into it
	DeadFan         Fault = "dead_fan"         // the fan does not turn, whatever is switched

	// The main contactor, of the cabinet's own board.
	StuckContactor Fault = "stuck_contactor" // it stays as it is

	// Boards. Slot 0 is the cabinet's own board.
	NoProtection Fault = "no_protection" // the board does not switch charging off by itself when it is hot or smokes
	DeadBoard    Fault = "dead_board"    // answers nothing
	FrozenBoard  Fault = "frozen_board"  // answers what was so when it froze

	// The serial line, for answers of one board.
	LateReply      Fault = "late_reply"      // the answer starts Delay late
	DoubledReply   Fault = "doubled_reply"   // the answer is sent twice
	EchoedRequest  Fault = "echoed_request"  // the request comes back before the answer
	GarbagePrefix  Fault = "garbage_prefix"  // noise before the answer
	TruncatedReply Fault = "truncated_reply" // the answer breaks off
	BadCRC         Fault = "bad_crc"         // one bit of the answer is turned
)

// Faults lists every fault there is.
func Faults() []Fault {
	return []Fault{
		StuckLock, FailedPulse, StickingDoor, NoLatch,
		DoorFlaps, BoltFlaps, PresenceFlaps, LyingDoor, LyingBolt, LyingPresence, CoilStuck, SlotSmoke,
		DeadLink, StuckCharger, SilentBattery, FrozenBattery, LostTemperature, JumpingValues, Runaway, DeadFan,
		StuckContactor, NoProtection,
		DeadBoard, FrozenBoard,
		LateReply, DoubledReply, EchoedRequest, GarbagePrefix, TruncatedReply, BadCRC,
	}
}

// Setting says how a fault behaves. The zero Setting is: always, until cleared.
type Setting struct {
	// Count: the fault strikes so many times and is gone. 0: until cleared.
	Count int
	// OneIn: the fault strikes one time in so many, by chance. 0 and 1: always.
	OneIn int
	// Delay of a late answer or of a sticking door.
	Delay time.Duration
}

// The devices of a cabinet that are no slot, as faults number them.
const (
	CabinetBoard  = 0
	Meter         = -1
	ClimateSensor = -2
)

type faults map[Fault]Setting

func (f faults) on(name Fault) bool {
	_, ok := f[name]
	return ok
}

// names lists what is broken.
func (f faults) names() []Fault {
	var broken []Fault
	for _, name := range Faults() {
		if f.on(name) {
			broken = append(broken, name)
		}
	}
	return broken
}

// SetFault breaks something of a slot, or of CabinetBoard, Meter, ClimateSensor.
func (w *World) SetFault(at time.Duration, cabinetID string, number int, name Fault, how Setting) error {
	return w.changeFault(at, cabinetID, number, name, func(f faults) { f[name] = how })
}

// ClearFault mends something of a slot, or of CabinetBoard, Meter, ClimateSensor.
func (w *World) ClearFault(at time.Duration, cabinetID string, number int, name Fault) error {
	return w.changeFault(at, cabinetID, number, name, func(f faults) { delete(f, name) })
}

func (w *World) changeFault(at time.Duration, cabinetID string, number int, name Fault, change func(faults)) error {
	if !slices.Contains(Faults(), name) {
		return fmt.Errorf("fault %q: unknown, expected one of %v", name, Faults())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	f, err := w.faultsOf(cabinetID, number)
	if err != nil {
		return fmt.Errorf("fault %q: %w", name, err)
	}
	change(f)
	w.note(Event{At: at, Kind: FaultChanged, Cabinet: cabinetID, Slot: number, Cause: string(name)})
	if number > 0 && (name == DeadLink || name == SilentBattery) {
		w.cabinets[cabinetID].slots[number-1].changes++
	}
	w.fire = w.fire || name == Runaway
	return nil
}

func (w *World) faultsOf(cabinetID string, number int) (faults, error) {
	c := w.cabinets[cabinetID]
	if c != nil && number == CabinetBoard {
		return c.faults, nil
	}
	if c != nil && number < 0 && -number <= len(c.devices) {
		return c.devices[-number-1], nil
	}
	s, err := w.slot(cabinetID, number)
	if err != nil {
		return nil, err
	}
	return s.faults, nil
}

// Strikes asks whether a fault strikes now, and uses up one of its counted
// times if it does. It numbers devices as SetFault does.
func (w *World) Strikes(cabinetID string, number int, name Fault) (Setting, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := w.faultsOf(cabinetID, number)
	if err != nil {
		return Setting{}, false
	}
	return w.strikes(f, name)
}

func (w *World) strikes(f faults, name Fault) (Setting, bool) {
	how, ok := f[name]
	if !ok || (how.OneIn > 1 && w.random.IntN(how.OneIn) != 0) {
		return Setting{}, false
	}
	if how.Count > 0 {
		left := how
		left.Count--
		if left.Count == 0 {
			delete(f, name)
		} else {
			f[name] = left
		}
	}
	return how, true
}

// Chance is a number in [0, n) from the world's own randomness.
func (w *World) Chance(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(n)
}

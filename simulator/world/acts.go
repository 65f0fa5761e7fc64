package world

import (
	"fmt"
	"time"
)

// springDelay is how long an unlocked door takes to spring open.
const springDelay = 60 * time.Millisecond

// Pulse drives the coil of a slot's lock for at most limit; it ends early when
// the door opens. What comes of it, the sensors tell.
func (w *World) Pulse(at time.Duration, cabinetID string, number int, limit time.Duration) error {
	s, err := w.begin(at, cabinetID, number)
	defer w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("pulse: %w", err)
	}
	n := w.note(Event{At: at, Kind: Pulsed, Cabinet: cabinetID, Slot: number})
	s.coilUntil = at + limit
	if s.doorOpen || s.faults.on(StuckLock) {
		return nil
	}
	if _, failed := w.strikes(s.faults, FailedPulse); failed {
		return nil
	}
	s.boltLocked, s.pulse = false, n
	if how, sticks := w.strikes(s.faults, StickingDoor); sticks {
		if how.Delay > 0 && s.opensAt < 0 {
			s.opensAt = at + how.Delay
		}
		return nil
	}
	s.opensAt = at + springDelay
	return nil
}

func (w *World) openDoor(at time.Duration, cabinetID string, number int, s *slot, cause, person string) {
	s.doorOpen, s.boltLocked, s.opensAt = true, false, never
	if s.coilUntil > at {
		s.coilUntil = at
	}
	w.note(Event{
		At: at, Kind: DoorOpened, Cabinet: cabinetID, Slot: number, Serial: s.serial(),
		Person: person, Cause: cause, Pulse: s.pulse,
	})
	s.pulse = 0
}

func (s *slot) serial() string {
	if s.held == nil {
		return ""
	}
	return s.held.serial
}

// PullDoor opens a door by hand: it gives only if its bolt is pulled.
func (w *World) PullDoor(at time.Duration, person, cabinetID string, number int) error {
	return w.openByHand(at, person, cabinetID, number, ByHand)
}

// ForceDoor opens a door with a crowbar.
func (w *World) ForceDoor(at time.Duration, person, cabinetID string, number int) error {
	return w.openByHand(at, person, cabinetID, number, ByForce)
}

func (w *World) openByHand(at time.Duration, person, cabinetID string, number int, cause string) error {
	s, err := w.begin(at, cabinetID, number)
	defer w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("open a door: %w", err)
	}
	if s.doorOpen {
		return nil
	}
	if s.boltLocked && cause == ByHand {
		return fmt.Errorf("pull the door of cabinet %q slot %d: %w", cabinetID, number, ErrBoltLocked)
	}
	if s.boltLocked {
		s.pulse = 0
	}
	w.openDoor(at, cabinetID, number, s, cause, person)
	return nil
}

// CloseDoor pushes a door shut; its bolt catches. Pushing a door that stuck
// with its bolt pulled makes the bolt catch too.
func (w *World) CloseDoor(at time.Duration, person, cabinetID string, number int) error {
	s, err := w.begin(at, cabinetID, number)
	defer w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("close a door: %w", err)
	}
	if !s.doorOpen && s.boltLocked {
		return nil
	}
	s.doorOpen, s.opensAt, s.pulse = false, never, 0
	cause := Latched
	if _, loose := w.strikes(s.faults, NoLatch); loose {
		cause = NotLatched
	} else {
		s.boltLocked = true
	}
	w.note(Event{
		At: at, Kind: DoorShut, Cabinet: cabinetID, Slot: number, Serial: s.serial(),
		Person: person, Cause: cause,
	})
	return nil
}

// Insert puts a battery that a person holds into an open, empty slot.
func (w *World) Insert(at time.Duration, person, cabinetID string, number int, serial string, plugged bool) error {
	s, err := w.begin(at, cabinetID, number)
	defer w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	b := w.batteries[serial]
	switch {
	case b == nil:
		err = ErrNoSuchBattery
	case b.person != person || person == "":
		err = ErrNotInHands
	case !s.doorOpen:
		err = ErrDoorShut
	case s.held != nil:
		err = ErrSlotFull
	}
	if err != nil {
		return fmt.Errorf("insert battery %q into cabinet %q slot %d: %w", serial, cabinetID, number, err)
	}
	b.person, b.cabinet, b.slot = "", cabinetID, number
	s.held, s.plugged = b, plugged
	s.changes++
	w.note(Event{At: at, Kind: BatteryIn, Cabinet: cabinetID, Slot: number, Serial: serial, Person: person})
	return nil
}

// Plug connects the slot's cable to the battery inside, or pulls it off.
func (w *World) Plug(at time.Duration, person, cabinetID string, number int, plugged bool) error {
	s, err := w.begin(at, cabinetID, number)
	defer w.mu.Unlock()
	if err == nil && s.held == nil {
		err = ErrSlotEmpty
	} else if err == nil && !s.doorOpen {
		err = ErrDoorShut
	}
	if err != nil {
		return fmt.Errorf("plug cabinet %q slot %d: %w", cabinetID, number, err)
	}
	if s.plugged == plugged {
		return nil
	}
	s.plugged = plugged
	s.changes++
	cause := "no"
	if plugged {
		cause = "yes"
	}
	w.note(Event{
		At: at, Kind: Plugged, Cabinet: cabinetID, Slot: number, Serial: s.held.serial, Person: person, Cause: cause,
	})
	return nil
}

// Take takes the battery out of an open slot into a person's hands, and says
// which one it is.
func (w *World) Take(at time.Duration, person, cabinetID string, number int) (string, error) {
	s, err := w.begin(at, cabinetID, number)
	defer w.mu.Unlock()
	if err == nil && !s.doorOpen {
		err = ErrDoorShut
	} else if err == nil && s.held == nil {
		err = ErrSlotEmpty
	} else if err == nil && person == "" {
		err = fmt.Errorf("nobody is there to take it: %w", ErrNotInHands)
	}
	if err != nil {
		return "", fmt.Errorf("take from cabinet %q slot %d: %w", cabinetID, number, err)
	}
	b := s.held
	b.person, b.cabinet, b.slot = person, "", 0
	s.held, s.plugged = nil, false
	s.changes++
	w.note(Event{At: at, Kind: BatteryOut, Cabinet: cabinetID, Slot: number, Serial: b.serial, Person: person})
	return b.serial, nil
}

// Give hands a battery from one person to another.
func (w *World) Give(at time.Duration, from, to, serial string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	b := w.batteries[serial]
	if b == nil {
		return fmt.Errorf("give battery %q: %w", serial, ErrNoSuchBattery)
	}
	if b.person != from || from == "" || to == "" {
		return fmt.Errorf("give battery %q from %q to %q: %w", serial, from, to, ErrNotInHands)
	}
	b.person = to
	return nil
}

// SwitchCharger switches the output of a slot's charger on or off.
func (w *World) SwitchCharger(at time.Duration, cabinetID string, number int, on bool) error {
	s, err := w.begin(at, cabinetID, number)
	defer w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("switch a charger: %w", err)
	}
	s.chargeOn = on
	return nil
}

// ChargeLimits bound what a slot's charger gives; 0 is the battery's own limit.
type ChargeLimits struct {
	MV, MA int
}

// LimitCharger sets what a slot's charger gives at most.
func (w *World) LimitCharger(at time.Duration, cabinetID string, number int, limits ChargeLimits) error {
	s, err := w.begin(at, cabinetID, number)
	defer w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("limit a charger: %w", err)
	}
	s.limits = limits
	return nil
}

// SwitchAir switches fan and heater of a slot.
func (w *World) SwitchAir(at time.Duration, cabinetID string, number int, fan, heater bool) error {
	s, err := w.begin(at, cabinetID, number)
	defer w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("switch fan and heater: %w", err)
	}
	s.fanOn, s.heaterOn = fan, heater
	return nil
}

// buttonStays is how long the button's relay holds after a press.
const buttonStays = 2 * time.Second

// PressButton presses the rider's button on the cabinet.
func (w *World) PressButton(at time.Duration, person, cabinetID string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	c := w.cabinets[cabinetID]
	if c == nil {
		return fmt.Errorf("press the button of cabinet %q: %w", cabinetID, ErrNoSuchPlace)
	}
	c.pressed = at
	w.note(Event{At: at, Kind: ButtonPressed, Cabinet: cabinetID, Person: person})
	return nil
}

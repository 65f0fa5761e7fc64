package world

import (
	"fmt"
	"time"
)

// Sensed is what the sensors of a slot feel, lies and flapping included: all
// that a board can know.
type Sensed struct {
	DoorOpen, BoltLocked, CoilActive, Present, Smoke bool
	AirDeciC                                         int
	// Battery is nil while nothing answers on the slot's connector.
	Battery   *Battery
	CurrentMA int
	// Changes counts the times that presence or the battery's code changed.
	Changes uint64
}

// Sense is what a slot's sensors feel now.
func (w *World) Sense(at time.Duration, cabinetID string, number int) (Sensed, error) {
	s, err := w.begin(at, cabinetID, number)
	defer w.mu.Unlock()
	if err != nil {
		return Sensed{}, fmt.Errorf("sense: %w", err)
	}
	sensed := Sensed{
		DoorOpen:   w.feel(s.faults, s.doorOpen, LyingDoor, DoorFlaps),
		BoltLocked: w.feel(s.faults, s.boltLocked, LyingBolt, BoltFlaps),
		Present:    w.feel(s.faults, s.held != nil, LyingPresence, PresenceFlaps),
		CoilActive: s.coilUntil > at || s.faults.on(CoilStuck),
		Smoke:      s.faults.on(SlotSmoke),
		AirDeciC:   roomDeciC,
		CurrentMA:  s.current(w.cabinets[cabinetID]),
		Changes:    s.changes,
	}
	if s.linked() {
		b := s.held.report()
		sensed.Battery = &b
	}
	return sensed, nil
}

func (w *World) feel(f faults, truth bool, lies, flaps Fault) bool {
	if f.on(lies) {
		truth = !truth
	}
	if _, struck := w.strikes(f, flaps); struck {
		return w.random.IntN(2) == 0
	}
	return truth
}

// SenseCabinet is what the sensors of the cabinet itself feel now.
func (w *World) SenseCabinet(at time.Duration, cabinetID string) (CabinetSensors, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	c := w.cabinets[cabinetID]
	if c == nil {
		return CabinetSensors{}, fmt.Errorf("sense cabinet %q: %w", cabinetID, ErrNoSuchPlace)
	}
	sensors := c.sensors
	sensors.Button = c.pressed >= 0 && at-c.pressed < buttonStays
	return sensors, nil
}

// SlotView is what an eye sees of a slot: nothing behind a shut door.
type SlotView struct {
	Slot     int
	DoorOpen bool
	Serial   string // of the battery inside, while the door is open
}

// View is what an eye sees of a cabinet.
func (w *World) View(at time.Duration, cabinetID string) []SlotView {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	c := w.cabinets[cabinetID]
	if c == nil {
		return nil
	}
	view := make([]SlotView, len(c.slots))
	for i, s := range c.slots {
		view[i] = SlotView{Slot: i + 1, DoorOpen: s.doorOpen}
		if s.doorOpen {
			view[i].Serial = s.serial()
		}
	}
	return view
}

// SlotFacts is the truth about a slot.
type SlotFacts struct {
	Slot       int
	DoorOpen   bool
	BoltLocked bool
	Battery    *Battery // nil: empty
	Plugged    bool
	ChargeOn   bool
	CurrentMA  int
	Faults     []Fault
}

// Facts is the truth about a cabinet's slots, for checkers and for whoever
// drives a cabinet by hand.
func (w *World) Facts(at time.Duration, cabinetID string) []SlotFacts {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	c := w.cabinets[cabinetID]
	if c == nil {
		return nil
	}
	facts := make([]SlotFacts, len(c.slots))
	for i, s := range c.slots {
		f := SlotFacts{
			Slot: i + 1, DoorOpen: s.doorOpen, BoltLocked: s.boltLocked, Plugged: s.plugged,
			ChargeOn: s.chargeOn, CurrentMA: s.current(c),
		}
		if s.held != nil {
			b := s.held.report()
			f.Battery = &b
		}
		for _, name := range Faults() {
			if s.faults.on(name) {
				f.Faults = append(f.Faults, name)
			}
		}
		facts[i] = f
	}
	return facts
}

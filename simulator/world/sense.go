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
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look(at)
	s, err := w.slot(cabinetID, number)
	if err != nil {
		return Sensed{}, fmt.Errorf("sense: %w", err)
	}
	sensed := Sensed{
		DoorOpen:   w.feel(s.faults, s.doorOpen, LyingDoor, DoorFlaps),
		BoltLocked: w.feel(s.faults, s.boltLocked, LyingBolt, BoltFlaps),
		Present:    w.feel(s.faults, s.held != nil, LyingPresence, PresenceFlaps),
		CoilActive: s.coilUntil > at || s.faults.on(CoilStuck),
		Smoke:      s.faults.on(SlotSmoke) || s.held != nil && s.held.vents,
		AirDeciC:   round(s.air),
		CurrentMA:  s.current(w.cabinets[cabinetID]),
		Changes:    s.changes,
	}
	if s.linked() && !s.faults.on(SilentBattery) {
		b := w.told(s)
		sensed.Battery = &b
	}
	return sensed, nil
}

// told is what the electronics of the slot's battery say of it.
func (w *World) told(s *slot) Battery {
	b := s.held.report()
	if !s.faults.on(FrozenBattery) || s.stale != nil && s.stale.Serial != b.Serial {
		s.stale = nil
	} else if s.stale == nil {
		s.stale = &b
	} else {
		b = *s.stale
	}
	if _, struck := w.strikes(s.faults, JumpingValues); struck {
		b.SocPermille = w.random.IntN(1001)
		b.TempDeciC = coldestJump + w.random.IntN(hottestJump-coldestJump)
	}
	b.NoTemp = b.NoTemp || s.faults.on(LostTemperature)
	return b
}

// What a sensor says that says anything, in 0.1 °C: all that its wires allow.
const (
	coldestJump = -400
	hottestJump = 1500
)

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
	w.look(at)
	c := w.cabinets[cabinetID]
	if c == nil {
		return CabinetSensors{}, fmt.Errorf("sense cabinet %q: %w", cabinetID, ErrNoSuchPlace)
	}
	sensors := c.sensors
	sensors.Button = c.pressed >= 0 && at-c.pressed < buttonStays
	sensors.Smoke = sensors.Smoke || c.vented >= 0 && at-c.vented >= smokeRises
	sensors.BackupInUse = c.onBackup()
	sensors.BackupMV = int(c.backup)
	sensors.LowerTempDeciC = round(c.inside)
	sensors.UpperTempDeciC = round(c.inside + c.lossW()*upperPerWatt)
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
	w.look(at)
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
	AirDeciC   int
	Smoke      bool // the battery inside gives it off
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
			ChargeOn: s.chargeOn, CurrentMA: s.current(c), AirDeciC: round(s.air),
			Smoke: s.held != nil && s.held.vents,
		}
		if s.held != nil {
			b := s.held.report()
			f.Battery = &b
		}
		f.Faults = s.faults.names()
		facts[i] = f
	}
	return facts
}

// CabinetFaults lists what is broken of the cabinet's own board, its meter or its
// climate sensor.
func (w *World) CabinetFaults(cabinetID string, number int) []Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := w.faultsOf(cabinetID, number)
	if err != nil {
		return nil
	}
	return f.names()
}

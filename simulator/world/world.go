package world

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"batteryswap/protocol"
)

// What cannot be done, whatever the order of acts.
var (
	// ErrNoSuchPlace: the cabinet or the slot does not exist.
	ErrNoSuchPlace = errors.New("no such cabinet or slot")
	// ErrNoSuchBattery: no battery has that serial.
	ErrNoSuchBattery = errors.New("no such battery")
	// ErrDoorShut: the hand meets a shut door.
	ErrDoorShut = errors.New("the door is shut")
	// ErrBoltLocked: the door does not give, its bolt is locked.
	ErrBoltLocked = errors.New("the bolt is locked")
	// ErrSlotFull: there is a battery in the slot already.
	ErrSlotFull = errors.New("the slot holds a battery")
	// ErrSlotEmpty: there is nothing to take.
	ErrSlotEmpty = errors.New("the slot is empty")
	// ErrNotInHands: the person does not hold that battery.
	ErrNotInHands = errors.New("the person does not hold this battery")
	// ErrExists: a cabinet or a battery with that name exists already.
	ErrExists = errors.New("exists already")
)

// MaxSlots is the largest cabinet there is.
const MaxSlots = protocol.MaxSlots

// World holds the facts. Make it with New.
type World struct {
	mu        sync.Mutex
	random    *rand.Rand
	speed     float64
	now       time.Duration
	cabinets  map[string]*cabinet
	order     []string
	batteries map[string]*battery
	log       []Event
	last      uint64
}

// New makes an empty world. Physics (charging, temperatures) runs speed times
// as fast as time; hands, springs and locks do not. A speed of 0 means 1.
func New(random *rand.Rand, speed float64) *World {
	if speed <= 0 {
		speed = 1
	}
	return &World{
		random:    random,
		speed:     speed,
		cabinets:  map[string]*cabinet{},
		batteries: map[string]*battery{},
	}
}

type cabinet struct {
	id      string
	slots   []*slot // slots[0] is the slot painted 1
	sensors CabinetSensors
	pressed time.Duration // when the rider's button was last pressed; never while < 0
	faults  faults        // of the cabinet's own board, unit 100
}

// slot is one compartment. The zero value of a door is shut; the bolt of a new
// slot is locked.
type slot struct {
	doorOpen   bool
	boltLocked bool
	opensAt    time.Duration // the spring wins at this time; never while < 0
	pulse      uint64        // the pulse that pulled the bolt, for the log
	coilUntil  time.Duration
	held       *battery
	plugged    bool
	chargeOn   bool   // the charger's output is switched on
	changes    uint64 // what an identity epoch counts
	faults     faults
}

const never = time.Duration(-1)

// CabinetSensors is what is so of the cabinet as a whole.
type CabinetSensors struct {
	MainDoorOpen, Smoke, Water, Tilt, BackupInUse bool
	MaintenanceKey, EmergencyStop                 bool
	Button                                        bool // pressed within the last 2 s
	ContactorClosed                               bool // open: no charger has mains
	UpperTempDeciC, LowerTempDeciC                int
	HumidityPermille                              int
	BackupMV                                      int
}

// AddCabinet puts up a cabinet with empty, closed slots 1..slots.
func (w *World) AddCabinet(id string, slots int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.cabinets[id]; ok {
		return fmt.Errorf("add cabinet %q: %w", id, ErrExists)
	}
	if slots < 1 || slots > MaxSlots {
		return fmt.Errorf("add cabinet %q: slots is %d, expected 1..%d", id, slots, MaxSlots)
	}
	c := &cabinet{id: id, pressed: never, faults: faults{}, sensors: CabinetSensors{
		ContactorClosed: true, UpperTempDeciC: roomDeciC, LowerTempDeciC: roomDeciC,
		HumidityPermille: 550, BackupMV: 12_600,
	}}
	for range slots {
		c.slots = append(c.slots, &slot{boltLocked: true, opensAt: never, faults: faults{}})
	}
	w.cabinets[id] = c
	w.order = append(w.order, id)
	return nil
}

// Cabinets lists the cabinets in the order in which they were put up.
func (w *World) Cabinets() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.order...)
}

// Slots is the number of slots of a cabinet, 0 if there is no such cabinet.
func (w *World) Slots(cabinetID string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.cabinets[cabinetID]; c != nil {
		return len(c.slots)
	}
	return 0
}

// SetCabinet changes what is so of the cabinet as a whole.
func (w *World) SetCabinet(at time.Duration, cabinetID string, change func(*CabinetSensors)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	c := w.cabinets[cabinetID]
	if c == nil {
		return fmt.Errorf("cabinet %q: %w", cabinetID, ErrNoSuchPlace)
	}
	change(&c.sensors)
	return nil
}

func (w *World) slot(cabinetID string, number int) (*slot, error) {
	c := w.cabinets[cabinetID]
	if c == nil || number < 1 || number > len(c.slots) {
		return nil, fmt.Errorf("cabinet %q slot %d: %w", cabinetID, number, ErrNoSuchPlace)
	}
	return c.slots[number-1], nil
}

// begin locks the world, lets time pass and finds a slot. The caller unlocks,
// also after an error.
func (w *World) begin(at time.Duration, cabinetID string, number int) (*slot, error) {
	w.mu.Lock()
	w.advance(at)
	return w.slot(cabinetID, number)
}

// advance lets everything happen that time alone brings: springs win against
// doors that stuck, batteries charge, temperatures settle. Acts may arrive a
// little out of order from several goroutines; time never runs back.
func (w *World) advance(at time.Duration) {
	if at <= w.now {
		return
	}
	passed := (at - w.now).Seconds() * w.speed
	for _, id := range w.order {
		c := w.cabinets[id]
		for i, s := range c.slots {
			if s.opensAt >= 0 && s.opensAt <= at {
				w.openDoor(s.opensAt, c.id, i+1, s, ByPulse, "")
			}
			if s.held != nil {
				s.held.settle(passed, s.current(c))
			}
		}
	}
	w.now = at
}

// Advance lets time pass.
func (w *World) Advance(at time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
}

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
	settled   time.Duration // until when physics has been reckoned, never after now
	weather   Weather
	fire      bool // something heats itself up, so that time goes in small steps
	acted     bool // an act may have made a current flow or stop
	cabinets  map[string]*cabinet
	order     []string
	batteries map[string]*battery
	log       []Event
	last      uint64
}

// New makes an empty world. Charging, the meter and the day run speed times as fast
// as time; hands, springs, locks and temperatures do not, for a battery that warms
// up a hundred times as fast as one can is an alarm. A speed of 0 means 1.
func New(random *rand.Rand, speed float64) *World {
	if speed <= 0 {
		speed = 1
	}
	return &World{
		random:    random,
		speed:     speed,
		weather:   DefaultWeather(),
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
	devices [2]faults     // of the meter and of the climate sensor

	inside float64       // 0.1 °C, the air between the slots
	backup float64       // mV of the backup supply
	energy float64       // J, what the meter has counted
	vented time.Duration // when smoke first rose; never while < 0
	closed bool          // the contactor, as last noted
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
	chargeOn   bool // the charger's output is switched on
	limits     ChargeLimits
	fanOn      bool
	heaterOn   bool
	air        float64 // 0.1 °C
	flows      bool    // current, as last noted
	stale      *Battery
	changes    uint64 // what an identity epoch counts
	faults     faults
}

const never = time.Duration(-1)

// CabinetSensors is what is so of the cabinet as a whole.
type CabinetSensors struct {
	MainDoorOpen, Water, Tilt     bool
	Smoke                         bool // also when a battery inside gives off smoke
	BackupInUse                   bool // also when the mains are low
	MaintenanceKey, EmergencyStop bool
	Button                        bool // pressed within the last 2 s
	ContactorClosed               bool // open: no charger has mains
	FanOn                         bool
	MainsDeciV                    int // 0.1 V between the wires of the mains
	BackupMV                      int
	HumidityPermille              int
	// The temperatures, in 0.1 °C, are what comes of weather and charging: a
	// change of them is without effect.
	UpperTempDeciC, LowerTempDeciC int
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
	outside := w.outside()
	c := &cabinet{
		id: id, pressed: never, faults: faults{}, devices: [2]faults{{}, {}}, vented: never,
		inside: outside, backup: fullBackupMV, closed: true,
		sensors: CabinetSensors{ContactorClosed: true, MainsDeciV: nominalMainsDeciV, HumidityPermille: 550},
	}
	for range slots {
		c.slots = append(c.slots, &slot{boltLocked: true, opensAt: never, faults: faults{}, air: outside})
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

// SetCabinet changes what is so of the cabinet as a whole. The emergency stop
// opens the contactor by its own wires and keeps it open; when it is released the
// contactor stays open until it is closed. A stuck contactor does not move.
func (w *World) SetCabinet(at time.Duration, cabinetID string, change func(*CabinetSensors)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	c := w.cabinets[cabinetID]
	if c == nil {
		return fmt.Errorf("cabinet %q: %w", cabinetID, ErrNoSuchPlace)
	}
	was := c.sensors
	c.sensors.BackupMV = int(c.backup)
	before := c.sensors.BackupMV
	change(&c.sensors)
	if c.sensors.BackupMV != before {
		c.backup = float64(c.sensors.BackupMV)
	}
	if c.sensors.EmergencyStop {
		c.sensors.ContactorClosed = false
	}
	if c.faults.on(StuckContactor) {
		c.sensors.ContactorClosed = was.ContactorClosed
	}
	for _, input := range []struct {
		name    string
		was, is bool
	}{
		{"smoke", was.Smoke, c.sensors.Smoke}, {"water", was.Water, c.sensors.Water},
		{"emergency_stop", was.EmergencyStop, c.sensors.EmergencyStop},
		{"maintenance_key", was.MaintenanceKey, c.sensors.MaintenanceKey},
		{"mains", was.MainsDeciV < lowMainsDeciV, c.sensors.MainsDeciV < lowMainsDeciV},
	} {
		if input.was != input.is {
			w.note(Event{At: at, Kind: InputChanged, Cabinet: cabinetID, Cause: input.name})
		}
	}
	return nil
}

func (w *World) slot(cabinetID string, number int) (*slot, error) {
	c := w.cabinets[cabinetID]
	if c == nil || number < 1 || number > len(c.slots) {
		return nil, fmt.Errorf("cabinet %q slot %d: %w", cabinetID, number, ErrNoSuchPlace)
	}
	return c.slots[number-1], nil
}

// begin locks the world, lets time pass and finds a slot for an act. The caller
// unlocks, also after an error.
func (w *World) begin(at time.Duration, cabinetID string, number int) (*slot, error) {
	w.mu.Lock()
	w.advance(at)
	return w.slot(cabinetID, number)
}

// Advance lets time pass.
func (w *World) Advance(at time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look(at)
}

// Package driver is what the agent asks of a board, whatever its kind.
//
// It knows no bytes: each kind has a folder of its own, and the explicit table
// of the kinds stands where they are wired, in package agent. It gives the
// Poller, which reads a cabinet's slots in turn and backs off from a dead one. It
// needs a Board on a bus. A driver reports what the board said and decides
// nothing; every value that the board does not know is absent.
package driver

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/slot"
)

// Board is one cabinet's slots behind one serial line. Its methods block for
// one transaction (or its bounded retries) and may be called from several
// goroutines: the bus runs one request at a time, those of Guard before an unlock, and an
// unlock before any poll.
type Board interface {
	// Start puts the outputs into their safe state (charging off, the board's
	// own watchdog set). It never moves a lock. It goes on past a dead slot and
	// joins the errors; Poll does the same for a slot that was dead at Start, or
	// whose board was reset since.
	Start(ctx context.Context) error
	// Poll reads one slot. An error means that nothing is known of it.
	Poll(ctx context.Context, slotNumber int) (slot.Reading, error)
	// PollCabinet reads the sensors of the cabinet itself.
	PollCabinet(ctx context.Context) (CabinetReading, error)
	// Unlock pulses the lock of a slot once. It first switches charging of that
	// slot off. An error means "not known", never "not done": only the door
	// and bolt sensors tell. It is never repeated by the driver in a way that
	// could pulse twice.
	Unlock(ctx context.Context, slotNumber int) error
	Guard
}

// Guard is what the safety loop asks of a board. Each method is one transaction
// of the highest priority: it waits for the one that is on the line, and for
// nothing else.
type Guard interface {
	// Look reads a slot's sensors, without the battery's serial. An error means
	// that nothing is known of it.
	Look(ctx context.Context, slotNumber int) (slot.Reading, error)
	// LookCabinet reads the sensors of the cabinet itself.
	LookCabinet(ctx context.Context) (CabinetReading, error)
	// Charge switches charging of a slot. Off is never kept waiting by another
	// act on the slot; on fails with ErrBusy while the slot is being unlocked.
	Charge(ctx context.Context, slotNumber int, on bool) error
	// Limit sets the highest charge current of a slot, in mA; 0 is the battery's
	// own.
	Limit(ctx context.Context, slotNumber int, milliamps int) error
	// Air says what a slot's fan and its heater are to do.
	Air(ctx context.Context, slotNumber int, fan, heater slot.Air) error
	// Contactor closes or opens the main contactor: open, no charger has mains.
	Contactor(ctx context.Context, closed bool) error
}

// ErrBusy is that charging is not switched on while another act on the slot is under way.
var ErrBusy = errors.New("another act on the slot is under way")

// Options is what a board of any kind is opened with.
type Options struct {
	Bus *bus.Bus
	// Slots is the number of slots; their numbers go from 1 to it.
	Slots int
	// Now is the agent's monotonic clock.
	Now func() time.Duration
	Log *slog.Logger
}

// Kind is one kind of board that the agent can drive.
type Kind struct {
	// Name is the kind's name in the configuration.
	Name string
	// MaxSlots is how many slots one line of this kind can have.
	MaxSlots int
	Open     func(Options) (Board, error)
}

// CabinetReading is what the cabinet's own board said in one poll.
type CabinetReading struct {
	At             time.Duration // agent's monotonic clock
	MainDoorOpen   slot.Tri
	Smoke          slot.Tri
	Water          slot.Tri
	Tilt           slot.Tri
	BackupInUse    slot.Tri
	Button         slot.Tri
	MaintenanceKey slot.Tri
	EmergencyStop  slot.Tri
	Contactor      slot.Tri
	UpperTemp      slot.Value // 0.1 °C
	LowerTemp      slot.Value // 0.1 °C
	BackupMV       slot.Value
	// Alive is the board's own counter, +1 each second: it stands still when the
	// board is frozen and answers stale data.
	Alive uint16
}

// Meter is an energy meter at an address of its own on the boards' line.
type Meter interface {
	// PollMeter reads it. An error means that nothing is known.
	PollMeter(ctx context.Context) (MeterReading, error)
}

// MeterReading is what the meter said in one poll.
type MeterReading struct {
	At time.Duration // agent's monotonic clock
	// PowerW is what the whole cabinet takes from the mains now, in W.
	PowerW slot.Value
	// VoltageMV is the lowest of the phases, in mV.
	VoltageMV slot.Value
	// EnergyJ is what the cabinet has taken since the meter was made, in J.
	EnergyJ     uint64
	EnergyKnown bool
}

// Climate is a sensor of temperature and humidity at an address of its own on
// the boards' line.
type Climate interface {
	// PollClimate reads it. An error means that nothing is known.
	PollClimate(ctx context.Context) (ClimateReading, error)
}

// ClimateReading is what the climate sensor said in one poll.
type ClimateReading struct {
	At       time.Duration // agent's monotonic clock
	Temp     slot.Value    // 0.1 °C
	Humidity slot.Value    // 0.1 %
}

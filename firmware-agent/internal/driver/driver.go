// Package driver is what the agent asks of a board, and the explicit table of
// the kinds of board that there are.
//
// It knows no bytes: each kind has a folder of its own. It gives the Poller,
// which reads a cabinet's slots in turn and backs off from a dead one. A driver
// reports what the board said and decides nothing; every value that the board
// does not know is absent.
package driver

import (
	"context"
	"time"

	"batteryswap/firmware-agent/internal/slot"
)

// Board is one cabinet's slots behind one serial line. Its methods block for
// one transaction (or its bounded retries) and may be called from several
// goroutines: the bus runs one request at a time, an unlock before any poll.
type Board interface {
	// Start puts the outputs into their safe state (charging off, the board's
	// own watchdog set) and learns each slot's last lock sequence. It never
	// moves a lock. It goes on past a dead slot and joins the errors.
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
	// Charge switches charging of a slot on or off.
	Charge(ctx context.Context, slotNumber int, on bool) error
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
}

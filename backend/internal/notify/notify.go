package notify

import (
	"context"
	"log/slog"
	"time"

	"batteryswap/protocol"
)

// Notice is a safety event of a cabinet.
type Notice struct {
	// EventID is the same whenever the same event is told: a receiver that knows
	// it already has nothing to do.
	EventID   string             `json:"event_id"`
	Record    string             `json:"record"` // alarm, charge_cut or tamper
	Kind      protocol.AlarmKind `json:"kind"`
	Cleared   bool               `json:"cleared"` // it is over
	CabinetID protocol.CabinetID `json:"cabinet_id"`
	Station   string             `json:"station"`
	Street    string             `json:"street"`
	Slot      int                `json:"slot,omitempty"` // 0: the whole cabinet
	SwapID    protocol.SwapID    `json:"swap_id,omitempty"`
	At        time.Time          `json:"at"`
	// TimeQuality is how At was found: wall, stepped, age or receipt.
	TimeQuality string    `json:"time_quality"`
	ReceivedAt  time.Time `json:"received_at"`
	Try         int       `json:"try"` // 1 the first time
}

// Notifier tells somebody. Nil means that it was told; after an error it may
// have been, too.
type Notifier interface {
	Notify(context.Context, Notice) error
}

// Log tells whoever reads the log.
type Log struct{ Log *slog.Logger }

// Notify implements Notifier.
func (l Log) Notify(_ context.Context, n Notice) error {
	l.Log.Warn("safety", "event", n.Record, "reason", n.Kind, "cabinet_id", n.CabinetID, "slot", n.Slot, "swap_id", n.SwapID,
		"cleared", n.Cleared, "at", n.At)
	return nil
}

package fleet

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"batteryswap/backend/internal/postgres"
	"batteryswap/protocol"
)

// heartbeats holds the newest telemetry of each cabinet until it is written. It
// holds no more than there are device keys: only verified messages come here.
type heartbeats struct {
	mu     sync.Mutex
	unsent map[protocol.CabinetID]protocol.Telemetry
	writer atomic.Bool // this replica writes them down for all
}

func newHeartbeats() *heartbeats {
	return &heartbeats{unsent: map[protocol.CabinetID]protocol.Telemetry{}}
}

func (h *heartbeats) heard(id protocol.CabinetID, m protocol.Telemetry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unsent[id] = m
}

// take gives what is to be written.
func (h *heartbeats) take() []postgres.Heard {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]postgres.Heard, 0, len(h.unsent))
	for id, m := range h.unsent {
		all = append(all, postgres.Heard{CabinetID: id, Telemetry: m})
	}
	clear(h.unsent)
	return all
}

// writeTelemetry writes what was heard, on the one replica that may: on the
// others the store does nothing.
func (f *Fleet) writeTelemetry(ctx context.Context) error {
	all := f.beats.take()
	// What cannot be written is dropped: by the next try it would be old, and the
	// next heartbeat is there in 20 s.
	wrote, err := f.store.Telemetry(ctx, all)
	f.beats.writer.Store(wrote && err == nil)
	if err != nil {
		return fmt.Errorf("write telemetry: %w", err)
	}
	return nil
}

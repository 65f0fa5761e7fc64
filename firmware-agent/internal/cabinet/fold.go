package cabinet

import (
	"fmt"
	"sync"

	"batteryswap/firmware-agent/internal/swap"
	"batteryswap/protocol"
)

// Fold follows the journal: it knows the state that the records on the device
// tell, no more and no less. A snapshot must hold nothing that is not yet
// written, so it is not taken from the machine, which may be a step ahead. The
// zero value is the state of an empty journal.
type Fold struct {
	mu    sync.Mutex
	state swap.Durable
	err   error
}

// Add takes a record: at boot one that is replayed, later one that is on the
// device. The first error stays: the journal holds a record that this agent
// cannot have written.
func (f *Fold) Add(r protocol.Record) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	d, err := swap.Fold(f.state, r)
	if err != nil {
		f.err = fmt.Errorf("fold the journal: %w", err)
		return f.err
	}
	f.state = d
	return nil
}

// State is the fold so far.
func (f *Fold) State() swap.Durable {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// Snapshot is the payload of a SNAPSHOT record.
func (f *Fold) Snapshot() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	return f.state.Snapshot()
}

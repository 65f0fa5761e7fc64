package postgres

import (
	"context"
	"strings"
	"sync"
	"time"

	"batteryswap/protocol"
)

const (
	// maxAnnounced bounds the announcements that wait. What does not fit, and
	// what is lost, the readers find by reading again.
	maxAnnounced = 4096
	// maxPayload bounds how many swaps one NOTIFY names: PostgreSQL takes less
	// than 8000 bytes.
	maxPayload      = 200
	announceTimeout = 5 * time.Second
)

// announcer tells everybody which swaps have changed: who waits on this replica
// at once, the others by NOTIFY. It does so after the COMMIT, in a transaction of
// its own: commits that notify wait for each other, on all replicas.
type announcer struct {
	store  *Store
	origin string // names this replica in its own notifications
	moved  chan []string
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

func newAnnouncer(s *Store) *announcer {
	ctx, cancel := context.WithCancel(context.Background())
	a := &announcer{store: s, origin: string(newID()), moved: make(chan []string, maxAnnounced), stop: cancel}
	a.wg.Go(func() { a.run(ctx) })
	return a
}

func (a *announcer) close() {
	a.stop()
	a.wg.Wait()
}

// tell never blocks.
func (a *announcer) tell(moved []string) {
	if len(moved) == 0 {
		return
	}
	a.store.waiters.wake(moved)
	select {
	case a.moved <- moved:
	default:
	}
}

func (a *announcer) run(ctx context.Context) {
	for {
		var moved []string
		select {
		case <-ctx.Done():
			return
		case moved = <-a.moved:
		}
		for len(a.moved) > 0 && len(moved) < maxPayload {
			moved = append(moved, <-a.moved...)
		}
		moved = distinct(moved)
		for len(moved) > 0 {
			n := min(len(moved), maxPayload)
			a.notify(ctx, moved[:n])
			moved = moved[n:]
		}
	}
}

// notify loses nothing that counts when it fails, or when the server does not
// write it to its disk.
func (a *announcer) notify(ctx context.Context, moved []string) {
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	_, err := a.store.pool.Exec(ctx, `SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)`,
		channelSwap, a.origin+" "+strings.Join(moved, " "))
	if err != nil {
		a.store.log.Debug("announce", "err", err)
	}
}

// heard wakes who waits for what another replica announced.
func (a *announcer) heard(payload string) {
	names := strings.Fields(payload)
	if len(names) > 0 && names[0] != a.origin {
		a.store.waiters.wake(names[1:])
	}
}

// waiters are who waits for swaps on this replica.
type waiters struct {
	mu  sync.Mutex
	all map[protocol.SwapID]map[chan struct{}]struct{}
}

func newWaiters() *waiters {
	return &waiters{all: map[protocol.SwapID]map[chan struct{}]struct{}{}}
}

func (w *waiters) watch(id protocol.SwapID) (changed <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all[id] == nil {
		w.all[id] = map[chan struct{}]struct{}{}
	}
	w.all[id][c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all[id], c)
		if len(w.all[id]) == 0 {
			delete(w.all, id)
		}
	}
}

func (w *waiters) wake(moved []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range moved {
		for c := range w.all[protocol.SwapID(id)] {
			wake(c)
		}
	}
}

// watched are the swaps that somebody waits for.
func (w *waiters) watched() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := make([]string, 0, len(w.all))
	for id := range w.all {
		ids = append(ids, string(id))
	}
	return ids
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

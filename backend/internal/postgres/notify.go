package postgres

import (
	"context"
	"sync"
	"time"

	"batteryswap/protocol"
)

// Notifications listens on one connection and wakes whoever waits. A lost
// connection is made again, and everybody is woken then: something may have been
// missed. Whoever waits reads again, and reads every now and then anyway.
type Notifications struct {
	store *Store
	stop  context.CancelFunc
	wg    sync.WaitGroup
	keys  chan struct{}

	mu      sync.Mutex
	waiters map[protocol.SwapID]map[chan struct{}]struct{}
}

// NewNotifications starts to listen. It must be closed.
func NewNotifications(s *Store) *Notifications {
	ctx, cancel := context.WithCancel(context.Background())
	n := &Notifications{
		store: s, stop: cancel, keys: make(chan struct{}, 1),
		waiters: map[protocol.SwapID]map[chan struct{}]struct{}{},
	}
	n.wg.Go(func() { n.run(ctx) })
	return n
}

// Watch wakes its receiver whenever the swap has changed; several changes may be
// one wake. cancel ends it.
func (n *Notifications) Watch(id protocol.SwapID) (changed <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiters[id] == nil {
		n.waiters[id] = map[chan struct{}]struct{}{}
	}
	n.waiters[id][c] = struct{}{}
	return c, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.waiters[id], c)
		if len(n.waiters[id]) == 0 {
			delete(n.waiters, id)
		}
	}
}

// DeviceKeys wakes its one receiver when the cabinets' keys have changed.
func (n *Notifications) DeviceKeys() <-chan struct{} { return n.keys }

// Close stops listening and waits for it.
func (n *Notifications) Close() {
	n.stop()
	n.wg.Wait()
}

func (n *Notifications) run(ctx context.Context) {
	pause := retryLeast
	for ctx.Err() == nil {
		heard, err := n.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		if heard {
			pause = retryLeast
		}
		n.store.log.Warn("listening for changes: tried again", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, retryMost)
	}
}

// listen wakes waiters until the connection is lost.
func (n *Notifications) listen(ctx context.Context) (connected bool, err error) {
	pooled, err := n.store.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	conn := pooled.Hijack() // it is not given back: it listens
	defer hangUp(conn)
	if _, err := conn.Exec(ctx, "LISTEN "+channelSwap+"; LISTEN "+channelKeys); err != nil {
		return false, err
	}
	n.wakeAll()
	for {
		m, err := conn.WaitForNotification(ctx)
		if err != nil {
			return true, err
		}
		if m.Channel == channelKeys {
			wake(n.keys)
			continue
		}
		n.mu.Lock()
		for c := range n.waiters[protocol.SwapID(m.Payload)] {
			wake(c)
		}
		n.mu.Unlock()
	}
}

func (n *Notifications) wakeAll() {
	wake(n.keys)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, cs := range n.waiters {
		for c := range cs {
			wake(c)
		}
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

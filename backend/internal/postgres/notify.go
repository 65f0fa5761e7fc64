package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/protocol"
)

// rereadEvery is the safety net behind the notifications.
const rereadEvery = 500 * time.Millisecond

// Notifications wakes whoever waits: it listens on one connection, and reads
// every now and then whether a swap that somebody waits for has changed, all of
// them in one statement. A lost connection is made again.
type Notifications struct {
	store *Store
	stop  context.CancelFunc
	wg    sync.WaitGroup
	keys  chan struct{}
}

// NewNotifications starts to listen. It must be closed.
func NewNotifications(s *Store) *Notifications {
	ctx, cancel := context.WithCancel(context.Background())
	n := &Notifications{store: s, stop: cancel, keys: make(chan struct{}, 1)}
	n.wg.Go(func() { n.run(ctx) })
	n.wg.Go(func() { n.reread(ctx) })
	return n
}

// Watch wakes its receiver whenever the swap has changed, or its cabinet fell
// silent or is heard again; several changes may be one wake. cancel ends it.
func (n *Notifications) Watch(id protocol.SwapID) (changed <-chan struct{}, cancel func()) {
	return n.store.waiters.watch(id)
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
	wake(n.keys) // something may have been missed
	for {
		m, err := conn.WaitForNotification(ctx)
		if err != nil {
			return true, err
		}
		if m.Channel == channelKeys {
			wake(n.keys)
			continue
		}
		n.store.announcer.heard(m.Payload)
	}
}

// version is what a waiter has seen of a swap.
type version struct {
	seq       int64
	reachable bool
}

// reread finds what was not announced.
func (n *Notifications) reread(ctx context.Context) {
	tick := time.NewTicker(rereadEvery)
	defer tick.Stop()
	seen := map[string]version{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ids := n.store.waiters.watched()
		if len(ids) == 0 {
			clear(seen)
			continue
		}
		now, err := n.store.versions(ctx, ids)
		if err != nil {
			n.store.log.Debug("read what somebody waits for", "err", err)
			continue
		}
		var moved []string
		for id, v := range now {
			if had, known := seen[id]; !known || had != v {
				moved = append(moved, id)
			}
		}
		seen = now
		n.store.waiters.wake(moved)
	}
}

// versions reads how far swaps have come.
func (s *Store) versions(ctx context.Context, ids []string) (map[string]version, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, `SELECT w.id::text, s.view_seq, coalesce(`+heard+` > now() - $2::interval, false)
		FROM unnest($1::uuid[]) AS w(id)
		CROSS JOIN LATERAL (SELECT view_seq, cabinet_id FROM swap WHERE swap_id = w.id OFFSET 0) s
		JOIN cabinet_cursor k USING (cabinet_id) LEFT JOIN cabinet_state t USING (cabinet_id)`, ids, heardWithin)
	if err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	out := make(map[string]version, len(ids))
	var id string
	var v version
	_, err = pgx.ForEachRow(rows, []any{&id, &v.seq, &v.reachable}, func() error {
		out[id] = v
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	return out, nil
}

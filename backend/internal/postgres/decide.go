package postgres

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Bounds of a decider.
const (
	// maxAsked bounds the questions that wait.
	maxAsked = 4096
	// maxDecided bounds what one transaction decides.
	maxDecided = 64
	// groupPatience is how long a group waits for one row: somebody who stalls
	// with a cabinet's cursor in hand must not keep all others waiting.
	groupPatience = 200 * time.Millisecond
	// maxApart bounds what is decided apart at the same time, maxWaiting what waits
	// for that, and apartPatience for how long.
	maxApart      = 4
	maxWaiting    = 256
	apartPatience = 2 * time.Second
)

var (
	errClosed = errors.New("the store is closed")
	errApart  = errors.New("too many decisions wait for rows that others hold")
)

// question is a decision that somebody waits for.
type question struct {
	ctx    context.Context
	wanted wanted
	decide func(*loaded) // changes the books; run again when the transaction is
	answer chan error
}

// decider decides scans, and cabinets' answers to them. One goroutine takes
// whatever has queued while its last COMMIT ran into one transaction. A group
// that the database refuses, or that would have to wait, is decided apart from it:
// cabinet by cabinet, and where that is refused, one by one.
type decider struct {
	store   *Store
	queue   chan question
	apart   chan struct{}
	waiting chan struct{}
	stop    context.CancelFunc
	stopped <-chan struct{}
	wg      sync.WaitGroup
}

func newDecider(s *Store) *decider {
	ctx, cancel := context.WithCancel(context.Background())
	d := &decider{
		store: s, queue: make(chan question, maxAsked), apart: make(chan struct{}, maxApart), waiting: make(chan struct{}, maxWaiting),
		stop: cancel, stopped: ctx.Done(),
	}
	d.wg.Go(func() { d.run(ctx) })
	return d
}

func (d *decider) close() {
	d.stop()
	d.wg.Wait()
}

// decide waits until f has changed the books and that is committed. When ctx
// ends first, it may be committed all the same.
func (s *Store) decide(ctx context.Context, w wanted, f func(*loaded)) error {
	q := question{ctx, w, f, make(chan error, 1)}
	select {
	case s.decider.queue <- q:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.decider.stopped:
		return errClosed
	}
	select {
	case err := <-q.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.decider.stopped:
		return errClosed
	}
}

func (d *decider) run(ctx context.Context) {
	for {
		group := d.together(ctx)
		if group == nil {
			return
		}
		err := d.decide(ctx, group, groupPatience)
		if err != nil && (len(group) > 1 && refused(err) || sqlState(err) == sqlLockTimeout) {
			d.separate(ctx, group)
			continue
		}
		answer(group, err)
	}
}

// together takes whatever waits, at least one question; nil is the end.
func (d *decider) together(ctx context.Context) []question {
	var group []question
	select {
	case <-ctx.Done():
		return nil
	case q := <-d.queue:
		group = append(group, q)
	}
	for len(group) < maxDecided {
		select {
		case q := <-d.queue:
			group = append(group, q)
		default:
			return group
		}
	}
	return group
}

func (d *decider) decide(ctx context.Context, group []question, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	w := wanted{patience: patience}
	for _, q := range group {
		w.add(q.wanted)
	}
	return d.store.transact(ctx, w, func(l *loaded, _ *pgx.Batch) error {
		for _, q := range group {
			q.decide(l)
		}
		return nil
	})
}

// separate decides a group in parts, while the next group goes on: many who ask at
// one cabinet, which another replica is busy with, wait for it together.
func (d *decider) separate(ctx context.Context, group []question) {
	parts := map[string][]question{}
	for _, q := range group {
		cabinets := strings.Join(q.wanted.cabinets, " ")
		parts[cabinets] = append(parts[cabinets], q)
	}
	for _, part := range parts {
		select {
		case d.waiting <- struct{}{}:
			d.wg.Go(func() {
				defer func() { <-d.waiting }()
				d.decideApart(ctx, part)
			})
		default:
			answer(part, errApart)
		}
	}
}

// decideApart decides a part when it is its turn.
func (d *decider) decideApart(ctx context.Context, part []question) {
	patience := time.NewTimer(apartPatience)
	defer patience.Stop()
	select {
	case d.apart <- struct{}{}:
		defer func() { <-d.apart }()
	case <-patience.C:
		answer(part, errApart)
		return
	case <-ctx.Done():
		answer(part, errClosed)
		return
	}
	err := d.decide(ctx, part, lockTimeout)
	if err == nil || len(part) == 1 || !refused(err) {
		answer(part, err)
		return
	}
	for _, q := range part {
		q.answer <- d.decide(ctx, []question{q}, lockTimeout)
	}
}

func answer(part []question, err error) {
	for _, q := range part {
		q.answer <- err
	}
}

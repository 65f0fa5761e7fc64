package bus

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"batteryswap/protocol/modbus"
)

// Priority orders the requests that wait.
type Priority int

// The priorities, the first to be served first.
const (
	// Safety is for what must not wait: its requests have a queue of their own,
	// which no other can fill.
	Safety Priority = iota
	Unlock
	Charge
	Poll
	priorities
)

const (
	// QueueLimit bounds the requests that wait, of all priorities but Safety.
	QueueLimit = 64
	// SafetyLimit bounds the requests of priority Safety that wait.
	SafetyLimit = 8
)

// Config is what a bus needs.
type Config struct {
	Open Opener
	// Baud and CharBits are the line's mode: 10 bits for 8N1, 11 with parity or
	// two stop bits.
	Baud, CharBits int
	// Device is how long a board may take before it replies: 50 ms by the
	// SlotBoard map, more for a slow one.
	Device time.Duration
	// Gap is the least silence between two frames, when a board needs more than
	// the standard's 3.5 characters.
	Gap time.Duration
	Log *slog.Logger
}

// Stats counts what happened on the line since New.
type Stats struct {
	Requests, Replies, Timeouts, Garbled uint64
	DiscardedBytes                       uint64 // late, doubled, echoed or noise
	Opened, OpenFailed, LineFailed       uint64
	QueueFull                            uint64
	Up                                   bool
}

// Bus is one serial line. Make it with New.
type Bus struct {
	config Config
	timing Timing
	wake   chan struct{} // one slot: something waits, or the bus is closed
	done   chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	waiting [priorities][]*job
	current *job // the running one
	writing bool // the goroutine is in a write
	stuck   bool // and was in it for too long
	closed  bool
	stats   Stats
}

// job is a request that waits for its turn.
type job struct {
	exchange Exchange
	request  []byte
	// probe, when not nil, is a read that shows whether the adapter repeats what
	// is sent, in case that is not yet known: the reply to a write looks the same.
	probe  *job
	result chan result // one slot; the first result counts
}

type result struct {
	reply []byte
	err   error
}

func (j *job) finish(reply []byte, err error) {
	select {
	case j.result <- result{reply, err}:
	default:
	}
}

// New starts the bus. A line that cannot be opened is no error: it is tried
// again, and Do says so meanwhile.
func New(c Config) (*Bus, error) {
	switch {
	case c.Open == nil || c.Log == nil:
		return nil, fmt.Errorf("bus: Open and Log are needed")
	case c.Baud < 1200 || c.Baud > 4_000_000:
		return nil, fmt.Errorf("bus: baud %d, expected 1200 to 4000000", c.Baud)
	case c.CharBits < 10 || c.CharBits > 12:
		return nil, fmt.Errorf("bus: %d bits a character, expected 10 to 12", c.CharBits)
	case c.Device < 0 || c.Device > time.Second || c.Gap < 0 || c.Gap > time.Second:
		return nil, fmt.Errorf("bus: device time %v and gap %v, expected 0 to 1s", c.Device, c.Gap)
	}
	b := &Bus{
		config: c,
		timing: timing(c.Baud, c.CharBits, c.Gap, c.Device),
		wake:   make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
	o := &owner{bus: b, timing: b.timing, log: c.Log}
	go o.run()
	return b, nil
}

// Timing is how long bytes take on this line.
func (b *Bus) Timing() Timing { return b.timing }

// Stats is what happened so far.
func (b *Bus) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stats
}

// Do sends a request when its turn comes and returns the frame that answers it.
// An error does not say that the board did nothing, but for ErrDown, ErrNoisy,
// ErrQueueFull, ErrClosed and ErrRequest: then nothing was sent. When ctx ends,
// a request that waits is withdrawn; one that runs is run to its end unseen.
func (b *Bus) Do(ctx context.Context, p Priority, x Exchange) ([]byte, error) {
	j, err := newJob(x)
	if err != nil {
		return nil, err
	}
	return b.do(ctx, p, j)
}

func newJob(x Exchange) (*job, error) {
	request, err := x.Append(nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if n := x.ExpectedLen(); n < 1 || n > maxFrame || len(request) > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes, a reply of %d", ErrRequest, len(request), n)
	}
	return &job{exchange: x, request: request, result: make(chan result, 1)}, nil
}

func (b *Bus) do(ctx context.Context, p Priority, j *job) ([]byte, error) {
	if p < 0 || p >= priorities {
		return nil, fmt.Errorf("%w: priority %d", ErrRequest, p)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := b.enqueue(p, j); err != nil {
		return nil, err
	}
	select {
	case r := <-j.result:
		return r.reply, r.err
	case <-ctx.Done():
		b.withdraw(j)
		return nil, ctx.Err()
	}
}

// Modbus is Do for a Modbus request. A refusal is an error of type
// modbus.Exception. A write that is the first request on a line is preceded by a
// read of the same unit: see job.probe.
func (b *Bus) Modbus(ctx context.Context, p Priority, q modbus.Request) (modbus.Reply, error) {
	j, err := newJob(q)
	if err != nil {
		return modbus.Reply{}, err
	}
	if q.Accept(j.request) == nil {
		if j.probe, err = newJob(modbus.Request{Unit: q.Unit, Function: modbus.ReadInput, Count: 1}); err != nil {
			return modbus.Reply{}, err
		}
	}
	frame, err := b.do(ctx, p, j)
	if err != nil {
		return modbus.Reply{}, err
	}
	return q.DecodeReply(frame)
}

func (b *Bus) enqueue(p Priority, j *job) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	waiting, limit := len(b.waiting[Safety]), SafetyLimit
	if p != Safety {
		waiting, limit = 0, QueueLimit
		for _, q := range b.waiting[Safety+1:] {
			waiting += len(q)
		}
	}
	switch {
	case b.closed:
		return ErrClosed
	case b.stuck:
		return ErrStuck
	case waiting >= limit:
		b.stats.QueueFull++
		return ErrQueueFull
	}
	b.waiting[p] = append(b.waiting[p], j)
	b.nudge()
	return nil
}

// nudge wakes the goroutine. The caller holds the mutex.
func (b *Bus) nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *Bus) withdraw(j *job) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, q := range b.waiting {
		for i := range q {
			if q[i] == j {
				b.waiting[p] = append(q[:i:i], q[i+1:]...)
				return
			}
		}
	}
}

// next waits for the most urgent request; nil when the bus was closed.
func (b *Bus) next() *job {
	for {
		if j, closed := b.take(); j != nil || closed {
			return j
		}
		<-b.wake
	}
}

func (b *Bus) take() (j *job, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = nil
	if b.closed {
		return nil, true
	}
	for p, q := range b.waiting {
		if len(q) > 0 {
			b.current, b.waiting[p] = q[0], q[1:]
			return b.current, false
		}
	}
	return nil, false
}

// failAll answers everything that waits. The caller holds the mutex.
func (b *Bus) failAll(err error) {
	for p, q := range b.waiting {
		for _, j := range q {
			j.finish(nil, err)
		}
		b.waiting[p] = nil
	}
}

// setWriting says that a write begins or ends, and returns whether it was
// declared stuck.
func (b *Bus) setWriting(now bool) (stuck bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing = now
	return b.stuck
}

// declareStuck fails everything while the write that runs does not end.
func (b *Bus) declareStuck() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.writing {
		return
	}
	b.stuck = true
	b.stats.Up = false
	if b.current != nil {
		b.current.finish(nil, ErrStuck)
	}
	b.failAll(ErrStuck)
	b.config.Log.Error("serial line is stuck in a write", "err", ErrStuck)
}

func (b *Bus) isStuck() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stuck
}

// count changes the counters.
func (b *Bus) count(change func(*Stats)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.stats)
}

// Close fails what waits, lets a running request end, and closes the line. It
// may be called twice.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.closed = true
	b.failAll(ErrClosed)
	b.nudge()
	b.mu.Unlock()
	limit := time.NewTimer(closeLimit)
	defer limit.Stop()
	select {
	case <-b.done:
		return nil
	case <-limit.C:
		return fmt.Errorf("close bus: %w", ErrStuck)
	}
}

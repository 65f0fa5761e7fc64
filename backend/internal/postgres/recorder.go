package postgres

import (
	"context"
	"runtime"
	"sync"
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Bounds of a Recorder.
const (
	// defaultQueue bounds the log messages that wait. A full queue drops: the
	// agents send again.
	defaultQueue = 4096
	// maxTogether and maxTogetherRecords bound what one transaction takes.
	maxTogether        = 256
	maxTogetherRecords = 4096
	// maxAnswers bounds the answers that wait for their callback.
	maxAnswers = 4096
	// retryLeast and retryMost bound the pause while the database is away.
	retryLeast = 100 * time.Millisecond
	retryMost  = 2 * time.Second
	// commitTimeout bounds one transaction: a database that hangs is away.
	commitTimeout = 30 * time.Second
)

// Batch is one log message whose envelope has been verified.
type Batch struct {
	CabinetID protocol.CabinetID
	Envelope  protocol.Envelope
	Log       protocol.Log
}

// RecorderOptions of a Recorder. Acked and Verdict are called after COMMIT, one
// at a time, from a goroutine of their own.
type RecorderOptions struct {
	QueueBatches int // bound of the queue; 0: 4096
	Acked        func(protocol.CabinetID, protocol.LogAck)
	Verdict      func(protocol.CabinetID, protocol.HelloOK)
	Hooks        Hooks
}

// Hooks are told what happened, for metrics and alarms. Each may be nil and must
// not block.
type Hooks struct {
	Committed func(batches, records int, took time.Duration)
	Dropped   func()                                 // the queue was full
	Rejected  func(id protocol.CabinetID, err error) // a batch that was not taken
	// Closed: took is from scan to end.
	Closed func(id protocol.CabinetID, kind protocol.Kind, outcome protocol.Outcome, took time.Duration)
	Alarm  func(protocol.CabinetID, protocol.Alarm) // TAMPER and CHARGE_CUT too
	Failed func(err error)                          // a transaction that will be tried again
}

// Recorder makes log messages part of the books. Messages are taken apart in
// parallel; one committer takes whatever has queued while its last COMMIT ran,
// of many cabinets, into one transaction; answers go out from another goroutine.
type Recorder struct {
	store   *Store
	o       RecorderOptions
	queue   chan Batch
	decoded chan parcel
	answers chan func(context.Context)
	stop    context.CancelFunc
	stopped chan struct{} // closed first: nothing is taken any more
	once    sync.Once
	wg      sync.WaitGroup
}

// parcel is a batch taken apart.
type parcel struct {
	Batch
	records []swap.Record
}

// NewRecorder starts a Recorder. It must be closed.
func NewRecorder(s *Store, o RecorderOptions) *Recorder {
	if o.QueueBatches <= 0 {
		o.QueueBatches = defaultQueue
	}
	o.Hooks = o.Hooks.orNothing()
	if o.Acked == nil {
		o.Acked = func(protocol.CabinetID, protocol.LogAck) {}
	}
	if o.Verdict == nil {
		o.Verdict = func(protocol.CabinetID, protocol.HelloOK) {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Recorder{
		store: s, o: o, stop: cancel, stopped: make(chan struct{}),
		queue: make(chan Batch, o.QueueBatches), decoded: make(chan parcel, maxTogether), answers: make(chan func(context.Context), maxAnswers),
	}
	for range runtime.GOMAXPROCS(0) {
		r.wg.Go(func() { r.takeApart(ctx) })
	}
	r.wg.Go(func() { r.commitAll(ctx) })
	r.wg.Go(func() { r.answer(ctx) })
	return r
}

func (h Hooks) orNothing() Hooks {
	if h.Committed == nil {
		h.Committed = func(int, int, time.Duration) {}
	}
	if h.Dropped == nil {
		h.Dropped = func() {}
	}
	if h.Rejected == nil {
		h.Rejected = func(protocol.CabinetID, error) {}
	}
	if h.Closed == nil {
		h.Closed = func(protocol.CabinetID, protocol.Kind, protocol.Outcome, time.Duration) {}
	}
	if h.Alarm == nil {
		h.Alarm = func(protocol.CabinetID, protocol.Alarm) {}
	}
	if h.Failed == nil {
		h.Failed = func(error) {}
	}
	return h
}

// Submit queues a batch. It never blocks; false means that the queue is full and
// the batch was dropped: its agent sends it again.
func (r *Recorder) Submit(b Batch) bool {
	select {
	case <-r.stopped:
		return false
	default:
	}
	select {
	case r.queue <- b:
		return true
	default:
		r.o.Hooks.Dropped()
		return false
	}
}

// Waiting is how many batches are queued.
func (r *Recorder) Waiting() int { return len(r.queue) + len(r.decoded) }

// Close stops the Recorder and waits for its goroutines. What is queued is
// dropped: nothing of it was acknowledged.
func (r *Recorder) Close() {
	r.once.Do(func() {
		close(r.stopped)
		r.stop()
	})
	r.wg.Wait()
}

// takeApart decodes batches and checks their chains.
func (r *Recorder) takeApart(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-r.queue:
			rs, err := swap.DecodeLog(b.Log)
			if err != nil {
				r.store.log.Warn("a log message that is no chain of records", "cabinet_id", b.CabinetID, "err", err)
				r.o.Hooks.Rejected(b.CabinetID, err)
				continue
			}
			select {
			case r.decoded <- parcel{b, rs}:
			case <-ctx.Done():
				return
			}
		}
	}
}

// commitAll is the one committer.
func (r *Recorder) commitAll(ctx context.Context) {
	for {
		group := r.together(ctx)
		if group == nil {
			return
		}
		pause := retryLeast
		for {
			err := r.commitGroup(ctx, group)
			if err == nil || ctx.Err() != nil {
				break
			}
			r.store.log.Error("commit records: tried again", "err", err)
			r.o.Hooks.Failed(err)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, retryMost)
		}
	}
}

// together takes whatever waits, at least one parcel; nil is the end.
func (r *Recorder) together(ctx context.Context) []parcel {
	var group []parcel
	records := 0
	add := func(p parcel) { group, records = append(group, p), records+len(p.records) }
	select {
	case <-ctx.Done():
		return nil
	case p := <-r.decoded:
		add(p)
	}
	for len(group) < maxTogether && records < maxTogetherRecords {
		select {
		case p := <-r.decoded:
			add(p)
		default:
			return group
		}
	}
	return group
}

// answer calls the callbacks, outside the committer.
func (r *Recorder) answer(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-r.answers:
			f(ctx)
		}
	}
}

// say queues an answer; when too many wait it is dropped, and the agent asks
// again by resending.
func (r *Recorder) say(f func(context.Context)) {
	select {
	case r.answers <- f:
	default:
	}
}

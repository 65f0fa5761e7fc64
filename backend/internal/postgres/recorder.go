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
	// triesTogether is how often a group is tried before its cabinets are tried
	// alone.
	triesTogether = 3
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

// RecorderOptions of a Recorder. Acked and Ask are called after COMMIT, one
// at a time, from a goroutine of their own.
type RecorderOptions struct {
	QueueBatches int // bound of the queue; 0: 4096
	Acked        func(protocol.CabinetID, protocol.LogAck)
	// Ask is for an agent whose log is not of the epoch that counts: its hello gets
	// the verdict.
	Ask   func(protocol.CabinetID, protocol.HelloRequest)
	Hooks Hooks
}

// Hooks are told what happened, for metrics and alarms. Each may be nil and must
// not block.
type Hooks struct {
	Committed func(batches, records int, took time.Duration)
	Dropped   func()                                 // the queue was full
	Rejected  func(id protocol.CabinetID, err error) // a batch that was not taken
	// Closed: took is from scan to end.
	Closed func(id protocol.CabinetID, kind protocol.Kind, outcome protocol.Outcome, took time.Duration)
	Timed  func(phase string, took time.Duration)   // a phase of a swap that ended
	Alarm  func(protocol.CabinetID, protocol.Alarm) // TAMPER and CHARGE_CUT too
	Failed func(err error)                          // a transaction that will be tried again
}

// Recorder makes log messages part of the books. Messages are taken apart in
// parallel; one committer takes whatever has queued while its last COMMIT ran,
// of many cabinets, into one transaction; answers go out from another goroutine.
type Recorder struct {
	store   *Store
	o       RecorderOptions
	queue   chan arrival
	decoded chan parcel
	answers chan func(context.Context)
	phases  *phases // the committer's own
	stop    context.CancelFunc
	wg      sync.WaitGroup

	mu      sync.Mutex
	stopped bool          // nothing is taken any more
	left    int           // batches that are not answered
	drained chan struct{} // closed: stopped, and none is left
}

// arrival is a batch and when it came: by then, and not when it is committed,
// its records are dated.
type arrival struct {
	Batch
	came time.Time
}

// parcel is a batch taken apart.
type parcel struct {
	arrival
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
	if o.Ask == nil {
		o.Ask = func(protocol.CabinetID, protocol.HelloRequest) {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Recorder{
		store: s, o: o, stop: cancel, phases: newPhases(o.Hooks.Timed), drained: make(chan struct{}),
		queue: make(chan arrival, o.QueueBatches), decoded: make(chan parcel, maxTogether), answers: make(chan func(context.Context), maxAnswers),
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
	if h.Timed == nil {
		h.Timed = func(string, time.Duration) {}
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
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return false
	}
	select {
	case r.queue <- arrival{b, time.Now()}:
		r.left++
		return true
	default:
		r.o.Hooks.Dropped()
		return false
	}
}

// Waiting is how many batches are queued.
func (r *Recorder) Waiting() int { return len(r.queue) + len(r.decoded) }

// Drain takes no more batches and returns when those that were taken are
// committed and answered, or when ctx ends.
func (r *Recorder) Drain(ctx context.Context) {
	r.refuse()
	select {
	case <-r.drained:
	case <-ctx.Done():
	}
}

func (r *Recorder) refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped && r.left == 0 {
		close(r.drained)
	}
	r.stopped = true
}

// answered is called once for each batch that was taken.
func (r *Recorder) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left--
	if r.stopped && r.left == 0 {
		close(r.drained)
	}
}

// Close stops the Recorder and waits for its goroutines. What is queued is
// dropped: nothing of it was acknowledged.
func (r *Recorder) Close() {
	r.refuse()
	r.stop()
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
				r.answered()
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
		for tries := 1; ; tries++ {
			// What fails again and again although the database answers is not the
			// database's fault: then whoever causes it is looked for.
			search := tries > triesTogether && r.store.Ping(ctx) == nil
			err := r.commitGroup(ctx, group, search)
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
			r.answered()
		}
	}
}

// say queues an answer; when too many wait it is dropped, and the agent asks
// again by resending.
func (r *Recorder) say(f func(context.Context)) {
	select {
	case r.answers <- f:
	default:
		r.answered()
	}
}

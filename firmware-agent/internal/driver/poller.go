package driver

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/slot"
)

// Bounds of polling.
const (
	// OfflineAfter is how many misses in a row make a board offline.
	OfflineAfter = 3
	// probeCost times what a probe took is how long the next one waits, so that
	// one dead board costs at most a twentieth of the line's time.
	probeCost = 20
	// probePause is the least time between two probes of an offline board.
	probePause = time.Second
	// shortestCycle bounds how often a small cabinet on a fast line is polled.
	shortestCycle = 20 * time.Millisecond
	// downPause is the shortest cycle while the line itself is down.
	downPause = 250 * time.Millisecond
	// InstrumentEvery is how often the meter and the climate sensor are read.
	InstrumentEvery = 5 * time.Second
	// watchEvery is after how many other slots the watched ones are read again.
	watchEvery = 4
)

// What is polled beside the slots, as a Report numbers it.
const (
	OwnBoard      = 0
	MeterPoll     = -1
	ClimatePoll   = -2
	ofInstruments = 2
)

// Report is the outcome of one poll.
type Report struct {
	// Slot is the slot's number, or OwnBoard, MeterPoll, ClimatePoll.
	Slot int
	// At is when the poll ended, on the agent's monotonic clock.
	At time.Duration
	// Err is why nothing is known; the readings are then zero.
	Err error
	// Misses counts the polls in a row that failed; 0 after a good one.
	Misses int
	// Reading is what the board said when Slot is a slot's number.
	Reading slot.Reading
	// Cabinet is what the board said when Slot is OwnBoard.
	Cabinet CabinetReading
	// Meter and Climate are what those said when Slot is theirs.
	Meter   MeterReading
	Climate ClimateReading
}

// PollerOptions is what a Poller needs.
type PollerOptions struct {
	Board Board
	Slots int
	// Meter and Climate are nil where there is none.
	Meter   Meter
	Climate Climate
	// Interval is the time from one cycle's start to the next at rest.
	Interval time.Duration
	// Report takes each outcome. It is called by the goroutine of Run and must
	// not block: the line waits for it.
	Report func(Report)
	// Now is the agent's monotonic clock.
	Now func() time.Duration
	Log *slog.Logger
}

// Poller reads the slots of a cabinet in turn, its own board once a cycle, and its
// meter and climate sensor now and then.
type Poller struct {
	options PollerOptions
	boards  []backOff // by number as in a Report, from ClimatePoll on
	readAt  [ofInstruments]time.Duration
	probed  bool // a probe failed in this cycle
	down    bool // every poll of this cycle failed for the line itself
	changed chan struct{}
	polls   atomic.Uint64

	mu    sync.Mutex
	hurry bool
	watch []int
}

// backOff is what is remembered of a board that does not answer.
type backOff struct {
	misses  int
	probeAt time.Duration
}

// NewPoller makes a poller. Run runs it.
func NewPoller(o PollerOptions) *Poller {
	return &Poller{options: o, boards: make([]backOff, ofInstruments+1+o.Slots), changed: make(chan struct{}, 1)}
}

// board is what is remembered of a board, by its number in a Report.
func (p *Poller) board(n int) *backOff { return &p.boards[n+ofInstruments] }

// Hurry makes the poller start each cycle as soon as the last has ended, or, at
// rest, every Interval. Any goroutine may call it.
func (p *Poller) Hurry(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hurry = on
	p.nudge()
}

// Watch names the slots that are read more often than the others while in a
// hurry; none are by default. Any goroutine may call it.
func (p *Poller) Watch(slots ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch = slices.DeleteFunc(slices.Clone(slots), func(n int) bool { return n < 1 || n > p.options.Slots })
	p.nudge()
}

func (p *Poller) nudge() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *Poller) hurried() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hurry
}

// Run starts the board and polls until ctx ends. A board or a line that is not
// there is reported, and polled until it is.
func (p *Poller) Run(ctx context.Context) {
	if err := p.options.Board.Start(ctx); err != nil && ctx.Err() == nil {
		p.options.Log.Warn("some slots did not start; they are tried again", "err", err)
	}
	for ctx.Err() == nil {
		began := p.options.Now()
		p.cycle(ctx)
		p.rest(ctx, began)
	}
}

// Beats counts the polls: it stands still when the poller does, and is 0 until the
// boards were started, which takes a while when many are dead.
func (p *Poller) Beats() uint64 { return p.polls.Load() }

// cycle polls every board once, and the watched slots in between.
func (p *Poller) cycle(ctx context.Context) {
	p.probed, p.down = false, true
	since := 0
	for n := 1; n <= p.options.Slots && ctx.Err() == nil; n++ {
		p.poll(ctx, n)
		if since++; since < watchEvery {
			continue
		}
		since = 0
		for _, w := range p.watched(n) {
			p.poll(ctx, w)
		}
	}
	p.poll(ctx, OwnBoard)
	for _, n := range []int{MeterPoll, ClimatePoll} {
		p.pollInstrument(ctx, n)
	}
}

// pollInstrument polls the meter or the climate sensor, if there is one and it is
// time.
func (p *Poller) pollInstrument(ctx context.Context, n int) {
	if n == MeterPoll && p.options.Meter == nil || n == ClimatePoll && p.options.Climate == nil {
		return
	}
	now, last := p.options.Now(), &p.readAt[-n-1]
	if *last > 0 && now-*last < InstrumentEvery {
		return
	}
	*last = now
	p.poll(ctx, n)
}

// watched is the slots to read again after slot n.
func (p *Poller) watched(n int) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.hurry {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(p.watch), func(w int) bool { return w == n })
}

// poll polls one board, unless it is offline and its time has not come.
func (p *Poller) poll(ctx context.Context, n int) {
	b := p.board(n)
	began := p.options.Now()
	offline := b.misses >= OfflineAfter
	if ctx.Err() != nil || offline && !p.mayProbe(n, began) {
		return
	}
	p.polls.Add(1)
	r := p.ask(ctx, n)
	if r.Err != nil && ctx.Err() != nil {
		return // the poller was stopped: nothing was missed
	}
	switch {
	case r.Err == nil:
		p.down = false
		if offline {
			p.options.Log.Info("board answers again", "slot", n)
		}
		*b = backOff{}
	case LineDown(r.Err):
		r.Misses = b.misses + 1 // and the board is not to blame
	default:
		p.down = false
		p.probed = p.probed || offline
		b.misses++
		b.probeAt = r.At + max(probePause, probeCost*(r.At-began))
		r.Misses = b.misses
		if b.misses == OfflineAfter {
			p.options.Log.Warn("board does not answer", "slot", n, "err", r.Err)
		}
	}
	p.options.Report(r)
}

// mayProbe says whether an offline board is asked now: one probe a cycle may
// fail, and the longest overdue board has the turn. When it answers, the next
// one follows in the same cycle.
func (p *Poller) mayProbe(n int, now time.Duration) bool {
	if p.probed || now < p.board(n).probeAt {
		return false
	}
	for _, b := range p.boards[ofInstruments:] { // instruments have their own, slower turn
		if b.misses >= OfflineAfter && b.probeAt < p.board(n).probeAt {
			return false
		}
	}
	return true
}

func (p *Poller) ask(ctx context.Context, n int) Report {
	r := Report{Slot: n}
	switch n {
	case OwnBoard:
		r.Cabinet, r.Err = p.options.Board.PollCabinet(ctx)
	case MeterPoll:
		r.Meter, r.Err = p.options.Meter.PollMeter(ctx)
	case ClimatePoll:
		r.Climate, r.Err = p.options.Climate.PollClimate(ctx)
	default:
		r.Reading, r.Err = p.options.Board.Poll(ctx, n)
	}
	r.At = p.options.Now()
	if r.Err != nil {
		r.Reading, r.Cabinet, r.Meter, r.Climate = slot.Reading{}, CabinetReading{}, MeterReading{}, ClimateReading{}
	}
	return r
}

// LineDown says that a poll failed before the board was asked.
func LineDown(err error) bool {
	for _, e := range []error{bus.ErrDown, bus.ErrStuck, bus.ErrNoisy, bus.ErrQueueFull, bus.ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// rest waits for the next cycle's start.
func (p *Poller) rest(ctx context.Context, began time.Duration) {
	for ctx.Err() == nil {
		pause := p.options.Interval
		if p.hurried() {
			pause = shortestCycle
		}
		if p.down {
			pause = max(pause, downPause)
		}
		wait := began + pause - p.options.Now()
		if wait <= 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

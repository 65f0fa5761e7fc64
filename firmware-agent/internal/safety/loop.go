package safety

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// Bounds.
const (
	// tick is how often the rules are asked when nothing happens.
	tick = 100 * time.Millisecond
	// cabinetEvery is how old the reading of the cabinet's own board may be
	// before the loop reads it itself.
	cabinetEvery = 400 * time.Millisecond
	// cabinetSeldom is the same while that board is silent.
	cabinetSeldom = 5 * time.Second
	// orderTime bounds one transaction, with the wait for the one before it.
	orderTime = time.Second
	// again and seldom bound how often an order that failed is repeated: it
	// doubles from one to the other.
	again  = 200 * time.Millisecond
	seldom = 10 * time.Second
	// onAgain is the pause before a charger that does not go on is told again.
	onAgain = 2 * time.Second
	// airAgain is how often fan and heater are told the same again: a board that was
	// reset has forgotten.
	airAgain = time.Minute
	// airPause is the least time before something is told again: the line is the
	// poller's, too.
	airPause = time.Second
	// lookAgain is the least time between two looks at one slot.
	lookAgain = 50 * time.Millisecond
	// wantLasts is for how long the plan's wishes hold: who makes them must live.
	wantLasts = 30 * time.Second
	// stopTime bounds what is done at the end.
	stopTime = 2 * time.Second

	maxReports = 4 * (protocol.MaxSlots + 1)
	// maxCuts bounds the cuts that nobody has taken yet, each kind and slot once.
	maxCuts = 128
)

// Options are what a loop needs.
type Options struct {
	Board  driver.Guard
	Limits charging.Limits
	// Latched are the alarms that were latched when the agent ran last.
	Latched []charging.Alarm
	// Seen, when not nil, takes what the loop has read itself. It must not block.
	Seen func(driver.Report)
	// Now is the agent's monotonic clock.
	Now func() time.Duration
	Log *slog.Logger
}

// Loop is the safety loop. Run is its goroutine.
type Loop struct {
	o       Options
	reports chan driver.Report
	clears  chan clearing
	beats   atomic.Uint64
	dropped atomic.Uint64

	// What follows belongs to the goroutine of Run.
	guard     *charging.Guard
	verdict   charging.Verdict
	contactor pace // of the order to open it
	closing   pace
	cabinet   time.Duration // when its board was last asked
	slots     []orders      // by slot number less 1
	repeat    time.Duration // when fan and heater of any slot may be told the same again
	causes    []charging.Alarm

	mu       sync.Mutex
	state    State
	cuts     []protocol.ChargeCut
	wanted   []charging.Order // by slot number less 1
	wantedAt time.Duration
}

// orders is what is remembered of the orders to one slot.
type orders struct {
	off, on pace
	air     pace
	airAt   time.Duration // when fan and heater were told
	airTold bool
	fan     slot.Air
	heater  slot.Air
	looked  time.Duration
	limit   int // that the board was told, in mA
	limited bool
}

// pace bounds how often something is tried.
type pace struct {
	pause time.Duration
	next  time.Duration
}

// failed puts the next try off.
func (p *pace) failed(now, first time.Duration) {
	p.pause = min(max(2*p.pause, first), seldom)
	p.next = now + p.pause
}

// soon forgets the long pauses: what was silent answers again.
func (p *pace) soon(now time.Duration) {
	if p.pause > again {
		p.pause, p.next = again, min(p.next, now+again)
	}
}

type clearing struct {
	alarm charging.Alarm
	done  chan error
}

// New makes a loop. Run runs it.
func New(o Options) *Loop {
	l := &Loop{
		o: o, reports: make(chan driver.Report, maxReports), clears: make(chan clearing),
		guard: charging.NewGuard(o.Limits, o.Latched, o.Now()), slots: make([]orders, o.Limits.Slots),
		wanted: make([]charging.Order, o.Limits.Slots), cabinet: -cabinetEvery,
	}
	l.judge()
	return l
}

// Report takes the outcome of a poll. It never waits: what does not fit is
// dropped and counted, and read again.
func (l *Loop) Report(r driver.Report) {
	select {
	case l.reports <- r:
	default:
		l.dropped.Add(1)
	}
}

// Want says what the plan wants of the chargers. A slot that is not named is to
// be off. The wishes hold for half a minute.
func (l *Loop) Want(wishes []charging.Order) {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.wanted)
	for _, w := range wishes {
		if w.Slot >= 1 && w.Slot <= len(l.wanted) {
			l.wanted[w.Slot-1] = w
		}
	}
	l.wantedAt = l.o.Now()
}

// ErrNotTaken is that the loop had no time for who asked.
var ErrNotTaken = errors.New("the safety loop did not take it")

// Clear takes a latched alarm back, as charging.Guard.Clear does; ErrNotTaken when
// ctx ends before the loop has taken it.
func (l *Loop) Clear(ctx context.Context, a charging.Alarm) error {
	c := clearing{alarm: a, done: make(chan error, 1)}
	select {
	case l.clears <- c:
		return <-c.done
	case <-ctx.Done():
		return ErrNotTaken
	}
}

// Beats counts the turns of the loop: it stands still when the loop does.
func (l *Loop) Beats() uint64 { return l.beats.Load() }

// Run keeps the cabinet safe until ctx ends; then it takes all power away.
func (l *Loop) Run(ctx context.Context) {
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case r := <-l.reports:
			l.take(r)
		case c := <-l.clears:
			l.clear(c)
		case <-ticks.C:
		}
		l.drain()
		l.judge()
		// One job at a time, the most urgent first; what was read meanwhile may
		// make another one more urgent.
		for job := l.next(); job != nil && ctx.Err() == nil; job = l.next() {
			one, cancel := context.WithTimeout(ctx, orderTime)
			job(one)
			cancel()
			l.drain()
			l.judge()
		}
	}
	l.stop()
}

// stop takes all power away, as well as the line allows.
func (l *Loop) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := l.o.Board.Contactor(ctx, false); err != nil {
		l.o.Log.Warn("the main contactor was not opened at the end", "err", err)
	}
	for n := 1; n <= len(l.slots); n++ {
		if l.guard.Off(n) {
			continue
		}
		if err := l.o.Board.Charge(ctx, n, false); err != nil {
			l.o.Log.Warn("a charger was not switched off at the end; its board does that", "slot", n, "err", err)
		}
	}
}

// drain takes in everything that waits.
func (l *Loop) drain() {
	for {
		select {
		case r := <-l.reports:
			l.take(r)
		case c := <-l.clears:
			l.clear(c)
		default:
			return
		}
	}
}

func (l *Loop) take(r driver.Report) {
	switch {
	case r.Err != nil && lineDown(r.Err):
		// The board is not to blame; what is not read gets old.
	case r.Err != nil:
		l.guard.Missed(r.Slot)
	case r.Slot == 0:
		l.guard.ObserveCabinet(ofCabinet(r.Cabinet))
		l.contactor.soon(l.o.Now())
	case r.Reading.Slot >= 1 && r.Reading.Slot <= len(l.slots):
		o := &l.slots[r.Reading.Slot-1]
		was := l.guard.On(r.Reading.Slot)
		l.guard.Observe(r.Reading)
		if was && !l.guard.On(r.Reading.Slot) {
			o.limited = false // reset, or switched off by itself: it may have forgotten
		}
		o.off.soon(l.o.Now())
	}
}

// lineDown says that a board was not asked at all.
func lineDown(err error) bool { return errors.Is(err, context.Canceled) || driver.LineDown(err) }

func ofCabinet(r driver.CabinetReading) charging.Cabinet {
	return charging.Cabinet{
		At: r.At, Smoke: r.Smoke, Water: r.Water, EmergencyStop: r.EmergencyStop, Key: r.MaintenanceKey,
		BackupInUse: r.BackupInUse, Contactor: r.Contactor, UpperTemp: r.UpperTemp, BackupMV: r.BackupMV, Alive: r.Alive,
	}
}

func (l *Loop) clear(c clearing) {
	now := l.o.Now()
	l.guard.Judge(now) // what two readings agree on by now is latched
	err := l.guard.Clear(c.alarm, now)
	if err == nil {
		l.o.Log.Info("alarm cleared on site", "event", string(c.alarm.Kind), "slot", c.alarm.Slot)
	}
	l.judge()
	c.done <- err
}

// judge asks the rules and tells what is new.
func (l *Loop) judge() {
	l.beats.Add(1)
	now := l.o.Now()
	v := l.guard.Judge(now)
	_, hadPower := l.guard.Contactor()
	for n := 1; n <= len(l.slots) && !hadPower; n++ {
		hadPower = l.guard.On(n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range v.Causes {
		if slices.Contains(l.causes, a) {
			continue
		}
		if hadPower {
			l.cut(protocol.ChargeCut{Slot: a.Slot, Kind: a.Kind})
			l.o.Log.Warn("power is cut", "event", string(a.Kind), "slot", a.Slot)
		}
	}
	l.causes, l.verdict = v.Causes, v
	feedback, told := l.guard.Contactor()
	l.state = State{Verdict: v, Contactor: feedback, ContactorTold: told, Dropped: l.dropped.Load()}
	for n := 1; n <= len(l.slots); n++ {
		if l.guard.On(n) {
			l.state.On = append(l.state.On, n)
		}
		if l.slots[n-1].heater == slot.AirOn {
			l.state.Heated = append(l.state.Heated, n)
		}
	}
}

// cut remembers a cut for the journal. The caller holds the mutex.
func (l *Loop) cut(c protocol.ChargeCut) {
	if slices.Contains(l.cuts, c) {
		return
	}
	if len(l.cuts) >= maxCuts {
		l.dropped.Add(1)
		return
	}
	l.cuts = append(l.cuts, c)
}

package driver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
)

var errDead = errors.New("no reply")

// fakeBoard answers each poll after a while, or fails after a longer one.
type fakeBoard struct {
	driver.Board
	mu      sync.Mutex
	fails   map[int]error
	started int
	took    time.Duration
}

func (b *fakeBoard) Start(context.Context) error {
	b.started++
	return errDead
}

func (b *fakeBoard) Poll(ctx context.Context, n int) (slot.Reading, error) {
	if err := b.wait(n); err != nil {
		return slot.Reading{Slot: 99}, err
	}
	return slot.Reading{Slot: n}, ctx.Err()
}

func (b *fakeBoard) PollCabinet(ctx context.Context) (driver.CabinetReading, error) {
	return driver.CabinetReading{Smoke: slot.No}, errors.Join(b.wait(0), ctx.Err())
}

func (b *fakeBoard) wait(n int) error {
	b.mu.Lock()
	err := b.fails[n]
	took := b.took
	b.mu.Unlock()
	switch {
	case errors.Is(err, bus.ErrDown):
		return err
	case err != nil:
		time.Sleep(10 * took)
		return err
	}
	time.Sleep(took)
	return nil
}

func (b *fakeBoard) fail(err error, slots ...int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range slots {
		b.fails[n] = err
	}
}

// rig is a poller that runs, and what it reported.
type rig struct {
	*driver.Poller
	board   *fakeBoard
	mu      sync.Mutex
	reports []driver.Report
	now     func() time.Duration
}

func start(t *testing.T, slots int) *rig {
	t.Helper()
	return startWith(t, slots, func(*driver.PollerOptions, *fakeBoard) {})
}

func startWith(t *testing.T, slots int, change func(*driver.PollerOptions, *fakeBoard)) *rig {
	t.Helper()
	r := &rig{board: &fakeBoard{fails: map[int]error{}, took: 10 * time.Millisecond}}
	began := time.Now()
	r.now = func() time.Duration { return time.Since(began) }
	o := driver.PollerOptions{Board: r.board, Slots: slots, Interval: time.Second, Now: r.now,
		Log: slog.New(slog.DiscardHandler), Report: func(report driver.Report) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.reports = append(r.reports, report)
		}}
	change(&o, r.board)
	r.Poller = driver.NewPoller(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// during gives what is reported in that time.
func (r *rig) during(d time.Duration) []driver.Report {
	r.mu.Lock()
	r.reports = nil
	r.mu.Unlock()
	time.Sleep(d)
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reports
}

func polls(reports []driver.Report, n int) (good, missed int) {
	for _, r := range reports {
		if r.Slot == n && r.Err == nil {
			good++
		} else if r.Slot == n {
			missed++
		}
	}
	return good, missed
}

func TestRestAndHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 4)
		reports := r.during(10*time.Second - time.Millisecond)
		require.Equal(t, 1, r.board.started, "a failed start stops nothing")
		require.Len(t, reports, 50, "four slots and the cabinet, once a second")
		for i, report := range reports {
			require.Equal(t, (i+1)%5, report.Slot)
			require.NoError(t, report.Err)
			require.Equal(t, report.Slot, report.Reading.Slot)
			require.Equal(t, report.Slot == 0, report.Cabinet.Smoke == slot.No)
			require.Equal(t, time.Duration(i/5)*time.Second+time.Duration(i%5+1)*10*time.Millisecond, report.At)
		}
		time.Sleep(300 * time.Millisecond) // in the middle of a rest
		r.Hurry(true)
		good, _ := polls(r.during(time.Second), 1)
		require.Equal(t, 20, good, "as fast as the line allows, at once")
		r.Hurry(false)
		time.Sleep(2 * time.Second)
		good, _ = polls(r.during(10*time.Second), 1)
		require.Equal(t, 10, good)
	})
}

func TestWatchedSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 12)
		r.Watch(2, 12, 0, 13)
		time.Sleep(time.Second)
		good, _ := polls(r.during(10*time.Second), 2)
		require.Equal(t, 10, good, "not at rest")
		r.Hurry(true)
		reports := r.during(18 * time.Second) // 100 cycles of 12 + 1 + 5 polls
		one, _ := polls(reports, 1)
		two, _ := polls(reports, 2)
		twelve, _ := polls(reports, 12)
		require.InDelta(t, 100, one, 1)
		require.InDelta(t, 400, two, 4)
		require.InDelta(t, 300, twelve, 4, "not twice in a row")
		r.Watch()
		two, _ = polls(r.during(13*time.Second), 2)
		require.InDelta(t, 100, two, 2)
	})
}

func TestDeadBoards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 4)
		r.Hurry(true)
		r.board.fail(errDead, 2)
		reports := r.during(time.Second)
		misses := 0
		for _, report := range reports {
			if report.Slot != 2 {
				require.NoError(t, report.Err)
				require.Zero(t, report.Misses)
				continue
			}
			misses++
			require.ErrorIs(t, report.Err, errDead)
			require.Equal(t, misses, report.Misses)
			require.Zero(t, report.Reading, "nothing is known")
		}
		require.Equal(t, driver.OfflineAfter, misses, "then it is left alone")
		time.Sleep(5 * time.Second)
		_, missed := polls(r.during(2*time.Minute), 2)
		require.InDelta(t, 120/2.1, missed, 2, "a probe of 100 ms every 2.1 s")

		// All are dead: at most one probe fails in a cycle, and the line rests.
		r.board.fail(errDead, 0, 1, 2, 3, 4)
		time.Sleep(10 * time.Second)
		reports = r.during(time.Minute)
		last := -time.Second
		for _, report := range reports {
			require.GreaterOrEqual(t, report.At-last, 100*time.Millisecond)
			last = report.At
		}
		for n := range 5 {
			_, missed := polls(reports, n)
			require.Greater(t, missed, 15, "slot %d is probed", n)
		}
		// They come back together: the first good probe lets the others follow.
		r.board.fail(nil, 0, 1, 2, 3, 4)
		time.Sleep(2200 * time.Millisecond)
		reports = r.during(time.Second)
		for n := range 5 {
			good, missed := polls(reports, n)
			require.Zero(t, missed)
			require.InDelta(t, 20, good, 1)
		}
	})
}

func TestOneProbeEachCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 6)
		r.board.fail(errDead, 1, 2, 3, 5, 6)
		time.Sleep(20 * time.Second)
		inSecond, back := map[time.Duration]int{}, map[int]int{}
		reports := r.during(time.Minute)
		for _, report := range reports {
			if report.Err != nil {
				inSecond[report.At.Truncate(time.Second)]++
			}
		}
		for _, n := range []int{1, 2, 3, 5, 6} {
			_, missed := polls(reports, n)
			require.InDelta(t, 12, missed, 1, "slot %d has its turn", n)
		}
		r.board.fail(nil, 1, 2, 3, 5, 6)
		time.Sleep(3 * time.Second)
		for _, report := range r.during(2 * time.Second) {
			require.NoError(t, report.Err, "they come back together")
			back[report.Slot]++
		}
		require.Equal(t, map[int]int{0: 2, 1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2}, back)
		require.Greater(t, len(inSecond), 50)
		for second, probes := range inSecond {
			require.Equal(t, 1, probes, "%v", second)
		}
	})
}

// A line that is down blames no board: when it is back, all are read at once.
func TestLineDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 3)
		r.Hurry(true)
		down := fmt.Errorf("poll: %w", bus.ErrDown)
		r.board.fail(down, 0, 1, 2, 3)
		time.Sleep(time.Second)
		reports := r.during(10 * time.Second)
		require.LessOrEqual(t, len(reports), 4*41, "and is not asked in a busy loop")
		require.GreaterOrEqual(t, len(reports), 4*39)
		for _, report := range reports {
			require.ErrorIs(t, report.Err, bus.ErrDown)
		}
		r.board.fail(nil, 0, 1, 2, 3)
		time.Sleep(250 * time.Millisecond)
		for n := range 4 {
			good, missed := polls(r.during(time.Second), n)
			require.InDelta(t, 25, good, 1)
			require.Zero(t, missed)
		}
	})
}

// fakeMeter and fakeClimate answer like a board of their own number.
type (
	fakeMeter   struct{ board *fakeBoard }
	fakeClimate struct{ board *fakeBoard }
)

func (m fakeMeter) PollMeter(context.Context) (driver.MeterReading, error) {
	return driver.MeterReading{PowerW: slot.Known(1_000)}, m.board.wait(driver.MeterPoll)
}

func (c fakeClimate) PollClimate(context.Context) (driver.ClimateReading, error) {
	return driver.ClimateReading{Temp: slot.Known(250)}, c.board.wait(driver.ClimatePoll)
}

func TestInstruments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startWith(t, 4, func(o *driver.PollerOptions, b *fakeBoard) {
			o.Meter, o.Climate = fakeMeter{b}, fakeClimate{b}
		})
		reports := r.during(30*time.Second - time.Millisecond)
		for _, n := range []int{driver.MeterPoll, driver.ClimatePoll} {
			good, missed := polls(reports, n)
			require.Equal(t, 6, good, "every five seconds")
			require.Zero(t, missed)
		}
		for _, report := range reports {
			require.Equal(t, report.Slot == driver.MeterPoll, report.Meter.PowerW.Known)
			require.Equal(t, report.Slot == driver.ClimatePoll, report.Climate.Temp.Known)
		}
		r.Hurry(true)
		good, _ := polls(r.during(30*time.Second), driver.MeterPoll)
		require.InDelta(t, 6, good, 1, "nor more often in a hurry")

		// A dead meter costs the slots nothing to speak of, and knows nothing.
		before, _ := polls(r.during(time.Minute), 1)
		r.board.fail(errDead, driver.MeterPoll)
		time.Sleep(20 * time.Second)
		reports = r.during(time.Minute)
		after, _ := polls(reports, 1)
		require.Greater(t, float64(after), 0.95*float64(before))
		for _, report := range reports {
			if report.Slot == driver.MeterPoll {
				require.ErrorIs(t, report.Err, errDead)
				require.Zero(t, report.Meter)
			}
		}
		_, missed := polls(reports, driver.MeterPoll)
		require.InDelta(t, 12, missed, 1, "it has its turn as before")
		// A dead slot waits for no dead meter.
		r.board.fail(errDead, 2)
		time.Sleep(10 * time.Second)
		reports = r.during(time.Minute)
		_, missed = polls(reports, 2)
		require.Greater(t, missed, 20)
		_, missed = polls(reports, driver.MeterPoll)
		require.Greater(t, missed, 3, "nor does the meter starve beside it")
		r.board.fail(nil, 2, driver.MeterPoll)
		time.Sleep(8 * time.Second)
		good, _ = polls(r.during(10*time.Second), driver.MeterPoll)
		require.Equal(t, 2, good)
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := &fakeBoard{fails: map[int]error{}, took: time.Second}
		ctx, cancel := context.WithCancel(t.Context())
		reports := 0
		p := driver.NewPoller(driver.PollerOptions{Board: board, Slots: 3, Interval: time.Second,
			Now: func() time.Duration { return 0 }, Log: slog.New(slog.DiscardHandler),
			Report: func(r driver.Report) {
				require.NoError(t, r.Err, "a poll that was stopped is no miss")
				reports++
			}})
		done := make(chan struct{})
		go func() { defer close(done); p.Run(ctx) }()
		time.Sleep(1500 * time.Millisecond)
		cancel()
		<-done
		require.Equal(t, 1, reports)
	})
}

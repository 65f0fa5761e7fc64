package agent

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"batteryswap/protocol"
)

const (
	// watchEvery is how often the wall clock is looked at.
	watchEvery = 2 * time.Second
	// maxStep is how far the wall clock may leave the monotonic one before it
	// is told: dates of records are good to seconds.
	maxStep = 2 * time.Second
)

// clock is the agent's monotonic clock, and the wall clock beside it.
type clock struct {
	began time.Time
	mono  func() time.Duration // since began
	wall  func() time.Time
	// sync asks the kernel; synced stays true once it was.
	sync   func() bool
	synced atomic.Bool
	base   time.Duration // wall less monotonic when it was told last
}

func newClock(sync func() bool, wall func() time.Time, mono func() time.Duration) *clock {
	if sync == nil {
		sync = kernelSynchronised
	}
	if wall == nil {
		wall = time.Now
	}
	c := &clock{began: time.Now(), sync: sync, wall: wall, mono: mono}
	if mono == nil {
		c.mono = func() time.Duration { return time.Since(c.began) }
	}
	c.synced.Store(sync())
	c.base = c.offset()
	return c
}

// now is the time since the start.
func (c *clock) now() time.Duration { return c.mono() }

// offset is the wall clock less the monotonic one.
func (c *clock) offset() time.Duration {
	// Without its monotonic reading, which Sub would use.
	return c.wall().Round(0).Sub(c.began.Round(0)) - c.now()
}

// read is the journal's clock.
func (c *clock) read() (monoMS, wallMS uint64, state protocol.ClockState) {
	if c.synced.Load() {
		state = protocol.ClockSynchronised
	}
	return uint64(c.now().Milliseconds()), uint64(max(0, c.wall().UnixMilli())), state
}

// watch tells when the wall clock becomes synchronised, and of its steps. It
// ends with ctx, or with tell's error.
func (c *clock) watch(ctx context.Context, tell func(protocol.TimeStep) error) error {
	ticks := time.NewTicker(watchEvery)
	defer ticks.Stop()
	for {
		if step, ok := c.look(); ok {
			if err := tell(step); err != nil {
				return fmt.Errorf("record a step of the clock: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

// look compares the clocks once.
func (c *clock) look() (protocol.TimeStep, bool) {
	news := !c.synced.Load() && c.sync()
	if news {
		c.synced.Store(true)
	}
	offset := c.offset()
	if d := offset - c.base; d > maxStep || d < -maxStep {
		news = true
	}
	if !news {
		return protocol.TimeStep{}, false
	}
	c.base = offset
	_, wall, state := c.read()
	return protocol.TimeStep{WallMS: int64(wall), Clock: state}, true
}

// kernelSynchronised asks whether somebody disciplines the wall clock.
func kernelSynchronised() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}

// forgetPages makes the kernel drop the clean pages of a file.
func forgetPages(fd uintptr) error {
	if err := unix.Fadvise(int(fd), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("drop cached pages: %w", err)
	}
	return nil
}

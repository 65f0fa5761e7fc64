package bus

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"time"
)

// maxFrame bounds a frame in each direction.
const maxFrame = 256

// owner is the goroutine that alone touches the line.
type owner struct {
	bus    *Bus
	timing Timing
	log    *slog.Logger

	line    Line // nil while it is down
	retryAt time.Time
	downErr error
	silence time.Time // the line must have been silent until then
	echo    echo      // whether the adapter repeats what is sent
	leisure leisure
	buffer  [2 * maxFrame]byte
}

func (o *owner) run() {
	defer close(o.bus.done)
	defer o.closeLine()
	for {
		j := o.bus.next()
		if j == nil {
			return
		}
		began := time.Now()
		o.leisure.begins(began)
		reply, err := o.serve(j)
		o.leisure.ended(began, time.Now())
		o.bus.count(func(s *Stats) {
			switch {
			case err == nil:
				s.Replies++
			case errors.Is(err, ErrTimeout):
				s.Timeouts++
			case errors.Is(err, ErrGarbled):
				s.Garbled++
			}
		})
		j.finish(reply, err)
	}
}

// serve runs one request on the line, which it opens first when it is down.
func (o *owner) serve(j *job) ([]byte, error) {
	if err := o.open(); err != nil {
		return nil, err
	}
	if o.echo == echoUnknown && j.probe != nil {
		// Whatever comes of it: it teaches what an echo is, or the write fails too.
		if _, err := o.transact(j.probe); errors.As(err, new(lineError)) {
			o.fail(err)
			return nil, err
		}
	}
	reply, err := o.transact(j)
	var broken lineError
	if errors.As(err, &broken) {
		o.fail(broken)
	}
	return reply, err
}

// transact is one request and its reply. When it returns with an error of the
// exchange, the line has been silent for as long as a late reply can take.
func (o *owner) transact(j *job) ([]byte, error) {
	if err := o.listen(o.timing.Gap); err != nil {
		return nil, err
	}
	o.bus.count(func(s *Stats) { s.Requests++ })
	sent := time.Now()
	if err := o.write(j.request); err != nil {
		return nil, err
	}
	reply, err := o.receive(j, sent)
	if err == nil {
		o.silence = time.Now().Add(o.timing.Gap)
		return reply, nil
	}
	// A request that was given up must not reach a board later.
	if broken := o.line.Discard(); broken != nil {
		return nil, lineError{broken}
	}
	o.silence = time.Now().Add(o.timing.Late)
	if broken := o.listen(o.timing.Late); broken != nil && !errors.Is(broken, ErrNoisy) {
		return nil, broken
	}
	return nil, err
}

// listen discards what arrives until the line has been silent for gap, which
// begins anew with each byte.
func (o *owner) listen(gap time.Duration) error {
	limit := time.Now().Add(quietLimit)
	for {
		if o.leisure.on {
			time.Sleep(time.Until(o.silence))
		}
		n, err := o.read(time.Until(o.silence), o.buffer[:])
		if err != nil {
			return err
		}
		now := time.Now()
		if n > 0 {
			o.bus.count(func(s *Stats) { s.DiscardedBytes += uint64(n) })
			o.silence = now.Add(gap)
		} else if !now.Before(o.silence) {
			return nil
		}
		if now.After(limit) {
			return ErrNoisy
		}
	}
}

func (o *owner) read(wait time.Duration, p []byte) (int, error) {
	if err := o.line.SetReadTimeout(max(wait, 0)); err != nil {
		return 0, lineError{err}
	}
	n, err := o.line.Read(p)
	if err != nil {
		return 0, lineError{err}
	}
	return n, nil
}

// write writes the whole frame. A port can block for ever in a write, and
// nothing can be done to it meanwhile: not closed, for the descriptor's number
// could be given to another file. So the line is declared stuck, everybody is
// told, and this goroutine waits.
func (o *owner) write(frame []byte) error {
	o.bus.setWriting(true)
	watchdog := time.AfterFunc(o.timing.wire(len(frame))+writeLimit, o.bus.declareStuck)
	err := o.writeAll(frame)
	watchdog.Stop()
	if stuck := o.bus.setWriting(false); stuck {
		return lineError{ErrStuck}
	}
	return err
}

func (o *owner) writeAll(rest []byte) error {
	for len(rest) > 0 {
		n, err := o.line.Write(rest)
		switch {
		case n < 0 || n > len(rest):
			return lineError{fmt.Errorf("write of %d bytes returned %d", len(rest), n)}
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return lineError{err}
		case n == 0:
			return lineError{io.ErrShortWrite}
		}
		rest = rest[n:]
		if o.bus.isStuck() {
			return lineError{ErrStuck}
		}
	}
	return nil
}

// open opens the line when it is down and was left alone long enough.
func (o *owner) open() error {
	if o.line != nil {
		return nil
	}
	if time.Now().Before(o.retryAt) {
		return fmt.Errorf("%w: %w", ErrDown, o.downErr)
	}
	line, err := o.bus.config.Open()
	if err != nil {
		if o.downErr == nil || o.downErr.Error() != err.Error() {
			o.log.Error("serial line cannot be opened", "err", err)
		}
		o.downErr, o.retryAt = err, time.Now().Add(reopenPause)
		o.bus.count(func(s *Stats) { s.OpenFailed++ })
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	o.log.Info("serial line is open")
	o.line, o.downErr, o.echo = line, nil, echoUnknown
	// What was on the wire before is unknown: a late reply may still come.
	o.silence = time.Now().Add(o.timing.Late)
	o.bus.count(func(s *Stats) { s.Opened++; s.Up = true })
	return nil
}

// fail closes a line that failed and leaves it alone for a while.
func (o *owner) fail(err error) {
	o.log.Error("serial line failed", "err", err)
	_ = o.line.Discard() // else a port sends, while it closes, what was given up
	o.closeLine()
	o.downErr, o.retryAt = err, time.Now().Add(reopenPause)
	o.bus.count(func(s *Stats) { s.LineFailed++ })
}

func (o *owner) closeLine() {
	if o.line == nil {
		return
	}
	if err := o.line.Close(); err != nil {
		o.log.Error("serial line cannot be closed", "err", err)
	}
	o.line = nil
	o.bus.mu.Lock()
	defer o.bus.mu.Unlock()
	o.bus.stuck = false
	o.bus.stats.Up = false
}

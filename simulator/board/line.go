package board

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"batteryswap/protocol/modbus"
)

// Line is the board's end of a serial line.
type Line interface {
	// ReadFor waits up to limit for bytes; 0 and nil when none came.
	ReadFor(b []byte, limit time.Duration) (int, error)
	Write(b []byte) (int, error)
}

// Wire is how fast a line is. A pseudo-terminal hands bytes over at once; a
// board that answers through one waits as long as the wire would take.
type Wire struct {
	// Baud is the rate in bits a second.
	Baud int
	// CharBits is the length of one character with its start, parity and stop
	// bits: 10 for 8N1 (the default), 11 for 8E1 and 8N2.
	CharBits int
	// DeviceTime is how long the board thinks before it answers.
	DeviceTime time.Duration
}

// Char is the time of one character.
func (w Wire) Char() time.Duration {
	return time.Duration(w.CharBits) * time.Second / time.Duration(w.Baud)
}

// Gap is the silence that ends a frame: 3.5 characters, and 1.75 ms above
// 19200 baud (MODBUS over Serial Line V1.02, 2.5.1.1).
func (w Wire) Gap() time.Duration {
	if w.Baud > 19200 {
		return 1750 * time.Microsecond
	}
	return w.Char() * 7 / 2
}

func (w Wire) check() error {
	if w.Baud < 1200 || w.Baud > 921600 {
		return fmt.Errorf("baud is %d, expected 1200 to 921600", w.Baud)
	}
	if w.CharBits < 10 || w.CharBits > 12 {
		return fmt.Errorf("bits of a character is %d, expected 10 to 12", w.CharBits)
	}
	return nil
}

// Bounds of a line.
const (
	// idle is how long the loop waits for a first byte before it looks around.
	idle = 50 * time.Millisecond
	// chunk is how often bytes are handed over while an answer is sent, as the
	// buffer of a serial adapter does; the last byte comes at its own time.
	chunk = 4 * time.Millisecond
	// goneWait is the pause between looks at a port that has vanished.
	goneWait = 20 * time.Millisecond
	// maxPending bounds the answers that wait for their time.
	maxPending = 16
)

// Serve answers the requests on a line until ctx ends. A line that vanishes is
// waited for.
func (b *Board) Serve(ctx context.Context, line Line) error {
	s := &server{board: b, line: line}
	for ctx.Err() == nil {
		if err := s.turn(ctx); err != nil {
			return fmt.Errorf("serve cabinet %q: %w", b.cabinet, err)
		}
	}
	return nil
}

// server is one run of a line: half-duplex, one frame at a time.
type server struct {
	board   *Board
	line    Line
	pending []Transmission // ordered by start
	buf     [modbus.MaxFrame]byte
}

// turn waits for one frame, or sends what is due.
func (s *server) turn(ctx context.Context) error {
	limit := idle
	s.board.tick(s.board.now())
	if len(s.pending) > 0 {
		limit = min(limit, s.pending[0].Start-s.board.now())
	}
	var frame []byte
	if limit > 0 {
		n, err := s.line.ReadFor(s.buf[:], limit)
		if err != nil {
			return s.gone(ctx, err)
		}
		if n > 0 {
			if frame, err = s.frame(s.buf[:n]); err != nil {
				return s.gone(ctx, err)
			}
		}
	}
	if frame != nil {
		s.queue(s.board.Answer(s.board.now(), frame))
	}
	for len(s.pending) > 0 && s.pending[0].Start <= s.board.now()+chunk {
		next := s.pending[0]
		s.pending = s.pending[1:]
		if err := s.send(next); err != nil {
			return s.gone(ctx, err)
		}
	}
	return nil
}

// gone waits a little when the port has vanished: its answers are lost.
func (s *server) gone(ctx context.Context, err error) error {
	if !errors.Is(err, s.board.goneError) {
		return err
	}
	for _, t := range s.pending {
		s.board.done(t)
	}
	s.pending = nil
	select {
	case <-ctx.Done():
	case <-time.After(goneWait):
	}
	return nil
}

func (s *server) queue(fresh []Transmission) {
	for _, t := range fresh {
		i := len(s.pending)
		for i > 0 && s.pending[i-1].Start > t.Start {
			i--
		}
		s.pending = append(s.pending[:i], append([]Transmission{t}, s.pending[i:]...)...)
	}
	for len(s.pending) > maxPending {
		s.board.done(s.pending[len(s.pending)-1])
		s.pending = s.pending[:len(s.pending)-1]
	}
}

// frame collects bytes until the wire has been silent for the gap. The bytes
// came at once, but on a wire the last of n takes n characters to arrive.
func (s *server) frame(first []byte) ([]byte, error) {
	b := s.board
	frame := append([]byte(nil), first...)
	end := b.now() + time.Duration(len(first))*b.wire.Char()
	for {
		left := end + b.wire.Gap() - b.now()
		if left <= 0 {
			return frame, nil
		}
		n, err := s.line.ReadFor(s.buf[:], left)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			end = max(end, b.now()) + time.Duration(n)*b.wire.Char()
		}
		// One byte more than a frame can have keeps it refused.
		if room := modbus.MaxFrame + 1 - len(frame); room > 0 {
			frame = append(frame, s.buf[:min(n, room)]...)
		}
	}
}

// send paces an answer: no byte is handed over before it would have arrived.
func (s *server) send(t Transmission) error {
	b := s.board
	defer b.done(t)
	start := max(t.Start, b.now())
	char := b.wire.Char()
	perChunk := max(1, int(chunk/char))
	for sent := 0; sent < len(t.Bytes); {
		n := min(perChunk, len(t.Bytes)-sent)
		b.pause(start + time.Duration(sent+n)*char - b.now())
		if _, err := s.line.Write(t.Bytes[sent : sent+n]); err != nil {
			return err
		}
		sent += n
	}
	return nil
}

// done is what a board does after its answer is sent or lost: it does not know
// which, and does what it was told.
func (b *Board) done(t Transmission) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t.After(b.now())
}

// nanosleep is more exact than time.Sleep, which an idle program rounds up to a
// millisecond: half of the time that a short frame takes.
func nanosleep(d time.Duration) {
	if d <= 0 {
		return
	}
	left := syscall.NsecToTimespec(int64(d))
	for errors.Is(syscall.Nanosleep(&left, &left), syscall.EINTR) {
	}
}

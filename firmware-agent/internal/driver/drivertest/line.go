package drivertest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ErrPortClosed is what a Line returns after Close, and after Vanish.
var ErrPortClosed = errors.New("port has been closed")

// Device is a board at the end of a Line.
type Device interface {
	// Answer takes the bytes received so far. It returns how many of them a
	// request takes up, 0 when it is not complete, and the reply to it, nil for
	// silence.
	Answer(received []byte) (consumed int, reply []byte)
}

// Burst is bytes that a board sends a while after the request was complete.
type Burst struct {
	After time.Duration
	Bytes []byte
}

// Line is a serial line in memory whose bytes take the time that they take on a
// wire. It waits with time.Sleep, so that in a synctest bubble a test of hours
// takes no time. It notes what a caller must never do with a port.
type Line struct {
	Device Device
	// Char and Gap are the line's timing, DeviceTime what the board adds.
	Char, Gap, DeviceTime time.Duration
	// Fault, when set, changes what a board sends: n counts the requests from 0.
	Fault func(n int, request, reply []byte) []Burst
	// Lose, when set, says that a request does not reach the board.
	Lose func(n int) bool
	// Chunk, when set, is how many bytes arrive together, as from the buffer of an
	// adapter.
	Chunk int
	// MaxWrite, when set, makes writes short.
	MaxWrite int
	// Stall, when set, is how long the next write keeps its caller after its bytes
	// are gone, as a busy machine does.
	Stall time.Duration
	// Stuck, when set, blocks a write until it is closed.
	Stuck chan struct{}

	mu         sync.Mutex
	timeout    time.Duration
	received   []byte
	flying     []flyingByte
	lastByte   time.Time // the end of the last byte on the wire
	requests   int
	closed     bool
	vanished   bool
	inside     int
	violations []string
	shortest   time.Duration // silence before a request
}

type flyingByte struct {
	at    time.Time
	value byte
}

// NewLine makes a line of that baud, 8N1, with a board at its end that answers as
// soon as the line's timing allows.
func NewLine(baud int, d Device) *Line {
	l := &Line{Device: d, Char: time.Second * 10 / time.Duration(baud)}
	l.Gap = l.Char * 7 / 2
	if baud > 19200 {
		l.Gap = 1750 * time.Microsecond
	}
	return l
}

// enter and leave notice two goroutines in the line at once.
func (l *Line) enter(what string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inside++; l.inside > 1 {
		l.violations = append(l.violations, what+" while another call runs")
	}
	if l.closed && what != "Close" {
		l.violations = append(l.violations, what+" after Close")
	}
	if l.closed || l.vanished {
		return ErrPortClosed
	}
	return nil
}

func (l *Line) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside--
}

// SetReadTimeout sets how long Read waits.
func (l *Line) SetReadTimeout(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("read timeout %v", d)
	}
	l.timeout = d
	return nil
}

// Discard drops the bytes that have arrived. Those that were written are on the
// wire at once, and cannot be taken back.
func (l *Line) Discard() error {
	if err := l.enter("Discard"); err != nil {
		l.leave()
		return err
	}
	defer l.leave()
	l.arrived(make([]byte, len(l.flying)))
	return nil
}

// Read gives the bytes that have arrived; 0, nil after the timeout.
func (l *Line) Read(p []byte) (int, error) {
	if err := l.enter("Read"); err != nil {
		l.leave()
		return 0, err
	}
	defer l.leave()
	deadline := time.Now().Add(l.timeout)
	for {
		n, next := l.arrived(p)
		if n > 0 {
			return n, nil
		}
		if l.gone() {
			return 0, ErrPortClosed
		}
		if next.IsZero() || next.After(deadline) {
			next = deadline
		}
		if !time.Now().Before(deadline) {
			return 0, nil
		}
		time.Sleep(time.Until(next))
	}
}

func (l *Line) arrived(p []byte) (n int, next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for n < len(p) && len(l.flying) > 0 && !l.flying[0].at.After(now) {
		p[n] = l.flying[0].value
		l.lastByte = l.flying[0].at
		l.flying = l.flying[1:]
		n++
	}
	if len(l.flying) > 0 {
		next = l.flying[0].at
	}
	return n, next
}

// Write sends bytes to the board, whose answer is then under way.
func (l *Line) Write(p []byte) (int, error) {
	if err := l.enter("Write"); err != nil {
		l.leave()
		return 0, err
	}
	defer l.leave()
	if l.Stuck != nil {
		<-l.Stuck
	}
	if l.MaxWrite > 0 && len(p) > l.MaxWrite {
		p = p[:l.MaxWrite]
	}
	l.send(p)
	time.Sleep(l.Stall)
	l.Stall = 0
	return len(p), nil
}

// send puts a request on the wire, and the board's answer to it.
func (l *Line) send(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.flying) > 0 && !l.flying[0].at.After(now) {
		l.violations = append(l.violations, "request before the bytes that had arrived were read")
	}
	if now.After(l.lastByte) {
		if len(l.received) == 0 && (l.shortest == 0 || now.Sub(l.lastByte) < l.shortest) && !l.lastByte.IsZero() {
			l.shortest = now.Sub(l.lastByte)
		}
		l.lastByte = now
	} else if len(l.received) == 0 {
		l.violations = append(l.violations, "request while bytes are on the wire")
	}
	l.lastByte = l.lastByte.Add(time.Duration(len(p)) * l.Char)
	l.received = append(l.received, p...)
	if l.Lose != nil && l.Lose(l.requests) {
		request := l.received
		l.received = nil
		l.answer(request, nil)
		return
	}
	consumed, reply := l.Device.Answer(l.received)
	if consumed > 0 {
		request := slices.Clone(l.received[:consumed])
		l.received = l.received[consumed:]
		l.answer(request, reply)
	}
}

// answer puts the reply on the wire. The caller holds the mutex.
func (l *Line) answer(request, reply []byte) {
	bursts := []Burst{{Bytes: reply}}
	if l.Fault != nil {
		bursts = l.Fault(l.requests, request, reply)
	}
	l.requests++
	for _, burst := range bursts {
		at := l.lastByte.Add(l.Gap + l.DeviceTime + burst.After)
		for i, value := range burst.Bytes {
			if group := max(l.Chunk, 1); i%group == 0 {
				at = at.Add(l.Char * time.Duration(min(group, len(burst.Bytes)-i)))
			}
			l.flying = append(l.flying, flyingByte{at, value})
		}
	}
	slices.SortStableFunc(l.flying, func(a, b flyingByte) int { return a.at.Compare(b.at) })
}

// Send puts bytes on the wire that nobody asked for.
func (l *Line) Send(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := time.Now()
	for _, value := range p {
		at = at.Add(l.Char)
		l.flying = append(l.flying, flyingByte{at, value})
	}
}

// Close closes the line.
func (l *Line) Close() error {
	_ = l.enter("Close") // closing what has vanished is right
	defer l.leave()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.violations = append(l.violations, "Close twice")
	}
	l.closed = true
	return nil
}

// Vanish makes the port fail, as when its adapter is pulled out.
func (l *Line) Vanish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.vanished = true
}

func (l *Line) gone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.vanished
}

// Closed says whether Close was called.
func (l *Line) Closed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// Requests is how many whole requests the board received.
func (l *Line) Requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests
}

// Shortest is the shortest silence before a request.
func (l *Line) Shortest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shortest
}

// Violations is what a caller did and must not.
func (l *Line) Violations() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.violations)
}

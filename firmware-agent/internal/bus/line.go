package bus

import (
	"errors"
	"time"
)

// Line is an open serial port. Only the bus's own goroutine calls it.
type Line interface {
	// Read gives what has arrived, and waits at most the read timeout for the
	// first byte. A timeout is 0, nil.
	Read(p []byte) (int, error)
	// Write may write less than it was given.
	Write(p []byte) (int, error)
	// SetReadTimeout sets how long Read waits; 0 does not wait.
	SetReadTimeout(d time.Duration) error
	// Discard takes back what was written and has not left this machine, and
	// drops what has arrived and was not read.
	Discard() error
	Close() error
}

// Opener opens the line. It is called again, after a pause, whenever the line
// failed.
type Opener func() (Line, error)

// Exchange is one question and how its answer is known. modbus.Request and
// modbus.Raw are exchanges; so is any other language of request and reply.
type Exchange interface {
	// Append appends the request's frame to dst.
	Append(dst []byte) ([]byte, error)
	// ExpectedLen is the length of the usual reply in bytes.
	ExpectedLen() int
	// ReplyLen is how long the reply that starts with prefix is: 0 when more
	// bytes are needed, an error when these bytes cannot start the reply.
	ReplyLen(prefix []byte) (int, error)
	// Accept says whether the whole frame is the reply.
	Accept(frame []byte) error
}

// What Do returns, wrapped.
var (
	// ErrTimeout: no byte came.
	ErrTimeout = errors.New("no reply")
	// ErrGarbled: bytes came, and no reply was among them.
	ErrGarbled = errors.New("no valid reply among the bytes received")
	// ErrNoisy: the line was never silent, so nothing was sent.
	ErrNoisy = errors.New("the line is not silent")
	// ErrDown: the line is not open, so nothing was sent.
	ErrDown = errors.New("the line is down")
	// ErrStuck: a write blocks; it is not known what was sent.
	ErrStuck = errors.New("the line is stuck in a write")
	// ErrQueueFull: too many requests wait.
	ErrQueueFull = errors.New("the line's queue is full")
	// ErrClosed: the bus was closed.
	ErrClosed = errors.New("the bus is closed")
	// ErrRequest: the request cannot be sent.
	ErrRequest = errors.New("bad request")
)

// lineError is a failure of the port itself, which must be opened again.
type lineError struct{ err error }

func (e lineError) Error() string { return "serial line: " + e.err.Error() }
func (e lineError) Unwrap() error { return e.err }

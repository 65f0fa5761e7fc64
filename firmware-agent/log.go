package main

import (
	"bytes"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// maxLogLines is how many lines wait for who keeps the log.
	maxLogLines = 512
	// logFlushTime is what the end of the program waits for them to be taken.
	logFlushTime = time.Second
)

// logQueue hands log lines on and lets nobody wait for that: when the disk of who
// keeps the log blocks, its pipe fills up, and an agent that waited for it would
// not cut power either. What does not fit is lost, and counted.
type logQueue struct {
	lines chan []byte
	lost  atomic.Uint64
	stop  chan struct{}
	ended chan struct{}
}

// newLogQueue starts the goroutine that writes; tell writes to the same place how
// many lines were lost.
func newLogQueue(to io.Writer, tell *slog.Logger) *logQueue {
	q := &logQueue{lines: make(chan []byte, maxLogLines), stop: make(chan struct{}), ended: make(chan struct{})}
	go q.run(to, tell)
	return q
}

// Write takes one line.
func (q *logQueue) Write(line []byte) (int, error) {
	select {
	case q.lines <- bytes.Clone(line):
	default:
		q.lost.Add(1)
	}
	return len(line), nil
}

func (q *logQueue) run(to io.Writer, tell *slog.Logger) {
	defer close(q.ended)
	write := func(line []byte) {
		_, _ = to.Write(line) // there is nobody to tell
		if n := q.lost.Swap(0); n > 0 {
			tell.Warn("log lines were lost", "lines", n)
		}
	}
	for {
		select {
		case line := <-q.lines:
			write(line)
			continue
		case <-q.stop:
		}
		for {
			select {
			case line := <-q.lines:
				write(line)
			default:
				return
			}
		}
	}
}

// flush writes what waits, as far as it is taken in time, and ends the queue.
func (q *logQueue) flush() {
	close(q.stop)
	timer := time.NewTimer(logFlushTime)
	defer timer.Stop()
	select {
	case <-q.ended:
	case <-timer.C:
	}
}

package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// stuckPipe takes nothing until it is let go.
type stuckPipe struct {
	free chan struct{}
	got  bytes.Buffer
}

func (p *stuckPipe) Write(b []byte) (int, error) {
	<-p.free
	return p.got.Write(b)
}

// TestTheLogWaitsForNobody: who writes goes on while the pipe is stuck, and what was
// lost is told when it is not.
func TestTheLogWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipe := &stuckPipe{free: make(chan struct{})}
		q := newLogQueue(pipe, slog.New(slog.NewTextHandler(pipe, nil)))
		line := []byte("0\n")
		for n := range maxLogLines + 8 {
			line = fmt.Appendf(line[:0], "%d\n", n)
			_, err := q.Write(line)
			require.NoError(t, err)
			synctest.Wait()
		}
		began := time.Now()
		q.flush()
		require.Equal(t, logFlushTime, time.Since(began), "the end waits, but not for ever")

		close(pipe.free)
		<-q.ended
		lines := bytes.Split(bytes.TrimSpace(pipe.got.Bytes()), []byte("\n"))
		require.Len(t, lines, maxLogLines+2, "one that was being written, those that waited, and the loss")
		require.Equal(t, "0", string(lines[0]))
		require.Contains(t, string(lines[1]), `msg="log lines were lost" lines=7`)
		require.Equal(t, fmt.Sprint(maxLogLines), string(lines[len(lines)-1]), "in order")
	})
}

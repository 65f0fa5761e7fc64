package proxy

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	patience = 30 * time.Second
	// silence is how long nothing has to come before a test believes that nothing
	// does.
	silence = 300 * time.Millisecond
)

// echo is a server that says again what it hears, and keeps its connections.
type echo struct {
	listener net.Listener
	running  sync.WaitGroup
	accepted chan net.Conn
	gone     chan struct{} // a connection ended, as the server sees it
}

func newEcho(t *testing.T, network, address string) *echo {
	t.Helper()
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	e := &echo{listener: l, accepted: make(chan net.Conn, 100), gone: make(chan struct{}, 100)}
	e.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.accepted <- c
			e.running.Go(func() {
				_, _ = io.Copy(c, c) // however it ended
				e.gone <- struct{}{}
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		for len(e.accepted) > 0 {
			(<-e.accepted).Close()
		}
		e.running.Wait()
	})
	return e
}

func through(t *testing.T, e *echo) *Proxy {
	t.Helper()
	p, err := New(e.listener.Addr().Network(), e.listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func connect(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Address())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// says wants the server to answer.
func says(t *testing.T, c net.Conn, word string) {
	t.Helper()
	_, err := c.Write([]byte(word))
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	heard := make([]byte, len(word))
	_, err = io.ReadFull(c, heard)
	require.NoError(t, err)
	require.Equal(t, word, string(heard))
}

// silent wants no answer, and no end either.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := c.Write([]byte("hello?"))
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(silence)))
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// ended wants the connection to be gone.
func ended(t *testing.T, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

func (e *echo) loses(t *testing.T) {
	t.Helper()
	select {
	case <-e.gone:
	case <-time.After(patience):
		require.FailNow(t, "the server keeps the connection")
	}
}

func (e *echo) keeps(t *testing.T) {
	t.Helper()
	select {
	case <-e.gone:
		require.FailNow(t, "the server was told")
	case <-time.After(silence):
	}
}

func TestBytesPass(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "s")
		}
		e := newEcho(t, network, address)
		c := connect(t, through(t, e))
		says(t, c, "one")
		says(t, c, "two")
		require.NoError(t, c.Close())
		e.loses(t)
	}
}

func TestNobodyListens(t *testing.T) {
	e := newEcho(t, "tcp", "127.0.0.1:0")
	p := through(t, e)
	require.NoError(t, e.listener.Close())
	c, err := net.Dial("tcp", p.Address())
	if err != nil {
		return // reset already
	}
	defer c.Close()
	ended(t, c)
}

func TestDelay(t *testing.T) {
	p := through(t, newEcho(t, "tcp", "127.0.0.1:0"))
	c := connect(t, p)
	says(t, c, "at once")
	p.Strike(Delay)
	began := time.Now()
	says(t, c, "late")
	require.GreaterOrEqual(t, time.Since(began), 2*Late, "there and back")
	p.Heal()
	says(t, c, "at once")
}

func TestCut(t *testing.T) {
	e := newEcho(t, "tcp", "127.0.0.1:0")
	p := through(t, e)
	c := connect(t, p)
	says(t, c, "one")
	p.Strike(Cut)
	ended(t, c)
	e.loses(t)
	says(t, connect(t, p), "two")
}

// TestHalfOpen: of two connections, the one has lost its client and the other
// its server; whoever is left is not told.
func TestHalfOpen(t *testing.T) {
	e := newEcho(t, "tcp", "127.0.0.1:0")
	p := through(t, e)
	first := connect(t, p)
	says(t, first, "one")
	p.Strike(HalfOpen)
	ended(t, first)
	e.keeps(t)

	second := connect(t, p)
	says(t, second, "two")
	p.Strike(HalfOpen)
	e.loses(t)
	silent(t, second)
	e.keeps(t)
	says(t, connect(t, p), "three")
}

func TestSwallow(t *testing.T) {
	e := newEcho(t, "tcp", "127.0.0.1:0")
	p := through(t, e)
	c := connect(t, p)
	says(t, c, "one")
	p.Strike(Swallow)
	silent(t, c)
	e.keeps(t)
	fresh := connect(t, p)
	silent(t, fresh)
	p.Heal()
	silent(t, c)
	silent(t, fresh)
	e.keeps(t)
	says(t, connect(t, p), "two")
}

// TestCloseEndsEverything: also what leads nowhere.
func TestCloseEndsEverything(t *testing.T) {
	e := newEcho(t, "tcp", "127.0.0.1:0")
	p := through(t, e)
	c := connect(t, p)
	says(t, c, "one")
	p.Strike(Swallow)
	fresh := connect(t, p)
	silent(t, fresh)
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	ended(t, c)
	ended(t, fresh)
	e.loses(t)
	_, err := net.Dial("tcp", p.Address())
	require.Error(t, err)
	require.Empty(t, p.lines)
}

package acceptance

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol/slotboard"
)

const (
	// feedEvery is how often the manager of this test wants to hear from an agent.
	feedEvery = 6 * time.Second
	// boardsCut is within what time after the last request the boards themselves have
	// switched off: their watchdog, and what may pass until it is looked at.
	boardsCut = time.Duration(slotboard.DefaultWatchdogS)*time.Second + 2*time.Second
)

// manager is what systemd is to a service: it counts what the agent tells it.
type manager struct {
	ready, fed atomic.Int64
}

// manage makes an agent tell a manager of this test that it lives.
func (c *cabinet) manage() *manager {
	s := c.stage
	s.t.Helper()
	name := filepath.Join(c.dir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	require.NoError(s.t, err)
	c.Env = append(c.Env, "NOTIFY_SOCKET="+name, fmt.Sprintf("WATCHDOG_USEC=%d", feedEvery.Microseconds()))
	m := &manager{}
	read := make(chan struct{})
	go func() {
		defer close(read)
		said := make([]byte, 256)
		for {
			n, err := socket.Read(said)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			switch string(said[:n]) {
			case "READY=1":
				m.ready.Add(1)
			case "WATCHDOG=1":
				m.fed.Add(1)
			}
		}
	}()
	s.t.Cleanup(func() {
		require.NoError(s.t, socket.Close())
		<-read
	})
	return m
}

// signal sends an agent's process a signal.
func (c *cabinet) signal(what os.Signal) {
	c.stage.t.Helper()
	p, err := os.FindProcess(c.PID())
	require.NoError(c.stage.t, err)
	require.NoError(c.stage.t, p.Signal(what))
}

// TestAKilledOrHungAgent: whether an agent is killed or hangs, its boards' own
// watchdog takes power away within its time, and the service manager hears no more of
// it, so that it would start the agent anew; then it charges again.
func TestAKilledOrHungAgent(t *testing.T) {
	t.Parallel()
	s := bareStage(t, plainPrograms(t))
	type patient struct {
		*trial
		*manager
		end func(*cabinet)
		fed int64
	}
	var patients []*patient
	var trials []*trial
	for _, end := range []func(*cabinet){
		func(c *cabinet) { c.Kill() },
		func(c *cabinet) { c.signal(syscall.SIGSTOP) },
	} {
		p := &patient{end: end}
		p.trial = s.newTrial(hazard{whole: true, switches: true}, func(c *cabinet) { p.manager = c.manage() })
		patients, trials = append(patients, p), append(trials, p.trial)
	}
	all(s, trials, 50*time.Millisecond, "charging does not begin", (*trial).charges)
	s.until("the manager is not told", func() bool {
		for _, p := range patients {
			if p.ready.Load() != 1 || p.manager.fed.Load() < 2 {
				return false
			}
		}
		return true
	})

	for _, p := range patients {
		p.end(p.cabinet)
		p.began, p.fed = s.now(), p.manager.fed.Load()
	}
	all(s, trials, 20*time.Millisecond, "power stays on", (*trial).gone)
	for _, p := range patients {
		t.Logf("power is off after %v", (p.ended - p.began).Round(time.Millisecond))
		require.LessOrEqual(t, p.ended-p.began, boardsCut)
		require.LessOrEqual(t, p.manager.fed.Load()-p.fed, int64(1), "what hangs feeds the watchdog") // one may have been under way
	}

	for _, p := range patients {
		p.Kill() // what the manager does to one that it does not hear of
		p.startAgent()
	}
	all(s, trials, 50*time.Millisecond, "charging does not begin again", (*trial).charges)
	s.until("the manager is not told again", func() bool {
		return patients[0].ready.Load() == 2 && patients[1].ready.Load() == 2
	})
}

package agent

import (
	"encoding/json"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"batteryswap/firmware-agent/internal/cabinet"
	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/safety"
	"batteryswap/protocol"
)

// newSite is what the site socket needs of an agent: a safety loop that does not
// run, with an alarm that is latched.
func newSite(log *logBuffer) *Agent {
	now := func() time.Duration { return 0 }
	l := slog.New(slog.NewTextHandler(log, nil))
	return &Agent{o: Options{Log: l}, cabinet: &cabinet.Cabinet{}, safety: safety.New(safety.Options{
		Limits: charging.DefaultLimits(1), Latched: []charging.Alarm{{Kind: protocol.AlarmSmoke}}, Now: now, Log: l,
	})}
}

// asked asks for all alarms over a connection.
func asked(t *testing.T, c net.Conn) siteReply {
	t.Helper()
	require.NoError(t, json.NewEncoder(c).Encode(siteRequest{Slot: EverySlot}))
	var reply siteReply
	require.NoError(t, json.NewDecoder(c).Decode(&reply))
	return reply
}

// TestALoopThatDoesNotAnswerIsTold: who stands at the cabinet hears what is the
// matter, not a connection that breaks.
func TestALoopThatDoesNotAnswerIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSite(&logBuffer{})
		near, far := net.Pipe()
		go a.serveSite(far)
		require.Equal(t, []string{"smoke of the cabinet: the safety loop did not take it"}, asked(t, near).Refused)
		require.NoError(t, near.Close())
	})
}

// strainedListener fails so many times before it gives what it has.
type strainedListener struct {
	net.Listener
	fails int
	conns chan net.Conn
}

func (l *strainedListener) Accept() (net.Conn, error) {
	if l.fails > 0 {
		l.fails--
		return nil, unix.EMFILE
	}
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

// TestTheSiteSocketOutlivesTooManyOpenFiles: it is told once, and tried again ever
// more seldom.
func TestTheSiteSocketOutlivesTooManyOpenFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logBuffer{}
		a := newSite(log)
		l := &strainedListener{fails: 12, conns: make(chan net.Conn, 1)}
		ended := make(chan struct{})
		began := time.Now()
		go func() { defer close(ended); a.acceptSite(t.Context(), l) }()
		near, far := net.Pipe()
		l.conns <- far
		require.Len(t, asked(t, near).Refused, 1)
		require.InDelta(t, 12.7+5*10+5, time.Since(began).Seconds(), .1)
		require.Equal(t, 1, strings.Count(log.String(), "too many open files"), log)
		close(l.conns)
		<-ended
		require.NoError(t, near.Close())
	})
}

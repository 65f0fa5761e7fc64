package fleet

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/notify"
	"batteryswap/backend/internal/postgres"
	"batteryswap/protocol"
)

// gateway is an operator's webhook: it checks what it gets, and answers as it is
// told.
type gateway struct {
	*httptest.Server
	secret []byte
	got    chan notify.Notice // that it was told and has confirmed
	tries  chan notify.Notice // all
	hold   chan struct{}      // closed: nobody hangs any more

	mu   sync.Mutex
	fail int  // answer 503 so often
	hang bool // do not answer
}

func newGateway(t testing.TB) *gateway {
	g := &gateway{
		secret: []byte("the secret of a gateway, 32 or more"), got: make(chan notify.Notice, 100), tries: make(chan notify.Notice, 100),
		hold: make(chan struct{}),
	}
	g.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get(notify.HeaderSignature) != notify.Sign(g.secret, r.Header.Get(notify.HeaderTimestamp), body) {
			t.Errorf("a notice that is not signed: %v", err)
		}
		var n notify.Notice
		if err := json.Unmarshal(body, &n); err != nil || n.EventID == "" || r.Header.Get(notify.HeaderEvent) != n.EventID {
			t.Errorf("%s: %v", body, err)
		}
		g.mu.Lock()
		fail, hang := g.fail > 0, g.hang
		g.fail--
		g.mu.Unlock()
		g.tries <- n
		switch {
		case hang:
			select {
			case <-g.hold:
			case <-r.Context().Done():
			}
		case fail:
			rw.WriteHeader(http.StatusServiceUnavailable)
		default:
			g.got <- n
		}
	}))
	t.Cleanup(func() {
		close(g.hold)
		g.Close()
	})
	return g
}

func (g *gateway) set(fail int, hang bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail, g.hang = fail, hang
}

func (g *gateway) tells(t testing.TB) func(*Options) {
	t.Helper()
	w, err := notify.NewWebhook(g.URL, g.secret, time.Now)
	require.NoError(t, err)
	return func(o *Options) { o.Notifier = w }
}

// TestSafetyIsToldAtOnce: a charge cut reaches the gateway as soon as it is
// committed, once; one that fails is tried again and keeps its id; one that hangs
// does not keep the next from being told within ten seconds.
func TestSafetyIsToldAtOnce(t *testing.T) {
	w := newTown(t)
	g := newGateway(t)
	f := w.start(g.tells(t)).ready()
	w.start(g.tells(t)).ready() // a second replica tells nothing twice
	a := w.cabinet("hb-0001")
	a.hello()
	a.ship()

	began := time.Now()
	a.write(protocol.ChargeCut{Slot: 3, Kind: protocol.AlarmTemperature})
	a.ship()
	n := receive(t, g.got)
	require.Less(t, time.Since(began), 10*time.Second)
	require.Equal(t, fmt.Sprintf("hb-0001/%s/2", a.epoch), n.EventID)
	require.Equal(t, "charge_cut", n.Record)
	require.Equal(t, protocol.AlarmTemperature, n.Kind)
	require.Equal(t, "Hubin", n.Station)
	require.Equal(t, 3, n.Slot)
	require.Equal(t, 1, n.Try)
	require.Empty(t, receive(t, g.tries).SwapID)

	g.set(2, false)
	a.write(protocol.Alarm{Kind: protocol.AlarmSmoke})
	a.ship()
	n = receive(t, g.got)
	require.Equal(t, 3, n.Try)
	require.Equal(t, protocol.AlarmSmoke, n.Kind)
	for try := 1; try <= 3; try++ {
		require.Equal(t, n.EventID, receive(t, g.tries).EventID)
	}

	g.set(0, true)
	a.write(protocol.Alarm{Kind: protocol.AlarmWater})
	a.ship()
	require.Equal(t, protocol.AlarmWater, receive(t, g.tries).Kind)
	g.set(0, false)
	began = time.Now()
	a.write(protocol.Alarm{Kind: protocol.AlarmEmergencyOff})
	a.ship()
	told := map[protocol.AlarmKind]bool{receive(t, g.got).Kind: true, receive(t, g.got).Kind: true}
	require.Less(t, time.Since(began), 10*time.Second)
	require.Equal(t, map[protocol.AlarmKind]bool{protocol.AlarmWater: true, protocol.AlarmEmergencyOff: true}, told)
	require.Eventually(t, func() bool { return f.metric(`swap_safety_notices_waiting`) == "0" }, 15*time.Second, 100*time.Millisecond)
	require.Empty(t, g.got)
}

// TestSafetyOutlivesTheBackend: it dies after the commit and before it could tell
// anybody, or while it tells; the next one tells.
func TestSafetyOutlivesTheBackend(t *testing.T) {
	w := newTown(t)
	g := newGateway(t)
	a := w.cabinet("hb-0001")
	raw := func(ps ...protocol.Payload) postgres.Batch {
		for _, p := range ps {
			a.write(p)
		}
		m, _ := a.log()
		sealed, err := protocol.Seal(protocol.KeyID(a.public()), a.key, a.id, m)
		require.NoError(t, err)
		return postgres.Batch{CabinetID: a.id, Envelope: protocol.Envelope{CabinetID: a.id, KeyID: protocol.KeyID(a.public()), Raw: sealed}, Log: m}
	}
	a.mu.Lock()
	hello := protocol.Hello{Epoch: a.epoch, FirstSeq: 1, TailSeq: 1, TailHash: a.last, BootID: a.boot, BootSeq: 1, Software: "script"}
	a.mu.Unlock()
	_, err := w.store.Hello(t.Context(), a.id, hello)
	require.NoError(t, err)
	acked := make(chan struct{}, 1)
	r := postgres.NewRecorder(w.store, postgres.RecorderOptions{Acked: func(protocol.CabinetID, protocol.LogAck) { acked <- struct{}{} }})
	require.True(t, r.Submit(raw(protocol.ChargeCut{Kind: protocol.AlarmSmoke})))
	receive(t, acked)
	r.Close() // all that was left of this backend

	g.set(0, true)
	second := w.start(g.tells(t))
	n := receive(t, g.tries)
	require.Equal(t, protocol.AlarmSmoke, n.Kind)
	second.halt() // while the gateway has not answered
	g.set(0, false)
	w.start(g.tells(t))
	again := receive(t, g.got)
	require.Equal(t, n.EventID, again.EventID)
	require.Equal(t, n.Try+1, again.Try)
}

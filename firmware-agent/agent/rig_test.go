package agent

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/config"
	"batteryswap/protocol"
)

// patience bounds every wait of these tests, which run in real time.
const patience = 30 * time.Second

const cabinetID protocol.CabinetID = "hb-0001"

func keyOf(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// rig is an agent's files, and a broker with a backend that a test plays.
type rig struct {
	t      *testing.T
	dir    string
	broker string // host:port
	config string // path
	device ed25519.PublicKey
	log    *logBuffer
	server *mochi.Server

	mu      sync.Mutex
	got     []protocol.Envelope
	records []protocol.Record
	acked   uint64
	head    protocol.Hash
	epoch   protocol.Epoch // accepted
	verdict func(protocol.Hello) protocol.HelloOK
	wake    chan struct{}
}

// logBuffer is a log that a test reads while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRig(t *testing.T, port string, slots int) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), log: &logBuffer{}, wake: make(chan struct{}, 1)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.broker = l.Addr().String()
	require.NoError(t, l.Close())
	r.device, err = config.GenerateDeviceKey(filepath.Join(r.dir, "device.key"))
	require.NoError(t, err)
	list, err := protocol.SealKeyList(keyOf(1), protocol.KeyList{Version: 1, Keys: []protocol.Key{
		{KeyID: "s1", Use: protocol.UseService, PublicKey: public(keyOf(2))},
		{KeyID: "g1", Use: protocol.UseGrant, PublicKey: public(keyOf(3))},
	}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "keys.json"), list, 0o600))
	r.config = filepath.Join(r.dir, "agent.yaml")
	require.NoError(t, os.WriteFile(r.config, fmt.Appendf(nil, `
cabinet_id: %s
state_dir: %[2]s/state
device_key_file: %[2]s/device.key
root_public_key: %[3]s
key_list_file: %[2]s/keys.json
mqtt: {url: "tcp://%[4]s"}
serial: {port: %[5]s, baud: 115200, device_time_ms: 20}
board: {kind: slotboard, slots: %[6]d}
metrics_listen: 127.0.0.1:0
screen_listen: 127.0.0.1:0
`, cabinetID, r.dir, base64.StdEncoding.EncodeToString(public(keyOf(1))), r.broker, port, slots), 0o600))
	r.verdict = func(h protocol.Hello) protocol.HelloOK {
		return protocol.HelloOK{Verdict: protocol.VerdictResume, ResumeSeq: r.acked + 1, Config: protocol.CabinetConfig{Version: 1}}
	}
	return r
}

// options are an agent's, with this rig's log.
func (r *rig) options() Options {
	return Options{
		ConfigFile: r.config, Software: "test",
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// start starts an agent; the test's end stops it.
func (r *rig) start(o Options) *Agent {
	r.t.Helper()
	a, err := New(o)
	require.NoError(r.t, err)
	require.NoError(r.t, a.Start())
	r.t.Cleanup(func() { require.NoError(r.t, a.Stop()) })
	return a
}

// serveBroker starts the broker and the backend behind it.
func (r *rig) serveBroker() {
	s := mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(r.t, s.AddHook(new(auth.AllowHook), nil))
	require.NoError(r.t, s.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: r.broker})))
	require.NoError(r.t, s.Serve())
	r.server = s
	require.NoError(r.t, s.Subscribe("swap/v1/+/up/#", 1, func(_ *mochi.Client, _ packets.Subscription, pk packets.Packet) {
		e, err := protocol.Open(pk.Payload, func(string, protocol.Type, protocol.CabinetID) (ed25519.PublicKey, bool) {
			return r.device, true
		})
		if err != nil {
			r.t.Errorf("the agent sends %v", err)
			return
		}
		r.take(e)
	}))
	r.t.Cleanup(r.stopBroker)
}

func (r *rig) stopBroker() {
	if r.server != nil {
		require.NoError(r.t, r.server.Close())
		r.server = nil
	}
}

// take is the backend: it answers hello, and acknowledges what follows the last
// record that it has.
func (r *rig) take(e protocol.Envelope) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, e)
	switch e.Type {
	case protocol.TypeHello:
		var h protocol.Hello
		r.decode(protocol.Decode(e, &h))
		m := r.verdict(h)
		m.Epoch, m.BootID = h.Epoch, h.BootID
		r.epoch = h.Epoch
		r.down("s1", keyOf(2), m)
	case protocol.TypeLog:
		var m protocol.Log
		r.decode(protocol.Decode(e, &m))
		for _, raw := range m.Records {
			rec, _, hash, err := protocol.DecodeRecord(raw)
			r.decode(err)
			if rec.Seq == r.acked+1 && rec.PrevHash == r.head {
				r.records, r.acked, r.head = append(r.records, rec), rec.Seq, hash
			}
		}
		r.down("s1", keyOf(2), protocol.LogAck{Epoch: m.Epoch, UptoSeq: r.acked, HashAtUpto: r.head})
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *rig) decode(err error) {
	if err != nil {
		r.t.Errorf("the backend cannot read: %v", err)
	}
}

// down sends a message to the cabinet.
func (r *rig) down(kid string, key ed25519.PrivateKey, m protocol.Message) {
	raw, err := protocol.Seal(kid, key, cabinetID, m)
	if err == nil {
		err = r.server.Publish(protocol.Topic(cabinetID, protocol.Down), raw, false, 1)
	}
	r.decode(err)
}

// until waits for a condition on what the backend has got.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	end := time.NewTimer(patience)
	defer end.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		r.mu.Lock()
		yes := ok()
		r.mu.Unlock()
		if yes {
			return
		}
		select {
		case <-r.wake:
		case <-again.C:
		case <-end.C:
			require.FailNow(r.t, "never: "+what, "%s", r.log)
		}
	}
}

// said finds the last message of a type.
func said[M protocol.Message](r *rig) (m M, ok bool) {
	for i := len(r.got) - 1; i >= 0; i-- {
		if r.got[i].Type == m.MessageType() {
			r.decode(protocol.Decode(r.got[i], &m))
			return m, true
		}
	}
	return m, false
}

// count counts the messages of a type.
func (r *rig) count(t protocol.Type) int {
	n := 0
	for _, e := range r.got {
		if e.Type == t {
			n++
		}
	}
	return n
}

// recorded finds the last record of a kind in the backend's log.
func recorded[P protocol.Payload](r *rig) (p P, ok bool) {
	for i := len(r.records) - 1; i >= 0; i-- {
		if r.records[i].Type == p.RecordType() {
			r.decode(protocol.UnmarshalPayload(r.records[i], &p))
			return p, true
		}
	}
	return p, false
}

// types are those of the backend's records, in order.
func (r *rig) types() string {
	var names []string
	for _, rec := range r.records {
		names = append(names, rec.Type.String())
	}
	return strings.Join(names, " ")
}

// scrape reads one agent's metrics.
func scrape(t *testing.T, a *Agent) string {
	t.Helper()
	reply, err := http.Get("http://" + a.MetricsAddr() + "/metrics")
	require.NoError(t, err)
	defer reply.Body.Close()
	require.Equal(t, http.StatusOK, reply.StatusCode)
	b, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	return string(b)
}

// noLeak demands that no goroutine of an agent is left.
func noLeak(t *testing.T) {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	left := func() string {
		buf := make([]byte, 1<<20)
		var found []string
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "batteryswap/firmware-agent/internal/") || strings.Contains(g, "paho") ||
				strings.Contains(g, "go.bug.st") || strings.Contains(g, "(*Agent)") || strings.Contains(g, "net/http.(*Server)") {
				found = append(found, g)
			}
		}
		return strings.Join(found, "\n\n")
	}
	require.Eventually(t, func() bool { return left() == "" }, 30*time.Second, 10*time.Millisecond, "goroutines are left")
}

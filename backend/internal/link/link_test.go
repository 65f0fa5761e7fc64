package link

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

const (
	cabinet = protocol.CabinetID("hb-0001")
	swapID  = protocol.SwapID("01920000-0000-7000-8000-000000000001")
)

func keyOf(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func publicOf(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// counts are the messages by direction, type and result.
type counts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counts) count(direction, kind, result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[direction+" "+kind+" "+result]++
}

func (c *counts) of(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[key]
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// backend is a link under test and what it was told.
type backend struct {
	*Link
	counts counts
	log    lines
	ring   *Ring
	logs   chan protocol.Log
	calls  chan any
	beats  chan protocol.Telemetry
}

func newBackend(t *testing.T, u *url.URL, records, telemetry *tls.Config) *backend {
	t.Helper()
	b := &backend{ring: &Ring{}, logs: make(chan protocol.Log, 100), calls: make(chan any, 100), beats: make(chan protocol.Telemetry, 100)}
	b.ring.Replace(map[protocol.CabinetID][]ed25519.PublicKey{cabinet: {publicOf(keyOf(1))}, "hb-0002": {publicOf(keyOf(2))}})
	var err error
	b.Link, err = New(Options{
		URL: u, TLS: records, TelemetryTLS: telemetry, Ring: b.ring,
		Keys:  Keys{GrantID: "g1", Grant: keyOf(11), ServiceID: "s1", Service: keyOf(12)},
		Count: b.counts.count, Changed: func(string, bool) {}, Log: slog.New(slog.NewJSONHandler(&b.log, nil)),
		Handlers: Handlers{
			Log:       func(_ protocol.Envelope, m protocol.Log) { b.logs <- m },
			Hello:     func(_ context.Context, _ protocol.CabinetID, m protocol.Hello) { b.calls <- m },
			Prepared:  func(_ context.Context, _ protocol.CabinetID, m protocol.Prepared) { b.calls <- m },
			Refused:   func(_ context.Context, _ protocol.CabinetID, m protocol.Refused) { b.calls <- m },
			Inventory: func(_ context.Context, _ protocol.CabinetID, m protocol.InventoryReport) { b.calls <- m },
			Telemetry: func(_ protocol.CabinetID, m protocol.Telemetry) { b.beats <- m },
			Will:      func(_ protocol.CabinetID, m protocol.Will) { b.calls <- m },
		},
	})
	require.NoError(t, err)
	b.Start()
	t.Cleanup(func() { stopLink(t, b.Link) })
	return b
}

// listening waits until the subscriptions stand: what is sent before is lost.
func (b *backend) listening(t *testing.T, device *device) {
	t.Helper()
	b.Accept(true)
	require.Eventually(t, b.Connected, 20*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		device.publish(protocol.Topic(cabinet, protocol.UpRPC), device.seal(t, cabinet, protocol.InventoryReport{}), false)
		select {
		case <-b.calls:
			return true
		case <-time.After(20 * time.Millisecond):
			return false
		}
	}, 30*time.Second, time.Millisecond)
	for {
		select {
		case <-b.calls:
		case <-time.After(50 * time.Millisecond):
			return
		}
	}
}

// device is a cabinet's own connection.
type device struct {
	client mqtt.Client
	key    ed25519.PrivateKey
	down   chan []byte
}

func newDevice(t *testing.T, u *url.URL, seed byte, conf *tls.Config) *device {
	t.Helper()
	d := &device{key: keyOf(seed), down: make(chan []byte, 4000)}
	o := mqtt.NewClientOptions().AddBroker(u.String()).SetClientID(string(cabinet)).SetTLSConfig(conf).SetAutoReconnect(true).
		SetMaxReconnectInterval(100 * time.Millisecond).SetOnConnectHandler(func(c mqtt.Client) {
		c.Subscribe(protocol.Topic(cabinet, protocol.Down), 1, func(_ mqtt.Client, m mqtt.Message) { d.down <- m.Payload() })
	})
	d.client = mqtt.NewClient(o)
	token := d.client.Connect()
	require.True(t, token.WaitTimeout(10*time.Second))
	require.NoError(t, token.Error())
	t.Cleanup(func() { d.client.Disconnect(0) })
	require.Eventually(t, d.client.IsConnectionOpen, 30*time.Second, time.Millisecond)
	return d
}

func (d *device) seal(t *testing.T, id protocol.CabinetID, m protocol.Message) []byte {
	t.Helper()
	raw, err := protocol.Seal(protocol.KeyID(publicOf(d.key)), d.key, id, m)
	require.NoError(t, err)
	return raw
}

func (d *device) publish(topic string, payload []byte, retained bool) {
	d.client.Publish(topic, 1, retained, payload).WaitTimeout(time.Second)
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(30 * time.Second):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

func testHello() protocol.Hello {
	return protocol.Hello{Epoch: protocol.Epoch{1}, FirstSeq: 1, TailSeq: 1, BootID: protocol.BootID{1}, BootSeq: 1, Software: "test"}
}

func testLog() protocol.Log {
	return protocol.Log{Epoch: protocol.Epoch{1}, BootSeq: 1, FromSeq: 1, Records: [][]byte{{1, 2, 3}}}
}

func TestBothDirections(t *testing.T) {
	mq := newOpenBroker(t)
	b := newBackend(t, mq.url("tcp"), nil, nil)
	d := newDevice(t, mq.url("tcp"), 1, nil)
	b.listening(t, d)

	d.publish(protocol.Topic(cabinet, protocol.UpLog), d.seal(t, cabinet, testLog()), false)
	require.Equal(t, testLog(), receive(t, b.logs))
	d.publish(protocol.Topic(cabinet, protocol.UpRPC), d.seal(t, cabinet, testHello()), false)
	require.Equal(t, testHello().TailSeq, receive(t, b.calls).(protocol.Hello).TailSeq)
	d.publish(protocol.Topic(cabinet, protocol.UpTelemetry), d.seal(t, cabinet, protocol.Telemetry{BootID: protocol.BootID{1}, Software: "v1"}), false)
	require.Equal(t, "v1", receive(t, b.beats).Software)
	d.publish(protocol.Topic(cabinet, protocol.UpWill), d.seal(t, cabinet, protocol.Will{BootID: protocol.BootID{7}}), false)
	require.Equal(t, protocol.Will{BootID: protocol.BootID{7}}, receive(t, b.calls))

	list := protocol.KeyList{Version: 1, Keys: []protocol.Key{
		{KeyID: "g1", Use: protocol.UseGrant, PublicKey: publicOf(keyOf(11))},
		{KeyID: "s1", Use: protocol.UseService, PublicKey: publicOf(keyOf(12))},
	}}
	grant := protocol.Grant{
		SwapID: swapID, Kind: protocol.KindIssue, Nonce: protocol.Nonce{1}, BootID: protocol.BootID{1}, RiderRef: "00112233445566778899aabbccddeeff",
		Dispense: []protocol.Offer{{Slot: 1, BatterySerial: "B-1", Soc: 95}},
	}
	for _, m := range []protocol.Message{
		grant, protocol.Prepare{SwapID: swapID, Kind: protocol.KindSwap}, protocol.Cancel{SwapID: swapID},
		protocol.Wish{SwapID: swapID, What: protocol.WishRecheck}, protocol.LogAck{Epoch: protocol.Epoch{1}, UptoSeq: 1},
		protocol.HelloOK{Epoch: protocol.Epoch{1}, BootID: protocol.BootID{1}, Verdict: protocol.VerdictWait}, protocol.InventoryRequest{},
		protocol.HelloRequest{Challenge: protocol.Challenge{1}},
	} {
		require.True(t, b.Publish(cabinet, m))
		e, err := protocol.Open(receive(t, d.down), list.Lookup)
		require.NoError(t, err, m.MessageType())
		require.Equal(t, m.MessageType(), e.Type)
		require.Equal(t, map[bool]string{true: "g1", false: "s1"}[e.Type == protocol.TypeGrant], e.KeyID)
		require.Equal(t, 1, b.counts.of("out "+string(e.Type)+" ok"))
	}
	require.True(t, b.Publish(cabinet, protocol.Cancel{SwapID: "nonsense"}))
	require.Eventually(t, func() bool { return b.counts.of("out cancel invalid") == 1 }, 30*time.Second, time.Millisecond)
}

func TestWhatIsDropped(t *testing.T) {
	mq := newOpenBroker(t)
	b := newBackend(t, mq.url("tcp"), nil, nil)
	d := newDevice(t, mq.url("tcp"), 1, nil)
	b.listening(t, d)
	stranger := &device{client: d.client, key: keyOf(99)}
	rpc := protocol.Topic(cabinet, protocol.UpRPC)
	good := d.seal(t, cabinet, testHello())
	flipped := bytes.Replace(good, []byte(`"software":"test"`), []byte(`"software":"evil"`), 1)
	badField := d.seal(t, cabinet, testHello())
	line, _, _ := bytes.Cut(badField, []byte("\n"))
	var fields map[string]any
	require.NoError(t, json.Unmarshal(line, &fields))

	for _, c := range []struct {
		name, topic string
		payload     []byte
		retained    bool
		want        string
	}{
		{"not an envelope", rpc, []byte("hello"), false, "in unknown malformed"},
		{"empty", rpc, nil, false, "in unknown malformed"},
		{"a changed byte", rpc, flipped, false, "in unknown wrong_signature"},
		{"a stranger's key", rpc, stranger.seal(t, cabinet, testHello()), false, "in unknown unknown_key"},
		{"another cabinet's key", rpc, (&device{key: keyOf(2)}).seal(t, cabinet, testHello()), false, "in unknown unknown_key"},
		{"unknown cabinet", protocol.Topic("hb-9999", protocol.UpRPC), d.seal(t, "hb-9999", testHello()), false, "in unknown unknown_cabinet"},
		{"another cabinet's topic", protocol.Topic("hb-0002", protocol.UpRPC), good, false, "in unknown foreign_cabinet"},
		{"oversized", rpc, bytes.Repeat([]byte("x"), protocol.MaxEnvelope+1), false, "in unknown oversized"},
		{"of another channel", rpc, d.seal(t, cabinet, testLog()), false, "in unknown unexpected_type"},
		{"a command", protocol.Topic(cabinet, protocol.UpLog), d.seal(t, cabinet, protocol.Cancel{SwapID: swapID}), false, "in unknown unexpected_type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := b.counts.of(c.want)
			d.publish(c.topic, c.payload, c.retained)
			require.Eventually(t, func() bool { return b.counts.of(c.want) == before+1 }, 30*time.Second, time.Millisecond)
		})
	}
	require.Empty(t, b.calls)
	require.Empty(t, b.logs)
	require.Contains(t, b.log.String(), `"reason":"unknown_key"`)

	// The rest cannot come through this broker's subscriptions.
	b.receive("swap/v1/hb-0001/elsewhere", good, false)
	require.Equal(t, 1, b.counts.of("in unknown unexpected_topic"))
	b.receive(protocol.Topic(cabinet, protocol.Down), good, false)
	require.Equal(t, 2, b.counts.of("in unknown unexpected_topic"))
	b.receive(rpc, good, true)
	require.Equal(t, 1, b.counts.of("in unknown retained"))
}

func TestInvalidFieldIsNamed(t *testing.T) {
	mq := newOpenBroker(t)
	b := newBackend(t, mq.url("tcp"), nil, nil)
	d := newDevice(t, mq.url("tcp"), 1, nil)
	b.listening(t, d)
	// Signed by the right key, but with a field that no agent of ours sends.
	b.handle(t.Context(), message{cabinet, protocol.UpRPC, sealed(t, d.key, badHello{})})
	require.Equal(t, 1, b.counts.of("in hello invalid"))
	require.Contains(t, b.log.String(), "acked_seq is 9")
}

// badHello seals what a Hello would refuse to seal.
type badHello struct{}

func (badHello) MessageType() protocol.Type { return protocol.TypeHello }
func (badHello) Validate() error            { return nil }
func (badHello) MarshalJSON() ([]byte, error) {
	h := testHello()
	h.AckedSeq = 9
	return json.Marshal(h)
}

func sealed(t *testing.T, key ed25519.PrivateKey, m protocol.Message) []byte {
	t.Helper()
	return (&device{key: key}).seal(t, cabinet, m)
}

func TestFullQueueDropsAndCounts(t *testing.T) {
	u, err := url.Parse("tcp://127.0.0.1:1")
	require.NoError(t, err)
	b := &backend{ring: &Ring{}}
	b.Link, err = New(Options{
		URL: u, Ring: b.ring, Keys: Keys{Grant: keyOf(1), Service: keyOf(2)}, Count: b.counts.count,
		Changed: func(string, bool) {}, Log: slog.New(slog.NewJSONHandler(&b.log, nil)),
	})
	require.NoError(t, err)
	for range maxQueuedLogs + 7 {
		b.receive(protocol.Topic(cabinet, protocol.UpLog), []byte("x"), false)
	}
	require.Equal(t, 7, b.counts.of("in unknown queue_full"))
	require.Equal(t, 1, strings.Count(b.log.String(), "queue_full"), "one line, however many are dropped")
	require.False(t, b.Publish(cabinet, protocol.Cancel{SwapID: swapID}))
	require.Equal(t, 1, b.counts.of("out cancel not_connected"))

	b.receive(protocol.Topic(cabinet, protocol.UpRPC), make([]byte, protocol.MaxEnvelope+1), false)
	require.Empty(t, b.Link.calls, "what is too large is not even kept")

	b.handle(t.Context(), message{cabinet, protocol.UpLog, []byte("x")})
	require.Equal(t, 1, b.counts.of("in unknown keys_not_loaded"))
}

func TestBrokerAwayAtStartAndLater(t *testing.T) {
	mq := newOpenBroker(t)
	mq.stop()
	b := newBackend(t, mq.url("tcp"), nil, nil)
	require.Eventually(t, func() bool { return strings.Contains(b.log.String(), "no connection to the broker") }, 30*time.Second, time.Millisecond)
	require.False(t, b.Connected())
	for range 2 {
		mq.start()
		d := newDevice(t, mq.url("tcp"), 1, nil)
		b.listening(t, d)
		require.True(t, b.Publish(cabinet, protocol.Cancel{SwapID: swapID}))
		receive(t, d.down)
		d.client.Disconnect(0)
		mq.stop()
		require.Eventually(t, func() bool { return !b.CanPublish() }, 30*time.Second, time.Millisecond)
		require.False(t, b.Connected())
		require.False(t, b.Publish(cabinet, protocol.Cancel{SwapID: swapID}), "commands are not kept for later")
	}
}

func TestStopWhileABrokerSaysNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	b := newBackend(t, &url.URL{Scheme: "tcp", Host: l.Addr().String()}, nil, nil)
	for range 2 {
		defer receive(t, accepted).Close()
	}
	began := time.Now()
	stopLink(t, b.Link)
	require.Less(t, time.Since(began), connectTimeout/2)
}

func TestTwoReplicasShareAndOneLeaves(t *testing.T) {
	mq := newOpenBroker(t)
	d := newDevice(t, mq.url("tcp"), 1, nil)
	a := newBackend(t, mq.url("tcp"), nil, nil)
	a.listening(t, d)
	b := newBackend(t, mq.url("tcp"), nil, nil)
	require.Eventually(t, b.Connected, 30*time.Second, time.Millisecond)
	b.Accept(true)
	raw := d.seal(t, cabinet, testHello())
	rpc := protocol.Topic(cabinet, protocol.UpRPC)
	require.Eventually(t, func() bool { d.publish(rpc, raw, false); return len(b.calls) > 0 }, 30*time.Second, time.Millisecond)
	for range 20 {
		d.publish(rpc, raw, false)
	}
	require.Eventually(t, func() bool { return len(a.calls) >= 10 && len(b.calls) >= 10 }, 30*time.Second, time.Millisecond)
	d.publish(protocol.Topic(cabinet, protocol.UpTelemetry), d.seal(t, cabinet, protocol.Telemetry{BootID: protocol.BootID{1}}), false)
	receive(t, a.beats)
	receive(t, b.beats)

	allToA := func() bool {
		settled(a.calls)
		for range 20 {
			d.publish(rpc, raw, false)
		}
		return settled(a.calls) == 20
	}

	// A replica that cannot handle anything leaves its share to the other.
	b.Accept(false)
	require.Eventually(t, allToA, 30*time.Second, time.Millisecond)
	require.True(t, b.Connected())

	// So does one that is stopping, before it goes.
	b.Accept(true)
	settled(b.calls)
	require.Eventually(t, func() bool { d.publish(rpc, raw, false); return len(b.calls) > 0 }, 30*time.Second, time.Millisecond)
	b.Drain(t.Context())
	require.Eventually(t, allToA, 30*time.Second, time.Millisecond)
}

// settled empties a channel until nothing comes any more, and counts.
func settled(c <-chan any) int {
	for n := 0; ; n++ {
		select {
		case <-c:
		case <-time.After(200 * time.Millisecond):
			return n
		}
	}
}

// newSlowWire leads to a broker that reads slowly.
func newSlowWire(t *testing.T, broker *url.URL) *url.URL {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				up, err := net.Dial("tcp", broker.Host)
				if err != nil {
					return
				}
				defer up.Close()
				wg.Go(func() { _, _ = io.Copy(c, up) })  // ends with either side
				_ = c.(*net.TCPConn).SetReadBuffer(4096) // so that much stays in the sender's buffer
				buf := make([]byte, 4096)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					<-time.After(5 * time.Millisecond)
					if _, err := up.Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	return &url.URL{Scheme: "tcp", Host: l.Addr().String()}
}

func TestStopLosesNothingAtASlowBroker(t *testing.T) {
	mq := newOpenBroker(t)
	d := newDevice(t, mq.url("tcp"), 1, nil)
	b := newBackend(t, newSlowWire(t, mq.url("tcp")), nil, nil)
	require.Eventually(t, b.Connected, 30*time.Second, time.Millisecond)
	for range 400 {
		require.True(t, b.Publish(cabinet, protocol.Cancel{SwapID: swapID}))
	}
	stopLink(t, b.Link)
	for range 400 {
		receive(t, d.down)
	}
}

func TestDrainHandlesWhatCameAndStopSendsWhatIsQueued(t *testing.T) {
	mq := newOpenBroker(t)
	d := newDevice(t, mq.url("tcp"), 1, nil)
	b := newBackend(t, mq.url("tcp"), nil, nil)
	b.listening(t, d)
	for range 50 {
		b.receive(protocol.Topic(cabinet, protocol.UpLog), d.seal(t, cabinet, testLog()), false)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	b.Drain(ctx)
	require.Len(t, b.logs, 50)
	for range 50 {
		require.True(t, b.Publish(cabinet, protocol.Cancel{SwapID: swapID}))
	}
	b.Stop(ctx)
	for range 50 {
		receive(t, d.down)
	}
	b.Stop(ctx) // twice is fine
}

func TestPackagedBroker(t *testing.T) {
	ca := newAuthority(t)
	ca.issue("broker")
	mq := newBroker(t, packaged(t, ca))
	b := newBackend(t, mq.url("ssl"), ca.issue("backend-1"), ca.issue("backend-1-telemetry"))
	own := ca.issue(string(cabinet))
	d := newDevice(t, mq.url("ssl"), 1, own)
	b.listening(t, d)
	d.publish(protocol.Topic(cabinet, protocol.UpTelemetry), d.seal(t, cabinet, protocol.Telemetry{BootID: protocol.BootID{1}}), false)
	receive(t, b.beats)
	require.True(t, b.Publish(cabinet, protocol.Cancel{SwapID: swapID}))
	receive(t, d.down)

	// One cabinet cannot speak as another, nor to itself as the backend.
	d.publish(protocol.Topic("hb-0002", protocol.UpRPC), (&device{key: keyOf(2)}).seal(t, "hb-0002", testHello()), false)
	d.publish(protocol.Topic(cabinet, protocol.Down), []byte("open"), false)
	d.publish(protocol.Topic(cabinet, protocol.UpRPC), d.seal(t, cabinet, testHello()), false)
	require.IsType(t, protocol.Hello{}, receive(t, b.calls))
	require.Empty(t, b.calls)
	require.Empty(t, d.down)
	require.Zero(t, b.counts.of("in unknown unknown_key"))

	// Without a certificate, with a revoked one, or with an older TLS: nothing.
	none := own.Clone()
	none.Certificates = nil
	old := own.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, conf := range map[string]*tls.Config{"no certificate": none, "TLS 1.2": old} {
		token := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(mq.url("ssl").String()).SetTLSConfig(conf)).Connect()
		require.True(t, token.WaitTimeout(20*time.Second))
		require.Error(t, token.Error(), name)
	}
	revoked := ca.issue("hb-0003")
	ca.revoke(big.NewInt(ca.n))
	mq.stop()
	mq.start()
	token := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(mq.url("ssl").String()).SetTLSConfig(revoked)).Connect()
	require.True(t, token.WaitTimeout(20*time.Second))
	require.Error(t, token.Error())
	require.Eventually(t, b.Connected, 20*time.Second, 10*time.Millisecond, "the backend comes back by itself")
}

// denyAll is a broker's rule that lets clients connect and nothing else.
type denyAll struct{ mochi.HookBase }

func (denyAll) ID() string { return "deny" }

func (denyAll) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}

func (denyAll) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

func (denyAll) OnACLCheck(*mochi.Client, string, bool) bool { return false }

func TestProbe(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	mq := newOpenBroker(t)
	require.NoError(t, Probe(ctx, mq.url("tcp"), nil))
	mq.stop()
	require.ErrorContains(t, Probe(ctx, mq.url("tcp"), nil), "connection refused")

	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, server.AddHook(new(denyAll), nil))
	require.NoError(t, server.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: mq.address()})))
	require.NoError(t, server.Serve())
	defer server.Close()
	require.ErrorContains(t, Probe(ctx, mq.url("tcp"), nil), "the broker refuses swap/v1/+/up/telemetry: see its ACL")
}

func TestNewRefuses(t *testing.T) {
	for u, want := range map[string]string{
		"http://b:1": "want tcp or ssl", "tcp://b": "want a port", "ssl://b:8883": "needs a CA",
	} {
		parsed, err := url.Parse(u)
		require.NoError(t, err)
		_, err = New(Options{
			URL: parsed, Ring: &Ring{}, Keys: Keys{Grant: keyOf(1), Service: keyOf(2)}, Count: func(string, string, string) {},
			Changed: func(string, bool) {}, Log: slog.Default(),
		})
		require.ErrorContains(t, err, want)
	}
}

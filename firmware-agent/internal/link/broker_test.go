package link

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
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

	"batteryswap/protocol"
)

// patience bounds every wait of these tests, which run in real time.
const patience = 15 * time.Second

// broker is a real MQTT broker that plays the backend's side too.
type broker struct {
	t      *testing.T
	addr   string
	config *tls.Config
	server *mochi.Server
	mu     sync.Mutex
	got    []protocol.Type
	wills  int
}

func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// serve starts the broker; handle answers what a cabinet says.
func (b *broker) serve(handle func(e protocol.Envelope)) {
	s := mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(b.t, s.AddHook(new(auth.AllowHook), nil))
	require.NoError(b.t, s.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: b.addr, TLSConfig: b.config})))
	require.NoError(b.t, s.Serve())
	b.server = s
	device := public(newKey(1))
	require.NoError(b.t, s.Subscribe("swap/v1/+/up/#", 1, func(_ *mochi.Client, _ packets.Subscription, pk packets.Packet) {
		e, err := protocol.Open(pk.Payload, func(string, protocol.Type, protocol.CabinetID) (ed25519.PublicKey, bool) {
			return device, true
		})
		b.mu.Lock()
		defer b.mu.Unlock()
		if err != nil {
			b.t.Errorf("the link sends %v", err)
			return
		}
		if strings.HasSuffix(pk.TopicName, "/will") {
			b.wills++
		}
		b.got = append(b.got, e.Type)
		handle(e)
	}))
}

func (b *broker) stop() { require.NoError(b.t, b.server.Close()) }

// down publishes to the cabinet.
func (b *broker) down(raw []byte, retain bool) {
	require.NoError(b.t, b.server.Publish(protocol.Topic(cabinet, protocol.Down), raw, retain, 1))
}

func (b *broker) saw(t protocol.Type) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, g := range b.got {
		if g == t {
			n++
		}
	}
	return n
}

// backend answers hello and log as the backend does.
func (b *broker) backend(r *rig) func(protocol.Envelope) {
	return func(e protocol.Envelope) {
		switch e.Type {
		case protocol.TypeHello:
			b.down(r.seal(r.welcome(protocol.VerdictResume, r.j.acked+1)), false)
		case protocol.TypeLog:
			var m protocol.Log
			if err := protocol.Decode(e, &m); err != nil {
				b.t.Error(err)
				return
			}
			b.down(r.seal(r.ack(m.FromSeq+uint64(len(m.Records))-1)), false)
		}
	}
}

// newLink makes a rig whose link talks to the broker for real.
func (b *broker) newLink() *rig {
	r := newRig(b.t, newMemory(40, 10))
	scheme := "tcp"
	if b.config != nil {
		scheme = "ssl"
	}
	r.opt.Broker = Broker{URL: scheme + "://" + b.addr, Time: time.Now}
	return r
}

func (r *rig) count(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counted[what]
}

func (r *rig) ackedIs(n uint64) func() bool {
	return func() bool {
		r.j.mu.Lock()
		defer r.j.mu.Unlock()
		return r.j.acked == n
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 5*time.Millisecond, what)
}

// noLeak demands that no goroutine of the link or its client is left.
func noLeak(t *testing.T) {
	t.Helper()
	mine := func() string {
		buf := make([]byte, 1<<20)
		var left []string
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "paho") || strings.Contains(g, "internal/link.(*Link)") {
				left = append(left, g)
			}
		}
		return strings.Join(left, "\n\n")
	}
	require.Eventually(t, func() bool { return mine() == "" }, 30*time.Second, 5*time.Millisecond, "goroutines are left")
}

func TestBrokerDownAtStartAndLater(t *testing.T) {
	b := &broker{t: t, addr: freeAddr(t)}
	r := b.newLink()
	l, err := New(r.opt)
	require.NoError(t, err)
	l.Start()
	b.serve(b.backend(r))
	eventually(t, "the log is shipped", r.ackedIs(40))
	require.True(t, l.Send(protocol.InventoryReport{}))
	eventually(t, "a message is sent", func() bool { return b.saw(protocol.TypeInventory) == 1 })

	b.stop()
	eventually(t, "the loss is seen", func() bool { return !l.Send(protocol.InventoryReport{}) })
	r.j.append(10, 10)
	l.Appended()
	b.serve(b.backend(r))
	eventually(t, "the rest is shipped", r.ackedIs(50))

	b.mu.Lock()
	wills := b.wills // of the connection that the broker ended
	b.mu.Unlock()
	began := time.Now()
	l.Stop()
	require.Less(t, time.Since(began), 3*time.Second)
	noLeak(t)
	b.stop()
	require.Equal(t, wills, b.wills, "who says goodbye has no will")
}

func TestStopWhileTheBrokerIsAway(t *testing.T) {
	// Nobody listens; somebody listens and says nothing.
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer mute.Close()
	for _, addr := range []string{freeAddr(t), mute.Addr().String()} {
		b := &broker{t: t, addr: addr}
		l, err := New(b.newLink().opt)
		require.NoError(t, err)
		l.Start()
		if addr == mute.Addr().String() {
			conn, err := mute.Accept()
			require.NoError(t, err)
			defer conn.Close()
		}
		began := time.Now()
		l.Stop()
		require.Less(t, time.Since(began), 5*time.Second)
		noLeak(t)
	}
}

func TestHostileBroker(t *testing.T) {
	b := &broker{t: t, addr: freeAddr(t)}
	r := b.newLink()
	b.serve(b.backend(r))
	defer b.stop()
	id := protocol.SwapID("01920000-0000-7000-8000-000000000001")
	cancel := r.seal(protocol.Cancel{SwapID: id})
	b.down(cancel, true) // kept from before
	l, err := New(r.opt)
	require.NoError(t, err)
	l.Start()
	defer l.Stop()
	eventually(t, "the log is shipped", r.ackedIs(40))
	eventually(t, "a retained message is refused", func() bool { return r.count("in unknown retained") == 1 })

	b.down(make([]byte, protocol.MaxEnvelope+1), false)
	b.down([]byte("open"), false)
	b.down(cancel, false)
	eventually(t, "an oversized one is refused", func() bool { return r.count("in unknown oversized") == 1 })
	eventually(t, "a malformed one is refused", func() bool { return r.count("in unknown malformed") == 1 })
	eventually(t, "a true one is delivered", func() bool { return r.count("in cancel ok") == 1 })

	// A packet that would fill the memory ends the connection, and the next one
	// works.
	hellos := b.saw(protocol.TypeHello)
	b.down(make([]byte, 1<<20), false)
	eventually(t, "the link connects anew", func() bool { return b.saw(protocol.TypeHello) == hellos+1 })
	b.down(cancel, false)
	eventually(t, "and works", func() bool { return r.count("in cancel ok") == 2 })

	// The broker sends what nobody has subscribed to.
	for _, c := range b.server.Clients.GetAll() {
		if c.ID == string(cabinet) {
			require.NoError(t, c.WritePacket(packets.Packet{
				FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 0},
				TopicName:   protocol.Topic("hb-0002", protocol.Down), Payload: cancel,
			}))
		}
	}
	eventually(t, "an unexpected topic is refused", func() bool { return r.count("in unknown foreign") == 1 })
	require.Equal(t, 2, r.count("in cancel ok"))
}

func TestABrokerThatConfirmsNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	var connections sync.WaitGroup
	accepted := make(chan struct{}, 10)
	connections.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- struct{}{}
			connections.Go(func() { serveWithoutConfirming(conn) })
		}
	})
	b := &broker{t: t, addr: listener.Addr().String()}
	r := b.newLink()
	l, err := New(r.opt)
	require.NoError(t, err)
	l.Start()
	<-accepted
	eventually(t, "it is left for a new connection", func() bool {
		l.Send(protocol.InventoryReport{})
		return len(accepted) > 0
	})
	require.LessOrEqual(t, r.count("out inventory ok"), maxUnconfirmed)
	l.Stop()
	require.NoError(t, listener.Close())
	connections.Wait()
	noLeak(t)
}

// serveWithoutConfirming answers CONNECT and SUBSCRIBE, and nothing else.
func serveWithoutConfirming(conn net.Conn) {
	defer conn.Close()
	for {
		pk := make([]byte, 5)
		if _, err := io.ReadFull(conn, pk[:2]); err != nil {
			return
		}
		size, shift := int(pk[1]&0x7f), 7
		for pk[1]&0x80 != 0 {
			if _, err := io.ReadFull(conn, pk[1:2]); err != nil {
				return
			}
			size |= int(pk[1]&0x7f) << shift
			shift += 7
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		var reply []byte
		switch pk[0] >> 4 {
		case 1:
			reply = []byte{0x20, 2, 0, 0}
		case 8:
			reply = []byte{0x90, 3, body[0], body[1], 1}
		}
		if _, err := conn.Write(reply); err != nil {
			return
		}
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t)
	b := &broker{t: t, addr: freeAddr(t)}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	serverCert, serverKey := ca.issue(t, dir, "server")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	require.NoError(t, err)
	b.config = &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13,
	}
	r := b.newLink()
	b.serve(b.backend(r))
	defer b.stop()
	good := r.opt.Broker
	good.CAFile = filepath.Join(dir, "ca.pem")
	writePEM(t, good.CAFile, "CERTIFICATE", ca.cert.Raw)
	good.CertFile, good.KeyFile = ca.issue(t, dir, string(cabinet))

	stranger := newAuthority(t)
	strangeCert, strangeKey := stranger.issue(t, dir, "stranger")
	strangeCA := filepath.Join(dir, "strange-ca.pem")
	writePEM(t, strangeCA, "CERTIFICATE", stranger.cert.Raw)
	for what, spoil := range map[string]func(*Broker){
		"certificate signed by unknown authority": func(b *Broker) { b.CAFile = strangeCA },
		"has expired":                   func(b *Broker) { b.Time = func() time.Time { return time.Now().Add(48 * time.Hour) } },
		"connect to":                    func(b *Broker) { b.CertFile, b.KeyFile = strangeCert, strangeKey },
		"no such file":                  func(b *Broker) { b.CAFile = "/no/ca.pem" },
		"connect to ssl://127.0.0.1:1:": func(b *Broker) { b.URL = "ssl://127.0.0.1:1" },
		"want certificates in PEM":      func(b *Broker) { b.CAFile = good.KeyFile },
	} {
		opt := r.opt
		opt.Broker = good
		spoil(&opt.Broker)
		_, err := dial(t.Context(), opt, []byte("will"), func(inbound) {})
		require.ErrorContains(t, err, what)
	}
	r.opt.Broker = good
	l, err := New(r.opt)
	require.NoError(t, err)
	l.Start()
	eventually(t, "the log is shipped", r.ackedIs(40))
	l.Stop()
	noLeak(t)
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
}

func newAuthority(t *testing.T) authority {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, template("ca"), template("ca"), pub, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return authority{cert, key}
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: name == "ca", BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
}

func (a authority) issue(t *testing.T, dir, name string) (certFile, keyFile string) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, template(name), a.cert, pub, a.key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", keyDER)
	return certFile, keyFile
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func TestGuardFollowsPackets(t *testing.T) {
	packet := func(size int) []byte {
		b := []byte{0x30}
		for n := size; ; {
			if n >>= 7; n == 0 {
				b = append(b, byte(size&0x7f))
				break
			}
			b = append(b, byte(size&0x7f)|0x80)
			size = n
		}
		return b
	}
	stream := []byte{0xd0, 0} // PINGRESP
	for _, size := range []int{1, 127, 128, 16383, 16384, maxPacket} {
		stream = append(append(stream, packet(size)...), make([]byte, size)...)
		stream = append(stream, 0xd0, 0)
	}
	for _, chunk := range []int{1, 2, 3, 7, 1000, len(stream)} {
		var c guardedConn
		for at := 0; at < len(stream); at += chunk {
			require.True(t, c.pass(stream[at:min(at+chunk, len(stream))]), "chunks of %d at %d", chunk, at)
		}
		require.Zero(t, c.left+c.digit)
		require.False(t, c.pass(packet(maxPacket+1)), "chunks of %d", chunk)
	}
	var c guardedConn
	require.False(t, c.pass([]byte{0x30, 0x80, 0x80, 0x80, 0x80, 0x80}), "a length of five digits")
}

package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/postgres/pgtest"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

const testCode = "letmein"

// mosquitto is a real broker that can go away and come back on its port.
type mosquitto struct {
	t    testing.TB
	conf string
	port int
	cmd  *exec.Cmd
}

func newMosquitto(t testing.TB) *mosquitto {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m := &mosquitto{t: t, conf: filepath.Join(t.TempDir(), "mosquitto.conf"), port: l.Addr().(*net.TCPAddr).Port}
	require.NoError(t, l.Close())
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\nretain_available false\n"+
		"max_queued_messages 100000\nmax_inflight_messages 0\nmessage_size_limit 65536\nset_tcp_nodelay true\n", m.port)
	if os.Getuid() == 0 {
		conf += "user root\n"
	}
	require.NoError(t, os.WriteFile(m.conf, []byte(conf), 0o600))
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *mosquitto) start() {
	m.t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // not on every user's path
	}
	m.cmd = exec.Command(path, "-c", m.conf)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(m.t, m.cmd.Start(), "install mosquitto: apt-get install mosquitto")
	require.Eventually(m.t, func() bool {
		c, err := net.Dial("tcp", m.url().Host)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
}

func (m *mosquitto) stop() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait() // killed: the error says so
		m.cmd = nil
	}
}

func (m *mosquitto) url() *url.URL {
	return &url.URL{Scheme: "tcp", Host: fmt.Sprintf("127.0.0.1:%d", m.port)}
}

// wire is a connection to the database that can be cut and mended.
type wire struct {
	to    string
	l     net.Listener
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// newWire returns the wire and the database URL that leads through it.
func newWire(t testing.TB, database string) (*wire, string) {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	w := &wire{to: u.Host, conns: map[net.Conn]bool{}}
	if host := u.Query().Get("host"); host != "" { // a socket's folder
		w.to = filepath.Join(host, ".s.PGSQL."+map[bool]string{true: "5432", false: u.Query().Get("port")}[u.Query().Get("port") == ""])
	}
	w.l, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		w.l.Close()
		w.set(true)
		w.wg.Wait()
	})
	u.Host = w.l.Addr().String()
	q := u.Query()
	q.Del("host")
	q.Del("port")
	u.RawQuery = q.Encode()
	return w, u.String()
}

func (w *wire) accept() {
	for {
		c, err := w.l.Accept()
		if err != nil {
			return
		}
		w.wg.Go(func() { w.carry(c) })
	}
}

func (w *wire) carry(c net.Conn) {
	defer c.Close()
	network := "tcp"
	if strings.HasPrefix(w.to, "/") {
		network = "unix"
	}
	db, err := net.Dial(network, w.to)
	if err != nil {
		return
	}
	defer db.Close()
	w.mu.Lock()
	cut := w.cut
	w.conns[c], w.conns[db] = true, true
	w.mu.Unlock()
	if cut {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(db, c) // ends when either side is cut
		db.Close()
	}()
	_, _ = io.Copy(c, db) // ends when either side is cut
	c.Close()
	<-done
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
	delete(w.conns, db)
}

func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if cut {
		for c := range w.conns {
			c.Close()
		}
	}
}

// town is everything around the backends of a test.
type town struct {
	t        testing.TB
	broker   *mosquitto
	database string
	keys     Keys
	store    *postgres.Store // staff's own connection
}

func newTown(t testing.TB) *town {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, InitKeys(dir))
	keys, err := LoadKeys(dir)
	require.NoError(t, err)
	w := &town{t: t, broker: newMosquitto(t), database: pgtest.New(t), keys: keys}
	w.store, err = postgres.Open(t.Context(), w.database, postgres.Options{Seal: keys.Seal(), Vault: keys.Vault()})
	require.NoError(t, err)
	t.Cleanup(w.store.Close)
	return w
}

// journal is a log that can be read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// replica is one backend.
type replica struct {
	*Fleet
	t   testing.TB
	log *journal
}

// start starts a backend and does not wait until it is ready.
func (w *town) start(change ...func(*Options)) *replica {
	w.t.Helper()
	r := &replica{t: w.t, log: &journal{}}
	o := Options{
		DatabaseURL: w.database, BrokerURL: w.broker.url(), Keys: w.keys, Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0",
		RiderCode: testCode, Version: "test", Log: slog.New(slog.NewJSONHandler(r.log, nil)),
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	r.Fleet, err = New(o)
	require.NoError(w.t, err)
	require.NoError(w.t, r.Start(w.t.Context()))
	w.t.Cleanup(func() {
		r.halt()
		if w.t.Failed() {
			w.t.Log(r.log.String())
		}
	})
	return r
}

func (r *replica) halt() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r.Stop(ctx)
}

// ready waits until the backend is ready.
func (r *replica) ready() *replica {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.status("/readyz") == 200 }, 30*time.Second, 20*time.Millisecond, "%s", r.log)
	return r
}

func (r *replica) status(path string) int {
	resp, err := http.Get("http://" + r.Address() + path)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// metric is the value of a series, 0 when it is absent.
func (r *replica) metric(series string) string {
	resp, err := http.Get("http://" + r.MetricsAddress() + "/metrics")
	require.NoError(r.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// cabinet enrols and connects a scripted agent with one charged battery.
func (w *town) cabinet(id protocol.CabinetID) *agent {
	w.t.Helper()
	a := newAgent(w.t, id, w.keys.List.Lookup)
	require.NoError(w.t, w.store.EnrolCabinet(w.t.Context(), postgres.Enrolment{
		CabinetID: id, DeviceKey: a.public(), Slots: 12, Station: "Hubin", Street: "Wensan Road",
	}))
	w.battery(serialAt(id, 7), swap.Place{CabinetID: id, Slot: 7})
	a.connect(w.broker.url())
	return a
}

func (w *town) battery(serial protocol.BatterySerial, at swap.Place) {
	w.t.Helper()
	_, err := w.store.ImportBatteries(w.t.Context(), []postgres.Battery{{BatterySerial: serial, Type: "60V20Ah"}})
	require.NoError(w.t, err)
	require.NoError(w.t, w.store.AssignBattery(w.t.Context(), serial, at))
}

// handset is that of a rider who is signed in everywhere.
type handset struct {
	t     testing.TB
	id    swap.RiderID
	token string
	keys  int
}

// rider adds a rider with a battery, and signs in.
func (w *town) rider(at *replica, name string) *handset {
	w.t.Helper()
	id, err := w.store.AddRider(w.t.Context(), postgres.NewRider{Name: name})
	require.NoError(w.t, err)
	w.battery(protocol.BatterySerial("R-"+name), swap.Place{RiderID: id})
	p := &handset{t: w.t, id: id}
	var s struct{ Token string }
	p.do(at, "POST", "/api/v1/sessions", map[string]any{"rider_id": id, "code": testCode}, 201, &s)
	p.token = s.Token
	return p
}

// answer is what the API says: a swap or a problem.
type answer struct {
	SwapID    protocol.SwapID    `json:"swap_id"`
	CabinetID protocol.CabinetID `json:"cabinet_id"`
	Kind      protocol.Kind
	State     swap.State
	Step      swap.Step
	Slot      int
	Outcome   protocol.Outcome
	Reason    protocol.Reason
	Reachable bool
	Status    int

	SwapsThisMonth int                      `json:"swaps_this_month"`
	SwapsTotal     int                      `json:"swaps_total"`
	OpenCredits    int                      `json:"open_credits"`
	Batteries      []protocol.BatterySerial `json:"batteries"`
}

func (p *handset) do(at *replica, method, path string, body any, want int, into any) {
	p.t.Helper()
	status, b := p.ask(at, method, path, body)
	require.Equal(p.t, want, status, "%s", b)
	require.NoError(p.t, json.Unmarshal(b, into), "%s", b)
}

func (p *handset) ask(at *replica, method, path string, body any) (int, []byte) {
	p.t.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		require.NoError(p.t, err)
		in = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+at.Address()+path, in)
	require.NoError(p.t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+p.token)
	p.keys++
	r.Header.Set("Idempotency-Key", fmt.Sprintf("%s-%d", p.id, p.keys))
	resp, err := http.DefaultClient.Do(r)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return resp.StatusCode, b
}

func (p *handset) scan(at *replica, cabinet protocol.CabinetID, want int) answer {
	p.t.Helper()
	var a answer
	p.do(at, "POST", "/api/v1/swaps", map[string]any{"cabinet_id": cabinet}, want, &a)
	return a
}

func (p *handset) swap(at *replica, id protocol.SwapID) answer {
	p.t.Helper()
	var a answer
	p.do(at, "GET", "/api/v1/swaps/"+string(id), nil, 200, &a)
	return a
}

func (p *handset) me(at *replica) answer {
	p.t.Helper()
	var a answer
	p.do(at, "GET", "/api/v1/riders/me", nil, 200, &a)
	return a
}

// audited demands books that agree with themselves.
func (w *town) audited() postgres.Report {
	w.t.Helper()
	report, err := w.store.Audit(w.t.Context())
	require.NoError(w.t, err)
	require.Empty(w.t, report.Differences)
	return report
}

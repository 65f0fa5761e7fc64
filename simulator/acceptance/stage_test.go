package acceptance

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
	"batteryswap/simulator/board"
	"batteryswap/simulator/process"
	"batteryswap/simulator/pty"
	"batteryswap/simulator/rider"
	"batteryswap/simulator/world"
)

// How long a test waits for what should take a moment.
const patience = 60 * time.Second

// riderCode is what riders sign in with.
const riderCode = "246810"

// stage is a whole fleet on this machine: real servers, real programs, and a
// world in place of the hardware.
type stage struct {
	t     testing.TB
	dir   string
	tools process.Tools
	world *world.World
	began time.Time

	database, broker     *process.Program
	databaseURL, mqttURL string
	tls                  *authority // nil: the broker lets anybody in
	replicas             []*replica
	cabinets             []*cabinet
	street               string // of cabinets that are enrolled; "": Test street
	batteries, riders    int
}

// number is the phone of the n-th rider, from 1. No network has numbers of 154.
func (s *stage) number(n int) string { return fmt.Sprintf("154%08d", n) }

// replica is one running `backend serve`.
type replica struct {
	*process.Program
	url, metrics string
}

// cabinet is one simulated cabinet with its agent.
type cabinet struct {
	*process.Program
	stage        *stage
	id           string
	dir          string
	slots        int
	baud         int
	thinking     string    // what a board may take to answer, "" for what real ones take
	port         *pty.Port // nil: the test brings its own
	device       string    // what the agent opens
	metrics      string
	screen       string // its own page
	stopBoards   func()
	extraConfig  string
	deviceKeyPub string
}

// newStage starts a database and a broker and makes tables and keys. With
// secure, the broker wants certificates, for up to two replicas.
func newStage(t testing.TB, secure bool) *stage {
	t.Helper()
	s := bareStage(t, programs(t))
	dir := s.dir
	var err error
	s.database, s.databaseURL, err = process.StartPostgres(t.Context(), filepath.Join(dir, "database"), filepath.Join(dir, "postgres.log"))
	require.NoError(t, err)
	t.Cleanup(s.database.Stop)
	config, scheme := "", "tcp://"
	if secure {
		s.tls = newAuthority(t, dir)
		config, scheme = s.tls.brokerConfig(2), "ssl://"
	}
	var address string
	s.broker, address, err = process.StartMosquitto(t.Context(), dir, config)
	require.NoError(t, err)
	t.Cleanup(s.broker.Stop)
	s.mqttURL = scheme + address
	s.tools.Env = []string{"DATABASE_URL=" + s.databaseURL, "MQTT_URL=" + s.mqttURL, "SWAP_KEY_DIR=" + s.keys()}
	s.run("backend", "migrate")
	return s
}

// bareStage has keys, and neither a database nor a broker: nothing answers where
// agents look for one.
func bareStage(t testing.TB, bin string) *stage {
	t.Helper()
	// A test's own folder is closed to the user that runs the database.
	dir, err := os.MkdirTemp("", "swapstage")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711)) //nolint:gosec // the database's user must get through
	s := &stage{
		t: t, dir: dir, tools: process.Tools{Dir: bin}, began: time.Now(), world: world.New(rand.New(rand.NewPCG(1, 2)), 1),
		mqttURL: "tcp://127.0.0.1:1",
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	t.Cleanup(s.tellLogs)
	s.run("backend", "keys", "init", "--dir", s.keys())
	return s
}

// testPhone stands for what must never reach a log: a rider's phone number.
const testPhone = "13800138000"

// phoneNumber is any mobile phone's of China, standing alone.
var phoneNumber = regexp.MustCompile(`\b1[3-9][0-9]{9}\b`)

// tellLogs prints the ends of all logs of a test that failed, and fails one
// whose programs raced, or wrote a phone number down (T21).
func (s *stage) tellLogs() {
	logs, _ := filepath.Glob(filepath.Join(s.dir, "*.log"))
	more, _ := filepath.Glob(filepath.Join(s.dir, "*", "*.log"))
	for _, name := range append(logs, more...) {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if strings.Contains(string(b), "DATA RACE") {
			s.t.Errorf("data race in %s:\n%s", filepath.Base(name), b)
		}
		if found := phoneNumber.Find(b); found != nil {
			s.t.Errorf("a phone number in %s: %s", filepath.Base(name), found)
		}
		if s.t.Failed() {
			s.t.Logf("%s:\n%s", filepath.Base(name), process.Tail(name))
		}
	}
}

func (s *stage) now() time.Duration { return time.Since(s.began) }
func (s *stage) keys() string       { return filepath.Join(s.dir, "keys") }

// keyList are the backend's keys, as cabinets know them.
func (s *stage) keyList() protocol.KeyList {
	s.t.Helper()
	signed, err := os.ReadFile(filepath.Join(s.keys(), "keys.json"))
	require.NoError(s.t, err)
	root, err := os.ReadFile(filepath.Join(s.keys(), "root.pub"))
	require.NoError(s.t, err)
	pub, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(root)))
	require.NoError(s.t, err)
	list, err := protocol.OpenKeyList(signed, pub)
	require.NoError(s.t, err)
	return list
}

// run runs a program that must succeed.
func (s *stage) run(name string, args ...string) string {
	s.t.Helper()
	return s.feed("", name, args...)
}

func (s *stage) feed(input, name string, args ...string) string {
	s.t.Helper()
	out, err := s.tools.Run(s.t.Context(), input, name, args...)
	require.NoError(s.t, err, "%s", out)
	return out
}

// until waits for a condition of the real system.
func (s *stage) until(what string, is func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	require.NoError(s.t, process.Until(ctx, 50*time.Millisecond, what, func() (bool, error) {
		for _, r := range s.replicas {
			if err := r.Alone(); err != nil {
				return false, err
			}
		}
		return is(), nil
	}))
}

// startReplica starts one more `backend serve`.
func (s *stage) startReplica() *replica {
	s.t.Helper()
	r := s.newReplica()
	require.NoError(s.t, r.Start())
	s.t.Cleanup(r.Stop)
	s.replicas = append(s.replicas, r)
	s.until("the backend is not ready", func() bool { return r.status("/readyz") == http.StatusOK })
	return r
}

// newReplica says how one more `backend serve` is started.
func (s *stage) newReplica() *replica {
	s.t.Helper()
	listen, err := process.FreeAddress("127.0.0.1")
	require.NoError(s.t, err)
	metrics, err := process.FreeAddress("127.0.0.1")
	require.NoError(s.t, err)
	name := fmt.Sprintf("backend-%d", len(s.replicas)+1)
	r := &replica{url: "http://" + listen, metrics: "http://" + metrics + "/metrics", Program: &process.Program{
		Name: name, Path: s.tools.Path("backend"), Env: s.tools.Env, Log: filepath.Join(s.dir, name+".log"),
		Args: []string{"serve", "--key-dir", s.keys(), "--listen", listen, "--metrics-listen", metrics, "--rider-code", riderCode},
	}}
	if s.tls != nil {
		r.Args = append(r.Args, "--mqtt-ca-file", s.tls.path("ca.crt"),
			"--mqtt-cert-file", s.tls.path(name+".crt"), "--mqtt-key-file", s.tls.path(name+".key"),
			"--mqtt-telemetry-cert-file", s.tls.path(name+"-telemetry.crt"), "--mqtt-telemetry-key-file", s.tls.path(name+"-telemetry.key"))
	}
	return r
}

// status is what a GET answers, 0 when nothing does.
func (r *replica) status(path string) int {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(r.url + path)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// newCabinet enrols a cabinet whose first slots are empty and whose last
// `charged` slots hold charged batteries. Its agent is not started.
func (s *stage) newCabinet(slots, charged int) *cabinet {
	s.t.Helper()
	c := s.enrol(fmt.Sprintf("hb-%04d", len(s.cabinets)+1), slots)
	c.build()
	for n := range charged {
		serial := s.newBattery()
		slot := slots - n
		require.NoError(s.t, s.world.PutInSlot(c.id, slot, world.Battery{Serial: serial, SocPermille: 960}))
		s.run("backend", "battery", "assign", serial, "--cabinet", c.id, "--slot", fmt.Sprint(slot))
	}
	return c
}

// build puts the cabinet up in the world, with its serial line.
func (c *cabinet) build() {
	s := c.stage
	s.t.Helper()
	require.NoError(s.t, s.world.AddCabinet(c.id, c.slots))
	c.device = filepath.Join(c.dir, "usb")
	var err error
	c.port, err = pty.Open(c.device)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = c.port.Close() })
}

// enrol makes a cabinet's key and tells the backend of it.
func (s *stage) enrol(id string, slots int) *cabinet {
	s.t.Helper()
	c := s.prepareAgent(id, slots)
	s.run("backend", "cabinet", "enrol", "--id", id, "--device-key", c.deviceKeyPub, "--slots", fmt.Sprint(slots),
		"--station", "Test station", "--street", cmp.Or(s.street, "Test street"))
	return c
}

// prepareAgent makes a cabinet's key, and says how its agent is started.
func (s *stage) prepareAgent(id string, slots int) *cabinet {
	s.t.Helper()
	c := &cabinet{stage: s, id: id, slots: slots, baud: 115200, dir: filepath.Join(s.dir, id)}
	require.NoError(s.t, os.Mkdir(c.dir, 0o700))
	var key struct {
		PublicKey string `json:"public_key"`
	}
	require.NoError(s.t, json.Unmarshal([]byte(s.run("firmware-agent", "keygen", "--out", c.keyFile())), &key))
	c.deviceKeyPub = key.PublicKey
	address, err := process.FreeAddress("127.0.0.1")
	require.NoError(s.t, err)
	c.metrics = "http://" + address + "/metrics"
	address, err = process.FreeAddress("127.0.0.1")
	require.NoError(s.t, err)
	c.screen = "http://" + address
	c.Program = &process.Program{
		Name: "firmware-agent " + id, Path: s.tools.Path("firmware-agent"), Log: filepath.Join(c.dir, "agent.log"),
		Args: []string{"run", "--config", filepath.Join(c.dir, "agent.yaml")},
	}
	if s.tls != nil {
		s.tls.issue(id)
	}
	s.t.Cleanup(c.Stop)
	s.cabinets = append(s.cabinets, c)
	return c
}

func (c *cabinet) keyFile() string { return filepath.Join(c.dir, "device.key") }

// startBoards lets the world answer on the cabinet's serial line.
func (c *cabinet) startBoards() {
	c.stage.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	boards, err := board.New(board.Options{
		World: c.stage.world, Cabinet: c.id, Now: c.stage.now, Wire: board.Wire{Baud: c.baud, DeviceTime: 2 * time.Millisecond},
		Meter: "ddsu666", ClimateSensor: true,
	})
	require.NoError(c.stage.t, err)
	var serving sync.WaitGroup
	serving.Go(func() { _ = boards.Serve(ctx, c.port) })
	c.stopBoards = func() {
		stop()
		serving.Wait()
	}
	c.stage.t.Cleanup(c.stopBoards)
}

// config is the agent's configuration file.
func (c *cabinet) config() string {
	s := c.stage
	root, err := os.ReadFile(filepath.Join(s.keys(), "root.pub"))
	require.NoError(s.t, err)
	certificates := ""
	if s.tls != nil {
		certificates = fmt.Sprintf(", ca_file: %s, cert_file: %s, key_file: %s", s.tls.path("ca.crt"), s.tls.path(c.id+".crt"), s.tls.path(c.id+".key"))
	}
	return fmt.Sprintf(`cabinet_id: %s
state_dir: %s
device_key_file: %s
root_public_key: %s
key_list_file: %s
mqtt: {url: %q%s}
serial: {port: %q, baud: %d%s}
board: {kind: slotboard, slots: %d}
metrics_listen: %s
screen_listen: %s
%s`, c.id, filepath.Join(c.dir, "state"), c.keyFile(), strings.TrimSpace(string(root)), filepath.Join(s.keys(), "keys.json"),
		s.mqttURL, certificates, c.device, c.baud, c.thinking, c.slots, strings.TrimSuffix(strings.TrimPrefix(c.metrics, "http://"), "/metrics"),
		strings.TrimPrefix(c.screen, "http://"), c.extraConfig)
}

// startAgent writes the configuration and starts the agent.
func (c *cabinet) startAgent() {
	c.stage.t.Helper()
	require.NoError(c.stage.t, os.WriteFile(filepath.Join(c.dir, "agent.yaml"), []byte(c.config()), 0o600))
	require.NoError(c.stage.t, c.Start())
}

// heard waits until the backend hears the cabinet and counts its batteries.
func (c *cabinet) heard(charged int) {
	c.stage.t.Helper()
	c.stage.until("the backend does not hear "+c.id, func() bool {
		require.NoError(c.stage.t, c.Alone())
		var v struct {
			Reachable bool `json:"reachable"`
			Charged   int  `json:"charged"`
		}
		return c.stage.replicas[0].get("/api/v1/cabinets/"+c.id, &v) && v.Reachable && v.Charged == charged
	})
}

// get reads JSON; false when there is none.
func (r *replica) get(path string, into any) bool {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(r.url + path)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(into) == nil
}

// newBattery registers a battery.
func (s *stage) newBattery() string {
	s.t.Helper()
	s.batteries++
	serial := world.Serial(s.batteries)
	s.feed("battery_serial,type\n"+serial+",60V20Ah\n", "backend", "battery", "import", "-")
	return serial
}

// newRider adds a rider who has a flat battery in hand.
func (s *stage) newRider() (id, serial string) {
	s.t.Helper()
	s.riders++
	printed := s.run("backend", "rider", "add", "--name", "Test rider "+testPhone, "--phone", s.number(s.riders))
	for _, word := range strings.FieldsFunc(printed, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef-", r) }) {
		if len(word) == 36 {
			id = word
		}
	}
	require.NotEmpty(s.t, id, printed)
	serial = s.newBattery()
	s.run("backend", "battery", "assign", serial, "--rider", id)
	require.NoError(s.t, s.world.PutInHands(id, world.Battery{Serial: serial, SocPermille: 280}))
	return id, serial
}

// phone is a rider's phone at one replica.
func (s *stage) phone(r *replica, riderID string) *rider.Phone {
	return rider.NewPhone(r.url, riderID, riderCode, &http.Client{})
}

// quickRider is a rider who does what the page of a replica says, at once.
func (s *stage) quickRider(r *replica, riderID string, c *cabinet) *rider.Rider {
	return rider.New(rider.Options{
		Phone: s.phone(r, riderID), World: s.world, Now: s.now, ID: riderID, Seed: 1, Behaviour: rider.Quick, Speed: 100,
		Cabinets: []string{c.id}, Log: discard(),
	})
}

// account is what `backend audit` says of a rider.
type account struct {
	RiderID     string   `json:"rider_id"`
	Deposits    int      `json:"deposits"`
	Takes       int      `json:"takes"`
	Counted     int      `json:"counted"`
	OpenCredits int      `json:"open_credits"`
	Batteries   []string `json:"batteries"`
	OpenSwaps   []string `json:"open_swaps"`
	Reviews     int      `json:"reviews"`
}

// audit is what `backend audit` says.
type audit struct {
	Riders      []account         `json:"riders"`
	Differences []json.RawMessage `json:"differences"`
	Records     int64             `json:"records"`
}

// audited reads the audited books; they must bear out every figure.
func (s *stage) audited() audit {
	s.t.Helper()
	var a audit
	require.NoError(s.t, json.Unmarshal([]byte(s.run("backend", "audit", "--json")), &a))
	require.Empty(s.t, a.Differences)
	return a
}

// of is a rider's account.
func (a audit) of(t testing.TB, riderID string) account {
	t.Helper()
	for _, r := range a.Riders {
		if r.RiderID == riderID {
			return r
		}
	}
	t.Fatal("the audit does not know the rider")
	return account{}
}

// metric sums the samples of a metric whose line holds all of the labels.
func metric(t testing.TB, url, name string, labels ...string) float64 {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	sum := 0.0
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		all := true
		for _, l := range labels {
			all = all && strings.Contains(line, l)
		}
		var v float64
		if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &v); err == nil && all {
			sum += v
		}
	}
	return sum
}

package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"batteryswap/simulator/board"
	"batteryswap/simulator/process"
	"batteryswap/simulator/pty"
	"batteryswap/simulator/rider"
	"batteryswap/simulator/world"
)

// stage is everything that runs: what the demo started, in the order of its
// start.
type stage struct {
	o        Options
	log      *slog.Logger
	dir      string
	tag      string // runTag
	world    *world.World
	now      func() time.Duration
	tools    process.Tools
	replicas []*replica
	public   string // where phones find the first replica
	inbox    *inbox // of the riders' phones
	started  int64  // Unix seconds, 0 where no other demo has been in this database
	cabinets []*cabinet
	riders   []person
	staff    []member
	http     *http.Client

	database, broker               *process.Program // nil: not ours to kill
	killingDatabase, killingBroker sync.Mutex
	databaseURL, brokerAddress     string
	network                        network
	watchers                       watchers

	closers []func() error // run last to first
	boards  sync.WaitGroup
}

// cabinet is one simulated cabinet and its real agent.
type cabinet struct {
	id      string
	dir     string
	port    *pty.Port
	agent   *process.Program
	metrics string
	screen  string // of the cabinet's own page
	killing sync.Mutex
}

// person is a rider of the fleet.
type person struct {
	id    string // rider_id; the person's name in the world
	name  string
	phone *rider.Phone // nil: of a person before the screen
}

// onClose pushes what undoes a start.
func (s *stage) onClose(undo func() error) { s.closers = append(s.closers, undo) }

// close undoes everything, the last first. It may be called twice.
func (s *stage) close() error {
	var all []error
	for len(s.closers) > 0 {
		last := len(s.closers) - 1
		undo := s.closers[last]
		s.closers = s.closers[:last]
		all = append(all, undo())
	}
	return errors.Join(all...)
}

// Bounds of the start.
const (
	readyTimeout   = 60 * time.Second
	riderTimeout   = 20 * time.Second
	pulsesInAnHour = 600 // of the agents' configuration here; production has 120
)

// build starts everything up to the agents. What was started before an error is
// undone by close.
func (s *stage) build(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"make room", s.makeFolder},
		{"start the database", s.startDatabase},
		{"start the broker", s.startBroker},
		{"make keys and tables", s.prepareBackend},
		{"put up cabinets", s.putUpCabinets},
		{"add riders", s.addRiders},
		{"add staff", s.addStaff},
		{"start the gateway for messages", s.startInbox},
		{"start the backend", s.startReplicas},
		{"bind the riders' phones", s.bindPhones},
		{"start the agents", s.startAgents},
		{"start Prometheus and Alertmanager", s.startWatchers},
	} {
		s.log.Debug(step.what)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

func (s *stage) makeFolder(context.Context) error {
	for _, name := range []string{"backend", "firmware-agent"} {
		if _, err := os.Stat(s.tools.Path(name)); err != nil {
			return fmt.Errorf("%s is missing beside the simulator: build all three programs: %w", name, err)
		}
	}
	if s.o.Keep != "" {
		if err := os.Mkdir(s.o.Keep, 0o711); err != nil {
			return fmt.Errorf("--keep wants a folder that does not exist yet: %w", err)
		}
		dir, err := filepath.Abs(s.o.Keep)
		s.dir = dir
		return err
	}
	dir, err := os.MkdirTemp("", "swapdemo")
	if err != nil {
		return err
	}
	s.dir = dir
	s.onClose(func() error { return os.RemoveAll(dir) })
	// The database's own user must get through to its folder.
	return os.Chmod(dir, 0o711)
}

func (s *stage) keys() string { return filepath.Join(s.dir, "keys") }

func (s *stage) prepareBackend(ctx context.Context) error {
	s.tools.Env = append(s.tools.Env, "SWAP_KEY_DIR="+s.keys())
	if _, err := s.tools.Run(ctx, "", "backend", "migrate"); err != nil {
		return err
	}
	_, err := s.tools.Run(ctx, "", "backend", "keys", "init", "--dir", s.keys())
	return err
}

// putUpCabinets makes the cabinets of the world, enrols them and stocks them.
func (s *stage) putUpCabinets(ctx context.Context) error {
	var registry strings.Builder
	registry.WriteString("battery_serial,type\n")
	for i := range s.o.Cabinets*s.o.chargedPerCabinet() + s.o.Riders + 1 {
		fmt.Fprintf(&registry, "%s,60V20Ah\n", s.serial(i))
	}
	if _, err := s.tools.Run(ctx, registry.String(), "backend", "battery", "import", "-"); err != nil {
		return err
	}
	battery := 0
	for i := range s.o.Cabinets {
		c := &cabinet{id: s.cabinetID(i)}
		if err := s.world.AddCabinet(c.id, s.o.Slots); err != nil {
			return err
		}
		if err := s.enrol(ctx, c); err != nil {
			return err
		}
		if err := s.place(ctx, i, c.id); err != nil {
			return err
		}
		for n := range s.o.chargedPerCabinet() {
			slot := s.o.Slots - n
			serial := s.serial(battery)
			battery++
			b := world.Battery{Serial: serial, SocPermille: 930 + 10*(n%7)}
			if err := s.world.PutInSlot(c.id, slot, b); err != nil {
				return err
			}
			_, err := s.tools.Run(ctx, "", "backend", "battery", "assign", serial, "--cabinet", c.id, "--slot", fmt.Sprint(slot))
			if err != nil {
				return err
			}
		}
		s.cabinets = append(s.cabinets, c)
	}
	return nil
}

// runTag tells a demo's cabinets and batteries from those of the demos before,
// in a database that is kept: six digits of the time, in base 36.
func runTag(o Options, at time.Time) string {
	if o.DatabaseURL == "" {
		return ""
	}
	return fmt.Sprintf("%06s", strconv.FormatInt(at.Unix(), 36))
}

// cabinetID names the i-th cabinet, from 0.
func (s *stage) cabinetID(i int) string {
	if s.tag == "" {
		return fmt.Sprintf("hb-%04d", i+1)
	}
	return fmt.Sprintf("demo-%s-%02d", s.tag, i+1)
}

// serial is the code of the i-th battery, from 0.
func (s *stage) serial(i int) string {
	if s.tag == "" {
		return world.Serial(i + 1)
	}
	return fmt.Sprintf("BT106002012DEMO%s%03d", strings.ToUpper(s.tag), i)
}

// enrol makes a cabinet's key, configuration and serial port.
func (s *stage) enrol(ctx context.Context, c *cabinet) error {
	c.dir = filepath.Join(s.dir, c.id)
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return err
	}
	keyFile := filepath.Join(c.dir, "device.key")
	printed, err := s.tools.Run(ctx, "", "firmware-agent", "keygen", "--out", keyFile)
	if err != nil {
		return err
	}
	var key struct {
		PublicKey string `json:"public_key"`
	}
	if err := json.Unmarshal([]byte(printed), &key); err != nil {
		return fmt.Errorf("firmware-agent keygen: read what it printed: %w", err)
	}
	enrol := []string{
		"cabinet", "enrol", "--id", c.id, "--device-key", key.PublicKey,
		"--slots", fmt.Sprint(s.o.Slots), "--station", "Demo station", "--street", "Demo street",
	}
	if _, err := s.tools.Run(ctx, "", "backend", enrol...); err != nil {
		return err
	}
	root, err := os.ReadFile(filepath.Join(s.keys(), "root.pub"))
	if err != nil {
		return err
	}
	link := filepath.Join(c.dir, "usb")
	if c.port, err = pty.Open(link); err != nil {
		return err
	}
	s.onClose(c.port.Close)
	if c.metrics, err = process.FreeAddress("127.0.0.1"); err != nil {
		return err
	}
	if c.screen, err = process.FreeAddress("127.0.0.1"); err != nil {
		return err
	}
	mqttURL, err := s.brokerLine()
	if err != nil {
		return err
	}
	config := fmt.Sprintf(agentConfig, c.id, filepath.Join(c.dir, "state"), keyFile, strings.TrimSpace(string(root)),
		filepath.Join(s.keys(), "keys.json"), mqttURL, link, s.o.Baud, s.o.Slots,
		board.MeterUnit, board.ClimateUnit, pulsesInAnHour, c.metrics, c.screen)
	return os.WriteFile(filepath.Join(c.dir, "agent.yaml"), []byte(config), 0o600)
}

const agentConfig = `# A demo's cabinet. max_pulses_per_hour is far above what production allows,
# because a demo does a day's swaps in minutes.
cabinet_id: %s
state_dir: %s
device_key_file: %s
root_public_key: %s
key_list_file: %s
mqtt: {url: %q}
# A busy machine lets simulated boards think for longer than real ones do.
serial: {port: %q, baud: %d, device_time_ms: 150}
board: {kind: slotboard, slots: %d}
meter: {kind: ddsu666, address: %d}
climate: {kind: xymd02, address: %d}
limits: {max_pulses_per_hour: %d}
metrics_listen: %s
screen_listen: %s
`

// screens are the addresses of the cabinets' own pages.
func (s *stage) screens() map[string]string {
	all := map[string]string{}
	for _, c := range s.cabinets {
		all[c.id] = "http://" + c.screen + "/"
	}
	return all
}

// The demo's street: the first cabinet's place near the West Lake, in degrees of
// WGS-84, and how far to the north the next one stands; its hotline is made up.
const (
	demoLatitude, demoLongitude, demoStep = 30.2583, 120.1592, 0.0031
	demoHotline                           = "0571-5555-0100"
)

// place says where the i-th cabinet stands.
func (s *stage) place(ctx context.Context, i int, id string) error {
	_, err := s.tools.Run(ctx, "", "backend", "cabinet", "place", id, "--hotline", demoHotline,
		fmt.Sprintf("--latitude=%.4f", demoLatitude+float64(i)*demoStep), fmt.Sprintf("--longitude=%.4f", demoLongitude))
	return err
}

// riderID finds the identifier in what `backend rider add` printed.
func riderID(printed string) (string, error) {
	id := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`).FindString(printed)
	if id == "" {
		return "", fmt.Errorf("backend rider add: no rider_id in what it printed")
	}
	return id, nil
}

// membershipNo is that of the i-th rider in the roll of the demo's union.
func (s *stage) membershipNo(i int) string {
	if s.tag == "" {
		return fmt.Sprintf("DEMO-%03d", i+1)
	}
	return fmt.Sprintf("DEMO-%s-%03d", s.tag, i+1)
}

// addRiders adds the riders and gives each a battery. The last is the person
// before the screen.
func (s *stage) addRiders(ctx context.Context) error {
	battery := s.o.Cabinets * s.o.chargedPerCabinet()
	names := make([]string, 0, s.o.Riders+1)
	for i := range s.o.Riders {
		names = append(names, fmt.Sprintf("Demo rider %02d", i+1))
	}
	if !s.o.Exit {
		names = append(names, "You")
	}
	for i, name := range names {
		printed, err := s.tools.Run(ctx, "", "backend", "rider", "add", "--name", name, "--phone", s.number(i), "--membership-no", s.membershipNo(i))
		if err != nil {
			return err
		}
		id, err := riderID(printed)
		if err != nil {
			return err
		}
		serial := s.serial(battery + i)
		if _, err := s.tools.Run(ctx, "", "backend", "battery", "assign", serial, "--rider", id); err != nil {
			return err
		}
		if err := s.world.PutInHands(id, world.Battery{Serial: serial, SocPermille: 310}); err != nil {
			return err
		}
		s.riders = append(s.riders, person{id: id, name: name})
	}
	return s.sendRoll(ctx, names)
}

// sendRoll imports the roll of the demo's union: where in it each rider belongs.
// Who is added at a shell is in no body of it.
func (s *stage) sendRoll(ctx context.Context, names []string) error {
	var b strings.Builder
	b.WriteString("name,phone,membership number,district,street union,branch,platform,street,member from\n")
	for i, name := range names {
		fmt.Fprintf(&b, "%s,%s,%s,Demo district union,Demo street union,Demo branch %d,Demo platform %d,Demo street,2026-01-01\n",
			name, s.number(i), s.membershipNo(i), i%2+1, i%3+1)
	}
	list := filepath.Join(s.dir, "roll.csv")
	if err := os.WriteFile(list, []byte(b.String()), 0o600); err != nil {
		return err
	}
	_, err := s.tools.Run(ctx, "", "backend", "roll", "import", list, "--apply", "--add-unions")
	return err
}

// get reads a page of a replica.
func (s *stage) get(ctx context.Context, r *replica, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: status %d", path, resp.StatusCode)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// startAgents starts the boards and the agents, and waits until the backend
// hears every cabinet and knows of its charged batteries.
func (s *stage) startAgents(ctx context.Context) error {
	serving, stop := context.WithCancel(context.Background())
	s.onClose(func() error { stop(); s.boards.Wait(); return nil })
	for _, c := range s.cabinets {
		boards, err := board.New(board.Options{
			World: s.world, Cabinet: c.id, Now: s.now, Wire: board.Wire{Baud: s.o.Baud, DeviceTime: 5 * time.Millisecond},
			Meter: "ddsu666", ClimateSensor: true,
		})
		if err != nil {
			return err
		}
		s.boards.Go(func() {
			if err := boards.Serve(serving, c.port); err != nil {
				s.log.Error("the boards stopped", "cabinet_id", c.id, "err", err)
			}
		})
		c.agent = &process.Program{
			Name: "firmware-agent " + c.id, Path: s.tools.Path("firmware-agent"),
			Args: []string{"run", "--config", filepath.Join(c.dir, "agent.yaml")},
			Log:  filepath.Join(c.dir, "agent.log"), Ending: syscall.SIGTERM,
		}
		if err := s.startAgent(c); err != nil {
			return err
		}
		s.onClose(func() error { c.agent.Stop(); return nil })
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return process.Until(ctx, 200*time.Millisecond, "not every cabinet is heard of", func() (bool, error) {
		for _, c := range s.cabinets {
			if err := c.agent.Alone(); err != nil {
				return false, err
			}
		}
		return s.allHeard(ctx), nil
	})
}

func (s *stage) startAgent(c *cabinet) error {
	s.world.Note(world.Event{At: s.now(), Kind: world.AgentStarted, Cabinet: c.id})
	return c.agent.Start()
}

// allHeard asks the backend for its cabinets.
func (s *stage) allHeard(ctx context.Context) bool {
	for _, c := range s.cabinets {
		var heard struct {
			Reachable bool `json:"reachable"`
			Charged   int  `json:"charged"`
			Empty     int  `json:"empty"`
		}
		// All of it: a cabinet that has just started does not know its doors yet.
		err := s.get(ctx, s.replicas[0], "/api/v1/cabinets/"+c.id, &heard)
		charged := s.o.chargedPerCabinet()
		if err != nil || !heard.Reachable || heard.Charged < charged || heard.Empty < s.o.Slots-charged {
			return false
		}
	}
	return true
}

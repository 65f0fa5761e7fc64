package pilot

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"batteryswap/protocol"
	"batteryswap/simulator/broker"
	"batteryswap/simulator/process"
	"batteryswap/simulator/rider"
	"batteryswap/simulator/world"
)

// The size of the pilot's street.
const (
	slotsEach     = 12
	batteriesEach = 9
	readyTime     = 60 * time.Second
	riderCode     = "pilot" // with which the riders sign in
)

// stage is what runs around the cabinets: a database, a broker, the backend.
type stage struct {
	o        Options
	dir      string
	tools    process.Tools
	broker   *broker.Broker
	backend  *process.Program
	url      string
	cabinets []*cabinet
	phones   []*rider.Phone
	facts    *facts

	closers []func() error // run last to first
}

func (s *stage) close() error {
	var all []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		all = append(all, s.closers[i]())
	}
	return errors.Join(all...)
}

// build starts everything; what was started before an error is undone by close.
func (s *stage) build(ctx context.Context, since time.Time) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"make room", s.makeRoom},
		{"start the servers", s.startServers},
		{"make keys and tables", s.prepareBackend},
		{"put up cabinets", func(ctx context.Context) error { return s.putUpCabinets(ctx, since) }},
		{"start the backend", s.startBackend},
		{"add riders", s.addRiders},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

func (s *stage) makeRoom(context.Context) error {
	dir, err := os.MkdirTemp("", "swappilot")
	if err != nil {
		return err
	}
	s.dir = dir
	s.closers = append(s.closers, func() error { return os.RemoveAll(dir) })
	return os.Chmod(dir, 0o711) // the database's own user must get through to its folder
}

func (s *stage) startServers(ctx context.Context) error {
	database, url, err := process.StartPostgres(ctx, filepath.Join(s.dir, "database"), filepath.Join(s.dir, "postgres.log"))
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() error {
		database.Stop()
		return os.RemoveAll(filepath.Join(s.dir, "database"))
	})
	if s.broker, err = broker.Start(); err != nil {
		return err
	}
	s.closers = append(s.closers, s.broker.Stop)
	s.tools = process.Tools{Dir: s.o.Programs, Env: []string{"DATABASE_URL=" + url, "MQTT_URL=" + s.broker.URL()}}
	return nil
}

func (s *stage) keys() string { return filepath.Join(s.dir, "keys") }

func (s *stage) prepareBackend(ctx context.Context) error {
	if _, err := s.tools.Run(ctx, "", "backend", "migrate"); err != nil {
		return err
	}
	_, err := s.tools.Run(ctx, "", "backend", "keys", "init", "--dir", s.keys())
	return err
}

// lookup finds the backend's keys as a cabinet does.
func (s *stage) lookup() (protocol.KeyLookup, error) {
	encoded, err := os.ReadFile(filepath.Join(s.keys(), "root.pub"))
	if err != nil {
		return nil, err
	}
	root, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(encoded)))
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(s.keys(), "keys.json"))
	if err != nil {
		return nil, err
	}
	list, err := protocol.OpenKeyList(raw, root)
	return list.Lookup, err
}

// putUpCabinets enrols the cabinets as of the pilot's first day and stocks them.
func (s *stage) putUpCabinets(ctx context.Context, since time.Time) error {
	lookup, err := s.lookup()
	if err != nil {
		return err
	}
	var registry strings.Builder
	registry.WriteString("battery_serial,type\n")
	for i := range s.o.Cabinets*batteriesEach + s.o.Riders {
		fmt.Fprintf(&registry, "%s,60V20Ah\n", world.Serial(i+1))
	}
	if _, err := s.tools.Run(ctx, registry.String(), "backend", "battery", "import", "-"); err != nil {
		return err
	}
	for i := range s.o.Cabinets {
		c, err := newCabinet(protocol.CabinetID(fmt.Sprintf("pilot-%02d", i+1)), s.broker, s.facts)
		if err != nil {
			return err
		}
		c.lookup = lookup
		_, err = s.tools.Run(ctx, "", "backend", "cabinet", "enrol", "--id", string(c.id), "--slots", fmt.Sprint(slotsEach),
			"--device-key", base64.StdEncoding.EncodeToString(c.public()), "--station", fmt.Sprintf("Corner %d", i+1),
			"--street", "Pilot street", "--since", since.UTC().Format(time.RFC3339))
		if err != nil {
			return err
		}
		s.facts.slots[c.id] = make([]compartment, slotsEach)
		for n := range batteriesEach {
			serial := world.Serial(i*batteriesEach + n + 1)
			s.facts.slots[c.id][n].serial = protocol.BatterySerial(serial)
			_, err := s.tools.Run(ctx, "", "backend", "battery", "assign", serial, "--cabinet", string(c.id), "--slot", fmt.Sprint(n+1))
			if err != nil {
				return err
			}
		}
		s.cabinets = append(s.cabinets, c)
	}
	return nil
}

var riderID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

func (s *stage) addRiders(ctx context.Context) error {
	for i := range s.o.Riders {
		printed, err := s.tools.Run(ctx, "", "backend", "rider", "add", "--name", fmt.Sprintf("Pilot rider %02d", i+1))
		if err != nil {
			return err
		}
		id := riderID.FindString(printed)
		if id == "" {
			return errors.New("backend rider add: no rider_id in what it printed")
		}
		serial := world.Serial(s.o.Cabinets*batteriesEach + i + 1)
		if _, err := s.tools.Run(ctx, "", "backend", "battery", "assign", serial, "--rider", id); err != nil {
			return err
		}
		s.facts.hands = append(s.facts.hands, protocol.BatterySerial(serial))
		s.phones = append(s.phones, rider.NewPhone(s.url, id, riderCode, http.DefaultClient))
	}
	return nil
}

func (s *stage) startBackend(ctx context.Context) error {
	listen, err := process.FreeAddress("127.0.0.1")
	if err != nil {
		return err
	}
	metrics, err := process.FreeAddress("127.0.0.1")
	if err != nil {
		return err
	}
	s.url = "http://" + listen
	s.backend = &process.Program{
		Name: "backend", Path: s.tools.Path("backend"), Env: append(s.tools.Env, "SWAP_RIDER_CODE="+riderCode),
		Log: filepath.Join(s.dir, "backend.log"), Ending: syscall.SIGTERM,
		Args: []string{"serve", "--key-dir", s.keys(), "--listen", listen, "--metrics-listen", metrics, "--public-url", s.url},
	}
	if err := s.backend.Start(); err != nil {
		return err
	}
	s.closers = append(s.closers, func() error { s.backend.Stop(); return nil })
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	return process.Until(ctx, 100*time.Millisecond, "the backend is not ready", func() (bool, error) {
		if err := s.backend.Alone(); err != nil {
			return false, err
		}
		resp, err := http.Get(s.url + "/readyz") //nolint:noctx // our own backend, until ctx ends
		if err != nil {
			return false, nil
		}
		return resp.StatusCode == http.StatusOK, resp.Body.Close()
	})
}

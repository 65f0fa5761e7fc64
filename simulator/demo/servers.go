package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"batteryswap/simulator/broker"
	"batteryswap/simulator/process"
	"batteryswap/simulator/world"
)

// replica is one running `backend serve`.
type replica struct {
	*process.Program
	url     string // of its pages and API
	metrics string // host:port
	killing sync.Mutex
}

func (s *stage) startDatabase(ctx context.Context) error {
	s.databaseURL = s.o.DatabaseURL
	if s.databaseURL == "" {
		server, made, err := process.StartPostgres(ctx, filepath.Join(s.dir, "database"), filepath.Join(s.dir, "postgres.log"))
		if err != nil {
			return err
		}
		s.onClose(func() error {
			server.Stop()
			return os.RemoveAll(filepath.Join(s.dir, "database"))
		})
		s.database, s.databaseURL = server, made
	}
	s.tools.Env = append(s.tools.Env, "DATABASE_URL="+s.databaseURL)
	return nil
}

// startBroker starts the embedded broker, or a mosquitto if it is to be killed.
func (s *stage) startBroker(ctx context.Context) error {
	switch {
	case s.o.MQTTURL != "":
	case s.o.KillBroker > 0:
		server, address, err := process.StartMosquitto(ctx, s.dir, "")
		if err != nil {
			return err
		}
		s.onClose(func() error { server.Stop(); return nil })
		s.broker, s.brokerAddress = server, address
	default:
		b, err := broker.Start()
		if err != nil {
			return err
		}
		s.onClose(b.Stop)
		s.brokerAddress = strings.TrimPrefix(b.URL(), "tcp://")
	}
	return nil
}

// startReplicas starts `backend serve`, as often as wanted, and waits until all
// are ready.
func (s *stage) startReplicas(ctx context.Context) error {
	for i := range s.o.Replicas {
		if err := s.startReplica(i); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for _, r := range s.replicas {
		err := process.Until(ctx, 100*time.Millisecond, "the backend is not ready", func() (bool, error) {
			if err := r.Alone(); err != nil {
				return false, err
			}
			return s.get(ctx, r, "/readyz", nil) == nil, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// startReplica starts the i-th replica, from 0. Phones come to the first.
func (s *stage) startReplica(i int) error {
	listen, err := process.FreeAddress("127.0.0.1")
	name := "backend"
	if i == 0 {
		listen, err = s.listenAddress()
	} else {
		name = fmt.Sprintf("backend-%d", i+1)
	}
	if err != nil {
		return err
	}
	r := &replica{url: "http://" + listen}
	s.replicas = append(s.replicas, r)
	if i == 0 {
		s.public = r.url
		if !loopback(s.o.Listen) {
			if s.public, err = s.servePhones(s.o.Listen); err != nil {
				return err
			}
		}
	}
	if r.metrics, err = process.FreeAddress("127.0.0.1"); err != nil {
		return err
	}
	database, err := s.databaseLine()
	if err != nil {
		return err
	}
	mqttURL, err := s.brokerLine()
	if err != nil {
		return err
	}
	r.Program = &process.Program{
		Name: name, Path: s.tools.Path("backend"), Log: filepath.Join(s.dir, name+".log"), Ending: syscall.SIGTERM,
		Env: []string{"DATABASE_URL=" + database, "MQTT_URL=" + mqttURL},
		Args: []string{
			"serve", "--key-dir", s.keys(), "--listen", listen, "--metrics-listen", r.metrics, "--public-url", s.public,
			"--rider-notify", "webhook", "--rider-notify-url", s.inbox.url, "--rider-notify-secret-file", s.secretFile(),
			"--rider-codes-per-hour", "100000",
			// Phones come through the demo's own listener, and riders say where from.
			"--trusted-proxies", "127.0.0.1/32",
		},
	}
	if err := r.Start(); err != nil {
		return err
	}
	s.onClose(func() error { r.Stop(); return nil })
	s.world.Note(world.Event{At: s.now(), Kind: world.BackendStarted})
	return nil
}

// listenAddress takes the wanted address, or a free port of its host when the
// wanted one is taken or 0. The backend itself is never reached from elsewhere.
func (s *stage) listenAddress() (string, error) {
	if !loopback(s.o.Listen) {
		return process.FreeAddress("127.0.0.1")
	}
	l, err := net.Listen("tcp", s.o.Listen)
	if err != nil {
		host, _, splitErr := net.SplitHostPort(s.o.Listen)
		if splitErr != nil || !errors.Is(err, syscall.EADDRINUSE) {
			return "", fmt.Errorf("listen on %s: %w", s.o.Listen, err)
		}
		return process.FreeAddress(host)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

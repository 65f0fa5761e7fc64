package agent

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/cabinet"
	"batteryswap/firmware-agent/internal/config"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/journal"
	"batteryswap/firmware-agent/internal/link"
	"batteryswap/firmware-agent/internal/safety"
	"batteryswap/firmware-agent/internal/screen"
)

// Options are what an agent needs.
type Options struct {
	// ConfigFile is the path of the configuration.
	ConfigFile string
	Log        *slog.Logger
	// Software names this build to the backend, in at most 64 bytes.
	Software string
	// Built is when: no certificate is checked against an earlier time.
	Built time.Time

	// For tests; nil is the machine's.
	openDisk     func(dir string) (journal.Disk, error)
	synchronised func() bool
	wall         func() time.Time
	supervisor   supervisor
}

// Agent is one run of the program. Start it once; Stop may be called twice.
type Agent struct {
	o     Options
	c     config.Config
	id    config.Identity
	clock *clock

	logbook
	cabinet *cabinet.Cabinet // nil: out of service, see doc.go
	bus     *bus.Bus
	board   driver.Board
	safety  *safety.Loop
	poller  *driver.Poller
	link    *link.Link
	metrics *metrics
	// instruments is what meter and climate sensor said.
	instruments instruments

	codes      *screen.Codes  // nil: no screen
	screen     *screen.Screen // the same
	screenAddr atomic.Pointer[string]
	heard      heard

	mu      sync.Mutex
	started []stopper
	err     error
	done    chan struct{}
}

// stopper is something that was started.
type stopper struct {
	what string
	stop func() error
}

// New reads the configuration and the files that it names. An error is a mistake
// in them; nothing is started yet.
func New(o Options) (*Agent, error) {
	c, err := config.Load(o.ConfigFile)
	if err != nil {
		return nil, err
	}
	id, err := c.ReadFiles()
	if err != nil {
		return nil, err
	}
	if o.openDisk == nil {
		o.openDisk = func(dir string) (journal.Disk, error) { return journal.OpenDir(dir, forgetPages) }
	}
	o.Log = o.Log.With("cabinet_id", c.CabinetID)
	a := &Agent{o: o, c: c, id: id, clock: newClock(o.synchronised, o.wall, nil), done: make(chan struct{})}
	a.metrics = newMetrics()
	a.software, a.log = o.Software, o.Log
	if _, err := io.ReadFull(cryptorand.Reader, a.bootID[:]); err != nil {
		return nil, fmt.Errorf("draw a boot id: %w", err)
	}
	return a, nil
}

// Start brings everything up. What is not there yet, a port or a broker, is
// waited for beside; an error is of what will not come by itself, and then
// nothing is left running.
func (a *Agent) Start() error {
	for _, start := range []func() error{
		a.startJournal, a.startBus, a.startSafety, a.openScreen, a.startCabinet, a.startLink, a.run, a.startScreen, a.startMetrics,
		a.startSite, a.startWatchdog,
	} {
		if err := start(); err != nil {
			return errors.Join(fmt.Errorf("start: %w", err), a.Stop())
		}
	}
	a.o.Log.Info("agent started", "event", "started", "software", a.o.Software, "boot_id", a.bootID.String())
	return nil
}

// Done is closed when the agent cannot go on; Err says why. It must then be
// stopped, and started anew.
func (a *Agent) Done() <-chan struct{} { return a.done }

// Err is why Done is closed, or nil.
func (a *Agent) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// fail says that the agent cannot go on. The first reason counts.
func (a *Agent) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = err
		close(a.done)
	}
}

// Stop takes everything down again, the last first, and returns when nothing of
// it runs any more.
func (a *Agent) Stop() error {
	a.mu.Lock()
	started := a.started
	a.started = nil
	a.mu.Unlock()
	var errs []error
	for i := len(started) - 1; i >= 0; i-- {
		if err := started[i].stop(); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", started[i].what, err))
		}
	}
	return errors.Join(errs...)
}

// push remembers how to stop something.
func (a *Agent) push(what string, stop func() error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.started = append(a.started, stopper{what, stop})
}

// goes starts a goroutine that ends when its context does.
func (a *Agent) goes(what string, f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f(ctx)
	}()
	a.push(what, func() error {
		cancel()
		<-ended
		return nil
	})
}

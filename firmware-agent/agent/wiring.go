package agent

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/cabinet"
	"batteryswap/firmware-agent/internal/config"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/journal"
	"batteryswap/firmware-agent/internal/link"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

const (
	// pollInterval is how often a cabinet at rest is read: as slow as the
	// evidence rules allow, for the line's and the boards' sake.
	pollInterval = time.Second
	// stalePolls is after how many missed polls a sensor is unknown.
	stalePolls = 3
	// pollRequest and pollReply are the bytes of one poll of a slot, of any
	// kind of board that there is: 16 registers over Modbus.
	pollRequest, pollReply = 8, 37
)

// startJournal begins the logbook. Only a journal that somebody else has open
// keeps the agent from starting.
func (a *Agent) startJournal() error {
	disk, err := a.o.openDisk(filepath.Join(a.c.StateDir, "journal"))
	if err == nil {
		err = a.begin(disk, journal.Options{
			Clock:    a.clock.read,
			Random:   cryptorand.Reader,
			Appended: a.appended,
			Synced:   func(d time.Duration) { a.metrics.sync.observe(d.Seconds()) },
		})
	}
	if errors.Is(err, journal.ErrInUse) {
		return fmt.Errorf("state_dir %s: %w", a.c.StateDir, err)
	}
	j := a.journal
	if j != nil {
		a.push("journal", j.Close)
	}
	if err != nil {
		a.outOfJournal(err)
		return nil
	}
	a.goes("journal watch", func(ctx context.Context) {
		select {
		case <-ctx.Done():
		case <-j.Failed():
			a.fail(j.Err())
		}
	})
	return nil
}

// appended sees every record that is on the device.
func (a *Agent) appended(r protocol.Record) {
	if err := a.fold.Add(r); err != nil {
		a.fail(err)
	}
	if a.link != nil {
		a.link.Appended()
	}
}

func (a *Agent) startBus() error {
	b, err := newBus(a.c.Serial, a.o.Log)
	if err != nil {
		return err
	}
	a.bus = b
	a.push("bus", b.Close)
	a.board, err = openBoard(a.c.Board, driver.Options{Bus: b, Now: a.clock.now, Log: a.o.Log})
	if err != nil {
		return err
	}
	polled := driver.PollerOptions{
		Board: a.board, Slots: a.c.Board.Slots, Interval: pollInterval, Report: a.report, Now: a.clock.now, Log: a.o.Log,
	}
	if err := openInstruments(a.c, b, a.clock.now, &polled); err != nil {
		return err
	}
	a.poller = driver.NewPoller(polled)
	return nil
}

// report takes the outcome of one poll.
func (a *Agent) report(r driver.Report) {
	a.metrics.polled(r)
	if r.Slot < driver.OwnBoard {
		a.instruments.took(r)
		return
	}
	a.safety.Report(r)
	if a.cabinet == nil || r.Err != nil {
		return // what is not read gets old by itself
	}
	if r.Slot == driver.OwnBoard {
		a.cabinet.ObserveBoard(r.Cabinet)
		return
	}
	a.cabinet.Observe(r.Reading)
}

// limits are the evidence rules' numbers for this configuration. A line that
// takes longer than a second for all slots makes every reading last longer.
func (a *Agent) limits() slot.Limits {
	l := slot.DefaultLimits()
	l.ReleaseSoc = a.c.Limits.ReleaseSoc
	l.SensorStale = staleAfter(a.bus.Timing(), cycleExchanges(a.c))
	return l
}

// cycleExchanges is how many exchanges one cycle takes, each no longer than a slot's.
func cycleExchanges(c config.Config) int { return c.Board.Slots + 1 + instrumentPolls(c) }

// cycleTime is how long so many exchanges take.
func cycleTime(t bus.Timing, exchanges int) time.Duration {
	return time.Duration(exchanges) * (t.Exchange(pollRequest, pollReply) + t.Device)
}

// staleAfter is when a reading is too old on a line where one cycle takes so many
// exchanges.
func staleAfter(t bus.Timing, exchanges int) time.Duration {
	return stalePolls * max(pollInterval, cycleTime(t, exchanges))
}

func (a *Agent) startCabinet() error {
	if !a.writable() {
		return nil
	}
	c, err := cabinet.New(cabinet.Options{
		CoreOptions: cabinet.CoreOptions{
			Slots:            a.c.Board.Slots,
			State:            a.fold.State(),
			Random:           cryptorand.Reader,
			Limits:           a.limits(),
			MaxPulsesPerHour: a.c.Limits.MaxPulsesPerHour,
			OutOfService:     a.outOfService,
			Codes:            a.shownCodes,
			Backlog:          a.backlog,
			EnergyJ:          a.energyJ,
			Plan:             a.plan(),
			Day:              a.day,
			MeterW:           a.meterW,
			Software:         a.o.Software,
			Log:              a.o.Log,
		},
		Journal: a.journal,
		Board:   a.board,
		Safety:  a.safety,
		Sensors: a.poller,
		Send:    func(m protocol.Message) bool { return a.link.Send(m) },
		Now:     a.clock.now,
	})
	if err != nil {
		return err
	}
	a.cabinet = c
	return nil
}

func (a *Agent) startLink() error {
	keys, err := link.OpenKeyRing(a.id.Root, a.id.KeyList, filepath.Join(a.c.StateDir, "keys.json"), a.o.Log)
	if err != nil {
		return err
	}
	o := link.Options{
		CabinetID: a.c.CabinetID, BootID: a.bootID, Software: a.o.Software, DeviceKey: a.id.DeviceKey, Keys: keys,
		Broker: link.Broker{
			URL: a.c.MQTT.URL, CAFile: a.c.MQTT.CAFile, CertFile: a.c.MQTT.CertFile, KeyFile: a.c.MQTT.KeyFile,
			Time: a.certificateTime,
		},
		Clock: func() (uint64, protocol.ClockState) {
			mono, _, state := a.clock.read()
			return mono, state
		},
		Random:        rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		Log:           a.o.Log,
		Inventory:     a.inventory,
		ConfigVersion: func() int64 { return a.fold.State().Config.Version },
		Deliver:       a.deliver,
		Greeted:       a.greeted,
		Rejected:      a.rejected,
		Connected: func(up bool) {
			a.metrics.up.Store(up)
			a.heard.connected(up)
		},
		Counted: a.metrics.counted,
	}
	if a.journal != nil {
		o.Journal = shipped{a.journal}
	}
	a.link, err = link.New(o)
	return err
}

// certificateTime is the time that certificates are checked against: a clock
// that was never set is behind the last record and the build.
func (a *Agent) certificateTime() time.Time {
	now := a.clock.wall()
	if a.clock.synced.Load() {
		return now
	}
	for _, t := range []time.Time{a.lastWall, a.o.Built} {
		if t.After(now) {
			now = t
		}
	}
	return now
}

func (a *Agent) inventory() protocol.Inventory {
	if a.cabinet == nil {
		return nil
	}
	return a.cabinet.Inventory()
}

// deliver hands a command to the cabinet; without one, the answer is always no.
func (a *Agent) deliver(m protocol.Message, raw []byte) bool {
	a.heard.now(a.clock.now())
	if g, ok := m.(protocol.Guide); ok {
		a.guided(g)
		return true
	}
	if a.cabinet != nil {
		return a.cabinet.Deliver(cabinet.Command{Message: m, Raw: raw})
	}
	if no := refusal(m, a.bootID); no != nil {
		a.link.Send(no)
	}
	return true
}

// refusal is what an agent without a journal answers: no. nil is nothing.
func refusal(m protocol.Message, boot protocol.BootID) protocol.Message {
	switch m := m.(type) {
	case protocol.Prepare:
		return protocol.Refused{SwapID: m.SwapID, Reason: protocol.ReasonOutOfService}
	case protocol.MaintenanceRequest:
		return protocol.MaintenanceAnswer{OrderID: m.OrderID, BootID: boot, Reason: protocol.ReasonOutOfService}
	}
	return nil
}

func (a *Agent) rejected(t protocol.Type, why string) {
	if a.cabinet != nil {
		a.cabinet.Reject(t, why)
	}
}

// greeted takes the backend's verdict on this journal, and its configuration.
func (a *Agent) greeted(m protocol.HelloOK, keysVersion int64) bool {
	a.heard.now(a.clock.now())
	if a.cabinet == nil {
		return true
	}
	if err := a.judged(m.Verdict); err != nil {
		a.fail(err)
		return true
	}
	return a.cabinet.Configure(m.Config, keysVersion)
}

// run sets everything moving.
func (a *Agent) run() error {
	a.goes("safety", a.safety.Run)
	if a.cabinet != nil {
		a.goes("cabinet", func(ctx context.Context) {
			if err := a.cabinet.Run(ctx); err != nil {
				a.fail(fmt.Errorf("the cabinet has stopped: %w", err))
			}
		})
		a.goes("clock watch", func(ctx context.Context) {
			if err := a.clock.watch(ctx, func(s protocol.TimeStep) error { return a.journal.Append(s) }); err != nil {
				a.fail(err)
			}
		})
	} else {
		a.goes("out of service", a.sayOutOfService)
	}
	a.goes("poller", a.poller.Run)
	a.link.Start()
	a.push("link", func() error {
		a.link.Stop()
		return nil
	})
	return nil
}

// The heartbeat of an agent without a cabinet, and how soon it is tried again.
const (
	telemetryEvery = 20 * time.Second
	telemetryAgain = time.Second
)

// sayOutOfService is all that an agent without a journal does.
func (a *Agent) sayOutOfService(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		pause := telemetryEvery
		if !a.link.Send(protocol.Telemetry{
			BootID: a.bootID, MonoMS: uint64(a.clock.now().Milliseconds()), Software: a.o.Software,
			BacklogRecords: a.backlog(), OutOfService: protocol.ReasonOutOfService,
			Alarms: []string{string(protocol.AlarmJournal)},
		}) {
			pause = telemetryAgain
		}
		timer.Reset(pause)
	}
}

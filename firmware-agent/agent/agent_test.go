package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/config"
	"batteryswap/firmware-agent/internal/journal"
	"batteryswap/protocol"
)

const swapID protocol.SwapID = "01920000-0000-7000-8000-000000000001"

// prepared asks until the cabinet has read enough to propose slots.
func (r *rig) prepared(id protocol.SwapID) protocol.Prepared {
	r.t.Helper()
	var p protocol.Prepared
	asked := time.Time{}
	r.until("prepared", func() bool {
		var ok bool
		if p, ok = said[protocol.Prepared](r); ok && p.SwapID == id {
			return true
		}
		if time.Since(asked) > time.Second {
			asked = time.Now()
			r.down("s1", keyOf(2), protocol.Prepare{SwapID: id, Kind: protocol.KindSwap})
		}
		return false
	})
	return p
}

func (r *rig) grant(p protocol.Prepared, expect ...protocol.BatterySerial) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down("g1", keyOf(3), protocol.Grant{
		SwapID: p.SwapID, Kind: protocol.KindSwap, Nonce: p.Nonce, BootID: p.BootID, RiderRef: "00112233445566778899aabbccddeeff",
		DepositSlots: p.DepositSlots, Dispense: p.Dispense, ExpectSerials: expect,
	})
}

func pulsed(t *testing.T, s *slave) int {
	t.Helper()
	select {
	case n := <-s.pulses:
		return n
	case <-time.After(patience):
		require.FailNow(t, "no lock was pulsed")
		return 0
	}
}

func TestOneWholeSwap(t *testing.T) {
	s := newSlave(4)
	s.put(3, "CHARGED1", 97)
	r := newRig(t, s.serve(t), 4)
	r.serveBroker()
	a := r.start(r.options())
	p := r.prepared(swapID)
	require.Equal(t, []protocol.Offer{{Slot: 3, BatterySerial: "CHARGED1", Soc: 97}}, p.Dispense)
	require.NotEmpty(t, p.DepositSlots)
	r.grant(p, "FLAT1")

	in := pulsed(t, s)
	require.Equal(t, p.DepositSlots[0], in)
	s.put(in, "FLAT1", 12)
	s.shut(in)
	out := pulsed(t, s)
	require.Equal(t, 3, out)
	s.put(out, "", 0)
	s.shut(out)

	r.until("closed", func() bool { _, ok := recorded[protocol.Closed](r); return ok })
	r.mu.Lock()
	closed, _ := recorded[protocol.Closed](r)
	require.Equal(t, protocol.OutcomeSwapped, closed.Outcome)
	require.Equal(t, protocol.BatterySerial("FLAT1"), closed.Deposited)
	require.Equal(t, protocol.BatterySerial("CHARGED1"), closed.Taken)
	boot, _ := recorded[protocol.Boot](r)
	require.Equal(t, a.bootID, boot.BootID)
	require.Equal(t, "test", boot.Software)
	types := strings.Join(strings.Fields(strings.NewReplacer("DOOR", "", "TIME_STEP", "").Replace(r.types())), " ")
	require.Equal(t, "BOOT CONFIG ACCEPT INTENT DEPOSIT INTENT TAKEN CLOSED", types)
	r.mu.Unlock()
	r.until("telemetry", func() bool { return r.count(protocol.TypeTelemetry) > 0 })
	r.until("all is acknowledged", func() bool { return a.backlog() == 0 })

	metrics := scrape(t, a)
	for _, want := range []string{
		`swap_mqtt_connected 1`, `swap_bus_up 1`, `swap_journal_writable 1`, `swap_agent_backlog_records 0`,
		`swap_swaps_total{outcome="swapped"} 1`, `swap_pulses_total 2`, `swap_cabinet_slots{state="charged"} 0`,
		`swap_mqtt_messages_total{direction="in",result="ok",type="grant"} 1`,
		`swap_build_info{go="go1.`, `swap_journal_sync_seconds_count`, `swap_poll_cycle_seconds_bucket{le="1"}`,
	} {
		require.Contains(t, metrics, want)
	}
	require.NotContains(t, metrics, "FLAT1")
	problems, err := promlint.New(strings.NewReader(metrics)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	require.NotContains(t, r.log.String(), "level=ERROR")

	require.NoError(t, a.Stop())
	require.NoError(t, a.Stop(), "a second time is nothing")
	noLeak(t)
	require.Empty(t, s.pulses)
}

func TestAPowerCutInTheMiddleOfASwap(t *testing.T) {
	s := newSlave(4)
	s.put(3, "CHARGED1", 97)
	r := newRig(t, s.serve(t), 4)
	r.serveBroker()
	a := r.start(r.options())
	r.grant(r.prepared(swapID), "FLAT1")
	in := pulsed(t, s)
	require.NoError(t, a.Stop())
	s.put(in, "FLAT1", 12)
	s.shut(in)
	b := r.start(r.options())
	r.until("closed", func() bool { _, ok := recorded[protocol.Closed](r); return ok })
	r.mu.Lock()
	closed, _ := recorded[protocol.Closed](r)
	boot, _ := recorded[protocol.Boot](r)
	r.mu.Unlock()
	require.Equal(t, protocol.OutcomeDepositedOwed, closed.Outcome)
	require.Equal(t, b.bootID, boot.BootID)
	require.Empty(t, s.pulses, "boot never opens a door")
}

func TestPortAndBrokerAbsentAtStart(t *testing.T) {
	s := newSlave(2)
	s.put(1, "CHARGED1", 97)
	device := s.serve(t)
	r := newRig(t, "", 2)
	port := filepath.Join(r.dir, "port")
	content, err := os.ReadFile(r.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(r.config, []byte(strings.Replace(string(content), "port: ,", "port: "+port+",", 1)), 0o600))
	a := r.start(r.options())
	require.Eventually(t, func() bool {
		m := scrape(t, a)
		return strings.Contains(m, `swap_bus_up 0`) && strings.Contains(m, `swap_mqtt_connected 0`) &&
			strings.Contains(m, `swap_cabinet_slots{state="unknown"} 2`) && !strings.Contains(m, `swap_bus_errors_total{kind="open_failed"} 0`)
	}, patience, 50*time.Millisecond)
	require.Eventually(t, func() bool {
		l := r.log.String()
		return strings.Contains(l, "broker not connected") && strings.Contains(l, "no such file or directory")
	}, patience, 50*time.Millisecond)

	// Both come.
	require.NoError(t, os.Symlink(device, port))
	r.serveBroker()
	r.prepared(swapID)
	m := scrape(t, a)
	require.Contains(t, m, `swap_bus_up 1`)
	require.Contains(t, m, `swap_mqtt_connected 1`)

	// The broker goes and comes again.
	r.stopBroker()
	require.Eventually(t, func() bool { return strings.Contains(scrape(t, a), `swap_mqtt_connected 0`) }, patience, 50*time.Millisecond)
	hellos := r.count(protocol.TypeHello)
	r.serveBroker()
	r.until("another hello", func() bool { return r.count(protocol.TypeHello) > hellos })
}

// brokenDisk fails every change from some moment on.
type brokenDisk struct {
	journal.Disk
	broken *atomic.Bool
}

type brokenFile struct {
	journal.File
	broken *atomic.Bool
}

func (d brokenDisk) OpenWrite(name string) (journal.File, error) {
	f, err := d.Disk.OpenWrite(name)
	return brokenFile{f, d.broken}, err
}

func (d brokenDisk) Create(name string) (journal.File, error) {
	if d.broken.Load() {
		return nil, syscall.EROFS
	}
	f, err := d.Disk.Create(name)
	return brokenFile{f, d.broken}, err
}

func (f brokenFile) WriteAt(b []byte, off int64) (int, error) {
	if f.broken.Load() {
		return 0, syscall.EIO
	}
	return f.File.WriteAt(b, off)
}

func TestFailure39DiskFails(t *testing.T) {
	s := newSlave(2)
	s.put(1, "CHARGED1", 97)
	r := newRig(t, s.serve(t), 2)
	r.serveBroker()
	o := r.options()
	var broken atomic.Bool
	o.openDisk = func(dir string) (journal.Disk, error) {
		d, err := journal.OpenDir(dir, forgetPages)
		return brokenDisk{d, &broken}, err
	}
	a := r.start(o)
	p := r.prepared(swapID)
	r.until("all is acknowledged", func() bool { return a.backlog() == 0 })

	// It fails when a swap is accepted: no pulse, and the agent ends.
	broken.Store(true)
	r.grant(p, "FLAT1")
	select {
	case <-a.Done():
	case <-time.After(patience):
		require.FailNow(t, "the agent goes on without a journal")
	}
	require.ErrorIs(t, a.Err(), syscall.EIO)
	require.NoError(t, a.Stop())
	noLeak(t)

	// It comes back, reads, and refuses.
	r.mu.Lock()
	r.got = nil
	r.mu.Unlock()
	b := r.start(o)
	r.until("hello", func() bool { return r.count(protocol.TypeHello) > 0 })
	r.until("it says so", func() bool {
		m, ok := said[protocol.Telemetry](r)
		return ok && m.OutOfService == protocol.ReasonOutOfService && m.Alarms[0] == "journal"
	})
	r.mu.Lock()
	r.down("s1", keyOf(2), protocol.Prepare{SwapID: swapID, Kind: protocol.KindSwap})
	r.mu.Unlock()
	r.until("refused", func() bool {
		m, ok := said[protocol.Refused](r)
		return ok && m.Reason == protocol.ReasonOutOfService
	})
	m := scrape(t, b)
	require.Contains(t, m, `swap_journal_writable 0`)
	require.Contains(t, m, `swap_bus_up 1`)
	require.NoError(t, b.Stop())

	// And serves again when the disk does.
	broken.Store(false)
	r.start(o)
	r.prepared("01920000-0000-7000-8000-000000000002")
	require.Empty(t, s.pulses)
}

func TestAJournalThatCannotBeOpened(t *testing.T) {
	r := newRig(t, "/dev/null", 2)
	r.serveBroker()
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "state"), nil, 0o600))
	a := r.start(r.options())
	r.until("it says so", func() bool {
		m, ok := said[protocol.Telemetry](r)
		return ok && m.OutOfService == protocol.ReasonOutOfService
	})
	require.Zero(t, r.count(protocol.TypeHello))
	require.Contains(t, scrape(t, a), `swap_journal_writable 0`)
	require.Contains(t, r.log.String(), "no journal: out of service")
}

func TestOneStateDirIsForOneAgent(t *testing.T) {
	r := newRig(t, "/dev/null", 2)
	r.start(r.options())
	b, err := New(r.options())
	require.NoError(t, err)
	err = b.Start()
	require.ErrorIs(t, err, journal.ErrInUse)
	require.ErrorContains(t, err, "state_dir")
}

func TestStartUnwindsWhatItStarted(t *testing.T) {
	r := newRig(t, "/dev/null", 2)
	a := r.start(r.options())
	content, err := os.ReadFile(r.config)
	require.NoError(t, err)
	other := strings.NewReplacer("/state", "/state2", "127.0.0.1:0", a.MetricsAddr()).Replace(string(content))
	o := r.options()
	o.ConfigFile = filepath.Join(r.dir, "other.yaml")
	require.NoError(t, os.WriteFile(o.ConfigFile, []byte(other), 0o600))
	b, err := New(o)
	require.NoError(t, err)
	require.ErrorContains(t, b.Start(), "metrics_listen")
	require.NoError(t, a.Stop())
	noLeak(t)
}

func TestMistakesAreTold(t *testing.T) {
	r := newRig(t, "/dev/null", 99)
	_, err := New(r.options())
	var found config.Mistakes
	require.ErrorAs(t, err, &found)
	require.ErrorContains(t, err, "board.slots")
}

func TestANewEpochWhenTheBackendAsks(t *testing.T) {
	s := newSlave(2)
	s.put(1, "CHARGED1", 97)
	r := newRig(t, s.serve(t), 2)
	r.serveBroker()
	a := r.start(r.options())
	r.until("the first records", func() bool { return r.acked > 0 && a.backlog() == 0 })
	old := a.journal.Position()

	r.mu.Lock()
	resume := r.verdict
	r.verdict = func(h protocol.Hello) protocol.HelloOK {
		if h.Epoch == old.Epoch {
			return protocol.HelloOK{Verdict: protocol.VerdictNewEpoch}
		}
		return protocol.HelloOK{Verdict: protocol.VerdictWait}
	}
	r.down("s1", keyOf(2), protocol.HelloOK{Epoch: old.Epoch, BootID: a.bootID, Verdict: protocol.VerdictNewEpoch, Config: protocol.CabinetConfig{Version: 1}})
	r.mu.Unlock()
	select {
	case <-a.Done():
	case <-time.After(patience):
		require.FailNow(t, "the agent goes on in the old epoch")
	}
	require.ErrorContains(t, a.Err(), "new epoch")
	require.NoError(t, a.Stop())

	// The next boot is in the new epoch, and out of service.
	r.mu.Lock()
	r.acked, r.head, r.records = 0, protocol.Hash{}, nil
	r.got = nil
	r.mu.Unlock()
	b := r.start(r.options())
	require.NotEqual(t, old.Epoch, b.journal.Position().Epoch)
	r.until("hello", func() bool { return r.count(protocol.TypeHello) > 0 })
	asked := time.Time{}
	r.until("refused", func() bool {
		if time.Since(asked) > time.Second {
			asked = time.Now()
			r.down("s1", keyOf(2), protocol.Prepare{SwapID: swapID, Kind: protocol.KindSwap})
		}
		m, ok := said[protocol.Refused](r)
		return ok && m.Reason == protocol.ReasonOutOfService
	})
	require.Empty(t, r.records, "an epoch that waits sends nothing")

	// Staff accept it.
	r.mu.Lock()
	r.verdict = resume
	m := resume(protocol.Hello{})
	m.Epoch, m.BootID = b.journal.Position().Epoch, b.bootID
	r.down("s1", keyOf(2), m)
	r.mu.Unlock()
	r.prepared("01920000-0000-7000-8000-000000000002")
	r.until("its records", func() bool { return len(r.records) > 0 })
	r.mu.Lock()
	boot, _ := recorded[protocol.Boot](r)
	r.mu.Unlock()
	require.Equal(t, &protocol.OldTail{Epoch: old.Epoch, Seq: old.TailSeq, Hash: old.TailHash}, boot.Old)
	require.Equal(t, protocol.ReasonEpochReplaced, boot.Out)
	require.Contains(t, string(boot.Carried), `"version":1`, "the configuration is carried over")
}

func TestTheKeyListIsKept(t *testing.T) {
	r := newRig(t, "/dev/null", 2)
	newer, err := protocol.SealKeyList(keyOf(1), protocol.KeyList{Version: 2, Keys: []protocol.Key{
		{KeyID: "s1", Use: protocol.UseService, PublicKey: public(keyOf(2))},
		{KeyID: "g2", Use: protocol.UseGrant, PublicKey: public(keyOf(4))},
	}})
	require.NoError(t, err)
	resume := r.verdict
	r.verdict = func(h protocol.Hello) protocol.HelloOK {
		m := resume(h)
		m.Keys = string(newer)
		return m
	}
	r.serveBroker()
	a := r.start(r.options())
	kept := filepath.Join(r.dir, "state", "keys.json")
	require.Eventually(t, func() bool { b, err := os.ReadFile(kept); return err == nil && string(b) == string(newer) }, patience, 20*time.Millisecond)
	r.until("confirmed", func() bool {
		c, ok := recorded[protocol.ConfigApplied](r)
		return ok && c.KeysVersion == 2
	})
	require.NoError(t, a.Stop())
	r.start(r.options())
	r.until("hello with it", func() bool {
		h, ok := said[protocol.Hello](r)
		return ok && h.KeysVersion == 2 && h.BootSeq == 2
	})
}

func TestCertificateTime(t *testing.T) {
	last, built := time.Unix(1_800_000_000, 0), time.Unix(1_700_000_000, 0)
	wall := time.Unix(1, 0)
	a := &Agent{logbook: logbook{lastWall: last}, o: Options{Built: built}, clock: newClock(func() bool { return false }, func() time.Time { return wall }, nil)}
	require.Equal(t, last, a.certificateTime())
	a.lastWall = time.Time{}
	require.Equal(t, built, a.certificateTime())
	wall = time.Unix(1_900_000_000, 0)
	require.Equal(t, wall, a.certificateTime())
	a.clock.synced.Store(true)
	wall = time.Unix(1, 0)
	require.Equal(t, wall, a.certificateTime(), "a clock that is set is right")
}

func TestTheFirstFailureCounts(t *testing.T) {
	a := &Agent{done: make(chan struct{})}
	a.fail(errors.New("first"))
	a.fail(errors.New("second"))
	<-a.Done()
	require.EqualError(t, a.Err(), "first")
}

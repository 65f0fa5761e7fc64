package agent

import (
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/journal"
	"batteryswap/protocol"
	"batteryswap/protocol/slotboard"
)

// stuckDisk blocks every write from some moment on, until it is let go.
type stuckDisk struct {
	journal.Disk
	stuck *atomic.Bool
	free  chan struct{}
}

type stuckFile struct {
	journal.File
	d stuckDisk
}

func (d stuckDisk) OpenWrite(name string) (journal.File, error) {
	f, err := d.Disk.OpenWrite(name)
	return stuckFile{f, d}, err
}

func (d stuckDisk) Create(name string) (journal.File, error) {
	f, err := d.Disk.Create(name)
	return stuckFile{f, d}, err
}

func (f stuckFile) WriteAt(b []byte, off int64) (int, error) {
	if f.d.stuck.Load() {
		<-f.d.free
	}
	return f.File.WriteAt(b, off)
}

// powered says whether a slot's battery has power, and sense changes what the
// cabinet's own board feels.
func (s *slave) powered(slot int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.contactor && s.units[slot-1].charging
}

func (s *slave) sense(own slotboard.CabinetStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own = own
}

// told is what a service manager hears.
type told struct {
	mu     sync.Mutex
	states []string
}

func (o *told) tell(state string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states = append(o.states, state)
}

func (o *told) count(state string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, s := range o.states {
		if s == state {
			n++
		}
	}
	return n
}

// TestCutWhileTheDiskBlocks: smoke while the disk blocks for ever, with no broker.
// Power goes all the same, and the watchdog is no longer fed.
func TestCutWhileTheDiskBlocks(t *testing.T) {
	s := newSlave(2)
	s.put(1, "FLAT1", 30)
	r := newRig(t, s.serve(t), 2)
	o := r.options()
	d := stuckDisk{stuck: new(atomic.Bool), free: make(chan struct{})}
	o.openDisk = func(dir string) (journal.Disk, error) {
		disk, err := journal.OpenDir(dir, forgetPages)
		return stuckDisk{disk, d.stuck, d.free}, err
	}
	var manager told
	o.supervisor = supervisor{tell: manager.tell, every: 6 * time.Second}
	r.start(o)
	require.Equal(t, 1, manager.count("READY=1"))
	r.until("charging", func() bool { return s.powered(1) })
	r.until("fed", func() bool { return manager.count("WATCHDOG=1") > 0 })

	d.stuck.Store(true)
	s.sense(slotboard.CabinetSmoke)
	began := time.Now()
	r.until("power is off", func() bool { return !s.powered(1) })
	require.LessOrEqual(t, time.Since(began), 2*time.Second)
	fed := manager.count("WATCHDOG=1")
	wait := time.NewTimer(7 * time.Second)
	defer wait.Stop()
	<-wait.C
	require.LessOrEqual(t, manager.count("WATCHDOG=1")-fed, 1, "a hung journal is not alive")
	close(d.free)
	d.stuck.Store(false)
	r.until("fed again", func() bool { return manager.count("WATCHDOG=1") > fed+1 })
}

// TestClearAlarmOnSite: a latched alarm outlives its cause and the agent; only who
// has turned the key clears it, and the journal says so.
func TestClearAlarmOnSite(t *testing.T) {
	s := newSlave(2)
	s.put(1, "FLAT1", 30)
	r := newRig(t, s.serve(t), 2)
	r.serveBroker()
	a := r.start(r.options())
	r.until("charging", func() bool { return s.powered(1) })
	s.sense(slotboard.CabinetSmoke)
	r.until("recorded", func() bool {
		alarm, raised := recorded[protocol.Alarm](r)
		cut, cutting := recorded[protocol.ChargeCut](r)
		return raised && alarm.Kind == protocol.AlarmSmoke && cutting && cut.Kind == protocol.AlarmSmoke
	})
	require.False(t, s.powered(1))
	_, refused, err := ClearAlarms(r.config, EverySlot)
	require.NoError(t, err)
	require.Contains(t, refused[0], "the maintenance key is not turned")
	s.sense(slotboard.CabinetSmoke | slotboard.MaintenanceKey)
	r.until("its cause is not over", func() bool {
		_, refused, err = ClearAlarms(r.config, 0)
		return err == nil && slices.Contains(refused, "smoke of the cabinet: its cause is not over")
	})
	s.sense(0)
	require.NoError(t, a.Stop())
	require.False(t, s.powered(1), "an agent that stops leaves nothing charging")

	b := r.start(r.options())
	_, refused, err = ClearAlarms(r.config, EverySlot)
	require.NoError(t, err)
	require.Len(t, refused, 1, "it outlives the agent")
	require.True(t, b.safety.State().Halt)
	s.sense(slotboard.MaintenanceKey)
	var cleared []string
	r.until("cleared", func() bool {
		cleared, _, err = ClearAlarms(r.config, EverySlot)
		return err == nil && len(cleared) > 0
	})
	require.Equal(t, []string{"smoke of the cabinet"}, cleared)
	r.until("recorded", func() bool {
		alarm, ok := recorded[protocol.Alarm](r)
		return ok && alarm.Kind == protocol.AlarmSmoke && alarm.Cleared && alarm.OnSite
	})
	r.until("charging again", func() bool { return s.powered(1) })
	require.Contains(t, scrape(t, b), "swap_cabinet_contactor_closed 1")
	require.NoError(t, b.Stop())
	_, _, err = ClearAlarms(r.config, EverySlot)
	require.ErrorContains(t, err, filepath.Join("state", siteSocket))
}

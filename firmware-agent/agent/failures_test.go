package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// knows waits until the cabinet knows what is in so many slots.
func knows(t *testing.T, a *Agent, slots int) {
	t.Helper()
	require.Eventually(t, func() bool {
		known := 0
		for _, s := range a.inventory() {
			if s.Presence != protocol.PresenceUnknown && s.Closed {
				known++
			}
		}
		return known == slots
	}, patience, 20*time.Millisecond, "slots known: expected %d", slots)
}

// A frozen board answers, and its values are what was so once: the slot is out.
func TestFailure37BoardFrozenButAnswering(t *testing.T) {
	s := newSlave(3)
	s.put(3, "CHARGED1", 97)
	r := newRig(t, s.serve(t), 3)
	r.serveBroker()
	a := r.start(r.options())
	knows(t, a, 3)
	s.freeze(true)
	knows(t, a, 0)
	require.Contains(t, scrape(t, a), `swap_cabinet_slots{state="charged"} 0`, "nothing of it is given out")
	require.NotContains(t, scrape(t, a), `swap_polls_total{result="failed"}`, "it does answer")
	s.freeze(false)
	knows(t, a, 3)
	r.prepared(swapID)
}

// The adapter comes back as another device behind the same by-path name.
func TestFailure38AdapterVanishesAndReturnsUnderAnotherName(t *testing.T) {
	s := newSlave(3)
	s.put(3, "CHARGED1", 97)
	link := filepath.Join(t.TempDir(), "platform-usb-0:1:1.0-port0")
	device, unplug := s.plug(t, link)
	r := newRig(t, link, 3)
	r.serveBroker()
	a := r.start(r.options())
	knows(t, a, 3)

	other, _ := s.plug(t, link+".other")
	require.NotEqual(t, device, other)
	unplug()
	require.Eventually(t, func() bool { return strings.Contains(scrape(t, a), "swap_bus_up 0") }, patience, 20*time.Millisecond)
	knows(t, a, 0)
	for _, slot := range a.inventory() {
		require.Equal(t, protocol.DoorUnknown, slot.Door, "slot %d: unknown, never as it was", slot.Slot)
		require.False(t, slot.Charged)
	}
	require.NoError(t, os.Rename(link+".other", link))
	knows(t, a, 3)
	require.Equal(t, s.units[2].serial, string(a.inventory()[2].BatterySerial))
	r.prepared(swapID)
	require.LessOrEqual(t, strings.Count(r.log.String(), "serial line cannot be opened"), 2, "told once, not in every attempt")
}

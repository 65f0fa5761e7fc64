package soak

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// force is a battery's way through a door that no swap accounts for.
type force struct {
	box  *box
	slot *slot
	at   time.Duration
	boot int
	told bool // it was known already that the door was forced
}

// force is what moving a battery now would be; nil when a swap accounts for it,
// which has opened the door. A swap that is over does so no more: it may end while
// the door is open only when sensors that lied have let it.
func (b *box) force(s *slot) *force {
	x := b.facts.open
	if s.licensed && (!s.lied || x != nil && slices.Contains(x.order, s)) {
		return nil
	}
	return &force{b, s, b.now, b.boot, b.facts.forced[s.n].on}
}

// known: the cabinet has told that the door was forced. One that had no power
// then, or has none since, does not know what it held before.
func (f *force) known() bool {
	return f.told || f.box.core == nil || f.box.boot != f.boot || f.box.facts.forced[f.slot.n].at >= f.at
}

// forcedDoor is what a cabinet has told of a door.
type forcedDoor struct {
	on bool
	at time.Duration // the last TAMPER
}

func (d *device) tamper(p protocol.Tamper) {
	d.forced[p.Slot] = forcedDoor{true, d.box.now}
}

func (d *device) alarm(p protocol.Alarm) {
	if f := d.forced[p.Slot]; p.Kind == protocol.AlarmTamper && p.Cleared {
		f.on = false
		d.forced[p.Slot] = f
	}
}

// TestForceIsToldOrNotExcused: a battery that nobody was granted is where the books
// do not have it only if the cabinet has told so.
func TestForceIsToldOrNotExcused(t *testing.T) {
	s := newSim(1, profile{cabinets: 1, slots: 2, riders: 1, swaps: 1, pulses: 100})
	b := s.boxes[0]
	b.start()
	door := b.slots[0]
	s.now = time.Minute
	require.NotNil(t, b.force(door), "nobody was granted this door")
	door.licensed = true
	require.Nil(t, b.force(door))
	door.lied = true
	require.NotNil(t, b.force(door), "its swap is over")
	b.facts.open = &deal{order: []*slot{door}}
	require.Nil(t, b.force(door), "its swap is open")
	b.facts.open = nil
	f := b.force(door)
	require.False(t, f.known())
	b.facts.tamper(protocol.Tamper{Slot: 2})
	require.False(t, f.known(), "another door's")
	b.facts.tamper(protocol.Tamper{Slot: 1})
	require.True(t, f.known())
	s.now += time.Minute
	require.True(t, b.force(door).known(), "the alarm is on")
	b.facts.alarm(protocol.Alarm{Kind: protocol.AlarmTamper, Slot: 1, Cleared: true})
	f = b.force(door)
	require.False(t, f.known(), "told of an earlier time")
	b.stop()
	require.True(t, f.known(), "without power it cannot know")
}

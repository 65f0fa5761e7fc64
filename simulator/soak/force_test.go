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
	// told: it was on record already that the door was forced. dark: the cabinet could
	// not know. It had no power, or could not say what the slot held, or went out before
	// it could see the change.
	told, dark bool
}

// noticing is within what time a cabinet must have told of force, from when the
// slot is shut and its sensors are sound.
const noticing = 20 * time.Second

// force is what moving a battery now would be; nil when a swap accounts for it,
// which has opened the door. A swap that is over does so no more, when sensors that
// lied have let it end while the door was open.
func (b *box) force(s *slot) *force {
	x := b.facts.open
	if s.licensed && (!s.lied || x != nil && slices.Contains(x.order, s)) {
		return nil
	}
	f := &force{box: b, slot: s, at: b.now, told: b.facts.forced[s.n], dark: !b.knows(s)}
	b.facts.forces = append(b.facts.forces, f)
	return f
}

// knows: the agent can say what the slot holds, or that its door is open.
func (b *box) knows(s *slot) bool {
	if b.core == nil {
		return false
	}
	st, ok := b.core.Inventory().Slot(s.n)
	return ok && (st.Door == protocol.DoorOpen || st.Closed && (st.Presence == protocol.PresenceEmpty || st.BatterySerial != ""))
}

// known: the cabinet has told since that the door was forced, or what force moved.
func (f *force) known() bool { return f.told || f.dark || f.box.facts.told[f.slot.n] >= f.at }

// unlit is a cabinet's end, of the boot or of the power: what it could not have
// noticed by now, it never will. The flash may lose its last record.
func (d *device) unlit() {
	for n, on := range d.forced {
		d.forced[n] = on || d.told[n] == d.box.now
	}
	for _, f := range d.forces {
		sound := max(f.at, f.slot.shutAt)
		for _, until := range f.slot.until {
			sound = max(sound, until)
		}
		f.dark = f.dark || d.box.now < sound+noticing
	}
	d.forces = nil
}

// tamper is a TAMPER record. One of a closed door must have a cause.
func (d *device) tamper(p protocol.Tamper) {
	d.told[p.Slot], d.forced[p.Slot] = d.box.now, true
	st, ok := p.Inventory.Slot(p.Slot)
	if ok && st.Closed && !slices.ContainsFunc(d.forces, func(f *force) bool { return f.slot.n == p.Slot }) {
		d.box.fail(2, "%s tells of force at door %d, which nobody has opened", d.box.id, p.Slot)
	}
}

// alarm is an ALARM record: the end of a tamper alarm tells what force moved.
func (d *device) alarm(p protocol.Alarm) {
	if p.Kind == protocol.AlarmTamper && p.Cleared {
		d.told[p.Slot], d.forced[p.Slot] = d.box.now, false
	}
}

// TestForceIsToldOrNotExcused: a battery that nobody was granted is where the books
// do not have it only if the cabinet has told so, or could not know.
func TestForceIsToldOrNotExcused(t *testing.T) {
	begin := func() (*sim, *box, *slot) {
		s := newSim(1, profile{cabinets: 1, slots: 2, riders: 1, swaps: 1, pulses: 100})
		b := s.boxes[0]
		b.start()
		for b.now < time.Minute {
			s.now += time.Second
			b.read(b.all()...)
		}
		require.True(t, b.knows(b.slots[0]))
		return s, b, b.slots[0]
	}
	s, b, door := begin()
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
	s.now += time.Minute
	f = b.force(door)
	require.False(t, f.known(), "told of an earlier time")
	b.facts.alarm(protocol.Alarm{Kind: protocol.AlarmTamper, Slot: 1, Cleared: true})
	require.True(t, f.known(), "its end says what is in")
	require.Nil(t, s.broken)
	b.facts.unlit()
	b.facts.tamper(protocol.Tamper{Slot: 1, Inventory: b.core.Inventory()})
	require.NotNil(t, s.broken, "nobody has opened it in this boot")

	for _, x := range []struct {
		what          string
		after         time.Duration
		faulty, known bool
	}{{"at once", time.Second, false, true}, {"late", noticing, false, false}, {"late, of sick sensors", noticing, true, true}} {
		s, b, door = begin()
		f = b.force(door)
		if x.faulty {
			door.until[doorFlaps] = b.now + time.Second
		}
		s.now += x.after
		b.stop()
		require.Equal(t, x.known, f.known(), x.what)
	}
	require.True(t, b.force(door).known(), "it has no power")
}

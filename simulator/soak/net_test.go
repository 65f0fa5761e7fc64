package soak

import (
	"bytes"
	"time"

	"batteryswap/firmware-agent/agent"
	"batteryswap/protocol"
)

// network is the broker and the lines to it.
type network struct {
	*sim
	wiped int // counts: what was under way before is gone
	old   []carried
	// swallows, when set, says which messages never arrive.
	swallows func(payload []byte) bool
}

// carried is a message that somebody may send again.
type carried struct {
	topic   string
	payload []byte
}

// keep bounds the messages that can be replayed.
const keep = 64

func (n *network) down(topic string, payload []byte) {
	if n.mute {
		return
	}
	id, _, err := protocol.ParseTopic(topic)
	if err != nil {
		n.fail(0, "%v", err)
		return
	}
	for _, b := range n.boxes {
		if b.id != id {
			continue
		}
		if len(n.old) < keep {
			n.old = append(n.old, carried{topic, payload})
		} else {
			n.old[n.rng.IntN(keep)] = carried{topic, payload}
		}
		n.carry(b, lostDown, payload, func(p []byte) { n.toCabinet(b, topic, p) })
	}
}

func (n *network) toCabinet(b *box, topic string, payload []byte) {
	if b.core == nil || !b.up {
		return
	}
	n.note("%s hears %.120s", b.id, payload)
	b.drive(func(c *agent.Core) { c.Receive(n.wall(), topic, false, payload) })
	b.acknowledged()
}

func (n *network) up(b *box, topic string, payload []byte) {
	n.carry(b, lostUp, payload, func(p []byte) {
		if n.isDown() {
			return
		}
		err := n.fleet.Receive(n.wall(), topic, p)
		if err != nil {
			n.note("%s backend: %v", b.id, err)
		}
		n.committed(b)
	})
}

// carry brings a message there, or not, or twice, or late.
func (n *network) carry(b *box, lost fault, payload []byte, arrive func([]byte)) {
	if n.swallows != nil && n.swallows(payload) {
		return
	}
	wiped := n.wiped
	bring := func(d time.Duration, p []byte) {
		n.after(d, func() {
			if n.wiped == wiped && n.now >= b.cutOff {
				arrive(p)
			}
		})
	}
	delay := n.between(10*time.Millisecond, 60*time.Millisecond)
	if n.calm {
		bring(delay, payload)
		return
	}
	f := n.luck(b, lost)
	if f != faults {
		n.hit(b, f)
	}
	switch f {
	case lost:
		return
	case doubled:
		bring(n.between(time.Millisecond, 5*time.Second), payload)
	case reordered:
		delay = n.between(200*time.Millisecond, 6*time.Second)
	case hourLate:
		delay = n.between(2*time.Minute, time.Hour)
	case corrupted:
		payload = bytes.Clone(payload)
		payload[n.rng.IntN(len(payload))] ^= 1 << n.rng.IntN(8)
	}
	bring(delay, payload)
}

// luck is what befalls a message: faults is nothing.
func (n *network) luck(b *box, lost fault) fault {
	f := b.next
	if wrongWay := (f == lostUp || f == lostDown) && f != lost; f != faults && !wrongWay {
		b.next = faults
		return f
	}
	switch roll := n.rng.IntN(110); {
	case roll < 2:
		return lost
	case roll < 4:
		return doubled
	case roll < 6:
		return reordered
	case roll < 7:
		return hourLate
	case roll < 8:
		return corrupted
	}
	return faults
}

// replay has an attacker, or a broker that keeps what it must not, send an old
// message again, perhaps to another cabinet.
func (n *network) replay(b *box) {
	if len(n.old) == 0 {
		return
	}
	n.hit(b, replayed)
	m := n.old[n.rng.IntN(len(n.old))]
	n.after(n.between(0, time.Second), func() { n.toCabinet(b, m.topic, m.payload) })
}

// wipe is a broker that forgets everything and drops everybody.
func (n *network) wipe() {
	n.wiped++
	for _, b := range n.boxes {
		b.disconnect()
	}
}

func (s *sim) isDown() bool { return s.now < s.downUntil }

// down is for what asks by a name of its own.
func (b *box) down() bool { return b.isDown() }

// backend is what the fleet's server does by itself, and what befalls it.
func (s *sim) backend() {
	s.after(2*time.Second, s.backend)
	if s.isDown() {
		return
	}
	s.fleet.Expire(s.wall())
	for _, b := range s.boxes {
		if store := s.fleet.Store(s.wall()); store.Waiting(b.id) && (s.calm || s.chance(40)) {
			s.note("staff accept the epoch that waits at %s", b.id)
			_ = store.AcceptEpoch(s.wall(), b.id) // none waits: fine
		}
	}
	if s.calm {
		return
	}
	if (s.chance(2) || len(s.backups) == 0) && len(s.backups) < 8 && s.commissioned() {
		s.backups = append(s.backups, s.fleet.Store(s.wall()).Backup())
	}
	switch roll := s.rng.IntN(3000); {
	case roll < 18:
		s.crash()
	case roll < 24:
		s.everywhere(brokerWiped)
		s.net.wipe()
	case roll < 26 && s.profile.wild && len(s.backups) > 0:
		s.restore()
	}
}

// crash is a backend that is down for a while, or dies committed before it can
// answer.
func (s *sim) crash() {
	s.everywhere(backendCrash)
	if s.chance(67) {
		s.downUntil = s.now + s.between(500*time.Millisecond, 15*time.Second)
		return
	}
	s.mute = true
	s.after(s.between(50*time.Millisecond, 800*time.Millisecond), func() { s.mute = false })
}

// commissioned: every cabinet has said hello.
func (s *sim) commissioned() bool {
	for _, b := range s.boxes {
		if s.fleet.Store(s.wall()).Cabinet(b.id).Epoch.IsZero() {
			return false
		}
	}
	return true
}

// restore puts an old backup in place of the books.
func (s *sim) restore() {
	s.everywhere(backendRestored)
	s.restored = s.now
	store := s.fleet.Store(s.wall())
	store.Restore(s.backups[s.rng.IntN(len(s.backups))])
	given := map[string]int{}
	for _, e := range store.View().Ledger {
		if e.What == "credit_opened" && e.Origin == "staff" {
			given[string(e.RiderID)]++
		}
	}
	for _, r := range s.riders {
		r.credited = given[string(r.id)]
	}
	for _, y := range s.batteries {
		y.forgotten = y.forgotten || y.byStaff
	}
	s.downUntil = s.now + s.between(time.Second, 10*time.Second)
	s.net.wipe()
}

func (s *sim) everywhere(f fault) {
	for _, b := range s.boxes {
		s.hit(b, f)
	}
}

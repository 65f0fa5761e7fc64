package soak

import (
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"batteryswap/firmware-agent/agent"
	"batteryswap/protocol"
)

// powerCut is what a cut panics with.
type powerCut struct{}

// battery is a fact.
type battery struct {
	serial  protocol.BatterySerial
	soc     float64 // %
	slot    *slot   // nil: in somebody's hands, or with staff
	holder  *rider
	foreign bool   // not in the registry
	byForce *force // how it was last moved, when no swap accounts for that
	// byStaff: staff have said where it is. forgotten: a restore has lost what they
	// said, and no swap has given it out since.
	byStaff, forgotten bool
}

// slot is one compartment.
type slot struct {
	n       int
	open    bool
	locked  bool
	held    *battery
	plugged bool
	charge  bool // the charger is on
	ordered bool // the last order
	changes uint16
	opensAt time.Duration // a door that stuck; 0: none does
	shutAt  time.Duration // when it was shut last
	// licensed: pulsed, and not closed since it opened.
	licensed bool
	// lied: since it was pulsed, its sensors have said "closed" for as long as that
	// must be believed, and it was not so: not the cabinet's mistake. liesAt is since
	// when they say so.
	lied    bool
	liesAt  time.Duration
	until   [faults]time.Duration
	frozen  agent.Reading
	smokeAt time.Duration // of a smoke that began and can be read; 0: none
	hotAt   time.Duration // of a battery that became hot, likewise
}

func (s *slot) closed() bool { return !s.open && s.locked }

// box is a cabinet: what is so, and the agent in it.
type box struct {
	*sim
	id     protocol.CabinetID
	slots  []*slot
	key    crypto.Signer
	flash  *flash
	core   *agent.Core
	boot   int           // counts boots: what an earlier one asked for is void
	bootAt time.Duration // of this boot
	person *rider
	up     bool // connected
	cutOff time.Duration
	hurry  bool
	clock  time.Duration // wall clock less the true time
	synced bool
	press  time.Duration // until when the button says yes
	max    int           // pulses an hour
	nextAt time.Duration // of the next poll
	// fuse burns by one at each moment at which the power may go; fuses are those
	// that are lit after it, one by one.
	fuse   int
	fuses  []int
	points int
	cuts   []string // the moments at which it went
	// segment is the size of the journal's files.
	segment int64
	next    fault // of the next message; faults: by chance
	// jams, when set, says which pulses do nothing.
	jams  func(*slot, protocol.Purpose) bool
	facts device
}

func newBox(s *sim, n, slots int) *box {
	b := &box{sim: s, id: protocol.CabinetID(fmt.Sprintf("hb-%04d", n)), max: s.profile.pulses, segment: segmentBytes, next: faults}
	b.key = s.signing.NewKey(sha256.Sum256([]byte(fmt.Sprint(s.seed, b.id))))
	b.facts.box = b
	for i := range slots {
		b.slots = append(b.slots, &slot{n: i + 1, locked: true})
	}
	b.setFlash(newFlash())
	return b
}

func (b *box) setFlash(f *flash) {
	b.flash = f
	f.point, f.synced = b.point, b.facts.synced
}

// point is a moment at which the power may go.
func (b *box) point(name string) bool {
	b.points++
	if b.fuse == 0 {
		return false
	}
	if b.fuse--; b.fuse > 0 {
		return false
	}
	kinds := map[string]fault{
		"before write": cutBeforeWrite, "torn write": cutTorn, "after write": cutAfterWrite, "after sync": cutAfterSync,
		"before act": cutBeforeAct, "after act": cutAfterAct,
	}
	kind, ok := kinds[name]
	if !ok {
		kind = cutBeforeWrite
	}
	b.hit(b, kind)
	b.cuts = append(b.cuts, name)
	b.note("%s power cut: %s", b.id, name)
	if name == "torn write" {
		return true
	}
	panic(powerCut{})
}

// drive lets the agent do something. A cut in it ends the boot.
func (b *box) drive(f func(*agent.Core)) {
	if b.core == nil {
		return
	}
	defer b.catch()
	f(b.core)
	if err := b.core.Err(); err != nil {
		b.note("%s agent stops: %v", b.id, err)
		b.stop()
		b.flash.locked = false
		b.after(b.between(2*time.Second, 10*time.Second), b.start)
	}
}

func (b *box) catch() {
	if r := recover(); r != nil {
		if _, ok := r.(powerCut); !ok {
			panic(r)
		}
		b.powerOff()
	}
}

func (b *box) stop() {
	b.core, b.up, b.hurry = nil, false, false
	b.boot++
	b.facts.cut()
}

// powerOff takes the power away, and gives it back after a while.
func (b *box) powerOff() {
	garble := b.profile.wild && b.flash.lucky == anyLuck && b.chance(20)
	if garble {
		b.hit(b, flashGarbles)
	}
	b.fuse = 0
	if len(b.fuses) > 0 {
		b.fuse, b.fuses = b.fuses[0], b.fuses[1:]
	}
	after := b.flash.afterCut(b.rng, b.flash.lucky, garble)
	after.lucky = b.flash.lucky
	b.stop()
	b.setFlash(after)
	b.after(b.between(time.Second, 12*time.Second), b.start)
}

// start boots the agent.
func (b *box) start() {
	if b.core != nil {
		return
	}
	defer b.catch()
	b.boot++
	b.bootAt, b.synced = b.now, b.chance(70)
	core, err := agent.NewCore(agent.CoreOptions{
		CabinetID: b.id, Slots: len(b.slots), MaxPulsesPerHour: b.max, DeviceKey: b.key, Keys: b.ring, Verify: b.signing.Verify,
		Disk: b.flash, Segment: b.segment,
		Mono:         func() time.Duration { return b.now - b.bootAt },
		Wall:         func() time.Time { return b.wall().Add(b.clock) },
		Synchronised: func() bool { return b.synced },
		Random:       b.bytes(), Jitter: b.rng, Hands: b, Software: "soak", Log: quiet,
	})
	if err != nil {
		b.fail(0, "%s: boot: %v", b.id, err)
		return
	}
	b.core = core
	for _, sl := range b.slots {
		sl.charge, sl.ordered = false, false // the boards' outputs are off at a start
	}
	b.facts.booted()
	b.note("%s boot %d", b.id, core.Status().BootSeq)
	b.nextAt = 0
	b.poll()
	b.soon(300*time.Millisecond, 2*time.Second, b.connect)
}

var quiet = slog.New(slog.DiscardHandler)

// segmentBytes is small, so that segments are rolled.
const segmentBytes = 16 << 10

// bytes are random ones of this cabinet.
func (b *box) bytes() byteReader { return byteReader{b.rng} }

type byteReader struct{ r *rand.Rand }

func (r byteReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.r.Uint32())
	}
	return len(p), nil
}

// soon does something within a time, unless this boot is over then.
func (b *box) soon(least, most time.Duration, f func()) {
	boot := b.boot
	b.after(b.between(least, most), func() {
		if b.boot == boot && b.core != nil {
			f()
		}
	})
}

func (b *box) connect() {
	if b.now < b.cutOff || b.up {
		if !b.up {
			b.soon(time.Second, 5*time.Second, b.connect)
		}
		return
	}
	b.up = true
	b.drive(func(c *agent.Core) { c.Connected(b.wall(), true) })
}

// disconnect is what the agent sees of a broker that is gone.
func (b *box) disconnect() {
	if b.core == nil || !b.up {
		return
	}
	b.up = false
	b.drive(func(c *agent.Core) { c.Connected(b.wall(), false) })
	b.soon(time.Second, 3*time.Second, b.connect)
}

// poll reads all slots and lets the agent decide, again and again.
func (b *box) poll() {
	if b.now < b.nextAt {
		return
	}
	pace := time.Second
	if b.hurry {
		pace = 500 * time.Millisecond
	}
	b.nextAt = b.now + pace
	boot := b.boot
	b.after(pace, func() {
		if b.boot == boot {
			b.poll()
		}
	})
	b.read(b.all()...)
	b.checkHeat()
}

func (b *box) all() []int {
	out := make([]int, len(b.slots))
	for i := range out {
		out[i] = i + 1
	}
	return out
}

// read reads slots and the cabinet's own board.
func (b *box) read(slots ...int) {
	b.drive(func(c *agent.Core) {
		for _, n := range slots {
			r, ok := b.slots[n-1].reading(b)
			switch {
			case !ok:
			case b.slots[n-1].until[lateReply] > b.now:
				b.soon(100*time.Millisecond, 1500*time.Millisecond, func() { b.drive(func(c *agent.Core) { c.Observe(r) }) })
			default:
				c.Observe(r)
			}
		}
		c.ObserveCabinet(agent.CabinetReading{
			At: b.now - b.bootAt, Button: agent.TriOf(b.now < b.press), Smoke: agent.No, Water: agent.No, EmergencyStop: agent.No,
			Alive: uint16(b.now / time.Second),
		})
		if b.rng.IntN(4) == 0 {
			c.WatchClock()
		}
		c.Tick(b.wall())
	})
}

// Publish, Tell, Unlock, Charge, Reread and Pace are the agent's hands.

// Publish hands a message to the network.
func (b *box) Publish(topic string, payload []byte) {
	b.point("before act")
	b.facts.said(payload)
	b.note("%s says %.120s", b.id, payload)
	b.net.up(b, topic, payload)
	b.point("after act")
}

// Tell is telemetry.
func (b *box) Tell(t protocol.Telemetry) {
	if b.now >= b.cutOff && !b.down() {
		b.fleet.Store(b.wall()).Heard(b.wall(), b.id, t.Slots)
	}
}

// Unlock pulses a lock.
func (b *box) Unlock(n int) {
	b.point("before act")
	s, purpose := b.slots[n-1], b.facts.purpose()
	b.facts.pulsed(s)
	b.note("%s pulse %d", b.id, n)
	answer := 2 * time.Second
	switch {
	case s.until[stuckLock] > b.now, b.jams != nil && b.jams(s, purpose):
	case s.until[failedPulse] > b.now:
		b.hit(b, failedPulse)
	default:
		s.locked = false
		if s.until[stickingDoor] > b.now {
			b.hit(b, stickingDoor)
			s.opensAt = b.now + b.between(3*time.Second, 90*time.Second)
			b.after(s.opensAt-b.now, func() { b.spring(s) })
		} else {
			s.open = true
		}
	}
	if s.until[lateAnswer] > b.now {
		b.hit(b, lateAnswer)
		answer = agent.PulseTime - time.Second
	}
	b.soon(100*time.Millisecond, answer, func() { b.drive(func(c *agent.Core) { c.Answered(n) }) })
	b.point("after act")
}

// spring opens a door that stuck, unless somebody has pushed it shut.
func (b *box) spring(s *slot) {
	if s.opensAt != 0 && s.opensAt <= b.now && !s.locked {
		s.open, s.opensAt = true, 0
		b.note("%s door %d springs open late", b.id, s.n)
	}
}

// Charge switches a charger, a little later; the last order counts. That a switch
// may fail is the safety loop's care.
func (b *box) Charge(n int, on bool) {
	b.note("%s charger %d: %t", b.id, n, on)
	s := b.slots[n-1]
	s.ordered = on
	b.soon(20*time.Millisecond, 200*time.Millisecond, func() { s.charge = s.ordered })
}

// Reread reads slots before their turn.
func (b *box) Reread(slots []int) {
	slots = slices.Clone(slots)
	b.soon(30*time.Millisecond, 150*time.Millisecond, func() { b.read(slots...) })
}

// Pace says how fast to read.
func (b *box) Pace(hurry bool, _ []int) {
	if b.hurry = hurry; hurry {
		b.nextAt = 0
		b.soon(20*time.Millisecond, 100*time.Millisecond, b.poll)
	}
}

// believed is for how long a slot must be told closed.
const believed = 2 * time.Second

// reading is what the slot's board says, if it answers.
func (s *slot) reading(b *box) (agent.Reading, bool) {
	if s.until[noAnswer] > b.now {
		return agent.Reading{}, false
	}
	if s.until[frozenBoard] > b.now && s.frozen.Slot != 0 {
		r := s.frozen
		r.At = b.now - b.bootAt
		return r, true
	}
	in := s.held != nil
	link := s.link(b.now)
	if s.charge && in {
		s.held.soc = min(100, s.held.soc+1)
	}
	r := agent.Reading{
		Slot: s.n, At: b.now - b.bootAt, DoorOpen: agent.TriOf(s.open), Bolt: agent.TriOf(s.locked), BoltFitted: true,
		CoilActive: agent.No, Switch: agent.TriOf(in), BatteryLink: agent.TriOf(link), IdentityEpoch: s.changes,
		ChargeEnabled: agent.TriOf(s.charge), Charging: agent.TriOf(s.charge && link), Full: agent.No,
		Smoke: agent.TriOf(s.until[smoke] > b.now), Alive: uint16(b.now / time.Second),
	}
	if link {
		r.Serial = string(s.held.serial)
		r.SocPermille, r.VoltageMV = agent.Known(int32(s.held.soc*10)), agent.Known(52_000)
		r.CellMax, r.CellMin = agent.Known(260), agent.Known(250)
		if s.hot(b.now) {
			r.CellMax = agent.Known(620)
		}
	}
	anything := func() agent.Tri { return agent.Tri(b.rng.IntN(3)) }
	switch {
	case s.until[doorFlaps] > b.now:
		r.DoorOpen = anything()
	case s.until[boltFlaps] > b.now:
		r.Bolt = anything()
	case s.until[presenceFlaps] > b.now && in == link: // else the switch is the only witness
		r.Switch = anything()
	}
	s.frozen = r
	switch {
	case s.closed() || r.DoorOpen != agent.No || r.Bolt != agent.Yes:
		s.liesAt = 0
	case s.liesAt == 0:
		s.liesAt = b.now
	case b.now-s.liesAt >= believed:
		s.lied = true
	}
	return r, true
}

// chargeOff is within what time charging is off, with a little for the board's
// answer.
const chargeOff = 2500 * time.Millisecond

// checkHeat is I12: no charging in smoke, nor of a hot battery.
func (b *box) checkHeat() {
	if b.core == nil || b.core.Status().OutOfService && b.core.Inventory() == nil {
		return
	}
	for _, s := range b.slots {
		unread := s.until[noAnswer] > b.now || s.until[lateReply] > b.now || s.until[frozenBoard] > b.now || b.now-b.bootAt < 3*time.Second
		for _, x := range []struct {
			since *time.Duration
			on    bool
			what  string
		}{{&s.smokeAt, s.until[smoke] > b.now, "smoke began"}, {&s.hotAt, s.hot(b.now) && s.link(b.now), "its battery is hot"}} {
			switch {
			case !x.on:
				*x.since = 0
			case *x.since == 0 || unread:
				*x.since = b.now
			case s.charge && b.now-*x.since > chargeOff:
				b.fail(12, "%s slot %d: charging %v after %s", b.id, s.n, b.now-*x.since, x.what)
			}
		}
	}
}

func (s *slot) hot(now time.Duration) bool { return s.held != nil && s.until[hotBattery] > now }

// link: the battery's electronics talk.
func (s *slot) link(now time.Duration) bool {
	return s.held != nil && s.plugged && s.until[deadLink] <= now
}

// state is where the cabinet stands.
func (b *box) state() state { return b.facts.state }

// sealed reads the first line of an envelope.
func sealed(payload []byte, v any) bool {
	line, _, _ := strings.Cut(string(payload), "\n")
	return json.Unmarshal([]byte(line), v) == nil
}

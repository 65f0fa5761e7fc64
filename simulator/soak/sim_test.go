package soak

import (
	"container/heap"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"time"

	"batteryswap/backend/fleet"
	"batteryswap/firmware-agent/agent"
	"batteryswap/protocol"
)

// profile is what kind of fleet a seed makes.
type profile struct {
	cabinets, slots, riders int
	swaps                   int // after so many the faults end
	pulses                  int // an hour
	wild                    bool
}

// tightBucket lets a cabinet do a few swaps in a row, and then one now and then.
const tightBucket = 36

// profileOf is what a seed makes: nine of ten deep, one wide; three of four with
// sensors that lie and people who cheat.
func profileOf(seed uint64) profile {
	r := rand.New(rand.NewPCG(seed, 1))
	p := profile{cabinets: 3, slots: 8, riders: 8, swaps: 90, pulses: 600, wild: r.IntN(4) > 0}
	if seed%10 == 9 {
		p.cabinets, p.riders, p.swaps = 20, 200, 190
	}
	if r.IntN(24) == 0 {
		p.pulses, p.swaps = tightBucket, 18*p.cabinets
	}
	return p
}

// sim is one fleet and its world.
type sim struct {
	seed    uint64
	profile profile
	rng     *rand.Rand
	now     time.Duration
	events  events
	order   int
	tally   *tally
	broken  *violation

	tracing bool
	trace   []string

	signing   fleet.Signing
	fleet     *fleet.Memory
	backups   []*fleet.Backup
	restored  time.Duration // when the books became a backup's last
	downUntil time.Duration
	mute      bool // the backend dies before it can answer
	ring      *agent.KeyRing
	net       *network
	boxes     []*box
	riders    []*rider
	batteries []*battery
	pool      []*battery // with staff
	deals     map[protocol.SwapID]*deal
	accepted  []*deal // in the order of their ACCEPTs
	riderOf   map[protocol.SwapID]*rider
	calm      bool // no faults, no scans any more
}

// begin is the true time at the start of every run.
var begin = time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC)

// wall is the true time.
func (s *sim) wall() time.Time { return begin.Add(s.now) }

type event struct {
	at    time.Duration
	order int
	do    func()
}

// events is a heap, in the order of time, then of making.
type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	if q[i].at != q[j].at {
		return q[i].at < q[j].at
	}
	return q[i].order < q[j].order
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

func (s *sim) after(d time.Duration, do func()) {
	s.order++
	heap.Push(&s.events, event{s.now + max(d, 0), s.order, do})
}

func (s *sim) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.rng.Int64N(int64(max(most-least, 1))))
}

// chance is true in so many of a hundred cases.
func (s *sim) chance(percent int) bool { return s.rng.IntN(100) < percent }

func (s *sim) note(format string, args ...any) {
	if s.tracing {
		s.trace = append(s.trace, fmt.Sprintf("%12s ", s.now.Round(time.Millisecond))+fmt.Sprintf(format, args...))
	}
}

// hit counts a fault that meets a cabinet.
func (s *sim) hit(b *box, f fault) {
	s.tally.Faults++
	s.tally.Cells[f][b.state()]++
	s.note("%s FAULT %s", b.id, faultNames[f])
}

func newSim(seed uint64, p profile) *sim {
	s := &sim{
		seed: seed, profile: p, rng: rand.New(rand.NewPCG(seed, 2)), tally: newTally(),
		deals: map[protocol.SwapID]*deal{}, riderOf: map[protocol.SwapID]*rider{},
	}
	s.tally.Seeds = 1
	s.net = &network{sim: s}
	var err error
	s.signing = signingOf(seed)
	s.fleet, err = fleet.NewMemory(seed, s.signing, s.net.down)
	if err == nil {
		s.ring, err = agent.OpenKeyRing(s.fleet.Keys().Root, []byte(s.fleet.Keys().Signed), quiet)
	}
	if err != nil {
		s.fail(0, "backend: %v", err)
		return s
	}
	s.stock()
	return s
}

// stock puts up cabinets with batteries, and riders with theirs.
func (s *sim) stock() {
	now := s.wall()
	for i := range s.profile.cabinets {
		b := newBox(s, i+1, s.profile.slots)
		b.facts.init()
		s.boxes = append(s.boxes, b)
		if err := s.fleet.Enrol(now, b.id, len(b.slots), b.key.Public().(ed25519.PublicKey)); err != nil {
			s.fail(0, "enrol: %v", err)
		}
		for n := range len(b.slots) * 5 / 8 {
			y := s.newBattery(95)
			y.slot, b.slots[n].held, b.slots[n].plugged = b.slots[n], y, true
			s.assign(y, fleet.Place{CabinetID: b.id, Slot: n + 1})
		}
	}
	for i := range s.profile.riders {
		r := &rider{sim: s, id: fleet.RiderID(fmt.Sprintf("00000000-0000-4000-8000-%012x", i+1)), name: fmt.Sprintf("rider-%d", i+1)}
		s.riders = append(s.riders, r)
		s.fleet.Store(now).AddRider(r.id)
		if i%4 == 3 {
			s.credit(r)
			continue
		}
		s.give(s.newBattery(20), r)
	}
}

func (s *sim) newBattery(soc float64) *battery {
	y := &battery{serial: protocol.BatterySerial(fmt.Sprintf("BT%04d", len(s.batteries)+1)), soc: soc}
	s.batteries = append(s.batteries, y)
	return y
}

func (s *sim) assign(y *battery, to fleet.Place) {
	if err := s.fleet.Store(s.wall()).Assign(s.wall(), y.serial, to); err != nil {
		s.fail(0, "assign %s: %v", y.serial, err)
	}
}

// give hands a battery to a rider, in fact and in the books.
func (s *sim) give(y *battery, r *rider) {
	r.hold(y)
	y.forgotten = false
	s.assign(y, fleet.Place{RiderID: r.id})
}

// credit owes a rider a first battery.
func (s *sim) credit(r *rider) {
	if err := s.fleet.Store(s.wall()).StaffCredit(s.wall(), r.id); err != nil {
		s.fail(0, "credit: %v", err)
	}
	r.credited++
}

func (s *sim) whereIs(y *battery) *box {
	for _, b := range s.boxes {
		for _, sl := range b.slots {
			if sl == y.slot {
				return b
			}
		}
	}
	return nil
}

func (y *battery) place(s *sim) string {
	switch {
	case y.slot != nil:
		return fmt.Sprintf("in %s slot %d", s.whereIs(y).id, y.slot.n)
	case y.holder != nil:
		return "with " + y.holder.name
	}
	return "with staff"
}

// step lets the next thing happen; false is the end.
func (s *sim) step() bool {
	if s.broken != nil || len(s.events) == 0 {
		return false
	}
	e := heap.Pop(&s.events).(event)
	s.now = e.at
	e.do()
	return true
}

// longest bounds a run whose swaps do not come.
const longest = 6 * time.Hour

// run makes the swaps of a seed under fire, then lets all faults end and looks.
func (s *sim) run() *violation {
	for _, b := range s.boxes {
		s.after(s.between(0, 3*time.Second), b.start)
		s.after(s.between(5*time.Second, 10*time.Second), b.trouble)
		s.after(s.between(10*time.Second, 20*time.Second), b.passerBy)
		s.after(s.between(60*time.Second, 90*time.Second), b.service)
	}
	for _, r := range s.riders {
		s.after(s.between(5*time.Second, 60*time.Second), r.visit)
	}
	s.after(time.Second, s.backend)
	for s.tally.Swaps < s.profile.swaps && s.now < longest {
		if !s.step() {
			break
		}
	}
	s.quiesce()
	s.tally.Time = s.now
	if s.broken == nil {
		s.books()
	}
	return s.broken
}

// quiesce ends all faults and shuts all doors.
func (s *sim) quiesce() {
	s.note("all faults end")
	s.calm, s.downUntil = true, s.now
	for _, b := range s.boxes {
		b.fuse, b.cutOff, b.flash.fail, b.flash.lie = 0, 0, nil, false
		for _, sl := range b.slots {
			sl.until = [faults]time.Duration{}
		}
		if s.chance(50) {
			b.disconnect() // else what was lost has to be sent again without it
		}
	}
	end := s.now + 10*time.Minute + 30*time.Second
	quiet := s.now + 70*time.Second
	for s.now < end && s.step() {
		if s.now > quiet {
			if s.still() {
				return
			}
			quiet = s.now + 10*time.Second
		}
	}
}

// still reports whether nothing is left to come.
func (s *sim) still() bool {
	for _, b := range s.boxes {
		if b.core == nil {
			return false
		}
		if st := b.core.Status(); st.Open != "" || st.Tail != st.Acked {
			return false
		}
		for _, sl := range b.slots {
			if !sl.closed() {
				return false
			}
		}
	}
	return len(s.fleet.Store(s.wall()).Open()) == 0
}

package swap

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// A story is one course of one swap: a rig, a rider, pulses and cuts, where
// every choice is made by choose. The first option is always the usual one.
type story struct {
	*rig
	choose func(options int, what string) int
	kind   protocol.Kind
	own    *battery // the rider's
	cuts   int      // cuts that may still come
	hands  []*battery
	acts   int // of the rider, at the door that is open
	stuck  map[int]time.Duration
	pace   int // ticks between two acts
	rests  int
	offer  int // what the rider usually does at the deposit door: see atDeposit
}

// scene is what a story begins with.
type scene struct {
	name    string
	kinds   []protocol.Kind
	unusual int // turns that are not the usual one
	set     func(*story)
}

var (
	everyKind = []protocol.Kind{protocol.KindSwap, protocol.KindOwed, protocol.KindIssue, protocol.KindHandBack}
	deposits  = []protocol.Kind{protocol.KindSwap, protocol.KindHandBack}
	// An issue is an owed but for the books: one of the two will do.
	dispenses = []protocol.Kind{protocol.KindSwap, protocol.KindOwed}
)

const jammed = 99 // pulses that do nothing

func scenes() []scene {
	return []scene{
		{"usual", everyKind, 2, func(*story) {}},
		{"first-deposit-door-jams", deposits, 1, func(s *story) { s.box(1).jam = jammed }},
		{"deposit-doors-jam", deposits, 1, func(s *story) { s.box(1).jam, s.box(2).jam = jammed, jammed }},
		{"first-dispense-door-jams", dispenses, 2, func(s *story) { s.box(3).jam = jammed }},
		{"dispense-doors-jam", dispenses, 2, func(s *story) { s.box(3).jam, s.box(4).jam = jammed, jammed }},
		{"not-plugged-in", deposits, 1, func(s *story) { s.offer = 2 }},
		{"not-theirs", deposits, 1, func(s *story) { s.offer = 3 }},
		{"flash-lies", dispenses, 2, func(s *story) { s.lie = true }},
		{"flash-lies-first-dispense-door-jams", dispenses, 1, func(s *story) { s.lie, s.box(3).jam = true, jammed }},
		{"flash-lies-dispense-doors-jam", dispenses, 1, func(s *story) { s.lie, s.box(3).jam, s.box(4).jam = true, jammed, jammed }},
		{"own-battery-better", []protocol.Kind{protocol.KindSwap}, 1, func(s *story) { s.own.soc = 99 }},
	}
}

const (
	calm    = 3 // ticks between the acts of a calm rider: 1.5 s
	maxActs = 3
	patient = 100 * time.Second // how long a slow rider waits before acting
)

// newStory sets the scene: a prepared and granted swap of the kind.
func newStory(t require.TestingT, sc scene, k protocol.Kind, cuts int, choose func(int, string) int) *story {
	s := &story{
		rig:  newRig(t, box{}, box{}, box{in: charged("C3")}, box{in: charged("C4")}, box{in: &battery{serial: "F5", soc: 30}}),
		kind: k, own: flat("R1"), cuts: cuts, choose: choose, stuck: map[int]time.Duration{},
	}
	s.wait(4 * time.Second)
	s.rig.cut = func(where string) bool {
		if s.cuts == 0 || s.choose(2, "cut "+where) == 0 {
			return false
		}
		s.cuts--
		return true
	}
	s.pulsed = func(n int) pulseResult {
		res := pulseResult(s.choose(3, fmt.Sprintf("pulse %d", n)))
		if res == sticks {
			s.stuck[n] = 5 * time.Second
		}
		return res
	}
	sc.set(s)
	if k.Deposits() {
		s.hands = []*battery{s.own}
	}
	return s
}

// run goes from prepare to the end of the swap, and gives where its records
// begin.
func (s *story) run() (from int) {
	from = len(s.journal)
	p, ok := s.prepare(1, s.kind).(protocol.Prepared)
	require.True(s.t, ok)
	var expect []protocol.BatterySerial
	if s.kind.Deposits() {
		expect = []protocol.BatterySerial{"R1"}
	}
	s.pace = []int{calm, 1}[s.choose(2, "the rider hurries")]
	switch s.choose(3, "granted, cancelled or forgotten") {
	case 0:
		s.event(s.grantOf(p, s.kind, expect...))
	case 1:
		s.event(Cancel{protocol.Cancel{SwapID: p.SwapID}})
	}
	for range 4000 {
		if !s.on {
			s.darkness()
			continue
		}
		if s.over() {
			s.checkRest()
			return from
		}
		s.tick()
		s.rider()
	}
	require.Fail(s.t, "I13: the swap does not end", "%s", s.rig)
	return from
}

// over: a swap is over when CLOSED or VOID is written, or by a later boot
// without ACCEPT.
func (s *story) over() bool {
	if s.recover != nil || s.machine.phase != idle {
		return false
	}
	if len(records[protocol.Closed](s.rig)) > 0 || len(records[protocol.Void](s.rig)) > 0 {
		return true
	}
	return s.bootSeq > 1 && len(records[protocol.Accept](s.rig)) == 0
}

// darkness: the power is off. The rider may act at an open door, then it boots.
func (s *story) darkness() {
	if s.choose(2, "the rider acts in the dark") == 1 {
		s.act()
		s.act()
	}
	s.boot()
}

// rider acts at the door that stands open, and nudges doors that stick.
func (s *story) rider() {
	for _, n := range slices.Sorted(maps.Keys(s.stuck)) {
		left := s.stuck[n] - tick
		if left > 0 {
			s.stuck[n] = left
			continue
		}
		delete(s.stuck, n)
		if b := s.box(n); b.unlocked && s.choose(2, "a door that sticks") == 0 {
			b.open, b.unlocked = true, false
		} else {
			b.unlocked = false // somebody pressed it shut
		}
	}
	if s.rests++; s.rests >= s.pace {
		s.rests = 0
		s.act()
	}
}

// act is one act of the rider at the first open door.
func (s *story) act() {
	n := 0
	for i, b := range s.boxes {
		if b.open {
			n = i + 1
		}
	}
	if n == 0 {
		s.acts = 0
		return
	}
	purpose := protocol.PurposeDeposit
	if i, ok := s.lastIntent(); ok && i.Slot == n {
		purpose = i.Purpose
	}
	if s.acts++; s.acts > maxActs {
		s.shut(n)
		return
	}
	switch purpose {
	case protocol.PurposeDeposit:
		s.atDeposit(n)
	case protocol.PurposeReopen:
		s.atReopen(n)
	case protocol.PurposeDispense:
		s.atDispense(n)
	case protocol.PurposeReturn:
		s.atReturn(n)
	}
}

// in puts a battery that is at hand into a slot, out takes one into the hand.
func (s *story) in(n int, mute bool) {
	if len(s.hands) > 0 && s.box(n).in == nil {
		s.box(n).in, s.box(n).mute = s.hands[0], mute
		s.hands = s.hands[1:]
	}
}

func (s *story) out(n int) {
	if b := s.box(n).in; b != nil {
		s.box(n).in, s.box(n).mute = nil, false
		s.hands = append(s.hands, b)
	}
}

func (s *story) idle(d time.Duration) {
	for end := s.now + d; s.on && s.now < end; {
		s.tick()
	}
}

func (s *story) atDeposit(n int) {
	b := s.box(n)
	if b.in != nil {
		switch s.choose(2, "deposit in") {
		case 0:
			s.shut(n)
		case 1:
			s.out(n)
		}
		return
	}
	if s.acts > 1 { // had taken it out again
		s.shut(n)
		return
	}
	switch (s.choose(6, "deposit") + s.offer) % 6 {
	case 0:
		s.in(n, false)
	case 1:
		s.shut(n)
	case 2:
		s.in(n, true)
	case 3: // somebody else's battery
		s.hands = append([]*battery{flat("X9")}, s.hands...)
		s.in(n, false)
	case 4: // too hot
		s.own.hot = true
		s.in(n, false)
	case 5:
		s.idle(patient)
		s.in(n, false)
	}
}

func (s *story) atReopen(n int) {
	switch s.choose(3, "reopened") {
	case 0:
		s.box(n).mute = false
	case 1: // leaves it as it is
	case 2:
		s.out(n)
	}
	s.shut(n)
}

func (s *story) atDispense(n int) {
	b := s.box(n)
	if b.in == nil {
		switch s.choose(2, "taken") {
		case 0:
			s.shut(n)
		case 1: // puts back what was taken last
			s.hands = append(s.hands[len(s.hands)-1:], s.hands[:len(s.hands)-1]...)
			s.in(n, false)
		}
		return
	}
	if s.acts > 1 {
		s.shut(n)
		return
	}
	switch s.choose(4, "dispense") {
	case 0:
		s.out(n)
	case 1:
		s.shut(n)
	case 2: // another battery comes back
		s.out(n)
		s.box(n).in = flat("X8")
		s.shut(n)
	case 3:
		s.idle(patient)
		s.out(n)
	}
}

func (s *story) atReturn(n int) {
	if s.box(n).in == nil {
		s.shut(n)
		return
	}
	switch s.choose(3, "return") {
	case 0:
		s.out(n)
	case 1:
		s.shut(n)
	case 2:
		s.out(n)
		s.box(n).in = flat("X7")
		s.shut(n)
	}
}

// explore runs a story for every list of choices with at most so many that are
// not the usual one, in a fixed order.
func explore(unusual int, run func(choose func(int, string) int)) (runs int) {
	type point struct{ options, chosen int }
	var script []point
	for {
		var trail []point
		run(func(options int, _ string) int {
			if i := len(trail); i < len(script) {
				p := script[i]
				p.options = options
				trail = append(trail, p)
				return p.chosen
			}
			trail = append(trail, point{options, 0})
			return 0
		})
		runs++
		// The next script: the last point that can still be raised.
		script = nil
		for i := len(trail) - 1; i >= 0; i-- {
			used := 0
			for _, p := range trail[:i] {
				if p.chosen != 0 {
					used++
				}
			}
			if trail[i].chosen+1 < trail[i].options && used < unusual {
				script = append(script, trail[:i]...)
				script = append(script, point{trail[i].options, trail[i].chosen + 1})
				break
			}
		}
		if script == nil {
			return runs
		}
	}
}

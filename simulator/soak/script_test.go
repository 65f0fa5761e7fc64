package soak

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"batteryswap/backend/fleet"
	"batteryswap/protocol"
)

// What a person does at a door, and what is out of order.
type (
	offer uint8 // at the deposit door
	wish  uint8 // at a door with a battery behind it
	jam   uint8
)

const (
	plugged   offer = iota
	nothingIn       // shut again
	strange         // a battery that is not of the fleet
	unplugged
	late // put in, and somebody else shuts the door minutes later
)

const (
	takes wish = iota
	leaves
	exchanges // takes it and leaves another
)

const (
	noJam jam = iota
	firstDeposit
	allDeposits
	firstDispense
	allDispenses
)

// script is one course of one swap with nothing random in it. What the zero value
// of a field says is the usual thing.
type script struct {
	name string
	kind protocol.Kind
	want protocol.Outcome // without a cut
	in   offer
	own  wish // at a door that has opened again for what was put in
	out  wish // at the charged battery's door
	jam  jam
	// lost is the type of the message that gets lost, again and again.
	lost protocol.Type
	// cheats: more than one explanation may be left.
	cheats bool
	// roll: the journal's files are so small that several are begun in the swap.
	roll bool
}

// scripts are every kind and outcome of the protocol's table, and every way to it
// that makes other effects.
func scripts() []script {
	const (
		swap, owed, issue, back = protocol.KindSwap, protocol.KindOwed, protocol.KindIssue, protocol.KindHandBack
	)
	return []script{
		{name: "swap-swapped", kind: swap, want: protocol.OutcomeSwapped},
		{name: "swap-swapped-roll", kind: swap, want: protocol.OutcomeSwapped, roll: true},
		{name: "swap-swapped-second-deposit-slot", kind: swap, want: protocol.OutcomeSwapped, jam: firstDeposit},
		{name: "swap-swapped-alternate", kind: swap, want: protocol.OutcomeSwapped, jam: firstDispense},
		{name: "swap-swapped-plugged-in-later", kind: swap, want: protocol.OutcomeSwapped, in: unplugged, cheats: true},
		{name: "swap-no-deposit", kind: swap, want: protocol.OutcomeNoDeposit, in: nothingIn},
		{name: "swap-no-deposit-jams", kind: swap, want: protocol.OutcomeNoDeposit, jam: allDeposits},
		{name: "swap-returned-own", kind: swap, want: protocol.OutcomeReturned, jam: allDispenses},
		{name: "swap-returned-strange", kind: swap, want: protocol.OutcomeReturned, in: strange, cheats: true},
		{name: "swap-owed-not-taken", kind: swap, want: protocol.OutcomeDepositedOwed, out: leaves},
		{name: "swap-owed-own-left", kind: swap, want: protocol.OutcomeDepositedOwed, jam: allDispenses, own: leaves},
		{name: "swap-owed-late", kind: swap, want: protocol.OutcomeDepositedOwed, in: late},
		{name: "swap-review-strange", kind: swap, want: protocol.OutcomeReview, in: strange, own: leaves, cheats: true},
		{name: "swap-review-exchanged", kind: swap, want: protocol.OutcomeReview, out: exchanges, cheats: true},
		{name: "swap-not-started", kind: swap, want: protocol.OutcomeNotStarted, lost: protocol.TypeGrant},
		{name: "swap-not-started-cancelled", kind: swap, want: protocol.OutcomeNotStarted, lost: protocol.TypePrepared},
		{name: "owed-taken", kind: owed, want: protocol.OutcomeOwedTaken},
		{name: "owed-taken-alternate", kind: owed, want: protocol.OutcomeOwedTaken, jam: firstDispense},
		{name: "owed-not-taken", kind: owed, want: protocol.OutcomeOwedNotTaken, out: leaves},
		{name: "owed-not-taken-jams", kind: owed, want: protocol.OutcomeOwedNotTaken, jam: allDispenses},
		{name: "owed-review", kind: owed, want: protocol.OutcomeReview, out: exchanges, cheats: true},
		{name: "owed-not-started", kind: owed, want: protocol.OutcomeNotStarted, lost: protocol.TypeGrant},
		{name: "issue-issued", kind: issue, want: protocol.OutcomeIssued},
		{name: "issue-not-taken", kind: issue, want: protocol.OutcomeIssueNotTaken, out: leaves},
		{name: "issue-review", kind: issue, want: protocol.OutcomeReview, out: exchanges, cheats: true},
		{name: "issue-not-started", kind: issue, want: protocol.OutcomeNotStarted, lost: protocol.TypeGrant},
		{name: "hand-back", kind: back, want: protocol.OutcomeHandedBack},
		{name: "hand-back-second-slot", kind: back, want: protocol.OutcomeHandedBack, jam: firstDeposit},
		{name: "hand-back-no-deposit", kind: back, want: protocol.OutcomeNoDeposit, in: nothingIn},
		{name: "hand-back-returned", kind: back, want: protocol.OutcomeReturned, in: strange, cheats: true},
		{name: "hand-back-review", kind: back, want: protocol.OutcomeReview, in: strange, own: leaves, cheats: true},
		{name: "hand-back-not-started", kind: back, want: protocol.OutcomeNotStarted, lost: protocol.TypeGrant},
	}
}

// table is how each kind can end.
func table() map[protocol.Kind][]protocol.Outcome {
	return map[protocol.Kind][]protocol.Outcome{
		protocol.KindSwap: {
			protocol.OutcomeSwapped, protocol.OutcomeNoDeposit, protocol.OutcomeReturned, protocol.OutcomeDepositedOwed,
			protocol.OutcomeNotStarted, protocol.OutcomeReview,
		},
		protocol.KindOwed:  {protocol.OutcomeOwedTaken, protocol.OutcomeOwedNotTaken, protocol.OutcomeNotStarted, protocol.OutcomeReview},
		protocol.KindIssue: {protocol.OutcomeIssued, protocol.OutcomeIssueNotTaken, protocol.OutcomeNotStarted, protocol.OutcomeReview},
		protocol.KindHandBack: {
			protocol.OutcomeHandedBack, protocol.OutcomeNoDeposit, protocol.OutcomeReturned, protocol.OutcomeNotStarted, protocol.OutcomeReview,
		},
	}
}

// absence is what the person does when the power goes.
type absence uint8

const (
	goesOn   absence = iota // acts at open doors in the dark
	waits                   // acts when the power is back
	goesHome                // and passers-by shut the doors
	absences
)

// cuts is one course of a script: where the power goes, and what else is so then.
type cuts struct {
	at      []int // the first moment, counted from the start, and the next, from the boot after it
	luck    luck
	absence absence
}

var (
	luckNames    = [lucks]string{"any", "none", "all", "lied"}
	absenceNames = [absences]string{"goes-on", "waits", "goes-home"}
)

func (c cuts) String() string {
	return fmt.Sprintf("%s %s %s", strings.Trim(strings.ReplaceAll(fmt.Sprint(c.at), " ", ","), "[]"), luckNames[c.luck], absenceNames[c.absence])
}

// actor is the person of a script.
type actor struct {
	*rider
	sc      script
	box     *box
	absence absence
	asked   protocol.SwapID
	mine    *battery
	acts    map[*slot]int // at a door since it opened
	since   map[*slot]time.Duration
	jammed  *slot
	away    bool
	awayTo  time.Duration
	// shutAt is since when all doors are shut and the power is on, sentAt since
	// when nothing is unsent or the broker is not reached.
	shutAt, sentAt time.Duration
}

const (
	// smallSegment holds the snapshot and a few records.
	smallSegment = 3 << 10

	actEvery  = 600 * time.Millisecond
	strangers = 20 * time.Second  // until passers-by shut a door
	lateness  = 100 * time.Second // of a door that is shut late
	playLimit = 40 * time.Minute
	// closedIn and sentIn are I13: from when doors are shut and the power is on,
	// and from when the broker is reached. Resending waits up to 60 s and a fifth.
	closedIn = 10 * time.Minute
	sentIn   = 75 * time.Second
)

// ended is what became of a play.
type ended struct {
	points  int      // moments at which the power could have gone, since the first fuse
	cuts    []string // the moments at which it went
	outcome protocol.Outcome
	broken  *violation
	trace   []string
}

// play runs a script with cuts.
func play(sc script, c cuts, tracing bool) ended {
	s := newSim(1, profile{cabinets: 1, slots: 5, pulses: 600, wild: sc.cheats || c.luck == liedLuck})
	s.tracing, s.calm = tracing, true
	b := s.boxes[0]
	b.flash.lucky = c.luck
	if sc.roll {
		b.segment = smallSegment
	}
	a := newActor(s, b, sc)
	a.after(0, b.start)
	a.after(time.Second, s.backend)
	a.after(6*time.Second, a.present)
	if sc.kind == protocol.KindOwed {
		a.sc = script{kind: protocol.KindSwap, out: leaves} // how it came to be owed
		a.run()
		a.sc, a.asked, a.mine, b.points = sc, "", nil, 0
		a.after(0, a.present)
	}
	a.absence = c.absence
	if len(c.at) > 0 {
		b.fuse, b.fuses = c.at[0], c.at[1:]
	}
	if sc.lost != "" {
		s.net.swallows = func(p []byte) bool { return bytes.Contains(p[:min(len(p), 40)], []byte(`"`+sc.lost+`"`)) }
	}
	a.run()
	if s.broken == nil {
		s.books()
	}
	e := ended{points: b.points, cuts: b.cuts, broken: s.broken, trace: s.trace}
	if x := s.fleet.Store(s.wall()).Swap(a.asked); x != nil {
		e.outcome = x.Outcome
	}
	return e
}

func newActor(s *sim, b *box, sc script) *actor {
	r := &rider{sim: s, id: "00000000-0000-4000-8000-000000000001", name: "rider-1", at: b}
	s.riders = append(s.riders, r)
	s.fleet.Store(s.wall()).AddRider(r.id)
	if sc.kind == protocol.KindIssue {
		s.credit(r)
	} else {
		s.give(s.newBattery(20), r)
	}
	a := &actor{rider: r, sc: sc, box: b, acts: map[*slot]int{}, since: map[*slot]time.Duration{}}
	b.jams = a.jams
	a.after(actEvery, a.look)
	return a
}

// run goes on until the swap is over.
func (a *actor) run() {
	for a.step() && !a.over() {
		if a.now > playLimit {
			a.fail(13, "not over after %v", playLimit)
		}
	}
}

// present scans the code until it becomes a swap, then minds the doors.
func (a *actor) present() {
	a.box.press = a.now + 20*time.Second
	a.scans++
	id, no := a.fleet.Scan(a.wall(), fleet.Scan{
		RiderID: a.id, CabinetID: a.box.id, IdempotencyKey: fmt.Sprint(a.scans), HandBack: a.sc.kind == protocol.KindHandBack,
	})
	if no != nil {
		a.note("refused: %s", no.Reason)
		a.after(2*time.Second, a.present)
		return
	}
	a.note("swap %s", id)
	a.asked, a.riderOf[id] = id, a.rider
}

// over: the swap is closed, and nothing is left to come.
func (a *actor) over() bool {
	if a.asked == "" {
		return false
	}
	x := a.fleet.Store(a.wall()).Swap(a.asked)
	return x != nil && x.State == fleet.StateClosed && a.still()
}

// jams: what is out of order for this script.
func (a *actor) jams(s *slot, p protocol.Purpose) bool {
	deposit, dispense := p == protocol.PurposeDeposit, p == protocol.PurposeDispense
	switch a.sc.jam {
	case allDeposits:
		return deposit
	case allDispenses:
		return dispense
	case firstDeposit, firstDispense:
		if a.jammed == nil && (deposit && a.sc.jam == firstDeposit || dispense && a.sc.jam == firstDispense) {
			a.jammed = s
		}
		return a.jammed == s
	}
	return false
}

// look minds the doors, again and again.
func (a *actor) look() {
	a.after(actEvery, a.look)
	a.checkRest()
	dark := a.box.core == nil
	if dark && a.absence == goesHome {
		a.away = true
	}
	for _, s := range a.box.slots {
		if s.closed() {
			a.acts[s], a.since[s] = 0, a.now
			continue
		}
		if a.now-a.since[s] > strangers && (a.away || !s.open) && a.now >= a.awayTo {
			a.box.shut(s)
		}
		if s.open && !a.away && (!dark || a.absence != waits) {
			a.act(s)
			a.acts[s]++
			return
		}
	}
}

// act is one act at an open door.
func (a *actor) act(s *slot) {
	switch {
	case a.acts[s] > 0:
		a.box.shut(s)
	case s.held == nil && a.mine == nil && len(a.hands) > 0:
		a.deposit(s)
	case s.held == nil:
	case s.held == a.mine:
		a.again(s)
	default:
		a.dispense(s)
	}
}

func (a *actor) deposit(s *slot) {
	y := a.hands[0]
	switch a.sc.in {
	case nothingIn:
		return
	case strange:
		y = a.foreign()
	}
	a.mine = y
	a.insert(s, y, a.sc.in != unplugged)
	if a.sc.in == late {
		a.away, a.awayTo = true, a.now+lateness
	}
}

// again is a door that opened again for what was put in.
func (a *actor) again(s *slot) {
	switch {
	case !s.plugged:
		s.plugged = true
		s.changes++
	case a.sc.own == takes:
		a.remove(s)
	}
}

func (a *actor) dispense(s *slot) {
	switch a.sc.out {
	case takes:
		a.remove(s)
	case exchanges:
		a.remove(s)
		a.insert(s, a.foreign(), true)
	}
}

// checkRest is I13, as it goes.
func (a *actor) checkRest() {
	b := a.box
	if b.core == nil || slices.ContainsFunc(b.slots, func(s *slot) bool { return !s.closed() }) {
		a.shutAt, a.sentAt = a.now, a.now
		return
	}
	st := b.core.Status()
	if st.Tail == st.Acked || !b.up {
		a.sentAt = a.now
	}
	if st.Open == "" {
		a.shutAt = a.now
	}
	if a.now-a.shutAt > closedIn {
		a.fail(13, "swap %s is open %v after all doors were shut", st.Open, closedIn)
	}
	if a.now-a.sentAt > sentIn {
		a.fail(13, "records %d to %d are unsent after %v", st.Acked+1, st.Tail, sentIn)
	}
}

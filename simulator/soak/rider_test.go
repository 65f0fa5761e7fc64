package soak

import (
	"fmt"
	"slices"
	"time"

	"batteryswap/backend/fleet"
	"batteryswap/protocol"
)

// rider is a person with a phone and hands.
type rider struct {
	*sim
	id       fleet.RiderID
	name     string
	hands    []*battery
	at       *box
	swap     protocol.SwapID
	since    time.Duration
	put      *battery // put into a slot in this visit
	busy     bool     // a hand is at a door
	scans    int
	credited int // first batteries that staff have promised
}

func (r *rider) String() string {
	if r == nil {
		return "nobody"
	}
	return r.name
}

func (r *rider) hold(y *battery) {
	y.slot, y.holder = nil, r
	r.hands = append(r.hands, y)
}

func (r *rider) drop(y *battery) {
	y.holder = nil
	r.hands = slices.DeleteFunc(r.hands, func(z *battery) bool { return z == y })
}

// again comes back after a while: the longer, the more riders there are for each
// cabinet.
func (r *rider) again(least, most time.Duration) {
	if !r.calm {
		crowd := time.Duration(max(1, len(r.riders)/len(r.boxes)/2))
		r.after(crowd*r.between(least, most), r.visit)
	}
}

// visit goes to a cabinet and scans its code.
func (r *rider) visit() {
	if r.calm {
		return
	}
	r.provide()
	b := r.choose()
	if b.person != nil && !r.chance(5) || r.isDown() {
		r.again(time.Second, 4*time.Second)
		return
	}
	if len(r.hands) == 0 || r.chance(20) {
		b.press = r.now + 6*time.Second
		r.after(1500*time.Millisecond, func() { r.scan(b) })
		return
	}
	r.scan(b)
}

// choose prefers a cabinet where nobody stands.
func (r *rider) choose() *box {
	b := r.boxes[r.rng.IntN(len(r.boxes))]
	for range 3 {
		if b.person != nil || b.core == nil {
			b = r.boxes[r.rng.IntN(len(r.boxes))]
		}
	}
	return b
}

// provide is staff: who has no battery and no credit gets one, or a promise.
func (r *rider) provide() {
	if len(r.hands) > 0 || r.isDown() {
		return
	}
	if r.fleet.Store(r.wall()).Owed(r.id) > 0 {
		return
	}
	switch {
	case !r.chance(40):
	case len(r.pool) > 0:
		y := r.pool[0]
		r.pool = r.pool[1:]
		r.give(y, r)
		y.byForce = nil
	default:
		r.credit(r)
	}
}

// scan presents the code. A phone may ask twice.
func (r *rider) scan(b *box) {
	if r.isDown() || r.calm {
		r.again(time.Second, 5*time.Second)
		return
	}
	r.scans++
	s := fleet.Scan{
		RiderID: r.id, CabinetID: b.id, IdempotencyKey: fmt.Sprint(r.name, "-", r.scans),
		HandBack: len(r.hands) > 1 || len(r.hands) == 1 && r.chance(3),
	}
	id, no := r.fleet.Scan(r.wall(), s)
	if r.chance(10) {
		id, no = r.fleet.Scan(r.wall(), s)
	}
	if no != nil {
		r.note("%s at %s is refused: %s", r, b.id, no.Reason)
		r.again(time.Second, 4*time.Second)
		return
	}
	r.note("%s scans %s, hands %v: swap %s", r, b.id, serials(r.hands), id)
	if old := r.riderOf[id]; old != nil && old != r {
		r.fail(0, "swap %s is of two riders", id)
	}
	r.riderOf[id] = r
	r.at, r.swap, r.since, r.put, r.busy = b, id, r.now, nil, false
	if b.person == nil {
		b.person = r
	}
	r.watch()
}

// patience is how long a rider stays when nothing more happens.
const patience = 40 * time.Second

// watch looks at the doors, and at the page.
func (r *rider) watch() {
	if r.at == nil {
		return
	}
	r.after(r.between(300*time.Millisecond, time.Second), r.watch)
	if r.busy || r.at.person != r && r.at.person != nil {
		if r.now-r.since > patience {
			r.leave()
		}
		return
	}
	for _, s := range r.at.slots {
		if s.open && !r.minds(s) {
			r.use(s)
			return
		}
	}
	x := r.fleet.Store(r.wall()).Swap(r.swap)
	if x == nil || x.State == "closed" || r.now-r.since > patience {
		r.leave()
	}
}

// minds: an honest person leaves alone a door that was opened for somebody else:
// for another rider, or by staff with a key. What changes hands through such a
// door no cabinet can tell, and no swap of it later has one explanation.
func (r *rider) minds(s *slot) bool {
	x := r.at.facts.open
	return !r.profile.wild && (!s.licensed || x != nil && x.rider != r)
}

func (r *rider) leave() {
	if r.at.person == r {
		r.at.person = nil
	}
	r.note("%s leaves %s with %v", r, r.at.id, serials(r.hands))
	r.at = nil
	for _, y := range r.hands {
		y.soc = float64(5 + r.rng.IntN(60))
	}
	r.again(500*time.Millisecond, 4*time.Second)
}

// walkAway leaves a door open.
func (r *rider) walkAway() {
	r.hit(r.at, walkedAway)
	r.leave()
}

// use does at an open door what a person does, or what a thief would.
func (r *rider) use(s *slot) {
	r.busy = true
	cheats := r.profile.wild && r.chance(25)
	at := r.at
	pause := func() time.Duration { return r.between(300*time.Millisecond, 1500*time.Millisecond) }
	shut := func() {
		r.later(pause(), func() {
			if s.open {
				at.shut(s)
			}
			r.busy = false
		})
	}
	r.later(pause(), func() {
		switch {
		case !s.open, r.minds(s): // it was shut meanwhile, and perhaps opened for somebody else
			r.busy = false
		case s.held == nil && len(r.hands) > 0 && r.put == nil:
			r.putIn(s, cheats, shut)
		case s.held == nil:
			shut()
		case s.held == r.put:
			r.ownBack(s, cheats, shut)
		default:
			r.takeOut(s, cheats, shut)
		}
	})
}

// later does something, if the rider still stands there.
func (r *rider) later(d time.Duration, do func()) {
	at := r.at
	r.after(d, func() {
		if r.at == at {
			do()
		}
	})
}

// putIn is at a deposit door.
func (r *rider) putIn(s *slot, cheats bool, shut func()) {
	y, plugged := r.hands[0], true
	if cheats {
		switch r.rng.IntN(5) {
		case 0:
			r.hit(r.at, closedEmpty)
			shut()
			return
		case 1:
			r.hit(r.at, wrongBattery)
			y = r.foreign()
		case 2:
			r.hit(r.at, takenBack)
			r.insert(s, y, true)
			r.later(700*time.Millisecond, func() {
				if s.open && s.held == y {
					r.remove(s)
				}
				shut()
			})
			return
		case 3:
			r.hit(r.at, notPlugged)
			plugged = false
		default:
			if r.chance(50) {
				r.insert(s, y, true)
			}
			r.walkAway()
			return
		}
	}
	r.insert(s, y, plugged)
	shut()
}

// foreign is a battery out of the bag that is not of the fleet.
func (r *rider) foreign() *battery {
	y := r.newBattery(50)
	y.foreign = true
	r.hold(y)
	return y
}

// ownBack is at a door behind which the own battery stands.
func (r *rider) ownBack(s *slot, cheats bool, shut func()) {
	switch {
	case !s.plugged && !r.chance(40):
		s.plugged = true
		s.changes++
	case cheats && r.chance(50):
		r.hit(r.at, takenBack) // rather: left where it is
	case cheats && r.chance(30):
		r.walkAway()
		return
	default:
		if r.at.state() == reopened {
			r.hit(r.at, closedEmpty)
		}
		r.remove(s)
		r.put = nil
		if y := r.hands[len(r.hands)-1]; y.foreign {
			r.drop(y)
		}
		r.put = &battery{} // nothing more is put in
	}
	shut()
}

// takeOut is at a dispense door.
func (r *rider) takeOut(s *slot, cheats bool, shut func()) {
	if cheats {
		switch r.rng.IntN(5) {
		case 0:
			r.hit(r.at, notTaken)
			shut()
			return
		case 1:
			r.hit(r.at, putBack)
			y := s.held
			r.remove(s)
			r.later(900*time.Millisecond, func() {
				if s.open && s.held == nil && y.holder == r {
					r.insert(s, y, true)
				}
				shut()
			})
			return
		case 2:
			r.hit(r.at, exchanged)
			if len(r.hands) == 0 {
				r.foreign()
			}
			own := r.hands[0]
			r.remove(s)
			r.insert(s, own, true)
			shut()
			return
		default:
			if r.chance(70) {
				r.remove(s)
			}
			r.walkAway()
			return
		}
	}
	r.remove(s)
	shut()
}

func (r *rider) insert(s *slot, y *battery, plugged bool) {
	r.drop(y)
	y.slot, s.held, s.plugged, y.byForce = s, y, plugged, r.at.force(s)
	s.changes++
	r.put = y
	r.note("%s puts %s into %s slot %d, plugged %t", r, y.serial, r.at.id, s.n, plugged)
}

func (r *rider) remove(s *slot) {
	y := s.held
	s.held, s.plugged, y.byForce = nil, false, r.at.force(s)
	s.changes++
	r.hold(y)
	r.note("%s takes %s out of slot %d", r, y.serial, s.n)
}

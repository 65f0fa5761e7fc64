package soak

import (
	"slices"
	"syscall"
	"time"

	"batteryswap/protocol"
)

// troubles are what befalls a cabinet by chance, with its weight; wild is what only
// wild fleets have.
var troubles = []struct {
	fault  fault
	weight int
	wild   bool
}{
	{cutBeforeWrite, 12, false}, {partition, 10, false}, {clockStep, 4, false}, {replayed, 6, false}, {flashFails, 4, false},
	{noAnswer, 8, false}, {lateReply, 6, false}, {failedPulse, 6, false}, {stuckLock, 4, false}, {stickingDoor, 3, false}, {lateAnswer, 3, false},
	{doorFlaps, 6, true}, {boltFlaps, 6, true}, {presenceFlaps, 6, true}, {deadLink, 5, true}, {frozenBoard, 5, true}, {smoke, 4, true}, {hotBattery, 2, true},
}

// trouble is what befalls a cabinet, again and again.
func (b *box) trouble() {
	if b.calm {
		return
	}
	b.after(b.between(3*time.Second, 12*time.Second), b.trouble)
	roll := b.rng.IntN(100)
	for _, x := range troubles {
		if roll -= x.weight; roll < 0 {
			if !x.wild || b.profile.wild {
				b.befall(x.fault)
			}
			return
		}
	}
}

// aims are faults that are inflicted on purpose while a cabinet is in a state that
// is short or rare, so that none is left to chance; odds are of one for each time
// that it is.
var (
	aims = []fault{
		cutIdle, cutBeforeWrite, cutBeforeWrite, cutBeforeWrite, flashLies, flashFails, flashFull, flashReadOnly,
		lostUp, lostDown, doubled, reordered, hourLate, corrupted, replayed, partition, brokerWiped, backendCrash, backendRestored, clockStep,
		stuckLock, doorFlaps, boltFlaps, presenceFlaps, deadLink, noAnswer, lateReply, frozenBoard, smoke, hotBattery,
	}
	odds = [states]int{depositing: 25, reopened: 4, deposited: 1, returning: 5}
)

// aim inflicts a fault soon after a cabinet has come into a state.
func (b *box) aim(st state) {
	if b.calm || odds[st] == 0 || b.rng.IntN(odds[st]) > 0 {
		return
	}
	if st == depositing {
		b.blind()
		return
	}
	f := aims[b.rng.IntN(len(aims))]
	b.soon(0, 10*time.Millisecond, func() {
		if b.calm || b.state() != st {
			return
		}
		switch f {
		case lostUp, lostDown, doubled, reordered, hourLate, corrupted:
			b.next = f
		case cutBeforeWrite:
			if b.fuse == 0 {
				b.fuse = 1 + b.rng.IntN(3)
			}
		case flashLies, doorFlaps, boltFlaps, presenceFlaps, deadLink, frozenBoard, smoke, hotBattery, backendRestored:
			if b.profile.wild {
				b.befall(f)
			}
		default:
			b.befall(f)
		}
	})
}

// blind silences all slots but the one where a deposit is awaited: a state that
// is over in the same step then lasts until they are heard.
func (b *box) blind() {
	for _, s := range b.slots {
		if b.facts.intent == nil || s.n != b.facts.intent.Slot {
			s.until[noAnswer] = b.now + b.between(5*time.Second, 15*time.Second)
		}
	}
	b.hit(b, noAnswer)
}

// befall lets one fault happen to a cabinet, or to all that have one.
func (b *box) befall(f fault) {
	switch f {
	case cutBeforeWrite:
		b.ignite()
	case cutIdle:
		b.cutNow()
	case partition:
		b.cutLine()
	case clockStep:
		b.moveClock()
	case replayed:
		b.net.replay(b)
	case flashFails, flashFull, flashReadOnly, flashLies:
		b.spoilFlash(f)
	case brokerWiped:
		b.everywhere(f)
		b.net.wipe()
	case backendCrash:
		b.crash()
	case backendRestored:
		if len(b.backups) > 0 {
			b.restore()
		}
	default:
		b.befallSlot(f)
	}
}

// befallSlot is what lasts for a while at one slot: likely the one that the swap
// is at.
func (b *box) befallSlot(f fault) {
	s := b.slots[b.rng.IntN(len(b.slots))]
	if x := b.facts.open; x != nil && len(x.order) > 0 && b.chance(60) {
		s = x.order[len(x.order)-1]
	}
	most := map[fault]time.Duration{
		noAnswer: 15, lateReply: 10, failedPulse: 30, stuckLock: 60, stickingDoor: 30, lateAnswer: 30,
		doorFlaps: 12, boltFlaps: 12, presenceFlaps: 12, deadLink: 20, frozenBoard: 12, smoke: 20, hotBattery: 40,
	}[f] * time.Second
	least := time.Second
	switch f {
	case stickingDoor, lateAnswer, smoke, hotBattery:
		least = 5 * time.Second
	}
	s.until[f] = b.now + b.between(least, most)
	if f != failedPulse && f != stickingDoor && f != lateAnswer {
		b.hit(b, f)
	}
}

// ignite lays a fuse: the power goes at one of the next moments; or it goes now.
func (b *box) ignite() {
	if b.core == nil || b.fuse > 0 {
		return
	}
	if b.chance(40) {
		b.cutNow()
		return
	}
	b.fuse = 1 + b.rng.IntN(12)
}

func (b *box) cutNow() {
	if b.core != nil {
		b.hit(b, cutIdle)
		b.powerOff()
	}
}

func (b *box) cutLine() {
	if b.now < b.cutOff {
		return
	}
	b.hit(b, partition)
	b.cutOff = b.now + b.between(time.Second, 15*time.Second)
	if b.chance(1) {
		b.cutOff += b.between(time.Minute, 15*time.Minute)
	}
	b.soon(0, 20*time.Second, b.disconnect)
}

// moveClock sets the wall clock, up to ten years either way.
func (b *box) moveClock() {
	b.hit(b, clockStep)
	const years = 10 * 365 * 24 * time.Hour
	b.clock = b.between(-years, years)
	if b.chance(30) {
		b.clock = 0
	}
	b.synced = b.chance(50)
}

// spoilFlash breaks the flash for a while, or has it lie about the next sync.
func (b *box) spoilFlash(f fault) {
	if b.core == nil {
		return
	}
	if f == flashFails { // by chance it may be any of them
		f = []fault{flashFails, flashFull, flashReadOnly, flashLies}[b.rng.IntN(4)]
	}
	if f == flashLies && !b.profile.wild {
		f = flashFails
	}
	b.hit(b, f)
	if f == flashLies {
		b.flash.lie, b.fuse = true, 2+b.rng.IntN(6)
		return
	}
	b.flash.fail = map[fault]error{flashFails: syscall.EIO, flashFull: syscall.ENOSPC, flashReadOnly: syscall.EROFS}[f]
	b.after(b.between(2*time.Second, 20*time.Second), func() {
		b.flash.fail = nil
		if b.core != nil && b.core.Status().OutOfService {
			b.note("%s agent is started again", b.id)
			b.stop()
			b.flash.locked = false
			b.start()
		}
	})
}

// passerBy shuts doors that nobody else does.
func (b *box) passerBy() {
	b.after(b.between(3*time.Second, 15*time.Second), b.passerBy)
	for _, s := range b.slots {
		if !s.closed() && b.person == nil && (b.calm || b.chance(30)) {
			b.shut(s)
		}
	}
}

// shut pushes a door until its bolt catches.
func (b *box) shut(s *slot) {
	s.open, s.locked, s.opensAt, s.licensed, s.lied, s.shutAt = false, true, 0, false, false, b.now
	b.note("%s door %d is shut: %v", b.id, s.n, s.held.name())
}

func (y *battery) name() string {
	if y == nil {
		return "empty"
	}
	return string(y.serial)
}

// service is staff: they take out what is held, with a key, and clear faults.
func (b *box) service() {
	if b.calm {
		return
	}
	b.after(b.between(15*time.Second, 45*time.Second), b.service)
	if b.core == nil || b.person != nil || b.facts.state != idle || b.isDown() {
		return
	}
	for _, st := range b.core.Inventory() {
		if !st.Out {
			continue
		}
		if s := b.slots[st.Slot-1]; s.held != nil && s.closed() && b.chance(50) {
			b.takeOut(s)
			return
		}
	}
	b.clearFaults()
}

// takeOut opens a door by force and takes away what is inside.
func (b *box) takeOut(s *slot) {
	b.hit(b, forced)
	y := s.held
	s.open, s.locked, s.held, s.plugged, s.licensed = true, false, nil, false, false
	s.changes++
	y.slot, y.byForce, y.byStaff = nil, b.force(s), true
	b.after(b.between(5*time.Second, 15*time.Second), func() { b.shut(s) })
	if y.foreign {
		return
	}
	b.pool = append(b.pool, y)
}

// clearFaults takes faulty slots out of service and back.
func (b *box) clearFaults() {
	var out []int
	for _, st := range b.core.Inventory() {
		if st.Out && b.slots[st.Slot-1].closed() {
			out = append(out, st.Slot)
		}
	}
	if len(out) == 0 {
		return
	}
	set := func(slots []int) {
		b.fleet.Store(b.wall()).Configure(b.id, protocol.CabinetConfig{SlotsOut: slots})
		b.disconnect()
	}
	set(slices.Clone(out))
	b.after(15*time.Second, func() { set(nil) })
}

package soak

import (
	"slices"
	"syscall"
	"time"

	"batteryswap/protocol"
)

// trouble is what befalls a cabinet, again and again.
func (b *box) trouble() {
	if b.calm {
		return
	}
	b.after(b.between(3*time.Second, 12*time.Second), b.trouble)
	s := b.slots[b.rng.IntN(len(b.slots))]
	if x := b.facts.open; x != nil && len(x.order) > 0 && b.chance(60) {
		s = x.order[len(x.order)-1]
	}
	lasts := func(f fault, least, most time.Duration) {
		s.until[f] = b.now + b.between(least, most)
		if f != failedPulse && f != stickingDoor && f != lateAnswer {
			b.hit(b, f)
		}
	}
	switch roll := b.rng.IntN(100); {
	case roll < 12:
		b.ignite()
	case roll < 22:
		b.cutLine()
	case roll < 26:
		b.moveClock()
	case roll < 32:
		b.net.replay(b)
	case roll < 36:
		b.spoilFlash()
	case roll < 44:
		lasts(noAnswer, time.Second, 15*time.Second)
	case roll < 50:
		lasts(lateReply, time.Second, 10*time.Second)
	case roll < 56:
		lasts(failedPulse, time.Second, 30*time.Second)
	case roll < 60:
		lasts(stuckLock, time.Second, 60*time.Second)
	case roll < 63:
		lasts(stickingDoor, 5*time.Second, 30*time.Second)
	case roll < 66:
		lasts(lateAnswer, 5*time.Second, 30*time.Second)
	case !b.profile.wild:
	case roll < 72:
		lasts(doorFlaps, time.Second, 12*time.Second)
	case roll < 78:
		lasts(boltFlaps, time.Second, 12*time.Second)
	case roll < 84:
		lasts(presenceFlaps, time.Second, 12*time.Second)
	case roll < 90:
		lasts(deadLink, time.Second, 20*time.Second)
	case roll < 96:
		lasts(frozenBoard, time.Second, 12*time.Second)
	default:
		lasts(smoke, 5*time.Second, 20*time.Second)
	}
}

// ignite lays a fuse: the power goes at one of the next moments; or it goes now.
func (b *box) ignite() {
	if b.core == nil || b.fuse > 0 {
		return
	}
	if b.chance(40) {
		b.hit(b, cutIdle)
		b.powerOff()
		return
	}
	b.fuse = 1 + b.rng.IntN(12)
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
func (b *box) spoilFlash() {
	if b.core == nil {
		return
	}
	switch roll := b.rng.IntN(4); {
	case roll == 3 && b.profile.wild:
		b.hit(b, flashLies)
		b.flash.lie, b.fuse = true, 2+b.rng.IntN(6)
		return
	case roll == 2:
		b.hit(b, flashReadOnly)
		b.flash.fail = syscall.EROFS
	case roll == 1:
		b.hit(b, flashFull)
		b.flash.fail = syscall.ENOSPC
	default:
		b.hit(b, flashFails)
		b.flash.fail = syscall.EIO
	}
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
	s.open, s.locked, s.opensAt, s.licensed = false, true, 0, false
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
	y.slot, y.byForce, y.byStaff = nil, true, true
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

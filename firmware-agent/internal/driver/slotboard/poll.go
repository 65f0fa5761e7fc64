package slotboard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
)

// Poll reads one slot.
func (b *Board) Poll(ctx context.Context, number int) (slot.Reading, error) {
	u, err := b.unit(number)
	if err != nil {
		return slot.Reading{}, fmt.Errorf("poll: %w", err)
	}
	u.polling.Lock()
	defer u.polling.Unlock()
	fast, err := b.poll(ctx, u)
	if err != nil {
		if u.misses++; u.misses >= driver.OfflineAfter {
			u.started = false // when it returns it may be another board
		}
		return slot.Reading{}, fmt.Errorf("poll slot %d: %w", number, err)
	}
	u.misses = 0
	return u.reading(fast, u.heardAt), nil
}

// poll gives the fast registers together with an identity that belongs to them:
// u.identified says whether it does. The caller holds polling.
func (b *Board) poll(ctx context.Context, u *unit) (slotboard.Fast, error) {
	if !u.started {
		if err := b.startSlot(ctx, u); err != nil {
			return slotboard.Fast{}, fmt.Errorf("start: %w", err)
		}
		u.heard = false
	}
	fast, reset, err := b.readFast(ctx, u)
	if err != nil {
		return fast, err
	}
	if reset {
		b.log.Warn("slot board was reset", "slot", u.number)
		if err := b.startSlot(ctx, u); err != nil {
			return fast, fmt.Errorf("start after a reset: %w", err)
		}
		if fast, err = b.readOn(ctx, u); err != nil {
			return fast, err
		}
	}
	return b.follow(ctx, u, fast)
}

// follow reads the identity when it is not known or has changed, acknowledges
// it, and reads the fast registers again: only when they say that nothing
// changed since, identity and presence belong together.
func (b *Board) follow(ctx context.Context, u *unit, fast slotboard.Fast) (slotboard.Fast, error) {
	for range identityReads {
		changed := fast.Status.Has(slotboard.IdentityChanged)
		if u.identified && !changed {
			return fast, nil
		}
		u.identified = false
		registers, err := b.read(ctx, bus.Poll, uint8(u.number), slotboard.RegIdentityEpoch,
			slotboard.IdentityCount+u.misses%2)
		if err != nil {
			return fast, fmt.Errorf("read the identity: %w", err)
		}
		if u.identity, err = slotboard.DecodeIdentity(registers); err != nil {
			return fast, err
		}
		if changed {
			err := b.write(ctx, bus.Poll, u, slotboard.HoldIdentityAck, u.identity.Epoch)
			if err != nil && !errors.Is(err, modbus.IllegalValue) { // refused: it changed again
				return fast, fmt.Errorf("acknowledge the identity: %w", err)
			}
		}
		if fast, err = b.readOn(ctx, u); err != nil {
			return fast, err
		}
		u.identified = !fast.Status.Has(slotboard.IdentityChanged)
	}
	return fast, nil
}

// readFast reads the fast registers, and says whether the board was reset since
// it was last heard.
func (b *Board) readFast(ctx context.Context, u *unit) (fast slotboard.Fast, reset bool, err error) {
	registers, err := b.read(ctx, bus.Poll, uint8(u.number), slotboard.RegStatus, slotboard.FastCount+u.misses%2)
	if err != nil {
		return fast, false, err
	}
	if fast, err = slotboard.DecodeFast(registers); err != nil {
		return fast, false, err
	}
	now := b.now()
	reset = u.heard && wentBack(u.alive, fast.Alive, now-u.heardAt)
	u.heard, u.alive, u.heardAt = true, fast.Alive, now
	return fast, reset, nil
}

// readOn reads the fast registers once more within a poll. A board that was reset
// meanwhile is not what the poll began with: the next poll starts it.
func (b *Board) readOn(ctx context.Context, u *unit) (slotboard.Fast, error) {
	fast, reset, err := b.readFast(ctx, u)
	if err == nil && reset {
		u.started, err = false, ErrReset
	}
	return fast, err
}

// wentBack says that an alive counter was set back. It counts seconds: it cannot
// be further on than time allows. When it wraps, every 18 hours, that is taken for
// a reset: one more start of a slot is harmless, a reset that is missed is not.
func wentBack(before, after uint16, passed time.Duration) bool {
	return after < before || int64(after-before) > most(passed)
}

// most is how far an alive counter may be on, in seconds: a board's clock may be
// twice as fast as ours.
func most(passed time.Duration) int64 { return 2*int64(passed/time.Second) + aliveSlack }

// reading is what the slot said, every value that it cannot know left out.
func (u *unit) reading(f slotboard.Fast, at time.Duration) slot.Reading {
	r := reading(u.number, f, u.fitted, at)
	r.IdentityEpoch = u.identity.Epoch
	if u.identified {
		r.Serial = u.identity.Serial
	}
	return r
}

// reading is what a board with those sensors said, without an identity.
func reading(number int, f slotboard.Fast, fitted slotboard.Status, at time.Duration) slot.Reading {
	sense := func(bit slotboard.Status) slot.Tri {
		if !fitted.Has(bit) {
			return slot.Unknown
		}
		return slot.TriOf(f.Status.Has(bit))
	}
	r := slot.Reading{
		Slot:            number,
		At:              at,
		DoorOpen:        sense(slotboard.DoorOpen),
		Bolt:            sense(slotboard.BoltLocked),
		BoltFitted:      fitted.Has(slotboard.BoltLocked),
		CoilActive:      sense(slotboard.CoilActive),
		Switch:          sense(slotboard.BatteryPresent),
		BatteryLink:     sense(slotboard.BatteryLink),
		SocPermille:     slot.Value(f.SocPermille),
		VoltageMV:       slot.Value(f.VoltageMV),
		CurrentMA:       slot.Value(f.CurrentMA),
		CellMax:         slot.Value(f.CellMax),
		CellMin:         slot.Value(f.CellMin),
		Air:             slot.Value(f.Air),
		Charging:        sense(slotboard.Charging),
		ChargeEnabled:   sense(slotboard.ChargeEnabled),
		Smoke:           sense(slotboard.Smoke),
		Full:            sense(slotboard.Full),
		WatchdogTripped: sense(slotboard.WatchdogTripped),
		Faults:          uint32(f.Faults),
		LockSeq:         f.Lock.Seq,
		LockResult:      slot.LockResult(f.Lock.Result),
		Alive:           f.Alive,
	}
	if r.LockResult > slot.LockRefusedFault {
		r.LockResult = slot.LockNone
	}
	return r
}

package slotboard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
)

// What became of an unlock, wrapped by Unlock's errors.
var (
	// ErrRefused: the board executed the command by refusing it.
	ErrRefused = errors.New("the board refuses to unlock")
	// ErrReset: the board was reset while the command, or the poll, was under way.
	ErrReset = errors.New("the board was reset meanwhile")
)

// Unlock switches the slot's charging off and pulses its lock once.
func (b *Board) Unlock(ctx context.Context, number int) error {
	u, err := b.unit(number)
	if err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	u.locking.Lock()
	defer u.locking.Unlock()
	if err := b.write(ctx, bus.Unlock, u, slotboard.HoldCharge, 0); err != nil {
		return fmt.Errorf("unlock slot %d: switch charging off: %w", number, err)
	}
	if err := b.pulse(ctx, u); err != nil {
		return fmt.Errorf("unlock slot %d: %w", number, err)
	}
	return nil
}

// pulse sends one lock command and sees that it was executed. The caller holds
// locking.
func (b *Board) pulse(ctx context.Context, u *unit) error {
	before, aliveBefore, err := b.readLock(ctx, u)
	if err != nil {
		return fmt.Errorf("read the lock's account: %w", err)
	}
	seq := slotboard.NextSeq(before.Seq)
	asked := b.now()
	for range attempts {
		_, sent := b.bus.Modbus(ctx, bus.Unlock, modbus.Request{
			Unit: uint8(u.number), Function: modbus.WriteRegister,
			Address: slotboard.HoldLock, Value: slotboard.LockCommand(seq),
		})
		if sent != nil && !worthRepeating(sent) {
			return sent
		}
		after, alive, err := b.readLock(ctx, u)
		switch {
		case err != nil:
			return errors.Join(sent, fmt.Errorf("read the lock's account: %w", err))
		case after.Seq == seq:
			return refusal(after.Result)
		case after.Seq != before.Seq || wentBack(aliveBefore, alive, b.now()-asked):
			return ErrReset
		}
		if !wouldShow(aliveBefore, b.now()-asked) {
			break // it may have executed the number, and forgotten it
		}
		// The board has not executed this number: it may be sent again.
	}
	return fmt.Errorf("sequence %d: %w", seq, bus.ErrTimeout)
}

// wouldShow says that a reset since alive was read would have set the counter
// back: the board had been up for longer than the time that passed.
func wouldShow(alive uint16, passed time.Duration) bool {
	return int64(alive) >= most(passed)
}

func refusal(r slotboard.LockResult) error {
	switch r {
	case slotboard.LockRefusedCharging:
		return fmt.Errorf("%w: charging current flows", ErrRefused)
	case slotboard.LockRefusedFault:
		return fmt.Errorf("%w: fault", ErrRefused)
	}
	return nil
}

// readLock reads what the last lock command came to, and the alive counter.
func (b *Board) readLock(ctx context.Context, u *unit) (lock slotboard.Lock, alive uint16, err error) {
	for attempt := range uint16(attempts) {
		registers, err := b.read(ctx, bus.Unlock, uint8(u.number), slotboard.RegLock, slotboard.LockCount+attempt)
		if err == nil {
			return slotboard.DecodeLock(registers)
		}
		if !worthRepeating(err) || attempt == attempts-1 {
			return lock, alive, err
		}
	}
	return lock, alive, bus.ErrTimeout
}

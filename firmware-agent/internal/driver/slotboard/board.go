// Package slotboard drives boards that speak SlotBoard v1: one Modbus unit for
// each slot, and one for the cabinet.
//
// It knows what must be asked, in which order, and what may be asked again. It
// gives a driver.Board. It needs a bus; addresses, bits and frames are those of
// protocol/slotboard and protocol/modbus.
//
// # Why
//
// A serial belongs to a presence: it is believed only while bit 14 ("identity
// changed since acknowledged") is clear in the very frame that says that a
// battery is present. A sequence number is sent again only when the board itself
// says that it has not executed it and was not reset meanwhile; a pulse can reset
// a weak board, which then remembers nothing.
//
// Two questions that a late reply could confuse have replies of different
// lengths: each block that is read has its own length, and a read that got no
// answer is repeated with one register more.
package slotboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
)

// Bounds.
const (
	// attempts bounds what is asked again within one act.
	attempts = 3
	// identityReads bounds how often one poll follows a battery that comes and goes.
	identityReads = 2
	// aliveSlack is how many seconds a board's clock may be ahead before the
	// counter's value means that the board was reset.
	aliveSlack = 5
)

// Kind is this kind of board, as the configuration names it.
func Kind() driver.Kind {
	return driver.Kind{Name: "slotboard", MaxSlots: slotboard.MaxSlots, Open: Open}
}

// Board is the slot boards on one bus.
type Board struct {
	bus   *bus.Bus
	now   func() time.Duration
	log   *slog.Logger
	slots []*unit // by slot number less 1

	cabinetMisses atomic.Uint32 // of the cabinet's board, in a row
}

// unit is what is remembered of one slot.
type unit struct {
	number int

	// polling is held for a whole Poll; it guards what follows it.
	polling    sync.Mutex
	started    bool // outputs are in their safe state
	fitted     slotboard.Status
	heard      bool // alive and heardAt are set
	alive      uint16
	heardAt    time.Duration
	misses     uint16
	identified bool
	identity   slotboard.Identity

	// locking is held for a whole Unlock, and while charging is switched on, so
	// that nothing switches it on between "off" and the pulse.
	locking sync.Mutex

	// senses is fitted for Look, which waits for no Poll; 0 before the first.
	senses atomic.Uint32
	looked atomic.Uint32 // how often Look asked
}

// Open makes the driver. It asks nothing of the boards: Start does.
func Open(o driver.Options) (driver.Board, error) {
	if o.Slots < 1 || o.Slots > slotboard.MaxSlots {
		return nil, fmt.Errorf("slotboard: %d slots, expected 1 to %d", o.Slots, slotboard.MaxSlots)
	}
	if o.Bus == nil || o.Now == nil || o.Log == nil {
		return nil, errors.New("slotboard: Bus, Now and Log are needed")
	}
	b := &Board{bus: o.Bus, now: o.Now, log: o.Log}
	for n := range o.Slots {
		b.slots = append(b.slots, &unit{number: n + 1})
	}
	return b, nil
}

// unit is the slot with that number.
func (b *Board) unit(number int) (*unit, error) {
	if number < 1 || number > len(b.slots) {
		return nil, fmt.Errorf("slot %d, expected 1 to %d", number, len(b.slots))
	}
	return b.slots[number-1], nil
}

// Start puts every slot's outputs into their safe state.
func (b *Board) Start(ctx context.Context) error {
	var failed []error
	for _, u := range b.slots {
		u.polling.Lock()
		err := b.startSlot(ctx, u)
		u.polling.Unlock()
		if err != nil {
			failed = append(failed, fmt.Errorf("start slot %d: %w", u.number, err))
		}
	}
	return errors.Join(failed...)
}

// startSlot reads what the board is, switches charging off and sets the board's
// own watchdog. The caller holds polling.
func (b *Board) startSlot(ctx context.Context, u *unit) error {
	u.started, u.identified = false, false
	registers, err := b.read(ctx, bus.Poll, uint8(u.number), slotboard.RegResets, slotboard.BoardCount+u.misses%2)
	if err != nil {
		return fmt.Errorf("read the board's account: %w", err)
	}
	account, err := slotboard.DecodeBoard(registers)
	if err != nil {
		return err
	}
	if account.Version != slotboard.Version {
		return fmt.Errorf("map version %d, expected %d", account.Version, slotboard.Version)
	}
	if err := b.chargeOff(ctx, u); err != nil {
		return err
	}
	if err := b.write(ctx, bus.Poll, u, slotboard.HoldWatchdog, slotboard.DefaultWatchdogS); err != nil {
		return fmt.Errorf("set the watchdog: %w", err)
	}
	u.started, u.fitted = true, account.Fitted
	u.senses.Store(uint32(account.Fitted))
	return nil
}

func (b *Board) chargeOff(ctx context.Context, u *unit) error {
	if err := b.write(ctx, bus.Charge, u, slotboard.HoldCharge, 0); err != nil {
		return fmt.Errorf("switch charging off: %w", err)
	}
	return nil
}

// PollCabinet reads the cabinet's own board.
func (b *Board) PollCabinet(ctx context.Context) (driver.CabinetReading, error) {
	return b.readCabinet(ctx, bus.Poll)
}

func (b *Board) readCabinet(ctx context.Context, p bus.Priority) (driver.CabinetReading, error) {
	count := slotboard.CabinetCount + uint16(b.cabinetMisses.Load()%2)
	registers, err := b.read(ctx, p, slotboard.CabinetUnit, slotboard.RegCabinetStatus, count)
	if err != nil {
		b.cabinetMisses.Add(1)
		return driver.CabinetReading{}, fmt.Errorf("poll cabinet: %w", err)
	}
	b.cabinetMisses.Store(0)
	c, err := slotboard.DecodeCabinet(registers)
	if err != nil {
		return driver.CabinetReading{}, fmt.Errorf("poll cabinet: %w", err)
	}
	sense := func(bit slotboard.CabinetStatus) slot.Tri {
		if !c.Fitted.Has(bit) {
			return slot.Unknown
		}
		return slot.TriOf(c.Status.Has(bit))
	}
	return driver.CabinetReading{
		At:             b.now(),
		MainDoorOpen:   sense(slotboard.MainDoorOpen),
		Smoke:          sense(slotboard.CabinetSmoke),
		Water:          sense(slotboard.Water),
		Tilt:           sense(slotboard.Tilt),
		BackupInUse:    sense(slotboard.BackupInUse),
		Button:         sense(slotboard.Button),
		MaintenanceKey: sense(slotboard.MaintenanceKey),
		EmergencyStop:  sense(slotboard.EmergencyStop),
		Contactor:      sense(slotboard.ContactorClosed),
		UpperTemp:      slot.Value(c.UpperTemp),
		LowerTemp:      slot.Value(c.LowerTemp),
		BackupMV:       slot.Value(c.BackupMV),
		Alive:          c.Alive,
	}, nil
}

// read asks for input registers once. The reply's length tells which question it
// answers; the caller varies count when it asks again.
func (b *Board) read(ctx context.Context, p bus.Priority, unit uint8, address, count uint16) ([]uint16, error) {
	reply, err := b.bus.Modbus(ctx, p, modbus.Request{
		Unit: unit, Function: modbus.ReadInput, Address: address, Count: count,
	})
	return reply.Registers, err
}

// write writes a holding register whose value may be written twice, and so is
// written again when no answer came.
func (b *Board) write(ctx context.Context, p bus.Priority, u *unit, address, value uint16) error {
	var err error
	for range attempts {
		if err = b.writeOnce(ctx, p, uint8(u.number), address, value); !worthRepeating(err) {
			return err
		}
	}
	return err
}

func (b *Board) writeOnce(ctx context.Context, p bus.Priority, unit uint8, address, value uint16) error {
	_, err := b.bus.Modbus(ctx, p, modbus.Request{
		Unit: unit, Function: modbus.WriteRegister, Address: address, Value: value,
	})
	return err
}

// worthRepeating says that a request may do better when it is sent again at
// once: its reply was lost on the wire.
func worthRepeating(err error) bool {
	return errors.Is(err, bus.ErrTimeout) || errors.Is(err, bus.ErrGarbled)
}

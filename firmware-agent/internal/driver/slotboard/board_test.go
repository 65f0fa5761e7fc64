package slotboard_test

import (
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/driver/drivertest"
	driverboard "batteryswap/firmware-agent/internal/driver/slotboard"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
)

func TestConformance(t *testing.T) {
	drivertest.Run(t, fixture())
}

func fixture() drivertest.Fixture {
	return drivertest.Fixture{
		Kind: driverboard.Kind(),
		Baud: 19200,
		New:  func(slots int) drivertest.Board { return newFakeBoard(slots) },
	}
}

// rig is a driver and a board of one slot, within a synctest bubble.
type rig struct {
	driver.Board
	line  *drivertest.Line
	board *fakeBoard
	bus   *bus.Bus
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{board: newFakeBoard(1)}
	r.line = drivertest.NewLine(19200, r.board)
	log, began := slog.New(slog.DiscardHandler), time.Now()
	var err error
	r.bus, err = bus.New(bus.Config{Open: func() (bus.Line, error) { return r.line, nil },
		Baud: 19200, CharBits: 10, Device: 50 * time.Millisecond, Log: log})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.bus.Close()) })
	r.Board, err = driverboard.Open(driver.Options{Bus: r.bus, Slots: 1, Log: log,
		Now: func() time.Duration { return time.Since(began) }})
	require.NoError(t, err)
	return r
}

// A reply may even come after the silence that the bus keeps, in the middle of
// the next poll of the same slot. It has another length.
func TestReplyAfterTheSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.Start(t.Context()))
		_, err := r.Poll(t.Context(), 1)
		require.NoError(t, err)
		const slow = 40 * time.Millisecond
		r.line.DeviceTime = slow
		first := r.line.Requests()
		r.line.Fault = func(n int, _, reply []byte) []drivertest.Burst {
			if n == first {
				timing := r.bus.Timing()
				return []drivertest.Burst{{After: timing.Exchange(0, 37) + timing.Device + 20*time.Millisecond + timing.Late - slow, Bytes: reply}}
			}
			return []drivertest.Burst{{Bytes: reply}}
		}
		_, err = r.Poll(t.Context(), 1)
		require.ErrorIs(t, err, bus.ErrTimeout)
		require.Equal(t, first+1, r.line.Requests())
		facts := r.board.Facts(1)
		facts.DoorOpen = true
		r.board.Put(1, facts)
		got, err := r.Poll(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, slot.Yes, got.DoorOpen)
		require.Greater(t, r.bus.Stats().DiscardedBytes, uint64(36), "the late reply did come")
	})
}

// A board says which sensors it has; what it has not is unknown, not "no".
func TestSensorsThatAreNotFitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.board.units[0].fitted = slotboard.DoorOpen
		r.board.cabinet = slotboard.Cabinet{Status: slotboard.CabinetSmoke | slotboard.Tilt,
			Fitted: slotboard.CabinetSmoke | slotboard.Water, UpperTemp: slotboard.Known(-55), Alive: 7}
		got, err := r.Poll(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, slot.No, got.DoorOpen)
		require.Equal(t, slot.Unknown, got.Bolt)
		require.False(t, got.BoltFitted)
		require.Equal(t, slot.Unknown, got.Switch)
		require.Equal(t, slot.Value{}, got.SocPermille)
		cabinet, err := r.PollCabinet(t.Context())
		require.NoError(t, err)
		cabinet.At = 0
		require.Equal(t, driver.CabinetReading{Smoke: slot.Yes, Water: slot.No, UpperTemp: slot.Known(-55), Alive: 7}, cabinet)
	})
}

func TestRefusedUnlock(t *testing.T) {
	for result, words := range map[slotboard.LockResult]string{
		slotboard.LockRefusedCharging: "charging current flows",
		slotboard.LockRefusedFault:    "fault",
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.board.units[0].result = result
			err := r.Unlock(t.Context(), 1)
			require.ErrorIs(t, err, driverboard.ErrRefused)
			require.ErrorContains(t, err, words)
			got, err := r.Poll(t.Context(), 1)
			require.NoError(t, err)
			require.Equal(t, slot.LockResult(result), got.LockResult)
		})
	}
}

func TestOtherMapVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.board.units[0].version = 2
		require.ErrorContains(t, r.Start(t.Context()), "map version 2, expected 1")
		_, err := r.Poll(t.Context(), 1)
		require.ErrorContains(t, err, "map version 2, expected 1")
	})
}

// fakeBoard is a small SlotBoard v1 slave: it keeps the rules of the map's
// README that a driver leans on.
type fakeBoard struct {
	mu      sync.Mutex // a test looks while the line's owner asks
	units   []*fakeUnit
	cabinet slotboard.Cabinet
	dead    bool // the cabinet's own board
}

type fakeUnit struct {
	facts        drivertest.Facts
	dead, refuse bool
	pulses, hot  int
	air          [2]uint16 // fan, heater
	started      time.Time
	epoch        uint16
	changed      bool
	lock         slotboard.Lock
	fitted       slotboard.Status
	version      uint16
	result       slotboard.LockResult // of a lock command that moves nothing
}

func newFakeBoard(slots int) *fakeBoard {
	b := &fakeBoard{cabinet: slotboard.Cabinet{Fitted: 0x7FFF}}
	for range slots {
		u := &fakeUnit{facts: drivertest.Facts{Locked: true}, fitted: 0xFFFF, version: slotboard.Version}
		u.reset()
		b.units = append(b.units, u)
	}
	return b
}

func (u *fakeUnit) reset() {
	u.started, u.changed, u.lock, u.facts.Charging = time.Now(), true, slotboard.Lock{}, false
	u.air = [2]uint16{}
}

// at gives a unit to f, alone.
func (b *fakeBoard) at(slot int, f func(*fakeUnit)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b.units[slot-1])
}

func (b *fakeBoard) Facts(slot int) (out drivertest.Facts) {
	b.at(slot, func(u *fakeUnit) { out = u.facts })
	return out
}

func (b *fakeBoard) Pulses(slot int) (n int) {
	b.at(slot, func(u *fakeUnit) { n = u.pulses })
	return n
}

func (b *fakeBoard) Hot(slot int) (n int) {
	b.at(slot, func(u *fakeUnit) { n = u.hot })
	return n
}

func (b *fakeBoard) Air(n int) (fan, heater slot.Air) {
	b.at(n, func(u *fakeUnit) { fan, heater = slot.Air(u.air[0]), slot.Air(u.air[1]) })
	return fan, heater
}

func (b *fakeBoard) Refuse(slot int, refuse bool) {
	b.at(slot, func(u *fakeUnit) { u.refuse = refuse })
}

func (b *fakeBoard) Reset(slot int) { b.at(slot, (*fakeUnit).reset) }

func (b *fakeBoard) Dead(slot int, dead bool) {
	if slot != 0 {
		b.at(slot, func(u *fakeUnit) { u.dead = dead })
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead = dead
}

func (b *fakeBoard) Contactor() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cabinet.Status.Has(slotboard.ContactorClosed)
}

func (b *fakeBoard) Put(slot int, f drivertest.Facts) {
	b.at(slot, func(u *fakeUnit) {
		if u.facts.Battery != f.Battery || u.facts.Serial != f.Serial {
			u.epoch++
			u.changed = true
		}
		u.facts = f
	})
}

// Answer answers one request frame.
func (b *fakeBoard) Answer(received []byte) (int, []byte) {
	n, err := modbus.RequestLen(received)
	if err != nil || n == 0 || n > len(received) {
		return 0, nil
	}
	q, err := modbus.DecodeRequest(received[:n])
	if err != nil {
		return n, nil
	}
	b.mu.Lock()
	reply, answered := b.reply(q)
	b.mu.Unlock()
	if !answered {
		return n, nil
	}
	frame, err := reply.Append(nil)
	if err != nil {
		panic(err)
	}
	return n, frame
}

func (b *fakeBoard) reply(q modbus.Request) (modbus.Reply, bool) {
	if q.Unit == slotboard.CabinetUnit && b.dead {
		return modbus.Reply{}, false
	}
	if q.Unit == slotboard.CabinetUnit && q.Function == modbus.WriteRegister && q.Address == slotboard.HoldContactor {
		b.cabinet.Status &^= slotboard.ContactorClosed
		if q.Value == 1 {
			b.cabinet.Status |= slotboard.ContactorClosed
		}
		return modbus.ReplyTo(q), true
	}
	if q.Unit == slotboard.CabinetUnit {
		image := b.cabinet.Registers()
		return inputs(q, image[:]), true
	}
	if int(q.Unit) > len(b.units) {
		return modbus.Reply{}, false
	}
	u := b.units[q.Unit-1]
	switch {
	case u.dead:
		return modbus.Reply{}, false
	case u.refuse:
		return modbus.Refusal(q, modbus.DeviceFailure), true
	case q.Function == modbus.ReadInput:
		image := u.registers()
		return inputs(q, image[:]), true
	case q.Function == modbus.WriteRegister:
		return u.write(q), true
	case q.Function == modbus.WriteRegisters && q.Address == slotboard.HoldFan && len(q.Registers) == len(u.air):
		u.air = [2]uint16(q.Registers)
		return modbus.ReplyTo(q), true
	}
	return modbus.Refusal(q, modbus.IllegalFunction), true
}

func inputs(q modbus.Request, image []uint16) modbus.Reply {
	end := int(q.Address) + int(q.Count)
	if end > len(image) {
		return modbus.Refusal(q, modbus.IllegalAddress)
	}
	r := modbus.ReplyTo(q)
	r.Registers = image[q.Address:end]
	return r
}

func (u *fakeUnit) registers() [slotboard.SlotInputs]uint16 {
	set := slotboard.Status(0)
	for bit, on := range map[slotboard.Status]bool{
		slotboard.DoorOpen: u.facts.DoorOpen, slotboard.BoltLocked: u.facts.Locked,
		slotboard.BatteryPresent: u.facts.Battery, slotboard.BatteryLink: u.facts.Serial != "",
		slotboard.ChargeEnabled: u.facts.Charging, slotboard.IdentityChanged: u.changed,
	} {
		if on {
			set |= bit
		}
	}
	up := time.Since(u.started)
	s := slotboard.Slot{
		Fast:     slotboard.Fast{Status: set & u.fitted, Lock: u.lock, Alive: uint16(up / time.Second)},
		Identity: slotboard.Identity{Epoch: u.epoch, Serial: u.facts.Serial},
		Board:    slotboard.Board{UptimeS: uint32(up / time.Second), Fitted: u.fitted, Version: u.version},
	}
	if u.facts.Serial != "" {
		s.Fast.SocPermille = slotboard.Known(int32(u.facts.SocPermille))
	}
	return s.Registers()
}

func (u *fakeUnit) write(q modbus.Request) modbus.Reply {
	if err := slotboard.CheckWrite(q.Address, q.Value); err != nil {
		return modbus.Refusal(q, modbus.IllegalValue)
	}
	switch q.Address {
	case slotboard.HoldLock:
		if seq, _ := slotboard.LockSeq(q.Value); seq != u.lock.Seq {
			u.lock = slotboard.Lock{Seq: seq, Result: u.result}
			if u.result != slotboard.LockNone {
				break
			}
			u.lock.Result = slotboard.LockOpening
			u.pulses++
			if u.facts.Charging {
				u.hot++
			}
		}
	case slotboard.HoldCharge:
		u.facts.Charging = q.Value == 1
	case slotboard.HoldIdentityAck:
		if q.Value != u.epoch {
			return modbus.Refusal(q, modbus.IllegalValue)
		}
		u.changed = false
	}
	return modbus.ReplyTo(q)
}

package agent

import (
	"os"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"

	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
)

// slave is a small SlotBoard v1 behind a pseudo-terminal, and the doors,
// batteries and hands around it.
type slave struct {
	mu     sync.Mutex
	began  time.Time
	units  []*unit
	froze  time.Time // the boards answer what was so then, if it is set
	pulses chan int  // slots whose lock was pulsed
	// own is what the board of the cabinet itself senses; contactor is its relay.
	own       slotboard.CabinetStatus
	contactor bool
}

// unit is one slot.
type unit struct {
	open, locked bool
	serial       string // of the battery inside, "" for none
	soc          int    // %
	charging     bool
	lock         slotboard.Lock
	epoch        uint16
	changed      bool
}

func newSlave(slots int) *slave {
	s := &slave{began: time.Now(), pulses: make(chan int, 16)}
	for range slots {
		s.units = append(s.units, &unit{locked: true, changed: true})
	}
	return s
}

// serve answers on a pseudo-terminal until the test ends, and gives its path.
func (s *slave) serve(t *testing.T) string {
	t.Helper()
	master, tty, err := pty.Open()
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.answer(master)
	}()
	t.Cleanup(func() {
		tty.Close() // it was held open: reads of the master fail while nobody has it
		<-ended
		master.Close()
	})
	return tty.Name()
}

// plug serves behind a name, until it is unplugged, and gives the terminal that is
// behind it.
func (s *slave) plug(t *testing.T, name string) (device string, unplug func()) {
	t.Helper()
	master, tty, err := pty.Open()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(tty.Name(), name))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.answer(master)
	}()
	var once sync.Once
	unplug = func() {
		once.Do(func() {
			_ = os.Remove(name) // it may have been renamed
			tty.Close()
			master.Close()
			<-ended
		})
	}
	t.Cleanup(unplug)
	return tty.Name(), unplug
}

// freeze makes all boards answer what is so now, for ever.
func (s *slave) freeze(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.froze = time.Time{}
	if on {
		s.froze = time.Now()
	}
}

func (s *slave) answer(master *os.File) {
	var got []byte
	buffer := make([]byte, 256)
	for {
		n, err := master.Read(buffer)
		if err != nil {
			return
		}
		got = append(got, buffer[:n]...)
		size, err := modbus.RequestLen(got)
		if err == nil && (size == 0 || len(got) < size) {
			continue
		}
		q, err := modbus.DecodeRequest(got)
		got = got[:0]
		if err != nil {
			continue
		}
		frame, err := s.reply(q).Append(nil)
		if err != nil {
			panic(err)
		}
		if _, err := master.Write(frame); err != nil {
			return
		}
	}
}

func (s *slave) reply(q modbus.Request) modbus.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := uint16(time.Since(s.began) / time.Second)
	if !s.froze.IsZero() {
		up = uint16(s.froze.Sub(s.began) / time.Second)
	}
	if q.Unit == slotboard.CabinetUnit && q.Function == modbus.WriteRegister {
		s.contactor = q.Value == 1
		return modbus.ReplyTo(q)
	}
	if q.Unit == slotboard.CabinetUnit {
		own := slotboard.Cabinet{Fitted: 0x7FFF, Alive: up, Status: s.own}
		if s.contactor {
			own.Status |= slotboard.ContactorClosed
		}
		image := own.Registers()
		return inputs(q, image[:])
	}
	if int(q.Unit) > len(s.units) {
		return modbus.Refusal(q, modbus.DeviceFailure)
	}
	u := s.units[q.Unit-1]
	switch q.Function {
	case modbus.ReadInput:
		image := u.image(up)
		return inputs(q, image[:])
	case modbus.WriteRegisters: // fan and heater
		return modbus.ReplyTo(q)
	case modbus.WriteRegister:
		if s.write(u, q) {
			s.pulses <- int(q.Unit)
		}
		return modbus.ReplyTo(q)
	}
	return modbus.Refusal(q, modbus.IllegalFunction)
}

func inputs(q modbus.Request, image []uint16) modbus.Reply {
	r := modbus.ReplyTo(q)
	r.Registers = image[q.Address : q.Address+q.Count]
	return r
}

func (u *unit) image(up uint16) [slotboard.SlotInputs]uint16 {
	set := slotboard.Status(0)
	for bit, on := range map[slotboard.Status]bool{
		slotboard.DoorOpen: u.open, slotboard.BoltLocked: u.locked, slotboard.BatteryPresent: u.serial != "",
		slotboard.BatteryLink: u.serial != "", slotboard.ChargeEnabled: u.charging, slotboard.IdentityChanged: u.changed,
	} {
		if on {
			set |= bit
		}
	}
	image := slotboard.Slot{
		Fast:     slotboard.Fast{Status: set, Lock: u.lock, Alive: up},
		Identity: slotboard.Identity{Epoch: u.epoch, Serial: u.serial},
		Board:    slotboard.Board{UptimeS: uint32(up), Fitted: 0xFFFF, Version: slotboard.Version},
	}
	if u.serial != "" {
		image.Fast.SocPermille = slotboard.Known(int32(10 * u.soc))
		image.Fast.VoltageMV = slotboard.Known(52_000)
		image.Fast.CellMax, image.Fast.CellMin = slotboard.Known(251), slotboard.Known(249)
	}
	return image.Registers()
}

// write does what a register asks; true is a pulse of the lock.
func (s *slave) write(u *unit, q modbus.Request) bool {
	switch q.Address {
	case slotboard.HoldLock:
		seq, ok := slotboard.LockSeq(q.Value)
		if !ok || seq == u.lock.Seq {
			return false
		}
		u.lock = slotboard.Lock{Seq: seq, Result: slotboard.LockOpened}
		u.open, u.locked = true, false
		return true
	case slotboard.HoldCharge:
		u.charging = q.Value == 1
	case slotboard.HoldIdentityAck:
		u.changed = false
	}
	return false
}

// put changes what is in a slot: a hand, through the open door.
func (s *slave) put(slot int, serial string, soc int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.units[slot-1]
	u.serial, u.soc, u.changed = serial, soc, true
	u.epoch++
}

// shut closes a door, and the bolt falls.
func (s *slave) shut(slot int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.units[slot-1].open, s.units[slot-1].locked = false, true
}

package safety_test

import (
	"sync"
	"time"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
)

// boards are the boards of a cabinet, and what goes on behind them: batteries
// that get warm, chargers, a contactor, smoke.
type boards struct {
	mu    sync.Mutex
	began time.Time
	units []*unit
	own   slotboard.Cabinet
	dead  bool // the cabinet's own board
	// welded: the contactor does not open.
	welded bool
	// deaf: so many orders to close it do nothing.
	deaf   int
	pulses int

	// off is asked after every change; when it says yes, power went off then.
	off   func() bool
	offAt time.Time
	gone  chan struct{}
}

// unit is one slot, with a battery in it.
type unit struct {
	relay, stuck bool // the charger; stuck: on whatever is ordered
	limit        uint16
	serial       string // "" for none
	permille     int32  // its soc
	deciC        int32
	perS         float64 // °C in a second, since risingAt
	risingAt     time.Time
	mute         bool // the battery does not tell its temperature
	smoke        bool
	fan, heater  slot.Air
	open         bool
	dead, frozen bool
	image        []uint16
	lock         slotboard.Lock
	resetAt      time.Time
	heardAt      time.Time
	epoch        uint16
	changed      bool
}

const watchdog = 30 * time.Second

func newBoards(slots int) *boards {
	b := &boards{began: time.Now(), gone: make(chan struct{}), own: slotboard.Cabinet{
		Fitted: 0x7FFF, UpperTemp: slotboard.Known(280), BackupMV: slotboard.Known(12_600),
	}}
	b.own.Status = slotboard.ArresterOK | slotboard.ContactorClosed
	for n := range slots {
		b.units = append(b.units, &unit{
			serial: "BT10600" + string(rune('A'+n)), permille: 500, deciC: 270, changed: true, epoch: 1, resetAt: b.began, heardAt: b.began,
		})
	}
	return b
}

// set changes the facts.
func (b *boards) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	b.look()
}

// put changes which battery is in a slot, "" for none. The caller holds the mutex.
func (u *unit) put(serial string, permille int32) {
	u.serial, u.permille, u.changed = serial, permille, true
	u.epoch++
}

// opened are the slots whose doors are open. The caller holds the mutex.
func (b *boards) opened() []int {
	var out []int
	for i, u := range b.units {
		if u.open {
			out = append(out, i+1)
		}
	}
	return out
}

// look notices that power has gone.
func (b *boards) look() {
	if b.off != nil && b.off() {
		b.off, b.offAt = nil, time.Now()
		close(b.gone)
	}
}

func (b *boards) contactor() bool { return b.own.Status.Has(slotboard.ContactorClosed) }

// power says whether current flows into a slot's battery.
func (b *boards) power(n int) bool {
	u := b.units[n-1]
	if time.Since(u.heardAt) > watchdog {
		u.relay = false
	}
	return (u.relay || u.stuck) && b.contactor() && u.serial != ""
}

// Answer is the serial line's end.
func (b *boards) Answer(received []byte) (int, []byte) {
	n, err := modbus.RequestLen(received)
	if err != nil || n == 0 || n > len(received) {
		return 0, nil
	}
	q, err := modbus.DecodeRequest(received[:n])
	if err != nil {
		return n, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	reply, ok := b.reply(q)
	b.look()
	if !ok {
		return n, nil
	}
	frame, err := reply.Append(nil)
	if err != nil {
		panic(err)
	}
	return n, frame
}

func (b *boards) reply(q modbus.Request) (modbus.Reply, bool) {
	var image []uint16
	switch {
	case q.Unit == slotboard.CabinetUnit && b.dead:
		return modbus.Reply{}, false
	case q.Unit == slotboard.CabinetUnit && q.Function == modbus.WriteRegister:
		if q.Address == slotboard.HoldContactor && (!b.welded || q.Value == 1) {
			b.own.Status &^= slotboard.ContactorClosed
			if q.Value == 1 && b.deaf > 0 {
				b.deaf--
			} else if q.Value == 1 && !b.own.Status.Has(slotboard.EmergencyStop) {
				b.own.Status |= slotboard.ContactorClosed
			}
		}
		return modbus.ReplyTo(q), true
	case q.Unit == slotboard.CabinetUnit:
		b.own.Alive = uint16(time.Since(b.began) / time.Second)
		registers := b.own.Registers()
		image = registers[:]
	default:
		u := b.units[q.Unit-1]
		if u.dead {
			return modbus.Reply{}, false
		}
		u.heardAt = time.Now()
		if q.Function == modbus.WriteRegister {
			b.write(u, q)
			return modbus.ReplyTo(q), true
		}
		if q.Function == modbus.WriteRegisters {
			u.fan, u.heater = slot.Air(q.Registers[0]), slot.Air(q.Registers[1])
			return modbus.ReplyTo(q), true
		}
		if image = u.image; !u.frozen || image == nil {
			registers := b.registers(int(q.Unit))
			image = registers[:]
		}
		u.image = image
	}
	r := modbus.ReplyTo(q)
	r.Registers = image[q.Address : q.Address+q.Count]
	return r, true
}

func (b *boards) write(u *unit, q modbus.Request) {
	switch q.Address {
	case slotboard.HoldCharge:
		if !u.frozen {
			u.relay = q.Value == 1
		}
	case slotboard.HoldAmpLimit:
		u.limit = q.Value
	case slotboard.HoldIdentityAck:
		u.changed = u.changed && q.Value != u.epoch
	case slotboard.HoldLock:
		if seq, _ := slotboard.LockSeq(q.Value); seq != u.lock.Seq {
			u.lock = slotboard.Lock{Seq: seq, Result: slotboard.LockOpened}
			u.open = true
			b.pulses++
		}
	}
}

func (b *boards) registers(n int) [slotboard.SlotInputs]uint16 {
	u := b.units[n-1]
	set := slotboard.Status(0)
	for bit, on := range map[slotboard.Status]bool{
		slotboard.DoorOpen: u.open, slotboard.BoltLocked: !u.open, slotboard.BatteryPresent: u.serial != "",
		slotboard.BatteryLink: u.serial != "" && !u.mute, slotboard.ChargeEnabled: u.relay, slotboard.Charging: b.power(n),
		slotboard.IdentityChanged: u.changed, slotboard.Smoke: u.smoke,
	} {
		if on {
			set |= bit
		}
	}
	up := time.Since(u.resetAt)
	s := slotboard.Slot{
		Fast:     slotboard.Fast{Status: set, Lock: u.lock, Alive: uint16(up / time.Second), Air: slotboard.Known(260)},
		Identity: slotboard.Identity{Epoch: u.epoch, Serial: u.serial},
		Board:    slotboard.Board{UptimeS: uint32(up / time.Second), Fitted: 0xFFFF, Version: slotboard.Version},
	}
	if u.serial != "" && !u.mute {
		s.Fast.SocPermille, s.Fast.VoltageMV = slotboard.Known(u.permille), slotboard.Known(60_000)
		t := slotboard.Known(u.temperature())
		s.Fast.CellMax, s.Fast.CellMin = t, t
		s.Fast.CurrentMA = slotboard.Known(0)
		if b.power(n) {
			s.Fast.CurrentMA = slotboard.Known(9_800)
		}
	}
	return s.Registers()
}

func (u *unit) temperature() int32 {
	if u.perS == 0 {
		return u.deciC
	}
	return u.deciC + int32(10*u.perS*time.Since(u.risingAt).Seconds())
}

package board

import (
	"fmt"
	"time"

	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
	"batteryswap/simulator/world"
)

// What the boards say of themselves.
const (
	firmware = "SIM00001"
	hardware = "PTY00001"
)

// The rules of the map that have a number, and our boards' own.
const (
	noFeedbackAfter  = time.Second // after the pulse has ended
	doorLeftOpen     = 2 * time.Minute
	batterySilent    = 3 * time.Second
	overTempDeciC    = 600
	chargeTooHot     = 650 // 0.1 °C; what the battery's own electronics call too hot to charge
	chargeTooCold    = 0
	jammedAfter      = 3 // lock commands without feedback, one after the other
	unprotectedFor   = 10 * time.Second
	chargeCurrentMax = 200 // mA; above it charging current flows
	fullPermille     = 1000
	taperPermille    = 900
	fastChargerMV    = 69_000
)

// batteryFaults are the protections of the battery that are simulated. The board
// repeats what the battery says: they go when their cause goes.
const batteryFaults = slotboard.ChargeOverTemp | slotboard.ChargeUnderTemp

// slotUnit is one slot's board.
type slotUnit struct {
	world       *world.World
	cabinet     string
	slot        int
	resetAt     time.Duration
	withoutBolt bool

	holding     map[uint16]uint16
	unprotected time.Duration // until when 00F0 to 00F2 may be written
	heardAt     time.Duration
	tripped     bool // the master watchdog

	lock      slotboard.Lock
	pulseAt   time.Duration // of the pulse that runs or waits for feedback; never while < 0
	noReply   int           // lock commands without feedback in a row
	faults    slotboard.Fault
	epoch     uint16
	changes   uint64
	present   bool
	unacked   bool          // identity changed since it was acknowledged
	openSince time.Duration // never while < 0
	muteSince time.Duration // never while < 0
	wasOpen   bool

	fanIs, heaterIs bool // as switched last

	frozen []uint16 // the image when it froze
}

const never = time.Duration(-1)

func newSlotUnit(w *world.World, cabinet string, slot int, at time.Duration, withoutBolt bool) *slotUnit {
	return &slotUnit{
		world: w, cabinet: cabinet, slot: slot, resetAt: at, heardAt: at, withoutBolt: withoutBolt,
		unacked: true, pulseAt: never, openSince: never, muteSince: never,
		holding: map[uint16]uint16{
			slotboard.HoldPulse: slotboard.DefaultPulseMS, slotboard.HoldCharge: 0,
			slotboard.HoldVoltLimit: 0, slotboard.HoldAmpLimit: 0, slotboard.HoldStopSoc: 1000,
			slotboard.HoldFan: 0, slotboard.HoldHeater: 0, slotboard.HoldFanTemp: 300,
			slotboard.HoldHeaterTemp: 0, slotboard.HoldLED: 0, slotboard.HoldWatchdog: slotboard.DefaultWatchdogS,
			slotboard.HoldIdentityAck: 0, slotboard.HoldFaultClear: 0, slotboard.HoldLock: 0,
			slotboard.HoldUnit: uint16(slot), slotboard.HoldBaud: 1, slotboard.HoldParity: 0,
			slotboard.HoldUnprotect: 0,
		},
	}
}

func (u *slotUnit) number() int { return u.slot }

func (u *slotUnit) heard(at time.Duration) {
	u.heardAt = at
	u.tripped = false
}

func (u *slotUnit) frozenNow() bool {
	_, frozen := u.world.Strikes(u.cabinet, u.slot, world.FrozenBoard)
	return frozen
}

// sense reads the sensors. The slot exists: New counted them.
func (u *slotUnit) sense(at time.Duration) world.Sensed {
	s, err := u.world.Sense(at, u.cabinet, u.slot)
	if err != nil {
		return world.Sensed{}
	}
	return s
}

// charge switches the charger's output.
func (u *slotUnit) charge(at time.Duration, on bool) {
	u.holding[slotboard.HoldCharge] = 0
	if on {
		u.holding[slotboard.HoldCharge] = 1
	}
	// The slot exists: New counted them.
	_ = u.world.SwitchCharger(at, u.cabinet, u.slot, on)
}

func (u *slotUnit) tick(at time.Duration) {
	if u.frozenNow() {
		return
	}
	s := u.sense(at)
	u.watch(at)
	u.air(at, s)
	u.identify(s)
	u.followLock(at, s)
	u.judge(at, s)
	stop := int(u.holding[slotboard.HoldStopSoc])
	if u.holding[slotboard.HoldCharge] == 1 && s.Battery != nil && s.Battery.SocPermille >= stop && stop < fullPermille {
		u.charge(at, false)
	}
}

// watch is the master watchdog.
func (u *slotUnit) watch(at time.Duration) {
	limit := time.Duration(u.holding[slotboard.HoldWatchdog]) * time.Second
	if limit > 0 && at-u.heardAt > limit && !u.tripped {
		u.tripped = true
		u.charge(at, false)
	}
}

// air switches fan and heater.
func (u *slotUnit) air(at time.Duration, s world.Sensed) {
	fan, heater := u.fanOn(s), u.heaterOn(s)
	if fan == u.fanIs && heater == u.heaterIs {
		return
	}
	u.fanIs, u.heaterIs = fan, heater
	// The slot exists: New counted them.
	_ = u.world.SwitchAir(at, u.cabinet, u.slot, fan, heater)
}

// identify counts changes of presence or of the battery's code.
func (u *slotUnit) identify(s world.Sensed) {
	moved := s.Changes - u.changes
	if moved == 0 && s.Present != u.present {
		moved = 1
	}
	if moved > 0 {
		u.epoch += uint16(moved)
		u.unacked = true
	}
	u.changes, u.present = s.Changes, s.Present
}

// followLock finds out what the last lock command came to.
func (u *slotUnit) followLock(at time.Duration, s world.Sensed) {
	if u.lock.Result != slotboard.LockOpening || u.pulseAt < 0 {
		return
	}
	pulse := time.Duration(u.holding[slotboard.HoldPulse]) * time.Millisecond
	switch {
	case s.DoorOpen:
		u.lock.Result, u.pulseAt, u.noReply = slotboard.LockOpened, never, 0
	case at >= u.pulseAt+pulse+noFeedbackAfter:
		u.lock.Result, u.pulseAt = slotboard.LockNoFeedback, never
		u.noReply++
	}
}

// judge sets the fault bits whose cause is there, and acts on heat and smoke.
func (u *slotUnit) judge(at time.Duration, s world.Sensed) {
	since(&u.openSince, at, s.DoorOpen)
	since(&u.muteSince, at, s.Present && s.Battery == nil)
	known := s.Battery != nil && !s.Battery.NoTemp
	hot := s.AirDeciC >= overTempDeciC || known && s.Battery.TempDeciC >= overTempDeciC
	if s.DoorOpen && !u.wasOpen && u.lock.Result != slotboard.LockOpening && u.lock.Result != slotboard.LockOpened {
		u.faults |= slotboard.DoorForced
	}
	u.wasOpen = s.DoorOpen
	u.faults &^= batteryFaults
	for fault, cause := range map[slotboard.Fault]bool{
		slotboard.ChargeOverTemp:  known && s.Battery.TempDeciC >= chargeTooHot,
		slotboard.ChargeUnderTemp: known && s.Battery.TempDeciC < chargeTooCold && s.CurrentMA > 0,

		slotboard.LockJam:        u.noReply >= jammedAfter,
		slotboard.DoorLeftOpen:   u.openSince >= 0 && at-u.openSince > doorLeftOpen,
		slotboard.BatteryTimeout: u.muteSince >= 0 && at-u.muteSince > batterySilent,
		slotboard.SlotOverTemp:   hot,
		slotboard.SmokeAlarm:     s.Smoke,
		slotboard.CoilStuck:      s.CoilActive && u.pulseAt < 0,
	} {
		if cause {
			u.faults |= fault
		}
	}
	_, helpless := u.world.Strikes(u.cabinet, u.slot, world.NoProtection)
	if (hot || s.Smoke) && !helpless && u.holding[slotboard.HoldCharge] == 1 {
		u.charge(at, false)
	}
}

// since remembers when something began to be so.
func since(start *time.Duration, at time.Duration, is bool) {
	switch {
	case !is:
		*start = never
	case *start < 0:
		*start = at
	}
}

func (u *slotUnit) answer(at time.Duration, q modbus.Request) (modbus.Reply, func(time.Duration), error) {
	frozen := u.frozenNow()
	if !frozen {
		u.frozen = nil
	}
	switch q.Function {
	case modbus.ReadInput:
		image := u.frozen
		if image == nil {
			now := u.image(at).Registers()
			image = now[:]
		}
		if frozen {
			u.frozen = image
		}
		r, err := readInputs(q, image)
		return r, nil, err
	case modbus.ReadDiscreteInputs:
		r, err := readBits(q, u.image(at).Fast.Status, slotboard.DiscreteInputs)
		return r, nil, err
	case modbus.ReadCoils:
		r, err := readBits(q, u.coils(), coilCount)
		return r, nil, err
	case modbus.ReadHolding:
		r, err := u.readHolding(q)
		return r, nil, err
	case modbus.WriteCoil, modbus.WriteRegister, modbus.WriteRegisters:
		after, err := u.write(at, q, frozen)
		return modbus.ReplyTo(q), after, err
	}
	return modbus.Reply{}, nil, fmt.Errorf("function %d: %w", q.Function, modbus.ErrFunction)
}

func readBits(q modbus.Request, bits slotboard.Status, count int) (modbus.Reply, error) {
	end := int(q.Address) + int(q.Count)
	if end > count {
		return modbus.Reply{}, fmt.Errorf("bits to %04X: %w", end-1, slotboard.ErrAddress)
	}
	r := modbus.ReplyTo(q)
	for i := int(q.Address); i < end; i++ {
		r.Bits = append(r.Bits, bits>>i&1 == 1)
	}
	return r, nil
}

package slot

import "time"

// Tri is the answer of a sensor. The zero value is "unknown": a sensor that
// says nothing has never said no.
type Tri uint8

// The three answers of a sensor.
const (
	Unknown Tri = iota
	No
	Yes
)

// TriOf is Yes for true and No for false.
func TriOf(b bool) Tri {
	if b {
		return Yes
	}
	return No
}

// Value is a measured number, or the absence of one. The zero value is absent.
type Value struct {
	N     int32
	Known bool
}

// Known is the measured number n.
func Known(n int32) Value { return Value{N: n, Known: true} }

// Reading is what a board said of one slot in one poll. What the board does not
// know is absent; nothing is carried over from an earlier poll by a driver but
// Serial, and that only while IdentityEpoch stands still.
type Reading struct {
	// Slot is the slot's number, from 1, as painted on its door.
	Slot int
	// At is when the reply was complete, on the agent's monotonic clock.
	At time.Duration

	DoorOpen Tri
	// Bolt is the lock's own feedback: Yes is locked. A board without that
	// feedback always says Unknown; BoltFitted tells the two apart.
	Bolt       Tri
	BoltFitted bool
	// CoilActive is Yes while the lock's coil is driven.
	CoilActive Tri
	// Switch is the presence switch: Yes means something is in the slot.
	Switch Tri
	// BatteryLink is Yes while the board talks to the battery's own electronics.
	BatteryLink Tri
	// Serial is the battery's code as it reported it, "" when unknown.
	Serial string
	// IdentityEpoch counts changes of presence or of the battery's code.
	IdentityEpoch uint16

	SocPermille Value // 0.1 %
	VoltageMV   Value
	CurrentMA   Value // positive: charging
	CellMax     Value // 0.1 °C
	CellMin     Value // 0.1 °C
	Air         Value // 0.1 °C

	Charging        Tri
	ChargeEnabled   Tri
	Smoke           Tri
	Full            Tri
	WatchdogTripped Tri
	// Faults is the board's fault bitmap (SlotBoard v1, register 0001).
	Faults uint32
	// LockSeq and LockResult are the board's account of the last unlock.
	LockSeq    uint8
	LockResult LockResult
	// Alive is the board's own counter, +1 each second: it stands still when
	// the board is frozen and answers stale data.
	Alive uint16
}

// Air is what a slot's fan, or its heater, is told. The numbers are those of SlotBoard
// v1, registers 0018 and 0019.
type Air uint8

// What they can be told. AirAuto leaves it to the board and its own thermometer.
const (
	AirAuto Air = iota
	AirOff
	AirOn
)

// LockResult is what a board says of the last unlock it executed. It is an
// account of the actuator, never a proof that the door opened or did not.
type LockResult uint8

// The results of SlotBoard v1, register 000E, low byte.
const (
	LockNone LockResult = iota
	LockOpening
	LockOpened
	LockNoFeedback
	LockRefusedCharging
	LockRefusedFault
)

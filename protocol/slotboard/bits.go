package slotboard

// Status is the set of bits of RegStatus.
type Status uint16

// The bits of RegStatus.
const (
	DoorOpen Status = 1 << iota
	CoilActive
	BoltLocked
	BatteryPresent
	BatteryLink
	ChargerLink
	Charging
	Full
	Smoke
	FanOn
	HeaterOn
	AntiTheft
	ChargeEnabled
	WatchdogTripped
	IdentityChanged
	AnyFault
)

// Has says whether every bit of want is set.
func (s Status) Has(want Status) bool { return s&want == want }

// Fault is the set of bits of RegFaults.
type Fault uint32

// The bits of RegFaults. Bits 0 to 12 are the protections of the battery.
const (
	CellOverVoltage Fault = 1 << iota
	CellUnderVoltage
	BatteryOverVoltage
	BatteryUnderVoltage
	ChargeOverTemp
	ChargeUnderTemp
	DischargeOverTemp
	DischargeUnderTemp
	ChargeOverCurrent
	DischargeOverCurrent
	ShortCircuit
	FrontEndError
	SoftwareLock
	_
	_
	_
	LockJam
	DoorForced
	DoorLeftOpen
	BatteryTimeout
	ChargerTimeout
	ChargerFault
	SlotOverTemp
	SmokeAlarm
	ForeignBattery
	CoilStuck
	MemoryFault
	WatchdogReset
)

// Has says whether every bit of want is set.
func (f Fault) Has(want Fault) bool { return f&want == want }

// ChargerState is the value of RegChargerState.
type ChargerState uint16

// The states of a charger.
const (
	ChargerAbsent ChargerState = iota
	ChargerIdle
	ChargerPrecharge
	ChargerFast
	ChargerTaper
	ChargerFull
	ChargerFaulty
)

// LockResult is the low byte of RegLock: the board's account of the last lock
// command that it executed.
type LockResult uint8

// The results of a lock command.
const (
	LockNone LockResult = iota
	LockOpening
	LockOpened
	LockNoFeedback
	LockRefusedCharging
	LockRefusedFault
)

// CabinetStatus is the set of bits of RegCabinetStatus.
type CabinetStatus uint16

// The bits of RegCabinetStatus.
const (
	MainDoorOpen CabinetStatus = 1 << iota
	CabinetSmoke
	Water
	LightningHit
	ArresterOK
	CabinetFan
	CabinetLight
	Relay
	BackupInUse
	Tilt
	SprinklerTankEmpty
	Button
	MaintenanceKey
	EmergencyStop
	ContactorClosed
)

// Has says whether every bit of want is set.
func (s CabinetStatus) Has(want CabinetStatus) bool { return s&want == want }

package protocol

import (
	"encoding/json"
	"fmt"
)

// Payload is what a record tells, as compact JSON.
type Payload interface{ RecordType() RecordType }

// Boot is the first record of every boot.
type Boot struct {
	BootID   BootID `json:"boot_id"`
	Software string `json:"software"`
	// Epoch is the whole epoch; EpochShort in the record's head is a part of it.
	Epoch Epoch `json:"epoch"`
	// CutBytes counts the bytes of a torn tail that this boot removed.
	CutBytes int64 `json:"cut_bytes,omitempty"`
	// Old is the tail of the epoch before, in the first record of an epoch.
	Old *OldTail `json:"old,omitempty"`
	// Carried is what the agent takes over from that epoch into its own state, in
	// the same record; its form is the agent's own, as a SNAPSHOT's is.
	Carried json.RawMessage `json:"carried,omitempty"`
	// Out says why this boot came up out of service, if it did.
	Out Reason `json:"out,omitempty"`
}

// OldTail names the last record of an epoch that was left behind.
type OldTail struct {
	Epoch Epoch  `json:"epoch"`
	Seq   uint64 `json:"seq"`
	Hash  Hash   `json:"hash"`
}

// Accept says that a grant was accepted: the only licence to pulse a lock.
type Accept struct {
	SwapID    SwapID    `json:"swap_id"`
	Kind      Kind      `json:"kind"`
	Nonce     Nonce     `json:"nonce"`
	BootID    BootID    `json:"boot_id"`
	Grant     string    `json:"grant"` // the envelope, verbatim
	Inventory Inventory `json:"inventory"`
}

// Intent precedes every single pulse.
type Intent struct {
	SwapID  SwapID  `json:"swap_id,omitempty"`
	OrderID OrderID `json:"order_id,omitempty"` // of maintenance, in place of a swap
	Slot    int     `json:"slot"`
	Purpose Purpose `json:"purpose"`
	// Pulse is 1 for the first pulse for this purpose at this slot, then 2.
	Pulse int `json:"pulse"`
	// BatterySerial is what the slot holds, for all but deposit.
	BatterySerial BatterySerial `json:"battery_serial,omitempty"`
}

// DoorMoved is informative: it moves the rider's page on.
type DoorMoved struct {
	SwapID  SwapID  `json:"swap_id,omitempty"`
	Slot    int     `json:"slot"`
	Purpose Purpose `json:"purpose,omitempty"`
	Door    Door    `json:"door"` // open; shut means closed
}

// Battery is what was read of a battery.
type Battery struct {
	BatterySerial BatterySerial `json:"battery_serial,omitempty"`
	Soc           *int          `json:"soc,omitempty"` // %
	VoltageMV     *int          `json:"voltage_mv,omitempty"`
	CellMaxC      *float64      `json:"cell_max_c,omitempty"` // °C
}

// Deposit says that a battery is in, its slot closed, and how it was judged.
type Deposit struct {
	SwapID   SwapID  `json:"swap_id"`
	Slot     int     `json:"slot"`
	Battery  Battery `json:"battery"`
	Accepted bool    `json:"accepted"`
	Reason   Reason  `json:"reason,omitempty"` // why not accepted, or deposit_late, power_cut
}

// Taken says that a dispense slot is closed and empty. This counts.
type Taken struct {
	SwapID        SwapID        `json:"swap_id"`
	Slot          int           `json:"slot"`
	BatterySerial BatterySerial `json:"battery_serial"`
}

// Closed is the sensed end of a swap. It repeats what the books need, so that
// they can be checked against the records before it.
type Closed struct {
	SwapID  SwapID  `json:"swap_id"`
	Kind    Kind    `json:"kind"`
	Outcome Outcome `json:"outcome"`
	// DepositSlot and Deposited: the battery of the rider that is or was in.
	DepositSlot int           `json:"deposit_slot,omitempty"`
	Deposited   BatterySerial `json:"deposited,omitempty"`
	// TakeSlot and Taken: the battery that left.
	TakeSlot int           `json:"take_slot,omitempty"`
	Taken    BatterySerial `json:"taken,omitempty"`
	Reason   Reason        `json:"reason,omitempty"`
	// Explanations are the possible ones, for a review.
	Explanations []Outcome `json:"explanations,omitempty"`
	// Inventory is the whole cabinet at the end of a review.
	Inventory Inventory `json:"inventory,omitempty"`
}

// Void says that a prepared swap will never be accepted in this boot.
type Void struct {
	SwapID SwapID `json:"swap_id"`
	Reason Reason `json:"reason,omitempty"` // cancelled when empty
}

// Reject says that a command was refused: a wrong nonce, a wrong key, a replay.
type Reject struct {
	Type  Type   `json:"type,omitempty"`
	Why   string `json:"why"`
	Count int    `json:"count"` // since the last record of this why
}

// Tamper says that a door opened that nobody was granted: it was seen open, or
// behind a door that seemed closed lies what was not there before.
type Tamper struct {
	Slot int `json:"slot"` // 0: the cabinet's main door
	// Presence and BatterySerial are what the slot held before; absent when that is
	// not known: not read in this boot, or not since its last pulse.
	Presence      Presence      `json:"presence,omitempty"`
	BatterySerial BatterySerial `json:"battery_serial,omitempty"`
	Inventory     Inventory     `json:"inventory,omitempty"`
}

// Alarm says that an alarm was raised or cleared.
type Alarm struct {
	Kind    AlarmKind `json:"kind"`
	Slot    int       `json:"slot,omitempty"`
	SwapID  SwapID    `json:"swap_id,omitempty"`
	Cleared bool      `json:"cleared,omitempty"`
	// OnSite: it was cleared by somebody who had turned the maintenance key.
	OnSite bool `json:"on_site,omitempty"`
	// Inventory, when a tamper alarm ends by itself, is the whole cabinet: beside
	// what TAMPER tells it shows what force moved.
	Inventory Inventory `json:"inventory,omitempty"`
}

// AlarmKind is what an alarm is about.
type AlarmKind string

// The kinds of alarm.
const (
	AlarmDoorOpen     AlarmKind = "door_open" // not closed in time
	AlarmSlotFault    AlarmKind = "slot_fault"
	AlarmTamper       AlarmKind = "tamper"
	AlarmPulses       AlarmKind = "too_many_pulses"
	AlarmTemperature  AlarmKind = "temperature"
	AlarmSmoke        AlarmKind = "smoke"
	AlarmWater        AlarmKind = "water"
	AlarmJournal      AlarmKind = "journal"
	AlarmBoardSilent  AlarmKind = "board_silent"
	AlarmHeldBattery  AlarmKind = "held_battery"
	AlarmEmergencyOff AlarmKind = "emergency_off"
	// AlarmHeatRate: a battery gets hot too quickly. AlarmSensorSilent: what is
	// charged does not tell how hot it is.
	AlarmHeatRate     AlarmKind = "heat_rate"
	AlarmSensorSilent AlarmKind = "sensor_silent"
	// AlarmCurrentOff: current flows into a battery whose charger is off.
	AlarmCurrentOff AlarmKind = "current_when_off"
	AlarmContactor  AlarmKind = "contactor" // it does not do what it is told
	AlarmSupply     AlarmKind = "supply_low"
)

// AlarmOther stands in the backend for a kind that is not on the list: a newer
// agent's, or nonsense.
const AlarmOther AlarmKind = "other"

// Valid reports whether the kind is on the list.
func (k AlarmKind) Valid() bool {
	switch k {
	case AlarmDoorOpen, AlarmSlotFault, AlarmTamper, AlarmPulses, AlarmJournal, AlarmBoardSilent, AlarmHeldBattery:
		return true
	}
	return k.Safety()
}

// Safety reports whether an alarm of this kind is the safety loop's: raised by it
// alone, and, but for supply_low, on until it is cleared on site.
func (k AlarmKind) Safety() bool {
	switch k {
	case AlarmTemperature, AlarmHeatRate, AlarmSensorSilent, AlarmCurrentOff, AlarmSmoke, AlarmWater,
		AlarmEmergencyOff, AlarmContactor, AlarmSupply:
		return true
	}
	return false
}

// ChargeCut says that charging was cut for safety.
type ChargeCut struct {
	Slot int       `json:"slot,omitempty"` // 0: the whole cabinet
	Kind AlarmKind `json:"kind"`
}

// ConfigApplied says that a configuration took effect.
type ConfigApplied struct {
	Config      CabinetConfig `json:"config"`
	KeysVersion int64         `json:"keys_version"`
}

// TimeStep relates the wall clock to the monotonic clock from here on; it dates
// the records of its boot backwards too.
type TimeStep struct {
	WallMS int64      `json:"wall_ms"` // Unix, the new wall clock at mono_ms of the record
	Clock  ClockState `json:"clock"`
}

// RecordType names the record.
func (Boot) RecordType() RecordType          { return RecordBoot }
func (Accept) RecordType() RecordType        { return RecordAccept }
func (Intent) RecordType() RecordType        { return RecordIntent }
func (DoorMoved) RecordType() RecordType     { return RecordDoor }
func (Deposit) RecordType() RecordType       { return RecordDeposit }
func (Taken) RecordType() RecordType         { return RecordTaken }
func (Closed) RecordType() RecordType        { return RecordClosed }
func (Void) RecordType() RecordType          { return RecordVoid }
func (Reject) RecordType() RecordType        { return RecordReject }
func (Tamper) RecordType() RecordType        { return RecordTamper }
func (Alarm) RecordType() RecordType         { return RecordAlarm }
func (ChargeCut) RecordType() RecordType     { return RecordChargeCut }
func (ConfigApplied) RecordType() RecordType { return RecordConfig }
func (TimeStep) RecordType() RecordType      { return RecordTimeStep }

// MarshalPayload encodes a payload for a record.
func MarshalPayload(p Payload) ([]byte, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("payload of %s: %w", p.RecordType(), err)
	}
	if len(b) > MaxPayload {
		return nil, fmt.Errorf("payload of %s: %d bytes, want at most %d", p.RecordType(), len(b), MaxPayload)
	}
	return b, nil
}

// UnmarshalPayload decodes the payload of a record into p, whose type must be
// the record's. Unknown fields are tolerated: a newer agent may say more.
func UnmarshalPayload[P Payload](r Record, p *P) error {
	if want := (*p).RecordType(); r.Type != want {
		return fmt.Errorf("payload of seq %d: the record is %s, not %s", r.Seq, r.Type, want)
	}
	if err := json.Unmarshal(r.Payload, p); err != nil {
		return fmt.Errorf("payload of %s seq %d: %w", r.Type, r.Seq, err)
	}
	return nil
}

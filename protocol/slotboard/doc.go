// Package slotboard is the register map "SlotBoard v1": what a slot board and a
// cabinet board say over Modbus RTU, and what they are told.
//
// It knows addresses, bits, units and markers; README.md beside it is the same
// map in words, for the maker of a board. It gives both directions, registers to
// values for the agent and values to registers for a board. It needs nothing and
// does no I/O; the frames around the registers are package modbus.
package slotboard

import "errors"

// Version is the version of the map that register RegVersion carries.
const Version = 1

// Addresses on the line.
const (
	// MaxSlots is the highest slot number; slot n answers as unit n.
	MaxSlots = 99
	// CabinetUnit is the unit of the cabinet's own board.
	CabinetUnit uint8 = 100
)

// Input registers of a slot (function 04).
const (
	RegStatus        uint16 = 0x0000
	RegFaults        uint16 = 0x0001
	RegSoc           uint16 = 0x0003
	RegVoltage       uint16 = 0x0004
	RegCurrent       uint16 = 0x0006
	RegCellMax       uint16 = 0x0008
	RegCellMin       uint16 = 0x0009
	RegAir           uint16 = 0x000A
	RegChargerState  uint16 = 0x000B
	RegChargerVolt   uint16 = 0x000C
	RegChargerAmp    uint16 = 0x000D
	RegLock          uint16 = 0x000E
	RegAlive         uint16 = 0x000F
	RegIdentityEpoch uint16 = 0x0010
	RegSerial        uint16 = 0x0020
	RegBMS           uint16 = 0x002C
	RegCycles        uint16 = 0x0030
	RegCells         uint16 = 0x0040
	RegNTC           uint16 = 0x0060
	RegChargerMax    uint16 = 0x0068
	RegFirmware      uint16 = 0x0080
	RegHardware      uint16 = 0x0084
	RegCounters      uint16 = 0x0088
	RegResets        uint16 = 0x008B
	RegUptime        uint16 = 0x008C
	RegFitted        uint16 = 0x008E
	RegVersion       uint16 = 0x008F
)

// Blocks of input registers that are read in one request. The blocks that an
// agent reads have different lengths, so that a late reply to one question
// cannot pass for the reply to another.
const (
	// FastCount is the length of the fast poll, from RegStatus.
	FastCount = 16
	// LockCount is the length of the lock's account, from RegLock.
	LockCount = 2
	// IdentityCount is the length of the identity block, from RegIdentityEpoch.
	IdentityCount = 0x36 - 0x10
	// CellCount is the length of the block of cell voltages, from RegCells.
	CellCount = 32
	// NTCCount is the length of the block of temperatures, from RegNTC.
	NTCCount = 8
	// BoardCount is the length of the account of the board, from RegResets.
	BoardCount = 5
	// SlotInputs is the length of a slot's image: every address below it can be
	// read, and one without content reads 0.
	SlotInputs = 0xA0
)

// Holding registers of a slot (functions 03, 06 and 16).
const (
	HoldLock          uint16 = 0x0000
	HoldPulse         uint16 = 0x0001
	HoldCharge        uint16 = 0x0010
	HoldVoltLimit     uint16 = 0x0011
	HoldAmpLimit      uint16 = 0x0012
	HoldStopSoc       uint16 = 0x0013
	HoldFan           uint16 = 0x0018
	HoldHeater        uint16 = 0x0019
	HoldFanTemp       uint16 = 0x001A
	HoldHeaterTemp    uint16 = 0x001B
	HoldLED           uint16 = 0x001C
	HoldWatchdog      uint16 = 0x0020
	HoldIdentityAck   uint16 = 0x0021
	HoldFaultClear    uint16 = 0x0022
	HoldUnit          uint16 = 0x00F0
	HoldBaud          uint16 = 0x00F1
	HoldParity        uint16 = 0x00F2
	HoldUnprotect     uint16 = 0x00FF
	UnprotectKey      uint16 = 0x55AA
	DefaultPulseMS    uint16 = 400
	DefaultWatchdogS  uint16 = 30
	CoilFan           uint16 = 0
	CoilHeater        uint16 = 1
	CoilChargeEnable  uint16 = 2
	DiscreteInputs           = 16
	lockCommand       uint16 = 0x4F00
	unknown16         uint16 = 0xFFFF
	unknownSigned16   uint16 = 0x7FFF
	maxSocPermille           = 1000
	serialRegisters          = 12
	textRegisters            = 4
	zones                    = 18
	zoneTempsRegister        = 0x20
)

// What can be wrong. Errors of this package wrap one of these; a board answers
// the first with exception 2 and the second with exception 3.
var (
	ErrAddress = errors.New("no such register")
	ErrValue   = errors.New("value is not allowed")
	ErrCount   = errors.New("number of registers is wrong")
)

// Value is a measured number, or the absence of one. The zero value is absent.
type Value struct {
	N     int32
	Known bool
}

// Known is the measured number n.
func Known(n int32) Value { return Value{N: n, Known: true} }

// LockCommand is the value of HoldLock that pulses the lock once for the
// sequence number seq, which is not 0.
func LockCommand(seq uint8) uint16 { return lockCommand | uint16(seq) }

// LockSeq is the sequence number of a value written to HoldLock; false when the
// value is no lock command.
func LockSeq(value uint16) (uint8, bool) {
	return uint8(value), value&0xFF00 == lockCommand && uint8(value) != 0
}

// NextSeq is the sequence number after seq: it goes from 255 to 1, for 0 means
// that no lock command was executed since the board's reset.
func NextSeq(seq uint8) uint8 {
	if seq == 255 {
		return 1
	}
	return seq + 1
}

// Package modbus is the wire form of Modbus RTU: frames, checksum, exceptions.
//
// It knows the eight functions that slot boards, meters and relay boards use
// (01 to 06, 15 and 16), for a master and for a slave, and a raw path for the
// devices that break the standard. It gives bytes for a question and a checked
// answer for bytes; how long a frame is can be told from its first bytes, so
// that nobody has to wait for silence. It needs nothing: no port, no clock, no
// state. Every frame has at most MaxFrame bytes.
//
// Sources: MODBUS Application Protocol V1.1b3 and MODBUS over Serial Line V1.02.
package modbus

import (
	"errors"
	"fmt"
)

// Bounds of the standard.
const (
	// MaxFrame is the longest frame on a serial line, in bytes, checksum included.
	MaxFrame = 256
	// MaxUnit is the highest address of a device; 0 is the broadcast.
	MaxUnit = 247
	// MaxReadRegisters bounds functions 03 and 04.
	MaxReadRegisters = 125
	// MaxWriteRegisters bounds function 16.
	MaxWriteRegisters = 123
	// MaxReadBits bounds functions 01 and 02.
	MaxReadBits = 2000
	// MaxWriteBits bounds function 15.
	MaxWriteBits = 1968
)

// Broadcast is the unit that every device obeys and none answers.
const Broadcast uint8 = 0

// Function is the function code of a frame.
type Function uint8

// The functions that this package knows.
const (
	ReadCoils          Function = 1
	ReadDiscreteInputs Function = 2
	ReadHolding        Function = 3
	ReadInput          Function = 4
	WriteCoil          Function = 5
	WriteRegister      Function = 6
	WriteCoils         Function = 15
	WriteRegisters     Function = 16
)

// exceptionBit is set in the function code of a reply that is an exception.
const exceptionBit = 0x80

// The two values of function 05. The standard has no other; a board that wants
// one is asked by Raw.
const (
	CoilOn  uint16 = 0xFF00
	CoilOff uint16 = 0x0000
)

// Exception is a device's refusal. It is an error: the device understood the
// frame and did not do what it asks.
type Exception uint8

// The exceptions of the standard.
const (
	IllegalFunction     Exception = 1
	IllegalAddress      Exception = 2
	IllegalValue        Exception = 3
	DeviceFailure       Exception = 4
	Acknowledge         Exception = 5
	DeviceBusy          Exception = 6
	GatewayTargetFailed Exception = 11
)

// Error names the exception and its number.
func (e Exception) Error() string {
	words := "unknown"
	switch e {
	case IllegalFunction:
		words = "illegal function"
	case IllegalAddress:
		words = "illegal data address"
	case IllegalValue:
		words = "illegal data value"
	case DeviceFailure:
		words = "device failure"
	case Acknowledge:
		words = "acknowledge"
	case DeviceBusy:
		words = "device busy"
	case GatewayTargetFailed:
		words = "gateway target did not respond"
	}
	return fmt.Sprintf("modbus exception %d (%s)", uint8(e), words)
}

// What can be wrong with a frame. Errors of this package wrap one of these.
var (
	ErrCRC      = errors.New("checksum is wrong")
	ErrLength   = errors.New("length is wrong")
	ErrUnit     = errors.New("unit is another")
	ErrFunction = errors.New("function is another")
	ErrEcho     = errors.New("echoed fields differ from the request")
	ErrRange    = errors.New("value is outside the standard")
)

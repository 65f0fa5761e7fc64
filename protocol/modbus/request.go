package modbus

import (
	"encoding/binary"
	"fmt"
)

// shortRequest is the length of a request of functions 01 to 06.
const shortRequest = 8

// longRequestHead is what stands before the data of functions 15 and 16.
const longRequestHead = 7

// Request is a question of a master.
type Request struct {
	Unit     uint8
	Function Function
	Address  uint16
	// Count is the number of bits or registers to read (01 to 04). A write
	// takes it from Bits or Registers.
	Count uint16
	// Value is what function 05 (CoilOn or CoilOff) or 06 writes.
	Value uint16
	// Bits is what function 15 writes.
	Bits []bool
	// Registers is what function 16 writes.
	Registers []uint16
}

// Quantity is the number of bits or registers that the request touches.
func (q Request) Quantity() int {
	switch q.Function {
	case ReadCoils, ReadDiscreteInputs, ReadHolding, ReadInput:
		return int(q.Count)
	case WriteCoils:
		return len(q.Bits)
	case WriteRegisters:
		return len(q.Registers)
	}
	return 1
}

// Check says what the standard forbids about the request.
func (q Request) Check() error {
	limit := 1
	switch q.Function {
	case ReadCoils, ReadDiscreteInputs:
		limit = MaxReadBits
	case ReadHolding, ReadInput:
		limit = MaxReadRegisters
	case WriteCoils:
		limit = MaxWriteBits
	case WriteRegisters:
		limit = MaxWriteRegisters
	case WriteCoil:
		if q.Value != CoilOn && q.Value != CoilOff {
			return fmt.Errorf("%w: coil value %04X, expected FF00 or 0000", ErrRange, q.Value)
		}
	case WriteRegister:
	default:
		return fmt.Errorf("%w: %d is not one of 1 to 6, 15, 16", ErrFunction, q.Function)
	}
	if n := q.Quantity(); n < 1 || n > limit {
		return fmt.Errorf("%w: count %d, function %d allows 1 to %d", ErrRange, n, q.Function, limit)
	}
	if int(q.Address)+q.Quantity() > 1<<16 {
		return fmt.Errorf("%w: address %04X with count %d ends after FFFF", ErrRange, q.Address, q.Quantity())
	}
	if q.Unit > MaxUnit {
		return fmt.Errorf("%w: unit %d, expected at most %d", ErrRange, q.Unit, MaxUnit)
	}
	if q.Unit == Broadcast && q.Function <= ReadInput {
		return fmt.Errorf("%w: a broadcast cannot read", ErrRange)
	}
	return nil
}

// Append appends the request's frame, checksum included, to dst.
func (q Request) Append(dst []byte) ([]byte, error) {
	if err := q.Check(); err != nil {
		return dst, fmt.Errorf("modbus request: %w", err)
	}
	frame := make([]byte, 0, MaxFrame)
	frame = append(frame, q.Unit, byte(q.Function))
	frame = binary.BigEndian.AppendUint16(frame, q.Address)
	switch q.Function {
	case WriteCoil, WriteRegister:
		frame = binary.BigEndian.AppendUint16(frame, q.Value)
	default:
		frame = binary.BigEndian.AppendUint16(frame, uint16(q.Quantity()))
	}
	switch q.Function {
	case WriteCoils:
		frame = appendBits(append(frame, byte(bitBytes(len(q.Bits)))), q.Bits)
	case WriteRegisters:
		frame = appendRegisters(append(frame, byte(2*len(q.Registers))), q.Registers)
	}
	return append(dst, AppendCRC(frame)...), nil
}

// RequestLen is how long the request that starts with prefix is: 0 when more
// bytes are needed to tell. An error means that the function is not known, and
// that only silence can tell where the frame ends.
func RequestLen(prefix []byte) (int, error) {
	if len(prefix) < 2 {
		return 0, nil
	}
	switch f := Function(prefix[1]); f {
	case ReadCoils, ReadDiscreteInputs, ReadHolding, ReadInput, WriteCoil, WriteRegister:
		return shortRequest, nil
	case WriteCoils, WriteRegisters:
		if len(prefix) < longRequestHead {
			return 0, nil
		}
		n := longRequestHead + int(prefix[longRequestHead-1]) + crcLen
		if n > MaxFrame {
			return 0, fmt.Errorf("modbus request: %w: byte count %d", ErrLength, prefix[longRequestHead-1])
		}
		return n, nil
	default:
		return 0, fmt.Errorf("modbus request: %w: %d", ErrFunction, f)
	}
}

// DecodeRequest reads a whole request, as a slave does. The error of a frame
// with a good checksum and a bad content says what an exception should say:
// ErrFunction is exception 1, ErrRange and ErrLength are exception 3.
func DecodeRequest(frame []byte) (Request, error) {
	q, err := decodeRequest(frame)
	if err != nil {
		return q, fmt.Errorf("modbus request: %w", err)
	}
	return q, nil
}

func decodeRequest(frame []byte) (Request, error) {
	if err := CheckCRC(frame); err != nil {
		return Request{}, err
	}
	q := Request{Unit: frame[0]}
	if len(frame) < 2+crcLen {
		return q, fmt.Errorf("%w: %d bytes", ErrLength, len(frame))
	}
	q.Function = Function(frame[1])
	want, err := RequestLen(frame)
	if err != nil {
		return q, err
	}
	if want != len(frame) {
		return q, fmt.Errorf("%w: %d bytes, function %d wants %d", ErrLength, len(frame), q.Function, want)
	}
	q.Address = binary.BigEndian.Uint16(frame[2:])
	field := binary.BigEndian.Uint16(frame[4:])
	switch q.Function {
	case WriteCoil, WriteRegister:
		q.Value = field
	case WriteCoils:
		if data := frame[longRequestHead : len(frame)-crcLen]; bitBytes(int(field)) == len(data) {
			q.Bits = bits(data, int(field))
		}
	case WriteRegisters:
		if data := frame[longRequestHead : len(frame)-crcLen]; 2*int(field) == len(data) {
			q.Registers = registers(data)
		}
	default:
		q.Count = field
	}
	return q, q.Check()
}

func bitBytes(n int) int { return (n + 7) / 8 }

func appendBits(dst []byte, values []bool) []byte {
	packed := make([]byte, bitBytes(len(values)))
	for i, on := range values {
		if on {
			packed[i/8] |= 1 << (i % 8)
		}
	}
	return append(dst, packed...)
}

func bits(data []byte, n int) []bool {
	values := make([]bool, n)
	for i := range values {
		values[i] = data[i/8]>>(i%8)&1 == 1
	}
	return values
}

func appendRegisters(dst []byte, values []uint16) []byte {
	for _, v := range values {
		dst = binary.BigEndian.AppendUint16(dst, v)
	}
	return dst
}

func registers(data []byte) []uint16 {
	values := make([]uint16, len(data)/2)
	for i := range values {
		values[i] = binary.BigEndian.Uint16(data[2*i:])
	}
	return values
}

package modbus

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// exceptionReply is the length of a reply that refuses.
const exceptionReply = 5

// readReplyHead is what stands before the data of a reply to 01 to 04.
const readReplyHead = 3

// Reply is a device's answer.
type Reply struct {
	Unit     uint8
	Function Function
	// Exception is not 0 when the device refuses; then nothing else is set.
	Exception Exception
	// Bits is what functions 01 and 02 read.
	Bits []bool
	// Registers is what functions 03 and 04 read.
	Registers []uint16
	// Address and Value are the echo of a write: the value of 05 and 06, the
	// count of 15 and 16.
	Address, Value uint16
}

// ReplyTo is the reply of a slave that did what the request asks. The data of a
// read is left to be filled in.
func ReplyTo(q Request) Reply {
	r := Reply{Unit: q.Unit, Function: q.Function}
	switch q.Function {
	case WriteCoil, WriteRegister:
		r.Address, r.Value = q.Address, q.Value
	case WriteCoils, WriteRegisters:
		r.Address, r.Value = q.Address, uint16(q.Quantity())
	}
	return r
}

// Refusal is the reply of a slave that refuses the request.
func Refusal(q Request, e Exception) Reply {
	return Reply{Unit: q.Unit, Function: q.Function, Exception: e}
}

// Append appends the reply's frame, checksum included, to dst.
func (r Reply) Append(dst []byte) ([]byte, error) {
	frame := make([]byte, 0, MaxFrame)
	frame = append(frame, r.Unit, byte(r.Function))
	switch {
	case r.Exception != 0:
		frame[1] |= exceptionBit
		frame = append(frame, byte(r.Exception))
	case r.Function == ReadCoils || r.Function == ReadDiscreteInputs:
		if n := len(r.Bits); n < 1 || n > MaxReadBits {
			return dst, fmt.Errorf("modbus reply: %w: %d bits", ErrRange, n)
		}
		frame = appendBits(append(frame, byte(bitBytes(len(r.Bits)))), r.Bits)
	case r.Function == ReadHolding || r.Function == ReadInput:
		if n := len(r.Registers); n < 1 || n > MaxReadRegisters {
			return dst, fmt.Errorf("modbus reply: %w: %d registers", ErrRange, n)
		}
		frame = appendRegisters(append(frame, byte(2*len(r.Registers))), r.Registers)
	case r.Function == WriteCoil || r.Function == WriteRegister ||
		r.Function == WriteCoils || r.Function == WriteRegisters:
		frame = binary.BigEndian.AppendUint16(frame, r.Address)
		frame = binary.BigEndian.AppendUint16(frame, r.Value)
	default:
		return dst, fmt.Errorf("modbus reply: %w: %d", ErrFunction, r.Function)
	}
	return append(dst, AppendCRC(frame)...), nil
}

// ExpectedLen is how long the reply to the request is when it is not a refusal, in
// bytes. It is 0 for a broadcast.
func (q Request) ExpectedLen() int {
	switch {
	case q.Unit == Broadcast:
		return 0
	case q.Function == ReadCoils || q.Function == ReadDiscreteInputs:
		return readReplyHead + bitBytes(q.Quantity()) + crcLen
	case q.Function == ReadHolding || q.Function == ReadInput:
		return readReplyHead + 2*q.Quantity() + crcLen
	}
	return shortRequest
}

// ReplyLen is how long the reply that starts with prefix is: 0 when more bytes
// are needed to tell. An error means that these bytes cannot be the start of a
// reply to this request.
func (q Request) ReplyLen(prefix []byte) (int, error) {
	if len(prefix) > 0 && prefix[0] != q.Unit {
		return 0, fmt.Errorf("modbus reply: %w: %d, expected %d", ErrUnit, prefix[0], q.Unit)
	}
	if len(prefix) < 2 {
		return 0, nil
	}
	switch f := Function(prefix[1]); {
	case f == q.Function|exceptionBit:
		return exceptionReply, nil
	case f != q.Function:
		return 0, fmt.Errorf("modbus reply: %w: %d, expected %d", ErrFunction, f, q.Function)
	}
	want := q.ExpectedLen()
	if q.Function > ReadInput {
		return want, nil
	}
	if len(prefix) < readReplyHead {
		return 0, nil
	}
	if n := int(prefix[readReplyHead-1]); n != want-readReplyHead-crcLen {
		return 0, fmt.Errorf("modbus reply: %w: byte count %d, expected %d", ErrLength, n, want-readReplyHead-crcLen)
	}
	return want, nil
}

// Accept says whether a whole frame is the reply to the request, be it a refusal.
func (q Request) Accept(frame []byte) error {
	_, err := q.DecodeReply(frame)
	var refusal Exception
	if errors.As(err, &refusal) {
		return nil
	}
	return err
}

// DecodeReply reads a whole reply to the request. It accepts a frame only when
// checksum, unit, function, length and every echoed field match; a refusal is
// returned as an error of type Exception.
func (q Request) DecodeReply(frame []byte) (Reply, error) {
	if err := CheckCRC(frame); err != nil {
		return Reply{}, fmt.Errorf("modbus reply: %w", err)
	}
	want, err := q.ReplyLen(frame)
	if err != nil {
		return Reply{}, err
	}
	if len(frame) != want {
		return Reply{}, fmt.Errorf("modbus reply: %w: %d bytes, expected %d", ErrLength, len(frame), want)
	}
	r := ReplyTo(q)
	data := frame[2 : len(frame)-crcLen]
	if frame[1]&exceptionBit != 0 {
		return Refusal(q, Exception(data[0])), Exception(data[0])
	}
	switch q.Function {
	case ReadCoils, ReadDiscreteInputs:
		r.Bits = bits(data[1:], q.Quantity())
	case ReadHolding, ReadInput:
		r.Registers = registers(data[1:])
	default:
		address, value := binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:])
		if address != r.Address || value != r.Value {
			return Reply{}, fmt.Errorf("modbus reply: %w: %04X %04X, expected %04X %04X",
				ErrEcho, address, value, r.Address, r.Value)
		}
	}
	return r, nil
}

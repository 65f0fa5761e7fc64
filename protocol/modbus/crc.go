package modbus

import (
	"encoding/binary"
	"fmt"
)

// crcLen is the length of the checksum at the end of each frame.
const crcLen = 2

// CRC is the checksum of a frame: CRC-16, polynomial A001 reflected, start FFFF.
func CRC(frame []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, b := range frame {
		crc ^= uint16(b)
		for range 8 {
			low := crc & 1
			crc >>= 1
			if low == 1 {
				crc ^= 0xA001
			}
		}
	}
	return crc
}

// AppendCRC appends the checksum of frame to it, low byte first.
func AppendCRC(frame []byte) []byte {
	return binary.LittleEndian.AppendUint16(frame, CRC(frame))
}

// CheckCRC says whether a whole frame ends with its checksum.
func CheckCRC(frame []byte) error {
	if len(frame) <= crcLen || len(frame) > MaxFrame {
		return fmt.Errorf("%w: %d bytes, a frame has 3 to %d", ErrLength, len(frame), MaxFrame)
	}
	body := frame[:len(frame)-crcLen]
	got, want := binary.LittleEndian.Uint16(frame[len(body):]), CRC(body)
	if got != want {
		return fmt.Errorf("%w: %04X, expected %04X", ErrCRC, got, want)
	}
	return nil
}

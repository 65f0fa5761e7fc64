package slotboard

import "fmt"

// span is the values that a holding register takes.
type span struct {
	address, low, high uint16
	signed             bool
}

// spans is the table of the slot's holding registers that can be written without
// the protection key, but for HoldLock.
func spans() []span {
	return []span{
		{HoldPulse, 50, 1000, false},
		{HoldCharge, 0, 1, false},
		{HoldVoltLimit, 0, 1000, false},
		{HoldAmpLimit, 0, 10000, false},
		{HoldStopSoc, 0, maxSocPermille, false},
		{HoldFan, 0, 2, false},
		{HoldHeater, 0, 2, false},
		{HoldFanTemp, 0, 1000, true},
		{HoldHeaterTemp, 0, 1000, true},
		{HoldLED, 0, 7, false},
		{HoldWatchdog, 0, 3600, false},
		{HoldIdentityAck, 0, 0xFFFF, false},
		{HoldFaultClear, 0, 0xFFFF, false},
	}
}

// CheckWrite says whether a slot board takes value at a holding register. It
// knows the map, not the board's state: a board also refuses an identity ack
// that is not its epoch.
func CheckWrite(address, value uint16) error {
	if address == HoldLock {
		if _, ok := LockSeq(value); !ok {
			return fmt.Errorf("slotboard register %04X: %w: %04X, expected 4F01 to 4FFF", address, ErrValue, value)
		}
		return nil
	}
	for _, s := range spans() {
		if s.address != address {
			continue
		}
		low := int(s.low)
		n := int(value)
		if s.signed {
			low, n = -int(s.high), int(int16(value))
		}
		if n < low || n > int(s.high) {
			return fmt.Errorf("slotboard register %04X: %w: %d, expected %d to %d", address, ErrValue, n, low, s.high)
		}
		return nil
	}
	return fmt.Errorf("slotboard register %04X: %w", address, ErrAddress)
}

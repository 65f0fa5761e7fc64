package board

import (
	"time"

	"batteryswap/simulator/world"
)

// Transmission is bytes that start on the wire at a time, and what the board
// does once they are sent.
type Transmission struct {
	Start time.Duration
	Bytes []byte
	After func(at time.Duration)
}

// Bounds of what a broken line does.
const (
	defaultLate = 650 * time.Millisecond // the late reply that fooled two published masters
	maxGarbage  = 8
)

// spoil does to an answer what the faults of its board's line do.
func (b *Board) spoil(number int, request []byte, t Transmission) []Transmission {
	strikes := func(f world.Fault) bool {
		_, ok := b.world.Strikes(b.cabinet, number, f)
		return ok
	}
	if how, late := b.world.Strikes(b.cabinet, number, world.LateReply); late {
		if how.Delay == 0 {
			how.Delay = defaultLate
		}
		t.Start += how.Delay
	}
	if strikes(world.BadCRC) {
		bit := b.world.Chance(8 * len(t.Bytes))
		t.Bytes[bit/8] ^= 1 << (bit % 8)
	}
	if strikes(world.TruncatedReply) {
		t.Bytes = t.Bytes[:1+b.world.Chance(len(t.Bytes)-1)]
	}
	if strikes(world.GarbagePrefix) {
		garbage := make([]byte, 1+b.world.Chance(maxGarbage))
		for i := range garbage {
			garbage[i] = byte(b.world.Chance(256))
		}
		t.Bytes = append(garbage, t.Bytes...)
	}
	if strikes(world.EchoedRequest) {
		t.Bytes = append(append([]byte(nil), request...), t.Bytes...)
	}
	if !strikes(world.DoubledReply) {
		return []Transmission{t}
	}
	again := Transmission{Bytes: t.Bytes, After: func(time.Duration) {}}
	again.Start = t.Start + time.Duration(len(t.Bytes))*b.wire.Char() + b.wire.Gap()
	return []Transmission{t, again}
}

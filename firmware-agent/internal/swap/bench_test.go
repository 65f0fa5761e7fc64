package swap

import (
	"fmt"
	"testing"
	"time"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// BenchmarkStepAtRest is what one reading costs a cabinet of twelve slots: the
// reading itself, all views, and a step.
func BenchmarkStepAtRest(b *testing.B) {
	boxes := make([]box, 12)
	for i := range 9 {
		boxes[i].in = charged(protocol.BatterySerial(fmt.Sprintf("C%d", i)))
	}
	r := newRig(b, boxes...)
	r.wait(5 * time.Second)
	readings := make([]slot.Reading, len(boxes))
	for i := range readings {
		readings[i] = r.reading(i + 1)
	}
	b.ReportAllocs()
	for i := range b.N {
		r.now += 27 * time.Millisecond
		n := i % len(boxes)
		rd := readings[n]
		rd.At, rd.Alive = r.now, uint16(r.now/time.Second)
		r.ev[n] = r.ev[n].Observe(rd)
		m, _ := r.machine.Step(r.input(nil))
		r.machine = &m
	}
}

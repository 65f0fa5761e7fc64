package agent

import (
	"log/slog"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/protocol/modbus"
)

// cycleSlots and cycleRegisters are what one cycle reads: the fast poll of a
// cabinet with twelve slots.
const (
	cycleSlots     = 12
	cycleRegisters = 16
)

// BenchmarkCycle measures a poll cycle through the real port against the time
// that its bytes need on a wire of that baud, for boards that answer at once. It
// reports the median, and fails when not even a quarter of the cycles, which
// other programs on the machine did not disturb, stay within 1.10 times the wire
// time.
func BenchmarkCycle(b *testing.B) {
	for _, baud := range []int{9600, 19200, 115200} {
		b.Run(strconv.Itoa(baud), func(b *testing.B) { benchmarkCycle(b, baud) })
	}
}

func benchmarkCycle(b *testing.B, baud int) {
	master, c := terminal(b)
	hold(b, c)
	c.Baud = baud
	line, err := newBus(c, slog.New(slog.DiscardHandler))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, line.Close()) })
	go pacedAnswer(master, line.Timing())
	read := func(unit int) {
		_, err := line.Modbus(b.Context(), bus.Poll, modbus.Request{
			Unit: uint8(unit), Function: modbus.ReadInput, Count: cycleRegisters,
		})
		require.NoError(b, err)
	}
	read(1) // opens the port
	var cycles []time.Duration
	for b.Loop() {
		began := time.Now()
		for unit := range cycleSlots {
			read(unit + 1)
		}
		cycles = append(cycles, time.Since(began))
	}
	wire := cycleSlots * line.Timing().Exchange(8, 5+2*cycleRegisters)
	slices.Sort(cycles)
	ratio := func(share int) float64 { return float64(cycles[len(cycles)*share/100]) / float64(wire) }
	b.ReportMetric(ratio(50), "cycle/wire")
	b.ReportMetric(ratio(25), "quick-cycle/wire")
	b.ReportMetric(float64(wire.Microseconds())/1000, "wire-ms")
	require.LessOrEqual(b, ratio(25), 1.10, "a quarter of %d cycles", len(cycles))
}

// pacedAnswer is a slave whose bytes take the time that they take on a wire,
// though a pseudo-terminal passes them at once.
func pacedAnswer(master *os.File, timing bus.Timing) {
	request := make([]byte, 8)
	for got := 0; ; got = 0 {
		var first time.Time
		for got < len(request) {
			n, err := master.Read(request[got:])
			if err != nil {
				return
			}
			if got == 0 {
				first = time.Now()
			}
			got += n
		}
		q, err := modbus.DecodeRequest(request)
		if err != nil {
			return
		}
		r := modbus.ReplyTo(q)
		r.Registers = make([]uint16, q.Count)
		frame, err := r.Append(nil)
		if err != nil {
			return
		}
		at := first.Add(8*timing.Char + timing.Gap)
		for i := range frame {
			at = at.Add(timing.Char)
			waitUntil(at)
			if _, err := master.Write(frame[i : i+1]); err != nil {
				return
			}
		}
	}
}

// waitUntil is exact to some microseconds, which the runtime's timers are not.
func waitUntil(at time.Time) {
	const spin = 80 * time.Microsecond
	if d := time.Until(at) - spin; d > 0 {
		wait := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&wait, nil) // a signal ends it early: the loop below waits on
	}
	for time.Now().Before(at) {
		continue
	}
}

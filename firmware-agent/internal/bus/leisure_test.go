package bus_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver/drivertest"
)

// counted counts the reads of a line.
type counted struct {
	*drivertest.Line
	reads atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.Line.Read(p)
}

// A line that is polled once a second is read twice for each request, to see that
// it is silent and for the whole reply, however long boards think; one that is
// polled without pause is as quick as its wire.
func TestLeisure(t *testing.T) {
	for _, thinks := range []time.Duration{0, 5 * time.Millisecond, 30 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			line := &counted{Line: drivertest.NewLine(19200, &board{dead: map[uint8]bool{}})}
			line.DeviceTime, line.Chunk = thinks, 8
			b := newBus(t, 19200, func() (bus.Line, error) { return line, nil })
			cycle := func(n int) (reads int64, took time.Duration) {
				began, before := time.Now(), line.reads.Load()
				for i := range n {
					_, err := b.Modbus(t.Context(), bus.Poll, read(uint8(i%12+1), 16))
					require.NoError(t, err)
				}
				return line.reads.Load() - before, time.Since(began)
			}
			rest := func(seconds int) (reads int64, took time.Duration) {
				for range seconds {
					n, d := cycle(12)
					reads, took = reads+n, took+d
					time.Sleep(time.Second - d)
				}
				return reads, took
			}
			rest(30) // by then it knows how long boards think
			reads, took := rest(30)
			exchange := b.Timing().Exchange(8, 37) + thinks
			require.Less(t, float64(reads)/(30*12), 2.4, "reads for an exchange")
			require.Less(t, took, 30*12*(exchange+time.Millisecond), "and it is not much slower")

			line.Chunk = 0 // bytes that come in groups are waited for in groups
			cycle(12 * 10) // somebody is in a hurry
			_, took = cycle(12 * 20)
			require.Less(t, float64(took), 1.01*float64(12*20*exchange))
			require.Empty(t, line.Violations())
		})
	}
}

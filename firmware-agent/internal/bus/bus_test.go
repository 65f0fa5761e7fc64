package bus_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver/drivertest"
	"batteryswap/protocol/modbus"
)

// board is a Modbus slave that answers every unit but the dead ones. Each
// register that it gives is the number of the request, so that an old reply is
// seen to be one.
type board struct {
	mu    sync.Mutex
	count uint16
	dead  map[uint8]bool
	asked []modbus.Request
}

func (b *board) Answer(received []byte) (int, []byte) {
	n, err := modbus.RequestLen(received)
	if err != nil || n == 0 || len(received) < n {
		return 0, nil
	}
	q, err := modbus.DecodeRequest(received[:n])
	if err != nil {
		return n, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count++
	b.asked = append(b.asked, q)
	if b.dead[q.Unit] {
		return n, nil
	}
	r := modbus.ReplyTo(q)
	if q.Function == modbus.ReadInput {
		r.Registers = make([]uint16, q.Count)
		for i := range r.Registers {
			r.Registers[i] = b.count
		}
	}
	reply, err := r.Append(nil)
	if err != nil {
		panic(err)
	}
	return n, reply
}

func (b *board) last() uint16 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// rig is a bus with one line and a board on it.
type rig struct {
	*bus.Bus
	line  *drivertest.Line
	board *board
}

const device = 50 * time.Millisecond

// start makes a rig at 19200 baud 8N1; opens says how many lines there are to open.
func start(t *testing.T, baud int) *rig {
	t.Helper()
	r := &rig{board: &board{dead: map[uint8]bool{}}}
	r.line = drivertest.NewLine(baud, r.board)
	open := func() (bus.Line, error) { return r.line, nil }
	r.Bus = newBus(t, baud, open)
	t.Cleanup(func() { require.Empty(t, r.line.Violations()) })
	return r
}

func newBus(t *testing.T, baud int, open bus.Opener) *bus.Bus {
	t.Helper()
	b, err := bus.New(bus.Config{Open: open, Baud: baud, CharBits: 10, Device: device, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func read(unit uint8, n uint16) modbus.Request {
	return modbus.Request{Unit: unit, Function: modbus.ReadInput, Count: n}
}

// P6: twelve slots of sixteen registers take at most 1.10 times the wire time.
// Here the time is exact; the same over a pty is measured by make bench.
func TestCycleIsWireTime(t *testing.T) {
	wire := map[int]time.Duration{9600: 650 * time.Millisecond, 19200: 325 * time.Millisecond, 115200: 89 * time.Millisecond}
	for baud, want := range wire {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, baud)
			_, err := r.Modbus(t.Context(), bus.Poll, read(1, 16))
			require.NoError(t, err)
			began := time.Now()
			for unit := range uint8(12) {
				_, err := r.Modbus(t.Context(), bus.Poll, read(unit+1, 16))
				require.NoError(t, err)
			}
			ratio := float64(time.Since(began)) / float64(want)
			require.LessOrEqual(t, ratio, 1.01, "%d baud", baud)
			require.GreaterOrEqual(t, r.line.Shortest(), r.line.Gap, "silence before a request")
			require.InDelta(t, float64(want), float64(12*r.Timing().Exchange(8, 37)), float64(time.Millisecond))
		})
	}
}

// A slave that is slower than the timeout, always or at times: what it says is
// never taken for the answer to a later question.
func TestLateRepliesNeverBecomeData(t *testing.T) {
	for _, baud := range []int{9600, 19200, 115200} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, baud)
			late := r.Timing().Late
			// Just after the time that a reply has.
			after := device + 20*time.Millisecond + r.Timing().Exchange(0, 37)
			r.line.Fault = func(n int, _, reply []byte) []drivertest.Burst {
				if n%3 == 1 {
					return []drivertest.Burst{{After: after + late*time.Duration(n%5)/6, Bytes: reply}}
				}
				return []drivertest.Burst{{Bytes: reply}}
			}
			good := 0
			for n := range 300 {
				reply, err := r.Modbus(t.Context(), bus.Poll, read(1, 16))
				if n%3 == 1 {
					require.Error(t, err, "request %d was answered too late", n)
					continue
				}
				require.NoError(t, err, "request %d", n)
				require.Equal(t, r.board.last(), reply.Registers[0], "request %d has another's reply", n)
				good++
			}
			require.Equal(t, 200, good)
		})
	}
}

// Anything may happen to a reply; what Do returns is the reply to this request
// or an error, and the line comes back by itself.
func TestAnyFault(t *testing.T) {
	for seed := range uint64(15) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			r := start(t, []int{9600, 19200, 115200}[seed%3])
			broken := true
			r.line.MaxWrite, r.line.Chunk = random.IntN(9), random.IntN(9)
			r.line.Fault = func(_ int, request, reply []byte) []drivertest.Burst {
				if !broken {
					return []drivertest.Burst{{Bytes: reply}}
				}
				return fault(random, r.Timing().Late, request, reply)
			}
			replies := 0
			for range 200 {
				unit := uint8(1 + random.IntN(3))
				reply, err := r.Modbus(t.Context(), bus.Poll, read(unit, uint16(1+random.IntN(20))))
				if err != nil {
					continue
				}
				replies++
				require.Equal(t, r.board.last(), reply.Registers[0], "seed %d: an old reply", seed)
				time.Sleep(time.Duration(random.IntN(3)) * r.Timing().Late / 2)
			}
			require.Greater(t, replies, 20, "seed %d", seed)
			broken = false
			time.Sleep(time.Second)
			_, err := r.Modbus(t.Context(), bus.Poll, read(9, 3))
			require.NoError(t, err, "seed %d", seed)
		})
	}
}

// fault is one thing that a line or a board can do to a reply.
func fault(random *rand.Rand, late time.Duration, request, reply []byte) []drivertest.Burst {
	garbled := append([]byte(nil), reply...)
	garbled[random.IntN(len(garbled))] ^= 1 << random.IntN(8)
	noise := make([]byte, 1+random.IntN(12))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	switch random.IntN(9) {
	case 0:
		return nil
	case 1:
		return []drivertest.Burst{{Bytes: garbled}}
	case 2:
		return []drivertest.Burst{{Bytes: reply[:random.IntN(len(reply))]}}
	case 3:
		return []drivertest.Burst{{Bytes: append(noise, reply...)}}
	case 4:
		return []drivertest.Burst{{Bytes: append(append([]byte(nil), request...), reply...)}}
	case 5:
		return []drivertest.Burst{{Bytes: append(append([]byte(nil), reply...), reply...)}}
	case 6:
		return []drivertest.Burst{{After: device + time.Duration(random.Int64N(int64(late))), Bytes: reply}}
	case 7:
		return []drivertest.Burst{{Bytes: garbled}, {After: 20 * time.Millisecond, Bytes: noise}}
	}
	return []drivertest.Burst{{Bytes: reply}}
}

func TestRefusalIsAReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 19200)
		_, err := r.Modbus(t.Context(), bus.Poll, read(1, 1))
		require.NoError(t, err)
		r.line.Fault = func(_ int, request, _ []byte) []drivertest.Burst {
			return []drivertest.Burst{{Bytes: modbus.AppendCRC([]byte{request[0], request[1] | 0x80, 6})}}
		}
		began := time.Now()
		_, err = r.Modbus(t.Context(), bus.Charge, read(1, 16))
		require.ErrorIs(t, err, modbus.DeviceBusy)
		require.Less(t, time.Since(began), 60*time.Millisecond, "a refusal needs no silence after it")
		require.Equal(t, uint64(2), r.Stats().Replies)
	})
}

// Noise may look like the beginning of a reply, and even have its length.
func TestReplyBehindNoise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 19200)
		noise := [][]byte{{0}, {1, 4}, {1, 4, 4}, {1, 4, 4, 9, 9, 9, 9, 9, 9}, {1, 4, 4, 9, 9, 1, 4, 4}, make([]byte, 300)}
		r.line.Fault = func(n int, _, reply []byte) []drivertest.Burst {
			return []drivertest.Burst{{Bytes: append(append([]byte(nil), noise[n]...), reply...)}}
		}
		for range noise[:5] {
			frame, err := r.Do(t.Context(), bus.Poll, read(1, 2))
			require.NoError(t, err)
			require.NoError(t, read(1, 2).Accept(frame))
		}
		_, err := r.Do(t.Context(), bus.Poll, read(1, 2))
		require.ErrorIs(t, err, bus.ErrGarbled, "too much of it")
		require.ErrorContains(t, err, "00 00 00")
		r.line.Fault = func(_ int, _, reply []byte) []drivertest.Burst {
			reply[3] ^= 1
			return []drivertest.Burst{{Bytes: reply}}
		}
		_, err = r.Do(t.Context(), bus.Poll, read(1, 2))
		require.ErrorIs(t, err, bus.ErrGarbled)
		r.line.Fault = func(int, []byte, []byte) []drivertest.Burst { return nil }
		_, err = r.Do(t.Context(), bus.Poll, read(1, 2))
		require.ErrorIs(t, err, bus.ErrTimeout)
		require.Equal(t, bus.Stats{Requests: 8, Replies: 5, Garbled: 2, Timeouts: 1, Opened: 1, Up: true,
			DiscardedBytes: 1 + 2 + 3 + 9 + 8 + 309 + 9}, r.Stats())
	})
}

// An adapter, or a busy machine, may hand a reply over in pieces with pauses
// between them, or all of it when the time is over but nobody looked.
func TestReplyInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 19200)
		pieces := func(pause time.Duration) {
			r.line.Fault = func(_ int, _, reply []byte) []drivertest.Burst {
				return []drivertest.Burst{{After: device, Bytes: reply[:9]}, {After: device + pause, Bytes: reply[9:30]}, {After: device + 2*pause, Bytes: reply[30:]}}
			}
		}
		pieces(60 * time.Millisecond)
		_, err := r.Modbus(t.Context(), bus.Poll, read(1, 16))
		require.NoError(t, err)
		pieces(time.Second)
		_, err = r.Modbus(t.Context(), bus.Poll, read(1, 16))
		require.ErrorIs(t, err, bus.ErrGarbled)
		r.line.Fault = nil
		time.Sleep(5 * time.Second)
		r.line.Stall = time.Second
		_, err = r.Modbus(t.Context(), bus.Poll, read(1, 16))
		require.NoError(t, err, "the reply was there when this program was not")
	})
}

// A board that sends a byte now and then holds nobody up for long.
func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 19200)
		_, err := r.Modbus(t.Context(), bus.Poll, read(1, 16))
		require.NoError(t, err)
		r.line.Fault = func(_ int, _, reply []byte) []drivertest.Burst {
			bursts := []drivertest.Burst{{Bytes: reply[:3]}}
			for i := 3; i < len(reply); i++ {
				bursts = append(bursts, drivertest.Burst{After: time.Duration(i-2) * 50 * time.Millisecond, Bytes: reply[i : i+1]})
			}
			return bursts
		}
		began := time.Now()
		_, err = r.Modbus(t.Context(), bus.Poll, read(1, 16))
		require.ErrorIs(t, err, bus.ErrGarbled)
		require.Less(t, time.Since(began), 3*time.Second)
	})
}

func TestUrgentFirstAndNeverInBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 19200)
		errs := make(chan error, 7)
		ask := func(p bus.Priority, unit uint8) {
			go func() {
				_, err := r.Modbus(t.Context(), p, read(unit, 16))
				errs <- err
			}()
			synctest.Wait()
		}
		ask(bus.Poll, 1) // runs
		ask(bus.Poll, 2)
		ask(bus.Charge, 3)
		ask(bus.Poll, 4)
		ask(bus.Unlock, 5)
		ask(bus.Charge, 6)
		ask(bus.Safety, 7)
		for range 7 {
			require.NoError(t, <-errs)
		}
		var order []uint8
		for _, q := range r.board.asked {
			order = append(order, q.Unit)
		}
		require.Equal(t, []uint8{1, 7, 5, 3, 6, 2, 4}, order)
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 9600)
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, bus.QueueLimit+1+bus.SafetyLimit)
		for range bus.QueueLimit + 1 { // one runs
			go func() {
				_, err := r.Modbus(ctx, bus.Poll, read(1, 16))
				errs <- err
			}()
			synctest.Wait()
		}
		_, err := r.Modbus(t.Context(), bus.Unlock, read(1, 16))
		require.ErrorIs(t, err, bus.ErrQueueFull)
		for range bus.SafetyLimit {
			go func() {
				_, err := r.Modbus(ctx, bus.Safety, read(1, 16))
				errs <- err
			}()
			synctest.Wait()
		}
		_, err = r.Modbus(t.Context(), bus.Safety, read(1, 16))
		require.ErrorIs(t, err, bus.ErrQueueFull)
		cancel()
		for range bus.QueueLimit + 1 + bus.SafetyLimit {
			require.ErrorIs(t, <-errs, context.Canceled)
		}
		_, err = r.Modbus(t.Context(), bus.Unlock, read(2, 16))
		require.NoError(t, err)
		require.Len(t, r.board.asked, 2, "what was withdrawn is not sent")
	})
}

func TestEchoingAdapter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 19200)
		r.line.Fault = func(_ int, request, reply []byte) []drivertest.Burst {
			return []drivertest.Burst{{Bytes: append(append([]byte(nil), request...), reply...)}}
		}
		write := func(unit uint8) error {
			_, err := r.Modbus(t.Context(), bus.Charge, modbus.Request{Unit: unit, Function: modbus.WriteRegister, Address: 1, Value: 2})
			return err
		}
		_, err := r.Modbus(t.Context(), bus.Poll, read(1, 16))
		require.NoError(t, err, "the reply stands behind the echo")
		require.NoError(t, write(1))
		r.board.dead[7] = true
		require.ErrorIs(t, write(7), bus.ErrTimeout, "an echo is no reply of a board that is dead")
		r.line.Fault = nil
		require.Error(t, write(1), "one failure is the price of another adapter")
		_, err = r.Modbus(t.Context(), bus.Poll, read(1, 16))
		require.NoError(t, err)
		require.NoError(t, write(1))
	})
}

func TestNoisyLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 19200)
		_, err := r.Modbus(t.Context(), bus.Poll, read(1, 16))
		require.NoError(t, err)
		r.line.Send(make([]byte, 19200/10*5)) // five seconds of babble
		_, err = r.Modbus(t.Context(), bus.Poll, read(1, 16))
		require.ErrorIs(t, err, bus.ErrNoisy)
		require.Equal(t, 1, r.line.Requests(), "nothing is sent on a line that others use")
		time.Sleep(5 * time.Second)
		_, err = r.Modbus(t.Context(), bus.Poll, read(1, 16))
		require.NoError(t, err)
	})
}

func TestBadRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 19200)
		for _, q := range []modbus.Request{
			{Unit: 1, Function: 99},
			{Unit: 0, Function: modbus.WriteRegister}, // nobody answers a broadcast
		} {
			_, err := r.Modbus(t.Context(), bus.Poll, q)
			require.ErrorIs(t, err, bus.ErrRequest)
		}
		_, err := r.Modbus(t.Context(), bus.Poll+1, read(1, 1))
		require.ErrorIs(t, err, bus.ErrRequest)
		require.Zero(t, r.line.Requests())
	})
	for _, c := range []bus.Config{
		{},
		{Baud: 1},
		{Baud: 9600, CharBits: 8},
		{Baud: 9600, CharBits: 10, Device: -1},
	} {
		c.Open, c.Log = func() (bus.Line, error) { return nil, nil }, slog.Default()
		_, err := bus.New(c)
		require.Error(t, err)
	}
	_, err := bus.New(bus.Config{Baud: 9600, CharBits: 10})
	require.ErrorContains(t, err, "Open and Log")
}

// ports is an opener that counts, fails on demand, and makes a new line each time.
type ports struct {
	board *board
	err   error
	opens int
	lines []*drivertest.Line
}

func (p *ports) open() (bus.Line, error) {
	p.opens++
	if p.err != nil {
		return nil, p.err
	}
	l := drivertest.NewLine(19200, p.board)
	p.lines = append(p.lines, l)
	return l, nil
}

func TestPortVanishesAndReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &ports{board: &board{}, err: syscall.ENOENT}
		b := newBus(t, 19200, p.open)
		ask := func() error {
			_, err := b.Modbus(t.Context(), bus.Poll, read(1, 16))
			return err
		}
		for range 100 {
			err := ask()
			require.ErrorIs(t, err, bus.ErrDown)
			require.ErrorIs(t, err, syscall.ENOENT, "the error says why")
		}
		require.Equal(t, 1, p.opens, "a missing port is left alone for a while")
		time.Sleep(time.Second)
		p.err = nil
		require.NoError(t, ask())
		require.True(t, b.Stats().Up)

		p.lines[0].Vanish()
		p.err = syscall.ENXIO
		require.ErrorIs(t, ask(), drivertest.ErrPortClosed)
		require.True(t, p.lines[0].Closed())
		require.False(t, b.Stats().Up)
		require.ErrorIs(t, ask(), bus.ErrDown)
		time.Sleep(time.Second)
		require.ErrorIs(t, ask(), syscall.ENXIO)
		p.err = nil
		time.Sleep(time.Second)
		require.NoError(t, ask())
		require.Equal(t, bus.Stats{Requests: 2, Replies: 2, Opened: 2, OpenFailed: 2, LineFailed: 1, Up: true}, b.Stats())
		require.NoError(t, b.Close())
		require.NoError(t, b.Close())
		require.ErrorIs(t, ask(), bus.ErrClosed)
		for _, l := range p.lines {
			require.Empty(t, l.Violations())
			require.True(t, l.Closed())
		}
	})
}

func TestWriteBlockedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &ports{board: &board{}}
		b := newBus(t, 19200, func() (bus.Line, error) {
			l, err := p.open()
			if p.opens == 1 {
				p.lines[0].Stuck = make(chan struct{})
			}
			return l, err
		})
		errs := make(chan error, 3)
		for range 2 {
			go func() {
				_, err := b.Modbus(t.Context(), bus.Poll, read(1, 16))
				errs <- err
			}()
		}
		require.ErrorIs(t, <-errs, bus.ErrStuck)
		require.ErrorIs(t, <-errs, bus.ErrStuck)
		_, err := b.Modbus(t.Context(), bus.Unlock, read(1, 16))
		require.ErrorIs(t, err, bus.ErrStuck, "and nothing waits for it")
		require.False(t, p.lines[0].Closed(), "a port is not closed during a write")

		close(p.lines[0].Stuck)
		synctest.Wait()
		require.True(t, p.lines[0].Closed())
		require.Zero(t, p.board.last()&^1, "the rest is not written")
		time.Sleep(time.Second)
		_, err = b.Modbus(t.Context(), bus.Poll, read(1, 16))
		require.NoError(t, err)
		require.Equal(t, 2, p.opens)
		for _, l := range p.lines {
			require.Empty(t, l.Violations())
		}
	})
}

func TestCloseDuringStuckWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := drivertest.NewLine(19200, &board{})
		line.Stuck = make(chan struct{})
		b, err := bus.New(bus.Config{Open: func() (bus.Line, error) { return line, nil }, Baud: 19200, CharBits: 10,
			Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		_, err = b.Modbus(t.Context(), bus.Poll, read(1, 16))
		require.ErrorIs(t, err, bus.ErrStuck)
		require.ErrorIs(t, b.Close(), bus.ErrStuck, "Close is bounded")
		require.False(t, line.Closed())
		close(line.Stuck)
		require.NoError(t, b.Close())
		require.True(t, line.Closed())
		require.Empty(t, line.Violations())
	})
}

// A write that returns nothing, or an error, fails the line; it is not repeated.
func TestWriteFails(t *testing.T) {
	for _, want := range []error{syscall.EIO, syscall.EBADF, errors.New("short")} {
		synctest.Test(t, func(t *testing.T) {
			line := drivertest.NewLine(19200, &board{})
			b := newBus(t, 19200, func() (bus.Line, error) { return &failing{Line: line, err: want}, nil })
			_, err := b.Modbus(t.Context(), bus.Poll, read(1, 16))
			require.ErrorIs(t, err, want)
			require.True(t, line.Closed())
			_, err = b.Modbus(t.Context(), bus.Poll, read(1, 16))
			require.ErrorIs(t, err, bus.ErrDown)
		})
	}
}

type failing struct {
	*drivertest.Line
	err error
}

func (f *failing) Write([]byte) (int, error) { return 0, f.err }

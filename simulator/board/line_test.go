package board_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
	"batteryswap/simulator/board"
	"batteryswap/simulator/pty"
	"batteryswap/simulator/world"
)

const (
	cabinetID = "hb-0001"
	patience  = 20 * time.Second
)

// cabinetOnAPty serves a cabinet of 12 slots on a pseudo-terminal.
func cabinetOnAPty(t *testing.T, wire board.Wire) (*world.World, *pty.Port, func() time.Duration) {
	t.Helper()
	start := time.Now()
	now := func() time.Duration { return time.Since(start) }
	w := world.New(rand.New(rand.NewPCG(1, 1)), 1)
	require.NoError(t, w.AddCabinet(cabinetID, 12))
	require.NoError(t, w.PutInSlot(cabinetID, 3, world.Battery{Serial: "BT107204512GBYH250919001", SocPermille: 875}))
	port, err := pty.Open(filepath.Join(t.TempDir(), "usb"))
	require.NoError(t, err)
	boards, err := board.New(board.Options{
		World: w, Cabinet: cabinetID, Wire: wire, Now: now, Meter: "ddsu666", ClimateSensor: true,
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- boards.Serve(ctx, port) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
		require.NoError(t, port.Close())
	})
	return w, port, now
}

// mbpoll is somebody else's Modbus master.
func mbpoll(t *testing.T, port *pty.Port, args []string, values ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	all := append([]string{"-m", "rtu", "-b", "19200", "-P", "none", "-0", "-1", "-q"}, args...)
	out, err := exec.CommandContext(ctx, "mbpoll", append(append(all, port.Path()), values...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func TestMbpollReadsAndUnlocks(t *testing.T) {
	_, err := exec.LookPath("mbpoll")
	require.NoError(t, err, "mbpoll is missing: apt-get install mbpoll")
	w, port, now := cabinetOnAPty(t, board.Wire{})
	out := mbpoll(t, port, []string{"-a", "3", "-t", "3", "-r", "0", "-c", "16"})
	require.Contains(t, out, "[3]: \t875", "soc of slot 3 in 0.1 %%")
	out = mbpoll(t, port, []string{"-a", "3", "-t", "3:hex", "-r", "32", "-c", "12"})
	require.Contains(t, strings.ToUpper(out), "0X4254", "the serial starts with BT")

	mbpoll(t, port, []string{"-a", "3", "-t", "4", "-r", "0"}, fmt.Sprint(slotboard.LockCommand(1)))
	require.Eventually(t, func() bool { return w.Facts(now(), cabinetID)[2].DoorOpen }, patience, 10*time.Millisecond)
	out = mbpoll(t, port, []string{"-a", "3", "-t", "3", "-r", "14", "-c", "1"})
	require.Contains(t, out, fmt.Sprint(1<<8|int(slotboard.LockOpened)))
	out = mbpoll(t, port, []string{"-a", "100", "-t", "3", "-r", "0", "-c", "9"})
	require.Contains(t, out, "[0]:")
}

// Somebody else's master reads the same numbers from the meter.
func TestMbpollReadsInstruments(t *testing.T) {
	w, port, now := cabinetOnAPty(t, board.Wire{})
	meterAt, climateAt := fmt.Sprint(board.MeterUnit), fmt.Sprint(board.ClimateUnit)
	out := mbpoll(t, port, []string{"-a", meterAt, "-t", "4:float", "-B", "-r", "8192", "-c", "3"})
	require.Contains(t, out, "[8192]: \t220", "V")
	require.Contains(t, out, "[8196]: \t0.06", "kW: the cabinet's own 60 W")
	require.NoError(t, w.SwitchCharger(now(), cabinetID, 3, true))
	out = mbpoll(t, port, []string{"-a", meterAt, "-t", "4:float", "-B", "-r", "8196", "-c", "1"})
	require.Contains(t, out, "[8196]: \t0.8", "and one charger's")
	out = mbpoll(t, port, []string{"-a", climateAt, "-t", "3", "-r", "1", "-c", "2"})
	require.Contains(t, out, "[1]: \t250", "0.1 °C")
	require.Contains(t, out, "[2]: \t550", "0.1 %%")
}

// open is the agent's end of the line.
func open(t *testing.T, port *pty.Port) *os.File {
	t.Helper()
	far, err := os.OpenFile(port.Path(), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, far.SetReadDeadline(time.Now().Add(patience)))
	return far
}

// ask does one transaction with the line's own master and says how long it took.
func ask(t *testing.T, far *os.File, q modbus.Request) ([]byte, time.Duration) {
	t.Helper()
	frame, err := q.Append(nil)
	require.NoError(t, err)
	start := time.Now()
	_, err = far.Write(frame)
	require.NoError(t, err)
	var reply []byte
	buf := make([]byte, modbus.MaxFrame)
	for len(reply) < q.ExpectedLen() {
		n, err := far.Read(buf)
		require.NoError(t, err, "silence after % X", reply)
		reply = append(reply, buf[:n]...)
	}
	return reply, time.Since(start)
}

// The board is as slow as the wire: never quicker, and hardly slower.
func TestBytesTakeTheirTime(t *testing.T) {
	for _, baud := range []int{9600, 19200, 115200} {
		t.Run(fmt.Sprint(baud), func(t *testing.T) {
			wire := board.Wire{Baud: baud, CharBits: 10}
			_, port, _ := cabinetOnAPty(t, wire)
			far := open(t, port)
			defer func() { require.NoError(t, far.Close()) }()
			q := modbus.Request{Unit: 3, Function: modbus.ReadInput, Count: slotboard.FastCount}
			want := time.Duration(8+q.ExpectedLen())*wire.Char() + wire.Gap()
			var took []time.Duration
			for range 20 {
				reply, d := ask(t, far, q)
				_, err := q.DecodeReply(reply)
				require.NoError(t, err)
				require.GreaterOrEqual(t, d, want, "quicker than the wire")
				took = append(took, d)
			}
			slices.Sort(took)
			t.Logf("wire %v, quickest %v, median %v", want, took[0], took[len(took)/2])
			// The quickest of twenty: what the machine adds by itself is not the board's.
			require.Less(t, took[0], want+want/10+500*time.Microsecond)
		})
	}
}

func TestLineVanishesAndReturns(t *testing.T) {
	_, port, _ := cabinetOnAPty(t, board.Wire{Baud: 115200})
	q := modbus.Request{Unit: 3, Function: modbus.ReadInput, Count: slotboard.FastCount}
	for range 2 {
		far := open(t, port)
		reply, _ := ask(t, far, q)
		_, err := q.DecodeReply(reply)
		require.NoError(t, err)
		require.NoError(t, port.Vanish())
		_, err = os.Stat(port.Path())
		require.ErrorIs(t, err, os.ErrNotExist)
		_ = far.Close() // the device has gone: closing it may fail
		require.NoError(t, port.Return())
	}
}

// A board that answers late does so into the next question, as on a real line.
func TestLateReplyDoesNotHoldUpOthers(t *testing.T) {
	const lateBy = 300 * time.Millisecond
	w, port, now := cabinetOnAPty(t, board.Wire{Baud: 115200})
	require.NoError(t, w.SetFault(now(), cabinetID, 3, world.LateReply, world.Setting{Count: 1, Delay: lateBy}))
	far := open(t, port)
	defer func() { require.NoError(t, far.Close()) }()
	late := modbus.Request{Unit: 3, Function: modbus.ReadInput, Count: slotboard.FastCount}
	frame, err := late.Append(nil)
	require.NoError(t, err)
	_, err = far.Write(frame)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return len(w.Facts(now(), cabinetID)[2].Faults) == 0
	}, patience, time.Millisecond, "the question has arrived")
	other := modbus.Request{Unit: 4, Function: modbus.ReadInput, Count: slotboard.LockCount}
	first, took := ask(t, far, other)
	_, err = other.DecodeReply(first)
	require.NoError(t, err, "the first answer on the wire is the other board's")
	require.Less(t, took, lateBy)
	buf := make([]byte, modbus.MaxFrame)
	var reply []byte
	for len(reply) < late.ExpectedLen() {
		n, err := far.Read(buf)
		require.NoError(t, err)
		reply = append(reply, buf[:n]...)
	}
	_, err = late.DecodeReply(reply)
	require.NoError(t, err)
}

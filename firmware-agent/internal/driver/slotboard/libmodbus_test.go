package slotboard_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.bug.st/serial"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/driver"
	driverboard "batteryswap/firmware-agent/internal/driver/slotboard"
	"batteryswap/firmware-agent/internal/slot"
)

// peerWait bounds every wait for another process.
const peerWait = 10 * time.Second

// peer is testdata/slave.c, which shares no code with this program, at the other
// end of a pair of pseudo-terminals.
type peer struct {
	port    string
	stdin   io.Writer
	answers chan string
}

// startPeer builds the slave, and runs it behind socat.
func startPeer(t *testing.T, slots int) *peer {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "slave")
	out, err := exec.Command("cc", "-Wall", "-Wextra", "-Werror", "-O1", "-o", binary, "testdata/slave.c", "-lmodbus", "-lpthread").CombinedOutput()
	require.NoError(t, err, "cc and libmodbus-dev are needed (make deps): %s", out)

	p := &peer{port: filepath.Join(dir, "agent"), answers: make(chan string, 1024)}
	far := filepath.Join(dir, "board")
	socat := process(t, "socat", "pty,raw,echo=0,link="+p.port, "pty,raw,echo=0,link="+far)
	require.NoError(t, socat.Start(), "socat is needed (make deps)")
	require.Eventually(t, func() bool {
		ends, err := filepath.Glob(filepath.Join(dir, "[ab][go]*"))
		return err == nil && len(ends) == 2
	}, peerWait, 10*time.Millisecond)

	slave := process(t, binary, far, fmt.Sprint(slots))
	p.stdin, err = slave.StdinPipe()
	require.NoError(t, err)
	stdout, err := slave.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, slave.Start())
	go func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			p.answers <- lines.Text()
		}
	}()
	require.Equal(t, "ready", p.line(t))
	return p
}

// process is a command that ends with the test.
func process(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	t.Cleanup(func() {
		cancel()
		if cmd.Process != nil {
			_ = cmd.Wait() // it was killed
		}
	})
	return cmd
}

// line is the next line that the slave prints.
func (p *peer) line(t *testing.T) string {
	t.Helper()
	limit := time.NewTimer(peerWait)
	defer limit.Stop()
	select {
	case line := <-p.answers:
		return line
	case <-limit.C:
		t.Fatal("the slave says nothing")
		return ""
	}
}

// do gives the slave a command and returns what it prints before "ok".
func (p *peer) do(t *testing.T, command string) []string {
	t.Helper()
	_, err := fmt.Fprintln(p.stdin, command)
	require.NoError(t, err)
	var said []string
	for {
		line := p.line(t)
		if line == "ok" {
			return said
		}
		require.False(t, strings.HasPrefix(line, "error"), "%s: %s", command, line)
		said = append(said, line)
	}
}

// port is a serial port as a line.
type port struct{ serial.Port }

func (p port) Discard() error { return errors.Join(p.ResetOutputBuffer(), p.ResetInputBuffer()) }

// open makes a driver for the slave, which on a busy machine may take a while.
func (p *peer) open(t *testing.T, slots int, device time.Duration) (*bus.Bus, driver.Board) {
	t.Helper()
	log, began := slog.New(slog.DiscardHandler), time.Now()
	b, err := bus.New(bus.Config{
		Open: func() (bus.Line, error) {
			inner, err := serial.Open(p.port, &serial.Mode{BaudRate: 19200, DataBits: 8})
			return port{inner}, err
		},
		Baud: 19200, CharBits: 10, Device: device, Log: log,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	board, err := driverboard.Open(driver.Options{Bus: b, Slots: slots, Log: log,
		Now: func() time.Duration { return time.Since(began) }})
	require.NoError(t, err)
	return b, board
}

// The movements of a swap, on a board that only knows the map's README.
func TestAgainstLibmodbus(t *testing.T) {
	const oldSerial, newSerial = "BT3072020120000200521001", "X12MCPM27KLPCLX2M2382320"
	p := startPeer(t, 4)
	p.do(t, "load 3 "+newSerial+" 962")
	_, board := p.open(t, 4, time.Second)
	require.NoError(t, board.Start(t.Context()))
	poll := func(n int) slot.Reading {
		r, err := board.Poll(t.Context(), n)
		require.NoError(t, err)
		return r
	}
	for n := 1; n <= 4; n++ {
		r := poll(n)
		require.Equal(t, slot.No, r.DoorOpen)
		require.Equal(t, slot.Yes, r.Bolt)
		require.Equal(t, slot.TriOf(n == 3), r.Switch)
	}
	r := poll(3)
	require.Equal(t, newSerial, r.Serial)
	require.Equal(t, slot.Known(962), r.SocPermille)
	require.Equal(t, slot.Known(44000+9620), r.VoltageMV)
	require.Equal(t, slot.Known(-20), r.CurrentMA)
	require.Equal(t, slot.Known(251), r.CellMax)

	require.NoError(t, board.Charge(t.Context(), 3, true))
	r = poll(3)
	require.Equal(t, slot.Yes, r.Charging)
	require.Equal(t, slot.Known(5000), r.CurrentMA)

	unlock := func(n int) {
		require.NoError(t, board.Unlock(t.Context(), n))
		require.Eventually(t, func() bool {
			r := poll(n)
			return r.DoorOpen == slot.Yes && r.Bolt == slot.No && r.LockResult == slot.LockOpened
		}, peerWait, time.Millisecond)
	}
	unlock(1)
	p.do(t, "insert 1 "+oldSerial+" 105")
	r = poll(1)
	require.Equal(t, slot.Yes, r.Switch)
	require.Equal(t, oldSerial, r.Serial)
	p.do(t, "close 1")
	require.Equal(t, slot.Yes, poll(1).Bolt)

	unlock(3) // charging was on
	before := poll(3).IdentityEpoch
	p.do(t, "remove 3")
	r = poll(3)
	require.Equal(t, slot.No, r.Switch)
	require.Empty(t, r.Serial)
	require.NotEqual(t, before, r.IdentityEpoch)
	require.Equal(t, slot.Value{}, r.SocPermille)
	p.do(t, "close 3")
	require.Equal(t, "slot 3 door=0 locked=1 battery=none charge=0 pulses=1", last(p.do(t, "show 3")))
	require.Equal(t, "slot 1 door=0 locked=1 battery="+oldSerial+" charge=0 pulses=1", last(p.do(t, "show 1")))

	cabinet, err := board.PollCabinet(t.Context())
	require.NoError(t, err)
	require.Equal(t, slot.Yes, cabinet.Contactor)
	require.Equal(t, slot.No, cabinet.Button)
	require.Equal(t, slot.Known(264), cabinet.UpperTemp)
	p.do(t, "button")
	cabinet, err = board.PollCabinet(t.Context())
	require.NoError(t, err)
	require.Equal(t, slot.Yes, cabinet.Button)
}

func last(lines []string) string { return lines[len(lines)-1] }

func TestLibmodbusTrouble(t *testing.T) {
	p := startPeer(t, 2)
	b, board := p.open(t, 2, 250*time.Millisecond)
	require.NoError(t, board.Start(t.Context()))
	p.do(t, "dead 2")
	_, err := board.Poll(t.Context(), 2)
	require.ErrorIs(t, err, bus.ErrTimeout)
	require.ErrorIs(t, board.Unlock(t.Context(), 2), bus.ErrTimeout)
	_, err = board.Poll(t.Context(), 1)
	require.NoError(t, err, "the next slot is not disturbed")
	p.do(t, "alive 2")

	p.do(t, "jam 2")
	require.NoError(t, board.Unlock(t.Context(), 2))
	require.Eventually(t, func() bool {
		r, err := board.Poll(t.Context(), 2)
		require.NoError(t, err)
		require.Equal(t, slot.No, r.DoorOpen)
		return r.LockResult == slot.LockNoFeedback
	}, peerWait, 10*time.Millisecond)

	p.do(t, "unjam 2")
	p.do(t, "reset 2")
	_, err = board.Poll(t.Context(), 2)
	require.NoError(t, err)
	require.NoError(t, board.Unlock(t.Context(), 2))
	require.Contains(t, last(p.do(t, "show 2")), "pulses=2")

	// Another agent's first unlock is a pulse of its own.
	second, err := driverboard.Open(driver.Options{Bus: b, Slots: 2, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Duration { return 0 }})
	require.NoError(t, err)
	require.NoError(t, second.Unlock(t.Context(), 2))
	require.Contains(t, last(p.do(t, "show 2")), "pulses=3")
}

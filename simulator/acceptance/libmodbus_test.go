package acceptance

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// foreignBoard is a slot board by libmodbus, in C, at the far end of a pair of
// pseudo-terminals: nothing of it is ours but the map that it was written from.
type foreignBoard struct {
	t     *testing.T
	stdin io.Writer
	lines chan string
}

// startForeignBoard builds and starts the board; the agent opens device.
func startForeignBoard(t *testing.T, device string, slots int) *foreignBoard {
	t.Helper()
	root, err := moduleRoot()
	require.NoError(t, err)
	dir := t.TempDir()
	binary := filepath.Join(dir, "slave")
	source := filepath.Join(root, "firmware-agent", "internal", "driver", "slotboard", "testdata", "slave.c")
	said, err := exec.Command("cc", "-O1", "-o", binary, source, "-lmodbus", "-lpthread").CombinedOutput()
	require.NoError(t, err, "cc and libmodbus are needed (make deps): %s", said)

	far := filepath.Join(dir, "board")
	command := func(name string, args ...string) *exec.Cmd {
		ctx, stop := context.WithCancel(context.Background())
		cmd := exec.CommandContext(ctx, name, args...)
		t.Cleanup(func() {
			stop()
			_ = cmd.Wait() // it was killed
		})
		return cmd
	}
	socat := command("socat", "pty,raw,echo=0,link="+device, "pty,raw,echo=0,link="+far)
	require.NoError(t, socat.Start(), "socat is needed (make deps)")
	require.Eventually(t, func() bool {
		_, here := os.Lstat(device)
		_, there := os.Lstat(far)
		return here == nil && there == nil
	}, patience, 10*time.Millisecond)

	b := &foreignBoard{t: t, lines: make(chan string, 1024)}
	slave := command(binary, far, fmt.Sprint(slots))
	b.stdin, err = slave.StdinPipe()
	require.NoError(t, err)
	out, err := slave.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, slave.Start())
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			b.lines <- lines.Text()
		}
	}()
	require.Equal(t, "ready", b.line())
	return b
}

func (b *foreignBoard) line() string {
	b.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case line := <-b.lines:
		return line
	case <-limit.C:
		b.t.Fatal("the board says nothing")
		return ""
	}
}

// do gives the board a command and returns what it prints before "ok".
func (b *foreignBoard) do(format string, args ...any) []string {
	b.t.Helper()
	command := fmt.Sprintf(format, args...)
	_, err := fmt.Fprintln(b.stdin, command)
	require.NoError(b.t, err)
	var said []string
	for {
		line := b.line()
		if line == "ok" {
			return said
		}
		require.False(b.t, strings.HasPrefix(line, "error"), "%s: %s", command, line)
		said = append(said, line)
	}
}

// show is what the board says of a slot.
func (b *foreignBoard) show(slot int) string {
	b.t.Helper()
	said := b.do("show %d", slot)
	require.NotEmpty(b.t, said)
	return said[len(said)-1] // a pulse may be told before
}

// TestSwapWithForeignBoard does a whole swap with a slot board that shares no
// code with this project.
func TestSwapWithForeignBoard(t *testing.T) {
	t.Parallel()
	const slots, full = 4, 4
	s := newStage(t, false)
	r := s.startReplica()
	c := s.enrol("hb-0001", slots)
	c.device = filepath.Join(c.dir, "usb")
	board := startForeignBoard(t, c.device, slots)
	charged := s.newBattery()
	s.run("backend", "battery", "assign", charged, "--cabinet", c.id, "--slot", fmt.Sprint(full))
	board.do("load %d %s 962", full, charged)
	c.startAgent()
	c.heard(1)
	id, own := s.newRider()

	v := s.scan(r, id, c)
	deposit := 0
	s.until("no deposit door opens", func() bool {
		for n := 1; n < full; n++ {
			if strings.Contains(board.show(n), "door=1") {
				deposit = n
			}
		}
		return deposit != 0
	})
	require.Contains(t, board.show(full), "door=0", "the charged battery's door opened before the deposit")
	board.do("insert %d %s 281", deposit, own)
	board.do("close %d", deposit)
	s.until("the charged battery's door does not open", func() bool { return strings.Contains(board.show(full), "door=1") })
	board.do("remove %d", full)
	board.do("close %d", full)
	s.until("the swap does not end", func() bool {
		got, ok := s.swapOf(r, id, v)
		return ok && got.Outcome != ""
	})
	got, _ := s.swapOf(r, id, v)
	require.Equal(t, protocol.OutcomeSwapped, got.Outcome)
	for n := 1; n <= slots; n++ {
		want := "pulses=0"
		if n == deposit || n == full {
			want = "pulses=1"
		}
		require.Contains(t, board.show(n), want)
	}
	require.Contains(t, board.show(deposit), "battery="+own)
	books := s.audited().of(t, id)
	require.Equal(t, 1, books.Counted)
	require.Equal(t, []string{charged}, books.Batteries)
}

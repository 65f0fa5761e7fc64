package agent

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"batteryswap/firmware-agent/internal/bus"
	"batteryswap/firmware-agent/internal/config"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/protocol/modbus"
)

// terminal is a pseudo-terminal; the agent opens its slave by path.
func terminal(t testing.TB) (master *os.File, c config.Serial) {
	t.Helper()
	master, slave, err := pty.Open()
	require.NoError(t, err)
	// Only the agent holds the slave open.
	require.NoError(t, slave.Close())
	t.Cleanup(func() { master.Close() })
	c = config.Default().Serial
	c.DeviceTimeMS = 500 // this machine may be busy
	c.Port = slave.Name()
	return master, c
}

func open(t testing.TB, c config.Serial) bus.Line {
	t.Helper()
	line, err := openPort(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, line.Close()) })
	require.NoError(t, line.SetReadTimeout(5*time.Second))
	return line
}

func TestPortPassesEveryByte(t *testing.T) {
	master, c := terminal(t)
	line := open(t, c)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	n, err := line.Write(every)
	require.NoError(t, err)
	require.Equal(t, 256, n)
	got := make([]byte, 256)
	_, err = io.ReadFull(master, got)
	require.NoError(t, err)
	require.Equal(t, every, got)
	_, err = master.Write(every)
	require.NoError(t, err)
	for got = got[:0]; len(got) < 256; {
		n, err := line.Read(got[len(got):256])
		require.NoError(t, err)
		got = got[:len(got)+n]
	}
	require.Equal(t, every, got)

	require.NoError(t, line.SetReadTimeout(time.Millisecond))
	n, err = line.Read(got)
	require.NoError(t, err, "a timeout is no error")
	require.Zero(t, n)
}

func TestPortModes(t *testing.T) {
	_, c := terminal(t)
	for _, baud := range []int{9600, 19200, 115200} {
		for _, parity := range []string{"none", "even", "odd"} {
			for _, stop := range []int{1, 2} {
				c.Baud, c.Parity, c.StopBits = baud, parity, stop
				line, err := openPort(c)
				require.NoError(t, err)
				require.NoError(t, line.Close())
				b, err := newBus(c, slog.New(slog.DiscardHandler))
				require.NoError(t, err)
				bits := 9 + stop
				if parity != "none" {
					bits++
				}
				require.Equal(t, time.Second*time.Duration(bits)/time.Duration(baud), b.Timing().Char)
				require.NoError(t, b.Close())
			}
		}
	}
	for _, change := range []func(*config.Serial){
		func(c *config.Serial) { c.Parity = "mark" },
		func(c *config.Serial) { c.StopBits = 3 },
	} {
		bad := c
		change(&bad)
		_, err := openPort(bad)
		require.ErrorContains(t, err, "expected")
		_, err = newBus(bad, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "expected")
	}
}

// Two agents on one port would read each other's replies. Root is refused too.
func TestPortIsForOne(t *testing.T) {
	_, c := terminal(t)
	first, err := openPort(c)
	require.NoError(t, err)
	_, err = openPort(c)
	require.ErrorIs(t, err, errPortInUse)
	require.ErrorContains(t, err, c.Port)
	require.NoError(t, first.Close())
	require.NoError(t, first.Close(), "twice is once")
	again, err := openPort(c)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

func TestPortThatIsNone(t *testing.T) {
	_, c := terminal(t)
	before := openFiles(t)
	c.Port = filepath.Join(t.TempDir(), "absent")
	_, err := openPort(c)
	require.ErrorIs(t, err, unix.ENOENT)
	require.ErrorContains(t, err, c.Port)
	require.NoError(t, os.WriteFile(c.Port, nil, 0o600))
	_, err = openPort(c)
	require.ErrorContains(t, err, c.Port, "a file that is no terminal")
	require.Equal(t, before, openFiles(t))
}

func openFiles(t *testing.T) int {
	t.Helper()
	used, err := descriptors()
	require.NoError(t, err)
	return len(used)
}

// The descriptor's number is given to another file once it is closed. Nothing
// may be written to that.
func TestNoWriteAfterClose(t *testing.T) {
	_, c := terminal(t)
	line, err := openPort(c)
	require.NoError(t, err)
	require.NoError(t, line.Close())
	var files []*os.File
	for range 8 {
		f, err := os.CreateTemp(t.TempDir(), "")
		require.NoError(t, err)
		files = append(files, f)
	}
	_, err = line.Write([]byte("OPEN LOCK 5"))
	require.ErrorIs(t, err, errPortClosed)
	_, err = line.Read(make([]byte, 8))
	require.ErrorIs(t, err, errPortClosed)
	for _, f := range files {
		info, err := f.Stat()
		require.NoError(t, err)
		require.Zero(t, info.Size())
		require.NoError(t, f.Close())
	}
}

func TestCloseDuringBlockedWrite(t *testing.T) {
	master, c := terminal(t)
	before := openFiles(t)
	line, err := openPort(c)
	require.NoError(t, err)
	result := make(chan error)
	go func() {
		for { // until nobody has room for more
			if _, err := line.Write(make([]byte, 4096)); err != nil {
				result <- err
				return
			}
		}
	}()
	// It blocks when no byte more was taken for a while.
	require.Eventually(t, func() bool {
		p := line.(*port)
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.writing
	}, 5*time.Second, 50*time.Millisecond)
	quiet := time.NewTimer(300 * time.Millisecond)
	select {
	case err := <-result:
		require.NoError(t, err, "the write did not block")
	case <-quiet.C:
	}
	require.NoError(t, line.Close(), "and Close returns at once")
	_, err = openPort(c)
	require.ErrorIs(t, err, errPortInUse, "the write still has the port")
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		buffer := make([]byte, 4096)
		for {
			if _, err := master.Read(buffer); err != nil {
				return // the slave's last descriptor was closed
			}
		}
	}()
	require.ErrorIs(t, <-result, errPortClosed)
	<-drained
	require.Equal(t, before, openFiles(t))
}

func TestPeerVanishes(t *testing.T) {
	master, c := terminal(t)
	line := open(t, c)
	require.NoError(t, master.Close())
	_, err := line.Read(make([]byte, 8))
	require.ErrorIs(t, err, errPortClosed)
	_, err = line.Write([]byte{1})
	require.ErrorIs(t, err, unix.EIO)
}

// The library would panic in Read.
func TestTooManyOpenFiles(t *testing.T) {
	_, c := terminal(t)
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	require.Greater(t, limit.Cur, uint64(maxDescriptor+100), "this test needs more open files: ulimit -n")
	var files []*os.File
	defer func() {
		for _, f := range files {
			require.NoError(t, f.Close())
		}
	}()
	for {
		f, err := os.Open(os.DevNull)
		require.NoError(t, err)
		files = append(files, f)
		if f.Fd() >= maxDescriptor-portDescriptors {
			break
		}
	}
	_, err := openPort(c)
	require.ErrorIs(t, err, errDescriptors)
	for _, f := range files[:8] {
		require.NoError(t, f.Close())
	}
	files = files[8:]
	line, err := openPort(c)
	require.NoError(t, err)
	require.NoError(t, line.Close())
}

// A device that the agent's user may not open is told loudly, with what to do.
func TestPortThatIsNotAllowed(t *testing.T) {
	_, c := terminal(t)
	require.NoError(t, os.Chmod(c.Port, 0))
	// Root may open everything: this thread becomes somebody else for the file
	// system. It is not unlocked, so that it ends with the test.
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			if err := unix.Setfsuid(65534); err != nil {
				result <- err
				return
			}
		}
		_, err := openPort(c)
		result <- err
	}()
	err := <-result
	require.ErrorIs(t, err, unix.EACCES)
	require.ErrorContains(t, err, c.Port)
	require.ErrorContains(t, err, "dialout")
}

// A pulled plug: the port comes back under another number behind the same name.
func TestBusReopensThePort(t *testing.T) {
	master, c := terminal(t)
	link := filepath.Join(t.TempDir(), "by-path")
	require.NoError(t, os.Symlink(c.Port, link))
	c.Port = link
	hold(t, c)
	go answer(master)
	b, err := newBus(c, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	read := func() error {
		_, err := b.Modbus(t.Context(), bus.Poll, modbus.Request{Unit: 1, Function: modbus.ReadInput, Count: 16})
		return err
	}
	require.NoError(t, read())
	require.NoError(t, master.Close())
	require.NoError(t, os.Remove(link))
	require.Error(t, read())
	require.ErrorIs(t, read(), bus.ErrDown)
	require.Eventually(t, func() bool { return b.Stats().OpenFailed > 0 || read() == nil }, 10*time.Second, 50*time.Millisecond)

	fresh, other := terminal(t)
	hold(t, other)
	go answer(fresh)
	require.NoError(t, os.Symlink(other.Port, link))
	require.Eventually(t, func() bool { return read() == nil }, 10*time.Second, 50*time.Millisecond)
	require.True(t, b.Stats().Up)
}

// hold keeps the terminal's slave open: while nobody has it, reads of the master
// fail.
func hold(t testing.TB, c config.Serial) {
	t.Helper()
	slave, err := os.OpenFile(c.Port, os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { slave.Close() })
}

// answer is a slave that answers every read at once until its port is closed.
func answer(master *os.File) {
	var got []byte
	buffer := make([]byte, 256)
	for {
		n, err := master.Read(buffer)
		if err != nil {
			return
		}
		got = append(got, buffer[:n]...)
		size, err := modbus.RequestLen(got)
		if err != nil || size == 0 || len(got) < size {
			continue
		}
		q, err := modbus.DecodeRequest(got[:size])
		got = got[:0]
		if err != nil {
			continue
		}
		r := modbus.ReplyTo(q)
		r.Registers = make([]uint16, q.Count)
		frame, err := r.Append(nil)
		if err != nil {
			return
		}
		if _, err := master.Write(frame); err != nil {
			return
		}
	}
}

func TestOpenBoard(t *testing.T) {
	_, c := terminal(t)
	log := slog.New(slog.DiscardHandler)
	b, err := newBus(c, log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	options := driver.Options{Bus: b, Now: func() time.Duration { return 0 }, Log: log}
	board, err := openBoard(config.Board{Kind: "slotboard", Slots: 12}, options)
	require.NoError(t, err)
	_, err = board.Poll(t.Context(), 13)
	require.ErrorContains(t, err, "expected 1 to 12")
	_, err = openBoard(config.Board{Kind: "slotboard", Slots: 200}, options)
	require.ErrorContains(t, err, "200 slots")
	_, err = openBoard(config.Board{Kind: "abacus", Slots: 12}, options)
	require.ErrorContains(t, err, `board.kind is "abacus", expected one of ["slotboard"]`)
}

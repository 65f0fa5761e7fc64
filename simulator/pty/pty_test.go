package pty_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"batteryswap/simulator/pty"
)

const patience = 5 * time.Second

// read collects n bytes from the board's end.
func read(t *testing.T, p *pty.Port, n int) []byte {
	t.Helper()
	var all []byte
	b := make([]byte, 64)
	for end := time.Now().Add(patience); len(all) < n && time.Now().Before(end); {
		got, err := p.ReadFor(b, 10*time.Millisecond)
		require.NoError(t, err)
		all = append(all, b[:got]...)
	}
	return all
}

func TestEveryBytePassesUnchanged(t *testing.T) {
	p, err := pty.Open("")
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	far, err := os.OpenFile(p.Path(), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, far.Close()) }()
	require.NoError(t, far.SetReadDeadline(time.Now().Add(patience)))
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	_, err = far.Write(all)
	require.NoError(t, err)
	require.Equal(t, all, read(t, p, len(all)))

	_, err = p.Write(all)
	require.NoError(t, err)
	var back []byte
	b := make([]byte, 256)
	for len(back) < len(all) {
		n, err := far.Read(b)
		require.NoError(t, err)
		back = append(back, b[:n]...)
	}
	require.Equal(t, all, back)
}

func TestVanishAndReturnUnderTheSameName(t *testing.T) {
	link := filepath.Join(t.TempDir(), "platform-usb-0:1.2")
	p, err := pty.Open(link)
	require.NoError(t, err)
	require.Equal(t, link, p.Path())
	far, err := os.OpenFile(link, os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)

	require.NoError(t, p.Vanish())
	require.NoError(t, p.Vanish())
	_, err = os.Lstat(link)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = far.Write([]byte{1})
	require.ErrorIs(t, err, unix.EIO)
	require.NoError(t, far.Close())
	_, err = p.ReadFor(make([]byte, 1), time.Millisecond)
	require.ErrorIs(t, err, pty.ErrGone)
	_, err = p.Write([]byte{1})
	require.ErrorIs(t, err, pty.ErrGone)

	require.NoError(t, p.Return())
	far, err = os.OpenFile(link, os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	_, err = far.Write([]byte{7})
	require.NoError(t, err)
	require.Equal(t, []byte{7}, read(t, p, 1))
	require.NoError(t, far.Close())

	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	require.ErrorIs(t, p.Return(), pty.ErrGone)
	_, err = os.Lstat(link)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestNobodyReads(t *testing.T) {
	p, err := pty.Open("")
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	done := make(chan error, 1)
	go func() {
		_, err := p.Write(make([]byte, 1<<20))
		done <- err
	}()
	select {
	case err := <-done:
		require.NoError(t, err, "what nobody reads is lost, the line does not wait")
	case <-time.After(patience):
		require.Fail(t, "a write waits for a reader")
	}
}

// A user that died without closing leaves the terminal in exclusive use.
func TestExclusiveUseEndsWithItsUser(t *testing.T) {
	p, err := pty.Open("")
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	far, err := os.OpenFile(p.Path(), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, far.Close()) }()
	fd := int(far.Fd())
	require.NoError(t, unix.IoctlSetInt(fd, unix.TIOCEXCL, 0))
	exclusive := func() bool {
		n, err := unix.IoctlGetInt(fd, unix.TIOCGEXCL)
		require.NoError(t, err)
		return n != 0
	}
	require.True(t, exclusive())
	b := make([]byte, 1)
	for end := time.Now().Add(patience); exclusive() && time.Now().Before(end); {
		_, err := p.ReadFor(b, 50*time.Millisecond)
		require.NoError(t, err)
	}
	require.False(t, exclusive())
}

package demo

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patience = 30 * time.Second

func TestProgramIsKilledStoppedAndWatched(t *testing.T) {
	p := &program{
		name: "sleeper", path: "/bin/sh", args: []string{"-c", "echo started; exec sleep 600"},
		log: filepath.Join(t.TempDir(), "log"), ending: syscall.SIGTERM,
	}
	require.NoError(t, p.start())
	require.NoError(t, p.alone())
	p.kill()
	require.NoError(t, p.alone(), "it was we who ended it")
	require.NoError(t, p.start())
	pid := p.cmd.Process.Pid
	p.stop()
	p.stop()
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)

	p.args = []string{"-c", "echo no such file >&2; exit 3"}
	require.NoError(t, p.start())
	<-p.ended()
	require.ErrorContains(t, p.alone(), "exit status 3")
	require.ErrorContains(t, p.alone(), "no such file")
}

// A program that ignores the polite signal is killed.
func TestProgramThatWillNotStop(t *testing.T) {
	p := &program{
		name: "deaf", path: "/bin/sh", args: []string{"-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"},
		log: filepath.Join(t.TempDir(), "log"), ending: syscall.SIGTERM,
	}
	require.NoError(t, p.start())
	require.Eventually(t, func() bool { return strings.Contains(tail(p.log), "deaf") }, patience, 10*time.Millisecond)
	require.False(t, p.end(syscall.SIGTERM, 200*time.Millisecond))
	p.kill()
	<-p.ended()
}

func TestThrowawayPostgres(t *testing.T) {
	room, err := os.MkdirTemp("", "swaptest")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(room, 0o711))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(room)) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	p, url, err := startPostgres(ctx, filepath.Join(room, "database"), filepath.Join(room, "log"))
	require.NoError(t, err)
	bin, err := postgresBinaries()
	require.NoError(t, err)
	said, err := exec.CommandContext(ctx, filepath.Join(bin, "psql"), "-AtX", "-c", "show fsync", url).CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Equal(t, "on", strings.TrimSpace(string(said)), "commits are commits here too")
	p.stop()
	require.Error(t, exec.CommandContext(ctx, filepath.Join(bin, "pg_isready"), "-q", "-h", filepath.Join(room, "database")).Run())
}

// The broker speaks MQTT 3.1.1, and hangs up on who wants a message kept.
func TestBrokerKeepsNothing(t *testing.T) {
	b, err := startBroker()
	require.NoError(t, err)
	defer func() { require.NoError(t, b.stop()) }()
	address := strings.TrimPrefix(b.url, "tcp://")
	connect := func() net.Conn {
		c, err := net.Dial("tcp", address)
		require.NoError(t, err)
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		// CONNECT, level 4, clean session, client id "t".
		_, err = c.Write([]byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 30, 0, 1, 't'})
		require.NoError(t, err)
		back := make([]byte, 4)
		_, err = c.Read(back)
		require.NoError(t, err)
		require.Equal(t, []byte{0x20, 2, 0, 0}, back, "CONNACK")
		return c
	}
	// PUBLISH at QoS 1 with packet id 7 to topic "a".
	publish := func(c net.Conn, flags byte) ([]byte, error) {
		_, err := c.Write([]byte{0x32 | flags, 6, 0, 1, 'a', 0, 7, 'x'})
		require.NoError(t, err)
		back := make([]byte, 4)
		n, err := c.Read(back)
		return back[:n], err
	}
	c := connect()
	back, err := publish(c, 0)
	require.NoError(t, err)
	require.Equal(t, []byte{0x40, 2, 0, 7}, back, "PUBACK")
	back, err = publish(c, 1)
	require.Error(t, err, "got % X", back)
	c.Close()
	connect().Close()
}

package process

import (
	"context"
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
	p := &Program{
		Name: "sleeper", Path: "/bin/sh", Args: []string{"-c", "echo started; exec sleep 600"},
		Log: filepath.Join(t.TempDir(), "log"), Ending: syscall.SIGTERM,
	}
	require.NoError(t, p.Start())
	require.NoError(t, p.Alone())
	p.Kill()
	require.NoError(t, p.Alone(), "it was we who ended it")
	require.NoError(t, p.Start())
	pid := p.cmd.Process.Pid
	p.Stop()
	p.Stop()
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)

	p.Args = []string{"-c", "echo no such file >&2; exit 3"}
	require.NoError(t, p.Start())
	<-p.done
	require.ErrorContains(t, p.Alone(), "exit status 3")
	require.ErrorContains(t, p.Alone(), "no such file")
}

// A program that ignores the polite signal is killed.
func TestProgramThatWillNotStop(t *testing.T) {
	p := &Program{
		Name: "deaf", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"},
		Log: filepath.Join(t.TempDir(), "log"), Ending: syscall.SIGTERM,
	}
	require.NoError(t, p.Start())
	require.Eventually(t, func() bool { return strings.Contains(Tail(p.Log), "deaf") }, patience, 10*time.Millisecond)
	require.False(t, p.end(syscall.SIGTERM, 200*time.Millisecond))
	p.Kill()
	<-p.done
}

func TestThrowawayPostgres(t *testing.T) {
	room, err := os.MkdirTemp("", "swaptest")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(room, 0o711))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(room)) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	p, url, err := StartPostgres(ctx, filepath.Join(room, "database"), filepath.Join(room, "log"))
	require.NoError(t, err)
	bin, err := postgresBinaries()
	require.NoError(t, err)
	said, err := exec.CommandContext(ctx, filepath.Join(bin, "psql"), "-AtX", "-c", "show fsync", url).CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Equal(t, "on", strings.TrimSpace(string(said)), "commits are commits here too")
	p.Stop()
	require.Error(t, exec.CommandContext(ctx, filepath.Join(bin, "pg_isready"), "-q", "-h", filepath.Join(room, "database")).Run())
}

func TestThrowawayMosquitto(t *testing.T) {
	p, address, err := StartMosquitto(t.Context(), t.TempDir(), "")
	require.NoError(t, err)
	require.NotEmpty(t, address)
	require.NoError(t, p.Alone())
	p.Stop()
	require.NoError(t, p.Alone(), "it was told to")
	_, _, err = StartMosquitto(t.Context(), t.TempDir(), "listener 1\nno_such_setting true\n")
	require.ErrorContains(t, err, "no_such_setting", "the error quotes the broker")
}

func TestToolsQuoteTheComplaint(t *testing.T) {
	tools := Tools{Dir: "/bin", Env: []string{"ANIMAL=cat"}}
	said, err := tools.Run(t.Context(), "hello", "sh", "-c", "cat; echo $ANIMAL")
	require.NoError(t, err)
	require.Equal(t, "hellocat\n", said)
	_, err = tools.Run(t.Context(), "", "sh", "-c", "echo no such door >&2; exit 2")
	require.ErrorContains(t, err, "no such door")
	require.Equal(t, 2, ExitStatus(err))
	require.Equal(t, 0, ExitStatus(nil))
	require.Equal(t, -1, ExitStatus(context.Canceled))
}

// A Prometheus whose configuration is wrong says so at once, and is gone.
func TestPrometheusSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(config, []byte("scrape_confings: []\n"), 0o600))
	listen, err := FreeAddress("127.0.0.1")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	_, err = StartPrometheus(ctx, dir, config, listen)
	require.ErrorContains(t, err, "prometheus ended by itself")
	require.ErrorContains(t, err, "scrape_confings")
}

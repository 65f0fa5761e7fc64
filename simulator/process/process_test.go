package process

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestServersStartAndStop(t *testing.T) {
	// A folder of ours alone would keep out the user of the database.
	dir, err := os.MkdirTemp("", "process")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o711)) //nolint:gosec // as above
	db, url, err := StartPostgres(t.Context(), filepath.Join(dir, "db"), filepath.Join(dir, "db.log"))
	require.NoError(t, err)
	require.Contains(t, url, dir)
	mqtt, address, err := StartMosquitto(t.Context(), dir, "")
	require.NoError(t, err)
	require.NotEmpty(t, address)
	for _, p := range []*Program{db, mqtt} {
		require.NoError(t, p.Alone())
		p.Stop()
		require.NoError(t, p.Alone(), "it was told to")
		p.Stop()
	}
}

func TestProgramTellsHowItEnded(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p := &Program{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "echo out of paper; exit 3"}, Log: log}
	require.NoError(t, p.Start())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var ended error
	require.NoError(t, Until(ctx, time.Millisecond, "sh does not end", func() (bool, error) {
		ended = p.Alone()
		return ended != nil, nil
	}))
	require.ErrorContains(t, ended, "exit status 3")
	require.ErrorContains(t, ended, "out of paper")

	stubborn := &Program{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; while :; do sleep 1; done"}, Log: log}
	require.NoError(t, stubborn.Start())
	stubborn.Kill()
	require.NoError(t, stubborn.Alone())
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

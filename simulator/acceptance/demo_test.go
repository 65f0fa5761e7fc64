package acceptance

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/simulator/process"
)

// report is what the demo prints at its end.
type report struct {
	Equal         bool              `json:"equal"`
	Swaps         int               `json:"swaps"`
	Kills         map[string]int    `json:"kills"`
	NetworkFaults map[string]int    `json:"network_faults"`
	ExactAfter    float64           `json:"exact_after_s"`
	LedgerEntries int64             `json:"ledger_entries"`
	Misplaced     []string          `json:"misplaced"`
	Riders        []json.RawMessage `json:"riders"`
	DifferingRows []json.RawMessage `json:"differing_rows"`
	DoorsAtBoot   []string          `json:"doors_at_boot"`
	Trouble       []string          `json:"trouble"`
}

// runDemo runs `simulator demo` to its end.
func runDemo(t *testing.T, limit time.Duration, args ...string) report {
	t.Helper()
	bin := programs(t)
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "simulator"), append([]string{"demo", "--exit", "--json", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var complaint strings.Builder
	cmd.Stderr = &complaint
	began := time.Now()
	out, err := cmd.Output()
	require.NoError(t, err, "%s\n%s", out, complaint.String())
	var r report
	require.NoError(t, json.Unmarshal(out, &r), "%s", out)
	require.True(t, r.Equal, "%s", out)
	require.Empty(t, r.DifferingRows)
	require.Empty(t, r.Misplaced)
	require.Empty(t, r.DoorsAtBoot)
	require.Empty(t, r.Trouble)
	require.Less(t, time.Since(began), limit)
	return r
}

// TestKillLoop lets riders swap while agents, both replicas, the broker and the
// database are killed at random moments, behind a network that delays, cuts, half
// opens and swallows: what happened in the world is what the ledger says, for
// every rider, battery and count, within a minute, and no door opens at a boot.
// `make kill-loop` is a longer one.
func TestKillLoop(t *testing.T) {
	t.Parallel()
	r := runDemo(t, 10*time.Minute, "--cabinets", "4", "--riders", "8", "--swaps", "6", "--seed", "7", "--replicas", "2", "--bad-network",
		"--kill-agents", "16", "--kill-backend", "8", "--kill-broker", "4", "--kill-postgres", "2")
	require.GreaterOrEqual(t, r.Swaps, 6)
	require.Equal(t, map[string]int{"agents": 16, "backend": 8, "broker": 4, "postgres": 2}, r.Kills)
	require.NotEmpty(t, r.NetworkFaults)
	require.LessOrEqual(t, r.ExactAfter, 60.0)
	require.Positive(t, r.LedgerEntries)
	require.Len(t, r.Riders, 8)
	t.Logf("%d swaps, network %v, exact after %.1f s", r.Swaps, r.NetworkFaults, r.ExactAfter)
}

// TestDemoLeavesNothing stops a running demo as Ctrl-C does: no process and no
// file stays behind.
func TestDemoLeavesNothing(t *testing.T) {
	t.Parallel()
	bin := programs(t)
	room, err := os.MkdirTemp("", "swaproom") // a test's own folder is closed to the database's user
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(room)) })
	require.NoError(t, os.Chmod(room, 0o711)) //nolint:gosec // as above
	out := filepath.Join(t.TempDir(), "demo.log")
	mark := "SWAP_TEST_ROOM=" + room // every child inherits it
	p := &process.Program{
		Name: "simulator demo", Path: filepath.Join(bin, "simulator"), Log: out, Ending: syscall.SIGINT, Env: []string{"TMPDIR=" + room, mark},
		Args: []string{"demo", "--cabinets", "2", "--riders", "2", "--listen", "127.0.0.1:0"},
	}
	require.NoError(t, p.Start())
	t.Cleanup(p.Stop)
	require.Eventually(t, func() bool {
		require.NoError(t, p.Alone())
		b, err := os.ReadFile(out)
		return err == nil && strings.Contains(string(b), "your page")
	}, 2*time.Minute, 100*time.Millisecond, "the demo prints no link")
	require.NotEmpty(t, processesWith(t, mark))
	p.Stop()
	require.Empty(t, processesWith(t, mark), "processes are left behind")
	left, err := os.ReadDir(room)
	require.NoError(t, err)
	require.Empty(t, left, "files are left behind")
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Contains(t, string(b), "NOT FOR PRODUCTION", "%s", b)
	require.Regexp(t, `admin +admin +password [0-9A-Z]{20} +secret [2-7A-Z]{32}`, string(b))
}

// processesWith are the running processes whose environment holds a word.
func processesWith(t *testing.T, word string) []string {
	t.Helper()
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(t, err)
	var all []string
	for _, name := range environments {
		b, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(b), word) {
			command, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
			all = append(all, fmt.Sprintf("%s %q", filepath.Base(filepath.Dir(name)), command))
		}
	}
	return all
}

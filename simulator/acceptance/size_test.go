package acceptance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a cabinet's small Linux board affords for the agent.
const (
	maxAgentBinary = 10 << 20 // bytes, stripped, for a 32-bit ARM board
	maxAgentMemory = 20 << 20 // bytes resident
)

// TestAgentFitsItsBoard: what is shipped to a cabinet's board is small.
func TestAgentFitsItsBoard(t *testing.T) {
	t.Parallel()
	size := agentSize(t)
	t.Logf("%.2f MB", float64(size)/1e6)
	require.LessOrEqual(t, size, int64(maxAgentBinary))
}

// agentSize builds the agent as it is shipped to a cabinet's board, one static file
// for ARMv7, and gives its size in bytes.
func agentSize(t testing.TB) int64 {
	t.Helper()
	root, err := moduleRoot()
	require.NoError(t, err)
	out := filepath.Join(t.TempDir(), "firmware-agent")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./firmware-agent")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0")
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", said)
	info, err := os.Stat(out)
	require.NoError(t, err)
	return info.Size()
}

// resident is how much memory a process holds, in bytes.
func resident(t testing.TB, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		var kilobytes int64
		if n, err := fmt.Sscanf(line, "VmRSS: %d kB", &kilobytes); n == 1 && err == nil {
			return kilobytes << 10
		}
	}
	t.Fatal("the system does not tell")
	return 0
}

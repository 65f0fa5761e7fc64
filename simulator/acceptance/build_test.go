package acceptance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// workFolder holds what all tests of this package share: the built programs.
var workFolder string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "swapacceptance")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }() // the system's folder for what may go
		workFolder = dir
		return m.Run()
	}())
}

// buildPrograms builds the three programs once.
var buildPrograms = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(workFolder, "bin")
	args := []string{"build", "-trimpath", "-o", bin + "/"}
	if raceDetector {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./firmware-agent", "./backend", "./simulator")...)
	cmd.Dir = root
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs: %w: %s", err, said)
	}
	return bin, nil
})

// programs is the folder of the built programs.
func programs(t testing.TB) string {
	t.Helper()
	bin, err := buildPrograms()
	require.NoError(t, err)
	return bin
}

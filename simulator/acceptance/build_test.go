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

// buildPrograms builds the three programs once, as the tests are built.
var buildPrograms = sync.OnceValues(func() (string, error) {
	var flags []string
	if raceDetector {
		flags = append(flags, "-race")
	}
	return build("bin", append(flags, "./firmware-agent", "./backend", "./simulator")...)
})

// buildPlain builds those that are timed, as they are in production.
var buildPlain = sync.OnceValues(func() (string, error) {
	if !raceDetector {
		return buildPrograms()
	}
	return build("plain", "./firmware-agent", "./backend")
})

// build builds programs into a folder of this package's work folder.
func build(name string, args ...string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(workFolder, name)
	cmd := exec.Command("go", append([]string{"build", "-trimpath", "-o", bin + "/"}, args...)...)
	cmd.Dir = root
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs: %w: %s", err, said)
	}
	return bin, nil
}

// programs is the folder of the built programs.
func programs(t testing.TB) string {
	t.Helper()
	bin, err := buildPrograms()
	require.NoError(t, err)
	return bin
}

// plainPrograms is the folder of those without the race detector, which takes
// several times the processor that they do.
func plainPrograms(t testing.TB) string {
	t.Helper()
	bin, err := buildPlain()
	require.NoError(t, err)
	return bin
}

package soak

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	bugsFlag = flag.Bool("bugs", false, "build the seeded bugs in, and look for each")
	bugFlag  = flag.String("bug", "", "only the bugs whose name has this in it")
	huntFlag = flag.Duration("hunt", 0, "look for a violation for so much processor time, and fail when there is one")
)

// root is where the module begins.
const root = "../.."

// switchFile is added to each package that has a bug.
const switchFile = `package %s

import "os"

var seededBug = os.Getenv("SEEDED_BUG")

func seeded(name string) bool { return name == seededBug }
`

// overlay writes copies of the sources with all bugs in them, each behind its
// name, and the file that tells the compiler of them.
func overlay(t *testing.T, dir string) string {
	sources, replace := map[string]string{}, map[string]string{}
	for _, b := range bugs() {
		for _, e := range b.edits {
			text, ok := sources[e.file]
			if !ok {
				raw, err := os.ReadFile(filepath.Join(root, e.file))
				require.NoError(t, err)
				text = string(raw)
			}
			require.Equal(t, 1, strings.Count(text, e.old), "bug %q: %s: how often %q stands there", b.name, e.file, e.old)
			sources[e.file] = strings.Replace(text, e.old, e.new, 1)
		}
	}
	add := func(file, text string) {
		at, err := filepath.Abs(filepath.Join(root, file))
		require.NoError(t, err)
		to := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		require.NoError(t, os.WriteFile(to, []byte(text), 0o600))
		replace[at] = to
	}
	for file, text := range sources {
		add(file, text)
		add(filepath.Join(filepath.Dir(file), "seeded.go"), fmt.Sprintf(switchFile, filepath.Base(filepath.Dir(file))))
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	at := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(at, list, 0o600))
	return at
}

// TestSeededBugsStandInTheSources: every text that a bug replaces is still there.
func TestSeededBugsStandInTheSources(t *testing.T) {
	require.GreaterOrEqual(t, len(bugs()), 20)
	overlay(t, t.TempDir())
}

var violated = regexp.MustCompile(`HUNT seed (\d+): I(\d+) violated`)

// TestSeededBugs proves the checker: a violation of the right invariant is found
// for each bug, and none without a bug.
func TestSeededBugs(t *testing.T) {
	if !*bugsFlag {
		return // make bugs
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "soak.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", overlay(t, dir), "-o", binary, "./simulator/soak")
	build.Dir = root
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	var running sync.WaitGroup
	places := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, b := range bugs() {
		if !strings.Contains(b.name, *bugFlag) {
			continue
		}
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			hunt(t, binary, b)
		})
	}
	running.Wait()
}

// huntFor bounds the search for one bug, in processor time: a busy machine finds no
// less.
const huntFor = 2 * time.Minute

func hunt(t *testing.T, binary string, b bug) {
	c := exec.CommandContext(t.Context(), binary, "-test.run", "TestHunt", "-test.timeout", "0", "-hunt", huntFor.String(), "-seed", fmt.Sprint(max(1, begins[b.name])))
	c.Env = append(os.Environ(), "SEEDED_BUG="+b.name)
	out, _ := c.CombinedOutput() // it fails when it finds something, and that is asked next
	found := violated.FindSubmatch(out)
	if found == nil {
		t.Errorf("bug %q: not found in %v; %.2000s", b.name, huntFor, out)
		return
	}
	if !slices.ContainsFunc(b.by, func(n int) bool { return fmt.Sprint(n) == string(found[2]) }) {
		t.Errorf("bug %q: found by I%s, want one of I%v: %.1000s", b.name, found[2], b.by, out)
		return
	}
	t.Logf("bug %-40q found by seed %s, I%s, in %.1f s", b.name, found[1], found[2], c.ProcessState.UserTime().Seconds())
}

// TestHunt runs seeds until one breaks.
func TestHunt(t *testing.T) {
	was := busy()
	for seed := *seedFlag; busy()-was < *huntFlag; seed++ {
		p := profileOf(seed)
		if seed%10 == 9 || p.pulses != tightBucket && os.Getenv("SEEDED_BUG") == shyBug {
			continue // a wide fleet takes longer to break
		}
		if v := newSim(seed, p).run(); v != nil {
			t.Fatalf("HUNT seed %d: %s", seed, v)
		}
	}
}

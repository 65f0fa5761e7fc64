package acceptance

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// lastFailure is the number of the table's last row.
const lastFailure = 46

var (
	failureRow  = regexp.MustCompile(`(?m)^\| (\d+) \| (.+?) \| (.*?) \|$`)
	testsOf     = regexp.MustCompile("^`([a-z/-]+)`((?: Test[A-Za-z0-9]+)+)$")
	testFunc    = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]*)\(`)
	numbersOf   = regexp.MustCompile(`^TestFailure(\d\d)(?:(And|To)(\d\d))?`)
	testPackage = []string{"firmware-agent", "backend", "protocol", "simulator"}
)

// testsInTree are the names of all tests, by package.
func testsInTree(t *testing.T, root string) map[string]map[string]bool {
	t.Helper()
	all := map[string]map[string]bool{}
	for _, top := range testPackage {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, top), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			dir, err := filepath.Rel(root, filepath.Dir(path))
			for _, m := range testFunc.FindAllSubmatch(b, -1) {
				if all[dir] == nil {
					all[dir] = map[string]bool{}
				}
				all[dir][string(m[1])] = true
			}
			return err
		}))
	}
	return all
}

// carried are the rows whose number a test carries in its name.
func carried(test string) []int {
	m := numbersOf.FindStringSubmatch(test)
	if m == nil {
		return nil
	}
	first, _ := strconv.Atoi(m[1]) // two digits, by the expression
	last, err := strconv.Atoi(m[3])
	switch {
	case err != nil:
		return []int{first}
	case m[2] == "And":
		return []int{first, last}
	}
	var all []int
	for n := first; n <= last; n++ {
		all = append(all, n)
	}
	return all
}

// complaints are what is wrong with a table.
type complaints []string

func (c *complaints) add(format string, args ...any) { *c = append(*c, fmt.Sprintf(format, args...)) }

// rowsOf reads a table's rows by their number: which tests each names, all of which
// must be there. name is how a row is called in a complaint.
func (c *complaints) rowsOf(table string, row *regexp.Regexp, name string, tests map[string]map[string]bool) map[int]string {
	rows := map[int]string{}
	for _, m := range row.FindAllStringSubmatch(table, -1) {
		n, _ := strconv.Atoi(m[1]) // digits, by the expression
		if rows[n] != "" {
			c.add("%s%d is there twice", name, n)
		}
		rows[n] = m[3] + " "
		for part := range strings.SplitSeq(m[3], "; ") {
			named := testsOf.FindStringSubmatch(part)
			if named == nil {
				c.add("%s%d: %q: want `package` and its tests", name, n, part)
				continue
			}
			for _, test := range strings.Fields(named[2]) {
				if !tests[named[1]][test] {
					c.add("%s%d: %s has no test %s", name, n, named[1], test)
				}
			}
		}
	}
	return rows
}

// everyNumberIsNamed demands of each test that carries the number of a row to stand in
// it.
func (c *complaints) everyNumberIsNamed(rows map[int]string, name string, tests map[string]map[string]bool, carried func(test string) []int) {
	for _, dir := range slices.Sorted(maps.Keys(tests)) {
		for _, test := range slices.Sorted(maps.Keys(tests[dir])) {
			for _, n := range carried(test) {
				if !regexp.MustCompile(test + `\b`).MatchString(rows[n]) {
					c.add("%s%d does not name %s of %s, which carries its number", name, n, test, dir)
				}
			}
		}
	}
}

// checkFailures says what is wrong with a table of failures.
func checkFailures(table string, tests map[string]map[string]bool) []string {
	wrong := complaints{}
	rows := wrong.rowsOf(table, failureRow, "row ", tests)
	for n := 1; n <= lastFailure; n++ {
		if rows[n] == "" {
			wrong.add("row %d is missing", n)
		}
	}
	if len(rows) != lastFailure {
		wrong.add("there are %d rows, want %d", len(rows), lastFailure)
	}
	wrong.everyNumberIsNamed(rows, "row ", tests, carried)
	return wrong
}

// TestEveryFailureHasATest holds the table of what goes wrong against the tests
// that there are.
func TestEveryFailureHasATest(t *testing.T) {
	root, err := moduleRoot()
	require.NoError(t, err)
	b, err := os.ReadFile("failures.md")
	require.NoError(t, err)
	tests := testsInTree(t, root)
	table := string(b)
	require.Empty(t, checkFailures(table, tests))

	for what, spoil := range map[string]func(string) string{
		"row 7 is missing":    func(s string) string { return strings.Replace(s, "| 7 |", "| x |", 1) },
		"row 8 is there":      func(s string) string { return strings.Replace(s, "| 7 |", "| 8 |", 1) },
		"has no test TestGon": func(s string) string { return strings.Replace(s, "TestKillLoop", "TestGone", 1) },
		"row 46: \"\"":        func(s string) string { return regexp.MustCompile("(\\| 46 .*\\|) `.*\\|").ReplaceAllString(s, "$1  |") },
		"does not name TestFailure43": func(s string) string {
			return strings.Replace(s, "TestFailure43DoorSticksAndOpensLater", "TestTwoCuts", 1)
		},
		"row 15 does not name TestFailure14To16NotAccepted": func(s string) string {
			i := strings.Index(s, "| 15 |")
			return s[:i] + strings.Replace(s[i:], "TestFailure14To16NotAccepted ", "", 1)
		},
	} {
		require.Contains(t, strings.Join(checkFailures(spoil(table), tests), "\n"), what)
	}
}

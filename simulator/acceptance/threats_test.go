package acceptance

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	threatRow = regexp.MustCompile(`(?m)^\| T(\d+) \| (.+?) \| (.*?) \|$`)
	threatOf  = regexp.MustCompile(`^TestT(\d\d)`)
)

// checkThreats says what is wrong with a table of threats.
func checkThreats(table string, tests map[string]map[string]bool) []string {
	wrong := []string{}
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	rows := map[int]string{}
	for _, row := range threatRow.FindAllStringSubmatch(table, -1) {
		n, _ := strconv.Atoi(row[1]) // digits, by the expression
		if rows[n] != "" {
			complain("T%d is there twice", n)
		}
		rows[n] = row[3] + " "
		for part := range strings.SplitSeq(row[3], "; ") {
			named := testsOf.FindStringSubmatch(part)
			if named == nil {
				complain("T%d: %q: want `package` and its tests", n, part)
				continue
			}
			for _, name := range strings.Fields(named[2]) {
				if !tests[named[1]][name] {
					complain("T%d: %s has no test %s", n, named[1], name)
				}
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(tests)) {
		for _, name := range slices.Sorted(maps.Keys(tests[dir])) {
			if m := threatOf.FindStringSubmatch(name); m != nil {
				if n, _ := strconv.Atoi(m[1]); !strings.Contains(rows[n], " "+name+" ") && !strings.Contains(rows[n], " "+name+";") {
					complain("T%d does not name %s of %s, which carries its number", n, name, dir)
				}
			}
		}
	}
	return wrong
}

// TestEveryThreatHasATest holds the table of threats against the tests that there
// are.
func TestEveryThreatHasATest(t *testing.T) {
	root, err := moduleRoot()
	require.NoError(t, err)
	b, err := os.ReadFile("threats.md")
	require.NoError(t, err)
	tests := testsInTree(t, root)
	require.Empty(t, checkThreats(string(b), tests))
	for what, spoil := range map[string]func(string) string{
		"T8 is there twice":    func(s string) string { return strings.Replace(s, "| T7 |", "| T8 |", 1) },
		"has no test TestGone": func(s string) string { return strings.Replace(s, "TestAuditLog", "TestGone", 1) },
		"T7 does not name": func(s string) string {
			return strings.Replace(s, "TestT07TheAPIWithoutThePage", "TestRidersObjects", 1)
		},
		"want `package` and its": func(s string) string { return strings.Replace(s, "`backend/fleet` TestT07", "TestT07", 1) },
	} {
		require.Contains(t, strings.Join(checkThreats(spoil(string(b)), tests), "\n"), what)
	}
}

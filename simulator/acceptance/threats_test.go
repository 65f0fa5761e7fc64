package acceptance

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	threatRow = regexp.MustCompile(`(?m)^\| T(\d+) \| (.+?) \| (.*?) \|$`)
	threatOf  = regexp.MustCompile(`^TestT(\d\d)`)
)

// threatsCarried is the threat whose number a test carries in its name.
func threatsCarried(test string) []int {
	m := threatOf.FindStringSubmatch(test)
	if m == nil {
		return nil
	}
	n, _ := strconv.Atoi(m[1]) // digits, by the expression
	return []int{n}
}

// checkThreats says what is wrong with a table of threats.
func checkThreats(table string, tests map[string]map[string]bool) []string {
	wrong := complaints{}
	rows := wrong.rowsOf(table, threatRow, "T", tests)
	wrong.everyNumberIsNamed(rows, "T", tests, threatsCarried)
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

package acceptance

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPilot lives through three days of the pilot, with every kind of trouble: the
// world and all books say the same.
func TestPilot(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs(t), "simulator"), "pilot", "--json", "--days", "3", "--swaps", "191", "--seed", "1")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	require.NoError(t, err, "%s\n%s", out, complaint.String())
	var r struct {
		Equal   bool
		Sources []struct {
			Name   string
			Swaps  int
			PerDay int `json:"per_day"`
		}
		Differences []json.RawMessage `json:"audit_differences"`
		Visits      map[string]int
	}
	require.NoError(t, json.Unmarshal(out, &r), "%s", out)
	require.True(t, r.Equal, "%s", out)
	var names []string
	for _, s := range r.Sources {
		names = append(names, s.Name)
		require.Equal(t, 191, s.Swaps, s.Name)
		require.Equal(t, 64, s.PerDay, "63.7, rounded")
	}
	require.Equal(t, []string{"world", "audit", "accounts", "riders", "page", "api", "xlsx", "csv"}, names)
	require.Empty(t, r.Differences)
	require.Len(t, r.Visits, 5, "%v: every kind", r.Visits)
}

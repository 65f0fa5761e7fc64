package fleet

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAuditIsDueEachNight(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		require.NoError(t, err)
		return v
	}
	for now, due := range map[string]string{
		"2025-11-05T03:00:00+08:00": "2025-11-05T03:00:00+08:00",
		"2025-11-05T02:59:59+08:00": "2025-11-04T03:00:00+08:00",
		"2025-11-05T23:00:00+08:00": "2025-11-05T03:00:00+08:00",
		"2025-11-06T01:00:00+08:00": "2025-11-05T03:00:00+08:00",
	} {
		require.True(t, at(due).Equal(auditDue(at(now))), "%s: %s", now, auditDue(at(now)))
	}
}

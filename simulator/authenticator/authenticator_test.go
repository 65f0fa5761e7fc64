package authenticator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCode: the examples of RFC 6238, cut to six digits.
func TestCode(t *testing.T) {
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"} {
		got, err := Code("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", time.Unix(at, 0))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := Code("no base32", time.Unix(0, 0))
	require.Error(t, err)
}

package demo

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestStaff: what is read of a new account, printed of it, and typed for its code.
func TestStaff(t *testing.T) {
	m, err := readMember("login          operator\npassword       ABCDEFGHIJKLMNOPQRST\nsecret         GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n" +
		"for the app    otpauth://totp/Battery%20swap:operator?secret=x\nrecovery code  AAAA-BBBB\n")
	require.NoError(t, err)
	require.Equal(t, "ABCDEFGHIJKLMNOPQRST", m.password)
	m.role, m.login = "operator", "operator"
	_, err = readMember("login  operator\n")
	require.Error(t, err)

	s := &stage{public: "http://127.0.0.1:8080", staff: []member{m}}
	said, err := s.tellCode([]string{"code", "operator"}, time.Unix(59, 0))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(said, "287082"), said)
	require.Contains(t, said, "for 1 s more")
	for _, words := range [][]string{{"code"}, {"code", "nobody"}, {"code", "operator", "now"}} {
		_, err := s.tellCode(words, time.Unix(59, 0))
		require.ErrorContains(t, err, "operator, union, maintenance, admin")
	}
	var sign strings.Builder
	s.printStaff(&sign)
	for _, part := range []string{"http://127.0.0.1:8080/staff/", "the demo's only", m.password, m.secret} {
		require.Contains(t, sign.String(), part)
	}
}

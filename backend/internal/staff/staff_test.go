package staff

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPasswords(t *testing.T) {
	_, err := HashPassword("too short")
	require.ErrorContains(t, err, "want 12 to 128")
	_, err = HashPassword(strings.Repeat("x", 129))
	require.Error(t, err)
	h, err := HashPassword("correct horse battery")
	require.NoError(t, err)
	again, err := HashPassword("correct horse battery")
	require.NoError(t, err)
	require.NotEqual(t, h, again, "salted")
	require.True(t, checkPassword(h, "correct horse battery"))
	require.False(t, checkPassword(h, "correct horse batterx"))
	for _, broken := range []string{"", hashPrefix, hashPrefix + "$", hashPrefix + "!$!", "plain"} {
		require.False(t, checkPassword(broken, ""), broken)
		require.False(t, checkPassword(broken, "plain"), broken)
	}
}

// TestCodes: the example of RFC 6238, and each code works once only.
func TestCodes(t *testing.T) {
	const rfc = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"} {
		got, err := Code(rfc, time.Unix(at, 0))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	s := Secrets{Secret: NewSecret()}
	for _, shift := range []time.Duration{-Period, 0, Period} {
		code, err := Code(s.Secret, now.Add(shift))
		require.NoError(t, err)
		p, err := s.Confirm(code[:3]+" "+code[3:], now)
		require.NoError(t, err)
		used := s
		used.Step = p.Step
		_, err = used.Confirm(code, now)
		require.ErrorIs(t, err, ErrWrong, "a code works once")
		_, err = s.Confirm(code, now.Add(3*Period))
		require.ErrorIs(t, err, ErrWrong, "and not for long")
	}
	for _, code := range []string{"", "12345", "1234567", "abcdef", strings.Repeat("9", 1000)} {
		_, err := s.Confirm(code, now)
		require.ErrorIs(t, err, ErrWrong, code)
	}
	nobody := Secrets{}
	_, err := nobody.SignIn("", "", now)
	require.ErrorIs(t, err, ErrWrong)
	_, err = nobody.Confirm(strings.Repeat("A", recoveryCodeLen), now)
	require.ErrorIs(t, err, ErrWrong)
}

func TestRecoveryCodes(t *testing.T) {
	codes := NewRecoveryCodes()
	require.Len(t, codes, RecoveryCodes)
	seen := map[string]bool{}
	for _, c := range codes {
		seen[c] = true
		p, err := Secrets{Secret: NewSecret()}.Confirm(strings.ToLower(ShowRecovery(c)), time.Now())
		require.NoError(t, err)
		require.Equal(t, HashRecovery(c), p.Recovery)
	}
	require.Len(t, seen, RecoveryCodes)
	require.Equal(t, "ABCD-EFGH-I", ShowRecovery("ABCDEFGHI"))
}

func TestNames(t *testing.T) {
	require.NoError(t, CheckLogin("wang.li-2"))
	for _, bad := range []string{"", "Wang", "a b", "王", strings.Repeat("a", 33), Shell} {
		require.Error(t, CheckLogin(bad), bad)
	}
	roles, err := ParseRoles([]string{" union", "admin", "union"})
	require.NoError(t, err)
	require.Equal(t, []Role{Union, Admin}, roles)
	_, err = ParseRoles([]string{"root"})
	require.ErrorContains(t, err, `role "root"`)
	_, err = ParseRoles(nil)
	require.Error(t, err)
}

// TestChain: whatever is altered, left out or put in is found.
func TestChain(t *testing.T) {
	var links []Link
	var prev []byte
	for n := int64(1); n <= 5; n++ {
		body := fmt.Sprintf(`{"no":%d,"at":"2026-03-01T08:00:00Z","actor":"a","act":"b","object":"c","detail":{}}`, n)
		sum := sha256.Sum256(append(prev[:len(prev):len(prev)], body...))
		prev = sum[:]
		links = append(links, Link{No: n, Body: body, Hash: prev})
	}
	check := func(links []Link) error {
		var c Chain
		for _, l := range links {
			if _, err := c.Add(l); err != nil {
				return err
			}
		}
		return nil
	}
	require.NoError(t, check(links))
	for i := range links {
		altered := append([]Link(nil), links...)
		altered[i].Body = strings.Replace(altered[i].Body, `"actor":"a"`, `"actor":"x"`, 1)
		require.ErrorContains(t, check(altered), fmt.Sprintf("line %d was altered", i+1))
		if i < len(links)-1 {
			left := append(append([]Link(nil), links[:i]...), links[i+1:]...)
			require.ErrorContains(t, check(left), fmt.Sprintf("line %d is missing", i+1))
		}
	}
}

// TestSeal: what the database keeps gives no secret away, fits one account, and
// opens with one key only; what was kept before is still read.
func TestSeal(t *testing.T) {
	seal, err := NewSeal(bytes.Repeat([]byte{1}, SealKeyBytes))
	require.NoError(t, err)
	other, err := NewSeal(bytes.Repeat([]byte{2}, SealKeyBytes))
	require.NoError(t, err)
	_, err = NewSeal([]byte("short"))
	require.ErrorContains(t, err, "want 32")
	secret := NewSecret()
	kept, err := seal.Close("wang", secret)
	require.NoError(t, err)
	require.True(t, Sealed(kept))
	require.NotContains(t, kept, secret)
	again, err := seal.Close("wang", secret)
	require.NoError(t, err)
	require.NotEqual(t, kept, again, "with a nonce of its own")
	opened, err := seal.Open("wang", kept)
	require.NoError(t, err)
	require.Equal(t, secret, opened)
	for _, wrong := range []func() (string, error){
		func() (string, error) { return seal.Open("li", kept) },
		func() (string, error) { return other.Open("wang", kept) },
		func() (string, error) { return seal.Open("wang", kept[:len(kept)-4]) },
		func() (string, error) { return seal.Open("wang", SealMark+"!") },
		func() (string, error) { return (*Seal)(nil).Open("wang", kept) },
		func() (string, error) { return (*Seal)(nil).Close("wang", secret) },
	} {
		_, err := wrong()
		require.Error(t, err)
	}
	opened, err = (*Seal)(nil).Open("wang", secret)
	require.NoError(t, err)
	require.Equal(t, secret, opened, "of before secrets were sealed")
}

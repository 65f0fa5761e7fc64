package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
)

const password = "a good long password"

// newAccount adds an account and returns its app's secret and recovery codes.
func (d *deck) newAccount(login string, roles ...staff.Role) (secret string, recovery []string) {
	d.t.Helper()
	h, err := staff.HashPassword(password)
	require.NoError(d.t, err)
	recovery = staff.NewRecoveryCodes()
	c := staff.Credentials{PasswordHash: h, Secret: staff.NewSecret()}
	for _, r := range recovery {
		c.Recovery = append(c.Recovery, staff.HashRecovery(r))
	}
	require.NoError(d.t, d.store.AddAccount(d.t.Context(), staff.NewAccount{Login: login, Name: "Name of " + login, Roles: roles, Credentials: c}))
	return c.Secret, recovery
}

// signIn is what the sign-in page does.
func (d *deck) signIn(login, password, code, address string, token string) error {
	try, err := d.store.BeginTry(context.Background(), login, address)
	if err != nil {
		return err
	}
	proof, err := try.Secrets.SignIn(password, code, time.Now())
	if err != nil {
		return err
	}
	return d.store.OpenSession(context.Background(), try, proof, staff.HashToken(token), address)
}

func code(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	c, err := staff.Code(secret, at)
	require.NoError(t, err)
	return c
}

// TestStaffSignIn (T16): a code and a recovery code each work once, also for two
// at once; a session ends when idle, old, revoked, or its account is disabled.
func TestStaffSignIn(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	ctx := t.Context()
	secret, recovery := d.newAccount("wang", staff.Operator, staff.Union)
	d.newAccount("li", staff.Admin)
	now := time.Now()
	require.ErrorIs(t, d.signIn("wang", "a wrong long password", code(t, secret, now), "10.0.0.1", "t0"), staff.ErrWrong)
	require.ErrorIs(t, d.signIn("nobody", password, code(t, secret, now), "10.0.0.1", "t0"), staff.ErrWrong)

	var opened atomic.Int32
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if d.signIn("wang", password, code(t, secret, now), fmt.Sprintf("10.0.1.%d", i), fmt.Sprintf("race%d", i)) == nil {
				opened.Add(1)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int32(1), opened.Load(), "one code opened two sessions")
	require.ErrorIs(t, d.signIn("wang", password, code(t, secret, now), "10.0.0.2", "t1"), staff.ErrWrong, "replayed")

	require.NoError(t, d.signIn("wang", password, recovery[0], "10.0.0.2", "t1"))
	require.ErrorIs(t, d.signIn("wang", password, recovery[0], "10.0.0.2", "t2"), staff.ErrWrong, "a recovery code works once")
	s, err := d.store.StaffSession(ctx, staff.HashToken("t1"), true)
	require.NoError(t, err)
	require.Equal(t, "wang", s.Login)
	require.Equal(t, []staff.Role{staff.Operator, staff.Union}, s.Roles)
	require.True(t, s.IsFresh(now))
	require.False(t, s.IsFresh(now.Add(staff.Fresh+time.Minute)))

	gone := func(token string) {
		t.Helper()
		_, err := d.store.StaffSession(ctx, staff.HashToken(token), true)
		require.ErrorIs(t, err, postgres.ErrNotFound)
	}
	// A page that refreshes itself does not keep a session alive; a click does.
	age := func(column, by string) {
		require.NoError(t, d.exec(`UPDATE staff_session SET `+column+` = `+column+` - $1::interval WHERE token_hash = $2`, by, staff.HashToken("t1")))
	}
	age("seen_at", "20 minutes")
	_, err = d.store.StaffSession(ctx, staff.HashToken("t1"), false)
	require.NoError(t, err)
	age("seen_at", "5 minutes")
	_, err = d.store.StaffSession(ctx, staff.HashToken("t1"), true)
	require.NoError(t, err)
	age("seen_at", "25 minutes")
	_, err = d.store.StaffSession(ctx, staff.HashToken("t1"), false)
	require.NoError(t, err)
	age("seen_at", "10 minutes")
	gone("t1")
	require.NoError(t, d.signIn("wang", password, recovery[1], "10.0.0.3", "t3"))
	require.NoError(t, d.exec(`UPDATE staff_session SET created_at = now() - interval '12 hours' WHERE token_hash = $1`, staff.HashToken("t3")))
	gone("t3")
	require.NoError(t, d.signIn("wang", password, recovery[2], "10.0.0.3", "t4"))
	require.NoError(t, d.store.EndSessions(ctx, "wang"))
	gone("t4")
	require.NoError(t, d.signIn("wang", password, recovery[3], "10.0.0.3", "t5"))
	require.NoError(t, d.store.SetAccount(ctx, "wang", nil))
	gone("t5")
	require.ErrorIs(t, d.signIn("wang", password, recovery[4], "10.0.0.3", "t6"), staff.ErrWrong, "disabled")
	require.ErrorContains(t, d.store.SetAccount(ctx, "li", nil), staff.LastAdmin)
	require.ErrorContains(t, d.store.SetAccount(ctx, "li", []staff.Role{staff.Union}), staff.LastAdmin)
	require.ErrorIs(t, d.store.SetAccount(ctx, "none", []staff.Role{staff.Union}), postgres.ErrNotFound)
}

// TestStaffTries: guessing is stopped, also by many at once, and does not lock
// out an owner who is elsewhere.
func TestStaffTries(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	secret, _ := d.newAccount("wang", staff.Operator)
	var wrong atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := d.store.BeginTry(context.Background(), "wang", "10.0.0.1"); err == nil {
				wrong.Add(1)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int32(staff.TriesOfPair), wrong.Load())
	require.NoError(t, d.signIn("wang", password, code(t, secret, time.Now()), "10.0.0.2", "t1"), "from elsewhere")
	require.ErrorIs(t, d.signIn("wang", password, "000000", "10.0.0.1", "t2"), staff.ErrTooManyTries)
	require.NoError(t, d.exec(`UPDATE staff_try SET at = at - interval '15 minutes'`))
	require.ErrorIs(t, d.signIn("wang", password, "000000", "10.0.0.1", "t2"), staff.ErrWrong, "the window is over")
	for i := range staff.TriesOfAddress { // many accounts from one address
		_, _ = d.store.BeginTry(t.Context(), fmt.Sprintf("guess%d", i), "10.0.0.9")
	}
	_, err := d.store.BeginTry(t.Context(), "another", "10.0.0.9")
	require.ErrorIs(t, err, staff.ErrTooManyTries)
	for i := range staff.TriesOfLogin { // one account from many addresses
		_, _ = d.store.BeginTry(t.Context(), "wang", fmt.Sprintf("10.1.0.%d", i))
	}
	_, err = d.store.BeginTry(t.Context(), "wang", "10.2.0.1")
	require.ErrorIs(t, err, staff.ErrTooManyTries)
	_, err = d.store.BeginTry(t.Context(), strings.Repeat("\x00\xff", 1000), strings.Repeat("x", 1000))
	require.NoError(t, err, "what cannot be a name is nobody's")
}

func TestStaffTokens(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	ctx := t.Context()
	add := func(name string, life time.Duration) []byte {
		h := staff.HashToken(staff.NewToken())
		require.NoError(t, d.store.AddToken(ctx, name, []staff.Role{staff.Operator}, h, time.Now().Add(life)))
		return h
	}
	a, old := add("billing", time.Hour), add("old", -time.Hour)
	who, err := d.store.TokenActor(ctx, a)
	require.NoError(t, err)
	require.Equal(t, staff.Actor{Login: "token:billing", Roles: []staff.Role{staff.Operator}}, who)
	_, err = d.store.TokenActor(ctx, old)
	require.ErrorIs(t, err, postgres.ErrNotFound)
	require.NoError(t, d.store.RevokeToken(ctx, "billing"))
	_, err = d.store.TokenActor(ctx, a)
	require.ErrorIs(t, err, postgres.ErrNotFound)
	require.ErrorIs(t, d.store.RevokeToken(ctx, "billing"), postgres.ErrNotFound)
	require.ErrorIs(t, d.store.AddToken(ctx, "billing", []staff.Role{staff.Union}, staff.HashToken("x"), time.Now()), staff.ErrExists)
	all, err := d.store.Tokens(ctx)
	require.NoError(t, err)
	require.Len(t, all, 2)
}

// TestAuditLog (T23): nothing can be changed, and what somebody changes who owns
// the table is found.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	ctx := staff.As(t.Context(), staff.Actor{Login: "li"})
	var wg sync.WaitGroup
	for i := range 20 { // the chain has one end, however many write
		wg.Go(func() {
			require.NoError(t, d.store.AddToken(ctx, fmt.Sprintf("t%d", i), []staff.Role{staff.Operator}, staff.HashToken(fmt.Sprint(i)), time.Now()))
		})
	}
	wg.Wait()
	check := func(noted string) postgres.AuditCheck {
		t.Helper()
		c, err := d.store.VerifyAuditLog(t.Context(), noted)
		require.NoError(t, err)
		return c
	}
	ok := check("")
	require.NoError(t, ok.Wrong)
	require.GreaterOrEqual(t, ok.Lines, int64(20))
	lines, err := d.store.AuditLines(t.Context(), "token:t7", 0, 10)
	require.NoError(t, err)
	require.Len(t, lines, 1)
	require.Equal(t, "li", lines[0].Actor)
	require.Equal(t, "token.add", lines[0].Act)
	require.WithinDuration(t, time.Now(), lines[0].At, time.Minute)

	for _, sql := range []string{`UPDATE audit_log SET body = '{}'`, `DELETE FROM audit_log`, `TRUNCATE audit_log`} {
		require.ErrorContains(t, d.exec(sql), "append-only")
	}
	// Whoever owns the table takes the trigger away.
	require.NoError(t, d.exec(`ALTER TABLE audit_log DISABLE TRIGGER append_only`))
	for what, c := range map[string]struct{ do, want string }{
		"altered":     {`UPDATE audit_log SET body = replace(body, '"li"', '"wang"') WHERE no = 5`, "line 5 was altered"},
		"left out":    {`DELETE FROM audit_log WHERE no = 7`, "line 7 is missing"},
		"cut off":     {`DELETE FROM audit_log WHERE no >= 19`, "lines at the end are missing"},
		"put in":      {`INSERT INTO audit_log SELECT max(no) + 1, '{"no":99}', sha256('x') FROM audit_log`, "was altered"},
		"hash forged": {`UPDATE audit_log SET hash = sha256('x') WHERE no = 3`, "line 3 was altered"},
	} {
		_, err := d.direct().Exec(t.Context(), `BEGIN; CREATE TABLE kept AS TABLE audit_log; COMMIT`)
		require.NoError(t, err)
		require.NoError(t, d.exec(c.do), what)
		require.ErrorContains(t, check("").Wrong, c.want, what)
		_, err = d.direct().Exec(t.Context(), `BEGIN; DELETE FROM audit_log; INSERT INTO audit_log TABLE kept; DROP TABLE kept; COMMIT`)
		require.NoError(t, err)
	}
	require.NoError(t, check(ok.Head).Wrong)
	// One who rewrites the whole chain is found by a head that was noted.
	require.NoError(t, d.exec(`UPDATE audit_head SET no = 0, hash = ''`))
	require.NoError(t, d.exec(`DELETE FROM audit_log`))
	require.NoError(t, d.exec(`SELECT audit_append('li', 'nothing', 'x', '{}') FROM generate_series(1, $1)`, ok.Lines))
	require.NoError(t, check("").Wrong)
	require.ErrorContains(t, check(ok.Head).Wrong, "is not in the log")
}

// TestSecretsAreSealed: what the database keeps of an app's secret opens nothing
// by itself; what was kept open before still signs in, and is closed.
func TestSecretsAreSealed(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	secret, _ := d.newAccount("wang", staff.Admin)
	kept := func(login string) (s string) {
		require.NoError(t, d.direct().QueryRow(t.Context(), `SELECT secret FROM staff_account WHERE login = $1`, login).Scan(&s))
		return s
	}
	require.True(t, staff.Sealed(kept("wang")))
	require.NoError(t, d.signIn("wang", password, code(t, secret, time.Now()), "a", "1"))
	bare, err := postgres.Open(t.Context(), d.url, postgres.Options{})
	require.NoError(t, err)
	t.Cleanup(bare.Close)
	_, err = bare.BeginTry(t.Context(), "wang", "a")
	require.ErrorContains(t, err, "--key-dir")
	require.ErrorContains(t, bare.ResetAccount(t.Context(), "wang", staff.Credentials{Secret: "x"}), "--key-dir")

	old, _ := d.newAccount("li", staff.Operator)
	_, err = d.direct().Exec(t.Context(), `UPDATE staff_account SET secret = $1 WHERE login = 'li'`, old)
	require.NoError(t, err)
	require.NoError(t, d.signIn("li", password, code(t, old, time.Now()), "a", "2"))
	n, err := d.store.SealSecrets(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.True(t, staff.Sealed(kept("li")))
	require.NoError(t, d.signIn("li", password, code(t, old, time.Now().Add(staff.Period)), "a", "3"))
	n, err = d.store.SealSecrets(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

// TestOwnAccount: who changes the own password is signed out elsewhere; sessions
// are one's own only; new recovery codes end the old ones.
func TestOwnAccount(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	ctx := t.Context()
	secret, old := d.newAccount("wang", staff.Union)
	d.newAccount("li", staff.Union)
	for i, token := range []string{"desk", "phone", "other"} {
		at := time.Now().Add(time.Duration(i-1) * staff.Period)
		require.NoError(t, d.signIn("wang", password, code(t, secret, at), token, token))
	}
	sessions, left, err := d.store.OwnAccount(ctx, "wang", staff.HashToken("desk"))
	require.NoError(t, err)
	require.Len(t, sessions, 3)
	require.Equal(t, staff.RecoveryCodes, left)
	require.True(t, sessions[0].Here)
	require.Equal(t, "desk", sessions[0].Address)
	require.False(t, sessions[1].Here)
	require.Equal(t, "other", sessions[1].Address)
	require.ErrorIs(t, d.store.EndOwnSession(ctx, "li", sessions[1].ID), staff.ErrNotFound, "another's")
	require.NoError(t, d.store.EndOwnSession(ctx, "wang", sessions[1].ID))
	_, err = d.store.StaffSession(ctx, staff.HashToken("other"), true)
	require.ErrorIs(t, err, staff.ErrNotFound)

	try, err := d.store.BeginTry(ctx, "wang", "desk")
	require.NoError(t, err)
	require.False(t, try.Secrets.HasPassword("another password"))
	require.True(t, try.Secrets.HasPassword(password))
	hash, err := staff.HashPassword("a new long password")
	require.NoError(t, err)
	require.NoError(t, d.store.SetPassword(ctx, try, hash, staff.HashToken("desk")))
	require.ErrorIs(t, d.store.SetPassword(ctx, try, hash, staff.HashToken("desk")), staff.ErrWrong, "a try is used up")
	_, err = d.store.StaffSession(ctx, staff.HashToken("phone"), true)
	require.ErrorIs(t, err, staff.ErrNotFound)
	_, err = d.store.StaffSession(ctx, staff.HashToken("desk"), true)
	require.NoError(t, err)
	require.ErrorIs(t, d.signIn("wang", password, old[0], "desk", "late"), staff.ErrWrong)
	require.NoError(t, d.signIn("wang", "a new long password", old[0], "desk", "new"))

	fresh := staff.NewRecoveryCodes()
	require.NoError(t, d.store.SetRecovery(ctx, "wang", [][]byte{staff.HashRecovery(fresh[0])}))
	require.ErrorIs(t, d.signIn("wang", "a new long password", old[1], "desk", "old"), staff.ErrWrong)
	require.NoError(t, d.signIn("wang", "a new long password", fresh[0], "desk", "fresh"))
	_, left, err = d.store.OwnAccount(ctx, "wang", staff.HashToken("desk"))
	require.NoError(t, err)
	require.Zero(t, left)
	lines, err := d.store.AuditLines(ctx, "wang", 0, 100)
	require.NoError(t, err)
	var acts []string
	for _, l := range lines {
		acts = append(acts, l.Act)
	}
	for _, act := range []string{"account.password", "account.recovery_codes", "account.end_session"} {
		require.Contains(t, acts, act)
	}
}

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Numbers that no network has.
const (
	zhang    = phone.Number("15400000001") // a rider's
	stranger = phone.Number("15400000002")
)

// binders is a deck with a rider who has a phone and a membership number.
type binders struct {
	*deck
	rider swap.RiderID
	n     int
}

func newBinders(t *testing.T) *binders {
	b := &binders{deck: newDeck(t)}
	b.rider = b.add(zhang, "HZ-1", "", "")
	return b
}

func (b *binders) add(n phone.Number, no string, from, to swap.Day) swap.RiderID {
	b.t.Helper()
	id, err := b.store.AddRider(b.t.Context(), postgres.NewRider{Name: "Zhang", Phone: n, MembershipNo: no, MemberFrom: from, MemberTo: to})
	require.NoError(b.t, err)
	return id
}

// later lets time pass for everything about codes.
func (b *binders) later(d time.Duration) {
	b.t.Helper()
	for _, sql := range []string{
		`UPDATE code_ask SET at = at - $1::interval`, `UPDATE binding_try SET at = at - $1::interval`,
		`UPDATE phone_code SET expires_at = expires_at - $1::interval, due_at = due_at - $1::interval`,
		`UPDATE binding_code SET expires_at = expires_at - $1::interval`,
	} {
		require.NoError(b.t, b.exec(sql, d))
	}
}

// message is the code that is to be sent, which a gateway then has.
func (b *binders) message() binding.Message {
	b.t.Helper()
	due, err := b.store.ClaimMessages(b.t.Context(), 10, time.Minute)
	require.NoError(b.t, err)
	require.Len(b.t, due, 1)
	require.NoError(b.t, b.store.MessageSent(b.t.Context(), due[0].MessageID))
	return due[0]
}

// code asks for one and receives it.
func (b *binders) code(n phone.Number) string {
	b.t.Helper()
	require.NoError(b.t, b.store.SendCode(b.t.Context(), n, "10.0.0.1", "zh"))
	m := b.message()
	require.Equal(b.t, n, m.Phone)
	return m.Code
}

// bind tries a proof, each time for a new session.
func (b *binders) bind(p binding.Proof) (swap.RiderID, error) {
	b.n++
	s := deviceOf(fmt.Sprintf("token-%d", b.n))
	s.Privacy = "2026-12-01"
	if p.Address == "" {
		p.Address = "10.0.0.1"
	}
	return b.store.Bind(context.Background(), p, s)
}

// other is another code than this.
func other(code string) string {
	if code[0] == '9' {
		return "0" + code[1:]
	}
	return "9" + code[1:]
}

func tooMany(t *testing.T, err error) *binding.TooMany {
	t.Helper()
	var many *binding.TooMany
	require.ErrorAs(t, err, &many)
	return many
}

func TestBindByPhone(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	ctx := t.Context()
	code := b.code(zhang)
	require.Regexp(t, `^[0-9]{6}$`, code)
	_, err := b.bind(binding.Proof{Phone: zhang, Code: other(code)})
	require.ErrorIs(t, err, binding.ErrWrong)
	_, err = b.bind(binding.Proof{Phone: stranger, Code: code})
	require.ErrorIs(t, err, binding.ErrWrong, "the code is another phone's")
	rider, err := b.bind(binding.Proof{Phone: zhang, Code: " " + code[:3] + " " + code[3:]})
	require.NoError(t, err)
	require.Equal(t, b.rider, rider)
	got, err := b.store.SessionRider(ctx, staff.HashToken(fmt.Sprintf("token-%d", b.n)))
	require.NoError(t, err)
	require.Equal(t, b.rider, got)
	_, err = b.bind(binding.Proof{Phone: zhang, Code: code})
	require.ErrorIs(t, err, binding.ErrWrong, "a code works once")
	n, version := 0, ""
	require.NoError(t, b.direct().QueryRow(ctx, `SELECT count(*), max(version) FROM privacy_acceptance WHERE rider_id = $1 AND accepted_at > now() - interval '1 minute'`,
		string(b.rider)).Scan(&n, &version))
	require.Equal(t, 1, n)
	require.Equal(t, "2026-12-01", version)

	b.later(binding.CodePause)
	code = b.code(zhang)
	b.later(binding.CodeLife)
	_, err = b.bind(binding.Proof{Phone: zhang, Code: code})
	require.ErrorIs(t, err, binding.ErrWrong, "it is too old")

	// A newer one takes the place of an older one.
	code = b.code(zhang)
	b.later(binding.CodePause)
	newer := b.code(zhang)
	if code != newer { // one in a million
		_, err = b.bind(binding.Proof{Phone: zhang, Code: code})
		require.ErrorIs(t, err, binding.ErrWrong)
	}
	_, err = b.bind(binding.Proof{Phone: zhang, Code: newer})
	require.NoError(t, err)
}

// TestBindAgain: who did not hear the answer asks once more, and has one session.
func TestBindAgain(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	p := binding.Proof{Phone: zhang, Code: b.code(zhang), Address: "10.0.0.1"}
	for range 3 {
		rider, err := b.store.Bind(t.Context(), p, deviceOf("mine"))
		require.NoError(t, err)
		require.Equal(t, b.rider, rider)
	}
	_, err := b.store.Bind(t.Context(), p, deviceOf("another"))
	require.ErrorIs(t, err, binding.ErrWrong, "for another session the code is used")
	p.Code = other(p.Code)
	_, err = b.store.Bind(t.Context(), p, deviceOf("mine"))
	require.ErrorIs(t, err, binding.ErrWrong, "another code never worked")
	p.Code = other(other(p.Code))
	all, err := b.store.Devices(t.Context(), b.rider, staff.HashToken("mine"))
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.NoError(t, b.store.EndDevice(t.Context(), b.rider, all[0].ID))
	_, err = b.store.Bind(t.Context(), p, deviceOf("mine"))
	require.ErrorIs(t, err, binding.ErrWrong, "what was ended stays ended")
}

// TestBindByStaffsCode: by phone or membership number, with a code that was handed
// out in person.
func TestBindByStaffsCode(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	ctx := staff.As(t.Context(), staff.Actor{Login: "wang"})
	made := func() string {
		code, until, err := b.store.NewBindingCode(ctx, b.rider)
		require.NoError(t, err)
		require.Regexp(t, `^[0-9]{8}$`, code)
		require.WithinDuration(t, time.Now().Add(24*time.Hour), until, time.Minute)
		return code
	}
	out := func() bool {
		d, err := b.store.RiderDetail(ctx, b.rider)
		require.NoError(t, err)
		return d.CodeUntil != nil
	}
	code := made()
	require.True(t, out())
	for _, wrong := range []binding.Proof{{MembershipNo: "HZ-2", Code: code}, {Phone: stranger, Code: code}, {Code: code}, {MembershipNo: "HZ-1", Code: other(code)}} {
		_, err := b.bind(wrong)
		require.ErrorIs(t, err, binding.ErrWrong, "%v", wrong)
	}
	rider, err := b.bind(binding.Proof{MembershipNo: "HZ-1", Code: code[:4] + " " + code[4:]})
	require.NoError(t, err)
	require.Equal(t, b.rider, rider)
	require.False(t, out())
	_, err = b.bind(binding.Proof{MembershipNo: "HZ-1", Code: code})
	require.ErrorIs(t, err, binding.ErrWrong, "a code works once")

	code = made()
	_, err = b.bind(binding.Proof{Phone: zhang, Code: code})
	require.NoError(t, err)
	code = made()
	b.later(24 * time.Hour)
	_, err = b.bind(binding.Proof{Phone: zhang, Code: code})
	require.ErrorIs(t, err, binding.ErrWrong, "it is too old")
	code = made()
	for range binding.Tries {
		_, err = b.bind(binding.Proof{Phone: zhang, Code: other(code)})
		require.ErrorIs(t, err, binding.ErrWrong)
	}
	_, err = b.bind(binding.Proof{Phone: zhang, Code: code})
	require.ErrorIs(t, err, binding.ErrWrong, "it was tried too often from there")
	require.True(t, out(), "from elsewhere it works")
}

// TestT13GuessingACode: of ten thousand tries, from everywhere and at all replicas,
// five are checked; the right code is of no use after them.
func TestT13GuessingACode(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	replicas := []*postgres.Store{b.store, b.open()}
	code := b.code(zhang)
	const guesses, guessers = 10_000, 25
	var bound, wrong, many atomic.Int64
	var all sync.WaitGroup
	r := rand.New(rand.NewPCG(1, 2))
	order := r.Perm(1_000_000)
	for g := range guessers {
		all.Go(func() {
			for i := range guesses / guessers {
				guess := fmt.Sprintf("%06d", order[g*guesses/guessers+i])
				if guess == code {
					continue // one in a hundred runs
				}
				_, err := replicas[i%2].Bind(context.Background(), binding.Proof{
					Phone: zhang, Code: guess, Address: fmt.Sprintf("10.%d.%d.%d", g, i/250, i%250),
				}, deviceOf(guess))
				var m *binding.TooMany
				switch {
				case err == nil:
					bound.Add(1)
				case errors.Is(err, binding.ErrWrong):
					wrong.Add(1)
				case errors.As(err, &m):
					many.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.Zero(t, bound.Load())
	require.Zero(t, many.Load(), "each came from an address of its own")
	require.GreaterOrEqual(t, wrong.Load(), int64(guesses-1))
	var tries int
	require.NoError(t, b.direct().QueryRow(t.Context(), `SELECT tries FROM phone_code`).Scan(&tries))
	require.Equal(t, binding.Tries, tries, "so many were checked")
	_, err := b.bind(binding.Proof{Phone: zhang, Code: code, Address: "192.0.2.1"})
	require.ErrorIs(t, err, binding.ErrWrong)
}

// TestT13GuessingFromOneAddress is stopped whatever phones are tried, and only there.
func TestT13GuessingFromOneAddress(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	for i := range binding.WrongPerAddress {
		_, err := b.bind(binding.Proof{Phone: phone.Number(fmt.Sprintf("154%08d", 100+i)), Code: "123456"})
		require.ErrorIs(t, err, binding.ErrWrong)
	}
	code := b.code(zhang)
	_, err := b.bind(binding.Proof{Phone: zhang, Code: code})
	require.InDelta(t, time.Hour.Seconds(), tooMany(t, err).Wait.Seconds(), 60)
	_, err = b.bind(binding.Proof{Phone: zhang, Code: code, Address: "10.0.0.2"})
	require.NoError(t, err)
	b.later(time.Hour)
	_, err = b.bind(binding.Proof{Phone: zhang, Code: "123456"})
	require.ErrorIs(t, err, binding.ErrWrong)
}

// TestT13CodesAreFew: one a minute, five an hour, ten a day for a phone, at whatever
// replica, and the same for a phone that is nobody's.
func TestT13CodesAreFew(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]phone.Number{"a rider's": zhang, "nobody's": stranger} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBinders(t)
			replicas := []*postgres.Store{b.store, b.open()}
			asks := 0
			ask := func() error {
				asks++
				return replicas[asks%2].SendCode(t.Context(), n, fmt.Sprintf("10.0.0.%d", asks), "zh")
			}
			require.NoError(t, ask())
			require.InDelta(t, binding.CodePause.Seconds(), tooMany(t, ask()).Wait.Seconds(), 5)
			b.later(binding.CodePause - 5*time.Second)
			require.LessOrEqual(t, tooMany(t, ask()).Wait, 5*time.Second)
			for sent := 1; sent < binding.CodesPerHour; sent++ {
				b.later(binding.CodePause)
				require.NoError(t, ask())
			}
			b.later(binding.CodePause)
			require.InDelta(t, 55*60, tooMany(t, ask()).Wait.Seconds(), 120, "the first leaves the hour")
			b.later(time.Hour)
			for sent := binding.CodesPerHour; sent < binding.CodesPerDay; sent++ {
				require.NoError(t, ask())
				b.later(10 * time.Minute)
			}
			b.later(time.Hour)
			require.Greater(t, tooMany(t, ask()).Wait, 20*time.Hour)
			b.later(24 * time.Hour)
			require.NoError(t, ask())
		})
	}
}

// TestT13BombingManyPhones: who asks for many phones is stopped by the address, and
// all who ask together by the bound of all. Codes for nobody do not count to it.
func TestT13BombingManyPhones(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	for i := range binding.CodesPerAddress {
		require.NoError(t, b.store.SendCode(t.Context(), phone.Number(fmt.Sprintf("154%08d", 100+i)), "10.0.0.1", "zh"))
	}
	require.Equal(t, binding.OfAsking, tooMany(t, b.store.SendCode(t.Context(), zhang, "10.0.0.1", "zh")).Bound)
	require.NoError(t, b.store.SendCode(t.Context(), zhang, "10.0.0.2", "zh"))
	b.message()

	small := b.openWith(func(o *postgres.Options) { o.MessagesPerHour = 3 })
	for i := range 3 {
		n := phone.Number(fmt.Sprintf("154%08d", 1000+i))
		b.add(n, fmt.Sprintf("HZ-%d", 1000+i), "", "")
		err := small.SendCode(t.Context(), n, fmt.Sprintf("10.0.1.%d", i), "zh")
		if i < 2 {
			require.NoError(t, err)
			continue
		}
		require.Equal(t, binding.OfMessages, tooMany(t, err).Bound, "the fourth message, after Zhang's")
	}
	require.Equal(t, binding.OfMessages, tooMany(t, small.SendCode(t.Context(), "15400009999", "10.0.2.1", "zh")).Bound, "nobody's is told the same")
	b.later(time.Hour)
	require.NoError(t, small.SendCode(t.Context(), "15400001002", "10.0.2.1", "zh"))
}

// TestT13ManyAsksAtOnce: a hundred that come together at two replicas are one
// message.
func TestT13ManyAsksAtOnce(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	replicas := []*postgres.Store{b.store, b.open()}
	var sent atomic.Int64
	at(100, func(i int) {
		if replicas[i%2].SendCode(context.Background(), zhang, fmt.Sprintf("10.0.0.%d", i), "zh") == nil {
			sent.Add(1)
		}
	})
	require.Equal(t, int64(1), sent.Load())
	require.NotEmpty(t, b.message().Code)
}

// TestT13ACodeIsUsedOnce: of many who show the right code at once, one is bound.
func TestT13ACodeIsUsedOnce(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	replicas := []*postgres.Store{b.store, b.open()}
	code := b.code(zhang)
	var bound atomic.Int64
	at(20, func(i int) {
		_, err := replicas[i%2].Bind(context.Background(), binding.Proof{Phone: zhang, Code: code, Address: "10.0.0.1"}, deviceOf(fmt.Sprint(i)))
		if err == nil {
			bound.Add(1)
		}
	})
	require.Equal(t, int64(1), bound.Load())
}

// TestNobodysPhone is like a rider's for whoever asks; only no message goes out.
func TestNobodysPhone(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	require.NoError(t, b.store.SendCode(t.Context(), stranger, "10.0.0.1", "zh"))
	due, err := b.store.ClaimMessages(t.Context(), 10, time.Minute)
	require.NoError(t, err)
	require.Empty(t, due)
	row := func(n phone.Number) (columns string) {
		require.NoError(t, b.direct().QueryRow(t.Context(), `SELECT concat_ws(' ', octet_length(code_hash), tries, used_at, expires_at > now()) FROM phone_code WHERE phone_hash = $1`,
			testVault(t).Hash(n)).Scan(&columns))
		return columns
	}
	b.code(zhang)
	require.Equal(t, row(zhang), row(stranger))
	for range 2 * binding.Tries {
		for _, n := range []phone.Number{zhang, stranger} {
			_, err := b.bind(binding.Proof{Phone: n, Code: "abc123456"[3:], Address: string(n)})
			if err != nil {
				require.ErrorIs(t, err, binding.ErrWrong)
			}
		}
	}
	require.NoError(t, b.exec(`UPDATE rider SET phone_hash = NULL, phone_sealed = NULL, forgotten_at = now() WHERE rider_id = $1`, string(b.rider)))
	b.later(time.Hour)
	require.NoError(t, b.store.SendCode(t.Context(), zhang, "10.0.0.1", "zh"))
	due, err = b.store.ClaimMessages(t.Context(), 10, time.Minute)
	require.NoError(t, err)
	require.Empty(t, due, "the person is forgotten")
}

// TestMessages: a code goes out at least once, by one replica at a time, until it
// would not hold any longer; then nothing can be read of it.
func TestMessages(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	ctx := t.Context()
	claim := func() []binding.Message {
		due, err := b.store.ClaimMessages(ctx, 10, time.Minute)
		require.NoError(t, err)
		return due
	}
	require.NoError(t, b.store.SendCode(ctx, zhang, "10.0.0.1", "en"))
	due := claim()
	require.Len(t, due, 1)
	require.Equal(t, b.rider, swap.RiderID(due[0].RiderID))
	require.Equal(t, "en", due[0].Language)
	require.Equal(t, 1, due[0].Tries)
	require.WithinDuration(t, time.Now().Add(binding.CodeLife), due[0].ExpiresAt, time.Minute)
	require.Empty(t, claim(), "somebody is at it")
	require.NoError(t, b.store.MessageFailed(ctx, due[0].MessageID, 0))
	again := claim()
	require.Equal(t, due[0].Code, again[0].Code)
	require.Equal(t, 2, again[0].Tries)
	b.later(time.Minute)
	require.Len(t, claim(), 1, "who claimed it has died")
	b.later(binding.CodeLife)
	require.Empty(t, claim(), "it would not hold")

	require.NoError(t, b.store.SendCode(ctx, zhang, "10.0.0.1", "zh"))
	b.message()
	var open int
	require.NoError(t, b.direct().QueryRow(ctx, `SELECT count(*) FROM phone_code WHERE code_sealed IS NOT NULL`).Scan(&open))
	require.Zero(t, open)
	b.later(48 * time.Hour)
	require.NoError(t, b.store.ForgetOldCodes(ctx))
	require.NoError(t, b.direct().QueryRow(ctx, `SELECT (SELECT count(*) FROM phone_code) + (SELECT count(*) FROM code_ask)`).Scan(&open))
	require.Zero(t, open, "nothing is kept longer than a bound needs it")
}

// TestNoPhoneInTheDatabase: who has a copy of it has no number and no code.
func TestNoPhoneInTheDatabase(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	require.NoError(t, b.store.SendCode(t.Context(), zhang, "10.0.0.1", "zh"))
	for _, table := range []string{"rider", "phone_code", "code_ask", "audit_log"} {
		var all string
		require.NoError(t, b.direct().QueryRow(t.Context(), `SELECT string_agg(t::text, ' ') FROM `+table+` t`).Scan(&all))
		require.NotContains(t, all, string(zhang), table)
	}
	code := b.message().Code
	var hash []byte
	require.NoError(t, b.direct().QueryRow(t.Context(), `SELECT code_hash FROM phone_code`).Scan(&hash))
	require.NotEqual(t, staff.HashToken(code), hash, "a plain hash of six digits is no secret")
}

// TestMembershipsDays: before the first day and after the last one no swap begins;
// on both it does. Signing in is possible all the same.
func TestMembershipsDays(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	b.cabinet("hb-0001")
	day := func(days int) swap.Day { return swap.DayOf(time.Now().AddDate(0, 0, days)) }
	for i, c := range []struct {
		name     string
		from, to swap.Day
		may      bool
	}{
		{"no bounds", "", "", true}, {"begins today", day(0), "", true}, {"begins tomorrow", day(1), "", false}, {"ends today", "", day(0), true},
		{"ended yesterday", day(-30), day(-1), false}, {"in the middle", day(-1), day(1), true}, {"to come", day(5), day(9), false},
	} {
		n := phone.Number(fmt.Sprintf("154%08d", 500+i))
		id := b.add(n, fmt.Sprintf("M-%d", i), c.from, c.to)
		_, _, no, err := b.store.Request(t.Context(), swap.Scan{RiderID: id, CabinetID: "hb-0001", IdempotencyKey: "k"})
		require.NoError(t, err)
		require.NotNil(t, no, "%s: there is no battery", c.name)
		require.Equal(t, c.may, no.Reason != protocol.ReasonRiderNotActive, c.name)
		v, err := b.store.Rider(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, c.may, !v.Inactive, c.name)
		require.Equal(t, c.from, v.MemberFrom)
		require.Equal(t, c.to, v.MemberTo)
		code := b.code(n)
		rider, err := b.bind(binding.Proof{Phone: n, Code: code})
		require.NoError(t, err, c.name)
		require.Equal(t, id, rider)
	}
}

// TestAddRider: a phone and a membership number are one rider's.
func TestAddRider(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	for what, r := range map[string]postgres.NewRider{
		"this phone":             {Name: "Li", Phone: zhang},
		"this membership number": {Name: "Li", MembershipNo: "HZ-1"},
		string(b.rider):          {Name: "Li", RiderID: b.rider},
	} {
		_, err := b.store.AddRider(t.Context(), r)
		require.ErrorIs(t, err, staff.ErrExists)
		require.ErrorContains(t, err, what)
		require.NotContains(t, err.Error(), string(zhang))
	}
	bare, err := postgres.Open(t.Context(), b.url, postgres.Options{})
	require.NoError(t, err)
	defer bare.Close()
	_, err = bare.AddRider(t.Context(), postgres.NewRider{Name: "Li", Phone: stranger})
	require.ErrorContains(t, err, "phone numbers are kept closed")
}

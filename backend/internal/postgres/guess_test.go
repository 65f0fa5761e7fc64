package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
)

// handed is a code that staff hand out to the deck's rider.
func (b *binders) handed() string {
	b.t.Helper()
	code, _, err := b.store.NewBindingCode(staff.As(b.t.Context(), staff.Actor{Login: "wang"}), b.rider)
	require.NoError(b.t, err)
	return code
}

// TestT13GuessingFromEverywhere: of wrong codes of all phones together, at all
// replicas, so many are checked in an hour; then no code of a phone works and none is
// sent, and one that staff handed out does. Phones of nobody do not count.
func TestT13GuessingFromEverywhere(t *testing.T) {
	t.Parallel()
	const bound, riders = 12, 24
	b := newBinders(t)
	few := func(o *postgres.Options) { o.WrongPerHour = bound }
	replicas := []*postgres.Store{b.openWith(few), b.openWith(few)}
	codes := map[phone.Number]string{}
	for i := range riders {
		n := phone.Number(fmt.Sprintf("154%08d", 1000+i))
		b.add(n, fmt.Sprintf("HZ-%d", 1000+i), "", "")
		codes[n] = b.code(n)
	}
	require.NoError(t, b.store.SendCode(t.Context(), stranger, "10.1.1.1", "zh"))
	for i := range 2 * bound {
		_, err := replicas[i%2].Bind(t.Context(), binding.Proof{Phone: stranger, Code: "123456", Address: fmt.Sprintf("10.1.0.%d", i)}, deviceOf(fmt.Sprint("s", i)))
		require.ErrorIs(t, err, binding.ErrWrong, "it was nobody's")
	}
	var checked, stopped atomic.Int64
	at(2*riders, func(i int) {
		n := phone.Number(fmt.Sprintf("154%08d", 1000+i%riders))
		_, err := replicas[i%2].Bind(context.Background(), binding.Proof{Phone: n, Code: other(codes[n]), Address: fmt.Sprintf("10.2.0.%d", i)}, deviceOf(fmt.Sprint("g", i)))
		var many *binding.TooMany
		switch {
		case errors.Is(err, binding.ErrWrong):
			checked.Add(1)
		case errors.As(err, &many) && many.Bound == binding.OfGuessing:
			stopped.Add(1)
		default:
			t.Errorf("%v", err)
		}
	})
	require.Equal(t, int64(bound), checked.Load())
	require.Equal(t, int64(2*riders-bound), stopped.Load())

	last := phone.Number(fmt.Sprintf("154%08d", 1000+riders-1))
	_, err := replicas[0].Bind(t.Context(), binding.Proof{Phone: last, Code: codes[last], Address: "192.0.2.1"}, deviceOf("right"))
	require.InDelta(t, time.Hour.Seconds(), tooMany(t, err).Wait.Seconds(), 60)
	many := tooMany(t, replicas[0].SendCode(t.Context(), zhang, "192.0.2.1", "zh"))
	require.Equal(t, binding.OfGuessing, many.Bound)
	require.InDelta(t, time.Hour.Seconds(), many.Wait.Seconds(), 60)
	require.Equal(t, binding.OfGuessing, tooMany(t, replicas[0].SendCode(t.Context(), stranger, "192.0.2.2", "zh")).Bound, "nobody's is told the same")
	rider, err := replicas[1].Bind(t.Context(), binding.Proof{Phone: zhang, Code: b.handed(), Address: "192.0.2.1"}, deviceOf("handed"))
	require.NoError(t, err, "the way out")
	require.Equal(t, b.rider, rider)

	b.later(time.Hour)
	require.NoError(t, replicas[0].SendCode(t.Context(), zhang, "192.0.2.1", "zh"))
	_, err = replicas[0].Bind(t.Context(), binding.Proof{Phone: zhang, Code: b.message().Code, Address: "192.0.2.1"}, deviceOf("later"))
	require.NoError(t, err)
}

// TestT13AStaffCodeIsTheWayOut of who has the codes of a day used up by others, and
// it stays that while they go on with it, from one address and from a few.
func TestT13AStaffCodeIsTheWayOut(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	for range binding.CodesPerDay {
		require.NoError(t, b.store.SendCode(t.Context(), zhang, "10.0.0.66", "zh"))
		b.message()
		b.later(20 * time.Minute)
	}
	require.Equal(t, binding.OfAsking, tooMany(t, b.store.SendCode(t.Context(), zhang, "192.0.2.1", "zh")).Bound)
	for range binding.WrongPerAddress { // on the rider's own network
		_, err := b.bind(binding.Proof{Phone: zhang, Code: "123456", Address: "192.0.2.1"})
		require.ErrorIs(t, err, binding.ErrWrong)
	}
	_, err := b.bind(binding.Proof{Phone: zhang, Code: "123456", Address: "192.0.2.1"})
	require.Equal(t, binding.OfTrying, tooMany(t, err).Bound)
	code := b.handed()
	for i := range 10 * binding.Tries {
		_, err := b.bind(binding.Proof{Phone: zhang, MembershipNo: "HZ-1", Code: other(code), Address: fmt.Sprintf("10.0.0.%d", i/(4*binding.Tries))})
		require.ErrorIs(t, err, binding.ErrWrong)
	}
	var tries int
	require.NoError(t, b.direct().QueryRow(t.Context(), `SELECT tries FROM binding_code`).Scan(&tries))
	require.Equal(t, 3*binding.Tries, tries, "so many of each address are checked")
	_, err = b.bind(binding.Proof{Phone: zhang, Code: code, Address: "10.0.0.0"})
	require.ErrorIs(t, err, binding.ErrWrong, "not even the right one of theirs")
	rider, err := b.bind(binding.Proof{Phone: zhang, Code: code, Address: "192.0.2.1"})
	require.NoError(t, err)
	require.Equal(t, b.rider, rider)
}

// TestT13GuessingAStaffCode: from however many addresses, it is checked as often as
// makes it no worse than a phone's; and one address has an end whatever it tries.
func TestT13GuessingAStaffCode(t *testing.T) {
	t.Parallel()
	b := newBinders(t)
	code := b.handed()
	require.NoError(t, b.exec(`UPDATE binding_code SET tries = $1`, binding.StaffTries-1))
	_, err := b.bind(binding.Proof{Phone: zhang, Code: other(code), Address: "10.0.0.1"})
	require.ErrorIs(t, err, binding.ErrWrong)
	_, err = b.bind(binding.Proof{Phone: zhang, Code: code, Address: "10.0.0.2"})
	require.ErrorIs(t, err, binding.ErrWrong, "it was tried too often")
	d, err := b.store.RiderDetail(t.Context(), b.rider)
	require.NoError(t, err)
	require.Nil(t, d.CodeUntil, "staff see that it is of no use any more")
	for range binding.WrongPerAddress {
		_, err = b.bind(binding.Proof{Phone: stranger, Code: "12345678", Address: "10.0.0.3"})
		require.ErrorIs(t, err, binding.ErrWrong)
	}
	_, err = b.bind(binding.Proof{Phone: stranger, Code: "12345678", Address: "10.0.0.3"})
	require.Equal(t, binding.OfTrying, tooMany(t, err).Bound)
}

// TestANumberThatCouldBeEither: a membership number that looks like a phone finds its
// member, also when it is another member's phone; the code says who of them it is.
func TestANumberThatCouldBeEither(t *testing.T) {
	t.Parallel()
	b := newBinders(t) // whose phone is
	looks := b.add("15400000009", string(zhang), "", "")
	ctx := staff.As(t.Context(), staff.Actor{Login: "wang"})
	either := func(code string) binding.Proof {
		return binding.Proof{Phone: zhang, MembershipNo: string(zhang), Code: code}
	}
	code, _, err := b.store.NewBindingCode(ctx, looks)
	require.NoError(t, err)
	rider, err := b.bind(either(code))
	require.NoError(t, err)
	require.Equal(t, looks, rider)
	code, _, err = b.store.NewBindingCode(ctx, looks)
	require.NoError(t, err)
	own := b.handed()
	rider, err = b.bind(either(own))
	require.NoError(t, err)
	require.Equal(t, b.rider, rider)
	rider, err = b.bind(either(code))
	require.NoError(t, err, "the other's still works")
	require.Equal(t, looks, rider)
	rider, err = b.bind(either(b.code(zhang)))
	require.NoError(t, err)
	require.Equal(t, b.rider, rider, "a code that was sent is of who has the phone")
	_, err = b.bind(either("00000000"))
	require.ErrorIs(t, err, binding.ErrWrong)
}

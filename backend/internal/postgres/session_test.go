package postgres_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
)

func deviceOf(token string) binding.Session {
	return binding.Session{TokenHash: staff.HashToken(token), Browser: binding.Browser{App: "wechat", System: "Android"}}
}

// TestRiderSessions: a token speaks for its rider until it is ended or over, and
// ending one leaves the others alone.
func TestRiderSessions(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	ctx := t.Context()
	here, there, old := staff.HashToken("here"), staff.HashToken("there"), staff.HashToken("old")
	for _, token := range []string{"here", "there", "old"} {
		require.NoError(t, d.store.CreateSession(ctx, alice, deviceOf(token)))
	}
	require.NoError(t, d.exec(`UPDATE session SET expires_at = now() - interval '1 second' WHERE token_hash = $1`, old))
	require.ErrorIs(t, d.store.CreateSession(ctx, "nobody", deviceOf("x")), postgres.ErrNotFound)
	require.ErrorIs(t, d.store.CreateSession(ctx, "00000000-0000-4000-8000-0000000000ff", deviceOf("x")), postgres.ErrNotFound)
	id, err := d.store.SessionRider(ctx, here)
	require.NoError(t, err)
	require.Equal(t, alice, id)
	_, err = d.store.SessionRider(ctx, old)
	require.ErrorIs(t, err, postgres.ErrNotFound, "it has expired")
	require.NoError(t, d.store.EndRiderSession(ctx, here))
	require.NoError(t, d.store.EndRiderSession(ctx, here), "twice is no error")
	_, err = d.store.SessionRider(ctx, here)
	require.ErrorIs(t, err, postgres.ErrNotFound)
	id, err = d.store.SessionRider(ctx, there)
	require.NoError(t, err)
	require.Equal(t, alice, id)
	require.NoError(t, d.exec(`UPDATE rider SET forgotten_at = now() WHERE rider_id = $1`, string(alice)))
	_, err = d.store.SessionRider(ctx, there)
	require.ErrorIs(t, err, postgres.ErrNotFound, "the person is gone")
	require.ErrorIs(t, d.store.CreateSession(ctx, alice, deviceOf("x")), postgres.ErrNotFound)
}

// TestDevices: a rider sees and ends the own ones, and nobody else's; staff end all.
func TestDevices(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	ctx := t.Context()
	for _, token := range []string{"one", "two", "three"} {
		require.NoError(t, d.store.CreateSession(ctx, alice, deviceOf(token)))
	}
	require.NoError(t, d.store.CreateSession(ctx, bob, deviceOf("bob")))
	seen := func(rider swap.RiderID, token string) []binding.Device {
		all, err := d.store.Devices(ctx, rider, staff.HashToken(token))
		require.NoError(t, err)
		return all
	}
	all := seen(alice, "two")
	require.Len(t, all, 3)
	require.True(t, all[0].Here)
	require.False(t, all[1].Here)
	require.Equal(t, binding.Browser{App: "wechat", System: "Android"}, all[0].Browser)
	require.ErrorIs(t, d.store.EndDevice(ctx, bob, all[1].ID), postgres.ErrNotFound, "it is Alice's")
	require.NoError(t, d.store.EndDevice(ctx, alice, all[1].ID))
	require.ErrorIs(t, d.store.EndDevice(ctx, alice, all[1].ID), postgres.ErrNotFound)
	require.NoError(t, d.store.EndOtherDevices(ctx, alice, staff.HashToken("two")))
	require.Len(t, seen(alice, "two"), 1)
	require.Len(t, seen(bob, "bob"), 1)

	// It is seen when it is used; not each time.
	require.NoError(t, d.exec(`UPDATE session SET seen_at = now() - interval '1 day', created_at = now() - interval '2 days'`))
	_, err := d.store.SessionRider(ctx, staff.HashToken("two"))
	require.NoError(t, err)
	require.Greater(t, seen(alice, "two")[0].LastSeen.Sub(seen(alice, "two")[0].FirstSeen).Hours(), 47.0)

	// There is a bound: the one that was used longest ago makes room.
	for i := range binding.MaxDevices {
		require.NoError(t, d.store.CreateSession(ctx, alice, deviceOf(fmt.Sprint(i))))
	}
	require.Len(t, seen(alice, "0"), binding.MaxDevices)
	_, err = d.store.SessionRider(ctx, staff.HashToken("two"))
	require.ErrorIs(t, err, postgres.ErrNotFound)

	require.NoError(t, d.store.EndDevices(ctx, alice))
	require.Empty(t, seen(alice, "0"))
	require.Len(t, seen(bob, "bob"), 1)
	require.ErrorIs(t, d.store.EndDevices(ctx, "00000000-0000-4000-8000-0000000000ff"), postgres.ErrNotFound)
	lines, err := d.store.AuditLines(ctx, string(alice), 0, 10)
	require.NoError(t, err)
	require.Equal(t, "rider.end_devices", lines[0].Act)
}

// TestATokenIsOnePersons: whoever has a token never speaks for the next who would be
// given the same.
func TestATokenIsOnePersons(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	require.NoError(t, d.store.CreateSession(t.Context(), alice, deviceOf("token")))
	require.NoError(t, d.store.CreateSession(t.Context(), alice, deviceOf("token")), "the same again")
	require.ErrorIs(t, d.store.CreateSession(t.Context(), bob, deviceOf("token")), binding.ErrWrong)
	got, err := d.store.SessionRider(t.Context(), deviceOf("token").TokenHash)
	require.NoError(t, err)
	require.Equal(t, alice, got)
}

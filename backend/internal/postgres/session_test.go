package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
)

// TestRiderSessions: a token speaks for its rider until it is ended or over, and
// ending one leaves the rider's other phone alone.
func TestRiderSessions(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	ctx := t.Context()
	here, there, old := []byte("here"), []byte("there"), []byte("old")
	require.NoError(t, d.store.CreateSession(ctx, alice, here, time.Now().Add(time.Hour)))
	require.NoError(t, d.store.CreateSession(ctx, alice, there, time.Now().Add(time.Hour)))
	require.NoError(t, d.store.CreateSession(ctx, alice, old, time.Now().Add(-time.Second)))
	for _, token := range [][]byte{here, there} {
		who, err := d.store.SessionRider(ctx, token)
		require.NoError(t, err)
		require.Equal(t, alice, who)
	}
	_, err := d.store.SessionRider(ctx, old)
	require.ErrorIs(t, err, postgres.ErrNotFound)
	require.NoError(t, d.store.EndRiderSession(ctx, here))
	require.NoError(t, d.store.EndRiderSession(ctx, here), "twice")
	_, err = d.store.SessionRider(ctx, here)
	require.ErrorIs(t, err, postgres.ErrNotFound)
	_, err = d.store.SessionRider(ctx, there)
	require.NoError(t, err)
}

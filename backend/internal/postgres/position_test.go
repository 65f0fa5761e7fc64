package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
)

// TestLedgerPosition: an entry that has its position and is not committed holds
// the answer up, so that nothing appears below it later.
func TestLedgerPosition(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	d.battery("FIRST", swap.Place{RiderID: alice})
	before, err := d.store.LedgerPosition(t.Context())
	require.NoError(t, err)
	require.Equal(t, query[int64](d, `SELECT max(position) FROM ledger`), before)

	slow, err := pgx.Connect(t.Context(), d.url)
	require.NoError(t, err)
	defer func() { _ = slow.Close(context.Background()) }()
	_, err = slow.Exec(t.Context(), `BEGIN; SELECT pg_advisory_xact_lock_shared(`+
		`x'4c454447'::int); INSERT INTO ledger (swap_id, entry_no, what, battery_serial, holder, at, time_quality)
		VALUES ('019a0000-0000-7000-8000-00000000dead', 1, 'assigned', 'FIRST', 'staff', now(), 'receipt')`)
	require.NoError(t, err)
	d.battery("SECOND", swap.Place{RiderID: bob}) // committed above it
	type answer struct {
		at  int64
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		at, err := d.store.LedgerPosition(context.Background())
		answers <- answer{at, err}
	}()
	require.Eventually(t, func() bool {
		return query[int64](d, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`) > 0
	}, patience, time.Millisecond)
	_, err = slow.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
	a := <-answers
	require.NoError(t, a.err)
	require.Equal(t, query[int64](d, `SELECT max(position) FROM ledger`), a.at)
	require.Equal(t, 0x4c454447, postgres.LedgerLock)

	_, err = slow.Exec(t.Context(), `BEGIN; SELECT pg_advisory_xact_lock(x'4c454447'::int)`)
	require.NoError(t, err)
	appended := make(chan error, 1)
	go func() {
		appended <- d.store.AssignBattery(context.Background(), "SECOND", swap.Place{})
	}()
	require.Eventually(t, func() bool {
		return query[int64](d, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`) > 0
	}, patience, time.Millisecond, "the Store itself appends without the lock")
	_, err = slow.Exec(t.Context(), `COMMIT`)
	require.NoError(t, err)
	require.NoError(t, <-appended)
}

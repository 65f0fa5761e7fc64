package postgres_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
)

// tooSoon is when the next audit can be asked for, by a refusal.
func tooSoon(t *testing.T, err error) time.Time {
	t.Helper()
	refusal(t, err, staff.TooSoon)
	var r *staff.Refusal
	require.ErrorAs(t, err, &r)
	return r.Next
}

func never(time.Time) time.Time { return time.Time{} }

// TestAuditsOnDemandHaveARest: one that is wanted, runs or began lately is enough, and
// who asks for another is told when to.
func TestAuditsOnDemandHaveARest(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	ctx := d.as("wang")
	_, did, err := d.store.AuditIfDue(ctx, never)
	require.NoError(t, err)
	require.True(t, did, "the first, without being asked")
	next := tooSoon(t, d.store.AskAudit(ctx))
	require.Equal(t, query[time.Time](d, `SELECT began_at FROM audit_run`).Add(postgres.AuditRest).UTC(), next.UTC())
	_, did, err = d.store.AuditIfDue(ctx, never)
	require.NoError(t, err)
	require.False(t, did)

	require.NoError(t, d.exec(`UPDATE audit_run SET began_at = began_at - interval '601 s'`))
	var asked, refused atomic.Int64
	at(8, func(int) {
		var r *staff.Refusal
		switch err := d.store.AskAudit(ctx); {
		case err == nil:
			asked.Add(1)
		case errors.As(err, &r) && r.Code == staff.TooSoon:
			refused.Add(1)
		}
	})
	require.Equal(t, []int64{1, 7}, []int64{asked.Load(), refused.Load()}, "one is wanted")
	require.Equal(t, int64(1), query[int64](d, `SELECT count(*) FROM audit_log WHERE body::jsonb ->> 'act' = 'audit.ask'`))
	require.NoError(t, d.exec(`UPDATE fleet SET audit_wanted_at = now() - interval '1 day'`))
	require.True(t, tooSoon(t, d.store.AskAudit(ctx)).After(query[time.Time](d, `SELECT now()`)), "it waits for a replica")

	require.NoError(t, d.exec(`UPDATE fleet SET audit_wanted_at = NULL`))
	require.NoError(t, d.exec(`SELECT pg_advisory_lock($1)`, int64(postgres.AuditLock)))
	next = tooSoon(t, d.store.AskAudit(ctx))
	require.WithinDuration(t, time.Now().Add(postgres.AuditRest), next, time.Minute, "one runs")
	require.NoError(t, d.exec(`SELECT pg_advisory_unlock($1)`, int64(postgres.AuditLock)))
	require.NoError(t, d.store.AskAudit(ctx))
}

// TestAnAuditIsNeitherLostNorRepeated: whatever the clocks of replicas say, and those
// of before them: who asked gets one, and one only.
func TestAnAuditIsNeitherLostNorRepeated(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	ctx := d.as("wang")
	stores := []*postgres.Store{d.store, d.open()}
	audits := func(last func(time.Time) time.Time) int64 {
		var n atomic.Int64
		for range 3 {
			at(4, func(i int) {
				_, did, err := stores[i%2].AuditIfDue(context.Background(), last)
				if err != nil {
					t.Error(err)
				}
				if did {
					n.Add(1)
				}
			})
		}
		return n.Load()
	}
	for _, off := range []string{"-1 day", "1 day"} {
		// A replica whose clock was off left this behind; the database's was put right.
		require.NoError(t, d.exec(`INSERT INTO audit_run (began_at, took_ms, entries, records, differences, swaps) VALUES (now() + $1::interval, 1, 0, 0, 0, 0)`, off))
		require.NoError(t, d.exec(`UPDATE audit_run SET began_at = began_at - interval '1 h' WHERE began_at BETWEEN now() - interval '12 h' AND now()`))
		require.NoError(t, d.store.AskAudit(ctx))
		require.NoError(t, d.exec(`UPDATE fleet SET audit_wanted_at = audit_wanted_at + $1::interval`, off))
		require.Equal(t, int64(1), audits(never), off)
		seen, err := d.store.Audited(ctx)
		require.NoError(t, err)
		require.True(t, seen.WantedAt.IsZero())
		require.WithinDuration(t, query[time.Time](d, `SELECT now()`), seen.BeganAt, time.Minute)
	}
	// A night's audit is due by the database's clock.
	due := query[time.Time](d, `SELECT clock_timestamp()`)
	require.Equal(t, int64(1), audits(func(now time.Time) time.Time {
		if now.Before(due) {
			t.Errorf("it is %s, and was told to be %s", due, now)
		}
		return due
	}))

	// Who asks while an audit runs, after it has begun to look, gets another one.
	rep, err := d.store.Audit(ctx)
	require.NoError(t, err)
	require.NoError(t, d.exec(`UPDATE audit_run SET began_at = began_at - interval '1 h' WHERE began_at <= now()`))
	require.NoError(t, d.store.AskAudit(ctx))
	require.NoError(t, d.store.StoreAudit(ctx, rep))
	require.Equal(t, int64(1), audits(never))
}

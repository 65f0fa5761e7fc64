package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/statistics"
	"batteryswap/protocol"
)

// MonthReport is what a month's report says beside its figures: scans and safety
// events of the month, and the swaps that were asked for in it.
func (s *Store) MonthReport(ctx context.Context, month statistics.Day) (statistics.Month, error) {
	var out statistics.Month
	from, to := month.Month().Begins(), month.NextMonth().Begins()
	args := pgx.NamedArgs{"from": from, "to": to, "first": firstID(from), "last": firstID(to)}
	late := map[string]int{} // granted, or asked for, and not begun for the fleet's sake
	refused := map[string]int{}
	tally := func(to *[]statistics.Tally) func(string, int) {
		return func(name string, n int) { *to = append(*to, statistics.Tally{Name: name, N: n}) }
	}
	queries := []struct {
		sql  string
		each func(string, int)
	}{
		{`SELECT coalesce(reason, ''), count(*)::int FROM scan WHERE at >= @from AND at < @to GROUP BY 1`, func(reason string, n int) {
			out.Scans += n
			switch {
			case reason == "":
				out.Served += n
			case statistics.OfTheFleet(protocol.Reason(reason)):
				refused[reason] += n
			default:
				out.NotTheFleet += n
			}
		}},
		{`SELECT coalesce(reason, ''), count(*)::int FROM swap WHERE swap_id >= @first::uuid AND swap_id < @last::uuid AND NOT by_fact AND outcome = 'not_started' GROUP BY 1`,
			func(reason string, n int) { late[reason] += n }},
		{`SELECT outcome, count(*)::int FROM swap WHERE swap_id >= @first::uuid AND swap_id < @last::uuid AND outcome IS NOT NULL
			AND outcome NOT IN ('swapped', 'owed_taken') GROUP BY 1 ORDER BY 2 DESC, 1`, tally(&out.Ends)},
		{`SELECT kind, count(*)::int FROM safety_event WHERE received_at >= @from AND received_at < @to AND NOT cleared GROUP BY 1 ORDER BY 2 DESC, 1`, tally(&out.Alarms)},
		{`SELECT '', count(*)::int FROM review WHERE opened_at >= @from AND opened_at < @to`, func(_ string, n int) { out.Reviews = n }},
	}
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL plan_cache_mode = force_custom_plan`); err != nil {
			return err
		}
		for _, q := range queries {
			var name string
			var n int
			rows, err := tx.Query(ctx, q.sql, args)
			if err != nil {
				return err
			}
			if _, err := pgx.ForEachRow(rows, []any{&name, &n}, func() error { q.each(name, n); return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return out, fmt.Errorf("month: %w", err)
	}
	for reason, n := range late { // a scan that was taken, and a cabinet that could not
		n = min(n, out.Served)
		out.Served -= n
		if statistics.OfTheFleet(protocol.Reason(reason)) {
			refused[reason] += n
		} else {
			out.NotTheFleet += n
		}
	}
	out.Refused = statistics.Tallies(refused)
	return out, nil
}

// firstID is the least identifier that a swap of that moment can have: they begin
// with the time.
func firstID(at time.Time) string {
	var id uuid.UUID
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id.String()
}

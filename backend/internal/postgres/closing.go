package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
)

// closing is a month, and where the ledger was when it was closed.
type closing struct {
	month statistics.Day
	at    int64
}

// CloseMonths closes each month that has takes and is due.
func (s *Store) CloseMonths(ctx context.Context) error {
	first, ok, err := s.FirstDay(ctx)
	if err != nil || !ok {
		return err
	}
	now, err := s.now(ctx)
	if err != nil {
		return err
	}
	r := statistics.Range{From: first, To: statistics.DayOf(now)}.Closed(now)
	if r.To < first { // the first month is not due yet
		return nil
	}
	_, err = s.closings(ctx, r, now)
	return err
}

// now is the database's clock, which all replicas share.
func (s *Store) now(ctx context.Context) (now time.Time, err error) {
	if err = s.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return now, fmt.Errorf("clock of the database: %w", err)
	}
	return now, nil
}

// asksForClosed reports whether a question is told of closed months only: it is
// about what riders are, and whoever asks may not ask for single riders.
func asksForClosed(ctx context.Context, q statistics.Question) bool {
	return q.By.ByPeople() && !staff.Who(ctx).Has(staff.Personal)
}

// closingsOf are the closings that a question needs.
func (s *Store) closingsOf(ctx context.Context, q statistics.Question) ([]closing, error) {
	if !asksForClosed(ctx, q) {
		return nil, nil
	}
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.closings(ctx, q.Range, now)
	if err != nil || q.AsOf == 0 {
		return all, err
	}
	var out []closing
	for _, c := range all {
		before, between, err := s.takesOf(ctx, c, q.AsOf)
		switch {
		case err != nil:
			return nil, err
		case before && between:
			return nil, staff.Mistakef("as_of: %d, want %d or later, where %.7s was closed", q.AsOf, c.at, c.month)
		case before: // else the month had no take then
			out = append(out, c)
		}
	}
	return out, nil
}

// takesOf reports whether a month has takes up to the position, and whether it has
// some from there to where it was closed.
func (s *Store) takesOf(ctx context.Context, c closing, asOf int64) (before, between bool, err error) {
	if asOf >= c.at {
		return true, false, nil
	}
	err = s.pool.QueryRow(ctx, `SELECT coalesce(bool_or(first.position <= $3), false), coalesce(bool_or(next.position <= $4), false)
		FROM generate_series($1::date, $2::date, interval '1 day') d
		CROSS JOIN LATERAL (SELECT position FROM counted_take t WHERE t.day = d::date ORDER BY position LIMIT 1) first
		LEFT JOIN LATERAL (SELECT position FROM counted_take t WHERE t.day = d::date AND t.position > $3 ORDER BY position LIMIT 1) next ON true`,
		c.month.Date(), (c.month.NextMonth()-1).Date(), asOf, c.at).Scan(&before, &between)
	if err != nil {
		err = fmt.Errorf("closed months: %w", err)
	}
	return before, between, err
}

// closings are those of a range, which has to be of months that are due. What is
// not closed yet is closed now, at a position that cannot change any more. A month
// that has no take has nothing to be closed.
func (s *Store) closings(ctx context.Context, r statistics.Range, now time.Time) ([]closing, error) {
	if !r.Whole() || now.Before(r.To.Closes()) {
		c := r.Closed(now)
		return nil, staff.Mistakef("from, to: %s to %s, by union and by platform want whole months that ended three days ago or earlier, such as %s to %s",
			r.From, r.To, c.From, c.To)
	}
	out, err := s.closed(ctx, r)
	if err != nil {
		return nil, err
	}
	open := slices.DeleteFunc(r.Months(), func(m statistics.Day) bool {
		return slices.ContainsFunc(out, func(c closing) bool { return c.month == m })
	})
	if len(open) == 0 {
		return out, nil
	}
	at, err := s.LedgerPosition(ctx)
	if err != nil {
		return nil, err
	}
	// Another replica may be first: then its position holds.
	if _, err := s.pool.Exec(ctx, `INSERT INTO month_closing (month, position) SELECT m, $2 FROM unnest($1::date[]) m
		WHERE EXISTS (SELECT FROM rider_count WHERE whole AND since = m) ON CONFLICT DO NOTHING`, asDates(open), at); err != nil {
		return nil, fmt.Errorf("close the month: %w", err)
	}
	return s.closed(ctx, r)
}

// closed are the closings that there are.
func (s *Store) closed(ctx context.Context, r statistics.Range) ([]closing, error) {
	rows, err := s.pool.Query(ctx, `SELECT month, position FROM month_closing WHERE month BETWEEN $1 AND $2 ORDER BY month`, r.From.Date(), r.To.Date())
	if err != nil {
		return nil, fmt.Errorf("closed months: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c closing, err error) {
		var month time.Time
		err = r.Scan(&month, &c.at)
		c.month = dayOf(month)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("closed months: %w", err)
	}
	return out, nil
}

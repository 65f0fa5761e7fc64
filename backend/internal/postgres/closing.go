package postgres

import (
	"context"
	"fmt"
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

// closingsOf are those that a question needs: breakdowns by what riders are, for
// whoever may not ask for single riders.
func (s *Store) closingsOf(ctx context.Context, q statistics.Question) ([]closing, error) {
	if !q.By.ByPeople() || staff.Who(ctx).Has(staff.Personal) {
		return nil, nil
	}
	now, err := s.now(ctx)
	if err != nil {
		return nil, err
	}
	out, err := s.closings(ctx, q.Range, now)
	for _, c := range out {
		if 0 < q.AsOf && q.AsOf < c.at {
			return nil, staff.Mistakef("as_of: %d, want %d or later, where %.7s was closed", q.AsOf, c.at, c.month)
		}
	}
	return out, err
}

// closings are those of a range, which has to be of months that are due. What is
// not closed yet is closed now, at a position that cannot change any more.
func (s *Store) closings(ctx context.Context, r statistics.Range, now time.Time) ([]closing, error) {
	if !r.Whole() || now.Before(r.To.Closes()) {
		c := r.Closed(now)
		return nil, staff.Mistakef("from, to: %s to %s, by union and by platform want whole months that ended three days ago or earlier, such as %s to %s",
			r.From, r.To, c.From, c.To)
	}
	out, err := s.closed(ctx, r)
	if err != nil || len(out) == len(r.Months()) {
		return out, err
	}
	at, err := s.LedgerPosition(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.pool.Exec(ctx, `INSERT INTO month_closing (month, position) SELECT m, $2 FROM unnest($1::date[]) m ON CONFLICT DO NOTHING`, asDates(r.Months()), at); err != nil {
		return nil, fmt.Errorf("close the month: %w", err)
	}
	return s.closed(ctx, r) // another replica may have been first
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

package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
)

const maxPublishedName = 80

// Publish gives a figure a name: it is found again for ever as it was.
func (s *Store) Publish(ctx context.Context, name string, q statistics.Question) error {
	name = strings.TrimSpace(name)
	if n := len([]rune(name)); n < 1 || n > maxPublishedName || clean(name) != name {
		return staff.Mistakef("name: %d characters, want 1 to %d", n, maxPublishedName)
	}
	if q.Street != "" {
		return staff.Mistakef("street: %.40q, want none: figures of the whole fleet are published", q.Street)
	}
	q.By = statistics.Total
	f, err := s.Figure(ctx, q)
	if err != nil {
		return err
	}
	return s.acting(ctx, "publish", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO published_figure (name, first_day, last_day, as_of, swaps, published_by) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT DO NOTHING`, name, f.From.Date(), f.To.Date(), f.AsOf, f.Swaps, staff.Who(ctx).Login)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("%s: %w", name, staff.ErrExists)
		}
		return audit(ctx, tx, "figure.publish", name, map[string]any{"from": f.From, "to": f.To, "as_of": f.AsOf, "swaps": f.Swaps})
	})
}

// PublishedFigures are the last that were published, the newest first.
func (s *Store) PublishedFigures(ctx context.Context) ([]statistics.Published, error) {
	rows, err := s.pool.Query(ctx, `SELECT name, first_day, last_day, as_of, swaps, published_by, published_at FROM published_figure
		ORDER BY published_at DESC, name LIMIT 100`)
	if err != nil {
		return nil, fmt.Errorf("published figures: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (p statistics.Published, err error) {
		var from, to time.Time
		err = r.Scan(&p.Name, &from, &to, &p.AsOf, &p.Swaps, &p.By, &p.At)
		p.From, p.To = dayOf(from), dayOf(to)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("published figures: %w", err)
	}
	return out, nil
}

// FirstDay is the first day that has a swap; false: there is none yet.
func (s *Store) FirstDay(ctx context.Context) (statistics.Day, bool, error) {
	var day *time.Time
	if err := s.pool.QueryRow(ctx, `SELECT min(day) FROM hour_count`).Scan(&day); err != nil {
		return 0, false, fmt.Errorf("first day: %w", err)
	}
	if day == nil {
		return 0, false, nil
	}
	return dayOf(*day), true, nil
}

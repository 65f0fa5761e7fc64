package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// missedAtOnce bounds the takes that are counted while nobody else may book.
const missedAtOnce = 1000

const sqlMissed = `SELECT swap_id::text, entry_no FROM ledger l
	WHERE counted AND NOT EXISTS (SELECT FROM counted_take t WHERE t.day = l.day AND t.position = l.position) ORDER BY position LIMIT $1`

// CountMissed counts the takes that are in the ledger and in no figure: a replica
// of a version from before there were figures has booked them, while versions were
// changed. They belong to the street, union and platform of now. It says how many
// there were; the log of acts does, too.
func (s *Store) CountMissed(ctx context.Context) (int, error) {
	all := 0
	for {
		var n int
		swaps, _, err := missed(ctx, s.pool)
		if err == nil && len(swaps) > 0 {
			err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
				n, err = s.countMissed(ctx, tx)
				return err
			})
		}
		if err != nil {
			return all, fmt.Errorf("count what was missed: %w", err)
		}
		if all += n; n < missedAtOnce {
			return all, nil
		}
	}
}

// missed finds some.
func missed(ctx context.Context, q interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}) (swaps []string, numbers []int, err error) {
	rows, err := q.Query(ctx, sqlMissed, missedAtOnce)
	if err != nil {
		return nil, nil, err
	}
	var swap string
	var number int
	_, err = pgx.ForEachRow(rows, []any{&swap, &number}, func() error {
		swaps, numbers = append(swaps, swap), append(numbers, number)
		return nil
	})
	return swaps, numbers, err
}

// countMissed counts some, while nobody books.
func (s *Store) countMissed(ctx context.Context, tx pgx.Tx) (int, error) {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(LedgerLock)); err != nil {
		return 0, err
	}
	swaps, numbers, err := missed(ctx, tx)
	if err != nil || len(swaps) == 0 {
		return 0, err
	}
	if _, err := tx.Exec(ctx, sqlCount, swaps, numbers, s.lane); err != nil {
		return 0, err
	}
	return len(swaps), audit(ctx, tx, "figures.missed", "ledger", map[string]any{"takes": len(swaps)})
}

package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// missedAtOnce bounds the takes that are counted while nobody else may book.
const missedAtOnce = 2000

// missedTakes are entries of the ledger, by swap and number.
type missedTakes struct {
	swaps   []string
	numbers []int
}

// onlyMissed reports whether all that an audit found is takes that are in the
// ledger and in no figure: nothing else differs, so the riders' own counts and the
// cabinets' words bear them out.
func onlyMissed(found []Difference) bool {
	for _, d := range found {
		if d.What != "counted_take" || d.Books != nothing {
			return false
		}
	}
	return len(found) > 0
}

// CountMissed counts the takes that are in the ledger and in no figure: a replica
// of a version from before there were figures has booked them, while versions were
// changed. They belong to the street, union and platform of now; totals as of
// earlier positions, which lacked them, gain them. It says how many there were; the
// log of acts does, too.
func (s *Store) CountMissed(ctx context.Context) (int, error) {
	all := 0
	for {
		some, err := s.missed(ctx)
		n := 0
		if err == nil && len(some.swaps) > 0 {
			n, err = s.countMissed(ctx, some)
		}
		if err != nil {
			return all, fmt.Errorf("count what was missed: %w", err)
		}
		if all += n; n == 0 || len(some.swaps) < missedAtOnce {
			return all, nil
		}
	}
}

// missed finds some, by a look at the whole ledger that nobody waits for.
func (s *Store) missed(ctx context.Context) (some missedTakes, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL plan_cache_mode = auto`); err != nil {
			return err
		}
		some, err = readMissed(ctx, tx, `SELECT swap_id::text, entry_no FROM ledger l
			WHERE counted AND NOT EXISTS (SELECT FROM counted_take t WHERE t.position = l.position) LIMIT $1`, missedAtOnce)
		return err
	})
	return some, err
}

func readMissed(ctx context.Context, tx pgx.Tx, sql string, args ...any) (some missedTakes, err error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return some, err
	}
	var id string
	var no int
	_, err = pgx.ForEachRow(rows, []any{&id, &no}, func() error {
		some.swaps, some.numbers = append(some.swaps, id), append(some.numbers, no)
		return nil
	})
	return some, err
}

// countMissed counts those of some that still are missed, while nobody books.
func (s *Store) countMissed(ctx context.Context, some missedTakes) (n int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(LedgerLock)); err != nil {
			return err
		}
		still := func() (missedTakes, error) {
			return readMissed(ctx, tx, `SELECT l.swap_id::text, l.entry_no FROM unnest($1::uuid[], $2::int[]) AS w(id, no)
				JOIN ledger l ON l.swap_id = w.id AND l.entry_no = w.no
				WHERE NOT EXISTS (SELECT FROM counted_take t WHERE t.day = l.day AND t.position = l.position)`, some.swaps, some.numbers)
		}
		before, err := still()
		if err != nil || len(before.swaps) == 0 {
			return err
		}
		if _, err := tx.Exec(ctx, sqlCount, before.swaps, before.numbers, s.lane, true); err != nil {
			return err
		}
		after, err := still()
		if n = len(before.swaps) - len(after.swaps); err != nil || n == 0 {
			return err
		}
		return audit(ctx, tx, "figures.missed", "ledger", map[string]any{"takes": n})
	})
	return n, err
}

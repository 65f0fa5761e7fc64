package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// LedgerLock is the advisory lock of the ledger's positions: whoever appends has
// it shared until the COMMIT.
const LedgerLock = 0x4c45_4447 // "LEDG"

// LedgerPosition is a position up to which the ledger will never change: the
// same question up to it has the same answer for ever. Positions are given out
// before transactions commit, so the highest that can be seen is not it; this
// waits for those that append now, and lets nobody begin to append meanwhile.
func (s *Store) LedgerPosition(ctx context.Context) (int64, error) {
	var at int64
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(LedgerLock)); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT coalesce(max(position), 0) FROM ledger`).Scan(&at)
	})
	if err != nil {
		return 0, fmt.Errorf("position of the ledger: %w", err)
	}
	return at, nil
}

package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
)

// LedgerLock is the advisory lock of the ledger's positions: whoever appends has
// it shared until the COMMIT.
const LedgerLock = 0x4c45_4447 // "LEDG"

// LedgerPosition is a position up to which the ledger will never change: the
// same question up to it has the same answer for ever. Positions are given out
// before transactions commit, so the highest that can be seen is not it; this
// waits for those that append now, and lets nobody begin to append meanwhile. Then
// the last that was given out is it: the sequence knows, and no row is read.
func (s *Store) LedgerPosition(ctx context.Context) (int64, error) {
	var at int64
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(LedgerLock)); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ledger_position_seq`).Scan(&at)
	})
	if err != nil {
		return 0, fmt.Errorf("position of the ledger: %w", err)
	}
	s.settles(at)
	return at, nil
}

// settles remembers the highest position that was the ledger's.
func (s *Store) settles(at int64) {
	for {
		had := s.settled.Load()
		if at <= had || s.settled.CompareAndSwap(had, at) {
			return
		}
	}
}

// asOf is the position that a question is about: what was asked for, or the
// ledger's now. One that the ledger has not reached has no answer yet.
func (s *Store) asOf(ctx context.Context, asked int64) (int64, error) {
	if 0 < asked && asked <= s.settled.Load() {
		return asked, nil
	}
	now, err := s.LedgerPosition(ctx)
	switch {
	case err != nil:
		return 0, err
	case asked < 0 || asked > now:
		return 0, staff.Mistakef("as_of: %d, want 1 to %d, where the ledger is now", asked, now)
	case asked == 0:
		return now, nil
	}
	return asked, nil
}

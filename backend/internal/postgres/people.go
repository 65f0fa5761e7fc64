package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
)

// NewBindingCode makes the one-time code by which a rider binds a phone. An
// older one stops working.
func (s *Store) NewBindingCode(ctx context.Context, id swap.RiderID) (code string, until time.Time, err error) {
	if !isUUID(string(id)) {
		return "", until, fmt.Errorf("rider: %w", ErrNotFound)
	}
	if s.o.Vault == nil {
		return "", until, errNoVault
	}
	code = binding.NewCode(binding.StaffDigits)
	err = s.acting(ctx, "binding code", func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `INSERT INTO binding_code (rider_id, code_hash, made_by, expires_at)
			SELECT rider_id, $2, $3, now() + $4::interval FROM rider WHERE rider_id = $1 AND forgotten_at IS NULL
			ON CONFLICT (rider_id) DO UPDATE SET code_hash = $2, made_by = $3, made_at = now(), expires_at = now() + $4::interval, tries = 0, used_at = NULL, used_by = NULL
			RETURNING expires_at`, string(id), s.o.Vault.HashCode(string(id), code), staff.Who(ctx).Login, staff.CodeLife).Scan(&until)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("rider %s: %w", id, ErrNotFound)
		}
		if err != nil {
			return err
		}
		return audit(ctx, tx, "rider.code", string(id), nil)
	})
	return code, until, err
}

// Faults lists what riders reported: what waits first, then the newest.
func (s *Store) Faults(ctx context.Context) ([]staff.Fault, error) {
	rows, err := s.pool.Query(ctx, `SELECT report_id, cabinet_id, coalesce(slot, 0), coalesce(swap_id::text, ''), coalesce(rider_id::text, ''), kind, text,
		reported_at, done_at, coalesce(done_by, ''), coalesce(done_note, '') FROM fault_report ORDER BY done_at IS NOT NULL, report_id DESC LIMIT 200`)
	if err != nil {
		return nil, fmt.Errorf("list fault reports: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (f staff.Fault, err error) {
		err = r.Scan(&f.ReportID, &f.CabinetID, &f.Slot, &f.SwapID, &f.RiderID, &f.Kind, &f.Text, &f.ReportedAt, &f.DoneAt, &f.DoneBy, &f.Note)
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("list fault reports: %w", err)
	}
	return out, nil
}

// CloseFault says what was done about a report. Whoever comes second is told.
func (s *Store) CloseFault(ctx context.Context, id int64, note string) error {
	if err := staff.CheckReason(note); err != nil {
		return err
	}
	return s.acting(ctx, "close report", func(tx pgx.Tx) error {
		var by string
		err := tx.QueryRow(ctx, `SELECT coalesce(done_by, '') FROM fault_report WHERE report_id = $1 FOR UPDATE`, id).Scan(&by)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("report %d: %w", id, ErrNotFound)
		case err != nil:
			return err
		case by != "":
			return &staff.Refusal{Code: staff.AlreadyDone, Detail: by}
		}
		_, err = tx.Exec(ctx, `UPDATE fault_report SET done_at = now(), done_by = $2, done_note = $3 WHERE report_id = $1`,
			id, staff.Who(ctx).Login, clean(strings.TrimSpace(note)))
		if err != nil {
			return err
		}
		return audit(ctx, tx, "fault.done", fmt.Sprint(id), map[string]any{"note": clean(note)})
	})
}

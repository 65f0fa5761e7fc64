package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
	"batteryswap/protocol"
)

// ErrTooManyReports says that a rider has reported enough for a day.
var ErrTooManyReports = errors.New("too many reports of one rider")

const (
	// maxReports bounds what one rider reports in a day.
	maxReports = 20
	// sameReport is how long the same report again is a finger that tapped twice.
	sameReport = "10 minutes"
)

// RiderReport writes down what a rider reports, once: the same words again within
// minutes get the number of the first report.
func (s *Store) RiderReport(ctx context.Context, f staff.Fault) (int64, error) {
	if !isUUID(string(f.RiderID)) {
		return 0, fmt.Errorf("report: %w", ErrNotFound)
	}
	var id int64
	err := s.tx(ctx, func(tx pgx.Tx) error {
		// The rider's own wait for each other: a hundred at once are not all the twentieth.
		if err := lockWords(ctx, tx, "reports of "+string(f.RiderID)); err != nil {
			return err
		}
		var today int
		err := tx.QueryRow(ctx, `SELECT count(*), coalesce(max(report_id) FILTER (WHERE reported_at > now() - $2::interval AND done_at IS NULL
			AND cabinet_id = $3 AND coalesce(slot, 0) = $4 AND coalesce(swap_id::text, '') = $5 AND kind = $6 AND text = $7), 0)
			FROM fault_report WHERE rider_id = $1 AND reported_at > now() - interval '1 day'`,
			string(f.RiderID), sameReport, string(f.CabinetID), f.Slot, string(f.SwapID), f.Kind, clean(f.Text)).Scan(&today, &id)
		switch {
		case err != nil || id != 0:
			return err
		case today >= maxReports:
			return ErrTooManyReports
		}
		id, err = reportFault(ctx, tx, f)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("report a fault: %w", err)
	}
	return id, nil
}

func reportFault(ctx context.Context, tx pgx.Tx, f staff.Fault) (id int64, err error) {
	if f.CabinetID.Validate() != nil || f.SwapID != "" && f.SwapID.Validate() != nil {
		return 0, ErrNotFound
	}
	if f.Slot < 0 || f.Slot > protocol.MaxSlots {
		return 0, staff.Mistakef("slot is %d: want 0 to %d", f.Slot, protocol.MaxSlots)
	}
	err = tx.QueryRow(ctx, `INSERT INTO fault_report (cabinet_id, slot, swap_id, rider_id, kind, text)
		SELECT cabinet_id, NULLIF($2::int, 0), NULLIF($3, '')::uuid, $4::uuid, $5, $6 FROM cabinet WHERE cabinet_id = $1 RETURNING report_id`,
		string(f.CabinetID), f.Slot, string(f.SwapID), string(f.RiderID), f.Kind, clean(f.Text)).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	return id, err
}

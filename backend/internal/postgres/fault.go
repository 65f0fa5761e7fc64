package postgres

import (
	"context"
	"errors"
	"fmt"

	"batteryswap/backend/internal/staff"
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
	var today int
	var same int64
	err := s.pool.QueryRow(ctx, `SELECT count(*), coalesce(max(report_id) FILTER (WHERE reported_at > now() - $2::interval AND done_at IS NULL
			AND cabinet_id = $3 AND coalesce(slot, 0) = $4 AND coalesce(swap_id::text, '') = $5 AND kind = $6 AND text = $7), 0)
		FROM fault_report WHERE rider_id = $1 AND reported_at > now() - interval '1 day'`,
		string(f.RiderID), sameReport, string(f.CabinetID), f.Slot, string(f.SwapID), f.Kind, clean(f.Text)).Scan(&today, &same)
	switch {
	case err != nil:
		return 0, fmt.Errorf("report a fault: %w", err)
	case same != 0:
		return same, nil
	case today >= maxReports:
		return 0, ErrTooManyReports
	}
	return s.ReportFault(ctx, f)
}

package fleet

import (
	"context"
	"errors"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/web"
)

// ReportFault writes down what a rider reports.
func (b books) ReportFault(ctx context.Context, f staff.Fault) (int64, error) {
	id, err := forWeb(b.f.store.RiderReport(ctx, f))
	if errors.Is(err, postgres.ErrTooManyReports) {
		err = web.ErrTooMany
	}
	return id, err
}

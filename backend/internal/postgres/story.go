package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

const swapRowColumns = `SELECT swap_id::text, cabinet_id, coalesce(rider_id::text, ''), coalesce(kind, ''), state, coalesce(outcome, ''),
	coalesce(reason, ''), coalesce(deposited, ''), coalesce(taken, ''), requested_at, closed_at FROM swap`

func scanSwapRow(r pgx.CollectableRow) (v staff.SwapRow, err error) {
	err = r.Scan(&v.SwapID, &v.CabinetID, &v.RiderID, &v.Kind, &v.State, &v.Outcome, &v.Reason, &v.Deposited, &v.Taken, &v.RequestedAt, &v.ClosedAt)
	return v, err
}

// maxSwaps bounds a page of the list of swaps.
const maxSwaps = 100

// SwapRows lists swaps, the newest first, below a swap ("": from the newest), of
// a cabinet or of a rider ("": of any).
func (s *Store) SwapRows(ctx context.Context, cabinet protocol.CabinetID, rider swap.RiderID, below protocol.SwapID) ([]staff.SwapRow, error) {
	sql, args := swapRowColumns+` WHERE true`, []any{}
	with := func(condition string, v any) {
		args = append(args, v)
		sql += fmt.Sprintf(condition, len(args))
	}
	if cabinet != "" {
		with(` AND cabinet_id = $%d`, string(cabinet))
	}
	if rider != "" {
		if !isUUID(string(rider)) {
			return nil, nil
		}
		with(` AND rider_id = $%d`, string(rider))
	}
	if below != "" {
		if below.Validate() != nil {
			return nil, nil
		}
		with(` AND swap_id < $%d`, string(below))
	}
	with(` ORDER BY swap_id DESC LIMIT $%d`, maxSwaps)
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("list swaps: %w", err)
	}
	out, err := pgx.CollectRows(rows, scanSwapRow)
	if err != nil {
		return nil, fmt.Errorf("list swaps: %w", err)
	}
	return out, nil
}

// Story is what happened in a swap, in order, or ErrNotFound.
func (s *Store) Story(ctx context.Context, id protocol.SwapID) (staff.Story, error) {
	var st staff.Story
	if id.Validate() != nil {
		return st, fmt.Errorf("swap: %w", ErrNotFound)
	}
	rows, err := s.pool.Query(ctx, swapRowColumns+` WHERE swap_id = $1`, string(id))
	if err == nil {
		st.SwapRow, err = pgx.CollectExactlyOneRow(rows, scanSwapRow)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return st, fmt.Errorf("swap %s: %w", id, err)
	}
	asked := st.RequestedAt
	st.Events = append(st.Events, staff.Event{At: &asked, Source: "scan", What: "scan", CabinetID: st.CabinetID, RiderID: st.RiderID})
	records, err := s.recordEvents(ctx, maxRecords, `FROM record r WHERE r.swap_id = $1 ORDER BY r.at, r.seq LIMIT $2`, string(id))
	if err != nil {
		return st, err
	}
	entries, err := s.entries(ctx, `swap_id = $1`, string(id))
	if err != nil {
		return st, err
	}
	// Entries stand behind the record that they come from: what was seen, then
	// what was booked.
	for _, r := range records {
		st.Events = append(st.Events, r)
		for _, x := range entries {
			if x.Seq == r.Seq && x.Seq != 0 {
				st.Events = append(st.Events, entryEvent(x))
			}
		}
	}
	for _, x := range entries {
		if x.Seq == 0 || !slices.ContainsFunc(records, func(r staff.Event) bool { return r.Seq == x.Seq }) {
			st.Events = append(st.Events, entryEvent(x))
		}
	}
	slices.SortStableFunc(st.Events, func(a, b staff.Event) int { return a.At.Compare(*b.At) })
	rows, err = s.pool.Query(ctx, `SELECT review_id FROM review WHERE swap_id = $1 ORDER BY 1`, string(id))
	if err == nil {
		st.Reviews, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	}
	if err != nil {
		return st, fmt.Errorf("reviews of swap %s: %w", id, err)
	}
	return st, nil
}

// maxScans bounds the scans of a rider's page.
const maxScans = 50

// Scans are a rider's last scans, the newest first. A scan that its cabinet
// refused became a swap that did not start: its reason is that swap's.
func (s *Store) Scans(ctx context.Context, rider swap.RiderID) ([]staff.Scan, error) {
	if !isUUID(string(rider)) {
		return nil, fmt.Errorf("rider: %w", ErrNotFound)
	}
	rows, err := s.pool.Query(ctx, `SELECT x.at, x.rider_id::text, x.cabinet_id, coalesce(x.swap_id::text, ''),
			coalesce(x.reason, CASE WHEN w.outcome = 'not_started' THEN coalesce(w.reason, 'cabinet_offline') END, ''), coalesce(x.other_swap_id::text, '')
		FROM scan x LEFT JOIN swap w USING (swap_id) WHERE x.rider_id = $1 ORDER BY x.at DESC LIMIT $2`, string(rider), maxScans)
	if err != nil {
		return nil, fmt.Errorf("list scans: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (v staff.Scan, err error) {
		err = r.Scan(&v.At, &v.RiderID, &v.CabinetID, &v.SwapID, &v.Reason, &v.Other)
		return v, err
	})
	if err != nil {
		return nil, fmt.Errorf("list scans: %w", err)
	}
	return out, nil
}

// Riders finds riders by a part of a name, by the start of an identifier or by a
// membership number. Not by a phone: what is looked for stands in the address of a
// page, and so in the logs of whatever is in between.
func (s *Store) Riders(ctx context.Context, find string) ([]staff.Rider, error) {
	rows, err := s.pool.Query(ctx, sqlRiders+` WHERE ($1 = '' OR position(lower($1) in lower(name)) > 0 OR starts_with(rider_id::text, lower($1))
		OR membership_no = $1) ORDER BY rider_id DESC LIMIT 100`, clean(find))
	if err != nil {
		return nil, fmt.Errorf("find riders: %w", err)
	}
	out, err := pgx.CollectRows(rows, scanRider)
	if err != nil {
		return nil, fmt.Errorf("find riders: %w", err)
	}
	return out, nil
}

const sqlRiders = `SELECT rider_id::text, name, coalesce((SELECT b.name FROM union_body b WHERE b.union_id = rider.union_id), ''), street, ` + isMember + `, counted, open_reviews,
	platform, coalesce(membership_no, ''), phone_hash IS NOT NULL, coalesce(to_char(member_from, 'YYYY-MM-DD'), ''), coalesce(to_char(member_to, 'YYYY-MM-DD'), ''), forgotten_at IS NOT NULL FROM rider`

func scanRider(r pgx.CollectableRow) (v staff.Rider, err error) {
	err = r.Scan(&v.RiderID, &v.Name, &v.Union, &v.Street, &v.Active, &v.Counted, &v.Reviews,
		&v.Platform, &v.MembershipNo, &v.HasPhone, &v.MemberFrom, &v.MemberTo, &v.Forgotten)
	v.Name = staff.Mask(v.Name)
	return v, err
}

// RiderDetail is one rider, masked, or ErrNotFound.
func (s *Store) RiderDetail(ctx context.Context, id swap.RiderID) (staff.RiderDetail, error) {
	d := staff.RiderDetail{Batteries: []protocol.BatterySerial{}}
	if !isUUID(string(id)) {
		return d, fmt.Errorf("rider: %w", ErrNotFound)
	}
	rows, err := s.pool.Query(ctx, sqlRiders+` WHERE rider_id = $1`, string(id))
	if err == nil {
		d.Rider, err = pgx.CollectExactlyOneRow(rows, scanRider)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return d, fmt.Errorf("rider %s: %w", id, err)
	}
	var until *time.Time
	err = s.pool.QueryRow(ctx, `SELECT ARRAY(SELECT battery_serial FROM battery WHERE rider_id = $1 AND holder = 'rider' ORDER BY 1),
		(SELECT expires_at FROM binding_code WHERE rider_id = $1 AND used_at IS NULL AND tries < $2 AND expires_at > now()),
		(SELECT count(*) FROM session WHERE rider_id = $1 AND expires_at > now())`, string(id), binding.StaffTries).Scan(&d.Batteries, &until, &d.Devices)
	if err != nil {
		return d, fmt.Errorf("rider %s: %w", id, err)
	}
	d.CodeUntil, d.BatteryCount = until, len(d.Batteries)
	if d.Credits, err = s.StaffCredits(ctx, id); err != nil {
		return d, err
	}
	d.Scans, err = s.Scans(ctx, id)
	return d, err
}

// StaffCredits are credits, the newest first: a rider's, or ("") the open ones
// of all.
func (s *Store) StaffCredits(ctx context.Context, rider swap.RiderID) ([]staff.Credit, error) {
	where, args := `state IN ('open', 'reserved')`, []any{}
	if rider != "" {
		where, args = `rider_id = $1`, []any{string(rider)}
	}
	rows, err := s.pool.Query(ctx, `SELECT credit_id::text, rider_id::text, origin, state, coalesce(swap_id::text, ''), opened_at FROM credit
		WHERE `+where+` ORDER BY opened_at DESC LIMIT 200`, args...)
	if err != nil {
		return nil, fmt.Errorf("list credits: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c staff.Credit, err error) {
		if err = r.Scan(&c.CreditID, &c.RiderID, &c.Origin, &c.State, &c.SwapID, &c.OpenedAt); c.Origin == swap.OriginSwap {
			c.From = protocol.SwapID(c.CreditID)
		}
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("list credits: %w", err)
	}
	return out, nil
}

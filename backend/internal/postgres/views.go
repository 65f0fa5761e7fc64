package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// heardWithin is how long after its last sign of life a cabinet is shown as
// reachable.
const heardWithin = 60 * time.Second

// heard is a cabinet's last sign of life.
const heard = `greatest(k.heard_at, t.seen_at)`

// Swap is a rider's swap. Another rider's is ErrNotFound.
func (s *Store) Swap(ctx context.Context, rider swap.RiderID, id protocol.SwapID) (swap.View, error) {
	if id.Validate() != nil || !isUUID(string(rider)) {
		return swap.View{}, ErrNotFound
	}
	var row *swap.Swap
	var reachable bool
	var b pgx.Batch
	b.Queue(`SELECT `+swapColumns+` FROM swap WHERE swap_id = $1 AND rider_id = $2`, string(id), string(rider)).QueryRow(func(r pgx.Row) (err error) {
		row, err = scanSwap(r)
		return err
	})
	b.Queue(`SELECT coalesce(`+heard+` > now() - $2::interval, false)
		FROM swap JOIN cabinet_cursor k USING (cabinet_id) LEFT JOIN cabinet_state t USING (cabinet_id) WHERE swap_id = $1`,
		string(id), heardWithin).QueryRow(func(r pgx.Row) error { return r.Scan(&reachable) })
	err := s.pool.SendBatch(ctx, &b).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		return swap.View{}, ErrNotFound
	}
	if err != nil {
		return swap.View{}, fmt.Errorf("read swap %s: %w", id, err)
	}
	return row.View(reachable), nil
}

// $2 whether their inventories are wanted.
const sqlCabinets = `SELECT c.cabinet_id, c.station, c.street, coalesce(` + heard + ` > now() - $1::interval, false), ` + heard + `,
		coalesce(CASE WHEN c.out_of_service OR k.forked THEN 'out_of_service' ELSE t.out_of_service END, ''), c.slots,
		coalesce(t.slots_out, 0), coalesce(t.slots_charged, 0), coalesce(t.slots_holding, 0), coalesce(t.slots_empty, 0), coalesce(t.backlog_records, 0),
		(SELECT min(w.requested_at) FROM swap w WHERE w.cabinet_id = c.cabinet_id AND w.state <> 'closed'), c.latitude, c.longitude, c.hotline,
		CASE WHEN $2 THEN t.inventory END
	FROM cabinet c JOIN cabinet_cursor k USING (cabinet_id) LEFT JOIN cabinet_state t USING (cabinet_id)`

// Cabinets lists all cabinets, by their names, without their inventories.
func (s *Store) Cabinets(ctx context.Context) ([]swap.CabinetView, error) {
	rows, err := s.pool.Query(ctx, sqlCabinets+` WHERE c.retired_at IS NULL ORDER BY c.cabinet_id`, heardWithin, false)
	if err != nil {
		return nil, fmt.Errorf("list cabinets: %w", err)
	}
	out, err := pgx.CollectRows(rows, scanCabinetView)
	if err != nil {
		return nil, fmt.Errorf("list cabinets: %w", err)
	}
	return out, nil
}

// Cabinet is one cabinet, or ErrNotFound.
func (s *Store) Cabinet(ctx context.Context, id protocol.CabinetID) (swap.CabinetView, error) {
	if id.Validate() != nil {
		return swap.CabinetView{}, ErrNotFound
	}
	rows, err := s.pool.Query(ctx, sqlCabinets+` WHERE c.retired_at IS NULL AND c.cabinet_id = $3`, heardWithin, true, string(id))
	if err != nil {
		return swap.CabinetView{}, fmt.Errorf("read cabinet %s: %w", id, err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, scanCabinetView)
	if errors.Is(err, pgx.ErrNoRows) {
		return swap.CabinetView{}, ErrNotFound
	}
	if err != nil {
		return swap.CabinetView{}, fmt.Errorf("read cabinet %s: %w", id, err)
	}
	return v, nil
}

func scanCabinetView(r pgx.CollectableRow) (swap.CabinetView, error) {
	var v swap.CabinetView
	var seen, open *time.Time
	var inventory []byte
	err := r.Scan(&v.CabinetID, &v.Station, &v.Street, &v.Reachable, &seen, &v.OutOfService, &v.Slots,
		&v.Out, &v.Charged, &v.Holding, &v.Empty, &v.Backlog, &open, &v.Latitude, &v.Longitude, &v.Hotline, &inventory)
	if err != nil {
		return v, err
	}
	if seen != nil {
		v.LastSeen = *seen
	}
	if open != nil {
		v.SwapOpen, v.SwapSince = true, *open
	}
	if inventory != nil {
		if err := json.Unmarshal(inventory, &v.Inventory); err != nil {
			return v, fmt.Errorf("inventory: %w", err)
		}
	}
	return v, nil
}

// Rider is a rider's own account, or ErrNotFound.
func (s *Store) Rider(ctx context.Context, id swap.RiderID) (swap.RiderView, error) {
	if !isUUID(string(id)) {
		return swap.RiderView{}, ErrNotFound
	}
	v := swap.RiderView{RiderID: id}
	var open []string
	var now time.Time
	err := s.pool.QueryRow(ctx, `SELECT counted, now(),
			(SELECT count(*) FROM credit c WHERE c.rider_id = r.rider_id AND c.state IN ('open', 'reserved')),
			ARRAY(SELECT battery_serial FROM battery b WHERE b.rider_id = r.rider_id AND b.holder = 'rider' ORDER BY 1),
			ARRAY(SELECT swap_id::text FROM swap w WHERE w.rider_id = r.rider_id AND w.state <> 'closed' ORDER BY parked, swap_id DESC),
			NOT `+isMember+`, coalesce(member_from::text, ''), coalesce(member_to::text, '')
		FROM rider r WHERE rider_id = $1`, string(id)).Scan(&v.SwapsTotal, &now, &v.OpenCredits, &v.Batteries, &open, &v.Inactive, &v.MemberFrom, &v.MemberTo)
	if errors.Is(err, pgx.ErrNoRows) {
		return swap.RiderView{}, ErrNotFound
	}
	if err != nil {
		return swap.RiderView{}, fmt.Errorf("read rider: %w", err)
	}
	if len(open) > 0 {
		v.OpenSwap = protocol.SwapID(open[0])
	}
	err = s.pool.QueryRow(ctx, `SELECT coalesce(sum(swaps), 0) FROM day_count WHERE rider_id = $1 AND day >= $2::date`,
		string(id), string(swap.MonthOf(now))).Scan(&v.SwapsThisMonth)
	if err != nil {
		return swap.RiderView{}, fmt.Errorf("read rider's month: %w", err)
	}
	return v, nil
}

// History are a rider's last swaps, at most n, the newest first.
func (s *Store) History(ctx context.Context, rider swap.RiderID, n int) ([]swap.View, error) {
	if !isUUID(string(rider)) {
		return nil, ErrNotFound
	}
	rows, err := s.pool.Query(ctx, `SELECT `+swapColumns+` FROM swap WHERE rider_id = $1 ORDER BY swap_id DESC LIMIT $2`, string(rider), n)
	if err != nil {
		return nil, fmt.Errorf("read a rider's swaps: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (swap.View, error) {
		row, err := scanSwap(r)
		if err != nil {
			return swap.View{}, err
		}
		return row.View(true), nil
	})
	if err != nil {
		return nil, fmt.Errorf("read a rider's swaps: %w", err)
	}
	return out, nil
}

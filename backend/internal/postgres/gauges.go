package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/protocol"
)

// CabinetGauges are what metrics show of one commissioned cabinet.
type CabinetGauges struct {
	CabinetID protocol.CabinetID
	Street    string
	Slots     int
	Connected bool      // heard of lately, by whatever message
	LastSeen  time.Time // zero: never
	Forked    bool      // two histories of one journal
	OpenSince time.Time // of its oldest open swap; zero: none is open
	// Fresh: the last telemetry is young, and what follows is of it.
	Fresh    bool
	Software string
	// Out, Charged, Holding and Empty count slots as swap.SlotCounts does.
	Out, Charged, Holding, Empty int
	Backlog                      uint64   // journal records not delivered
	Alarms                       []string // kind, or kind:slot
	UpperC                       *float64 // °C
	EnergyJ                      *float64 // J
	// ClockOffsetS is how far the cabinet's clock is ahead of the database's, in
	// s; nil: its clock was not synchronised in this boot.
	ClockOffsetS *float64
	Inventory    protocol.Inventory // only if it was asked for
}

// $1 heardWithin, $2 whether inventories are wanted. Clocks are told in floating
// point: a cabinet may say any number.
const sqlCabinetGauges = `SELECT c.cabinet_id, c.street, c.slots, coalesce(` + heard + ` > now() - $1::interval, false), ` + heard + `,
		k.forked, o.since, coalesce(t.seen_at > now() - $1::interval, false), coalesce(t.software, ''),
		coalesce(t.slots_out, 0), coalesce(t.slots_charged, 0), coalesce(t.slots_holding, 0), coalesce(t.slots_empty, 0),
		coalesce(t.backlog_records, 0), coalesce(t.alarms, '{}'), t.upper_c, t.energy_j,
		CASE WHEN k.clock_boot = t.boot_seq AND k.boot_id = t.boot_id
			THEN (k.clock_offset_ms::float8 + t.mono_ms::float8) / 1000 - extract(epoch FROM t.seen_at)::float8 END,
		CASE WHEN $2 THEN t.inventory END
	FROM cabinet c JOIN cabinet_cursor k USING (cabinet_id) LEFT JOIN cabinet_state t USING (cabinet_id)
	LEFT JOIN (SELECT cabinet_id, min(requested_at) AS since FROM swap WHERE state <> 'closed' GROUP BY cabinet_id) o USING (cabinet_id)
	WHERE c.retired_at IS NULL ORDER BY c.cabinet_id`

// CabinetGauges reads what metrics show of all commissioned cabinets, with their
// inventories if they are wanted.
func (s *Store) CabinetGauges(ctx context.Context, inventories bool) ([]CabinetGauges, error) {
	rows, err := s.pool.Query(ctx, sqlCabinetGauges, heardWithin, inventories)
	if err != nil {
		return nil, fmt.Errorf("read the cabinets' gauges: %w", err)
	}
	out, err := pgx.CollectRows(rows, scanCabinetGauges)
	if err != nil {
		return nil, fmt.Errorf("read the cabinets' gauges: %w", err)
	}
	return out, nil
}

func scanCabinetGauges(r pgx.CollectableRow) (CabinetGauges, error) {
	var g CabinetGauges
	var seen, open *time.Time
	var inventory []byte
	err := r.Scan(&g.CabinetID, &g.Street, &g.Slots, &g.Connected, &seen, &g.Forked, &open, &g.Fresh, &g.Software,
		&g.Out, &g.Charged, &g.Holding, &g.Empty, &g.Backlog, &g.Alarms, &g.UpperC, &g.EnergyJ, &g.ClockOffsetS, &inventory)
	if err != nil {
		return g, err
	}
	if seen != nil {
		g.LastSeen = *seen
	}
	if open != nil {
		g.OpenSince = *open
	}
	if inventory != nil {
		if err := json.Unmarshal(inventory, &g.Inventory); err != nil {
			return g, fmt.Errorf("inventory of %s: %w", g.CabinetID, err)
		}
	}
	return g, nil
}

// Gauges are counts of the fleet that every replica's metrics show alike.
type Gauges struct {
	OpenSwaps, OpenReviews, OpenCredits int
	OldestReview                        time.Time // since when it waits; zero: none does
	Untold                              int       // safety events that nobody has been told of
	Recovering                          bool
	Batteries                           map[string]int // by custody
	Audit                               *AuditRun      // the last; nil: there was none
}

// Gauges counts what is open.
func (s *Store) Gauges(ctx context.Context) (Gauges, error) {
	g := Gauges{Batteries: map[string]int{}}
	var oldest *time.Time
	err := s.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM swap WHERE state <> 'closed'),
		(SELECT count(*) FROM review WHERE decided_at IS NULL),
		(SELECT min(opened_at) FROM review WHERE decided_at IS NULL),
		(SELECT count(*) FROM credit WHERE state IN ('open', 'reserved')),
		(SELECT count(*) FROM safety_event WHERE told_at IS NULL),
		(SELECT recovering_since IS NOT NULL FROM fleet),
		(SELECT coalesce(jsonb_object_agg(holder, n), '{}') FROM (SELECT holder, count(*) AS n FROM battery GROUP BY holder) h)`).Scan(
		&g.OpenSwaps, &g.OpenReviews, &oldest, &g.OpenCredits, &g.Untold, &g.Recovering, &g.Batteries)
	if err != nil {
		return Gauges{}, fmt.Errorf("count what is open: %w", err)
	}
	if oldest != nil {
		g.OldestReview = *oldest
	}
	last, err := s.LastAudit(ctx)
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return Gauges{}, err
	default:
		g.Audit = &last
	}
	return g, nil
}

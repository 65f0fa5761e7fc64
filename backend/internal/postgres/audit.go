package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Report is what an audit found. An empty Differences is the proof.
type Report struct {
	Riders      []RiderReport    `json:"riders"`
	Batteries   []BatteryReport  `json:"batteries"`
	Differences []Difference     `json:"differences"`
	Swaps       int64            `json:"swaps"`    // counted takes
	Entries     int64            `json:"entries"`  // ledger entries examined
	Records     int64            `json:"records"`  // journal records folded again
	Examined    map[string]int64 `json:"examined"` // rows of each table
	BeganAt     time.Time        `json:"began_at"`
	TookMS      int64            `json:"took_ms"`

	wanted *time.Time // when staff had asked for it
}

// RiderReport is one rider's account. Deposits are those that stayed: a battery
// given back to its rider is none.
type RiderReport struct {
	RiderID     swap.RiderID             `json:"rider_id"`
	Name        string                   `json:"name,omitempty"`
	Deposits    int                      `json:"deposits"`
	Takes       int                      `json:"takes"`   // batteries taken, of every kind
	Counted     int                      `json:"counted"` // swapped and owed_taken
	Issued      int                      `json:"issued"`
	OpenCredits int                      `json:"open_credits"` // open or reserved
	Batteries   []protocol.BatterySerial `json:"batteries"`    // in the rider's custody
	OpenSwaps   []protocol.SwapID        `json:"open_swaps"`
	Reviews     int                      `json:"reviews"` // open
}

// BatteryReport is where the books say that a battery is.
type BatteryReport struct {
	BatterySerial protocol.BatterySerial `json:"battery_serial"`
	Holder        swap.Holder            `json:"holder"`
	RiderID       swap.RiderID           `json:"rider_id,omitempty"`
	CabinetID     protocol.CabinetID     `json:"cabinet_id,omitempty"`
	Slot          int                    `json:"slot,omitempty"`
}

// Difference is one figure of the books that the ledger, or the cabinets' own
// words, do not bear out.
type Difference struct {
	What   string `json:"what"` // the table and column, or the invariant
	Key    string `json:"key"`  // whose
	Books  string `json:"books"`
	Ledger string `json:"ledger"` // or what the cabinet said
}

// nothing is what stands in a difference for a row that is not there.
const nothing = "none"

// maxDifferences bounds a report: whoever has so many needs no more.
const maxDifferences = 10_000

func (r *Report) differ(what, key, books, ledger string) {
	if len(r.Differences) < maxDifferences {
		r.Differences = append(r.Differences, Difference{what, key, books, ledger})
	}
}

// audited are the tables whose rows an audit holds against others.
func audited() []string {
	return []string{
		"ledger", "rider", "day_count", "credit", "battery", "swap", "review", "log_batch", "late_batch", "record", "cabinet_cursor", "cabinet_epoch",
		"counted_take", "counted_cabinet", "counted_rider", "hour_count", "cabinet_count", "rider_count",
	}
}

// Audit recomputes counts, credits and custody from the ledger, and the ledger
// from the cabinets' signed words, and reports every difference. It sees one
// moment of the books, and writes nothing.
func (s *Store) Audit(ctx context.Context) (Report, error) {
	began := time.Now()
	rep := Report{Differences: []Difference{}, Riders: []RiderReport{}, Batteries: []BatteryReport{}, Examined: map[string]int64{}}
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// A nightly pass over everything: the planner may look at the tables.
		if _, err := tx.Exec(ctx, `SET LOCAL plan_cache_mode = auto`); err != nil {
			return err
		}
		// By the database's clock, and who asked before what is seen here was.
		if err := tx.QueryRow(ctx, `SELECT now(), audit_wanted_at FROM fleet`).Scan(&rep.BeganAt, &rep.wanted); err != nil {
			return err
		}
		rep.BeganAt = rep.BeganAt.UTC()
		for _, table := range audited() {
			var n int64
			if err := tx.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&n); err != nil {
				return err
			}
			rep.Examined[table] = n
		}
		rep.Entries = rep.Examined["ledger"]
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM ledger WHERE counted`).Scan(&rep.Swaps); err != nil {
			return err
		}
		for _, c := range ledgerChecks() {
			if err := rep.run(ctx, tx, c); err != nil {
				return err
			}
		}
		if err := rep.digests(ctx, tx); err != nil {
			return err
		}
		if err := s.retell(ctx, tx, &rep); err != nil {
			return err
		}
		var err error
		if rep.Riders, err = riderReports(ctx, tx); err != nil {
			return err
		}
		rep.Batteries, err = batteryReports(ctx, tx)
		return err
	})
	if err != nil {
		return Report{}, fmt.Errorf("audit: %w", err)
	}
	rep.TookMS = time.Since(began).Milliseconds()
	return rep, nil
}

func riderReports(ctx context.Context, tx pgx.Tx) ([]RiderReport, error) {
	rows, err := tx.Query(ctx, `SELECT rider_id::text, name, deposits - returns, takes, counted, issued,
			(SELECT count(*) FROM credit c WHERE c.rider_id = r.rider_id AND c.state IN ('open', 'reserved')),
			ARRAY(SELECT battery_serial FROM battery b WHERE b.rider_id = r.rider_id AND b.holder = 'rider' ORDER BY 1),
			ARRAY(SELECT swap_id::text FROM swap w WHERE w.rider_id = r.rider_id AND w.state <> 'closed' ORDER BY 1),
			open_reviews FROM rider r ORDER BY rider_id`)
	if err != nil {
		return nil, fmt.Errorf("riders: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (RiderReport, error) {
		var x RiderReport
		return x, row.Scan(&x.RiderID, &x.Name, &x.Deposits, &x.Takes, &x.Counted, &x.Issued, &x.OpenCredits, &x.Batteries, &x.OpenSwaps, &x.Reviews)
	})
	if err != nil {
		return nil, fmt.Errorf("riders: %w", err)
	}
	return out, nil
}

func batteryReports(ctx context.Context, tx pgx.Tx) ([]BatteryReport, error) {
	rows, err := tx.Query(ctx, `SELECT battery_serial, holder, coalesce(rider_id::text, ''), coalesce(cabinet_id, ''), coalesce(slot, 0)
		FROM battery ORDER BY battery_serial`)
	if err != nil {
		return nil, fmt.Errorf("batteries: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (BatteryReport, error) {
		var x BatteryReport
		return x, row.Scan(&x.BatterySerial, &x.Holder, &x.RiderID, &x.CabinetID, &x.Slot)
	})
	if err != nil {
		return nil, fmt.Errorf("batteries: %w", err)
	}
	return out, nil
}

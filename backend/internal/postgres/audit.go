package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Report is what an audit found. An empty Differences is the proof.
type Report struct {
	Riders      []RiderReport `json:"riders"`
	Differences []Difference  `json:"differences"`
	Entries     int64         `json:"entries"` // ledger entries examined
	Records     int64         `json:"records"` // journal records examined
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

// Difference is one figure of the books that the ledger, or the cabinets' own
// words, do not bear out.
type Difference struct {
	What   string `json:"what"` // the table and column, or the invariant
	Key    string `json:"key"`  // whose
	Books  string `json:"books"`
	Ledger string `json:"ledger"`
}

// check is a query of differences: key, books, ledger.
type check struct{ what, sql string }

// ledgerChecks recompute from the ledger what the other tables say.
func ledgerChecks() []check {
	rider := func(column, sum string) check {
		return check{"rider." + column, `SELECT r.rider_id::text, r.` + column + `::text, coalesce(l.n, 0)::text FROM rider r
			LEFT JOIN (SELECT rider_id, ` + sum + ` AS n FROM ledger GROUP BY rider_id) l USING (rider_id)
			WHERE r.` + column + ` <> coalesce(l.n, 0)`}
	}
	return []check{
		rider("deposits", `count(*) FILTER (WHERE what = 'deposit')`),
		rider("returns", `count(*) FILTER (WHERE what = 'return')`),
		rider("takes", `count(*) FILTER (WHERE what = 'take')`),
		rider("counted", `count(*) FILTER (WHERE counted)`),
		rider("issued", `count(*) FILTER (WHERE what = 'take' AND kind = 'issue')`),
		rider("credits_due", `count(*) FILTER (WHERE what = 'credit_due') - count(*) FILTER (WHERE what = 'credit_settled')`),
		{"rider.open_reviews", `SELECT r.rider_id::text, r.open_reviews::text, count(v.review_id)::text FROM rider r
			LEFT JOIN review v ON v.rider_id = r.rider_id AND v.decided_at IS NULL
			GROUP BY r.rider_id HAVING r.open_reviews <> count(v.review_id)`},
		{"day_count.swaps", `SELECT concat_ws(' ', rider_id, day, cabinet_id), d.swaps::text, l.n::text FROM day_count d
			FULL JOIN (SELECT rider_id, day, cabinet_id, count(*) AS n FROM ledger WHERE counted GROUP BY 1, 2, 3) l
			USING (rider_id, day, cabinet_id) WHERE d.swaps IS DISTINCT FROM l.n`},
		{"credit.state", `SELECT credit_id::text, c.state || coalesce(' ' || c.swap_id::text, ''), l.state || coalesce(' ' || l.swap_id::text, '')
			FROM credit c FULL JOIN (
				SELECT DISTINCT ON (credit_id) credit_id,
					CASE what WHEN 'credit_opened' THEN 'open' WHEN 'credit_freed' THEN 'open' ELSE substr(what, 8) END AS state,
					CASE WHEN what IN ('credit_reserved', 'credit_spent') THEN swap_id END AS swap_id
				FROM ledger WHERE credit_id IS NOT NULL ORDER BY credit_id, position DESC) l USING (credit_id)
			WHERE c.state IS DISTINCT FROM l.state OR c.swap_id IS DISTINCT FROM l.swap_id`},
		{"battery custody", `SELECT battery_serial, ` + custody("b") + `, ` + custody("l") + ` FROM battery b FULL JOIN (
				SELECT DISTINCT ON (battery_serial) battery_serial, holder,
					CASE WHEN what NOT IN ('held', 'deposit') AND holder IN ('rider', 'review') THEN rider_id END AS rider_id,
					CASE WHEN holder = 'slot' THEN cabinet_id END AS cabinet_id, CASE WHEN holder = 'slot' THEN slot END AS slot
				FROM ledger WHERE holder IS NOT NULL ORDER BY battery_serial, position DESC) l USING (battery_serial)
			WHERE ` + custody("b") + ` IS DISTINCT FROM ` + custody("l")},
		{"two batteries in one slot", `SELECT cabinet_id || ' ' || slot, string_agg(battery_serial, ' '), '1 battery'
			FROM battery WHERE holder = 'slot' GROUP BY cabinet_id, slot HAVING count(*) > 1`},
		{"swap.taken", `SELECT swap_id::text, coalesce(s.taken, ''), coalesce(l.battery_serial, '') FROM swap s
			FULL JOIN (SELECT swap_id, battery_serial FROM ledger WHERE what = 'take') l USING (swap_id)
			WHERE s.taken IS DISTINCT FROM l.battery_serial`},
		{"swap.deposited", `SELECT swap_id::text, coalesce(s.deposited, ''), coalesce(l.battery_serial, '') FROM
			(SELECT swap_id, deposited FROM swap WHERE judgement = 'accepted') s
			FULL JOIN (SELECT swap_id, battery_serial FROM ledger WHERE what = 'deposit') l USING (swap_id)
			WHERE s.deposited IS DISTINCT FROM l.battery_serial`},
		{"swap.outcome", `SELECT s.swap_id::text, s.outcome, coalesce(string_agg(l.what, ' ' ORDER BY l.entry_no), '') FROM swap s
			LEFT JOIN ledger l USING (swap_id) WHERE s.state = 'closed' GROUP BY s.swap_id
			HAVING (s.outcome = 'deposited_owed') <> coalesce(bool_or(l.what = 'credit_opened' AND l.review_id IS NULL), false)
				OR (s.outcome IN ('swapped', 'owed_taken')) <> coalesce(bool_or(l.counted AND l.review_id IS NULL), false) AND s.outcome <> 'review'
				OR s.outcome = 'returned' AND s.judgement = 'accepted' AND NOT bool_or(l.what = 'return')`},
		{"I1 never two for one", `SELECT r.rider_id::text, r.takes::text, (r.deposits - r.returns + r.issued + h.n)::text || ' at most' FROM rider r,
			LATERAL (SELECT count(*) AS n FROM credit c WHERE c.rider_id = r.rider_id AND c.origin = 'review' AND c.state = 'spent') h
			WHERE r.takes > r.deposits - r.returns + r.issued + r.credits_due + h.n
				AND NOT EXISTS (SELECT FROM review v WHERE v.rider_id = r.rider_id AND v.decided_at IS NULL)`},
		{"cabinet_cursor.last_seq", `SELECT k.cabinet_id, k.last_seq::text, coalesce(max(r.seq), 0)::text FROM cabinet_cursor k
			LEFT JOIN record r ON r.cabinet_id = k.cabinet_id AND r.epoch = k.epoch WHERE NOT k.hole
			GROUP BY k.cabinet_id, k.last_seq HAVING k.last_seq <> coalesce(max(r.seq), 0)`},
	}
}

// custody is a row's custody in words; a place under review is only a hint.
func custody(row string) string {
	return fmt.Sprintf(`concat_ws(' ', %[1]s.holder, %[1]s.rider_id, CASE WHEN %[1]s.holder = 'slot' THEN %[1]s.cabinet_id END,
		CASE WHEN %[1]s.holder = 'slot' THEN %[1]s.slot END)`, row)
}

// Audit recomputes counts, credits and custody from the ledger, and the ledger
// from the cabinets' signed words, and reports every difference. It sees one
// moment of the books.
func (s *Store) Audit(ctx context.Context) (Report, error) {
	rep := Report{Differences: []Difference{}, Riders: []RiderReport{}}
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM ledger`).Scan(&rep.Entries); err != nil {
			return err
		}
		for _, c := range ledgerChecks() {
			found, err := differences(ctx, tx, c)
			if err != nil {
				return err
			}
			rep.Differences = append(rep.Differences, found...)
		}
		if err := auditWords(ctx, tx, &rep); err != nil {
			return err
		}
		var err error
		rep.Riders, err = riderReports(ctx, tx)
		return err
	})
	if err != nil {
		return Report{}, fmt.Errorf("audit: %w", err)
	}
	return rep, nil
}

func differences(ctx context.Context, tx pgx.Tx, c check) ([]Difference, error) {
	rows, err := tx.Query(ctx, c.sql)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.what, err)
	}
	var out []Difference
	var key, books, ledger *string
	_, err = pgx.ForEachRow(rows, []any{&key, &books, &ledger}, func() error {
		out = append(out, Difference{c.what, deref(key), deref(books), deref(ledger)})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.what, err)
	}
	return out, nil
}

func deref(s *string) string {
	if s == nil {
		return "none"
	}
	return *s
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

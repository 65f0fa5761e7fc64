package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
)

// check is a query of differences: key, books, ledger.
type check struct{ what, sql string }

// ledgerChecks recompute from the ledger what the other tables say.
func ledgerChecks() []check {
	out := riderChecks()
	out = append(out, creditChecks()...)
	out = append(out, batteryChecks()...)
	out = append(out, swapChecks()...)
	out = append(out, reviewChecks()...)
	out = append(out, figureChecks()...)
	return append(out, cursorChecks()...)
}

func riderChecks() []check {
	rider := func(column, sum string) check {
		return check{"rider." + column, `SELECT rider_id::text, r.` + column + `::text, coalesce(l.n, 0)::text FROM rider r
			FULL JOIN (SELECT rider_id, ` + sum + ` AS n FROM ledger WHERE rider_id IS NOT NULL GROUP BY rider_id) l USING (rider_id)
			WHERE r.` + column + ` IS DISTINCT FROM coalesce(l.n, 0)`}
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
		{"I1 never two for one", `SELECT r.rider_id::text, r.takes::text, (r.deposits - r.returns + r.issued + r.credits_due + h.n)::text || ' at most' FROM rider r,
			LATERAL (SELECT count(*) AS n FROM credit c WHERE c.rider_id = r.rider_id AND c.origin = 'review' AND c.state = 'spent') h
			WHERE r.takes > r.deposits - r.returns + r.issued + r.credits_due + h.n
				AND NOT EXISTS (SELECT FROM review v WHERE v.rider_id = r.rider_id AND v.decided_at IS NULL)`},
	}
}

func creditChecks() []check {
	const state = `CASE what WHEN 'credit_opened' THEN 'open' WHEN 'credit_freed' THEN 'open' ELSE substr(what, 8) END`
	return []check{
		{"credit.state", `SELECT credit_id::text, c.state || coalesce(' ' || c.swap_id::text, ''), l.state || coalesce(' ' || l.swap_id::text, '')
			FROM credit c FULL JOIN (
				SELECT DISTINCT ON (credit_id) credit_id, ` + state + ` AS state,
					CASE WHEN what IN ('credit_reserved', 'credit_spent') THEN swap_id END AS swap_id
				FROM ledger WHERE credit_id IS NOT NULL ORDER BY credit_id, position DESC) l USING (credit_id)
			WHERE c.state IS DISTINCT FROM l.state OR c.swap_id IS DISTINCT FROM l.swap_id`},
		{"credit.origin", `SELECT credit_id::text, concat_ws(' ', c.origin, c.rider_id, c.opened_at), concat_ws(' ', l.origin, l.rider_id, l.at)
			FROM credit c FULL JOIN (SELECT * FROM ledger WHERE what = 'credit_opened') l USING (credit_id)
			WHERE (c.origin, c.rider_id, c.opened_at) IS DISTINCT FROM (l.origin, l.rider_id, l.at)`},
		// Opened once; reserved when open, or taken over by a swap that had a battery;
		// spent and freed by whoever reserved it.
		{"I7 a credit is spent at most once", `SELECT credit_id::text, what, coalesce('after ' || before, 'first') FROM (
				SELECT credit_id, what, swap_id, lag(what) OVER w AS before, lag(swap_id) OVER w AS by
				FROM ledger WHERE credit_id IS NOT NULL WINDOW w AS (PARTITION BY credit_id ORDER BY position)) t
			WHERE NOT coalesce(CASE what WHEN 'credit_opened' THEN before IS NULL
				WHEN 'credit_reserved' THEN before IN ('credit_opened', 'credit_freed') OR before = 'credit_reserved' AND by <> swap_id WHEN 'credit_settled' THEN before IN ('credit_opened', 'credit_freed')
				ELSE before = 'credit_reserved' AND by = swap_id END, false)`},
	}
}

func batteryChecks() []check {
	return []check{
		{"battery custody", `SELECT battery_serial, ` + custody("b") + `, ` + custody("l") + ` FROM battery b FULL JOIN (
				SELECT DISTINCT ON (battery_serial) battery_serial, holder,
					CASE WHEN what NOT IN ('held', 'deposit') AND holder IN ('rider', 'review') THEN rider_id END AS rider_id,
					CASE WHEN stays THEN cabinet_id END AS cabinet_id, CASE WHEN stays THEN slot END AS slot
				FROM (SELECT *, holder = 'slot' OR holder = 'review' AND what NOT IN ('take', 'doubt', 'removed') AS stays FROM ledger) e
				WHERE holder IS NOT NULL ORDER BY battery_serial, position DESC) l USING (battery_serial)
			WHERE ` + custody("b") + ` IS DISTINCT FROM ` + custody("l")},
		{"battery.entries", `SELECT battery_serial, coalesce(b.entries, 0)::text, coalesce(l.n, 0)::text FROM battery b
			FULL JOIN (SELECT battery_serial, count(*) AS n FROM ledger WHERE battery_serial IS NOT NULL GROUP BY 1) l USING (battery_serial)
			WHERE coalesce(b.entries, 0) <> coalesce(l.n, 0) OR b.entries IS NULL`},
		{"two batteries in one slot", `SELECT cabinet_id || ' ' || slot, string_agg(battery_serial, ' '), '1 battery'
			FROM battery WHERE holder = 'slot' GROUP BY cabinet_id, slot HAVING count(*) > 1`},
	}
}

// custody is a row's custody in words: what is under review may lie in a slot, too.
func custody(row string) string {
	return fmt.Sprintf(`concat_ws(' ', %[1]s.holder, %[1]s.rider_id, CASE WHEN %[1]s.holder IN ('slot', 'review') THEN %[1]s.cabinet_id END,
		CASE WHEN %[1]s.holder IN ('slot', 'review') THEN %[1]s.slot END)`, row)
}

func swapChecks() []check {
	return []check{
		{"swap.entries", `SELECT swap_id::text, coalesce(s.entries::text, 'none'), concat_ws(' ', coalesce(l.n, 0), 'up to', coalesce(l.last, 0)) FROM swap s
			FULL JOIN (SELECT swap_id, count(*) AS n, max(entry_no) AS last, bool_or(kind IS NOT NULL OR seq IS NOT NULL) AND NOT bool_or(what IN ('removed', 'added')) AS of_a_swap
				FROM ledger GROUP BY 1) l USING (swap_id)
			WHERE coalesce(l.n, 0) <> coalesce(l.last, 0) OR CASE WHEN s.swap_id IS NULL THEN l.of_a_swap ELSE s.entries <> coalesce(l.n, 0) END`},
		{"swap.rider_id", `SELECT s.swap_id::text, concat_ws(' ', s.rider_id, s.cabinet_id), concat_ws(' ', l.rider_id, l.cabinet_id) FROM swap s JOIN ledger l USING (swap_id)
			WHERE l.rider_id IS DISTINCT FROM s.rider_id OR l.cabinet_id IS DISTINCT FROM s.cabinet_id`},
		{"swap.taken", `SELECT swap_id::text, concat_ws(' ', s.taken, s.take_slot), concat_ws(' ', l.battery_serial, l.slot) FROM
			(SELECT swap_id, taken, NULLIF(take_slot, 0) AS take_slot FROM swap WHERE taken IS NOT NULL OR take_slot <> 0) s
			FULL JOIN (SELECT swap_id, battery_serial, slot FROM ledger WHERE what = 'take') l USING (swap_id)
			WHERE (s.taken, s.take_slot) IS DISTINCT FROM (l.battery_serial, l.slot::int)`},
		{"swap.deposited", `SELECT swap_id::text, concat_ws(' ', s.deposited, s.deposit_slot), concat_ws(' ', l.battery_serial, l.slot) FROM
			(SELECT swap_id, deposited, NULLIF(deposit_slot, 0) AS deposit_slot FROM swap WHERE judgement = 'accepted') s
			FULL JOIN (SELECT swap_id, battery_serial, slot FROM ledger WHERE what = 'deposit') l USING (swap_id)
			WHERE (s.deposited, s.deposit_slot) IS DISTINCT FROM (l.battery_serial, l.slot::int)`},
		{"swap.credit_id", `SELECT s.swap_id::text, s.credit_id::text, l.credit_id::text FROM swap s
			LEFT JOIN (SELECT DISTINCT ON (swap_id) swap_id, credit_id FROM ledger WHERE what = 'credit_reserved' ORDER BY swap_id, position DESC) l USING (swap_id)
			WHERE s.credit_id IS DISTINCT FROM l.credit_id AND NOT (s.by_fact AND s.credit_id IS NULL)`},
		{"swap.outcome", `SELECT s.swap_id::text, s.outcome, coalesce(string_agg(l.what, ' ' ORDER BY l.entry_no), '') FROM swap s
			LEFT JOIN ledger l ON l.swap_id = s.swap_id AND l.review_id IS NULL WHERE s.state = 'closed' GROUP BY s.swap_id
			HAVING (s.outcome = 'deposited_owed') <> coalesce(bool_or(l.what = 'credit_opened'), false)
				OR (s.outcome IN ('swapped', 'owed_taken')) <> coalesce(bool_or(l.counted), false) AND s.outcome <> 'review'
				OR s.outcome = 'returned' AND s.judgement = 'accepted' AND NOT bool_or(l.what = 'return')`},
		{"swap.ruling", `SELECT swap_id::text, s.ruling, l.ruling FROM (SELECT swap_id, ruling FROM swap) s
			LEFT JOIN (SELECT DISTINCT ON (swap_id) swap_id, ruling FROM ledger WHERE what = 'decided' ORDER BY swap_id, position DESC) l USING (swap_id)
			WHERE s.ruling IS DISTINCT FROM l.ruling`},
	}
}

func reviewChecks() []check {
	return []check{
		{"review.decision", `SELECT review_id::text, concat_ws(' ', v.decision, v.decision_reason, v.decided_by, v.decided_at), concat_ws(' ', l.ruling, l.ground, l.decided_by, l.at)
			FROM (SELECT * FROM review WHERE decided_at IS NOT NULL) v FULL JOIN (SELECT * FROM ledger WHERE what = 'decided') l USING (review_id)
			WHERE (v.decision, v.decision_reason, v.decided_by, v.decided_at) IS DISTINCT FROM (l.ruling, l.ground, l.decided_by, l.at)`},
		{"review of a swap", `SELECT coalesce(s.swap_id, v.swap_id)::text, concat_ws(' ', v.reason, v.cabinet_id, v.rider_id), concat_ws(' ', s.reviewed, s.cabinet_id, s.rider_id)
			FROM (SELECT * FROM swap WHERE reviewed IS NOT NULL) s FULL JOIN (SELECT * FROM review WHERE swap_id IS NOT NULL AND decided_at IS NULL) v USING (swap_id)
			WHERE (v.reason, v.cabinet_id, v.rider_id) IS DISTINCT FROM (s.reviewed, s.cabinet_id, s.rider_id)`},
		{"review of a decided swap", `SELECT v.review_id::text, concat_ws(' ', v.cabinet_id, v.rider_id, v.swap_id), concat_ws(' ', s.cabinet_id, s.rider_id, s.swap_id)
			FROM review v LEFT JOIN swap s USING (swap_id) LEFT JOIN ledger l ON l.review_id = v.review_id AND l.what = 'decided'
			WHERE v.decided_at IS NOT NULL AND (v.swap_id IS NOT NULL AND
				((v.cabinet_id, v.rider_id) IS DISTINCT FROM (s.cabinet_id, s.rider_id) OR l.swap_id <> v.swap_id) OR l.cabinet_id <> v.cabinet_id)`},
	}
}

func cursorChecks() []check {
	return []check{
		{"cabinet_epoch", `SELECT cabinet_id, encode(k.epoch, 'hex'), encode(e.epoch, 'hex') FROM (SELECT * FROM cabinet_cursor WHERE epoch IS NOT NULL) k
			FULL JOIN (SELECT * FROM cabinet_epoch WHERE state = 'current') e USING (cabinet_id) WHERE k.epoch IS DISTINCT FROM e.epoch`},
		{"cabinet_epoch without a cabinet's word", `SELECT concat_ws(' ', cabinet_id, encode(epoch, 'hex')), state, 'no message' FROM cabinet_epoch e
			WHERE state = 'waiting' AND EXISTS (SELECT FROM log_batch b WHERE b.cabinet_id = e.cabinet_id AND b.epoch = e.epoch)`},
		{"log_batch of an epoch", `SELECT DISTINCT concat_ws(' ', b.cabinet_id, encode(b.epoch, 'hex')), 'none', 'log messages' FROM log_batch b
			WHERE NOT EXISTS (SELECT FROM cabinet_epoch e WHERE e.cabinet_id = b.cabinet_id AND e.epoch = b.epoch)`},
		{"record without its message", `SELECT concat_ws(' ', r.cabinet_id, encode(r.epoch, 'hex')), r.n::text, 'no log messages'
			FROM (SELECT cabinet_id, epoch, count(*) AS n FROM record GROUP BY 1, 2) r
			WHERE NOT EXISTS (SELECT FROM log_batch b WHERE b.cabinet_id = r.cabinet_id AND b.epoch = r.epoch)`},
		{"late_batch of an epoch", `SELECT concat_ws(' ', b.cabinet_id, encode(b.epoch, 'hex')), 'a late message', 'no such epoch' FROM late_batch b
			WHERE NOT EXISTS (SELECT FROM cabinet_epoch e WHERE e.cabinet_id = b.cabinet_id AND e.epoch = b.epoch)`},
		{"cabinet_cursor.forked", `SELECT k.cabinet_id, k.forked::text, 'the review of a fork' FROM cabinet_cursor k WHERE k.forked AND NOT EXISTS (SELECT FROM review v
			WHERE v.swap_id IS NULL AND v.cabinet_id = k.cabinet_id AND v.epoch = k.epoch AND v.reason = 'epoch_replaced')`},
	}
}

func (r *Report) run(ctx context.Context, tx pgx.Tx, c check) error {
	rows, err := tx.Query(ctx, c.sql)
	if err != nil {
		return fmt.Errorf("%s: %w", c.what, err)
	}
	var key, books, ledger *string
	_, err = pgx.ForEachRow(rows, []any{&key, &books, &ledger}, func() error {
		r.differ(c.what, deref(key), deref(books), deref(ledger))
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", c.what, err)
	}
	return nil
}

func deref(s *string) string {
	if s == nil || *s == "" {
		return nothing
	}
	return *s
}

// digest is of all that an entry says: one that was altered later does not bear
// its own out.
func digest(e swap.Entry) []byte {
	b := make([]byte, 0, 256)
	for _, s := range []string{
		string(e.SwapID), strconv.Itoa(e.EntryNo), string(e.What), string(e.Kind), string(e.RiderID), string(e.CabinetID), strconv.Itoa(e.Slot),
		string(e.BatterySerial), string(e.CreditID), string(e.Origin), strconv.FormatBool(e.Counted), string(e.Day), strconv.FormatBool(e.Derived),
		string(e.Holder), strconv.FormatInt(e.ReviewID, 10), string(e.Ruling), string(e.Ground), e.By,
		strconv.FormatInt(e.At.UnixMicro(), 10), string(e.Quality), string(e.Epoch[:]), strconv.FormatUint(e.Seq, 10),
	} {
		b = append(b, s...)
		b = append(b, 0)
	}
	sum := sha256.Sum256(b)
	return sum[:16]
}

// digests reads the ledger whole.
func (r *Report) digests(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT `+entryColumns+`, digest FROM ledger`)
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var stored []byte
		e, err := scanEntry(withTail{rows, &stored})
		if err != nil {
			return fmt.Errorf("read the ledger: %w", err)
		}
		if !bytes.Equal(stored, digest(e)) {
			r.differ("ledger", fmt.Sprintf("%s %d", e.SwapID, e.EntryNo), fmt.Sprintf("%s %s%s", e.What, e.BatterySerial, e.CreditID), "another entry when it was written")
		}
	}
	return rows.Err()
}

// withTail scans one more column than its reader knows.
type withTail struct {
	pgx.Rows
	tail any
}

func (w withTail) Scan(dest ...any) error { return w.Rows.Scan(append(dest, w.tail)...) }

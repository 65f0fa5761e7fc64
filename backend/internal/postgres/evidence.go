package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Bounds of what is shown and kept of a case.
const (
	maxReviews = 100  // of one page of the list
	maxRecords = 200  // of one case
	maxLate    = 1000 // late log messages of one cabinet: a clone must not fill the disk
)

// queueLate keeps a log message of an epoch that is over, or that contradicts
// what was said before, as evidence. None of it is in any count.
func queueLate(b *pgx.Batch, l *loaded, x result) {
	sum := sha256.Sum256(x.Envelope.Raw)
	b.Queue(`INSERT INTO late_batch (cabinet_id, epoch, digest, from_seq, upto_seq, kid, envelope, received_at)
		SELECT $1::text, $2::bytea, $3::bytea, $4::bigint, $5::bigint, $6::text, $7::bytea, $8::timestamptz
		WHERE EXISTS (SELECT FROM cabinet_epoch WHERE cabinet_id = $1 AND epoch = $2::bytea AND state <> 'waiting')
			AND (SELECT count(*) FROM late_batch WHERE cabinet_id = $1) < $9
		ON CONFLICT DO NOTHING`,
		string(x.CabinetID), x.Log.Epoch[:], sum[:16], int64(x.records[0].Seq), int64(x.records[len(x.records)-1].Seq),
		x.Envelope.KeyID, x.Envelope.Raw, l.now, maxLate)
}

const reviewColumns = `review_id, coalesce(swap_id::text, ''), cabinet_id, coalesce(rider_id::text, ''), reason, explanations, at, opened_at,
	coalesce(decision, ''), coalesce(decision_reason, ''), coalesce(decided_by, ''), coalesce(decided_at, 'epoch')`

func reviewFields(v *swap.ReviewView, d *swap.Decided) []any {
	return []any{&v.ReviewID, &v.SwapID, &v.CabinetID, &v.RiderID, &v.Reason, &v.Explanations, &v.At, &v.OpenedAt, &d.Decision, &d.Reason, &d.By, &d.At}
}

// Reviews lists reviews, the newest first, a page of at most 100 below the
// cursor; 0 starts at the newest. next is the cursor of the following page, 0
// when there is none.
func (s *Store) Reviews(ctx context.Context, f swap.ReviewFilter, cursor int64) (page []swap.ReviewView, next int64, err error) {
	if f.RiderID != "" && !isUUID(string(f.RiderID)) {
		return nil, 0, fmt.Errorf("rider_id %.40q: want a UUID", f.RiderID)
	}
	rows, err := s.pool.Query(ctx, `SELECT `+reviewColumns+` FROM review
		WHERE ($1 = 0 OR review_id < $1) AND (NOT $2 OR decided_at IS NULL) AND ($3 = '' OR cabinet_id = $3)
			AND ($4 = '' OR rider_id = NULLIF($4, '')::uuid) AND ($5 = '' OR reason = $5) ORDER BY review_id DESC LIMIT $6`,
		cursor, f.Open, string(f.CabinetID), string(f.RiderID), string(f.Reason), maxReviews+1)
	if err != nil {
		return nil, 0, fmt.Errorf("list reviews: %w", err)
	}
	page, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (swap.ReviewView, error) {
		var v swap.ReviewView
		var d swap.Decided
		err := r.Scan(reviewFields(&v, &d)...)
		if d.Decision != "" {
			v.Decided = &d
		}
		return v, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list reviews: %w", err)
	}
	if len(page) > maxReviews {
		page = page[:maxReviews]
		next = page[maxReviews-1].ReviewID
	}
	return page, next, nil
}

// Review is one review with all its evidence, or ErrNotFound.
func (s *Store) Review(ctx context.Context, id int64) (swap.ReviewCase, error) {
	var c swap.ReviewCase
	var d swap.Decided
	var inventory, epoch []byte
	var seq uint64
	err := s.pool.QueryRow(ctx, `SELECT `+reviewColumns+`, inventory, epoch, seq FROM review WHERE review_id = $1`, id).
		Scan(append(reviewFields(&c.ReviewView, &d), &inventory, &epoch, &seq)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, fmt.Errorf("review %d: %w", id, ErrNotFound)
	}
	if err != nil {
		return c, fmt.Errorf("read review %d: %w", id, err)
	}
	if d.Decision != "" {
		c.Decided = &d
	}
	if inventory != nil {
		if err := json.Unmarshal(inventory, &c.After); err != nil {
			return c, fmt.Errorf("review %d: inventory: %w", id, err)
		}
	}
	var e protocol.Epoch
	copy(e[:], epoch)
	if err := s.evidence(ctx, &c, e, seq); err != nil {
		return c, fmt.Errorf("read review %d: %w", id, err)
	}
	return c, nil
}

// evidence fills in what belongs to the review of the record at epoch and seq.
func (s *Store) evidence(ctx context.Context, c *swap.ReviewCase, epoch protocol.Epoch, seq uint64) (err error) {
	c.Possible = []swap.Ruling{swap.RuledNoted}
	if c.SwapID != "" {
		c.Swap, err = scanSwap(s.pool.QueryRow(ctx, `SELECT `+swapColumns+` FROM swap WHERE swap_id = $1`, string(c.SwapID)))
		if err != nil {
			return fmt.Errorf("swap: %w", err)
		}
		if c.Possible = c.Swap.Rulings(); c.Swap.Open() {
			c.Possible = nil
		}
		if !c.Swap.Epoch.IsZero() {
			epoch = c.Swap.Epoch
		}
	}
	if c.Decided != nil {
		c.Possible = nil
	}
	if c.Entries, err = s.entries(ctx, `swap_id = NULLIF($1, '')::uuid OR review_id = $2`, string(c.SwapID), c.ReviewID); err != nil {
		return err
	}
	if err := s.caseRows(ctx, c); err != nil {
		return err
	}
	keys, err := allKeys(ctx, s.pool)
	if err != nil {
		return err
	}
	if err := s.caseRecords(ctx, c, epoch, seq, keys); err != nil {
		return err
	}
	if err := s.lateRecords(ctx, c, epoch, keys); err != nil {
		return err
	}
	for _, r := range c.Records {
		var a protocol.Accept
		if r.Type == protocol.RecordAccept && json.Unmarshal(r.Payload, &a) == nil {
			c.Before = a.Inventory
		}
	}
	return nil
}

// caseRows are the batteries and credits as they are now.
func (s *Store) caseRows(ctx context.Context, c *swap.ReviewCase) error {
	serials := []string{}
	for _, e := range c.Entries {
		serials = append(serials, string(e.BatterySerial))
	}
	if c.Swap != nil {
		serials = append(serials, strs(append(c.Swap.Pulsed, c.Swap.Deposited, c.Swap.Taken)...)...)
	}
	rows, err := s.pool.Query(ctx, `SELECT battery_serial, type, is_foreign, holder, coalesce(rider_id::text, ''), coalesce(cabinet_id, ''), coalesce(slot, 0)
		FROM battery WHERE battery_serial = ANY($1) ORDER BY 1`, distinct(serials))
	if err != nil {
		return fmt.Errorf("batteries: %w", err)
	}
	c.Batteries, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (swap.Battery, error) {
		var x swap.Battery
		return x, r.Scan(&x.BatterySerial, &x.Type, &x.Foreign, &x.Holder, &x.RiderID, &x.CabinetID, &x.Slot)
	})
	if err != nil {
		return fmt.Errorf("batteries: %w", err)
	}
	rows, err = s.pool.Query(ctx, `SELECT credit_id::text, rider_id::text, origin, state, coalesce(swap_id::text, ''), opened_at FROM credit
		WHERE credit_id = NULLIF($1, '')::uuid OR swap_id = NULLIF($1, '')::uuid
			OR credit_id IN (SELECT credit_id FROM ledger WHERE review_id = $2 AND origin = 'review') ORDER BY 1`, string(c.SwapID), c.ReviewID)
	if err != nil {
		return fmt.Errorf("credits: %w", err)
	}
	c.Credits, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (swap.Credit, error) {
		var x swap.Credit
		return x, r.Scan(&x.CreditID, &x.RiderID, &x.Origin, &x.State, &x.SwapID, &x.OpenedAt)
	})
	if err != nil {
		return fmt.Errorf("credits: %w", err)
	}
	return nil
}

// caseRecords are the swap's records out of the messages that its cabinet signed;
// of a review without a swap, the one record.
func (s *Store) caseRecords(ctx context.Context, c *swap.ReviewCase, epoch protocol.Epoch, seq uint64, keys protocol.KeyLookup) error {
	rows, err := s.pool.Query(ctx, `SELECT r.seq, r.at, b.upto_seq FROM record r
		CROSS JOIN LATERAL (SELECT upto_seq FROM log_batch WHERE cabinet_id = r.cabinet_id AND epoch = r.epoch AND upto_seq >= r.seq ORDER BY 1 LIMIT 1) b
		WHERE r.cabinet_id = $1 AND r.epoch = $2 AND (r.swap_id = NULLIF($3, '')::uuid OR $3 = '' AND r.seq = $4) ORDER BY r.seq DESC LIMIT $5`,
		string(c.CabinetID), epoch[:], string(c.SwapID), int64(seq), maxRecords)
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	found := map[uint64]swap.RecordView{}
	var batches []int64
	var v swap.RecordView
	var upto int64
	_, err = pgx.ForEachRow(rows, []any{&v.Seq, &v.At, &upto}, func() error {
		found[v.Seq] = v
		batches = append(batches, upto)
		return nil
	})
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	return s.eachEnvelope(ctx, keys, func(r swap.Record) {
		if v, ok := found[r.Seq]; ok {
			c.Records = append(c.Records, recordView(r, epoch, v, false))
		}
	}, `SELECT envelope FROM log_batch WHERE cabinet_id = $1 AND epoch = $2 AND upto_seq = ANY($3) ORDER BY upto_seq`, string(c.CabinetID), epoch[:], batches)
}

// lateRecords are what the cabinet said of the swap when its epoch was over.
func (s *Store) lateRecords(ctx context.Context, c *swap.ReviewCase, epoch protocol.Epoch, keys protocol.KeyLookup) error {
	return s.eachEnvelope(ctx, keys, func(r swap.Record) {
		if (swap.SwapOf(r) == c.SwapID || c.SwapID == "") && len(c.Records) < maxRecords {
			c.Records = append(c.Records, recordView(r, epoch, swap.RecordView{}, true))
		}
	}, `SELECT envelope FROM late_batch WHERE cabinet_id = $1 AND epoch = $2 ORDER BY from_seq, received_at`, string(c.CabinetID), epoch[:])
}

func recordView(r swap.Record, epoch protocol.Epoch, v swap.RecordView, late bool) swap.RecordView {
	return swap.RecordView{Epoch: epoch, Seq: r.Seq, BootSeq: r.BootSeq, Type: r.Type, At: v.At, Payload: r.Payload, Late: late}
}

// eachEnvelope opens stored messages, and goes through their records. One that
// its key does not bear out is no evidence: the audit says so.
func (s *Store) eachEnvelope(ctx context.Context, keys protocol.KeyLookup, see func(swap.Record), sql string, args ...any) error {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("log messages: %w", err)
	}
	var raw []byte
	_, err = pgx.ForEachRow(rows, []any{&raw}, func() error {
		_, rs, err := openLog(append([]byte(nil), raw...), keys)
		if err != nil {
			s.log.Error("a stored log message cannot be read", "err", err)
			return nil
		}
		for _, r := range rs {
			see(r)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("log messages: %w", err)
	}
	return nil
}

// openLog verifies and takes apart a stored log message.
func openLog(raw []byte, keys protocol.KeyLookup) (protocol.Log, []swap.Record, error) {
	var l protocol.Log
	e, err := protocol.Open(raw, keys)
	if err != nil {
		return l, nil, err
	}
	if err := protocol.Decode(e, &l); err != nil {
		return l, nil, err
	}
	rs, err := swap.DecodeLog(l)
	return l, rs, err
}

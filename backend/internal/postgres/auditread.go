package postgres

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// auditPage bounds how many rows an audit holds of a long table, beside those of
// one cabinet.
const auditPage = 500

// stream is a long table in the order of its cabinets.
type stream[T any] struct {
	tx      pgx.Tx
	name    string
	scan    pgx.RowToFunc[T]
	cabinet func(T) protocol.CabinetID
	page    []T
	end     bool
}

func declare[T any](ctx context.Context, tx pgx.Tx, name, sql string, scan pgx.RowToFunc[T], cabinet func(T) protocol.CabinetID) (*stream[T], error) {
	if _, err := tx.Exec(ctx, `DECLARE `+name+` NO SCROLL CURSOR FOR `+sql); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &stream[T]{tx: tx, name: name, scan: scan, cabinet: cabinet}, nil
}

// of are the rows of a cabinet, and those of cabinets before it that nobody asked
// for. Cabinets are asked for in rising order.
func (s *stream[T]) of(ctx context.Context, id protocol.CabinetID) (rows, strangers []T, err error) {
	for {
		for len(s.page) > 0 {
			at := s.cabinet(s.page[0])
			switch {
			case at > id:
				return rows, strangers, nil
			case at == id:
				rows = append(rows, s.page[0])
			default:
				strangers = append(strangers, s.page[0])
			}
			s.page = s.page[1:]
		}
		if s.end {
			return rows, strangers, nil
		}
		fetched, err := s.tx.Query(ctx, fmt.Sprintf(`FETCH %d FROM %s`, auditPage, s.name))
		if err == nil {
			s.page, err = pgx.CollectRows(fetched, s.scan)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", s.name, err)
		}
		s.end = len(s.page) == 0
	}
}

func auditedCabinets(ctx context.Context, tx pgx.Tx) ([]*swap.Cabinet, error) {
	rows, err := tx.Query(ctx, `SELECT `+cabinetColumns+` ORDER BY k.cabinet_id COLLATE "C"`)
	if err != nil {
		return nil, fmt.Errorf("read cabinets: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(pgx.CollectableRow) (*swap.Cabinet, error) { return scanCabinet(rows) })
	if err != nil {
		return nil, fmt.Errorf("read cabinets: %w", err)
	}
	return out, nil
}

// storedReview is a row of review.
type storedReview struct {
	swap.Review
	openedAt time.Time
}

func (v storedReview) key() string {
	return fmt.Sprintf("%s of %s %s, record %s %d", v.Reason, v.CabinetID, v.SwapID, v.Epoch, v.Seq)
}

func (v storedReview) evidence() string {
	inv, err := json.Marshal(v.Inventory)
	if err != nil {
		return err.Error()
	}
	if len(v.Inventory) == 0 {
		inv = nil
	}
	return fmt.Sprintf("rider %s, at %s %s, %v %s", v.RiderID, v.At.UTC().Format(time.RFC3339Nano), v.Quality, v.Explanations, inv)
}

// storedReviews are all reviews, in the order of their records.
func storedReviews(ctx context.Context, tx pgx.Tx) (map[protocol.CabinetID][]storedReview, error) {
	rows, err := tx.Query(ctx, `SELECT coalesce(swap_id::text, ''), cabinet_id, coalesce(rider_id::text, ''), reason, explanations, inventory, epoch, seq, at,
		time_quality, opened_at FROM review ORDER BY seq, review_id`)
	if err != nil {
		return nil, fmt.Errorf("read reviews: %w", err)
	}
	out := map[protocol.CabinetID][]storedReview{}
	for rows.Next() {
		var v storedReview
		var epoch, inventory []byte
		if err := rows.Scan(&v.SwapID, &v.CabinetID, &v.RiderID, &v.Reason, &v.Explanations, &inventory, &epoch, &v.Seq, &v.At, &v.Quality, &v.openedAt); err != nil {
			return nil, fmt.Errorf("read reviews: %w", err)
		}
		copy(v.Epoch[:], epoch)
		if inventory != nil {
			if err := json.Unmarshal(inventory, &v.Inventory); err != nil {
				return nil, fmt.Errorf("read reviews: inventory: %w", err)
			}
		}
		out[v.CabinetID] = append(out[v.CabinetID], v)
	}
	return out, rows.Err()
}

// others are swaps of other cabinets that this one spoke of.
func (r *retelling) others(ctx context.Context) ([]*swap.Swap, error) {
	rows, err := r.tx.Query(ctx, `SELECT `+swapColumns+` FROM swap WHERE cabinet_id <> $1 AND swap_id IN (SELECT swap_id FROM record WHERE cabinet_id = $1)`, string(r.id))
	if err != nil {
		return nil, fmt.Errorf("read other swaps: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*swap.Swap, error) { return scanSwap(row) })
	if err != nil {
		return nil, fmt.Errorf("read other swaps: %w", err)
	}
	return out, nil
}

// epochWords is an epoch that counts or has counted, from when it was first heard
// of.
type epochWords struct {
	epoch protocol.Epoch
	began time.Time
}

func (r *retelling) epochs(ctx context.Context) ([]epochWords, error) {
	rows, err := r.tx.Query(ctx, `SELECT epoch, min(at) FROM (
			SELECT epoch, seen_at AS at FROM cabinet_epoch WHERE cabinet_id = $1 AND state <> 'waiting'
			UNION ALL SELECT epoch, received_at FROM log_batch WHERE cabinet_id = $1) e GROUP BY epoch ORDER BY 2`, string(r.id))
	if err != nil {
		return nil, fmt.Errorf("read epochs: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (epochWords, error) {
		var e epochWords
		var raw []byte
		err := row.Scan(&raw, &e.began)
		copy(e.epoch[:], raw)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("read epochs: %w", err)
	}
	return out, nil
}

// batches are the messages of an epoch after a record.
func (r *retelling) batches(ctx context.Context, e protocol.Epoch, after uint64) ([]words, error) {
	rows, err := r.tx.Query(ctx, `SELECT cabinet_id, from_seq, upto_seq, kid, envelope, received_at FROM log_batch
		WHERE cabinet_id = $1 AND epoch = $2 AND upto_seq > $3 ORDER BY upto_seq LIMIT $4`, string(r.id), e[:], int64(after), auditPage)
	if err != nil {
		return nil, fmt.Errorf("read log messages: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (words, error) {
		w := words{epoch: e}
		return w, row.Scan(&w.cabinet, &w.first, &w.last, &w.kid, &w.envelope, &w.receivedAt)
	})
	if err != nil {
		return nil, fmt.Errorf("read log messages: %w", err)
	}
	return out, nil
}

// storedRecord is a row of record.
type storedRecord struct {
	seq       uint64
	bootSeq   uint32
	typ       protocol.RecordType
	hash      protocol.Hash
	swapID    protocol.SwapID
	at        int64 // microseconds
	quality   swap.TimeQuality
	malformed string
}

func recordOf(x swap.Stored) storedRecord {
	out := storedRecord{
		seq: x.Record.Seq, bootSeq: x.BootSeq, typ: x.Type, hash: x.Hash, swapID: x.SwapID, at: x.At.UnixMicro(), quality: x.Quality,
	}
	if x.Malformed != nil {
		out.malformed = clean(x.Malformed.Error())
	}
	return out
}

func (x storedRecord) String() string {
	if x.seq == 0 {
		return "none"
	}
	return fmt.Sprintf("%s boot %d %s of %q at %s %s %s", x.typ, x.bootSeq, x.hash, x.swapID, time.UnixMicro(x.at).UTC().Format(time.RFC3339Nano), x.quality, x.malformed)
}

// recordRows are the rows of one epoch, read beside its messages.
type recordRows struct {
	r     *retelling
	epoch protocol.Epoch
	page  []storedRecord
	last  uint64
	end   bool
}

// compare holds the rows up to a record against what they should be.
func (x *recordRows) compare(ctx context.Context, want []storedRecord, upto uint64) error {
	differ := func(have, want storedRecord) {
		x.r.rep.differ("record", fmt.Sprintf("%s %s %d", x.r.id, x.epoch, max(have.seq, want.seq)), have.String(), want.String())
	}
	for {
		if len(x.page) == 0 && !x.end {
			if err := x.read(ctx); err != nil {
				return err
			}
		}
		if len(x.page) == 0 || x.page[0].seq > upto {
			break
		}
		have := x.page[0]
		for len(want) > 0 && want[0].seq < have.seq {
			differ(storedRecord{}, want[0])
			want = want[1:]
		}
		x.page = x.page[1:]
		if len(want) == 0 || want[0].seq > have.seq {
			differ(have, storedRecord{})
			continue
		}
		if have != want[0] {
			differ(have, want[0])
		}
		want = want[1:]
	}
	for _, w := range want {
		differ(storedRecord{}, w)
	}
	return nil
}

func (x *recordRows) read(ctx context.Context) error {
	rows, err := x.r.tx.Query(ctx, `SELECT seq, boot_seq, type, hash, coalesce(swap_id::text, ''), at, time_quality, coalesce(malformed, '') FROM record
		WHERE cabinet_id = $1 AND epoch = $2 AND seq > $3 ORDER BY seq LIMIT $4`, string(x.r.id), x.epoch[:], int64(x.last), auditPage)
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	x.page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (storedRecord, error) {
		var s storedRecord
		var hash []byte
		var at time.Time
		err := row.Scan(&s.seq, &s.bootSeq, &s.typ, &hash, &s.swapID, &at, &s.quality, &s.malformed)
		copy(s.hash[:], hash)
		s.at = at.UnixMicro()
		return s, err
	})
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	if x.end = len(x.page) == 0; !x.end {
		x.last = x.page[len(x.page)-1].seq
	}
	return nil
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// allKeys are the keys that ever spoke for a cabinet.
func allKeys(ctx context.Context, tx querier) (protocol.KeyLookup, error) {
	rows, err := tx.Query(ctx, `SELECT cabinet_id || ' ' || kid, public_key FROM cabinet_key`)
	if err != nil {
		return nil, fmt.Errorf("read device keys: %w", err)
	}
	keys := map[string]ed25519.PublicKey{}
	var name string
	var key []byte
	_, err = pgx.ForEachRow(rows, []any{&name, &key}, func() error {
		keys[name] = append(ed25519.PublicKey(nil), key...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read device keys: %w", err)
	}
	return func(kid string, _ protocol.Type, cabinet protocol.CabinetID) (ed25519.PublicKey, bool) {
		k, ok := keys[string(cabinet)+" "+kid]
		return k, ok
	}, nil
}

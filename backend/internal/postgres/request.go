package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Request makes a scan a swap: in one transaction, once per idempotency key. It
// returns the swap and the prepare to send, or the refusal. A repeated key gets
// the stored result; its prepare only while the cabinet has not answered. The
// scan's key must be 1 to 64 printable characters.
func (s *Store) Request(ctx context.Context, scan swap.Scan) (swap.View, *protocol.Prepare, *swap.Refusal, error) {
	if err := checkKey(scan.IdempotencyKey); err != nil {
		return swap.View{}, nil, nil, err
	}
	if !isUUID(string(scan.RiderID)) {
		return swap.View{}, nil, &swap.Refusal{Reason: protocol.ReasonRiderNotActive}, nil
	}
	if scan.CabinetID.Validate() != nil {
		return swap.View{}, nil, &swap.Refusal{Reason: protocol.ReasonCabinetUnknown}, nil
	}
	id := newID()
	for {
		if v, p, no, err := s.look(ctx, scan); !errors.Is(err, ErrNotFound) {
			return v, p, no, err
		}
		var no *swap.Refusal
		w := wanted{cabinets: strs(scan.CabinetID), openAt: strs(scan.CabinetID), riders: strs(scan.RiderID)}
		err := s.transact(ctx, w, func(l *loaded, b *pgx.Batch) error {
			var made *swap.Swap
			made, no = l.books.Request(scan, id, l.now, l.recovering)
			if l.books.Riders[scan.RiderID] == nil {
				return nil // nobody to store it for
			}
			queueScan(b, scan, made, no)
			return nil
		})
		switch {
		case err == nil && no != nil:
			return swap.View{}, nil, no, nil
		case err == nil, isConstraint(err, "scan_pkey"):
			// Another replica may have had the same key first: read what is stored.
		case isConstraint(err, "one_open_swap_per_cabinet"):
			return swap.View{}, nil, &swap.Refusal{Reason: protocol.ReasonBusy}, nil
		case isConstraint(err, "one_open_swap_per_rider"):
			return swap.View{}, nil, &swap.Refusal{Reason: protocol.ReasonSwapOpen}, nil
		default:
			return swap.View{}, nil, nil, fmt.Errorf("request a swap at %s: %w", scan.CabinetID, err)
		}
	}
}

// look answers what needs no lock: a key that has been used, or a cabinet that
// somebody else is at. In a rush the losers then do not stand in the way of the
// one who was first. ErrNotFound when it has to be decided.
func (s *Store) look(ctx context.Context, scan swap.Scan) (swap.View, *protocol.Prepare, *swap.Refusal, error) {
	v, p, no, err := s.stored(ctx, scan)
	if !errors.Is(err, ErrNotFound) {
		return v, p, no, err
	}
	var busy bool
	err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM swap WHERE cabinet_id = $1 AND state <> 'closed')
			AND EXISTS (SELECT FROM cabinet JOIN cabinet_cursor USING (cabinet_id)
				WHERE cabinet_id = $1 AND NOT out_of_service AND NOT forked AND epoch IS NOT NULL)
			AND EXISTS (SELECT FROM rider WHERE rider_id = $2 AND active)
			AND NOT EXISTS (SELECT FROM swap WHERE rider_id = $2 AND state <> 'closed')`,
		string(scan.CabinetID), string(scan.RiderID)).Scan(&busy)
	if err != nil {
		return swap.View{}, nil, nil, fmt.Errorf("look at %s: %w", scan.CabinetID, err)
	}
	if !busy {
		return swap.View{}, nil, nil, ErrNotFound
	}
	no = &swap.Refusal{Reason: protocol.ReasonBusy}
	var b pgx.Batch
	queueScan(&b, scan, nil, no)
	if err := s.pool.SendBatch(ctx, &b).Close(); err != nil && !isConstraint(err, "scan_pkey") {
		return swap.View{}, nil, nil, fmt.Errorf("store the scan at %s: %w", scan.CabinetID, err)
	} else if err != nil {
		return s.stored(ctx, scan)
	}
	return swap.View{}, nil, no, nil
}

func checkKey(key string) error {
	if len(key) == 0 || len(key) > 64 {
		return fmt.Errorf("idempotency key: %d characters, want 1 to 64", len(key))
	}
	for _, c := range []byte(key) {
		if c < ' ' || c > '~' {
			return errors.New("idempotency key: want printable ASCII characters")
		}
	}
	return nil
}

func queueScan(b *pgx.Batch, scan swap.Scan, made *swap.Swap, no *swap.Refusal) {
	var id, reason, other string
	if made != nil {
		id = string(made.SwapID)
	} else {
		reason, other = string(no.Reason), string(no.SwapID)
	}
	b.Queue(`INSERT INTO scan (rider_id, idempotency_key, cabinet_id, hand_back, swap_id, reason, other_swap_id)
		VALUES ($1, $2, $3, $4, NULLIF($5, '')::uuid, NULLIF($6, ''), NULLIF($7, '')::uuid)`,
		string(scan.RiderID), scan.IdempotencyKey, string(scan.CabinetID), scan.HandBack, id, reason, other)
}

// stored is the result of a key that has been used; ErrNotFound when it has not.
func (s *Store) stored(ctx context.Context, scan swap.Scan) (swap.View, *protocol.Prepare, *swap.Refusal, error) {
	var cabinet protocol.CabinetID
	var handBack bool
	var id, reason, other string
	err := s.pool.QueryRow(ctx, `SELECT cabinet_id, hand_back, coalesce(swap_id::text, ''), coalesce(reason, ''),
		coalesce(other_swap_id::text, '') FROM scan WHERE rider_id = $1 AND idempotency_key = $2`,
		string(scan.RiderID), scan.IdempotencyKey).Scan(&cabinet, &handBack, &id, &reason, &other)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return swap.View{}, nil, nil, ErrNotFound
	case err != nil:
		return swap.View{}, nil, nil, fmt.Errorf("look for the scan's key: %w", err)
	case cabinet != scan.CabinetID || handBack != scan.HandBack:
		return swap.View{}, nil, nil, ErrKeyReused
	case reason != "":
		return swap.View{}, nil, &swap.Refusal{Reason: protocol.Reason(reason), SwapID: protocol.SwapID(other)}, nil
	}
	v, err := s.Swap(ctx, scan.RiderID, protocol.SwapID(id))
	if err != nil {
		return swap.View{}, nil, nil, fmt.Errorf("read the stored swap: %w", err)
	}
	if v.State != swap.StateRequested {
		return v, nil, nil, nil
	}
	return v, &protocol.Prepare{SwapID: v.SwapID, Kind: v.Kind, Presence: scan.Presence}, nil, nil
}

// Prepared decides what a cabinet prepared, under its cursor's lock and in one
// commit. A nil grant means that it is not granted; why is logged.
func (s *Store) Prepared(ctx context.Context, id protocol.CabinetID, m protocol.Prepared) (*protocol.Grant, error) {
	var rider string
	err := s.pool.QueryRow(ctx, `SELECT rider_id::text FROM swap WHERE swap_id = $1 AND cabinet_id = $2 AND rider_id IS NOT NULL`,
		string(m.SwapID), string(id)).Scan(&rider)
	if errors.Is(err, pgx.ErrNoRows) {
		s.log.Info("not granted", "cabinet_id", id, "swap_id", m.SwapID, "reason", "not a swap of this cabinet")
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("grant %s: %w", m.SwapID, err)
	}
	ref := s.o.RiderRef(id, swap.RiderID(rider))
	var g *protocol.Grant
	w := wanted{cabinets: strs(id), swaps: strs(m.SwapID), riders: []string{rider}}
	err = s.transact(ctx, w, func(l *loaded, _ *pgx.Batch) error {
		c := l.books.Cabinets[id]
		var why error
		if g, why = l.books.Grant(c, m, ref, l.now, l.recovering); why != nil {
			s.log.Info("not granted", "cabinet_id", id, "swap_id", m.SwapID, "reason", why.Error())
		}
		return nil
	})
	if isConstraint(err, "one_swap_per_nonce") {
		s.log.Warn("not granted", "cabinet_id", id, "swap_id", m.SwapID, "reason", "its nonce has been used before")
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("grant %s: %w", m.SwapID, err)
	}
	return g, nil
}

// Refused closes a request that its cabinet refused. For a swap that has been
// granted it does nothing: only records end that.
func (s *Store) Refused(ctx context.Context, id protocol.CabinetID, m protocol.Refused) error {
	err := s.transact(ctx, wanted{cabinets: strs(id), swaps: strs(m.SwapID)}, func(l *loaded, _ *pgx.Batch) error {
		if c := l.books.Cabinets[id]; c != nil {
			l.books.Refuse(c, m, l.now)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("close the refused swap %s: %w", m.SwapID, err)
	}
	return nil
}

// Expired is a request that no cabinet answered in time: the caller sends cancel.
type Expired struct {
	CabinetID protocol.CabinetID
	SwapID    protocol.SwapID
}

// maxExpired bounds how many requests one call closes.
const maxExpired = 256

// ExpireRequests closes requests that were not granted in time. Any replica may
// call it at any moment.
func (s *Store) ExpireRequests(ctx context.Context) ([]Expired, error) {
	rows, err := s.pool.Query(ctx, `SELECT swap_id::text, cabinet_id FROM swap
		WHERE state = 'requested' AND requested_at < clock_timestamp() - $1::interval LIMIT $2`,
		swap.RequestExpires, maxExpired)
	if err != nil {
		return nil, fmt.Errorf("look for old requests: %w", err)
	}
	var ids, cabinets []string
	var id, cabinet string
	if _, err := pgx.ForEachRow(rows, []any{&id, &cabinet}, func() error {
		ids, cabinets = append(ids, id), append(cabinets, cabinet)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("look for old requests: %w", err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var out []Expired
	err = s.transact(ctx, wanted{cabinets: cabinets, swaps: ids}, func(l *loaded, _ *pgx.Batch) error {
		out = nil
		for _, id := range ids {
			if r := l.books.Swaps[protocol.SwapID(id)]; r != nil && l.books.Expire(r, l.now) {
				out = append(out, Expired{r.CabinetID, r.SwapID})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("close old requests: %w", err)
	}
	return out, nil
}

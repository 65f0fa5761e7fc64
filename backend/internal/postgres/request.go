package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// scanKey names a scan.
type scanKey struct {
	rider swap.RiderID
	key   string
}

// storedScan is a scan and what it became: a swap, or the reason why not.
type storedScan struct {
	swap.Scan
	swapID protocol.SwapID
	reason protocol.Reason
	other  protocol.SwapID // the rider's other swap, for swap_open
}

func (s storedScan) key() scanKey { return scanKey{s.RiderID, s.IdempotencyKey} }

func scanStored(r pgx.Row) (storedScan, error) {
	var s storedScan
	err := r.Scan(&s.RiderID, &s.IdempotencyKey, &s.CabinetID, &s.HandBack, &s.swapID, &s.reason, &s.other)
	return s, err
}

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
	asked := storedScan{Scan: scan}
	id := newID()
	w := wanted{
		cabinets: strs(scan.CabinetID), busyAt: strs(scan.CabinetID), riders: strs(scan.RiderID),
		scanRiders: strs(scan.RiderID), scanKeys: []string{scan.IdempotencyKey},
	}
	var result storedScan
	var view swap.View
	var fresh bool
	err := s.decide(ctx, w, func(l *loaded) {
		var again bool
		if result, again = l.scans[asked.key()]; again {
			fresh = false
			return
		}
		made, no := l.books.Request(scan, id, l.now, l.recovering)
		result, fresh = asked, true
		if made != nil {
			result.swapID, view = id, made.View(l.reachable(l.books.Cabinets[scan.CabinetID]))
		} else {
			result.reason, result.other = no.Reason, no.SwapID
		}
		if l.books.Riders[scan.RiderID] != nil { // else there is nobody to store it for
			l.scans[asked.key()] = result
			l.newScans = append(l.newScans, result)
		}
	})
	switch {
	case err != nil:
		return swap.View{}, nil, nil, fmt.Errorf("request a swap at %s: %w", scan.CabinetID, err)
	case result.CabinetID != scan.CabinetID || result.HandBack != scan.HandBack:
		return swap.View{}, nil, nil, ErrKeyReused
	case result.reason != "":
		return swap.View{}, nil, &swap.Refusal{Reason: result.reason, SwapID: result.other}, nil
	case !fresh:
		if view, err = s.Swap(ctx, scan.RiderID, result.swapID); err != nil {
			return swap.View{}, nil, nil, fmt.Errorf("read the stored swap: %w", err)
		}
	}
	if view.State != swap.StateRequested {
		return view, nil, nil, nil
	}
	return view, &protocol.Prepare{SwapID: view.SwapID, Kind: view.Kind, Presence: scan.Presence}, nil, nil
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

// Prepared decides what a cabinet prepared, under its cursor's lock and in one
// commit. A nil grant means that it is not granted; why is logged.
func (s *Store) Prepared(ctx context.Context, id protocol.CabinetID, m protocol.Prepared) (*protocol.Grant, error) {
	var g *protocol.Grant
	var why error
	err := s.decide(ctx, wanted{cabinets: strs(id), grants: strs(m.SwapID)}, func(l *loaded) {
		g, why = nil, errors.New("not a swap of this cabinet")
		c, r := l.books.Cabinets[id], l.books.Swaps[m.SwapID]
		if c != nil && r != nil && r.CabinetID == id && r.RiderID != "" {
			g, why = l.books.Grant(c, m, s.o.RiderRef(id, r.RiderID), l.now, l.recovering)
		}
	})
	switch {
	case isConstraint(err, "one_swap_per_nonce"):
		s.log.Warn("not granted", "cabinet_id", id, "swap_id", m.SwapID, "reason", "its nonce has been used before")
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("grant %s: %w", m.SwapID, err)
	case why != nil:
		s.log.Info("not granted", "cabinet_id", id, "swap_id", m.SwapID, "reason", why.Error())
	}
	return g, nil
}

// Refused closes a request that its cabinet refused. For a swap that has been
// granted it does nothing: only records end that.
func (s *Store) Refused(ctx context.Context, id protocol.CabinetID, m protocol.Refused) error {
	err := s.decide(ctx, wanted{cabinets: strs(id), alone: strs(m.SwapID)}, func(l *loaded) {
		if c := l.books.Cabinets[id]; c != nil {
			l.books.Refuse(c, m, l.now)
		}
	})
	if err != nil {
		return fmt.Errorf("close the refused swap %s: %w", m.SwapID, err)
	}
	return nil
}

// Withdraw closes a request for which nobody waits any longer, and reports
// whether the swap is one that never starts. What has been granted goes on.
func (s *Store) Withdraw(ctx context.Context, id protocol.CabinetID, swapID protocol.SwapID) (over bool, err error) {
	err = s.decide(ctx, wanted{cabinets: strs(id), alone: strs(swapID)}, func(l *loaded) {
		over = false
		if r := l.books.Swaps[swapID]; r != nil && r.CabinetID == id {
			over = l.books.Withdraw(r, l.now) || r.Outcome == protocol.OutcomeNotStarted
		}
	})
	if err != nil {
		return false, fmt.Errorf("withdraw the request %s: %w", swapID, err)
	}
	return over, nil
}

// NeverStarts reports whether the swap of this cabinet ended without a grant
// that counts: whatever the cabinet has prepared for it is of no use.
func (s *Store) NeverStarts(ctx context.Context, id protocol.CabinetID, swapID protocol.SwapID) (bool, error) {
	var over bool
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM swap WHERE swap_id = $1 AND cabinet_id = $2 AND outcome = $3)`,
		string(swapID), string(id), string(protocol.OutcomeNotStarted)).Scan(&over)
	if err != nil {
		return false, fmt.Errorf("read swap %s: %w", swapID, err)
	}
	return over, nil
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
	err = s.transact(ctx, wanted{cabinets: cabinets, alone: ids}, func(l *loaded, _ *pgx.Batch) error {
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

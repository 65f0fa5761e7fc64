package memory

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

type scanKey struct {
	rider swap.RiderID
	key   string
}

// scanned is the stored result of a scan.
type scanned struct {
	swap    protocol.SwapID
	refusal *swap.Refusal
}

// Request makes a scan a swap, once per idempotency key. It returns the swap and
// the prepare to send, nil once the cabinet has answered, or the refusal.
func (s *Store) Request(now time.Time, scan swap.Scan) (protocol.SwapID, *protocol.Prepare, *swap.Refusal) {
	key := scanKey{scan.RiderID, scan.IdempotencyKey}
	had, known := s.rows.scans[key]
	if !known {
		made, no := s.rows.books.Request(scan, s.o.NewID(), now, !s.rows.recovering.IsZero())
		if made != nil && s.openTwice(made) {
			delete(s.rows.books.Swaps, made.SwapID)
			made, no = nil, &swap.Refusal{Reason: protocol.ReasonBusy}
		}
		if made != nil {
			had.swap = made.SwapID
		}
		had.refusal = no
		s.rows.scans[key] = had
		s.commit()
	}
	if had.refusal != nil {
		return "", nil, had.refusal
	}
	x := s.rows.books.Swaps[had.swap]
	if x == nil || x.State != swap.StateRequested {
		return had.swap, nil, nil
	}
	return had.swap, &protocol.Prepare{SwapID: x.SwapID, Kind: x.Kind, Presence: scan.Presence}, nil
}

// openTwice is the unique indexes over open swaps: one for each cabinet, and one
// for each rider but for those that are parked. They guard requests, not facts.
func (s *Store) openTwice(made *swap.Swap) bool {
	for _, x := range s.rows.books.Swaps {
		if x == made || !x.Open() || x.ByFact {
			continue
		}
		if x.CabinetID == made.CabinetID || x.RiderID == made.RiderID && !x.Parked {
			return true
		}
	}
	return false
}

// Prepared decides what a cabinet prepared. A nil grant comes with the reason.
func (s *Store) Prepared(now time.Time, id protocol.CabinetID, m protocol.Prepared) (*protocol.Grant, error) {
	c, x := s.rows.books.Cabinets[id], s.rows.books.Swaps[m.SwapID]
	if c == nil || x == nil {
		return nil, fmt.Errorf("swap_id %s: not an open swap of this cabinet", m.SwapID)
	}
	nonce := nonceKey{id, m.Nonce}
	if by, used := s.rows.nonces[nonce]; used && by != m.SwapID {
		return nil, fmt.Errorf("nonce: %w", ErrUnique)
	}
	g, why := s.rows.books.Grant(c, m, s.o.RiderRef(id, x.RiderID), now, !s.rows.recovering.IsZero())
	if g != nil {
		s.rows.nonces[nonce] = m.SwapID
	}
	s.commit()
	return g, why
}

// Refused closes a request that its cabinet refused.
func (s *Store) Refused(now time.Time, id protocol.CabinetID, m protocol.Refused) {
	if c := s.rows.books.Cabinets[id]; c != nil {
		s.rows.books.Refuse(c, m, now)
		s.commit()
	}
}

// Expired is a request that no cabinet answered in time: the caller sends cancel.
type Expired struct {
	CabinetID protocol.CabinetID
	SwapID    protocol.SwapID
}

// Expire closes requests that were not granted in time.
func (s *Store) Expire(now time.Time) []Expired {
	var out []Expired
	for _, x := range sortedSwaps(s.rows.books.Swaps) {
		if s.rows.books.Expire(x, now) {
			out = append(out, Expired{x.CabinetID, x.SwapID})
		}
	}
	if out != nil {
		s.commit()
	}
	return out
}

func sortedSwaps(m map[protocol.SwapID]*swap.Swap) []*swap.Swap {
	return slices.SortedFunc(maps.Values(m), func(a, b *swap.Swap) int { return cmp.Compare(a.SwapID, b.SwapID) })
}

package memory

import (
	"maps"
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// View is the rows as they are. Nothing of it may be changed, and it holds until
// the next call of the Store.
type View struct {
	Cabinets   map[protocol.CabinetID]*swap.Cabinet
	Riders     map[swap.RiderID]*swap.Rider
	Credits    map[swap.CreditID]*swap.Credit
	Batteries  map[protocol.BatterySerial]*swap.Battery
	Swaps      map[protocol.SwapID]*swap.Swap // open and closed
	Ledger     []swap.Entry
	Reviews    []swap.Review
	Days       map[swap.DayKey]int
	Recovering time.Time
}

// View shows the rows.
func (s *Store) View() View {
	r := s.rows
	all := maps.Clone(r.closed)
	maps.Copy(all, r.books.Swaps)
	return View{
		Cabinets: r.books.Cabinets, Riders: r.books.Riders, Credits: r.books.Credits, Batteries: r.books.Batteries,
		Swaps: all, Ledger: r.ledger, Reviews: r.reviews, Days: r.days, Recovering: r.recovering,
	}
}

// Open are the swaps that are not closed.
func (s *Store) Open() map[protocol.SwapID]*swap.Swap { return s.rows.books.Swaps }

// Swap is one swap, nil when there is none.
func (s *Store) Swap(id protocol.SwapID) *swap.Swap {
	if x := s.rows.books.Swaps[id]; x != nil {
		return x
	}
	return s.rows.closed[id]
}

// Waiting reports whether an epoch of the cabinet waits for staff.
func (s *Store) Waiting(id protocol.CabinetID) bool {
	c := s.rows.cabinets[id]
	return c != nil && !c.waiting.IsZero()
}

// Hash is that of a record in the books.
func (s *Store) Hash(id protocol.CabinetID, e protocol.Epoch, seq uint64) (protocol.Hash, bool) {
	h, ok := s.rows.cabinets[id].hashes[recordKey{e, seq}]
	return h, ok
}

// Cabinet is one cabinet's cursor, nil when there is none.
func (s *Store) Cabinet(id protocol.CabinetID) *swap.Cabinet { return s.rows.books.Cabinets[id] }

// Owed counts the open credits of a rider.
func (s *Store) Owed(rider swap.RiderID) int {
	n := 0
	for _, c := range s.rows.books.Credits {
		if c.RiderID == rider && c.State == swap.CreditOpen {
			n++
		}
	}
	return n
}

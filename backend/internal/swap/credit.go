package swap

import (
	"cmp"
	"slices"

	"batteryswap/protocol"
)

// openCredit records that the fleet owes the swap's rider a battery. When the
// rider has already taken one that the books could not place (a restored
// database learns of spending before origin), it is settled at once.
func (b *Books) openCredit(s *Swap, at Stamp) {
	cr := &Credit{CreditID: s.SwapID, RiderID: s.RiderID, Origin: OriginSwap, State: CreditOpen, OpenedAt: at.At}
	b.Credits[cr.CreditID] = cr
	b.touchCredit(cr)
	b.enter(s, at, Entry{What: CreditOpened, CreditID: cr.CreditID, Origin: cr.Origin})
	b.settle(s, cr, at)
}

// settle uses an open credit up against a take that waited for one.
func (b *Books) settle(s *Swap, cr *Credit, at Stamp) {
	r := b.Riders[cr.RiderID]
	if r == nil || r.CreditsDue == 0 || cr.Origin.Kind() != protocol.KindOwed {
		return
	}
	r.CreditsDue--
	b.touchRider(r)
	cr.State, cr.SwapID = CreditSettled, ""
	b.touchCredit(cr)
	b.enter(s, at, Entry{What: CreditBalanced, CreditID: cr.CreditID})
}

// openCredits are the rider's open credits, oldest first.
func (b *Books) openCredits(rider RiderID) []*Credit {
	var out []*Credit
	for _, cr := range b.Credits {
		if cr.RiderID == rider && cr.State == CreditOpen {
			out = append(out, cr)
		}
	}
	slices.SortFunc(out, func(a, c *Credit) int { return cmp.Compare(a.CreditID, c.CreditID) }) // they rise with time
	return out
}

// reserve sets a credit aside for a granted swap.
func (b *Books) reserve(s *Swap, cr *Credit, at Stamp) {
	cr.State, cr.SwapID = CreditReserved, s.SwapID
	b.touchCredit(cr)
	s.CreditID = cr.CreditID
	b.enter(s, at, Entry{What: CreditTaken, CreditID: cr.CreditID})
}

// reserveAny finds a credit for a swap that the books had not granted.
func (b *Books) reserveAny(s *Swap, at Stamp) {
	if s.Kind != protocol.KindOwed && s.Kind != protocol.KindIssue {
		return
	}
	if cr := b.Credits[s.CreditID]; cr != nil && cr.State == CreditReserved && cr.SwapID == s.SwapID {
		return
	}
	s.CreditID = ""
	for _, cr := range b.openCredits(s.RiderID) {
		if cr.Origin.Kind() == s.Kind {
			b.reserve(s, cr, at)
			return
		}
	}
}

// spend uses the credit of an owed or issue swap up, at the take.
func (b *Books) spend(s *Swap, at Stamp) {
	if s.Kind != protocol.KindOwed && s.Kind != protocol.KindIssue {
		return
	}
	b.reserveAny(s, at) // its origin may have been told since the ACCEPT
	if s.CreditID == "" && s.Kind == protocol.KindIssue {
		b.takeOver(s, at)
	}
	if cr := b.Credits[s.CreditID]; cr != nil && cr.State == CreditReserved && cr.SwapID == s.SwapID {
		cr.State = CreditSpent
		b.touchCredit(cr)
		b.enter(s, at, Entry{What: CreditUsed, CreditID: cr.CreditID})
		return
	}
	// Origin and spending commute: the credit may yet be told by the cabinet
	// where it was left. A first battery has no cabinet to tell of it.
	if r := b.Riders[s.RiderID]; r != nil && s.Kind == protocol.KindOwed {
		r.CreditsDue++
		b.touchRider(r)
		b.enter(s, at, Entry{What: CreditDue})
	}
}

// takeOver uses a first battery's credit that an earlier swap had reserved: in a
// restored database that swap may have ended long ago, untold. A battery that was
// taken goes before one that was only set aside.
func (b *Books) takeOver(s *Swap, at Stamp) {
	for _, cr := range sorted(b.Credits) {
		if cr.RiderID == s.RiderID && cr.State == CreditReserved && cr.Origin == OriginStaff {
			b.reserve(s, cr, at)
			return
		}
	}
}

// free gives a reserved credit back: nothing was taken.
func (b *Books) free(s *Swap, at Stamp) {
	cr := b.Credits[s.CreditID]
	if cr == nil || cr.State != CreditReserved || cr.SwapID != s.SwapID {
		return
	}
	cr.State, cr.SwapID = CreditOpen, ""
	b.touchCredit(cr)
	b.enter(s, at, Entry{What: CreditFreed, CreditID: cr.CreditID})
	b.settle(s, cr, at)
}

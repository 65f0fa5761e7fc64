package swap

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"batteryswap/protocol"
)

// Windows of a request, by the database's clock.
const (
	// PreparedWithin is how long after the request a cabinet's answer is granted.
	PreparedWithin = 5 * time.Second
	// RequestExpires is when a request that was not granted is closed.
	RequestExpires = 10 * time.Second
)

// Request makes a scan a swap, or says why not.
func (b *Books) Request(scan Scan, id protocol.SwapID, now time.Time, recovering bool) (*Swap, *Refusal) {
	d, no := Decide(scan.HandBack, b.Standing(scan.RiderID, scan.CabinetID, now, recovering))
	if no != nil {
		return nil, no
	}
	at := Now(now)
	for _, other := range d.Park {
		b.Swaps[other].Parked = true
		b.touchSwap(b.Swaps[other], at)
	}
	c := b.Cabinets[scan.CabinetID]
	s := &Swap{
		SwapID: id, CabinetID: scan.CabinetID, RiderID: scan.RiderID, Kind: d.Kind,
		State: StateRequested, Step: StepRequested, ViewSeq: c.LastSeq, RequestedAt: now,
	}
	b.Swaps[id] = s
	b.touchSwap(s, at)
	return s, nil
}

// Grant decides what a cabinet prepared, and reserves the credit. A nil grant
// comes with the reason why, for the log. The caller holds the cabinet's cursor.
func (b *Books) Grant(c *Cabinet, p protocol.Prepared, ref protocol.RiderRef, now time.Time, recovering bool) (*protocol.Grant, error) {
	s := b.Swaps[p.SwapID]
	switch {
	case s == nil || s.CabinetID != c.CabinetID:
		return nil, fmt.Errorf("swap_id %s: not a swap of this cabinet", p.SwapID)
	case s.State != StateRequested:
		return nil, fmt.Errorf("swap is %s: want requested", cmp.Or(string(s.Outcome), string(s.State)))
	case p.Epoch != c.Epoch || c.Forked:
		return nil, fmt.Errorf("epoch %s: not the one that counts", p.Epoch)
	case p.BootSeq < c.BootSeq:
		return nil, fmt.Errorf("boot_seq is %d: boot %d has been told", p.BootSeq, c.BootSeq)
	case now.Sub(s.RequestedAt) >= PreparedWithin:
		return nil, fmt.Errorf("requested %s ago: want less than %s", now.Sub(s.RequestedAt), PreparedWithin)
	}
	at := Now(now)
	var credit *Credit
	if s.Kind == protocol.KindOwed || s.Kind == protocol.KindIssue {
		if recovering {
			b.notStarted(s, protocol.ReasonRecovering, at)
			return nil, fmt.Errorf("restored from a backup: no %s yet", s.Kind)
		}
		open := b.openCredits(s.RiderID)
		i := slices.IndexFunc(open, func(cr *Credit) bool { return cr.Origin.Kind() == s.Kind })
		if i < 0 {
			b.notStarted(s, protocol.ReasonNoBattery, at)
			return nil, fmt.Errorf("the rider has no open credit for an %s", s.Kind)
		}
		credit = open[i]
	}
	g := &protocol.Grant{SwapID: s.SwapID, Kind: s.Kind, Nonce: p.Nonce, BootID: p.BootID, RiderRef: ref}
	if s.Kind.Deposits() {
		g.DepositSlots, g.ExpectSerials = p.DepositSlots, b.expected(s.RiderID)
	}
	if s.Kind.Dispenses() {
		g.Dispense = p.Dispense
	}
	if s.Kind.Deposits() && len(g.ExpectSerials) == 0 {
		b.notStarted(s, protocol.ReasonNoBattery, at)
		return nil, fmt.Errorf("the rider has no battery to deposit")
	}
	if err := g.Validate(); err != nil {
		return nil, fmt.Errorf("prepared: %w", err)
	}
	s.State, s.Step = StateGranted, StepGranted
	s.Epoch, s.BootSeq, s.BootID, s.Nonce = p.Epoch, p.BootSeq, p.BootID, p.Nonce
	s.DepositSlots, s.Dispense = g.DepositSlots, g.Dispense
	if credit != nil {
		b.reserve(s, credit, at)
	}
	b.touchSwap(s, at)
	return g, nil
}

// Refuse closes a request that its cabinet refused. Anything later than a
// request is ended by records only.
func (b *Books) Refuse(c *Cabinet, p protocol.Refused, now time.Time) bool {
	s := b.Swaps[p.SwapID]
	if s == nil || s.CabinetID != c.CabinetID || s.State != StateRequested {
		return false
	}
	b.notStarted(s, p.Reason, Now(now))
	return true
}

// Expire closes a request that was not granted in time.
func (b *Books) Expire(s *Swap, now time.Time) bool {
	return now.Sub(s.RequestedAt) >= RequestExpires && b.Withdraw(s, now)
}

// Withdraw closes a request for which nobody waits any longer: its cabinet could
// not be asked, or did not answer.
func (b *Books) Withdraw(s *Swap, now time.Time) bool {
	if s.State != StateRequested {
		return false
	}
	b.notStarted(s, protocol.ReasonCabinetOffline, Now(now))
	return true
}

// View is the swap as its rider sees it.
func (s *Swap) View(reachable bool) View {
	return View{
		SwapID: s.SwapID, CabinetID: s.CabinetID, RiderID: s.RiderID, Kind: s.Kind, State: s.State,
		Step: s.Step, Slot: s.Slot, Door: s.Door, Outcome: s.Outcome, Reason: s.Reason,
		Deposited: s.Deposited, Soc: s.Soc, Taken: s.Taken, Seq: s.ViewSeq,
		StartedAt: s.RequestedAt, UpdatedAt: s.UpdatedAt, Reachable: reachable,
	}
}

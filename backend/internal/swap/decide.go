package swap

import (
	"slices"
	"time"

	"batteryswap/protocol"
)

// UnreachableAfter is how long a cabinet must be silent before its open swap no
// longer stops its rider from a deposit-first swap elsewhere.
const UnreachableAfter = 10 * time.Minute

// Standing is all that a scan is decided on.
type Standing struct {
	Cabinet     *Cabinet // nil: no such cabinet
	Rider       *Rider   // nil: no such rider
	CabinetBusy bool     // it has an open swap, whoever's
	Open        []OpenSwap
	Batteries   int     // that the rider may deposit
	Credit      *Credit // the oldest open one, nil when there is none
	CreditBound bool    // a credit is reserved by a swap that is under review
	Recovering  bool    // restored from a backup
}

// OpenSwap is one open swap of the rider.
type OpenSwap struct {
	SwapID      protocol.SwapID
	State       State
	Unreachable bool // its cabinet has been silent for UnreachableAfter, or is not believed any more
}

// Decision is what a scan becomes.
type Decision struct {
	Kind protocol.Kind
	Park []protocol.SwapID // the rider's swaps that no longer stand in the way
}

// Decide says what a scan becomes, or why it becomes nothing.
func Decide(handBack bool, st Standing) (Decision, *Refusal) {
	switch {
	case st.Cabinet == nil:
		return Decision{}, &Refusal{Reason: protocol.ReasonCabinetUnknown}
	case st.Rider == nil || !st.Rider.Active:
		return Decision{}, &Refusal{Reason: protocol.ReasonRiderNotActive}
	}
	var d Decision
	for _, o := range st.Open {
		// A request that has touched nothing ends by itself within seconds.
		if !o.Unreachable || o.State == StateRequested {
			return Decision{}, &Refusal{Reason: protocol.ReasonSwapOpen, SwapID: o.SwapID}
		}
		d.Park = append(d.Park, o.SwapID)
	}
	switch {
	case st.Cabinet.OutOfService || st.Cabinet.Forked || st.Cabinet.Epoch.IsZero():
		return Decision{}, &Refusal{Reason: protocol.ReasonOutOfService}
	case st.CabinetBusy:
		return Decision{}, &Refusal{Reason: protocol.ReasonBusy}
	case handBack && st.Batteries > 0:
		d.Kind = protocol.KindHandBack
	case handBack:
		return Decision{}, &Refusal{Reason: st.nothing()}
	case len(d.Park) > 0 && st.Batteries > 0:
		d.Kind = protocol.KindSwap // deposit first: it can lose nothing
	case len(d.Park) > 0:
		return Decision{}, &Refusal{Reason: protocol.ReasonSwapOpen, SwapID: d.Park[0]}
	case st.Credit != nil && !st.Recovering:
		d.Kind = st.Credit.Origin.Kind()
	case st.Batteries > 0:
		d.Kind = protocol.KindSwap
	case st.Credit != nil:
		return Decision{}, &Refusal{Reason: protocol.ReasonRecovering}
	default:
		return Decision{}, &Refusal{Reason: st.nothing()}
	}
	return d, nil
}

// nothing is why a rider without battery and credit is refused.
func (st Standing) nothing() protocol.Reason {
	if st.Rider.OpenReviews > 0 || st.CreditBound {
		return protocol.ReasonUnderReview
	}
	return protocol.ReasonNoBattery
}

// Standing gathers what the books say of a rider before a cabinet. The books
// must hold the cabinet's and the rider's open swaps with their cabinets, the
// rider's credits that are not used up, and the rider's batteries.
func (b *Books) Standing(rider RiderID, cabinet protocol.CabinetID, now time.Time, recovering bool) Standing {
	st := Standing{Cabinet: b.Cabinets[cabinet], Rider: b.Riders[rider], Recovering: recovering}
	for _, s := range sorted(b.Swaps) {
		if !s.Open() {
			continue
		}
		if s.CabinetID == cabinet {
			st.CabinetBusy = true
		}
		if s.RiderID == rider {
			c := b.Cabinets[s.CabinetID]
			st.Open = append(st.Open, OpenSwap{s.SwapID, s.State, c == nil || c.Forked || now.Sub(c.HeardAt) > UnreachableAfter})
		}
	}
	st.Batteries = len(b.expected(rider))
	if open := b.openCredits(rider); len(open) > 0 {
		st.Credit = open[0]
	}
	for _, cr := range b.Credits {
		if cr.RiderID == rider && cr.State == CreditReserved {
			st.CreditBound = true
		}
	}
	return st
}

// expected are the batteries that a rider may deposit: what the rider has, or
// may have after a review, and what another open swap of the rider dispenses.
func (b *Books) expected(rider RiderID) []protocol.BatterySerial {
	var out []protocol.BatterySerial
	add := func(serial protocol.BatterySerial) {
		for _, have := range out {
			if have == serial {
				return
			}
		}
		if len(out) < protocol.MaxExpectSerials {
			out = append(out, serial)
		}
	}
	for _, serial := range b.held(WithRider, rider) {
		add(serial)
	}
	for _, s := range sorted(b.Swaps) {
		if s.Open() && s.RiderID == rider && s.State != StateRequested {
			for _, o := range s.Dispense {
				add(o.BatterySerial)
			}
		}
	}
	for _, serial := range b.held(UnderCheck, rider) {
		add(serial)
	}
	return out
}

// held are the batteries in a rider's custody, sorted.
func (b *Books) held(by Holder, rider RiderID) []protocol.BatterySerial {
	var out []protocol.BatterySerial
	for serial, x := range b.Batteries {
		if x.Holder == by && x.RiderID == rider {
			out = append(out, serial)
		}
	}
	slices.Sort(out)
	return out
}

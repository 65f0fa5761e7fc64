package postgres_test

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// memory is the books whole, in memory: the same rules without tables, locks and
// partial loads. What a database makes up, times and identifiers, it is told.
type memory struct {
	*swap.Books
	ledger  []swap.Entry
	reviews []memoryReview
	days    map[swap.DayKey]int
}

// memoryReview is a review with the position of the ledger at which it was opened.
type memoryReview struct {
	swap.Review
	opened  int
	decided *swap.Decided
}

func newMemory() *memory {
	return &memory{Books: swap.NewBooks(), days: map[swap.DayKey]int{}}
}

// keep appends what an act has changed.
func (m *memory) keep() {
	ch := m.Changes()
	for _, r := range ch.Reviews {
		same := func(x memoryReview) bool {
			return r.SwapID == "" && x.SwapID == "" && x.CabinetID == r.CabinetID && x.Epoch == r.Epoch && x.Seq == r.Seq && x.Reason == r.Reason
		}
		if !slices.ContainsFunc(m.reviews, same) {
			m.reviews = append(m.reviews, memoryReview{Review: r, opened: len(m.ledger) + len(ch.Entries)})
		}
	}
	m.ledger = append(m.ledger, ch.Entries...)
	for _, d := range ch.Days {
		m.days[d.DayKey] += d.Swaps
	}
	for _, d := range ch.Decisions {
		m.reviews[d.ReviewID-1].decided = &d.Decided
	}
}

// caseOf gathers what the ledger says of a review.
func (m *memory) caseOf(i int, act protocol.SwapID) swap.Case {
	v := m.reviews[i]
	c := swap.Case{
		ReviewID: int64(i + 1), SwapID: v.SwapID, CabinetID: v.CabinetID, RiderID: v.RiderID, Decided: v.decided,
		Next: map[protocol.BatterySerial]swap.Entry{}, Act: act,
	}
	last := map[protocol.BatterySerial]swap.Entry{}
	for n, e := range m.ledger {
		_, own := last[e.BatterySerial]
		_, next := c.Next[e.BatterySerial]
		switch {
		case e.ReviewID == c.ReviewID && e.Origin == swap.OriginReview:
			c.Given = append(c.Given, e.At)
		case e.BatterySerial == "" || c.SwapID == "":
		case e.SwapID == c.SwapID:
			last[e.BatterySerial] = e
			delete(c.Next, e.BatterySerial)
		case !next && (own || n >= v.opened):
			c.Next[e.BatterySerial] = e
		}
	}
	for _, e := range last {
		c.Batteries = append(c.Batteries, e)
	}
	slices.SortFunc(c.Batteries, func(x, y swap.Entry) int { return cmp.Compare(x.BatterySerial, y.BatterySerial) })
	return c
}

// clone is the books as they are now: what a backup keeps.
func (m *memory) clone() *memory {
	out := newMemory()
	for k, v := range m.Cabinets {
		c := *v
		c.Hashes = map[uint64]protocol.Hash{}
		for s, h := range v.Hashes {
			c.Hashes[s] = h
		}
		out.Cabinets[k] = &c
	}
	for k, v := range m.Swaps {
		s := *v
		s.Pulsed = slices.Clone(v.Pulsed)
		out.Swaps[k] = &s
	}
	for k, v := range m.Riders {
		r := *v
		out.Riders[k] = &r
	}
	for k, v := range m.Credits {
		c := *v
		out.Credits[k] = &c
	}
	for _, v := range m.Batteries {
		x := *v
		x.AheadOf = slices.Clone(v.AheadOf)
		out.AddBattery(&x)
	}
	for k, n := range m.days {
		out.days[k] = n
	}
	out.ledger, out.reviews = slices.Clone(m.ledger), slices.Clone(m.reviews)
	return out
}

// facts are all rows in words, without what a clock or a draw made of them.
func (m *memory) facts() map[string]string {
	out := map[string]string{}
	for id, r := range m.Riders {
		out["rider "+string(id)] = riderFacts(r.Deposits, r.Returns, r.Takes, r.Counted, r.Issued, r.CreditsDue, r.OpenReviews)
	}
	for id, c := range m.Credits {
		out["credit "+string(id)] = fmt.Sprintf("%s %s %s %s", c.RiderID, c.Origin, c.State, c.SwapID)
	}
	for id, x := range m.Batteries {
		out["battery "+string(id)] = fmt.Sprintf("%s %s %s %d %v %d", x.Holder, x.RiderID, x.CabinetID, x.Slot, x.AheadOf, x.Entries)
	}
	for id, s := range m.Swaps {
		out["swap "+string(id)] = fmt.Sprintf("%s %s %s %s %t %t %s %s %d %s %d %s %v %d %s %s %s %s %s %d", s.CabinetID, s.RiderID, s.Kind, s.State, s.ByFact,
			s.Parked, s.CreditID, s.Step, s.Slot, s.Judgement, s.DepositSlot, s.Deposited, s.Pulsed, s.TakeSlot, s.Taken, s.Outcome, s.Reason, s.Reviewed, s.Ruling, s.Entries)
	}
	for _, e := range m.ledger {
		out[fmt.Sprintf("entry %s %d", e.SwapID, e.EntryNo)] = entryFacts(e)
	}
	for i, v := range m.reviews {
		decided := ""
		if v.decided != nil {
			decided = string(v.decided.Decision) + " " + v.decided.By
		}
		out[fmt.Sprintf("review %d", i+1)] = fmt.Sprintf("%s %s %s %s %v %d %s", v.SwapID, v.CabinetID, v.RiderID, v.Reason, v.Explanations, v.Seq, decided)
	}
	for k, n := range m.days {
		out[fmt.Sprintf("day %s %s %s", k.RiderID, k.CabinetID, k.Day)] = fmt.Sprint(n)
	}
	for id, c := range m.Cabinets {
		out["cabinet "+string(id)] = fmt.Sprintf("%s %d %s %t %t %d", c.Epoch, c.LastSeq, c.LastHash, c.Hole, c.Forked, c.BootSeq)
	}
	return out
}

func riderFacts(n ...int) string { return fmt.Sprint(n) }

func entryFacts(e swap.Entry) string {
	at := ""
	if e.Seq != 0 {
		at = e.At.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("%s %s %s %s %d %s %s %s %t %s %t %s %d %s %s %s %s %d %s", e.What, e.Kind, e.RiderID, e.CabinetID, e.Slot, e.BatterySerial, e.CreditID, e.Origin,
		e.Counted, e.Day, e.Derived, e.Holder, e.ReviewID, e.Ruling, e.Ground, e.By, e.Epoch, e.Seq, at)
}

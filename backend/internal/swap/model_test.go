package swap

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"batteryswap/protocol"
)

// world is what really happens: honest agents, riders who do as they like, a
// network that repeats and withholds, cabinets that fall silent. The books learn
// of it through the logs only.
type world struct {
	*rapid.T
	b        *Books
	now      time.Time
	next     int
	cabinets []*place
	hands    map[RiderID][]protocol.BatterySerial
	truth    map[RiderID]*truth
	ledger   []Entry
	reviews  []Review
	grants   map[protocol.SwapID]LostGrant // all that were ever signed
	backup   *backup
	restored bool
}

// truth is what a rider is owed and has done, by the facts.
type truth struct{ counted, issued, owed, staff int }

type place struct {
	c     *Cabinet
	log   *logbook
	slots [6]protocol.BatterySerial // "" is empty
	sent  int
	knew  int             // records that it had when the books were restored
	grant *protocol.Grant // accepted, not ended
	rider RiderID
}

func newWorld(t *rapid.T) *world {
	w := &world{T: t, b: NewBooks(), now: start, hands: map[RiderID][]protocol.BatterySerial{}, truth: map[RiderID]*truth{}, grants: map[protocol.SwapID]LostGrant{}}
	for i := range 3 {
		name := protocol.CabinetID(fmt.Sprintf("hb-000%d", i+1))
		p := &place{log: newLogbook(t, epochNo(uint64(i+1)))}
		p.c = &Cabinet{CabinetID: name, Slots: 6, EnrolledAt: start.Add(-time.Hour), HeardAt: start, Epoch: p.log.epoch}
		w.b.Cabinets[name] = p.c
		p.log.write(protocol.Boot{Epoch: p.log.epoch})
		for slot := range 3 {
			serial := protocol.BatterySerial(fmt.Sprintf("C%d-%d", i+1, slot))
			p.slots[slot] = serial
			w.b.AddBattery(&Battery{BatterySerial: serial, Holder: InSlot, CabinetID: name, Slot: slot + 1})
		}
		w.cabinets = append(w.cabinets, p)
	}
	for i, r := range []RiderID{alice, bob} {
		serial := protocol.BatterySerial(fmt.Sprintf("R%d", i+1))
		w.b.Riders[r] = &Rider{RiderID: r, Active: true}
		w.b.AddBattery(&Battery{BatterySerial: serial, Holder: WithRider, RiderID: r})
		w.hands[r], w.truth[r] = []protocol.BatterySerial{serial}, &truth{}
	}
	return w
}

func (w *world) keep() {
	ch := w.b.Changes()
	w.ledger = append(w.ledger, ch.Entries...)
	w.reviews = append(w.reviews, ch.Reviews...)
}

func (w *world) anyPlace() *place { return rapid.SampledFrom(w.cabinets).Draw(w.T, "cabinet") }
func (w *world) anyRider() RiderID {
	return rapid.SampledFrom([]RiderID{alice, bob}).Draw(w.T, "rider")
}
func (w *world) coin(what string) bool { return rapid.Bool().Draw(w.T, what) }

// rarely is false when rapid shrinks, and most of the time.
func (w *world) rarely(what string) bool { return rapid.IntRange(0, 7).Draw(w.T, what) == 7 }

// placeWhere picks among the cabinets that ok, nil when none is.
func (w *world) placeWhere(ok func(*place) bool) *place {
	some := slices.DeleteFunc(slices.Clone(w.cabinets), func(p *place) bool { return !ok(p) })
	if len(some) == 0 {
		return nil
	}
	return rapid.SampledFrom(some).Draw(w.T, "cabinet")
}

// scan is a request, perhaps prepared, perhaps granted, perhaps accepted.
func (w *world) scan(*rapid.T) {
	p, r := w.anyPlace(), w.anyRider()
	w.next++
	w.now = w.now.Add(time.Millisecond)
	s, no := w.b.Request(Scan{RiderID: r, CabinetID: p.c.CabinetID, HandBack: w.rarely("hand back")}, id(w.next), w.now, w.recovering())
	if no != nil || p.grant != nil || w.rarely("prepare is lost") {
		return
	}
	m := protocol.Prepared{SwapID: s.SwapID, Epoch: p.log.epoch, BootSeq: p.log.boot, BootID: protocol.BootID{1}, Nonce: protocol.Nonce{byte(w.next), byte(w.next >> 8), 1}}
	for i, serial := range p.slots {
		switch {
		case serial == "" && s.Kind.Deposits() && len(m.DepositSlots) < 2:
			m.DepositSlots = append(m.DepositSlots, i+1)
		case serial != "" && s.Kind.Dispenses() && len(m.Dispense) < 3:
			m.Dispense = append(m.Dispense, protocol.Offer{Slot: i + 1, BatterySerial: serial, Soc: 95})
		}
	}
	// What was prepared before a boot must never be granted after it was told.
	if w.rarely("boot in between") {
		p.log.reboot()
	}
	g, err := w.b.Grant(p.c, m, "00112233445566778899aabbccddeeff", w.now.Add(time.Second), w.recovering())
	if err == nil {
		w.grants[g.SwapID] = LostGrant{*g, r}
	}
	switch {
	case err != nil:
	case m.BootSeq != p.log.boot: // the nonce is gone with its boot
	case w.rarely("grant is lost"):
		p.log.write(protocol.Void{SwapID: g.SwapID})
	default:
		p.log.write(accepted(g))
		p.grant, p.rider = g, r
	}
}

// course lets the swap at a cabinet happen to its end, with a boot anywhere.
func (w *world) course(*rapid.T) {
	p := w.placeWhere(func(p *place) bool { return p.grant != nil })
	if p == nil {
		return
	}
	g, r := p.grant, p.rider
	p.grant = nil
	cut := func() {
		if w.rarely("power cut") {
			p.log.reboot()
		}
	}
	end := protocol.Closed{SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeNoDeposit}
	defer func() { cut(); p.log.write(end) }()
	cut()
	if s := w.b.Swaps[g.SwapID]; s != nil && s.Parked {
		// Its rider has gone elsewhere; somebody shuts the door.
		end.Outcome = nothing(g.Kind)
		return
	}
	if g.Kind.Deposits() {
		mine := slices.DeleteFunc(slices.Clone(w.hands[r]), func(s protocol.BatterySerial) bool { return !slices.Contains(g.ExpectSerials, s) })
		if len(mine) == 0 || w.rarely("puts nothing in") {
			return
		}
		serial, slot := rapid.SampledFrom(mine).Draw(w.T, "puts in"), g.DepositSlots[0]
		w.hands[r] = slices.DeleteFunc(w.hands[r], func(s protocol.BatterySerial) bool { return s == serial })
		p.slots[slot-1] = serial
		p.log.write(protocol.Intent{SwapID: g.SwapID, Slot: slot, Purpose: protocol.PurposeDeposit, Pulse: 1},
			protocol.Deposit{SwapID: g.SwapID, Slot: slot, Battery: protocol.Battery{BatterySerial: serial}, Accepted: true})
		end.DepositSlot, end.Deposited, end.Outcome = slot, serial, protocol.OutcomeHandedBack
		if g.Kind == protocol.KindSwap {
			end.Outcome = protocol.OutcomeDepositedOwed
		}
		if g.Kind == protocol.KindSwap && w.rarely("own battery back") {
			end.Outcome = protocol.OutcomeReturned
			p.slots[slot-1] = ""
			w.hands[r] = append(w.hands[r], serial)
			return
		}
	}
	cut()
	if g.Kind.Dispenses() && rapid.IntRange(0, 2).Draw(w.T, "does not take") < 2 {
		o := rapid.SampledFrom(g.Dispense).Draw(w.T, "slot")
		p.log.write(protocol.Intent{SwapID: g.SwapID, Slot: o.Slot, Purpose: protocol.PurposeDispense, Pulse: 1, BatterySerial: o.BatterySerial})
		p.slots[o.Slot-1] = ""
		w.hands[r] = append(w.hands[r], o.BatterySerial)
		p.log.write(protocol.Taken{SwapID: g.SwapID, Slot: o.Slot, BatterySerial: o.BatterySerial})
		end.TakeSlot, end.Taken = o.Slot, o.BatterySerial
	}
	w.settle(g.Kind, r, &end)
}

// nothing is how a swap ends in which nobody does anything.
func nothing(k protocol.Kind) protocol.Outcome {
	switch k {
	case protocol.KindOwed:
		return protocol.OutcomeOwedNotTaken
	case protocol.KindIssue:
		return protocol.OutcomeIssueNotTaken
	}
	return protocol.OutcomeNoDeposit
}

// settle says how it ended, and what it means by the facts.
func (w *world) settle(k protocol.Kind, r RiderID, end *protocol.Closed) {
	tr, took := w.truth[r], end.Taken != ""
	switch {
	case k == protocol.KindSwap && took:
		end.Outcome = protocol.OutcomeSwapped
		tr.counted++
	case k == protocol.KindSwap:
		tr.owed++
	case k == protocol.KindOwed && took:
		end.Outcome = protocol.OutcomeOwedTaken
		tr.counted++
		tr.owed--
	case k == protocol.KindOwed:
		end.Outcome = protocol.OutcomeOwedNotTaken
	case k == protocol.KindIssue && took:
		end.Outcome = protocol.OutcomeIssued
		tr.issued++
		tr.staff--
	case k == protocol.KindIssue:
		end.Outcome = protocol.OutcomeIssueNotTaken
	}
}

// send delivers any part of a log: from any earlier record, or with a gap.
func (w *world) send(*rapid.T) {
	p := w.placeWhere(func(p *place) bool { return p.sent < len(p.log.raws) })
	if p == nil {
		return
	}
	from, to := p.sent+1, len(p.log.raws)
	if w.coin("not in order") {
		from = rapid.IntRange(max(1, p.sent-5), min(p.sent+2, to)).Draw(w.T, "from")
	}
	if w.coin("not all") {
		to = rapid.IntRange(from, to).Draw(w.T, "to")
	}
	p.c.HeardAt = w.now
	v := p.log.ingest(w.b, p.c, from, to)
	if from > p.sent+1 {
		require.Equal(w.T, Gap, v)
		return
	}
	require.Equal(w.T, Took, v)
	p.sent = max(p.sent, to)
	require.Equal(w.T, uint64(p.sent), p.c.LastSeq)
}

func (w *world) wait(*rapid.T) {
	w.now = w.now.Add(rapid.SampledFrom([]time.Duration{15 * time.Second, 11 * time.Minute}).Draw(w.T, "time"))
	for _, p := range w.cabinets {
		if w.coin("is heard") {
			p.c.HeardAt = w.now
		}
	}
	for _, s := range sorted(w.b.Swaps) {
		w.b.Expire(s, w.now)
	}
}

func (w *world) credit(*rapid.T) {
	if rapid.IntRange(0, 3).Draw(w.T, "credit") > 0 || w.backup != nil {
		return // what staff gave after a backup, staff must give again
	}
	r := w.anyRider()
	w.next++
	require.NoError(w.T, w.b.StaffCredit(id(w.next), r, Now(w.now)))
	w.truth[r].staff++
}

// check holds at every moment: what the ledger sums up to, I1 and I7.
func (w *world) check(*rapid.T) {
	w.keep()
	sums, open := map[RiderID]*Rider{}, map[CreditID]bool{}
	at := map[protocol.BatterySerial]Entry{}
	for r := range w.b.Riders {
		sums[r] = &Rider{RiderID: r, Active: true}
	}
	for _, e := range w.ledger {
		sum := sums[e.RiderID]
		switch e.What {
		case Deposited:
			sum.Deposits++
		case Returned:
			sum.Returns++
		case Taken:
			sum.Takes++
			sum.Counted += map[bool]int{true: 1}[e.Counted]
			sum.Issued += map[bool]int{true: 1}[e.Kind == protocol.KindIssue]
		case CreditOpened:
			open[e.CreditID] = true
		case CreditDue:
			sum.CreditsDue++
		case CreditUsed, CreditBalanced:
			sum.CreditsDue -= map[bool]int{true: 1}[e.What == CreditBalanced]
			require.True(w.T, open[e.CreditID], "I7: credit %s is spent twice", e.CreditID)
			delete(open, e.CreditID)
		}
		if e.Holder != "" {
			at[e.BatterySerial] = e
		}
	}
	for r, have := range w.b.Riders {
		sums[r].OpenReviews = have.OpenReviews
		require.Equal(w.T, *sums[r], *have, "I3: the books are the sum of the ledger")
		if w.settled() {
			require.LessOrEqual(w.T, have.Takes, have.Deposits-have.Returns+have.Issued, "I1")
		}
	}
	for serial, e := range at {
		require.Equal(w.T, e.Holder, w.b.Batteries[serial].Holder, "I2: custody of %s", serial)
	}
	inHand := 0
	for _, cr := range w.b.Credits {
		if cr.State == CreditOpen || cr.State == CreditReserved {
			inHand++
			require.True(w.T, open[cr.CreditID])
		}
	}
	require.Len(w.T, open, inHand, "I7")
	if !w.restored {
		require.Empty(w.T, w.reviews, "honest cabinets need nobody")
	}
}

// settled: a take elsewhere may be told before the deposit at a silent cabinet.
func (w *world) settled() bool {
	for _, p := range w.cabinets {
		if p.sent < len(p.log.raws) {
			return false
		}
	}
	return true
}

// rest tells everything, and holds the books against the facts.
func (w *world) rest() {
	for _, p := range w.cabinets {
		if p.grant != nil {
			p.log.write(protocol.Closed{SwapID: p.grant.SwapID, Kind: p.grant.Kind, Outcome: nothing(p.grant.Kind)})
		}
		p.log.reboot()
		if p.sent < len(p.log.raws) {
			require.Equal(w.T, Took, p.log.ingest(w.b, p.c, p.sent+1, len(p.log.raws)))
			p.sent = len(p.log.raws)
		}
	}
	for _, s := range sorted(w.b.Swaps) {
		w.b.Expire(s, w.now.Add(time.Hour))
		require.Equal(w.T, StateClosed, s.State, "I13: nothing stays open")
	}
	w.check(w.T)
	w.custody()
	for r, tr := range w.truth {
		require.Zero(w.T, w.b.Riders[r].CreditsDue, "I7: %s", r)
		require.Equal(w.T, tr.counted, w.b.Riders[r].Counted, "I3: counted swaps of %s", r)
		require.Equal(w.T, tr.issued, w.b.Riders[r].Issued)
		require.Equal(w.T, tr.owed+tr.staff, w.b.credits(r), "I7: open credits of %s", r)
		if tr.owed < 0 {
			w.Fatalf("I1: %s took more than was deposited", r)
		}
	}
	require.ElementsMatch(w.T, slices.Collect(maps.Keys(w.truth)), slices.Collect(maps.Keys(w.b.Riders)))
}

// custody holds each battery's place in the books against the facts.
func (w *world) custody() {
	asked := w.asked()
	for _, x := range sorted(w.b.Batteries) {
		var is bool
		switch x.Holder {
		case WithRider:
			is = slices.Contains(w.hands[x.RiderID], x.BatterySerial)
		case InSlot:
			i := slices.IndexFunc(w.cabinets, func(p *place) bool { return p.c.CabinetID == x.CabinetID })
			is = w.cabinets[i].slots[x.Slot-1] == x.BatterySerial
		}
		require.True(w.T, is || asked[x.BatterySerial], "I2: battery %s is not with %s %s %s %d", x.BatterySerial, x.Holder, x.RiderID, x.CabinetID, x.Slot)
	}
}

func TestBooksFollowTheWorld(t *testing.T) {
	taken := 0
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"scan": w.scan, "course": w.course, "send": w.send, "wait": w.wait, "credit": w.credit,
			"back up": w.backUp, "restore": w.restore, "": w.check,
		})
		w.rest()
		for _, s := range w.b.Swaps {
			taken += map[bool]int{true: 1}[s.Taken != ""]
		}
	})
	require.Positive(t, taken, "nothing has happened in this world")
}

// TestApplyIsTotal feeds records in any order with any content: nothing panics,
// every record is taken, and what the books say stays consistent.
func TestApplyIsTotal(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"scan": w.scan, "course": w.course, "send": w.send, "wait": w.wait,
			"lie": func(*rapid.T) { p := w.anyPlace(); p.log.write(w.lie()) },
			"": func(*rapid.T) {
				w.keep()
				for _, r := range w.b.Riders {
					require.GreaterOrEqual(rt, r.Deposits, r.Returns)
					require.GreaterOrEqual(rt, r.Takes, r.Counted+r.Issued)
				}
				one := map[protocol.SwapID]int{}
				for _, rv := range w.reviews {
					one[rv.SwapID]++
				}
				delete(one, "")
				for id, n := range one {
					require.Equal(rt, 1, n, "I14: reviews of %s", id)
				}
				takes := map[protocol.SwapID]int{}
				for _, e := range w.ledger {
					if e.What == Taken {
						takes[e.SwapID]++
						require.Equal(rt, 1, takes[e.SwapID], "I1: takes of %s", e.SwapID)
					}
				}
			},
		})
	})
}

// lie is any record about any swap.
func (w *world) lie() protocol.Payload {
	t := w.T
	swapID := id(9000) // one that nobody asked for
	if n := rapid.IntRange(0, w.next).Draw(t, "swap"); n > 0 {
		swapID = id(n)
	}
	slot := rapid.IntRange(1, 6).Draw(t, "slot")
	serial := rapid.SampledFrom([]protocol.BatterySerial{"R1", "R2", "C1-0", "C2-1", "C3-2", "FOREIGN"}).Draw(t, "serial")
	kind := rapid.SampledFrom([]protocol.Kind{protocol.KindSwap, protocol.KindOwed, protocol.KindIssue, protocol.KindHandBack}).Draw(t, "kind")
	outcome := rapid.SampledFrom([]protocol.Outcome{
		protocol.OutcomeNoDeposit, protocol.OutcomeSwapped, protocol.OutcomeReturned, protocol.OutcomeDepositedOwed, protocol.OutcomeOwedTaken,
		protocol.OutcomeOwedNotTaken, protocol.OutcomeIssued, protocol.OutcomeIssueNotTaken, protocol.OutcomeHandedBack, protocol.OutcomeReview, "odd",
	}).Draw(t, "outcome")
	switch rapid.IntRange(0, 6).Draw(t, "type") {
	case 0:
		return protocol.Accept{SwapID: swapID, Kind: kind}
	case 1:
		return protocol.Intent{SwapID: swapID, Slot: slot, Purpose: protocol.PurposeDispense, BatterySerial: serial}
	case 2:
		return protocol.Deposit{SwapID: swapID, Slot: slot, Battery: protocol.Battery{BatterySerial: serial}, Accepted: w.coin("accepted")}
	case 3:
		return protocol.Taken{SwapID: swapID, Slot: slot, BatterySerial: serial}
	case 4:
		return protocol.Void{SwapID: swapID}
	case 5:
		return protocol.Boot{}
	}
	return protocol.Closed{SwapID: swapID, Kind: kind, Outcome: outcome, Deposited: serial, DepositSlot: slot, Taken: serial, TakeSlot: slot,
		Explanations: []protocol.Outcome{outcome, protocol.OutcomeReturned}}
}

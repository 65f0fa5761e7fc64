package swap

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// caseOf gathers what the ledger says of a review, as the store does.
func (k *bench) caseOf(i int) Case {
	rv := k.reviews[i]
	k.next++
	c := Case{ReviewID: int64(i + 1), SwapID: rv.SwapID, CabinetID: rv.CabinetID, RiderID: rv.RiderID, Next: map[protocol.BatterySerial]Entry{}, Act: id(k.next)}
	last := map[protocol.BatterySerial]Entry{}
	for _, e := range k.ledger {
		switch {
		case e.What == CreditOpened && e.ReviewID == c.ReviewID && e.Origin == OriginReview:
			c.Given = append(c.Given, e.At)
		case e.BatterySerial == "" || c.SwapID == "":
		case e.SwapID == c.SwapID:
			last[e.BatterySerial] = e
			delete(c.Next, e.BatterySerial)
		default:
			_, own := last[e.BatterySerial]
			if _, have := c.Next[e.BatterySerial]; !have && (own || e.ReceivedAt.After(rv.ReceivedAt)) {
				c.Next[e.BatterySerial] = e
			}
		}
	}
	c.Batteries = sorted(last)
	return c
}

func decision(r Ruling) ReviewDecision {
	return ReviewDecision{ReviewID: 1, Decision: r, Reason: GroundCamera, By: "wei"}
}

func (k *bench) decide(d ReviewDecision) error {
	k.t.Helper()
	c := k.caseOf(int(d.ReviewID) - 1)
	err := k.Decide(c, d, Now(k.now.Add(time.Hour)))
	if err != nil {
		ch := k.Changes()
		require.Empty(k.t, ch.Entries, "an error changes nothing")
		require.Empty(k.t, ch.Batteries)
		require.Empty(k.t, ch.Credits)
		require.Empty(k.t, ch.Swaps)
		return err
	}
	k.keep()
	return nil
}

// unclear are the ways in which a swap comes to a person, and what each ruling
// books then.
func TestEveryRulingOfEveryKind(t *testing.T) {
	type want struct {
		whats    []What // of the decision
		own, a   string // custody of the own battery, of FULL-A
		counted  int
		deposits int
		credits  int
	}
	const withAlice, in3, in7, staff = "rider alice", "slot 3", "slot 7", "staff"
	for _, x := range []struct {
		name    string
		kind    protocol.Kind
		records func(*bench, *protocol.Grant) []protocol.Payload
		rulings map[Ruling]want
	}{
		{"swap, deposited, perhaps taken", protocol.KindSwap, func(_ *bench, g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, true, ""), dispense(g), protocol.Closed{
				SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeReview, Reason: protocol.ReasonOtherBattery, DepositSlot: 3, Deposited: own,
				Explanations: []protocol.Outcome{protocol.OutcomeSwapped, protocol.OutcomeDepositedOwed},
				Inventory:    protocol.Inventory{{Slot: 3, Closed: true, Presence: protocol.HoldsBattery, BatterySerial: own}},
			})
		}, map[Ruling]want{
			RuledTaken:    {[]What{Taken, Ruled}, in3, withAlice, 1, 1, 0},
			RuledReturned: {[]What{Returned, Resolved, Ruled}, withAlice, in7, 0, 1, 0},
			RuledOwed:     {[]What{CreditOpened, Resolved, Ruled}, in3, in7, 0, 1, 1},
		}},
		{"swap, in but not accepted", protocol.KindSwap, func(_ *bench, g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, false, protocol.ReasonSensorsDisagree), protocol.Closed{
				SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeReview, Reason: protocol.ReasonHeldBattery, DepositSlot: 3, Deposited: own,
			})
		}, map[Ruling]want{
			RuledReturned:     {[]What{Resolved, Ruled}, withAlice, in7, 0, 0, 0},
			RuledOwed:         {[]What{Deposited, CreditOpened, Ruled}, in3, in7, 0, 1, 1},
			RuledNotDeposited: {[]What{Resolved, Ruled}, in3, in7, 0, 0, 0},
		}},
		{"owed, perhaps taken", protocol.KindOwed, perhapsTaken, map[Ruling]want{
			RuledTaken: {[]What{Taken, CreditUsed, Ruled}, withAlice, withAlice, 1, 0, 0},
			RuledOwed:  {[]What{CreditFreed, Resolved, Ruled}, withAlice, in7, 0, 0, 1},
		}},
		{"issue, perhaps taken", protocol.KindIssue, perhapsTaken, map[Ruling]want{
			RuledTaken: {[]What{Taken, CreditUsed, Ruled}, withAlice, withAlice, 0, 0, 0},
			RuledOwed:  {[]What{CreditFreed, Resolved, Ruled}, withAlice, in7, 0, 0, 1},
		}},
		{"hand back, perhaps returned", protocol.KindHandBack, func(_ *bench, g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, true, ""), protocol.Closed{
				SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeReview, Reason: protocol.ReasonInventoryDiffers, DepositSlot: 3, Deposited: own,
				Explanations: []protocol.Outcome{protocol.OutcomeReturned, protocol.OutcomeHandedBack},
			})
		}, map[Ruling]want{
			RuledReturned: {[]What{Returned, Ruled}, withAlice, in7, 0, 1, 0},
			RuledOwed:     {[]What{Resolved, Ruled}, in3, in7, 0, 1, 0},
		}},
	} {
		for _, r := range Rulings() {
			t.Run(fmt.Sprintf("%s: %s", x.name, r), func(t *testing.T) {
				k := newBench(t)
				switch x.kind {
				case protocol.KindIssue:
					require.NoError(t, k.StaffCredit(id(900), alice, Now(k.now)))
				case protocol.KindOwed:
					k.Credits[id(900)] = &Credit{CreditID: id(900), RiderID: alice, Origin: OriginSwap, State: CreditOpen}
				}
				g := k.granted(x.kind == protocol.KindHandBack)
				require.Equal(t, x.kind, g.Kind)
				k.log.write(x.records(k, g)...)
				k.fold()
				require.Len(t, k.reviews, 1)
				before := len(k.whats(g.SwapID))
				d := decision(r)
				w, possible := x.rulings[r]
				if !possible && k.Swaps[g.SwapID].Judgement == NotAccepted && r == RuledTaken {
					require.ErrorContains(t, k.decide(d), "want the battery_serial that left")
					return
				}
				if !possible {
					var no *Contradiction
					require.ErrorAs(t, k.decide(d), &no)
					require.NotContains(t, no.Possible, r)
					return
				}
				require.NoError(t, k.decide(d))
				require.Equal(t, w.whats, k.whats(g.SwapID)[before:])
				where := func(serial protocol.BatterySerial) string {
					switch b := k.Batteries[serial]; b.Holder {
					case WithRider:
						return "rider alice"
					case InSlot:
						return fmt.Sprintf("slot %d", b.Slot)
					default:
						return string(b.Holder)
					}
				}
				require.Equal(t, w.own, where(own))
				require.Equal(t, w.a, where(fullA))
				require.Equal(t, w.counted, k.rider.Counted)
				require.Equal(t, w.deposits, k.rider.Deposits)
				require.Equal(t, w.credits, k.credits(alice))
				require.Zero(t, k.rider.OpenReviews)
				s := k.Swaps[g.SwapID]
				require.Equal(t, protocol.OutcomeReview, s.Outcome, "what the cabinet said stays")
				require.Equal(t, r, s.Ruling)
				for _, e := range k.ledger[len(k.ledger)-len(w.whats):] {
					require.Equal(t, int64(1), e.ReviewID)
					require.Equal(t, k.now.Add(time.Hour), e.At, "dated at the decision")
				}
			})
		}
	}
}

func perhapsTaken(_ *bench, g *protocol.Grant) []protocol.Payload {
	outcomes := map[protocol.Kind][]protocol.Outcome{
		protocol.KindOwed:  {protocol.OutcomeOwedTaken, protocol.OutcomeOwedNotTaken},
		protocol.KindIssue: {protocol.OutcomeIssued, protocol.OutcomeIssueNotTaken},
	}
	return whole(g, dispense(g), protocol.Closed{
		SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeReview, Reason: protocol.ReasonInventoryDiffers, Explanations: outcomes[g.Kind],
	})
}

// doubtful leaves a swap under review: the own battery is in, FULL-A may be out.
func doubtful(t *testing.T) (*bench, *protocol.Grant) {
	k := newBench(t)
	g := k.granted(false)
	k.log.write(whole(g, deposit(g, own, true, ""), dispense(g), protocol.Closed{
		SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeReview, Reason: protocol.ReasonInventoryDiffers, DepositSlot: 3, Deposited: own,
		Explanations: []protocol.Outcome{protocol.OutcomeSwapped, protocol.OutcomeReturned, protocol.OutcomeDepositedOwed},
	})...)
	k.fold()
	require.Len(t, k.reviews, 1)
	require.Equal(t, UnderCheck, k.Batteries[own].Holder)
	require.Equal(t, UnderCheck, k.Batteries[fullA].Holder)
	return k, g
}

func TestTheSecondDecisionIsToldOfTheFirst(t *testing.T) {
	k, _ := doubtful(t)
	c := k.caseOf(0)
	c.Decided = &Decided{Decision: RuledOwed, Reason: GroundOnSite, By: "li", At: start}
	err := k.Decide(c, decision(RuledTaken), Now(k.now))
	var already *AlreadyDecided
	require.ErrorAs(t, err, &already)
	require.EqualError(t, err, "review 1: li decided owed on 2025-11-05T09:30:00Z (seen_on_site)")
	require.ErrorAs(t, k.Hardship(c, "wei", Now(k.now)), &already)
}

// TestFactsThatArrivedSince: what the batteries did after the review speaks
// against a decision.
func TestFactsThatArrivedSince(t *testing.T) {
	for _, x := range []struct {
		name  string
		since Entry
		no    []Ruling
	}{
		{"the rider put the own battery in elsewhere", Entry{What: Deposited, RiderID: alice, CabinetID: "hb-0002", BatterySerial: own}, []Ruling{RuledTaken, RuledOwed}},
		{"the rider put FULL-A in elsewhere", Entry{What: Deposited, RiderID: alice, CabinetID: "hb-0002", BatterySerial: fullA}, []Ruling{RuledReturned, RuledOwed}},
		{"another took FULL-A here", Entry{What: Taken, RiderID: bob, CabinetID: "hb-0001", BatterySerial: fullA}, []Ruling{RuledTaken}},
		{"another took the own battery here", Entry{What: Taken, RiderID: bob, CabinetID: "hb-0001", BatterySerial: own}, []Ruling{RuledReturned}},
		{"staff found FULL-A", Entry{What: Assigned, Holder: WithStaff, BatterySerial: fullA}, nil},
	} {
		for _, r := range []Ruling{RuledTaken, RuledReturned, RuledOwed} {
			t.Run(fmt.Sprintf("%s: %s", x.name, r), func(t *testing.T) {
				k, g := doubtful(t)
				e := x.since
				e.SwapID, e.EntryNo, e.Holder = id(800), 1, InSlot
				k.ledger = append(k.ledger, e)
				moved := k.Batteries[e.BatterySerial]
				k.place(moved, InSlot, "", "hb-0002", 5)
				k.keep()
				err := k.decide(decision(r))
				if !contains(x.no, r) {
					require.NoError(t, err)
					require.Equal(t, protocol.CabinetID("hb-0002"), moved.CabinetID, "custody has moved on")
					return
				}
				var no *Contradiction
				require.ErrorAs(t, err, &no)
				require.Contains(t, no.Why, string(e.BatterySerial))
				require.Equal(t, protocol.OutcomeReview, k.Swaps[g.SwapID].Outcome)
			})
		}
	}
}

func contains(rs []Ruling, r Ruling) bool {
	for _, x := range rs {
		if x == r {
			return true
		}
	}
	return false
}

// TestATakeAgainstAnOwedCredit: the cabinet said that nothing was taken, and the
// rider had a battery: the credit is used up, or the next one is.
func TestATakeAgainstAnOwedCredit(t *testing.T) {
	for _, spent := range []bool{false, true} {
		k := newBench(t)
		g := k.granted(false)
		k.log.write(whole(g, deposit(g, own, true, ""), dispense(g), closed(g, protocol.OutcomeDepositedOwed), takenA(g))...)
		k.fold()
		require.Len(t, k.reviews, 1)
		require.Equal(t, 1, k.credits(alice))
		if spent {
			k.Credits[g.SwapID].State = CreditSpent
		}
		require.NoError(t, k.decide(decision(RuledTaken)))
		require.Equal(t, 1, k.rider.Counted)
		require.Equal(t, 0, k.credits(alice))
		require.Equal(t, map[bool]int{true: 1}[spent], k.rider.CreditsDue)
	}
}

func TestHardship(t *testing.T) {
	k, g := doubtful(t)
	at := k.now
	require.NoError(t, k.Hardship(k.caseOf(0), "wei", Now(at)))
	k.keep()
	require.ErrorContains(t, k.Hardship(k.caseOf(0), "wei", Now(at.Add(time.Minute))), "2025-11-05")
	require.NoError(t, k.Hardship(k.caseOf(0), "wei", Now(at.Add(24*time.Hour))), "the next day")
	k.keep()
	require.Equal(t, 2, k.credits(alice))
	next := k.granted(false)
	require.Equal(t, protocol.KindOwed, next.Kind)
	require.Error(t, k.Hardship(k.caseOf(0), "", Now(at.Add(48*time.Hour))), "somebody gives it")
	k.log.write(accepted(next), protocol.Closed{SwapID: next.SwapID, Kind: next.Kind, Outcome: protocol.OutcomeOwedNotTaken})
	k.fold()
	require.NoError(t, k.decide(decision(RuledOwed)))
	require.Equal(t, 2, k.credits(alice), "the hardship credit was the battery that is owed")
	require.Nil(t, k.Credits[g.SwapID])
}

func TestDecisionsThatCannotBe(t *testing.T) {
	k, g := doubtful(t)
	d := decision(RuledNoted)
	d.Reason, d.By, d.Taken = "odd", "", "\x01"
	err := k.decide(d)
	for _, want := range []string{"reason", "by: ", "taken: "} {
		require.ErrorContains(t, err, want)
	}
	d = decision("sold")
	require.ErrorContains(t, k.decide(d), "want one of [taken returned owed not_deposited noted]")
	d = decision(RuledTaken)
	d.Taken = "ELSE"
	require.ErrorContains(t, k.decide(d), `taken is "ELSE": want the battery_serial that left, one of [FULL-A FULL-B]`)
	k.Swaps[g.SwapID].State = StateActive
	require.ErrorContains(t, k.decide(decision(RuledOwed)), "has not told how it ended")
}

func TestAReviewOfNoSwapIsNoted(t *testing.T) {
	k := newBench(t)
	k.log.raw(protocol.RecordTaken, []byte("{"))
	k.fold()
	require.Len(t, k.reviews, 1)
	var no *Contradiction
	require.ErrorAs(t, k.decide(decision(RuledOwed)), &no)
	require.NoError(t, k.decide(decision(RuledNoted)))
	require.Equal(t, Ruled, k.ledger[len(k.ledger)-1].What)
}

// TestAStubIsNotedWhenItsBatteriesArePlaced: nobody knows the rider of a swap
// that the books had lost, so staff say where its batteries are.
func TestAStubIsNotedWhenItsBatteriesArePlaced(t *testing.T) {
	k := newBench(t)
	k.log.write(protocol.Taken{SwapID: id(700), Slot: 7, BatterySerial: fullA})
	k.fold()
	require.Len(t, k.reviews, 1)
	k.log.write(protocol.Closed{SwapID: id(700), Kind: protocol.KindOwed, Outcome: protocol.OutcomeOwedTaken, TakeSlot: 7, Taken: fullA})
	k.fold()
	require.ErrorContains(t, k.decide(decision(RuledNoted)), "say where it is first")
	require.NoError(t, k.Assign(id(801), fullA, Place{}, Now(k.now)))
	k.keep()
	require.NoError(t, k.decide(decision(RuledNoted)))
}

// TestWhatComesAfterADecisionIsANewReview: the first stays decided.
func TestWhatComesAfterADecisionIsANewReview(t *testing.T) {
	k, g := doubtful(t)
	require.NoError(t, k.decide(decision(RuledOwed)))
	k.log.write(takenA(g))
	k.fold()
	require.Len(t, k.reviews, 2)
	require.Equal(t, 1, k.rider.OpenReviews)
	require.Equal(t, UnderCheck, k.Batteries[fullA].Holder)
	d := decision(RuledTaken)
	d.ReviewID = 2
	require.NoError(t, k.decide(d))
	require.Equal(t, 1, k.rider.Counted)
	require.Equal(t, 0, k.credits(alice), "the credit of the first decision is used up")
}

func TestASwapOfASilentCabinetGoesToReview(t *testing.T) {
	k := newBench(t)
	g := k.granted(false)
	k.log.write(whole(g, deposit(g, own, true, ""), dispense(g))...)
	k.fold()
	s := k.Swaps[g.SwapID]
	k.cabinet.HeardAt = k.now
	require.ErrorContains(t, k.MoveToReview(k.cabinet, s, nil, Now(k.now.Add(time.Minute))), "was heard")
	require.NoError(t, k.MoveToReview(k.cabinet, s, nil, Now(k.now.Add(time.Hour))))
	k.keep()
	require.Error(t, k.MoveToReview(k.cabinet, s, nil, Now(k.now.Add(time.Hour))), "it is closed")
	require.Equal(t, protocol.ReasonCabinetOffline, k.reviews[0].Reason)
	k.log.write(takenA(g), closed(g, protocol.OutcomeSwapped))
	k.fold()
	require.Len(t, k.reviews, 1, "what the cabinet says later is for the same person")
	require.NoError(t, k.decide(decision(RuledTaken)))
	require.Equal(t, 1, k.rider.Counted)
}

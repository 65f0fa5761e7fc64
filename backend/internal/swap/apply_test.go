package swap

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// deposit, take and the closing records of a swap, as the agent writes them.
func deposit(g *protocol.Grant, serial protocol.BatterySerial, ok bool, why protocol.Reason) []protocol.Payload {
	return []protocol.Payload{
		protocol.Intent{SwapID: g.SwapID, Slot: 3, Purpose: protocol.PurposeDeposit, Pulse: 1},
		protocol.DoorMoved{SwapID: g.SwapID, Slot: 3, Purpose: protocol.PurposeDeposit, Door: protocol.DoorOpen},
		protocol.DoorMoved{SwapID: g.SwapID, Slot: 3, Purpose: protocol.PurposeDeposit, Door: protocol.DoorShut},
		protocol.Deposit{SwapID: g.SwapID, Slot: 3, Battery: protocol.Battery{BatterySerial: serial}, Accepted: ok, Reason: why},
	}
}

func dispense(g *protocol.Grant) protocol.Intent {
	return protocol.Intent{SwapID: g.SwapID, Slot: 7, Purpose: protocol.PurposeDispense, Pulse: 1, BatterySerial: fullA}
}

func takenA(g *protocol.Grant) protocol.Taken {
	return protocol.Taken{SwapID: g.SwapID, Slot: 7, BatterySerial: fullA}
}

func closed(g *protocol.Grant, o protocol.Outcome) protocol.Closed {
	c := protocol.Closed{SwapID: g.SwapID, Kind: g.Kind, Outcome: o}
	switch o {
	case protocol.OutcomeSwapped:
		c.DepositSlot, c.Deposited, c.TakeSlot, c.Taken = 3, own, 7, fullA
	case protocol.OutcomeDepositedOwed, protocol.OutcomeHandedBack, protocol.OutcomeReturned:
		c.DepositSlot, c.Deposited = 3, own
	case protocol.OutcomeOwedTaken, protocol.OutcomeIssued:
		c.TakeSlot, c.Taken = 7, fullA
	}
	return c
}

// a whole list of records for a grant.
func whole(g *protocol.Grant, parts ...any) []protocol.Payload {
	out := []protocol.Payload{accepted(g)}
	for _, p := range parts {
		switch p := p.(type) {
		case []protocol.Payload:
			out = append(out, p...)
		case protocol.Payload:
			out = append(out, p)
		}
	}
	return out
}

func TestEveryOutcome(t *testing.T) {
	type want struct {
		outcome  protocol.Outcome
		whats    []What
		rider    Rider
		credits  int
		own      Holder
		full     Holder
		reviewed protocol.Reason
	}
	ok := func(g *protocol.Grant) []protocol.Payload { return deposit(g, own, true, "") }
	cases := map[string]struct {
		kind protocol.Kind
		tell func(*protocol.Grant) []protocol.Payload
		want want
	}{
		"swapped": {protocol.KindSwap, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, ok(g), dispense(g), takenA(g), closed(g, protocol.OutcomeSwapped))
		}, want{protocol.OutcomeSwapped, []What{Deposited, Taken}, Rider{Deposits: 1, Takes: 1, Counted: 1}, 0, InSlot, WithRider, ""}},
		"no deposit": {protocol.KindSwap, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, closed(g, protocol.OutcomeNoDeposit))
		}, want{protocol.OutcomeNoDeposit, nil, Rider{}, 0, WithRider, InSlot, ""}},
		"accepted and returned": {protocol.KindSwap, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, ok(g), dispense(g), closed(g, protocol.OutcomeReturned))
		}, want{protocol.OutcomeReturned, []What{Deposited, Returned}, Rider{Deposits: 1, Returns: 1}, 0, WithRider, InSlot, ""}},
		"not accepted and returned": {protocol.KindSwap, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, false, protocol.ReasonTooHot), closed(g, protocol.OutcomeReturned))
		}, want{protocol.OutcomeReturned, nil, Rider{}, 0, WithRider, InSlot, ""}},
		"deposited, owed": {protocol.KindSwap, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, true, protocol.ReasonDepositLate), closed(g, protocol.OutcomeDepositedOwed))
		}, want{protocol.OutcomeDepositedOwed, []What{Deposited, CreditOpened}, Rider{Deposits: 1}, 1, InSlot, InSlot, ""}},
		"held": {protocol.KindSwap, func(g *protocol.Grant) []protocol.Payload {
			c := closed(g, protocol.OutcomeReview)
			c.Deposited, c.DepositSlot, c.Reason = own, 3, protocol.ReasonHeldBattery
			return whole(g, deposit(g, own, false, protocol.ReasonTooHot), c)
		}, want{protocol.OutcomeReview, []What{Held}, Rider{OpenReviews: 1}, 0, UnderCheck, InSlot, protocol.ReasonHeldBattery}},
		"another battery came back": {protocol.KindSwap, func(g *protocol.Grant) []protocol.Payload {
			c := closed(g, protocol.OutcomeReview)
			c.Reason = protocol.ReasonOtherBattery
			return whole(g, ok(g), dispense(g), c)
		}, want{protocol.OutcomeReview, []What{Deposited, Doubted}, Rider{Deposits: 1, OpenReviews: 1}, 0, InSlot, UnderCheck, protocol.ReasonOtherBattery}},
		"void": {protocol.KindSwap, func(g *protocol.Grant) []protocol.Payload {
			return []protocol.Payload{protocol.Void{SwapID: g.SwapID}}
		}, want{protocol.OutcomeNotStarted, nil, Rider{}, 0, WithRider, InSlot, ""}},
		"handed back": {protocol.KindHandBack, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, ok(g), closed(g, protocol.OutcomeHandedBack))
		}, want{protocol.OutcomeHandedBack, []What{Deposited}, Rider{Deposits: 1}, 0, InSlot, InSlot, ""}},
		"owed, taken": {protocol.KindOwed, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, dispense(g), takenA(g), closed(g, protocol.OutcomeOwedTaken))
		}, want{protocol.OutcomeOwedTaken, []What{CreditTaken, Taken, CreditUsed}, Rider{Takes: 1, Counted: 1}, 0, WithRider, WithRider, ""}},
		"owed, not taken": {protocol.KindOwed, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, dispense(g), closed(g, protocol.OutcomeOwedNotTaken))
		}, want{protocol.OutcomeOwedNotTaken, []What{CreditTaken, CreditFreed}, Rider{}, 1, WithRider, InSlot, ""}},
		"owed, void": {protocol.KindOwed, func(g *protocol.Grant) []protocol.Payload {
			return []protocol.Payload{protocol.Void{SwapID: g.SwapID}}
		}, want{protocol.OutcomeNotStarted, []What{CreditTaken, CreditFreed}, Rider{}, 1, WithRider, InSlot, ""}},
		"owed, review": {protocol.KindOwed, func(g *protocol.Grant) []protocol.Payload {
			c := closed(g, protocol.OutcomeReview)
			c.Reason = protocol.ReasonInventoryDiffers
			return whole(g, dispense(g), c)
		}, want{protocol.OutcomeReview, []What{CreditTaken, Doubted}, Rider{OpenReviews: 1}, 1, WithRider, UnderCheck, protocol.ReasonInventoryDiffers}},
		"issued": {protocol.KindIssue, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, dispense(g), takenA(g), closed(g, protocol.OutcomeIssued))
		}, want{protocol.OutcomeIssued, []What{CreditTaken, Taken, CreditUsed}, Rider{Takes: 1, Issued: 1}, 0, WithRider, WithRider, ""}},
		"issue, not taken": {protocol.KindIssue, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, dispense(g), closed(g, protocol.OutcomeIssueNotTaken))
		}, want{protocol.OutcomeIssueNotTaken, []What{CreditTaken, CreditFreed}, Rider{}, 1, WithRider, InSlot, ""}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			k := newBench(t)
			g := k.ready(c.kind)
			k.log.write(c.tell(g)...)
			k.fold()
			s := k.Swaps[g.SwapID]
			require.Equal(t, StateClosed, s.State)
			require.Equal(t, c.want.outcome, s.Outcome)
			require.Equal(t, c.want.reviewed, s.Reviewed)
			require.Equal(t, c.want.whats, k.whats(g.SwapID))
			c.want.rider.RiderID, c.want.rider.Active = alice, true
			require.Equal(t, c.want.rider, *k.rider)
			require.Equal(t, c.want.credits, k.credits(alice), "open credits")
			require.Equal(t, c.want.own, k.Batteries[own].Holder)
			require.Equal(t, c.want.full, k.Batteries[fullA].Holder)
			require.Equal(t, c.want.rider.Counted, k.days[DayKey{alice, "hb-0001", "2025-11-05"}])
			if c.want.reviewed == "" {
				require.Empty(t, k.reviews)
			} else {
				require.Len(t, k.reviews, 1)
			}
		})
	}
}

// ready brings the rider's books to where a scan becomes this kind, and grants.
func (k *bench) ready(kind protocol.Kind) *protocol.Grant {
	origin := map[protocol.Kind]Origin{protocol.KindOwed: OriginSwap, protocol.KindIssue: OriginStaff}[kind]
	if origin != "" {
		k.next++
		k.Credits[id(k.next)] = &Credit{CreditID: id(k.next), RiderID: alice, Origin: origin, State: CreditOpen}
	}
	g := k.granted(kind == protocol.KindHandBack)
	require.Equal(k.t, kind, g.Kind)
	return g
}

func TestGrantToEarlierBootEndsAtBoot(t *testing.T) {
	k := newBench(t)
	g := k.ready(protocol.KindOwed)
	k.log.reboot()
	k.fold()
	require.Equal(t, protocol.OutcomeNotStarted, k.Swaps[g.SwapID].Outcome)
	require.Len(t, k.openCredits(alice), 1)

	accepts := newBench(t)
	g = accepts.ready(protocol.KindOwed)
	accepts.log.write(accepted(g))
	accepts.log.reboot()
	accepts.fold()
	require.Equal(t, StateActive, accepts.Swaps[g.SwapID].State, "an accepted swap is ended by its cabinet only")
}

func TestClosedAloneIsDerivedAndReviewed(t *testing.T) {
	k := newBench(t)
	g := k.ready(protocol.KindSwap)
	k.log.write(accepted(g), closed(g, protocol.OutcomeSwapped))
	k.fold()
	require.Equal(t, []What{Deposited, Taken}, k.whats(g.SwapID))
	require.Equal(t, protocol.OutcomeSwapped, k.Swaps[g.SwapID].Outcome)
	require.Equal(t, 1, k.rider.Counted)
	require.Len(t, k.reviews, 1)
	require.Equal(t, protocol.ReasonContradictsBooks, k.reviews[0].Reason)
	for _, e := range k.ledger {
		require.True(t, e.Derived)
	}
}

func TestContradictionsAreReviewedOnce(t *testing.T) {
	swap := protocol.KindSwap
	other := func(g *protocol.Grant) protocol.Taken {
		return protocol.Taken{SwapID: g.SwapID, Slot: 8, BatterySerial: fullB}
	}
	cases := map[string]struct {
		kind    protocol.Kind
		tell    func(*protocol.Grant) []protocol.Payload
		outcome protocol.Outcome
		takes   int
	}{
		"two takes": {swap, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, true, ""), dispense(g), takenA(g), other(g), closed(g, protocol.OutcomeSwapped))
		}, protocol.OutcomeSwapped, 1},
		"take denied": {swap, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, true, ""), dispense(g), takenA(g), closed(g, protocol.OutcomeDepositedOwed))
		}, protocol.OutcomeReview, 1},
		"deposit denied": {swap, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, true, ""), closed(g, protocol.OutcomeNoDeposit))
		}, protocol.OutcomeReview, 0},
		"take after the end": {swap, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, true, ""), closed(g, protocol.OutcomeDepositedOwed), takenA(g))
		}, protocol.OutcomeDepositedOwed, 0},
		"take without a deposit": {swap, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, dispense(g), takenA(g), closed(g, protocol.OutcomeSwapped))
		}, protocol.OutcomeSwapped, 1},
		"second deposit": {swap, func(g *protocol.Grant) []protocol.Payload {
			again := protocol.Deposit{SwapID: g.SwapID, Slot: 4, Battery: protocol.Battery{BatterySerial: "OTHER"}, Accepted: true}
			return whole(g, deposit(g, own, true, ""), again, dispense(g), takenA(g), closed(g, protocol.OutcomeSwapped))
		}, protocol.OutcomeSwapped, 1},
		"foreign deposit": {swap, func(g *protocol.Grant) []protocol.Payload {
			c := closed(g, protocol.OutcomeSwapped)
			c.Deposited = "NOBODYS"
			return whole(g, deposit(g, "NOBODYS", true, ""), dispense(g), takenA(g), c)
		}, protocol.OutcomeSwapped, 1},
		"void after accept": {swap, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, protocol.Void{SwapID: g.SwapID}, closed(g, protocol.OutcomeNoDeposit))
		}, protocol.OutcomeNoDeposit, 0},
		"accept after void": {swap, func(g *protocol.Grant) []protocol.Payload {
			return []protocol.Payload{protocol.Void{SwapID: g.SwapID}, accepted(g), closed(g, protocol.OutcomeNoDeposit)}
		}, protocol.OutcomeNoDeposit, 0},
		"another nonce": {swap, func(g *protocol.Grant) []protocol.Payload {
			a := accepted(g)
			a.Nonce[5] = 9
			return []protocol.Payload{a, closed(g, protocol.OutcomeNoDeposit)}
		}, protocol.OutcomeNoDeposit, 0},
		"closed twice": {swap, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, closed(g, protocol.OutcomeNoDeposit), closed(g, protocol.OutcomeSwapped))
		}, protocol.OutcomeNoDeposit, 0},
		"outcome of another kind": {swap, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, closed(g, protocol.OutcomeHandedBack))
		}, protocol.OutcomeReview, 0},
		"a door opened without accept": {swap, func(g *protocol.Grant) []protocol.Payload {
			return []protocol.Payload{dispense(g), closed(g, protocol.OutcomeNoDeposit)}
		}, protocol.OutcomeNoDeposit, 0},
		"take in a hand back": {protocol.KindHandBack, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, true, ""), takenA(g), closed(g, protocol.OutcomeHandedBack))
		}, protocol.OutcomeReview, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			k := newBench(t)
			g := k.ready(c.kind)
			k.log.write(c.tell(g)...)
			k.fold()
			s := k.Swaps[g.SwapID]
			require.Equal(t, c.outcome, s.Outcome)
			require.Equal(t, c.takes, k.rider.Takes, "takes")
			require.Len(t, k.reviews, 1, "exactly one review (I14)")
			require.Equal(t, 1, k.rider.OpenReviews)
			require.Equal(t, k.cabinet.LastSeq, uint64(len(k.log.raws)), "the log goes on")
		})
	}
}

func TestSayingItAgainChangesNothing(t *testing.T) {
	k := newBench(t)
	g := k.ready(protocol.KindSwap)
	d := deposit(g, own, true, "")
	k.log.write(whole(g, d, d[3], dispense(g), takenA(g), takenA(g), closed(g, protocol.OutcomeSwapped),
		closed(g, protocol.OutcomeSwapped), accepted(g), takenA(g), d[3])...)
	k.fold()
	require.Equal(t, []What{Deposited, Taken}, k.whats(g.SwapID))
	require.Empty(t, k.reviews)
	require.Equal(t, 1, k.rider.Counted)
}

func TestRecordsOfAnUnknownSwap(t *testing.T) {
	lostGrant := protocol.Grant{
		SwapID: id(900), Kind: protocol.KindSwap, Nonce: protocol.Nonce{1}, BootID: protocol.BootID{1}, RiderRef: "00112233445566778899aabbccddeeff", DepositSlots: []int{3},
		Dispense: []protocol.Offer{{Slot: 7, BatterySerial: fullA, Soc: 95}}, ExpectSerials: []protocol.BatterySerial{own},
	}
	tell := whole(&lostGrant, deposit(&lostGrant, own, true, ""), dispense(&lostGrant), takenA(&lostGrant), closed(&lostGrant, protocol.OutcomeSwapped))
	t.Run("with our grant in its ACCEPT", func(t *testing.T) {
		k := newBench(t)
		k.Lost[id(900)] = LostGrant{lostGrant, alice}
		k.log.write(tell...)
		k.fold()
		require.Equal(t, protocol.OutcomeSwapped, k.Swaps[id(900)].Outcome)
		require.Equal(t, 1, k.rider.Counted, "a restored database counts again")
		require.Equal(t, WithRider, k.Batteries[fullA].Holder)
		require.Len(t, k.reviews, 1)
		require.Equal(t, protocol.ReasonUnknownSwap, k.reviews[0].Reason)
	})
	t.Run("without", func(t *testing.T) {
		k := newBench(t)
		k.log.write(tell...)
		k.fold()
		require.Equal(t, protocol.OutcomeReview, k.Swaps[id(900)].Outcome)
		require.Equal(t, 0, k.rider.Counted)
		require.Equal(t, UnderCheck, k.Batteries[fullA].Holder)
		require.Len(t, k.reviews, 1)
	})
	t.Run("VOID and DOOR need nobody", func(t *testing.T) {
		k := newBench(t)
		k.log.write(protocol.Void{SwapID: id(901)}, protocol.DoorMoved{SwapID: id(902), Slot: 1, Door: protocol.DoorOpen})
		k.fold()
		require.Empty(t, k.reviews)
		require.NotContains(t, k.Swaps, id(901))
	})
	t.Run("another cabinet's swap is not touched", func(t *testing.T) {
		k := newBench(t)
		g := k.ready(protocol.KindSwap)
		k.log.write(accepted(g))
		k.fold()
		other := newLogbook(t, epochNo(2))
		c := k.addCabinet("hb-0002", other.epoch)
		other.write(takenA(g), protocol.Void{SwapID: g.SwapID}, closed(g, protocol.OutcomeSwapped))
		other.all(k.Books, c)
		k.keep()
		require.Equal(t, StateActive, k.Swaps[g.SwapID].State)
		require.Equal(t, 0, k.rider.Takes)
		require.Len(t, k.reviews, 3)
	})
}

func TestMalformedPayloadIsStoredAndReviewed(t *testing.T) {
	k := newBench(t)
	k.log.raw(protocol.RecordTaken, []byte(`{"swap_id":`))
	k.log.raw(protocol.RecordDeposit, []byte(`{"swap_id":"x","slot":1}`))
	k.log.raw(protocol.RecordTaken, []byte(`{"swap_id":"`+string(id(1))+`","slot":99,"battery_serial":"A"}`))
	k.log.raw(protocol.RecordClosed, []byte(`{"swap_id":"`+string(id(1))+`","kind":"swap","outcome":"swapped","taken":"a\u0000b"}`))
	k.fold()
	require.Equal(t, uint64(5), k.cabinet.LastSeq)
	require.Len(t, k.reviews, 4)
	for _, r := range k.reviews {
		require.Equal(t, protocol.ReasonMalformedRecord, r.Reason)
	}
}

// A newer agent may write records that these books do not know: they are stored,
// nobody is troubled, and the log goes on.
func TestRecordOfANewerAgentIsStored(t *testing.T) {
	k := newBench(t)
	k.log.raw(protocol.RecordTimeStep+1, []byte(`{"news":true}`))
	k.log.raw(200, nil)
	k.log.write(protocol.Alarm{Kind: protocol.AlarmTamper, Slot: 2})
	k.fold()
	require.Equal(t, uint64(4), k.cabinet.LastSeq)
	require.Empty(t, k.reviews)
}

func TestTakeToldAfterTheBatteryMovedOn(t *testing.T) {
	k := newBench(t)
	// At a cabinet that falls silent, the rider swaps own for fullA.
	g := k.ready(protocol.KindSwap)
	k.log.write(accepted(g))
	k.fold()
	silent := whole(g, deposit(g, own, true, ""), dispense(g), takenA(g), closed(g, protocol.OutcomeSwapped))[1:]
	// Eleven minutes later the rider swaps fullA elsewhere.
	k.now = start.Add(11 * time.Minute)
	other := newLogbook(t, epochNo(2))
	c := k.addCabinet("hb-0002", other.epoch)
	c.HeardAt = k.now
	k.AddBattery(&Battery{BatterySerial: "FULL-C", Holder: InSlot, CabinetID: "hb-0002", Slot: 7})
	s, no := k.Request(Scan{RiderID: alice, CabinetID: "hb-0002"}, id(50), k.now, false)
	require.Nil(t, no)
	require.Equal(t, protocol.KindSwap, s.Kind)
	require.True(t, k.Swaps[g.SwapID].Parked)
	p := protocol.Prepared{
		SwapID: s.SwapID, Epoch: other.epoch, BootSeq: 1, BootID: protocol.BootID{1}, Nonce: protocol.Nonce{77}, DepositSlots: []int{3},
		Dispense: []protocol.Offer{{Slot: 7, BatterySerial: "FULL-C", Soc: 99}},
	}
	g2, err := k.Grant(c, p, "00112233445566778899aabbccddeeff", k.now, false)
	require.NoError(t, err)
	require.Equal(t, []protocol.BatterySerial{own, fullA, fullB}, g2.ExpectSerials)
	takenC := protocol.Taken{SwapID: g2.SwapID, Slot: 7, BatterySerial: "FULL-C"}
	done := protocol.Closed{SwapID: g2.SwapID, Kind: g2.Kind, Outcome: protocol.OutcomeSwapped, Deposited: fullA, DepositSlot: 3, Taken: "FULL-C", TakeSlot: 7}
	other.write(whole(g2, deposit(g2, fullA, true, ""), takenC, done)...)
	other.all(k.Books, c)
	require.Equal(t, InSlot, k.Batteries[fullA].Holder)
	require.Equal(t, protocol.CabinetID("hb-0002"), k.Batteries[fullA].CabinetID)
	// Now the silent one speaks.
	k.log.write(silent...)
	k.fold()
	require.Empty(t, k.reviews)
	require.Equal(t, protocol.CabinetID("hb-0002"), k.Batteries[fullA].CabinetID, "an old take does not move it back")
	require.Equal(t, protocol.CabinetID("hb-0001"), k.Batteries[own].CabinetID)
	require.Equal(t, Rider{RiderID: alice, Active: true, Deposits: 2, Takes: 2, Counted: 2}, *k.rider)
}

func TestLeavingAnEpochReviewsWhatIsOpen(t *testing.T) {
	k := newBench(t)
	g := k.ready(protocol.KindOwed)
	k.log.write(accepted(g), dispense(g))
	k.fold()
	k.LeaveEpoch(k.cabinet, nil, Now(k.now))
	k.EnterEpoch(k.cabinet, epochNo(9))
	k.keep()
	s := k.Swaps[g.SwapID]
	require.Equal(t, protocol.OutcomeReview, s.Outcome)
	require.Equal(t, CreditReserved, k.Credits[s.CreditID].State)
	require.Equal(t, UnderCheck, k.Batteries[fullA].Holder)
	require.Equal(t, alice, k.Batteries[fullA].RiderID)
	require.Len(t, k.reviews, 2)
	require.Equal(t, g.SwapID, k.reviews[0].SwapID)
	require.Empty(t, k.reviews[1].SwapID)
	require.Equal(t, protocol.ReasonEpochReplaced, k.reviews[1].Reason)
}

// TestLeavingAForkedEpochAsksOnce: the fork has asked already; a cabinet that has
// told nothing yet leaves nothing behind.
func TestLeavingAForkedEpochAsksOnce(t *testing.T) {
	k := newBench(t)
	k.Fork(k.cabinet, Now(k.now))
	k.LeaveEpoch(k.cabinet, nil, Now(k.now))
	k.EnterEpoch(k.cabinet, protocol.Epoch{})
	k.LeaveEpoch(k.cabinet, nil, Now(k.now))
	k.keep()
	require.Len(t, k.reviews, 1)
}

// TestRepeatedVoid: a cabinet that has forgotten a swap answers a cancel that is
// sent again. That denies nothing.
func TestRepeatedVoid(t *testing.T) {
	for name, c := range map[string]struct {
		reboot, over bool
		reason       protocol.Reason
		reviews      int
	}{
		"closed, a later boot":                 {reboot: true, over: true},
		"closed, a later boot, another reason": {reboot: true, over: true, reason: protocol.ReasonBusy},
		"closed, the same boot":                {over: true},
		"active, a later boot":                 {reboot: true},
		"active, the same boot":                {reviews: 1},
		"closed, the same boot, as prepared":   {over: true, reason: protocol.ReasonNoEmptySlot, reviews: 1},
	} {
		t.Run(name, func(t *testing.T) {
			k := newBench(t)
			g := k.ready(protocol.KindSwap)
			if c.over {
				k.log.write(whole(g, deposit(g, own, true, ""), dispense(g), takenA(g), closed(g, protocol.OutcomeSwapped))...)
			} else {
				k.log.write(accepted(g))
			}
			k.fold()
			before := *k.Swaps[g.SwapID]
			if c.reboot {
				k.log.reboot()
			}
			k.log.write(protocol.Void{SwapID: g.SwapID, Reason: c.reason})
			k.fold()
			require.Len(t, k.reviews, c.reviews)
			if c.reviews == 0 {
				require.Equal(t, before, *k.Swaps[g.SwapID], "the row has changed")
			}
		})
	}
}

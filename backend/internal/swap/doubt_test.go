package swap

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

func TestAHoleEndsWhatIsOpen(t *testing.T) {
	k := newBench(t)
	g := k.ready(protocol.KindSwap)
	k.log.write(whole(g, deposit(g, own, true, ""))...)
	k.fold()
	k.log.write(dispense(g), takenA(g), closed(g, protocol.OutcomeSwapped))
	n := len(k.log.raws)
	k.Jump(k.cabinet, uint64(n+1), Now(k.now))
	k.keep()
	s := k.Swaps[g.SwapID]
	require.Equal(t, protocol.OutcomeReview, s.Outcome)
	require.Equal(t, protocol.ReasonLogHole, s.Reason)
	require.False(t, k.Standing(alice, "hb-0001", k.now, false).CabinetBusy, "the cabinet is free for the next")
	require.Len(t, k.reviews, 2, "the hole, and what was open there")
	require.Equal(t, 1, k.rider.OpenReviews)
}

// TestWhatFollowsAHoleCounts: of a swap that was given up, the facts that the
// log still has are booked.
func TestWhatFollowsAHoleCounts(t *testing.T) {
	for lost := 1; lost <= 4; lost++ { // INTENT, DOOR, DOOR, DEPOSIT
		k := newBench(t)
		g := k.ready(protocol.KindSwap)
		k.log.write(accepted(g))
		k.fold()
		k.log.write(append(deposit(g, own, true, ""), dispense(g), takenA(g), closed(g, protocol.OutcomeSwapped))...)
		k.Jump(k.cabinet, k.cabinet.LastSeq+uint64(lost)+1, Now(k.now))
		require.Equal(t, Took, k.log.ingest(k.Books, k.cabinet, int(k.cabinet.LastSeq)+1, len(k.log.raws)))
		k.keep()
		s := k.Swaps[g.SwapID]
		require.Equal(t, protocol.OutcomeSwapped, s.Outcome, "%d lost", lost)
		require.Equal(t, 1, k.rider.Counted)
		require.Equal(t, 1, k.rider.Deposits)
		require.Len(t, k.reviews, 2)
		require.Equal(t, WithRider, k.Batteries[fullA].Holder)
	}
}

func TestAnEndThatCannotBeRead(t *testing.T) {
	k := newBench(t)
	g := k.ready(protocol.KindSwap)
	k.log.write(whole(g, deposit(g, own, true, ""))...)
	k.log.raw(protocol.RecordClosed, []byte(`{"swap_id":7}`))
	k.fold()
	require.Equal(t, protocol.OutcomeReview, k.Swaps[g.SwapID].Outcome)
	require.Equal(t, protocol.ReasonMalformedRecord, k.Swaps[g.SwapID].Reason)
	require.False(t, k.Standing(alice, "hb-0001", k.now, false).CabinetBusy)
}

// TestAForkBlocksNoRider: nothing of its log is taken any more, so the cabinet is
// as good as silent.
func TestAForkBlocksNoRider(t *testing.T) {
	k := newBench(t)
	g := k.ready(protocol.KindSwap)
	k.log.write(accepted(g))
	k.fold()
	k.addCabinet("hb-0002", epochNo(2))
	scan := Scan{RiderID: alice, CabinetID: "hb-0002"}
	_, no := k.Request(scan, id(50), k.now, false)
	require.Equal(t, protocol.ReasonSwapOpen, no.Reason)
	k.Fork(k.cabinet, Now(k.now))
	s, no := k.Request(scan, id(51), k.now.Add(time.Second), false)
	require.Nil(t, no)
	require.Equal(t, protocol.KindSwap, s.Kind)
	require.True(t, k.Swaps[g.SwapID].Parked)
}

// TestAlarmsMayBeTold: a cabinet may say anything, and none of it becomes a label
// or a line of its own choice.
func TestAlarmsMayBeTold(t *testing.T) {
	k := newBench(t)
	k.log.write(
		protocol.Alarm{Kind: protocol.AlarmSmoke, Slot: 3, SwapID: id(1)},
		protocol.Alarm{Kind: protocol.AlarmKind(strings.Repeat("x", 4000)), Slot: -7, SwapID: "nobody's"},
		protocol.ChargeCut{Kind: "new", Slot: 4000},
		protocol.Tamper{Slot: 1 << 40},
	)
	k.log.all(k.Books, k.cabinet)
	var told []protocol.Alarm
	for _, a := range k.Changes().Alarms {
		told = append(told, a.Alarm)
	}
	require.Equal(t, []protocol.Alarm{
		{Kind: protocol.AlarmSmoke, Slot: 3, SwapID: id(1)}, {Kind: protocol.AlarmOther}, {Kind: protocol.AlarmOther}, {Kind: protocol.AlarmTamper},
	}, told)
}

func TestTheEndNamesOtherThings(t *testing.T) {
	for name, c := range map[string]struct {
		outcome protocol.Outcome
		spoil   func(*protocol.Closed)
	}{
		"returned, another battery":   {protocol.OutcomeReturned, func(p *protocol.Closed) { p.Deposited = fullB }},
		"returned, another slot":      {protocol.OutcomeReturned, func(p *protocol.Closed) { p.DepositSlot = 4 }},
		"owed, another deposit slot":  {protocol.OutcomeDepositedOwed, func(p *protocol.Closed) { p.DepositSlot = 4 }},
		"swapped, another take slot":  {protocol.OutcomeSwapped, func(p *protocol.Closed) { p.TakeSlot = 8 }},
		"swapped, another deposit's":  {protocol.OutcomeSwapped, func(p *protocol.Closed) { p.DepositSlot = 4 }},
		"swapped, another battery":    {protocol.OutcomeSwapped, func(p *protocol.Closed) { p.Taken = fullB }},
		"swapped, another was put in": {protocol.OutcomeSwapped, func(p *protocol.Closed) { p.Deposited = fullB }},
	} {
		t.Run(name, func(t *testing.T) {
			k := newBench(t)
			g := k.ready(protocol.KindSwap)
			k.log.write(whole(g, deposit(g, own, true, ""), dispense(g))...)
			if c.outcome == protocol.OutcomeSwapped {
				k.log.write(takenA(g))
			}
			end := closed(g, c.outcome)
			c.spoil(&end)
			k.log.write(end)
			k.fold()
			require.Equal(t, protocol.OutcomeReview, k.Swaps[g.SwapID].Outcome)
			require.Len(t, k.reviews, 1)
			require.Equal(t, protocol.ReasonContradictsBooks, k.reviews[0].Reason)
		})
	}
}

func TestADepositIntoASlotThatWasNotGranted(t *testing.T) {
	k := newBench(t)
	g := k.ready(protocol.KindSwap)
	d := deposit(g, own, true, "")[3].(protocol.Deposit)
	d.Slot = 5
	end := closed(g, protocol.OutcomeDepositedOwed)
	end.DepositSlot = 5
	k.log.write(whole(g, d, end)...)
	k.fold()
	require.Len(t, k.reviews, 1)
	require.Equal(t, 1, k.rider.Deposits, "a fact is booked")
	require.Equal(t, 1, k.credits(alice))
}

// TestATakeAfterAnOwedEndSetsTheCreditAside: a battery left, the log says, after
// the swap had ended without one. What it left owed is not spent before a person
// has decided.
func TestATakeAfterAnOwedEndSetsTheCreditAside(t *testing.T) {
	for ruling, credits := range map[Ruling]int{RuledTaken: 0, RuledOwed: 1, RuledReturned: 0} {
		t.Run(string(ruling), func(t *testing.T) {
			k := newBench(t)
			g := k.ready(protocol.KindSwap)
			k.log.write(whole(g, deposit(g, own, true, ""), dispense(g), closed(g, protocol.OutcomeDepositedOwed), takenA(g))...)
			k.fold()
			cr := k.Credits[g.SwapID]
			require.Equal(t, CreditReserved, cr.State)
			require.Len(t, k.reviews, 1)
			st := k.Standing(alice, "hb-0001", k.now, false)
			require.Nil(t, st.Credit, "it cannot be spent now")
			require.True(t, st.CreditBound)

			require.NoError(t, k.decide(decision(ruling)))
			require.Equal(t, credits, k.credits(alice))
			require.Equal(t, 0, k.rider.CreditsDue)
			require.Equal(t, map[bool]CreditState{true: CreditOpen, false: CreditSettled}[ruling == RuledOwed], cr.State)
		})
	}
}

// TestStaffSpeakBeforeTheCabinet: staff say that a battery is with a rider whose
// swap its cabinet has not told yet. Had it been put in before, or was it after?
func TestStaffSpeakBeforeTheCabinet(t *testing.T) {
	for name, c := range map[string]struct {
		before  bool // the swap was asked for
		to      Place
		tell    func(*protocol.Grant) []protocol.Payload
		whats   []What
		holder  Holder
		asked   protocol.Reason
		credits int
	}{
		"put in, then given back, or the other way round": {false, Place{RiderID: alice}, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, true, ""), closed(g, protocol.OutcomeDepositedOwed))
		}, []What{Deposited, Doubted, CreditOpened}, UnderCheck, protocol.ReasonContradictsBooks, 1},
		"only its end is told": {false, Place{RiderID: alice}, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, closed(g, protocol.OutcomeDepositedOwed))
		}, []What{Deposited, Doubted, CreditOpened}, UnderCheck, protocol.ReasonContradictsBooks, 1},
		"put in, and given back by the cabinet": {false, Place{RiderID: alice}, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, true, ""), closed(g, protocol.OutcomeReturned))
		}, []What{Deposited, Doubted, Returned}, WithRider, protocol.ReasonContradictsBooks, 0},
		"said before the swap": {true, Place{RiderID: alice}, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, true, ""), closed(g, protocol.OutcomeDepositedOwed))
		}, []What{Deposited, CreditOpened}, InSlot, "", 1},
		"nothing put in": {false, Place{RiderID: alice}, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, closed(g, protocol.OutcomeNoDeposit))
		}, nil, WithRider, "", 0},
		"not accepted, and taken back": {false, Place{RiderID: alice}, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, false, protocol.ReasonTooHot), closed(g, protocol.OutcomeReturned))
		}, nil, WithRider, "", 0},
		"never started": {false, Place{RiderID: alice}, func(g *protocol.Grant) []protocol.Payload {
			return []protocol.Payload{protocol.Void{SwapID: g.SwapID}}
		}, nil, WithRider, "", 0},
		"put in, then taken away by staff": {false, Place{}, func(g *protocol.Grant) []protocol.Payload {
			return whole(g, deposit(g, own, true, ""), closed(g, protocol.OutcomeDepositedOwed))
		}, []What{Deposited, CreditOpened}, UnderCheck, protocol.ReasonSameSerialTwice, 1},
	} {
		for heard := range 3 { // ACCEPT, and an INTENT or the end
			k := newBench(t)
			say := func() { require.NoError(t, k.Assign(id(801), own, c.to, Now(k.now))) }
			if c.before {
				say()
			}
			g := k.ready(protocol.KindSwap)
			said := c.tell(g)
			heard = min(heard, len(said)-1)
			k.log.write(said[:heard]...)
			k.fold()
			if !c.before {
				say()
			}
			k.log.write(said[heard:]...)
			k.fold()
			s, x := k.Swaps[g.SwapID], k.Batteries[own]
			require.Equal(t, c.whats, k.whats(g.SwapID), "%s: %d heard", name, heard)
			require.Equal(t, c.holder, x.Holder, name)
			require.Equal(t, c.credits, k.credits(alice), name)
			require.Equal(t, c.asked, s.Reviewed, name)
			require.Empty(t, x.AheadOf, "%s: the swap has told", name)
			if c.to.RiderID != "" && c.holder == UnderCheck {
				require.Equal(t, alice, x.RiderID, "who may have it, and may put it in elsewhere")
			}
		}
	}
}

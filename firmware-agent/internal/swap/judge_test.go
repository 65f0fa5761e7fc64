package swap

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// content is what a slot may show at rest.
var contents = []slot.View{
	{Content: slot.Empty},
	{Content: slot.Identified, Serial: "own"},
	{Content: slot.Identified, Serial: "X9"},
	{Content: slot.Mute},
	{Content: slot.Unclear},
}

// pasts are what a journal may tell of a swap with deposit slots 1 and 2 and
// offers in 3 and 4.
func pasts(k protocol.Kind) map[string]*Open {
	accept := func(intents ...Intent) *Open {
		o := &Open{SwapID: swapID(1), Kind: k, Intents: intents, Expect: []protocol.BatterySerial{"own"}}
		if k.Deposits() {
			o.Deposits = []int{1, 2}
		}
		if k.Dispenses() {
			o.Offers = []protocol.Offer{{Slot: 3, BatterySerial: "own"}, {Slot: 4, BatterySerial: "own"}}
		}
		return o
	}
	i := func(n int, p protocol.Purpose) Intent { return Intent{Slot: n, Purpose: p} }
	deposited := func(o *Open, accepted bool, serial protocol.BatterySerial) *Open {
		n := o.Intents[0].Slot
		o.Deposit = &Deposited{Slot: n, Accepted: accepted, Serial: serial}
		return o
	}
	d1, d2 := i(1, protocol.PurposeDeposit), i(2, protocol.PurposeDeposit)
	f3, f4, ret := i(3, protocol.PurposeDispense), i(4, protocol.PurposeDispense), i(1, protocol.PurposeReturn)
	out := map[string]*Open{"accept": accept()}
	if k.Deposits() {
		out["deposit 1"] = accept(d1)
		out["deposit 1, 2"] = accept(d1, d1, d2)
		out["deposited"] = deposited(accept(d1), true, "own")
		out["refused"] = deposited(accept(d1), false, "X9")
		out["refused mute"] = deposited(accept(d1, i(1, protocol.PurposeReopen)), false, "")
		out["refused, return"] = deposited(accept(d1, ret), false, "X9")
	}
	if k == protocol.KindSwap {
		out["dispense 3"] = deposited(accept(d1, f3), true, "own")
		out["dispense 3, 4"] = deposited(accept(d1, f3, f3, f4), true, "own")
		out["dispense 3, 4, return"] = deposited(accept(d1, f3, f3, f4, f4, ret), true, "own")
	}
	if !k.Deposits() {
		out["dispense 3"] = accept(f3)
		out["dispense 3, 4"] = accept(f3, f3, f4)
	}
	return out
}

// TestJudgeIsTotal: every past with every content of every slot has an end: one
// that the kind can have, and a review has at least two explanations.
func TestJudgeIsTotal(t *testing.T) {
	seen, n := map[protocol.Outcome]int{}, 0
	for _, k := range everyKind {
		for name, o := range pasts(k) {
			for c := range len(contents) * len(contents) * len(contents) * len(contents) {
				look := func(slotNumber int) slot.View {
					v := contents[c/[]int{1, 1, 5, 25, 125}[slotNumber]%5]
					v.Slot, v.Fresh, v.Closed = slotNumber, true, true
					return v
				}
				for _, restart := range []bool{false, true} {
					if name == "accept" && !restart {
						continue // live, a swap is not judged before its first pulse
					}
					e := judge(o, look, restart)
					where := fmt.Sprintf("%s, %s, contents %d, restart %v: %+v", k, name, c, restart, e)
					n++
					if e.verify != 0 {
						require.Nil(t, o.Deposit, where)
						require.NotEqual(t, slot.Empty, look(e.verify).Content, where)
						continue
					}
					seen[e.closed.Outcome]++
					require.True(t, e.closed.Outcome.PossibleFor(k), where)
					review := e.closed.Outcome == protocol.OutcomeReview
					require.Equal(t, review, len(e.closed.Explanations) >= 2, where)
					for _, x := range e.closed.Explanations {
						require.True(t, x.PossibleFor(k), where)
					}
					require.Equal(t, review, e.closed.Reason != "", where)
					checkJudged(t, o, look, e, where)
				}
			}
		}
	}
	t.Logf("%d ends, %v", n, seen)
	require.Len(t, seen, 10, "every outcome but not_started")
}

// checkJudged holds an end against the contents, independently.
func checkJudged(t *testing.T, o *Open, look func(int) slot.View, e ending, where string) {
	gone := 0
	for _, f := range o.Offers {
		if look(f.Slot).Content == slot.Empty {
			gone++
		}
	}
	in := o.Deposit != nil && look(o.Deposit.Slot).Content == slot.Identified && look(o.Deposit.Slot).Serial == o.Deposit.Serial
	switch e.closed.Outcome {
	case protocol.OutcomeSwapped:
		require.True(t, in && o.Deposit.Accepted && look(e.closed.TakeSlot).Content == slot.Empty, "I1: "+where)
	case protocol.OutcomeOwedTaken, protocol.OutcomeIssued:
		require.Equal(t, slot.Empty, look(e.closed.TakeSlot).Content, "I3: "+where)
	case protocol.OutcomeDepositedOwed, protocol.OutcomeHandedBack:
		require.True(t, in && o.Deposit.Accepted, "I2: "+where)
	case protocol.OutcomeReturned:
		require.Equal(t, slot.Empty, look(o.Deposit.Slot).Content, "I2: "+where)
	case protocol.OutcomeNoDeposit:
		require.Nil(t, o.Deposit, "I2: "+where)
	}
	for _, n := range e.held {
		require.NotEqual(t, slot.Empty, look(n).Content, "a held slot holds something: "+where)
	}
	if len(o.pulsed(protocol.PurposeDispense)) == len(o.Offers) && gone > 1 {
		require.Equal(t, protocol.OutcomeReview, e.closed.Outcome, "I1: "+where)
	}
}

package swap

import (
	"slices"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// ending is the sensed end of a swap: what the CLOSED record will say.
type ending struct {
	closed protocol.Closed
	// verify, when not 0, is a slot whose battery must be judged first.
	verify int
	// holding is the deposit slot, when something is in it.
	holding int
	// held are the slots with a battery that nobody may take until a person
	// has decided.
	held []int
}

// put is what may have become of the rider's battery: in, back out, or neither.
type put struct{ in, back bool }

// take is what may have become of a charged battery.
type take struct {
	possible []bool // that one was taken: one explanation, or it is a review
	slot     int
	serial   protocol.BatterySerial
}

// judge says how a swap ended, from slots that are at rest. restart widens it
// from the slots that were pulsed to the whole cabinet (R5): the flash may have
// lost the last record, and what happened while there was no power was not seen.
//
// The same rules serve live swaps and restarts, so that a power cut cannot make
// an end that a live swap would tell otherwise.
func judge(o *Open, look func(int) slot.View, restart bool) ending {
	e := ending{closed: protocol.Closed{SwapID: o.SwapID, Kind: o.Kind}}
	if o.Taken != nil { // on disk: final
		return e.taken(o)
	}
	t, odd := judgeTake(o, look, restart)
	puts, oddPut := e.judgeDeposit(o, look, restart)
	odd = append(odd, oddPut...)
	e.held = append(e.held, odd...)
	plain := len(puts) == 1 && len(t.possible) == 1
	if n := e.verify; n != 0 {
		if plain {
			return e
		}
		e.verify, e.held = 0, append(e.held, n)
		e.closed.DepositSlot, e.closed.Deposited = n, look(n).Serial
	}
	if !plain {
		return e.review(reviewReason(odd, look), puts, t.possible)
	}
	if restart {
		if differs := differences(o, look); len(differs) > 0 {
			e.held = append(e.held, differs...)
			return e.review(protocol.ReasonInventoryDiffers, puts, []bool{false, true})
		}
	}
	return e.decide(o, puts[0], t)
}

// taken repeats a take that is on disk.
func (e ending) taken(o *Open) ending {
	e.closed.TakeSlot, e.closed.Taken = o.Taken.Slot, o.Taken.Serial
	if o.Deposit != nil {
		e.closed.DepositSlot, e.closed.Deposited = o.Deposit.Slot, o.Deposit.Serial
	}
	e.closed.Outcome = outcomeOf(o.Kind, true, false, true)
	return e
}

// decide is the table "sensed end → books": each side has one explanation.
func (e ending) decide(o *Open, p put, t take) ending {
	took := t.possible[0]
	if took {
		e.closed.TakeSlot, e.closed.Taken = t.slot, t.serial
	}
	if p.in && !o.Deposit.Accepted { // whose it is, a person decides
		return e.review(protocol.ReasonHeldBattery, []put{p, {}}, t.possible)
	}
	if took && o.Kind.Deposits() && !p.in {
		// A battery left and none of the rider's is in.
		return e.review(protocol.ReasonInventoryDiffers, []put{p}, []bool{false, true})
	}
	if p.back && slices.Contains(o.Forced, o.Deposit.Slot) {
		// By the rider, or by who forced the door.
		return e.review(protocol.ReasonInventoryDiffers, []put{{in: true}, p}, t.possible)
	}
	e.closed.Outcome = outcomeOf(o.Kind, p.in, p.back, took)
	return e
}

// outcomeOf names a row of the table; "" where there is none.
func outcomeOf(k protocol.Kind, in, back, took bool) protocol.Outcome {
	switch k {
	case protocol.KindOwed:
		return pick(took, protocol.OutcomeOwedTaken, protocol.OutcomeOwedNotTaken)
	case protocol.KindIssue:
		return pick(took, protocol.OutcomeIssued, protocol.OutcomeIssueNotTaken)
	case protocol.KindHandBack:
		if in {
			return protocol.OutcomeHandedBack
		}
	case protocol.KindSwap:
		if in || took {
			return pick(took, protocol.OutcomeSwapped, protocol.OutcomeDepositedOwed)
		}
	}
	return pick(back, protocol.OutcomeReturned, protocol.OutcomeNoDeposit)
}

func pick(yes bool, a, b protocol.Outcome) protocol.Outcome {
	if yes {
		return a
	}
	return b
}

// judgeTake looks at the dispense slots. odd are those with anything but their
// own battery or nothing inside.
func judgeTake(o *Open, look func(int) slot.View, restart bool) (t take, odd []int) {
	pulsed := o.pulsed(protocol.PurposeDispense)
	slots := pulsed
	if restart {
		slots = nil
		for _, f := range o.Offers {
			slots = append(slots, f.Slot)
		}
	}
	var gone []int
	for _, n := range slots {
		f, _ := o.offer(n)
		switch v := look(n); {
		case !v.Closed: // not pulsed, and given up
			odd = append(odd, n)
		case v.Content == slot.Empty:
			gone = append(gone, n)
		case v.Content != slot.Identified || v.Serial != f.BatterySerial:
			odd = append(odd, n)
		}
	}
	switch {
	case len(odd) > 0:
		t.possible = []bool{false, true}
	case len(gone) == 0:
		t.possible = []bool{false}
	case len(gone) == 1 && slices.Contains(o.Forced, gone[0]):
		// By the rider, or by who forced the door.
		t.possible = []bool{false, true}
	case len(gone) == 1 && (!slices.Contains(pulsed, gone[0]) || gone[0] == pulsed[len(pulsed)-1]):
		// The last one pulsed, or one whose INTENT the flash has lost.
		f, _ := o.offer(gone[0])
		t = take{possible: []bool{true}, slot: f.Slot, serial: f.BatterySerial}
	default:
		// Two, or one that was proved to be inside when the next was pulsed.
		t.possible = []bool{false, true}
	}
	return t, odd
}

// judgeDeposit looks at the deposit slots: a battery of the rider is in, or came
// back out, or neither. odd are those that hold what they should not.
func (e *ending) judgeDeposit(o *Open, look func(int) slot.View, restart bool) (puts []put, odd []int) {
	pulsed := o.pulsed(protocol.PurposeDeposit)
	slots := pulsed
	if restart {
		slots = o.Deposits
	}
	var holding []int
	for _, n := range slots {
		if v := look(n); !v.Closed || v.Content != slot.Empty {
			holding = append(holding, n)
		}
	}
	if d := o.Deposit; d != nil {
		e.closed.DepositSlot, e.closed.Deposited = d.Slot, d.Serial
		for _, n := range holding {
			if n != d.Slot || !holds(look(n), d) {
				odd = append(odd, n)
			}
		}
		if slices.Contains(holding, d.Slot) {
			e.holding = d.Slot
		}
		if len(odd) > 0 {
			return []put{{in: true}, {back: true}}, odd
		}
		in := len(holding) > 0
		return []put{{in: in, back: !in}}, nil
	}
	switch {
	case slices.ContainsFunc(o.Forced, func(n int) bool {
		return slices.Contains(slots, n) && slices.Contains(pulsed, n) != slices.Contains(holding, n)
	}):
		// By the rider, or by who forced the door: one that came, or one that left.
		return []put{{in: true}, {}}, holding
	case slices.ContainsFunc(holding, func(n int) bool { return !look(n).Closed }):
		// Not pulsed, and given up: nobody knows what it holds.
		return []put{{in: true}, {}}, holding
	case len(holding) == 0:
		return []put{{}}, nil
	case len(holding) == 1 && (!slices.Contains(pulsed, holding[0]) || holding[0] == pulsed[len(pulsed)-1]):
		e.verify = holding[0]
		return []put{{in: true}}, nil
	}
	// Two, or one that was proved to be empty when the next was pulsed.
	return []put{{in: true}, {}}, holding
}

// holds reports whether a slot still holds the battery that was judged. One that
// was mute then may have been plugged in since.
func holds(v slot.View, d *Deposited) bool {
	if !d.Accepted && (d.Serial == "" || v.Content != slot.Identified) {
		return true // refused and still in: held either way
	}
	return v.Content == slot.Identified && v.Serial == d.Serial
}

// differences are the slots outside the grant that are not as ACCEPT's inventory
// says. What is not known now, or was not known then, is no difference.
func differences(o *Open, look func(int) slot.View) []int {
	var out []int
	granted := o.granted()
	for _, was := range o.Before {
		v := look(was.Slot)
		if slices.Contains(granted, was.Slot) || was.Out || was.Presence == "" || !v.Closed || v.Content == slot.Unclear {
			continue
		}
		swapped := v.Serial != "" && was.Serial != "" && v.Serial != was.Serial
		if v.Presence() != was.Presence || swapped {
			out = append(out, was.Slot)
		}
	}
	return out
}

func reviewReason(odd []int, look func(int) slot.View) protocol.Reason {
	for _, n := range odd {
		if look(n).Content == slot.Identified {
			return protocol.ReasonOtherBattery
		}
	}
	if len(odd) > 0 {
		return protocol.ReasonSensorsDisagree
	}
	return protocol.ReasonInventoryDiffers
}

// review ends a swap with more than one explanation: those that the sensors
// leave open.
func (e ending) review(why protocol.Reason, puts []put, took []bool) ending {
	e.closed.Outcome, e.closed.Reason = protocol.OutcomeReview, why
	k := e.closed.Kind
	add := func(o protocol.Outcome) {
		if !slices.Contains(e.closed.Explanations, o) {
			e.closed.Explanations = append(e.closed.Explanations, o)
		}
	}
	for _, p := range puts {
		for _, t := range took {
			add(outcomeOf(k, p.in, p.back, t))
		}
	}
	// The table may give them all one name: then the nearest other one is added.
	if len(e.closed.Explanations) == 1 && k.Dispenses() {
		add(outcomeOf(k, puts[0].in, puts[0].back, !took[0]))
	}
	if len(e.closed.Explanations) == 1 {
		add(outcomeOf(k, !puts[0].in, false, took[0]))
	}
	if e.holding != 0 {
		e.held = append(e.held, e.holding)
	}
	slices.Sort(e.held)
	e.held = slices.Compact(e.held)
	return e
}

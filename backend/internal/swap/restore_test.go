package swap

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"batteryswap/protocol"
)

// interleavings calls f with every order of a records of one log and b of
// another: true is the next of the first.
func interleavings(a, b int, f func(order []bool)) {
	var walk func(order []bool, a, b int)
	walk = func(order []bool, a, b int) {
		if a == 0 && b == 0 {
			f(order)
			return
		}
		if a > 0 {
			walk(append(order[:len(order):len(order)], true), a-1, b)
		}
		if b > 0 {
			walk(append(order[:len(order):len(order)], false), a, b-1)
		}
	}
	walk(nil, a, b)
}

// TestCreditOriginAndSpendingCommute restores the books to before either: two
// cabinets tell of a credit's origin and of its spending in every order, cut at
// every record.
func TestCreditOriginAndSpendingCommute(t *testing.T) {
	const ref = "00112233445566778899aabbccddeeff"
	origin := protocol.Grant{
		SwapID: id(900), Kind: protocol.KindSwap, Nonce: protocol.Nonce{1}, BootID: protocol.BootID{1}, RiderRef: ref, DepositSlots: []int{3},
		Dispense: []protocol.Offer{{Slot: 1, BatterySerial: fullB, Soc: 95}}, ExpectSerials: []protocol.BatterySerial{own},
	}
	spending := protocol.Grant{
		SwapID: id(901), Kind: protocol.KindOwed, Nonce: protocol.Nonce{2}, BootID: protocol.BootID{1}, RiderRef: ref,
		Dispense: []protocol.Offer{{Slot: 7, BatterySerial: fullA, Soc: 95}},
	}
	left := whole(&origin, deposit(&origin, own, true, "")[3], closed(&origin, protocol.OutcomeDepositedOwed))
	unclear := closed(&spending, protocol.OutcomeReview)
	unclear.Reason = protocol.ReasonInventoryDiffers
	for name, c := range map[string]struct {
		told          []protocol.Payload
		credits, took int
	}{
		"taken":          {whole(&spending, dispense(&spending), takenA(&spending), closed(&spending, protocol.OutcomeOwedTaken)), 0, 1},
		"taken, no word": {whole(&spending, dispense(&spending), closed(&spending, protocol.OutcomeOwedTaken)), 0, 1},
		"not taken":      {whole(&spending, dispense(&spending), closed(&spending, protocol.OutcomeOwedNotTaken)), 1, 0},
		"unclear":        {whole(&spending, dispense(&spending), unclear), 1, 0},
	} {
		interleavings(len(left), len(c.told), func(order []bool) {
			k := newBench(t)
			other := newLogbook(t, epochNo(2))
			b := k.addCabinet("hb-0002", other.epoch)
			k.Lost[id(900)], k.Lost[id(901)] = LostGrant{origin, alice}, LostGrant{spending, alice}
			x, y := left, c.told
			for _, first := range order {
				if first {
					other.write(x[0])
					x = x[1:]
					other.all(k.Books, b)
				} else {
					k.log.write(y[0])
					y = y[1:]
					k.fold()
				}
			}
			k.keep()
			require.Equal(t, 0, k.rider.CreditsDue, "%s %v", name, order)
			require.Equal(t, c.credits, k.credits(alice), "I7: %s %v", name, order)
			require.Equal(t, 1, k.rider.Deposits)
			require.Equal(t, c.took, k.rider.Takes)
			require.Equal(t, c.took, k.rider.Counted)
			if cr := k.Credits[id(900)]; name == "unclear" && order[len(order)-1] == false {
				require.Equal(t, CreditReserved, cr.State, "set aside until a person has decided: %v", order)
			}
		})
	}
}

// backup is a copy of the books, and how much had been appended by then.
type backup struct {
	b               *Books
	ledger, reviews int
}

// clone copies every row.
func (b *Books) clone() *Books {
	out := NewBooks()
	for k, c := range b.Cabinets {
		out.Cabinets[k] = ptr(*c)
	}
	for k, s := range b.Swaps {
		s := *s
		s.Pulsed = slices.Clone(s.Pulsed)
		out.Swaps[k] = &s
	}
	for k, r := range b.Riders {
		out.Riders[k] = ptr(*r)
	}
	for k, cr := range b.Credits {
		out.Credits[k] = ptr(*cr)
	}
	for _, x := range b.Batteries {
		x := *x
		x.AheadOf = slices.Clone(x.AheadOf)
		out.AddBattery(&x)
	}
	return out
}

func ptr[T any](v T) *T { return &v }

func (w *world) backUp(*rapid.T) {
	if w.coin("back up") {
		w.keep()
		w.backup = &backup{w.b.clone(), len(w.ledger), len(w.reviews)}
	}
}

// restore puts a copy in the place of the books. What cabinets have done since
// is theirs to tell again, with the grants that they keep.
func (w *world) restore(*rapid.T) {
	if w.backup == nil || !w.coin("restore") {
		return
	}
	w.restored = true
	w.b = w.backup.b.clone()
	w.b.Lost = maps.Clone(w.grants)
	w.ledger, w.reviews = w.ledger[:w.backup.ledger:w.backup.ledger], w.reviews[:w.backup.reviews:w.backup.reviews]
	for _, p := range w.cabinets {
		p.c = w.b.Cabinets[p.c.CabinetID]
		p.sent, p.knew = int(p.c.LastSeq), len(p.log.raws)
	}
}

// recovering: some cabinet has not told yet what it had when the books were
// restored.
func (w *world) recovering() bool {
	return slices.ContainsFunc(w.cabinets, func(p *place) bool { return p.sent < p.knew })
}

// asked are batteries that a person is asked about after a restore: cabinets
// told of them in another order than it happened.
func (w *world) asked() map[protocol.BatterySerial]bool {
	out := map[protocol.BatterySerial]bool{}
	for _, s := range w.b.Swaps {
		if s.Reviewed != "" {
			out[s.Deposited], out[s.Taken] = true, true
		}
	}
	return out
}

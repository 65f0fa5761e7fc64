package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// unclear writes a swap that a person must decide: the own battery is in, and
// the first offer may have been taken.
func (c *cabinet) unclear(g *protocol.Grant, own protocol.BatterySerial) {
	c.d.t.Helper()
	raw, err := protocol.Seal("g1", c.d.grant, c.id, g)
	require.NoError(c.d.t, err)
	before := protocol.Inventory{{Slot: 3, Presence: protocol.PresenceEmpty, Closed: true}, {Slot: 7, Presence: protocol.HoldsBattery, Closed: true}}
	c.write(protocol.Accept{SwapID: g.SwapID, Kind: g.Kind, Nonce: g.Nonce, BootID: g.BootID, Grant: string(raw), Inventory: before})
	c.deposit(g, own)
	o := g.Dispense[0]
	c.write(
		protocol.Intent{SwapID: g.SwapID, Slot: o.Slot, Purpose: protocol.PurposeDispense, Pulse: 1, BatterySerial: o.BatterySerial},
		protocol.Closed{
			SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeReview, Reason: protocol.ReasonOtherBattery, DepositSlot: 3, Deposited: own,
			Explanations: []protocol.Outcome{protocol.OutcomeSwapped, protocol.OutcomeDepositedOwed},
			Inventory:    protocol.Inventory{{Slot: 3, Presence: protocol.HoldsBattery, BatterySerial: own, Closed: true}, {Slot: 7, Closed: true}},
		})
}

// inReview is a deck with one open review of alice's.
func inReview(t *testing.T) (*deck, *cabinet, *desk, *protocol.Grant, int64) {
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	d.battery("OWN", swap.Place{RiderID: alice})
	g := c.granted(alice, false)
	c.unclear(g, "OWN")
	k.sends(c)
	return d, c, k, g, query[int64](d, `SELECT review_id FROM review`)
}

func ruled(id int64, r swap.Ruling) swap.ReviewDecision {
	return swap.ReviewDecision{ReviewID: id, Decision: r, Reason: swap.GroundOnSite, By: "wei"}
}

// TestAReviewIsDecidedOnce: many people at two replicas decide differently at
// once; one is first, and all others are told so.
func TestAReviewIsDecidedOnce(t *testing.T) {
	t.Parallel()
	d, _, _, _, id := inReview(t)
	stores := []*postgres.Store{d.store, d.open()}
	rulings := []swap.Ruling{swap.RuledTaken, swap.RuledOwed, swap.RuledReturned}
	var mu sync.Mutex
	var won []swap.ReviewDecision
	var told []swap.Decided
	at(24, func(i int) {
		x := ruled(id, rulings[i%3])
		x.By = fmt.Sprintf("staff-%d", i)
		err := stores[i%2].DecideReview(t.Context(), x)
		var already *swap.AlreadyDecided
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			won = append(won, x)
			return
		}
		if !errors.As(err, &already) {
			t.Errorf("%T: %v", err, err)
			return
		}
		told = append(told, already.Decided)
	})
	require.Len(t, won, 1)
	require.Len(t, told, 23)
	for _, x := range told {
		require.Equal(t, won[0].By, x.By)
		require.Equal(t, won[0].Decision, x.Decision)
		require.False(t, x.At.IsZero())
	}
	rep := d.honest()
	require.Zero(t, rep.Riders[0].Reviews)
	require.Zero(t, query[int64](d, `SELECT count(*) FROM battery WHERE holder = 'review'`))
}

func TestADecisionIsEntries(t *testing.T) {
	t.Parallel()
	d, c, k, g, id := inReview(t)
	require.ErrorIs(t, d.store.DecideReview(t.Context(), ruled(id+1, swap.RuledOwed)), postgres.ErrNotFound)
	require.ErrorContains(t, d.store.DecideReview(t.Context(), swap.ReviewDecision{ReviewID: id, Decision: "maybe"}), "decision \"maybe\": want one of")
	var no *swap.Contradiction
	require.ErrorAs(t, d.store.DecideReview(t.Context(), ruled(id, swap.RuledNotDeposited)), &no)

	require.NoError(t, d.store.Hardship(t.Context(), id, "wei"))
	require.ErrorContains(t, d.store.Hardship(t.Context(), id, "li"), "at most one a day")
	require.Equal(t, 1, d.account(alice).OpenCredits)
	require.Error(t, d.exec(`INSERT INTO ledger (swap_id, entry_no, what, rider_id, credit_id, origin, review_id, at, time_quality)
		SELECT gen_random_uuid(), 1, what, rider_id, gen_random_uuid(), origin, review_id, at, time_quality FROM ledger WHERE origin = 'review'`),
		"one hardship credit per review and day, also by hand")

	require.NoError(t, d.store.DecideReview(t.Context(), ruled(id, swap.RuledTaken)))
	x := d.account(alice)
	require.Equal(t, 1, x.Counted)
	require.Equal(t, 1, x.Deposits)
	require.Equal(t, []protocol.BatterySerial{g.Dispense[0].BatterySerial}, x.Batteries)
	require.Equal(t, 0, x.Reviews)
	require.Equal(t, 1, x.OpenCredits, "hardship is given")
	require.Equal(t, "review", query[string](d, `SELECT outcome FROM swap`), "what the cabinet said stays")
	require.Equal(t, int64(1), query[int64](d, `SELECT sum(swaps) FROM day_count`))

	for _, sql := range []string{
		`UPDATE review SET decision = 'owed'`, `UPDATE review SET reason = 'log_hole'`, `DELETE FROM review`, `TRUNCATE review`,
		`UPDATE ledger SET ruling = 'owed' WHERE what = 'decided'`,
	} {
		require.Error(t, d.exec(sql), sql)
	}
	// The same swap may need another decision, when its cabinet speaks again.
	o := g.Dispense[1]
	c.write(protocol.Taken{SwapID: g.SwapID, Slot: o.Slot, BatterySerial: o.BatterySerial})
	k.sends(c)
	require.Equal(t, int64(1), query[int64](d, `SELECT count(*) FROM review WHERE decided_at IS NULL`))
	d.honest()
	second := query[int64](d, `SELECT max(review_id) FROM review`)
	require.NoError(t, d.store.DecideReview(t.Context(), ruled(second, swap.RuledTaken)))
	d.honest()
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	d, c, k, g, id := inReview(t)
	rv, err := d.store.Review(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, protocol.ReasonOtherBattery, rv.Reason)
	require.Equal(t, []protocol.Outcome{protocol.OutcomeSwapped, protocol.OutcomeDepositedOwed}, rv.Explanations)
	require.Equal(t, []swap.Ruling{swap.RuledTaken, swap.RuledReturned, swap.RuledOwed}, rv.Possible)
	require.Len(t, rv.Before, 2)
	require.Equal(t, protocol.PresenceEmpty, rv.Before[0].Presence)
	require.Equal(t, protocol.BatterySerial("OWN"), rv.After[0].BatterySerial)
	var types []protocol.RecordType
	for _, r := range rv.Records {
		types = append(types, r.Type)
		require.False(t, r.At.IsZero())
		require.True(t, json.Valid(r.Payload))
		require.False(t, r.Late)
	}
	require.Equal(t, []protocol.RecordType{
		protocol.RecordAccept, protocol.RecordIntent, protocol.RecordDoor, protocol.RecordDoor, protocol.RecordDeposit, protocol.RecordIntent, protocol.RecordClosed,
	}, types)
	require.Equal(t, g.SwapID, rv.Swap.SwapID)
	require.Len(t, rv.Batteries, 2)

	require.NoError(t, d.store.DecideReview(t.Context(), ruled(id, swap.RuledOwed)))
	rv, err = d.store.Review(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, swap.RuledOwed, rv.Decided.Decision)
	require.Equal(t, "wei", rv.Decided.By)
	require.Equal(t, swap.Ruled, rv.Entries[len(rv.Entries)-1].What)
	require.Len(t, rv.Credits, 1)
	require.Empty(t, rv.Possible)
	_, err = d.store.Review(t.Context(), id+1)
	require.ErrorIs(t, err, postgres.ErrNotFound)

	// A damaged record of no swap is a review too, and is listed first.
	c.raw(protocol.RecordTaken, []byte("{"))
	k.sends(c)
	page, next, err := d.store.Reviews(t.Context(), swap.ReviewFilter{}, 0)
	require.NoError(t, err)
	require.Zero(t, next)
	require.Len(t, page, 2)
	require.Equal(t, protocol.ReasonMalformedRecord, page[0].Reason)
	open, _, err := d.store.Reviews(t.Context(), swap.ReviewFilter{Open: true}, 0)
	require.NoError(t, err)
	require.Equal(t, page[:1], open)
	mine, _, err := d.store.Reviews(t.Context(), swap.ReviewFilter{RiderID: alice, CabinetID: "hb-0001", Reason: protocol.ReasonOtherBattery}, page[0].ReviewID)
	require.NoError(t, err)
	require.Equal(t, page[1:], mine)
	odd, err := d.store.Review(t.Context(), page[0].ReviewID)
	require.NoError(t, err)
	require.Len(t, odd.Records, 1)
	require.NoError(t, d.store.DecideReview(t.Context(), ruled(page[0].ReviewID, swap.RuledNoted)))
	d.honest()
}

func TestReviewsAreListedInPages(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	d.cabinet("hb-0001")
	require.NoError(t, d.exec(`INSERT INTO review (cabinet_id, reason, epoch, seq, at, time_quality)
		SELECT 'hb-0001', 'malformed_record', decode(repeat('01', 16), 'hex'), n, now(), 'wall' FROM generate_series(1, 250) n`))
	seen := map[int64]bool{}
	var cursor int64
	for range 3 {
		page, next, err := d.store.Reviews(t.Context(), swap.ReviewFilter{Open: true}, cursor)
		require.NoError(t, err)
		for _, v := range page {
			require.False(t, seen[v.ReviewID])
			seen[v.ReviewID] = true
		}
		cursor = next
	}
	require.Zero(t, cursor)
	require.Len(t, seen, 250)
}

// TestLateRecordsAreEvidence: an epoch is left with a swap under way; what its
// journal had to say comes later, and is shown and not applied.
func TestLateRecordsAreEvidence(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	d.battery("OWN", swap.Place{RiderID: alice})
	g := c.granted(alice, false)
	c.accept(g)
	c.deposit(g, "OWN")
	k.sends(c)
	o := c.take(g)
	c.write(protocol.Closed{
		SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeSwapped, DepositSlot: 3, Deposited: "OWN", TakeSlot: o.Slot, Taken: o.BatterySerial,
	})
	late := c.log(int(c.acked)+1, len(c.raws))
	c.format(2)
	require.Equal(t, protocol.VerdictWait, c.hello().Verdict)
	require.NoError(t, d.store.AcceptEpoch(t.Context(), c.id))
	before := d.account(alice)
	require.Equal(t, 1, before.Reviews)
	for i := range 3 {
		require.True(t, k.Submit(late))
		k.until(func() bool { return k.rejected[c.id] == i+1 })
	}
	require.Equal(t, int64(1), query[int64](d, `SELECT count(*) FROM late_batch`), "once")
	require.Equal(t, before, d.account(alice), "in no count")
	id := query[int64](d, `SELECT review_id FROM review`)
	rv, err := d.store.Review(t.Context(), id)
	require.NoError(t, err)
	last := rv.Records[len(rv.Records)-1]
	require.Equal(t, protocol.RecordClosed, last.Type)
	require.True(t, last.Late)
	x := ruled(id, swap.RuledTaken)
	require.ErrorContains(t, d.store.DecideReview(t.Context(), x), "want the battery_serial that left")
	x.Taken = o.BatterySerial
	require.NoError(t, d.store.DecideReview(t.Context(), x))
	require.Equal(t, 1, d.account(alice).Counted)
	require.Error(t, d.exec(`DELETE FROM late_batch`))
}

func TestASwapOfASilentCabinetIsMoved(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	d.battery("OWN", swap.Place{RiderID: alice})
	g := c.granted(alice, false)
	c.accept(g)
	k.sends(c)
	require.ErrorContains(t, d.store.MoveToReview(t.Context(), g.SwapID), "was heard")
	require.ErrorIs(t, d.store.MoveToReview(t.Context(), "019a0000-0000-7000-8000-000000000001"), postgres.ErrNotFound)
	require.NoError(t, d.exec(`UPDATE cabinet_cursor SET heard_at = heard_at - interval '1 hour'`))
	require.NoError(t, d.store.MoveToReview(t.Context(), g.SwapID))
	id := query[int64](d, `SELECT review_id FROM review`)
	require.NoError(t, d.store.DecideReview(context.Background(), ruled(id, swap.RuledNotDeposited)))
	require.Equal(t, []protocol.BatterySerial{"OWN"}, d.account(alice).Batteries)
	c.deposit(g, "OWN")
	k.sends(c)
	require.Equal(t, 1, d.account(alice).Reviews, "the cabinet says otherwise")
}

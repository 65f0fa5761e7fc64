package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// retelling reads what one cabinet said, as it signed it, folds it again, and
// holds the books against that.
type retelling struct {
	store   *Store
	tx      pgx.Tx
	rep     *Report
	keys    protocol.KeyLookup
	id      protocol.CabinetID
	cursor  *swap.Cabinet
	rows    map[protocol.SwapID]*swap.Swap
	reviews []storedReview
	jumped  map[place]bool
	ends    map[protocol.Epoch]uint64 // the last record that each epoch told
	told    *swap.Retelling
	// accepted are the grants that the cabinet said it accepted; dated says when
	// each record was, and of which swap.
	accepted map[protocol.SwapID]protocol.Accept
	dated    map[place]storedRecord
}

// place is a record's.
type place struct {
	epoch protocol.Epoch
	seq   uint64
}

// retell goes through the cabinets one by one.
func (s *Store) retell(ctx context.Context, tx pgx.Tx, rep *Report) error {
	keys, err := allKeys(ctx, tx)
	if err != nil {
		return err
	}
	cabinets, err := auditedCabinets(ctx, tx)
	if err != nil {
		return err
	}
	reviews, err := storedReviews(ctx, tx)
	if err != nil {
		return err
	}
	swaps, err := declare(ctx, tx, "audited_swaps", `SELECT `+swapColumns+` FROM swap ORDER BY cabinet_id COLLATE "C"`,
		func(r pgx.CollectableRow) (*swap.Swap, error) { return scanSwap(r) }, func(s *swap.Swap) protocol.CabinetID { return s.CabinetID })
	if err != nil {
		return err
	}
	entries, err := declare(ctx, tx, "audited_entries", `SELECT `+entryColumns+` FROM ledger
			WHERE what IN ('deposit', 'take', 'return', 'credit_opened', 'removed', 'added') AND review_id IS NULL AND seq IS NOT NULL ORDER BY cabinet_id COLLATE "C"`,
		func(r pgx.CollectableRow) (swap.Entry, error) { return scanEntry(r) }, func(e swap.Entry) protocol.CabinetID { return e.CabinetID })
	if err != nil {
		return err
	}
	for _, c := range cabinets {
		r := &retelling{
			store: s, tx: tx, rep: rep, keys: keys, id: c.CabinetID, cursor: c, rows: map[protocol.SwapID]*swap.Swap{}, reviews: reviews[c.CabinetID],
			jumped: map[place]bool{}, ends: map[protocol.Epoch]uint64{}, accepted: map[protocol.SwapID]protocol.Accept{}, dated: map[place]storedRecord{},
		}
		delete(reviews, c.CabinetID)
		if err := r.cabinet(ctx, swaps, entries); err != nil {
			return fmt.Errorf("cabinet %s: %w", c.CabinetID, err)
		}
	}
	for id, rest := range reviews {
		rep.differ("review", string(id), fmt.Sprintf("%d reviews", len(rest)), "no such cabinet")
	}
	return nil
}

// cabinet holds one cabinet's rows against its words.
func (r *retelling) cabinet(ctx context.Context, swaps *stream[*swap.Swap], entries *stream[swap.Entry]) error {
	rows, _, err := swaps.of(ctx, r.id)
	if err != nil {
		return err
	}
	for _, s := range rows {
		r.rows[s.SwapID] = s
	}
	others, err := r.others(ctx)
	if err != nil {
		return err
	}
	r.told = swap.Retell(swap.Cabinet{CabinetID: r.id, Slots: r.cursor.Slots, EnrolledAt: r.cursor.EnrolledAt}, append(rows, others...))
	if err := r.fold(ctx); err != nil {
		return err
	}
	r.compareCursor()
	r.compareSwaps()
	have, strangers, err := entries.of(ctx, r.id)
	if err != nil {
		return err
	}
	for _, e := range strangers {
		r.rep.differ("ledger", entryKey(e), string(e.CabinetID), "no such cabinet")
	}
	r.compareEntries(have)
	r.compareReviews()
	return r.late(ctx)
}

// fold goes through the epochs in the order in which they came, message by
// message.
func (r *retelling) fold(ctx context.Context) error {
	epochs, err := r.epochs(ctx)
	if err != nil {
		return err
	}
	for _, e := range epochs {
		r.told.Enter(e.epoch, swap.Now(e.began))
		if err := r.messages(ctx, e.epoch); err != nil {
			return err
		}
		r.pass(e.epoch, 1<<62)
		r.ends[e.epoch] = r.told.Cabinet.LastSeq
	}
	if r.cursor.Epoch != r.told.Cabinet.Epoch {
		r.told.Enter(r.cursor.Epoch, swap.Now(r.rep.BeganAt))
		r.pass(r.cursor.Epoch, 1<<62)
		r.ends[r.cursor.Epoch] = r.told.Cabinet.LastSeq
	}
	return nil
}

// messages goes through one epoch, and through its record rows beside it.
func (r *retelling) messages(ctx context.Context, e protocol.Epoch) error {
	rows := recordRows{r: r, epoch: e}
	for last := uint64(0); ; {
		page, err := r.batches(ctx, e, last)
		if err != nil {
			return err
		}
		for _, w := range page {
			want, why := r.message(w)
			if why != nil {
				r.rep.differ("log_batch", fmt.Sprintf("%s %s %d-%d", w.cabinet, w.epoch, w.first, w.last), "stored", why.Error())
			}
			if err := rows.compare(ctx, want, w.last); err != nil {
				return err
			}
			last = w.last
		}
		if len(page) == 0 {
			return rows.compare(ctx, nil, 1<<62)
		}
	}
}

// message folds one message, and returns the record rows that it stands for.
func (r *retelling) message(w words) ([]storedRecord, error) {
	e, err := protocol.Open(w.envelope, r.keys)
	if err != nil {
		return nil, err
	}
	l, rs, err := openLog(w.envelope, r.keys)
	if err != nil {
		return nil, err
	}
	if e.CabinetID != w.cabinet || l.Epoch != w.epoch || e.KeyID != w.kid {
		return nil, fmt.Errorf("the envelope is of %s %s, key %s", e.CabinetID, l.Epoch, e.KeyID)
	}
	rs = slices.DeleteFunc(rs, func(x swap.Record) bool { return x.Seq < w.first || x.Seq > w.last })
	if len(rs) == 0 || rs[0].Seq != w.first || rs[len(rs)-1].Seq != w.last {
		return nil, fmt.Errorf("it has records %d to %d", l.FromSeq, l.FromSeq+uint64(len(l.Records))-1)
	}
	r.pass(w.epoch, w.first)
	for _, x := range rs {
		if a, ok := x.Body.(protocol.Accept); ok {
			if _, said := r.accepted[a.SwapID]; !said { // a second one is no grant: it has its review
				r.accepted[a.SwapID] = a
			}
		}
	}
	stored, v := r.told.Ingest(rs, swap.Receipt{At: w.receivedAt, MonoMS: l.MonoMS, BootSeq: l.BootSeq})
	if v != swap.Took || len(stored) != len(rs) {
		return nil, fmt.Errorf("record %d does not follow record %d: %s", w.first, r.told.Cabinet.LastSeq, v)
	}
	out := make([]storedRecord, len(stored))
	for i, x := range stored {
		r.rep.Records++
		out[i] = recordOf(x)
		r.dated[place{w.epoch, x.Record.Seq}] = out[i]
	}
	return out, nil
}

// pass applies what the backend itself did before the record at seq: holes that
// it passed, and swaps that staff moved to review.
func (r *retelling) pass(epoch protocol.Epoch, seq uint64) {
	for _, v := range r.reviews {
		if v.Epoch != epoch {
			continue
		}
		switch {
		case v.Reason == protocol.ReasonLogHole && v.Seq < seq && v.Seq > r.told.Cabinet.LastSeq:
			r.told.Jump(v.Seq, v.Stamp)
			for _, w := range r.reviews { // what was granted, and perhaps accepted in the hole
				if w.Reason == protocol.ReasonLogHole && w.SwapID != "" && w.Epoch == epoch && w.Seq == v.Seq {
					r.told.GiveUp(w.SwapID, w.Reason, w.Stamp)
				}
			}
			r.jumped[place{epoch, v.Seq}] = true
		case v.Reason == protocol.ReasonCabinetOffline && v.SwapID != "" && v.Seq < seq && v.Seq <= r.told.Cabinet.LastSeq:
			r.told.GiveUp(v.SwapID, v.Reason, v.Stamp)
		}
	}
}

// compareCursor: how far the log is in the books.
func (r *retelling) compareCursor() {
	type cursor struct {
		Epoch     protocol.Epoch
		LastSeq   uint64
		LastHash  protocol.Hash
		Hole      bool
		BootSeq   uint32
		BootID    protocol.BootID
		ClockBoot uint32
		OffsetMS  int64
	}
	of := func(c *swap.Cabinet) cursor {
		return cursor{c.Epoch, c.LastSeq, c.LastHash, c.Hole, c.BootSeq, c.BootID, c.ClockBoot, c.ClockOffsetMS}
	}
	if x, y := of(r.cursor), of(r.told.Cabinet); x != y {
		r.rep.differ("cabinet_cursor", string(r.id), fmt.Sprintf("%+v", x), fmt.Sprintf("%+v", y))
	}
}

// compareSwaps: what the cabinet said of each swap. A person's ruling may have
// added to that; the ledger has it.
func (r *retelling) compareSwaps() {
	for _, id := range slices.Sorted(maps.Keys(r.rows)) {
		row, told := r.rows[id], r.told.Swaps[id]
		if told == nil {
			r.rep.differ("swap", string(id), outline(row, false), "no record")
			continue
		}
		if x, y := outline(row, row.Ruling != ""), outline(told, row.Ruling != ""); x != y && !r.byBackend(row, told) {
			r.rep.differ("swap", string(id), x, y)
		}
		a, ok := r.accepted[id]
		if ok && !row.ByFact && (a.Nonce != row.Nonce || a.Kind != row.Kind) {
			r.rep.differ("swap.nonce", string(id), fmt.Sprintf("%s %x", row.Kind, row.Nonce[:]), fmt.Sprintf("%s %x", a.Kind, a.Nonce[:]))
		}
		if ok {
			r.compareGrant(row, a)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.told.Swaps)) {
		if s := r.told.Swaps[id]; s.CabinetID == r.id && r.rows[id] == nil {
			r.rep.differ("swap", string(id), "none", outline(s, false))
		}
	}
}

// compareGrant: what the cabinet keeps of the grant, and for whom it was.
func (r *retelling) compareGrant(row *swap.Swap, a protocol.Accept) {
	o := r.store.o
	if o.OpenGrant == nil || row.ByFact {
		return
	}
	g, err := o.OpenGrant(r.id, a.Grant)
	if err != nil {
		return // not a grant of ours: the swap is by fact, or has its review
	}
	have := fmt.Sprintf("%x %v %v", row.BootID[:], row.DepositSlots, row.Dispense)
	if want := fmt.Sprintf("%x %v %v", g.BootID[:], g.DepositSlots, g.Dispense); have != want {
		r.rep.differ("swap.grant", string(row.SwapID), have, want)
	}
	if o.RiderRef != nil && row.RiderID != "" && g.RiderRef != o.RiderRef(r.id, row.RiderID) {
		r.rep.differ("swap.rider_id", string(row.SwapID), string(row.RiderID), "a grant for somebody else")
	}
}

// byBackend: a swap that no record has touched ends by acts of the backend.
func (r *retelling) byBackend(row, told *swap.Swap) bool {
	untouched := told.State == swap.StateRequested || told.State == swap.StateGranted
	return untouched && row.Judgement == "" && row.Taken == "" && (row.State == told.State || row.Outcome == protocol.OutcomeNotStarted)
}

// outline is what records say of a swap; ruled leaves out what a person may add.
func outline(s *swap.Swap, ruled bool) string {
	soc := -1
	if s.Soc != nil {
		soc = *s.Soc
	}
	out := fmt.Sprintf("%s %s %s soc %d pulsed %v", s.State, s.Kind, s.Outcome, soc, s.Pulsed)
	if ruled {
		return out
	}
	return out + fmt.Sprintf(" deposit %q %d %s take %d %s", s.Judgement, s.DepositSlot, s.Deposited, s.TakeSlot, s.Taken)
}

// compareEntries: each entry that follows from records alone is there, and none
// besides (I3).
func (r *retelling) compareEntries(have []swap.Entry) {
	want := map[string]swap.Entry{}
	for _, e := range r.told.Entries {
		want[entryKey(e)] = e
	}
	for _, e := range have {
		key := entryKey(e)
		w, ok := want[key]
		delete(want, key)
		if x, y := r.entryWords(e), r.entryWords(w); !ok || x != y {
			if !ok {
				y = "no record"
			}
			r.rep.differ("ledger", key, x, y)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		r.rep.differ("ledger", key, "none", r.entryWords(want[key]))
	}
}

func entryKey(e swap.Entry) string {
	if e.What == swap.Removed || e.What == swap.Added { // a record may tell of many
		return fmt.Sprintf("%s %s slot %d of record %s %d", e.SwapID, e.What, e.Slot, e.Epoch, e.Seq)
	}
	return fmt.Sprintf("%s %s of record %s %d", e.SwapID, e.What, e.Epoch, e.Seq)
}

func (r *retelling) entryWords(e swap.Entry) string {
	return fmt.Sprintf("%s %s slot %d %s%s rider %s counted %t day %s derived %t at %s %s", e.Kind, e.CabinetID, e.Slot, e.BatterySerial, e.CreditID,
		e.RiderID, e.Counted, e.Day, e.Derived, e.At.UTC().Format(time.RFC3339Nano), e.Quality)
}

// compareReviews: what records alone made reviews of, and what of the reviews no
// record bears out.
func (r *retelling) compareReviews() {
	reviewed := map[protocol.SwapID]bool{}
	have := map[string]storedReview{}
	for _, v := range r.reviews {
		reviewed[v.SwapID] = true
		have[v.key()] = v
	}
	want := map[string]bool{}
	for _, w := range r.told.Reviews {
		t := storedReview{Review: w}
		want[t.key()] = true
		v, ok := have[t.key()]
		switch {
		case ok && v.evidence() != t.evidence():
			r.rep.differ("review", t.key(), v.evidence(), t.evidence())
		case !ok && (w.SwapID == "" || !reviewed[w.SwapID]):
			r.rep.differ("review", t.key(), "none", "a record that makes one")
		}
	}
	for _, v := range r.reviews {
		if why := r.unfounded(v, want[v.key()]); why != "" {
			r.rep.differ("review", v.key(), "open since "+v.At.UTC().Format(time.RFC3339), why)
		}
	}
}

// unfounded is why nothing bears a review out, "" when something does.
func (r *retelling) unfounded(v storedReview, told bool) string {
	rec, ok := r.dated[place{v.Epoch, v.Seq}]
	act := v.Reason == protocol.ReasonEpochReplaced || v.Reason == protocol.ReasonCabinetOffline || v.Reason == protocol.ReasonLogHole
	switch {
	case told:
		return ""
	case len(v.Explanations) > 0:
		return "no record that explains it so"
	case act && (v.Quality != swap.TimeReceipt || v.At.Sub(v.openedAt).Abs() > commitTimeout):
		return "opened " + v.openedAt.UTC().Format(time.RFC3339)
	case v.SwapID == "":
		switch {
		case rec.typ == protocol.RecordMaintenance && rec.at == v.At.UnixMicro() && rec.quality == v.Quality && besides(v.Reason):
			return "" // where a battery was before, the cabinet alone does not tell
		case v.Reason == protocol.ReasonLogHole && r.jumped[place{v.Epoch, v.Seq}]:
			return ""
		case v.Reason == protocol.ReasonEpochReplaced && (r.cursor.Forked || v.Epoch != r.cursor.Epoch) && v.Seq == r.ends[v.Epoch]:
			return ""
		}
		return "no record that makes one"
	case act:
		return "" // the swap's own row says so too
	case !ok || rec.swapID != v.SwapID:
		return "no record of the swap there"
	case rec.at != v.At.UnixMicro() || rec.quality != v.Quality:
		return "the record is of another time"
	}
	if besides(v.Reason) || v.Reason == protocol.ReasonUnknownSwap {
		return ""
	}
	return "no record that makes one"
}

// besides: two places for one battery, and serials that nobody registered, show
// beside other cabinets only. What the cabinet itself calls unclear is told by it.
func besides(r protocol.Reason) bool {
	return r == protocol.ReasonForeignSerial || r == protocol.ReasonSameSerialTwice || r == protocol.ReasonContradictsBooks
}

// late verifies the messages that came when their epoch was over.
func (r *retelling) late(ctx context.Context) error {
	rows, err := r.tx.Query(ctx, `SELECT epoch, digest, from_seq, upto_seq, kid, envelope FROM late_batch WHERE cabinet_id = $1`, string(r.id))
	if err != nil {
		return fmt.Errorf("late messages: %w", err)
	}
	var epoch, sum, raw []byte
	var w words
	_, err = pgx.ForEachRow(rows, []any{&epoch, &sum, &w.first, &w.last, &w.kid, &raw}, func() error {
		l, rs, err := openLog(slices.Clone(raw), r.keys)
		have := sha256.Sum256(raw)
		switch {
		case err != nil:
		case !bytes.Equal(have[:16], sum), !bytes.Equal(l.Epoch[:], epoch), rs[0].Seq != w.first, rs[len(rs)-1].Seq != w.last:
			err = errors.New("another message")
		}
		if err != nil {
			r.rep.differ("late_batch", fmt.Sprintf("%s %x %d-%d", r.id, epoch, w.first, w.last), "stored", err.Error())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("late messages: %w", err)
	}
	return nil
}

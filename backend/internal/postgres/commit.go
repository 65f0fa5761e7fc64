package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// commitGroup makes a group part of the books. When the database refuses it as a
// whole, each cabinet is tried alone, so that a bad one is taken out and the
// rest goes on. An error means that the database is away; with search, whatever
// fails is somebody's fault.
func (r *Recorder) commitGroup(ctx context.Context, group []parcel, search bool) error {
	err := r.commitOnce(ctx, group)
	if err == nil || ctx.Err() != nil || !search && !refused(err) && !errors.Is(err, errLost) {
		return err
	}
	cabinets, order := map[protocol.CabinetID][]parcel{}, []protocol.CabinetID(nil)
	for _, p := range group {
		if _, seen := cabinets[p.CabinetID]; !seen {
			order = append(order, p.CabinetID)
		}
		cabinets[p.CabinetID] = append(cabinets[p.CabinetID], p)
	}
	if len(order) == 1 {
		r.store.log.Error("the database refuses a cabinet's records", "cabinet_id", order[0], "err", err)
		r.o.Hooks.Rejected(order[0], err)
		for range group {
			r.answered()
		}
		return nil
	}
	for _, id := range order {
		if err := r.commitGroup(ctx, cabinets[id], search); err != nil {
			return err
		}
	}
	return nil
}

// errFold is a fault of this program: a record that the books cannot take.
var errFold = errors.New("fold records into the books")

// refused reports whether the database answered, and refused what it was sent:
// as against being away, shutting down, or out of room.
func refused(err error) bool {
	if errors.Is(err, errFold) {
		return true
	}
	code := sqlState(err)
	if code == "" {
		return false
	}
	for _, class := range []string{"08", "53", "55", "57", "58", "25", "40", "XX"} {
		if strings.HasPrefix(code, class) {
			return false
		}
	}
	return true
}

// result is what became of one parcel.
type result struct {
	parcel
	stored  []swap.Stored
	verdict swap.Verdict
	cabinet *swap.Cabinet // nil: no such cabinet
	// challenge is for an agent that is asked to say hello.
	challenge protocol.Challenge
}

// errLost asks for a rerun with what the database has lost: each cabinet alone,
// for to find whom it was for costs a hash for every rider.
var errLost = errors.New("a swap that the database has lost")

func (r *Recorder) commitOnce(ctx context.Context, group []parcel) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	began := time.Now()
	w := wants(group)
	var results []result
	var ch swap.Changes
	var lost map[protocol.SwapID]swap.LostGrant
	ingest := func(l *loaded, b *pgx.Batch) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("%w: %v: %s", errFold, p, debug.Stack())
			}
		}()
		if lost == nil {
			if found := r.store.lostIn(l.books, group); len(found) > 0 {
				lost = found
				return errLost
			}
		}
		l.books.Lost = lost
		results = results[:0]
		for _, p := range group {
			results = append(results, ingestOne(l, p))
		}
		ch = r.store.queueIngest(b, l, results)
		return nil
	}
	err := r.store.transact(ctx, w, ingest)
	if errors.Is(err, errLost) && oneCabinet(group) {
		if err = r.store.findRiders(ctx, lost, group[0].CabinetID, &w); err == nil {
			err = r.store.transact(ctx, w, ingest)
		}
	}
	if err != nil {
		return fmt.Errorf("commit %d log messages: %w", len(group), err)
	}
	r.report(results, ch, time.Since(began))
	return nil
}

// ingestOne folds one parcel into the books.
func ingestOne(l *loaded, p parcel) result {
	c := l.books.Cabinets[p.CabinetID]
	if c == nil {
		return result{parcel: p, verdict: swap.Elsewhere}
	}
	// As the database keeps it: the audit dates the records from it again.
	came := l.now.Add(-time.Since(p.came)).Truncate(time.Microsecond)
	if came.After(c.HeardAt) {
		c.HeardAt = came
	}
	stored, v := l.books.Ingest(c, p.Log.Epoch, p.records, swap.Receipt{At: came, MonoMS: p.Log.MonoMS, BootSeq: p.Log.BootSeq})
	return result{p, stored, v, c, l.challenge}
}

// queueIngest writes what the group did: the cabinets' words, their records, and
// the books.
func (s *Store) queueIngest(b *pgx.Batch, l *loaded, results []result) swap.Changes {
	var lines []line
	var said []words
	for _, x := range results {
		if x.verdict == swap.Gap {
			// An agent goes on only from what was acknowledged: the database has lost it.
			s.queueRecovering(l, b, x.cabinet, x.Log.FromSeq-1)
		}
		if x.cabinet != nil && (x.verdict == swap.Elsewhere || x.verdict == swap.Forks) {
			queueLate(b, l, x)
		}
		if len(x.stored) == 0 {
			continue
		}
		said = append(said, words{
			cabinet: x.CabinetID, epoch: x.Log.Epoch, first: x.stored[0].Record.Seq, last: x.stored[len(x.stored)-1].Record.Seq,
			kid: x.Envelope.KeyID, envelope: x.Envelope.Raw, receivedAt: x.stored[0].ReceivedAt,
		})
		for _, st := range x.stored {
			lines = append(lines, line{x.CabinetID, st})
		}
	}
	writeWords.queue(b, said)
	writeRecords.queue(b, lines)
	ch := l.queueChanges(b)
	if l.recovering {
		queueCaughtUp(b)
	}
	return ch
}

// wants are the rows that a group touches.
func wants(group []parcel) wanted {
	var w wanted
	for _, p := range group {
		w.cabinets = append(w.cabinets, string(p.CabinetID))
		w.lastCabinets = append(w.lastCabinets, string(p.CabinetID))
		w.lastEpochs = append(w.lastEpochs, p.Log.Epoch[:])
		w.lastSeqs = append(w.lastSeqs, int64(p.records[len(p.records)-1].Seq))
		for _, rec := range p.records {
			id := swap.SwapOf(rec)
			if id.Validate() == nil {
				w.swaps = append(w.swaps, string(id))
			}
			if rec.Type == protocol.RecordBoot || rec.Type == protocol.RecordClosed && rec.Malformed != nil {
				w.openAt = append(w.openAt, string(p.CabinetID))
			}
			for _, serial := range swap.SerialsOf(rec) {
				if serial != "" {
					w.serials = append(w.serials, string(serial))
				}
			}
			slots := swap.SlotsOf(rec)
			for _, slot := range slots {
				w.slotCabinets, w.slotNumbers = append(w.slotCabinets, string(p.CabinetID)), append(w.slotNumbers, slot)
			}
			if len(slots) > 0 && id != "" {
				w.deposits = append(w.deposits, string(id))
			}
		}
	}
	w.cabinets, w.openAt, w.swaps, w.serials = distinct(w.cabinets), distinct(w.openAt), distinct(w.swaps), distinct(w.serials)
	return w
}

// report answers the cabinets and tells the hooks, after COMMIT.
func (r *Recorder) report(results []result, ch swap.Changes, took time.Duration) {
	records := 0
	for _, x := range results {
		records += len(x.stored)
		for _, st := range x.stored {
			r.phases.note(st)
		}
		r.answerOne(x)
	}
	r.o.Hooks.Committed(len(results), records, took)
	for _, s := range ch.Ended {
		r.o.Hooks.Closed(s.CabinetID, s.Kind, s.Outcome, s.ClosedAt.Sub(s.RequestedAt))
	}
	for _, a := range ch.Alarms {
		r.o.Hooks.Alarm(a.CabinetID, a.Alarm)
	}
}

func (r *Recorder) answerOne(x result) {
	id := x.CabinetID
	switch x.verdict {
	case swap.Took, swap.Gap:
		ack := protocol.LogAck{Epoch: x.Log.Epoch, UptoSeq: x.cabinet.LastSeq, HashAtUpto: x.cabinet.LastHash}
		if x.cabinet.Hole {
			ack.UptoSeq = 0 // what is before the hole's end was never ours to acknowledge
		}
		if x.verdict == swap.Gap {
			ack.ResendFrom = x.cabinet.LastSeq + 1
		}
		r.say(func(context.Context) { r.o.Acked(id, ack) })
	case swap.Forks, swap.Elsewhere:
		r.store.log.Error("a log message that is not of the epoch that counts", "cabinet_id", id, "event", string(x.verdict))
		r.o.Hooks.Rejected(id, fmt.Errorf("log of epoch %s: %s", x.Log.Epoch, x.verdict))
		if x.cabinet != nil {
			r.say(func(context.Context) { r.o.Ask(id, protocol.HelloRequest{Challenge: x.challenge}) })
		}
	}
}

func distinct(in []string) []string {
	slices.Sort(in)
	return slices.Compact(in)
}

// lostIn are the grants of ours that cabinets have accepted and the books have
// not granted: what a restored database has lost.
func (s *Store) lostIn(books *swap.Books, group []parcel) map[protocol.SwapID]swap.LostGrant {
	if s.o.OpenGrant == nil {
		return nil
	}
	found := map[protocol.SwapID]swap.LostGrant{}
	for _, p := range group {
		c := books.Cabinets[p.CabinetID]
		for _, rec := range p.records {
			a, ok := rec.Body.(protocol.Accept)
			if !ok || c == nil || c.Forked || c.Epoch != p.Log.Epoch || rec.Seq <= c.LastSeq {
				continue
			}
			if have := books.Swaps[a.SwapID]; have != nil && have.Nonce == a.Nonce {
				continue
			}
			g, err := s.o.OpenGrant(p.CabinetID, a.Grant)
			if err != nil || g.SwapID != a.SwapID || g.Nonce != a.Nonce || g.Kind != a.Kind {
				s.log.Error("an ACCEPT without a grant of ours", "cabinet_id", p.CabinetID, "swap_id", a.SwapID, "err", err)
				continue
			}
			found[a.SwapID] = swap.LostGrant{Grant: g}
		}
	}
	return found
}

func oneCabinet(group []parcel) bool {
	return !slices.ContainsFunc(group, func(p parcel) bool { return p.CabinetID != group[0].CabinetID })
}

// findRiders recomputes whom the lost grants of a cabinet were for.
func (s *Store) findRiders(ctx context.Context, lost map[protocol.SwapID]swap.LostGrant, id protocol.CabinetID, w *wanted) error {
	rows, err := s.pool.Query(ctx, `SELECT rider_id::text FROM rider`)
	if err != nil {
		return fmt.Errorf("read the riders: %w", err)
	}
	riders, err := pgx.CollectRows(rows, pgx.RowTo[swap.RiderID])
	if err != nil {
		return fmt.Errorf("read the riders: %w", err)
	}
	whose := map[protocol.RiderRef]swap.RiderID{}
	for _, l := range lost {
		whose[l.Grant.RiderRef] = ""
	}
	missing := len(whose)
	for i, rider := range riders {
		if missing == 0 || i%1024 == 0 && ctx.Err() != nil {
			break
		}
		ref := s.o.RiderRef(id, rider)
		if have, wanted := whose[ref]; wanted && have == "" {
			whose[ref] = rider
			w.riders = append(w.riders, string(rider))
			missing--
		}
	}
	for swapID, l := range lost {
		l.RiderID = whose[l.Grant.RiderRef]
		lost[swapID] = l
	}
	w.riders = distinct(w.riders)
	return ctx.Err()
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// DecideReview books what a person decided, in one transaction. Whoever comes
// second gets *swap.AlreadyDecided, which says who was first; a decision that the
// facts in the books deny is a *swap.Contradiction. ErrNotFound: no such review.
func (s *Store) DecideReview(ctx context.Context, d swap.ReviewDecision) error {
	if err := d.Validate(); err != nil {
		return staff.Mistakef("decide review %d: %w", d.ReviewID, err)
	}
	given := slices.DeleteFunc([]string{string(d.Deposited), string(d.Taken)}, func(s string) bool { return s == "" })
	err := s.withCase(ctx, d.ReviewID, given, func(l *loaded, b *pgx.Batch) error {
		if err := l.books.Decide(l.review, d, swap.Now(l.now)); err != nil {
			return err
		}
		return queueAudit(ctx, b, "review.decide", fmt.Sprint(d.ReviewID), map[string]any{"decision": d.Decision, "reason": d.Reason, "by": d.By})
	})
	if err != nil {
		return fmt.Errorf("decide review %d: %w", d.ReviewID, err)
	}
	s.log.Info("review decided", "event", "review_decided", "reason", string(d.Reason))
	return nil
}

// Hardship gives the rider of an open review a battery to go on with, once per
// review and day.
func (s *Store) Hardship(ctx context.Context, reviewID int64, by string) error {
	err := s.withCase(ctx, reviewID, nil, func(l *loaded, b *pgx.Batch) error {
		if err := l.books.Hardship(l.review, by, swap.Now(l.now)); err != nil {
			return staff.AsMistake(err)
		}
		return queueAudit(ctx, b, "review.hardship", fmt.Sprint(reviewID), map[string]any{"by": by})
	})
	if err != nil {
		return fmt.Errorf("hardship credit for review %d: %w", reviewID, err)
	}
	return nil
}

// MoveToReview closes an open swap whose cabinet has been silent for longer than
// swap.UnreachableAfter, so that a person can decide it.
func (s *Store) MoveToReview(ctx context.Context, id protocol.SwapID) error {
	if id.Validate() != nil {
		return fmt.Errorf("swap %.40q: %w", id, ErrNotFound)
	}
	var cabinet string
	err := s.pool.QueryRow(ctx, `SELECT cabinet_id FROM swap WHERE swap_id = $1`, string(id)).Scan(&cabinet)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("move swap %s to review: %w", id, err)
	}
	inventory, err := s.lastInventory(ctx, protocol.CabinetID(cabinet))
	if err != nil {
		return err
	}
	err = s.transact(ctx, wanted{cabinets: []string{cabinet}, swaps: strs(id)}, func(l *loaded, b *pgx.Batch) error {
		err := l.books.MoveToReview(l.books.Cabinets[protocol.CabinetID(cabinet)], l.books.Swaps[id], inventory, swap.Now(l.now))
		if err != nil {
			return staff.AsMistake(err)
		}
		return queueAudit(ctx, b, "swap.move_to_review", string(id), nil)
	})
	if err != nil {
		return fmt.Errorf("move swap %s to review: %w", id, err)
	}
	return nil
}

// errCaseGrew asks for a rerun: the case has batteries that were not locked.
var errCaseGrew = errors.New("the case has grown")

// withCase loads a review with everything that it is about, under lock.
func (s *Store) withCase(ctx context.Context, id int64, given []string, act func(*loaded, *pgx.Batch) error) error {
	var err error
	for range maxReruns {
		var w wanted
		if w, err = s.wantCase(ctx, id, given); err != nil {
			return err
		}
		err = s.transact(ctx, w, func(l *loaded, b *pgx.Batch) error {
			for _, e := range l.review.Batteries {
				if l.books.Batteries[e.BatterySerial] == nil {
					return errCaseGrew
				}
			}
			l.review.Act = newID()
			return act(l, b)
		})
		if !errors.Is(err, errCaseGrew) {
			return err
		}
	}
	return err
}

// wantCase is what a review is about: its swap and rider, the batteries that the
// swap moved, offered or may have, and the slots that they may go back to.
func (s *Store) wantCase(ctx context.Context, id int64, given []string) (wanted, error) {
	w := wanted{review: id}
	var cabinet, swapID, rider string
	err := s.pool.QueryRow(ctx, `SELECT cabinet_id, coalesce(swap_id::text, ''), coalesce(rider_id::text, '') FROM review WHERE review_id = $1`, id).
		Scan(&cabinet, &swapID, &rider)
	if errors.Is(err, pgx.ErrNoRows) {
		return w, ErrNotFound
	}
	if err != nil {
		return w, fmt.Errorf("read review: %w", err)
	}
	w.cabinets = []string{cabinet}
	if rider != "" {
		w.riders = []string{rider}
	}
	w.serials = given
	if swapID == "" {
		return w, nil
	}
	w.swaps = []string{swapID}
	row, err := scanSwap(s.pool.QueryRow(ctx, `SELECT `+swapColumns+` FROM swap WHERE swap_id = $1`, swapID))
	if err != nil {
		return w, fmt.Errorf("read swap %s: %w", swapID, err)
	}
	slots := append([]int{row.DepositSlot, row.TakeSlot}, row.DepositSlots...)
	for _, o := range row.Dispense {
		w.serials, slots = append(w.serials, string(o.BatterySerial)), append(slots, o.Slot)
	}
	w.serials = append(w.serials, strs(append(row.Pulsed, row.Deposited, row.Taken)...)...)
	entries, err := s.entries(ctx, `swap_id = $1 AND battery_serial IS NOT NULL`, swapID)
	if err != nil {
		return w, err
	}
	for _, e := range entries {
		w.serials, slots = append(w.serials, string(e.BatterySerial)), append(slots, e.Slot)
	}
	w.serials = slices.DeleteFunc(distinct(w.serials), func(s string) bool { return s == "" })
	slices.Sort(slots)
	for _, n := range slices.Compact(slots) {
		if n > 0 {
			w.slotCabinets, w.slotNumbers = append(w.slotCabinets, cabinet), append(w.slotNumbers, n)
		}
	}
	return w, nil
}

const entryColumns = `swap_id::text, entry_no, what, coalesce(kind, ''), coalesce(rider_id::text, ''), coalesce(cabinet_id, ''), coalesce(slot, 0),
	coalesce(battery_serial, ''), coalesce(credit_id::text, ''), coalesce(origin, ''), counted, coalesce(day::text, ''), derived, coalesce(holder, ''),
	coalesce(review_id, 0), coalesce(ruling, ''), coalesce(ground, ''), coalesce(decided_by, ''), at, time_quality, epoch, coalesce(seq, 0), recorded_at`

func scanEntry(r pgx.Row) (swap.Entry, error) {
	var e swap.Entry
	var epoch []byte
	err := r.Scan(&e.SwapID, &e.EntryNo, &e.What, &e.Kind, &e.RiderID, &e.CabinetID, &e.Slot, &e.BatterySerial, &e.CreditID, &e.Origin,
		&e.Counted, &e.Day, &e.Derived, &e.Holder, &e.ReviewID, &e.Ruling, &e.Ground, &e.By, &e.At, &e.Quality, &epoch, &e.Seq, &e.ReceivedAt)
	copy(e.Epoch[:], epoch)
	return e, err
}

// entries are lines of the ledger in order.
func (s *Store) entries(ctx context.Context, where string, args ...any) ([]swap.Entry, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+entryColumns+` FROM ledger WHERE `+where+` ORDER BY position`, args...)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (swap.Entry, error) { return scanEntry(r) })
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	return out, nil
}

const (
	sqlLockReview = `SELECT review_id, coalesce(swap_id::text, ''), cabinet_id, coalesce(rider_id::text, ''),
			coalesce(decision, ''), coalesce(decision_reason, ''), coalesce(decided_by, ''), coalesce(decided_at, 'epoch')
		FROM review WHERE review_id = $1 FOR NO KEY UPDATE`

	sqlCaseEntries = `SELECT DISTINCT ON (battery_serial) ` + entryColumns + ` FROM ledger
		WHERE swap_id = (SELECT swap_id FROM review WHERE review_id = $1) AND battery_serial IS NOT NULL
		ORDER BY battery_serial, entry_no DESC`

	// $2 serials.
	sqlNextEntries = `SELECT n.* FROM review v, unnest($2::text[]) AS u(serial)
		CROSS JOIN LATERAL (SELECT max(position) AS p FROM ledger WHERE swap_id = v.swap_id AND battery_serial = u.serial) own
		CROSS JOIN LATERAL (SELECT ` + entryColumns + ` FROM ledger WHERE battery_serial = u.serial AND swap_id <> v.swap_id
			AND CASE WHEN own.p IS NULL THEN recorded_at > v.opened_at ELSE position > own.p END ORDER BY position LIMIT 1) n
		WHERE v.review_id = $1`

	// A credit that is used up never changes again: it needs no lock.
	sqlOwnCredit = `SELECT credit_id::text, rider_id::text, origin, state, coalesce(swap_id::text, ''), opened_at FROM credit
		WHERE credit_id = (SELECT swap_id FROM review WHERE review_id = $1)`

	sqlGiven = `SELECT at FROM ledger WHERE review_id = $1 AND origin = 'review' ORDER BY position`
)

// queueCase adds the statements that read a review, after the rows that it is
// about have been locked.
func queueCase(b *pgx.Batch, w wanted, l *loaded) {
	c := &l.review
	b.Queue(sqlLockReview, w.review).QueryRow(func(r pgx.Row) error {
		var d swap.Decided
		if err := r.Scan(&c.ReviewID, &c.SwapID, &c.CabinetID, &c.RiderID, &d.Decision, &d.Reason, &d.By, &d.At); err != nil {
			return err
		}
		if d.Decision != "" {
			c.Decided = &d
		}
		return nil
	})
	each(b, sqlCaseEntries, []any{w.review}, func(r pgx.Rows) error {
		e, err := scanEntry(r)
		c.Batteries = append(c.Batteries, e)
		return err
	})
	c.Next = map[protocol.BatterySerial]swap.Entry{}
	each(b, sqlNextEntries, []any{w.review, w.serials}, func(r pgx.Rows) error {
		e, err := scanEntry(r)
		c.Next[e.BatterySerial] = e
		return err
	})
	each(b, sqlOwnCredit, []any{w.review}, func(r pgx.Rows) error {
		var x swap.Credit
		err := r.Scan(&x.CreditID, &x.RiderID, &x.Origin, &x.State, &x.SwapID, &x.OpenedAt)
		if l.books.Credits[x.CreditID] == nil {
			l.books.Credits[x.CreditID] = &x
		}
		return err
	})
	each(b, sqlGiven, []any{w.review}, func(r pgx.Rows) error {
		c.Given = append(c.Given, l.now)
		return r.Scan(&c.Given[len(c.Given)-1])
	})
}

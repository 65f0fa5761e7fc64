package postgres

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// wanted names the rows that a transaction is about. What belongs to them is
// loaded with them.
type wanted struct {
	cabinets []string // their cursors are locked, and their open swaps loaded
	swaps    []string // and their riders, credits and batteries
	riders   []string // and their credits, batteries and open swaps
	serials  []string
	// slots are pairs of cabinet and slot whose battery may be displaced.
	slotCabinets []string
	slotNumbers  []int
	// last names records whose hash is wanted, if they are in the books.
	lastCabinets []string
	lastEpochs   [][]byte
	lastSeqs     []int64
}

// loaded is what came back.
type loaded struct {
	books *swap.Books
	now   time.Time // of the database, after the locks were had
	// recovering: the database was restored, and cabinets know more.
	recovering bool
}

// The statements lock in the one order of this package: cabinet, rider, credit,
// battery, swap, each sorted. Which rows are wanted is a union of lists, so that
// each is found by its index. $1 cabinets, $2 swaps, $3 riders, $4 serials,
// $5 and $6 slots.
const (
	swapsWanted = `SELECT unnest($2::uuid[]) UNION ALL
		SELECT swap_id FROM swap WHERE cabinet_id = ANY($1::text[]) AND state <> 'closed'`

	cabinetColumns = `k.cabinet_id, c.slots, c.enrolled_at, c.out_of_service, greatest(k.heard_at, s.seen_at), k.epoch,
		k.last_seq, k.last_hash, k.hole, k.forked, k.boot_seq, k.boot_id, k.clock_boot, k.clock_offset_ms
		FROM cabinet_cursor k JOIN cabinet c USING (cabinet_id) LEFT JOIN cabinet_state s USING (cabinet_id)`

	sqlLockCursors = `SELECT ` + cabinetColumns + `
		WHERE k.cabinet_id = ANY($1::text[]) ORDER BY k.cabinet_id FOR NO KEY UPDATE OF k`

	sqlLockRiders = `SELECT rider_id::text, active, deposits, returns, takes, counted, issued, credits_due, open_reviews
		FROM rider WHERE rider_id IN (
			SELECT unnest($3::uuid[]) UNION ALL
			SELECT rider_id FROM swap WHERE swap_id IN (` + swapsWanted + `))
		ORDER BY rider_id FOR NO KEY UPDATE`

	sqlLockCredits = `SELECT credit_id::text, rider_id::text, origin, state, coalesce(swap_id::text, ''), opened_at
		FROM credit WHERE credit_id IN (
			SELECT credit_id FROM credit WHERE rider_id = ANY($3::uuid[]) AND state IN ('open', 'reserved') UNION ALL
			SELECT credit_id FROM swap WHERE swap_id IN (` + swapsWanted + `))
		ORDER BY credit_id FOR NO KEY UPDATE`

	sqlLockBatteries = `SELECT battery_serial, type, is_foreign, holder, coalesce(rider_id::text, ''), coalesce(cabinet_id, ''),
			coalesce(slot, 0), ahead_of::text[]
		FROM battery WHERE battery_serial IN (
			SELECT unnest($4::text[]) UNION ALL
			SELECT battery_serial FROM battery WHERE rider_id = ANY($3::uuid[]) UNION ALL
			SELECT battery_serial FROM battery WHERE ahead_of <> '{}' AND ahead_of && ARRAY(` + swapsWanted + `) UNION ALL
			SELECT deposited FROM swap WHERE swap_id IN (` + swapsWanted + `) UNION ALL
			SELECT p FROM swap, jsonb_array_elements_text(pulsed) p WHERE swap_id IN (` + swapsWanted + `) UNION ALL
			SELECT battery_serial FROM unnest($5::text[], $6::int[]) AS t(c, n)
				JOIN battery ON holder = 'slot' AND cabinet_id = c AND slot = n)
		ORDER BY battery_serial FOR NO KEY UPDATE`

	swapColumns = `swap_id::text, cabinet_id, coalesce(rider_id::text, ''), coalesce(kind, ''), state, by_fact, parked,
		epoch, boot_seq, boot_id, nonce, deposit_slots, dispense, coalesce(credit_id::text, ''),
		step, slot, coalesce(door, ''), coalesce(judgement, ''), deposit_slot, coalesce(deposited, ''), soc, pulsed,
		take_slot, coalesce(taken, ''), coalesce(outcome, ''), coalesce(reason, ''), coalesce(reviewed, ''), entries,
		view_seq, requested_at, updated_at, closed_at`

	sqlLockSwaps = `SELECT ` + swapColumns + ` FROM swap WHERE swap_id IN (` + swapsWanted + ` UNION ALL
			SELECT swap_id FROM swap WHERE rider_id = ANY($3::uuid[]) AND state <> 'closed')
		ORDER BY swap_id FOR NO KEY UPDATE`

	// Open swaps of the same riders at other cabinets, and those cabinets, are
	// read and not locked: only what never changes in them is used, and when they
	// were heard last.
	sqlOtherSwaps = `SELECT ` + swapColumns + ` FROM swap
		WHERE state <> 'closed' AND cabinet_id <> ALL($1::text[])
			AND rider_id IN (SELECT rider_id FROM swap WHERE swap_id = ANY($2::uuid[]))`

	sqlOtherCabinets = `SELECT ` + cabinetColumns + `
		WHERE k.cabinet_id <> ALL($1::text[])
			AND k.cabinet_id IN (SELECT cabinet_id FROM swap WHERE rider_id = ANY($2::uuid[]) AND state <> 'closed')`

	sqlHashes = `SELECT r.cabinet_id, r.seq, r.hash
		FROM unnest($1::text[], $2::bytea[], $3::bigint[]) AS t(c, e, s)
		JOIN cabinet_cursor k ON k.cabinet_id = t.c AND k.epoch = t.e
		JOIN record r ON r.cabinet_id = t.c AND r.epoch = t.e AND r.seq = t.s
		WHERE t.s < k.last_seq`

	sqlNow = `SELECT clock_timestamp(), recovering_since IS NOT NULL FROM fleet`
)

// queueLoad adds the statements that lock and read what is wanted. The answer
// is whole once the batch is closed.
func queueLoad(b *pgx.Batch, w wanted) *loaded {
	l := &loaded{books: swap.NewBooks()}
	args := []any{w.cabinets, w.swaps, w.riders, w.serials}
	addCabinet := func(r pgx.Rows) error {
		c, err := scanCabinet(r)
		l.books.Cabinets[c.CabinetID] = c
		return err
	}
	each(b, sqlLockCursors, args[:1], addCabinet)
	each(b, sqlLockRiders, args[:3], func(r pgx.Rows) error {
		var x swap.Rider
		err := r.Scan(&x.RiderID, &x.Active, &x.Deposits, &x.Returns, &x.Takes, &x.Counted, &x.Issued, &x.CreditsDue, &x.OpenReviews)
		l.books.Riders[x.RiderID] = &x
		return err
	})
	each(b, sqlLockCredits, args[:3], func(r pgx.Rows) error {
		var x swap.Credit
		err := r.Scan(&x.CreditID, &x.RiderID, &x.Origin, &x.State, &x.SwapID, &x.OpenedAt)
		l.books.Credits[x.CreditID] = &x
		return err
	})
	each(b, sqlLockBatteries, append(args, w.slotCabinets, w.slotNumbers), func(r pgx.Rows) error {
		var x swap.Battery
		err := r.Scan(&x.BatterySerial, &x.Type, &x.Foreign, &x.Holder, &x.RiderID, &x.CabinetID, &x.Slot, &x.AheadOf)
		l.books.AddBattery(&x)
		return err
	})
	addSwap := func(r pgx.Rows) error {
		s, err := scanSwap(r)
		if err == nil {
			l.books.Swaps[s.SwapID] = s
		}
		return err
	}
	each(b, sqlLockSwaps, args[:3], addSwap)
	if len(w.swaps) > 0 {
		each(b, sqlOtherSwaps, args[:2], addSwap)
	}
	if len(w.lastSeqs) > 0 {
		each(b, sqlHashes, []any{w.lastCabinets, w.lastEpochs, w.lastSeqs}, func(r pgx.Rows) error {
			return scanHash(r, l.books)
		})
	}
	if len(w.riders) > 0 {
		each(b, sqlOtherCabinets, []any{w.cabinets, w.riders}, addCabinet)
	}
	// After the locks: a wait for them does not make a request look younger.
	b.Queue(sqlNow).QueryRow(func(r pgx.Row) error { return r.Scan(&l.now, &l.recovering) })
	return l
}

func each(b *pgx.Batch, sql string, args []any, scan func(pgx.Rows) error) {
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

func scanCabinet(r pgx.Rows) (*swap.Cabinet, error) {
	var c swap.Cabinet
	var heard *time.Time
	var epoch, hash, boot []byte
	err := r.Scan(&c.CabinetID, &c.Slots, &c.EnrolledAt, &c.OutOfService, &heard, &epoch, &c.LastSeq, &hash, &c.Hole, &c.Forked,
		&c.BootSeq, &boot, &c.ClockBoot, &c.ClockOffsetMS)
	copy(c.Epoch[:], epoch)
	copy(c.LastHash[:], hash)
	copy(c.BootID[:], boot)
	if heard != nil {
		c.HeardAt = *heard
	}
	return &c, err
}

func scanHash(r pgx.Rows, books *swap.Books) error {
	var id protocol.CabinetID
	var seq uint64
	var hash []byte
	if err := r.Scan(&id, &seq, &hash); err != nil {
		return err
	}
	c := books.Cabinets[id]
	if c.Hashes == nil {
		c.Hashes = map[uint64]protocol.Hash{}
	}
	c.Hashes[seq] = protocol.Hash(hash)
	return nil
}

func scanSwap(r pgx.Row) (*swap.Swap, error) {
	var s swap.Swap
	var epoch, boot, nonce, deposits, offers, pulsed []byte
	var closed *time.Time
	err := r.Scan(&s.SwapID, &s.CabinetID, &s.RiderID, &s.Kind, &s.State, &s.ByFact, &s.Parked,
		&epoch, &s.BootSeq, &boot, &nonce, &deposits, &offers, &s.CreditID,
		&s.Step, &s.Slot, &s.Door, &s.Judgement, &s.DepositSlot, &s.Deposited, &s.Soc, &pulsed,
		&s.TakeSlot, &s.Taken, &s.Outcome, &s.Reason, &s.Reviewed, &s.Entries,
		&s.ViewSeq, &s.RequestedAt, &s.UpdatedAt, &closed)
	if err != nil {
		return nil, err
	}
	copy(s.Epoch[:], epoch)
	copy(s.BootID[:], boot)
	copy(s.Nonce[:], nonce)
	if closed != nil {
		s.ClosedAt = *closed
	}
	for _, f := range []struct {
		from []byte
		to   any
	}{{deposits, &s.DepositSlots}, {offers, &s.Dispense}, {pulsed, &s.Pulsed}} {
		if f.from == nil {
			continue
		}
		if err := json.Unmarshal(f.from, f.to); err != nil {
			return nil, fmt.Errorf("row of swap %s: %w", s.SwapID, err)
		}
	}
	return &s, nil
}

// strs turns identifiers into what the driver sends.
func strs[S ~string](in ...S) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}

// isUUID guards columns of that type: a text that is none names nobody, which
// is an answer and not an error of the database.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') {
			return false
		}
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

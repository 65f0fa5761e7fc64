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
	cabinets []string // their cursors are locked
	openAt   []string // cabinets whose open swaps are wanted
	swaps    []string // and their riders, credits and batteries
	deposits []string // of those: swaps that may book a deposit
	riders   []string // and their credits, batteries and open swaps
	serials  []string
	// slots are pairs of cabinet and slot whose battery may be displaced.
	slotCabinets []string
	slotNumbers  []int
	// last names records whose hash is wanted, if they are in the books.
	lastCabinets []string
	lastEpochs   [][]byte
	lastSeqs     []int64
	// review is one that is to be decided, 0 none.
	review int64
}

// loaded is what came back.
type loaded struct {
	books *swap.Books
	now   time.Time // of the database, after the locks were had
	// recovering: the database was restored, and cabinets know more.
	recovering bool
	review     swap.Case
}

// The statements lock in the one order of this package: cabinet, rider, credit,
// battery, swap, each sorted. Every row is found by an index through a lateral
// join, which leaves the planner no other way: a plan made for an empty table
// must not read a full one.
// $1 swaps, $2 openAt, $3 riders, $4 serials, $5 and $6 slots.
const (
	cabinetColumns = `k.cabinet_id, c.slots, c.enrolled_at, c.out_of_service, greatest(k.heard_at, s.seen_at), k.epoch,
		k.last_seq, k.last_hash, k.hole, k.forked, k.boot_seq, k.boot_id, k.clock_boot, k.clock_offset_ms
		FROM cabinet_cursor k JOIN cabinet c USING (cabinet_id) LEFT JOIN cabinet_state s USING (cabinet_id)`

	swapColumns = `swap_id::text, cabinet_id, coalesce(rider_id::text, ''), coalesce(kind, ''), state, by_fact, parked,
		epoch, boot_seq, boot_id, nonce, deposit_slots, dispense, coalesce(credit_id::text, ''),
		step, slot, coalesce(door, ''), coalesce(judgement, ''), deposit_slot, coalesce(deposited, ''), soc, pulsed,
		take_slot, coalesce(taken, ''), coalesce(outcome, ''), coalesce(reason, ''), coalesce(reviewed, ''), coalesce(ruling, ''), entries,
		view_seq, requested_at, updated_at, closed_at`

	swapsWanted = `SELECT unnest($1::uuid[]) UNION ALL SELECT o.swap_id FROM unnest($2::text[]) AS c(id)
		CROSS JOIN LATERAL (SELECT swap_id FROM swap WHERE cabinet_id = c.id AND state <> 'closed' OFFSET 0) o`

	// ofSwaps is one column of the wanted swaps.
	ofSwaps = ` FROM (` + swapsWanted + `) AS w(id) CROSS JOIN LATERAL
		(SELECT rider_id, credit_id, deposited, pulsed FROM swap WHERE swap_id = w.id OFFSET 0) o`
)

// locking reads the rows of a table by their keys, and locks them in the order
// of the keys.
func locking(table, key, columns, keys string) string {
	return `SELECT x.* FROM (SELECT DISTINCT id FROM (` + keys + `) AS u(id) WHERE id IS NOT NULL ORDER BY id) AS w
		CROSS JOIN LATERAL (SELECT ` + columns + ` FROM ` + table + ` WHERE ` + key + ` = w.id FOR NO KEY UPDATE) x`
}

var (
	sqlLockCursors = `SELECT x.* FROM (SELECT DISTINCT id FROM unnest($1::text[]) AS u(id) ORDER BY id) AS w
		CROSS JOIN LATERAL (SELECT ` + cabinetColumns + ` WHERE k.cabinet_id = w.id FOR NO KEY UPDATE OF k) x`

	sqlLockRiders = locking("rider", "rider_id",
		`rider_id::text, active, deposits, returns, takes, counted, issued, credits_due, open_reviews`,
		`SELECT unnest($3::uuid[]) UNION ALL SELECT o.rider_id`+ofSwaps)

	sqlLockCredits = locking("credit", "credit_id",
		`credit_id::text, rider_id::text, origin, state, coalesce(swap_id::text, ''), opened_at`,
		`SELECT o.credit_id`+ofSwaps+` UNION ALL SELECT c.credit_id FROM unnest($3::uuid[]) AS r(id) CROSS JOIN LATERAL
			(SELECT credit_id FROM credit WHERE rider_id = r.id AND state IN ('open', 'reserved') OFFSET 0) c`)

	sqlLockBatteries = locking("battery", "battery_serial",
		`battery_serial, type, is_foreign, holder, coalesce(rider_id::text, ''), coalesce(cabinet_id, ''), coalesce(slot, 0), ahead_of::text[]`,
		`SELECT unnest($4::text[]) UNION ALL SELECT o.deposited`+ofSwaps+` UNION ALL SELECT jsonb_array_elements_text(o.pulsed)`+ofSwaps+`
			UNION ALL SELECT b.battery_serial FROM unnest($3::uuid[]) AS r(id) CROSS JOIN LATERAL
				(SELECT battery_serial FROM battery WHERE rider_id = r.id OFFSET 0) b
			UNION ALL SELECT b.battery_serial FROM unnest($5::text[], $6::int[]) AS t(c, n) CROSS JOIN LATERAL
				(SELECT battery_serial FROM battery WHERE holder = 'slot' AND cabinet_id = t.c AND slot = t.n OFFSET 0) b
			UNION ALL SELECT battery_serial FROM battery WHERE ahead_of <> '{}' AND ahead_of && ARRAY(`+swapsWanted+`)`)

	sqlLockSwaps = locking("swap", "swap_id", swapColumns,
		swapsWanted+` UNION ALL SELECT s.swap_id FROM unnest($3::uuid[]) AS r(id) CROSS JOIN LATERAL
			(SELECT swap_id FROM swap WHERE rider_id = r.id AND state <> 'closed' OFFSET 0) s`)

	// Open swaps of the same riders at other cabinets, and those cabinets, are
	// read and not locked: only what never changes in them is used, and when they
	// were heard last. $1 cabinets, $2 swaps.
	sqlOtherSwaps = `SELECT x.* FROM (SELECT DISTINCT o.rider_id FROM unnest($2::uuid[]) AS w(id)
			CROSS JOIN LATERAL (SELECT rider_id FROM swap WHERE swap_id = w.id OFFSET 0) o) AS r
		CROSS JOIN LATERAL (SELECT ` + swapColumns + ` FROM swap
			WHERE rider_id = r.rider_id AND state <> 'closed' AND cabinet_id <> ALL($1::text[]) OFFSET 0) x`

	// $1 cabinets, $2 riders.
	sqlOtherCabinets = `SELECT x.* FROM (SELECT DISTINCT o.cabinet_id FROM unnest($2::uuid[]) AS r(id)
			CROSS JOIN LATERAL (SELECT cabinet_id FROM swap WHERE rider_id = r.id AND state <> 'closed' OFFSET 0) o
			WHERE o.cabinet_id <> ALL($1::text[])) AS w
		CROSS JOIN LATERAL (SELECT ` + cabinetColumns + ` WHERE k.cabinet_id = w.cabinet_id OFFSET 0) x`

	// Hashes of records. $1 cabinets, $2 epochs, $3 seqs.
	sqlHashes = `SELECT x.* FROM unnest($1::text[], $2::bytea[], $3::bigint[]) AS t(c, e, s)
		CROSS JOIN LATERAL (SELECT cabinet_id, epoch, seq, hash FROM record
			WHERE cabinet_id = t.c AND epoch = t.e AND seq = t.s OFFSET 0) x`
)

const sqlNow = `SELECT clock_timestamp(), recovering_since IS NOT NULL FROM fleet`

// queueLoad adds the statements that lock and read what is wanted. The answer
// is whole once the batch is closed.
func queueLoad(b *pgx.Batch, w wanted) *loaded {
	l := &loaded{books: swap.NewBooks()}
	books := l.books
	addCabinet := func(r pgx.Rows) error {
		c, err := scanCabinet(r)
		books.Cabinets[c.CabinetID] = c
		return err
	}
	addSwap := func(r pgx.Rows) error {
		s, err := scanSwap(r)
		if err == nil {
			books.Swaps[s.SwapID] = s
		}
		return err
	}
	each(b, sqlLockCursors, []any{w.cabinets}, addCabinet)
	people := []any{w.swaps, w.openAt, w.riders}
	somebody := len(w.swaps)+len(w.openAt)+len(w.riders) > 0
	if somebody {
		queuePeople(b, people, books)
	}
	if somebody || len(w.serials)+len(w.slotNumbers) > 0 {
		each(b, sqlLockBatteries, append(people, w.serials, w.slotCabinets, w.slotNumbers), func(r pgx.Rows) error {
			var x swap.Battery
			err := r.Scan(&x.BatterySerial, &x.Type, &x.Foreign, &x.Holder, &x.RiderID, &x.CabinetID, &x.Slot, &x.AheadOf)
			books.AddBattery(&x)
			return err
		})
	}
	if somebody {
		each(b, sqlLockSwaps, people, addSwap)
	}
	if len(w.deposits) > 0 {
		each(b, sqlOtherSwaps, []any{w.cabinets, w.deposits}, addSwap)
	}
	if len(w.lastSeqs) > 0 {
		each(b, sqlHashes, []any{w.lastCabinets, w.lastEpochs, w.lastSeqs}, func(r pgx.Rows) error { return scanHash(r, books) })
	}
	if len(w.riders) > 0 {
		each(b, sqlOtherCabinets, []any{w.cabinets, w.riders}, addCabinet)
	}
	if w.review != 0 {
		queueCase(b, w, l)
	}
	// After the locks: a wait for them does not make a request look younger.
	b.Queue(sqlNow).QueryRow(func(r pgx.Row) error { return r.Scan(&l.now, &l.recovering) })
	return l
}

// queuePeople locks riders, then their credits.
func queuePeople(b *pgx.Batch, people []any, books *swap.Books) {
	each(b, sqlLockRiders, people, func(r pgx.Rows) error {
		var x swap.Rider
		err := r.Scan(&x.RiderID, &x.Active, &x.Deposits, &x.Returns, &x.Takes, &x.Counted, &x.Issued, &x.CreditsDue, &x.OpenReviews)
		books.Riders[x.RiderID] = &x
		return err
	})
	each(b, sqlLockCredits, people, func(r pgx.Rows) error {
		var x swap.Credit
		err := r.Scan(&x.CreditID, &x.RiderID, &x.Origin, &x.State, &x.SwapID, &x.OpenedAt)
		books.Credits[x.CreditID] = &x
		return err
	})
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
	var epoch, hash []byte
	if err := r.Scan(&id, &epoch, &seq, &hash); err != nil {
		return err
	}
	c := books.Cabinets[id]
	if c == nil || protocol.Epoch(epoch) != c.Epoch {
		return nil
	}
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
		&s.TakeSlot, &s.Taken, &s.Outcome, &s.Reason, &s.Reviewed, &s.Ruling, &s.Entries,
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

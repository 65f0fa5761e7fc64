package postgres

import (
	"strconv"
	"strings"
	"time"
)

// wanted names the rows that a transaction is about. What belongs to them is
// loaded with them.
type wanted struct {
	// patience bounds the wait for each row; 0: lockTimeout.
	patience time.Duration

	cabinets []string // their cursors are locked
	openAt   []string // cabinets whose open swaps are wanted, like swaps
	busyAt   []string // cabinets whose open swaps are wanted, and nothing of theirs
	swaps    []string // and their riders, credits and batteries
	alone    []string // swaps, and nothing of theirs
	grants   []string // swaps that are about to be granted, and their riders, as riders
	deposits []string // of swaps: those that may book a deposit
	riders   []string // and their credits, batteries and open swaps
	serials  []string
	// scans are pairs of rider and idempotency key.
	scanRiders, scanKeys []string
	// slots are pairs of cabinet and slot whose battery may be displaced.
	slotCabinets []string
	slotNumbers  []int
	// last names records whose hash is wanted, if they are in the books.
	lastCabinets []string
	lastEpochs   [][]byte
	lastSeqs     []int64
	epochs       [][]byte // whose state at the one cabinet is wanted
	// review is one that is to be decided, 0 none.
	review int64
}

// add wants what another transaction wants too.
func (w *wanted) add(o wanted) {
	for _, x := range []struct{ to, from *[]string }{
		{&w.cabinets, &o.cabinets}, {&w.openAt, &o.openAt}, {&w.busyAt, &o.busyAt}, {&w.swaps, &o.swaps}, {&w.alone, &o.alone},
		{&w.grants, &o.grants}, {&w.deposits, &o.deposits}, {&w.riders, &o.riders}, {&w.serials, &o.serials},
		{&w.scanRiders, &o.scanRiders}, {&w.scanKeys, &o.scanKeys},
		{&w.slotCabinets, &o.slotCabinets}, {&w.lastCabinets, &o.lastCabinets},
	} {
		*x.to = append(*x.to, *x.from...)
	}
	w.slotNumbers = append(w.slotNumbers, o.slotNumbers...)
	w.lastEpochs, w.lastSeqs = append(w.lastEpochs, o.lastEpochs...), append(w.lastSeqs, o.lastSeqs...)
}

// isMember says whether a rider may begin a swap today: days are of Asia/Shanghai.
const isMember = `(active AND forgotten_at IS NULL AND (now() AT TIME ZONE 'Asia/Shanghai')::date
	BETWEEN coalesce(member_from, '-infinity') AND coalesce(member_to, 'infinity'))`

// The statements lock in the one order of this package: cabinet, rider, credit,
// battery, swap, each sorted. Every row is found by an index through a lateral
// join, which leaves the planner no other way: a plan made for an empty table
// must not read a full one. @name stands for that list of wanted.
const (
	cabinetColumns = `k.cabinet_id, c.slots, c.enrolled_at, c.out_of_service, greatest(k.heard_at, s.seen_at), k.epoch,
		k.last_seq, k.last_hash, k.hole, k.forked, k.boot_seq, k.boot_id, k.clock_boot, k.clock_offset_ms
		FROM cabinet_cursor k JOIN cabinet c USING (cabinet_id) LEFT JOIN cabinet_state s USING (cabinet_id)`

	riderColumns   = `rider_id::text, ` + isMember + `, deposits, returns, takes, counted, issued, credits_due, open_reviews`
	creditColumns  = `credit_id::text, rider_id::text, origin, state, coalesce(swap_id::text, ''), opened_at`
	batteryColumns = `battery_serial, type, is_foreign, holder, coalesce(rider_id::text, ''), coalesce(cabinet_id, ''), coalesce(slot, 0), ahead_of::text[], entries`

	swapColumns = `swap_id::text, cabinet_id, coalesce(rider_id::text, ''), coalesce(kind, ''), state, by_fact, parked,
		epoch, boot_seq, boot_id, nonce, deposit_slots, dispense, coalesce(credit_id::text, ''),
		step, slot, coalesce(door, ''), coalesce(judgement, ''), deposit_slot, coalesce(deposited, ''), soc, pulsed,
		take_slot, coalesce(taken, ''), coalesce(outcome, ''), coalesce(reason, ''), coalesce(reviewed, ''), coalesce(ruling, ''), entries,
		view_seq, requested_at, updated_at, closed_at`

	scanColumns = `rider_id::text, idempotency_key, cabinet_id, hand_back, coalesce(swap_id::text, ''), coalesce(reason, ''), coalesce(other_swap_id::text, '')`

	sqlLockCursors = `SELECT x.* FROM (SELECT DISTINCT id FROM unnest(@cabinets) AS u(id) ORDER BY id) AS w
		CROSS JOIN LATERAL (SELECT ` + cabinetColumns + ` WHERE k.cabinet_id = w.id FOR NO KEY UPDATE OF k) x`

	// Who holds a rider's row is alone with the rider's scans.
	sqlScans = `SELECT x.* FROM unnest(@scanRiders, @scanKeys) AS t(r, k)
		CROSS JOIN LATERAL (SELECT ` + scanColumns + ` FROM scan WHERE rider_id = t.r AND idempotency_key = t.k OFFSET 0) x`

	// Open swaps of the same riders at other cabinets are read and not locked:
	// whoever changes one holds its rider's row, as this transaction does. Of
	// those cabinets only when they were heard last is used.
	sqlOtherSwaps = `SELECT x.* FROM (SELECT DISTINCT o.rider_id FROM unnest(@deposits) AS w(id)
			CROSS JOIN LATERAL (SELECT rider_id FROM swap WHERE swap_id = w.id OFFSET 0) o) AS r
		CROSS JOIN LATERAL (SELECT ` + swapColumns + ` FROM swap
			WHERE rider_id = r.rider_id AND state <> 'closed' AND cabinet_id <> ALL(@cabinets) OFFSET 0) x`

	sqlOtherCabinets = `SELECT x.* FROM (SELECT DISTINCT o.cabinet_id FROM unnest(@riders) AS r(id)
			CROSS JOIN LATERAL (SELECT cabinet_id FROM swap WHERE rider_id = r.id AND state <> 'closed' OFFSET 0) o
			WHERE o.cabinet_id <> ALL(@cabinets)) AS w
		CROSS JOIN LATERAL (SELECT ` + cabinetColumns + ` WHERE k.cabinet_id = w.cabinet_id OFFSET 0) x`

	// What the cabinet's epoch counts for.
	sqlEpochState = `SELECT state FROM cabinet_epoch WHERE cabinet_id = ANY(@cabinets) AND epoch = ANY(@epochs)`

	// Hashes of records.
	sqlHashes = `SELECT x.* FROM unnest(@lastCabinets, @lastEpochs, @lastSeqs) AS t(c, e, s)
		CROSS JOIN LATERAL (SELECT cabinet_id, epoch, seq, hash FROM record
			WHERE cabinet_id = t.c AND epoch = t.e AND seq = t.s OFFSET 0) x`
)

// arguments are the lists that a statement may name, with the type of the argument.
func (w *wanted) arguments() []argument {
	return []argument{
		{"@cabinets", "text", w.cabinets}, {"@openAt", "text", w.openAt}, {"@busyAt", "text", w.busyAt},
		{"@swaps", "uuid", w.swaps}, {"@alone", "uuid", w.alone}, {"@grants", "uuid", w.grants}, {"@deposits", "uuid", w.deposits},
		{"@riders", "uuid", w.riders}, {"@serials", "text", w.serials}, {"@scanRiders", "uuid", w.scanRiders}, {"@scanKeys", "text", w.scanKeys},
		{"@slotCabinets", "text", w.slotCabinets}, {"@slotNumbers", "int", w.slotNumbers},
		{"@lastCabinets", "text", w.lastCabinets}, {"@lastEpochs", "bytea", w.lastEpochs}, {"@lastSeqs", "bigint", w.lastSeqs},
		{"@epochs", "bytea", w.epochs},
	}
}

type argument struct {
	name, typ string
	values    any
}

// bind puts the arguments in.
func (w *wanted) bind(sql string) (string, []any) {
	var args []any
	for _, l := range w.arguments() {
		if strings.Contains(sql, l.name) {
			args = append(args, l.values)
			sql = strings.ReplaceAll(sql, l.name, "$"+strconv.Itoa(len(args))+"::"+l.typ+"[]")
		}
	}
	return sql, args
}

// branch is one source of keys, a query of one column, if its list is not empty.
// What is not wanted is not even looked for: planning and starting the larger
// statement costs more than reading the rows.
type branch struct {
	wanted bool
	sql    string
}

// union is all the keys, "" when nothing is wanted.
func union(bs ...branch) string {
	var all []string
	for _, b := range bs {
		if b.wanted {
			all = append(all, b.sql)
		}
	}
	return strings.Join(all, " UNION ALL ")
}

// locking reads the rows of a table by their keys, and locks them in the order
// of the keys; without keys it is nothing.
func locking(table, key, columns, keys string) string {
	if keys == "" {
		return ""
	}
	return `SELECT x.* FROM (SELECT DISTINCT id FROM (` + keys + `) AS u(id) WHERE id IS NOT NULL ORDER BY id) AS w
		CROSS JOIN LATERAL (SELECT ` + columns + ` FROM ` + table + ` WHERE ` + key + ` = w.id FOR NO KEY UPDATE) x`
}

// openAt is the open swaps of a list of cabinets.
func openAt(list string) string {
	return `SELECT o.swap_id FROM unnest(` + list + `) AS c(id)
		CROSS JOIN LATERAL (SELECT swap_id FROM swap WHERE cabinet_id = c.id AND state <> 'closed' OFFSET 0) o`
}

// whole are the swaps that are wanted with what belongs to them.
func (w *wanted) whole() string {
	return union(branch{len(w.swaps) > 0, `SELECT unnest(@swaps)`}, branch{len(w.openAt) > 0, openAt(`@openAt`)})
}

// people are the riders who are wanted with what belongs to them.
func (w *wanted) people() string {
	return union(branch{len(w.riders) > 0, `SELECT unnest(@riders)`},
		branch{len(w.grants) > 0, ofSwaps(`rider_id`, `SELECT unnest(@grants)`)})
}

// ofSwaps is a column of swaps.
func ofSwaps(column, swaps string) string {
	return `SELECT o.v FROM (` + swaps + `) AS w(id) CROSS JOIN LATERAL (SELECT ` + column + ` AS v FROM swap WHERE swap_id = w.id OFFSET 0) o`
}

// ofPeople is a column of what belongs to riders.
func ofPeople(column, table, where, people string) string {
	return `SELECT o.v FROM (` + people + `) AS r(id) CROSS JOIN LATERAL (SELECT ` + column + ` AS v FROM ` + table + ` WHERE rider_id = r.id ` + where + ` OFFSET 0) o`
}

func (w *wanted) lockRiders() string {
	whole, people := w.whole(), w.people()
	return locking("rider", "rider_id", riderColumns, union(branch{people != "", people}, branch{whole != "", ofSwaps(`rider_id`, whole)}))
}

// lockCredits takes what the riders of swaps are owed too: a take may spend a
// credit that its swap did not reserve.
func (w *wanted) lockCredits() string {
	whole, people := w.whole(), w.people()
	owed := union(branch{people != "", people}, branch{whole != "", ofSwaps(`rider_id`, whole)})
	return locking("credit", "credit_id", creditColumns, union(branch{whole != "", ofSwaps(`credit_id`, whole)},
		branch{owed != "", ofPeople(`credit_id`, `credit`, `AND state IN ('open', 'reserved')`, owed)}))
}

func (w *wanted) lockBatteries() string {
	whole, people := w.whole(), w.people()
	moved := ofSwaps(`array_append(ARRAY(SELECT jsonb_array_elements_text(pulsed)), deposited)`, whole)
	return locking("battery", "battery_serial", batteryColumns, union(
		branch{len(w.serials) > 0, `SELECT unnest(@serials)`},
		branch{whole != "", `SELECT unnest(m.v) FROM (` + moved + `) AS m`},
		branch{people != "", ofPeople(`battery_serial`, `battery`, ``, people)},
		branch{len(w.slotNumbers) > 0, `SELECT b.battery_serial FROM unnest(@slotCabinets, @slotNumbers) AS t(c, n) CROSS JOIN LATERAL
			(SELECT battery_serial FROM battery WHERE holder = 'slot' AND cabinet_id = t.c AND slot = t.n OFFSET 0) b`},
		branch{whole != "", `SELECT battery_serial FROM battery WHERE ahead_of <> '{}' AND ahead_of && ARRAY(` + whole + `)`}))
}

func (w *wanted) lockSwaps() string {
	whole, people := w.whole(), w.people()
	return locking("swap", "swap_id", swapColumns, union(branch{whole != "", whole},
		branch{len(w.alone) > 0, `SELECT unnest(@alone)`}, branch{len(w.grants) > 0, `SELECT unnest(@grants)`},
		branch{len(w.busyAt) > 0, openAt(`@busyAt`)},
		branch{people != "", ofPeople(`swap_id`, `swap`, `AND state <> 'closed'`, people)}))
}

package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// eventful fills a database with all that the books can hold: each outcome,
// staff acts, reviews open and decided, hardship, foreign batteries, epochs left
// behind, holes, forks and late messages.
func eventful(t *testing.T) *deck {
	d := newDeck(t)
	a, b, lost := d.cabinet("hb-0001"), d.cabinet("hb-0002"), d.cabinet("hb-0003")
	k := d.desk(d.store)
	d.battery("OWN-A", swap.Place{RiderID: alice})
	own := a.swapped(a.granted(alice, false), "OWN-A")
	a.write(protocol.Tamper{Slot: 2}, protocol.TimeStep{WallMS: 1, Clock: protocol.ClockUnsynchronised})
	k.sends(a)
	g := a.granted(alice, false) // deposited and owed, taken elsewhere
	a.accept(g)
	a.deposit(g, own)
	a.write(protocol.Closed{SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeDepositedOwed, DepositSlot: g.DepositSlots[0], Deposited: own})
	k.sends(a)
	g = b.granted(alice, false)
	b.accept(g)
	o := b.take(g)
	b.write(protocol.Closed{SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeOwedTaken, TakeSlot: o.Slot, Taken: o.BatterySerial})
	k.sends(b)
	require.NoError(t, d.store.StaffCredit(t.Context(), bob))
	void := a.granted(bob, false) // the first battery: not started, then issued
	a.write(protocol.Void{SwapID: void.SwapID, Reason: protocol.ReasonGrantLate})
	k.sends(a)
	g = a.granted(bob, false)
	a.accept(g)
	first := a.take(g)
	a.write(protocol.Closed{SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeIssued, TakeSlot: first.Slot, Taken: first.BatterySerial})
	k.sends(a)
	g = b.granted(bob, true) // handed back, as a battery that nobody registered
	b.accept(g)
	b.deposit(g, "FOREIGN")
	b.write(protocol.Closed{SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeHandedBack, DepositSlot: g.DepositSlots[0], Deposited: "FOREIGN"})
	k.sends(b)
	d.battery("SPARE", swap.Place{}) // a technician comes, and somebody with a crowbar
	b.maintained(orderID(1), protocol.Change{Slot: 8, Removed: "hb-0002-8", Added: "SPARE"}, protocol.Change{Slot: 9, Added: "UNREGISTERED"})
	b.maintained(orderID(2), protocol.Change{Slot: 9, Removed: "UNREGISTERED", Forced: true}, protocol.Change{Slot: 8, Removed: own})
	k.sends(b)
	d.disputed(k, lost)
	return d
}

// disputed adds what people are asked about, some of it decided.
func (d *deck) disputed(k *desk, c *cabinet) {
	t, ctx := d.t, context.Background()
	for i := range 4 {
		rider, err := d.store.AddRider(ctx, postgres.NewRider{Name: fmt.Sprintf("Rider %d", i)})
		require.NoError(t, err)
		serial := protocol.BatterySerial(fmt.Sprintf("D-%d", i))
		d.battery(serial, swap.Place{RiderID: rider})
		c.serials = map[int]protocol.BatterySerial{7: protocol.BatterySerial(fmt.Sprintf("X-%d", i))}
		d.battery(c.serials[7], swap.Place{})
		require.NoError(t, d.store.AssignBattery(ctx, serial, swap.Place{RiderID: rider}))
		c.unclear(c.granted(rider, false), serial)
		k.sends(c)
		id := query[int64](d, `SELECT max(review_id) FROM review`)
		if i == 0 {
			require.NoError(t, d.store.Hardship(ctx, id, "wei"))
		}
		if i < 3 {
			require.NoError(t, d.store.DecideReview(ctx, ruled(id, []swap.Ruling{swap.RuledTaken, swap.RuledOwed, swap.RuledReturned}[i])))
			require.NoError(t, d.store.AssignBattery(ctx, serial, swap.Place{}))
		}
	}
	// Its journal is lost with a swap under way, whose end is told too late.
	rider, err := d.store.AddRider(ctx, postgres.NewRider{Name: "Late"})
	require.NoError(t, err)
	d.battery("LATE", swap.Place{RiderID: rider})
	c.serials = map[int]protocol.BatterySerial{8: "hb-0003-8"}
	g := c.granted(rider, false)
	c.accept(g)
	c.deposit(g, "LATE")
	c.raw(protocol.RecordTaken, []byte("{"))
	c.write(protocol.Taken{SwapID: "019a0000-0000-7000-8000-00000000f00d", Slot: 9, BatterySerial: "UNHEARD"})
	k.sends(c)
	c.write(protocol.Closed{SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeDepositedOwed, DepositSlot: 3, Deposited: "LATE"})
	late := c.log(len(c.raws), len(c.raws))
	c.format(2)
	c.hello()
	require.NoError(t, d.store.AcceptEpoch(ctx, c.id))
	require.True(t, k.Submit(late))
	k.until(func() bool { return k.rejected[c.id] == 1 })
	// The new journal has a hole, and then contradicts itself.
	c.write(protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2}, protocol.Tamper{Slot: 3})
	h := c.helloMessage()
	h.FirstSeq = 3
	_, err = d.store.Hello(ctx, c.id, h)
	require.NoError(t, err)
	c.acked = 2
	k.sends(c)
	n := len(c.raws)
	c.raws, c.hashes = c.raws[:n-1], c.hashes[:n-1]
	c.write(protocol.Tamper{Slot: 4})
	require.True(t, k.Submit(c.log(n, n)))
	k.until(func() bool { return k.asked[c.id].Validate() == nil && k.rejected[c.id] == 2 })
}

func TestAGoodDatabaseHasNoDifferences(t *testing.T) {
	t.Parallel()
	d := eventful(t)
	rep := d.honest()
	require.Equal(t, query[int64](d, `SELECT count(*) FROM ledger`), rep.Entries)
	require.Equal(t, query[int64](d, `SELECT count(*) FROM record`), rep.Records)
	for table, n := range rep.Examined {
		require.Positive(t, n, "%s: nothing in it to be wrong", table)
	}
	require.Len(t, rep.Examined, 18)
	_, err := d.store.LastAudit(t.Context())
	require.ErrorIs(t, err, postgres.ErrNotFound)
	require.NoError(t, d.store.StoreAudit(t.Context(), rep))
	last, err := d.store.LastAudit(t.Context())
	require.NoError(t, err)
	require.Equal(t, rep.Records, last.Records)
	require.Zero(t, last.Differences)

	_, did, err := d.store.AuditIfDue(t.Context(), func(time.Time) time.Time { return rep.BeganAt })
	require.NoError(t, err)
	require.False(t, did, "it has been done")
	due := query[time.Time](d, `SELECT clock_timestamp()`)
	stores := []*postgres.Store{d.store, d.open()}
	var audits atomic.Int64
	at(8, func(i int) {
		_, did, err := stores[i%2].AuditIfDue(context.Background(), func(time.Time) time.Time { return due })
		if err != nil {
			t.Error(err)
		}
		if did {
			audits.Add(1)
		}
	})
	require.Equal(t, int64(1), audits.Load(), "one replica does it, once")
}

// unaudited are columns that no count, credit or custody rests on, with what
// they are for.
func unaudited() map[string]string {
	return map[string]string{
		"rider.name": "a person", "rider.street": "a person", "rider.platform": "a person",
		"rider.active": "staff", "rider.added_at": "a person", "rider.membership_no": "a person", "rider.union_id": "a person",
		"rider.phone_sealed": "a person", "rider.phone_hash": "a person", "rider.member_from": "a person", "rider.member_to": "a person",
		"rider.forgotten_at": "a person",
		"battery.type":       "the registry", "battery.is_foreign": "the registry", "battery.ahead_of": "open swaps only",
		"ledger.position": "order", "ledger.recorded_at": "a note",
		"swap.by_fact": "which indexes guard it", "swap.parked": "open swaps only", "swap.step": "the page", "swap.slot": "the page", "swap.door": "the page",
		"swap.reason": "the page", "swap.view_seq": "the page", "swap.requested_at": "the page", "swap.updated_at": "the page", "swap.closed_at": "the page",
		"swap.boot_seq": "the grant", "swap.epoch": "the grant",
		"review.review_id": "a name", "review.opened_at": "a note",
		"log_batch.received_at": "the age of records without a clock", "late_batch.received_at": "a note", "late_batch.kid": "in the envelope",
		"cabinet_cursor.heard_at": "signs of life", "cabinet_cursor.hello_at": "signs of life", "cabinet_cursor.hello_challenge": "signs of life",
		"cabinet_cursor.hello_tail_seq": "signs of life", "cabinet_epoch.seen_at": "a note", "cabinet_epoch.changed_at": "a note",
		"hour_count.lane": "whose it is", "counted_take.missed": "closed months only",
	}
}

// forger spoils rows as a superuser past all triggers, and puts them back.
type forger struct {
	*deck
	refused int
}

func (f *forger) columns(table string) [][2]string {
	rows, err := f.direct().Query(context.Background(), `SELECT column_name::text, udt_name::text FROM information_schema.columns
		WHERE table_name = $1 AND table_schema = 'public' ORDER BY ordinal_position`, table)
	require.NoError(f.t, err)
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) ([2]string, error) {
		var c [2]string
		return c, r.Scan(&c[0], &c[1])
	})
	require.NoError(f.t, err)
	return out
}

// rows are the places of a few rows of a table: the first, the last, and some
// between.
func (f *forger) rows(table, where string, most int) []string {
	rows, err := f.direct().Query(context.Background(), fmt.Sprintf(`SELECT ctid::text FROM %s WHERE %s ORDER BY ctid`, table, where))
	require.NoError(f.t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(f.t, err)
	if len(all) <= most {
		return all
	}
	var out []string
	for i := range most {
		out = append(out, all[i*(len(all)-1)/(most-1)])
	}
	return out
}

// lies are other values for a column, of which the database may refuse some.
func lies(table, column, typ string) []string {
	other := fmt.Sprintf(`(SELECT o.%[2]s FROM %[1]s o WHERE o.%[2]s IS DISTINCT FROM x.%[2]s LIMIT 1)`, table, column)
	switch typ {
	case "int2", "int4", "int8":
		return []string{column + ` + 1`, column + ` - 1`}
	case "bool":
		return []string{`NOT ` + column}
	case "uuid":
		return []string{`gen_random_uuid()`, `NULL`}
	case "bytea", "bytes16":
		return []string{fmt.Sprintf(`set_byte(%[1]s, 3, get_byte(%[1]s, 3) # 1)`, column)}
	case "timestamptz":
		return []string{column + ` + interval '1 hour'`}
	case "date":
		return []string{column + ` + 1`}
	case "jsonb":
		return []string{`'[]'`, `NULL`}
	case "_text":
		return []string{column + ` || 'odd'::text`}
	case "_int8":
		return []string{column + ` || 7::bigint`}
	}
	return []string{other, column + ` || 'x'`, `NULL`}
}

// spoil changes one row, and returns how to put it back; nil when the database
// refuses it.
func (f *forger) spoil(table, place, sql string) func() {
	ctx, conn := context.Background(), f.direct()
	for _, s := range []string{
		`SET session_replication_role = replica`, `DROP TABLE IF EXISTS saved`,
		fmt.Sprintf(`CREATE TEMP TABLE saved AS SELECT * FROM %s WHERE ctid = '%s'`, table, place),
	} {
		_, err := conn.Exec(ctx, s)
		require.NoError(f.t, err, s)
	}
	var forged string
	if err := conn.QueryRow(ctx, sql+` RETURNING ctid::text`).Scan(&forged); err != nil {
		f.refused++
		return nil
	}
	return func() {
		if !strings.HasPrefix(sql, "DELETE") {
			_, err := conn.Exec(ctx, fmt.Sprintf(`DELETE FROM %s WHERE ctid = '%s'`, table, forged))
			require.NoError(f.t, err)
		}
		if !strings.HasPrefix(sql, "INSERT") {
			_, err := conn.Exec(ctx, fmt.Sprintf(`INSERT INTO %s OVERRIDING SYSTEM VALUE SELECT * FROM saved`, table))
			require.NoError(f.t, err)
		}
	}
}

func (f *forger) found() []postgres.Difference {
	rep, err := f.store.Audit(context.Background())
	require.NoError(f.t, err)
	return rep.Differences
}

// TestAuditFindsWhatWasAlteredByHand: every column that counts rest on, in rows
// of every audited table.
func TestAuditFindsWhatWasAlteredByHand(t *testing.T) {
	t.Parallel()
	f := &forger{deck: eventful(t)}
	except := unaudited()
	tried := 0
	for table := range f.honest().Examined {
		for _, c := range f.columns(table) {
			name := table + "." + c[0]
			if except[name] != "" {
				delete(except, name)
				continue
			}
			tried += f.alter(table, c[0], c[1])
		}
	}
	require.Empty(t, except, "columns that are gone")
	require.Greater(t, tried, 300)
	t.Logf("%d alterations found, %d refused by the database", tried, f.refused)
	f.honest()
}

// alter lies in one column of a few rows, and reports in how many the database let
// it. Of a grant that no cabinet took nobody else has a word.
func (f *forger) alter(table, column, typ string) (altered int) {
	where := column + ` IS NOT NULL`
	if table == "swap" {
		where += ` AND NOT by_fact AND outcome IS DISTINCT FROM 'not_started'`
	}
	for _, place := range f.rows(table, where, 4) {
		for _, lie := range lies(table, column, typ) {
			if back := f.spoil(table, place, fmt.Sprintf(`UPDATE %s x SET %s = %s WHERE ctid = '%s'`, table, column, lie, place)); back != nil {
				if len(f.found()) == 0 {
					f.t.Errorf("not found: %s.%s = %s at %s", table, column, lie, place)
				}
				back()
				altered++
				break
			}
		}
	}
	return altered
}

// TestAuditFindsWhatWasDeletedByHand: rows of every audited table but evidence
// that came late, of which nothing else tells.
func TestAuditFindsWhatWasDeletedByHand(t *testing.T) {
	t.Parallel()
	f := &forger{deck: eventful(t)}
	tried := 0
	for table := range f.honest().Examined {
		where := `true`
		switch table {
		case "late_batch":
			continue
		case "cabinet_cursor":
			where = `last_seq > 0`
		case "rider":
			where = `deposits > 0`
		}
		for _, place := range f.rows(table, where, 6) {
			back := f.spoil(table, place, fmt.Sprintf(`DELETE FROM %s WHERE ctid = '%s'`, table, place))
			require.NotNil(t, back)
			tried++
			require.NotEmpty(t, f.found(), "%s at %s", table, place)
			back()
		}
	}
	require.Greater(t, tried, 50)
	f.honest()
}

// TestAuditFindsWhatWasInsertedByHand: a copy of a row under another name.
func TestAuditFindsWhatWasInsertedByHand(t *testing.T) {
	t.Parallel()
	f := &forger{deck: eventful(t)}
	names := map[string]string{
		"ledger": `swap_id`, "rider": `rider_id`, "day_count": `day`, "credit": `credit_id`, "battery": `battery_serial`, "swap": `swap_id`,
		"review": `seq`, "log_batch": `upto_seq`, "late_batch": `digest`, "record": `seq`, "cabinet_epoch": `epoch`,
		"counted_take": `position`, "counted_cabinet": `street`, "counted_rider": `platform`, "hour_count": `day`, "cabinet_count": `day`, "rider_count": `counted_rider_id`,
	}
	fresh := map[string]string{
		"swap_id": `gen_random_uuid()`, "rider_id": `gen_random_uuid()`, "credit_id": `gen_random_uuid()`, "day": `day + 1`, "battery_serial": `'FORGED'`,
		"seq": `seq + 1000`, "upto_seq": `upto_seq + 1000`, "digest": `sha256(digest)`, "epoch": `epoch`, "position": `position + 1000`, "review_id": ``, "nonce": `NULL`,
		"street": `'Forged street'`, "platform": `'forged'`, "counted_rider_id": `counted_rider_id + 1000`,
	}
	fresh["digest"] = `substr(sha256(digest), 1, 16)`
	for table, name := range names {
		where := `true`
		switch table {
		case "rider":
			where = `deposits > 0` // one without counts is a person, and no forgery
		case "cabinet_epoch":
			where = `state = 'current'`
		case "swap":
			where = `state = 'closed' AND outcome <> 'not_started'`
		}
		var into, from []string
		for _, c := range f.columns(table) {
			if c[0] == "position" && table == "ledger" || c[0] == table+"_id" && name != c[0] || c[0] == "review_id" && table == "review" {
				continue
			}
			into = append(into, c[0])
			switch {
			case c[0] == name && table == "cabinet_epoch":
				from = append(from, `set_byte(epoch, 0, 7)::bytes16`)
			case c[0] == name:
				from = append(from, fresh[name])
			case c[0] == "nonce", c[0] == "state" && table == "cabinet_epoch":
				from = append(from, map[string]string{"nonce": `set_byte(nonce, 0, get_byte(nonce, 0) # 1)`, "state": `'current'`}[c[0]])
			case c[0] == "cabinet_id" && table == "cabinet_epoch":
				from = append(from, `'hb-none'`)
			default:
				from = append(from, c[0])
			}
		}
		tried := 0
		for _, place := range f.rows(table, where, 3) {
			sql := fmt.Sprintf(`INSERT INTO %[1]s (%[2]s) SELECT %[3]s FROM %[1]s WHERE ctid = '%[4]s'`, table, join(into), join(from), place)
			back := f.spoil(table, place, sql)
			if back == nil {
				continue
			}
			tried++
			require.NotEmpty(t, f.found(), "%s like %s", table, place)
			back()
		}
		require.Positive(t, tried, table)
	}
	f.honest()
}

func join(names []string) string {
	out := ""
	for i, n := range names {
		if i > 0 {
			out += ", "
		}
		out += n
	}
	return out
}

// TestAuditNamesTheAlteredRecord: one bit of a stored message.
func TestAuditNamesTheAlteredRecord(t *testing.T) {
	t.Parallel()
	f := &forger{deck: eventful(t)}
	place := f.rows("log_batch", `cabinet_id = 'hb-0001'`, 2)[0]
	back := f.spoil("log_batch", place, fmt.Sprintf(`UPDATE log_batch SET envelope = set_byte(envelope, 200, get_byte(envelope, 200) # 4) WHERE ctid = '%s'`, place))
	require.NotNil(t, back)
	found := f.found()
	require.True(t, slices.ContainsFunc(found, func(d postgres.Difference) bool { return d.What == "log_batch" }), "%v", found)
	back()
	f.honest()
}

package postgres_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	simulated "batteryswap/backend/internal/memory"
	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// twin does everything twice: in the database and in memory.
type twin struct {
	*rapid.T
	d        *deck
	k        *desk
	m        *memory
	cabinets []*cabinet
	riders   []swap.RiderID
	grants   []*protocol.Grant
	swaps    []protocol.SwapID
	serials  []protocol.BatterySerial
	n        int
	backup   string // of the database, "" none
	saved    *memory
	third    *third // nil: staff decide, which it does not know
	kept     *simulated.Backup
}

// TestMemoryIsPostgres: random acts in both, and in half of the runs in the store
// of simulations, too, with equal answers, and equal books whenever they are looked
// at.
func TestMemoryIsPostgres(t *testing.T) {
	t.Parallel()
	require.NoError(t, quickRapid())
	rapid.Check(t, func(rt *rapid.T) {
		w := newTwin(t, rt, rapid.Bool().Draw(rt, "the store of simulations, too"))
		defer w.k.Close()
		acts := map[string]func(*rapid.T){
			"scan": w.scan, "prepared": w.prepared, "course": w.course, "lie": w.lie, "send": w.send, "again": w.send, "hello": w.hello,
			"credit": w.credit, "assign": w.assign, "restore": w.restore, "look": func(*rapid.T) { w.compare() },
		}
		if w.third == nil {
			acts["silence"], acts["decide"], acts["hardship"], acts["maintain"] = w.silence, w.decide, w.hardship, w.maintain
		}
		rt.Repeat(acts)
		for _, c := range w.cabinets {
			w.deliver(c, 1, len(c.raws))
		}
		w.compare()
		rep, err := w.d.store.Audit(context.Background())
		require.NoError(rt, err)
		require.Empty(rt, rep.Differences)
	})
}

func newTwin(t *testing.T, rt *rapid.T, three bool) *twin {
	w := &twin{T: rt, d: newDeck(oneOf{t, rt}), m: newMemory(), riders: []swap.RiderID{alice, bob}}
	w.k = w.d.desk(w.d.store)
	if three {
		w.third = newThird(w.d)
		for _, r := range w.riders {
			w.third.AddRider(r)
		}
	}
	for _, r := range w.riders {
		w.m.Riders[r] = &swap.Rider{RiderID: r, Active: true}
		w.give(protocol.BatterySerial("OWN-"+string(r[len(r)-1])), swap.Place{RiderID: r})
	}
	for _, id := range []protocol.CabinetID{"hb-0001", "hb-0002"} {
		seed := sha256.Sum256([]byte(id))
		c := &cabinet{d: w.d, id: id, key: ed25519.NewKeyFromSeed(seed[:]), serials: map[int]protocol.BatterySerial{}}
		require.NoError(rt, w.d.store.EnrolCabinet(context.Background(), postgres.Enrolment{
			CabinetID: id, DeviceKey: c.key.Public().(ed25519.PublicKey), Slots: 12, Station: "s", Street: "s",
		}))
		w.m.Cabinets[id] = &swap.Cabinet{CabinetID: id, Slots: 12, EnrolledAt: time.Now(), Hashes: map[uint64]protocol.Hash{}}
		if three {
			require.NoError(rt, w.third.Enrol(time.Now(), id, 12))
		}
		for _, slot := range []int{7, 8} {
			c.serials[slot] = protocol.BatterySerial(fmt.Sprintf("%s-%d", id, slot))
			w.give(c.serials[slot], swap.Place{CabinetID: id, Slot: slot})
		}
		c.format(1)
		w.cabinets = append(w.cabinets, c)
		w.greet(c)
	}
	return w
}

// give imports a battery and assigns it, in both.
func (w *twin) give(serial protocol.BatterySerial, to swap.Place) {
	w.d.battery(serial, to)
	w.serials = append(w.serials, serial)
	act := w.act()
	if w.third != nil {
		w.third.ids = []protocol.SwapID{w.actBefore(act), act}
		require.NoError(w.T, w.third.Assign(time.Now(), serial, to))
	}
	w.m.Import(w.actBefore(act), 1, serial, "60V20Ah", swap.Now(time.Now()))
	require.NoError(w.T, w.m.Assign(act, serial, to, swap.Now(time.Now())))
	w.m.keep()
}

// act is the identifier that the newest entry of the ledger was given.
func (w *twin) act() protocol.SwapID {
	return query[protocol.SwapID](w.d, `SELECT swap_id::text FROM ledger ORDER BY position DESC LIMIT 1`)
}

func (w *twin) actBefore(id protocol.SwapID) protocol.SwapID {
	return query[protocol.SwapID](w.d, `SELECT swap_id::text FROM ledger WHERE swap_id <> $1 ORDER BY position DESC LIMIT 1`, string(id))
}

func (w *twin) recovering() bool {
	return query[bool](w.d, `SELECT recovering_since IS NOT NULL FROM fleet`)
}

func (w *twin) anyCabinet() *cabinet {
	return w.cabinets[rapid.IntRange(0, len(w.cabinets)-1).Draw(w.T, "cabinet")]
}

func (w *twin) anyRider() swap.RiderID { return rapid.SampledFrom(w.riders).Draw(w.T, "rider") }
func (w *twin) rarely(what string) bool {
	return rapid.IntRange(0, 5).Draw(w.T, what) == 5
}

func (w *twin) scan(*rapid.T) {
	c, r := w.anyCabinet(), w.anyRider()
	w.n++
	scan := swap.Scan{RiderID: r, CabinetID: c.id, HandBack: w.rarely("hand back"), IdempotencyKey: fmt.Sprint(w.n)}
	recovering := w.recovering()
	v, p, no, err := w.d.store.Request(context.Background(), scan)
	require.NoError(w.T, err)
	id := v.SwapID
	if no != nil {
		id = "019a0000-0000-7000-8000-000000000000"
	}
	s, refused := w.m.Request(scan, id, cmp0(v.StartedAt), recovering)
	w.m.keep()
	require.Equal(w.T, refused, no)
	w.thirdRequest(id, scan, cmp0(v.StartedAt), no)
	if no != nil {
		return
	}
	require.Equal(w.T, s.Kind, v.Kind)
	w.swaps = append(w.swaps, id)
	if w.rarely("prepare is lost") {
		return
	}
	w.grant(c, c.prepared(p), w.rarely("refused"))
}

// cmp0 is the database's moment, or now.
func cmp0(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}

func (w *twin) grant(c *cabinet, m protocol.Prepared, refuse bool) {
	if refuse {
		no := protocol.Refused{SwapID: m.SwapID, Reason: protocol.ReasonBusy}
		require.NoError(w.T, w.d.store.Refused(context.Background(), c.id, no))
		if w.third != nil {
			w.third.Refused(time.Now(), c.id, no)
		}
		w.m.Refuse(w.m.Cabinets[c.id], no, time.Now())
		w.m.keep()
		return
	}
	recovering := w.recovering()
	g, err := w.d.store.Prepared(context.Background(), c.id, m)
	require.NoError(w.T, err)
	at := time.Now()
	if s := w.m.Swaps[m.SwapID]; s != nil && g == nil && s.State == swap.StateRequested && at.Sub(s.RequestedAt) > 4*time.Second {
		at = s.RequestedAt.Add(time.Minute) // the machine was slow: it was too late for both
	} else if s != nil {
		at = s.RequestedAt.Add(time.Second)
	}
	ref := protocol.RiderRef("")
	if s := w.m.Swaps[m.SwapID]; s != nil {
		ref = riderRef(c.id, s.RiderID)
	}
	want, _ := w.m.Grant(w.m.Cabinets[c.id], m, ref, at, recovering)
	w.m.keep()
	require.Equal(w.T, want, g)
	w.thirdPrepared(c, m, at, g)
	if g != nil {
		w.grants = append(w.grants, g)
	}
}

// prepared is an answer to any swap, again or for the first time.
func (w *twin) prepared(*rapid.T) {
	if len(w.swaps) == 0 {
		return
	}
	s := w.m.Swaps[rapid.SampledFrom(w.swaps).Draw(w.T, "swap")]
	if s == nil || time.Since(s.RequestedAt) > 3*time.Second && time.Since(s.RequestedAt) < 7*time.Second {
		return
	}
	c := w.anyCabinet()
	w.grant(c, c.prepared(&protocol.Prepare{SwapID: s.SwapID, Kind: s.Kind}), false)
}

// course writes what may happen with a grant, honest or not.
func (w *twin) course(*rapid.T) {
	if len(w.grants) == 0 {
		return
	}
	g := rapid.SampledFrom(w.grants).Draw(w.T, "grant")
	c := w.cabinets[slices.IndexFunc(w.cabinets, func(c *cabinet) bool { return c.id == w.m.Swaps[g.SwapID].CabinetID })]
	if w.rarely("void") {
		c.write(protocol.Void{SwapID: g.SwapID})
		return
	}
	c.accept(g)
	end := protocol.Closed{SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeNoDeposit}
	if g.Kind.Deposits() {
		end.Deposited, end.DepositSlot = rapid.SampledFrom(g.ExpectSerials).Draw(w.T, "puts in"), g.DepositSlots[0]
		c.deposit(g, end.Deposited)
		end.Outcome = map[protocol.Kind]protocol.Outcome{protocol.KindSwap: protocol.OutcomeDepositedOwed, protocol.KindHandBack: protocol.OutcomeHandedBack}[g.Kind]
	}
	takes := map[protocol.Kind][2]protocol.Outcome{
		protocol.KindSwap: {protocol.OutcomeSwapped, protocol.OutcomeDepositedOwed}, protocol.KindOwed: {protocol.OutcomeOwedTaken, protocol.OutcomeOwedNotTaken},
		protocol.KindIssue: {protocol.OutcomeIssued, protocol.OutcomeIssueNotTaken},
	}
	if g.Kind.Dispenses() {
		end.Outcome = takes[g.Kind][1]
		if !w.rarely("does not take") {
			o := c.take(g)
			end.TakeSlot, end.Taken, end.Outcome = o.Slot, o.BatterySerial, takes[g.Kind][0]
		}
	}
	switch rapid.IntRange(0, 6).Draw(w.T, "end") {
	case 0:
		c.reboot()
	case 1:
		end.Outcome, end.Reason = protocol.OutcomeReview, protocol.ReasonInventoryDiffers
		end.Explanations = []protocol.Outcome{protocol.OutcomeSwapped, protocol.OutcomeReturned}
	case 2:
		return
	}
	c.write(end)
}

// lie is any record about any swap.
func (w *twin) lie(*rapid.T) {
	if rapid.IntRange(0, 2).Draw(w.T, "lie") > 0 {
		return
	}
	c := w.anyCabinet()
	id := protocol.SwapID(fmt.Sprintf("019a0000-0000-7000-8000-%012x", rapid.IntRange(1, 3).Draw(w.T, "unknown")))
	if len(w.swaps) > 0 && !w.rarely("unknown swap") {
		id = rapid.SampledFrom(w.swaps).Draw(w.T, "swap")
	}
	slot, serial := rapid.IntRange(3, 8).Draw(w.T, "slot"), rapid.SampledFrom(append(w.serials, "FOREIGN")).Draw(w.T, "serial")
	kind := rapid.SampledFrom([]protocol.Kind{protocol.KindSwap, protocol.KindOwed, protocol.KindIssue, protocol.KindHandBack}).Draw(w.T, "kind")
	outcome := rapid.SampledFrom([]protocol.Outcome{
		protocol.OutcomeNoDeposit, protocol.OutcomeSwapped, protocol.OutcomeReturned, protocol.OutcomeDepositedOwed, protocol.OutcomeOwedTaken, protocol.OutcomeReview,
	}).Draw(w.T, "outcome")
	switch rapid.IntRange(0, 6).Draw(w.T, "type") {
	case 0:
		c.write(protocol.Accept{SwapID: id, Kind: kind})
	case 1:
		c.write(protocol.Intent{SwapID: id, Slot: slot, Purpose: protocol.PurposeDispense, BatterySerial: serial})
	case 2:
		c.write(protocol.Deposit{SwapID: id, Slot: slot, Battery: protocol.Battery{BatterySerial: serial}, Accepted: !w.rarely("refused")})
	case 3:
		c.write(protocol.Taken{SwapID: id, Slot: slot, BatterySerial: serial})
	case 4:
		c.write(protocol.Void{SwapID: id})
	case 5:
		c.raw(protocol.RecordTaken, []byte("{"))
	case 6:
		c.write(protocol.Closed{SwapID: id, Kind: kind, Outcome: outcome, Deposited: serial, DepositSlot: slot, Taken: serial, TakeSlot: slot})
	}
}

// maintain is a technician's visit, honest or not.
func (w *twin) maintain(*rapid.T) {
	if !w.rarely("maintain") {
		return
	}
	w.n++
	var changes []protocol.Change
	for range rapid.IntRange(0, 3).Draw(w.T, "changes") {
		c := protocol.Change{Slot: rapid.IntRange(3, 8).Draw(w.T, "slot"), Forced: w.rarely("forced")}
		serials := append(w.serials, "FOREIGN", "FOREIGN-2", "")
		c.Removed, c.Added = rapid.SampledFrom(serials).Draw(w.T, "removed"), rapid.SampledFrom(serials).Draw(w.T, "added")
		changes = append(changes, c)
	}
	slices.SortFunc(changes, func(a, b protocol.Change) int { return a.Slot - b.Slot })
	w.anyCabinet().maintained(orderID(w.n), changes...)
}

// send delivers any part of a log: again, from any earlier record, or with a gap.
func (w *twin) send(*rapid.T) {
	c := w.anyCabinet()
	n := len(c.raws)
	from := rapid.IntRange(max(1, int(w.m.Cabinets[c.id].LastSeq)-5), n).Draw(w.T, "from")
	if !w.rarely("not in order") {
		from = min(int(w.m.Cabinets[c.id].LastSeq)+1, n)
	}
	w.deliver(c, from, rapid.IntRange(from, n).Draw(w.T, "to"))
}

// deliver sends records, and demands the same answer of both.
func (w *twin) deliver(c *cabinet, from, to int) {
	for ; from <= to; from += protocol.MaxLogRecords {
		b := c.log(from, min(to, from+protocol.MaxLogRecords-1))
		w.k.mu.Lock()
		delete(w.k.acks, c.id)
		w.k.mu.Unlock()
		require.True(w.T, w.k.Submit(b))
		w.k.until(func() bool { _, came := w.k.acks[c.id]; return came })
		ack := w.k.ack(c.id)
		rs, err := swap.DecodeLog(b.Log)
		require.NoError(w.T, err)
		mc := w.m.Cabinets[c.id]
		w.lost(c, mc, rs)
		stored, v := w.m.Ingest(mc, b.Log.Epoch, rs, swap.Receipt{At: time.Now(), MonoMS: b.Log.MonoMS, BootSeq: b.Log.BootSeq})
		if len(stored) > 0 { // what is nothing new is not written down
			mc.HeardAt = time.Now()
		}
		for _, s := range stored {
			mc.Hashes[s.Record.Seq] = s.Hash
		}
		w.m.Lost = map[protocol.SwapID]swap.LostGrant{}
		w.m.keep()
		want := protocol.LogAck{Epoch: mc.Epoch, UptoSeq: mc.LastSeq, HashAtUpto: mc.LastHash}
		if v == swap.Gap {
			want.ResendFrom = mc.LastSeq + 1
		}
		require.Equal(w.T, want, ack)
		w.thirdIngest(c, b.Log, ack)
	}
}

// lost are grants that a restored database does not have, as the store finds them.
func (w *twin) lost(c *cabinet, mc *swap.Cabinet, rs []swap.Record) {
	for _, r := range rs {
		a, ok := r.Body.(protocol.Accept)
		if have := w.m.Swaps[a.SwapID]; !ok || r.Seq <= mc.LastSeq || have != nil && have.Nonce == a.Nonce {
			continue
		}
		g, err := w.d.openGrant(c.id, a.Grant)
		if err != nil || g.SwapID != a.SwapID || g.Nonce != a.Nonce || g.Kind != a.Kind {
			continue
		}
		l := swap.LostGrant{Grant: g}
		for _, r := range w.riders {
			if riderRef(c.id, r) == g.RiderRef {
				l.RiderID = r
			}
		}
		w.m.Lost[a.SwapID] = l
	}
}

func (w *twin) hello(*rapid.T) { w.greet(w.anyCabinet()) }

func (w *twin) greet(c *cabinet) {
	m := c.helloMessage()
	ok, err := w.d.store.Hello(context.Background(), c.id, m)
	mc := w.m.Cabinets[c.id]
	if mc.Epoch.IsZero() {
		w.m.EnterEpoch(mc, m.Epoch)
	}
	w.thirdHello(c, m, ok, err)
	greeting := w.m.Hello(mc, m, swap.Now(time.Now()))
	w.m.keep()
	if greeting == swap.Old {
		require.ErrorIs(w.T, err, postgres.ErrOld)
		return
	}
	require.NoError(w.T, err)
	mc.HeardAt = time.Now()
	require.Equal(w.T, protocol.VerdictResume, ok.Verdict)
	require.Equal(w.T, mc.LastSeq+1, ok.ResumeSeq)
}

// silence makes a cabinet one that has not been heard for an hour.
func (w *twin) silence(*rapid.T) {
	c := w.anyCabinet()
	require.NoError(w.T, w.d.exec(`UPDATE cabinet_cursor SET heard_at = now() - interval '1 hour' WHERE cabinet_id = $1`, string(c.id)))
	w.m.Cabinets[c.id].HeardAt = time.Now().Add(-time.Hour)
	for _, id := range w.swaps {
		s := w.m.Swaps[id]
		if s == nil || s.CabinetID != c.id || !w.rarely("moved to review") {
			continue
		}
		err := w.d.store.MoveToReview(context.Background(), id)
		want := w.m.MoveToReview(w.m.Cabinets[c.id], s, nil, swap.Now(time.Now()))
		w.m.keep()
		require.Equal(w.T, want == nil, err == nil, "%v, %v", want, err)
	}
}

func (w *twin) decide(*rapid.T) {
	if len(w.m.reviews) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.m.reviews)-1).Draw(w.T, "review")
	d := ruled(w.reviewID(i), rapid.SampledFrom(swap.Rulings()).Draw(w.T, "ruling"))
	if w.rarely("named") {
		d.Taken = rapid.SampledFrom(w.serials).Draw(w.T, "taken")
		d.Deposited = rapid.SampledFrom(w.serials).Draw(w.T, "deposited")
	}
	err := w.d.store.DecideReview(context.Background(), d)
	act := protocol.SwapID("")
	if err == nil {
		act = w.act()
	}
	d.ReviewID = int64(i + 1)
	want := w.m.Decide(w.m.caseOf(i, act), d, swap.Now(time.Now()))
	w.m.keep()
	w.sameError(want, err)
}

// reviewID is what the database calls the review that memory counts as i: a
// transaction that is run again leaves out a number.
func (w *twin) reviewID(i int) int64 {
	return query[int64](w.d, `SELECT review_id FROM review ORDER BY review_id OFFSET $1 LIMIT 1`, i)
}

// sameError: both agree, in the same words but for times.
func (w *twin) sameError(want, have error) {
	require.Equal(w.T, want == nil, have == nil, "memory: %v, database: %v", want, have)
	var first, second *swap.AlreadyDecided
	if errors.As(want, &first) {
		require.ErrorAs(w.T, have, &second)
		require.Equal(w.T, first.Decision, second.Decision)
		return
	}
	if want != nil {
		_, words, _ := strings.Cut(want.Error(), ": ")
		require.Contains(w.T, have.Error(), words, "memory: %v", want)
	}
}

func (w *twin) hardship(*rapid.T) {
	if len(w.m.reviews) == 0 || !w.rarely("hardship") {
		return
	}
	i := rapid.IntRange(0, len(w.m.reviews)-1).Draw(w.T, "review")
	err := w.d.store.Hardship(context.Background(), w.reviewID(i), "wei")
	act := protocol.SwapID("")
	if err == nil {
		act = w.act()
	}
	want := w.m.Hardship(w.m.caseOf(i, act), "wei", swap.Now(time.Now()))
	w.m.keep()
	w.sameError(want, err)
}

func (w *twin) credit(*rapid.T) {
	if !w.rarely("credit") {
		return
	}
	r := w.anyRider()
	require.NoError(w.T, w.d.store.StaffCredit(context.Background(), r))
	require.NoError(w.T, w.m.StaffCredit(w.act(), r, swap.Now(time.Now())))
	if w.third != nil {
		w.third.ids = []protocol.SwapID{w.act()}
		require.NoError(w.T, w.third.StaffCredit(time.Now(), r))
	}
	w.m.keep()
}

func (w *twin) assign(*rapid.T) {
	if !w.rarely("assign") {
		return
	}
	serial := rapid.SampledFrom(w.serials).Draw(w.T, "serial")
	to := swap.Place{}
	switch rapid.IntRange(0, 2).Draw(w.T, "to") {
	case 0:
		to.RiderID = w.anyRider()
	case 1:
		to.CabinetID, to.Slot = w.anyCabinet().id, rapid.IntRange(3, 8).Draw(w.T, "slot")
	}
	err := w.d.store.AssignBattery(context.Background(), serial, to)
	act := protocol.SwapID("")
	if err == nil {
		act = w.act()
	}
	want := w.m.Assign(act, serial, to, swap.Now(time.Now()))
	w.m.keep()
	if w.third != nil {
		w.third.ids = []protocol.SwapID{"019a0000-0000-7000-8000-000000000000", act} // the battery is known
		w.sameError(w.third.Assign(time.Now(), serial, to), err)
	}
	w.sameError(want, err)
}

// restore takes a backup, and later goes back to it.
func (w *twin) restore(*rapid.T) {
	if !w.rarely("restore") || !w.rarely("really") {
		return
	}
	w.k.Close()
	if w.backup == "" {
		w.backup, w.saved = w.d.backup(), w.m.clone()
		if w.third != nil {
			w.kept = w.third.Backup()
		}
	} else {
		w.d.restore(w.backup)
		w.m, w.backup, w.saved = w.saved, "", nil
		if w.third != nil {
			w.third.Restore(w.kept)
		}
		w.grants = slices.DeleteFunc(w.grants, func(g *protocol.Grant) bool { return w.m.Swaps[g.SwapID] == nil })
	}
	w.k = w.d.desk(w.d.store)
}

// compare holds all rows of the database against memory.
func (w *twin) compare() {
	have := w.d.facts(w.T)
	w.same("memory", w.m.facts(), have)
	if w.third != nil {
		w.same("the store of simulations", w.third.facts(), have)
	}
}

func (w *twin) same(whose string, want, have map[string]string) {
	for key, v := range want {
		require.Equal(w.T, v, have[key], "%s (%s, then database)", key, whose)
	}
	for key, v := range have {
		require.Contains(w.T, want, key, "%s: the database has %s", whose, v)
	}
}

// facts are the rows of the database as memory words them.
func (d *deck) facts(t require.TestingT) map[string]string {
	out := map[string]string{}
	read := func(sql string, row func(pgx.Rows) (string, string, error)) {
		rows, err := d.direct().Query(context.Background(), sql)
		require.NoError(t, err)
		for rows.Next() {
			k, v, err := row(rows)
			require.NoError(t, err)
			out[k] = v
		}
		require.NoError(t, rows.Err())
	}
	words := func(r pgx.Rows) (k, v string, err error) { return k, v, r.Scan(&k, &v) }
	bare := func(s string) string { return `coalesce(` + s + `::text, '')` }
	format := func(fields ...string) string { return strings.Join(fields, ` || ' ' || `) }
	read(`SELECT 'rider ' || rider_id, '[' || concat_ws(' ', deposits, returns, takes, counted, issued, credits_due, open_reviews) || ']' FROM rider`, words)
	read(`SELECT 'credit ' || credit_id, `+format("rider_id", "origin", "state", bare("swap_id"))+` FROM credit`, words)
	read(`SELECT 'battery ' || battery_serial, `+format("holder", bare("rider_id"), bare("cabinet_id"), "coalesce(slot, 0)", `'[' || array_to_string(ahead_of, ' ') || ']'`, "entries")+` FROM battery`, words)
	boolean := func(c string) string { return `CASE WHEN ` + c + ` THEN 'true' ELSE 'false' END` }
	list := func(c string) string {
		return `'[' || coalesce((SELECT string_agg(x, ' ' ORDER BY n) FROM jsonb_array_elements_text(` + c + `) WITH ORDINALITY AS t(x, n)), '') || ']'`
	}
	read(`SELECT 'swap ' || swap_id, `+format("cabinet_id", bare("rider_id"), bare("kind"), "state", boolean("by_fact"), boolean("parked"), bare("credit_id"), "step", "slot",
		bare("judgement"), "deposit_slot", bare("deposited"), list("pulsed"), "take_slot", bare("taken"), bare("outcome"), bare("reason"), bare("reviewed"), bare("ruling"), "entries")+` FROM swap`, words)
	read(`SELECT 'review ' || row_number() OVER (ORDER BY review_id), `+format(bare("swap_id"), "cabinet_id", bare("rider_id"), "reason", `'[' || array_to_string(explanations, ' ') || ']'`, "seq",
		`coalesce(decision || ' ' || decided_by, '')`)+` FROM review`, words)
	read(`SELECT 'day ' || concat_ws(' ', rider_id, cabinet_id, day), swaps::text FROM day_count`, words)
	read(`SELECT 'cabinet ' || cabinet_id, `+format("encode(epoch, 'hex')", "last_seq", "encode(coalesce(last_hash, decode(repeat('00', 16), 'hex')), 'hex')", boolean("hole"), boolean("forked"), "boot_seq")+` FROM cabinet_cursor`, words)
	read(`SELECT 'entry ' || swap_id || ' ' || entry_no, `+format("what", bare("kind"), bare("rider_id"), bare("cabinet_id"), "coalesce(slot, 0)", bare("battery_serial"), bare("credit_id"), bare("origin"),
		boolean("counted"), bare("day"), boolean("derived"), bare("holder"), "(SELECT count(*) FROM review v WHERE v.review_id <= ledger.review_id)", bare("ruling"), bare("ground"), bare("decided_by"),
		"encode(coalesce(epoch, decode(repeat('00', 16), 'hex')), 'hex')", "coalesce(seq, 0)",
		`CASE WHEN seq IS NULL THEN '' ELSE rtrim(rtrim(to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.US'), '0'), '.') || 'Z' END`)+` FROM ledger`, words)
	return out
}

package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

func TestRepeatedReorderedAndMissing(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	d.battery("OWN", swap.Place{RiderID: alice})
	g := c.granted(alice, false)
	c.swapped(g, "OWN")
	n := len(c.raws)

	require.True(t, k.Submit(c.log(4, n)))
	k.until(func() bool { return k.acks[c.id].ResendFrom == 1 })
	require.Equal(t, protocol.LogAck{Epoch: c.epoch, ResendFrom: 1}, k.ack(c.id))
	require.True(t, query[bool](d, `SELECT recovering_since IS NOT NULL FROM fleet`), "an agent goes on only from what was acknowledged")

	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		from := 1 + r.IntN(n)
		require.True(t, k.Submit(c.log(from, from+r.IntN(n-from+1))))
	}
	k.sends(c)
	require.Equal(t, int64(n), query[int64](d, `SELECT count(*) FROM record`))
	require.Equal(t, 1, d.account(alice).Counted)

	before := query[int64](d, `SELECT count(*) FROM log_batch`)
	require.True(t, k.Submit(c.log(1, 2)))
	k.until(func() bool { return k.acks[c.id].UptoSeq == uint64(n) })
	require.True(t, k.Submit(c.log(n, n)))
	k.sends(c)
	require.Equal(t, before, query[int64](d, `SELECT count(*) FROM log_batch`), "nothing new, nothing stored")
}

func TestForkStopsTheEpoch(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	good := d.cabinet("hb-0002")
	k := d.desk(d.store)
	c.write(protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2})
	k.sends(c)
	c.raws, c.hashes = c.raws[:2], c.hashes[:2]
	c.write(protocol.Tamper{Slot: 5}, protocol.Tamper{Slot: 6})
	require.True(t, k.Submit(c.log(3, 3)))
	good.write(protocol.Tamper{Slot: 1})
	k.sends(good)
	k.until(func() bool { return k.asked[c.id].Validate() == nil })
	require.Equal(t, "epoch_replaced", query[string](d, `SELECT reason FROM review`))
	require.Equal(t, protocol.VerdictNewEpoch, c.hello().Verdict)
	_, _, no, err := d.store.Request(t.Context(), swap.Scan{RiderID: alice, CabinetID: c.id, IdempotencyKey: "k"})
	require.NoError(t, err)
	require.Equal(t, protocol.ReasonOutOfService, no.Reason)
	require.True(t, k.Submit(c.log(3, 4)))
	k.until(func() bool { return k.rejected[c.id] == 2 })
	require.Equal(t, int64(1), query[int64](d, `SELECT count(*) FROM review`))
	d.honest()
}

func TestOneTransactionForManyCabinets(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	k := d.desk(d.store)
	var cs []*cabinet
	for i := range 12 {
		c := d.cabinet(protocol.CabinetID(fmt.Sprintf("hb-%04d", i+1)))
		r, err := d.store.AddRider(t.Context(), postgres.NewRider{Name: "R"})
		require.NoError(t, err)
		own := protocol.BatterySerial(fmt.Sprintf("OWN-%d", i))
		d.battery(own, swap.Place{RiderID: r})
		c.swapped(c.granted(r, false), own)
		cs = append(cs, c)
	}
	for _, c := range cs {
		require.True(t, k.Submit(c.log(1, len(c.raws))))
	}
	for _, c := range cs {
		k.sends(c)
	}
	rep := d.honest()
	counted := 0
	for _, r := range rep.Riders {
		counted += r.Counted
	}
	require.Equal(t, 12, counted)
	require.Equal(t, query[int64](d, `SELECT count(*) FROM record`), rep.Records)
}

// TestABadCabinetIsTakenOut makes the database itself refuse one cabinet's rows:
// the rest of its group is committed all the same.
func TestABadCabinetIsTakenOut(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	bad, good := d.cabinet("hb-0001"), d.cabinet("hb-0002")
	require.NoError(t, d.exec(`ALTER TABLE record ADD CONSTRAINT spoilt CHECK (cabinet_id <> 'hb-0001' OR seq < 3)`))
	for _, c := range []*cabinet{bad, good} {
		c.write(protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2}, protocol.Tamper{Slot: 3})
	}
	k := d.desk(d.store)
	for range 20 {
		require.True(t, k.Submit(bad.log(1, 4)))
		require.True(t, k.Submit(good.log(1, 4)))
	}
	k.until(func() bool { return k.acks[good.id].UptoSeq == 4 && k.rejected[bad.id] > 0 })
	require.Zero(t, k.ack(bad.id).UptoSeq)
	require.NoError(t, d.exec(`ALTER TABLE record DROP CONSTRAINT spoilt`))
	k.sends(bad)
	d.honest()
}

func TestUnknownCabinetAndBrokenChain(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	b := c.log(1, 1)
	b.CabinetID = "hb-0404"
	require.True(t, k.Submit(b))
	k.until(func() bool { return k.rejected["hb-0404"] == 1 })
	c.write(protocol.Tamper{Slot: 1})
	b = c.log(1, 2)
	b.Log.Records = [][]byte{b.Log.Records[0], b.Log.Records[0]}
	require.True(t, k.Submit(b))
	k.until(func() bool { return k.rejected[c.id] == 1 })
	k.sends(c)
}

func TestFullQueueDropsAndCounts(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	dropped := make(chan struct{}, 10000)
	r := postgres.NewRecorder(d.store, postgres.RecorderOptions{
		QueueBatches: 2, Hooks: postgres.Hooks{Dropped: func() { dropped <- struct{}{} }},
	})
	defer r.Close()
	b := c.log(1, 1)
	refused := 0
	for range 5000 {
		if !r.Submit(b) {
			refused++
		}
	}
	require.Positive(t, refused)
	require.Len(t, dropped, refused)
	r.Close()
	require.False(t, r.Submit(b), "closed")
}

// TestCrashAtEveryStatement lets the backend's session die before and after each
// statement of a commit, and within COMMIT itself: nothing of the transaction is
// in the books, and the recorder's next try is exact.
func TestCrashAtEveryStatement(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	d.battery("OWN", swap.Place{RiderID: alice})
	require.NoError(t, d.exec(`CREATE SEQUENCE cut;
		CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF nextval('cut') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); END IF;
			RETURN NULL; END $$`))
	failed := make(chan error, 100)
	r := postgres.NewRecorder(d.store, postgres.RecorderOptions{Hooks: postgres.Hooks{Failed: func(err error) { failed <- err }}})
	defer r.Close()
	own, counted := protocol.BatterySerial("OWN"), 0
	for _, table := range []string{"cabinet_cursor", "rider", "battery", "swap", "ledger", "day_count", "log_batch", "record"} {
		for _, when := range []string{"BEFORE", "AFTER", "COMMIT"} {
			create := fmt.Sprintf(`CREATE TRIGGER die %s INSERT OR UPDATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION die()`, when, table)
			if when == "COMMIT" {
				create = fmt.Sprintf(`CREATE CONSTRAINT TRIGGER die AFTER INSERT OR UPDATE ON %s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()`, table)
			}
			g := c.granted(alice, false)
			own = c.swapped(g, own)
			require.NoError(t, d.exec(create))
			require.NoError(t, d.exec(`SELECT setval('cut', 1, false)`))
			require.True(t, r.Submit(c.log(int(c.acked)+1, len(c.raws))))
			select {
			case err := <-failed:
				require.Error(t, err)
			case <-time.After(patience):
				t.Fatalf("nothing died %s %s", when, table)
			}
			require.Eventually(t, func() bool {
				return query[int64](d, `SELECT last_seq FROM cabinet_cursor`) == int64(len(c.raws))
			}, patience, 5*time.Millisecond)
			require.NoError(t, d.exec(fmt.Sprintf(`DROP TRIGGER die ON %s`, table)))
			counted++
			require.Equal(t, counted, d.account(alice).Counted, "%s %s", when, table)
			c.acked = uint64(len(c.raws))
		}
	}
	x := d.account(alice)
	require.Equal(t, counted, x.Deposits)
	require.Equal(t, int64(counted), query[int64](d, `SELECT sum(swaps) FROM day_count`))
	require.Zero(t, query[int64](d, `SELECT count(*) FROM review`))
}

// TestKilledAtRandom cuts connections at random moments while cabinets send and
// riders scan, and restarts the recorder: whatever was not acknowledged is sent
// again, and every count is exact.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	const enough, most = 10, 60 // sessions killed, swaps
	riders := map[swap.RiderID]*cabinet{}
	for i := range 3 {
		c := d.cabinet(protocol.CabinetID(fmt.Sprintf("hb-%04d", i+1)))
		id, err := d.store.AddRider(t.Context(), postgres.NewRider{Name: "R"})
		require.NoError(t, err)
		d.battery(protocol.BatterySerial(fmt.Sprintf("OWN-%d", i)), swap.Place{RiderID: id})
		riders[id] = c
	}
	killed, stop := d.killer()
	swaps := 0
	for ; killed() <= enough && swaps < most; swaps++ {
		k := d.desk(d.open()) // a restarted backend
		for id, c := range riders {
			v := retried(t, func() (swap.RiderView, error) { return d.store.Rider(t.Context(), id) })
			require.Len(t, v.Batteries, 1)
			g := c.grantedUnderFire(t, k, id)
			c.swapped(g, v.Batteries[0])
			d.sendAll(k, c)
		}
		k.Close()
	}
	stop()
	require.Greater(t, killed(), int64(enough), "sessions killed")
	retried(t, func() (struct{}, error) { return struct{}{}, d.store.Ping(t.Context()) })
	for _, x := range d.honest().Riders {
		if x.RiderID == alice || x.RiderID == bob {
			continue
		}
		require.Equal(t, swaps, x.Counted)
		require.Equal(t, swaps, x.Deposits)
		require.Len(t, x.Batteries, 1)
		require.Zero(t, x.Reviews)
	}
}

// killer ends sessions of the backend until stop is called. killed says how many.
func (d *deck) killer() (killed func() int64, stop func()) {
	r := rand.New(rand.NewPCG(7, 7))
	done, ended := make(chan struct{}), make(chan struct{})
	var n atomic.Int64
	go func() {
		conn, err := pgx.Connect(context.Background(), d.url)
		require.NoError(d.t, err)
		defer close(ended)
		defer conn.Close(context.Background())
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(r.IntN(300)) * time.Millisecond):
				var now int
				require.NoError(d.t, conn.QueryRow(context.Background(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
					WHERE datname = current_database() AND application_name = 'batteryswap'`).Scan(&now))
				n.Add(int64(now))
			}
		}
	}()
	return n.Load, func() { close(done); <-ended }
}

// retried does what a rider or an agent does: it tries again.
func retried[T any](t *testing.T, f func() (T, error)) T {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		v, err := f()
		if err == nil {
			return v
		}
		require.True(t, time.Now().Before(deadline), "%v", err)
	}
}

// grantedUnderFire asks with the same key until it is answered, and prepares
// until it is granted.
func (c *cabinet) grantedUnderFire(t *testing.T, k *desk, r swap.RiderID) *protocol.Grant {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		require.True(t, time.Now().Before(deadline), "no grant")
		c.d.keys++
		scan := swap.Scan{RiderID: r, CabinetID: c.id, IdempotencyKey: fmt.Sprintf("key-%d", c.d.keys)}
		type answer struct {
			p  *protocol.Prepare
			no *swap.Refusal
		}
		a := retried(t, func() (answer, error) {
			_, p, no, err := c.d.store.Request(t.Context(), scan)
			return answer{p, no}, err
		})
		require.Nil(t, a.no)
		g, err := c.d.store.Prepared(t.Context(), c.id, c.prepared(a.p))
		if err == nil && g != nil {
			return g
		}
		// The grant may have been committed and its answer lost: the agent hears
		// nothing and voids.
		c.write(protocol.Void{SwapID: a.p.SwapID})
		c.d.sendAll(k, c)
	}
}

// sendAll sends what is not acknowledged, again and again as an agent does.
func (d *deck) sendAll(k *desk, c *cabinet) {
	d.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for n := len(c.raws); int(c.acked) < n; {
		from := int(c.acked) + 1
		k.Submit(c.log(from, min(from+protocol.MaxLogRecords-1, n)))
		select {
		case <-k.came:
		case <-again.C:
		case <-deadline.C:
			d.t.Fatal("not acknowledged")
		}
		k.mu.Lock()
		c.acked = max(c.acked, k.acks[c.id].UptoSeq)
		k.mu.Unlock()
	}
}

func TestDatabaseAwayAndBack(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	c.write(protocol.Tamper{Slot: 1})
	k.sends(c)
	// Nobody may connect, and who is connected is thrown out: the database is away.
	away := d.refuseConnections()
	c.write(protocol.Tamper{Slot: 2})
	require.True(t, k.Submit(c.log(3, 3)))
	require.Error(t, d.store.Ping(t.Context()))
	away()
	k.sends(c)
	require.NoError(t, d.store.Ping(t.Context()))
	require.Equal(t, uint64(3), c.acked)
}

// refuseConnections throws everybody out and lets nobody in, until back is called.
func (d *deck) refuseConnections() (back func()) {
	name := query[string](d, `SELECT current_database()`)
	require.NoError(d.t, d.conn.Close(context.Background()))
	maintenance := func(sql string) { require.NoError(d.t, execAt(d.url, "postgres", sql)) }
	maintenance(fmt.Sprintf(`ALTER DATABASE "%s" ALLOW_CONNECTIONS false`, name))
	maintenance(fmt.Sprintf(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'`, name))
	return func() { maintenance(fmt.Sprintf(`ALTER DATABASE "%s" ALLOW_CONNECTIONS true`, name)) }
}

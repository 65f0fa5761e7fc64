package postgres_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/postgres/pgtest"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// The figures of one run belong together: each is a ratio against a limit that
// was measured within it (performance.md).

// syncRate is fdatasync calls per second of the disk that the database is on.
func syncRate(b *testing.B) float64 {
	dir := pgtest.Dir()
	if dir == "" {
		dir = b.TempDir()
	}
	f, err := os.Create(filepath.Join(dir, "fdatasync"))
	require.NoError(b, err)
	defer f.Close()
	block := make([]byte, 8192)
	n := 0
	began := time.Now()
	for time.Since(began) < time.Second {
		_, err := f.WriteAt(block, 0)
		require.NoError(b, err)
		require.NoError(b, syscall.Fdatasync(int(f.Fd())))
		n++
	}
	return float64(n) / time.Since(began).Seconds()
}

// commitRate is single-row INSERTs per second, each its own COMMIT, over one
// connection.
func (d *deck) commitRate(b *testing.B) float64 {
	conn, err := pgx.Connect(context.Background(), d.url)
	require.NoError(b, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(context.Background(), `CREATE TABLE IF NOT EXISTS bench (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)`)
	require.NoError(b, err)
	n := 0
	began := time.Now()
	for time.Since(began) < 2*time.Second {
		_, err := conn.Exec(context.Background(), `INSERT INTO bench (v) VALUES ($1)`, "a record of a few words")
		require.NoError(b, err)
		n++
	}
	return float64(n) / time.Since(began).Seconds()
}

func (d *deck) walSyncs() int64 {
	return query[int64](d, `SELECT wal_sync FROM pg_stat_wal`)
}

// courier is a cabinet and the one rider who swaps there.
type courier struct {
	*cabinet
	rider swap.RiderID
	own   protocol.BatterySerial
	left  []postgres.Batch // still to be sent
}

// BenchmarkRecorder measures P1's second and third parts: records committed and
// acknowledged per second against the commits per second of one connection, and
// records per WAL flush. Cabinets send stop-and-wait, each swap in two messages.
func BenchmarkRecorder(b *testing.B) {
	d := newDeck(b)
	const cabinets = 400
	couriers := map[protocol.CabinetID]*courier{}
	for i := range cabinets {
		k := &courier{cabinet: d.cabinet(protocol.CabinetID(fmt.Sprintf("hb-%04d", i))), own: protocol.BatterySerial(fmt.Sprintf("OWN-%d", i))}
		var err error
		k.rider, err = d.store.AddRider(context.Background(), postgres.NewRider{Name: "R"})
		require.NoError(b, err)
		d.battery(k.own, swap.Place{RiderID: k.rider})
		couriers[k.id] = k
	}
	syncs, commits := syncRate(b), d.commitRate(b)
	var flushes, records int64
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		d.nextSwaps(b, couriers)
		before := query[int64](d, `SELECT count(*) FROM record`)
		wal := d.walSyncs()
		b.StartTimer()
		d.flood(b, couriers)
		b.StopTimer()
		flushes += d.walSyncs() - wal
		records += query[int64](d, `SELECT count(*) FROM record`) - before
		b.StartTimer()
	}
	rate := float64(records) / b.Elapsed().Seconds()
	b.ReportMetric(rate, "records/s")
	b.ReportMetric(commits, "commits/s(1conn)")
	b.ReportMetric(rate/commits, "records/commit")
	b.ReportMetric(float64(records)/float64(flushes), "records/flush")
	b.ReportMetric(syncs, "fdatasync/s")
	require.Empty(b, d.honest().Differences)
	require.Zero(b, query[int64](d, `SELECT count(*) FROM review`))
}

// nextSwaps lets each courier do a swap, of which nothing has been sent yet.
func (d *deck) nextSwaps(b *testing.B, couriers map[protocol.CabinetID]*courier) {
	var rows [][]any
	for _, k := range couriers {
		g, row := d.grantedRow(k.cabinet, k.rider)
		rows = append(rows, row)
		from := int(k.acked) + 1
		k.own = k.swapped(g, k.own)
		k.left = []postgres.Batch{k.log(from, from+4), k.log(from+5, len(k.raws))}
		k.acked = uint64(len(k.raws))
	}
	_, err := d.direct().CopyFrom(context.Background(), pgx.Identifier{"swap"}, []string{"swap_id", "cabinet_id", "rider_id", "kind", "state",
		"epoch", "boot_seq", "boot_id", "nonce", "deposit_slots", "dispense", "step", "view_seq", "requested_at", "updated_at"}, pgx.CopyFromRows(rows))
	require.NoError(b, err)
}

// grantedRow is a granted swap and its row as the books hold it: the recorder is
// what is measured, not the grants.
func (d *deck) grantedRow(c *cabinet, r swap.RiderID) (*protocol.Grant, []any) {
	d.keys++
	g := &protocol.Grant{
		SwapID: protocol.SwapID(fmt.Sprintf("019a0000-0000-7000-8000-%012x", d.keys)), Kind: protocol.KindSwap,
		Nonce: protocol.Nonce{byte(d.keys), byte(d.keys >> 8), byte(d.keys >> 16), 1}, BootID: c.bootID(), RiderRef: riderRef(c.id, r),
		ExpectSerials: []protocol.BatterySerial{"ANY"},
	}
	g.DepositSlots, g.Dispense = c.offers(g.Kind)
	now := time.Now()
	return g, []any{string(g.SwapID), string(c.id), string(r), "swap", "granted", c.epoch[:], 1, g.BootID[:], g.Nonce[:],
		g.DepositSlots, g.Dispense, "granted", 1, now, now}
}

// flood sends all that is left, each cabinet its next message when the one before
// is acknowledged.
func (d *deck) flood(b *testing.B, couriers map[protocol.CabinetID]*courier) {
	waiting := len(couriers)
	done, ready := make(chan struct{}), make(chan struct{})
	var r *postgres.Recorder
	send := func(k *courier) {
		require.True(b, r.Submit(k.left[0]))
		k.left = k.left[1:]
	}
	r = postgres.NewRecorder(d.store, postgres.RecorderOptions{Acked: func(id protocol.CabinetID, _ protocol.LogAck) {
		<-ready
		if k := couriers[id]; len(k.left) > 0 {
			send(k)
		} else if waiting--; waiting == 0 {
			close(done)
		}
	}})
	for _, k := range couriers {
		send(k)
	}
	close(ready)
	<-done
	b.StopTimer()
	r.Close()
	b.StartTimer()
}

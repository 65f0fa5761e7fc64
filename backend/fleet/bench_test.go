package fleet

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/protocol"
)

// The benchmarks quote ratios against limits that are measured in the same run,
// on the same broker and the same database.

func quiet(o *Options) { o.Log = slog.New(slog.NewTextHandler(io.Discard, nil)) }

func client(b *testing.B, broker *url.URL, name string) mqtt.Client {
	b.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker.String()).SetClientID(name + rand.Text()).SetOrderMatters(true))
	token := c.Connect()
	require.True(b, token.WaitTimeout(10*time.Second))
	require.NoError(b, token.Error())
	b.Cleanup(func() { c.Disconnect(0) })
	return c
}

func subscribe(b *testing.B, c mqtt.Client, topic string, handle func(mqtt.Message)) {
	b.Helper()
	token := c.Subscribe(topic, 1, func(_ mqtt.Client, m mqtt.Message) { handle(m) })
	require.True(b, token.WaitTimeout(10*time.Second))
	require.NoError(b, token.Error())
}

// echo answers every message to bench/{n}/up on bench/{n}/down: what a backend
// without a database and without signatures would do.
func echo(b *testing.B, broker *url.URL) {
	c := client(b, broker, "echo")
	todo := make(chan string, 10000)
	subscribe(b, c, "bench/+/up", func(m mqtt.Message) { todo <- m.Topic() })
	var wg sync.WaitGroup
	wg.Go(func() {
		answer := make([]byte, 250) // as large as a log_ack
		for topic := range todo {
			c.Publish(strings.TrimSuffix(topic, "up")+"down", 1, false, answer)
		}
	})
	b.Cleanup(func() {
		c.Disconnect(0)
		close(todo)
		wg.Wait()
	})
}

func median(all []time.Duration) time.Duration { return percentile(all, 50) }

func percentile(all []time.Duration, p int) time.Duration {
	s := slices.Clone(all)
	slices.Sort(s)
	return s[min(len(s)-1, len(s)*p/100)]
}

// roundTrips measures messages there and back between two clients, one at a time.
func roundTrips(b *testing.B, broker *url.URL, n int) []time.Duration {
	c := client(b, broker, "ping")
	back := make(chan struct{}, 1)
	subscribe(b, c, "bench/1/down", func(mqtt.Message) { back <- struct{}{} })
	all := make([]time.Duration, n)
	for i := range all {
		began := time.Now()
		c.Publish("bench/1/up", 1, false, make([]byte, 400))
		<-back
		all[i] = time.Since(began)
	}
	return all
}

// commits measures single-row inserts, each its own commit, on one connection.
func commits(b *testing.B, database string, n int) []time.Duration {
	pool, err := pgxpool.New(b.Context(), database)
	require.NoError(b, err)
	defer pool.Close()
	_, err = pool.Exec(b.Context(), `CREATE TABLE IF NOT EXISTS bench (id bigserial PRIMARY KEY, data bytea)`)
	require.NoError(b, err)
	conn, err := pool.Acquire(b.Context())
	require.NoError(b, err)
	defer conn.Release()
	all := make([]time.Duration, n)
	for i := range all {
		began := time.Now()
		_, err := conn.Exec(b.Context(), `INSERT INTO bench (data) VALUES ($1)`, make([]byte, 256))
		require.NoError(b, err)
		all[i] = time.Since(began)
	}
	return all
}

// BenchmarkScanToGrant is goal P3: from the rider's request to the grant's
// arrival at the agent, against two round trips through the broker and two
// commits.
func BenchmarkScanToGrant(b *testing.B) {
	w := newTown(b)
	f := w.start(quiet).ready()
	a := w.cabinet("hb-0001")
	a.hello()
	a.ship()
	p := w.rider(f, "li")
	echo(b, w.broker.url())
	const samples = 500
	trips, writes := roundTrips(b, w.broker.url(), samples), commits(b, w.database, samples)
	var all []time.Duration
	for b.Loop() {
		for len(a.grants) > 0 {
			<-a.grants
		}
		began := time.Now()
		p.scan(f, "hb-0001", 201)
		g := receive(b, a.grants)
		all = append(all, g.at.Sub(began))
		a.write(protocol.Void{SwapID: g.SwapID})
		a.ship()
	}
	trips, writes = append(trips, roundTrips(b, w.broker.url(), samples)...), append(writes, commits(b, w.database, samples)...)
	limit := 2*median(trips) + 2*median(writes)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(median(trips).Microseconds()), "µs/round-trip")
	b.ReportMetric(float64(median(writes).Microseconds()), "µs/commit")
	b.ReportMetric(float64(median(all).Microseconds()), "µs/p50")
	b.ReportMetric(float64(percentile(all, 99).Microseconds()), "µs/p99")
	b.ReportMetric(float64(median(all))/float64(limit), "p50/limit")
	b.ReportMetric(float64(percentile(all, 99))/float64(limit), "p99/limit")
}

const (
	benchCabinets = 128
	benchSeconds  = 5
)

// flood keeps one message of each sender in flight and counts the answers.
func flood(b *testing.B, c mqtt.Client, down string, senders map[string]func() (string, []byte), during time.Duration) float64 {
	b.Helper()
	answered := make(chan string, 2*len(senders))
	subscribe(b, c, down, func(m mqtt.Message) { answered <- m.Topic() })
	defer func() { c.Unsubscribe(down).Wait() }()
	send := func(topic string) bool {
		to, payload := senders[topic]()
		if payload == nil {
			return false
		}
		c.Publish(to, 1, false, payload)
		return true
	}
	for topic := range senders {
		require.True(b, send(topic))
	}
	n, end := 0, time.After(during)
	began := time.Now()
	for {
		select {
		case topic := <-answered:
			n++
			if !send(topic) {
				return float64(n) / time.Since(began).Seconds()
			}
		case <-end:
			rate := float64(n) / time.Since(began).Seconds()
			for len(answered) > 0 { // let what is in flight come home
				<-answered
			}
			return rate
		}
	}
}

// BenchmarkIngest is goal P1: records committed and acknowledged per second,
// signatures verified, against messages there and back without any work.
func BenchmarkIngest(b *testing.B) {
	for _, perMessage := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("records=%d", perMessage), func(b *testing.B) {
			for b.Loop() {
				benchIngest(b, perMessage)
			}
		})
	}
}

func benchIngest(b *testing.B, perMessage int) {
	w := newTown(b)
	f := w.start(quiet).ready()
	const messages = 30000 // of all cabinets, sealed before the clock runs
	senders := map[string]func() (string, []byte){}
	var size int
	for i := range benchCabinets {
		id := protocol.CabinetID(fmt.Sprintf("hb-%04d", i))
		queue := sealedLogs(b, w, id, messages/benchCabinets, perMessage)
		size = len(queue[0])
		senders[protocol.Topic(id, protocol.Down)] = func() (string, []byte) {
			if len(queue) == 0 {
				return "", nil
			}
			next := queue[0]
			queue = queue[1:]
			return protocol.Topic(id, protocol.UpLog), next
		}
	}
	raw := map[string]func() (string, []byte){}
	for i := range benchCabinets {
		raw[fmt.Sprintf("bench/%d/down", i)] = func() (string, []byte) { return fmt.Sprintf("bench/%d/up", i), make([]byte, size) }
	}
	echo(b, w.broker.url())
	c := client(b, w.broker.url(), "agents")
	require.Eventually(b, func() bool { return f.ring.Size() == benchCabinets }, 20*time.Second, 50*time.Millisecond)
	before := flood(b, c, "bench/+/down", raw, benchSeconds*time.Second/2)
	syncs := walSyncs(b, w.database)
	rate := flood(b, c, "swap/v1/+/down", senders, benchSeconds*time.Second)
	syncs = walSyncs(b, w.database) - syncs
	limit := (before + flood(b, c, "bench/+/down", raw, benchSeconds*time.Second/2)) / 2
	single := commits(b, w.database, 1000)
	var total time.Duration
	for _, d := range single {
		total += d
	}
	records := rate * float64(perMessage)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(records, "records/s")
	b.ReportMetric(limit, "raw-messages/s")
	b.ReportMetric(rate/limit, "messages/raw")
	b.ReportMetric(records/limit, "records/raw")
	b.ReportMetric(records/(float64(len(single))/total.Seconds()), "records/commit")
	b.ReportMetric(records*benchSeconds/float64(max(1, syncs)), "records/wal-sync")
}

// quietRate is how many records a second come while a fleet has little to do: that of
// the largest network there is, and half of it again.
const quietRate = 200

// BenchmarkQuiet is goal P2: how long a record takes from its publication to its
// acknowledgement at 200 records a second, against one round trip through the broker
// and one commit.
func BenchmarkQuiet(b *testing.B) {
	w := newTown(b)
	f := w.start(quiet).ready()
	echo(b, w.broker.url())
	const messages = quietRate * benchSeconds
	queues := map[string][][]byte{} // by the topic of the answer
	var down []string
	for i := range benchCabinets {
		id := protocol.CabinetID(fmt.Sprintf("hb-%04d", i))
		topic := protocol.Topic(id, protocol.Down)
		queues[topic], down = sealedLogs(b, w, id, messages/benchCabinets+1, 1), append(down, topic)
	}
	require.Eventually(b, func() bool { return f.ring.Size() == benchCabinets }, 20*time.Second, 50*time.Millisecond)
	const samples = 500
	trips, writes := roundTrips(b, w.broker.url(), samples), commits(b, w.database, samples)
	c := client(b, w.broker.url(), "agents")
	type answer struct {
		topic string
		at    time.Time
	}
	answered := make(chan answer, messages)
	subscribe(b, c, "swap/v1/+/down", func(m mqtt.Message) { answered <- answer{m.Topic(), time.Now()} })
	// A cabinet has one message in flight; what is due meanwhile waits, and is as old.
	due, all := map[string][]time.Time{}, []time.Duration(nil)
	send := func(topic string) {
		c.Publish(strings.TrimSuffix(topic, "down")+"up/log", 1, false, queues[topic][0])
		queues[topic] = queues[topic][1:]
	}
	take := func(a answer) {
		all = append(all, a.at.Sub(due[a.topic][0]))
		if due[a.topic] = due[a.topic][1:]; len(due[a.topic]) > 0 {
			send(a.topic)
		}
	}
	ticks := time.NewTicker(time.Second / quietRate)
	defer ticks.Stop()
	for i := 0; i < messages; {
		select {
		case a := <-answered:
			take(a)
		case at := <-ticks.C:
			topic := down[i%len(down)]
			if due[topic] = append(due[topic], at); len(due[topic]) == 1 {
				send(topic)
			}
			i++
		}
	}
	for len(all) < messages {
		take(receive(b, answered))
	}
	trips, writes = append(trips, roundTrips(b, w.broker.url(), samples)...), append(writes, commits(b, w.database, samples)...)
	limit := median(trips) + median(writes)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(median(trips).Microseconds()), "µs/round-trip")
	b.ReportMetric(float64(median(writes).Microseconds()), "µs/commit")
	b.ReportMetric(float64(median(all).Microseconds()), "µs/p50")
	b.ReportMetric(float64(percentile(all, 99).Microseconds()), "µs/p99")
	b.ReportMetric(float64(median(all))/float64(limit), "p50/limit")
	b.ReportMetric(float64(percentile(all, 99))/float64(limit), "p99/limit")
}

// sealedLogs enrols a cabinet and makes its next messages.
func sealedLogs(b *testing.B, w *town, id protocol.CabinetID, messages, perMessage int) [][]byte {
	b.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(b, err)
	a := &agent{t: b, id: id, key: key, began: time.Now()}
	_, err = rand.Read(a.epoch[:])
	require.NoError(b, err)
	require.NoError(b, w.store.EnrolCabinet(b.Context(), postgres.Enrolment{
		CabinetID: id, DeviceKey: a.public(), Slots: 12, Station: "s", Street: "s",
	}))
	a.write(protocol.Boot{BootID: protocol.BootID{1}, Software: "bench", Epoch: a.epoch})
	hello := protocol.Hello{Epoch: a.epoch, FirstSeq: 1, TailSeq: 1, TailHash: a.last, BootID: protocol.BootID{1}, BootSeq: 1, Software: "bench"}
	ok, err := w.store.Hello(b.Context(), id, hello)
	require.NoError(b, err)
	require.Equal(b, protocol.VerdictResume, ok.Verdict)
	kid := protocol.KeyID(a.public())
	var all [][]byte
	for len(all) < messages {
		for len(a.records) < perMessage {
			a.write(protocol.DoorMoved{Slot: 1 + len(all)%12, Door: protocol.DoorOpen})
		}
		first, _, _, err := protocol.DecodeRecord(a.records[0])
		require.NoError(b, err)
		raw, err := protocol.Seal(kid, key, id, protocol.Log{
			Epoch: a.epoch, MonoMS: a.mono(), BootSeq: 1, FromSeq: first.Seq, Records: a.records, HeadHash: a.last,
		})
		require.NoError(b, err)
		all = append(all, raw)
		a.records = a.records[:0]
	}
	return all
}

func walSyncs(b *testing.B, database string) int64 {
	pool, err := pgxpool.New(b.Context(), database)
	require.NoError(b, err)
	defer pool.Close()
	var n int64
	require.NoError(b, pool.QueryRow(b.Context(), `SELECT wal_sync FROM pg_stat_wal`).Scan(&n))
	return n
}

// BenchmarkSwaps is how many whole swaps a second one backend carries, riders,
// cabinets, broker and database on the same machine.
func BenchmarkSwaps(b *testing.B) {
	w := newTown(b)
	f := w.start(quiet).ready()
	const pairs = 32
	todo := make(chan struct{})
	var wg sync.WaitGroup
	for i := range pairs {
		id := protocol.CabinetID(fmt.Sprintf("hb-%04d", i))
		a := w.cabinet(id)
		p := w.rider(f, string(id))
		a.hello()
		a.ship()
		wg.Go(func() {
			for range todo {
				p.scan(f, id, 201)
				a.carryOut(receive(b, a.grants))
				a.ship()
			}
		})
	}
	began := time.Now()
	for b.Loop() {
		todo <- struct{}{}
	}
	close(todo)
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "swaps/s")
	w.audited()
}

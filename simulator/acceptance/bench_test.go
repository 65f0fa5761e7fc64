package acceptance

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// How the load is made. The limits that the figures are held against are
// measured in the same run, on the same two cores.
const (
	loadCabinets = 150 // cabinets that send records at once, one batch in flight each
	loadTime     = 5 * time.Second
	probes       = 300 // scans, and single messages there and back
)

// fakeCabinet speaks the protocol of an agent, with neither journal nor doors.
type fakeCabinet struct {
	id    protocol.CabinetID
	kid   string
	key   ed25519.PrivateKey
	epoch protocol.Epoch
	seq   uint64
	hash  protocol.Hash
	keys  protocol.KeyList // of the backend
	down  chan []byte
}

// crowd is many fake cabinets behind one MQTT connection.
type crowd struct {
	tb       testing.TB
	client   mqtt.Client
	cabinets map[string]*fakeCabinet // by the topic of what they hear
}

func (s *stage) newCrowd(n int) *crowd {
	s.t.Helper()
	c := &crowd{tb: s.t, cabinets: map[string]*fakeCabinet{}}
	for i := range n {
		pub, key, err := ed25519.GenerateKey(nil)
		require.NoError(s.t, err)
		f := &fakeCabinet{
			id: protocol.CabinetID(fmt.Sprintf("load-%04d", i)), kid: protocol.KeyID(pub), key: key,
			epoch: protocol.Epoch{1, byte(i), byte(i >> 8)}, keys: s.keyList(), down: make(chan []byte, 16),
		}
		s.run("backend", "cabinet", "enrol", "--id", string(f.id), "--device-key", base64.StdEncoding.EncodeToString(pub), "--slots", "12", "--station", "Load", "--street", "Load")
		c.cabinets[protocol.Topic(f.id, protocol.Down)] = f
	}
	c.client = s.connect("crowd", protocol.Filter(protocol.Down), func(topic string, payload []byte) {
		if f := c.cabinets[topic]; f != nil {
			select {
			case f.down <- payload:
			default: // as a broker that is full does
			}
		}
	})
	return c
}

// connect is a bare MQTT client that hears one filter.
func (s *stage) connect(id, filter string, heard func(topic string, payload []byte)) mqtt.Client {
	s.t.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(s.mqttURL).SetClientID(id).SetCleanSession(true).SetOrderMatters(true))
	token := client.Connect()
	require.True(s.t, token.WaitTimeout(patience))
	require.NoError(s.t, token.Error())
	s.t.Cleanup(func() { client.Disconnect(0) })
	token = client.Subscribe(filter, 1, func(_ mqtt.Client, m mqtt.Message) { heard(m.Topic(), m.Payload()) })
	require.True(s.t, token.WaitTimeout(patience))
	require.NoError(s.t, token.Error())
	return client
}

func (c *crowd) send(f *fakeCabinet, ch protocol.Channel, m protocol.Message) {
	raw, err := protocol.Seal(f.kid, f.key, f.id, m)
	if err != nil {
		c.tb.Error(err)
		return
	}
	c.client.Publish(protocol.Topic(f.id, ch), 1, false, raw)
}

// hear waits for a message of a type; false when none comes.
func (f *fakeCabinet) hear(typ protocol.Type, within time.Duration) (protocol.Envelope, bool) {
	limit := time.NewTimer(within)
	defer limit.Stop()
	for {
		select {
		case raw := <-f.down:
			e, err := protocol.Open(raw, f.keys.Lookup)
			if err == nil && e.Type == typ {
				return e, true
			}
		case <-limit.C:
			return protocol.Envelope{}, false
		}
	}
}

// log sends one record and waits for its acknowledgement, as often as it takes.
func (c *crowd) log(f *fakeCabinet, p protocol.Payload) bool {
	payload, err := protocol.MarshalPayload(p)
	if err != nil {
		return false
	}
	record, err := protocol.AppendRecord(nil, protocol.Record{
		EpochShort: f.epoch.Short(), Seq: f.seq + 1, BootSeq: 1, MonoMS: f.seq, Type: p.RecordType(), PrevHash: f.hash, Payload: payload,
	})
	if err != nil {
		return false
	}
	_, _, hash, err := protocol.DecodeRecord(record)
	if err != nil {
		return false
	}
	for range 5 {
		c.send(f, protocol.UpLog, protocol.Log{Epoch: f.epoch, BootSeq: 1, FromSeq: f.seq + 1, Records: [][]byte{record}, HeadHash: hash})
		for {
			e, ok := f.hear(protocol.TypeLogAck, 5*time.Second)
			if !ok {
				break
			}
			var ack protocol.LogAck
			if protocol.Decode(e, &ack) == nil && ack.UptoSeq == f.seq+1 {
				f.seq, f.hash = ack.UptoSeq, hash
				return true
			}
		}
	}
	return false
}

// hello introduces a cabinet that has just begun its journal. The backend may
// not know of its key yet, so it says so more than once.
func (c *crowd) hello(f *fakeCabinet) {
	c.tb.Helper()
	for range 20 {
		c.send(f, protocol.UpRPC, protocol.Hello{Epoch: f.epoch, FirstSeq: 1, TailSeq: 1, BootSeq: 1, BootID: protocol.BootID(f.epoch), Software: "load"})
		if _, ok := f.hear(protocol.TypeHelloOK, 500*time.Millisecond); ok {
			require.True(c.tb, c.log(f, protocol.Boot{BootID: protocol.BootID(f.epoch), Software: "load", Epoch: f.epoch}))
			return
		}
	}
	c.tb.Fatalf("%s gets no answer to hello", f.id)
}

// BenchmarkIngest measures records that are committed and acknowledged a second,
// beside messages that go there and back through the same broker with nothing
// done to them.
func BenchmarkIngest(b *testing.B) {
	s := newStage(b, false)
	s.startReplica()
	c := s.newCrowd(loadCabinets)
	for _, f := range c.cabinets {
		c.hello(f)
	}
	moved := protocol.DoorMoved{Slot: 3, Door: protocol.DoorShut}
	var records, failed atomic.Int64
	size := 0
	var working sync.WaitGroup
	began := time.Now()
	for _, f := range c.cabinets {
		working.Go(func() {
			for time.Since(began) < loadTime {
				if !c.log(f, moved) {
					failed.Add(1)
					return
				}
				records.Add(1)
			}
		})
	}
	working.Wait()
	perSecond := float64(records.Load()) / time.Since(began).Seconds()
	require.Zero(b, failed.Load(), "cabinets that were not answered")
	for _, f := range c.cabinets {
		raw, err := protocol.Seal(f.kid, f.key, f.id, protocol.Log{Epoch: f.epoch, FromSeq: 1, Records: [][]byte{make([]byte, 110)}})
		require.NoError(b, err)
		size = len(raw)
	}
	raw := s.thereAndBack(loadCabinets, size, loadTime)
	b.ReportMetric(perSecond, "records/s")
	b.ReportMetric(raw, "raw-msg/s")
	b.ReportMetric(perSecond/raw, "ratio")
	b.ReportMetric(0, "ns/op")
	b.Logf("%.0f records/s, %.0f messages/s there and back: %.2f", perSecond, raw, perSecond/raw)
}

// thereAndBack measures how many messages of a size an echo through the broker
// answers a second, to so many who each wait for theirs.
func (s *stage) thereAndBack(waiting, size int, how time.Duration) float64 {
	s.t.Helper()
	var echo mqtt.Client
	ready := make(chan struct{})
	echo = s.connect("echo", "raw/+/up", func(topic string, payload []byte) {
		<-ready
		echo.Publish(topic[:len(topic)-len("up")]+"down", 1, false, payload[:min(len(payload), 300)])
	})
	close(ready)
	back := map[string]chan struct{}{}
	for i := range waiting {
		back[fmt.Sprintf("raw/%d/down", i)] = make(chan struct{}, 1)
	}
	client := s.connect("raw", "raw/+/down", func(topic string, _ []byte) { back[topic] <- struct{}{} })
	var answered atomic.Int64
	var working sync.WaitGroup
	began := time.Now()
	for i := range waiting {
		working.Go(func() {
			payload := make([]byte, size)
			for time.Since(began) < how {
				client.Publish(fmt.Sprintf("raw/%d/up", i), 1, false, payload)
				select {
				case <-back[fmt.Sprintf("raw/%d/down", i)]:
					answered.Add(1)
				case <-time.After(patience):
					s.t.Error("the echo does not answer")
					return
				}
			}
		})
	}
	working.Wait()
	return float64(answered.Load()) / time.Since(began).Seconds()
}

// BenchmarkScanToGrant measures from a scan's request to the grant's arrival at
// the cabinet, one at a time, beside what cannot be saved: two round trips
// through the broker and two commits.
func BenchmarkScanToGrant(b *testing.B) {
	s := newStage(b, false)
	r := s.startReplica()
	c := s.newCrowd(1)
	var f *fakeCabinet
	for _, f = range c.cabinets {
		c.hello(f)
	}
	charged := s.newBattery()
	s.run("backend", "battery", "assign", charged, "--cabinet", string(f.id), "--slot", "12")
	id, _ := s.newRider()
	phone := s.phone(r, id)
	var took []time.Duration
	for n := range probes {
		began := time.Now()
		answered := make(chan error, 1)
		go func() {
			_, err := phone.Scan(context.Background(), string(f.id), fmt.Sprintf("probe-%d", n))
			answered <- err
		}()
		e, ok := f.hear(protocol.TypePrepare, patience)
		require.True(b, ok, "no prepare")
		var prepare protocol.Prepare
		require.NoError(b, protocol.Decode(e, &prepare))
		c.send(f, protocol.UpRPC, protocol.Prepared{
			SwapID: prepare.SwapID, Epoch: f.epoch, BootSeq: 1, BootID: protocol.BootID(f.epoch), Nonce: protocol.Nonce{byte(n), byte(n >> 8), 1},
			DepositSlots: []int{1}, Dispense: []protocol.Offer{{Slot: 12, BatterySerial: protocol.BatterySerial(charged), Soc: 96}},
		})
		_, ok = f.hear(protocol.TypeGrant, patience)
		require.True(b, ok, "no grant")
		took = append(took, time.Since(began))
		require.NoError(b, <-answered)
		require.True(b, c.log(f, protocol.Void{SwapID: prepare.SwapID}), "the cabinet's VOID is not committed")
	}
	slices.Sort(took)
	trip := time.Duration(float64(time.Second) / s.thereAndBack(1, 300, 2*time.Second))
	commit := s.commitTime()
	floor := 2*trip + 2*commit
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	b.ReportMetric(p50.Seconds()*1e3, "p50-ms")
	b.ReportMetric(p99.Seconds()*1e3, "p99-ms")
	b.ReportMetric(float64(p50)/float64(floor), "p50-ratio")
	b.ReportMetric(0, "ns/op")
	b.Logf("p50 %v, p99 %v; round trip %v, commit %v: p50 is %.2f of two of each", p50, p99, trip, commit, float64(p50)/float64(floor))
}

// commitTime is how long a commit of one row takes, as pgbench measures it.
func (s *stage) commitTime() time.Duration {
	s.t.Helper()
	script := filepath.Join(s.dir, "commit.sql")
	require.NoError(s.t, os.WriteFile(script, []byte("INSERT INTO bench_commit VALUES (1);\n"), 0o600))
	said, err := exec.Command("psql", "-q", s.databaseURL, "-c", "CREATE TABLE IF NOT EXISTS bench_commit (n int)").CombinedOutput()
	require.NoError(s.t, err, "%s", said)
	said, err = exec.Command(s.database.Path[:len(s.database.Path)-len("postgres")]+"pgbench", "-n", "-f", script, "-T", "2", s.databaseURL).CombinedOutput()
	require.NoError(s.t, err, "%s", said)
	found := regexp.MustCompile(`latency average = ([0-9.]+) ms`).FindSubmatch(said)
	require.NotNil(s.t, found, "%s", said)
	ms, err := strconv.ParseFloat(string(found[1]), 64)
	require.NoError(s.t, err)
	return time.Duration(ms * float64(time.Millisecond))
}

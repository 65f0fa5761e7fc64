package link

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

const cabinet protocol.CabinetID = "hb-0001"

// memory is a journal in memory.
type memory struct {
	mu    sync.Mutex
	epoch protocol.Epoch
	first uint64
	raws  [][]byte
	hash  []protocol.Hash
	acked uint64
	fault error
}

func newMemory(records, size int) *memory {
	j := &memory{epoch: protocol.Epoch{1}, first: 1}
	j.append(records, size)
	return j
}

func (j *memory) append(records, size int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for range records {
		r := protocol.Record{
			EpochShort: j.epoch.Short(), Seq: j.first + uint64(len(j.raws)), BootSeq: 1, Type: protocol.RecordVoid,
			Payload: fmt.Appendf(nil, "%*s", size, "{}"),
		}
		if n := len(j.hash); n > 0 {
			r.PrevHash = j.hash[n-1]
		}
		raw, err := protocol.AppendRecord(nil, r)
		if err != nil {
			panic(err)
		}
		_, _, h, err := protocol.DecodeRecord(raw)
		if err != nil {
			panic(err)
		}
		j.raws, j.hash = append(j.raws, raw), append(j.hash, h)
	}
}

func (j *memory) hashAt(seq uint64) protocol.Hash { return j.hash[seq-j.first] }

func (j *memory) Position() Position {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := Position{Epoch: j.epoch, FirstSeq: j.first, TailSeq: j.first + uint64(len(j.raws)) - 1, AckedSeq: j.acked, BootSeq: 1}
	if len(j.hash) > 0 {
		p.TailHash = j.hash[len(j.hash)-1]
	}
	return p
}

func (j *memory) Read(from uint64, maxRecords, maxBytes int) ([][]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fault != nil {
		return nil, j.fault
	}
	var out [][]byte
	size := 0
	for i := int(from - j.first); i < len(j.raws); i++ {
		if len(out) > 0 && (len(out) == maxRecords || size+len(j.raws[i]) > maxBytes) {
			break
		}
		out = append(out, j.raws[i])
		size += len(j.raws[i])
	}
	return out, nil
}

func (j *memory) Ack(upto uint64, hash protocol.Hash) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if upto < j.first || upto > j.first+uint64(len(j.raws))-1 || j.hash[upto-j.first] != hash {
		return errors.New("mismatch")
	}
	j.acked = max(j.acked, upto)
	return nil
}

func newKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// sent is a message of the link, opened and verified by the other side.
type sent struct {
	topic string
	qos   byte
	e     protocol.Envelope
	at    time.Time
}

// fakePipe is a connection inside a synctest bubble.
type fakePipe struct {
	r    *rig
	gone chan struct{}
}

func (p *fakePipe) publish(topic string, qos byte, raw []byte) error {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if p.r.publishErr != nil {
		return p.r.publishErr
	}
	e, err := protocol.Open(raw, func(string, protocol.Type, protocol.CabinetID) (ed25519.PublicKey, bool) {
		return public(p.r.device), true
	})
	if err != nil {
		panic(err)
	}
	p.r.sent = append(p.r.sent, sent{topic, qos, e, time.Now()})
	return nil
}

func (p *fakePipe) lost() <-chan struct{} { return p.gone }
func (p *fakePipe) close()                { p.r.set(func() { p.r.closed++ }) }

// rig is a link with everything around it played by the test.
type rig struct {
	t          *testing.T
	l          *Link
	opt        Options
	j          *memory
	device     ed25519.PrivateKey
	root       ed25519.PrivateKey
	service    ed25519.PrivateKey
	grant      ed25519.PrivateKey
	pipe       *fakePipe
	attempts   []time.Time
	connectErr error
	publishErr error
	closed     int

	// mu orders what the test sets before what the link reads: a fake clock's
	// timers do not.
	mu        sync.Mutex
	sent      []sent
	counted   map[string]int
	connected []bool
	delivered []protocol.Message
	greeted   []protocol.HelloOK
	rejected  []string
	busy      bool
}

// newRig makes a rig; its link is not started.
func newRig(t *testing.T, j *memory) *rig {
	r := &rig{
		t: t, j: j, device: newKey(1), root: newKey(2), service: newKey(3), grant: newKey(4),
		counted: map[string]int{},
	}
	keys, err := OpenKeyRing(public(r.root), r.keyList(1), filepath.Join(t.TempDir(), "keys.json"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	began := time.Now()
	r.opt = Options{
		CabinetID: cabinet, BootID: protocol.BootID{9}, Software: "test", DeviceKey: r.device, Keys: keys,
		Clock: func() (uint64, protocol.ClockState) {
			return uint64(time.Since(began).Milliseconds()), protocol.ClockUnsynchronised
		},
		Random:        rand.New(rand.NewPCG(1, 2)),
		Log:           slog.New(slog.DiscardHandler),
		Inventory:     func() protocol.Inventory { return protocol.Inventory{{Slot: 1}} },
		ConfigVersion: func() int64 { return 3 },
		Deliver: func(m protocol.Message, _ []byte) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.busy {
				return false
			}
			r.delivered = append(r.delivered, m)
			return true
		},
		Greeted: func(m protocol.HelloOK, _ int64) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.busy {
				return false
			}
			r.greeted = append(r.greeted, m)
			return true
		},
		Rejected: func(t protocol.Type, why string) {
			r.set(func() { r.rejected = append(r.rejected, string(t)+" "+why) })
		},
		Connected: func(up bool) { r.set(func() { r.connected = append(r.connected, up) }) },
		Counted: func(direction string, typ protocol.Type, result Result) {
			r.set(func() { r.counted[fmt.Sprintf("%s %s %s", direction, typ, result)]++ })
		},
	}
	if j != nil {
		r.opt.Journal = j
	}
	return r
}

func (r *rig) keyList(version int64) []byte {
	raw, err := protocol.SealKeyList(r.root, protocol.KeyList{Version: version, Keys: []protocol.Key{
		{KeyID: "s1", Use: protocol.UseService, PublicKey: public(r.service)},
		{KeyID: "g1", Use: protocol.UseGrant, PublicKey: public(r.grant)},
	}})
	require.NoError(r.t, err)
	return raw
}

// start starts the link in a bubble and waits until it has nothing more to do.
func (r *rig) start() {
	r.make()
	r.l.Start()
	synctest.Wait()
}

// make makes the link, with connections that are the rig's.
func (r *rig) make() {
	l, err := New(r.opt)
	require.NoError(r.t, err)
	r.l = l
	l.connect = func(ctx context.Context, _ func(inbound)) (pipe, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.attempts = append(r.attempts, time.Now())
		if r.connectErr != nil {
			return nil, r.connectErr
		}
		r.pipe = &fakePipe{r: r, gone: make(chan struct{})}
		return r.pipe, nil
	}
}

func (r *rig) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// pass lets time pass.
func (r *rig) pass(d time.Duration) {
	r.set(func() {}) // what the test has read, it has read before
	time.Sleep(d)
	synctest.Wait()
}

// take gives what was sent since the last take.
func (r *rig) take() []sent {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.sent
	r.sent = nil
	return out
}

// receive hands an envelope to the link, as from the broker.
func (r *rig) receive(raw []byte) {
	r.l.receive(inbound{topic: protocol.Topic(cabinet, protocol.Down), payload: raw})
	synctest.Wait()
}

// says seals a message of the backend and hands it over.
func (r *rig) says(m protocol.Message) { r.receive(r.seal(m)) }

func (r *rig) seal(m protocol.Message) []byte {
	kid, key := "s1", r.service
	if m.MessageType() == protocol.TypeGrant {
		kid, key = "g1", r.grant
	}
	raw, err := protocol.Seal(kid, key, cabinet, m)
	require.NoError(r.t, err)
	return raw
}

func (r *rig) welcome(verdict protocol.Verdict, resume uint64) protocol.HelloOK {
	return protocol.HelloOK{Epoch: r.j.epoch, BootID: r.opt.BootID, Verdict: verdict, ResumeSeq: resume}
}

func (r *rig) ack(upto uint64) protocol.LogAck {
	return protocol.LogAck{Epoch: r.j.epoch, UptoSeq: upto, HashAtUpto: r.j.hashAt(upto)}
}

// logs decodes log messages as the range of records that each carries.
func (r *rig) logs() []string {
	var out []string
	for _, s := range r.take() {
		if s.e.Type != protocol.TypeLog {
			out = append(out, string(s.e.Type))
			continue
		}
		require.Equal(r.t, protocol.Topic(cabinet, protocol.UpLog), s.topic)
		require.Equal(r.t, byte(1), s.qos)
		var m protocol.Log
		require.NoError(r.t, protocol.Decode(s.e, &m))
		last := m.FromSeq + uint64(len(m.Records)) - 1
		require.Equal(r.t, r.j.hashAt(last), m.HeadHash)
		for i, raw := range m.Records {
			require.Equal(r.t, r.j.raws[m.FromSeq-r.j.first+uint64(i)], raw)
		}
		out = append(out, fmt.Sprintf("%d-%d", m.FromSeq, last))
	}
	return out
}

// inBubble runs a test with a started link, and stops it.
func inBubble(t *testing.T, j *memory, f func(r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, j)
		r.start()
		defer r.l.Stop()
		f(r)
	})
}

// upto is the last record of what logs said of a batch.
func (r *rig) upto(logged string) uint64 {
	var from, upto uint64
	_, err := fmt.Sscanf(logged, "%d-%d", &from, &upto)
	require.NoError(r.t, err)
	return upto
}

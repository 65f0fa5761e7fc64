package swap

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// start is the database's clock when a test begins.
var start = time.Date(2025, 11, 5, 9, 30, 0, 0, time.UTC)

// id is the n-th identifier: they rise as real ones do.
func id(n int) protocol.SwapID {
	return protocol.SwapID(fmt.Sprintf("019a0000-0000-7000-8000-%012x", n))
}

func epochNo(n uint64) (e protocol.Epoch) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))
	copy(e[:], sum[:])
	return e
}

// logbook is a cabinet's journal, as an agent writes it.
type logbook struct {
	t       require.TestingT
	epoch   protocol.Epoch
	boot    uint32
	clock   protocol.ClockState
	mono    uint64
	wall    time.Time
	raws    [][]byte
	tail    protocol.Hash
	written int
}

func newLogbook(t require.TestingT, epoch protocol.Epoch) *logbook {
	return &logbook{t: t, epoch: epoch, boot: 1, clock: protocol.ClockSynchronised, wall: start}
}

func (l *logbook) write(ps ...protocol.Payload) {
	for _, p := range ps {
		body, err := protocol.MarshalPayload(p)
		require.NoError(l.t, err)
		l.raw(p.RecordType(), body)
	}
}

func (l *logbook) raw(typ protocol.RecordType, body []byte) {
	l.mono += 1000
	l.wall = l.wall.Add(time.Second)
	r := protocol.Record{
		EpochShort: l.epoch.Short(), Seq: uint64(len(l.raws) + 1), BootSeq: l.boot, MonoMS: l.mono,
		WallMS: uint64(l.wall.UnixMilli()), Clock: l.clock, Type: typ, PrevHash: l.tail, Payload: body,
	}
	raw, err := protocol.AppendRecord(nil, r)
	require.NoError(l.t, err)
	_, _, h, err := protocol.DecodeRecord(raw)
	require.NoError(l.t, err)
	l.raws, l.tail = append(l.raws, raw), h
}

// reboot starts the next boot.
func (l *logbook) reboot() {
	l.boot++
	l.mono = 0
	l.write(protocol.Boot{Epoch: l.epoch})
}

// message is what the agent sends of seq from to to, both included.
func (l *logbook) message(from, to int) protocol.Log {
	return protocol.Log{Epoch: l.epoch, MonoMS: l.mono, BootSeq: l.boot, FromSeq: uint64(from), Records: l.raws[from-1 : to]}
}

// ingest sends and folds records from to to.
func (l *logbook) ingest(b *Books, c *Cabinet, from, to int) Verdict {
	m := l.message(from, to)
	rs, err := DecodeLog(m)
	require.NoError(l.t, err)
	_, v := b.Ingest(c, m.Epoch, rs, Receipt{At: l.wall, MonoMS: m.MonoMS, BootSeq: m.BootSeq})
	return v
}

// all sends what has not been sent.
func (l *logbook) all(b *Books, c *Cabinet) {
	if l.written < len(l.raws) {
		require.Equal(l.t, Took, l.ingest(b, c, l.written+1, len(l.raws)))
		l.written = len(l.raws)
	}
}

// bench is a set of books with one cabinet, one rider, and batteries.
type bench struct {
	*Books
	t       testing.TB
	cabinet *Cabinet
	rider   *Rider
	log     *logbook
	ledger  []Entry
	reviews []Review
	days    map[DayKey]int
	now     time.Time
	next    int
}

const (
	alice = RiderID("00000000-0000-4000-8000-00000000000a")
	bob   = RiderID("00000000-0000-4000-8000-00000000000b")
	own   = protocol.BatterySerial("OWN")
	fullA = protocol.BatterySerial("FULL-A")
	fullB = protocol.BatterySerial("FULL-B")
)

func newBench(t testing.TB) *bench {
	k := &bench{Books: NewBooks(), t: t, now: start, days: map[DayKey]int{}}
	k.log = newLogbook(t, epochNo(1))
	k.cabinet = k.addCabinet("hb-0001", k.log.epoch)
	k.rider = k.addRider(alice)
	k.AddBattery(&Battery{BatterySerial: own, Holder: WithRider, RiderID: alice})
	k.AddBattery(&Battery{BatterySerial: fullA, Holder: InSlot, CabinetID: "hb-0001", Slot: 7})
	k.AddBattery(&Battery{BatterySerial: fullB, Holder: InSlot, CabinetID: "hb-0001", Slot: 8})
	k.log.write(protocol.Boot{Epoch: k.log.epoch})
	k.fold()
	return k
}

func (k *bench) addCabinet(id protocol.CabinetID, e protocol.Epoch) *Cabinet {
	c := &Cabinet{CabinetID: id, EnrolledAt: start.Add(-time.Hour), HeardAt: start, Epoch: e}
	k.Cabinets[id] = c
	return c
}

func (k *bench) addRider(id RiderID) *Rider {
	k.Riders[id] = &Rider{RiderID: id, Active: true}
	return k.Riders[id]
}

// fold sends everything written, and keeps what the books appended.
func (k *bench) fold() {
	k.log.all(k.Books, k.cabinet)
	k.keep()
}

func (k *bench) keep() {
	ch := k.Changes()
	k.ledger = append(k.ledger, ch.Entries...)
	k.reviews = append(k.reviews, ch.Reviews...)
	for _, d := range ch.Days {
		k.days[d.DayKey] += d.Swaps
	}
}

// granted scans, prepares and grants: the swap that the records will tell of.
func (k *bench) granted(handBack bool) *protocol.Grant {
	k.t.Helper()
	k.next++
	s, no := k.Request(Scan{RiderID: alice, CabinetID: "hb-0001", HandBack: handBack}, id(k.next), k.now, false)
	require.Nil(k.t, no)
	g, err := k.Grant(k.cabinet, k.prepared(s), "00112233445566778899aabbccddeeff", k.now.Add(time.Second), false)
	require.NoError(k.t, err)
	k.keep()
	return g
}

func (k *bench) prepared(s *Swap) protocol.Prepared {
	p := protocol.Prepared{SwapID: s.SwapID, Epoch: k.log.epoch, BootSeq: k.log.boot, BootID: protocol.BootID{1}, Nonce: protocol.Nonce{1, byte(k.next)}}
	if s.Kind.Deposits() {
		p.DepositSlots = []int{3, 4}
	}
	if s.Kind.Dispenses() {
		p.Dispense = []protocol.Offer{{Slot: 7, BatterySerial: fullA, Soc: 97}, {Slot: 8, BatterySerial: fullB, Soc: 96}}
	}
	return p
}

func accepted(g *protocol.Grant) protocol.Accept {
	return protocol.Accept{SwapID: g.SwapID, Kind: g.Kind, Nonce: g.Nonce, BootID: g.BootID}
}

// whats are the entries of a swap, in order.
func (k *bench) whats(id protocol.SwapID) []What {
	var out []What
	for i, e := range k.ledger {
		if e.SwapID == id {
			out = append(out, e.What)
			require.Equal(k.t, len(out), e.EntryNo, "ledger entry %d", i)
		}
	}
	return out
}

// credits counts what the fleet owes a rider.
func (b *Books) credits(rider RiderID) int {
	n := 0
	for _, cr := range b.Credits {
		if cr.RiderID == rider && (cr.State == CreditOpen || cr.State == CreditReserved) {
			n++
		}
	}
	return n
}

package postgres_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/postgres/pgtest"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

const (
	alice = swap.RiderID("00000000-0000-4000-8000-00000000000a")
	bob   = swap.RiderID("00000000-0000-4000-8000-00000000000b")
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// quickRapid makes the properties of this package quick, unless its flags say
// otherwise: the same acts each time; -rapid.seed draws others, -rapid.checks and
// -rapid.steps make them longer.
var quickRapid = sync.OnceValue(func() error {
	for name, quick := range map[string]string{"rapid.checks": "4", "rapid.steps": "60", "rapid.seed": "1"} {
		if f := flag.Lookup(name); f.Value.String() == f.DefValue {
			if err := f.Value.Set(quick); err != nil {
				return err
			}
		}
	}
	return nil
})

// oneOf is a test as far as one check of a property goes: what is cleaned up after
// a test is cleaned up after the check, for there may be a thousand.
type oneOf struct {
	testing.TB
	check *rapid.T
}

func (o oneOf) Cleanup(f func()) { o.check.Cleanup(f) }

// deck is a database with a Store and what staff set up.
type deck struct {
	t     testing.TB
	url   string
	store *postgres.Store
	grant ed25519.PrivateKey // signs grants
	keys  int
	mu    sync.Mutex
	conn  *pgx.Conn
}

func newDeck(t testing.TB) *deck {
	d := &deck{t: t, url: pgtest.New(t), grant: ed25519.NewKeyFromSeed(make([]byte, 32))}
	d.store = d.open()
	for _, r := range []swap.RiderID{alice, bob} {
		_, err := d.store.AddRider(t.Context(), postgres.NewRider{RiderID: r, Name: "Rider " + string(r[len(r)-1])})
		require.NoError(t, err)
	}
	return d
}

// testSeal is the seal of all replicas of a test.
func testSeal(t testing.TB) *staff.Seal {
	t.Helper()
	seal, err := staff.NewSeal(make([]byte, staff.SealKeyBytes))
	require.NoError(t, err)
	return seal
}

// testVault keeps the phones of all replicas of a test.
func testVault(t testing.TB) *phone.Vault {
	t.Helper()
	v, err := phone.NewVault(make([]byte, phone.MinKeyBytes))
	require.NoError(t, err)
	return v
}

// open is one more replica.
func (d *deck) open() *postgres.Store { return d.openWith(func(*postgres.Options) {}) }

func (d *deck) openWith(change func(*postgres.Options)) *postgres.Store {
	o := postgres.Options{RiderRef: riderRef, OpenGrant: d.openGrant, Seal: testSeal(d.t), Vault: testVault(d.t)}
	change(&o)
	s, err := postgres.Open(context.Background(), d.url, o)
	require.NoError(d.t, err)
	d.t.Cleanup(s.Close)
	return s
}

func riderRef(c protocol.CabinetID, r swap.RiderID) protocol.RiderRef {
	sum := sha256.Sum256([]byte(string(c) + "\x00" + string(r)))
	return protocol.RiderRef(hex.EncodeToString(sum[:16]))
}

func (d *deck) openGrant(c protocol.CabinetID, envelope string) (protocol.Grant, error) {
	var g protocol.Grant
	e, err := protocol.Open([]byte(envelope), func(string, protocol.Type, protocol.CabinetID) (ed25519.PublicKey, bool) {
		return d.grant.Public().(ed25519.PublicKey), true
	})
	if err != nil {
		return g, err
	}
	if e.CabinetID != c {
		return g, fmt.Errorf("a grant for %s", e.CabinetID)
	}
	return g, protocol.Decode(e, &g)
}

// direct is the tests' own connection: it sees and spoils what the Store has.
func (d *deck) direct() *pgx.Conn {
	if d.conn == nil || d.conn.IsClosed() {
		conn, err := pgx.Connect(context.Background(), d.url)
		require.NoError(d.t, err)
		d.conn = conn
		d.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return d.conn
}

// query reads one value.
func query[T any](d *deck, sql string, args ...any) T {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	var v T
	require.NoError(d.t, d.direct().QueryRow(context.Background(), sql, args...).Scan(&v))
	return v
}

func (d *deck) exec(sql string, args ...any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := d.direct().Exec(context.Background(), sql, args...)
	return err
}

// honest fails the test when the ledger does not bear the books out.
func (d *deck) honest() postgres.Report {
	d.t.Helper()
	rep, err := d.store.Audit(context.Background())
	require.NoError(d.t, err)
	require.Empty(d.t, rep.Differences)
	return rep
}

func (d *deck) account(r swap.RiderID) postgres.RiderReport {
	d.t.Helper()
	for _, x := range d.honest().Riders {
		if x.RiderID == r {
			x.Name = ""
			return x
		}
	}
	d.t.Fatalf("no rider %s", r)
	return postgres.RiderReport{}
}

// cabinet is an agent's double: it keeps a journal and says what an agent says.
type cabinet struct {
	d       *deck
	id      protocol.CabinetID
	key     ed25519.PrivateKey
	epoch   protocol.Epoch
	boot    uint32
	mono    uint64
	adrift  bool // its clock is not synchronised
	ahead   time.Duration
	raws    [][]byte
	hashes  []protocol.Hash
	acked   uint64
	serials map[int]protocol.BatterySerial // what is in the slots
	asked   protocol.HelloRequest          // last
}

// cabinet enrols one with charged batteries in slots 7 and 8, and says hello.
func (d *deck) cabinet(id protocol.CabinetID) *cabinet {
	d.t.Helper()
	d.keys++
	seed := sha256.Sum256([]byte(id))
	c := &cabinet{d: d, id: id, key: ed25519.NewKeyFromSeed(seed[:]), serials: map[int]protocol.BatterySerial{}}
	require.NoError(d.t, d.store.EnrolCabinet(d.t.Context(), postgres.Enrolment{
		CabinetID: id, DeviceKey: c.key.Public().(ed25519.PublicKey), Slots: 12, Station: "Station", Street: "Street",
	}))
	for _, slot := range []int{7, 8} {
		serial := protocol.BatterySerial(fmt.Sprintf("%s-%d", id, slot))
		d.battery(serial, swap.Place{CabinetID: id, Slot: slot})
		c.serials[slot] = serial
	}
	c.format(1)
	require.Equal(d.t, protocol.VerdictResume, c.hello().Verdict)
	return c
}

func (d *deck) battery(serial protocol.BatterySerial, at swap.Place) {
	d.t.Helper()
	_, err := d.store.ImportBatteries(d.t.Context(), []postgres.Battery{{BatterySerial: serial, Type: "60V20Ah"}})
	require.NoError(d.t, err)
	require.NoError(d.t, d.store.AssignBattery(d.t.Context(), serial, at))
}

// format starts a journal.
func (c *cabinet) format(n byte) {
	c.epoch = protocol.Epoch(sha256.New().Sum([]byte(string(c.id) + "-journal-12345678"))[:16])
	c.epoch[15] = n
	c.raws, c.hashes, c.acked, c.boot, c.mono = nil, nil, 0, 0, 0
	c.reboot()
}

func (c *cabinet) reboot() {
	c.boot++
	c.mono = 0
	c.write(protocol.Boot{Epoch: c.epoch, BootID: c.bootID(), Software: "test"})
}

func (c *cabinet) bootID() protocol.BootID { return protocol.BootID{byte(c.boot), 1} }

func (c *cabinet) write(ps ...protocol.Payload) {
	c.d.t.Helper()
	for _, p := range ps {
		body, err := protocol.MarshalPayload(p)
		require.NoError(c.d.t, err)
		c.raw(p.RecordType(), body)
	}
}

func (c *cabinet) raw(typ protocol.RecordType, body []byte) {
	c.mono += 10
	r := protocol.Record{
		EpochShort: c.epoch.Short(), Seq: uint64(len(c.raws) + 1), BootSeq: c.boot, MonoMS: c.mono,
		WallMS: uint64(time.Now().Add(c.ahead).UnixMilli()), Clock: protocol.ClockSynchronised, Type: typ, Payload: body,
	}
	if c.adrift {
		r.Clock, r.WallMS = protocol.ClockUnsynchronised, 0
	}
	if n := len(c.hashes); n > 0 {
		r.PrevHash = c.hashes[n-1]
	}
	raw, err := protocol.AppendRecord(nil, r)
	require.NoError(c.d.t, err)
	_, _, h, err := protocol.DecodeRecord(raw)
	require.NoError(c.d.t, err)
	c.raws, c.hashes = append(c.raws, raw), append(c.hashes, h)
}

// log is the signed message with records from to to, both included.
func (c *cabinet) log(from, to int) postgres.Batch {
	c.d.t.Helper()
	m := protocol.Log{
		Epoch: c.epoch, MonoMS: c.mono + 5, BootSeq: c.boot, FromSeq: uint64(from), Records: c.raws[from-1 : to], HeadHash: c.hashes[to-1],
	}
	return c.sealed(m)
}

func (c *cabinet) sealed(m protocol.Log) postgres.Batch {
	c.d.t.Helper()
	pub := c.key.Public().(ed25519.PublicKey)
	raw, err := protocol.Seal(protocol.KeyID(pub), c.key, c.id, m)
	require.NoError(c.d.t, err)
	e, err := protocol.Open(raw, func(string, protocol.Type, protocol.CabinetID) (ed25519.PublicKey, bool) { return pub, true })
	require.NoError(c.d.t, err)
	return postgres.Batch{CabinetID: c.id, Envelope: e, Log: m}
}

func (c *cabinet) helloMessage() protocol.Hello {
	h := protocol.Hello{
		Epoch: c.epoch, FirstSeq: 1, TailSeq: uint64(len(c.raws)), TailHash: c.hashes[len(c.hashes)-1], AckedSeq: c.acked,
		BootID: c.bootID(), BootSeq: c.boot, Software: "test", Challenge: c.asked.Challenge,
	}
	if c.acked > 0 {
		h.AckedHash = c.hashes[c.acked-1]
	}
	return h
}

func (c *cabinet) hello() protocol.HelloOK {
	c.d.t.Helper()
	ok, err := c.d.store.Hello(context.Background(), c.id, c.helloMessage())
	require.NoError(c.d.t, err)
	return ok
}

// prepared answers a prepare with what is in the slots.
func (c *cabinet) prepared(p *protocol.Prepare) protocol.Prepared {
	m := protocol.Prepared{SwapID: p.SwapID, Epoch: c.epoch, BootSeq: c.boot, BootID: c.bootID()}
	sum := sha256.Sum256([]byte(p.SwapID))
	copy(m.Nonce[:], sum[:])
	m.DepositSlots, m.Dispense = c.offers(p.Kind)
	return m
}

// offers are the slots that a prepare or a grant of this kind gets.
func (c *cabinet) offers(k protocol.Kind) (empty []int, charged []protocol.Offer) {
	for _, slot := range []int{3, 4, 7, 8} {
		serial := c.serials[slot]
		switch {
		case serial == "" && k.Deposits() && len(empty) < protocol.MaxDepositSlots:
			empty = append(empty, slot)
		case serial != "" && k.Dispenses() && len(charged) < protocol.MaxOffers:
			charged = append(charged, protocol.Offer{Slot: slot, BatterySerial: serial, Soc: 97})
		}
	}
	return empty, charged
}

// granted takes a scan as far as the grant.
func (c *cabinet) granted(r swap.RiderID, handBack bool) *protocol.Grant {
	c.d.t.Helper()
	c.d.keys++
	v, p, no, err := c.d.store.Request(context.Background(), swap.Scan{
		RiderID: r, CabinetID: c.id, HandBack: handBack, IdempotencyKey: fmt.Sprintf("key-%d", c.d.keys),
	})
	require.NoError(c.d.t, err)
	require.Nil(c.d.t, no)
	require.Equal(c.d.t, swap.StateRequested, v.State)
	g, err := c.d.store.Prepared(context.Background(), c.id, c.prepared(p))
	require.NoError(c.d.t, err)
	require.NotNil(c.d.t, g)
	return g
}

func (c *cabinet) accept(g *protocol.Grant) {
	c.d.t.Helper()
	raw, err := protocol.Seal("g1", c.d.grant, c.id, g)
	require.NoError(c.d.t, err)
	c.write(protocol.Accept{SwapID: g.SwapID, Kind: g.Kind, Nonce: g.Nonce, BootID: g.BootID, Grant: string(raw)})
}

// deposit is a battery into the first granted slot.
func (c *cabinet) deposit(g *protocol.Grant, serial protocol.BatterySerial) {
	c.d.t.Helper()
	soc, slot := 31, g.DepositSlots[0]
	c.serials[slot] = serial
	c.write(
		protocol.Intent{SwapID: g.SwapID, Slot: slot, Purpose: protocol.PurposeDeposit, Pulse: 1},
		protocol.DoorMoved{SwapID: g.SwapID, Slot: slot, Purpose: protocol.PurposeDeposit, Door: protocol.DoorOpen},
		protocol.DoorMoved{SwapID: g.SwapID, Slot: slot, Purpose: protocol.PurposeDeposit, Door: protocol.DoorShut},
		protocol.Deposit{SwapID: g.SwapID, Slot: slot, Battery: protocol.Battery{BatterySerial: serial, Soc: &soc}, Accepted: true},
	)
}

// take is the battery of the first offer.
func (c *cabinet) take(g *protocol.Grant) protocol.Offer {
	c.d.t.Helper()
	o := g.Dispense[0]
	delete(c.serials, o.Slot)
	c.write(
		protocol.Intent{SwapID: g.SwapID, Slot: o.Slot, Purpose: protocol.PurposeDispense, Pulse: 1, BatterySerial: o.BatterySerial},
		protocol.DoorMoved{SwapID: g.SwapID, Slot: o.Slot, Purpose: protocol.PurposeDispense, Door: protocol.DoorOpen},
		protocol.Taken{SwapID: g.SwapID, Slot: o.Slot, BatterySerial: o.BatterySerial},
	)
	return o
}

// swapped writes a whole swap: serial in, the first offer out, which is returned.
func (c *cabinet) swapped(g *protocol.Grant, serial protocol.BatterySerial) protocol.BatterySerial {
	c.d.t.Helper()
	c.accept(g)
	c.deposit(g, serial)
	o := c.take(g)
	c.write(protocol.Closed{
		SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeSwapped,
		DepositSlot: g.DepositSlots[0], Deposited: serial, TakeSlot: o.Slot, Taken: o.BatterySerial,
	})
	return o.BatterySerial
}

// desk is a Recorder and the answers that came out of it.
type desk struct {
	*postgres.Recorder
	t        testing.TB
	mu       sync.Mutex
	acks     map[protocol.CabinetID]protocol.LogAck
	asked    map[protocol.CabinetID]protocol.HelloRequest
	rejected map[protocol.CabinetID]int
	came     chan struct{}
}

func (d *deck) desk(s *postgres.Store) *desk {
	k := &desk{
		t: d.t, acks: map[protocol.CabinetID]protocol.LogAck{}, asked: map[protocol.CabinetID]protocol.HelloRequest{},
		rejected: map[protocol.CabinetID]int{}, came: make(chan struct{}, 1),
	}
	note := func(f func()) {
		k.mu.Lock()
		f()
		k.mu.Unlock()
		select {
		case k.came <- struct{}{}:
		default:
		}
	}
	k.Recorder = postgres.NewRecorder(s, postgres.RecorderOptions{
		Acked: func(id protocol.CabinetID, a protocol.LogAck) { note(func() { k.acks[id] = a }) },
		Ask:   func(id protocol.CabinetID, m protocol.HelloRequest) { note(func() { k.asked[id] = m }) },
		Hooks: postgres.Hooks{Rejected: func(id protocol.CabinetID, _ error) { note(func() { k.rejected[id]++ }) }},
	})
	d.t.Cleanup(k.Close)
	return k
}

// until waits for an answer that satisfies ok.
func (k *desk) until(ok func() bool) {
	k.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		k.mu.Lock()
		done := ok()
		k.mu.Unlock()
		if done {
			return
		}
		select {
		case <-k.came:
		case <-deadline.C:
			k.t.Fatal("the answer did not come")
		}
	}
}

// ack is the last answer to a cabinet's log.
func (k *desk) ack(id protocol.CabinetID) protocol.LogAck {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.acks[id]
}

// sends submits and waits until all of it is acknowledged.
func (k *desk) sends(c *cabinet) { k.sendsUpto(c, len(c.raws)) }

// sendsUpto sends no record after upto.
func (k *desk) sendsUpto(c *cabinet, upto int) {
	k.t.Helper()
	for from := int(c.acked) + 1; from <= upto; from = int(c.acked) + 1 {
		to := min(from+protocol.MaxLogRecords-1, upto)
		require.True(k.t, k.Submit(c.log(from, to)))
		k.until(func() bool { return k.acks[c.id].Epoch == c.epoch && k.acks[c.id].UptoSeq >= uint64(to) })
		c.acked = uint64(to)
		require.Equal(k.t, c.hashes[to-1], k.ack(c.id).HashAtUpto)
	}
}

// execAt runs a statement in another database of the same server.
func execAt(url, database, sql string) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	cfg.Database = database
	conn, err := pgx.ConnectConfig(context.Background(), cfg)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(context.Background(), sql)
	return err
}

// backup copies the database as it is now.
func (d *deck) backup() string {
	d.t.Helper()
	name := query[string](d, `SELECT current_database()`)
	d.store.Close()
	require.NoError(d.t, d.conn.Close(context.Background()))
	require.NoError(d.t, execAt(d.url, "postgres", fmt.Sprintf(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'`, name)))
	require.NoError(d.t, execAt(d.url, "postgres", fmt.Sprintf(`CREATE DATABASE "%s_backup" TEMPLATE "%s"`, name, name)))
	d.t.Cleanup(func() {
		_ = execAt(d.url, "postgres", fmt.Sprintf(`DROP DATABASE IF EXISTS "%s_backup" WITH (FORCE)`, name))
	})
	d.store = d.open()
	return name + "_backup"
}

// restore puts a copy in the place of the database.
func (d *deck) restore(backup string) {
	d.t.Helper()
	name := query[string](d, `SELECT current_database()`)
	d.store.Close()
	require.NoError(d.t, d.conn.Close(context.Background()))
	require.NoError(d.t, execAt(d.url, "postgres", fmt.Sprintf(`DROP DATABASE "%s" WITH (FORCE)`, name)))
	require.NoError(d.t, execAt(d.url, "postgres", fmt.Sprintf(`ALTER DATABASE "%s" RENAME TO "%s"`, backup, name)))
	d.store = d.open()
}

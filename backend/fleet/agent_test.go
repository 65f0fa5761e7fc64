package fleet

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// agent plays a cabinet's part by the script: it answers prepare, and a test
// says which records it writes. Its journal is in memory.
type agent struct {
	t      testing.TB
	id     protocol.CabinetID
	key    ed25519.PrivateKey
	lookup protocol.KeyLookup
	client mqtt.Client

	mu      sync.Mutex
	epoch   protocol.Epoch
	boot    protocol.BootID
	records [][]byte // from seq 1
	seq     uint64   // of the last
	last    protocol.Hash
	acked   uint64
	offers  []protocol.Offer
	deposit []int
	mute    bool // answers no prepare
	refuse  protocol.Reason
	began   time.Time

	hellos   chan protocol.HelloOK
	acks     chan protocol.LogAck
	prepares chan protocol.Prepare
	grants   chan granted
	cancels  chan protocol.Cancel
	wishes   chan protocol.Wish
	guides   chan protocol.Guide
	asks     chan protocol.HelloRequest // those that nobody waits for are lost
	orders   chan protocol.MaintenanceGrant
}

type granted struct {
	protocol.Grant
	raw string
	at  time.Time
}

func newAgent(t testing.TB, id protocol.CabinetID, lookup protocol.KeyLookup) *agent {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	a := &agent{
		t: t, id: id, key: key, lookup: lookup, began: time.Now(), deposit: []int{3},
		offers: []protocol.Offer{{Slot: 7, BatterySerial: serialAt(id, 7), Soc: 97}},
		hellos: make(chan protocol.HelloOK, 10), acks: make(chan protocol.LogAck, 100), prepares: make(chan protocol.Prepare, 10),
		grants: make(chan granted, 10), cancels: make(chan protocol.Cancel, 10), wishes: make(chan protocol.Wish, 10),
		guides: make(chan protocol.Guide, 100),
		asks:   make(chan protocol.HelloRequest, 1),
		orders: make(chan protocol.MaintenanceGrant, 10),
	}
	_, err = rand.Read(a.epoch[:])
	require.NoError(t, err)
	_, err = rand.Read(a.boot[:])
	require.NoError(t, err)
	a.write(protocol.Boot{BootID: a.boot, Software: "script", Epoch: a.epoch})
	return a
}

func serialAt(id protocol.CabinetID, slot int) protocol.BatterySerial {
	return protocol.BatterySerial(fmt.Sprintf("B-%s-%d", id, slot))
}

func (a *agent) public() ed25519.PublicKey { return a.key.Public().(ed25519.PublicKey) }

// connect connects and answers from now on.
func (a *agent) connect(broker *url.URL) {
	a.t.Helper()
	o := mqtt.NewClientOptions().AddBroker(broker.String()).SetClientID("agent-" + string(a.id)).SetMaxReconnectInterval(200 * time.Millisecond).
		SetConnectRetry(true).SetConnectRetryInterval(100 * time.Millisecond).
		SetOnConnectHandler(func(c mqtt.Client) {
			c.Subscribe(protocol.Topic(a.id, protocol.Down), 1, func(_ mqtt.Client, m mqtt.Message) { a.got(m.Payload(), time.Now()) })
		})
	a.client = mqtt.NewClient(o)
	a.client.Connect()
	a.t.Cleanup(func() { a.client.Disconnect(0) })
}

func (a *agent) got(raw []byte, at time.Time) {
	e, err := protocol.Open(raw, a.lookup)
	if err != nil || e.CabinetID != a.id {
		a.t.Errorf("%s got what no backend of ours signed: %v", a.id, err)
		return
	}
	switch e.Type {
	case protocol.TypeHelloOK:
		pass(a, e, a.hellos)
	case protocol.TypeHelloRequest:
		var m protocol.HelloRequest
		if err := protocol.Decode(e, &m); err != nil {
			a.t.Error(err)
			return
		}
		select {
		case a.asks <- m:
		default:
		}
	case protocol.TypeLogAck:
		pass(a, e, a.acks)
	case protocol.TypeCancel:
		pass(a, e, a.cancels)
	case protocol.TypeWish:
		pass(a, e, a.wishes)
	case protocol.TypeGuide:
		pass(a, e, a.guides)
	case protocol.TypeMaintenanceGrant:
		pass(a, e, a.orders)
	case protocol.TypeMaintenanceRequest:
		var m protocol.MaintenanceRequest
		if err := protocol.Decode(e, &m); err != nil {
			a.t.Error(err)
			return
		}
		a.asked(m)
	case protocol.TypePrepare:
		var m protocol.Prepare
		if err := protocol.Decode(e, &m); err != nil {
			a.t.Error(err)
			return
		}
		a.answer(m)
	case protocol.TypeGrant:
		var m protocol.Grant
		if err := protocol.Decode(e, &m); err != nil {
			a.t.Error(err)
			return
		}
		a.grants <- granted{m, string(raw), at}
	default:
		a.t.Errorf("%s got a %s", a.id, e.Type)
	}
}

func pass[M protocol.Message](a *agent, e protocol.Envelope, to chan<- M) {
	var m M
	if err := protocol.Decode(e, &m); err != nil {
		a.t.Error(err)
		return
	}
	select {
	case to <- m:
	default:
		a.t.Errorf("%s: too many of %s", a.id, e.Type)
	}
}

func (a *agent) answer(m protocol.Prepare) {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case a.prepares <- m:
	default:
	}
	switch {
	case a.mute:
	case a.refuse != "":
		a.send(protocol.UpRPC, protocol.Refused{SwapID: m.SwapID, Reason: a.refuse})
	default:
		p := protocol.Prepared{SwapID: m.SwapID, Epoch: a.epoch, BootSeq: 1, BootID: a.boot}
		_, _ = rand.Read(p.Nonce[:]) // never fails
		if m.Kind.Deposits() {
			p.DepositSlots = a.deposit
		}
		if m.Kind.Dispenses() {
			p.Dispense = a.offers
		}
		a.send(protocol.UpRPC, p)
	}
}

// asked answers an order as it answers prepare.
func (a *agent) asked(m protocol.MaintenanceRequest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mute {
		return
	}
	answer := protocol.MaintenanceAnswer{OrderID: m.OrderID, Epoch: a.epoch, BootSeq: 1, BootID: a.boot, Reason: a.refuse}
	if a.refuse == "" {
		_, _ = rand.Read(answer.Nonce[:]) // never fails
	}
	a.send(protocol.UpRPC, answer)
}

func (a *agent) send(ch protocol.Channel, m protocol.Message) {
	raw, err := protocol.Seal(protocol.KeyID(a.public()), a.key, a.id, m)
	if err != nil {
		a.t.Error(err)
		return
	}
	a.client.Publish(protocol.Topic(a.id, ch), 1, false, raw)
}

// write appends a record to the journal.
func (a *agent) write(p protocol.Payload) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	payload, err := protocol.MarshalPayload(p)
	require.NoError(a.t, err)
	a.seq++
	raw, err := protocol.AppendRecord(nil, protocol.Record{
		EpochShort: a.epoch.Short(), Seq: a.seq, BootSeq: 1, MonoMS: a.mono(), WallMS: uint64(time.Now().UnixMilli()),
		Clock: protocol.ClockSynchronised, Type: p.RecordType(), PrevHash: a.last, Payload: payload,
	})
	require.NoError(a.t, err)
	_, _, a.last, err = protocol.DecodeRecord(raw)
	require.NoError(a.t, err)
	a.records = append(a.records, raw)
}

func (a *agent) mono() uint64 { return uint64(time.Since(a.began).Milliseconds()) + 1 }

// log is the next batch, or false when all is acknowledged.
func (a *agent) log() (protocol.Log, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.acked == uint64(len(a.records)) {
		return protocol.Log{}, false
	}
	m := protocol.Log{Epoch: a.epoch, MonoMS: a.mono(), BootSeq: 1, FromSeq: a.acked + 1, HeadHash: a.last}
	m.Records = a.records[a.acked:]
	if len(m.Records) > protocol.MaxLogRecords {
		m.Records = m.Records[:protocol.MaxLogRecords]
	}
	return m, true
}

// ship sends what is not acknowledged, again and again, until it is.
func (a *agent) ship() {
	a.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		m, more := a.log()
		if !more {
			return
		}
		a.send(protocol.UpLog, m)
		select {
		case ack := <-a.acks:
			a.mu.Lock()
			a.acked = max(a.acked, ack.UptoSeq)
			a.mu.Unlock()
		case <-time.After(500 * time.Millisecond): // lost: send again
		case <-deadline:
			require.FailNow(a.t, "records are not acknowledged")
		}
	}
}

// hello says hello until it is answered.
func (a *agent) hello() protocol.HelloOK {
	a.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		a.mu.Lock()
		m := protocol.Hello{
			Epoch: a.epoch, FirstSeq: 1, TailSeq: uint64(len(a.records)), TailHash: a.last, AckedSeq: a.acked, BootID: a.boot, BootSeq: 1,
			Software: "script", ClockState: protocol.ClockSynchronised,
		}
		if a.acked > 0 {
			_, _, m.AckedHash, _ = protocol.DecodeRecord(a.records[a.acked-1]) // our own bytes
		}
		a.mu.Unlock()
		a.send(protocol.UpRPC, m)
		select {
		case ok := <-a.hellos:
			return ok
		case <-time.After(200 * time.Millisecond):
		case <-deadline:
			require.FailNow(a.t, "hello is not answered")
		}
	}
}

// beat sends telemetry.
func (a *agent) beat() {
	slots := protocol.Inventory{}
	age := int64(10)
	for n := 1; n <= 12; n++ {
		s := protocol.SlotState{Slot: n, Door: protocol.DoorShut, Closed: true, Presence: protocol.PresenceEmpty, AgeMS: &age}
		if n == 7 {
			soc := 97
			s.Presence, s.BatterySerial, s.Soc, s.Charged, s.SocAgeMS = protocol.HoldsBattery, serialAt(a.id, 7), &soc, true, &age
		}
		slots = append(slots, s)
	}
	a.send(protocol.UpTelemetry, protocol.Telemetry{BootID: a.boot, BootSeq: 1, MonoMS: a.mono(), Software: "script", BacklogRecords: 2, Slots: slots})
}

// carryOut writes what a swap that goes well leaves in the journal.
func (a *agent) carryOut(g granted) {
	a.t.Helper()
	in, out, own := g.DepositSlots[0], g.Dispense[0], g.ExpectSerials[0]
	soc := 31
	for _, p := range []protocol.Payload{
		protocol.Accept{SwapID: g.SwapID, Kind: g.Kind, Nonce: g.Nonce, BootID: g.BootID, Grant: g.raw},
		protocol.Intent{SwapID: g.SwapID, Slot: in, Purpose: protocol.PurposeDeposit, Pulse: 1},
		protocol.DoorMoved{SwapID: g.SwapID, Slot: in, Purpose: protocol.PurposeDeposit, Door: protocol.DoorOpen},
		protocol.DoorMoved{SwapID: g.SwapID, Slot: in, Purpose: protocol.PurposeDeposit, Door: protocol.DoorShut},
		protocol.Deposit{SwapID: g.SwapID, Slot: in, Battery: protocol.Battery{BatterySerial: own, Soc: &soc}, Accepted: true},
		protocol.Intent{SwapID: g.SwapID, Slot: out.Slot, Purpose: protocol.PurposeDispense, Pulse: 1, BatterySerial: out.BatterySerial},
		protocol.DoorMoved{SwapID: g.SwapID, Slot: out.Slot, Purpose: protocol.PurposeDispense, Door: protocol.DoorOpen},
		protocol.Taken{SwapID: g.SwapID, Slot: out.Slot, BatterySerial: out.BatterySerial},
		protocol.Closed{
			SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeSwapped, DepositSlot: in, Deposited: own,
			TakeSlot: out.Slot, Taken: out.BatterySerial,
		},
	} {
		a.write(p)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// What was put in is charged now, and what was emptied takes the next.
	a.offers = []protocol.Offer{{Slot: in, BatterySerial: own, Soc: 97}}
	a.deposit = []int{out.Slot}
}

func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(30 * time.Second):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

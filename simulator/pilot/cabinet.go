package pilot

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"batteryswap/protocol"
	"batteryswap/simulator/broker"
)

// Bounds of a cabinet's talk with the backend.
const (
	maxInbox    = 64
	answerTime  = 30 * time.Second
	resendAfter = time.Second
	beatEvery   = 10 * time.Second // of real time: the backend must not take the cabinet for gone
)

// cabinet plays an agent by the script. Its journal is in memory; all its times are
// of the pilot's days.
type cabinet struct {
	id     protocol.CabinetID
	key    ed25519.PrivateKey
	lookup protocol.KeyLookup
	broker *broker.Broker
	facts  *facts
	inbox  chan []byte
	beatAt time.Time // real time of the last telemetry

	epoch   protocol.Epoch
	boot    protocol.BootID
	bootSeq uint32
	booted  time.Time
	now     time.Time
	clock   protocol.ClockState
	records [][]byte // from seq 1
	last    protocol.Hash
	acked   uint64
	ackedAt protocol.Hash
	grant   *granted
}

type granted struct {
	protocol.Grant
	raw string
}

func newCabinet(id protocol.CabinetID, b *broker.Broker, f *facts) (*cabinet, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &cabinet{id: id, key: key, broker: b, facts: f, inbox: make(chan []byte, maxInbox)}
	_, _ = rand.Read(c.epoch[:]) // never fails
	return c, nil
}

func (c *cabinet) public() ed25519.PublicKey { return c.key.Public().(ed25519.PublicKey) }

// listen takes what the backend sends from now on. What is too much is lost, as it
// may be on any network.
func (c *cabinet) listen() error {
	return c.broker.Hear(protocol.Topic(c.id, protocol.Down), func(raw []byte) {
		select {
		case c.inbox <- raw:
		default:
		}
	})
}

func (c *cabinet) send(ch protocol.Channel, m protocol.Message) error {
	raw, err := protocol.Seal(protocol.KeyID(c.public()), c.key, c.id, m)
	if err != nil {
		return err
	}
	return c.broker.Say(protocol.Topic(c.id, ch), raw)
}

// start begins a boot.
func (c *cabinet) start(at time.Time, clock protocol.ClockState) error {
	c.booted, c.now, c.clock = at, at, clock
	c.bootSeq++
	_, _ = rand.Read(c.boot[:]) // never fails
	return c.write(protocol.Boot{BootID: c.boot, Software: "pilot", Epoch: c.epoch})
}

func (c *cabinet) mono(at time.Time) uint64 { return uint64(at.Sub(c.booted).Milliseconds()) + 1 }

// write appends a record, of now.
func (c *cabinet) write(p protocol.Payload) error {
	payload, err := protocol.MarshalPayload(p)
	if err != nil {
		return err
	}
	wall := c.now
	if c.clock != protocol.ClockSynchronised {
		wall = time.Unix(0, 0).Add(wall.Sub(c.booted)) // a clock without a battery
	}
	raw, err := protocol.AppendRecord(nil, protocol.Record{
		EpochShort: c.epoch.Short(), Seq: uint64(len(c.records)) + 1, BootSeq: c.bootSeq, MonoMS: c.mono(c.now), WallMS: uint64(wall.UnixMilli()),
		Clock: c.clock, Type: p.RecordType(), PrevHash: c.last, Payload: payload,
	})
	if err != nil {
		return err
	}
	if _, _, c.last, err = protocol.DecodeRecord(raw); err != nil {
		return err
	}
	c.records = append(c.records, raw)
	return nil
}

// hello says hello until it is answered.
func (c *cabinet) hello(ctx context.Context, challenge protocol.Challenge) error {
	m := protocol.Hello{
		Epoch: c.epoch, FirstSeq: 1, TailSeq: uint64(len(c.records)), TailHash: c.last, AckedSeq: c.acked, AckedHash: c.ackedAt,
		BootID: c.boot, BootSeq: c.bootSeq, Software: "pilot", ClockState: c.clock, Challenge: challenge,
	}
	return c.again(ctx, "hello is not answered", func() error { return c.send(protocol.UpRPC, m) }, protocol.TypeHelloOK)
}

// tell ships the journal until all of it is acknowledged.
func (c *cabinet) tell(ctx context.Context) error {
	for c.acked < uint64(len(c.records)) {
		m := protocol.Log{Epoch: c.epoch, MonoMS: c.mono(c.now), BootSeq: c.bootSeq, FromSeq: c.acked + 1, HeadHash: c.last, Records: c.records[c.acked:]}
		m.Records = m.Records[:min(len(m.Records), protocol.MaxLogRecords)]
		before := c.acked
		err := c.again(ctx, "records are not acknowledged", func() error { return c.send(protocol.UpLog, m) }, protocol.TypeLogAck)
		if err != nil {
			return err
		}
		if c.acked < before {
			return fmt.Errorf("%s: the backend went back from record %d to %d", c.id, before, c.acked)
		}
	}
	return nil
}

// again sends until an answer of that type comes.
func (c *cabinet) again(ctx context.Context, otherwise string, send func() error, want protocol.Type) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for {
		if err := send(); err != nil {
			return err
		}
		resend := time.After(resendAfter)
		for waiting := true; waiting; {
			select {
			case raw := <-c.inbox:
				got, err := c.got(ctx, raw)
				if err != nil {
					return err
				}
				if got == want {
					return nil
				}
			case <-resend:
				waiting = false
			case <-ctx.Done():
				return fmt.Errorf("%s: %s: %w", c.id, otherwise, ctx.Err())
			}
		}
	}
}

// got takes one message and answers it.
func (c *cabinet) got(ctx context.Context, raw []byte) (protocol.Type, error) {
	e, err := protocol.Open(raw, c.lookup)
	if err != nil {
		return "", fmt.Errorf("%s got what no backend of ours signed: %w", c.id, err)
	}
	switch e.Type {
	case protocol.TypeHelloRequest:
		var m protocol.HelloRequest
		if err := protocol.Decode(e, &m); err != nil {
			return "", err
		}
		return e.Type, c.hello(ctx, m.Challenge)
	case protocol.TypeLogAck:
		var m protocol.LogAck
		if err := protocol.Decode(e, &m); err != nil {
			return "", err
		}
		c.acked, c.ackedAt = m.UptoSeq, m.HashAtUpto
	case protocol.TypePrepare:
		var m protocol.Prepare
		if err := protocol.Decode(e, &m); err != nil {
			return "", err
		}
		return e.Type, c.prepare(m)
	case protocol.TypeGrant:
		g := granted{raw: string(raw)}
		if err := protocol.Decode(e, &g.Grant); err != nil {
			return "", err
		}
		c.grant = &g
	}
	return e.Type, nil
}

func (c *cabinet) prepare(m protocol.Prepare) error {
	p := protocol.Prepared{SwapID: m.SwapID, Epoch: c.epoch, BootSeq: c.bootSeq, BootID: c.boot}
	_, _ = rand.Read(p.Nonce[:]) // never fails
	if m.Kind.Deposits() {
		p.DepositSlots = c.facts.empty(c.id)
	}
	if m.Kind.Dispenses() {
		p.Dispense = c.facts.offers(c.id, c.now)
	}
	switch {
	case m.Kind.Deposits() && len(p.DepositSlots) == 0:
		return c.send(protocol.UpRPC, protocol.Refused{SwapID: m.SwapID, Reason: protocol.ReasonNoEmptySlot})
	case m.Kind.Dispenses() && len(p.Dispense) == 0:
		return c.send(protocol.UpRPC, protocol.Refused{SwapID: m.SwapID, Reason: protocol.ReasonNoChargedBattery})
	}
	return c.send(protocol.UpRPC, p)
}

// scan lets a phone ask for a swap and answers what the backend asks meanwhile. It
// returns the grant.
func (c *cabinet) scan(ctx context.Context, ask func() error) (granted, error) {
	if time.Since(c.beatAt) > beatEvery {
		c.beatAt = time.Now()
		if err := c.send(protocol.UpTelemetry, protocol.Telemetry{BootID: c.boot, BootSeq: c.bootSeq, MonoMS: c.mono(c.now), Software: "pilot"}); err != nil {
			return granted{}, err
		}
	}
	c.grant = nil
	asked := make(chan error, 1)
	go func() { asked <- ask() }()
	timeout := time.After(answerTime)
	for answered := false; !answered || c.grant == nil; {
		select {
		case raw := <-c.inbox:
			if _, err := c.got(ctx, raw); err != nil {
				return granted{}, err
			}
		case err := <-asked:
			if err != nil {
				return granted{}, fmt.Errorf("scan at %s on %s: %w", c.id, c.now.In(street).Format(time.DateTime), err)
			}
			answered = true
		case <-timeout:
			return granted{}, errors.New("a granted scan has no grant")
		}
	}
	return *c.grant, nil
}

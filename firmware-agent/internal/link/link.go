package link

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"batteryswap/protocol"
)

// Bounds and periods of the link.
const (
	// inboundQueue bounds messages received and not yet looked at; outboundQueue
	// those to be sent. Full: the message is dropped and counted, and whoever
	// cares sends it again.
	inboundQueue  = 64
	outboundQueue = 64

	// Reconnecting: 1 s, doubling, ± 20 %.
	minReconnect = time.Second
	maxReconnect = 60 * time.Second
	// A connection that lived this long starts the doubling anew.
	steady = 30 * time.Second
	// While the broker is not reached, that is said this often.
	complainEvery = time.Minute
)

// Journal is what the link ships. *journal.Journal fits, but for Position.
type Journal interface {
	Position() Position
	Read(from uint64, maxRecords, maxBytes int) ([][]byte, error)
	Ack(upto uint64, hash protocol.Hash) error
}

// Position is where the journal stands.
type Position struct {
	Epoch     protocol.Epoch
	FirstSeq  uint64
	TailSeq   uint64
	TailHash  protocol.Hash
	AckedSeq  uint64
	AckedHash protocol.Hash
	BootSeq   uint32
}

// Options are what a link needs. The functions are called from the link's own
// goroutine and must not wait for it.
type Options struct {
	CabinetID protocol.CabinetID
	BootID    protocol.BootID
	Software  string
	DeviceKey crypto.Signer // Ed25519
	Keys      *KeyRing
	// Verify is nil but in simulations: ed25519.Verify.
	Verify protocol.Verify
	Broker Broker

	// Journal is nil when it could not be opened: then there is telemetry only.
	Journal Journal
	// Clock is the agent's monotonic clock in ms, and the state of its wall clock.
	Clock func() (monoMS uint64, state protocol.ClockState)
	// Random is for jitter.
	Random *rand.Rand
	Log    *slog.Logger

	Inventory     func() protocol.Inventory
	ConfigVersion func() int64

	// Deliver takes a verified command: prepare, grant, cancel, wish,
	// guide or inventory_request, with its envelope. False: it was dropped.
	Deliver func(m protocol.Message, raw []byte) bool
	// Greeted takes what the backend answered to a hello. False: it could not
	// be taken now, and the link asks again.
	Greeted func(m protocol.HelloOK, keysVersion int64) bool
	// Rejected is told of each message that was refused, but for those that a
	// restart here or there explains. t is empty when it is not known.
	Rejected func(t protocol.Type, why string)

	// Connected and Counted are for metrics. Directions are "in" and "out".
	Connected func(bool)
	Counted   func(direction string, t protocol.Type, result Result)
}

// Result is what became of a message; it is a metric's label.
type Result string

// The results.
const (
	ResultOK             Result = "ok"
	ResultDropped        Result = "dropped" // a queue was full, or there is no connection
	ResultFailed         Result = "failed"  // could not be encoded or handed to the broker
	ResultRetained       Result = "retained"
	ResultForeign        Result = "foreign" // another topic or another cabinet
	ResultOversized      Result = "oversized"
	ResultMalformed      Result = "malformed"
	ResultUnknownKey     Result = "unknown_key"
	ResultWrongSignature Result = "wrong_signature"
	ResultUnexpected     Result = "unexpected" // a type that is not for a cabinet
	ResultStale          Result = "stale"      // of another boot or epoch
	ResultWrongAck       Result = "wrong_ack"  // acknowledges what this journal does not hold
)

// pipe is one connection to the broker, subscribed. It delivers nothing for
// sure in either direction.
type pipe interface {
	publish(topic string, qos byte, payload []byte) error
	// lost is closed when the connection is gone.
	lost() <-chan struct{}
	close()
}

// inbound is a message as the broker handed it over.
type inbound struct {
	topic    string
	retained bool
	payload  []byte
}

// Link is the connection. Make it with New, start it once.
type Link struct {
	opt     Options
	connect func(context.Context, func(inbound)) (pipe, error)

	up       atomic.Bool
	in       chan inbound
	out      chan protocol.Message
	appended chan struct{}
	cancel   context.CancelFunc
	done     chan struct{}

	core *Core // belongs to the goroutine of run
}

// New makes a link. It does nothing until Start.
func New(opt Options) (*Link, error) {
	if opt.Connected == nil {
		opt.Connected = func(bool) {}
	}
	core := NewCore(opt)
	l := &Link{
		opt:      core.opt,
		core:     core,
		in:       make(chan inbound, inboundQueue),
		out:      make(chan protocol.Message, outboundQueue),
		appended: make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
	will, err := core.seal(protocol.Will{BootID: opt.BootID})
	if err != nil {
		return nil, fmt.Errorf("make the link: %w", err)
	}
	l.connect = func(ctx context.Context, receive func(inbound)) (pipe, error) {
		return dial(ctx, core.opt, will, receive)
	}
	return l, nil
}

// Start begins to connect, and goes on for ever until Stop.
func (l *Link) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go l.run(ctx)
}

// Stop disconnects and waits for the link's goroutine.
func (l *Link) Stop() {
	l.cancel()
	<-l.done
}

// Send takes a message for the backend. False: it is dropped, for there is no
// connection or too much is waiting. True does not say that it arrives.
func (l *Link) Send(m protocol.Message) bool {
	if l.up.Load() {
		select {
		case l.out <- m:
			return true
		default:
		}
	}
	l.opt.Counted("out", m.MessageType(), ResultDropped)
	return false
}

// Appended says that the journal has new records.
func (l *Link) Appended() {
	select {
	case l.appended <- struct{}{}:
	default:
	}
}

func (l *Link) run(ctx context.Context) {
	defer close(l.done)
	wait := minReconnect
	var complained time.Time
	for ctx.Err() == nil {
		l.drain()
		p, err := l.connect(ctx, l.receive)
		began := time.Now()
		if err == nil {
			complained = time.Time{}
			l.opt.Log.Info("broker connected", "event", "mqtt_connected", "cabinet_id", l.opt.CabinetID)
			l.up.Store(true)
			l.opt.Connected(true)
			err = l.serve(ctx, p)
			l.up.Store(false)
			l.opt.Connected(false)
			p.close()
			if time.Since(began) >= steady {
				wait = minReconnect
			}
		}
		if ctx.Err() != nil {
			return
		}
		pause := jitter(l.opt.Random, wait)
		if complained.IsZero() || time.Since(complained) >= complainEvery {
			complained = time.Now()
			l.opt.Log.Warn("broker not connected; trying again", "event", "mqtt_disconnected",
				"cabinet_id", l.opt.CabinetID, "retry_ms", pause.Milliseconds(), "err", err)
		}
		wait = min(2*wait, maxReconnect)
		sleep(ctx, pause)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// jitter spreads d by ± 20 %, so that a fleet does not act in step.
func jitter(r *rand.Rand, d time.Duration) time.Duration {
	return d + time.Duration((r.Float64()-0.5)*0.4*float64(d))
}

// drain forgets what waits for a connection that is gone.
func (l *Link) drain() {
	for {
		select {
		case <-l.in:
		case m := <-l.out:
			l.opt.Counted("out", m.MessageType(), ResultDropped)
		default:
			return
		}
	}
}

// receive is called by the MQTT client: it only enqueues.
func (l *Link) receive(m inbound) {
	select {
	case l.in <- m:
	default:
		l.opt.Counted("in", unknownType, ResultDropped)
	}
}

var errLost = errors.New("the connection is lost")

// serve works on one connection until it ends.
func (l *Link) serve(ctx context.Context, p pipe) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.core.Greet(time.Now())
	for {
		var err error
		if m := l.core.Due(time.Now()); m != nil {
			err = l.publish(p, m)
		}
		if err != nil {
			return err
		}
		again := time.Hour // nothing is due
		if at := l.core.At(); !at.IsZero() {
			again = time.Until(at)
		}
		timer.Reset(again)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.lost():
			return errLost
		case m := <-l.in:
			l.core.accept(time.Now(), m)
		case m := <-l.out:
			err = l.publish(p, m)
		case <-l.appended:
		case <-timer.C:
		}
		if err != nil {
			return err
		}
	}
}

// publish hands a message to the broker. An error ends the connection; what
// cannot be encoded is only told.
func (l *Link) publish(p pipe, m protocol.Message) error {
	t := m.MessageType()
	out, err := l.core.Wrap(m)
	if err != nil {
		return nil
	}
	if err := p.publish(out.Topic, out.QoS, out.Payload); err != nil {
		l.opt.Counted("out", t, ResultFailed)
		return fmt.Errorf("publish %s: %w", t, err)
	}
	l.opt.Counted("out", t, ResultOK)
	return nil
}

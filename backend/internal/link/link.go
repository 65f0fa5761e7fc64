package link

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"

	"batteryswap/protocol"
)

// Bounds of the queues, in messages. A message is at most protocol.MaxEnvelope
// bytes; a full queue drops, and the protocol sends again.
const (
	maxQueuedLogs      = 2048
	maxQueuedCalls     = 4096
	maxQueuedTelemetry = 4096
	maxQueuedOut       = 8192
	// callWorkers handle calls, each of which waits for a commit.
	callWorkers = 8
)

// Handlers take verified messages. Log and Telemetry and Will must not block;
// the others may wait for the database.
type Handlers struct {
	Log       func(protocol.Envelope, protocol.Log)
	Hello     func(context.Context, protocol.CabinetID, protocol.Hello)
	Prepared  func(context.Context, protocol.CabinetID, protocol.Prepared)
	Refused   func(context.Context, protocol.CabinetID, protocol.Refused)
	Inventory func(context.Context, protocol.CabinetID, protocol.InventoryReport)
	// Maintenance takes a cabinet's answer to an order.
	Maintenance func(context.Context, protocol.CabinetID, protocol.MaintenanceAnswer)
	Telemetry   func(protocol.CabinetID, protocol.Telemetry)
	Will        func(protocol.CabinetID, protocol.Will)
}

// Keys speak for the backend: Ed25519.
type Keys struct {
	GrantID   string
	Grant     crypto.Signer
	ServiceID string
	Service   crypto.Signer
}

// Options of a Link. All are needed but the TLS configurations.
type Options struct {
	URL *url.URL // tcp:// or ssl://
	// TLS is for records and calls, TelemetryTLS for the other connection.
	// Without TelemetryTLS both use TLS. Both are ignored for tcp://.
	TLS, TelemetryTLS *tls.Config
	Keys              Keys
	Ring              *Ring
	Handlers          Handlers
	// Count is told of every message: direction is in or out, kind the type
	// of message or "unknown", result one of Results.
	Count func(direction, kind, result string)
	// Changed is told when a connection came up or was lost.
	Changed func(connection string, up bool)
	Log     *slog.Logger
}

// Link is both connections to the broker.
type Link struct {
	o         Options
	records   *connection
	telemetry *connection

	logs, calls, beats chan message
	out                chan outgoing

	draining  chan struct{} // closed: take in no more
	flushing  chan struct{} // closed: send what is queued, then end
	drainOnce sync.Once
	stopOnce  sync.Once

	cancelConnections context.CancelFunc
	cancelHandlers    context.CancelFunc
	connections       sync.WaitGroup
	workers           sync.WaitGroup
	sender            sync.WaitGroup
	edge              edge
	started           atomic.Bool
}

func isEd25519(k crypto.Signer) bool {
	key, ok := k.(ed25519.PrivateKey)
	return ok && len(key) == ed25519.PrivateKeySize
}

// New makes a link that is not started.
func New(o Options) (*Link, error) {
	switch {
	case o.URL == nil:
		return nil, errors.New("link: url: want tcp://HOST:PORT or ssl://HOST:PORT")
	case !isEd25519(o.Keys.Grant) || !isEd25519(o.Keys.Service):
		return nil, errors.New("link: keys: want a grant key and a service key")
	case o.Ring == nil || o.Count == nil || o.Changed == nil || o.Log == nil:
		return nil, errors.New("link: Ring, Count, Changed and Log are needed")
	}
	l := &Link{
		o:        o,
		logs:     make(chan message, maxQueuedLogs),
		calls:    make(chan message, maxQueuedCalls),
		beats:    make(chan message, maxQueuedTelemetry),
		out:      make(chan outgoing, maxQueuedOut),
		draining: make(chan struct{}),
		flushing: make(chan struct{}),
		edge:     edge{log: o.Log},
	}
	if o.TelemetryTLS == nil {
		o.TelemetryTLS = o.TLS
	}
	var err error
	l.records, err = newConnection("records", o.URL, o.TLS, o.Changed, o.Log, map[string]byte{
		protocol.SharedFilter(protocol.UpLog): 1,
		protocol.SharedFilter(protocol.UpRPC): 1,
	}, l.receive)
	if err != nil {
		return nil, err
	}
	l.telemetry, err = newConnection("telemetry", o.URL, o.TelemetryTLS, o.Changed, o.Log, map[string]byte{
		protocol.Filter(protocol.UpTelemetry): 0,
		protocol.Filter(protocol.UpWill):      1,
	}, l.receive)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Start connects and keeps connected until Stop; it never fails because a broker
// is down. Nothing is subscribed before Accept(true).
func (l *Link) Start() {
	if !l.started.CompareAndSwap(false, true) {
		return
	}
	connCtx, cancel := context.WithCancel(context.Background())
	l.cancelConnections = cancel
	handleCtx, cancel := context.WithCancel(context.Background())
	l.cancelHandlers = cancel
	for _, c := range []*connection{l.records, l.telemetry} {
		l.connections.Go(func() { c.run(connCtx) })
	}
	for range max(2, runtime.GOMAXPROCS(0)) {
		l.workers.Go(func() { l.work(handleCtx, l.logs) })
	}
	for range callWorkers {
		l.workers.Go(func() { l.work(handleCtx, l.calls) })
	}
	l.workers.Go(func() { l.work(handleCtx, l.beats) })
	l.sender.Go(l.send)
}

// Accept says whether messages of cabinets can be handled. While they cannot, as
// without a database, this replica leaves the shared subscriptions, so that the
// others get what it would have to drop.
func (l *Link) Accept(yes bool) {
	l.records.accept(yes)
	l.telemetry.accept(yes)
}

// Connected reports whether both connections are up.
func (l *Link) Connected() bool { return l.records.up() && l.telemetry.up() }

// CanPublish reports whether a message would leave now.
func (l *Link) CanPublish() bool { return l.records.up() }

// Drain takes in no more messages and returns when those taken in are handled,
// or when ctx ends. Publish goes on working.
func (l *Link) Drain(ctx context.Context) {
	l.drainOnce.Do(func() { close(l.draining) })
	if !l.started.Load() {
		return
	}
	l.Accept(false)
	stop := context.AfterFunc(ctx, l.cancelHandlers)
	defer stop()
	l.workers.Wait()
}

// Stop drains, sends what is queued, disconnects and waits for every goroutine.
func (l *Link) Stop(ctx context.Context) {
	l.Drain(ctx)
	if !l.started.Load() {
		return
	}
	l.stopOnce.Do(func() { close(l.flushing) })
	l.sender.Wait()
	l.records.flush()
	l.cancelConnections()
	l.connections.Wait()
	l.cancelHandlers()
}

// clientID is new for every connection: two clients with one name would throw
// each other out. A broker with use_username_as_clientid replaces it.
func clientID(name string) string {
	return fmt.Sprintf("backend-%s-%s", name, rand.Text()[:8])
}

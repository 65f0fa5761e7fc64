package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"batteryswap/backend/internal/link"
	"batteryswap/backend/internal/notify"
	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/web"
)

// Bounds of the servers, against slow and silent clients.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 20 * time.Second // a scan may take five; streams set their own
	idleTimeout       = 60 * time.Second
	// drainTimeout bounds the wait for the database when this backend stops.
	drainTimeout = 5 * time.Second
)

// Notifier tells people outside, at once.
type Notifier = notify.Notifier

// Options of a Fleet.
type Options struct {
	DatabaseURL string
	// BrokerURL is tcp:// or ssl://; the latter needs BrokerTLS. TelemetryTLS
	// is for the second connection; without it both use BrokerTLS.
	BrokerURL               *url.URL
	BrokerTLS, TelemetryTLS *tls.Config
	Keys                    Keys
	// Listen and MetricsListen are HOST:PORT; port 0 takes a free one.
	Listen, MetricsListen string
	// MetricsSlots says of which slots metrics tell; "": of those with an alarm.
	MetricsSlots MetricsSlots
	// PublicURL is how phones reach the backend; nil: http:// and the address.
	PublicURL *url.URL
	// Hotline is whom riders call where a cabinet has no number of its own.
	Hotline string
	// TrustedProxies are believed when they say where a request comes from.
	TrustedProxies []netip.Prefix
	// RiderCode lets every rider sign in with this code; "" lets nobody.
	RiderCode string
	// RetentionMonths is how long a person is kept after their membership ended; 0
	// is a year and a month, so that a yearly report can still be asked about.
	RetentionMonths int
	// Notifier tells people of safety events; nil: the log is all.
	Notifier Notifier
	// CodeSender sends codes to riders' phones; nil: riders bind with codes that
	// staff hand out. CodesPerHour bounds them, and WrongPerHour the wrong ones that
	// are tried, of all phones together; 0: as package binding has it.
	CodeSender                 CodeSender
	CodesPerHour, WrongPerHour int
	Version                    string
	Log                        *slog.Logger
}

// Fleet is one backend.
type Fleet struct {
	o       Options
	log     *slog.Logger
	metrics *metrics

	store    *postgres.Store
	watch    *postgres.Notifications
	recorder *postgres.Recorder
	link     *link.Link
	ring     *link.Ring
	beats    *heartbeats
	notifier Notifier
	alarmed  chan struct{} // a safety event was committed
	coded    chan struct{} // a code was asked for
	stops    seldom
	guides   guides

	databaseUp atomic.Bool
	// askAll: nobody has told this replica what became of the database while it
	// was away, so every cabinet is to say hello.
	askAll    atomic.Bool
	closing   chan struct{}
	address   net.Addr
	metricsAt net.Addr
	publicURL string // how phones reach this backend

	mu      sync.Mutex
	stack   []func(context.Context) // stopped from the last to the first
	started bool
	stopped bool
}

const defaultRetentionMonths = 13

// New checks the options. Nothing is opened before Start.
func New(o Options) (*Fleet, error) {
	switch {
	case o.Log == nil:
		return nil, errors.New("fleet: Log is needed")
	case o.BrokerURL == nil:
		return nil, errors.New("fleet: BrokerURL is needed")
	case len(o.Keys.riderRef) == 0:
		return nil, errors.New("fleet: Keys are needed: see LoadKeys")
	case o.MetricsSlots == "":
		o.MetricsSlots = SlotsFaulty
	case o.MetricsSlots != SlotsOff && o.MetricsSlots != SlotsFaulty && o.MetricsSlots != SlotsAll:
		return nil, fmt.Errorf("fleet: MetricsSlots is %q: want off, faulty or all", o.MetricsSlots)
	}
	if o.RetentionMonths == 0 {
		o.RetentionMonths = defaultRetentionMonths
	}
	f := &Fleet{o: o, log: o.Log, ring: &link.Ring{}, closing: make(chan struct{}), notifier: o.Notifier, alarmed: make(chan struct{}, 1), coded: make(chan struct{}, 1)}
	if f.notifier == nil {
		f.notifier = notify.Log{Log: o.Log}
	}
	f.beats = newHeartbeats()
	f.metrics = newMetrics(f, prometheus.NewRegistry())
	var err error
	f.link, err = link.New(link.Options{
		URL: o.BrokerURL, TLS: o.BrokerTLS, TelemetryTLS: o.TelemetryTLS, Keys: o.Keys.signing, Ring: f.ring,
		Handlers: f.handlers(), Count: f.metrics.message, Changed: f.metrics.connection, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Start listens and starts everything else. It fails when a port is taken or an
// option is wrong; a database or a broker that is away it waits for.
func (f *Fleet) Start(ctx context.Context) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.started {
		return errors.New("fleet: started before")
	}
	f.started = true
	defer func() {
		if err != nil {
			f.unwind(ctx)
		}
	}()
	pages, err := f.listen(ctx, f.o.Listen, "listen")
	if err != nil {
		return err
	}
	metrics, err := f.listen(ctx, f.o.MetricsListen, "metrics-listen")
	if err != nil {
		return err
	}
	f.address, f.metricsAt = pages.Addr(), metrics.Addr()
	f.publicURL = f.public(pages.Addr()).String()
	f.metrics.public.WithLabelValues(f.publicURL).Set(1)
	if err := f.openBooks(ctx); err != nil {
		return err
	}
	f.link.Start()
	f.push(f.link.Stop)
	// Before the link goes, its last messages are handled and their
	// acknowledgements sent.
	f.push(func(ctx context.Context) {
		f.link.Drain(ctx)
		within, cancel := context.WithTimeout(ctx, drainTimeout)
		defer cancel()
		f.recorder.Drain(within)
		f.recorder.Close()
	})
	f.startLoops()
	handler, err := f.pages(pages.Addr())
	if err != nil {
		return err
	}
	f.serve(metrics, f.metricsHandler())
	f.serve(pages, handler)
	f.push(func(context.Context) { close(f.closing) }) // event streams end first
	f.log.Info("started", "event", "started", "version", f.o.Version, "address", f.Address(), "metrics", f.MetricsAddress())
	if f.o.RiderCode != "" {
		f.log.Warn("DEVELOPMENT SIGN-IN: every rider signs in with one code; never use --rider-code in production")
	}
	if _, ok := f.o.CodeSender.(notify.Log); ok {
		f.log.Warn("CODES IN THE LOG: whoever reads it signs in as anybody; never use --rider-notify log in production")
	}
	return nil
}

// Address is where the pages are, as HOST:PORT.
func (f *Fleet) Address() string { return f.address.String() }

// MetricsAddress is where /metrics is, as HOST:PORT.
func (f *Fleet) MetricsAddress() string { return f.metricsAt.String() }

// Stop ends everything in the reverse order and waits for every goroutine. What
// is not done when ctx ends is cut off; nothing is lost by that. A second call
// does nothing.
func (f *Fleet) Stop(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.started || f.stopped {
		return
	}
	f.stopped = true
	f.unwind(ctx)
	f.log.Info("stopped", "event", "stopped")
}

func (f *Fleet) push(stop func(context.Context)) { f.stack = append(f.stack, stop) }

func (f *Fleet) unwind(ctx context.Context) {
	for i := len(f.stack) - 1; i >= 0; i-- {
		f.stack[i](ctx)
	}
	f.stack = nil
}

func (f *Fleet) listen(ctx context.Context, address, flag string) (net.Listener, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	f.push(func(context.Context) { _ = l.Close() }) // closed already by its server: fine
	return l, nil
}

func (f *Fleet) openBooks(ctx context.Context) error {
	var err error
	f.store, err = postgres.Open(ctx, f.o.DatabaseURL, postgres.Options{
		Log: f.log, RiderRef: f.o.Keys.RiderRef, OpenGrant: f.o.Keys.OpenGrant, Seal: f.o.Keys.Seal(), Vault: f.o.Keys.Vault(),
		MessagesPerHour: f.o.CodesPerHour, WrongPerHour: f.o.WrongPerHour,
	})
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	f.push(func(context.Context) { f.store.Close() })
	f.watch = postgres.NewNotifications(f.store)
	f.push(func(context.Context) { f.watch.Close() })
	f.recorder = postgres.NewRecorder(f.store, f.recorderOptions())
	return nil
}

func (f *Fleet) pages(at net.Addr) (http.Handler, error) {
	public := f.public(at)
	o := web.Options{
		Books: books{f}, Staff: console{f.store, f}, PublicURL: public, Ready: f.ready, Observe: f.metrics.request, Scanned: f.metrics.scan,
		Closing: f.closing, Hotline: f.o.Hotline, TrustedProxies: f.o.TrustedProxies, Version: f.o.Version, Log: f.log,
		SignIn: binder{f}, SessionKey: f.o.Keys.Sessions(), DevelopmentCode: f.o.RiderCode, RetentionMonths: f.o.RetentionMonths,
	}
	return web.New(o)
}

// public is how phones reach this backend.
func (f *Fleet) public(at net.Addr) *url.URL {
	if f.o.PublicURL != nil {
		return f.o.PublicURL
	}
	return &url.URL{Scheme: "http", Host: at.String()}
}

func (f *Fleet) serve(l net.Listener, h http.Handler) {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: web.MaxHeaderBytes, ErrorLog: slog.NewLogLogger(f.log.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			f.log.Error("HTTP server ended", "err", err)
		}
	}()
	f.push(func(ctx context.Context) {
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		<-done
	})
}

// ready says what is missing.
func (f *Fleet) ready(context.Context) error {
	var errs []error
	if !f.databaseUp.Load() {
		errs = append(errs, errors.New("database: not reachable"))
	}
	if !f.link.Connected() {
		errs = append(errs, errors.New("broker: not connected"))
	}
	return errors.Join(errs...)
}

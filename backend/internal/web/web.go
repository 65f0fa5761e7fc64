package web

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"time"
)

// Bounds of a request.
const (
	maxBody        = 16 << 10
	MaxHeaderBytes = 16 << 10
	requestTimeout = 10 * time.Second
	maxRequestID   = 64
	retryAfter     = "5" // s
)

const readyPath = "/readyz"

// Options of a Web. All are needed but SignIn and Ready.
type Options struct {
	Books Books
	// Staff is nil where no staff work: there is no console then.
	Staff Staff
	// SignIn is nil while riders cannot bind phones.
	SignIn SignIn
	// SessionKey makes the tokens of sessions: the same at every replica. Nil: one
	// that this Web draws.
	SessionKey []byte
	// RetentionMonths is how long after its membership ended a person is known, for
	// the privacy notice.
	RetentionMonths int
	// DevelopmentCode lets any rider sign in with one code for all, "" nobody. It is
	// for development only.
	DevelopmentCode string
	// PublicURL is how phones reach this backend; https makes cookies secure.
	PublicURL *url.URL
	// TrustedProxies are the addresses of our own proxies: what they say of a
	// client's address is believed.
	TrustedProxies []netip.Prefix
	// Ready says what is missing, for /readyz.
	Ready func(context.Context) error
	// Observe is told of every request; route is a pattern, never a path.
	Observe func(route, method string, status int, took time.Duration)
	// Scanned is told of every scan: ScanGranted, a reason, or ScanError.
	Scanned func(result string, took time.Duration)
	// Closing ends event streams: they would outlast any shutdown.
	Closing <-chan struct{}
	// Hotline is whom riders call where a cabinet has no number of its own.
	Hotline string
	Version string
	Log     *slog.Logger
}

// Web is the handler of all pages and of the API.
type Web struct {
	o          Options
	handler    http.Handler
	https      bool
	cookieName string
	pages      *pages
	console    *console
	routes     []Route
	sessionKey []byte
	hashing    chan struct{} // a place for each password that is being checked
	binding    chan struct{} // a place for each binding that is under way
	streams    chan struct{} // a place for each open event stream
	exports    chan struct{} // a place for each export
	openAPI    func() ([]byte, error)
}

// New makes the handler.
func New(o Options) (*Web, error) {
	switch {
	case o.Books == nil || o.Observe == nil || o.Scanned == nil || o.Log == nil:
		return nil, errors.New("web: Books, Observe, Scanned and Log are needed")
	case o.PublicURL == nil || o.PublicURL.Host == "" || (o.PublicURL.Scheme != "https" && o.PublicURL.Scheme != "http"):
		return nil, errors.New("web: public URL: want http://HOST or https://HOST")
	}
	w := &Web{o: o, https: o.PublicURL.Scheme == "https", cookieName: "swap_session", streams: make(chan struct{}, maxStreams)}
	if w.https {
		w.cookieName = "__Host-" + w.cookieName
	}
	var err error
	if w.pages, err = loadPages(); err != nil {
		return nil, err
	}
	if w.console, err = loadConsole(); err != nil {
		return nil, err
	}
	w.hashing, w.binding, w.exports = make(chan struct{}, maxHashing), make(chan struct{}, maxBinding), make(chan struct{}, maxExports)
	if w.sessionKey = o.SessionKey; w.sessionKey == nil {
		w.sessionKey = []byte(rand.Text())
	}
	mux := http.NewServeMux()
	w.registerAPI(mux)
	w.registerPages(mux)
	if o.Staff != nil {
		w.registerConsole(mux)
	}
	w.handle(mux, "GET /healthz", anybody(), func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintln(rw, "ok") })
	w.handle(mux, "GET "+readyPath, anybody(), w.ready)
	if err := w.checkRoutes(); err != nil {
		return nil, err
	}
	cross := http.NewCrossOriginProtection()
	if err := cross.AddTrustedOrigin(o.PublicURL.Scheme + "://" + o.PublicURL.Host); err != nil {
		return nil, fmt.Errorf("web: public URL: %w", err)
	}
	cross.SetDenyHandler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		writeProblem(rw, r, problem(http.StatusForbidden, "cross-origin", "Cross-origin request", "a page of another site may not do this"))
	}))
	w.handler = w.outermost(cross.Handler(mux))
	return w, nil
}

// ServeHTTP answers a request.
func (w *Web) ServeHTTP(rw http.ResponseWriter, r *http.Request) { w.handler.ServeHTTP(rw, r) }

// OpenAPI is the description of the API, as YAML.
func (w *Web) OpenAPI() ([]byte, error) { return w.openAPI() }

func (w *Web) ready(rw http.ResponseWriter, r *http.Request) {
	if w.o.Ready != nil {
		if err := w.o.Ready(r.Context()); err != nil {
			http.Error(rw, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	fmt.Fprintln(rw, "ok")
}

// request is what is known of a request for its log line.
type request struct {
	id      string
	problem *Problem
	cause   error
}

type requestKey struct{}

func requestFrom(ctx context.Context) *request {
	if info, ok := ctx.Value(requestKey{}).(*request); ok {
		return info
	}
	return &request{}
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// outermost names, bounds, watches and logs each request.
func (w *Web) outermost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		began := time.Now()
		info := &request{id: requestID(r.Header.Get("X-Request-ID"))}
		ctx := context.WithValue(context.WithValue(r.Context(), requestKey{}, info), addressKey{}, w.address(r))
		if limit := timeLimit(r.URL.Path); limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		r = w.withToken(r.WithContext(ctx))
		r.Body = http.MaxBytesReader(rw, r.Body, bodyLimit(r)+1) // one more: huma answers 413 itself
		rec := &recorder{ResponseWriter: rw}
		h := rec.Header()
		h.Set("X-Request-ID", info.id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		defer w.finish(rec, r, info, began)
		next.ServeHTTP(rec, r)
	})
}

// maxUpload bounds a spreadsheet, which only staff may send.
const maxUpload = 4 << 20

func bodyLimit(r *http.Request) int64 {
	switch r.URL.Path {
	case importPath:
		return maxUpload
	case rollPath:
		return maxRoll + maxBody // the form around it
	default:
		return maxBody
	}
}

// finish turns a panic into a 500 and leaves one line and one observation.
func (w *Web) finish(rec *recorder, r *http.Request, info *request, began time.Time) {
	p := recover()
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) { // what has begun cannot be finished: the connection ends with it
		defer panic(p)
	} else if p != nil {
		w.o.Log.Error("panic in a handler", "request_id", info.id, "err", p, "stack", string(debug.Stack()))
		if rec.status == 0 {
			writeProblem(rec, r, problem(http.StatusInternalServerError, "internal", "Internal error", "this is a bug of the backend"))
		}
	}
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	route := r.Pattern
	if _, path, ok := strings.Cut(route, " "); ok {
		route = path
	}
	took := time.Since(began)
	w.o.Observe(route, r.Method, rec.status, took)
	attrs := []any{"request_id", info.id, "route", route, "method", r.Method, "status", rec.status, "ms", took.Milliseconds()}
	if info.problem != nil {
		attrs = append(attrs, "event", info.problem.Type, "reason", info.problem.Reason, "detail", info.problem.Detail)
		for _, e := range info.problem.Errors {
			attrs = append(attrs, "field", e.Location, "expected", e.Message)
		}
	}
	if info.cause != nil {
		attrs = append(attrs, "err", info.cause)
	}
	refused := info.problem != nil && info.problem.Reason != ""
	switch {
	case route == readyPath: // who watches asks every few seconds; the outage itself is logged
		w.o.Log.Debug("request", attrs...)
	case rec.status >= http.StatusInternalServerError && !refused:
		w.o.Log.Error("request failed", attrs...)
	case rec.status >= http.StatusBadRequest:
		w.o.Log.Info("request refused", attrs...)
	default:
		w.o.Log.Debug("request", attrs...)
	}
}

// requestID takes over a sane identifier and makes one otherwise.
func requestID(given string) string {
	if given == "" || len(given) > maxRequestID {
		return rand.Text()
	}
	for _, c := range []byte(given) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return rand.Text()
		}
	}
	return given
}

// timeLimit is how long a request may take; 0: it ends by itself.
func timeLimit(path string) time.Duration {
	switch {
	case strings.HasSuffix(path, eventsSuffix):
		return 0
	case path == exportPath:
		return exportTimeout
	case path == rollPath:
		return uploadTime
	}
	return requestTimeout
}

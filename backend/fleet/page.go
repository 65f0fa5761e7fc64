package fleet

import (
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes is how many may ask at the same time.
const maxScrapes = 4

// metricsHandler serves /metrics: what is registered, and then the cabinets.
func (f *Fleet) metricsHandler() http.Handler {
	registered := promhttp.HandlerFor(f.metrics.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: slog.NewLogLogger(f.log.Handler(), slog.LevelWarn),
		DisableCompression: true,
	})
	asking := make(chan struct{}, maxScrapes)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(rw http.ResponseWriter, r *http.Request) {
		select {
		case asking <- struct{}{}:
			defer func() { <-asking }()
		default:
			http.Error(rw, "too many scrapes at a time", http.StatusServiceUnavailable)
			return
		}
		p := &page{ResponseWriter: rw, to: rw}
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			rw.Header().Set("Content-Encoding", "gzip")
			z, _ := gzip.NewWriterLevel(rw, gzip.BestSpeed) // the level exists
			defer z.Close()
			p.to = z
		}
		// Only in the text format can one page follow another.
		plain := r.Clone(r.Context())
		plain.Header.Del("Accept")
		registered.ServeHTTP(p, plain)
		if p.failed {
			return
		}
		if err := f.metrics.gauges.writeCabinets(p.to); err != nil {
			f.log.Debug("a scraper is gone", "err", err)
		}
	})
	return mux
}

// page is an answer in two parts.
type page struct {
	http.ResponseWriter
	to     io.Writer
	failed bool
}

// WriteHeader notes that there is no page to go on with.
func (p *page) WriteHeader(status int) {
	p.failed = status >= 400
	p.ResponseWriter.WriteHeader(status)
}

// Write writes through what compresses.
func (p *page) Write(b []byte) (int, error) { return p.to.Write(b) }

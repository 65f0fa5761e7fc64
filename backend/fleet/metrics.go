package fleet

import (
	"crypto/tls"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/web"
	"batteryswap/protocol"
)

// metrics are what Prometheus learns. No label is ever a rider, a battery or a
// swap.
type metrics struct {
	registry *prometheus.Registry
	gauges   *gauges

	swaps        *prometheus.CounterVec
	swapSeconds  *prometheus.HistogramVec
	scans        *prometheus.CounterVec
	authorize    prometheus.Histogram
	connected    *prometheus.GaugeVec
	messages     *prometheus.CounterVec
	ingestLag    prometheus.Histogram
	batchRecords prometheus.Histogram
	ingest       *prometheus.CounterVec
	safety       *prometheus.CounterVec
	notices      *prometheus.CounterVec
	requests     *prometheus.CounterVec
	requestTime  *prometheus.HistogramVec

	signIns      *prometheus.CounterVec
	codes        *prometheus.CounterVec
	stops        *prometheus.CounterVec
	certificates prometheus.Collector
	build        prometheus.Gauge
	public       *prometheus.GaugeVec

	mu      sync.Mutex
	waiting map[protocol.CabinetID]time.Time // a batch in flight: one per cabinet
	ended   map[protocol.CabinetID]ended
}

// ended counts a cabinet's swaps that ended, as this replica committed them.
type ended struct{ counted, failed uint64 }

func newMetrics(f *Fleet, registry *prometheus.Registry) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	quick := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	m := &metrics{
		registry:    registry,
		swaps:       counter("swap_swaps_total", "Swaps that ended, by their sensed end.", "outcome"),
		swapSeconds: histogram("swap_duration_seconds", "How long swaps took: deposit from the accepted grant to the accepted battery, dispense from there to the take, total of counted swaps from scan to end.", []float64{5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1800}, "phase"),
		scans:       counter("swap_scans_total", "Scans: granted, the reason of the refusal, or error.", "result"),
		authorize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "swap_authorization_duration_seconds", Help: "From scan to grant, for scans that were granted.", Buckets: quick,
		}),
		connected: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "swap_mqtt_connected", Help: "1 while this connection to the broker is up.",
		}, []string{"connection"}),
		messages: counter("swap_mqtt_messages_total", "MQTT messages by what became of them.", "direction", "type", "result"),
		ingestLag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "swap_ingest_lag_seconds", Help: "From a batch's arrival to its commit.", Buckets: quick,
		}),
		batchRecords: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "swap_ingest_batch_records", Help: "Journal records of one transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 14),
		}),
		ingest:      counter("swap_ingest_batches_total", "Log batches of cabinets: committed, rejected or dropped; failed counts tries of a transaction.", "result"),
		safety:      counter("swap_safety_events_total", "Alarms that cabinets raised.", "kind"),
		notices:     counter("swap_safety_notices_total", "Tries to tell people of a safety event.", "result"),
		requests:    counter("swap_http_requests_total", "HTTP requests.", "route", "method", "status"),
		requestTime: histogram("swap_http_request_duration_seconds", "HTTP requests; a scan waits for its cabinet.", quick, "route", "method"),
		signIns:     counter("swap_login_attempts_total", "Sign-ins of riders and staff, and codes that riders asked for: ok, refused, too_many or error.", "who", "result"),
		codes:       counter("swap_rider_codes_total", "Tries to send a code to a rider's phone: sent or failed.", "result"),
		stops:       counter("swap_rider_codes_stopped_total", "Requests that a bound of all riders' phones together refused: messages, of codes sent; wrong, of wrong codes tried.", "bound"),
		waiting:     map[protocol.CabinetID]time.Time{},
		ended:       map[protocol.CabinetID]ended{},
	}
	m.build = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "swap_build_info", Help: "1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"program": "backend", "version": f.o.Version, "go": runtime.Version()},
	})
	m.build.Set(1)
	m.public = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "swap_public_url_info", Help: "1; the label says where pages and console are, for links.",
	}, []string{"url"})
	m.certificates = certificates(f.o)
	m.begin()
	registry.MustRegister(m.own()...)
	m.gauges = &gauges{f: f}
	registry.MustRegister(m.gauges, &poolCollector{f: f},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// begin shows what has not happened yet as 0: the first of a kind is then a rise
// that a rate sees, not a series that appears with 1.
func (m *metrics) begin() {
	for _, c := range []string{"records", "telemetry"} {
		m.connected.WithLabelValues(c).Set(0)
	}
	for _, o := range protocol.Outcomes() {
		m.swaps.WithLabelValues(string(o))
	}
	for _, phase := range []string{"deposit", "dispense", "total"} {
		m.swapSeconds.WithLabelValues(phase)
	}
	m.scans.WithLabelValues(scanGranted)
	m.scans.WithLabelValues(web.ScanError)
	for _, r := range protocol.Refusals() {
		m.scans.WithLabelValues(string(r))
	}
	for _, result := range []string{"committed", "rejected", "dropped", "failed"} {
		m.ingest.WithLabelValues(result)
	}
	for _, k := range alarmOrder() {
		m.safety.WithLabelValues(string(k))
	}
	for _, result := range []string{"told", "failed"} {
		m.notices.WithLabelValues(result)
	}
	for _, result := range []string{"sent", "failed"} {
		m.codes.WithLabelValues(result)
	}
	for _, b := range binding.Bounds() {
		if b.OfAll() {
			m.stops.WithLabelValues(string(b))
		}
	}
	for _, who := range []string{"rider", "code", "staff"} {
		for _, result := range []string{"ok", "refused", "too_many", "error"} {
			m.signIns.WithLabelValues(who, result)
		}
	}
}

// own are the metrics that this replica counts itself.
func (m *metrics) own() []prometheus.Collector {
	return []prometheus.Collector{
		m.build, m.public, m.swaps, m.swapSeconds, m.scans, m.authorize, m.connected, m.messages, m.ingestLag, m.batchRecords, m.ingest,
		m.safety, m.notices, m.requests, m.requestTime, m.signIns, m.codes, m.stops, m.certificates,
	}
}

func (m *metrics) message(direction, kind, result string) {
	m.messages.WithLabelValues(direction, kind, result).Inc()
}

func (m *metrics) connection(name string, up bool) {
	v := 0.0
	if up {
		v = 1
	}
	m.connected.WithLabelValues(name).Set(v)
}

func (m *metrics) scan(result string, took time.Duration) {
	m.scans.WithLabelValues(result).Inc()
	if result == scanGranted {
		m.authorize.Observe(took.Seconds())
	}
}

func (m *metrics) request(route, method string, status int, took time.Duration) {
	switch method { // a client may send any word
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
	default:
		method = "other"
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	m.requestTime.WithLabelValues(route, method).Observe(took.Seconds())
	if who := signsIn(route); who != "" && method == "POST" {
		m.signIns.WithLabelValues(who, signInResult(status)).Inc()
	}
}

// signsIn says who signs in by a route, "" when nobody does.
func signsIn(route string) string {
	switch route {
	case "/api/v1/sessions", "/c/{cabinet_id}/sign-in", "/c/{cabinet_id}/bind":
		return "rider"
	case "/api/v1/codes", "/c/{cabinet_id}/bind/code":
		return "code"
	case "/staff/sign-in":
		return "staff"
	}
	return ""
}

func signInResult(status int) string {
	switch {
	case status < 400:
		return "ok"
	case status == http.StatusTooManyRequests:
		return "too_many"
	case status >= 500:
		return "error"
	}
	return "refused"
}

// certificates shows until when the broker lets this backend in.
func certificates(o Options) prometheus.Collector {
	expires := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "swap_certificate_expires_timestamp_seconds", Help: "When a certificate of this backend ends; absent where the broker wants none.",
	}, []string{"connection"})
	for connection, c := range map[string]*tls.Config{"records": o.BrokerTLS, "telemetry": o.TelemetryTLS} {
		if c == nil || len(c.Certificates) == 0 {
			continue
		}
		if leaf := c.Certificates[0].Leaf; leaf != nil {
			expires.WithLabelValues(connection).Set(seconds(leaf.NotAfter))
		}
	}
	return expires
}

// submitted notes when a cabinet's batch came. A repetition keeps the first
// time: the batch is waiting since then.
func (m *metrics) submitted(id protocol.CabinetID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, waits := m.waiting[id]; !waits {
		m.waiting[id] = time.Now()
	}
}

func (m *metrics) acked(id protocol.CabinetID) {
	m.mu.Lock()
	at, waits := m.waiting[id]
	delete(m.waiting, id)
	m.mu.Unlock()
	if waits {
		m.ingestLag.Observe(time.Since(at).Seconds())
	}
}

func (m *metrics) committed(batches, records int, _ time.Duration) {
	m.ingest.WithLabelValues("committed").Add(float64(batches))
	m.batchRecords.Observe(float64(records))
}

// failed counts a transaction that will be tried again.
func (m *metrics) failed() { m.ingest.WithLabelValues("failed").Inc() }

func (m *metrics) dropped() { m.ingest.WithLabelValues("dropped").Inc() }

func (m *metrics) rejected(id protocol.CabinetID) {
	m.mu.Lock()
	delete(m.waiting, id)
	m.mu.Unlock()
	m.ingest.WithLabelValues("rejected").Inc()
}

func (m *metrics) closed(id protocol.CabinetID, _ protocol.Kind, outcome protocol.Outcome, took time.Duration) {
	m.swaps.WithLabelValues(string(outcome)).Inc()
	m.mu.Lock()
	n := m.ended[id]
	switch {
	case outcome.Counts():
		n.counted++
	case failure(outcome):
		n.failed++
	}
	m.ended[id] = n
	m.mu.Unlock()
	// A swap that was cut short says nothing of how quick swaps are; nor does one
	// whose cabinet's clock was behind ours.
	if outcome.Counts() && took >= 0 {
		m.swapSeconds.WithLabelValues("total").Observe(took.Seconds())
	}
}

// failure reports whether a rider for whom a door had opened went away without
// what was asked for.
func failure(o protocol.Outcome) bool {
	switch o {
	case protocol.OutcomeReturned, protocol.OutcomeDepositedOwed, protocol.OutcomeOwedNotTaken, protocol.OutcomeIssueNotTaken, protocol.OutcomeReview:
		return true
	}
	return false
}

// swapsOf is how many of a cabinet's swaps ended well, and how many did not.
func (m *metrics) swapsOf(id protocol.CabinetID) (counted, failed uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.ended[id]
	return n.counted, n.failed
}

func (m *metrics) timed(phase string, took time.Duration) {
	m.swapSeconds.WithLabelValues(phase).Observe(took.Seconds())
}

func (m *metrics) safetyEvent(a protocol.Alarm) {
	if !a.Cleared {
		m.safety.WithLabelValues(string(a.Kind)).Inc()
	}
}

func (m *metrics) told(err error) {
	result := "told"
	if err != nil {
		result = "failed"
	}
	m.notices.WithLabelValues(result).Inc()
}

func (m *metrics) stoppedCode(b binding.Bound) { m.stops.WithLabelValues(string(b)).Inc() }

func (m *metrics) sentCode(err error) {
	result := "sent"
	if err != nil {
		result = "failed"
	}
	m.codes.WithLabelValues(result).Inc()
}

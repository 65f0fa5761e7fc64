package fleet

import (
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"batteryswap/protocol"
)

// metrics are what Prometheus learns. No label is ever a rider, a battery or a
// swap.
type metrics struct {
	registry *prometheus.Registry

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

	mu      sync.Mutex
	waiting map[protocol.CabinetID]time.Time // a batch in flight: one per cabinet
}

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
		swaps:       counter("swap_swaps_total", "Swaps that ended, by their sensed end.", "cabinet", "outcome"),
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
		waiting:     map[protocol.CabinetID]time.Time{},
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "swap_build_info", Help: "1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": f.o.Version, "go_version": runtime.Version()},
	})
	build.Set(1)
	for _, c := range []string{"records", "telemetry"} {
		m.connected.WithLabelValues(c).Set(0)
	}
	registry.MustRegister(build, m.swaps, m.swapSeconds, m.scans, m.authorize, m.connected, m.messages, m.ingestLag,
		m.batchRecords, m.ingest, m.safety, m.notices, m.requests, m.requestTime, &gauges{f: f}, &poolCollector{f: f},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
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
	m.swaps.WithLabelValues(string(id), string(outcome)).Inc()
	// A swap that was cut short says nothing of how quick swaps are; nor does one
	// whose cabinet's clock was behind ours.
	if outcome.Counts() && took >= 0 {
		m.swapSeconds.WithLabelValues("total").Observe(took.Seconds())
	}
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

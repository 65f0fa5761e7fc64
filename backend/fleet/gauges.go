package fleet

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/web"
)

const scanGranted = web.ScanGranted

const (
	// gaugesFresh is how long a reading serves: several Prometheus servers and
	// people may ask at once.
	gaugesFresh  = 5 * time.Second
	gaugesExpire = 2 * time.Second // a scrape waits no longer for the database
)

// gauges reads the state of the fleet from the database at a scrape, so that any
// replica gives the same. Without a database they are absent, not zero.
type gauges struct {
	f *Fleet

	mu     sync.Mutex
	at     time.Time
	now    reading
	err    error
	tooBig bool // per-slot series were refused, and it was told
}

// reading is what the database said.
type reading struct {
	cabinets []postgres.CabinetGauges
	counts   postgres.Gauges
}

// Describe sends nothing: the collector is unchecked, as its series come and go.
func (g *gauges) Describe(chan<- *prometheus.Desc) {}

type gauge struct{ desc *prometheus.Desc }

func newGauge(name, help string, labels ...string) gauge {
	return gauge{prometheus.NewDesc(name, help, labels, nil)}
}

func (d gauge) send(ch chan<- prometheus.Metric, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d.desc, prometheus.GaugeValue, v, labels...)
}

// count sends a counter: what a gauge is not, may be summed as a rate.
func (d gauge) count(ch chan<- prometheus.Metric, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d.desc, prometheus.CounterValue, v, labels...)
}

// seconds is a moment as Prometheus writes it, 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Collect reads unless the last reading is fresh.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	now, err := g.read()
	sendDatabase(ch, err == nil)
	if err != nil {
		return
	}
	sendFleet(ch, now.counts)
	sendRefused(ch, g.refuseSlots(now.cabinets))
}

func sendDatabase(ch chan<- prometheus.Metric, up bool) {
	newGauge("swap_database_up", "1 when the last scrape could read the books.").send(ch, bit(up))
}

func sendRefused(ch chan<- prometheus.Metric, refused bool) {
	newGauge("swap_slot_series_refused", "1 while per-slot series are wanted but refused, as the fleet has too many slots.").send(ch, bit(refused))
}

// writeCabinets writes what there is to say of cabinets: of what Collect has read,
// so that a page is whole or says that the database is away.
func (g *gauges) writeCabinets(to io.Writer) error {
	g.mu.Lock()
	now, err := g.now, g.err
	g.mu.Unlock()
	if err != nil {
		return nil //nolint:nilerr // swap_database_up has said so
	}
	return writeCabinets(bufio.NewWriterSize(to, 64<<10), now.cabinets, g.f.o.MetricsSlots, g.f.metrics.swapsOf)
}

// sendFleet shows what is counted over the whole fleet.
func sendFleet(ch chan<- prometheus.Metric, c postgres.Gauges) {
	newGauge("swap_in_progress", "Swaps that are open now.").send(ch, float64(c.OpenSwaps))
	newGauge("swap_reviews_open", "Cases that a person must decide.").send(ch, float64(c.OpenReviews))
	if !c.OldestReview.IsZero() {
		newGauge("swap_review_oldest_timestamp_seconds", "Since when the oldest open case waits; absent without one.").send(ch, seconds(c.OldestReview))
	}
	newGauge("swap_owed_credits_open", "Batteries that the fleet owes riders.").send(ch, float64(c.OpenCredits))
	newGauge("swap_safety_notices_waiting", "Safety events that nobody has been told of yet.").send(ch, float64(c.Untold))
	newGauge("swap_recovering", "1 while the fleet recovers from a restored backup: no owed or first batteries are given.").send(ch, bit(c.Recovering))
	batteries := newGauge("swap_batteries", "Batteries by who has them.", "custody")
	for _, custody := range []string{"rider", "slot", "staff", "review"} {
		batteries.send(ch, float64(c.Batteries[custody]), custody)
	}
	if c.Audit != nil {
		sendAudit(ch, *c.Audit)
	}
}

func (g *gauges) read() (reading, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.at) < gaugesFresh && g.err == nil {
		return g.now, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), gaugesExpire)
	defer cancel()
	g.now.cabinets, g.err = g.f.store.CabinetGauges(ctx, g.f.o.MetricsSlots == SlotsAll)
	if g.err == nil {
		g.now.counts, g.err = g.f.store.Gauges(ctx)
	}
	g.at = time.Now()
	return g.now, g.err
}

// refuseSlots says whether the fleet has too many slots for a series each, and
// tells it once.
func (g *gauges) refuseSlots(cabinets []postgres.CabinetGauges) bool {
	err := checkSlots(g.f.o.MetricsSlots, cabinets)
	g.mu.Lock()
	told := g.tooBig
	g.tooBig = err != nil
	g.mu.Unlock()
	if err != nil && !told {
		g.f.log.Error("per-slot series are refused", "err", err)
	}
	return err != nil
}

// checkSlots refuses a series for each slot of a large fleet.
func checkSlots(mode MetricsSlots, cabinets []postgres.CabinetGauges) error {
	if mode != SlotsAll {
		return nil
	}
	slots := 0
	for _, c := range cabinets {
		slots += c.Slots
	}
	if slots > maxSlotSeries {
		return fmt.Errorf("metrics-slots is all, and the fleet has %d slots: want at most %d, or metrics-slots faulty", slots, maxSlotSeries)
	}
	return nil
}

// poolCollector shows how the connections to the database are used.
type poolCollector struct{ f *Fleet }

// Describe sends nothing: the collector is unchecked.
func (p *poolCollector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the pool's statistics.
func (p *poolCollector) Collect(ch chan<- prometheus.Metric) {
	s := p.f.store.Stat()
	sendPool(ch, pool{
		most: s.MaxConns(), acquired: s.AcquiredConns(), idle: s.IdleConns(), constructing: s.ConstructingConns(),
		taken: s.AcquireCount(), waited: s.EmptyAcquireCount(), waiting: s.AcquireDuration(),
	})
}

// pool is how the connections are used.
type pool struct {
	most, acquired, idle, constructing int32
	taken, waited                      int64
	waiting                            time.Duration
}

func sendPool(ch chan<- prometheus.Metric, p pool) {
	newGauge("swap_pgxpool_max_connections", "Bound of the pool.").send(ch, float64(p.most))
	connections := newGauge("swap_pgxpool_connections", "Connections by what they do.", "state")
	connections.send(ch, float64(p.acquired), "acquired")
	connections.send(ch, float64(p.idle), "idle")
	connections.send(ch, float64(p.constructing), "constructing")
	newGauge("swap_pgxpool_acquire_total", "Times a connection was taken.").count(ch, float64(p.taken))
	newGauge("swap_pgxpool_acquire_empty_total", "Times one had to be waited for.").count(ch, float64(p.waited))
	newGauge("swap_pgxpool_acquire_seconds_total", "Time spent waiting for one.").count(ch, p.waiting.Seconds())
}

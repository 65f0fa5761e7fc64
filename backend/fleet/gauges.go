package fleet

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
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

	mu       sync.Mutex
	at       time.Time
	cabinets []swap.CabinetView
	counts   postgres.Gauges
	audit    postgres.AuditRun
	auditErr error
	err      error
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

// Collect reads unless the last reading is fresh.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	cabinets, counts, err := g.read()
	up := 1.0
	if err != nil {
		up = 0
	}
	newGauge("swap_database_up", "1 when the last scrape could read the books.").send(ch, up)
	if err != nil {
		return
	}
	newGauge("swap_in_progress", "Swaps that are open now.").send(ch, float64(counts.OpenSwaps))
	newGauge("swap_reviews_open", "Cases that a person must decide.").send(ch, float64(counts.OpenReviews))
	newGauge("swap_owed_credits_open", "Batteries that the fleet owes riders.").send(ch, float64(counts.OpenCredits))
	newGauge("swap_safety_notices_waiting", "Safety events that nobody has been told of yet.").send(ch, float64(counts.Untold))
	g.sendCabinets(ch, cabinets)
	g.mu.Lock()
	audit, auditErr := g.audit, g.auditErr
	g.mu.Unlock()
	sendAudit(ch, audit, auditErr)
}

func (g *gauges) sendCabinets(ch chan<- prometheus.Metric, cabinets []swap.CabinetView) {
	connected := newGauge("swap_cabinet_connected", "1 while the cabinet is heard of.", "cabinet")
	seen := newGauge("swap_cabinet_last_seen_timestamp_seconds", "When the cabinet was last heard of; 0: never.", "cabinet")
	slots := newGauge("swap_cabinet_slots", "Slots by state; each slot is in one.", "cabinet", "state")
	backlog := newGauge("swap_agent_backlog_records", "Journal records that the agent could not deliver yet.", "cabinet")
	for _, c := range cabinets {
		id := string(c.CabinetID)
		up, last := 0.0, 0.0
		if c.Reachable {
			up = 1
		}
		if !c.LastSeen.IsZero() {
			last = float64(c.LastSeen.UnixMilli()) / 1000
		}
		connected.send(ch, up, id)
		seen.send(ch, last, id)
		if c.Reachable { // what is stale is withdrawn
			slots.send(ch, float64(c.Out), id, "out")
			slots.send(ch, float64(c.Charged), id, "charged")
			slots.send(ch, float64(c.Holding), id, "holds_battery")
			slots.send(ch, float64(c.Empty), id, "empty")
			slots.send(ch, float64(max(0, c.Slots-c.Out-c.Charged-c.Holding-c.Empty)), id, "unknown")
			backlog.send(ch, float64(c.Backlog), id)
		}
	}
}

func (g *gauges) read() ([]swap.CabinetView, postgres.Gauges, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.at) < gaugesFresh && g.err == nil {
		return g.cabinets, g.counts, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), gaugesExpire)
	defer cancel()
	g.cabinets, g.err = g.f.store.Cabinets(ctx)
	if g.err == nil {
		g.counts, g.err = g.f.store.Gauges(ctx)
	}
	if g.err == nil {
		if g.audit, g.auditErr = g.f.store.LastAudit(ctx); !errors.Is(g.auditErr, postgres.ErrNotFound) {
			g.err = g.auditErr
		}
	}
	g.at = time.Now()
	return g.cabinets, g.counts, g.err
}

// poolCollector shows how the connections to the database are used.
type poolCollector struct{ f *Fleet }

// Describe sends nothing: the collector is unchecked.
func (p *poolCollector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the pool's statistics.
func (p *poolCollector) Collect(ch chan<- prometheus.Metric) {
	s := p.f.store.Stat()
	newGauge("swap_pgxpool_max_connections", "Bound of the pool.").send(ch, float64(s.MaxConns()))
	newGauge("swap_pgxpool_connections", "Connections by what they do.", "state").send(ch, float64(s.AcquiredConns()), "acquired")
	newGauge("swap_pgxpool_connections", "Connections by what they do.", "state").send(ch, float64(s.IdleConns()), "idle")
	newGauge("swap_pgxpool_connections", "Connections by what they do.", "state").send(ch, float64(s.ConstructingConns()), "constructing")
	counter := func(name, help string, v float64) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, v)
	}
	counter("swap_pgxpool_acquire_total", "Times a connection was taken.", float64(s.AcquireCount()))
	counter("swap_pgxpool_acquire_empty_total", "Times one had to be waited for.", float64(s.EmptyAcquireCount()))
	counter("swap_pgxpool_acquire_seconds_total", "Time spent waiting for one.", s.AcquireDuration().Seconds())
}

package fleet

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

const (
	manyCabinets = 5000
	// scrapeMost and scrapeBytes are what a scrape of manyCabinets may take; a
	// test grants a busy machine five times the time.
	scrapeMost  = 300 * time.Millisecond
	scrapeBytes = 1 << 20
)

// many puts up a large fleet whose every cabinet has just told much.
func (w *town) many(t testing.TB) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), w.database)
	require.NoError(t, err)
	defer pool.Close()
	for _, sql := range []string{
		`INSERT INTO cabinet (cabinet_id, station, street, slots) SELECT 'hb-' || lpad(n::text, 5, '0'), 'Station ' || n, 'Street ' || n % 40, 12
			FROM generate_series(1, $1) n`,
		`INSERT INTO cabinet_cursor (cabinet_id, heard_at, boot_id, clock_boot, clock_offset_ms)
			SELECT cabinet_id, now(), decode(repeat('01', 16), 'hex'), 1, 1700000000000 FROM cabinet WHERE $1 > 0`,
		`INSERT INTO cabinet_state (cabinet_id, seen_at, boot_id, boot_seq, software, backlog_records, alarms, upper_c, energy_j, inventory,
				slots_charged, slots_empty)
			SELECT cabinet_id, now() + interval '1 hour', decode(repeat('01', 16), 'hex'), 1, '1.0.0', 3, '{door_open:2,slot_fault:7}', 31.25,
				9876543 + $1, '[]', 7, 5 FROM cabinet`,
	} {
		_, err := pool.Exec(context.Background(), sql, manyCabinets)
		require.NoError(t, err)
	}
}

// scrape asks as Prometheus does, and says what it took.
func (r *replica) scrape(t testing.TB) (page string, compressed int, took time.Duration) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.MetricsAddress()+"/metrics", nil)
	require.NoError(t, err)
	req.Header.Set("Accept-Encoding", "gzip")
	began := time.Now()
	resp, err := (&http.Transport{DisableCompression: true}).RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	took = time.Since(began)
	require.NoError(t, err)
	z, err := gzip.NewReader(strings.NewReader(string(raw)))
	require.NoError(t, err)
	plain, err := io.ReadAll(z)
	require.NoError(t, err)
	return string(plain), len(raw), took
}

// TestALargeFleetIsScraped: 5,000 cabinets, quickly, in few bytes, with few
// series each.
func TestALargeFleetIsScraped(t *testing.T) {
	w := newTown(t)
	w.many(t)
	f := w.start().ready()
	var page string
	best := time.Hour
	for range 3 {
		said, compressed, took := f.scrape(t)
		require.LessOrEqual(t, compressed, scrapeBytes)
		page, best = said, min(best, took)
	}
	require.LessOrEqual(t, best, 5*scrapeMost)
	of := strings.Count(page, `cabinet="hb-00042"`)
	require.LessOrEqual(t, of, MaxCabinetSeries)
	require.Greater(t, of, fixedSeries)
	require.Equal(t, manyCabinets, strings.Count(page, "\nswap_cabinet_connected{"))
}

// BenchmarkScrape is a scrape of 5,000 cabinets.
func BenchmarkScrape(b *testing.B) {
	w := newTown(b)
	w.many(b)
	f := w.start(quiet).ready()
	size := 0
	for b.Loop() {
		_, size, _ = f.scrape(b)
	}
	b.ReportMetric(float64(size), "bytes/scrape")
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/scrapeMost.Seconds(), "of-the-limit")
}

package fleet

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres/pgtest"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
)

// figureSwaps is how many swaps the benchmarks of figures load: FIGURES_SWAPS, or
// few enough for a look.
func figureSwaps(b *testing.B) int {
	n, err := strconv.Atoi(os.Getenv("FIGURES_SWAPS"))
	if os.Getenv("FIGURES_SWAPS") == "" {
		return 200_000
	}
	require.NoError(b, err, "FIGURES_SWAPS")
	return n
}

// BenchmarkFigures measures P8: a figure of any range and dimension, by the API, as
// of now and as of old positions; and an export of 200,000 rows by the page. A day
// has 25,000 swaps of 20,000 riders at 1,000 cabinets, so ten million are 400 days.
func BenchmarkFigures(b *testing.B) {
	swaps := figureSwaps(b)
	days := max(40, swaps/25_000)
	o := newOffice(b)
	last := statistics.DateOf(2026, 3, 14)
	began := time.Now()
	require.NoError(b, pgtest.FillFigures(b.Context(), o.database, pgtest.Fill{Swaps: swaps, Riders: 20_000, Cabinets: 1000, Days: days, Last: last.String()}))
	b.Logf("%d swaps of %d days loaded in %.0f s", swaps, days, time.Since(began).Seconds())
	chief, clerk := o.token(b, "chief", staff.Union, staff.Personal), o.token(b, "clerk", staff.Union)
	random := rand.New(rand.NewPCG(1, 8))
	took := map[statistics.Dimension][]time.Duration{}
	var all []time.Duration
	for b.Loop() {
		for range 12 {
			for _, by := range statistics.Dimensions() {
				from := last - statistics.Day(random.IntN(days))
				q := url.Values{"by": {string(by)}, "from": {from.String()}, "to": {(from + statistics.Day(random.IntN(int(last-from)+1))).String()}}
				if random.IntN(4) == 0 {
					q.Set("as_of", strconv.Itoa(1+random.IntN(swaps)))
				}
				d := o.measureFigure(b, chief, q)
				all, took[by] = append(all, d), append(took[by], d)
				if by.ByPeople() { // as who may not ask for single riders
					r, err := statistics.ParseRange(q.Get("from"), q.Get("to"))
					require.NoError(b, err)
					r = r.Closed(time.Now())
					d = o.measureFigure(b, clerk, url.Values{"by": {string(by)}, "from": {r.From.String()}, "to": {r.To.String()}})
					all, took[by+"-closed"] = append(all, d), append(took[by+"-closed"], d)
				}
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(p95(all), "p95-ms")
	for by, d := range took {
		b.ReportMetric(p95(d), "p95-ms-by-"+string(by))
	}
	b.ReportMetric(float64(swaps), "swaps")
	for _, format := range []string{"csv", "xlsx"} {
		exported := min(days, (200_000*days+swaps-1)/swaps) // days
		o.measureExport(b, format, last, exported, swaps/days*exported)
	}
}

func (o *office) token(b *testing.B, name string, roles ...staff.Role) string {
	token := staff.NewToken()
	require.NoError(b, o.store.AddToken(b.Context(), name, roles, staff.HashToken(token), time.Now().Add(time.Hour)))
	return token
}

// measureFigure is how long the API takes for a question.
func (o *office) measureFigure(b *testing.B, token string, q url.Values) time.Duration {
	at := time.Now()
	status, body, _ := o.ask(http.MethodGet, "/api/v1/statistics/swaps?"+q.Encode(), nil, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) })
	d := time.Since(at)
	require.Equal(b, http.StatusOK, status, body)
	return d
}

func p95(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)*95/100].Microseconds()) / 1000
}

// measureExport exports the last days, and watches the memory meanwhile.
func (o *office) measureExport(b *testing.B, format string, last statistics.Day, days, want int) {
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		most := uint64(0)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapInuse+now.StackInuse)
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	form := url.Values{"from": {(last - statistics.Day(days-1)).String()}, "to": {last.String()}, "what": {"takes"}, "format": {format}}
	cookie := o.session("union", 0)
	r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/staff/statistics/export", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.AddCookie(cookie)
	out := &counter{header: http.Header{}}
	at := time.Now()
	o.web.ServeHTTP(out, r)
	seconds := time.Since(at).Seconds()
	close(stop)
	most := <-peak
	require.Equal(b, http.StatusOK, out.status)
	require.Greater(b, out.bytes, int64(20*want/10), "too short a file")
	b.ReportMetric(seconds, "s-export-"+format)
	b.ReportMetric(float64(most)/(1<<20), "MB-export-"+format)
	b.Logf("export %s: %d rows, %d bytes, %.2f s, %d MB at most (%d before)", format, want, out.bytes, seconds, most>>20, (before.HeapInuse+before.StackInuse)>>20)
}

// counter is a browser that keeps nothing.
type counter struct {
	header http.Header
	status int
	bytes  int64
}

func (c *counter) Header() http.Header { return c.header }

func (c *counter) WriteHeader(status int) { c.status = status }

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	return len(p), nil
}

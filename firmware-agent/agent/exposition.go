package agent

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The Prometheus text format, written by hand: the client library would take
// 4 MB of a program that has 10, most of it for a binary format.

// exposition is the text of one scrape.
type exposition struct{ strings.Builder }

// contentType is the version of the format.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// family begins the samples of one metric.
func (e *exposition) family(name, kind, help string) {
	e.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n")
}

// sample writes one; labels is what pairs gives.
func (e *exposition) sample(name, labels string, v float64) {
	e.WriteString(name)
	if labels != "" {
		e.WriteString("{" + labels + "}")
	}
	e.WriteString(" " + strconv.FormatFloat(v, 'g', -1, 64) + "\n")
}

func (e *exposition) gauge(name, help string, v float64) {
	e.family(name, "gauge", help)
	e.sample(name, "", v)
}

func (e *exposition) counter(name, help string, v float64) {
	e.family(name, "counter", help)
	e.sample(name, "", v)
}

// gauges and counters write one sample for each value of a label, in order.
func (e *exposition) gauges(name, help, label string, values map[string]float64) {
	e.family(name, "gauge", help)
	for _, k := range slices.Sorted(maps.Keys(values)) {
		e.sample(name, pairs(label, k), values[k])
	}
}

func (e *exposition) counters(name, help, label string, values map[string]uint64) {
	e.family(name, "counter", help)
	for _, k := range slices.Sorted(maps.Keys(values)) {
		e.sample(name, pairs(label, k), float64(values[k]))
	}
}

// pairs writes labels: name, value, name, value.
func pairs(labels ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(labels); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(labels[i] + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(labels[i+1]) + `"`)
	}
	return b.String()
}

// tally counts by labels. The zero value is ready.
type tally struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (t *tally) add(labels string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = map[string]uint64{}
	}
	t.n[labels]++
}

func (t *tally) expose(e *exposition, name, help string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.family(name, "counter", help)
	for _, labels := range slices.Sorted(maps.Keys(t.n)) {
		e.sample(name, labels, float64(t.n[labels]))
	}
}

// histogram counts observations up to each of its bounds.
type histogram struct {
	bounds []float64 // rising
	mu     sync.Mutex
	counts []uint64 // one more than bounds
	sum    float64
}

func newHistogram(bounds ...float64) *histogram {
	return &histogram{bounds: bounds, counts: make([]uint64, len(bounds)+1)}
}

func (h *histogram) observe(v float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, _ := slices.BinarySearch(h.bounds, v)
	h.counts[i]++
	h.sum += v
}

func (h *histogram) expose(e *exposition, name, help string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.family(name, "histogram", help)
	total := uint64(0)
	for i, n := range h.counts {
		total += n
		le := "+Inf"
		if i < len(h.bounds) {
			le = strconv.FormatFloat(h.bounds[i], 'g', -1, 64)
		}
		e.sample(name+"_bucket", pairs("le", le), float64(total))
	}
	e.sample(name+"_sum", "", h.sum)
	e.sample(name+"_count", "", float64(total))
}

package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/simulator/process"
	"batteryswap/simulator/rider"
)

// watched is a demo with Prometheus and Alertmanager beside it, and the person
// before its screen.
type watched struct {
	t          *testing.T
	mark       string // every process of it inherits this
	keyboard   io.Writer
	screen     string // file with what it prints
	prometheus string // URL
	began      time.Time
}

const (
	// scrapeEvery is how the test's Prometheus is quicker than the shipped one.
	scrapeEvery = time.Second
	// watchPatience is how long a busy machine may take to start a demo, or to
	// bring trouble about.
	watchPatience = 4 * patience
)

// watchDemo starts a demo with two replicas as `make monitoring` does, only that
// Prometheus looks every second.
func watchDemo(t *testing.T) *watched {
	t.Helper()
	room, err := os.MkdirTemp("", "swapwatch")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(room, 0o711)) //nolint:gosec // the database's user must get through
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(room)) })
	files := filepath.Join(room, "monitoring")
	require.NoError(t, os.CopyFS(files, os.DirFS(monitoringFolder(t))))
	config := filepath.Join(files, "prometheus", "prometheus.yml")
	b, err := os.ReadFile(config)
	require.NoError(t, err)
	b = regexp.MustCompile(`(?m)^  (scrape_interval|scrape_timeout|evaluation_interval): .*$`).ReplaceAll(b, []byte("  $1: "+scrapeEvery.String()))
	require.NoError(t, os.WriteFile(config, b, 0o600))

	w := &watched{t: t, mark: "SWAP_TEST_ROOM=" + room, screen: filepath.Join(room, "screen"), began: time.Now()}
	out, err := os.Create(w.screen)
	require.NoError(t, err)
	demo := exec.Command(filepath.Join(programs(t), "simulator"), "demo", "--cabinets", "4", "--riders", "9", "--replicas", "2",
		"--behaviours", "quick,hurried,dishonest", "--listen", "127.0.0.1:0", "--monitoring", files)
	demo.Env = append(os.Environ(), "TMPDIR="+room, w.mark)
	demo.Stdout, demo.Stderr = out, out
	demo.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	w.keyboard, err = demo.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, demo.Start())
	t.Cleanup(func() {
		require.NoError(t, demo.Process.Signal(os.Interrupt))
		require.NoError(t, demo.Wait())
		require.NoError(t, out.Close())
		if t.Failed() {
			t.Log(w.printed())
		}
		require.Empty(t, processesWith(t, w.mark), "processes are left behind")
		left, err := filepath.Glob(filepath.Join(room, "swapdemo*"))
		require.NoError(t, err)
		require.Empty(t, left, "files are left behind")
	})
	w.until("the demo does not start Prometheus", func() bool { return strings.Contains(w.printed(), "Ctrl-C stops") })
	w.prometheus = w.find(`Prometheus +(http://[0-9.:]+)/targets`)
	return w
}

func (w *watched) printed() string {
	b, err := os.ReadFile(w.screen)
	require.NoError(w.t, err)
	return string(b)
}

// find finds what the demo printed.
func (w *watched) find(pattern string) string {
	m := regexp.MustCompile(pattern).FindStringSubmatch(w.printed())
	require.NotNil(w.t, m, "%s in\n%s", pattern, w.printed())
	return m[1]
}

// Code implements rider.Inbox: the demo prints what comes to the person's phone.
func (w *watched) Code(ctx context.Context, number string) (string, error) {
	message, code := regexp.MustCompile(`text message to `+number+`: ([0-9]{6})`), ""
	err := process.Until(ctx, 50*time.Millisecond, "no message has come", func() (bool, error) {
		if m := message.FindStringSubmatch(w.printed()); m != nil {
			code = m[1]
		}
		return code != "", nil
	})
	return code, err
}

// Used implements rider.Inbox: one binding is all.
func (*watched) Used(string, string) {}

func (w *watched) until(what string, is func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), watchPatience)
	defer cancel()
	require.NoError(w.t, process.Until(ctx, 250*time.Millisecond, what, func() (bool, error) { return is(), nil }))
}

// api asks Prometheus.
func (w *watched) api(path string, with url.Values, into any) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.prometheus+"/api/v1/"+path+"?"+with.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var said struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil {
		return err
	}
	if said.Status != "success" {
		return fmt.Errorf("%s %s: %s", path, with.Get("query"), said.Error)
	}
	return json.Unmarshal(said.Data, into)
}

// serie is a result: its labels and its last value.
type serie struct {
	Metric map[string]string
	Value  [2]any
	Values [][2]any
}

// now asks for what is so now, and since asks for all since the demo's start, as
// a graph does.
func (w *watched) now(expr string) []serie {
	return w.query("query", url.Values{"query": {expr}})
}

func (w *watched) since(expr string) []serie {
	return w.query("query_range", url.Values{
		"query": {expr}, "step": {"1"},
		"start": {fmt.Sprint(w.began.Unix())}, "end": {fmt.Sprint(time.Now().Unix())},
	})
}

func (w *watched) query(path string, with url.Values) []serie {
	w.t.Helper()
	var data struct{ Result []serie }
	require.NoError(w.t, w.api(path, with, &data))
	return slices.DeleteFunc(data.Result, func(s serie) bool { return s.blank() })
}

// blank: a quotient of nothing by nothing is a point that no graph shows.
func (s serie) blank() bool {
	points := append(slices.Clone(s.Values), s.Value)
	return !slices.ContainsFunc(points, func(p [2]any) bool { return p[1] != nil && p[1] != "NaN" })
}

// number is a serie's last value.
func (s serie) number(t *testing.T) float64 {
	t.Helper()
	v := s.Value[1]
	if len(s.Values) > 0 {
		v = s.Values[len(s.Values)-1][1]
	}
	n, err := strconv.ParseFloat(fmt.Sprint(v), 64)
	require.NoError(t, err)
	return n
}

// view is a dashboard as somebody looks at it: with values for its variables.
type view struct {
	*watched
	dashboard
	chosen map[string]string
}

// everything is what Grafana shows when a variable is not chosen.
const everything = "$__all"

// open opens a dashboard, as a link with var-NAME=VALUE does. A variable without
// a value gets all, or the first that Prometheus knows.
func (w *watched) open(d dashboard, with url.Values) *view {
	w.t.Helper()
	v := &view{watched: w, dashboard: d, chosen: map[string]string{}}
	for _, x := range d.Templating.List {
		value := with.Get("var-" + x.Name)
		selector, label := x.labelValues()
		switch {
		case value != "" && value != everything:
		case x.Type == "constant":
			value = fmt.Sprint(x.Query)
		case x.Type == "datasource":
			value = "swap-prometheus"
		case x.IncludeAll:
			value = everything
		case selector != "":
			var known []string
			require.NoError(w.t, w.api("label/"+label+"/values", url.Values{"match[]": {v.fill(selector, nil)}}, &known))
			require.NotEmpty(w.t, known, "%s: the variable %s has no values", d.UID, x.Name)
			value = known[0]
		}
		require.NotEmpty(w.t, value, x.Name)
		v.chosen[x.Name] = value
	}
	return v
}

// fill puts values for variables, as Grafana does; more are those of a row or a
// line that is clicked.
func (v *view) fill(text string, more map[string]string) string {
	return used.ReplaceAllStringFunc(text, func(s string) string {
		m := used.FindStringSubmatch(s)
		name := m[1] + m[3]
		switch {
		case name == "__rate_interval":
			return "1m" // four times the shipped scrape_interval
		case name == "__url_time_range":
			return "from=now-6h&to=now"
		case strings.HasPrefix(name, "__"):
			value, ok := more[name]
			require.True(v.t, ok, "%s: a click on %v knows no %s: %s", v.UID, more, name, text)
			return value
		}
		value, ok := v.chosen[name]
		require.True(v.t, ok, "%s: %s in %s", v.UID, name, text)
		if m[2] == "queryparam" {
			return url.Values{"var-" + name: {value}}.Encode()
		}
		if value == everything {
			return ".*" // allValue
		}
		return value
	})
}

// ask gives what a panel's query returns.
func (v *view) ask(q query) []serie {
	expr := v.fill(q.Expr, nil)
	if q.Instant {
		return v.now(expr)
	}
	return v.since(expr)
}

// click gives where the links of a panel lead for one of its results.
func (v *view) click(links []dataLink, s serie) []string {
	more := map[string]string{}
	for name, value := range s.Metric {
		more["__data.fields."+name], more["__field.labels."+name] = value, value
	}
	var all []string
	for _, l := range links {
		all = append(all, v.fill(l.URL, more))
	}
	return all
}

// TestMonitoring runs the demo as `make monitoring` does, makes trouble, and
// looks as operators would.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	w := watchDemo(t)
	dashboards := loadDashboards(t)

	// Not in parallel: they share what happens.
	t.Run("targets-and-rules", func(t *testing.T) { w.as(t).allIsUp() })
	silent := "hb-0003"
	w.freeze("firmware-agent", silent+"/agent.yaml")
	yours := w.makeTrouble()
	t.Run("queries", func(t *testing.T) { w.as(t).allIsParsed(dashboards) })
	t.Run("panels", func(t *testing.T) { w.as(t).noPanelIsEmpty(dashboards, yours) })
	t.Run("replicas", func(t *testing.T) { w.as(t).nothingIsDouble(dashboards) })
	t.Run("three-clicks", func(t *testing.T) { w.as(t).threeClicks(dashboards, yours) })
	t.Run("links", func(t *testing.T) { w.as(t).allLinksLead(dashboards, yours) })
	t.Run("silence", func(t *testing.T) { w.as(t).silenceIsAGap(dashboards, silent) })
	t.Run("a-replica-hangs", func(t *testing.T) { w.as(t).replicaHangs(dashboards) })
}

// as is the same for a subtest.
func (w *watched) as(t *testing.T) *watched {
	subtest := *w
	subtest.t = t
	return &subtest
}

// makeTrouble begins a swap at your cabinet, which then smokes.
func (w *watched) makeTrouble() (yours string) {
	page := w.find(`your page +(\S+)`)
	yours = w.find(`cabinet (\S+) is yours`)
	address, err := url.Parse(page)
	require.NoError(w.t, err)
	phone := rider.NewMember("http://"+address.Host, rider.Member{Number: w.find(`your phone +([0-9]+)`), Inbox: w}, http.DefaultClient)
	// A grant that comes late to its cabinet begins nothing.
	w.until("no swap begins", func() bool {
		if len(w.now(`swap_cabinet_swap_open_timestamp_seconds{cabinet="`+yours+`"}`)) > 0 {
			return true
		}
		_, err := phone.Scan(w.t.Context(), yours, fmt.Sprintf("before-the-smoke-%d", time.Now().UnixNano()))
		var refused *rider.Refused
		require.True(w.t, err == nil || errors.As(err, &refused), "%v", err)
		return false
	})
	_, err = fmt.Fprintf(w.keyboard, "cabinet %s smoke on\n", yours)
	require.NoError(w.t, err)
	return yours
}

// allIsUp: every target is scraped, every rule is evaluated, and Prometheus has
// an Alertmanager to tell.
func (w *watched) allIsUp() {
	var targets struct {
		ActiveTargets []struct {
			Labels            map[string]string
			Health, LastError string
		}
	}
	jobs := map[string]int{}
	w.until("not every target is up", func() bool {
		require.NoError(w.t, w.api("targets", nil, &targets))
		clear(jobs)
		for _, target := range targets.ActiveTargets {
			if target.Health == "up" {
				jobs[target.Labels["job"]]++
			}
		}
		return maps.Equal(jobs, map[string]int{"backend": 2, "agent": 4, "prometheus": 1, "alertmanager": 1})
	})
	var managers struct {
		ActiveAlertmanagers []struct{ URL string }
	}
	w.until("no Alertmanager is known", func() bool {
		require.NoError(w.t, w.api("alertmanagers", nil, &managers))
		return len(managers.ActiveAlertmanagers) == 1
	})
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct{ Name, Health, LastError string }
		}
	}
	w.until("not every rule is evaluated", func() bool {
		require.NoError(w.t, w.api("rules", nil, &rules))
		n := 0
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				require.NotEqual(w.t, "err", r.Health, "%s: %s", r.Name, r.LastError)
				if r.Health != "ok" {
					return false
				}
				n++
			}
		}
		return n > 50
	})
}

// allIsParsed gives every query to Prometheus' own parser.
func (w *watched) allIsParsed(all map[string]dashboard) {
	n := 0
	for _, uid := range dashboardUIDs() {
		v := w.open(all[uid], nil)
		for _, q := range v.queries() {
			var formatted string
			require.NoError(w.t, w.api("format_query", url.Values{"query": {v.fill(q, nil)}}, &formatted), uid)
			n++
		}
	}
	require.Greater(w.t, n, 80)
	var formatted string
	require.Error(w.t, w.api("format_query", url.Values{"query": {"sum(rate(up[1m])"}}, &formatted), "the parser refuses nothing")
}

// noPanelIsEmpty: each query of each panel has returned data at one time, and so
// has each annotation. Some show trouble that comes and goes; so all are asked
// until none is left.
func (w *watched) noPanelIsEmpty(all map[string]dashboard, yours string) {
	empty := map[string]func() bool{}
	for _, uid := range dashboardUIDs() {
		v := w.open(all[uid], url.Values{"var-cabinet": {everything}})
		if uid == "swap-cabinet" {
			v = w.open(all[uid], url.Values{"var-cabinet": {yours}})
		}
		for _, p := range v.shown() {
			for _, q := range p.Targets {
				if !laterOrNever(p, q) {
					empty[uid+" / "+p.Title+" / "+q.RefID] = func() bool { return len(v.ask(q)) == 0 }
				}
			}
		}
		alerts := v.fill(v.Annotations.List[0].Expr, nil)
		empty[uid+" / annotation"] = func() bool { return len(v.since(alerts)) == 0 }
	}
	require.Greater(w.t, len(empty), 90)
	ctx, cancel := context.WithTimeout(w.t.Context(), watchPatience)
	defer cancel()
	err := process.Until(ctx, 500*time.Millisecond, "panels are empty", func() (bool, error) {
		maps.DeleteFunc(empty, func(_ string, is func() bool) bool { return !is() })
		return len(empty) == 0, nil
	})
	require.NoError(w.t, err, "without data:\n%s", strings.Join(slices.Sorted(maps.Keys(empty)), "\n"))
}

// laterOrNever are the queries that no smoke brings about: the alerts of the whole
// fleet wait for replicaHangs, and no clock is known on a machine whose own is not
// synchronised.
func laterOrNever(p panel, q query) bool {
	return strings.Contains(q.Expr, `cabinet=""`) || strings.Contains(q.Expr, "cabinet:swap_clock_offset_seconds:max")
}

// nothingIsDouble: with two replicas each cabinet, alarm and alert is one row of
// its table, and counts once.
func (w *watched) nothingIsDouble(all map[string]dashboard) {
	for _, uid := range dashboardUIDs() {
		v := w.open(all[uid], url.Values{"var-cabinet": {everything}})
		for _, p := range v.shown() {
			if p.Type != "table" {
				continue
			}
			for _, row := range v.rows(p) {
				require.True(w.t, row["cabinet"] == "" || row["instance"] == "", "%s: a row for each replica", p.Title)
			}
		}
	}
	require.Len(w.t, w.open(all["swap-fleet"], nil).rowsOf("All cabinets"), 4)
	require.Len(w.t, w.open(all["swap-platform"], nil).rowsOf("Replicas"), 2)
	require.InDelta(w.t, 4, w.one(`sum(fleet:swap_cabinets:count)`), 0)
	// Replicas may have read a moment apart: for that moment a slot counts in two
	// states, and a battery is with two. A sum over replicas would be twice as much.
	require.Less(w.t, w.one(`sum(fleet:swap_cabinet_slots:sum)`), 1.5*4*12)
	require.Less(w.t, w.one(`sum(fleet:swap_batteries:max)`), 1.5*(4*8+9+1)) // in slots, of riders, yours
}

func (v *view) rowsOf(title string) map[string]map[string]string { return v.rows(v.titled(title)) }

// rows are those of a table of several queries as Grafana's merge makes them: one
// for all results that agree in the labels that every query has. Results that
// agree in these but not in others would be rows of their own.
func (v *view) rows(p panel) map[string]map[string]string {
	v.t.Helper()
	var results [][]serie
	for _, q := range p.Targets {
		if found := v.ask(q); len(found) > 0 {
			results = append(results, found)
		}
	}
	require.Equal(v.t, len(p.Targets) > 1, len(p.Transformations) > 1 && p.Transformations[0].ID == "merge", p.Title)
	merged := map[string]map[string]string{}
	for _, found := range results {
		seen := map[string]bool{}
		for _, s := range found {
			var key []string
			for _, label := range slices.Sorted(maps.Keys(s.Metric)) {
				if !slices.ContainsFunc(results, func(other []serie) bool { _, has := other[0].Metric[label]; return !has }) {
					key = append(key, label+"="+s.Metric[label])
				}
			}
			row := strings.Join(key, " ")
			if len(p.Targets) > 1 {
				require.False(v.t, seen[row], "%s: %s is there twice", p.Title, row)
			}
			seen[row] = true
			if merged[row] == nil {
				merged[row] = map[string]string{}
			}
			for label, value := range s.Metric {
				before, known := merged[row][label]
				require.True(v.t, len(p.Targets) == 1 || !known || before == value, "%s: %s is in two rows for its %s", p.Title, row, label)
				merged[row][label] = value
			}
		}
	}
	return merged
}

// one is the one number that an expression gives.
func (w *watched) one(expr string) float64 {
	w.t.Helper()
	all := w.now(expr)
	require.Len(w.t, all, 1, expr)
	return all[0].number(w.t)
}

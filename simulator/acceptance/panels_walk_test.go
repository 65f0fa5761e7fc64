package acceptance

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/stretchr/testify/require"
)

// follow opens the dashboard that a link leads to.
func (w *watched) follow(all map[string]dashboard, link string) *view {
	w.t.Helper()
	to, err := url.Parse(link)
	require.NoError(w.t, err)
	uid, ok := strings.CutPrefix(to.Path, "/d/")
	require.True(w.t, ok, link)
	require.Contains(w.t, all, uid, link)
	for name := range to.Query() {
		named, isOne := strings.CutPrefix(name, "var-")
		require.True(w.t, isOne || name == "from" || name == "to", link)
		require.True(w.t, !isOne || slices.ContainsFunc(all[uid].Templating.List, func(x variable) bool { return x.Name == named }), link)
	}
	return w.open(all[uid], to.Query())
}

// gravest is the first row of a dashboard's first table.
func (v *view) gravest() (panel, serie) {
	v.t.Helper()
	for _, p := range v.shown() {
		if p.Type == "table" {
			rows := v.ask(p.Targets[0])
			require.NotEmpty(v.t, rows, p.Title)
			slices.SortFunc(rows, func(a, b serie) int { return cmp.Compare(b.number(v.t), a.number(v.t)) })
			return p, rows[0]
		}
	}
	require.Fail(v.t, "no table")
	return panel{}, serie{}
}

// threeClicks is somebody who knows Grafana and not this system: from the fleet
// to the cabinet in trouble, the cause and what to do.
func (w *watched) threeClicks(all map[string]dashboard, yours string) {
	fleet := w.open(all["swap-fleet"], nil)
	critical := fleet.shown()[0]
	require.GreaterOrEqual(w.t, fleet.ask(critical.Targets[0])[0].number(w.t), 1.0, "%s shows that something is wrong", critical.Title)
	table, row := fleet.gravest()

	// One: the cabinet's name.
	cabinet := w.follow(all, fleet.click(table.linksOf(w.t, "cabinet"), row)[0])
	require.Equal(w.t, "swap-cabinet", cabinet.UID)
	require.Equal(w.t, yours, cabinet.chosen["cabinet"])
	table, row = cabinet.gravest()
	require.Equal(w.t, "SwapSmokeOrWaterAlarm", row.Metric["alertname"])
	require.Equal(w.t, "smoke", row.Metric["kind"], "the cause")

	// Two: the cause's name.
	w.leads(cabinet.click(table.linksOf(w.t, "alertname"), row)[0])

	// Three: the cabinet's page in the console.
	page := cabinet.click(table.linksOf(w.t, "cabinet"), row)[0]
	require.True(w.t, strings.HasSuffix(page, "/staff/cabinets/"+yours), page)
	w.leads(page)
}

// leads follows a link out of Grafana: to a runbook or a page of the console.
func (w *watched) leads(link string) {
	w.t.Helper()
	if name, ok := strings.CutPrefix(link, "/public/runbooks/"); ok {
		b, err := os.ReadFile(filepath.Join(monitoringFolder(w.t), "runbooks", name))
		require.NoError(w.t, err)
		require.True(w.t, strings.HasPrefix(string(b), "# "+strings.TrimSuffix(name, ".md")+"\n"), name)
		return
	}
	require.Contains(w.t, link, "/staff/")
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, link, nil)
	require.NoError(w.t, err)
	resp, err := client.Do(req)
	require.NoError(w.t, err)
	require.NoError(w.t, resp.Body.Close())
	require.Equal(w.t, http.StatusSeeOther, resp.StatusCode, "%s: the console asks who is there", link)
	require.True(w.t, strings.HasPrefix(resp.Header.Get("Location"), "/staff/sign-in?"), link)
}

// allLinksLead clicks at everything that can be clicked at now.
func (w *watched) allLinksLead(all map[string]dashboard, yours string) {
	clicked := map[string]bool{}
	for _, uid := range dashboardUIDs() {
		v := w.open(all[uid], nil)
		if uid == "swap-cabinet" {
			v = w.open(all[uid], url.Values{"var-cabinet": {yours}})
		}
		clicked[v.fill(v.Links[1].URL, nil)] = true
		for _, p := range v.shown() {
			for _, q := range p.Targets {
				for _, s := range v.ask(q) {
					for _, link := range v.click(p.links(w.t), s) {
						clicked[link] = true
					}
				}
			}
		}
	}
	dashboards := map[string]bool{}
	for link := range clicked {
		if strings.HasPrefix(link, "/d/") {
			dashboards[w.follow(all, link).UID] = true
		} else {
			w.leads(link)
		}
	}
	require.Greater(w.t, len(clicked), 30)
	require.Len(w.t, dashboards, 3, "cabinet, safety and flow; the rest by the link at the top: %v", dashboards)
}

// freeze stops one of the demo's programs, which says nothing from then on but
// keeps its connections; it goes on at the end.
func (w *watched) freeze(program, argument string) {
	w.t.Helper()
	pid := 0
	for _, p := range processesWith(w.t, w.mark) {
		if number, command, _ := strings.Cut(p, " "); strings.Contains(command, program+`\x00`) && strings.Contains(command, argument) {
			n, err := strconv.Atoi(number)
			require.NoError(w.t, err)
			pid = n
		}
	}
	require.NotZero(w.t, pid, "%s %s", program, argument)
	require.NoError(w.t, syscall.Kill(pid, syscall.SIGSTOP))
	w.t.Cleanup(func() { require.NoError(w.t, syscall.Kill(pid, syscall.SIGCONT)) })
}

// silenceIsAGap: a cabinet of which nothing is heard has no values any more, and
// is in trouble.
func (w *watched) silenceIsAGap(all map[string]dashboard, silent string) {
	fleet, cabinet := w.open(all["swap-fleet"], nil), w.open(all["swap-cabinet"], url.Values{"var-cabinet": {silent}})
	w.until("the silent cabinet is not in trouble", func() bool {
		trouble := fleet.titled("Cabinets in trouble")
		return slices.ContainsFunc(fleet.ask(trouble.Targets[0]), func(s serie) bool {
			if s.Metric["cabinet"] != silent || s.Metric["alertname"] != "SwapCabinetOffline" {
				return false
			}
			w.leads(fleet.click(trouble.linksOf(w.t, "alertname"), s)[0])
			return true
		})
	})
	require.InDelta(w.t, 1, fleet.ask(fleet.titled("Cabinets offline").Targets[0])[0].number(w.t), 0)
	w.until("what the silent cabinet told stays", func() bool { return len(cabinet.ask(cabinet.titled("Charged batteries").Targets[0])) == 0 })
	for _, title := range []string{"Slots by state", "Air", "Records not delivered"} {
		p := cabinet.titled(title)
		lines := cabinet.ask(p.Targets[0])
		require.NotEmpty(w.t, lines, "%s: it had told before", title)
		for _, line := range lines {
			last, err := strconv.ParseFloat(fmt.Sprint(line.Values[len(line.Values)-1][0]), 64)
			require.NoError(w.t, err)
			require.Less(w.t, last, w.one("vector(time())"), "%s: a gap up to now", title)
		}
	}
	for _, row := range fleet.ask(fleet.titled("All cabinets").Targets[0]) {
		require.InDelta(w.t, map[bool]float64{true: 0, false: 1}[row.Metric["cabinet"] == silent], row.number(w.t), 0, row.Metric["cabinet"])
	}
}

// titled is the panel whose title begins so.
func (d dashboard) titled(title string) panel {
	all := d.shown()
	return all[slices.IndexFunc(all, func(p panel) bool { return strings.HasPrefix(p.Title, title+" · ") })]
}

// replicaHangs stops the second replica: the whole fleet's trouble is shown where
// one looks for it, with its runbook.
func (w *watched) replicaHangs(all map[string]dashboard) {
	w.freeze("backend", w.find(`http://([0-9.:]+)/metrics \(backend-2\)`))
	for _, uid := range []string{"swap-fleet", "swap-platform"} {
		v := w.open(all[uid], nil)
		p := v.titled("Trouble of the whole")
		w.until("a replica that hangs is not shown: "+uid, func() bool {
			return slices.ContainsFunc(v.ask(p.Targets[0]), func(s serie) bool {
				if s.Metric["alertname"] != "SwapBackendReplicaDown" {
					return false
				}
				w.leads(v.click(p.linksOf(w.t, "alertname"), s)[0])
				return true
			})
		})
	}
}

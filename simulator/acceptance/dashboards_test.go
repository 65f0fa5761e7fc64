package acceptance

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	goyaml "go.yaml.in/yaml/v3"

	"batteryswap/protocol"
)

// dashboard is what a test needs of Grafana's JSON model.
type dashboard struct {
	UID, Title, Description string
	Tags                    []string
	Links                   []struct {
		dataLink
		Type                  string
		Tags                  []string
		IncludeVars, KeepTime bool
	}
	Annotations struct{ List []annotation }
	Templating  struct{ List []variable }
	Panels      []panel
}

type annotation struct {
	Name, Expr string
	Enable     bool
	Datasource datasource
}

type datasource struct{ Type, UID string }

type variable struct {
	Name, Label, Type string
	Query             any // of a query, an object; of the others text
	Datasource        datasource
	AllValue          string
	IncludeAll        bool
}

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ H, W, X, Y int }
	Datasource               datasource
	Targets                  []query
	Transformations          []struct{ ID string }
	FieldConfig              struct {
		Defaults  fieldConfig
		Overrides []struct {
			Matcher    struct{ ID, Options string }
			Properties []struct {
				ID    string
				Value json.RawMessage
			}
		}
	}
	Panels []panel // of a row that is closed
}

type query struct {
	RefID, Expr, Format string
	Instant, Range      bool
}

type fieldConfig struct {
	Unit, NoValue string
	Thresholds    struct {
		Steps []struct {
			Color string
			Value *float64
		}
	}
	Links  []dataLink
	Custom struct {
		SpanNulls any
	}
}

type dataLink struct {
	Title, URL  string
	TargetBlank bool
}

// dashboardUIDs are fixed: people and alerts keep links to them.
func dashboardUIDs() []string {
	return []string{"swap-fleet", "swap-cabinet", "swap-flow", "swap-safety", "swap-platform"}
}

// monitoringFolder is where the shipped files are.
func monitoringFolder(t testing.TB) string {
	t.Helper()
	root, err := moduleRoot()
	require.NoError(t, err)
	return filepath.Join(root, "backend", "monitoring")
}

// loadDashboards reads the shipped ones, by uid.
func loadDashboards(t testing.TB) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(monitoringFolder(t), "grafana", "dashboards", "*.json"))
	require.NoError(t, err)
	all := map[string]dashboard{}
	for _, name := range files {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NotContains(t, string(b), "__inputs", "%s: a datasource is a variable", name)
		for _, colour := range regexp.MustCompile(`"(?:color|fixedColor|iconColor)": "([^"]*)"`).FindAllStringSubmatch(string(b), -1) {
			require.Contains(t, safeColours(), colour[1], name)
		}
		var d dashboard
		require.NoError(t, json.Unmarshal(b, &d), name)
		require.Equal(t, d.UID+".json", filepath.Base(name))
		all[d.UID] = d
	}
	require.Len(t, all, len(dashboardUIDs()))
	for _, uid := range dashboardUIDs() {
		require.Contains(t, all, uid)
	}
	return all
}

// shown are all panels but rows, also those of rows that are closed.
func (d dashboard) shown() []panel {
	var all []panel
	for _, p := range d.Panels {
		if p.Type == "row" {
			all = append(all, p.Panels...)
			continue
		}
		all = append(all, p)
	}
	return all
}

// links are all that a panel's fields lead to.
func (p panel) links(t testing.TB) []dataLink {
	t.Helper()
	all := slices.Clone(p.FieldConfig.Defaults.Links)
	for _, o := range p.FieldConfig.Overrides {
		all = append(all, p.linksOf(t, o.Matcher.Options)...)
	}
	return all
}

// linksOf are those of one column of a table.
func (p panel) linksOf(t testing.TB, field string) []dataLink {
	t.Helper()
	var all []dataLink
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if o.Matcher.Options == field && property.ID == "links" {
				var links []dataLink
				require.NoError(t, json.Unmarshal(property.Value, &links))
				all = append(all, links...)
			}
		}
	}
	return all
}

// bothLanguages matches a text that says the same in English and in Chinese.
var bothLanguages = regexp.MustCompile(`^[^\p{Han}]+ · .*\p{Han}.*$`)

// knownUnits are identifiers of Grafana's list (packages/grafana-data,
// valueFormats/categories.ts) that panels use.
func knownUnits() []string {
	return []string{"none", "percentunit", "s", "dtdurations", "bytes", "celsius", "watt", "reqps"}
}

// safeColours are those of Okabe and Ito, which people who see colours
// differently can tell apart, and a grey.
func safeColours() []string {
	return []string{"#0072B2", "#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00", "#CC79A7", "#999999"}
}

// TestDashboards looks at what Grafana would load, without running anything.
func TestDashboards(t *testing.T) {
	t.Parallel()
	for uid, d := range loadDashboards(t) {
		t.Run(uid, func(t *testing.T) {
			require.Regexp(t, bothLanguages, d.Title)
			require.Regexp(t, bothLanguages, d.Description)
			require.Contains(t, d.Tags, "swap", "the link to the others goes by it")
			checkFrame(t, d)
			checkGrid(t, d.Panels)
			ids := map[int]bool{}
			for _, p := range d.Panels {
				checkNew(t, ids, p.ID)
				for _, inner := range p.Panels {
					checkNew(t, ids, inner.ID)
				}
			}
			titles := map[string]bool{}
			for _, p := range d.shown() {
				require.False(t, titles[p.Title], "two panels are called %s", p.Title)
				titles[p.Title] = true
				checkPanel(t, p)
			}
			for _, p := range d.Panels[:4] { // the first thing that is seen
				require.Equal(t, "stat", p.Type, p.Title)
				require.Zero(t, p.GridPos.Y, p.Title)
			}
			checkVariablesAreDefined(t, d)
		})
	}
}

func checkNew(t *testing.T, seen map[int]bool, id int) {
	t.Helper()
	require.Positive(t, id)
	require.False(t, seen[id], "panel id %d is there twice", id)
	seen[id] = true
}

// checkFrame looks at variables, annotations and the links at the top.
func checkFrame(t *testing.T, d dashboard) {
	t.Helper()
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name)
		require.Regexp(t, bothLanguages, v.Label)
		if v.Type == "query" {
			require.Equal(t, datasource{"prometheus", "${datasource}"}, v.Datasource, v.Name)
		}
	}
	require.Equal(t, []string{"datasource", "job", "street", "cabinet", "console", "runbooks"}, names, "each chooses among what those before left")
	require.Len(t, d.Annotations.List, 2, "alerts, software changes")
	for _, a := range d.Annotations.List {
		require.True(t, a.Enable, a.Name)
		require.Regexp(t, bothLanguages, a.Name)
		require.Equal(t, datasource{"prometheus", "${datasource}"}, a.Datasource, a.Name)
	}
	require.Equal(t, "dashboards", d.Links[0].Type)
	require.Equal(t, []string{"swap"}, d.Links[0].Tags)
	require.True(t, d.Links[0].IncludeVars && d.Links[0].KeepTime)
	require.True(t, strings.HasPrefix(d.Links[1].URL, "${console}/staff/cabinets"), d.Links[1].URL)
}

// checkGrid: panels stay within the grid's 24 columns and on no other's place.
func checkGrid(t *testing.T, panels []panel) {
	t.Helper()
	taken := map[[2]int]string{}
	for _, p := range panels {
		g := p.GridPos
		require.True(t, g.W > 0 && g.H > 0 && g.X >= 0 && g.Y >= 0 && g.X+g.W <= 24, "%s: %+v", p.Title, g)
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				require.Empty(t, taken[[2]int{x, y}], "%s lies on another", p.Title)
				taken[[2]int{x, y}] = p.Title
			}
		}
		if len(p.Panels) > 0 {
			checkGrid(t, p.Panels)
		}
	}
}

// checkPanel: what a panel must have to be understood without its maker.
func checkPanel(t *testing.T, p panel) {
	t.Helper()
	f := p.FieldConfig.Defaults
	require.Regexp(t, bothLanguages, p.Title)
	require.Regexp(t, bothLanguages, p.Description, p.Title)
	require.Regexp(t, bothLanguages, f.NoValue, p.Title)
	require.Contains(t, knownUnits(), f.Unit, p.Title)
	require.Equal(t, datasource{"prometheus", "${datasource}"}, p.Datasource, p.Title)
	require.NotEmpty(t, p.Targets, p.Title)
	require.NotEmpty(t, f.Thresholds.Steps, p.Title)
	for i, s := range f.Thresholds.Steps {
		require.Equal(t, i == 0, s.Value == nil, p.Title)
		require.True(t, i < 2 || *f.Thresholds.Steps[i-1].Value < *s.Value, p.Title)
	}
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if property.ID == "unit" {
				var unit string
				require.NoError(t, json.Unmarshal(property.Value, &unit))
				require.Contains(t, knownUnits(), unit, p.Title)
			}
		}
	}
	refs := map[string]bool{}
	for _, q := range p.Targets {
		require.False(t, refs[q.RefID], p.Title)
		refs[q.RefID] = true
		// A range's last value may be old; only a question about now has none then.
		require.Equal(t, p.Type != "timeseries", q.Instant, "%s: %s", p.Title, q.Expr)
		require.Equal(t, p.Type == "table", q.Format == "table", p.Title)
		for _, r := range regexp.MustCompile(`\b(?:rate|increase|irate)\([^\[]*(\[[^\]]*\])`).FindAllStringSubmatch(q.Expr, -1) {
			require.Equal(t, "[$__rate_interval]", r[1], p.Title)
		}
	}
	switch p.Type {
	case "timeseries":
		require.Equal(t, false, f.Custom.SpanNulls, "%s: silence is a gap", p.Title)
	case "table", "stat":
	default:
		require.Fail(t, "a kind of panel that nobody has looked at", "%s: %s", p.Title, p.Type)
	}
}

// used finds variables: $name, ${name}, ${name:format}.
var used = regexp.MustCompile(`\$\{([^}:]+)(?::([a-z]+))?\}|\$([A-Za-z_]+)`)

// checkVariablesAreDefined: every variable in a query or a link is the
// dashboard's or one of Grafana's own.
func checkVariablesAreDefined(t *testing.T, d dashboard) {
	t.Helper()
	known := []string{"__rate_interval", "__url_time_range"}
	for _, v := range d.Templating.List {
		known = append(known, v.Name)
	}
	texts := d.queries()
	for _, p := range d.shown() {
		for _, l := range p.links(t) {
			require.Regexp(t, bothLanguages, l.Title, p.Title)
			texts = append(texts, l.URL)
		}
	}
	for _, l := range d.Links {
		texts = append(texts, l.URL)
	}
	for _, text := range texts {
		for _, m := range used.FindAllStringSubmatch(text, -1) {
			name := m[1] + m[3]
			if !strings.HasPrefix(name, "__data.fields.") && !strings.HasPrefix(name, "__field.labels.") {
				require.Contains(t, known, name, text)
			}
		}
	}
}

// queryText is what a variable asks Prometheus, "" if nothing.
func (v variable) queryText() string {
	if q, ok := v.Query.(map[string]any); ok {
		return fmt.Sprint(q["query"])
	}
	return ""
}

// TestDashboardsNameWhatThereIs: every metric in a query is in the catalogue or
// among the recording rules.
func TestDashboardsNameWhatThereIs(t *testing.T) {
	t.Parallel()
	metrics := catalogue(t)
	for uid, d := range loadDashboards(t) {
		for _, q := range d.queries() {
			for _, m := range regexp.MustCompile(`([A-Za-z_:][A-Za-z0-9_:]*)\{`).FindAllStringSubmatch(q, -1) {
				require.Contains(t, metrics, m[1], "%s: %s", uid, q)
			}
		}
	}
}

// queries are all that a dashboard asks: of panels, annotations and variables.
func (d dashboard) queries() []string {
	var all []string
	for _, p := range d.shown() {
		for _, q := range p.Targets {
			all = append(all, q.Expr)
		}
	}
	for _, a := range d.Annotations.List {
		all = append(all, a.Expr)
	}
	for _, v := range d.Templating.List {
		if selector, _ := v.labelValues(); selector != "" {
			all = append(all, selector)
		}
	}
	return all
}

// labelValues takes label_values(SELECTOR, LABEL) apart.
func (v variable) labelValues() (selector, label string) {
	m := regexp.MustCompile(`^label_values\((\w+)(\{.*\})?, (\w+)\)$`).FindStringSubmatch(v.queryText())
	if m == nil {
		return "", ""
	}
	if m[2] == "" {
		m[2] = "{}"
	}
	return m[1] + m[2], m[3]
}

// TestDashboardsLeadToRunbooks: every runbook that a panel leads to is there.
func TestDashboardsLeadToRunbooks(t *testing.T) {
	t.Parallel()
	led := 0
	for _, d := range loadDashboards(t) {
		for _, p := range d.shown() {
			for _, l := range p.links(t) {
				if name, ok := strings.CutPrefix(l.URL, "${runbooks}/"); ok && !strings.Contains(name, "$") {
					require.FileExists(t, filepath.Join(monitoringFolder(t), "runbooks", name), p.Title)
					led++
				}
			}
		}
	}
	require.Greater(t, led, 20)
}

// TestDashboardsNameEveryAlarm: every kind that a cabinet may raise has words in
// both languages wherever kinds are shown.
func TestDashboardsNameEveryAlarm(t *testing.T) {
	t.Parallel()
	tables := 0
	for _, d := range loadDashboards(t) {
		for _, p := range d.shown() {
			words := p.mapped(t, "kind")
			if words == nil {
				continue
			}
			tables++
			for _, k := range alarmKinds(t) {
				require.Regexp(t, bothLanguages, words[k], "%s: %s", p.Title, k)
			}
		}
	}
	require.Equal(t, 3, tables)
}

// mapped are the words that a column shows for values, nil without such.
func (p panel) mapped(t *testing.T, field string) map[string]string {
	t.Helper()
	var words map[string]string
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if o.Matcher.Options != field || property.ID != "mappings" {
				continue
			}
			var mappings []struct {
				Options map[string]struct{ Text string }
			}
			require.NoError(t, json.Unmarshal(property.Value, &mappings))
			words = map[string]string{}
			for value, shown := range mappings[0].Options {
				words[value] = shown.Text
			}
		}
	}
	return words
}

// alarmKinds are all that a cabinet may raise.
func alarmKinds(t *testing.T) []string {
	t.Helper()
	root, err := moduleRoot()
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(root, "protocol", "payload.go"))
	require.NoError(t, err)
	var all []string
	for _, m := range regexp.MustCompile(`AlarmKind = "([a-z_]+)"`).FindAllStringSubmatch(string(b), -1) {
		require.True(t, protocol.AlarmKind(m[1]).Valid() || m[1] == string(protocol.AlarmOther))
		all = append(all, m[1])
	}
	require.NotEmpty(t, all)
	return all
}

// TestProvisioning: what Grafana is told of its data sources and dashboards.
func TestProvisioning(t *testing.T) {
	t.Parallel()
	folder := monitoringFolder(t)
	read := func(into any, path ...string) {
		b, err := os.ReadFile(filepath.Join(append([]string{folder}, path...)...))
		require.NoError(t, err)
		require.NoError(t, goyaml.Unmarshal(b, into))
	}
	var prometheus struct {
		Global struct {
			ScrapeInterval string `yaml:"scrape_interval"`
		}
	}
	read(&prometheus, "prometheus", "prometheus.yml")
	var sources struct {
		Datasources []struct {
			Name, Type, UID, URL string
			IsDefault            bool           `yaml:"isDefault"`
			JSONData             map[string]any `yaml:"jsonData"`
		}
	}
	read(&sources, "grafana", "provisioning", "datasources", "swap.yml")
	require.Equal(t, "prometheus", sources.Datasources[0].Type)
	require.True(t, sources.Datasources[0].IsDefault, "the variable's first choice")
	// Grafana makes $__rate_interval four times as long as this.
	require.Equal(t, prometheus.Global.ScrapeInterval, sources.Datasources[0].JSONData["timeInterval"])
	require.Equal(t, "alertmanager", sources.Datasources[1].Type)
	var providers struct {
		Providers []struct {
			Type           string
			AllowUIUpdates bool `yaml:"allowUiUpdates"`
			Options        struct{ Path string }
		}
	}
	read(&providers, "grafana", "provisioning", "dashboards", "swap.yml")
	require.Equal(t, "file", providers.Providers[0].Type)
	require.False(t, providers.Providers[0].AllowUIUpdates, "the files are the truth")
	require.NotEmpty(t, providers.Providers[0].Options.Path)
}

// TestSoftwareChangesAreMarked gives the annotation an hour in which a cabinet's
// software changes once, after a restart of the backend: one mark, no other.
func TestSoftwareChangesAreMarked(t *testing.T) {
	t.Parallel()
	fleet := loadDashboards(t)["swap-fleet"]
	changes := used.ReplaceAllStringFunc(fleet.Annotations.List[1].Expr, func(s string) string {
		return map[string]string{"$job": "backend", "$street": ".*", "$cabinet": ".*"}[s]
	})
	dir := t.TempDir()
	write := func(name string, content any) {
		b, err := goyaml.Marshal(content)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	type object = map[string]any
	write("rules.yml", object{"groups": []object{{"name": "g", "rules": []object{{"record": "changes", "expr": changes}}}}})
	of := func(software string) string {
		return fmt.Sprintf("swap_cabinet_info{job=%q,street=%q,cabinet=%q,software=%q,model=%q}", "backend", "River", "hb-0001", software, "12 slots")
	}
	at := func(when string, marks ...object) object {
		return object{"expr": "changes", "eval_time": when, "exp_samples": marks}
	}
	mark := object{"labels": `changes{job="backend",street="River",cabinet="hb-0001",software="1.1"}`, "value": 1}
	write("test.yml", object{
		"rule_files": []string{"rules.yml"}, "evaluation_interval": "15s",
		"tests": []object{{
			"interval": "1m",
			"input_series": []object{
				{"series": of("1.0"), "values": "1x9 stale _x4 1x10 stale _x40"}, // the backend is away for four minutes
				{"series": of("1.1"), "values": "_x26 1x40"},
			},
			"promql_expr_test": []object{at("3m"), at("8m"), at("16m"), at("22m"), at("25m"), at("26m", mark), at("30m", mark), at("31m"), at("50m")},
		}},
	})
	said, err := exec.CommandContext(t.Context(), "promtool", "test", "rules", filepath.Join(dir, "test.yml")).CombinedOutput()
	require.NoError(t, err, "%s", said)
}

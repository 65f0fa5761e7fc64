package acceptance

import (
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

// rule is one of Prometheus' rules: it records or alerts.
type rule struct {
	Record, Alert, Expr string
	For                 string
	KeepFiringFor       string `yaml:"keep_firing_for"`
	Labels, Annotations map[string]string
	file                string
}

// wantedAlerts are those that operators were promised, by severity. There may be
// more.
func wantedAlerts() map[string][]string {
	return map[string][]string{
		"critical": {
			"SwapSlotThermalAlarm", "SwapSmokeOrWaterAlarm", "SwapFleetOfflineSpike", "SwapStreetNoChargedBattery", "SwapFailureRatioHigh",
			"SwapBackendDown", "SwapMQTTDisconnected", "SwapDatabaseUnavailable", "SwapLedgerMismatch", "SwapJournalFork",
		},
		"warning": {
			"SwapCabinetOffline", "SwapCabinetNoChargedBattery", "SwapCabinetNoEmptySlot", "SwapDoorOpenTooLong", "SwapBatteryUnaccounted",
			"SwapStuckSwap", "SwapSlotFaultRatioHigh", "SwapSlow", "SwapCabinetFlapping", "SwapCabinetOverTemperature", "SwapIngestLagHigh",
			"SwapAgentBacklogGrowing", "SwapClockSkew", "SwapDBPoolSaturated", "SwapCertificateExpiresSoon", "SwapReviewWaiting",
		},
		"info": {"SwapSoftwareDrift", "SwapCabinetNoSwaps", "SwapWatchdog"},
	}
}

// shipped is the path of a file below backend/monitoring.
func shipped(t testing.TB, path ...string) string {
	t.Helper()
	return filepath.Join(append([]string{monitoringFolder(t)}, path...)...)
}

// readYAML reads a shipped file.
func readYAML(t testing.TB, into any, path ...string) {
	t.Helper()
	b, err := os.ReadFile(shipped(t, path...))
	require.NoError(t, err)
	require.NoError(t, goyaml.Unmarshal(b, into), path)
}

// filesOf are the names of a shipped folder's files with that ending.
func filesOf(t testing.TB, ending string, path ...string) []string {
	t.Helper()
	all, err := os.ReadDir(shipped(t, path...))
	require.NoError(t, err)
	var names []string
	for _, f := range all {
		if strings.HasSuffix(f.Name(), ending) {
			names = append(names, f.Name())
		}
	}
	require.NotEmpty(t, names, path)
	return names
}

// loadRules reads all shipped rules.
func loadRules(t testing.TB) []rule {
	t.Helper()
	var all []rule
	for _, name := range filesOf(t, ".yml", "prometheus", "rules") {
		var file struct {
			Groups []struct {
				Name  string
				Rules []rule
			}
		}
		readYAML(t, &file, "prometheus", "rules", name)
		for _, g := range file.Groups {
			for _, r := range g.Rules {
				r.file = strings.TrimSuffix(name, ".yml")
				all = append(all, r)
			}
		}
	}
	return all
}

// loadAlerts are the rules that alert, by name.
func loadAlerts(t testing.TB) map[string]rule {
	t.Helper()
	all := map[string]rule{}
	for _, r := range loadRules(t) {
		if r.Alert != "" {
			require.NotContains(t, all, r.Alert, "an alert is one rule")
			all[r.Alert] = r
		}
	}
	return all
}

// checked runs one of Prometheus' checkers, which must find nothing.
func checked(t *testing.T, name string, args ...string) {
	t.Helper()
	said, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", name, strings.Join(args, " "), said)
	require.NotContains(t, string(said), "FAILED", "%s", said)
	require.NotContains(t, string(said), "WARNING", "%s", said)
}

// TestRulesHold lets Prometheus' own tools look at every shipped file, and runs
// the unit tests of the rules in simulated time.
func TestRulesHold(t *testing.T) {
	t.Parallel()
	checked(t, "promtool", "check", "config", shipped(t, "prometheus", "prometheus.yml"))
	checked(t, "amtool", "check-config", shipped(t, "alertmanager", "alertmanager.yml"))
	for _, name := range filesOf(t, ".yml", "prometheus", "rules") {
		checked(t, "promtool", "check", "rules", "--lint=all", "--lint-fatal", shipped(t, "prometheus", "rules", name))
	}
	for _, name := range filesOf(t, ".yml", "prometheus", "tests") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checked(t, "promtool", "test", "rules", shipped(t, "prometheus", "tests", name))
		})
	}
}

// unitTests say of each alert in how many places it is expected to fire, and in
// how many not to.
func unitTests(t *testing.T) (fires, silent map[string]int) {
	t.Helper()
	fires, silent = map[string]int{}, map[string]int{}
	for _, name := range filesOf(t, ".yml", "prometheus", "tests") {
		var file struct {
			Tests []struct {
				AlertRuleTest []struct {
					Alertname string
					ExpAlerts []any `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			}
		}
		readYAML(t, &file, "prometheus", "tests", name)
		for _, test := range file.Tests {
			for _, c := range test.AlertRuleTest {
				if len(c.ExpAlerts) > 0 {
					fires[c.Alertname]++
				} else {
					silent[c.Alertname]++
				}
			}
		}
	}
	return fires, silent
}

// TestEveryAlertIsWhole: each has a severity, words in both languages, a runbook,
// and unit tests in which it fires and does not.
func TestEveryAlertIsWhole(t *testing.T) {
	t.Parallel()
	alerts := loadAlerts(t)
	for severity, names := range wantedAlerts() {
		for _, name := range names {
			require.Contains(t, alerts, name)
			require.Equal(t, severity, alerts[name].Labels["severity"], name)
		}
	}
	fires, silent := unitTests(t)
	for name, a := range alerts {
		require.Equal(t, a.file, a.Labels["severity"], "%s stands in the file of its severity", name)
		require.Positive(t, fires[name], "%s is expected nowhere in prometheus/tests", name)
		if name != "SwapWatchdog" { // it is always on
			require.Positive(t, silent[name], "prometheus/tests have no case in which %s does not fire", name)
		}
		for _, which := range []string{"summary", "description"} {
			chinese, english, both := strings.Cut(a.Annotations[which], " · ")
			require.True(t, both, "%s: %s has two languages", name, which)
			require.Regexp(t, `\p{Han}`, chinese, "%s: %s", name, which)
			require.NotRegexp(t, `\p{Han}`, english, "%s: %s", name, which)
		}
		require.True(t, strings.HasSuffix(a.Annotations["runbook_url"], "}"+name+".md"), "%s: %s", name, a.Annotations["runbook_url"])
		if strings.Contains(a.Expr, "cabinet:") && !strings.Contains(a.Annotations["console_url"], "/staff/cabinets") {
			require.Failf(t, "no console_url", "%s tells of cabinets: want a link to the console", name)
		}
	}
	for name := range fires {
		require.Contains(t, alerts, name, "a test of no alert")
	}
}

// TestRunbooks: one for each alert and no other; each says what it means, how to
// see it, what to do and what the rider sees, asks only for metrics and pages that
// there are, and leads to other runbooks that exist.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	alerts, known, pages := loadAlerts(t), catalogue(t), consolePages(t)
	var names []string
	for _, file := range filesOf(t, ".md", "runbooks") {
		name := strings.TrimSuffix(file, ".md")
		names = append(names, name)
		b, err := os.ReadFile(shipped(t, "runbooks", file))
		require.NoError(t, err)
		text := string(b)
		require.True(t, strings.HasPrefix(text, "# "+name+"\n"), name)
		var headings []string
		for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(text, -1) {
			headings = append(headings, m[1])
		}
		require.Equal(t, []string{"What it means", "How to see it", "What to do", "What the rider sees"}, headings, name)
		require.Regexp(t, `\p{Han}`, text, "%s: the first lines are in Chinese, too", name)
		for _, query := range regexp.MustCompile("(?s)```promql\n(.*?)```").FindAllStringSubmatch(text, -1) {
			for line := range strings.Lines(query[1]) {
				for _, metric := range metricsIn(line) {
					require.Contains(t, known, metric, "%s: %s", name, line)
				}
			}
		}
		for _, link := range regexp.MustCompile(`\]\(([A-Za-z]+\.md)\)`).FindAllStringSubmatch(text, -1) {
			require.FileExists(t, shipped(t, "runbooks", link[1]), name)
		}
		for _, page := range regexp.MustCompile("`(/staff/[^`?]*)").FindAllStringSubmatch(text, -1) {
			require.Contains(t, pages, page[1], name)
		}
	}
	for name := range alerts {
		require.Contains(t, names, name, "%s has no runbook", name)
	}
	require.Len(t, names, len(alerts), "a runbook of no alert")
}

// consolePages are the pages of the console that can be opened: not the addresses
// that only a button of one of them posts to.
func consolePages(t *testing.T) []string {
	t.Helper()
	root, err := moduleRoot()
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(root, "backend", "internal", "web", "*.go"))
	require.NoError(t, err)
	var all []string
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^\s*page\("(/staff/[a-z_{}/-]+)", `).FindAllStringSubmatch(string(b), -1) {
			if !strings.HasSuffix(file, "_test.go") {
				all = append(all, m[1])
			}
		}
	}
	require.Contains(t, all, "/staff/reviews/{review_id}")
	require.NotContains(t, all, "/staff/reviews/{review_id}/hardship", "that is a button's")
	return all
}

// catalogue are the metrics that there are, as the tables of the README say, which
// the programs' own tests hold to be true; what a histogram is made of; the
// recording rules; and what Prometheus has itself. The values are the labels, nil
// for any.
func catalogue(t testing.TB) map[string][]string {
	t.Helper()
	all := map[string][]string{"up": nil, "ALERTS": nil, "scrape_duration_seconds": nil}
	for _, name := range []string{"process_start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes"} {
		all[name] = nil // of both programs: the client library's, and the agent's own
	}
	b, err := os.ReadFile(shipped(t, "README.md"))
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_0-9]+)` \\| ?([^|]*)\\| (histogram)?[^|]* \\|$").FindAllStringSubmatch(string(b), -1) {
		labels := append([]string{"job", "instance"}, strings.Fields(strings.ReplaceAll(m[2], "`", ""))...)
		if m[3] == "" {
			all[m[1]] = append(all[m[1]], labels...) // of both programs
			continue
		}
		for _, ending := range []string{"_bucket", "_sum", "_count"} {
			all[m[1]+ending] = append(labels, "le")
		}
	}
	for _, r := range loadRules(t) {
		if r.Record != "" {
			all[r.Record] = nil
		}
	}
	return all
}

// What stands in a query that is not a metric.
var (
	inQuotes    = regexp.MustCompile(`"[^"]*"`)
	inBraces    = regexp.MustCompile(`\{[^}]*\}`)
	inBrackets  = regexp.MustCompile(`\[[^\]]*\]`)
	numbers     = regexp.MustCompile(`\b[0-9][0-9a-z.]*`)
	labelLists  = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	identifiers = regexp.MustCompile(`[A-Za-z_:][A-Za-z0-9_:]*(\s*\()?`)
	matchers    = regexp.MustCompile(`([a-z_:]+)\{([^}]*)\}`)
	matcher     = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
)

// metricsIn are the metrics that a query asks for. Prometheus has parsed it.
func metricsIn(query string) []string {
	var rest strings.Builder
	for line := range strings.Lines(query) {
		code, _, _ := strings.Cut(line, "#")
		rest.WriteString(code + " ")
	}
	plain := rest.String()
	for _, not := range []*regexp.Regexp{inQuotes, inBraces, inBrackets, labelLists, numbers} {
		plain = not.ReplaceAllString(plain, " ")
	}
	var all []string
	for _, word := range identifiers.FindAllString(plain, -1) {
		switch {
		case strings.HasSuffix(word, "("): // a function
		case slices.Contains([]string{"and", "or", "unless", "bool", "offset"}, word):
		default:
			all = append(all, word)
		}
	}
	return all
}

// TestMetricsInAQuery tries the reader of queries on one that has everything.
func TestMetricsInAQuery(t *testing.T) {
	require.Equal(t, []string{"a_total", "b:c:max", "up", "d"}, metricsIn(
		`topk by (job, le) (3, rate(a_total{job=~"x|y"}[5m])) * on (job) group_left (street) b:c:max # comment with words
		and up offset 1d > 0 or absent(d)`))
}

// TestRulesNameWhatThereIs: each metric in a rule is registered, with the labels
// that the rule asks for, and values that there are.
func TestRulesNameWhatThereIs(t *testing.T) {
	t.Parallel()
	known := catalogue(t)
	var outcomes []string
	for _, o := range protocol.Outcomes() {
		outcomes = append(outcomes, string(o))
	}
	for _, r := range loadRules(t) {
		name := r.Record + r.Alert
		for _, metric := range metricsIn(r.Expr) {
			require.Contains(t, known, metric, name)
		}
		for _, m := range matchers.FindAllStringSubmatch(r.Expr, -1) {
			for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
				if labels := known[m[1]]; labels != nil {
					require.Contains(t, labels, l[1], "%s: %s", name, m[0])
				}
				for _, value := range strings.Split(l[3], "|") {
					switch l[1] {
					case "outcome":
						require.Contains(t, outcomes, value, name)
					case "state":
						require.Contains(t, []string{"charged", "empty", "holds_battery", "out", "unknown", "acquired"}, value, name)
					case "kind":
						require.True(t, protocol.AlarmKind(value).Valid() || value == string(protocol.AlarmOther), "%s: %s", name, value)
					}
				}
			}
		}
		if r.Record != "" && strings.HasPrefix(r.Expr, "swap_") {
			require.Contains(t, r.Expr, `job=~"backend.*"`, "%s: an agent's metrics are not the backend's", name)
		}
	}
}

// TestEveryAlarmRings: each kind of alarm that a cabinet raises is one alert's.
func TestEveryAlarmRings(t *testing.T) {
	t.Parallel()
	rings := map[string]string{"slot_fault": "SwapSlotFaultRatioHigh"} // a slot is no reason to go there
	for name, a := range loadAlerts(t) {
		for _, m := range regexp.MustCompile(`(?:max|sum|count) by \([^)]*\) \(\s*cabinet:swap_alarm:last\{kind=~?"([^"]*)"\}`).FindAllStringSubmatch(a.Expr, -1) {
			for _, kind := range strings.Split(m[1], "|") {
				require.NotContains(t, rings, kind, "%s rings twice: %s", kind, name)
				rings[kind] = name
			}
		}
	}
	for _, k := range alarmKinds(t) {
		require.Contains(t, rings, k, "an alarm that nobody hears")
	}
}

// TestTheTableOfAlertsIsTrue: the README has a row for each alert with its
// severity, its time, and what inhibits it, as the files say.
func TestTheTableOfAlertsIsTrue(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(shipped(t, "README.md"))
	require.NoError(t, err)
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| \\[`(Swap[A-Za-z]+)`\\]\\(runbooks/Swap[A-Za-z]+\\.md\\) \\| ([a-z]+) \\| [^|]+ \\| ([0-9a-z –]+) \\| ([^|]*)\\|$").
		FindAllStringSubmatch(string(b), -1) {
		rows[m[1]] = fmt.Sprintf("%s, for %s, inhibited by %s", m[2], m[3], strings.TrimSpace(m[4]))
	}
	alerts, by := loadAlerts(t), inhibited(t)
	for name, a := range alerts {
		why := "–"
		if len(by[name]) > 0 {
			slices.Sort(by[name])
			why = strings.Join(slices.Compact(by[name]), " ")
		}
		lasts := a.For
		if lasts == "" {
			lasts = "–"
		}
		require.Equal(t, fmt.Sprintf("%s, for %s, inhibited by %s", a.Labels["severity"], lasts, why), rows[name], name)
	}
	require.Len(t, rows, len(alerts))
}

// TestComposeMountsWhatThereIs: what the compose file brings into containers is
// there. No container engine is needed to see that, nor is one here to see more.
func TestComposeMountsWhatThereIs(t *testing.T) {
	t.Parallel()
	var file struct {
		Services map[string]struct {
			Image   string
			Volumes []string
		}
		Volumes map[string]any
	}
	readYAML(t, &file, "..", "packaging", "compose.yaml")
	require.Len(t, file.Services, 3)
	for name, s := range file.Services {
		require.Regexp(t, `^[a-z/]+:v?[0-9]+\.[0-9]+\.[0-9]+$`, s.Image, "a version, never the latest")
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(from, ".") {
				require.DirExists(t, shipped(t, "..", "packaging", from), name)
			} else {
				require.Contains(t, file.Volumes, from, name)
			}
		}
	}
}

package acceptance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/simulator/process"
)

// inhibition is one rule of Alertmanager: what brings about what.
type inhibition struct {
	Source []string `yaml:"source_matchers"`
	Target []string `yaml:"target_matchers"`
	Equal  []string
}

// loadInhibitions reads the shipped ones.
func loadInhibitions(t testing.TB) []inhibition {
	t.Helper()
	var file struct {
		Rules []inhibition `yaml:"inhibit_rules"`
	}
	readYAML(t, &file, "alertmanager", "alertmanager.yml")
	require.NotEmpty(t, file.Rules)
	return file.Rules
}

// fits reports whether an alert may have labels that all matchers take, and gives
// those that it must have besides its name.
func fits(t testing.TB, matchers []string, alert string) (labels map[string]string, ok bool) {
	t.Helper()
	labels = map[string]string{}
	for _, m := range matchers {
		p := regexp.MustCompile(`^([a-z]+)(=~|!~|=|!=)"([^"]*)"$`).FindStringSubmatch(m)
		require.NotNil(t, p, m)
		if p[1] != "alertname" {
			labels[p[1]], _, _ = strings.Cut(p[3], "|")
			continue
		}
		matches := regexp.MustCompile(`^(?:` + p[3] + `)$`).MatchString(alert)
		if strings.HasPrefix(p[2], "!") == matches {
			return nil, false
		}
	}
	return labels, true
}

// inhibited says of each alert which others inhibit it.
func inhibited(t testing.TB) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	alerts := slices.Sorted(maps.Keys(loadAlerts(t)))
	for _, r := range loadInhibitions(t) {
		for _, source := range alerts {
			if _, ok := fits(t, r.Source, source); !ok {
				continue
			}
			for _, target := range alerts {
				if _, ok := fits(t, r.Target, target); ok {
					all[target] = append(all[target], source)
				}
			}
		}
	}
	return all
}

// TestInhibitionHasAnEnd: no alert inhibits itself, over however many others, for
// then nobody would be told of any; none of people's safety is ever inhibited; and
// every name in a matcher is an alert's.
func TestInhibitionHasAnEnd(t *testing.T) {
	t.Parallel()
	by, alerts := inhibited(t), loadAlerts(t)
	var walk func(name string, seen []string)
	walk = func(name string, seen []string) {
		require.NotContains(t, seen, name, "inhibits itself")
		for _, source := range by[name] {
			walk(source, append(slices.Clone(seen), name))
		}
	}
	for name := range alerts {
		walk(name, nil)
	}
	for _, name := range []string{"SwapSmokeOrWaterAlarm", "SwapSlotThermalAlarm", "SwapWatchdog"} {
		require.Empty(t, by[name], name)
	}
	b, err := os.ReadFile(shipped(t, "alertmanager", "alertmanager.yml"))
	require.NoError(t, err)
	for _, name := range regexp.MustCompile(`Swap[A-Z][A-Za-z]+`).FindAllString(string(b), -1) {
		require.Contains(t, alerts, name)
	}
}

// anAlert is one as Alertmanager takes it and gives it.
type anAlert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Status      *struct {
		InhibitedBy []string `json:"inhibitedBy"`
	} `json:"status,omitempty"`
	Receivers []struct {
		Name string `json:"name"`
	} `json:"receivers,omitempty"`
}

// startAlertmanager starts the machine's with the shipped configuration, which
// edit may change, and with receivers at an address of the test. It returns its URL.
func startAlertmanager(t *testing.T, receivers string, edit func(string) string) string {
	t.Helper()
	dir := t.TempDir()
	b, err := os.ReadFile(shipped(t, "alertmanager", "alertmanager.yml"))
	require.NoError(t, err)
	text := strings.ReplaceAll(string(b), "http://127.0.0.1:9096", receivers)
	if edit != nil {
		text = edit(text)
	}
	config := filepath.Join(dir, "alertmanager.yml")
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	listen, err := process.FreeAddress("127.0.0.1")
	require.NoError(t, err)
	p, err := process.StartAlertmanager(t.Context(), dir, config, listen)
	require.NoError(t, err)
	t.Cleanup(p.Stop)
	return "http://" + listen
}

// TestOneCauseOneAlert gives a real Alertmanager each pair of cause and what it
// brings about: the latter is inhibited, and is not where a label differs that
// must be equal. Each alert is for the receiver of its kind.
func TestOneCauseOneAlert(t *testing.T) {
	t.Parallel()
	gateway := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(gateway.Close)
	manager := startAlertmanager(t, gateway.URL, nil)
	alerts, pairs := loadAlerts(t), 0
	var post []anAlert
	add := func(name, job, role string, labels, differ map[string]string) {
		l := map[string]string{"alertname": name, "severity": alerts[name].Labels["severity"], "job": job, "street": "River", "cabinet": "hb-0001"}
		maps.Copy(l, labels)
		maps.Copy(l, differ)
		post = append(post, anAlert{Labels: l, Annotations: map[string]string{"role": role}})
	}
	for _, r := range loadInhibitions(t) {
		for _, source := range slices.Sorted(maps.Keys(alerts)) {
			cause, ok := fits(t, r.Source, source)
			for _, target := range slices.Sorted(maps.Keys(alerts)) {
				effect, of := fits(t, r.Target, target)
				if !ok || !of {
					continue
				}
				pairs++
				job := fmt.Sprintf("pair-%d", pairs)
				add(source, job, "cause", cause, nil)
				add(target, job, "inhibited", effect, nil)
				for _, label := range r.Equal {
					add(target, job, "free", effect, map[string]string{label: "elsewhere-" + job})
				}
			}
		}
	}
	require.Greater(t, pairs, 60)
	b, err := json.Marshal(post)
	require.NoError(t, err)
	resp, err := http.Post(manager+"/api/v2/alerts", "application/json", bytes.NewReader(b))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)

	wrong := ""
	require.Eventually(t, func() bool {
		wrong = whatIsWrong(t, manager, len(post), alerts)
		return wrong == ""
	}, patience, 100*time.Millisecond, "%s", &wrong)
	t.Logf("%d pairs", pairs)
}

// whatIsWrong compares what Alertmanager made of the alerts with their roles.
func whatIsWrong(t *testing.T, manager string, posted int, alerts map[string]rule) string {
	t.Helper()
	resp, err := http.Get(manager + "/api/v2/alerts")
	require.NoError(t, err)
	defer resp.Body.Close()
	var got []anAlert
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&got))
	if len(got) != posted {
		return fmt.Sprintf("%d of %d alerts are there", len(got), posted)
	}
	for _, a := range got {
		name := a.Labels["alertname"]
		if is, want := len(a.Status.InhibitedBy) > 0, a.Annotations["role"] == "inhibited"; is != want {
			return fmt.Sprintf("%v is %s: inhibited %t", a.Labels, a.Annotations["role"], is)
		}
		if want := receiver(alerts[name]); len(a.Receivers) != 1 || a.Receivers[0].Name != want {
			return fmt.Sprintf("%s goes to %v, not to %s", name, a.Receivers, want)
		}
	}
	return ""
}

// receiver is who is to hear of an alert.
func receiver(a rule) string {
	switch a.Alert {
	case "SwapSmokeOrWaterAlarm", "SwapSlotThermalAlarm":
		return "safety"
	case "SwapWatchdog":
		return "watchdog"
	}
	return map[string]string{"critical": "now", "warning": "today", "info": "someday"}[a.Labels["severity"]]
}

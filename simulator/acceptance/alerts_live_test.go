package acceptance

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
	"batteryswap/simulator/console"
	"batteryswap/simulator/process"
	"batteryswap/simulator/world"
)

// alertSpeed is how many times as fast as in production the test's Prometheus and
// Alertmanager live: scrapes, waits and windows are so much shorter than in the
// shipped files. What backend and agents take is not.
const alertSpeed = 30

// gateway is what people put behind Alertmanager and behind the backend's own
// notices: it remembers what it was told.
type gateway struct {
	*httptest.Server
	mu      sync.Mutex
	firing  map[string]int // notifications of an alert that began, by what it is of
	notices []notice
}

// notice is one of the backend's own.
type notice struct {
	CabinetID string `json:"cabinet_id"`
	Kind      string
	at        time.Time
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{firing: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /notice", func(_ http.ResponseWriter, r *http.Request) {
		n := notice{at: time.Now()}
		if json.NewDecoder(r.Body).Decode(&n) == nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.notices = append(g.notices, n)
		}
	})
	mux.HandleFunc("POST /{receiver}", func(_ http.ResponseWriter, r *http.Request) {
		var told struct {
			Status string
			Alerts []struct {
				Status string
				Labels map[string]string
			}
		}
		if json.NewDecoder(r.Body).Decode(&told) != nil {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, a := range told.Alerts {
			if a.Status == "firing" {
				g.firing[strings.Join(slices.DeleteFunc([]string{
					a.Labels["alertname"], a.Labels["cabinet"], a.Labels["street"], a.Labels["kind"],
				}, func(s string) bool { return s == "" }), " ")]++
			}
		}
	})
	g.Server = httptest.NewServer(mux)
	t.Cleanup(g.Close)
	return g
}

// told are the alerts that people were told of, and how often; the watchdog's, which
// is told again and again, apart.
func (g *gateway) told() (alerts map[string]int, watchdog int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	alerts = maps.Clone(g.firing)
	watchdog = alerts["SwapWatchdog"]
	delete(alerts, "SwapWatchdog")
	return alerts, watchdog
}

// noticed is when people were told by the backend itself.
func (g *gateway) noticed(cabinet string, kind protocol.AlarmKind) (time.Time, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range g.notices {
		if n.CabinetID == cabinet && n.Kind == string(kind) {
			return n.at, true
		}
	}
	return time.Time{}, false
}

// hastened makes every length of time in a shipped file so many times as short, but
// for those after a word of keep.
func hastened(text string, keep ...string) string {
	lengths := regexp.MustCompile(`(\w+: |\[|offset )(\d+)(s|m|h|d)\b`)
	return lengths.ReplaceAllStringFunc(text, func(s string) string {
		m := lengths.FindStringSubmatch(s)
		n, _ := strconv.Atoi(m[2]) // \d+
		unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[m[3]]
		if slices.Contains(keep, strings.TrimSuffix(m[1], ": ")) {
			return s
		}
		return m[1] + strconv.FormatInt(max(1, (time.Duration(n)*unit/alertSpeed).Milliseconds()), 10) + "ms"
	})
}

// watchedStage is a stage with Prometheus and Alertmanager, and who hears of it.
type watchedStage struct {
	*stage
	*gateway
	prometheus string // URL
}

// watch starts the replicas, Prometheus and Alertmanager with the shipped files,
// hastened.
func (s *stage) watch(replicas int) *watchedStage {
	s.t.Helper()
	t := s.t.(*testing.T)
	w := &watchedStage{stage: s, gateway: newGateway(t)}
	secret := filepath.Join(s.dir, "notify.secret")
	require.NoError(t, os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600))
	for range replicas {
		r := s.newReplica()
		r.Args = append(r.Args, "--notify", "webhook", "--notify-url", w.URL+"/notice", "--notify-secret-file", secret)
		s.replicas = append(s.replicas, r)
		t.Cleanup(r.Stop)
	}
	w.startReplicas()

	manager := startAlertmanager(t, w.URL, func(text string) string { return hastened(text, "repeat_interval") })
	dir := filepath.Join(s.dir, "prometheus")
	require.NoError(t, os.CopyFS(dir, os.DirFS(shipped(t, "prometheus"))))
	edit := func(name string, how func(string) string) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(how(string(b))), 0o600))
	}
	edit("prometheus.yml", func(text string) string {
		return regexp.MustCompile(`(scrape_interval|scrape_timeout|evaluation_interval): \d+s`).ReplaceAllString(text, "$1: 1s")
	})
	for _, name := range filesOf(t, ".yml", "prometheus", "rules") {
		edit(filepath.Join("rules", name), func(text string) string { return hastened(text) })
	}
	listen, err := process.FreeAddress("127.0.0.1")
	require.NoError(t, err)
	target := func(job string, urls ...string) {
		for i, u := range urls {
			urls[i] = strings.TrimSuffix(strings.TrimPrefix(u, "http://"), "/metrics")
		}
		b, err := json.Marshal([]map[string][]string{{"targets": urls}})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "targets", job+".json"), b, 0o600))
	}
	var metrics []string
	for _, r := range s.replicas {
		metrics = append(metrics, r.metrics)
	}
	target("backend", metrics...)
	target("alertmanager", manager)
	target("prometheus", listen)
	p, err := process.StartPrometheus(t.Context(), dir, filepath.Join(dir, "prometheus.yml"), listen)
	require.NoError(t, err)
	t.Cleanup(p.Stop)
	w.prometheus = "http://" + listen
	return w
}

// startReplicas starts all replicas at a time.
func (w *watchedStage) startReplicas() {
	w.t.Helper()
	for _, r := range w.replicas {
		require.NoError(w.t, r.Start())
	}
	for _, r := range w.replicas {
		w.until("the backend is not ready", func() bool { return r.status("/readyz") == http.StatusOK })
	}
}

// rings waits until people are told of an alert.
func (w *watchedStage) rings(alert string) {
	w.t.Helper()
	began := time.Now()
	w.waitFor(alert+" does not ring", 2*patience, func() bool {
		alerts, _ := w.told()
		return alerts[alert] > 0
	})
	w.t.Logf("%5.1f s  %s, after %.1f s", w.now().Seconds(), alert, time.Since(began).Seconds())
}

// waitFor waits for a condition while programs may be away.
func (w *watchedStage) waitFor(what string, patience time.Duration, is func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	require.NoError(w.t, process.Until(ctx, 50*time.Millisecond, what, func() (bool, error) { return is(), nil }))
}

// TestCriticalAlerts makes the trouble behind every critical alert happen to the
// real programs under a real Prometheus and Alertmanager with the shipped files,
// 30 times as fast: each arrives at a receiver, once for its cause, and nothing
// else does. Of people's safety the backend tells by itself, too, within 10 s.
func TestCriticalAlerts(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	w := s.watch(2)
	hands := &console.Console{World: s.world, Person: "staff", Now: s.now}
	do := func(line string) {
		_, err := hands.Do(line)
		require.NoError(t, err, line)
	}
	hot, smoking, forking := s.newCabinet(4, 2), s.newCabinet(4, 2), s.newCabinet(4, 2)
	ending := []*cabinet{s.newCabinet(4, 1), s.newCabinet(4, 1), s.newCabinet(4, 1)}
	bare := s.newCabinetIn("Bare street", 4, 0)
	logs := s.hearLogs()
	for _, c := range s.cabinets {
		c.thinking = ", device_time_ms: 150" // seven share this machine with all else
		c.startBoards()
		c.startAgent()
	}
	for _, c := range s.cabinets {
		charged := 2
		if slices.Contains(ending, c) {
			charged = 1
		} else if c == bare {
			charged = 0
		}
		c.heard(charged)
	}

	// Three riders get their own battery back; then three agents end, and a minute
	// later their cabinets are silent.
	var riders sync.WaitGroup
	for _, c := range []*cabinet{hot, smoking, forking} {
		id, _ := s.newRider()
		riders.Go(func() { s.isRefusedABattery(c, id) })
	}
	for _, c := range ending {
		c.Stop()
	}
	w.rings("SwapStreetNoChargedBattery Bare street")
	riders.Wait()
	w.rings("SwapFailureRatioHigh")

	began := time.Now()
	do("cabinet " + hot.id + " heat 4 66")
	do("cabinet " + smoking.id + " smoke on")
	for c, kind := range map[*cabinet]protocol.AlarmKind{hot: protocol.AlarmTemperature, smoking: protocol.AlarmSmoke} {
		w.waitFor("no notice of "+string(kind), patience, func() bool { _, ok := w.noticed(c.id, kind); return ok })
		at, _ := w.noticed(c.id, kind)
		require.Less(t, at.Sub(began), 10*time.Second, "people hear of %s too late", kind)
		t.Logf("%5.1f s  the backend's own notice of %s after %.1f s", s.now().Seconds(), kind, at.Sub(began).Seconds())
	}
	w.rings("SwapSlotThermalAlarm " + hot.id + " Test street")
	w.rings("SwapSmokeOrWaterAlarm " + smoking.id + " Test street smoke")
	s.tellAnotherHistory(forking, <-logs)
	w.rings("SwapJournalFork " + forking.id + " Test street")
	s.falsifyBooks()
	w.rings("SwapLedgerMismatch")
	w.nobodyIsALabel()

	s.database.Abort()
	w.rings("SwapDatabaseUnavailable")
	require.NoError(t, s.database.Start())
	s.until("the backend does not find the database again", func() bool { return s.replicas[0].status("/readyz") == http.StatusOK })
	s.broker.Kill()
	w.rings("SwapMQTTDisconnected")
	require.NoError(t, s.broker.Start())
	s.until("the backend does not find the broker again", func() bool { return s.replicas[0].status("/readyz") == http.StatusOK })
	for _, r := range s.replicas {
		r.Kill()
	}
	w.rings("SwapBackendDown")
	w.startReplicas()
	w.rings("SwapFleetOfflineSpike")

	alerts, watchdog := w.told()
	require.Positive(t, watchdog)
	for name, times := range alerts {
		require.Equal(t, 1, times, "%s was told %d times", name, times)
	}
	require.ElementsMatch(t, []string{
		"SwapStreetNoChargedBattery Bare street", "SwapFailureRatioHigh", "SwapSlotThermalAlarm " + hot.id + " Test street",
		"SwapSmokeOrWaterAlarm " + smoking.id + " Test street smoke", "SwapJournalFork " + forking.id + " Test street", "SwapLedgerMismatch",
		"SwapDatabaseUnavailable", "SwapMQTTDisconnected", "SwapBackendDown", "SwapFleetOfflineSpike",
	}, slices.Collect(maps.Keys(alerts)))
}

// isRefusedABattery lets a rider put in what is not of the fleet, and take it again.
func (s *stage) isRefusedABattery(c *cabinet, riderID string) {
	foreign := "FOREIGN-" + c.id
	require.NoError(s.t, s.world.PutInHands(riderID, world.Battery{Serial: foreign, SocPermille: 300}))
	id := s.scan(s.replicas[0], riderID, c)
	slot := s.openDoor(c, 1)
	require.NoError(s.t, s.world.Insert(s.now(), riderID, c.id, slot, foreign, true))
	require.NoError(s.t, s.world.CloseDoor(s.now(), riderID, c.id, slot))
	require.Equal(s.t, slot, s.openDoor(c, 1), "it is given back where it was put in")
	_, err := s.world.Take(s.now(), riderID, c.id, slot)
	require.NoError(s.t, err)
	require.NoError(s.t, s.world.CloseDoor(s.now(), riderID, c.id, slot))
	s.until("the swap does not end", func() bool {
		got, ok := s.swapOf(s.replicas[0], riderID, id)
		return ok && got.Outcome == protocol.OutcomeReturned
	})
}

// hearLogs gives the first log message that each cabinet sends from now on.
func (s *stage) hearLogs() <-chan map[string]protocol.Log {
	s.t.Helper()
	heard := make(chan map[string]protocol.Log, 1)
	var mu sync.Mutex
	first := map[string]protocol.Log{}
	p := s.newPeer()
	token := p.client.Subscribe("swap/v1/+/up/log", 1, func(_ mqtt.Client, m mqtt.Message) {
		line, _, _ := strings.Cut(string(m.Payload()), "\n")
		var l protocol.Log
		if json.Unmarshal([]byte(line), &l) != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		id := strings.Split(m.Topic(), "/")[2]
		if _, known := first[id]; !known && l.FromSeq == 1 {
			first[id] = l
		}
		select {
		case <-heard:
		default:
		}
		heard <- maps.Clone(first)
	})
	require.True(s.t, token.WaitTimeout(patience))
	require.NoError(s.t, token.Error())
	return heard
}

// tellAnotherHistory says in a cabinet's name, with its key, that its first record
// was another: a clone does so.
func (s *stage) tellAnotherHistory(c *cabinet, logs map[string]protocol.Log) {
	s.t.Helper()
	said, ok := logs[c.id]
	require.True(s.t, ok)
	first, _, _, err := protocol.DecodeRecord(said.Records[0])
	require.NoError(s.t, err)
	first.WallMS++
	other, err := protocol.AppendRecord(nil, first)
	require.NoError(s.t, err)
	_, _, hash, err := protocol.DecodeRecord(other)
	require.NoError(s.t, err)
	said.Records, said.HeadHash = [][]byte{other}, hash
	kid, key := deviceKey(s.t, c.keyFile())
	raw, err := protocol.Seal(kid, key, protocol.CabinetID(c.id), said)
	require.NoError(s.t, err)
	s.newPeer().publish(protocol.Topic(protocol.CabinetID(c.id), protocol.UpLog), raw)
}

// falsifyBooks gives a rider a deposit that there was not, past every program, and
// lets the books be audited.
func (s *stage) falsifyBooks() {
	s.t.Helper()
	said, err := exec.CommandContext(s.t.Context(), "psql", s.databaseURL, "-v", "ON_ERROR_STOP=1", "-c",
		"UPDATE rider SET deposits = deposits + 1 WHERE rider_id = (SELECT min(rider_id::text)::uuid FROM rider)").CombinedOutput()
	require.NoError(s.t, err, "%s", said)
	_, err = s.tools.Run(s.t.Context(), "", "backend", "audit")
	require.Equal(s.t, 1, process.ExitStatus(err), "%v", err)
}

// newCabinetIn is newCabinet in another street.
func (s *stage) newCabinetIn(street string, slots, charged int) *cabinet {
	s.t.Helper()
	s.street = street
	defer func() { s.street = "" }()
	return s.newCabinet(slots, charged)
}

// nobodyIsALabel walks all that the programs register after a busy day: no label is
// a rider, a battery or a swap, and promtool finds nothing to say.
func (w *watchedStage) nobodyIsALabel() {
	w.t.Helper()
	books, err := w.tools.Run(w.t.Context(), "", "backend", "audit", "--json")
	require.Equal(w.t, 1, process.ExitStatus(err), "the books were falsified: %v", err)
	known := map[string]bool{}
	for _, id := range regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|BT[0-9A-Z]{8,}|FOREIGN-[a-z0-9-]+`).FindAllString(books, -1) {
		known[id] = true
	}
	require.Greater(w.t, len(known), 10)
	for _, url := range []string{w.replicas[0].metrics, w.replicas[1].metrics, w.cabinets[0].metrics, w.cabinets[1].metrics} {
		resp, err := http.Get(url)
		require.NoError(w.t, err)
		page, err := io.ReadAll(resp.Body)
		require.NoError(w.t, err)
		require.NoError(w.t, resp.Body.Close())
		for _, l := range regexp.MustCompile(`[{,]([a-z_]+)="([^"]*)"`).FindAllStringSubmatch(string(page), -1) {
			require.False(w.t, known[l[2]], "%s=%q is somebody's", l[1], l[2])
			require.NotRegexp(w.t, `[0-9a-f]{8}-[0-9a-f]{4}-|^BT[0-9]|FOREIGN`, l[2], l[1])
		}
		lint := exec.CommandContext(w.t.Context(), "promtool", "check", "metrics")
		lint.Stdin = strings.NewReader(string(page))
		said, err := lint.CombinedOutput()
		require.NoError(w.t, err, "%s", said)
		require.Empty(w.t, string(said), url)
	}
}

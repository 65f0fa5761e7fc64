package fleet

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/protocol"
)

// collect is a collector made of one function.
type collect func(chan<- prometheus.Metric)

func (collect) Describe(chan<- *prometheus.Desc) {}

func (c collect) Collect(ch chan<- prometheus.Metric) { c(ch) }

// worst is a cabinet of which everything is known and everything is wrong.
func worst(id string) postgres.CabinetGauges {
	c, j, s := 41.5, 9e6, -0.25
	g := postgres.CabinetGauges{
		CabinetID: protocol.CabinetID(id), Street: "Wensan Road", Slots: 12, Connected: true, LastSeen: time.Unix(1_700_000_000, 0),
		Forked: true, OpenSince: time.Unix(1_700_000_000, 0), Fresh: true, Software: "1.0.0", Charged: 4, Empty: 7, Backlog: 3,
		UpperC: &c, EnergyJ: &j, ClockOffsetS: &s, Alarms: []string{"nonsense:3", "nonsense", "slot_fault:99"},
	}
	for _, k := range alarmOrder() {
		g.Alarms = append(g.Alarms, string(k), string(k)+":3", string(k)+":4")
	}
	soc, hot := 40, 31.5
	for n := 1; n <= 12; n++ {
		g.Inventory = append(g.Inventory, protocol.SlotState{Slot: n, Soc: &soc, CellMaxC: &hot})
	}
	return g
}

func noSwaps(protocol.CabinetID) (uint64, uint64) { return 5, 1 }

// written is what the page says of cabinets, as name{labels}.
func written(t *testing.T, mode MetricsSlots, cabinets ...postgres.CabinetGauges) []string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, writeCabinets(bufio.NewWriter(&b), cabinets, mode, noSwaps))
	var out []string
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, line[:strings.LastIndex(line, " ")])
		}
	}
	return out
}

func count(all []string, part string) int {
	n := 0
	for _, s := range all {
		if strings.Contains(s, part) {
			n++
		}
	}
	return n
}

// A cabinet in the worst of states has no more series than any other may have,
// and of its alarms the gravest are told.
func TestACabinetHasFewSeries(t *testing.T) {
	for _, mode := range []MetricsSlots{SlotsOff, SlotsFaulty} {
		all := written(t, mode, worst("hb-0001"))
		require.Equal(t, MaxCabinetSeries, count(all, `cabinet="hb-0001"`), mode)
		require.Contains(t, all, `swap_cabinet_alarm{cabinet="hb-0001",kind="smoke"}`)
		require.Zero(t, count(all, "nonsense"), "the values of a label are ours")
	}
	one := worst("hb-0001")
	one.Alarms = []string{"temperature:7"}
	all := written(t, SlotsFaulty, one)
	require.Contains(t, all, `swap_cabinet_alarm{cabinet="hb-0001",kind="temperature"}`)
	require.Contains(t, all, `swap_slot_alarm{cabinet="hb-0001",slot="7",kind="temperature"}`)
	require.Zero(t, count(written(t, SlotsOff, one), "swap_slot_alarm"))
	require.Zero(t, count(all, "swap_slot_soc"))
	require.Equal(t, 12, count(written(t, SlotsAll, one), "swap_slot_soc"))
}

// Every kind that an agent may raise has its place in the order of gravity.
func TestEveryAlarmHasItsGravity(t *testing.T) {
	b, err := os.ReadFile("../../protocol/payload.go")
	require.NoError(t, err)
	kinds := regexp.MustCompile(`AlarmKind = "([a-z_]+)"`).FindAllStringSubmatch(string(b), -1)
	require.Len(t, alarmOrder(), len(kinds))
	for _, k := range kinds {
		require.Contains(t, alarmOrder(), protocol.AlarmKind(k[1]))
	}
}

// What is old is withdrawn: a silent cabinet is a gap, never a frozen value.
func TestWhatIsStaleIsWithdrawn(t *testing.T) {
	silent := worst("hb-0001")
	silent.Connected, silent.Fresh, silent.OpenSince, silent.Software = false, false, time.Time{}, ""
	var names []string
	for _, s := range written(t, SlotsAll, silent) {
		names = append(names, strings.SplitN(s, "{", 2)[0])
	}
	require.ElementsMatch(t, []string{
		"swap_cabinet_connected", "swap_cabinet_last_seen_timestamp_seconds", "swap_cabinet_info", "swap_cabinet_journal_forked",
		"swap_cabinet_swaps_total", "swap_cabinet_swaps_total",
	}, names)
}

// A large fleet gets no series for each slot, and is told what to do.
func TestSlotSeriesAreRefusedAboveTheLimit(t *testing.T) {
	var fleet []postgres.CabinetGauges
	for i := range maxSlotSeries/12 + 1 {
		fleet = append(fleet, worst(fmt.Sprintf("hb-%04d", i)))
	}
	require.NoError(t, checkSlots(SlotsFaulty, fleet))
	require.NoError(t, checkSlots(SlotsAll, fleet[1:]))
	require.EqualError(t, checkSlots(SlotsAll, fleet), "metrics-slots is all, and the fleet has 12012 slots: want at most 12000, or metrics-slots faulty")
	all := written(t, SlotsAll, fleet...)
	require.Zero(t, count(all, "swap_slot_soc_ratio"))
	_, err := New(Options{MetricsSlots: "some"})
	require.Error(t, err)
}

// catalogued are the metrics of the backend's table in the README of monitoring,
// with their labels.
func catalogued(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../monitoring/README.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(b), "\n## The backend's metrics\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n## ")
	out := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(swap_[a-z_0-9]+)` \\| ?([^|]*)\\| [^|]+ \\|$").FindAllStringSubmatch(table, -1) {
		out[row[1]] = strings.TrimSpace(row[2])
	}
	return out
}

// TestTheCatalogueIsTrue: the table names every metric of the backend with its
// labels, and no other.
func TestTheCatalogueIsTrue(t *testing.T) {
	leaf := &x509.Certificate{NotAfter: time.Unix(1_900_000_000, 0)}
	certificate := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Leaf: leaf}}}
	f := &Fleet{o: Options{Version: "test", BrokerTLS: certificate}}
	r := prometheus.NewRegistry()
	m := newMetrics(f, prometheus.NewRegistry())
	m.request("/staff/sign-in", "POST", 403, time.Second)
	m.scan("granted", time.Second)
	m.message("in", "log", "ok")
	m.connection("records", true)
	m.submitted("hb-0001")
	m.acked("hb-0001")
	m.committed(1, 1, time.Second)
	m.closed("hb-0001", protocol.KindSwap, protocol.OutcomeSwapped, time.Second)
	m.timed("deposit", time.Second)
	m.safetyEvent(protocol.Alarm{Kind: protocol.AlarmSmoke})
	m.told(errors.New("no"))
	m.sentCode(nil)
	m.build.Set(1)
	m.public.WithLabelValues("https://swap.example").Set(1)
	for _, c := range m.own() {
		r.MustRegister(c)
	}
	r.MustRegister(collect(func(ch chan<- prometheus.Metric) {
		sendFleet(ch, postgres.Gauges{OldestReview: time.Now(), Audit: &postgres.AuditRun{}})
		sendDatabase(ch, true)
		sendRefused(ch, true)
		sendPool(ch, pool{})
	}))
	families, err := r.Gather()
	require.NoError(t, err)
	got := map[string]string{}
	for _, f := range families {
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		got[f.GetName()] = strings.Join(labels, " ")
	}
	for _, s := range written(t, SlotsAll, worst("hb-0001")) {
		name, rest, _ := strings.Cut(s, "{")
		var labels []string
		for _, l := range regexp.MustCompile(`([a-z]+)="`).FindAllStringSubmatch(rest, -1) {
			labels = append(labels, "`"+l[1]+"`")
		}
		slices.Sort(labels)
		got[name] = strings.Join(labels, " ")
	}
	require.Equal(t, catalogued(t), got)
}

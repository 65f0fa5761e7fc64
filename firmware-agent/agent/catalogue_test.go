package agent

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/cabinet"
	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/link"
	"batteryswap/firmware-agent/internal/safety"
	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// catalogued are the metrics of the agent's table in the README of monitoring,
// with their labels.
func catalogued(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../../backend/monitoring/README.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(b), "\n## The agent's metrics\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n## ")
	out := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_0-9]+)` \\| ?([^|]*)\\| [^|]+ \\|$").FindAllStringSubmatch(table, -1) {
		out[row[1]] = strings.TrimSpace(row[2])
	}
	return out
}

// exposed are the metrics of a page with their labels, as catalogued gives them.
func exposed(page string) map[string]string {
	out := map[string]string{}
	family, kind := "", ""
	for line := range strings.Lines(page) {
		if f := strings.Fields(line); len(f) == 4 && f[1] == "TYPE" {
			family, kind = f[2], f[3]
			out[family] = ""
			continue
		}
		var labels []string
		for _, l := range regexp.MustCompile(`([a-z]+)="`).FindAllStringSubmatch(line, -1) {
			if kind != "histogram" || l[1] != "le" {
				labels = append(labels, "`"+l[1]+"`")
			}
		}
		if len(labels) > 0 && !strings.HasPrefix(line, "#") {
			slices.Sort(labels)
			out[family] = strings.Join(labels, " ")
		}
	}
	return out
}

// TestTheCatalogueIsTrue: the table names every metric of the agent with its
// labels, and no other; no label is a battery, a rider or a swap.
func TestTheCatalogueIsTrue(t *testing.T) {
	s := newSlave(4)
	r := newRig(t, s.serve(t), 4)
	a := r.start(r.options())
	a.metrics.counted("in", protocol.TypeGrant, link.ResultOK)
	a.metrics.polled(driver.Report{Slot: 1})
	e := exposition{}
	a.expose(&e)
	one := map[string]uint64{"one": 1}
	exposeCabinet(&e, cabinet.Stats{Closed: one, Refused: one, Rejected: one, Records: one, Alarms: one, Cuts: one}, 4)
	exposeState(&e, safety.State{Verdict: charging.Verdict{Causes: []charging.Alarm{{Kind: protocol.AlarmSmoke}}}}, 1)
	known := instruments{
		meter:   driver.MeterReading{PowerW: slot.Known(1), VoltageMV: slot.Known(1), EnergyKnown: true},
		climate: driver.ClimateReading{Temp: slot.Known(1), Humidity: slot.Known(1)},
	}
	known.expose(&e, time.Second)
	require.Equal(t, catalogued(t), exposed(e.String()))
	for name, labels := range exposed(e.String()) {
		require.NotRegexp(t, "rider|battery|serial|swap_id", labels, name)
	}
}

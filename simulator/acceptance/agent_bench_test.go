package acceptance

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/simulator/process"
	"batteryswap/simulator/world"
)

// idleTime is how long an idle agent is watched.
const idleTime = 30 * time.Second

// BenchmarkAgent is goal P7, of an agent that is a real process, at a line of 19200
// baud with twelve slots: the size of its stripped file for ARMv7, the time from its
// start until it serves and until it knows every slot, and what it takes while nobody
// swaps and all batteries are full.
func BenchmarkAgent(b *testing.B) {
	size := float64(agentSize(b))
	s := bareStage(b, plainPrograms(b))
	var serves, knows, memory, processor float64
	for b.Loop() {
		c := s.prepareAgent(fmt.Sprintf("hb-%04d", len(s.cabinets)+1), cutSlots)
		c.baud = 19200
		c.build()
		for n := 2; n <= cutSlots; n++ {
			serial := fmt.Sprintf("BT-%s-%02d", c.id, n)
			require.NoError(b, s.world.PutInSlot(c.id, n, world.Battery{Serial: serial, SocPermille: 1000}))
		}
		c.startBoards()
		began := time.Now()
		c.startAgent()
		quickly(b, "it does not serve", func() (bool, error) { return answers(c.metrics), nil })
		serves = time.Since(began).Seconds()
		quickly(b, "it does not know its slots", func() (bool, error) {
			return metric(b, c.metrics, "swap_cabinet_slots", `state="charged"`) == cutSlots-1, nil
		})
		knows = time.Since(began).Seconds()
		before := processorTime(b, c.PID())
		rest := time.NewTimer(idleTime)
		<-rest.C
		processor = (processorTime(b, c.PID()) - before).Seconds() / idleTime.Seconds()
		memory = float64(resident(b, c.PID()))
		c.Stop()
		c.stopBoards()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(size/1e6, "MB-arm7")
	b.ReportMetric(memory/1e6, "MB-resident")
	b.ReportMetric(100*processor, "%core-idle")
	b.ReportMetric(serves, "s-to-serve")
	b.ReportMetric(knows, "s-to-know")
}

// answers says whether something serves at an address.
func answers(url string) bool {
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// quickly waits for what is timed.
func quickly(b *testing.B, what string, is func() (bool, error)) {
	b.Helper()
	require.NoError(b, process.Until(b.Context(), 5*time.Millisecond, what, is))
}

// processorTime is the processor time that a process has had.
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	// What follows the name, which may hold anything, in the kernel's ticks of 10 ms.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks := 0
	for _, n := range fields[11:13] {
		one, err := strconv.Atoi(n)
		require.NoError(t, err)
		ticks += one
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

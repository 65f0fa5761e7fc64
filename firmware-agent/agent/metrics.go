package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"batteryswap/firmware-agent/internal/cabinet"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/link"
	"batteryswap/protocol"
)

// Bounds of the metrics listener.
const (
	scrapeTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 8 << 10
	stopTimeout   = time.Second
)

// metrics are what the agent counts itself; the rest is asked of its parts at
// each scrape. Names are those of the fleet's catalogue where it has them; the
// values of a label are closed lists.
type metrics struct {
	up        atomic.Bool
	messages  tally
	polls     tally
	cycle     *histogram
	sync      *histogram
	lastCycle time.Duration // of the poller's goroutine
	addr      string
}

func newMetrics() *metrics {
	return &metrics{
		cycle: newHistogram(.05, .1, .2, .4, .7, 1, 1.1, 1.5, 2, 3, 5, 10),
		sync:  newHistogram(.0001, .0003, .001, .003, .01, .03, .1, .3, 1, 3),
	}
}

func (m *metrics) counted(direction string, t protocol.Type, result link.Result) {
	m.messages.add(pairs("direction", direction, "result", string(result), "type", string(t)))
}

func (m *metrics) polled(r driver.Report) {
	result := "ok"
	if r.Err != nil {
		result = "failed"
	}
	m.polls.add(pairs("result", result))
	if r.Slot != driver.OwnBoard {
		return
	}
	if m.lastCycle > 0 && r.Err == nil {
		m.cycle.observe((r.At - m.lastCycle).Seconds())
	}
	m.lastCycle = r.At
}

// expose writes all metrics.
func (a *Agent) expose(e *exposition) {
	e.family("swap_build_info", "gauge", "What runs.")
	e.sample("swap_build_info", pairs("go", runtime.Version(), "program", "firmware-agent", "version", a.o.Software), 1)
	e.gauge("swap_mqtt_connected", "1 while the broker is connected.", bit(a.metrics.up.Load()))
	a.metrics.messages.expose(e, "swap_mqtt_messages_total", "MQTT messages by what became of them.")
	e.gauge("swap_agent_backlog_records", "Records that the backend has not committed.", float64(a.backlog()))
	e.gauge("swap_journal_writable", "1 while facts can be recorded; at 0 no swap begins.", bit(a.writable()))
	a.metrics.sync.expose(e, "swap_journal_sync_seconds", "Time to make one journal record durable.")
	e.gauge("swap_clock_synchronised", "1 once the wall clock was synchronised in this boot.", bit(a.clock.synced.Load()))
	s := a.bus.Stats()
	e.gauge("swap_bus_up", "1 while the serial line is open.", bit(s.Up))
	e.counter("swap_bus_requests_total", "Requests on the serial line.", float64(s.Requests))
	e.counters("swap_bus_errors_total", "What went wrong on the serial line.", "kind", map[string]uint64{
		"timeout": s.Timeouts, "garbled": s.Garbled, "open_failed": s.OpenFailed,
		"line_failed": s.LineFailed, "queue_full": s.QueueFull,
	})
	a.metrics.polls.expose(e, "swap_polls_total", "Polls of a slot, the cabinet's own board or an instrument.")
	a.metrics.cycle.expose(e, "swap_poll_cycle_seconds", "From one reading of the cabinet's own board to the next.")
	a.instruments.expose(e, a.clock.now())
	if a.cabinet != nil {
		exposeCabinet(e, a.cabinet.Stats(), a.c.Board.Slots)
	}
	a.exposeSafety(e)
	a.exposeProcess(e)
}

// exposeCabinet tells what the cabinet has counted, and how its slots are.
func exposeCabinet(e *exposition, s cabinet.Stats, slots int) {
	e.gauges("swap_cabinet_slots", "Slots by state; one can be in several.", "state", map[string]float64{
		"charged": float64(s.SlotsCharged), "empty": float64(s.SlotsEmpty), "out": float64(s.SlotsOut),
		"unknown": float64(slots - s.SlotsFresh),
	})
	e.gauge("swap_charging_planned_watts", "What the chargers and heaters that are planned take.", float64(s.PlannedW))
	e.gauge("swap_cabinet_out_of_service", "1 while no swap may begin.", bit(s.OutOfService))
	e.gauge("swap_cabinet_alarms", "Alarms that are on.", float64(s.AlarmsOn))
	e.gauge("swap_in_progress", "1 while a swap is open.", bit(s.SwapOpen))
	e.gauge("swap_pulses_left", "Pulses that the hourly limit still allows.", float64(s.PulsesLeft))
	e.counter("swap_pulses_total", "Pulses of locks.", float64(s.Pulses))
	e.counter("swap_pulse_errors_total", "Pulses that the board did not confirm.", float64(s.PulseErrors))
	e.counters("swap_charge_cuts_total", "Cuts of charging power, by cause.", "kind", s.Cuts)
	e.counters("swap_swaps_total", "Swaps that ended, by outcome.", "outcome", s.Closed)
	e.counters("swap_scans_total", "Prepares that were refused, by reason.", "result", s.Refused)
	e.counters("swap_rejected_total", "Messages and commands that were rejected.", "why", s.Rejected)
	e.counters("swap_records_total", "Journal records by type.", "type", s.Records)
	e.counters("swap_alarms_total", "Alarms raised, by kind.", "kind", s.Alarms)
	e.counters("swap_dropped_total", "What a full queue dropped.", "queue", map[string]uint64{
		"commands": s.CommandsDropped, "messages": s.MessagesDropped,
		"readings": s.ReadingsDropped, "rereads": s.RereadsDropped,
	})
}

// exposeProcess tells what the program takes of the machine.
func (a *Agent) exposeProcess(e *exposition) {
	e.gauge("go_goroutines", "Goroutines.", float64(runtime.NumGoroutine()))
	e.gauge("process_start_time_seconds", "When this boot began, Unix time.", float64(a.clock.began.Unix()))
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err == nil {
		cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
		e.counter("process_cpu_seconds_total", "Processor time.", cpu.Seconds())
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := bytes.Fields(statm); len(f) > 1 {
			if pages, err := strconv.ParseFloat(string(f[1]), 64); err == nil {
				e.gauge("process_resident_memory_bytes", "Memory in use.", pages*float64(os.Getpagesize()))
			}
		}
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// startMetrics serves /metrics, if it is configured.
func (a *Agent) startMetrics() error {
	if a.c.MetricsListen == "" {
		return nil
	}
	l, err := net.Listen("tcp", a.c.MetricsListen)
	if err != nil {
		return fmt.Errorf("metrics_listen: %w", err)
	}
	a.metrics.addr = l.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		var e exposition
		a.expose(&e)
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, e.String()) // a scraper that is gone misses nothing
	})
	s := &http.Server{
		Handler: mux, ReadTimeout: scrapeTimeout, WriteTimeout: scrapeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	a.push("metrics", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		err := s.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, s.Close())
		}
		if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	})
	return nil
}

// MetricsAddr is where /metrics is served, "" when it is not.
func (a *Agent) MetricsAddr() string { return a.metrics.addr }

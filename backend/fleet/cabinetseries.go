package fleet

import (
	"bufio"
	"cmp"
	"slices"
	"strconv"
	"strings"

	"batteryswap/backend/internal/postgres"
	"batteryswap/protocol"
)

// MetricsSlots says of which slots metrics tell by themselves.
type MetricsSlots string

// The choices: of none, of those with an alarm, of all. The default is faulty.
const (
	SlotsOff    MetricsSlots = "off"
	SlotsFaulty MetricsSlots = "faulty"
	SlotsAll    MetricsSlots = "all"
)

const (
	// MaxCabinetSeries is how many series a cabinet has at most, unless series of
	// all slots are wanted. Measured with Prometheus 2.42: 5,000 cabinets with 10
	// series each are scraped in 0.12 s and cost 163 MB.
	MaxCabinetSeries = 20
	// fixedSeries is how many of these are not alarms.
	fixedSeries = 16
	// maxSlotSeries bounds the slots that have series of their own: with them
	// 5,000 cabinets took 0.9 s and 609 MB, and 50,000 could not be scraped.
	maxSlotSeries = 12_000
)

// alarmOrder is the order of gravity: of many alarms of one cabinet the gravest
// are shown.
func alarmOrder() []protocol.AlarmKind {
	return []protocol.AlarmKind{
		protocol.AlarmSmoke, protocol.AlarmWater, protocol.AlarmHeatRate, protocol.AlarmTemperature, protocol.AlarmCurrentOff,
		protocol.AlarmContactor, protocol.AlarmSensorSilent, protocol.AlarmEmergencyOff, protocol.AlarmJournal, protocol.AlarmTamper,
		protocol.AlarmDoorOpen, protocol.AlarmHeldBattery, protocol.AlarmSupply, protocol.AlarmBoardSilent, protocol.AlarmSlotFault,
		protocol.AlarmPulses, protocol.AlarmOther,
	}
}

// alarm is one that is on; slot 0 is the whole cabinet.
type alarm struct {
	kind protocol.AlarmKind
	slot int
}

// alarmsOf reads what telemetry says, the gravest first. A word that is on no
// list is "other": a label's values are ours alone.
func alarmsOf(said []string) []alarm {
	out := make([]alarm, 0, len(said))
	for _, s := range said {
		kind, slot, _ := strings.Cut(s, ":")
		a := alarm{kind: protocol.AlarmKind(kind)}
		if !a.kind.Valid() {
			a.kind = protocol.AlarmOther
		}
		if n, err := strconv.Atoi(slot); err == nil && n >= 1 && n <= protocol.MaxSlots {
			a.slot = n
		}
		out = append(out, a)
	}
	order := alarmOrder()
	slices.SortFunc(out, func(a, b alarm) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.kind), slices.Index(order, b.kind)), cmp.Compare(a.slot, b.slot))
	})
	return slices.Compact(out)
}

// shown is a cabinet on its way to a page of metrics.
type shown struct {
	postgres.CabinetGauges
	label           string // cabinet="…"
	counted, failed uint64
	kinds, slots    []alarm // that are told
	wholly          bool    // tell of every slot
}

// cabinetFamily is one metric that each cabinet has.
type cabinetFamily struct {
	name, kind, help string
	tell             func(*samples, *shown)
}

// when tells a number that a cabinet has, or has not.
func when(has func(*shown) bool, value func(*shown) float64) func(*samples, *shown) {
	return func(w *samples, c *shown) {
		if has(c) {
			w.add(c, value(c))
		}
	}
}

func always(*shown) bool  { return true }
func fresh(c *shown) bool { return c.Fresh } // what is stale is withdrawn

// cabinetFamilies are the metrics of cabinets. fixedSeries is how many series of
// one cabinet they make at most, beside alarms and single slots.
func cabinetFamilies() []cabinetFamily {
	return []cabinetFamily{
		{"swap_cabinet_info", "gauge", "1; the labels say where the cabinet stands, what it is and what runs in it.", func(w *samples, c *shown) {
			w.add(c, 1, "street", c.Street, "model", strconv.Itoa(c.Slots)+" slots", "software", c.Software)
		}},
		{"swap_cabinet_connected", "gauge", "1 while the cabinet is heard of.",
			when(always, func(c *shown) float64 { return bit(c.Connected) })},
		{"swap_cabinet_last_seen_timestamp_seconds", "gauge", "When the cabinet was last heard of; 0: never.",
			when(always, func(c *shown) float64 { return seconds(c.LastSeen) })},
		{"swap_cabinet_journal_forked", "gauge", "1 while the cabinet has told two histories under one number, and a person must look.",
			when(always, func(c *shown) float64 { return bit(c.Forked) })},
		{"swap_cabinet_swaps_total", "counter", "Swaps that ended: counted, or failed after a door had opened for a deposit or a take.", func(w *samples, c *shown) {
			w.add(c, float64(c.counted), "result", "counted")
			w.add(c, float64(c.failed), "result", "failed")
		}},
		{"swap_cabinet_swap_open_timestamp_seconds", "gauge", "Since when the cabinet's oldest open swap is open; absent without one.",
			when(func(c *shown) bool { return !c.OpenSince.IsZero() }, func(c *shown) float64 { return seconds(c.OpenSince) })},
		{"swap_cabinet_slots", "gauge", "Slots by state; each slot is in one.", tellSlotCounts},
		{"swap_agent_backlog_records", "gauge", "Journal records that the agent could not deliver yet.",
			when(fresh, func(c *shown) float64 { return float64(c.Backlog) })},
		{"swap_cabinet_temperature_celsius", "gauge", "Air at the top of the cabinet.",
			when(func(c *shown) bool { return c.Fresh && c.UpperC != nil }, func(c *shown) float64 { return *c.UpperC })},
		{"swap_cabinet_energy_joules_total", "counter", "What the cabinet has taken from the mains.",
			when(func(c *shown) bool { return c.Fresh && c.EnergyJ != nil }, func(c *shown) float64 { return *c.EnergyJ })},
		{"swap_clock_offset_seconds", "gauge", "How far the cabinet's clock is ahead of the database's.",
			when(func(c *shown) bool { return c.Fresh && c.ClockOffsetS != nil }, func(c *shown) float64 { return *c.ClockOffsetS })},
		{"swap_cabinet_alarm", "gauge", "1 while an alarm of this kind is on; absent while none is.", func(w *samples, c *shown) {
			for _, a := range c.kinds {
				w.add(c, 1, "kind", string(a.kind))
			}
		}},
		{"swap_slot_alarm", "gauge", "1 while an alarm of this kind is on at a slot.", func(w *samples, c *shown) {
			for _, a := range c.slots {
				w.add(c, 1, "slot", strconv.Itoa(a.slot), "kind", string(a.kind))
			}
		}},
		{"swap_slot_out", "gauge", "1 while the slot takes no part in swaps.", tellSlots(everySlot, func(s protocol.SlotState) float64 { return bit(s.Out) })},
		{"swap_slot_soc_ratio", "gauge", "State of charge of the battery in a slot.", tellSlots(
			func(s protocol.SlotState) bool { return s.Soc != nil }, func(s protocol.SlotState) float64 { return float64(*s.Soc) / 100 })},
		{"swap_slot_temperature_celsius", "gauge", "Hottest cell of the battery in a slot.", tellSlots(
			func(s protocol.SlotState) bool { return s.CellMaxC != nil }, func(s protocol.SlotState) float64 { return *s.CellMaxC })},
	}
}

func everySlot(protocol.SlotState) bool { return true }

func tellSlotCounts(w *samples, c *shown) {
	if !c.Fresh {
		return
	}
	w.add(c, float64(c.Out), "state", "out")
	w.add(c, float64(c.Charged), "state", "charged")
	w.add(c, float64(c.Holding), "state", "holds_battery")
	w.add(c, float64(c.Empty), "state", "empty")
	w.add(c, float64(max(0, c.Slots-c.Out-c.Charged-c.Holding-c.Empty)), "state", "unknown")
}

// tellSlots tells a number of every slot that has it, where all are wanted.
func tellSlots(has func(protocol.SlotState) bool, value func(protocol.SlotState) float64) func(*samples, *shown) {
	return func(w *samples, c *shown) {
		if !c.wholly || !c.Fresh {
			return
		}
		for _, s := range c.Inventory {
			if has(s) {
				w.add(c, value(s), "slot", strconv.Itoa(s.Slot))
			}
		}
	}
}

// show chooses which alarms are told: the gravest kinds first, then their slots,
// within the bound of a cabinet's series.
func show(c postgres.CabinetGauges, mode MetricsSlots, wholly bool) shown {
	s := shown{CabinetGauges: c, label: "cabinet=" + quoted(string(c.CabinetID)), wholly: wholly}
	if !c.Fresh {
		return s
	}
	left := MaxCabinetSeries - fixedSeries
	all := alarmsOf(c.Alarms)
	for i, a := range all {
		if (i == 0 || a.kind != all[i-1].kind) && left > 0 {
			s.kinds = append(s.kinds, a)
			left--
		}
	}
	if wholly {
		left = len(all)
	}
	for _, a := range all {
		if a.slot > 0 && left > 0 && mode != SlotsOff {
			s.slots = append(s.slots, a)
			left--
		}
	}
	return s
}

// samples writes the text format of Prometheus.
type samples struct {
	out   *bufio.Writer
	line  []byte
	of    cabinetFamily
	begun bool
}

// add writes one sample of a cabinet; labels are names and values.
func (w *samples) add(c *shown, v float64, labels ...string) {
	if !w.begun {
		w.begun = true
		_, _ = w.out.WriteString("# HELP " + w.of.name + " " + w.of.help + "\n# TYPE " + w.of.name + " " + w.of.kind + "\n")
	}
	b := append(w.line[:0], w.of.name...)
	b = append(b, '{')
	b = append(b, c.label...)
	for i := 0; i+1 < len(labels); i += 2 {
		b = append(append(append(append(b, ','), labels[i]...), '='), quoted(labels[i+1])...)
	}
	b = append(b, "} "...)
	b = append(strconv.AppendFloat(b, v, 'g', -1, 64), '\n')
	w.line = b
	_, _ = w.out.Write(b) // the flush says what failed
}

// quoted is the value of a label as the format wants it.
func quoted(v string) string {
	if !strings.ContainsAny(v, "\\\"\n") {
		return `"` + v + `"`
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(v) + `"`
}

// writeCabinets writes the metrics of all cabinets. swaps says how many of a
// cabinet's swaps were counted and how many failed.
//
// It writes the text itself: the client library takes ten times as long for the
// 80,000 samples that 5,000 cabinets have.
func writeCabinets(to *bufio.Writer, cabinets []postgres.CabinetGauges, mode MetricsSlots, swaps func(protocol.CabinetID) (uint64, uint64)) error {
	wholly := mode == SlotsAll && checkSlots(mode, cabinets) == nil
	all := make([]shown, len(cabinets))
	for i, c := range cabinets {
		all[i] = show(c, mode, wholly)
		all[i].counted, all[i].failed = swaps(c.CabinetID)
	}
	for _, f := range cabinetFamilies() {
		w := samples{out: to, of: f}
		for i := range all {
			f.tell(&w, &all[i])
		}
	}
	return to.Flush()
}

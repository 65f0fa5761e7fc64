package swap

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"batteryswap/protocol"
)

// TestQuarantineIsKept: in random worlds, with alarms of the safety loop, recalls,
// riders, swaps and power cuts in any order, no lock of a slot in quarantine is
// ever pulsed, and no recalled battery is ever dispensed (I12).
func TestQuarantineIsKept(t *testing.T) {
	pulses := 0
	rapid.Check(t, func(t *rapid.T) {
		var boxes []box
		for n := range rapid.IntRange(3, 6).Draw(t, "slots") {
			b := box{}
			if soc := rapid.SampledFrom([]int{0, 0, 30, 96, 96}).Draw(t, "soc"); soc > 0 {
				b.in = &battery{serial: protocol.BatterySerial(fmt.Sprintf("B%d", n)), soc: soc}
			}
			boxes = append(boxes, b)
		}
		r := newRig(t, boxes...)
		w := &quarantine{t: t, rig: r, flagged: map[protocol.BatterySerial]bool{}}
		r.safety = &Safety{}
		r.pulsed = w.pulsed
		r.wait(4 * time.Second)
		for range rapid.IntRange(5, 30).Draw(t, "acts") {
			w.act()
		}
		pulses += len(r.pulses)
	})
	require.Greater(t, pulses, 50, "the worlds are not idle")
}

// quarantine is a world in which anything happens.
type quarantine struct {
	t       *rapid.T
	rig     *rig
	flagged map[protocol.BatterySerial]bool
	version int64
	swaps   int
}

func (w *quarantine) pulsed(n int) pulseResult {
	for _, a := range w.rig.safety.Alarms {
		require.NotEqual(w.t, n, a.Slot, "slot %d is pulsed in quarantine\n%s", n, w.rig)
	}
	if i, ok := w.rig.lastIntent(); ok && i.Purpose == protocol.PurposeDispense {
		require.False(w.t, w.flagged[w.rig.box(n).in.serial], "%s was recalled\n%s", w.rig.box(n).in.serial, w.rig)
	}
	return rapid.SampledFrom([]pulseResult{opens, opens, opens, nothing}).Draw(w.t, "pulse")
}

func (w *quarantine) act() {
	r, t := w.rig, w.t
	n := rapid.IntRange(1, len(r.boxes)).Draw(t, "slot")
	switch rapid.SampledFrom([]string{"alarm", "clear", "flag", "swap", "swap", "rider", "rider", "rider", "restart", "wait"}).Draw(t, "act") {
	case "alarm":
		kind := rapid.SampledFrom([]protocol.AlarmKind{protocol.AlarmTemperature, protocol.AlarmSensorSilent}).Draw(t, "kind")
		alarms := foldAlarm(r.safety.Alarms, protocol.Alarm{Kind: kind, Slot: n})
		r.safety = &Safety{Alarms: alarms}
	case "clear":
		alarms := slices.DeleteFunc(slices.Clone(r.safety.Alarms), func(a Raised) bool { return a.Slot == n })
		r.safety = &Safety{Alarms: alarms}
	case "flag":
		if b := r.box(n).in; b != nil && r.open() == nil {
			w.version++
			w.flagged[b.serial] = true
			cfg := protocol.CabinetConfig{Version: w.version}
			for s := range w.flagged {
				cfg.FlaggedSerials = append(cfg.FlaggedSerials, s)
			}
			r.event(Configure{Config: cfg})
		}
	case "swap":
		w.swaps++
		kind := rapid.SampledFrom([]protocol.Kind{protocol.KindSwap, protocol.KindOwed}).Draw(t, "kind")
		if p, ok := r.prepare(w.swaps, kind).(protocol.Prepared); ok {
			r.event(r.grantOf(p, kind, protocol.BatterySerial(fmt.Sprintf("R%d", w.swaps))))
		}
		r.wait(3 * time.Second)
	case "rider":
		w.rider()
	case "restart":
		r.restart()
	case "wait":
		r.wait(time.Duration(rapid.IntRange(1, 120).Draw(t, "seconds")) * time.Second)
	}
	r.wait(tick)
}

// rider does what a rider does at whatever door is open.
func (w *quarantine) rider() {
	r := w.rig
	for i := range r.boxes {
		b := r.box(i + 1)
		if !b.open {
			continue
		}
		r.wait(2 * tick)
		if b.in == nil {
			b.in = &battery{serial: protocol.BatterySerial(fmt.Sprintf("R%d", w.swaps)), soc: 20}
		} else if rapid.Bool().Draw(w.t, "takes") {
			b.in = nil
		}
		r.wait(tick)
		r.shut(i + 1)
		r.wait(4 * time.Second)
	}
}

// TestSafetyIsRecorded: what the safety loop did is in the journal, once, and its
// end too.
func TestSafetyIsRecorded(t *testing.T) {
	r := usual(t)
	hot := Raised{protocol.AlarmTemperature, 3}
	r.safety = &Safety{Alarms: []Raised{hot}, Cuts: []protocol.ChargeCut{{Slot: 3, Kind: protocol.AlarmTemperature}}}
	r.tick()
	r.safety = &Safety{Alarms: []Raised{hot}}
	r.wait(time.Minute)
	require.Equal(t, []protocol.ChargeCut{{Slot: 3, Kind: protocol.AlarmTemperature}}, records[protocol.ChargeCut](r))
	require.True(t, r.durable().Quarantined(3))
	r.restart()
	require.True(t, r.durable().Quarantined(3))
	r.safety = nil // a loop that says nothing clears nothing
	r.wait(time.Minute)
	require.True(t, r.durable().Quarantined(3))
	r.safety = &Safety{Alarms: []Raised{{protocol.AlarmSupply, 0}}}
	r.tick()
	r.safety = &Safety{}
	r.tick()
	require.Equal(t, []protocol.Alarm{
		{Kind: protocol.AlarmTemperature, Slot: 3}, {Kind: protocol.AlarmSupply},
		{Kind: protocol.AlarmTemperature, Slot: 3, Cleared: true, OnSite: true}, {Kind: protocol.AlarmSupply, Cleared: true},
	}, records[protocol.Alarm](r))
}

// TestFailure16HotIsHeld: a battery that gets hot in its slot during the swap is
// not given back: its door stays locked, and the rider is owed another.
func TestFailure16HotIsHeld(t *testing.T) {
	r := usual(t)
	r.box(3).jam, r.box(4).jam = jammed, jammed // nothing can be dispensed
	r.start(1, protocol.KindSwap)
	n := r.deposit(flat("R1"))
	r.safety = &Safety{Alarms: []Raised{{protocol.AlarmTemperature, n}}}
	require.Equal(t, protocol.OutcomeDepositedOwed, r.closed().Outcome)
	require.Zero(t, r.intents(protocol.PurposeReturn))
	require.True(t, r.durable().Quarantined(n))
}

// TestFailure16HotAfterAPulse: a battery that gets hot behind a door that did not
// open is not tried again; the next one is given out.
func TestFailure16HotAfterAPulse(t *testing.T) {
	r := usual(t)
	r.box(3).jam = 1
	r.start(1, protocol.KindSwap)
	r.deposit(flat("R1"))
	r.until(time.Minute, "the first pulse", func() bool { i, ok := r.lastIntent(); return ok && i.Purpose == protocol.PurposeDispense })
	r.box(3).in.hot = true
	n, b := r.take(protocol.PurposeDispense)
	require.Equal(t, 4, n)
	require.Equal(t, protocol.BatterySerial("C4"), b.serial)
	require.Equal(t, protocol.OutcomeSwapped, r.closed().Outcome)
	for _, i := range records[protocol.Intent](r) {
		require.Equal(t, 1, i.Pulse, "slot %d", i.Slot)
	}
	require.Zero(t, r.alarms(protocol.AlarmSlotFault), "one pulse proves no fault")
}

package slot

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func tri() *rapid.Generator[Tri] { return rapid.SampledFrom([]Tri{Unknown, No, Yes}) }

func value(lo, hi int32) *rapid.Generator[Value] {
	return rapid.Custom(func(t *rapid.T) Value {
		return Value{N: rapid.Int32Range(lo, hi).Draw(t, "n"), Known: rapid.Bool().Draw(t, "known")}
	})
}

// TestEvidenceClaimsNothingUnproved holds every view against the whole history
// of readings: what the view claims must stand in the readings themselves.
func TestEvidenceClaimsNothingUnproved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := DefaultLimits()
		e := New(1, limits)
		var past []Reading
		now := time.Duration(0)
		alive := uint16(0)
		for range rapid.IntRange(1, 40).Draw(t, "readings") {
			now += time.Duration(rapid.SampledFrom([]int{20, 300, 500, 500, 1000, 1000, 2900, 3100, 9000}).Draw(t, "gap")) * time.Millisecond
			if !rapid.SampledFrom([]bool{false, false, false, true}).Draw(t, "frozen") {
				alive++
			}
			r := Reading{
				Slot: 1, At: now, Alive: alive, BoltFitted: rapid.SampledFrom([]bool{true, true, false}).Draw(t, "fitted"),
				CoilActive: rapid.SampledFrom([]Tri{No, No, No, Unknown, Yes}).Draw(t, "coil"),
				DoorOpen:   rapid.SampledFrom([]Tri{No, No, No, Unknown, Yes}).Draw(t, "door"),
				Bolt:       rapid.SampledFrom([]Tri{Yes, Yes, Yes, Unknown, No}).Draw(t, "bolt"),
				Switch:     tri().Draw(t, "switch"), BatteryLink: tri().Draw(t, "link"),
				Serial:      rapid.SampledFrom([]string{"", "A1", "A1", "B2", " "}).Draw(t, "serial"),
				SocPermille: value(0, 1000).Draw(t, "soc"), VoltageMV: value(0, 80_000).Draw(t, "mv"),
				CellMax: value(-300, 700).Draw(t, "cell"), Faults: rapid.SampledFrom([]uint32{0, 0, 1, 1 << 16}).Draw(t, "faults"),
			}
			past = append(past, r)
			e = e.Observe(r)
			at := now + time.Duration(rapid.IntRange(0, 4000).Draw(t, "later"))*time.Millisecond
			holds(t, e.View(at), past, at, limits)
		}
	})
}

func holds(t *rapid.T, v View, past []Reading, at time.Duration, l Limits) {
	n := len(past)
	last := past[n-1]
	if at-last.At > l.SensorStale && (v.Fresh || v.Closed || v.Content != Unclear || v.Door != "" || v.Charged) {
		t.Fatalf("stale, yet %+v", v)
	}
	if v.Closed {
		closedSince(t, v, past, l)
	}
	pair := n >= 2 && last.At-past[n-2].At <= l.SensorStale
	if v.Content != Unclear && (!pair || contentOf(last) != v.Content || contentOf(past[n-2]) != v.Content) {
		t.Fatalf("content %d is not that of the last two readings", v.Content)
	}
	if v.Content == Empty && (last.Switch != No || last.BatteryLink != No) {
		t.Fatalf("empty, and %v %v", last.Switch, last.BatteryLink)
	}
	if v.Serial != "" && (string(v.Serial) != last.Serial || past[n-2].Serial != last.Serial) {
		t.Fatalf("serial %q is not that of the last two readings", v.Serial)
	}
	if v.Door != "" && (!pair || last.DoorOpen != past[n-2].DoorOpen) {
		t.Fatalf("door %q is not that of the last two readings", v.Door)
	}
	if v.Charged && (v.Serial == "" || *v.Battery.Soc < l.ReleaseSoc || at-v.BatteryAt > l.SocStale || Implausible(v.Battery) != "") {
		t.Fatalf("charged, and %+v", v)
	}
}

// closedSince: since ClosedSince, which is at least Stable ago, every reading
// says shut and locked, and none is missing.
func closedSince(t *rapid.T, v View, past []Reading, l Limits) {
	last := past[len(past)-1]
	if last.At-v.ClosedSince < l.Stable {
		t.Fatalf("closed for %v only", last.At-v.ClosedSince)
	}
	found := false
	for i, r := range past {
		if r.At < v.ClosedSince {
			continue
		}
		found = found || r.At == v.ClosedSince
		if r.DoorOpen != No || (r.BoltFitted && r.Bolt != Yes) || r.CoilActive == Yes {
			t.Fatalf("closed since %v, and at %v the reading is %+v", v.ClosedSince, r.At, r)
		}
		if r.At > v.ClosedSince && r.At-past[i-1].At > l.SensorStale {
			t.Fatalf("closed since %v, and nothing was read between %v and %v", v.ClosedSince, past[i-1].At, r.At)
		}
	}
	if !found {
		t.Fatalf("closed since %v, and nothing was read then", v.ClosedSince)
	}
}

// TestEvidenceIsAValue: observing makes a new one.
func TestEvidenceIsAValue(t *testing.T) {
	e := sound()
	was := e.View(4 * time.Second)
	open := reading(4500 * time.Millisecond)
	open.DoorOpen = Yes
	e.Observe(open).Observe(empty(reading(5 * time.Second)))
	if e.View(4*time.Second) != was {
		t.Fatal("an evidence has changed")
	}
}

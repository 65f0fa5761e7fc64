package web

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"batteryswap/protocol"
)

// said puts into words what a record says beside its slot, battery and reason. A
// field that has no words is shown as it is: it is evidence.
func (t texts) said(payload json.RawMessage) []string {
	p := map[string]json.RawMessage{}
	if json.Unmarshal(payload, &p) != nil {
		return nil
	}
	var out []string
	for _, shown := range []string{"slot", "battery_serial", "reason", "keys_version", "deposit_slot", "take_slot"} {
		delete(p, shown)
	}
	for _, w := range t.wordings() {
		if raw, ok := p[w.field]; ok {
			delete(p, w.field)
			if words := w.words(raw); words != "" {
				out = append(out, words)
			}
		}
	}
	for _, field := range slices.Sorted(maps.Keys(p)) {
		out = append(out, field+" "+strings.Trim(string(p[field]), `"`))
	}
	return out
}

// wording is how one field of a record is told; "" leaves it out.
type wording struct {
	field string
	words func(json.RawMessage) string
}

// wordings are those of all fields, in the order in which they are told.
func (t texts) wordings() []wording {
	text := func(prefixes ...string) func(json.RawMessage) string {
		return func(raw json.RawMessage) string { return t.named(value[string](raw), prefixes...) }
	}
	flag := func(yes, no string) func(json.RawMessage) string {
		return func(raw json.RawMessage) string {
			if value[bool](raw) {
				return t[yes]
			}
			return t[no]
		}
	}
	labelled := func(key string) func(json.RawMessage) string {
		return func(raw json.RawMessage) string { return t.text(key) + " " + value[string](raw) }
	}
	return []wording{
		{"kind", text("kind.", "need.")},
		{"what", text("order.")},
		{"changes", t.changed},
		{"outcome", text("end.")},
		{"door", text("moved.")},
		{"purpose", text("purpose.")},
		{"pulse", t.pulse},
		{"accepted", flag("said.accepted", "said.refused")},
		{"battery", t.measured},
		{"deposited", labelled("deposited")},
		{"taken", labelled("taken")},
		{"explanations", t.mayBe},
		{"config", t.settings},
		{"out", text("reason.")},
		{"cleared", flag("said.cleared", "")},
		{"on_site", flag("said.on_site", "")},
		{"wall_ms", func(raw json.RawMessage) string { return showTime(time.UnixMilli(value[int64](raw))) }},
	}
}

// value reads a field; what does not fit is the zero value.
func value[T any](raw json.RawMessage) T {
	var v T
	_ = json.Unmarshal(raw, &v) // as said
	return v
}

// named is the text of a name out of a closed list; a newer agent's is shown as
// it is.
func (t texts) named(name string, prefixes ...string) string {
	for _, p := range prefixes {
		if s, ok := t[p+name]; ok {
			return s
		}
	}
	return name
}

// pulse tells a second try: the first goes without saying.
func (t texts) pulse(raw json.RawMessage) string {
	if n := value[int](raw); n > 1 {
		return t.number("said.pulse", "{n}", n)
	}
	return ""
}

func (t texts) measured(raw json.RawMessage) string {
	b := value[struct {
		Soc       *int     `json:"soc"`
		VoltageMV *int     `json:"voltage_mv"`
		CellMaxC  *float64 `json:"cell_max_c"`
	}](raw)
	var out []string
	if b.Soc != nil {
		out = append(out, fmt.Sprintf("%d %%", *b.Soc))
	}
	if b.VoltageMV != nil {
		out = append(out, fmt.Sprintf("%.1f V", float64(*b.VoltageMV)/1000))
	}
	if b.CellMaxC != nil {
		out = append(out, celsius(b.CellMaxC))
	}
	return strings.Join(out, ", ")
}

// mayBe lists what a review may find.
func (t texts) mayBe(raw json.RawMessage) string {
	var out []string
	for _, e := range value[[]string](raw) {
		out = append(out, t.named(e, "end."))
	}
	return t.text("review.may_be") + " " + strings.Join(out, "; ")
}

// changed is which batteries maintenance moved.
func (t texts) changed(raw json.RawMessage) string {
	var out []string
	for _, c := range value[[]protocol.Change](raw) {
		words := t.number("slot.n", "{n}", c.Slot)
		if c.Removed != "" {
			words += " − " + string(c.Removed)
		}
		if c.Added != "" {
			words += " + " + string(c.Added)
		}
		if c.Forced {
			words += " (" + t.text("said.forced") + ")"
		}
		out = append(out, words)
	}
	return strings.Join(out, "; ")
}

// settings is what staff set for a cabinet.
func (t texts) settings(raw json.RawMessage) string {
	c := value[struct {
		Version  int64    `json:"version"`
		Out      bool     `json:"out_of_service"`
		SlotsOut []int    `json:"slots_out"`
		Recalled []string `json:"flagged_serials"`
	}](raw)
	out := []string{t.number("said.version", "{n}", c.Version)}
	if c.Out {
		out = append(out, t.text("state.off"))
	}
	if len(c.SlotsOut) > 0 {
		out = append(out, t.text("said.slots_out")+" "+strings.Trim(fmt.Sprint(c.SlotsOut), "[]"))
	}
	if len(c.Recalled) > 0 {
		out = append(out, t.number("said.recalled", "{n}", len(c.Recalled)))
	}
	return strings.Join(out, ", ")
}

// celsius shows a temperature that may not be known.
func celsius(c *float64) string {
	if c == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f °C", *c)
}

package charging

import (
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

func TestDecide(t *testing.T) {
	soc := func(n int) protocol.Battery { return protocol.Battery{BatterySerial: "B", Soc: &n} }
	sound := slot.View{
		Slot: 1, Fresh: true, Closed: true, Content: slot.Identified, Serial: "B", Battery: soc(50),
		CellMin: slot.Known(200), CellMax: slot.Known(250), ChargeEnabled: slot.No,
	}
	cases := []struct {
		name  string
		spoil func(*slot.View)
		inUse bool
		want  bool
	}{
		{"sound", func(*slot.View) {}, false, true},
		{"a swap may open it", func(*slot.View) {}, true, false},
		{"stale", func(v *slot.View) { v.Fresh = false }, false, false},
		{"not closed", func(v *slot.View) { v.Closed = false }, false, false},
		{"mute", func(v *slot.View) { v.Content = slot.Mute }, false, false},
		{"empty", func(v *slot.View) { v.Content = slot.Empty }, false, false},
		{"smoke", func(v *slot.View) { v.Smoke = true }, false, false},
		{"slot fault", func(v *slot.View) { v.Fault = slot.LockFault }, false, false},
		{"full by the charger", func(v *slot.View) { v.Full = true }, false, false},
		{"soc unknown", func(v *slot.View) { v.Battery.Soc = nil }, false, false},
		{"too cold", func(v *slot.View) { v.CellMin = slot.Known(-1) }, false, false},
		{"just warm enough", func(v *slot.View) { v.CellMin = slot.Known(0) }, false, true},
		{"too hot", func(v *slot.View) { v.CellMax = slot.Known(451) }, false, false},
		{"temperature unknown", func(v *slot.View) { v.CellMax = slot.Value{} }, false, false},
		{"rests near full", func(v *slot.View) { v.Battery = soc(98) }, false, false},
		{"goes on to full", func(v *slot.View) { v.Battery, v.ChargeEnabled = soc(99), slot.Yes }, false, true},
		{"full by soc", func(v *slot.View) { v.Battery, v.ChargeEnabled = soc(100), slot.Yes }, false, false},
	}
	for _, c := range cases {
		v := sound
		c.spoil(&v)
		require.Equal(t, c.want, Decide(v, c.inUse), c.name)
	}
}

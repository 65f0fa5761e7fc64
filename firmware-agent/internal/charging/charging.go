// Package charging says which slots are charged.
//
// It knows when a battery may be charged: the slot closed, the battery known,
// not full, and neither too cold nor too hot. It gives one decision for each
// slot. It needs the slot's view; it is pure.
package charging

import "batteryswap/firmware-agent/internal/slot"

const (
	// minCell and maxCell bound the temperatures of lithium cells that are being
	// charged, in 0.1 °C: 0 to 45 °C, as the makers of packs of this class say.
	minCell = 0
	maxCell = 450
	// full ends charging and resume begins it again, in percent: a battery that
	// rests does not switch its charger on and off.
	full   = 100
	resume = 98
)

// Decide reports whether the slot is to be charged. barred says that it is not,
// whatever the view shows: a swap may open it, it is out of service, or it holds
// a battery that nobody may take.
func Decide(v slot.View, barred bool) bool {
	if barred || !v.Fresh || !v.Closed || v.Content != slot.Identified || v.Smoke || v.Fault != slot.NoFault {
		return false
	}
	if v.Full || v.Battery.Soc == nil || !within(v.CellMin) || !within(v.CellMax) {
		return false
	}
	if v.ChargeEnabled == slot.Yes {
		return *v.Battery.Soc < full
	}
	return *v.Battery.Soc < resume
}

func within(t slot.Value) bool { return t.Known && t.N >= minCell && t.N <= maxCell }

package charging

import "strings"

// Type is what is known of a kind of battery. Temperatures are of its cells, in
// °C.
type Type struct {
	// SerialPrefix is what the serials of this type begin with.
	SerialPrefix string

	// WarmC and above stops charging of the slot and its neighbours; HotC and
	// above puts the battery in quarantine, too.
	WarmC, HotC int
	// RiseCPerS is how many °C in a second a battery may become warmer.
	RiseCPerS float64

	// ChargeMinC and ChargeMaxC bound charging. Below ColdC, and within 5 °C of
	// ChargeMaxC, the current is halved.
	ChargeMinC, ColdC, ChargeMaxC int
	// TargetSoc is the soc, in %, that a battery is charged to in any case, MaxSoc
	// the soc that it is charged to before a peak. StoreSoc is the soc that it
	// rests at while nobody will come for it.
	StoreSoc, TargetSoc, MaxSoc int
	// MaxMA is the highest charge current, in mA, and VoltageMV the voltage that
	// it flows at: what the type's charger takes of the budget.
	MaxMA, VoltageMV int
	// CapacityMAH is what it holds, in mAh.
	CapacityMAH int
}

// DefaultType is what holds where the configuration names no type. Warm and hot
// are this project's own, for the battery's maker to correct; 1 °C/s is the rate
// by which GB 38031 knows a thermal runaway; 0 to 45 °C is what makers of
// lithium cells of this class allow for charging; 10 A at 68 V into 20 Ah is a usual
// charger of a courier's 60 V battery.
func DefaultType() Type {
	return Type{
		WarmC: 55, HotC: 60, RiseCPerS: 1,
		ChargeMinC: 0, ColdC: 10, ChargeMaxC: 45,
		StoreSoc: 60, TargetSoc: 95, MaxSoc: 100, MaxMA: 10_000, VoltageMV: 68_000, CapacityMAH: 20_000,
	}
}

// Types are the kinds of battery that a cabinet may hold.
type Types struct {
	// Known are asked in order.
	Known   []Type
	Default Type
}

// Of is the type of the battery with this serial; an unknown serial's is the
// default.
func (t Types) Of(serial string) Type {
	for _, k := range t.Known {
		if serial != "" && strings.HasPrefix(serial, k.SerialPrefix) {
			return k
		}
	}
	return t.Default
}

// capacityWh is what a battery of this type holds, in Wh.
func (t Type) capacityWh() int { return t.CapacityMAH * t.VoltageMV / 1_000_000 }

// PowerW is what charging at full current takes, in W.
func (t Type) PowerW() int { return t.MaxMA * t.VoltageMV / 1_000_000 }

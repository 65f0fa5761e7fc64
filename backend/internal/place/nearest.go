package place

import (
	"batteryswap/backend/internal/swap"
)

// Near is a cabinet, and how far it is.
type Near struct {
	swap.CabinetView
	Metres float64
}

// Of is where a cabinet stands; false: nobody has said.
func Of(c swap.CabinetView) (Point, bool) {
	if c.Latitude == nil || c.Longitude == nil {
		return Point{}, false
	}
	return Point{*c.Latitude, *c.Longitude}, true
}

// Nearest are the n cabinets nearest to a point that fit, the nearest first. Where
// two are as far, the one that is listed first comes first.
func Nearest(from Point, all []swap.CabinetView, n int, fits func(swap.CabinetView) bool) []Near {
	out := make([]Near, 0, n+1)
	for _, c := range all {
		at, ok := Of(c)
		if !ok || !fits(c) {
			continue
		}
		m := Metres(from, at)
		i := len(out)
		for i > 0 && out[i-1].Metres > m {
			i--
		}
		if i == n {
			continue
		}
		out = append(out, Near{})
		copy(out[i+1:], out[i:])
		out[i] = Near{c, m}
		out = out[:min(len(out), n)]
	}
	return out
}

// HasCharged reports whether a rider who walks there can be expected to get a
// charged battery.
func HasCharged(c swap.CabinetView) bool {
	return c.Reachable && c.OutOfService == "" && c.Charged > 0
}

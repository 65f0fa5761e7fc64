package swap

import (
	"slices"

	"batteryswap/protocol"
)

// Safety is what the safety loop says: it has acted already, and is recorded.
type Safety struct {
	// Alarms are its alarms that are on, of the kinds that are Safety.
	Alarms []Raised
	// Cuts are the cuts of power since the last step.
	Cuts []protocol.ChargeCut
}

// watchSafety records what the safety loop did. Its alarms are followed as a
// state: what was not recorded when it happened is recorded now.
func (c *core) watchSafety() {
	s := c.in.Safety
	if s == nil {
		return
	}
	for _, a := range s.Alarms {
		c.raise(a.Kind, a.Slot)
	}
	for _, a := range slices.Clone(c.durable.Alarms) {
		if a.Kind.Safety() && !slices.Contains(s.Alarms, a) {
			c.append(protocol.Alarm{Kind: a.Kind, Slot: a.Slot, Cleared: true, OnSite: a.Kind != protocol.AlarmSupply})
		}
	}
	for _, cut := range s.Cuts {
		c.append(cut)
	}
}

// Quarantined reports whether a slot holds a battery that safety has put in
// quarantine: it is neither given out nor charged, and its door stays locked.
func (d Durable) Quarantined(slotNumber int) bool {
	return slices.ContainsFunc(d.Alarms, func(a Raised) bool { return a.Slot == slotNumber && a.Slot != 0 && a.Kind.Safety() })
}

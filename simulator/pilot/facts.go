package pilot

import (
	"fmt"
	"time"

	"batteryswap/protocol"
)

// chargeTime is how long a battery that was put in is not given out.
const chargeTime = 150 * time.Minute

// facts are what really happened in the street, by nobody's books.
type facts struct {
	slots map[protocol.CabinetID][]compartment // slot n is at n-1
	hands []protocol.BatterySerial             // of each rider, "" for none
	takes map[string]int                       // batteries taken in exchange, by day of the street
	total int
}

type compartment struct {
	serial  protocol.BatterySerial // "" is empty
	charged time.Time              // when it is
}

// put moves a rider's battery into a slot.
func (f *facts) put(rider int, c protocol.CabinetID, slot int, at time.Time) (protocol.BatterySerial, error) {
	place := &f.slots[c][slot-1]
	serial := f.hands[rider]
	if place.serial != "" || serial == "" {
		return "", fmt.Errorf("rider %d puts %q into slot %d of %s, which holds %q", rider, serial, slot, c, place.serial)
	}
	*place, f.hands[rider] = compartment{serial: serial, charged: at.Add(chargeTime)}, ""
	return serial, nil
}

// take moves a slot's battery into a rider's hands.
func (f *facts) take(rider int, c protocol.CabinetID, slot int, at time.Time) (protocol.BatterySerial, error) {
	place := &f.slots[c][slot-1]
	serial := place.serial
	if serial == "" || f.hands[rider] != "" {
		return "", fmt.Errorf("rider %d, who has %q, takes from slot %d of %s, which holds %q", rider, f.hands[rider], slot, c, serial)
	}
	*place, f.hands[rider] = compartment{}, serial
	f.takes[at.In(street).Format(time.DateOnly)]++
	f.total++
	return serial, nil
}

// offers are a cabinet's charged batteries, one at least if there is any.
func (f *facts) offers(c protocol.CabinetID, at time.Time) []protocol.Offer {
	var all []protocol.Offer
	for i, p := range f.slots[c] {
		if p.serial != "" && !p.charged.After(at) && len(all) < 2 {
			all = append(all, protocol.Offer{Slot: i + 1, BatterySerial: p.serial, Soc: 97})
		}
	}
	return all
}

// empty are slots of a cabinet that take a battery.
func (f *facts) empty(c protocol.CabinetID) []int {
	var all []int
	for i, p := range f.slots[c] {
		if p.serial == "" && len(all) < 2 {
			all = append(all, i+1)
		}
	}
	return all
}

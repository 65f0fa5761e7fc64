package console

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"batteryswap/simulator/world"
)

// Status is a table of a cabinet's slots as they really are.
func (c *Console) Status(cabinetID string) string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "slot\tdoor\tbolt\tbattery\tsoc\tcable\tcharger\tfaults")
	for _, f := range c.World.Facts(c.Now(), cabinetID) {
		battery, soc, cable := "–", "", ""
		if f.Battery != nil {
			battery, soc = f.Battery.Serial, fmt.Sprintf("%d %%", f.Battery.SocPercent())
			cable = pick(f.Plugged, "plugged", "loose")
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%v\n", f.Slot, pick(f.DoorOpen, "open", "shut"),
			pick(f.BoltLocked, "locked", "pulled"), battery, soc, cable,
			pick(f.ChargeOn, fmt.Sprintf("on, %d mA", f.CurrentMA), "off"), f.Faults)
	}
	fmt.Fprintf(table, "you hold: %s\n", strings.Join(c.World.Hands(c.Person), " "))
	// A strings.Builder does not fail.
	_ = table.Flush()
	return strings.TrimRight(b.String(), "\n")
}

func pick(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// Tell says in words what happened.
func Tell(e world.Event) string {
	place := e.Cabinet
	if e.Slot > 0 {
		place = fmt.Sprintf("%s slot %d", e.Cabinet, e.Slot)
	}
	who := pick(e.Person == "", "", " by "+e.Person)
	inside := pick(e.Serial == "", "empty", "inside: "+e.Serial)
	switch e.Kind {
	case world.Pulsed:
		return place + ": unlock: the coil is driven"
	case world.DoorOpened:
		return fmt.Sprintf("%s: the door is open (%s)%s, %s", place, e.Cause, who, inside)
	case world.DoorShut:
		return fmt.Sprintf("%s: the door is shut, %s%s, %s", place,
			pick(e.Cause == world.Latched, "the bolt is locked", "the bolt did not catch"), who, inside)
	case world.BatteryIn:
		return fmt.Sprintf("%s: battery %s is in%s", place, e.Serial, who)
	case world.BatteryOut:
		return fmt.Sprintf("%s: battery %s is out%s", place, e.Serial, who)
	case world.Plugged:
		return fmt.Sprintf("%s: cable plugged: %s%s", place, e.Cause, who)
	case world.FaultChanged:
		return fmt.Sprintf("%s: fault %s changed", place, e.Cause)
	case world.ButtonPressed:
		return place + ": the button is pressed" + who
	}
	return fmt.Sprintf("%s: %s%s %s", place, e.Kind, who, e.Cause)
}

package console

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"batteryswap/simulator/world"
)

// Status is a table of a cabinet's slots as they really are.
func (c *Console) Status(cabinetID string) string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "slot\tdoor\tbolt\tbattery\tsoc\ttemp\tcable\tcharger\tfaults")
	for _, f := range c.World.Facts(c.Now(), cabinetID) {
		battery, soc, temp, cable := "–", "", "", ""
		if f.Battery != nil {
			battery, soc = f.Battery.Serial, fmt.Sprintf("%d %%", f.Battery.SocPercent())
			temp = celsius(f.Battery.TempDeciC) + pick(f.Smoke, ", smokes", "")
			cable = pick(f.Plugged, "plugged", "loose")
		}
		charger := pick(f.ChargeOn, "on", "off")
		if f.ChargeOn || f.CurrentMA > 0 {
			charger += fmt.Sprintf(", %d mA", f.CurrentMA)
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%v\n", f.Slot, pick(f.DoorOpen, "open", "shut"),
			pick(f.BoltLocked, "locked", "pulled"), battery, soc, temp, cable, charger, f.Faults)
	}
	fmt.Fprintf(table, "you hold: %s\n", strings.Join(c.World.Hands(c.Person), " "))
	// A strings.Builder does not fail.
	_ = table.Flush()
	b.WriteString(c.whole(cabinetID))
	return strings.TrimRight(b.String(), "\n")
}

// whole says what is so of the cabinet as a whole.
func (c *Console) whole(cabinetID string) string {
	sensors, err := c.World.SenseCabinet(c.Now(), cabinetID)
	if err != nil {
		return ""
	}
	meter, err := c.World.ReadMeter(c.Now(), cabinetID)
	if err != nil {
		return ""
	}
	words := []string{
		"contactor " + pick(sensors.ContactorClosed, "closed", "open"),
		fmt.Sprintf("%.1f kW, %.0f V", float64(meter.PowerMW)/1e6, float64(meter.VoltageMV)/1000),
		"inside " + celsius(sensors.LowerTempDeciC) + ", outside " + celsius(c.World.Outside(c.Now())),
	}
	for _, is := range []struct {
		so   bool
		word string
	}{
		{sensors.Smoke, "SMOKE"}, {sensors.Water, "WATER"}, {sensors.EmergencyStop, "EMERGENCY STOP pressed"},
		{sensors.BackupInUse, "on the backup supply"}, {sensors.MaintenanceKey, "maintenance key turned"},
	} {
		if is.so {
			words = append(words, is.word)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(devices())) {
		if broken := c.World.CabinetFaults(cabinetID, devices()[name]); len(broken) > 0 {
			words = append(words, fmt.Sprintf("%s %v", name, broken))
		}
	}
	return strings.Join(words, "; ")
}

func celsius(deciC int) string { return fmt.Sprintf("%.1f °C", float64(deciC)/10) }

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
	case world.InputChanged:
		return fmt.Sprintf("%s: %s changed", place, e.Cause)
	case world.CurrentFlows:
		return fmt.Sprintf("%s: current flows, %s", place, inside)
	case world.CurrentStops:
		return fmt.Sprintf("%s: no current flows, %s", place, inside)
	case world.ContactorCloses:
		return place + ": the contactor closes: chargers have power"
	case world.ContactorOpens:
		return place + ": the contactor opens: no charger has power"
	case world.SmokeRises:
		return fmt.Sprintf("%s: battery %s gives off smoke", place, e.Serial)
	case world.ButtonPressed:
		return place + ": the button is pressed" + who
	}
	return fmt.Sprintf("%s: %s%s %s", place, e.Kind, who, e.Cause)
}

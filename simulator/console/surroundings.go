package console

import (
	"fmt"
	"strconv"
	"strings"

	"batteryswap/simulator/world"
)

// devices are what can be broken beside the slots, by the word for it.
func devices() map[string]int {
	return map[string]int{"board": world.CabinetBoard, "meter": world.Meter, "climate": world.ClimateSensor}
}

// device is the slot, or the device, that a word names.
func device(word string) (int, error) {
	if number, ok := devices()[word]; ok {
		return number, nil
	}
	slot, err := strconv.Atoi(word)
	if err != nil || slot < 0 {
		return 0, fmt.Errorf("%w: slot %q is no number, and none of board, meter, climate", ErrUsage, word)
	}
	return slot, nil
}

// input switches one of the cabinet's own inputs.
func (c *Console) input(cabinetID string, words []string) error {
	if len(words) < 2 || words[1] != "on" && words[1] != "off" {
		return fmt.Errorf("%w: %s on or %s off", ErrUsage, words[0], words[0])
	}
	is := words[1] == "on"
	return c.World.SetCabinet(c.Now(), cabinetID, func(s *world.CabinetSensors) {
		switch words[0] {
		case "smoke":
			s.Smoke = is
		case "water":
			s.Water = is
		case "stop":
			s.EmergencyStop = is
		case "key":
			s.MaintenanceKey = is
		}
	})
}

// mainsDeciV is 100 %: 220 V.
const mainsDeciV = 2200

func (c *Console) supply(cabinetID string, words []string) error {
	percent, err := number(words, "supply PERCENT", 0, 130)
	if err != nil {
		return err
	}
	return c.World.SetCabinet(c.Now(), cabinetID, func(s *world.CabinetSensors) {
		s.MainsDeciV = int(percent * mainsDeciV / 100)
	})
}

func (c *Console) weather(words []string) error {
	mean, err := number(words, "weather MEAN [SWING]", -40, 60)
	if err != nil {
		return err
	}
	weather := world.DefaultWeather()
	weather.MeanDeciC = int(10 * mean)
	if len(words) > 2 {
		swing, err := number(words[1:], "weather MEAN [SWING]", 0, 40)
		if err != nil {
			return err
		}
		weather.SwingDeciC = int(10 * swing)
	}
	c.World.SetWeather(c.Now(), weather)
	return nil
}

func (c *Console) heat(cabinetID string, slot int, rest []string) error {
	degrees, err := number(append([]string{"heat"}, rest...), "heat SLOT CELSIUS", -40, 150)
	if err != nil {
		return err
	}
	return c.changeInside(cabinetID, slot, func(b *world.Battery) { b.TempDeciC = int(10 * degrees) })
}

func (c *Console) soc(cabinetID string, slot int, rest []string) error {
	percent, err := number(append([]string{"soc"}, rest...), "soc SLOT PERCENT", 0, 100)
	if err != nil {
		return err
	}
	return c.changeInside(cabinetID, slot, func(b *world.Battery) { b.SocPermille = int(10 * percent) })
}

// changeInside changes the battery inside a slot.
func (c *Console) changeInside(cabinetID string, slot int, change func(*world.Battery)) error {
	for _, f := range c.World.Facts(c.Now(), cabinetID) {
		if f.Slot != slot {
			continue
		}
		if f.Battery == nil {
			return fmt.Errorf("slot %d: %w", slot, world.ErrSlotEmpty)
		}
		return c.World.ChangeBattery(c.Now(), f.Battery.Serial, change)
	}
	return fmt.Errorf("slot %d: %w", slot, world.ErrNoSuchPlace)
}

// number reads the first argument of a command.
func number(words []string, usage string, low, high float64) (float64, error) {
	if len(words) < 2 {
		return 0, fmt.Errorf("%w: %s", ErrUsage, usage)
	}
	n, err := strconv.ParseFloat(strings.TrimRight(words[1], "%°C"), 64)
	if err != nil || !(n >= low && n <= high) {
		return 0, fmt.Errorf("%w: %s: %q, expected %g to %g", ErrUsage, usage, words[1], low, high)
	}
	return n, nil
}

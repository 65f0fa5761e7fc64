package protocol

import "fmt"

// SlotState is one slot in an inventory or in telemetry, each value with its
// age. What is not known is absent.
type SlotState struct {
	Slot     int      `json:"slot"`
	Door     Door     `json:"door,omitempty"`
	Closed   bool     `json:"closed,omitempty"` // shut and locked, stable for 2 s
	Presence Presence `json:"presence,omitempty"`
	// BatterySerial, Soc and what follows are of the battery inside.
	BatterySerial BatterySerial `json:"battery_serial,omitempty"`
	Soc           *int          `json:"soc,omitempty"` // %
	VoltageMV     *int          `json:"voltage_mv,omitempty"`
	CellMaxC      *float64      `json:"cell_max_c,omitempty"` // °C
	Charging      bool          `json:"charging,omitempty"`
	// Charged is soc at or above the release level, healthy, known, fresh.
	Charged bool `json:"charged,omitempty"`
	// Out is true while the slot takes no part in swaps, by staff or by fault.
	Out bool `json:"out,omitempty"`
	// AgeMS is the age of the door and presence signals; SocAgeMS of soc,
	// voltage and temperature. Absent: never read.
	AgeMS    *int64 `json:"age_ms,omitempty"`
	SocAgeMS *int64 `json:"soc_age_ms,omitempty"`
}

// Inventory is a cabinet's slots in the order of their numbers.
type Inventory []SlotState

// Slot finds a slot by its number.
func (inv Inventory) Slot(n int) (SlotState, bool) {
	for _, s := range inv {
		if s.Slot == n {
			return s, true
		}
	}
	return SlotState{}, false
}

// Validate says which slot is wrong, or nil.
func (inv Inventory) Validate() error {
	if len(inv) > MaxSlots {
		return fmt.Errorf("inventory: %d slots, want at most %d", len(inv), MaxSlots)
	}
	last := 0
	for i, s := range inv {
		if s.Slot <= last || s.Slot > MaxSlots {
			return fmt.Errorf("inventory[%d].slot is %d: want rising numbers from 1 to %d", i, s.Slot, MaxSlots)
		}
		last = s.Slot
		if !s.Door.Valid() {
			return fmt.Errorf("inventory[%d].door %.20q: want open, shut or nothing", i, s.Door)
		}
		if !s.Presence.Valid() {
			return fmt.Errorf("inventory[%d].presence %.20q: want empty, holds_battery or nothing", i, s.Presence)
		}
		if s.BatterySerial != "" {
			if err := s.BatterySerial.Validate(); err != nil {
				return fmt.Errorf("inventory[%d]: %w", i, err)
			}
		}
		if s.Soc != nil && (*s.Soc < 0 || *s.Soc > 100) {
			return fmt.Errorf("inventory[%d].soc is %d: want 0 to 100", i, *s.Soc)
		}
	}
	return nil
}

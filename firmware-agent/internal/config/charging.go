package config

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/protocol"
)

// Charging says how much power there is, and when it is wanted.
type Charging struct {
	// BudgetW is what all chargers and heaters, or with a meter the whole cabinet, may
	// take, in W.
	BudgetW int `yaml:"budget_w"`
	// HeaterW is what the heater of a slot takes, in W; 0 where there are none.
	HeaterW int `yaml:"heater_w"`
	// Reserve is how many charged batteries are wanted at any time.
	Reserve int `yaml:"reserve"`
	// Peaks are when riders come, Cheap when power is cheap: "HH:MM-HH:MM".
	Peaks []string `yaml:"peaks"`
	Cheap []string `yaml:"cheap"`
	// UTCOffsetMin is the local time's distance from UTC, in minutes.
	UTCOffsetMin int `yaml:"utc_offset_min"`
}

// Safety are thresholds of the cabinet as a whole.
type Safety struct {
	CurrentWhenOffMA int `yaml:"current_when_off_ma"` // from which current flows though the charger is off
	AirHotC          int `yaml:"air_hot_c"`
	BackupMinMV      int `yaml:"backup_min_mv"`
}

// Battery is a type of battery, known by what its serials begin with. What is
// absent, or 0, is as in the type without a serial_prefix, and there as the project's
// own default.
type Battery struct {
	Name         string  `yaml:"name"`
	SerialPrefix string  `yaml:"serial_prefix"` // "" for the default type
	WarmC        int     `yaml:"warm_c"`        // no charging from here on
	HotC         int     `yaml:"hot_c"`         // quarantine from here on
	RiseCPerS    float64 `yaml:"rise_c_per_s"`
	ChargeMinC   int     `yaml:"charge_min_c"`
	ColdC        int     `yaml:"cold_c"` // half the current below
	ChargeMaxC   int     `yaml:"charge_max_c"`
	StoreSoc     int     `yaml:"store_soc"` // %, while nobody will come
	TargetSoc    int     `yaml:"target_soc"`
	MaxSoc       int     `yaml:"max_soc"` // %, before a peak
	MaxMA        int     `yaml:"max_ma"`
	VoltageMV    int     `yaml:"voltage_mv"`
	CapacityMAH  int     `yaml:"capacity_mah"`
}

// defaultBattery is what is believed of a battery until its maker says better.
func defaultBattery() Battery {
	d := charging.DefaultType()
	return Battery{
		Name: "default", WarmC: d.WarmC, HotC: d.HotC, RiseCPerS: d.RiseCPerS,
		ChargeMinC: d.ChargeMinC, ColdC: d.ColdC, ChargeMaxC: d.ChargeMaxC,
		StoreSoc: d.StoreSoc, TargetSoc: d.TargetSoc, MaxSoc: d.MaxSoc,
		MaxMA: d.MaxMA, VoltageMV: d.VoltageMV, CapacityMAH: d.CapacityMAH,
	}
}

// windows are as they stand in the file.
func windows(of []charging.Window) []string {
	var out []string
	for _, w := range of {
		out = append(out, w.String())
	}
	return out
}

// or gives the battery with what is absent taken from another.
func (b Battery) or(d Battery) Battery {
	b.WarmC, b.HotC = cmp.Or(b.WarmC, d.WarmC), cmp.Or(b.HotC, d.HotC)
	b.RiseCPerS = cmp.Or(b.RiseCPerS, d.RiseCPerS)
	b.ChargeMinC, b.ColdC, b.ChargeMaxC = cmp.Or(b.ChargeMinC, d.ChargeMinC), cmp.Or(b.ColdC, d.ColdC), cmp.Or(b.ChargeMaxC, d.ChargeMaxC)
	b.StoreSoc, b.TargetSoc, b.MaxSoc = cmp.Or(b.StoreSoc, d.StoreSoc), cmp.Or(b.TargetSoc, d.TargetSoc), cmp.Or(b.MaxSoc, d.MaxSoc)
	b.MaxMA, b.VoltageMV, b.CapacityMAH = cmp.Or(b.MaxMA, d.MaxMA), cmp.Or(b.VoltageMV, d.VoltageMV), cmp.Or(b.CapacityMAH, d.CapacityMAH)
	return b
}

// BatteryTypes are the configured types, whole, and the default one, which the
// configuration may give without a serial_prefix.
func (c Config) BatteryTypes() (known []Battery, standard Battery) {
	standard = defaultBattery()
	for _, b := range c.Batteries {
		if b.SerialPrefix == "" {
			standard = b.or(standard)
		}
	}
	for _, b := range c.Batteries {
		if b.SerialPrefix != "" {
			known = append(known, b.or(standard))
		}
	}
	return known, standard
}

// maxBatteries bounds the types of one cabinet.
const maxBatteries = 32

func (c Config) checkCharging(k *checker) {
	k.within(c.Charging.BudgetW, "charging.budget_w", " W", 100, 100_000)
	k.within(c.Charging.HeaterW, "charging.heater_w", " W", 0, 1000)
	k.within(c.Charging.Reserve, "charging.reserve", "", 0, protocol.MaxSlots)
	k.within(c.Charging.UTCOffsetMin, "charging.utc_offset_min", " min", -720, 840)
	for _, list := range []struct {
		field   string
		windows []string
	}{{"charging.peaks", c.Charging.Peaks}, {"charging.cheap", c.Charging.Cheap}} {
		k.expect(len(list.windows) <= maxWindows, list.field, "has %d: want at most %d", len(list.windows), maxWindows)
		for _, w := range list.windows {
			_, _, err := ParseWindow(w)
			k.expect(err == nil, list.field, "%v", err)
		}
	}
	k.within(c.Safety.CurrentWhenOffMA, "safety.current_when_off_ma", " mA", 50, 5000)
	k.within(c.Safety.AirHotC, "safety.air_hot_c", " °C", 30, 90)
	k.within(c.Safety.BackupMinMV, "safety.backup_min_mv", " mV", 0, 60_000)
	k.expect(len(c.Batteries) <= maxBatteries, "batteries", "has %d: want at most %d", len(c.Batteries), maxBatteries)
	standards := 0
	_, standard := c.BatteryTypes()
	for i, b := range c.Batteries {
		if b.SerialPrefix == "" {
			standards++
		}
		b.or(standard).check(k, fmt.Sprintf("batteries[%d]", i))
	}
	k.expect(standards <= 1, "batteries", "has %d without a serial_prefix: want at most one, the default type", standards)
}

func (b Battery) check(k *checker, at string) {
	k.within(b.HotC, at+".hot_c", " °C", 40, 80)
	k.within(b.WarmC, at+".warm_c", " °C, no more than hot_c", 35, b.HotC)
	k.expect(b.RiseCPerS >= .2 && b.RiseCPerS <= 10, at+".rise_c_per_s", "is %v: want 0.2 to 10 °C/s", b.RiseCPerS)
	k.within(b.ChargeMaxC, at+".charge_max_c", " °C, no more than warm_c", 20, b.WarmC)
	k.within(b.ChargeMinC, at+".charge_min_c", " °C", -20, 20)
	k.within(b.ColdC, at+".cold_c", " °C, no less than charge_min_c", b.ChargeMinC, 25)
	k.within(b.MaxSoc, at+".max_soc", " %", 50, 100)
	k.within(b.TargetSoc, at+".target_soc", " %, no more than max_soc", 50, b.MaxSoc)
	k.within(b.StoreSoc, at+".store_soc", " %, no more than target_soc", 20, b.TargetSoc)
	k.within(b.MaxMA, at+".max_ma", " mA", 500, 100_000)
	k.within(b.VoltageMV, at+".voltage_mv", " mV", 20_000, 100_000)
	k.within(b.CapacityMAH, at+".capacity_mah", " mAh", 1000, 200_000)
}

// maxWindows bounds the windows of a day.
const maxWindows = 8

var windowShape = regexp.MustCompile(`^([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)$`)

// ParseWindow reads "HH:MM-HH:MM", in minutes since midnight. One that ends before
// it begins goes over midnight.
func ParseWindow(s string) (from, to int, err error) {
	m := windowShape.FindStringSubmatch(s)
	if m == nil {
		return 0, 0, fmt.Errorf("%.20q: want HH:MM-HH:MM", s)
	}
	at := func(i int) int {
		hours, _ := strconv.Atoi(m[i])
		minutes, _ := strconv.Atoi(m[i+1])
		return hours*60 + minutes
	}
	from, to = at(1), at(3)
	if from > 24*60 || to > 24*60 || from == to {
		return 0, 0, fmt.Errorf("%.20q: want two different times of a day", s)
	}
	return from, to, nil
}

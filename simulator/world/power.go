package world

import (
	"fmt"
	"time"
)

// A charger and what it gives: constant current up to taperFrom, then less and
// less, as a lithium battery at its highest voltage takes it.
const (
	fastMA     = 10_000
	taperFrom  = 900.0 // soc, 0.1 %
	lastMA     = 1_000 // just before full
	chargerEff = 0.9   // of what the mains give; the rest warms the cabinet
)

// The mains.
const (
	nominalMainsDeciV  = 2200 // 220 V, as in China
	lowMainsDeciV      = 1760 // 80 %: below it the backup supply carries the electronics
	chargersStopDeciV  = 1320 // 60 %: below it chargers give nothing
	meterStopsDeciV    = 1100 // 50 %: below it the meter, which lives on the mains, is silent
	fullBackupMV       = 12_600
	emptyBackupMV      = 10_500
	backupMVPerSecond  = 1.0 // half an hour from full to empty
	baseW              = 60.0
	slotFanW           = 3.0
	heaterW            = 100.0
	cabinetFanW        = 40.0
	milliVoltsPerDeciV = 100
)

// current is what flows into the slot's battery, in mA. Power reaches it only
// through the contactor and a charger that is switched on, or stuck so.
func (s *slot) current(c *cabinet) int {
	on := s.chargeOn || s.faults.on(StuckCharger)
	if !on || !s.linked() || !c.sensors.ContactorClosed || c.sensors.MainsDeciV < chargersStopDeciV || s.held.soc >= fullSoc {
		return 0
	}
	limits := s.limits
	if s.faults.on(StuckCharger) {
		limits = ChargeLimits{}
	}
	if limits.MV > 0 && s.held.report().VoltageMV() >= limits.MV {
		return 0
	}
	current := fastMA
	if s.held.soc > taperFrom {
		current = lastMA + int(float64(fastMA-lastMA)*(fullSoc-s.held.soc)/(fullSoc-taperFrom))
	}
	if limits.MA > 0 {
		current = min(current, limits.MA)
	}
	return current
}

// linked: the slot's connector reaches the battery's electronics and its cells.
func (s *slot) linked() bool {
	return s.held != nil && s.plugged && !s.held.mute && !s.faults.on(DeadLink)
}

// chargeW is the power that flows into the slot's battery.
func (s *slot) chargeW(c *cabinet) float64 {
	current := s.current(c)
	if current == 0 {
		return 0
	}
	return float64(current) / 1000 * float64(s.held.report().VoltageMV()) / 1000
}

// fanTurns and heats: what the slot's fan and heater really do.
func (s *slot) fanTurns(c *cabinet) bool { return s.fanOn && !s.faults.on(DeadFan) && !c.onBackup() }
func (s *slot) heats(c *cabinet) bool    { return s.heaterOn && !c.onBackup() }

// lossW is what warms the cabinet of all that flows.
func (c *cabinet) lossW() float64 {
	sum := 0.0
	for _, s := range c.slots {
		sum += s.chargeW(c) * (1/chargerEff - 1)
	}
	return sum
}

// powerW is what the cabinet takes from the mains.
func (c *cabinet) powerW() float64 {
	if c.onBackup() && c.sensors.MainsDeciV < chargersStopDeciV {
		return 0
	}
	sum := baseW
	if c.sensors.FanOn {
		sum += cabinetFanW
	}
	for _, s := range c.slots {
		sum += s.chargeW(c) / chargerEff
		if s.fanTurns(c) {
			sum += slotFanW
		}
		if s.heats(c) {
			sum += heaterW
		}
	}
	return sum
}

func (c *cabinet) onBackup() bool {
	return c.sensors.BackupInUse || c.sensors.MainsDeciV < lowMainsDeciV
}

func (c *cabinet) drainBackup(seconds float64) {
	if c.onBackup() {
		c.backup = max(emptyBackupMV, c.backup-seconds*backupMVPerSecond)
	} else {
		c.backup = min(fullBackupMV, max(c.backup, c.backup+seconds*backupMVPerSecond))
	}
}

// MeterReading is what the cabinet's meter measures of its mains.
type MeterReading struct {
	// Live: the mains feed the meter itself. A meter without mains is silent.
	Live      bool
	VoltageMV int
	CurrentMA int
	PowerMW   int // what flows in now
	EnergyJ   float64
}

// ReadMeter is what the cabinet's meter measures now.
func (w *World) ReadMeter(at time.Duration, cabinetID string) (MeterReading, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look(at)
	c := w.cabinets[cabinetID]
	if c == nil {
		return MeterReading{}, fmt.Errorf("read the meter of cabinet %q: %w", cabinetID, ErrNoSuchPlace)
	}
	r := MeterReading{
		Live: c.sensors.MainsDeciV >= meterStopsDeciV, VoltageMV: c.sensors.MainsDeciV * milliVoltsPerDeciV,
		PowerMW: int(c.powerW() * 1000), EnergyJ: c.energy,
	}
	if r.VoltageMV > 0 {
		r.CurrentMA = r.PowerMW * 1000 / r.VoltageMV
	}
	return r, nil
}

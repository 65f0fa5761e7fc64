package world

import (
	"fmt"
	"math"
	"time"
)

// How warm things get, in 0.1 °C, and how soon, in seconds, whatever the speed.
const (
	batteryWarmsBy   = 80.0 // above the slot's air, at full current
	batterySettles   = 900.0
	slotPerWatt      = 1.3 // of loss in the slot, above the air between the slots
	slotPerWattFan   = 0.5
	heaterWarmsBy    = 200.0
	slotSettles      = 300.0
	insidePerWatt    = 0.12 // of all loss, above the air outside
	insidePerWattFan = 0.05
	insideSettles    = 1800.0
	upperPerWatt     = 0.04 // warm air rises
)

// A battery that heats itself up. It does so in real time, whatever the speed.
const (
	// runawayRate is how fast a defective battery heats up while current flows
	// into it, in 0.1 °C/s.
	runawayRate = 20.0
	// noReturn is the temperature above which it goes on without any current.
	noReturn  = 800.0
	burnsRate = 50.0
	burnsTo   = 4000.0
	// ventsFrom is the temperature from which it gives off smoke.
	ventsFrom = 1000.0
	// spreadsFrom is the temperature from which its neighbours heat up, too, by
	// spreadsRate.
	spreadsFrom = 1500.0
	spreadsRate = 10.0
	// smokeRises is how long smoke takes to the cabinet's own detector.
	smokeRises = 3 * time.Second
)

// Weather is the air outside over a day.
type Weather struct {
	MeanDeciC int
	// SwingDeciC is how much warmer than the mean it is at its warmest, at 15:00,
	// and colder at its coldest, at 3:00.
	SwingDeciC int
	// Begins is the time of day at which the world began.
	Begins time.Duration
}

// DefaultWeather is 25 °C all day, beginning at eight in the morning.
func DefaultWeather() Weather { return Weather{MeanDeciC: 250, Begins: 8 * time.Hour} }

const warmestAt = 15 * time.Hour

// SetWeather changes the weather, from now on.
func (w *World) SetWeather(at time.Duration, weather Weather) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	w.weather = weather
}

// Outside is the temperature of the air outside, in 0.1 °C.
func (w *World) Outside(at time.Duration) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look(at)
	return round(w.outside())
}

func (w *World) outside() float64 {
	hours := (w.weather.Begins - warmestAt).Hours() + w.settled.Hours()*w.speed
	return float64(w.weather.MeanDeciC) + float64(w.weather.SwingDeciC)*math.Cos(2*math.Pi*hours/24)
}

func round(deciC float64) int { return int(math.Round(deciC)) }

// towards lets a temperature settle.
func towards(temp *float64, target, seconds, settles float64) {
	*temp += (target - *temp) * (1 - math.Exp(-seconds/settles))
}

// warm lets the air between the slots settle.
func (c *cabinet) warm(outside, seconds float64) {
	perWatt := insidePerWatt
	if c.sensors.FanOn {
		perWatt = insidePerWattFan
	}
	towards(&c.inside, outside+c.lossW()*perWatt, seconds, insideSettles)
}

// warmAir lets the air in the slot settle.
func (s *slot) warmAir(c *cabinet, outside, seconds float64) {
	target := c.inside
	perWatt := slotPerWatt
	if s.fanTurns(c) {
		perWatt = slotPerWattFan
	}
	target += s.chargeW(c) * (1/chargerEff - 1) * perWatt
	if s.heats(c) {
		target += heaterWarmsBy
	}
	if s.doorOpen {
		target = outside
	}
	towards(&s.air, target, seconds, slotSettles)
}

// settle lets the battery's temperature follow its slot's air and its current.
func (b *battery) settle(air float64, current int, seconds float64) {
	if b.heated {
		return
	}
	share := float64(current) / fastMA
	towards(&b.temp, air+batteryWarmsBy*share*share, seconds, batterySettles)
}

// burns: the battery heats itself up and nothing stops it.
func (b *battery) burns() bool { return b.temp >= noReturn }

// burn heats the battery in a slot that heats itself up, or is heated by its
// neighbours, and says whether it is.
func (w *World) burn(c *cabinet, i int, charged bool, seconds float64) bool {
	s := c.slots[i]
	b := s.held
	switch {
	case b.burns():
		b.temp = min(burnsTo, b.temp+burnsRate*seconds)
	case s.faults.on(Runaway) && charged:
		b.temp += runawayRate * seconds
	case c.hotNeighbour(i):
		b.temp += spreadsRate * seconds
	default:
		return false
	}
	if b.temp >= ventsFrom && !b.vents {
		b.vents = true
		if c.vented < 0 {
			c.vented = w.now
		}
		w.note(Event{At: w.now, Kind: SmokeRises, Cabinet: c.id, Slot: i + 1, Serial: b.serial})
	}
	return true
}

// hotNeighbour: the battery in the slot above or below is hot enough to heat
// this one. Slots stand in one column.
func (c *cabinet) hotNeighbour(i int) bool {
	for _, n := range []int{i - 1, i + 1} {
		if n >= 0 && n < len(c.slots) && c.slots[n].held != nil && c.slots[n].held.temp >= spreadsFrom {
			return true
		}
	}
	return false
}

// Climate is what a climate sensor in the cabinet measures.
type Climate struct {
	TempDeciC, HumidityPermille int
}

// ReadClimate is what the climate sensor measures now: the air between the slots.
func (w *World) ReadClimate(at time.Duration, cabinetID string) (Climate, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look(at)
	c := w.cabinets[cabinetID]
	if c == nil {
		return Climate{}, fmt.Errorf("read the climate of cabinet %q: %w", cabinetID, ErrNoSuchPlace)
	}
	return Climate{TempDeciC: round(c.inside), HumidityPermille: c.sensors.HumidityPermille}, nil
}

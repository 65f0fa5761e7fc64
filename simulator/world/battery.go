package world

import (
	"fmt"
	"math"
	"sort"
	"time"
)

// A battery: 17 cells in series, 20 Ah, as couriers' e-bikes carry.
const (
	Cells       = 17
	CapacityMAH = 20_000
	emptyCellMV = 3_200
	cellSpanMV  = 950
	fullSoc     = 1000.0 // 0.1 %
)

// Battery is a battery as it is, or as its own electronics report it.
type Battery struct {
	Serial      string
	SocPermille int // 0.1 %
	SohPercent  int
	Cycles      int
	TempDeciC   int
	// Mute: the battery's own electronics do not answer, though it is plugged.
	Mute bool
	// NoTemp: its electronics answer but do not know its temperature.
	NoTemp bool
}

// SocPercent is the state of charge as people read it.
func (b Battery) SocPercent() int { return b.SocPermille / 10 }

// VoltageMV is the voltage of the whole battery, from its state of charge.
func (b Battery) VoltageMV() int { return Cells * b.CellMV() }

// CellMV is the voltage of one cell.
func (b Battery) CellMV() int { return emptyCellMV + cellSpanMV*b.SocPermille/1000 }

type battery struct {
	serial string
	soc    float64 // 0.1 %
	soh    int
	cycles int
	temp   float64 // 0.1 °C
	heated bool    // temp was set by an act and stays
	vents  bool    // it gives off smoke
	mute   bool
	// Where it is: in a slot, or in somebody's hands, or nowhere yet.
	cabinet string
	slot    int
	person  string
}

func (b *battery) report() Battery {
	return Battery{
		Serial: b.serial, SocPermille: int(b.soc), SohPercent: b.soh, Cycles: b.cycles,
		TempDeciC: int(math.Round(b.temp)), Mute: b.mute,
	}
}

// PutInSlot makes a new battery inside a slot, plugged in, without opening a
// door: how a cabinet is stocked before anything runs.
func (w *World) PutInSlot(cabinetID string, number int, b Battery) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.slot(cabinetID, number)
	if err != nil {
		return fmt.Errorf("stock: %w", err)
	}
	if s.held != nil {
		return fmt.Errorf("stock cabinet %q slot %d: %w", cabinetID, number, ErrSlotFull)
	}
	made, err := w.makeBattery(b)
	if err != nil {
		return err
	}
	made.cabinet, made.slot = cabinetID, number
	s.held, s.plugged = made, true
	s.changes++
	return nil
}

// PutInHands makes a new battery in the hands of a person.
func (w *World) PutInHands(person string, b Battery) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	made, err := w.makeBattery(b)
	if err != nil {
		return err
	}
	made.person = person
	return nil
}

func (w *World) makeBattery(b Battery) (*battery, error) {
	if b.Serial == "" {
		return nil, fmt.Errorf("make a battery: serial is empty, expected up to 24 characters")
	}
	if _, ok := w.batteries[b.Serial]; ok {
		return nil, fmt.Errorf("make battery %q: %w", b.Serial, ErrExists)
	}
	made := &battery{
		serial: b.Serial, soc: float64(b.SocPermille), soh: b.SohPercent, cycles: b.Cycles,
		temp: float64(b.TempDeciC), mute: b.Mute,
	}
	if made.soh == 0 {
		made.soh = 100
	}
	if made.temp == 0 {
		made.temp = w.outside()
	}
	w.batteries[b.Serial] = made
	return made, nil
}

// ChangeBattery changes a battery: heats it, makes it mute, drains it. A changed
// temperature stays until it is changed again; 0 lets it settle.
func (w *World) ChangeBattery(at time.Duration, serial string, change func(*Battery)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	b := w.batteries[serial]
	if b == nil {
		return fmt.Errorf("battery %q: %w", serial, ErrNoSuchBattery)
	}
	was := b.report()
	is := was
	change(&is)
	if is.SocPermille != was.SocPermille {
		b.soc = float64(is.SocPermille)
	}
	if is.TempDeciC != was.TempDeciC {
		b.heated = is.TempDeciC != 0
		if b.heated {
			b.temp = float64(is.TempDeciC)
		}
		w.fire = w.fire || b.burns()
	}
	b.soh, b.cycles = is.SohPercent, is.Cycles
	if is.Mute != was.Mute {
		b.mute = is.Mute
		if b.person == "" && b.cabinet != "" {
			w.cabinets[b.cabinet].slots[b.slot-1].changes++
		}
	}
	return nil
}

// Ride drains the batteries that a person holds by permille of their capacity,
// never below 2 %.
func (w *World) Ride(at time.Duration, person string, permille int) {
	const floor = 20
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	for _, b := range w.batteries {
		if b.person == person && person != "" {
			b.soc = math.Max(math.Min(b.soc, floor), b.soc-float64(permille))
		}
	}
}

// Hands lists the serials that a person holds, sorted.
func (w *World) Hands(person string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var held []string
	for serial, b := range w.batteries {
		if b.person == person && person != "" {
			held = append(held, serial)
		}
	}
	sort.Strings(held)
	return held
}

// Battery tells everything of a battery, and false if there is none.
func (w *World) Battery(at time.Duration, serial string) (Battery, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(at)
	b := w.batteries[serial]
	if b == nil {
		return Battery{}, false
	}
	return b.report(), true
}

// Serial is the code of the n-th battery that a simulation makes: 24 characters
// in the shape that swap operators use (BT, kind, volts, ampere-hours, cycles,
// maker, day, number).
func Serial(n int) string {
	return fmt.Sprintf("BT106002012HBSW25%02d%02d%03d", n/27_000%12+1, n/1000%27+1, n%1000)
}

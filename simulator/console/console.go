// Package console lets a person drive simulated cabinets by typed commands: put
// a battery in, take it out, close a door, break something.
//
// It knows the commands and how to say in words what happened. It gives Do for
// one line and Tell for one event. It needs a world, a clock, and for the
// commands about the plug the port of each cabinet.
package console

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"batteryswap/simulator/world"
)

// Plug is a serial port that can be pulled out and put back.
type Plug interface {
	Vanish() error
	Return() error
}

// Console drives the cabinets of a world.
type Console struct {
	World *world.World
	// Person is who acts: batteries are in this person's hands.
	Person string
	// Now is the time since the world began.
	Now func() time.Duration
	// Cabinet is the one that a command means which names none; "" when each
	// command must name one.
	Cabinet string
	// Plugs are the cabinets' serial ports.
	Plugs map[string]Plug
}

const defaultSocPercent = 20

// Help says what can be typed.
const Help = `insert SLOT [SERIAL [SOC%]]   put a battery in and plug it (a new one if you hold none of that serial)
remove SLOT                   take the battery out
close SLOT                    push the door shut
open SLOT                     pull the door; a locked one with the mechanical key (nobody asked: tampering)
plug SLOT, unplug SLOT        the cable of the battery inside
ride                          ride off and come back: what you hold is flat
button                        press the rider's button
status                        every slot as it really is
fault NAME SLOT [COUNT|DELAY] break something (slot 0: the cabinet's own board; meter, climate), e.g. fault stuck_lock 3
mend NAME SLOT                mend it
faults                        what can be broken
heat SLOT CELSIUS             the battery inside has this temperature, whatever happens; 0: it settles again
soc SLOT PERCENT              the battery inside is charged so far
smoke on|off, water on|off    the cabinet's own detectors
stop on|off                   press the emergency stop, release it
key on|off                    turn the maintenance key
supply PERCENT                the mains are so high
weather MEAN [SWING]          °C outside, and how much more in the afternoon and less at night
vanish, return                pull the serial adapter out, put it back
cabinet ID COMMAND            the same for one cabinet of several`

// ErrUsage is wrapped by every refusal of a line that is no command.
var ErrUsage = errors.New("no such command")

// Do runs one typed line and says what came of it.
func (c *Console) Do(line string) (string, error) {
	words := strings.Fields(line)
	cabinetID := c.Cabinet
	if len(words) >= 2 && words[0] == "cabinet" {
		cabinetID, words = words[1], words[2:]
	}
	if len(words) == 0 {
		return "", nil
	}
	switch words[0] {
	case "help", "?":
		return Help, nil
	case "faults":
		return faultNames(), nil
	}
	if !slices.Contains(c.World.Cabinets(), cabinetID) {
		return "", fmt.Errorf("%w: name a cabinet first: cabinet ID %s …; there are %s",
			ErrUsage, words[0], strings.Join(c.World.Cabinets(), ", "))
	}
	switch words[0] {
	case "status":
		return c.Status(cabinetID), nil
	case "ride":
		return c.ride()
	case "button":
		return "pressed", c.World.PressButton(c.Now(), c.Person, cabinetID)
	case "vanish", "return":
		return c.plug(cabinetID, words[0])
	case "fault", "mend":
		return c.fault(cabinetID, words)
	case "smoke", "water", "stop", "key":
		return "", c.input(cabinetID, words)
	case "supply":
		return "", c.supply(cabinetID, words)
	case "weather":
		return "", c.weather(words)
	}
	return c.act(cabinetID, words)
}

func faultNames() string {
	var names []string
	for _, f := range world.Faults() {
		names = append(names, string(f))
	}
	return strings.Join(names, " ")
}

// act is the commands about one slot.
func (c *Console) act(cabinetID string, words []string) (string, error) {
	acts := map[string]func(slot int, rest []string) (string, error){
		"insert": func(slot int, rest []string) (string, error) { return c.insert(cabinetID, slot, rest) },
		"remove": func(slot int, _ []string) (string, error) {
			serial, err := c.World.Take(c.Now(), c.Person, cabinetID, slot)
			return "you hold " + serial, err
		},
		"close": func(slot int, _ []string) (string, error) {
			return "", c.World.CloseDoor(c.Now(), c.Person, cabinetID, slot)
		},
		"open": func(slot int, _ []string) (string, error) { return c.open(cabinetID, slot) },
		"plug": func(slot int, _ []string) (string, error) {
			return "", c.World.Plug(c.Now(), c.Person, cabinetID, slot, true)
		},
		"heat": func(slot int, rest []string) (string, error) { return "", c.heat(cabinetID, slot, rest) },
		"soc":  func(slot int, rest []string) (string, error) { return "", c.soc(cabinetID, slot, rest) },
		"unplug": func(slot int, _ []string) (string, error) {
			return "", c.World.Plug(c.Now(), c.Person, cabinetID, slot, false)
		},
	}
	do, ok := acts[words[0]]
	if !ok {
		return "", fmt.Errorf("%w: %q; help lists them", ErrUsage, words[0])
	}
	if len(words) < 2 {
		return "", fmt.Errorf("%w: %s of which slot? %s SLOT", ErrUsage, words[0], words[0])
	}
	slot, err := strconv.Atoi(words[1])
	if err != nil {
		return "", fmt.Errorf("%w: slot %q is no number", ErrUsage, words[1])
	}
	return do(slot, words[2:])
}

func (c *Console) open(cabinetID string, slot int) (string, error) {
	err := c.World.PullDoor(c.Now(), c.Person, cabinetID, slot)
	if !errors.Is(err, world.ErrBoltLocked) {
		return "", err
	}
	return "the bolt is locked: opened with the mechanical key",
		c.World.ForceDoor(c.Now(), c.Person, cabinetID, slot)
}

// insert puts in a battery that the person holds, or a new one.
func (c *Console) insert(cabinetID string, slot int, rest []string) (string, error) {
	held := c.World.Hands(c.Person)
	var serial string
	switch {
	case len(rest) > 0:
		serial = rest[0]
	case len(held) > 0:
		serial = held[0]
	default:
		return "", fmt.Errorf("%w: you hold no battery: insert %d SERIAL", ErrUsage, slot)
	}
	soc := defaultSocPercent
	if len(rest) > 1 {
		var err error
		if soc, err = strconv.Atoi(strings.TrimSuffix(rest[1], "%")); err != nil || soc < 0 || soc > 100 {
			return "", fmt.Errorf("%w: soc %q, expected 0 to 100", ErrUsage, rest[1])
		}
	}
	if _, exists := c.World.Battery(c.Now(), serial); !exists {
		if err := c.World.PutInHands(c.Person, world.Battery{Serial: serial, SocPermille: 10 * soc}); err != nil {
			return "", err
		}
	} else if len(rest) > 1 {
		if err := c.World.ChangeBattery(c.Now(), serial, func(b *world.Battery) { b.SocPermille = 10 * soc }); err != nil {
			return "", err
		}
	}
	return serial + " is in and plugged", c.World.Insert(c.Now(), c.Person, cabinetID, slot, serial, true)
}

// ride flattens what the person holds: who comes back with a full battery is given
// it back, for there is no better one.
func (c *Console) ride() (string, error) {
	held := c.World.Hands(c.Person)
	if len(held) == 0 {
		return "", fmt.Errorf("%w: you hold no battery to ride with", ErrUsage)
	}
	for _, serial := range held {
		if err := c.World.ChangeBattery(c.Now(), serial, func(b *world.Battery) { b.SocPermille = 10 * defaultSocPercent }); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s at %d %%", strings.Join(held, ", "), defaultSocPercent), nil
}

func (c *Console) plug(cabinetID, what string) (string, error) {
	p, ok := c.Plugs[cabinetID]
	if !ok {
		return "", fmt.Errorf("%w: cabinet %s has no plug here", ErrUsage, cabinetID)
	}
	if what == "vanish" {
		return "the adapter is pulled out", p.Vanish()
	}
	return "the adapter is back", p.Return()
}

func (c *Console) fault(cabinetID string, words []string) (string, error) {
	if len(words) < 3 {
		return "", fmt.Errorf("%w: %s NAME SLOT; faults lists the names", ErrUsage, words[0])
	}
	slot, err := device(words[2])
	if err != nil {
		return "", err
	}
	name := world.Fault(words[1])
	if words[0] == "mend" {
		return "mended", c.World.ClearFault(c.Now(), cabinetID, slot, name)
	}
	var how world.Setting
	for _, w := range words[3:] {
		if how.Count, err = strconv.Atoi(w); err == nil {
			continue
		}
		if how.Delay, err = time.ParseDuration(w); err != nil {
			return "", fmt.Errorf("%w: %q is neither a count nor a delay such as 5s", ErrUsage, w)
		}
	}
	return "broken", c.World.SetFault(c.Now(), cabinetID, slot, name, how)
}

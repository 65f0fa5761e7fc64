package cabinet

import (
	"fmt"
	"strconv"
	"time"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/firmware-agent/internal/swap"
	"batteryswap/protocol"
)

const (
	// telemetryEvery is the heartbeat.
	telemetryEvery = 20 * time.Second
	// telemetryLeast is the least time between two messages on change.
	telemetryLeast = time.Second
)

type telemetry struct {
	sent   bool
	looked time.Duration
	at     time.Duration
	was    string // what mattered of the last one
}

// tell sends telemetry every 20 s, and sooner when something changed.
func (c *Core) tell(in swap.Input) {
	since := in.Now - c.telemetry.at
	if c.telemetry.sent && (since < telemetryLeast || in.Now-c.telemetry.looked < pace) {
		return
	}
	c.telemetry.looked = in.Now
	v := c.view
	inv := v.inventory()
	is := gist(v, inv)
	if c.telemetry.sent && since < telemetryEvery && is == c.telemetry.was {
		return
	}
	c.telemetry = telemetry{sent: true, looked: in.Now, at: in.Now, was: is}
	t := protocol.Telemetry{
		BootID: v.durable.BootID, BootSeq: v.durable.BootSeq, MonoMS: uint64(in.Now.Milliseconds()),
		Software: c.o.Software, BacklogRecords: c.o.Backlog(), SwapID: c.swapID(), OutOfService: v.out, Slots: inv,
	}
	for _, a := range v.durable.Alarms {
		if len(t.Alarms) < protocol.MaxSlots {
			t.Alarms = append(t.Alarms, alarmName(a))
		}
	}
	if c.boardFresh() && c.board.UpperTemp.Known {
		upper := float64(c.board.UpperTemp.N) / 10
		t.UpperC = &upper
	}
	if energy, known := c.o.EnergyJ(); known {
		t.EnergyJ = &energy
	}
	c.add(Send{t})
}

func alarmName(a swap.Raised) string {
	if a.Slot == 0 {
		return string(a.Kind)
	}
	return fmt.Sprintf("%s:%d", a.Kind, a.Slot)
}

// gist is what of telemetry is worth a message of its own when it changes: not
// ages, voltages and temperatures.
func gist(v view, inv protocol.Inventory) string {
	b := make([]byte, 0, 64*len(inv))
	for _, s := range inv {
		s = slot.Brief(s)
		soc := -1
		if s.Soc != nil {
			soc = *s.Soc
		}
		b = append(append(b, s.Door...), '|')
		b = append(strconv.AppendBool(b, s.Closed), '|')
		b = append(append(b, s.Presence...), '|')
		b = append(append(b, s.BatterySerial...), '|')
		b = append(strconv.AppendInt(b, int64(soc), 10), '|')
		b = append(strconv.AppendBool(b, s.Charged), '|')
		b = append(strconv.AppendBool(b, s.Out), ';')
	}
	if v.durable.Open != nil {
		b = append(b, v.durable.Open.SwapID...)
	}
	b = append(append(append(b, '|'), v.out...), '|')
	for _, a := range v.durable.Alarms {
		b = append(append(b, alarmName(a)...), ';')
	}
	return string(b)
}

package slot

import (
	"time"

	"batteryswap/protocol"
)

// Limits are the numbers of the evidence rules.
type Limits struct {
	// Stable is how long a door must be shut and locked to be closed.
	Stable time.Duration
	// SensorStale is the age at which door, bolt and presence are no longer
	// known: three polls.
	SensorStale time.Duration
	// SocStale is the age at which soc, voltage and temperature are no longer
	// known.
	SocStale time.Duration
	// ReleaseSoc is the lowest soc of a battery that is given out, in percent.
	ReleaseSoc int
}

// DefaultLimits are those of the design: two seconds, three polls of one
// second, sixty seconds, 90 %.
func DefaultLimits() Limits {
	return Limits{Stable: 2 * time.Second, SensorStale: 3 * time.Second, SocStale: 60 * time.Second, ReleaseSoc: 90}
}

// frozenAfter is how long a board's alive counter, +1 each second, may stand
// still before its answers are taken for copies of old ones.
const frozenAfter = 3 * time.Second

// socAgreement is how far two successive readings of soc may lie apart, in 0.1 %:
// a battery's electronics that wake up say 0 or 100 % once.
const socAgreement = 50

// Evidence is what has been read of one slot: enough of the past to say what
// may be believed now. It is a value: Observe returns the next one. The zero
// value knows nothing.
type Evidence struct {
	slot   int
	limits Limits

	// last is the newest reading, before the one that preceded it in an
	// unbroken row; a gap, a frozen board, or an older reading breaks the row.
	last, before Reading
	row          int

	closing      bool // every reading since closingSince said shut and locked
	closingSince time.Duration

	counted bool // aliveAt is set: when the counter was seen to stand at a new value
	aliveAt time.Duration
	frozen  bool

	odd      bool // every reading since oddSince said open and locked at once
	oddSince time.Duration

	battery   protocol.Battery // of the serial in it, as of batteryAt
	batteryOK bool
	batteryAt time.Duration
	socSeen   Value // of the reading before, to agree with
}

// New is the evidence of a slot of which nothing has been read yet.
func New(slotNumber int, limits Limits) Evidence {
	return Evidence{slot: slotNumber, limits: limits}
}

// Observe adds a reading. One of another slot, or one that is not newer than
// the newest, is no evidence and changes nothing.
func (e Evidence) Observe(r Reading) Evidence {
	if r.Slot != e.slot || (e.row > 0 && r.At <= e.last.At) {
		return e
	}
	if e.row > 0 && r.At-e.last.At > e.limits.SensorStale {
		e = e.broken()
	}
	e = e.observeAlive(r)
	if e.row > 0 {
		e.before = e.last
	}
	e.last = r
	e.row = min(e.row+1, 2)
	e = e.observeDoor(r)
	return e.observeBattery(r)
}

// broken forgets what needs an unbroken row of readings.
func (e Evidence) broken() Evidence {
	e.row, e.closing, e.odd, e.socSeen = 0, false, false, Value{}
	return e
}

// observeAlive notices a board that answers but whose counter stands still: its
// values are copies of old ones.
func (e Evidence) observeAlive(r Reading) Evidence {
	switch {
	case !e.counted, r.Alive != e.last.Alive:
		if e.frozen {
			e = e.broken()
		}
		e.counted, e.aliveAt, e.frozen = true, r.At, false
	case r.At-e.aliveAt > frozenAfter:
		e.frozen = true
	}
	return e
}

func (e Evidence) observeDoor(r Reading) Evidence {
	if isClosed(r) {
		if !e.closing {
			e.closing, e.closingSince = true, r.At
		}
	} else {
		e.closing = false
	}
	if r.DoorOpen == Yes && r.BoltFitted && r.Bolt == Yes {
		if !e.odd {
			e.odd, e.oddSince = true, r.At
		}
	} else {
		e.odd = false
	}
	return e
}

// isClosed: the door is shut, the bolt is locked where there is one to ask, and
// nothing drives the coil.
func isClosed(r Reading) bool {
	return r.DoorOpen == No && (!r.BoltFitted || r.Bolt == Yes) && r.CoilActive != Yes
}

// observeBattery keeps the battery's own numbers, of two readings that agree. A
// reading of zeros is an absence.
func (e Evidence) observeBattery(r Reading) Evidence {
	serial := protocol.BatterySerial(r.Serial)
	if contentOf(r) != Identified {
		e.batteryOK, e.socSeen = false, Value{}
		return e
	}
	if serial != e.battery.BatterySerial {
		e.batteryOK, e.socSeen = false, Value{}
	}
	seen := e.socSeen
	e.socSeen = Value{}
	if !r.SocPermille.Known || !r.VoltageMV.Known || r.VoltageMV.N == 0 {
		return e
	}
	e.battery.BatterySerial = serial
	e.socSeen = r.SocPermille
	if !seen.Known || abs(seen.N-r.SocPermille.N) > socAgreement {
		return e
	}
	soc, mv := int(min(max(r.SocPermille.N, 0), 1000))/10, int(r.VoltageMV.N)
	e.battery = protocol.Battery{BatterySerial: serial, Soc: &soc, VoltageMV: &mv}
	if r.CellMax.Known {
		c := float64(r.CellMax.N) / 10
		e.battery.CellMaxC = &c
	}
	e.batteryOK, e.batteryAt = true, r.At
	return e
}

func abs(n int32) int32 {
	if n < 0 {
		return -n
	}
	return n
}

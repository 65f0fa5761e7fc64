package world

import "time"

// Steps in which time passes.
const (
	// maxStep is the longest step of physics: soc moves by 0.14 % in it.
	maxStep = 10 * time.Second
	// fireStep is the longest step of time while something heats itself up.
	fireStep = 100 * time.Millisecond
	// shortestStep bounds how often physics is reckoned, however fast it runs or
	// often somebody looks.
	shortestStep = 10 * time.Millisecond
)

// advance lets time pass before an act.
func (w *World) advance(at time.Duration) {
	w.elapse(at, 0)
	w.acted = true
}

// look lets time pass before a look. Whoever looks very often sees
// temperatures of a moment ago.
func (w *World) look(at time.Duration) { w.elapse(at, shortestStep) }

// elapse lets everything happen that time alone brings: springs win against
// doors that stuck, batteries charge, temperatures settle. Acts may arrive a
// little out of order from several goroutines; time never runs back.
func (w *World) elapse(at, quantum time.Duration) {
	w.noteFlows()
	if at <= w.now {
		return
	}
	for _, id := range w.order {
		c := w.cabinets[id]
		for i, s := range c.slots {
			if s.opensAt >= 0 && s.opensAt <= at {
				w.openDoor(s.opensAt, c.id, i+1, s, ByPulse, "")
			}
		}
	}
	for w.settled < at && at-w.settled >= quantum {
		step := max(time.Duration(float64(maxStep)/w.speed), shortestStep)
		if w.fire {
			step = min(step, fireStep)
		}
		step = min(step, at-w.settled)
		w.settled += step
		w.now = w.settled
		w.pass(step)
		w.acted = true
		w.noteFlows()
	}
	w.now = at
}

// pass lets one step of time pass for everything that is warm or flows.
func (w *World) pass(step time.Duration) {
	seconds := step.Seconds() * w.speed
	outside := w.outside()
	w.fire = false
	for _, id := range w.order {
		c := w.cabinets[id]
		c.energy += c.powerW() * seconds
		c.drainBackup(seconds)
		c.warm(outside, step.Seconds())
		for i, s := range c.slots {
			current := s.current(c)
			s.warmAir(c, outside, step.Seconds())
			if s.held == nil {
				continue
			}
			s.held.soc = min(fullSoc, s.held.soc+seconds/3600*float64(current)/CapacityMAH*fullSoc)
			if w.burn(c, i, current > 0, step.Seconds()) {
				w.fire = true
			} else {
				s.held.settle(s.air, current, step.Seconds())
			}
		}
	}
}

// noteFlows adds to the log which currents have begun and ended to flow. What
// makes them do so has happened at the time that is now.
func (w *World) noteFlows() {
	if !w.acted {
		return
	}
	w.acted = false
	for _, id := range w.order {
		c := w.cabinets[id]
		if closed := c.sensors.ContactorClosed; closed != c.closed {
			c.closed = closed
			kind := ContactorOpens
			if closed {
				kind = ContactorCloses
			}
			w.note(Event{At: w.now, Kind: kind, Cabinet: c.id})
		}
		for i, s := range c.slots {
			flows := s.current(c) > 0
			if flows == s.flows {
				continue
			}
			s.flows = flows
			kind := CurrentStops
			if flows {
				kind = CurrentFlows
			}
			w.note(Event{At: w.now, Kind: kind, Cabinet: c.id, Slot: i + 1, Serial: s.serial()})
		}
	}
}

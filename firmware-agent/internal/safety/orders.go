package safety

import (
	"context"
	"errors"
	"time"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/slot"
)

// job is one transaction.
type job func(ctx context.Context)

// next is the most urgent thing to do, nil when there is nothing.
func (l *Loop) next() job {
	now := l.o.Now()
	if !l.verdict.Contactor && !l.guard.ContactorOff() && now >= l.contactor.next {
		return l.openContactor
	}
	every := cabinetEvery
	if l.guard.CabinetSilent() {
		every = cabinetSeldom
	}
	if now-max(l.cabinet, l.guard.CabinetAt()) >= every {
		return l.lookCabinet
	}
	for n := 1; n <= len(l.slots); n++ {
		if !l.verdict.Power[n-1] && !l.guard.Off(n) && now >= l.slots[n-1].off.next {
			return l.switchSlot(n, false)
		}
	}
	if j := l.look(now); j != nil {
		return j
	}
	if j := l.airs(now); j != nil {
		return j
	}
	if _, told := l.guard.Contactor(); l.verdict.Contactor && !told && now >= l.closing.next {
		return l.closeContactor
	}
	return l.plan(now)
}

// look reads out of turn what decides something.
func (l *Loop) look(now time.Duration) job {
	for _, n := range l.guard.Urgent(now) {
		if now-l.slots[n-1].looked < lookAgain {
			continue
		}
		return func(ctx context.Context) {
			l.slots[n-1].looked = l.o.Now()
			r, err := l.o.Board.Look(ctx, n)
			l.take(driver.Report{Slot: n, Reading: r, Err: err})
		}
	}
	return nil
}

func (l *Loop) lookCabinet(ctx context.Context) {
	l.cabinet = l.o.Now()
	r, err := l.o.Board.LookCabinet(ctx)
	report := driver.Report{Cabinet: r, At: l.o.Now(), Err: err}
	if l.o.Seen != nil {
		l.o.Seen(report)
	}
	l.take(report)
}

func (l *Loop) openContactor(ctx context.Context) {
	err := l.o.Board.Contactor(ctx, false)
	now := l.o.Now()
	l.contactor.failed(now, again) // also when it was taken: the feedback decides
	if err != nil {
		l.o.Log.Error("the main contactor is not opened", "err", err)
		return
	}
	l.guard.CommandedContactor(false, now)
	l.closing = pace{}
}

func (l *Loop) closeContactor(ctx context.Context) {
	// What was so a moment ago may have changed: the last look before power.
	l.lookCabinet(ctx)
	if l.judge(); !l.verdict.Contactor {
		return
	}
	err := l.o.Board.Contactor(ctx, true)
	now := l.o.Now()
	l.contactor = pace{}
	if err != nil {
		l.closing.failed(now, again)
		l.guard.UnsureContactor(now)
		l.o.Log.Warn("the main contactor did not answer that it is to close", "err", err)
		return
	}
	l.guard.CommandedContactor(true, now)
}

// switchSlot switches a slot's charger.
func (l *Loop) switchSlot(n int, on bool) job {
	return func(ctx context.Context) {
		o := &l.slots[n-1]
		err := l.o.Board.Charge(ctx, n, on)
		now := l.o.Now()
		switch {
		case on && errors.Is(err, driver.ErrBusy):
			o.on.failed(now, onAgain)
		case on:
			// It may be on all the same.
			o.on.failed(now, onAgain)
			o.off = pace{}
			l.guard.Commanded(n, true, now)
		case err == nil:
			o.off.failed(now, again)
			l.guard.Commanded(n, false, now)
		default:
			o.off.failed(now, again)
			l.o.Log.Warn("a charger is not switched off", "slot", n, "err", err)
		}
	}
}

// plan does what the plan wants, as far as the verdict allows.
func (l *Loop) plan(now time.Duration) job {
	wanted := l.wishes(now)
	for n := 1; n <= len(l.slots); n++ {
		if !wanted[n-1].On && !l.guard.Off(n) && now >= l.slots[n-1].off.next {
			return l.switchSlot(n, false)
		}
	}
	closed, told := l.guard.Contactor()
	if !l.verdict.Contactor || !told || closed == slot.No {
		return nil
	}
	for n := 1; n <= len(l.slots); n++ {
		o := &l.slots[n-1]
		w := wanted[n-1]
		limited := o.limited && o.limit == w.LimitMA
		switch {
		case !w.On || !l.verdict.Power[n-1]:
		case limited && l.guard.On(n):
			o.on = pace{} // it went on: the next time is a first time
		case now < o.on.next:
		case !limited:
			return l.limitSlot(n, w.LimitMA)
		default:
			return l.switchSlot(n, true)
		}
	}
	return nil
}

// airs tells a slot's fan and heater what the plan wants. While the cabinet is halted
// neither runs: a fan feeds a fire. A slot that has no power is not warmed.
func (l *Loop) airs(now time.Duration) job {
	wanted := l.wishes(now)
	for n := 1; n <= len(l.slots); n++ {
		o, fan, heater := &l.slots[n-1], wanted[n-1].Fan, wanted[n-1].Heater
		switch {
		case l.verdict.Halt:
			fan, heater = slot.AirOff, slot.AirOff
		case !l.verdict.Power[n-1] && heater == slot.AirOn:
			heater = slot.AirOff
		}
		same := o.airTold && o.fan == fan && o.heater == heater
		if same && (now-o.airAt < airAgain || now < l.repeat) || now < o.air.next || l.guard.Silent(n) {
			continue
		}
		return l.tellAir(n, fan, heater)
	}
	return nil
}

// tellAir tells a slot's fan and heater.
func (l *Loop) tellAir(n int, fan, heater slot.Air) job {
	return func(ctx context.Context) {
		o := &l.slots[n-1]
		err := l.o.Board.Air(ctx, n, fan, heater)
		now := l.o.Now()
		l.repeat = now + airPause
		if err != nil {
			o.air.failed(now, onAgain)
			l.o.Log.Debug("fan and heater", "slot", n, "err", err)
			return
		}
		o.air, o.airTold, o.airAt, o.fan, o.heater = pace{}, true, now, fan, heater
	}
}

// limitSlot sets a slot's highest current, before its charger is switched on.
func (l *Loop) limitSlot(n, milliamps int) job {
	return func(ctx context.Context) {
		o := &l.slots[n-1]
		if err := l.o.Board.Limit(ctx, n, milliamps); err != nil {
			o.on.failed(l.o.Now(), onAgain)
			l.o.Log.Debug("charge current limit", "slot", n, "err", err)
			return
		}
		o.limit, o.limited = milliamps, true
	}
}

// wishes is what the plan wants now; old wishes are none.
func (l *Loop) wishes(now time.Duration) []charging.Order {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]charging.Order, len(l.wanted))
	if now-l.wantedAt <= wantLasts {
		copy(out, l.wanted)
	}
	return out
}

package rider

import (
	"context"
	"fmt"
	"slices"

	"batteryswap/simulator/world"
)

// The steps that ask something of a rider's hands.
const (
	stepDeposit  = "deposit"
	stepReopen   = "reopen"
	stepDispense = "dispense"
	stepReturn   = "return"
)

// act does what the page and the doors ask for now, if anything. Without a page
// the rider looks at the doors, and who else is there: while this rider's swap
// runs, the cabinet opens none for anybody else, but it may have ended.
func (r *Rider) act(ctx context.Context, s Swap, unknown bool, plan *Plan) error {
	cabinet := string(s.CabinetID)
	view := r.World.View(r.Now(), cabinet)
	var door world.SlotView
	switch {
	case s.Slot >= 1 && s.Slot <= len(view) && view[s.Slot-1].DoorOpen:
		door = view[s.Slot-1]
	case unknown:
		i := slices.IndexFunc(view, func(v world.SlotView) bool { return v.DoorOpen })
		if i < 0 || r.others(cabinet) {
			return nil
		}
		door = view[i]
		s.Step = r.guess(door)
	default:
		return nil
	}
	switch s.Step {
	case stepDeposit, stepReopen:
		return r.put(ctx, cabinet, door, plan)
	case stepDispense, stepReturn:
		return r.take(ctx, cabinet, door, plan)
	}
	return nil
}

// others reports whether somebody else was granted a swap at a cabinet after this
// rider asked, or may have been.
func (r *Rider) others(cabinet string) bool {
	there := map[string]bool{}
	for _, e := range r.World.Events(r.asked) {
		if e.Cabinet != cabinet || e.Person == r.ID {
			continue
		}
		switch e.Kind {
		case world.Scanned:
			there[e.Person] = true
		case world.Answered:
			there[e.Person] = e.Cause == answer(nil) || e.Cause == noAnswer
		}
	}
	for _, is := range there {
		if is {
			return true
		}
	}
	return false
}

// guess is what an open door wants, to a rider whose page says nothing.
func (r *Rider) guess(door world.SlotView) string {
	switch {
	case door.Serial == "" && r.deposited == "":
		return stepDeposit
	case door.Serial == "":
		return stepDispense // taken already: close it
	case door.Serial == r.deposited:
		return stepReopen
	}
	return stepDispense
}

// put is the hands at the deposit door.
func (r *Rider) put(ctx context.Context, cabinet string, door world.SlotView, plan *Plan) error {
	wait(ctx, plan.Hand)
	deed := plan.Deed
	serial := r.own()
	if deed == Foreign && r.Foreign != "" {
		serial = r.Foreign
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case deed == CloseEmpty && door.Serial == "":
		plan.Deed = Plain
	case door.Serial != "":
		// In already: the door opened again for the cable.
		if err := r.World.Plug(r.Now(), r.ID, cabinet, door.Slot, true); err != nil {
			return fmt.Errorf("plug: %w", err)
		}
	case serial != "":
		if err := r.World.Insert(r.Now(), r.ID, cabinet, door.Slot, serial, deed != Unplugged); err != nil {
			return fmt.Errorf("deposit: %w", err)
		}
		r.deposited = serial
		if deed == LeaveDeposit {
			wait(ctx, plan.Away)
		}
		if deed == LeaveDeposit || deed == Unplugged || deed == Foreign {
			plan.Deed = Plain
		}
	}
	return r.close(ctx, cabinet, door.Slot, plan)
}

// take is the hands at the door of a charged battery, or of the own one that
// the cabinet gives back.
func (r *Rider) take(ctx context.Context, cabinet string, door world.SlotView, plan *Plan) error {
	wait(ctx, plan.Hand)
	if ctx.Err() != nil {
		return nil
	}
	if door.Serial != "" {
		serial, err := r.World.Take(r.Now(), r.ID, cabinet, door.Slot)
		if err != nil {
			return fmt.Errorf("take: %w", err)
		}
		if serial == r.deposited {
			r.deposited = ""
		}
		switch plan.Deed {
		case PutBack:
			plan.Deed = Plain
			wait(ctx, plan.Hand)
			if err := r.World.Insert(r.Now(), r.ID, cabinet, door.Slot, serial, true); err != nil {
				return fmt.Errorf("put back: %w", err)
			}
		case LeaveTake:
			plan.Deed = Plain
			wait(ctx, plan.Away)
		}
	}
	return r.close(ctx, cabinet, door.Slot, plan)
}

func (r *Rider) close(ctx context.Context, cabinet string, slot int, plan *Plan) error {
	wait(ctx, plan.Hand)
	if err := r.World.CloseDoor(r.Now(), r.ID, cabinet, slot); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

package web

import (
	"context"
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

const (
	// usualSwap is how long a swap takes a rider who does it often.
	usualSwap = 60 * time.Second
	// waitStep rounds what is only guessed.
	waitStep = 10 * time.Second
)

// wait is what a rider at a busy cabinet waits for, and how long; one of its
// fields is not 0.
type wait struct {
	Door    int // the slot whose door somebody left open
	Seconds int // that the swap of another rider will still take, if it is like most
	Minutes int // that it has taken already, when it is not
}

// waitAt says what is waited for at a cabinet; nil when nothing is known. An
// open door of the inventory is told only when no swap explains it.
func waitAt(c swap.CabinetView, now time.Time) *wait {
	if c.SwapOpen {
		passed := max(now.Sub(c.SwapSince), 0)
		if passed >= 2*usualSwap {
			return &wait{Minutes: int(passed.Minutes())}
		}
		left := max(usualSwap-passed, 0) + waitStep - 1
		return &wait{Seconds: int(max(left.Truncate(waitStep), waitStep).Seconds())}
	}
	for _, s := range c.Inventory {
		if s.Door == protocol.DoorOpen {
			return &wait{Door: s.Slot}
		}
	}
	return nil
}

// doorPrompt is after how long an open door is asked for (protocol: prompt 45 s).
const doorPrompt = 45 * time.Second

// doorOpen reports whether the rider of a swap is to be reminded of its door.
func doorOpen(v swap.View, now time.Time) bool {
	return v.State != swap.StateClosed && v.Reachable && v.Slot != 0 && v.Door == protocol.DoorOpen && now.Sub(v.UpdatedAt) >= doorPrompt
}

// stage is one of the parts of a swap, in the row on top of its page.
type stage struct {
	Text      string // key
	Now, Done bool
}

// stages are the parts of a kind of swap, and where it stands.
func stages(v swap.View) []stage {
	put, take, done := stage{Text: "way.put"}, stage{Text: "way.take"}, stage{Text: "way.done"}
	var way []stage
	switch v.Kind {
	case protocol.KindOwed, protocol.KindIssue:
		way = []stage{take, done}
	case protocol.KindHandBack:
		way = []stage{put, done}
	default:
		way = []stage{put, take, done}
	}
	now := 0
	switch {
	case v.State == swap.StateClosed && !good(v.Outcome):
		return nil // how far it came is what its text says
	case v.State == swap.StateClosed:
		now = len(way) - 1
	case v.Step == swap.StepDispense, v.Step == swap.StepReturn:
		now = len(way) - 2
	}
	for i := range way {
		way[i].Now, way[i].Done = i == now, i < now || v.State == swap.StateClosed
	}
	return way
}

// good reports whether a swap ended as its rider wanted.
func good(o protocol.Outcome) bool {
	return o.Counts() || o == protocol.OutcomeIssued || o == protocol.OutcomeHandedBack
}

// await puts on a page what a rider at a busy cabinet waits for.
func (w *Web) await(ctx context.Context, p *page) {
	if p.Cabinet.CabinetID == "" {
		c, err := w.o.Books.Cabinet(ctx, p.CabinetID)
		if err != nil {
			return // the page says so much without
		}
		p.Cabinet = c
	}
	p.Wait = waitAt(p.Cabinet, time.Now())
}

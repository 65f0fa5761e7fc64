package fleet

import (
	"context"
	"time"

	"batteryswap/protocol"
)

const (
	// askEvery is how often a cabinet is asked that has not said hello since a
	// recovery began: two of its MinHelloInterval.
	askEvery = 2 * protocol.MinHelloInterval
	// askTogether and askPause bound how fast a fleet is asked, so that its hellos
	// do not come all at once: 1,000 a second.
	askTogether = 100
	askPause    = 100 * time.Millisecond
)

// askForHellos asks cabinets for a hello: all of them when this replica starts or
// has its database back, for it may be an older one; and in a recovery those that
// have not told yet, again and again.
func (f *Fleet) askForHellos(ctx context.Context) {
	o := outage{log: f.log, what: "ask cabinets for a hello"}
	var asked time.Time
	for ctx.Err() == nil {
		if f.databaseUp.Load() && f.link.CanPublish() && (f.askAll.Load() || time.Since(asked) >= askEvery) {
			asked = time.Now()
			o.note(f.askOnce(ctx, f.askAll.Swap(false)))
		}
		wait(ctx, pingEvery, nil)
	}
}

func (f *Fleet) askOnce(ctx context.Context, all bool) error {
	within, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ids, challenge, err := f.store.ToAsk(within, all)
	if err != nil {
		f.askAll.CompareAndSwap(false, all)
		return err
	}
	for i, id := range ids {
		if !f.link.Publish(id, protocol.HelloRequest{Challenge: challenge}) {
			f.askAll.CompareAndSwap(false, all)
			return nil // the link counts it
		}
		if i%askTogether == askTogether-1 {
			wait(ctx, askPause, nil)
		}
	}
	return nil
}

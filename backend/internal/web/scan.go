package web

import (
	"context"
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

const (
	// grantWait is how long a scan waits for its cabinet (protocol: request →
	// prepared 5 s).
	grantWait = 5 * time.Second
	// reread is the safety net behind the notifications.
	reread = 500 * time.Millisecond
)

// ScanGranted is the result of a scan that became a swap, for Options.Scanned.
const ScanGranted = "granted"

// scan asks for a swap and waits until it is granted or refused.
func (w *Web) scan(ctx context.Context, s swap.Scan) (swap.View, *swap.Refusal, error) {
	began := time.Now()
	v, refusal, err := w.o.Books.Scan(ctx, s)
	if err == nil && refusal == nil {
		v, refusal, err = w.awaitGrant(ctx, v)
	}
	result := ScanGranted
	switch {
	case err != nil:
		result = "error"
	case refusal != nil:
		result = string(refusal.Reason)
	}
	w.o.Scanned(result, time.Since(began))
	w.o.Log.Info("scan", "cabinet_id", s.CabinetID, "rider_id", s.RiderID, "swap_id", v.SwapID, "event", result)
	return v, refusal, err
}

func (w *Web) awaitGrant(ctx context.Context, v swap.View) (swap.View, *swap.Refusal, error) {
	changed, stop := w.o.Books.Watch(v.SwapID)
	defer stop()
	deadline := time.NewTimer(grantWait)
	defer deadline.Stop()
	tick := time.NewTicker(reread)
	defer tick.Stop()
	for {
		now, err := w.o.Books.Swap(ctx, v.RiderID, v.SwapID)
		switch {
		case err != nil: // perhaps the next read succeeds
			w.o.Log.Warn("read a requested swap", "swap_id", v.SwapID, "err", err)
		case now.State == swap.StateClosed && now.Outcome == protocol.OutcomeNotStarted:
			return now, &swap.Refusal{Reason: orOffline(now.Reason)}, nil
		case now.State != swap.StateRequested:
			return now, nil, nil
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-deadline.C:
			return v, &swap.Refusal{Reason: protocol.ReasonCabinetOffline}, nil
		case <-ctx.Done():
			return v, nil, ctx.Err()
		}
	}
}

func orOffline(r protocol.Reason) protocol.Reason {
	if r == "" {
		return protocol.ReasonCabinetOffline
	}
	return r
}

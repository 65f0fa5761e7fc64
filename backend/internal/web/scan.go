package web

import (
	"context"
	"strings"
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
	// withdrawTimeout is what withdrawing a request may take, however it ends.
	withdrawTimeout = 2 * time.Second
)

// What a scan came to, for Options.Scanned, when it is not a reason.
const (
	ScanGranted = "granted" // it became a swap
	ScanError   = "error"
)

// scan asks for a swap and waits until it is granted or refused.
func (w *Web) scan(ctx context.Context, s swap.Scan) (swap.View, *swap.Refusal, error) {
	began := time.Now()
	s.Presence = asShown(s.Presence)
	v, refusal, err := w.o.Books.Scan(ctx, s)
	if err == nil && refusal == nil {
		v, refusal, err = w.awaitGrant(ctx, v)
	}
	result := ScanGranted
	switch {
	case err != nil:
		result = ScanError
	case refusal != nil:
		result = string(refusal.Reason)
	}
	w.o.Scanned(result, time.Since(began))
	w.o.Log.Info("scan", "cabinet_id", s.CabinetID, "rider_id", s.RiderID, "swap_id", v.SwapID, "event", result)
	return v, refusal, err
}

// asShown is a presence code as the screen shows it, of what a person typed: small
// letters, blanks and dashes are no mistakes.
func asShown(typed string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '-':
			return -1
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		}
		return r
	}, typed)
}

func (w *Web) awaitGrant(ctx context.Context, v swap.View) (swap.View, *swap.Refusal, error) {
	changed, stop := w.o.Books.Watch(v.SwapID)
	defer stop()
	deadline := time.NewTimer(grantWait)
	defer deadline.Stop()
	tick := time.NewTicker(reread)
	defer tick.Stop()
	for {
		if refusal, decided := decided(v); decided {
			return v, refusal, nil
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-deadline.C:
			return w.withdraw(ctx, v)
		case <-ctx.Done():
			return v, nil, ctx.Err()
		}
		if now, err := w.o.Books.Swap(ctx, v.RiderID, v.SwapID); err == nil {
			v = now
		} else { // perhaps the next read succeeds
			w.o.Log.Warn("read a requested swap", "swap_id", v.SwapID, "err", err)
		}
	}
}

// decided reports whether the cabinet has answered, and a refusal.
func decided(v swap.View) (*swap.Refusal, bool) {
	switch {
	case v.State == swap.StateClosed && v.Outcome == protocol.OutcomeNotStarted:
		return &swap.Refusal{Reason: orOffline(v.Reason)}, true
	default:
		return nil, v.State != swap.StateRequested
	}
}

// withdraw ends a request that nobody answered in time, so that neither rider nor
// cabinet wait for it any longer; unless it was granted at the last moment.
func (w *Web) withdraw(ctx context.Context, v swap.View) (swap.View, *swap.Refusal, error) {
	ctx, cancel := context.WithTimeout(ctx, withdrawTimeout)
	defer cancel()
	now, err := w.o.Books.Withdraw(ctx, v)
	if err != nil { // it ends by itself some seconds later
		w.o.Log.Warn("withdraw a request", "swap_id", v.SwapID, "err", err)
		return v, &swap.Refusal{Reason: protocol.ReasonCabinetOffline}, nil
	}
	refusal, _ := decided(now)
	return now, refusal, nil
}

func orOffline(r protocol.Reason) protocol.Reason {
	if r == "" {
		return protocol.ReasonCabinetOffline
	}
	return r
}

package rider

import (
	"context"
	"sync"
	"time"

	"batteryswap/protocol"
)

// How a phone keeps a page up to date.
const (
	reconnectAfter = 500 * time.Millisecond
	pollEvery      = 2 * time.Second // while the stream brings nothing
	// unknownAfter is how long the page may hear nothing before it says unknown.
	unknownAfter = 3 * time.Second
)

// page is what the rider's phone shows of a swap.
type page struct {
	mu        sync.Mutex
	swap      Swap
	connected bool
	heard     time.Time
}

// show takes a view that is not older than what is shown.
func (p *page) show(s Swap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = time.Now()
	if s.Seq >= p.swap.Seq || s.Closed() {
		p.swap = s
	}
}

func (p *page) setConnected(is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connected = is
}

// look is what the page shows, and whether it is but a memory.
func (p *page) look() (s Swap, unknown bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lost := !p.connected && time.Since(p.heard) > unknownAfter
	return p.swap, lost || !p.swap.Reachable
}

// keep follows a swap by its event stream, and by asking while that is broken,
// until the swap is closed or ctx ends.
func (p *page) keep(ctx context.Context, phone *Phone, id protocol.SwapID) {
	for ctx.Err() == nil {
		shown, _ := p.look()
		if shown.Closed() {
			return
		}
		p.setConnected(true)
		// A broken stream is what the poll below is for; its error says no more.
		_ = phone.Follow(ctx, id, shown.Seq, p.show)
		p.setConnected(false)
		ask, cancel := context.WithTimeout(ctx, pollEvery)
		if s, err := phone.Swap(ask, id); err == nil {
			p.show(s)
		}
		cancel()
		wait(ctx, reconnectAfter)
	}
}

// wait lets time pass, or returns when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

package agent

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"batteryswap/firmware-agent/internal/screen"
	"batteryswap/protocol"
)

const (
	// backendSilent is how long after its last word the backend is shown as gone. A
	// guide comes every two minutes.
	backendSilent = 5 * time.Minute
	// screenAgain is how soon a taken port is tried again: the cabinet swaps without
	// a screen.
	screenAgain = 5 * time.Second
)

// heard is when the backend's last word came, on the agent's clock, since the
// connection was made.
type heard struct{ at atomic.Int64 }

const never = -1

func (h *heard) connected(up bool) {
	if !up {
		h.at.Store(never)
	}
}

func (h *heard) now(at time.Duration) { h.at.Store(int64(at)) }

func (h *heard) within(at time.Duration) bool {
	last := h.at.Load()
	return last != never && at-time.Duration(last) < backendSilent
}

// openScreen makes the screen. Without one that is configured there is none.
func (a *Agent) openScreen() error {
	a.heard.connected(false)
	if a.c.ScreenListen == "" {
		return nil
	}
	a.codes = screen.NewCodes(a.clock.now, cryptorand.Reader)
	o := screen.Options{
		CabinetID: a.c.CabinetID, Codes: a.codes, Now: a.clock.now,
		Scene: func() screen.Scene {
			if a.cabinet == nil {
				return screen.Scene{Out: protocol.ReasonOutOfService}
			}
			sc := a.cabinet.Scene()
			return screen.Scene{
				Alarm: sc.Alarm, Maintenance: sc.Maintenance, Out: sc.Out, Step: string(sc.Step), Slot: sc.Slot, Soc: sc.Soc,
				Outcome: sc.Outcome, Reason: sc.Reason, EndedAt: sc.EndedAt, Charged: sc.Charged, Empty: sc.Empty,
			}
		},
		Online:    func() bool { return a.metrics.up.Load() && a.heard.within(a.clock.now()) },
		GuideFile: filepath.Join(a.c.StateDir, "guide.json"),
	}
	s, err := screen.New(o)
	if s == nil {
		return err
	}
	if err != nil {
		a.o.Log.Warn("the kept guide is forgotten", "event", "guide", "err", err)
	}
	a.screen = s
	return nil
}

// shownCodes are the presence codes that are valid.
func (a *Agent) shownCodes() []string {
	if a.codes == nil {
		return nil
	}
	return a.codes.Valid()
}

// guided takes what the backend says of elsewhere.
func (a *Agent) guided(g protocol.Guide) {
	if a.screen == nil {
		return
	}
	if err := a.screen.Guide(g); err != nil {
		a.o.Log.Warn("the guide is not kept over a restart", "event", "guide", "err", err)
	}
}

// startScreen serves the screen, as soon as its port can be had.
func (a *Agent) startScreen() error {
	if a.screen == nil {
		return nil
	}
	a.goes("screen", func(ctx context.Context) {
		for said := false; ctx.Err() == nil; said = true {
			var lc net.ListenConfig
			l, err := lc.Listen(ctx, "tcp", a.c.ScreenListen)
			if err == nil {
				a.serveScreen(ctx, l)
				return
			}
			if !said {
				a.o.Log.Error("no screen: its address cannot be had", "event", "screen", "err", err)
			}
			timer := time.NewTimer(screenAgain)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
			timer.Stop()
		}
	})
	return nil
}

// serveScreen serves until ctx ends.
func (a *Agent) serveScreen(ctx context.Context, l net.Listener) {
	addr := l.Addr().String()
	a.screenAddr.Store(&addr)
	s := &http.Server{
		Handler: a.screen, ReadTimeout: scrapeTimeout, WriteTimeout: scrapeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if s.Shutdown(stop) != nil {
		_ = s.Close() // a browser that holds on is cut off
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		a.o.Log.Error("the screen has stopped", "event", "screen", "err", err)
	}
}

// ScreenAddr is where the screen is served, "" when it is not, or not yet.
func (a *Agent) ScreenAddr() string {
	if addr := a.screenAddr.Load(); addr != nil {
		return *addr
	}
	return ""
}

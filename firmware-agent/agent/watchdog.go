package agent

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"batteryswap/firmware-agent/internal/bus"
)

// supervisor is who restarts an agent that hangs: systemd, or nobody.
type supervisor struct {
	// tell says a state such as READY=1; every is how often it wants to hear that
	// the agent lives, 0 for never.
	tell  func(state string)
	every time.Duration
}

// systemd is the service manager that started this process, if one did.
func (a *Agent) systemd() supervisor {
	s := supervisor{tell: func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			a.o.Log.Warn("the service manager is not told", "event", state, "err", err)
		}
	}}
	if every, err := daemon.SdWatchdogEnabled(false); err == nil {
		s.every = every
	}
	return s
}

// turns is how far the agent's parts have come. Each must go on for the agent to
// be alive; the cabinet's also tells of the journal, for which it waits.
type turns struct{ bus, poller, safety, cabinet uint64 }

func (a *Agent) turns() turns {
	t := turns{bus: progress(a.bus.Stats()), poller: a.poller.Beats(), safety: a.safety.Beats()}
	if a.cabinet != nil {
		t.cabinet = a.cabinet.Beats()
	}
	return t
}

// progress grows with everything that happens on the line, also while its port
// is away and is tried again; it stands still when a write blocks.
func progress(s bus.Stats) uint64 { return s.Requests + s.Opened + s.OpenFailed + s.LineFailed }

// startWatchdog tells the service manager that the agent has started, and from
// then on that it lives, as long as all of it does.
func (a *Agent) startWatchdog() error {
	s := a.o.supervisor
	if s.tell == nil {
		s = a.systemd()
	}
	s.tell(daemon.SdNotifyReady)
	a.push("watchdog", func() error {
		s.tell(daemon.SdNotifyStopping)
		return nil
	})
	if s.every <= 0 {
		return nil
	}
	a.goes("watchdog feed", func(ctx context.Context) {
		ticks := time.NewTicker(s.every / feedsPerLimit)
		defer ticks.Stop()
		last := a.turns()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
			}
			now := a.turns()
			if a.advanced(last, now) {
				s.tell(daemon.SdNotifyWatchdog)
				last = now
			}
		}
	})
	return nil
}

// feedsPerLimit is how often the watchdog is fed within its limit: a part that
// makes a turn only each second or so must not look dead.
const feedsPerLimit = 3

// advanced reports whether every part has gone on since it was last told.
func (a *Agent) advanced(last, now turns) bool {
	polls := now.poller > last.poller || now.poller == 0
	return now.bus > last.bus && polls && now.safety > last.safety && (a.cabinet == nil || now.cabinet > last.cabinet)
}

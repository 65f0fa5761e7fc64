package fleet

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"batteryswap/backend/internal/postgres"
	"batteryswap/protocol"
)

const (
	expireEvery    = time.Second
	telemetryEvery = time.Second
	pingEvery      = time.Second
	pingTimeout    = 2 * time.Second
	// pingsToDown failed pings make the database "not reachable": one may be
	// slow for a moment only.
	pingsToDown = 3
	// configEvery is how soon a cabinet in contact hears of a new configuration,
	// and how often it is told until it confirms.
	configEvery = 3 * time.Second
	headEvery   = 24 * time.Hour
	sealEvery   = time.Minute
	keysEvery   = time.Minute
	keysRetry   = time.Second
	// rollEvery is how soon a roll that staff sent is taken up, and rollTimeout how
	// long one may take.
	rollEvery   = 500 * time.Millisecond
	rollTimeout = 5 * time.Minute
	forgetEvery = time.Hour
)

// startLoops starts what happens without being asked for.
func (f *Fleet) startLoops() {
	ctx, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { f.watchDatabase(ctx) })
	loops.Go(func() { f.refreshKeys(ctx) })
	f.askAll.Store(true)
	loops.Go(func() { f.askForHellos(ctx) })
	loops.Go(func() { f.tellAll(ctx) })
	if f.o.CodeSender != nil {
		loops.Go(func() { f.sendCodes(ctx) })
	}
	loops.Go(func() { f.every(ctx, "forget old codes", oldCodesEvery, f.store.ForgetOldCodes) })
	loops.Go(func() { f.every(ctx, "expire requests", expireEvery, f.expireRequests) })
	loops.Go(func() { f.every(ctx, "write telemetry", telemetryEvery, f.writeTelemetry) })
	loops.Go(func() { f.audit(ctx) })
	loops.Go(func() { f.every(ctx, "tell cabinets of each other", guideTurn, f.sendGuides) })
	loops.Go(func() { f.every(ctx, "send configurations", configEvery, f.sendConfigs) })
	loops.Go(func() { f.every(ctx, "publish the head of the audit log", headEvery, f.publishHead) })
	loops.Go(func() { f.every(ctx, "seal the secrets of staff", sealEvery, f.sealSecrets) })
	loops.Go(func() { f.runRolls(ctx) })
	loops.Go(func() { f.every(ctx, "forget riders and rolls of long ago", forgetEvery, f.forget) })
	f.push(func(context.Context) {
		cancel()
		loops.Wait()
	})
}

// outage says once that something fails, and once that it works again.
type outage struct {
	log  *slog.Logger
	what string
	on   bool
}

func (o *outage) note(err error) {
	switch {
	case err != nil && !o.on:
		o.log.Error(o.what+" fails; trying again", "err", err)
	case err == nil && o.on:
		o.log.Info(o.what + " works again")
	}
	o.on = err != nil
}

// every runs act again and again until ctx ends.
func (f *Fleet) every(ctx context.Context, what string, interval time.Duration, act func(context.Context) error) {
	o := outage{log: f.log, what: what}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			within, cancel := context.WithTimeout(ctx, callTimeout)
			err := act(within)
			cancel()
			if ctx.Err() == nil {
				o.note(err)
			}
		}
	}
}

// expireRequests closes requests that no cabinet answered and withdraws them:
// the cabinet may have prepared after all.
func (f *Fleet) expireRequests(ctx context.Context) error {
	expired, err := f.store.ExpireRequests(ctx)
	if err != nil {
		return fmt.Errorf("expire requests: %w", err)
	}
	for _, e := range expired {
		f.log.Warn("the cabinet did not answer", "cabinet_id", e.CabinetID, "swap_id", e.SwapID, "reason", protocol.ReasonCabinetOffline)
		f.link.Publish(e.CabinetID, protocol.Cancel{SwapID: e.SwapID})
	}
	return nil
}

// sealSecrets closes secrets of staff that were kept open: those of before there
// was a seal.
func (f *Fleet) sealSecrets(ctx context.Context) error {
	n, err := f.store.SealSecrets(ctx)
	if n > 0 {
		f.log.Info("secrets of staff were sealed", "event", "sealed", "count", n)
	}
	return err
}

// sendConfigs tells cabinets what staff set, until they confirm it. One that is
// away hears it when it says hello.
func (f *Fleet) sendConfigs(ctx context.Context) error {
	waiting, err := f.store.Unconfirmed(ctx)
	if err != nil {
		return fmt.Errorf("send configurations: %w", err)
	}
	for _, w := range waiting {
		f.log.Info("configuration sent", "cabinet_id", w.CabinetID, "event", "config", "version", w.HelloOK.Config.Version)
		f.link.Publish(w.CabinetID, w.HelloOK)
	}
	return nil
}

// publishHead writes the head of the audit log where the database's owner cannot
// change it: what was before it can then be shown to be as it was.
func (f *Fleet) publishHead(ctx context.Context) error {
	head, err := f.store.AuditHead(ctx)
	if err != nil {
		return err
	}
	f.log.Info("audit log", "event", "audit_head", "head", head)
	return nil
}

// watchDatabase keeps this replica out of the shared subscriptions while it has
// no database, or no keys to verify anything with.
func (f *Fleet) watchDatabase(ctx context.Context) {
	o := outage{log: f.log, what: "database"}
	failed := 0
	for ctx.Err() == nil {
		within, cancel := context.WithTimeout(ctx, pingTimeout)
		err := f.store.Ping(within)
		cancel()
		if ctx.Err() != nil {
			return
		}
		failed++
		if err == nil {
			failed = 0
		}
		if err == nil || failed >= pingsToDown || !f.databaseUp.Load() {
			if err == nil && o.on {
				f.askAll.Store(true)
			}
			o.note(err)
			f.databaseUp.Store(err == nil)
			f.link.Accept(err == nil && f.ring.Loaded())
		}
		wait(ctx, pingEvery, nil)
	}
}

// refreshKeys keeps the copy of the devices' keys.
func (f *Fleet) refreshKeys(ctx context.Context) {
	o := outage{log: f.log, what: "read device keys"}
	for ctx.Err() == nil {
		within, cancel := context.WithTimeout(ctx, callTimeout)
		keys, err := f.store.DeviceKeys(within)
		cancel()
		if ctx.Err() != nil {
			return
		}
		o.note(err)
		if err != nil {
			wait(ctx, keysRetry, nil)
			continue
		}
		if len(keys) != f.ring.Size() {
			f.log.Info("device keys read", "cabinets", len(keys))
		}
		f.ring.Replace(ringOf(keys))
		if f.databaseUp.Load() {
			f.link.Accept(true)
		}
		wait(ctx, keysEvery, f.watch.DeviceKeys())
	}
}

func ringOf(keys map[protocol.CabinetID][]postgres.DeviceKey) map[protocol.CabinetID][]ed25519.PublicKey {
	ring := make(map[protocol.CabinetID][]ed25519.PublicKey, len(keys))
	for id, all := range keys {
		for _, k := range all {
			ring[id] = append(ring[id], k.PublicKey)
		}
	}
	return ring
}

func wait(ctx context.Context, d time.Duration, early <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-early:
	case <-ctx.Done():
	}
}

// runRolls checks and imports the rolls that staff send, one at a time: the
// database says which is next, whoever took the file.
func (f *Fleet) runRolls(ctx context.Context) {
	o := outage{log: f.log, what: "import rolls"}
	tick := time.NewTicker(rollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			within, cancel := context.WithTimeout(ctx, rollTimeout)
			_, err := f.store.RunRoll(within, ReadRoll)
			cancel()
			if ctx.Err() == nil {
				o.note(err)
			}
		}
	}
}

// forget takes persons away whose membership ended long ago, and rolls that
// nobody needs any more.
func (f *Fleet) forget(ctx context.Context) error {
	forgotten, unsettled, err := f.store.ForgetEnded(ctx, f.o.RetentionMonths)
	if forgotten > 0 || unsettled > 0 {
		f.log.Info("riders were forgotten", "event", "retention", "count", forgotten, "unsettled", unsettled)
	}
	if err == nil {
		err = f.store.ForgetRolls(ctx)
	}
	return err
}

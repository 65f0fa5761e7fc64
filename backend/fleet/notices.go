package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"batteryswap/backend/internal/notify"
	"batteryswap/backend/internal/postgres"
)

const (
	// noticeEvery is how often notices are looked for that another replica, or an
	// earlier life of this one, has left.
	noticeEvery = time.Second
	// noticeTimeout bounds one try, and with it how long a new notice waits for
	// older ones.
	noticeTimeout = 4 * time.Second
	// noticeLease is longer than a try and what follows it.
	noticeLease = 8 * time.Second
	// maxNotices are told at the same time.
	maxNotices = 8
	// noticePause is the pause after the first failure; each further one doubles
	// it, up to noticePauseMost.
	noticePause     = time.Second
	noticePauseMost = time.Minute
)

// tellAll tells people of safety events until ctx ends. Each is in the database
// since the record of it is: a notice is told at least once, whoever crashes.
func (f *Fleet) tellAll(ctx context.Context) {
	o := outage{log: f.log, what: "telling safety events"}
	for ctx.Err() == nil {
		due, err := f.store.ClaimNotices(ctx, maxNotices, noticeLease)
		if err == nil && len(due) > 0 {
			err = each(due, func(n postgres.Notice) error { return f.tellOne(ctx, n) })
		}
		if ctx.Err() != nil {
			return
		}
		o.note(err)
		if len(due) < maxNotices {
			wait(ctx, noticeEvery, f.alarmed)
		}
	}
}

// each does something about all of them at once, and gives one of the errors.
func each[T any](all []T, do func(T) error) error {
	errs := make([]error, len(all))
	var doing sync.WaitGroup
	for i, x := range all {
		doing.Go(func() { errs[i] = do(x) })
	}
	doing.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *Fleet) tellOne(ctx context.Context, n postgres.Notice) error {
	within, cancel := context.WithTimeout(ctx, noticeTimeout)
	err := f.notifier.Notify(within, notify.Notice{
		EventID: fmt.Sprintf("%s/%s/%d", n.CabinetID, n.Epoch, n.Seq), Record: string(n.Record), Kind: n.Alarm.Kind, Cleared: n.Alarm.Cleared,
		CabinetID: n.CabinetID, Station: n.Station, Street: n.Street, Slot: n.Alarm.Slot, SwapID: n.Alarm.SwapID,
		At: n.At.UTC(), TimeQuality: string(n.Quality), ReceivedAt: n.ReceivedAt.UTC(), Try: n.Tries,
	})
	cancel()
	f.metrics.told(err)
	within, cancel = context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err == nil {
		f.log.Info("told of a safety event", "cabinet_id", n.CabinetID, "event", n.Record, "reason", n.Alarm.Kind, "slot", n.Alarm.Slot)
		return f.store.NoticeTold(within, n) // what fails here is told twice
	}
	if late := f.store.NoticeFailed(within, n, noticePauseAfter(n.Tries)); late != nil {
		f.log.Warn("a notice is due only when its lease ends", "cabinet_id", n.CabinetID, "err", late)
	}
	return err
}

// noticePauseAfter is the pause after so many tries, ± 20 %.
func noticePauseAfter(tries int) time.Duration {
	d := min(noticePause<<min(max(tries-1, 0), 10), noticePauseMost)
	return d*4/5 + rand.N(d*2/5)
}

// alarm wakes the loop that tells.
func (f *Fleet) alarm() {
	select {
	case f.alarmed <- struct{}{}:
	default:
	}
}

package fleet

import (
	"context"
	"errors"
	"sync"
	"time"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/notify"
	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/swap"
)

// CodeSender sends codes to riders' phones.
type CodeSender = notify.CodeSender

const (
	// codeEvery is how often codes are looked for that another replica, or an
	// earlier life of this one, has left.
	codeEvery = time.Second
	// codeTimeout bounds one try, codeLease what follows it, too. A code holds for
	// five minutes; until then it is tried.
	codeTimeout   = 4 * time.Second
	codeLease     = 8 * time.Second
	maxCodes      = 8 // sent at the same time
	oldCodesEvery = 10 * time.Minute
)

// binder is how riders bind their phones, as the pages see it.
type binder struct{ f *Fleet }

// SendsCodes reports whether codes are sent to phones here.
func (b binder) SendsCodes() bool { return b.f.o.CodeSender != nil }

// SendCode writes a code down, if a bound allows it. It is sent by whatever replica
// is first, so that the answer takes no longer for a rider than for nobody.
func (b binder) SendCode(ctx context.Context, n phone.Number, address, language string) error {
	if b.f.o.CodeSender == nil {
		return binding.ErrNotSent
	}
	err := b.f.store.SendCode(ctx, n, address, language)
	b.noteStop(err)
	if err == nil {
		select {
		case b.f.coded <- struct{}{}:
		default:
		}
	}
	return err
}

// Bind lets a session speak for whose proof it is.
func (b binder) Bind(ctx context.Context, p binding.Proof, s binding.Session) (swap.RiderID, error) {
	rider, err := b.f.store.Bind(ctx, p, s)
	b.noteStop(err)
	if err == nil {
		b.f.log.Info("a phone was bound", "event", "bound", "rider_id", rider)
	}
	return rider, err
}

// noteStop counts who is stopped by a bound of all phones together, and says so once
// in a while: whoever floods the bound must not flood the log.
func (b binder) noteStop(err error) {
	var many *binding.TooMany
	if !errors.As(err, &many) || !many.Bound.OfAll() {
		return
	}
	b.f.metrics.stoppedCode(many.Bound)
	if b.f.stops.may(string(many.Bound), time.Now()) {
		b.f.log.Warn("codes of riders' phones are stopped for a while: too many were asked for, or too many wrong ones tried",
			"event", "codes_stopped", "reason", string(many.Bound), "wait_s", int(many.Wait.Seconds()))
	}
}

// seldom lets each thing be said once in a while.
type seldom struct {
	mu   sync.Mutex
	last map[string]time.Time // its keys are of a closed list
}

// sayEvery is that while.
const sayEvery = time.Minute

// may reports whether it is time to say it.
func (s *seldom) may(what string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, said := s.last[what]; said && now.Sub(at) < sayEvery {
		return false
	}
	if s.last == nil {
		s.last = map[string]time.Time{}
	}
	s.last[what] = now
	return true
}

// sendCodes sends codes to phones until ctx ends.
func (f *Fleet) sendCodes(ctx context.Context) {
	o := outage{log: f.log, what: "sending codes to phones"}
	for ctx.Err() == nil {
		due, err := f.store.ClaimMessages(ctx, maxCodes, codeLease)
		if err == nil && len(due) > 0 {
			err = each(due, func(m binding.Message) error { return f.sendCode(ctx, m) })
		}
		if ctx.Err() != nil {
			return
		}
		o.note(err)
		if len(due) < maxCodes {
			wait(ctx, codeEvery, f.coded)
		}
	}
}

func (f *Fleet) sendCode(ctx context.Context, m binding.Message) error {
	within, cancel := context.WithTimeout(ctx, codeTimeout)
	err := f.o.CodeSender.SendCode(within, notify.Code{
		MessageID: m.MessageID, Kind: notify.KindCode, Phone: m.Phone, Code: m.Code, Language: m.Language, ExpiresAt: m.ExpiresAt.UTC(), Try: m.Tries,
	})
	cancel()
	f.metrics.sentCode(err)
	within, cancel = context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err == nil {
		f.log.Info("a code was sent to a phone", "event", "code_sent", "rider_id", m.RiderID)
		return f.store.MessageSent(within, m.MessageID) // what fails here is sent twice
	}
	if late := f.store.MessageFailed(within, m.MessageID, noticePauseAfter(m.Tries)); late != nil {
		f.log.Warn("a code is due only when its lease ends", "rider_id", m.RiderID, "err", late)
	}
	return err
}

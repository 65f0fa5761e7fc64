package rider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"batteryswap/protocol"
	"batteryswap/simulator/world"
)

// Options make a Rider.
type Options struct {
	Phone     *Phone
	World     *world.World
	Now       func() time.Duration // since the world began
	ID        string               // rider_id; also the person's name in the world
	Number    int                  // tells this rider from the others of the seed
	Seed      uint64
	Behaviour Behaviour
	Speed     float64 // rides are so many times as short
	Cabinets  []string
	// Screens are the addresses of the cabinets' own pages, by cabinet; a cabinet
	// without one has its button only.
	Screens map[string]string
	// Foreign is the serial of a battery that is not of the fleet and that the
	// rider carries, "" for none.
	Foreign string
	Log     *slog.Logger
}

// Rider is one person with a phone.
type Rider struct {
	Options
	deposited string // serial that this swap's own hands put in
	asked     uint64 // event number of the scan that was granted
}

// New makes a rider.
func New(o Options) *Rider {
	if o.Speed <= 0 {
		o.Speed = 1
	}
	return &Rider{Options: o}
}

// Result is how a swap ended for its rider.
type Result struct {
	Number    int
	Swap      Swap
	Deed      Deed
	Scans     int
	FromScan  time.Duration // scan to the end
	StartedAt time.Duration
}

// Bounds of a rider's patience.
const (
	maxScans    = 400              // refusals in a row before a rider gives up
	swapBound   = 20 * time.Minute // an open swap longer than this is reported
	glance      = 100 * time.Millisecond
	busyWait    = 1500 * time.Millisecond
	brokenWait  = time.Second
	buttonWait  = 1200 * time.Millisecond // until the agent has seen the button
	pauseWait   = 10 * time.Second
	maxKeyTries = 120 // repetitions of one scan that got no answer
)

// ErrGaveUp is wrapped when a rider sees no way to go on: a person must help.
var ErrGaveUp = errors.New("the rider gives up")

// Ride rests and rides until it is time for the n-th swap.
func (r *Rider) Ride(ctx context.Context, n int) {
	plan := r.plan(n)
	wait(ctx, time.Duration(float64(plan.Rest)/r.Speed))
	r.World.Ride(r.Now(), r.ID, plan.DrainPermille)
}

func (r *Rider) plan(n int) Plan {
	return PlanFor(r.Seed, r.Number, n, r.Behaviour, len(r.Cabinets))
}

// Swap does the n-th swap from the scan to its end.
func (r *Rider) Swap(ctx context.Context, n int) (Result, error) {
	plan := r.plan(n)
	result := Result{Number: n, Deed: plan.Deed, StartedAt: r.Now()}
	granted, scans, err := r.scan(ctx, n, plan)
	result.Scans = scans
	if err != nil {
		return result, err
	}
	began := time.Now()
	result.Swap, err = r.swap(ctx, granted, plan)
	result.FromScan = time.Since(began)
	return result, err
}

// scan asks at one cabinet after the other until a swap is granted.
func (r *Rider) scan(ctx context.Context, n int, plan Plan) (Swap, int, error) {
	at, silent, code := 0, 0, ""
	for try := 1; try <= maxScans; try++ {
		cabinet := r.Cabinets[plan.Cabinets[at%len(plan.Cabinets)]]
		r.asked = r.note(world.Scanned, cabinet, "")
		s, err := r.Phone.ScanWithCode(ctx, cabinet, fmt.Sprintf("%s-%d-%d", r.ID, n, try), code)
		r.note(world.Answered, cabinet, answer(err))
		if ctx.Err() != nil {
			return Swap{}, try, ctx.Err()
		}
		var refused *Refused
		switch {
		case err == nil:
			return s, try, nil
		case !errors.As(err, &refused) || refused.Reason == "":
			if refused != nil && refused.Status < http.StatusInternalServerError {
				return Swap{}, try, fmt.Errorf("scan cabinet %q: %w", cabinet, err)
			}
			// No answer is not "no": the same question again.
			if silent++; silent > maxKeyTries {
				return Swap{}, try, fmt.Errorf("scan cabinet %q: %w: %w", cabinet, ErrGaveUp, err)
			}
			try--
			wait(ctx, brokenWait)
			continue
		case refused.Reason == protocol.ReasonSwapOpen:
			if s, err := r.open(ctx, refused.SwapID); err == nil && !s.Closed() {
				return s, try, nil
			}
			wait(ctx, busyWait)
		case refused.Reason == protocol.ReasonPresence:
			if code, err = r.prove(ctx, cabinet, plan, code != ""); err != nil {
				return Swap{}, try, err
			}
		default:
			code = ""
			next, err := r.refused(ctx, cabinet, refused)
			if err != nil {
				return Swap{}, try, err
			}
			at += next
		}
		silent = 0
	}
	return Swap{}, maxScans, fmt.Errorf("%w: refused %d times", ErrGaveUp, maxScans)
}

func answer(err error) string {
	var refused *Refused
	switch {
	case err == nil:
		return "granted"
	case errors.As(err, &refused) && refused.Reason != "":
		return string(refused.Reason)
	}
	return noAnswer
}

// noAnswer is what is noted of a scan that got none.
const noAnswer = "no_answer"

// open finds the rider's open swap.
func (r *Rider) open(ctx context.Context, id protocol.SwapID) (Swap, error) {
	if id == "" {
		account, err := r.Phone.Account(ctx)
		if err != nil {
			return Swap{}, err
		}
		if id = account.OpenSwap; id == "" {
			return Swap{}, fmt.Errorf("no open swap: %w", ErrGaveUp)
		}
	}
	return r.Phone.Swap(ctx, id)
}

// prove shows that the rider stands at the cabinet: by the code on its screen,
// which is returned, or by its button. Who typed a code in vain presses.
func (r *Rider) prove(ctx context.Context, cabinet string, plan Plan, typed bool) (code string, err error) {
	if address := r.Screens[cabinet]; address != "" && plan.Types && !typed {
		code, err := readCode(ctx, r.Phone.http, address)
		if err == nil {
			return code, nil
		}
		r.Log.Debug("no code on the screen", "cabinet_id", cabinet, "err", err)
	}
	if err := r.World.PressButton(r.Now(), r.ID, cabinet); err != nil {
		return "", err
	}
	wait(ctx, buttonWait)
	return "", nil
}

// refused does what a person does about a reason: wait, or walk on by so many
// cabinets.
func (r *Rider) refused(ctx context.Context, cabinet string, refused *Refused) (walk int, err error) {
	switch refused.Reason {
	case protocol.ReasonBusy:
		wait(ctx, busyWait)
		return 1, nil
	case protocol.ReasonTooManyScans:
		wait(ctx, pauseWait)
		return 0, nil
	case protocol.ReasonNoBattery, protocol.ReasonUnderReview, protocol.ReasonRiderNotActive:
		return 0, fmt.Errorf("scan cabinet %q: %w: %w", cabinet, ErrGaveUp, refused)
	}
	wait(ctx, busyWait)
	return 1, nil
}

func (r *Rider) note(kind world.Kind, cabinet, cause string) uint64 {
	return r.World.Note(world.Event{At: r.Now(), Kind: kind, Cabinet: cabinet, Person: r.ID, Cause: cause})
}

// swap follows the page of a granted swap and does what it says, until it ends.
func (r *Rider) swap(ctx context.Context, granted Swap, plan Plan) (Swap, error) {
	ctx, cancel := context.WithTimeout(ctx, swapBound)
	defer cancel()
	p := &page{swap: granted, heard: time.Now()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.keep(ctx, r.Phone, granted.SwapID)
	}()
	defer func() {
		cancel()
		<-done
	}()
	r.deposited = ""
	ticker := time.NewTicker(glance)
	defer ticker.Stop()
	for {
		shown, unknown := p.look()
		if shown.Closed() {
			return shown, nil
		}
		if err := r.act(ctx, shown, unknown, &plan); err != nil {
			return shown, err
		}
		select {
		case <-ctx.Done():
			return shown, fmt.Errorf("swap %s at step %q: %w", shown.SwapID, shown.Step, ctx.Err())
		case <-ticker.C:
		}
	}
}

// own is the battery that the rider would put in: not a foreign one.
func (r *Rider) own() string {
	held := r.World.Hands(r.ID)
	if i := slices.IndexFunc(held, func(s string) bool { return s != r.Foreign }); i >= 0 {
		return held[i]
	}
	return ""
}

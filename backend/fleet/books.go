package fleet

import (
	"context"
	"errors"
	"time"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/backend/internal/web"
	"batteryswap/protocol"
)

// books is what the pages see of the store and of the cabinets.
type books struct{ f *Fleet }

func forWeb[T any](v T, err error) (T, error) {
	switch {
	case errors.Is(err, postgres.ErrNotFound):
		return v, web.ErrNotFound
	case errors.Is(err, postgres.ErrKeyReused):
		return v, web.ErrKeyReused
	default:
		return v, err
	}
}

// Scan writes the request down and asks the cabinet. With no connection to the
// broker nothing is written: the cabinet could not be asked.
func (b books) Scan(ctx context.Context, s swap.Scan) (swap.View, *swap.Refusal, error) {
	if !b.f.link.CanPublish() {
		return swap.View{}, &swap.Refusal{Reason: protocol.ReasonCabinetOffline}, nil
	}
	v, prepare, refusal, err := b.f.store.Request(ctx, s)
	if err == nil && prepare != nil {
		b.f.link.Publish(s.CabinetID, *prepare)
	}
	_, err = forWeb(struct{}{}, err)
	return v, refusal, err
}

// Swap is a rider's own swap.
func (b books) Swap(ctx context.Context, rider swap.RiderID, id protocol.SwapID) (swap.View, error) {
	return forWeb(b.f.store.Swap(ctx, rider, id))
}

// Watch is told by the database.
func (b books) Watch(id protocol.SwapID) (<-chan struct{}, func()) { return b.f.watch.Watch(id) }

// Wish goes to the cabinet and nowhere else.
func (b books) Wish(_ context.Context, cabinet protocol.CabinetID, id protocol.SwapID) error {
	if !b.f.link.Publish(cabinet, protocol.Wish{SwapID: id, What: protocol.WishRecheck}) {
		return web.ErrCabinetOffline
	}
	return nil
}

// Cabinets are all cabinets.
func (b books) Cabinets(ctx context.Context) ([]swap.CabinetView, error) {
	return b.f.store.Cabinets(ctx)
}

// Cabinet is one of them.
func (b books) Cabinet(ctx context.Context, id protocol.CabinetID) (swap.CabinetView, error) {
	return forWeb(b.f.store.Cabinet(ctx, id))
}

// Rider is a rider's account.
func (b books) Rider(ctx context.Context, id swap.RiderID) (swap.RiderView, error) {
	return forWeb(b.f.store.Rider(ctx, id))
}

// CreateSession stores a session.
func (b books) CreateSession(ctx context.Context, rider swap.RiderID, hash []byte, expires time.Time) error {
	return b.f.store.CreateSession(ctx, rider, hash, expires)
}

// SessionRider is whose session it is.
func (b books) SessionRider(ctx context.Context, hash []byte) (swap.RiderID, error) {
	return forWeb(b.f.store.SessionRider(ctx, hash))
}

package fleet

import (
	"context"
	"errors"

	"batteryswap/backend/internal/binding"
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
	if err == nil && prepare != nil && !b.f.link.Publish(s.CabinetID, *prepare) {
		if _, err := b.f.store.Withdraw(ctx, s.CabinetID, v.SwapID); err != nil {
			b.f.log.Warn("withdraw a request", "cabinet_id", s.CabinetID, "swap_id", v.SwapID, "err", err) // it expires
		}
		return v, &swap.Refusal{Reason: protocol.ReasonCabinetOffline}, nil
	}
	_, err = forWeb(struct{}{}, err)
	return v, refusal, err
}

// Withdraw closes a request that nobody answered. The cabinet may have prepared
// after all, and is told.
func (b books) Withdraw(ctx context.Context, v swap.View) (swap.View, error) {
	over, err := b.f.store.Withdraw(ctx, v.CabinetID, v.SwapID)
	if err != nil {
		return v, err
	}
	if over {
		b.f.log.Warn("the cabinet did not answer", "cabinet_id", v.CabinetID, "swap_id", v.SwapID, "reason", protocol.ReasonCabinetOffline)
		b.f.link.Publish(v.CabinetID, protocol.Cancel{SwapID: v.SwapID})
	}
	return forWeb(b.f.store.Swap(ctx, v.RiderID, v.SwapID))
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

// History are a rider's last swaps.
func (b books) History(ctx context.Context, id swap.RiderID, n int) ([]swap.View, error) {
	return b.f.store.History(ctx, id, n)
}

// CreateSession stores a session that nothing proves.
func (b books) CreateSession(ctx context.Context, rider swap.RiderID, s binding.Session) error {
	_, err := forWeb(struct{}{}, b.f.store.CreateSession(ctx, rider, s))
	return err
}

// EndSession makes a token speak for nobody.
func (b books) EndSession(ctx context.Context, hash []byte) error {
	return b.f.store.EndRiderSession(ctx, hash)
}

// SessionRider is whose session it is.
func (b books) SessionRider(ctx context.Context, hash []byte) (swap.RiderID, error) {
	return forWeb(b.f.store.SessionRider(ctx, hash))
}

// Devices are a rider's.
func (b books) Devices(ctx context.Context, rider swap.RiderID, hash []byte) ([]binding.Device, error) {
	return forWeb(b.f.store.Devices(ctx, rider, hash))
}

// EndDevice ends one of them.
func (b books) EndDevice(ctx context.Context, rider swap.RiderID, id string) error {
	_, err := forWeb(struct{}{}, b.f.store.EndDevice(ctx, rider, id))
	return err
}

// EndOtherDevices ends all but one.
func (b books) EndOtherDevices(ctx context.Context, rider swap.RiderID, hash []byte) error {
	_, err := forWeb(struct{}{}, b.f.store.EndOtherDevices(ctx, rider, hash))
	return err
}

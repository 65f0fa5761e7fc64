package web

import (
	"context"
	"errors"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// ErrNotFound says that there is no such thing, or that it is not this rider's:
// the two look the same from outside.
var ErrNotFound = errors.New("not found")

// ErrCabinetOffline says that a message could not be sent to a cabinet.
var ErrCabinetOffline = errors.New("the cabinet cannot be reached")

// ErrKeyReused says that an idempotency key was used before, for another scan.
var ErrKeyReused = errors.New("the idempotency key was used for another scan")

// Books is what the pages need of the backend. Errors but the three above mean
// that it cannot answer now.
type Books interface {
	// Scan asks a cabinet for a swap and returns at once. The same idempotency
	// key answers what it answered before.
	Scan(context.Context, swap.Scan) (swap.View, *swap.Refusal, error)
	// Swap is one swap of this rider.
	Swap(context.Context, swap.RiderID, protocol.SwapID) (swap.View, error)
	// Withdraw ends a request that its cabinet has not answered, and tells the
	// cabinet. It returns the swap as it is then: perhaps it had been granted.
	Withdraw(context.Context, swap.View) (swap.View, error)
	// Watch is sent to when a swap may have changed, or its cabinet fell silent
	// or is heard again, until the returned function is called. Nothing is
	// missed for longer than half a second.
	Watch(protocol.SwapID) (<-chan struct{}, func())
	// Wish passes on "I closed the door".
	Wish(context.Context, protocol.CabinetID, protocol.SwapID) error

	Cabinets(context.Context) ([]swap.CabinetView, error)
	Cabinet(context.Context, protocol.CabinetID) (swap.CabinetView, error)
	Rider(context.Context, swap.RiderID) (swap.RiderView, error)
	// ReportFault writes down what a rider reports and gives its number; ErrTooMany
	// when this rider has reported enough for a day.
	ReportFault(context.Context, staff.Fault) (int64, error)
	// History are a rider's last swaps, at most n, the newest first.
	History(ctx context.Context, rider swap.RiderID, n int) ([]swap.View, error)

	// CreateSession lets a session speak for a rider without a proof: for the
	// development code only.
	CreateSession(context.Context, swap.RiderID, binding.Session) error
	SessionRider(ctx context.Context, tokenHash []byte) (swap.RiderID, error)
	// EndSession makes a token speak for nobody. One that did not is no error.
	EndSession(ctx context.Context, tokenHash []byte) error
	// Devices are a rider's sessions; tokenHash is that of the one that asks.
	Devices(ctx context.Context, rider swap.RiderID, tokenHash []byte) ([]binding.Device, error)
	EndDevice(ctx context.Context, rider swap.RiderID, id string) error
	EndOtherDevices(ctx context.Context, rider swap.RiderID, tokenHash []byte) error
}

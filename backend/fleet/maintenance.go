package fleet

import (
	"context"
	"time"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

const (
	// orderWaits is for how long who gave an order waits to hear what became of it.
	// It goes on without them.
	orderWaits = 6 * time.Second
	// orderLooks is how often they look.
	orderLooks = 150 * time.Millisecond
)

// console is what staff see of the store, and of the cabinets.
type console struct {
	*postgres.Store
	f *Fleet
}

// OrderMaintenance writes an order down, asks the cabinet, and waits a little for
// what becomes of it. What it gives is how the order stands then; the same order
// again is that of before.
func (c console) OrderMaintenance(ctx context.Context, id protocol.CabinetID, what protocol.Order, slot int, key string) (staff.Order, error) {
	if !c.f.link.CanPublish() {
		return staff.Order{}, &staff.Refusal{Code: staff.CabinetSilent, Detail: string(id)}
	}
	o, m, err := c.Store.OrderMaintenance(ctx, id, what, slot, key)
	if err != nil {
		return o, err
	}
	if o.State == swap.OrderRequested {
		c.f.link.Publish(id, m) // what is lost is not answered; asked twice, it answers the same
	}
	within, cancel := context.WithTimeout(ctx, orderWaits)
	defer cancel()
	for o.State != swap.OrderDone && o.State != swap.OrderRefused && within.Err() == nil {
		wait(within, orderLooks, nil)
		if now, err := c.MaintenanceOrder(within, m.OrderID); err == nil {
			o = now
		}
	}
	return o, nil
}

// gotMaintenanceAnswer grants, whichever replica asked.
func (f *Fleet) gotMaintenanceAnswer(ctx context.Context, id protocol.CabinetID, m protocol.MaintenanceAnswer) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	grant, err := f.store.MaintenanceAnswered(ctx, id, m)
	if err != nil {
		f.log.Error("answer to an order of maintenance", "cabinet_id", id, "err", err)
		return
	}
	if grant != nil {
		f.link.Publish(id, *grant)
	}
}

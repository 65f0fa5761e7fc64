package web

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// postMaintenance gives an order to a cabinet and says what became of it.
func (w *Web) postMaintenance(rw http.ResponseWriter, r *http.Request) {
	what, slot := protocol.Order(r.PostForm.Get("what")), 0
	if what == protocol.OrderOpen {
		slot, _ = strconv.Atoi(r.PostForm.Get("slot")) // not a number: no slot, which is a mistake
	}
	key := r.PostForm.Get("key") // one for all buttons of a page
	if validKey(key) {
		key = fmt.Sprintf("%.26s %s %d", key, what, slot)
	}
	o, err := w.o.Staff.OrderMaintenance(r.Context(), cabinetOf(r), what, slot, key)
	switch {
	case err != nil:
		w.staffFailed(rw, r, err)
	case o.State == swap.OrderRefused:
		w.show(rw, r, http.StatusConflict, "message", message{Text: "no.order_refused", Reason: o.Reason, Back: cabinetPath(r)})
	case o.State == swap.OrderRequested:
		w.show(rw, r, http.StatusConflict, "message", message{Text: "no." + staff.CabinetSilent, Back: cabinetPath(r)})
	case o.State == swap.OrderGranted:
		done(rw, r, cabinetPath(r), "order_granted")
	default:
		done(rw, r, cabinetPath(r), "maintenance_"+string(o.What))
	}
}

type maintenanceInput struct {
	CabinetID      string `path:"cabinet_id" pattern:"^[a-z0-9-]{4,24}$"` // not embedded: an embedded one is not read
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"64" pattern:"^[!-~]+$" doc:"The same key answers how the order of before stands. Without one, the same order again is another only when that of before is over"`
	Body           struct {
		What string `json:"what" enum:"begin,open,end"`
		Slot int    `json:"slot,omitempty" minimum:"0" maximum:"48" doc:"Of open"`
	}
}

func (w *Web) apiMaintenance(ctx context.Context, in *maintenanceInput) (*bodyOf[staff.Order], error) {
	return bodied(w.o.Staff.OrderMaintenance(ctx, protocol.CabinetID(in.CabinetID), protocol.Order(in.Body.What), in.Body.Slot, in.IdempotencyKey))
}

package web

import (
	"context"
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
	o, err := w.o.Staff.OrderMaintenance(r.Context(), cabinetOf(r), what, slot)
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
	CabinetID string `path:"cabinet_id" pattern:"^[a-z0-9-]{4,24}$"` // not embedded: an embedded one is not read
	Body      struct {
		What string `json:"what" enum:"begin,open,end"`
		Slot int    `json:"slot,omitempty" minimum:"0" maximum:"48" doc:"Of open"`
	}
}

func (w *Web) apiMaintenance(ctx context.Context, in *maintenanceInput) (*bodyOf[staff.Order], error) {
	return bodied(w.o.Staff.OrderMaintenance(ctx, protocol.CabinetID(in.CabinetID), protocol.Order(in.Body.What), in.Body.Slot))
}

package web

import (
	"errors"
	"net/http"

	"batteryswap/backend/internal/swap"
)

// deviceRider is the rider of a page that belongs to no cabinet, or the page says
// how to sign in.
func (w *Web) deviceRider(rw http.ResponseWriter, r *http.Request) (swap.RiderID, bool) {
	rider, err := w.rider(r.Context())
	switch {
	case errors.Is(err, ErrNotFound) && from(r) != "":
		http.Redirect(rw, r, "/c/"+string(from(r)), http.StatusSeeOther)
		return "", false
	case errors.Is(err, ErrNotFound):
		w.message(rw, r, http.StatusUnauthorized, "", "devices.signin")
		return "", false
	case err != nil:
		w.pageFailed(rw, r, from(r), err)
		return "", false
	}
	return rider, true
}

// pageDevices shows what speaks for a rider.
func (w *Web) pageDevices(rw http.ResponseWriter, r *http.Request) {
	rider, ok := w.deviceRider(rw, r)
	if !ok {
		return
	}
	all, err := w.o.Books.Devices(r.Context(), rider, tokenOf(r.Context()))
	if err != nil {
		w.pageFailed(rw, r, from(r), err)
		return
	}
	w.render(rw, r, http.StatusOK, "page", page{Show: showDevices, CabinetID: from(r), Devices: all})
}

// postEndDevice ends one of a rider's devices.
func (w *Web) postEndDevice(rw http.ResponseWriter, r *http.Request) {
	w.endDevices(rw, r, func(rider swap.RiderID) error {
		err := w.o.Books.EndDevice(r.Context(), rider, r.PathValue("device_id"))
		if errors.Is(err, ErrNotFound) {
			return nil // it has ended: what was wanted
		}
		return err
	})
}

// postEndOthers ends all but the one that asks.
func (w *Web) postEndOthers(rw http.ResponseWriter, r *http.Request) {
	w.endDevices(rw, r, func(rider swap.RiderID) error {
		return w.o.Books.EndOtherDevices(r.Context(), rider, tokenOf(r.Context()))
	})
}

func (w *Web) endDevices(rw http.ResponseWriter, r *http.Request, end func(swap.RiderID) error) {
	if !w.parseForm(rw, r) {
		return
	}
	rider, ok := w.deviceRider(rw, r)
	if !ok {
		return
	}
	if err := end(rider); err != nil {
		w.pageFailed(rw, r, from(r), err)
		return
	}
	to := "/devices"
	if from(r) != "" {
		to += "?from=" + string(from(r))
	}
	http.Redirect(rw, r, to, http.StatusSeeOther)
}

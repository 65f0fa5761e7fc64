package web

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"

	"batteryswap/backend/internal/place"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

const (
	// maxNearby bounds the cabinets on one page, maxOffered those beside a refusal.
	maxNearby  = 30
	maxOffered = 3
)

// neighbour is another cabinet, as a rider who may go there sees it.
type neighbour struct {
	swap.CabinetView
	Distance      string // "" when it is not known
	AMap, Tencent string // links to maps; "" when nobody has said where it stands
}

// Name is what a person calls it.
func (n neighbour) Name() string { return n.Station + " · " + n.Street }

// elsewhere are the cabinets nearest to one that fit, or those of its street when
// nobody has said where it stands. The cabinet itself is not among them.
func elsewhere(from swap.CabinetView, all []swap.CabinetView, n int, fits func(swap.CabinetView) bool) []neighbour {
	other := func(c swap.CabinetView) bool { return c.CabinetID != from.CabinetID && fits(c) }
	var out []neighbour
	if at, ok := place.Of(from); ok {
		for _, near := range place.Nearest(at, all, n, other) {
			out = append(out, neighbour{CabinetView: near.CabinetView, Distance: distance(near.Metres)})
		}
	} else {
		rest := slices.DeleteFunc(slices.Clone(all), func(c swap.CabinetView) bool { return !other(c) })
		slices.SortStableFunc(rest, func(a, b swap.CabinetView) int {
			return strings.Compare(street(a, from.Street), street(b, from.Street))
		})
		for _, c := range rest[:min(len(rest), n)] {
			out = append(out, neighbour{CabinetView: c})
		}
	}
	for i, o := range out {
		if at, ok := place.Of(o.CabinetView); ok {
			out[i].AMap, out[i].Tencent = at.AMap(o.Name()), at.Tencent(o.Name())
		}
	}
	return out
}

// street sorts the wanted street before all others.
func street(c swap.CabinetView, wanted string) string {
	if c.Street == wanted {
		return "0"
	}
	return "1" + c.Street
}

// distance is short: 420 m, 1.3 km.
func distance(metres float64) string {
	if metres < 995 {
		return fmt.Sprintf("%.0f m", max(math.Round(metres/10), 1)*10)
	}
	return fmt.Sprintf("%.1f km", metres/1000)
}

// leadsElsewhere reports whether a rider who was refused so had better go to
// another cabinet.
func leadsElsewhere(r protocol.Reason) bool {
	switch r {
	case protocol.ReasonNoChargedBattery, protocol.ReasonNoEmptySlot, protocol.ReasonOutOfService, protocol.ReasonAlarm, protocol.ReasonMaintenance,
		protocol.ReasonCabinetOffline, protocol.ReasonBusy, protocol.ReasonCabinetUnknown:
		return true
	}
	return false
}

// serves reports whether a swap can be expected to work at a cabinet.
func serves(c swap.CabinetView) bool { return place.HasCharged(c) && c.Empty > 0 }

// offer puts the nearest cabinets on a page, if they can be had: a page without
// them is better than none.
func (w *Web) offer(ctx context.Context, p *page, n int, fits func(swap.CabinetView) bool) {
	all, err := w.o.Books.Cabinets(ctx)
	if err != nil {
		w.o.Log.Warn("no other cabinets to offer", "cabinet_id", p.CabinetID, "err", err)
		return
	}
	p.Elsewhere = elsewhere(p.Cabinet, all, n, fits)
}

// pageNearby lists cabinets from the one that the rider stands at, or comes from.
func (w *Web) pageNearby(rw http.ResponseWriter, r *http.Request) {
	p := page{Show: showNearby}
	if id := protocol.CabinetID(r.URL.Query().Get("from")); id.Validate() == nil {
		if c, err := w.o.Books.Cabinet(r.Context(), id); err == nil {
			p.CabinetID, p.Cabinet = id, c
		}
	}
	all, err := w.o.Books.Cabinets(r.Context())
	if err != nil {
		w.pageFailed(rw, r, p.CabinetID, err)
		return
	}
	p.Elsewhere = elsewhere(p.Cabinet, all, maxNearby, func(swap.CabinetView) bool { return true })
	w.render(rw, r, http.StatusOK, "page", p)
}

// maxHistory bounds the swaps that a rider's page lists.
const maxHistory = 20

// pageHistory lists a rider's last swaps.
func (w *Web) pageHistory(rw http.ResponseWriter, r *http.Request) {
	rider, ok := w.signedIn(rw, r, http.StatusUnauthorized)
	if !ok {
		return
	}
	c, ok := w.knownCabinet(rw, r)
	if !ok {
		return
	}
	p := page{Show: showHistory, CabinetID: c.CabinetID, Cabinet: c}
	var err error
	if p.Rider, err = w.o.Books.Rider(r.Context(), rider); err == nil {
		p.History, err = w.o.Books.History(r.Context(), rider, maxHistory)
	}
	if err != nil {
		w.pageFailed(rw, r, c.CabinetID, err)
		return
	}
	w.render(rw, r, http.StatusOK, "page", p)
}

package fleet

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"

	"batteryswap/backend/internal/place"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// How often a cabinet's screen hears of what lies elsewhere, and how old that may
// be. The cabinets take turns, so that a large fleet makes no burst.
const (
	guideEvery = 2 * time.Minute
	guideTurn  = 10 * time.Second
	guideAge   = time.Minute
)

// guides is what cabinets' screens are told. It reads all cabinets at most once a
// minute, however many of them ask.
type guides struct {
	mu   sync.Mutex
	all  []swap.CabinetView
	at   time.Time // of all
	next int       // whose turn it is
}

// read renews the list when it is old. An error leaves the old list.
func (g *guides) read(ctx context.Context, list func(context.Context) ([]swap.CabinetView, error)) error {
	if time.Since(g.at) < guideAge {
		return nil
	}
	all, err := list(ctx)
	if err != nil {
		return err
	}
	g.all, g.at = all, time.Now()
	return nil
}

// guideOf is the guide of one cabinet, from a list that was read at the time at.
func guideOf(c swap.CabinetView, all []swap.CabinetView, at time.Time, public string) protocol.Guide {
	g := protocol.Guide{
		PageURL: strings.TrimSuffix(public, "/") + "/c/" + string(c.CabinetID), Hotline: c.Hotline, At: at.UTC(), Nearest: []protocol.Neighbour{},
	}
	from, ok := place.Of(c)
	if !ok {
		return g
	}
	other := func(o swap.CabinetView) bool { return o.CabinetID != c.CabinetID && place.HasCharged(o) }
	for _, n := range place.Nearest(from, all, protocol.MaxNeighbours, other) {
		g.Nearest = append(g.Nearest, protocol.Neighbour{
			CabinetID: n.CabinetID, Station: cut(n.Station), Street: cut(n.Street), Metres: int(math.Round(n.Metres)), Charged: n.Charged, Empty: n.Empty,
		})
	}
	return g
}

// cut keeps a name within what a guide carries, in whole letters.
func cut(name string) string {
	const bound = 120
	for i := range name {
		if i > bound-4 {
			return name[:i] + "…"
		}
	}
	return name
}

// guide tells one cabinet, after its hello.
func (f *Fleet) guide(ctx context.Context, id protocol.CabinetID) {
	f.guides.mu.Lock()
	defer f.guides.mu.Unlock()
	if err := f.guides.read(ctx, f.store.Cabinets); err != nil {
		f.log.Warn("no guide for a cabinet's screen", "cabinet_id", id, "err", err)
		return
	}
	for _, c := range f.guides.all {
		if c.CabinetID == id {
			f.link.Publish(id, guideOf(c, f.guides.all, f.guides.at, f.publicURL))
		}
	}
}

// sendGuides tells the cabinets whose turn it is, on the one replica that writes
// telemetry.
func (f *Fleet) sendGuides(ctx context.Context) error {
	if !f.beats.writer.Load() {
		return nil
	}
	f.guides.mu.Lock()
	defer f.guides.mu.Unlock()
	if err := f.guides.read(ctx, f.store.Cabinets); err != nil {
		return err
	}
	g := &f.guides
	turn := (len(g.all)*int(guideTurn/time.Second) + int(guideEvery/time.Second) - 1) / int(guideEvery/time.Second)
	for range turn {
		if g.next >= len(g.all) {
			g.next = 0
		}
		c := g.all[g.next]
		g.next++
		if c.Reachable {
			f.link.Publish(c.CabinetID, guideOf(c, g.all, g.at, f.publicURL))
		}
	}
	return nil
}

package fleet

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// TestCabinetsHearOfEachOther: a cabinet's screen can name the next one.
func TestCabinetsHearOfEachOther(t *testing.T) {
	w := newTown(t)
	f := w.start(func(o *Options) { o.PublicURL = &url.URL{Scheme: "https", Host: "swap.example"} }).ready()
	a, b := w.cabinet("hb-0001"), w.cabinet("hb-0002")
	lat, far, lon, hotline := 30.25, 30.26, 120.15, "0571-1"
	require.NoError(t, w.store.PlaceCabinet(t.Context(), postgres.CabinetPlace{CabinetID: "hb-0001", Latitude: &lat, Longitude: &lon, Hotline: &hotline}))
	require.NoError(t, w.store.PlaceCabinet(t.Context(), postgres.CabinetPlace{CabinetID: "hb-0002", Latitude: &far, Longitude: &lon}))
	b.hello()
	first := receive(t, b.guides)
	require.Equal(t, "https://swap.example/c/hb-0002", first.PageURL)
	require.Empty(t, first.Nearest, "the other was never heard of")
	b.ship()
	b.beat()
	require.Eventually(t, func() bool {
		c, err := w.store.Cabinet(t.Context(), "hb-0002")
		return err == nil && c.Reachable && c.Charged > 0
	}, 10*time.Second, 10*time.Millisecond)
	f.guides.mu.Lock()
	f.guides.at = time.Time{} // a minute passes
	f.guides.mu.Unlock()
	a.hello()
	g := receive(t, a.guides)
	require.Equal(t, "0571-1", g.Hotline)
	require.Len(t, g.Nearest, 1)
	require.Equal(t, protocol.CabinetID("hb-0002"), g.Nearest[0].CabinetID)
	require.InDelta(t, 1112, g.Nearest[0].Metres, 2)
	require.Positive(t, g.Nearest[0].Charged)
	f.beats.writer.Store(true)
	require.Eventually(t, func() bool { // whose turn it is
		require.NoError(t, f.sendGuides(t.Context()))
		return len(b.guides) > 0
	}, 10*time.Second, 10*time.Millisecond)
}

func TestLongNamesAreCut(t *testing.T) {
	lat, lon := 30.0, 120.0
	c := swap.CabinetView{
		CabinetID: "hb-0001", Latitude: &lat, Longitude: &lon, Reachable: true, Charged: 1,
		Station: strings.Repeat("站", 200), Street: strings.Repeat("x", 120),
	}
	other := c
	other.CabinetID = "hb-0002"
	g := guideOf(c, []swap.CabinetView{c, other}, time.Now(), "http://127.0.0.1:8080/")
	require.NoError(t, g.Validate())
	require.Len(t, g.Nearest, 1)
	require.Equal(t, "http://127.0.0.1:8080/c/hb-0001", g.PageURL)
}

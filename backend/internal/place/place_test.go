package place

import (
	"math"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Vectors of the test suite of eviltransform (github.com/googollee/eviltransform,
// python/tests): Shanghai, Shenzhen, Beijing. It uses another ellipsoid's radius
// for the last step, which moves a point by less than a centimetre.
func TestGCJ02(t *testing.T) {
	for _, c := range []struct{ wgs, gcj Point }{
		{Point{31.1774276, 121.5272106}, Point{31.17530398364597, 121.531541859215}},
		{Point{22.543847, 113.912316}, Point{22.540796131694766, 113.9171764808363}},
		{Point{39.911954, 116.377817}, Point{39.91334545536069, 116.38404722455657}},
	} {
		got := c.wgs.GCJ02()
		require.InDelta(t, c.gcj.Latitude, got.Latitude, 1e-6)
		require.InDelta(t, c.gcj.Longitude, got.Longitude, 1e-6)
		require.Greater(t, Metres(c.wgs, got), 100.0, "so far would a rider be led astray")
	}
	abroad := Point{48.8566, 2.3522}
	require.Equal(t, abroad, abroad.GCJ02())
}

func TestMetres(t *testing.T) {
	hangzhou := Point{30.2741, 120.1551}
	require.Zero(t, Metres(hangzhou, hangzhou))
	require.InDelta(t, 111_195, Metres(Point{0, 0}, Point{1, 0}), 1)
	require.InDelta(t, 111_195/2, Metres(Point{60, 0}, Point{60, 1}), 20)
	require.InDelta(t, math.Pi*earthRadius, Metres(Point{0, 0}, Point{0, 180}), 1)
	require.InDelta(t, Metres(hangzhou, Point{31.2304, 121.4737}), Metres(Point{31.2304, 121.4737}, hangzhou), 1e-6)
}

// The two maps want the coordinates in opposite order.
func TestLinks(t *testing.T) {
	p := Point{39.911954, 116.377817}
	amap, err := url.Parse(p.AMap("hb-0001 & co"))
	require.NoError(t, err)
	require.Equal(t, "uri.amap.com", amap.Host)
	require.Equal(t, "116.384047,39.913345,hb-0001 & co", amap.Query().Get("to"))
	require.Equal(t, "gaode", amap.Query().Get("coordinate"))
	tencent, err := url.Parse(p.Tencent("hb-0001"))
	require.NoError(t, err)
	require.Equal(t, "apis.map.qq.com", tencent.Host)
	require.Equal(t, "39.913345,116.384047", tencent.Query().Get("tocoord"))
}

func TestValidate(t *testing.T) {
	require.NoError(t, Point{30, 120}.Validate())
	require.ErrorContains(t, Point{120, 30}.Validate(), "latitude is 120: want -90 to 90")
	require.ErrorContains(t, Point{30, 181}.Validate(), "longitude")
	require.Error(t, Point{math.NaN(), 0}.Validate())
	require.Error(t, Point{0, math.NaN()}.Validate())
}

func TestNearest(t *testing.T) {
	at := func(id protocol.CabinetID, north float64, charged int) swap.CabinetView {
		lat, lon := 30+north, 120.0
		return swap.CabinetView{CabinetID: id, Latitude: &lat, Longitude: &lon, Reachable: true, Charged: charged}
	}
	dead := at("dead", .0001, 5)
	dead.Reachable = false
	out := at("outs", .0001, 5)
	out.OutOfService = protocol.ReasonOutOfService
	all := []swap.CabinetView{{CabinetID: "nowhere", Reachable: true, Charged: 9}, at("far", .9, 1), at("near", .01, 1), dead, at("none", .001, 0), out, at("mid", -.1, 2), at("also", .01, 1)}
	ids := func(n int) (got []protocol.CabinetID) {
		for _, c := range Nearest(Point{30, 120}, all, n, HasCharged) {
			got = append(got, c.CabinetID)
		}
		return got
	}
	require.Equal(t, []protocol.CabinetID{"near", "also", "mid", "far"}, ids(9))
	require.Equal(t, []protocol.CabinetID{"near", "also"}, ids(2))
	require.Empty(t, ids(0))
}

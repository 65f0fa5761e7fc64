// Package place knows where things are on earth: distances, and how the maps that
// riders use want to be told.
//
// Points are stored in WGS-84, as satellites give them. Maps in China draw
// GCJ-02, which lies up to some hundred metres beside it. The package gives the
// distance of two points, the conversion, and links to two maps. It is pure.
package place

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
)

// Point is a place in degrees, WGS-84 unless said otherwise.
type Point struct{ Latitude, Longitude float64 }

// Validate says what is wrong with the point, or nil.
func (p Point) Validate() error {
	if !(p.Latitude >= -90 && p.Latitude <= 90) {
		return fmt.Errorf("latitude is %v: want -90 to 90 degrees", p.Latitude)
	}
	if !(p.Longitude >= -180 && p.Longitude <= 180) {
		return fmt.Errorf("longitude is %v: want -180 to 180 degrees", p.Longitude)
	}
	return nil
}

// earthRadius is the mean radius, in m.
const earthRadius = 6_371_008.8

// Metres is the distance of two points as the crow flies, on a round earth: within
// 0.6 %.
func Metres(a, b Point) float64 {
	lat1, lat2 := radians(a.Latitude), radians(b.Latitude)
	sinLat, sinLon := math.Sin((lat2-lat1)/2), math.Sin(radians(b.Longitude-a.Longitude)/2)
	h := sinLat*sinLat + math.Cos(lat1)*math.Cos(lat2)*sinLon*sinLon
	return 2 * earthRadius * math.Asin(math.Sqrt(min(h, 1)))
}

func radians(degrees float64) float64 { return degrees * math.Pi / 180 }

// GCJ-02 was never published; this is the approximation that all open programs
// share, over the ellipsoid of Krasovsky (m, and squared eccentricity).
const (
	krasovsky     = 6_378_245.0
	eccentricity2 = 0.00669342162296594323
)

// GCJ02 is the point as maps in China draw it. Outside of China they draw WGS-84.
func (p Point) GCJ02() Point {
	if p.Longitude < 72.004 || p.Longitude > 137.8347 || p.Latitude < 0.8293 || p.Latitude > 55.8271 {
		return p
	}
	x, y := p.Longitude-105, p.Latitude-35
	lat, lon := shift(x, y)
	sin := math.Sin(radians(p.Latitude))
	w := 1 - eccentricity2*sin*sin
	meridian := krasovsky * (1 - eccentricity2) / (w * math.Sqrt(w)) // radii of curvature, m
	normal := krasovsky / math.Sqrt(w)
	return Point{
		Latitude:  p.Latitude + lat*180/(meridian*math.Pi),
		Longitude: p.Longitude + lon*180/(normal*math.Cos(radians(p.Latitude))*math.Pi),
	}
}

// shift is how far the map lies beside the truth, in m to the north and east.
func shift(x, y float64) (north, east float64) {
	wave := func(v float64, terms ...[2]float64) (sum float64) {
		for _, t := range terms {
			sum += t[0] * math.Sin(v*t[1]*math.Pi)
		}
		return sum * 2 / 3
	}
	root := math.Sqrt(math.Abs(x))
	both := wave(x, [2]float64{20, 6}, [2]float64{20, 2})
	north = -100 + 2*x + 3*y + .2*y*y + .1*x*y + .2*root + both +
		wave(y, [2]float64{20, 1}, [2]float64{40, 1. / 3}, [2]float64{160, 1. / 12}, [2]float64{320, 1. / 30})
	east = 300 + x + 2*y + .1*x*x + .1*x*y + .1*root + both +
		wave(x, [2]float64{20, 1}, [2]float64{40, 1. / 3}, [2]float64{150, 1. / 12}, [2]float64{300, 1. / 30})
	return north, east
}

func degrees(v float64) string { return strconv.FormatFloat(v, 'f', 6, 64) }

// AMap is a link that leads there by bicycle. It wants the longitude first.
func (p Point) AMap(name string) string {
	g := p.GCJ02()
	q := url.Values{"to": {degrees(g.Longitude) + "," + degrees(g.Latitude) + "," + name}, "mode": {"ride"}, "coordinate": {"gaode"}}
	return "https://uri.amap.com/navigation?" + q.Encode()
}

// Tencent is a link that leads there by bicycle. It wants the latitude first.
func (p Point) Tencent(name string) string {
	g := p.GCJ02()
	q := url.Values{"type": {"bike"}, "to": {name}, "tocoord": {degrees(g.Latitude) + "," + degrees(g.Longitude)}, "referer": {"batteryswap"}}
	return "https://apis.map.qq.com/uri/v1/routeplan?" + q.Encode()
}

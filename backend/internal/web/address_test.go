package web

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAddress: the client's address is the peer's, or what our own proxies say;
// what a client says of itself is never believed.
func TestAddress(t *testing.T) {
	behind := &Web{o: Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}
	bare := &Web{}
	for _, c := range []struct {
		web             *Web
		peer, forwarded string
		want            string
	}{
		{bare, "203.0.113.7:4000", "", "203.0.113.7"},
		{bare, "10.0.0.1:4000", "198.51.100.9", "10.0.0.1"},         // nobody is trusted
		{behind, "203.0.113.7:4000", "198.51.100.9", "203.0.113.7"}, // not a proxy of ours
		{behind, "10.0.0.1:4000", "", "10.0.0.1"},
		{behind, "10.0.0.1:4000", "198.51.100.9", "198.51.100.9"},
		{behind, "10.0.0.1:4000", "1.2.3.4, 198.51.100.9", "198.51.100.9"}, // the left one the client made up
		{behind, "10.0.0.1:4000", "198.51.100.9, 10.9.9.9", "198.51.100.9"},
		{behind, "10.0.0.1:4000", "10.1.1.1, 10.9.9.9", "10.1.1.1"},
		{behind, "10.0.0.1:4000", "198.51.100.9, nonsense", "10.0.0.1"},
		{behind, "[fd00::1]:4000", "2001:db8::5", "2001:db8::/64"},
		{behind, "[::ffff:10.0.0.1]:4000", "::ffff:198.51.100.9", "198.51.100.9"},
		{behind, "10.0.0.1:4000", "1.2.3.4" + strings.Repeat(", 10.0.0.2", maxHops), "10.0.0.2"},
		{behind, "@", "198.51.100.9", "@"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{}}
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		require.Equal(t, c.want, c.web.address(r), "%s %s", c.peer, c.forwarded)
	}
	r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": {"198.51.100.9", "10.2.2.2"}}}
	require.Equal(t, "198.51.100.9", behind.address(r), "in two lines")
}

package web

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxHops bounds the proxies that a request is followed back through.
const maxHops = 16

// address is where a request comes from, for the bounds of guessing and for the
// audit log. What X-Forwarded-For says is believed as far as trusted proxies said
// it: the first address from the right that is none of theirs. Anybody can send
// the header, so without trusted proxies nothing of it is.
// Of IPv6 it is the network of 64 bits: a phone has all of one to itself.
func (w *Web) address(r *http.Request) string {
	host := w.host(r)
	at, err := netip.ParseAddr(host)
	if err != nil || at.Unmap().Is4() {
		return host
	}
	return netip.PrefixFrom(at.WithZone(""), networkBits).Masked().String()
}

const networkBits = 64

func (w *Web) host(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if !w.trusted(host) {
		return host
	}
	said := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	slices.Reverse(said)
	for _, hop := range said[:min(len(said), maxHops)] {
		at, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break // what is left of it is not a proxy's word
		}
		if host = at.Unmap().WithZone("").String(); !w.trusted(host) {
			break
		}
	}
	return host
}

// trusted reports whether an address is of one of our own proxies.
func (w *Web) trusted(host string) bool {
	at, err := netip.ParseAddr(host)
	return err == nil && slices.ContainsFunc(w.o.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(at.Unmap()) })
}

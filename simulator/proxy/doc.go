// Package proxy stands between a program and its server as a bad network does.
//
// It knows TCP connections and nothing of what they carry. It gives Proxy, which
// passes bytes on until it is told to delay them, to cut the connections, to let
// one of their ends forget, or to swallow what is said. It needs a port of the
// loopback.
//
// # Why
//
// A connection that has lost a byte never carries one again: TCP promises its
// bytes in order, so what was lost in the middle of a stream must not be followed
// by more of it. What such a connection's ends make of the silence is what the
// proxy is for.
package proxy

package drivertest

import (
	"slices"
	"time"
)

// fault is one way in which a request or its reply goes wrong.
type fault struct {
	name string
	do   func(n int, request, reply []byte) []Burst
	lose bool // the request does not reach the board
}

// put makes the requests that when names go wrong.
func (f fault) put(l *Line, when func(n int) bool) {
	l.Fault = func(n int, request, reply []byte) []Burst {
		if when(n) {
			return f.do(n, request, reply)
		}
		return []Burst{{Bytes: reply}}
	}
	if f.lose {
		l.Lose = when
	}
}

// mend makes the line right again.
func (l *Line) mend() { l.Fault, l.Lose = nil, nil }

// faults is what a board and a line do to a reply.
func faults() []fault {
	garble := func(n int, reply []byte) []byte {
		b := slices.Clone(reply)
		if len(b) > 0 {
			b[n%len(b)] ^= 1 << (n % 8)
		}
		return b
	}
	return []fault{
		{name: "silent", do: func(int, []byte, []byte) []Burst { return nil }},
		{name: "garbled", do: func(n int, _, reply []byte) []Burst { return []Burst{{Bytes: garble(n, reply)}} }},
		{name: "cut", do: func(n int, _, reply []byte) []Burst { return []Burst{{Bytes: reply[:n%max(len(reply), 1)]}} }},
		{name: "late", do: func(_ int, _, reply []byte) []Burst {
			return []Burst{{After: device + 60*time.Millisecond, Bytes: reply}}
		}},
		{name: "very late", do: func(_ int, _, reply []byte) []Burst {
			return []Burst{{After: device + 140*time.Millisecond, Bytes: reply}}
		}},
		{name: "doubled", do: func(_ int, _, reply []byte) []Burst {
			return []Burst{{Bytes: reply}, {After: 30 * time.Millisecond, Bytes: reply}}
		}},
		{name: "echoed", do: func(_ int, request, reply []byte) []Burst {
			return []Burst{{Bytes: append(slices.Clone(request), reply...)}}
		}},
		{name: "behind noise", do: func(n int, _, reply []byte) []Burst {
			return []Burst{{Bytes: append([]byte{byte(n), 0, 0xFF}, reply...)}}
		}},
		{name: "another's reply", do: func(n int, _, reply []byte) []Burst {
			b := slices.Clone(reply)
			if len(b) > 0 {
				b[0]++
			}
			return []Burst{{Bytes: b}}
		}},
		{name: "lost", lose: true, do: func(int, []byte, []byte) []Burst { return nil }},
		{name: "lost and echoed", lose: true, do: func(_ int, request, _ []byte) []Burst {
			return []Burst{{Bytes: request}}
		}},
	}
}

package link

import (
	"time"

	"batteryswap/protocol"
)

// rejectEvery is how often a refusal for the same reason is recorded.
const rejectEvery = time.Minute

// rejects counts refusals, and tells of each reason at most once a minute. The
// reasons are Results, so there is a handful of them.
type rejects struct {
	tell func(protocol.Reject) bool
	why  map[string]*refused
}

type refused struct {
	count int
	typ   protocol.Type
	next  time.Time
}

func newRejects(tell func(protocol.Reject) bool) *rejects {
	return &rejects{tell: tell, why: map[string]*refused{}}
}

func (r *rejects) add(now time.Time, why string, t protocol.Type) {
	f := r.why[why]
	if f == nil {
		f = &refused{}
		r.why[why] = f
	}
	f.count++
	f.typ = t
	r.flush(now)
}

// flush tells of what has been counted and may be told now.
func (r *rejects) flush(now time.Time) {
	for why, f := range r.why {
		if f.count > 0 && !now.Before(f.next) {
			f.next = now.Add(rejectEvery)
			if r.tell(protocol.Reject{Type: f.typ, Why: why, Count: f.count}) {
				f.count = 0
			}
		}
	}
}

// at is when flush has something to tell; zero is never.
func (r *rejects) at() time.Time {
	var t time.Time
	for _, f := range r.why {
		if f.count > 0 {
			t = earlier(t, f.next)
		}
	}
	return t
}

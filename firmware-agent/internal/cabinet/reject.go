package cabinet

import (
	"maps"
	"slices"
	"time"

	"batteryswap/firmware-agent/internal/swap"
	"batteryswap/protocol"
)

const (
	// rejectEvery is the least time between two REJECT records of one why.
	rejectEvery = time.Minute
	// maxWhys bounds the different whys that are told apart.
	maxWhys = 64
	// otherWhy is for those beyond.
	otherWhy = "other"
	maxWhy   = 64 // bytes
)

// rejections bounds the REJECT records: who floods the cabinet with forgeries
// must not fill its journal.
type rejections struct{ last map[string]rejection }

type rejection struct {
	at    time.Duration
	t     protocol.Type
	count int // since the last record
}

// reject counts a refused command, and journals it if the minute is over.
func (c *Core) reject(r swap.Rejected) {
	why := r.Why
	if len(why) > maxWhy {
		why = why[:maxWhy]
	}
	last, known := c.rejected.last[why]
	if !known && len(c.rejected.last) >= maxWhys {
		why = otherWhy
		last, known = c.rejected.last[why]
	}
	c.stats.rejected.add(why)
	last.t = r.Type
	last.count++
	if !known || c.now-last.at >= rejectEvery {
		c.journalReject(why, last)
		return
	}
	c.rejected.last[why] = last
}

// flushRejects journals what was counted once its minute is over.
func (c *Core) flushRejects() {
	for _, why := range slices.Sorted(maps.Keys(c.rejected.last)) {
		if last := c.rejected.last[why]; last.count > 0 && c.now-last.at >= rejectEvery {
			c.journalReject(why, last)
		}
	}
}

func (c *Core) journalReject(why string, last rejection) {
	c.o.Log.Warn("commands refused", "event", last.t, "reason", why)
	if !messageType(last.t) {
		last.t = "" // as it came, not as it may stand in a record
	}
	c.rejected.last[why] = rejection{at: c.now, t: last.t}
	c.append([]protocol.Payload{protocol.Reject{Type: last.t, Why: why, Count: last.count}})
}

// messageType reports whether a type that a stranger has sent is one of ours.
func messageType(t protocol.Type) bool {
	switch t {
	case protocol.TypeHelloRequest, protocol.TypeHelloOK, protocol.TypeLogAck, protocol.TypePrepare, protocol.TypeGrant,
		protocol.TypeCancel, protocol.TypeWish, protocol.TypeMaintenanceRequest, protocol.TypeMaintenanceGrant, protocol.TypeInventoryRequest,
		protocol.TypeGuide:
		return true
	}
	return false
}

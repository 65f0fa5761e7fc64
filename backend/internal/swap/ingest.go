package swap

import (
	"batteryswap/protocol"
)

// Verdict is what became of a log message.
type Verdict string

// The verdicts.
const (
	Took  Verdict = "took"  // everything that was new is in the books; perhaps nothing was
	Gap   Verdict = "gap"   // records before it are missing: ask again from LastSeq+1
	Forks Verdict = "forks" // it contradicts what the cabinet said before
	// Elsewhere: not of the epoch that counts, or of one that has forked.
	Elsewhere Verdict = "elsewhere"
)

// Stored is a record that became part of the books, with its time.
type Stored struct {
	Record
	Stamp
	SwapID protocol.SwapID // that it tells of; "": none
}

// Ingest folds the records of one log message (DecodeLog's answer, of the named
// epoch) into the books. Records that the books have are skipped.
func (b *Books) Ingest(c *Cabinet, epoch protocol.Epoch, rs []Record, rc Receipt) ([]Stored, Verdict) {
	if c.Epoch.IsZero() || epoch != c.Epoch || c.Forked {
		return nil, Elsewhere
	}
	fresh, v := c.fresh(rs)
	if v == Forks {
		b.Fork(c, Now(rc.At))
	}
	if v != Took || len(fresh) == 0 {
		return nil, v
	}
	out := make([]Stored, len(fresh))
	for i, at := range c.stamps(fresh, rc) {
		r := fresh[i]
		out[i] = Stored{r, at, b.apply(c, r, at)}
		c.LastSeq, c.LastHash, c.Hole = r.Seq, r.Hash, false
		c.BootSeq = max(c.BootSeq, r.BootSeq)
	}
	b.touchCabinet(c)
	return out, Took
}

// fresh is the part of a message that the cabinet has not said before. The
// records are one chain, so one equal hash vouches for all before it.
func (c *Cabinet) fresh(rs []Record) ([]Record, Verdict) {
	if len(rs) == 0 {
		return nil, Took
	}
	firstSeq, last := rs[0].Seq, rs[len(rs)-1]
	if firstSeq > c.LastSeq+1 {
		return nil, Gap
	}
	if last.Seq < c.LastSeq {
		if h, known := c.Hashes[last.Seq]; known && h != last.Hash {
			return nil, Forks
		}
		return nil, Took
	}
	n := int(c.LastSeq + 1 - firstSeq) // records at the start that the books have
	switch {
	case n > 0 && !c.Hole && rs[n-1].Hash != c.LastHash:
		return nil, Forks
	case n < len(rs) && !c.Hole && rs[n].PrevHash != c.LastHash:
		return nil, Forks
	}
	return rs[n:], Took
}

// apply is total: whatever the record says, the books follow or a person is
// asked. It returns the swap that the record tells of.
func (b *Books) apply(c *Cabinet, r Record, at Stamp) protocol.SwapID {
	if r.Malformed != nil {
		b.reviewRecord(c, at, protocol.ReasonMalformedRecord)
		if r.Type == protocol.RecordClosed {
			b.giveUpAt(c, protocol.ReasonMalformedRecord, at) // it was the end of what is open there
		}
		return ""
	}
	switch p := r.Body.(type) {
	case protocol.Boot:
		b.boot(c, p, r, at)
	case protocol.Accept:
		b.accept(c, p, at)
		return p.SwapID
	case protocol.Maintenance:
		b.maintained(c, p, at)
	case protocol.Intent:
		if p.Purpose == protocol.PurposeMaintenance {
			return "" // of no swap; its MAINTENANCE tells it
		}
		if s := b.swapFor(c, p.SwapID, at); s != nil {
			b.intent(s, p, at)
		}
		return p.SwapID
	case protocol.DoorMoved:
		return b.door(c, p, at)
	case protocol.Deposit:
		if s := b.swapFor(c, p.SwapID, at); s != nil {
			b.deposit(s, p, at)
		}
		return p.SwapID
	case protocol.Taken:
		if s := b.swapFor(c, p.SwapID, at); s != nil {
			b.taken(s, p, at)
		}
		return p.SwapID
	case protocol.Closed:
		if s := b.swapFor(c, p.SwapID, at); s != nil {
			b.close(s, p, at)
		}
		return p.SwapID
	case protocol.Void:
		b.void(c, p, r, at)
		return p.SwapID
	case protocol.Alarm:
		b.alarms = append(b.alarms, SafetyEvent{c.CabinetID, AlarmRecord, tellable(p), at})
	case protocol.Tamper:
		b.alarms = append(b.alarms, SafetyEvent{c.CabinetID, TamperRecord, tellable(protocol.Alarm{Kind: protocol.AlarmTamper, Slot: p.Slot}), at})
	case protocol.ChargeCut:
		b.alarms = append(b.alarms, SafetyEvent{c.CabinetID, ChargeCutRecord, tellable(protocol.Alarm{Kind: p.Kind, Slot: p.Slot}), at})
	}
	return ""
}

// tellable is an alarm as it may stand in a metric's label, a log and a message:
// a cabinet may say anything. None is lost for that.
func tellable(a protocol.Alarm) protocol.Alarm {
	if !a.Kind.Valid() {
		a.Kind = protocol.AlarmOther
	}
	if checkSlot("slot", a.Slot, 0) != nil {
		a.Slot = 0
	}
	if a.SwapID.Validate() != nil {
		a.SwapID = ""
	}
	return a
}

// Fork stops an epoch that has contradicted itself: a journal rolled back, or
// two of them. A person looks, once.
func (b *Books) Fork(c *Cabinet, at Stamp) {
	if c.Forked {
		return
	}
	c.Forked = true
	b.touchCabinet(c)
	at.Epoch, at.Seq = c.Epoch, c.LastSeq
	b.reviewRecord(c, at, protocol.ReasonEpochReplaced)
}

// Jump leaves a hole in the log: no agent has the records up to before firstSeq
// any more. They are lost to the books, perhaps with the end of what is open
// there; a person looks. What the log tells after the hole is booked all the same.
func (b *Books) Jump(c *Cabinet, firstSeq uint64, at Stamp) {
	at.Epoch, at.Seq = c.Epoch, firstSeq-1
	b.reviewRecord(c, at, protocol.ReasonLogHole)
	b.giveUpAt(c, protocol.ReasonLogHole, at)
	c.LastSeq, c.LastHash, c.Hole = firstSeq-1, protocol.Hash{}, true
	b.touchCabinet(c)
}

// SwapOf is the swap that a record tells of, "" when none: what a caller must
// load before Ingest, beside the open swaps of the cabinet.
func SwapOf(r Record) protocol.SwapID {
	switch p := r.Body.(type) {
	case protocol.Accept:
		return p.SwapID
	case protocol.Intent:
		if p.Purpose == protocol.PurposeMaintenance {
			return ""
		}
		return p.SwapID
	case protocol.DoorMoved:
		return p.SwapID
	case protocol.Deposit:
		return p.SwapID
	case protocol.Taken:
		return p.SwapID
	case protocol.Closed:
		return p.SwapID
	case protocol.Void:
		return p.SwapID
	}
	return ""
}

// SerialsOf are the batteries whose custody a record may move.
func SerialsOf(r Record) []protocol.BatterySerial {
	switch p := r.Body.(type) {
	case protocol.Deposit:
		return []protocol.BatterySerial{p.Battery.BatterySerial}
	case protocol.Taken:
		return []protocol.BatterySerial{p.BatterySerial}
	case protocol.Intent:
		return []protocol.BatterySerial{p.BatterySerial}
	case protocol.Closed:
		return []protocol.BatterySerial{p.Deposited, p.Taken}
	case protocol.Maintenance:
		var out []protocol.BatterySerial
		for _, c := range p.Changes {
			out = append(out, c.Removed, c.Added)
		}
		return out
	}
	return nil
}

// SlotsOf are the slots that a record may put a battery into: the batteries that
// the books have there must be loaded too.
func SlotsOf(r Record) []int {
	switch p := r.Body.(type) {
	case protocol.Deposit:
		return []int{p.Slot}
	case protocol.Closed:
		if p.DepositSlot != 0 {
			return []int{p.DepositSlot}
		}
	case protocol.Maintenance:
		var out []int
		for _, c := range p.Changes {
			if c.Added != "" {
				out = append(out, c.Slot)
			}
		}
		return out
	}
	return nil
}

package swap

import (
	"errors"
	"fmt"
	"time"

	"batteryswap/protocol"
)

// Record is a journal record taken apart.
type Record struct {
	protocol.Record
	Hash protocol.Hash
	// Body is the payload, nil for a type that the books have no use for.
	Body protocol.Payload
	// Malformed is why the payload could not be read; Body is nil then.
	Malformed error
}

// DecodeLog takes a log message apart and checks that its records are one chain.
// An error is about the whole message: nothing of it can be used. A payload that
// does not decode is no error: the record is in the chain, and is stored.
func DecodeLog(l protocol.Log) ([]Record, error) {
	if len(l.Records) == 0 {
		return nil, errors.New("records: none, want at least one")
	}
	out := make([]Record, 0, len(l.Records))
	for i, raw := range l.Records {
		r, n, hash, err := protocol.DecodeRecord(raw)
		if err != nil {
			return nil, fmt.Errorf("records[%d]: %w", i, err)
		}
		switch {
		case n != len(raw):
			return nil, fmt.Errorf("records[%d]: %d bytes after the record, want none", i, len(raw)-n)
		case r.Seq != l.FromSeq+uint64(i):
			return nil, fmt.Errorf("records[%d].seq is %d: want %d", i, r.Seq, l.FromSeq+uint64(i))
		case r.EpochShort != l.Epoch.Short():
			return nil, fmt.Errorf("records[%d].epoch_short is %08x: want %08x", i, r.EpochShort, l.Epoch.Short())
		case i > 0 && r.PrevHash != out[i-1].Hash:
			return nil, fmt.Errorf("records[%d].prev_hash: want the hash of the record before", i)
		case r.BootSeq == 0:
			return nil, fmt.Errorf("records[%d].boot_seq: want 1 or more", i)
		}
		rec := Record{Record: r, Hash: hash}
		rec.Body, rec.Malformed = body(r)
		out = append(out, rec)
	}
	return out, nil
}

func body(r protocol.Record) (protocol.Payload, error) {
	switch r.Type {
	case protocol.RecordBoot:
		return read[protocol.Boot](r)
	case protocol.RecordAccept:
		return read[protocol.Accept](r)
	case protocol.RecordIntent:
		return read[protocol.Intent](r)
	case protocol.RecordDoor:
		return read[protocol.DoorMoved](r)
	case protocol.RecordDeposit:
		return read[protocol.Deposit](r)
	case protocol.RecordTaken:
		return read[protocol.Taken](r)
	case protocol.RecordClosed:
		return read[protocol.Closed](r)
	case protocol.RecordVoid:
		return read[protocol.Void](r)
	case protocol.RecordTamper:
		return read[protocol.Tamper](r)
	case protocol.RecordAlarm:
		return read[protocol.Alarm](r)
	case protocol.RecordChargeCut:
		return read[protocol.ChargeCut](r)
	case protocol.RecordMaintenance:
		return read[protocol.Maintenance](r)
	case protocol.RecordTimeStep:
		return read[protocol.TimeStep](r)
	}
	return nil, nil
}

func read[P protocol.Payload](r protocol.Record) (protocol.Payload, error) {
	var p P
	if err := protocol.UnmarshalPayload(r, &p); err != nil {
		return nil, err
	}
	if err := check(p); err != nil {
		return nil, fmt.Errorf("payload of %s seq %d: %w", r.Type, r.Seq, err)
	}
	return p, nil
}

// check refuses what could not be stored: every value that reaches a column is
// an identifier, a number in its range, or on a closed list.
func check(p protocol.Payload) error {
	switch p := p.(type) {
	case protocol.Accept:
		return first(p.SwapID.Validate(), checkKind(p.Kind), p.Inventory.Validate())
	case protocol.Intent:
		if !p.Purpose.Valid() {
			return fmt.Errorf("purpose %.20q: want deposit, dispense, return, reopen or maintenance", p.Purpose)
		}
		whose := p.SwapID.Validate
		if p.Purpose == protocol.PurposeMaintenance {
			whose = p.OrderID.Validate
		}
		return first(whose(), checkSlot("slot", p.Slot, 1), checkSerial(p.BatterySerial))
	case protocol.DoorMoved:
		return checkSlot("slot", p.Slot, 1)
	case protocol.Deposit:
		if s := p.Battery.Soc; s != nil && (*s < 0 || *s > 100) {
			return fmt.Errorf("battery.soc is %d: want 0 to 100", *s)
		}
		if p.Accepted && p.Battery.BatterySerial == "" {
			return fmt.Errorf("battery.battery_serial: want one for an accepted deposit")
		}
		return first(p.SwapID.Validate(), checkSlot("slot", p.Slot, 1), checkSerial(p.Battery.BatterySerial))
	case protocol.Taken:
		return first(p.SwapID.Validate(), checkSlot("slot", p.Slot, 1), p.BatterySerial.Validate())
	case protocol.Closed:
		if len(p.Explanations) > maxExplanations {
			return fmt.Errorf("explanations: %d, want at most %d", len(p.Explanations), maxExplanations)
		}
		return first(p.SwapID.Validate(), checkKind(p.Kind), checkSlot("deposit_slot", p.DepositSlot, 0),
			checkSlot("take_slot", p.TakeSlot, 0), checkSerial(p.Deposited), checkSerial(p.Taken), p.Inventory.Validate())
	case protocol.Void:
		return p.SwapID.Validate()
	case protocol.Maintenance:
		return checkMaintenance(p)
	}
	return nil
}

func checkMaintenance(p protocol.Maintenance) error {
	switch {
	case !p.What.Valid():
		return fmt.Errorf("what %.20q: want begin, open or end", p.What)
	case len(p.Changes) > protocol.MaxSlots:
		return fmt.Errorf("changes: %d, want at most %d", len(p.Changes), protocol.MaxSlots)
	case p.OrderID != "" && p.OrderID.Validate() != nil:
		return p.OrderID.Validate()
	case p.Reason != "" && !p.Reason.Valid():
		return fmt.Errorf("reason %.40q: not on the closed list", p.Reason)
	}
	last := 0
	for _, c := range p.Changes {
		if c.Slot <= last || c.Removed == "" && c.Added == "" {
			return fmt.Errorf("changes: slot %d: want rising numbers, and what was removed or added", c.Slot)
		}
		last = c.Slot
		if err := first(checkSlot("changes: slot", c.Slot, 1), checkSerial(c.Removed), checkSerial(c.Added)); err != nil {
			return err
		}
	}
	return first(p.MaintenanceID.Validate(), checkSlot("slot", p.Slot, 0), p.Inventory.Validate())
}

// maxExplanations bounds what one CLOSED may list: there are no more outcomes.
const maxExplanations = 11

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkKind(k protocol.Kind) error {
	if !k.Valid() {
		return fmt.Errorf("kind %.20q: want swap, owed, issue or hand_back", k)
	}
	return nil
}

func checkSlot(field string, n, least int) error {
	if n < least || n > protocol.MaxSlots {
		return fmt.Errorf("%s is %d: want %d to %d", field, n, least, protocol.MaxSlots)
	}
	return nil
}

func checkSerial(s protocol.BatterySerial) error {
	if s == "" {
		return nil
	}
	return s.Validate()
}

// Receipt is how a log message came: by the database's clock, with the agent's
// own monotonic clock at sending.
type Receipt struct {
	At      time.Time
	MonoMS  uint64
	BootSeq uint32
}

// Bounds within which a cabinet's wall time is believed.
const (
	beforeEnrolment = 24 * time.Hour
	afterReceipt    = 5 * time.Minute
)

// stamps dates the records of one message, in order. A record that knows both
// clocks dates those of its boot that come before it in the same message, and
// all that follow; what was dated once never changes.
func (c *Cabinet) stamps(rs []Record, rc Receipt) []Stamp {
	out := make([]Stamp, len(rs))
	var boot uint32
	var offset int64
	for i := len(rs) - 1; i >= 0; i-- {
		if o, ok := offsetOf(rs[i]); ok {
			boot, offset = rs[i].BootSeq, o
		}
		switch rs[i].BootSeq {
		case boot:
			out[i] = c.date(rs[i], rc, true, offset)
		case c.ClockBoot:
			out[i] = c.date(rs[i], rc, true, c.ClockOffsetMS)
		default:
			out[i] = c.date(rs[i], rc, false, 0)
		}
	}
	for _, r := range rs {
		if o, ok := offsetOf(r); ok {
			c.ClockBoot, c.ClockOffsetMS = r.BootSeq, o
		}
	}
	return out
}

// offsetOf is wall less monotonic clock in ms, of a record that knows both.
func offsetOf(r Record) (int64, bool) {
	if s, ok := r.Body.(protocol.TimeStep); ok {
		return s.WallMS - int64(r.MonoMS), s.Clock == protocol.ClockSynchronised
	}
	return int64(r.WallMS) - int64(r.MonoMS), r.Clock == protocol.ClockSynchronised
}

// maxAgeMS bounds a monotonic age that is believed: ten years.
const maxAgeMS = 10 * 366 * 24 * 60 * 60 * 1000

func (c *Cabinet) date(r Record, rc Receipt, dated bool, offset int64) Stamp {
	st := Stamp{ReceivedAt: rc.At, Epoch: c.Epoch, Seq: r.Seq}
	believed := func(t time.Time) bool {
		return !t.Before(c.EnrolledAt.Add(-beforeEnrolment)) && !t.After(rc.At.Add(afterReceipt))
	}
	if r.Clock == protocol.ClockSynchronised {
		if wall := time.UnixMilli(int64(r.WallMS)).UTC(); believed(wall) {
			st.At, st.Quality = wall, TimeWall
			return st
		}
	} else if dated {
		if wall := time.UnixMilli(int64(r.MonoMS) + offset).UTC(); believed(wall) {
			st.At, st.Quality = wall, TimeStepped
			return st
		}
	}
	if r.BootSeq == rc.BootSeq && r.MonoMS <= rc.MonoMS && rc.MonoMS-r.MonoMS <= maxAgeMS {
		aged := rc.At.Add(-time.Duration(rc.MonoMS-r.MonoMS) * time.Millisecond)
		if believed(aged) {
			st.At, st.Quality = aged, TimeAge
			return st
		}
	}
	st.At, st.Quality = rc.At, TimeReceipt
	return st
}

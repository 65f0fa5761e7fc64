package soak

import (
	"bytes"
	"encoding/hex"
	"time"

	"batteryswap/protocol"
)

// device is what a cabinet's flash was told to keep, read from the bytes that
// were synced, and what of it the world confirms. It is the oracle's view of one
// cabinet: nothing in it comes from the agent's memory.
type device struct {
	box    *box
	state  state
	open   *deal
	intent *protocol.Intent // the last one, until its pulse
	inBoot bool             // the open swap was accepted in this boot
	began  time.Duration    // the ACCEPT of the open swap
	nonces map[protocol.Nonce]time.Duration
	used   map[protocol.Nonce]bool
	hashes map[recordKey]map[protocol.Hash]bool
	pulses []time.Duration // by running time
	ran    time.Duration   // in all boots before this one
	acked  map[protocol.Epoch]uint64
	epoch  protocol.Epoch        // of the bytes that were synced last
	told   map[int]time.Duration // when it has told last of force, or what force moved, by slot
	forced map[int]bool          // the alarm of it is on
	forces []*force              // of this boot
}

type recordKey struct {
	epoch protocol.Epoch
	seq   uint64
}

// deal is one accepted swap: what was told of it, and what is so.
type deal struct {
	id    protocol.SwapID
	kind  protocol.Kind
	box   *box
	rider *rider
	epoch protocol.Epoch // of its ACCEPT
	since time.Duration
	// had is what slots held at their first pulse for a purpose; nil is nothing.
	dispense, deposit map[*slot]*battery
	order             []*slot
	ended             bool
	said              protocol.Closed
	took, gave        []*battery // when it ended
}

func (d *device) init() {
	d.nonces, d.used = map[protocol.Nonce]time.Duration{}, map[protocol.Nonce]bool{}
	d.told, d.forced = map[int]time.Duration{}, map[int]bool{}
	d.hashes, d.acked = map[recordKey]map[protocol.Hash]bool{}, map[protocol.Epoch]uint64{}
}

// cut ends a boot.
func (d *device) cut() {
	d.unlit()
	d.ran += d.box.now - d.box.bootAt
	d.nonces = map[protocol.Nonce]time.Duration{}
	d.intent, d.inBoot = nil, false
	d.state = idle
	if d.open != nil {
		d.state = recovering
	}
}

// booted takes over what the journal of this boot says to be open: the flash may
// have lost a record that it promised to hold.
func (d *device) booted() {
	d.open, d.state = d.box.deals[d.box.core.Status().Open], idle
	if d.open != nil {
		d.state = recovering
	}
}

// synced takes bytes that the agent believes to be durable.
func (d *device) synced(name string, b []byte) {
	if len(name) < 40 || !bytes.HasPrefix(b, []byte("SWR1")) {
		return
	}
	var epoch protocol.Epoch
	if _, err := hex.Decode(epoch[:], []byte(name[7:39])); err != nil {
		return
	}
	for len(b) > 0 {
		r, n, hash, err := protocol.DecodeRecord(b)
		if err != nil {
			return
		}
		key := recordKey{epoch, r.Seq}
		if d.hashes[key] == nil {
			d.hashes[key] = map[protocol.Hash]bool{}
		}
		d.hashes[key][hash], d.epoch = true, epoch
		d.record(r)
		b = b[n:]
	}
}

func body[P protocol.Payload](r protocol.Record) P {
	var p P
	_ = protocol.UnmarshalPayload(r, &p)
	return p
}

// record follows what is on disk.
func (d *device) record(r protocol.Record) {
	b := d.box
	if b.tracing && r.Type != protocol.RecordSnapshot {
		b.note("%s #%d %s %.300s", b.id, r.Seq, r.Type, r.Payload)
	}
	was := d.state
	defer func() {
		if d.state != was {
			b.aim(d.state)
		}
	}()
	switch r.Type {
	case protocol.RecordAccept:
		d.accept(body[protocol.Accept](r))
	case protocol.RecordIntent:
		p := body[protocol.Intent](r)
		d.intent = &p
		d.state = map[protocol.Purpose]state{
			protocol.PurposeDeposit: depositing, protocol.PurposeReopen: reopened,
			protocol.PurposeDispense: dispensing, protocol.PurposeReturn: returning,
		}[p.Purpose]
	case protocol.RecordDeposit:
		if d.state != recovering {
			d.state = deposited
		}
	case protocol.RecordTaken:
		d.state = taken
	case protocol.RecordVoid:
		if d.state == prepared {
			d.state = idle
		}
	case protocol.RecordTamper:
		d.tamper(body[protocol.Tamper](r))
	case protocol.RecordAlarm:
		d.alarm(body[protocol.Alarm](r))
	case protocol.RecordClosed:
		d.state = idle
		d.closed(body[protocol.Closed](r))
	}
}

// accept is I5: a nonce that this boot has drawn, and once; and I4: at most 15 s ago.
func (d *device) accept(p protocol.Accept) {
	b := d.box
	drawn, known := d.nonces[p.Nonce]
	switch {
	case !known:
		b.fail(5, "%s accepts %s with a nonce that this boot has not drawn", b.id, p.SwapID)
	case d.used[p.Nonce]:
		b.fail(5, "%s accepts %s with a nonce that was used before", b.id, p.SwapID)
	case b.now-drawn > 15*time.Second:
		b.fail(4, "%s accepts %s with a nonce that is %v old", b.id, p.SwapID, b.now-drawn)
	}
	d.used[p.Nonce] = true
	if d.open != nil {
		b.fail(2, "%s accepts %s while %s is open", b.id, p.SwapID, d.open.id)
	}
	d.state, d.inBoot, d.began, d.intent = accepted, true, b.now, nil
	d.open = &deal{id: p.SwapID, kind: p.Kind, box: b, rider: b.riderOf[p.SwapID], epoch: d.epoch, since: b.now, dispense: map[*slot]*battery{}, deposit: map[*slot]*battery{}}
	if old := b.deals[p.SwapID]; old != nil {
		b.fail(5, "%s accepts %s for the second time", b.id, p.SwapID)
	}
	b.deals[p.SwapID] = d.open
	b.accepted = append(b.accepted, d.open)
	b.tally.Swaps++
}

// said notes nonces that leave the cabinet.
func (d *device) said(payload []byte) {
	if !bytes.Contains(payload[:min(len(payload), 40)], []byte(`"prepared"`)) {
		return
	}
	var p protocol.Prepared
	if sealed(payload, &p) {
		if _, known := d.nonces[p.Nonce]; !known {
			d.nonces[p.Nonce] = d.box.now
		}
		if d.state == idle {
			d.state = prepared
		}
	}
}

// purpose is what the INTENT on disk is for.
func (d *device) purpose() protocol.Purpose {
	if d.intent == nil {
		return ""
	}
	return d.intent.Purpose
}

// pulsed is I4, I6, I8 and I12: what stands on disk before a lock is moved, and what
// is so then.
func (d *device) pulsed(s *slot) {
	b := d.box
	i := d.intent
	switch {
	case d.open == nil:
		b.fail(4, "%s pulses slot %d without an open swap on disk", b.id, s.n)
		return
	case !d.inBoot:
		b.fail(6, "%s pulses slot %d for a swap of an earlier boot", b.id, s.n)
		return
	case i == nil || i.SwapID != d.open.id || i.Slot != s.n:
		b.fail(4, "%s pulses slot %d without its INTENT on disk", b.id, s.n)
		return
	case b.now-d.began > 6*time.Minute:
		b.fail(4, "%s pulses slot %d %v after ACCEPT", b.id, s.n, b.now-d.began)
	}
	d.intent = nil
	if i.Purpose == protocol.PurposeDispense && s.hot(b.now) && s.hotAt != 0 && b.now-s.hotAt > 3*time.Second {
		b.fail(12, "%s gives out the battery of slot %d, which is hot since %v", b.id, s.n, b.now-s.hotAt)
	}
	for _, o := range b.slots {
		if o.until[smoke] > b.now && o.smokeAt != 0 && b.now-o.smokeAt > 3*time.Second {
			b.fail(12, "%s pulses slot %d %v after smoke began in slot %d", b.id, s.n, b.now-o.smokeAt, o.n)
		}
		if o != s && o.licensed && !o.closed() && !o.lied {
			b.fail(8, "%s pulses slot %d while slot %d is not closed", b.id, s.n, o.n)
		}
	}
	d.bucket()
	s.licensed = true
	d.open.pulsed(s, i.Purpose)
}

// bucket is the second half of I8.
func (d *device) bucket() {
	now := d.ran + d.box.now - d.box.bootAt
	for len(d.pulses) > 0 && now-d.pulses[0] >= time.Hour {
		d.pulses = d.pulses[1:]
	}
	if d.pulses = append(d.pulses, now); len(d.pulses) > d.box.max {
		d.box.fail(8, "%s: %d pulses within an hour, want at most %d", d.box.id, len(d.pulses), d.box.max)
	}
}

// pulsed remembers what a slot held when it was first pulsed for a purpose.
func (x *deal) pulsed(s *slot, p protocol.Purpose) {
	to := x.deposit
	if p == protocol.PurposeDispense {
		to = x.dispense
	}
	if p == protocol.PurposeReturn || p == protocol.PurposeReopen {
		return
	}
	if _, known := to[s]; !known {
		to[s] = s.held
		x.order = append(x.order, s)
	}
}

// now is what the swap has moved, by the facts.
func (x *deal) now() (took, gave []*battery) {
	for _, s := range x.order {
		if had, ok := x.dispense[s]; ok && had != nil && s.held != had {
			took = append(took, had)
		}
		if had, ok := x.deposit[s]; ok && s.held != had && s.held != nil {
			gave = append(gave, s.held)
		}
	}
	return took, gave
}

package swap

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// where says in which slot each battery is.
func (r *rig) where() map[protocol.BatterySerial]int {
	w := map[protocol.BatterySerial]int{}
	for i, b := range r.boxes {
		if b.in != nil {
			w[b.in.serial] = i + 1
		}
	}
	return w
}

// checkPulse: a lock is about to be pulsed. It looks at the journal and at the
// facts, never at the machine.
func (r *rig) checkPulse(n int) {
	last := r.journal[len(r.journal)-1]
	intent, ok := last.p.(protocol.Intent)
	require.True(r.t, ok && intent.Slot == n && last.rec.BootSeq == r.bootSeq,
		"I4: pulse of slot %d is not preceded on disk by its INTENT but by %s\n%s", n, last.rec.Type, r)
	if intent.Purpose == protocol.PurposeMaintenance {
		r.checkOrder(intent)
	} else {
		r.checkGrant(n)
	}
	for i, b := range r.boxes {
		shut := !b.open && !b.unlocked || b.forced
		require.True(r.t, i+1 == n || shut, "I8: slot %d is pulsed while slot %d is not closed\n%s", n, i+1, r)
	}
	r.pulses = append(r.pulses, r.allTime)
	hour := slices.DeleteFunc(slices.Clone(r.pulses), func(p time.Duration) bool { return r.allTime-p >= time.Hour })
	require.LessOrEqual(r.t, len(hour), r.limits.MaxPulsesPerHour, "I8: too many pulses in an hour\n%s", r)
}

// checkGrant: the pulse is of an accepted grant.
func (r *rig) checkGrant(n int) {
	var accept *protocol.Accept
	var at time.Duration
	for _, j := range slices.Backward(r.journal) {
		if c, ok := j.p.(protocol.Closed); ok {
			require.Fail(r.t, "I4: pulse after CLOSED", "%v\n%s", c, r)
		}
		if a, ok := j.p.(protocol.Accept); ok {
			accept, at = &a, time.Duration(j.rec.MonoMS)*time.Millisecond
			require.Equal(r.t, r.bootSeq, j.rec.BootSeq, "I6: pulse of slot %d for a grant of an earlier boot\n%s", n, r)
			break
		}
	}
	require.NotNil(r.t, accept, "I4: pulse of slot %d without ACCEPT\n%s", n, r)
	m, ok := r.minted[accept.Nonce]
	require.True(r.t, ok && m.boot == r.bootSeq, "I4: the nonce was not minted in this boot\n%s", r)
	require.LessOrEqual(r.t, at-m.at, 15*time.Second, "I4: the nonce was too old at ACCEPT\n%s", r)
	require.LessOrEqual(r.t, r.now-at, 6*time.Minute, "I4: pulse later than 6 min after ACCEPT\n%s", r)
	require.Contains(r.t, r.open().granted(), n, "I4: slot %d is not in the grant\n%s", n, r)
}

// checkOrder: the pulse is of an order of maintenance that is under way, with the
// key switch turned.
func (r *rig) checkOrder(i protocol.Intent) {
	require.Equal(r.t, slot.Yes, r.key, "I4: pulse of slot %d, and the key is not turned\n%s", i.Slot, r)
	var began, opened *protocol.Maintenance
	var begun, at time.Duration
	for _, j := range slices.Backward(r.journal) {
		m, ok := j.p.(protocol.Maintenance)
		if !ok {
			require.NotEqual(r.t, protocol.RecordAccept, j.rec.Type, "I4: maintenance has not begun since the last swap\n%s", r)
			continue
		}
		require.Equal(r.t, r.bootSeq, j.rec.BootSeq, "I6: pulse of slot %d for an order of an earlier boot\n%s", i.Slot, r)
		require.NotEqual(r.t, protocol.OrderEnd, m.What, "I4: pulse after the end of maintenance\n%s", r)
		when := time.Duration(j.rec.MonoMS) * time.Millisecond
		if m.What == protocol.OrderOpen && opened == nil {
			opened, at = &m, when
		}
		if m.What == protocol.OrderBegin {
			began, begun = &m, when
			break
		}
	}
	require.True(r.t, began != nil && opened != nil, "I4: pulse of slot %d without maintenance\n%s", i.Slot, r)
	require.LessOrEqual(r.t, r.now-begun, 15*time.Minute, "I4: pulse later than 15 min after its begin\n%s", r)
	require.True(r.t, opened.OrderID == i.OrderID && opened.Slot == i.Slot && opened.MaintenanceID == began.MaintenanceID,
		"I4: pulse of slot %d is not by the order on disk\n%s", i.Slot, r)
	var g protocol.MaintenanceGrant
	require.NoError(r.t, json.Unmarshal([]byte(opened.Grant), &g))
	require.True(r.t, g.What == protocol.OrderOpen && g.Slot == i.Slot && g.OrderID == i.OrderID, "I4: another grant: %+v\n%s", g, r)
	m, ok := r.minted[g.Nonce]
	require.True(r.t, ok && m.boot == r.bootSeq, "I4: the nonce was not minted in this boot\n%s", r)
	require.LessOrEqual(r.t, at-m.at, 15*time.Second, "I4: the nonce was too old\n%s", r)
	require.False(r.t, r.nonces[g.Nonce], "I5: a second pulse for one nonce\n%s", r)
	r.nonces[g.Nonce] = true
}

// read: an inventory says for certain what a slot holds.
func read(inv protocol.Inventory, n int) bool {
	s, ok := inv.Slot(n)
	return ok && s.Closed && (s.Presence == protocol.PresenceEmpty || s.BatterySerial != "")
}

// checkMaintained compares an end of maintenance with what has happened.
func (r *rig) checkMaintained(m protocol.Maintenance) {
	told := map[int]protocol.Change{}
	for _, c := range m.Changes {
		told[c.Slot] = c
	}
	serial := func(b box) protocol.BatterySerial {
		if b.in == nil {
			return ""
		}
		return b.in.serial
	}
	for i, was := range r.begun {
		now := r.boxes[i]
		c, ok := told[i+1]
		if ok {
			require.Equal(r.t, serial(was), c.Removed, "I2: slot %d held another\n%s", i+1, r)
			require.Equal(r.t, serial(now), c.Added, "I2: slot %d holds another\n%s", i+1, r)
		} else if read(r.begunAs, i+1) && read(m.Inventory, i+1) {
			require.Equal(r.t, serial(was), serial(now), "I2: the change of slot %d is not told\n%s", i+1, r)
		}
		require.False(r.t, now.open && !now.forced && !now.dead, "R2: maintenance ends with door %d open\n%s", i+1, r)
	}
}

// check looks at a record as it is written.
func (r *rig) check(p protocol.Payload) {
	switch p := p.(type) {
	case protocol.Accept:
		require.False(r.t, r.nonces[p.Nonce], "I5: a second ACCEPT of one nonce\n%s", r)
		r.nonces[p.Nonce] = true
		r.accepted = r.where()
	case protocol.Tamper:
		if r.robbed != nil && r.broken == sound { // a broken one has other invariants to break
			require.True(r.t, r.robbed[p.Slot], "nobody has forced door %d\n%s", p.Slot, r)
		}
	case protocol.Closed:
		r.checkClosed(p)
	case protocol.Maintenance:
		switch p.What {
		case protocol.OrderBegin:
			r.begun, r.begunAs = slices.Clone(r.boxes), p.Inventory
		case protocol.OrderEnd:
			r.checkMaintained(p)
		}
	}
}

// checkClosed compares an end with what has happened.
func (r *rig) checkClosed(c protocol.Closed) {
	n := 0
	for _, o := range records[protocol.Closed](r) {
		if o.SwapID == c.SwapID {
			n++
		}
	}
	require.Equal(r.t, 1, n, "I14: swap %s is closed %d times\n%s", c.SwapID, n, r)
	require.True(r.t, c.Outcome.PossibleFor(c.Kind), "I3: outcome %q of a %s\n%s", c.Outcome, c.Kind, r)
	if c.Outcome == protocol.OutcomeReview {
		require.GreaterOrEqual(r.t, len(c.Explanations), 2, "I14: a review with one explanation\n%s", r)
		require.NotEmpty(r.t, c.Inventory, "I14: a review without an inventory\n%s", r)
		return
	}
	now := r.where()
	var left, came []protocol.BatterySerial
	for s, n := range r.accepted {
		if now[s] != n {
			left = append(left, s)
		}
	}
	for s, n := range now {
		if r.accepted[s] != n {
			came = append(came, s)
		}
	}
	require.LessOrEqual(r.t, len(left), 1, "I1: two batteries left in one swap: %v\n%s", left, r)
	wantLeft, wantCame := []protocol.BatterySerial(nil), []protocol.BatterySerial(nil)
	if c.Taken != "" {
		wantLeft = append(wantLeft, c.Taken)
	}
	switch c.Outcome {
	case protocol.OutcomeSwapped, protocol.OutcomeDepositedOwed, protocol.OutcomeHandedBack:
		wantCame = append(wantCame, c.Deposited)
	}
	require.Equal(r.t, wantLeft, left, "I3: the take that is told is not the one that happened (%s)\n%s", c.Outcome, r)
	require.Equal(r.t, wantCame, came, "I2: the deposit that is told is not the one that happened (%s)\n%s", c.Outcome, r)
	took := c.Outcome.Counts() || c.Outcome == protocol.OutcomeIssued
	require.Equal(r.t, took, len(left) == 1, "I3: %s does not fit what left: %v\n%s", c.Outcome, left, r)
}

// checkRest looks at the whole after a swap has ended.
func (r *rig) checkRest() {
	if !r.on {
		return
	}
	ended := map[protocol.SwapID]bool{}
	for _, c := range records[protocol.Closed](r) {
		ended[c.SwapID] = true
	}
	for _, a := range records[protocol.Accept](r) {
		require.True(r.t, ended[a.SwapID], "I13: %s was accepted, and is not closed at rest\n%s", a.SwapID, r)
	}
	var d Durable
	for _, j := range r.journal {
		var err error
		d, err = Fold(d, j.rec)
		require.NoError(r.t, err)
	}
	want, err := d.Snapshot()
	require.NoError(r.t, err)
	got, err := r.durable().Snapshot()
	require.NoError(r.t, err)
	require.JSONEq(r.t, string(want), string(got), "the fold of the journal is not the state of the machine\n%s", r)
	taken := map[protocol.SwapID]int{}
	for _, p := range records[protocol.Taken](r) {
		taken[p.SwapID]++
		require.Equal(r.t, 1, taken[p.SwapID], "I3: TAKEN twice in %s\n%s", p.SwapID, r)
	}
}

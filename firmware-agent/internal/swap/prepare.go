package swap

import (
	"cmp"
	"slices"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// prepare answers with slots proposed from live sensors and a nonce, or with a
// reason. A repeated prepare gets the same answer.
func (m *Machine) prepare(ev Prepare) {
	switch {
	case m.phase == prepared && ev.SwapID == m.proposal.reply.SwapID:
		if ev.Kind != m.proposal.kind {
			m.add(Rejected{protocol.TypePrepare, whyKind})
			return
		}
		m.add(Reply{m.proposal.reply})
		return
	case m.swapID() == ev.SwapID:
		return // granted and accepted: its records are the answer
	case m.over(ev.SwapID):
		m.add(Rejected{protocol.TypePrepare, whyOver})
		return
	}
	deposits, offers, reason := m.propose(ev.Kind)
	if reason != "" && m.waking() {
		reason = protocol.ReasonBusy
	}
	switch {
	case m.in.Refuse != "":
		reason = m.in.Refuse
	case m.durable.Config.OutOfService:
		reason = protocol.ReasonOutOfService
	case m.forStaff():
		reason = protocol.ReasonMaintenance
	case m.phase != idle || m.ajar() || m.left() < pulsesOfSwap:
		reason = protocol.ReasonBusy
	case reason == "" && ev.Kind.NeedsPresence() && !ev.Present:
		reason = protocol.ReasonPresence
	}
	if m.left() < pulsesOfSwap {
		m.raise(protocol.AlarmPulses, 0)
	} else {
		m.clear(protocol.AlarmPulses, 0)
	}
	if reason != "" {
		m.add(Reply{protocol.Refused{SwapID: ev.SwapID, Reason: reason}})
		return
	}
	m.proposal = proposal{kind: ev.Kind, at: m.in.Now, reply: protocol.Prepared{
		SwapID: ev.SwapID, Epoch: m.durable.Epoch, BootSeq: m.durable.BootSeq, BootID: m.durable.BootID,
		Nonce: ev.Random, DepositSlots: deposits, Dispense: offers,
	}}
	m.enter(prepared)
	m.add(Reply{m.proposal.reply})
}

// forStaff: maintenance is under way, or who has turned the key is about to begin
// it. A swap that has begun goes on.
func (m *Machine) forStaff() bool { return m.durable.Maintained != nil || m.in.Key == slot.Yes }

// waking: the agent has just started and has not read every slot yet, so that
// "none" would be said too early.
func (m *Machine) waking() bool {
	unread := func(v slot.View) bool { return !v.Fresh }
	return m.in.Now-m.startedAt < wakeWindow && slices.ContainsFunc(m.in.Slots, unread)
}

// ajar reports whether a slot is read and not provably closed, or may be read in a
// moment. One that is out for
// a fault stops nobody, but one that is held, or was forced, may be open: a lock
// that an epoch before had pulsed lets its door spring open late. Whoever takes a
// held slot out has looked at its door.
func (m *Machine) ajar() bool {
	for _, v := range m.in.Slots {
		held := m.durable.Alarmed(protocol.AlarmHeldBattery, v.Slot) && !slices.Contains(m.durable.Config.SlotsOut, v.Slot)
		mayOpen := held || m.durable.Alarmed(protocol.AlarmTamper, v.Slot)
		open, unread := v.Fresh && !v.Closed, !v.Fresh && m.in.Now-m.startedAt < wakeWindow
		if open && !m.durable.Out(v) || mayOpen && (open || unread) {
			return true
		}
	}
	return false
}

// propose picks slots. A hand_back leaves one empty slot, or nobody could swap.
func (m *Machine) propose(k protocol.Kind) (deposits []int, offers []protocol.Offer, why protocol.Reason) {
	deposits, offers = []int{}, []protocol.Offer{}
	for _, v := range m.in.Slots {
		if m.takesDeposit(v) {
			deposits = append(deposits, v.Slot)
		}
		if m.gives(v) {
			offers = append(offers, protocol.Offer{Slot: v.Slot, BatterySerial: v.Serial, Soc: *v.Battery.Soc})
		}
	}
	slices.SortStableFunc(offers, func(a, b protocol.Offer) int { return cmp.Compare(b.Soc, a.Soc) })
	need := 1
	if k == protocol.KindHandBack {
		need = 2
	}
	switch {
	case k.Dispenses() && len(offers) == 0:
		return nil, nil, protocol.ReasonNoChargedBattery
	case k.Deposits() && len(deposits) < need:
		return nil, nil, protocol.ReasonNoEmptySlot
	}
	if !k.Deposits() {
		deposits = deposits[:0]
	}
	if !k.Dispenses() {
		offers = offers[:0]
	}
	return deposits[:min(len(deposits), protocol.MaxDepositSlots)], offers[:min(len(offers), protocol.MaxOffers)], ""
}

func (m *Machine) takesDeposit(v slot.View) bool {
	return v.Fresh && v.Closed && v.Content == slot.Empty && !m.durable.Out(v)
}

func (m *Machine) gives(v slot.View) bool {
	return v.Fresh && v.Closed && v.Charged && !m.durable.Out(v) && !m.durable.flagged(v.Serial) && !m.elsewhere(v.Serial, v.Slot)
}

// gives the very battery that was offered.
func (m *Machine) givesOffer(f protocol.Offer) bool {
	v := m.in.view(f.Slot)
	return m.gives(v) && v.Serial == f.BatterySerial
}

// granted takes a grant for the prepared swap. Nothing is accepted before the
// slots have been read again.
func (m *Machine) granted(ev Grant) {
	reject := func(why string) { m.add(Rejected{protocol.TypeGrant, why}) }
	p := &m.proposal
	switch {
	case ev.SwapID == m.swapID() && ev.Nonce == m.nonce: // the network has repeated it
	case m.phase != prepared || ev.SwapID != p.reply.SwapID || ev.Nonce != p.reply.Nonce:
		reject(whyNonce)
	case ev.BootID != m.durable.BootID:
		reject(whyBoot)
	case ev.Kind != p.kind:
		reject(whyKind)
	case len(ev.Raw) > maxGrant:
		reject(whyTooLarge)
	case !m.proposed(ev.Grant):
		reject(whySlots)
	case p.grant == nil:
		p.grant, p.asked = &ev, m.in.Now
		m.add(Hurry{grantSlots(ev.Grant)})
	}
}

// proposed reports whether a grant names only what this prepare proposed.
func (m *Machine) proposed(g protocol.Grant) bool {
	if g.Validate() != nil {
		return false
	}
	for _, n := range g.DepositSlots {
		if !slices.Contains(m.proposal.reply.DepositSlots, n) {
			return false
		}
	}
	for _, f := range g.Dispense {
		same := func(o protocol.Offer) bool { return o.Slot == f.Slot && o.BatterySerial == f.BatterySerial }
		if !slices.ContainsFunc(m.proposal.reply.Dispense, same) {
			return false
		}
	}
	return true
}

func grantSlots(g protocol.Grant) []int {
	out := slices.Clone(g.DepositSlots)
	for _, f := range g.Dispense {
		out = append(out, f.Slot)
	}
	return out
}

func (m *Machine) advancePrepared() {
	p := m.proposal
	if m.in.Now-p.at >= grantWindow {
		m.void(protocol.ReasonGrantLate)
		return
	}
	if p.grant == nil {
		return
	}
	for _, n := range grantSlots(p.grant.Grant) {
		if v := m.in.view(n); !v.Fresh || v.At <= p.asked {
			return
		}
	}
	m.accept(*p.grant)
}

// accept journals the grant and begins. The nonce dies with it.
func (m *Machine) accept(g Grant) {
	reason := m.in.Refuse
	first := func(n int) bool { return m.takesDeposit(m.in.view(n)) }
	switch {
	case reason != "":
	case m.in.Halt:
		reason = protocol.ReasonAlarm
	case m.forStaff():
		reason = protocol.ReasonMaintenance
	case m.ajar():
		reason = protocol.ReasonBusy
	case g.Kind.Deposits() && !slices.ContainsFunc(g.DepositSlots, first):
		reason = protocol.ReasonNoEmptySlot
	case g.Kind.Dispenses() && !slices.ContainsFunc(g.Dispense, m.givesOffer):
		reason = protocol.ReasonNoChargedBattery
	}
	if reason != "" {
		m.void(reason)
		return
	}
	rec := protocol.Accept{
		SwapID: g.SwapID, Kind: g.Kind, Nonce: g.Nonce, BootID: g.BootID,
		Grant: string(g.Raw), Inventory: m.inventory(),
	}
	if _, err := m.durable.fold(0, rec); err != nil {
		m.add(Rejected{protocol.TypeGrant, whySlots})
		m.void("")
		return
	}
	m.append(rec)
	m.proposal, m.reason, m.reopened, m.nonce = proposal{}, "", false, g.Nonce
	m.doorRecords = 0
	if g.Kind.Deposits() {
		m.nextDeposit()
	} else {
		m.enter(choose)
	}
}

// void says that the prepared swap will not be accepted in this boot.
func (m *Machine) void(why protocol.Reason) {
	id := m.proposal.reply.SwapID
	m.append(protocol.Void{SwapID: id, Reason: why})
	m.end(id)
}

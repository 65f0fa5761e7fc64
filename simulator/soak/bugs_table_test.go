package soak

// bug is a defect that is built into a copy of the sources, and the invariants
// one of which must catch it.
type bug struct {
	name  string
	edits []edit
	by    []int
}

// shyBug needs cabinets whose pulses run out: one seed of many has them.
const shyBug = "bucket never empty"

// begins is the seed to begin with, of a bug that shows in one seed of hundreds.
var begins = map[string]uint64{"unseen exchange not told": 331}

// edit replaces a text, which must stand in the file exactly once. seeded tells
// at run time whether the bug of that name is on.
type edit struct{ file, old, new string }

const (
	agentSwap    = "firmware-agent/internal/swap/"
	agentSlot    = "firmware-agent/internal/slot/"
	agentJournal = "firmware-agent/internal/journal/"
	agentCabinet = "firmware-agent/internal/cabinet/"
	agentLink    = "firmware-agent/internal/link/"
	backendSwap  = "backend/internal/swap/"
	backendBooks = "backend/internal/memory/"
)

func bugs() []bug { return append(agentBugs(), backendBugs()...) }

func agentBugs() []bug {
	return []bug{
		{"no sync", []edit{{
			agentJournal + "journal.go", "	if err := j.active.Sync(); err != nil {\n		return j.fail(fmt.Errorf(\"sync %s seq",
			"	if err := (func() error {\n		if seeded(\"no sync\") {\n			return nil\n		}\n		return j.active.Sync()\n	})(); err != nil {\n		return j.fail(fmt.Errorf(\"sync %s seq",
		}}, []int{4, 9}},
		{"seq reset at boot", []edit{{
			agentJournal + "open.go", "		j.bootSeq = c.boot + 1\n",
			"		j.bootSeq = c.boot + 1\n		if seeded(\"seq reset at boot\") {\n			j.tail.seq = 0\n		}\n",
		}}, []int{9, 10, 13, 3, 14}},
		{"boot_seq stands still", []edit{{
			agentJournal + "open.go", "		j.acked, j.stored, j.storedMS = acked",
			"		if seeded(\"boot_seq stands still\") {\n			j.bootSeq = max(1, c.boot)\n		}\n		j.acked, j.stored, j.storedMS = acked",
		}}, []int{6, 13, 4}},
		{"pulse before its record", []edit{{
			agentCabinet + "core.go", "		c.machine = &m\n		c.do(plan.Effects)\n",
			"		c.machine = &m\n		if p := plan.Pulse; p != nil && seeded(\"pulse before its record\") {\n			c.add(Pulse{p.Slot, p.Purpose, c.swapID()})\n		}\n		c.do(plan.Effects)\n",
		}}, []int{4}},
		{"alternate without proof", []edit{{
			agentSwap + "live.go", "	if !m.act.answered || !v.Fresh || v.At <= m.act.answeredAt || !v.Closed {",
			"	if seeded(\"alternate without proof\") && m.act.answered && m.in.Now-m.act.answeredAt > 5*time.Second {\n		m.notOpened(v)\n		return\n	}\n	if !m.act.answered || !v.Fresh || v.At <= m.act.answeredAt || !v.Closed {",
		}, {
			agentSwap + "machine.go", "!v.Closed || !m.othersClosed(v.Slot) {", "(!v.Closed || !m.othersClosed(v.Slot)) && !seeded(\"alternate without proof\") {",
		}}, []int{8, 14, 2}},
		{"bolt not asked", []edit{{
			agentSlot + "evidence.go", "(!r.BoltFitted || r.Bolt == Yes)", "(!r.BoltFitted || r.Bolt == Yes || seeded(\"bolt not asked\"))",
		}}, []int{8, 2, 3}},
		{"closed for a moment", []edit{{
			agentSlot + "view.go", "e.aliveAt-e.closingSince >= e.limits.Stable", "(e.aliveAt-e.closingSince >= e.limits.Stable || seeded(\"closed for a moment\"))",
		}}, []int{8, 2, 3}},
		{"force not told", []edit{{
			agentSwap + "forced.go", "	c.append(protocol.Tamper{",
			"	if seeded(\"force not told\") {\n		return\n	}\n	c.append(protocol.Tamper{",
		}}, []int{2}},
		{"unseen exchange not told", []edit{{
			agentSwap + "core.go", "	case decided(v) && d.proved", "	case !seeded(\"unseen exchange not told\") && decided(v) && d.proved",
		}}, []int{2}},
		{"old grant accepted", []edit{{
			agentSwap + "prepare.go", "if m.in.Now-p.at >= grantWindow {", "if m.in.Now-p.at >= grantWindow && !seeded(\"old grant accepted\") {",
		}}, []int{4, 13}},
		{"open swap forgotten at boot", []edit{{
			agentSwap + "recover.go", "	if d.Open == nil && d.Maintained == nil {", "	if d.Open == nil && d.Maintained == nil || seeded(\"open swap forgotten at boot\") {",
		}}, []int{2, 13}},
		{"boot opens a door", []edit{{
			agentSwap + "recover.go", "	c := newCore(d, now)\n",
			"	c := newCore(d, now)\n	if seeded(\"boot opens a door\") && d.Open != nil {\n		return &Machine{core: c, limits: limits, phase: choose}, nil\n	}\n",
		}, {
			agentSwap + "machine.go", "o.BootSeq == m.durable.BootSeq", "(o.BootSeq == m.durable.BootSeq || seeded(\"boot opens a door\"))",
		}}, []int{6, 14}},
		{shyBug, []edit{{
			agentSwap + "machine.go", "func (m *Machine) left() int { return",
			"func (m *Machine) left() int {\n	if seeded(\"bucket never empty\") {\n		return MaxPulsesPerHour\n	}\n	return",
		}}, []int{8}},
		{"take told by the open door", []edit{{
			agentSwap + "judge.go", "		case v.Content == slot.Empty:\n			gone", "		case v.Content == slot.Empty || seeded(\"take told by the open door\") && v.Content == slot.Identified:\n			gone",
		}}, []int{3, 14}},
		{"nothing sent again", []edit{{
			agentLink + "shipper.go", "	d := minResend << min(s.tries, 10)\n", "	d := minResend << min(s.tries, 10)\n	if seeded(\"nothing sent again\") {\n		return 1000 * time.Hour\n	}\n",
		}}, []int{13, 2, 3}},
		{"hot battery given out", []edit{{
			agentSlot + "view.go", "Implausible(v.Battery) == \"\"", "(Implausible(v.Battery) == \"\" || seeded(\"hot battery given out\"))",
		}}, []int{12}},
		{"smoke not minded", []edit{{
			agentCabinet + "core.go", "in.Halt = in.Halt || v.Smoke", "in.Halt = in.Halt || v.Smoke && !seeded(\"smoke not minded\")",
		}}, []int{12}},
	}
}

func backendBugs() []bug {
	return []bug{
		{"ack before commit", []edit{{
			backendBooks + "ingest.go", "	row := s.rows.cabinets[id]\n	last",
			"	if n := len(records) - 1; seeded(\"ack before commit\") && records[n].Seq%3 == 0 {\n		return protocol.LogAck{Epoch: l.Epoch, UptoSeq: records[n].Seq, HashAtUpto: records[n].Hash}, nil\n	}\n	row := s.rows.cabinets[id]\n	last",
		}}, []int{10}},
		// The index is the second defence: the first, an agent that draws its nonces,
		// is broken with it.
		{"missing unique index", []edit{{
			backendBooks + "request.go", "used && by != m.SwapID {", "used && by != m.SwapID && !seeded(\"missing unique index\") {",
		}, {
			agentCabinet + "core.go", "func (c *Core) nonce() (n protocol.Nonce, ok bool) {\n",
			"func (c *Core) nonce() (n protocol.Nonce, ok bool) {\n	if seeded(\"missing unique index\") {\n		return protocol.Nonce{1}, true\n	}\n",
		}}, []int{5}},
		{"a cabinet's clock believed", []edit{{
			backendSwap + "record.go", "		return !t.Before(c.EnrolledAt", "		return seeded(\"a cabinet's clock believed\") || !t.Before(c.EnrolledAt",
		}}, []int{11}},
		{"no credit for who got nothing", []edit{{
			backendSwap + "close.go", "	case protocol.OutcomeDepositedOwed:\n		b.openCredit(s, at)",
			"	case protocol.OutcomeDepositedOwed:\n		if !seeded(\"no credit for who got nothing\") {\n			b.openCredit(s, at)\n		}",
		}}, []int{7}},
		{"credit not freed", []edit{{
			backendSwap + "close.go", "OutcomeIssueNotTaken:\n		b.free(s, at)", "OutcomeIssueNotTaken:\n		if !seeded(\"credit not freed\") {\n			b.free(s, at)\n		}",
		}}, []int{7}},
		{"credit never spent", []edit{{
			backendSwap + "credit.go", "		cr.State = CreditSpent\n", "		if cr.State = CreditSpent; seeded(\"credit never spent\") {\n			cr.State, cr.SwapID = CreditOpen, \"\"\n		}\n",
		}}, []int{7, 1}},
		{"grant of an earlier boot stays", []edit{{
			backendSwap + "apply.go", "s.State == StateGranted && s.Epoch == c.Epoch && s.BootSeq < r.BootSeq {",
			"s.State == StateGranted && s.Epoch == c.Epoch && s.BootSeq < r.BootSeq && !seeded(\"grant of an earlier boot stays\") {",
		}}, []int{13}},
		{"void not heard", []edit{{
			backendSwap + "apply.go", "	case s.State == StateRequested, s.State == StateGranted:\n		b.notStarted(s, p.Reason, at)",
			"	case s.State == StateRequested, s.State == StateGranted:\n		if !seeded(\"void not heard\") {\n			b.notStarted(s, p.Reason, at)\n		}",
		}}, []int{13}},
		{"taken battery stays in its slot", []edit{{
			backendSwap + "custody.go", "		b.place(x, e.Holder, s.RiderID, \"\", 0)\n	}\n	s.TakeSlot",
			"		if !seeded(\"taken battery stays in its slot\") {\n			b.place(x, e.Holder, s.RiderID, \"\", 0)\n		}\n	}\n	s.TakeSlot",
		}}, []int{2}},
		{"deposited battery stays with its rider", []edit{{
			backendSwap + "custody.go", "		b.place(x, InSlot, \"\", s.CabinetID, slot)\n	}\n	s.Judgement",
			"		if !seeded(\"deposited battery stays with its rider\") {\n			b.place(x, InSlot, \"\", s.CabinetID, slot)\n		}\n	}\n	s.Judgement",
		}}, []int{2}},
		{"two reviews for one swap", []edit{{
			backendSwap + "ledger.go", "	if s.Reviewed != \"\" {\n		return", "	if s.Reviewed != \"\" && !seeded(\"two reviews for one swap\") {\n		return",
		}}, []int{14}},
		{"a take counted as nothing", []edit{{
			backendSwap + "custody.go", "	s.TakeSlot, s.Taken = slot, serial\n	b.enter(s, at, e)\n",
			"	if s.TakeSlot, s.Taken = slot, serial; !seeded(\"a take counted as nothing\") {\n		b.enter(s, at, e)\n	}\n",
		}}, []int{3}},
	}
}

package swap

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// TestOutcomes is the table "sensed end → books", lived through.
func TestOutcomes(t *testing.T) {
	takes := func(r *rig) { r.take(protocol.PurposeDispense) }
	leaves := func(r *rig) { r.shut(r.opened(protocol.PurposeDispense)) }
	puts := func(b *battery) func(*rig) { return func(r *rig) { r.deposit(b) } }
	cases := []struct {
		name string
		kind protocol.Kind
		set  func(r *rig)
		do   []func(r *rig)
		want protocol.Outcome
		why  protocol.Reason
	}{
		{"nothing deposited", protocol.KindSwap, nil, []func(*rig){puts(nil)}, protocol.OutcomeNoDeposit, ""},
		{"deposited, taken", protocol.KindSwap, nil, []func(*rig){puts(flat("R1")), takes}, protocol.OutcomeSwapped, ""},
		{"own battery back", protocol.KindSwap, func(r *rig) { r.box(3).jam, r.box(4).jam = jammed, jammed },
			[]func(*rig){puts(flat("R1")), func(r *rig) { r.take(protocol.PurposeReturn) }},
			protocol.OutcomeReturned, protocol.ReasonDoorDidNotOpen},
		{"deposited, not taken", protocol.KindSwap, nil, []func(*rig){puts(flat("R1")), leaves}, protocol.OutcomeDepositedOwed, ""},
		{"owed, taken", protocol.KindOwed, nil, []func(*rig){takes}, protocol.OutcomeOwedTaken, ""},
		{"owed, not taken", protocol.KindOwed, nil, []func(*rig){leaves}, protocol.OutcomeOwedNotTaken, ""},
		{"issue, taken", protocol.KindIssue, nil, []func(*rig){takes}, protocol.OutcomeIssued, ""},
		{"issue, not taken", protocol.KindIssue, nil, []func(*rig){leaves}, protocol.OutcomeIssueNotTaken, ""},
		{"handed back", protocol.KindHandBack, nil, []func(*rig){puts(flat("R1"))}, protocol.OutcomeHandedBack, ""},
		{"hand back, nothing", protocol.KindHandBack, nil, []func(*rig){puts(nil)}, protocol.OutcomeNoDeposit, ""},
		{"not accepted, still in", protocol.KindSwap, nil,
			[]func(*rig){puts(flat("X9")), func(r *rig) { r.shut(r.opened(protocol.PurposeReturn)) }},
			protocol.OutcomeReview, protocol.ReasonHeldBattery},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := usual(t)
			if c.set != nil {
				c.set(r)
			}
			r.start(1, c.kind)
			for _, do := range c.do {
				do(r)
			}
			end := r.closed()
			require.Equal(t, c.want, end.Outcome, "%s", r)
			require.Equal(t, c.why, end.Reason)
			require.Equal(t, idle, r.machine.phase)
		})
	}
	t.Run("never started", func(t *testing.T) {
		r := usual(t)
		r.prepare(1, protocol.KindSwap)
		r.wait(14 * time.Second)
		require.Empty(t, records[protocol.Void](r))
		r.wait(2 * time.Second)
		require.Equal(t, []protocol.Void{{SwapID: swapID(1), Reason: protocol.ReasonGrantLate}}, records[protocol.Void](r))
		r.noSwap()
	})
}

// TestRecordsOfASwap: what the books are told, in order.
func TestRecordsOfASwap(t *testing.T) {
	r := usual(t)
	g := r.start(1, protocol.KindSwap)
	r.deposit(flat("R1"))
	r.take(protocol.PurposeDispense)
	c := r.closed()
	require.Equal(t, protocol.Closed{
		SwapID: swapID(1), Kind: protocol.KindSwap, Outcome: protocol.OutcomeSwapped,
		DepositSlot: 1, Deposited: "R1", TakeSlot: 3, Taken: "C3",
	}, c)
	var types []protocol.RecordType
	for _, j := range r.journal {
		types = append(types, j.rec.Type)
	}
	require.Equal(t, []protocol.RecordType{
		protocol.RecordBoot, protocol.RecordAccept, protocol.RecordIntent, protocol.RecordDoor, protocol.RecordDoor,
		protocol.RecordDeposit, protocol.RecordIntent, protocol.RecordDoor, protocol.RecordDoor,
		protocol.RecordTaken, protocol.RecordClosed,
	}, types)
	a := records[protocol.Accept](r)[0]
	require.Equal(t, string(g.Raw), a.Grant, "ACCEPT holds the grant verbatim")
	require.Len(t, a.Inventory, len(r.boxes))
	require.NoError(t, a.Inventory.Validate())
	require.Equal(t, []protocol.Intent{
		{SwapID: swapID(1), Slot: 1, Purpose: protocol.PurposeDeposit, Pulse: 1},
		{SwapID: swapID(1), Slot: 3, Purpose: protocol.PurposeDispense, Pulse: 1, BatterySerial: "C3"},
	}, records[protocol.Intent](r))
}

// TestOpenRefuses: whatever the phases believe, open itself asks once more. It
// is the only place where a pulse is made.
func TestOpenRefuses(t *testing.T) {
	ready := func() *rig { // slot 1 is pulsed and closed again, slot 3 may be next
		r := usual(t)
		r.start(1, protocol.KindSwap)
		r.deposit(flat("R1"))
		r.wait(10 * tick)
		return r
	}
	cases := []struct {
		name string
		set  func(m *Machine, views []slot.View)
	}{
		{"sound", func(*Machine, []slot.View) {}},
		{"the slot is not closed", func(_ *Machine, v []slot.View) { v[3].Closed = false }},
		{"the slot is not known", func(_ *Machine, v []slot.View) { v[3].Fresh = false }},
		{"another slot of the swap is not closed", func(_ *Machine, v []slot.View) { v[0].Closed = false }},
		{"another slot of the swap is not known", func(_ *Machine, v []slot.View) { v[0].Fresh = false }},
		{"a safety alarm", func(m *Machine, _ []slot.View) { m.in.Halt = true }},
		{"six minutes are over", func(m *Machine, _ []slot.View) { m.in.Now += pulseWindow }},
		{"no pulse is left", func(m *Machine, _ []slot.View) { m.limits.MaxPulsesPerHour = 1 }},
		{"another boot", func(m *Machine, _ []slot.View) { m.durable.BootSeq++ }},
		{"two pulses are spent", func(m *Machine, _ []slot.View) {
			i := Intent{Slot: 4, Purpose: protocol.PurposeDispense}
			m.durable.Open.Intents = append(m.durable.Open.Intents, i, i)
		}},
	}
	for _, c := range cases {
		r := ready()
		m := *r.machine
		m.in, m.effects = r.input(nil), nil
		m.durable.Open.Intents = m.durable.Open.Intents[:1]
		c.set(&m, m.in.Slots)
		got := m.open(m.in.view(4), protocol.PurposeDispense)
		require.Equal(t, c.name == "sound", got, c.name)
		require.Equal(t, got, m.pulse != nil, c.name)
		require.Equal(t, got, len(m.effects) == 1, c.name)
	}
}

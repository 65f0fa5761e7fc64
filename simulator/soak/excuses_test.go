package soak

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/fleet"
	"batteryswap/protocol"
)

// TestHonestRidersMindDoors: where nobody cheats, a rider uses the doors of the own
// swap only, and not one that staff have opened with a key.
func TestHonestRidersMindDoors(t *testing.T) {
	s := newSim(1, profile{cabinets: 1, slots: 2, riders: 2, swaps: 1, pulses: 100})
	b, me, other := s.boxes[0], s.riders[0], s.riders[1]
	me.at = b
	door := b.slots[0]
	for _, x := range []struct {
		what           string
		wild, licensed bool
		of             *rider
		minds          bool
	}{
		{"my own swap's", false, true, me, false},
		{"another rider's", false, true, other, true},
		{"opened with a key", false, false, nil, true},
		{"opened with a key during my swap", false, false, me, true},
		{"another rider's, to a cheat", true, true, other, false},
		{"opened with a key, to a cheat", true, false, nil, false},
	} {
		s.profile.wild, door.open, door.licensed, b.facts.open = x.wild, true, x.licensed, nil
		if x.of != nil {
			b.facts.open = &deal{rider: x.of}
		}
		require.Equal(t, x.minds, me.minds(door), x.what)
	}
}

// TestUntold: a swap that the books lack is excused only when nobody can tell it.
func TestUntold(t *testing.T) {
	s := newSim(1, profile{cabinets: 1, slots: 2, riders: 1, swaps: 1, pulses: 100})
	id, b := protocol.SwapID("019cad22-4ea2-7000-8000-000000000030"), s.boxes[0]
	s.restored = time.Hour
	x := &deal{id: id, kind: protocol.KindIssue, box: b, rider: s.riders[0], epoch: protocol.Epoch{1}, since: time.Minute, ended: true}
	x.said = protocol.Closed{Outcome: protocol.OutcomeIssued}
	x.took = []*battery{s.batteries[0]}
	s.accepted = []*deal{x}
	requested := func() *fleet.Swap {
		return &fleet.Swap{SwapID: id, CabinetID: b.id, State: fleet.StateClosed, Outcome: protocol.OutcomeNotStarted}
	}
	for _, c := range []struct {
		what    string
		change  func(*fleet.Books)
		excused bool
	}{
		{"the request only", func(*fleet.Books) {}, true},
		{"not even the request", func(v *fleet.Books) { delete(v.Swaps, id) }, true},
		{"granted in the backup", func(v *fleet.Books) { v.Swaps[id].Nonce = protocol.Nonce{1} }, false},
		{"something booked", func(v *fleet.Books) { v.Swaps[id].Entries = 1 }, false},
		{"ended otherwise", func(v *fleet.Books) { v.Swaps[id].Outcome = protocol.OutcomeIssueNotTaken }, false},
		{"its epoch still counts", func(v *fleet.Books) { v.Cabinets[b.id].Epoch = x.epoch }, false},
		{"nobody was asked", func(v *fleet.Books) { v.Reviews = nil }, false},
		{"asked of something else", func(v *fleet.Books) { v.Reviews[0].Reason = protocol.ReasonMalformedRecord }, false},
		{"asked of another cabinet", func(v *fleet.Books) { v.Reviews[0].CabinetID = "hb-0002" }, false},
		{"restored before it", func(*fleet.Books) { x.since = 2 * time.Hour }, false},
	} {
		v := fleet.Books{
			Swaps:    map[protocol.SwapID]*fleet.Swap{id: requested()},
			Cabinets: map[protocol.CabinetID]*fleet.Cabinet{b.id: {CabinetID: b.id, Epoch: protocol.Epoch{2}}},
			Reviews:  []fleet.Review{{CabinetID: b.id, Reason: protocol.ReasonEpochReplaced}},
		}
		c.change(&v)
		s.broken = nil
		s.ledger(v, nil)
		require.Equal(t, c.excused, s.broken == nil, "%s: %v", c.what, s.broken)
	}
}

package soak

import (
	"testing"

	"github.com/stretchr/testify/require"
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

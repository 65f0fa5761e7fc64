package demo

import (
	"fmt"

	"batteryswap/simulator/world"
)

// openedAtBoot lists the pulses of agents that no rider had asked for: after an
// agent's start, a pulse needs a scan at its cabinet that was begun before the
// pulse and that was not answered before the start. (I6: a boot opens no door.)
func openedAtBoot(events []world.Event) []string {
	type scan struct {
		cabinet, answer string
		begun, answered uint64
	}
	var scans []*scan
	running := map[string]*scan{}  // by person
	started := map[string]uint64{} // by cabinet
	var all []string
	for _, e := range events {
		switch e.Kind {
		case world.AgentStarted:
			started[e.Cabinet] = e.N
		case world.Scanned:
			s := &scan{cabinet: e.Cabinet, begun: e.N}
			running[e.Person] = s
			scans = append(scans, s)
		case world.Answered:
			if s := running[e.Person]; s != nil {
				s.answered, s.answer = e.N, e.Cause
			}
		}
	}
	started = map[string]uint64{}
	for _, e := range events {
		if e.Kind == world.AgentStarted {
			started[e.Cabinet] = e.N
		}
		if e.Kind != world.Pulsed {
			continue
		}
		asked := false
		for _, s := range scans {
			open := s.answered == 0 || s.answered > started[e.Cabinet]
			granted := s.answered == 0 || s.answer == answerGranted || s.answer == answerNone
			asked = asked || s.cabinet == e.Cabinet && s.begun < e.N && open && granted
		}
		if !asked {
			all = append(all, fmt.Sprintf("event %d: %s slot %d was unlocked after the start of its agent (event %d), and nobody had asked",
				e.N, e.Cabinet, e.Slot, started[e.Cabinet]))
		}
	}
	return all
}

// answerNone is what riders note of a scan that got no answer.
const answerNone = "no_answer"

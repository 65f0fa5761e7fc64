package demo

import (
	"fmt"
	"time"

	"batteryswap/simulator/world"
)

// openedAtBoot lists the pulses of agents that no rider had asked for: after an
// agent's start, a pulse needs a scan at its cabinet that was begun before the
// pulse and that was not answered before the start. A scan whose answer was lost
// may still be granted for a while. (I6: a boot opens no door.)
func openedAtBoot(events []world.Event) []string {
	type scan struct {
		cabinet, answer string
		begun, answered uint64
		dead            time.Duration // when one without an answer is granted no more
	}
	var scans []*scan
	running := map[string]*scan{} // by person
	var all []string
	for _, e := range events {
		switch e.Kind {
		case world.Scanned:
			s := &scan{cabinet: e.Cabinet, begun: e.N}
			running[e.Person] = s
			scans = append(scans, s)
		case world.Answered:
			if s := running[e.Person]; s != nil {
				s.answered, s.answer = e.N, e.Cause
				if e.Cause == answerNone {
					s.dead = e.At + lostAnswer
				}
			}
		}
	}
	started := map[string]world.Event{} // by cabinet
	for _, e := range events {
		if e.Kind == world.AgentStarted {
			started[e.Cabinet] = e
		}
		if e.Kind != world.Pulsed {
			continue
		}
		asked := false
		for _, s := range scans {
			start := started[e.Cabinet]
			open := s.answered == 0 || s.answered > start.N || s.answer == answerNone && start.At < s.dead
			granted := s.answered == 0 || s.answer == answerGranted || s.answer == answerNone
			asked = asked || s.cabinet == e.Cabinet && s.begun < e.N && open && granted
		}
		if !asked {
			all = append(all, fmt.Sprintf("event %d: %s slot %d was unlocked after the start of its agent (event %d), and nobody had asked",
				e.N, e.Cabinet, e.Slot, started[e.Cabinet].N))
		}
	}
	return all
}

const (
	// answerNone is what riders note of a scan that got no answer.
	answerNone = "no_answer"
	// lostAnswer is how long a scan without an answer may still lead to a pulse: a
	// replica closes its request after 10 s, a cabinet its offer after 15 s.
	lostAnswer = 30 * time.Second
)

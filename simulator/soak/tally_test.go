package soak

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// state is where a cabinet stands, as its device's records and words tell.
type state uint8

const (
	idle state = iota
	prepared
	accepted
	depositing
	reopened
	deposited
	dispensing
	returning
	taken
	recovering
	states
)

var stateNames = [states]string{
	"idle", "prepared", "accepted", "deposit", "reopen", "deposited", "dispense", "return", "taken", "recovering",
}

// fault is what goes wrong.
type fault uint8

const (
	cutIdle fault = iota
	cutBeforeWrite
	cutTorn
	cutAfterWrite
	cutAfterSync
	cutBeforeAct
	cutAfterAct
	flashLies
	flashFails
	flashFull
	flashReadOnly
	flashGarbles
	lostUp
	lostDown
	doubled
	reordered
	hourLate
	corrupted
	replayed
	partition
	brokerWiped
	backendCrash
	backendRestored
	clockStep
	failedPulse
	stuckLock
	stickingDoor
	doorFlaps
	boltFlaps
	presenceFlaps
	deadLink
	noAnswer
	lateReply
	frozenBoard
	lateAnswer
	smoke
	hotBattery
	wrongBattery
	closedEmpty
	takenBack
	notPlugged
	walkedAway
	notTaken
	putBack
	exchanged
	forced
	faults
)

var faultNames = [faults]string{
	"power cut at rest", "cut before a write", "cut in a write", "cut after a write", "cut after a sync",
	"cut before an act", "cut after an act",
	"flash lies", "EIO", "ENOSPC", "read-only", "garbled sector",
	"message lost up", "message lost down", "message doubled", "message reordered", "message an hour late",
	"message corrupted", "message replayed",
	"partition", "broker wiped", "backend crash", "backend restored", "clock step",
	"failed pulse", "stuck lock", "sticking door", "door flaps", "bolt flaps", "presence flaps", "dead link",
	"no answer", "late reply", "frozen board", "late answer to a pulse", "smoke", "hot battery",
	"wrong battery", "closed empty", "taken back", "not plugged", "walked away", "not taken", "put back",
	"battery exchanged", "door forced",
}

// tally counts over seeds.
type tally struct {
	Seeds, Swaps, Faults int
	Time                 time.Duration // simulated
	Cells                [faults][states]int
	Kinds                map[string]int // kind and outcome of closed swaps
}

func newTally() *tally { return &tally{Kinds: map[string]int{}} }

func (t *tally) add(o *tally) {
	t.Seeds += o.Seeds
	t.Swaps += o.Swaps
	t.Faults += o.Faults
	t.Time += o.Time
	for f := range t.Cells {
		for s := range t.Cells[f] {
			t.Cells[f][s] += o.Cells[f][s]
		}
	}
	for k, n := range o.Kinds {
		t.Kinds[k] += n
	}
}

// impossible says why a fault cannot meet a state; "" when it can.
func impossible(f fault, s state) string {
	passing := s == accepted || s == taken
	switch {
	case passing && f != cutBeforeWrite && f != cutTorn && f != cutAfterWrite && f != cutAfterSync && f != cutBeforeAct && f != cutAfterAct:
		return "lasts for a part of one step: no time passes in it"
	case passing && (f == cutBeforeAct || f == cutAfterAct):
		return "between two records of one lot: nothing else is done there"
	}
	switch f {
	case closedEmpty, wrongBattery, takenBack, notPlugged:
		if s != depositing && s != recovering && s != reopened {
			return "is done at an open deposit door"
		}
		if s == reopened && f != takenBack && f != closedEmpty {
			return "the battery is in already"
		}
	case notTaken, putBack, exchanged:
		if s != dispensing && s != recovering {
			return "is done at an open dispense door"
		}
	case walkedAway:
		if s == idle || s == prepared || s == deposited {
			return "nothing holds a rider there: no door is open"
		}
	case failedPulse, stickingDoor, lateAnswer:
		if s != depositing && s != reopened && s != dispensing && s != returning {
			return "meets a pulse, and none is given there"
		}
	case forced:
		if s != idle {
			return "staff force doors of cabinets at rest"
		}
	}
	return ""
}

// missing lists possible cells with fewer hits than least.
func (t *tally) missing(least int) []string {
	var out []string
	for f := range faults {
		for s := range states {
			if n := t.Cells[f][s]; n < least && impossible(f, s) == "" {
				out = append(out, fmt.Sprintf("%s × %s: %d", faultNames[f], stateNames[s], n))
			}
		}
	}
	return out
}

// String is the table of the cells.
func (t *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-24s", "fault × state")
	for _, n := range stateNames {
		fmt.Fprintf(&b, "%11s", n)
	}
	b.WriteByte('\n')
	for f := range faults {
		fmt.Fprintf(&b, "%-24s", faultNames[f])
		for s := range states {
			if impossible(f, s) != "" && t.Cells[f][s] == 0 {
				fmt.Fprintf(&b, "%11s", "–")
			} else {
				fmt.Fprintf(&b, "%11d", t.Cells[f][s])
			}
		}
		b.WriteByte('\n')
	}
	var kinds []string
	for k, n := range t.Kinds {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(kinds)
	fmt.Fprintf(&b, "ends: %s\n", strings.Join(kinds, ", "))
	return b.String()
}

package swap

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

var update = flag.Bool("update", false, "rewrite protocol/testdata/traces.txt")

const tracesFile = "../../../protocol/testdata/traces.txt"

const tracesHead = `# Every list of records that ends a swap, as the agent's machine writes it in a small cabinet:
# slots 1 and 2 empty, C3 and C4 charged in 3 and 4, F5 flat in 5. The rider has R1 for a swap or a
# hand_back, one open credit (origin swap) for owed, one (origin staff) for issue.
# Each scene (see scenes() in the test) with one or two unusual turns: a pulse that does nothing or leaves the door sticking, a power cut between any
# two effects, a rider who does something else. Lists that differ in nothing but DOOR records stand once.
#
# One JSON object a line. "records" follow a grant of boot 1 with the slots and batteries that ACCEPT's grant
# names (where there is no ACCEPT: slots 1 and 2, batteries C3 and C4); "boot" is boot_seq of the record.
# "books" is what must stand in the books after the last record:
#   outcome    how the swap is closed
#   deposited  the battery that is the fleet's again    taken  the battery that is the rider's now
#   counts     1 when it counts as a swap               credit  what the rider's open credits change by
#   review     true when a person has to decide; a reserved credit stays reserved, and credit is 0
# Rewritten by: go test ./firmware-agent/internal/swap -run TestTraces -update
`

// trace is a line of traces.txt.
type trace struct {
	Name    string        `json:"name"`
	Kind    protocol.Kind `json:"kind"`
	Books   books         `json:"books"`
	Records []traceRecord `json:"records"`
	key     string        // all but DOOR records
}

type traceRecord struct {
	Boot    uint32          `json:"boot"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload"`
}

type books struct {
	Outcome   protocol.Outcome       `json:"outcome"`
	Deposited protocol.BatterySerial `json:"deposited,omitempty"`
	Taken     protocol.BatterySerial `json:"taken,omitempty"`
	Counts    int                    `json:"counts"`
	Credit    int                    `json:"credit"`
	Review    bool                   `json:"review"`
}

// booksOf are written by the table of the design, from the facts of the rig.
func booksOf(s *story) books {
	c, ok := s.lastClosed()
	if !ok {
		return books{Outcome: protocol.OutcomeNotStarted}
	}
	b := books{Outcome: c.Outcome, Review: c.Outcome == protocol.OutcomeReview}
	if b.Review {
		return b
	}
	now := s.where()
	for serial := range s.accepted {
		if now[serial] == 0 {
			b.Taken = serial
		}
	}
	for serial := range now {
		if s.accepted[serial] == 0 {
			b.Deposited = serial
		}
	}
	switch c.Outcome {
	case protocol.OutcomeSwapped:
		b.Counts = 1
	case protocol.OutcomeOwedTaken:
		b.Counts, b.Credit = 1, -1
	case protocol.OutcomeIssued:
		b.Credit = -1
	case protocol.OutcomeDepositedOwed:
		b.Credit = 1
	}
	return b
}

// walk is every course of one scene and kind.
type walk struct{ traces []trace }

func (w *walk) run(t *testing.T, sc scene, k protocol.Kind) {
	seen := map[string]bool{}
	runs := explore(sc.unusual, func(choose func(int, string) int) {
		s := newStory(t, sc, k, 2, choose)
		tr := traceOf(s, s.run())
		tr.Name = string(k) + "-" + sc.name
		if !seen[tr.key] {
			seen[tr.key] = true
			w.traces = append(w.traces, tr)
		}
	})
	t.Logf("%d courses", runs)
}

func traceOf(s *story, from int) trace {
	tr := trace{Kind: s.kind, Books: booksOf(s)}
	var k bytes.Buffer
	fmt.Fprintln(&k, s.kind)
	for _, j := range s.journal[from:] {
		rec := traceRecord{Boot: j.rec.BootSeq, Type: j.rec.Type.String(), Payload: j.rec.Payload}
		tr.Records = append(tr.Records, rec)
		if j.rec.Type != protocol.RecordDoor {
			fmt.Fprintf(&k, "%d %s %s\n", rec.Boot, rec.Type, rec.Payload)
		}
	}
	tr.key = k.String()
	return tr
}

// TestTraces walks every course: a pulse that does nothing or leaves the door
// sticking, a cut between any two effects, a rider who does something else. The
// rig checks the invariants in each. It compares the lists of records with the file that the backend's
// test folds. A change of behaviour is a diff of that file.
func TestTraces(t *testing.T) {
	var walks []*walk
	t.Run("walk", func(t *testing.T) { // ends when all parallel walks have
		for _, sc := range scenes() {
			for _, k := range sc.kinds {
				w := &walk{}
				walks = append(walks, w)
				t.Run(string(k)+"/"+sc.name, func(t *testing.T) {
					t.Parallel()
					w.run(t, sc, k)
				})
			}
		}
	})
	var out bytes.Buffer
	out.WriteString(tracesHead)
	seen, outcomes := map[string]bool{}, map[protocol.Outcome]int{}
	for _, w := range walks {
		n := 0
		for _, tr := range w.traces {
			if seen[tr.key] {
				continue
			}
			seen[tr.key] = true
			n++
			tr.Name = fmt.Sprintf("%s-%03d", tr.Name, n)
			outcomes[tr.Books.Outcome]++
			line, err := json.Marshal(tr)
			require.NoError(t, err)
			out.Write(line)
			out.WriteByte('\n')
		}
	}
	t.Logf("%d bytes, outcomes %v", out.Len(), outcomes)
	for _, o := range []protocol.Outcome{
		protocol.OutcomeNoDeposit, protocol.OutcomeSwapped, protocol.OutcomeReturned, protocol.OutcomeDepositedOwed,
		protocol.OutcomeOwedTaken, protocol.OutcomeOwedNotTaken, protocol.OutcomeIssued, protocol.OutcomeIssueNotTaken,
		protocol.OutcomeHandedBack, protocol.OutcomeNotStarted, protocol.OutcomeReview,
	} {
		require.NotZero(t, outcomes[o], "no course ends as %s", o)
	}
	if *update {
		require.NoError(t, os.WriteFile(tracesFile, out.Bytes(), 0o644))
		return
	}
	want, err := os.ReadFile(tracesFile)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, out.Bytes()), "%s is not what the machine writes: %s; run the test with -update and look at the diff",
		tracesFile, firstDifference(want, out.Bytes()))
}

func firstDifference(want, got []byte) string {
	w, g := bytes.Split(want, []byte{'\n'}), bytes.Split(got, []byte{'\n'})
	for i := range min(len(w), len(g)) {
		if !bytes.Equal(w[i], g[i]) {
			return fmt.Sprintf("line %d is %.400s, want %.400s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

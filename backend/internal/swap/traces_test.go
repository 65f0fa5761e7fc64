package swap

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// tracesFile is written by the agent's test: every list of records that ends a
// swap, with what must stand in the books after it.
const tracesFile = "../../../protocol/testdata/traces.txt"

type trace struct {
	Name  string        `json:"name"`
	Kind  protocol.Kind `json:"kind"`
	Books struct {
		Outcome   protocol.Outcome       `json:"outcome"`
		Deposited protocol.BatterySerial `json:"deposited"`
		Taken     protocol.BatterySerial `json:"taken"`
		Counts    int                    `json:"counts"`
		Credit    int                    `json:"credit"`
		Review    bool                   `json:"review"`
	} `json:"books"`
	Records []struct {
		Boot    uint32          `json:"boot"`
		Type    string          `json:"type"`
		Payload json.RawMessage `json:"payload"`
	} `json:"records"`
}

const riderOwn = protocol.BatterySerial("R1")

func readTraces(t *testing.T) []trace {
	raw, err := os.ReadFile(tracesFile)
	require.NoError(t, err)
	var out []trace
	sc := bufio.NewScanner(bytes.NewReader(raw))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if line := sc.Bytes(); len(line) > 0 && line[0] != '#' {
			var tr trace
			require.NoError(t, json.Unmarshal(line, &tr))
			out = append(out, tr)
		}
	}
	require.NoError(t, sc.Err())
	require.NotEmpty(t, out)
	return out
}

func typeNamed(t *testing.T, name string) protocol.RecordType {
	for r := protocol.RecordBoot; r.Valid(); r++ {
		if r.String() == name {
			return r
		}
	}
	t.Fatalf("no record type %q", name)
	return 0
}

// stage sets the scene of a trace, up to the grant, and writes its records. The
// first record of the trace has seq 2: before it stands the BOOT of boot 1.
func (tr trace) stage(t *testing.T) (*bench, protocol.SwapID) {
	k := &bench{Books: NewBooks(), t: t, now: start, days: map[DayKey]int{}}
	k.log = newLogbook(t, epochNo(1))
	k.cabinet = k.addCabinet("hb-0001", k.log.epoch)
	k.rider = k.addRider(alice)
	for slot, serial := range map[int]protocol.BatterySerial{3: "C3", 4: "C4", 5: "F5"} {
		k.AddBattery(&Battery{BatterySerial: serial, Holder: InSlot, CabinetID: "hb-0001", Slot: slot})
	}
	own := &Battery{BatterySerial: riderOwn, Holder: WithStaff}
	if tr.Kind.Deposits() {
		own.Holder, own.RiderID = WithRider, alice
	}
	k.AddBattery(own)
	k.AddBattery(&Battery{BatterySerial: "X9", Holder: WithStaff}) // somebody else's, in some scenes
	if origin := map[protocol.Kind]Origin{protocol.KindOwed: OriginSwap, protocol.KindIssue: OriginStaff}[tr.Kind]; origin != "" {
		k.Credits[id(1)] = &Credit{CreditID: id(1), RiderID: alice, Origin: origin, State: CreditOpen}
	}
	k.log.write(protocol.Boot{Epoch: k.log.epoch})
	k.fold()

	swapID := protocol.SwapID("01920000-0000-7000-8000-000000000001")
	nonce := protocol.Nonce{15: 1}
	for _, r := range tr.Records {
		if r.Type == "ACCEPT" {
			var a protocol.Accept
			require.NoError(t, json.Unmarshal(r.Payload, &a))
			swapID, nonce = a.SwapID, a.Nonce
		}
	}
	s, no := k.Request(Scan{RiderID: alice, CabinetID: "hb-0001", HandBack: tr.Kind == protocol.KindHandBack}, swapID, k.now, false)
	require.Nil(t, no)
	require.Equal(t, tr.Kind, s.Kind)
	p := protocol.Prepared{SwapID: swapID, Epoch: k.log.epoch, BootSeq: 1, BootID: protocol.BootID{1}, Nonce: nonce}
	if tr.Kind.Deposits() {
		p.DepositSlots = []int{1, 2}
	}
	if tr.Kind.Dispenses() {
		p.Dispense = []protocol.Offer{{Slot: 3, BatterySerial: "C3", Soc: 96}, {Slot: 4, BatterySerial: "C4", Soc: 96}}
	}
	_, err := k.Grant(k.cabinet, p, "00112233445566778899aabbccddeeff", k.now, false)
	require.NoError(t, err)
	k.keep()
	for _, r := range tr.Records {
		if r.Boot != k.log.boot {
			k.log.boot, k.log.mono = r.Boot, 0
		}
		k.log.raw(typeNamed(t, r.Type), r.Payload)
	}
	return k, swapID
}

// facts are what a part of a trace has said, in the trace's own words.
type facts struct {
	deposited, taken protocol.BatterySerial // DEPOSIT accepted, TAKEN
	accepted         bool
	ended            bool // CLOSED, or what keeps it from starting
}

func (tr trace) said(t *testing.T, n int) facts {
	var f facts
	for _, r := range tr.Records[:n] {
		switch r.Type {
		case "ACCEPT":
			f.accepted = true
		case "DEPOSIT":
			var d protocol.Deposit
			require.NoError(t, json.Unmarshal(r.Payload, &d))
			if d.Accepted {
				f.deposited = d.Battery.BatterySerial
			}
		case "TAKEN":
			var x protocol.Taken
			require.NoError(t, json.Unmarshal(r.Payload, &x))
			f.taken = x.BatterySerial
		case "CLOSED", "VOID":
			f.ended = true
		case "BOOT":
			f.ended = f.ended || !f.accepted
		}
	}
	return f
}

// requireWhole holds the books against the trace's last word.
func (tr trace) requireWhole(t *testing.T, k *bench, id protocol.SwapID) {
	t.Helper()
	s := k.Swaps[id]
	require.Equal(t, tr.Books.Outcome, s.Outcome)
	require.Equal(t, tr.Books.Counts, k.rider.Counted, "counted")
	require.Equal(t, tr.Books.Counts, k.days[DayKey{alice, "hb-0001", DayOf(start)}], "daily aggregate")
	before := len(k.Credits)
	if s.Outcome == protocol.OutcomeDepositedOwed {
		before-- // it is the one that was opened
	}
	require.Equal(t, before+tr.Books.Credit, k.credits(alice), "open credits")
	if tr.Books.Review {
		require.Len(t, k.reviews, 1)
	} else {
		require.Empty(t, k.reviews)
		require.Equal(t, tr.Books.Deposited == riderOwn, k.Batteries[riderOwn].Holder == InSlot, "own battery")
		for _, serial := range []protocol.BatterySerial{"C3", "C4"} {
			require.Equal(t, tr.Books.Taken == serial, k.Batteries[serial].Holder == WithRider, "battery %s", serial)
		}
	}
	require.LessOrEqual(t, k.rider.Takes, k.rider.Deposits-k.rider.Returns+k.rider.Issued+tr.Books.Counts*owed(tr.Kind), "I1")
	tr.requireLedger(t, k, id)
}

func owed(k protocol.Kind) int {
	if k == protocol.KindOwed {
		return 1
	}
	return 0
}

// requireLedger sums the ledger up again: the rows of the books are nothing else.
func (tr trace) requireLedger(t *testing.T, k *bench, id protocol.SwapID) {
	t.Helper()
	sum := Rider{RiderID: alice, Active: true, OpenReviews: len(k.reviews)}
	at := map[protocol.BatterySerial]Holder{}
	for i, e := range k.ledger {
		require.Equal(t, id, e.SwapID)
		require.Equal(t, i+1, e.EntryNo)
		switch e.What {
		case Deposited:
			sum.Deposits++
		case Returned:
			sum.Returns++
		case Taken:
			sum.Takes++
			if e.Counted {
				sum.Counted++
			}
			if e.Kind == protocol.KindIssue {
				sum.Issued++
			}
		}
		if e.Holder != "" {
			at[e.BatterySerial] = e.Holder
		}
	}
	require.Equal(t, sum, *k.rider)
	for serial, h := range at {
		require.Equal(t, h, k.Batteries[serial].Holder, "battery %s", serial)
	}
}

func TestTracesFold(t *testing.T) {
	for _, tr := range readTraces(t) {
		t.Run(tr.Name, func(t *testing.T) {
			k, id := tr.stage(t)
			k.fold()
			tr.requireWhole(t, k, id)
		})
	}
}

// TestTracesRepeated sends each trace in two messages for every place to cut it,
// and the second message from every earlier record on: whatever is told twice
// counts once.
func TestTracesRepeated(t *testing.T) {
	for _, tr := range readTraces(t) {
		n := len(tr.Records) + 1
		for cut := 1; cut <= n; cut++ {
			k, id := tr.stage(t)
			require.Equal(t, Took, k.log.ingest(k.Books, k.cabinet, 1, cut))
			back := cut/2 + 1 // from the middle of what has been told
			require.Equal(t, Took, k.log.ingest(k.Books, k.cabinet, back, n))
			require.Equal(t, Took, k.log.ingest(k.Books, k.cabinet, back, cut), "an old message comes late")
			k.keep()
			tr.requireWhole(t, k, id)
		}
	}
}

// TestTracesCut stops after every record: the books say what has been said, no
// more and no less.
func TestTracesCut(t *testing.T) {
	for _, tr := range readTraces(t) {
		for n := range tr.Records {
			k, id := tr.stage(t)
			if n > 0 {
				require.Equal(t, Took, k.log.ingest(k.Books, k.cabinet, 2, n+1))
			}
			k.keep()
			f, s := tr.said(t, n), k.Swaps[id]
			require.Equal(t, f.ended, s.State == StateClosed, "%s after %d records", tr.Name, n)
			if f.ended {
				continue // what follows is the next boot's
			}
			require.Equal(t, f.accepted, s.State == StateActive, "%s after %d records", tr.Name, n)
			require.Equal(t, f.taken, s.Taken)
			counts := 0
			if f.taken != "" && tr.Kind != protocol.KindIssue {
				counts = 1
			}
			require.Equal(t, counts, k.rider.Counted, "%s after %d records", tr.Name, n)
			require.Equal(t, f.deposited != "", s.Judgement == Accepted)
			if f.deposited != "" {
				require.Equal(t, InSlot, k.Batteries[f.deposited].Holder)
			}
			require.Empty(t, k.reviews)
			tr.requireLedger(t, k, id)
		}
	}
}

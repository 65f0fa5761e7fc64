package swap

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

var (
	walkSeeds = flag.Int("walks", 150, "random walks to make")
	walkSeed  = flag.Uint64("walk", 0, "make only the walk of this seed")
)

// TestRandomWalk lets many swaps follow each other in one cabinet, with
// everything that goes wrong, and checks the invariants in each.
func TestRandomWalk(t *testing.T) {
	if *walkSeed != 0 {
		w := newWalker(named{t, *walkSeed}, *walkSeed)
		w.run()
		t.Log(w.rig)
		return
	}
	total := tally{}
	for seed := uint64(1); seed <= uint64(*walkSeeds); seed++ {
		w := newWalker(named{t, seed}, seed)
		w.run()
		total.add(w.tally)
		if t.Failed() {
			t.Fatalf("replay: go test ./firmware-agent/internal/swap -run TestRandomWalk -walk %d -v", seed)
		}
	}
	t.Logf("%+v", total)
	for what, n := range map[string]int{
		"swaps": total.swaps, "cuts": total.cuts, "lies": total.lies, "reviews": total.reviews,
		"replays": total.replays, "thefts": total.thefts, "snapshots": total.snapshots, "visits": total.visits,
		"visits that moved something": total.moved,
	} {
		require.NotZero(t, n, "the walks had no %s: they prove less than they say", what)
	}
}

type tally struct {
	swaps, accepted, cuts, lies, reviews, replays, thefts, snapshots, failedPulses, deadBoards, visits, moved int
}

func (t *tally) add(o tally) {
	t.swaps += o.swaps
	t.accepted += o.accepted
	t.cuts += o.cuts
	t.lies += o.lies
	t.reviews += o.reviews
	t.replays += o.replays
	t.thefts += o.thefts
	t.snapshots += o.snapshots
	t.failedPulses += o.failedPulses
	t.deadBoards += o.deadBoards
	t.visits += o.visits
	t.moved += o.moved
}

// named makes failures tell the seed.
type named struct {
	*testing.T
	seed uint64
}

func (n named) Errorf(format string, args ...any) {
	n.T.Errorf("walk %d: "+format, append([]any{n.seed}, args...)...)
}

type walker struct {
	*rig
	tally
	rnd      *rand.Rand
	seed     uint64
	hands    []*battery
	made     int
	heard    []Event // every command ever sent: a hostile broker sends it again
	from     int     // where the records of this swap begin
	cutsLeft int
	foreign  int
	mischief bool // the rider does something else now and then
}

func newWalker(t require.TestingT, seed uint64) *walker {
	w := &walker{rnd: rand.New(rand.NewPCG(seed, 1)), seed: seed}
	boxes := []box{{}, {}, {}}
	for i := range 4 {
		boxes = append(boxes, box{in: charged(protocol.BatterySerial(fmt.Sprintf("C%d", i+4)))})
	}
	boxes = append(boxes, box{in: &battery{serial: "F8", soc: 30}})
	w.rig = newRig(t, boxes...)
	w.robbed = map[int]bool{}
	w.limits.MaxPulsesPerHour = 60
	w.hands = []*battery{flat("R1"), flat("R2")}
	w.wait(4 * time.Second)
	w.rig.cut = func(where string) bool {
		rarely := 12
		if where == "at rest" {
			rarely = 300
		}
		if w.cutsLeft == 0 || !w.chance(rarely) {
			return false
		}
		w.cutsLeft--
		w.cuts++
		if last := w.journal[len(w.journal)-1]; last.rec.Type == protocol.RecordIntent && w.chance(3) {
			w.lie = true
			w.lies++
		}
		return true
	}
	w.pulsed = func(n int) pulseResult {
		switch {
		case w.chance(8):
			w.failedPulses++
			return nothing
		case w.chance(12):
			w.failedPulses++
			return sticks
		}
		return opens
	}
	return w
}

// chance is true once in n.
func (w *walker) chance(n int) bool { return w.rnd.IntN(n) == 0 }

func (w *walker) run() {
	for i := 1; i <= 10; i++ {
		w.one(i)
	}
}

// one is one swap with all that may happen around it.
func (w *walker) one(n int) {
	w.swaps++
	w.cutsLeft, w.mischief = w.rnd.IntN(4), w.chance(2)
	if w.chance(6) {
		w.snapshot()
	}
	if w.chance(8) {
		w.theft()
	}
	w.lull()
	if w.chance(6) {
		w.visit()
	}
	k := []protocol.Kind{protocol.KindSwap, protocol.KindSwap, protocol.KindSwap, protocol.KindOwed, protocol.KindIssue, protocol.KindHandBack}[w.rnd.IntN(6)]
	if len(w.hands) == 0 && k.Deposits() {
		k = protocol.KindOwed
	}
	w.from = len(w.journal)
	w.say(Prepare{Prepare: protocol.Prepare{SwapID: swapID(n), Kind: k}, Random: w.nonce(), Present: true})
	w.spend(w.rnd.IntN(4))
	if p, ok := w.lastPrepared(n); ok && !w.chance(10) {
		expect := []protocol.BatterySerial{}
		for _, b := range w.hands {
			if k.Deposits() && len(expect) < protocol.MaxExpectSerials {
				expect = append(expect, b.serial)
			}
		}
		if w.chance(10) { // the grant comes late, perhaps too late
			w.spend(w.rnd.IntN(60))
		}
		w.say(w.grantOf(p, k, expect...))
	}
	if w.chance(10) {
		w.say(Cancel{protocol.Cancel{SwapID: swapID(n)}})
	}
	w.spend(120 + w.rnd.IntN(120))
	w.calm()
}

// say sends a command, perhaps twice, and a stranger may send an old one again.
func (w *walker) say(e Event) {
	w.heard = append(w.heard, e)
	w.event(e)
	if w.chance(6) {
		w.event(e)
	}
}

func (w *walker) lastPrepared(n int) (protocol.Prepared, bool) {
	for i := len(w.replies) - 1; i >= 0; i-- {
		if p, ok := w.replies[i].(protocol.Prepared); ok {
			return p, p.SwapID == swapID(n)
		}
	}
	return protocol.Prepared{}, false
}

// spend lets ticks pass, with the rider at work.
func (w *walker) spend(ticks int) {
	for range ticks {
		if !w.on {
			for range w.rnd.IntN(3) {
				w.act() // in the dark
			}
			w.boot()
			continue
		}
		if w.chance(15) {
			w.replays++
			e := w.heard[w.rnd.IntN(len(w.heard))]
			if q, ok := e.(MaintenanceRequest); ok { // the cabinet draws anew for each
				q.Random = w.nonce()
				e = q
			}
			w.event(e)
		}
		if w.chance(500) {
			w.deadBoards++
			w.box(1 + w.rnd.IntN(len(w.boxes))).dead = true
		}
		for i := range w.boxes {
			if w.boxes[i].dead && w.chance(10) {
				w.boxes[i].dead = false
			}
		}
		w.tick()
		if w.chance(3) {
			w.act()
		}
	}
}

// act is one act at a door that gives.
func (w *walker) act() {
	for i := range w.boxes {
		b := &w.boxes[i]
		if b.unlocked && w.chance(4) {
			b.unlocked, b.open = false, w.chance(2)
		}
	}
	for i := range w.boxes {
		b := &w.boxes[i]
		if !b.open {
			continue
		}
		purpose := protocol.Purpose("")
		if in, ok := w.lastIntent(); ok && in.Slot == i+1 {
			purpose = in.Purpose
		}
		w.at(b, purpose)
		return
	}
}

// at does what the door is for, or something else.
func (w *walker) at(b *box, purpose protocol.Purpose) {
	want := purpose == protocol.PurposeDispense || purpose == protocol.PurposeReturn
	if purpose == protocol.PurposeMaintenance && w.chance(2) {
		if b.in == nil {
			w.in(b)
		} else {
			w.out(b)
		}
		return
	}
	if w.mischief && w.chance(3) {
		switch w.rnd.IntN(4) {
		case 0:
			w.exchange(b)
		case 1:
			b.mute = b.in != nil && !b.mute
		case 2:
			w.out(b)
		case 3:
			w.in(b)
		}
		return
	}
	switch {
	case want && b.in != nil:
		w.out(b)
	case purpose == protocol.PurposeDeposit && b.in == nil && !w.chance(4):
		w.in(b)
	case purpose == protocol.PurposeReopen:
		b.mute = false
		b.open, b.unlocked = false, false
	default:
		b.open, b.unlocked = false, w.chance(12) // it may not latch
		b.forced = b.forced && b.unlocked
	}
}

func (w *walker) in(b *box) {
	if len(w.hands) == 0 || b.in != nil {
		return
	}
	i := w.rnd.IntN(len(w.hands))
	b.in, b.mute = w.hands[i], w.mischief && w.chance(8)
	w.hands = append(w.hands[:i:i], w.hands[i+1:]...)
}

func (w *walker) out(b *box) {
	if b.in == nil {
		return
	}
	b.in.soc, w.hands = 12, append(w.hands, b.in)
	b.in, b.mute = nil, false
}

// exchange leaves a foreign battery and takes what is there.
func (w *walker) exchange(b *box) {
	w.out(b)
	w.foreign++
	b.in = flat(protocol.BatterySerial(fmt.Sprintf("X%d", w.foreign)))
}

// theft is a crowbar, between swaps.
func (w *walker) theft() {
	if w.open() != nil || !w.on {
		return
	}
	w.thefts++
	n := 4 + w.rnd.IntN(5)
	b := w.box(n)
	w.robbed[n] = true
	b.open, b.forced = true, true
	w.wait(time.Duration(w.rnd.IntN(6)) * time.Second)
	if w.chance(2) {
		b.in, b.mute = nil, false
	}
	b.open, b.unlocked, b.forced = false, false, false
}

// snapshot rolls the journal now and then.
func (w *walker) snapshot() {
	if w.on {
		w.snapshots++
		w.rig.snapshot()
	}
}

// calm ends all faults, closes all doors and demands that the swap ends (I13).
func (w *walker) calm() {
	honest := !w.mischief
	w.cutsLeft, w.mischief, w.key = 0, false, slot.No
	for end := w.now + 10*time.Minute; ; {
		if !w.on {
			w.boot()
			end = w.now + 10*time.Minute
		}
		idling := true
		for i := range w.boxes {
			b := &w.boxes[i]
			b.dead = false
			if b.open || b.unlocked {
				b.open, b.unlocked, b.forced = false, false, false
				idling = false
			}
		}
		if idling && w.machine != nil && w.machine.phase == idle {
			break
		}
		require.Less(w.t, w.now, end, "I13: the swap is not closed 10 min after faults stopped and doors are closed\n%s", w.rig)
		w.tick()
	}
	w.checkRest()
	for _, j := range w.journal[w.from:] {
		switch p := j.p.(type) {
		case protocol.Accept:
			w.tally.accepted++
		case protocol.Closed:
			if p.Outcome == protocol.OutcomeReview {
				require.False(w.t, honest, "I14: a review, and the rider was honest\n%s", w.rig)
				w.reviews++
			}
		}
	}
}

// visit is a technician's, with the key switch, orders that come in any order and
// again, and cuts.
func (w *walker) visit() {
	w.visits++
	w.made++
	hands, cutsLeft, mischief := w.hands, w.cutsLeft, w.mischief
	w.hands = []*battery{charged(protocol.BatterySerial(fmt.Sprintf("N%d", w.made)))}
	w.from = len(w.journal)
	w.cutsLeft, w.mischief, w.key = w.rnd.IntN(3), false, slot.Yes
	if w.chance(8) {
		w.key = slot.Unknown
	}
	w.obey(protocol.OrderBegin, 0)
	for range 1 + w.rnd.IntN(4) {
		w.obey(protocol.OrderOpen, 1+w.rnd.IntN(len(w.boxes)))
		w.spend(4 + w.rnd.IntN(30))
		if w.chance(12) {
			w.key = slot.Tri(w.rnd.IntN(3))
		}
		if w.chance(12) {
			w.theft()
			w.wait(3 * time.Second) // else what the end tells was read before
		}
	}
	if !w.chance(3) {
		w.obey(protocol.OrderEnd, 0)
	}
	w.spend(20)
	w.calm()
	w.hands, w.cutsLeft, w.mischief = hands, cutsLeft, mischief
	for _, m := range w.ends() {
		w.moved += boolInt(len(m.Changes) > 0)
	}
}

// obey asks for an order, and grants it unless that is lost.
func (w *walker) obey(what protocol.Order, slotNumber int) {
	orders++
	was := len(w.replies)
	w.say(MaintenanceRequest{protocol.MaintenanceRequest{OrderID: orderID(orders), What: what, Slot: slotNumber}, w.nonce()})
	w.spend(w.rnd.IntN(4))
	for _, m := range w.replies[min(was, len(w.replies)):] {
		if a, ok := m.(protocol.MaintenanceAnswer); ok && a.OrderID == orderID(orders) && a.Reason == "" && !w.chance(10) {
			if w.chance(12) {
				w.spend(w.rnd.IntN(60)) // perhaps too late
			}
			w.say(w.grantFor(a, what, slotNumber))
			return
		}
	}
}

// lull is the time between two swaps, which refills the bucket. Half of the time
// staff come, and switch the cabinet off to put things right.
func (w *walker) lull() {
	if w.chance(2) {
		w.restock()
	}
	for i := range w.boxes {
		w.boxes[i].jam, w.boxes[i].stick = 0, false
	}
	if len(w.hands) > 3 {
		w.hands = w.hands[:3]
	}
	if len(w.hands) == 0 {
		w.made++
		w.hands = append(w.hands, flat(protocol.BatterySerial(fmt.Sprintf("R%d", w.made+10))))
	}
	w.clearAlarms()
	w.wait(70 * time.Second)
	clear(w.robbed)
}

// restock changes batteries while the agent does not see it.
func (w *walker) restock() {
	w.powerOff()
	for i := range w.boxes {
		b := &w.boxes[i]
		b.mute = false
		if b.in != nil && (b.in.serial[0] == 'X' || b.in.soc < 90 && w.chance(2)) {
			b.in = nil
		}
		if b.in == nil && i >= 3 {
			w.made++
			b.in = charged(protocol.BatterySerial(fmt.Sprintf("N%d", w.made)))
		}
		if i < 3 {
			b.in = nil
		}
	}
	w.boot()
	w.until(2*time.Minute, "the start", func() bool { return w.machine != nil })
}

// clearAlarms is what staff do after having looked.
func (w *walker) clearAlarms() {
	for _, a := range w.durable().Alarms {
		off := protocol.Alarm{Kind: a.Kind, Slot: a.Slot, Cleared: true}
		w.write(off)
		d, err := w.machine.durable.fold(uint64(w.now.Milliseconds()), off)
		require.NoError(w.t, err)
		w.machine.durable = d
	}
}

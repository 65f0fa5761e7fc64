package swap

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// The rig is a small cabinet of facts: doors, bolts, batteries, a journal and a
// power switch. Its machine sees nothing but readings. It checks the invariants
// at every effect, by looking at the facts.

// battery is a thing with a serial.
type battery struct {
	serial protocol.BatterySerial
	soc    int
	hot    bool
}

// box is one slot of the rig.
type box struct {
	open     bool // the door
	unlocked bool // the bolt is drawn while the door is shut: it may open later
	in       *battery
	mute     bool // the battery inside is not plugged in
	dead     bool // the board does not answer
	liar     bool // the switch says no while the battery talks
	forced   bool // opened by force: not the cabinet's doing
	stick    bool // the next pulses pull the bolt, and the door sticks
	jam      int  // the next pulses do nothing
}

// journalled is a record of the rig's journal with its payload.
type journalled struct {
	rec protocol.Record
	p   protocol.Payload
}

type rig struct {
	t       require.TestingT
	now     time.Duration // since boot
	boxes   []box         // boxes[0] is slot 1
	ev      []slot.Evidence
	journal []journalled
	machine *Machine
	recover *Recovery
	limits  Limits
	bootSeq uint32
	on      bool

	random   uint64
	minted   map[protocol.Nonce]mint
	replies  []protocol.Message
	rejected []string
	prompts  []Prompt
	hurried  []int
	answer   int // a pulse of this slot waits for its answer
	pulses   []time.Duration
	robbed   map[int]bool  // slots whose door was forced
	allTime  time.Duration // running time over all boots
	refuse   protocol.Reason
	halt     bool
	safety   *Safety
	key      slot.Tri // the key switch

	// cut, when set, is asked at every boundary between effects.
	cut func(where string) bool
	// pulsed, when set, decides what a pulse does; nil opens the door.
	pulsed func(n int) pulseResult
	// accepted is where the batteries were when the open swap was accepted.
	accepted map[protocol.BatterySerial]int
	// begun is what each box held when maintenance began.
	begun   []box
	begunAs protocol.Inventory
	nonces  map[protocol.Nonce]bool
	lie     bool // the next cut loses the last record if it is an INTENT
	broken  defect
}

// defect is what is broken on purpose, to see that the checks find it.
type defect uint8

const (
	sound      defect = iota
	noIntent          // pulses without their INTENT on disk
	noBolt            // a door that is merely shut passes for closed
	noStable          // and so does one that is open
	noOldState        // a restart forgets what was open
)

type mint struct {
	boot uint32
	at   time.Duration
}

type pulseResult uint8

const (
	opens pulseResult = iota
	nothing
	sticks
)

const tick = 500 * time.Millisecond

func newRig(t require.TestingT, boxes ...box) *rig {
	r := &rig{
		t: t, boxes: boxes, limits: Limits{MaxPulsesPerHour: 120},
		minted: map[protocol.Nonce]mint{}, nonces: map[protocol.Nonce]bool{},
	}
	r.boot()
	return r
}

// usual is a cabinet with two empty slots, two charged batteries and a flat one.
func usual(t require.TestingT) *rig {
	r := newRig(t, box{}, box{}, box{in: charged("C3")}, box{in: charged("C4")}, box{in: &battery{serial: "F5", soc: 30}})
	r.wait(4 * time.Second)
	return r
}

func charged(s protocol.BatterySerial) *battery { return &battery{serial: s, soc: 96} }
func flat(s protocol.BatterySerial) *battery    { return &battery{serial: s, soc: 12} }

func (r *rig) box(n int) *box { return &r.boxes[n-1] }

// boot starts the agent: it folds the journal, writes BOOT and senses.
func (r *rig) boot() {
	r.now, r.on, r.answer = 0, true, 0
	r.bootSeq++
	r.ev = nil
	for i := range r.boxes {
		r.ev = append(r.ev, slot.New(i+1, slot.DefaultLimits()))
	}
	r.write(protocol.Boot{BootID: r.bootID(), Epoch: protocol.Epoch{1}, Software: "test"})
	var d Durable
	for _, j := range r.journal {
		var err error
		d, err = Fold(d, j.rec)
		require.NoError(r.t, err)
	}
	if r.broken == noOldState {
		d.Open = nil
	}
	r.machine, r.recover = Boot(d, r.limits, r.now)
}

func (r *rig) bootID() protocol.BootID { return protocol.BootID{0xb0, byte(r.bootSeq)} }

// powerOff is a cut: what is in RAM is gone.
func (r *rig) powerOff() {
	r.on, r.machine, r.recover = false, nil, nil
	if n := len(r.journal); r.lie && n > 0 {
		if _, ok := r.journal[n-1].p.(protocol.Intent); ok {
			r.journal = r.journal[:n-1]
		}
		r.lie = false
	}
}

// restart is a cut and a boot, with some time to sense.
func (r *rig) restart() {
	r.powerOff()
	r.boot()
	r.wait(4 * time.Second)
}

func (r *rig) write(p protocol.Payload) {
	b, err := protocol.MarshalPayload(p)
	require.NoError(r.t, err)
	r.journal = append(r.journal, journalled{protocol.Record{
		Seq: uint64(len(r.journal) + 1), BootSeq: r.bootSeq, MonoMS: uint64(r.now.Milliseconds()),
		Type: p.RecordType(), Payload: b,
	}, p})
}

// snapshot rolls the journal: what follows is folded from the state alone.
func (r *rig) snapshot() {
	payload, err := r.durable().Snapshot()
	require.NoError(r.t, err)
	r.journal = append(r.journal, journalled{rec: protocol.Record{
		Seq: uint64(len(r.journal) + 1), BootSeq: r.bootSeq, MonoMS: uint64(r.now.Milliseconds()),
		Type: protocol.RecordSnapshot, Payload: payload,
	}})
}

// reading is what a sound board says of a box.
func (r *rig) reading(n int) slot.Reading {
	b := r.box(n)
	v := slot.Reading{
		Slot: n, At: r.now, DoorOpen: slot.TriOf(b.open), Bolt: slot.TriOf(!b.open && !b.unlocked), BoltFitted: true,
		CoilActive: slot.No, Switch: slot.TriOf(b.in != nil && !b.liar), BatteryLink: slot.TriOf(b.in != nil && !b.mute),
		Charging: slot.No, Full: slot.No, Smoke: slot.No, Alive: uint16(r.now / time.Second),
	}
	if r.broken == noBolt {
		v.Bolt, v.BoltFitted = slot.Unknown, false
	}
	if b.in != nil && !b.mute {
		v.Serial = string(b.in.serial)
		v.SocPermille, v.VoltageMV, v.CellMax = slot.Known(int32(b.in.soc)*10), slot.Known(64_000), slot.Known(250)
		if b.in.hot {
			v.CellMax = slot.Known(700)
		}
	}
	return v
}

func (r *rig) input(e Event) Input {
	in := Input{Now: r.now, Event: e, Refuse: r.refuse, Halt: r.halt, Key: r.key, Safety: r.safety}
	for i := range r.ev {
		v := r.ev[i].View(r.now)
		if r.broken == noStable {
			v.Closed, v.Ajar = v.Fresh, false
		}
		in.Slots = append(in.Slots, v)
	}
	return in
}

// wait lets time pass, reading every slot at each tick.
func (r *rig) wait(d time.Duration) {
	for end := r.now + d; r.now < end && r.on; {
		r.tick()
	}
}

func (r *rig) tick() {
	r.now += tick
	r.allTime += tick
	for i := range r.ev {
		if !r.boxes[i].dead {
			r.ev[i] = r.ev[i].Observe(r.reading(i + 1))
		}
	}
	if n := r.answer; n != 0 {
		r.answer = 0
		r.event(Answered{n})
		return
	}
	r.event(nil)
}

// until waits for a condition, at most d.
func (r *rig) until(d time.Duration, what string, ok func() bool) {
	for end := r.now + d; !ok() && r.on; {
		require.Less(r.t, r.now, end, "waited %v for %s\n%s", d, what, r)
		r.tick()
	}
}

// event makes one step and does what it says, unless the power is cut.
func (r *rig) event(e Event) {
	if !r.on {
		return
	}
	if r.recover != nil {
		rec, m, effects := r.recover.Step(r.limits, r.input(e))
		r.recover = &rec
		if m != nil {
			r.machine, r.recover = m, nil
		}
		r.effects(effects)
		return
	}
	m, plan := r.machine.Step(r.input(e))
	r.machine = &m
	if r.broken == noIntent && plan.Pulse != nil {
		plan.Effects = dropIntents(plan.Effects)
	}
	if !r.effects(plan.Effects) || plan.Pulse == nil {
		return
	}
	if r.cutAt("before pulse") {
		return
	}
	r.pulse(plan.Pulse.Slot)
	r.cutAt("after pulse")
}

func dropIntents(effects []Effect) []Effect {
	var out []Effect
	for _, e := range effects {
		if a, ok := e.(Append); ok {
			e = Append{slices.DeleteFunc(slices.Clone(a.Payloads), func(p protocol.Payload) bool {
				return p.RecordType() == protocol.RecordIntent
			})}
		}
		out = append(out, e)
	}
	return out
}

func (r *rig) cutAt(where string) bool {
	if r.cut == nil || !r.cut(where) {
		return false
	}
	r.powerOff()
	return true
}

// effects does them in order; false means that the power went.
func (r *rig) effects(effects []Effect) bool {
	for _, e := range effects {
		switch e := e.(type) {
		case Append:
			for _, p := range e.Payloads {
				if r.cutAt("before " + p.RecordType().String()) {
					return false
				}
				r.write(p)
				r.check(p)
			}
		case Reply:
			r.replies = append(r.replies, e.Message)
			switch p := e.Message.(type) {
			case protocol.Prepared:
				r.mint(p.Nonce)
			case protocol.MaintenanceAnswer:
				if p.Reason == "" {
					r.mint(p.Nonce)
				}
			}
		case Hurry:
			r.hurried = append(r.hurried, e.Slots...)
		case Rejected:
			r.rejected = append(r.rejected, e.Why)
		case Prompt:
			r.prompts = append(r.prompts, e)
		}
	}
	where := "after effects"
	if len(effects) == 0 {
		where = "at rest"
	}
	return !r.cutAt(where)
}

// mint notes when a nonce was told first.
func (r *rig) mint(n protocol.Nonce) {
	if _, again := r.minted[n]; !again {
		r.minted[n] = mint{r.bootSeq, r.now}
	}
}

// pulse is the lock's part.
func (r *rig) pulse(n int) {
	r.checkPulse(n)
	r.answer = n
	b, res := r.box(n), opens
	if r.pulsed != nil {
		res = r.pulsed(n)
	}
	switch {
	case b.jam > 0:
		b.jam, res = b.jam-1, nothing
	case b.stick:
		b.stick, res = false, sticks
	}
	switch res {
	case opens:
		b.open, b.unlocked = true, false
	case sticks:
		b.unlocked = true
	}
}

// shut closes a door by hand, and it latches.
func (r *rig) shut(n int) { r.box(n).open, r.box(n).unlocked, r.box(n).forced = false, false, false }

// nonce is the next of the random source.
func (r *rig) nonce() (n protocol.Nonce) {
	r.random++
	binary.BigEndian.PutUint64(n[8:], r.random)
	return n
}

func swapID(n int) protocol.SwapID {
	return protocol.SwapID(fmt.Sprintf("01920000-0000-7000-8000-%012d", n))
}

// prepare asks for a swap and gives the answer.
func (r *rig) prepare(n int, k protocol.Kind) protocol.Message {
	was := len(r.replies)
	r.event(Prepare{Prepare: protocol.Prepare{SwapID: swapID(n), Kind: k}, Random: r.nonce(), Present: true})
	if len(r.replies) == was {
		return nil
	}
	return r.replies[len(r.replies)-1]
}

// grantOf makes the grant for a prepared swap, with its envelope.
func (r *rig) grantOf(p protocol.Prepared, k protocol.Kind, expect ...protocol.BatterySerial) Grant {
	g := protocol.Grant{
		SwapID: p.SwapID, Kind: k, Nonce: p.Nonce, BootID: p.BootID, RiderRef: "00112233445566778899aabbccddeeff",
		DepositSlots: p.DepositSlots, Dispense: p.Dispense, ExpectSerials: expect,
	}
	b, err := json.Marshal(g)
	require.NoError(r.t, err)
	return Grant{Grant: g, Raw: b}
}

// start prepares and grants; afterwards the swap is accepted.
func (r *rig) start(n int, k protocol.Kind, expect ...protocol.BatterySerial) Grant {
	p, ok := r.prepare(n, k).(protocol.Prepared)
	require.True(r.t, ok, "not prepared: %v", r.replies)
	if k.Deposits() && len(expect) == 0 {
		expect = []protocol.BatterySerial{"R1", "R2"}
	}
	g := r.grantOf(p, k, expect...)
	r.event(g)
	r.until(5*time.Second, "ACCEPT", func() bool { return r.open() != nil })
	return g
}

func (r *rig) durable() Durable {
	switch {
	case r.machine != nil:
		return r.machine.durable
	case r.recover != nil:
		return r.recover.durable
	}
	return Durable{}
}

func (r *rig) open() *Open { return r.durable().Open }

// lastIntent is the newest INTENT, to know which door a rider stands at.
func (r *rig) lastIntent() (protocol.Intent, bool) {
	for _, j := range slices.Backward(r.journal) {
		switch p := j.p.(type) {
		case protocol.Intent:
			return p, true
		case protocol.Accept, protocol.Closed:
			return protocol.Intent{}, false
		case protocol.Maintenance:
			if p.What != protocol.OrderOpen {
				return protocol.Intent{}, false
			}
		}
	}
	return protocol.Intent{}, false
}

// opened waits until a door stands open for the purpose and gives its slot.
func (r *rig) opened(purpose protocol.Purpose) int {
	n := 0
	r.until(time.Minute, "door for "+string(purpose), func() bool {
		i, ok := r.lastIntent()
		n = i.Slot
		return ok && i.Purpose == purpose && r.box(i.Slot).open
	})
	r.wait(2 * tick)
	return n
}

// deposit is what a rider does at the open deposit door.
func (r *rig) deposit(b *battery) int {
	n := r.opened(protocol.PurposeDeposit)
	r.box(n).in = b
	r.wait(tick)
	r.shut(n)
	return n
}

// take is what a rider does at an open door to get a battery out.
func (r *rig) take(p protocol.Purpose) (int, *battery) {
	n := r.opened(p)
	b := r.box(n).in
	r.box(n).in = nil
	r.wait(tick)
	r.shut(n)
	return n, b
}

// closed waits for the end of the swap.
func (r *rig) closed() protocol.Closed {
	var c protocol.Closed
	r.until(10*time.Minute, "CLOSED", func() bool {
		var ok bool
		c, ok = r.lastClosed()
		return ok
	})
	r.checkRest()
	return c
}

func (r *rig) lastClosed() (protocol.Closed, bool) {
	for _, j := range slices.Backward(r.journal) {
		switch p := j.p.(type) {
		case protocol.Closed:
			return p, true
		case protocol.Accept:
			return protocol.Closed{}, false
		}
	}
	return protocol.Closed{}, false
}

// records are the payloads of a type.
func records[P protocol.Payload](r *rig) []P {
	var out []P
	for _, j := range r.journal {
		if p, ok := j.p.(P); ok {
			out = append(out, p)
		}
	}
	return out
}

func (r *rig) alarms(kind protocol.AlarmKind) int {
	n := 0
	for _, a := range records[protocol.Alarm](r) {
		if a.Kind == kind && !a.Cleared {
			n++
		}
	}
	return n
}

// String is the journal, one record a line, for failures.
func (r *rig) String() string {
	s := ""
	for _, j := range r.journal {
		p := j.p
		if a, ok := p.(protocol.Accept); ok {
			a.Inventory = nil
			p = a
		}
		b, _ := json.Marshal(p)
		s += fmt.Sprintf("boot %d %8.1fs %-8s %.300s\n", j.rec.BootSeq, float64(j.rec.MonoMS)/1000, j.rec.Type, b)
	}
	for i, b := range r.boxes {
		s += fmt.Sprintf("slot %d %+v", i+1, b)
		if b.in != nil {
			s += fmt.Sprintf(" %+v", *b.in)
		}
		s += "\n"
	}
	return s
}

var _ require.TestingT = (*testing.T)(nil)

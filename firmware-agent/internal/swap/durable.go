package swap

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// Durable is what the journal tells: the fold of its records, and the payload
// of a SNAPSHOT. It is a value; Fold never changes the one it is given.
type Durable struct {
	Epoch   protocol.Epoch  `json:"epoch"`
	BootID  protocol.BootID `json:"boot_id"`
	BootSeq uint32          `json:"boot_seq"`
	// RunMS is for how long the agent has run in all its boots, as of the last
	// record; BaseMS is that at the start of this boot. Time between the last
	// record of a boot and its end is not counted.
	RunMS  uint64 `json:"run_ms"`
	BaseMS uint64 `json:"base_ms"`
	// SpentMS are the pulses that the bucket still misses, by RunMS. A pulse
	// comes back an hour of running time after it was spent.
	SpentMS Spent `json:"spent_ms,omitempty"`
	// Open is the swap that was accepted and is not closed.
	Open *Open `json:"open,omitempty"`
	// Maintained is the maintenance that has begun and is not over.
	Maintained *Maintained `json:"maintained,omitempty"`
	// Alarms are those raised and not cleared, sorted.
	Alarms Alarms `json:"alarms,omitempty"`
	// Forced is what the slots under a tamper alarm held before, as far as it is
	// known; at most maxForced.
	Forced      []Kept                 `json:"forced,omitempty"`
	Config      protocol.CabinetConfig `json:"config"`
	KeysVersion int64                  `json:"keys_version"`
}

// Raised is an alarm that is on. Slot 0 is the cabinet.
type Raised struct {
	Kind protocol.AlarmKind
	Slot int
}

// Alarms are sorted by slot and kind. In JSON they are the slots of each kind,
// which is short enough for the worst day of the largest cabinet.
type Alarms []Raised

// MarshalJSON gives an object: kind → slots.
func (a Alarms) MarshalJSON() ([]byte, error) {
	m := map[protocol.AlarmKind][]int{}
	for _, r := range a {
		m[r.Kind] = append(m[r.Kind], r.Slot)
	}
	return json.Marshal(m)
}

// UnmarshalJSON takes what MarshalJSON gives.
func (a *Alarms) UnmarshalJSON(b []byte) error {
	var m map[protocol.AlarmKind][]int
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("alarms: %w", err)
	}
	*a = nil
	for kind, slots := range m {
		for _, n := range slots {
			*a = foldAlarm(*a, protocol.Alarm{Kind: kind, Slot: n})
		}
	}
	return nil
}

// Open is an accepted swap, as the journal tells it.
type Open struct {
	SwapID protocol.SwapID `json:"swap_id"`
	Kind   protocol.Kind   `json:"kind"`
	// BootSeq and MonoMS are of the ACCEPT: its boot, and the time since then.
	BootSeq  uint32                   `json:"boot_seq"`
	MonoMS   uint64                   `json:"mono_ms"`
	Deposits []int                    `json:"deposits,omitempty"` // granted, in the order of use
	Offers   []protocol.Offer         `json:"offers,omitempty"`   // granted, in the order of use
	Expect   []protocol.BatterySerial `json:"expect,omitempty"`
	Before   []Kept                   `json:"before"` // the inventory at ACCEPT
	Intents  []Intent                 `json:"intents,omitempty"`
	Deposit  *Deposited               `json:"deposit,omitempty"`
	Taken    *Taken                   `json:"taken,omitempty"`
	// Forced are granted slots that were opened by force after they were last
	// pulsed, if ever: also when their alarm is over.
	Forced []int `json:"forced,omitempty"`
}

// Kept is what a later inventory of a slot is compared with.
type Kept struct {
	Slot     int                    `json:"n"`
	Out      bool                   `json:"o,omitempty"`
	Presence protocol.Presence      `json:"p,omitempty"`
	Serial   protocol.BatterySerial `json:"b,omitempty"`
}

// Intent is one pulse that was about to be given.
type Intent struct {
	Slot    int              `json:"n"`
	Purpose protocol.Purpose `json:"p"`
}

// Deposited is a battery that was judged.
type Deposited struct {
	Slot     int                    `json:"n"`
	Serial   protocol.BatterySerial `json:"b,omitempty"`
	Soc      *int                   `json:"soc,omitempty"`
	Accepted bool                   `json:"ok,omitempty"`
	Reason   protocol.Reason        `json:"r,omitempty"`
}

// Taken is a take that is on disk.
type Taken struct {
	Slot   int                    `json:"n"`
	Serial protocol.BatterySerial `json:"b"`
}

// hourMS is how long a spent pulse is missing from the bucket.
const hourMS = 3_600_000

// maxGrant bounds the envelope that an ACCEPT carries, in bytes: with it, the
// inventory of 48 slots fits into one record.
const maxGrant = 4 << 10

// Fold adds a record. An error means that the record is not one that this agent
// writes: the journal cannot be trusted.
func Fold(d Durable, r protocol.Record) (Durable, error) {
	if r.Type == protocol.RecordSnapshot {
		return foldSnapshot(d, r)
	}
	p, err := decode(r)
	if err != nil {
		return d, err
	}
	if b, ok := p.(protocol.Boot); ok {
		if d, err = d.enterEpoch(b); err != nil {
			return d, err
		}
		d.BaseMS, d.BootSeq = d.RunMS, r.BootSeq
	}
	return d.fold(r.MonoMS, p)
}

// foldSnapshot takes the state over. A snapshot stands in the boot that wrote it.
func foldSnapshot(d Durable, r protocol.Record) (Durable, error) {
	var s Durable
	if err := json.Unmarshal(r.Payload, &s); err != nil {
		return d, fmt.Errorf("payload of %s seq %d: %w", r.Type, r.Seq, err)
	}
	return s, nil
}

// decode reads the payloads that the fold needs; nil for the others.
func decode(r protocol.Record) (protocol.Payload, error) {
	switch r.Type {
	case protocol.RecordBoot:
		return decodeAs[protocol.Boot](r)
	case protocol.RecordAccept:
		return decodeAs[protocol.Accept](r)
	case protocol.RecordIntent:
		return decodeAs[protocol.Intent](r)
	case protocol.RecordDeposit:
		return decodeAs[protocol.Deposit](r)
	case protocol.RecordTaken:
		return decodeAs[protocol.Taken](r)
	case protocol.RecordClosed:
		return decodeAs[protocol.Closed](r)
	case protocol.RecordTamper:
		return decodeAs[protocol.Tamper](r)
	case protocol.RecordAlarm:
		return decodeAs[protocol.Alarm](r)
	case protocol.RecordConfig:
		return decodeAs[protocol.ConfigApplied](r)
	case protocol.RecordMaintenance:
		return decodeAs[protocol.Maintenance](r)
	}
	return nil, nil
}

func decodeAs[P protocol.Payload](r protocol.Record) (protocol.Payload, error) {
	var p P
	err := protocol.UnmarshalPayload(r, &p)
	return p, err
}

// fold adds what a record of this boot tells, written at monoMS.
func (d Durable) fold(monoMS uint64, p protocol.Payload) (Durable, error) {
	d.RunMS = max(d.RunMS, d.BaseMS+monoMS)
	switch p := p.(type) {
	case protocol.Boot:
		d.Epoch, d.BootID = p.Epoch, p.BootID
	case protocol.Accept:
		return d.foldAccept(monoMS, p)
	case protocol.Intent:
		d.SpentMS = append(slices.Clone(unspent(d.SpentMS, d.RunMS)), d.RunMS)
	case protocol.Tamper:
		d = d.foldTamper(p)
	case protocol.Alarm:
		d.Alarms = foldAlarm(d.Alarms, p)
		if p.Kind == protocol.AlarmTamper && p.Cleared {
			d.Forced = without(d.Forced, p.Slot)
		}
	case protocol.ConfigApplied:
		d.Config, d.KeysVersion = p.Config, p.KeysVersion
	case protocol.Maintenance:
		d = d.foldMaintenance(monoMS, p)
	}
	if d.Open == nil {
		return d, nil
	}
	d.Open = d.Open.fold(p)
	return d, nil
}

func (d Durable) foldAccept(monoMS uint64, p protocol.Accept) (Durable, error) {
	line, _, _ := bytes.Cut([]byte(p.Grant), []byte{'\n'})
	var g protocol.Grant
	if err := json.Unmarshal(line, &g); err != nil {
		return d, fmt.Errorf("ACCEPT of %s: the grant in it: %w", p.SwapID, err)
	}
	o := Open{
		SwapID: p.SwapID, Kind: p.Kind, BootSeq: d.BootSeq, MonoMS: monoMS,
		Deposits: g.DepositSlots, Offers: g.Dispense, Expect: g.ExpectSerials, Before: keep(p.Inventory),
	}
	d.Open = &o
	return d, nil
}

// fold adds a record of the swap; another swap's record changes nothing.
func (o *Open) fold(p protocol.Payload) *Open {
	n := *o
	switch p := p.(type) {
	case protocol.Intent:
		if p.SwapID == o.SwapID {
			n.Intents = append(slices.Clone(o.Intents), Intent{Slot: p.Slot, Purpose: p.Purpose})
			// What it held was known when it was decided to pulse it.
			n.Forced = slices.DeleteFunc(slices.Clone(o.Forced), func(s int) bool { return s == p.Slot })
		}
	case protocol.Deposit:
		if p.SwapID == o.SwapID {
			n.Deposit = &Deposited{Slot: p.Slot, Serial: p.Battery.BatterySerial, Soc: p.Battery.Soc, Accepted: p.Accepted, Reason: p.Reason}
		}
	case protocol.Tamper:
		if slices.Contains(o.granted(), p.Slot) && !slices.Contains(o.Forced, p.Slot) {
			n.Forced = append(slices.Clone(o.Forced), p.Slot)
		}
	case protocol.Taken:
		if p.SwapID == o.SwapID {
			n.Taken = &Taken{Slot: p.Slot, Serial: p.BatterySerial}
		}
	case protocol.Closed:
		if p.SwapID == o.SwapID {
			return nil
		}
	}
	return &n
}

// unspent are the pulses of the hour before runMS.
func unspent(spent []uint64, runMS uint64) []uint64 {
	i := 0
	for i < len(spent) && spent[i]+hourMS <= runMS {
		i++
	}
	return spent[i:]
}

func foldAlarm(on Alarms, p protocol.Alarm) Alarms {
	a := Raised{p.Kind, p.Slot}
	i, found := slices.BinarySearchFunc(on, a, compareRaised)
	switch {
	case p.Cleared && found:
		return slices.Delete(slices.Clone(on), i, i+1)
	case !p.Cleared && !found:
		return slices.Insert(slices.Clone(on), i, a)
	}
	return on
}

func compareRaised(a, b Raised) int {
	if a.Slot != b.Slot {
		return a.Slot - b.Slot
	}
	return bytes.Compare([]byte(a.Kind), []byte(b.Kind))
}

// Alarmed reports whether an alarm is on.
func (d Durable) Alarmed(kind protocol.AlarmKind, slotNumber int) bool {
	_, found := slices.BinarySearchFunc(d.Alarms, Raised{kind, slotNumber}, compareRaised)
	return found
}

// Out reports whether a slot takes no part in swaps: by staff, by a fault of its
// lock, because it holds a battery that nobody may take, because its door was
// opened by force, or because its battery is in quarantine.
func (d Durable) Out(v slot.View) bool {
	return slices.Contains(d.Config.SlotsOut, v.Slot) || v.Fault != slot.NoFault ||
		d.Alarmed(protocol.AlarmSlotFault, v.Slot) || d.Alarmed(protocol.AlarmHeldBattery, v.Slot) ||
		d.Alarmed(protocol.AlarmTamper, v.Slot) || d.Quarantined(v.Slot)
}

// Barred reports whether what a slot holds is to be left alone: neither given
// out nor charged.
func (d Durable) Barred(v slot.View) bool { return d.Out(v) || d.flagged(v.Serial) }

func (d Durable) flagged(s protocol.BatterySerial) bool {
	return slices.Contains(d.Config.FlaggedSerials, s)
}

// Snapshot is the payload of a SNAPSHOT record.
func (d Durable) Snapshot() ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if len(b) > protocol.MaxPayload {
		return nil, fmt.Errorf("snapshot: %d bytes, want at most %d", len(b), protocol.MaxPayload)
	}
	return b, nil
}

// pulsed are the slots that had an intent with one of the purposes, each once,
// in the order of the first.
func (o *Open) pulsed(purposes ...protocol.Purpose) []int {
	var out []int
	for _, i := range o.Intents {
		if slices.Contains(purposes, i.Purpose) && !slices.Contains(out, i.Slot) {
			out = append(out, i.Slot)
		}
	}
	return out
}

// pulses counts the intents at a slot for a purpose.
func (o *Open) pulses(slotNumber int, purpose protocol.Purpose) int {
	n := 0
	for _, i := range o.Intents {
		if i.Slot == slotNumber && i.Purpose == purpose {
			n++
		}
	}
	return n
}

// offer is what was granted of a slot.
func (o *Open) offer(slotNumber int) (protocol.Offer, bool) {
	for _, f := range o.Offers {
		if f.Slot == slotNumber {
			return f, true
		}
	}
	return protocol.Offer{}, false
}

// granted are all slots that the grant names.
func (o *Open) granted() []int {
	out := slices.Clone(o.Deposits)
	for _, f := range o.Offers {
		out = append(out, f.Slot)
	}
	return out
}

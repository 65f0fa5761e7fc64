package swap

import (
	"encoding/json"
	"fmt"

	"batteryswap/protocol"
)

// Carry is what the BOOT that begins a new epoch takes over from the one that is
// left: pulses that were spent, alarms that are on, the configuration. A new
// epoch must not be a way to more pulses, nor to a battery that is held. whole
// says that d is the fold of every record that was ever written; else the bucket
// begins empty. A swap that is left open is not carried over, nor is maintenance:
// a person decides, and until then what they may have moved is held.
func (d Durable) Carry(whole bool) ([]byte, error) {
	next := Durable{
		RunMS: d.RunMS, SpentMS: d.SpentMS, Alarms: d.Alarms, Forced: d.Forced, Config: d.Config, KeysVersion: d.KeysVersion,
	}
	if !whole {
		next.SpentMS = allSpent(next.RunMS)
	}
	if d.Open != nil {
		for _, n := range d.Open.pulsed(protocol.PurposeDeposit, protocol.PurposeDispense) {
			next.Alarms = foldAlarm(next.Alarms, protocol.Alarm{Kind: protocol.AlarmHeldBattery, Slot: n})
		}
	}
	if d.Maintained != nil {
		for _, n := range d.Maintained.Opened {
			next.Alarms = foldAlarm(next.Alarms, protocol.Alarm{Kind: protocol.AlarmHeldBattery, Slot: n})
		}
	}
	return next.Snapshot()
}

// enterEpoch begins with what was carried over, when BOOT begins an epoch after
// another one. Where nothing could be carried over, the bucket begins empty.
func (d Durable) enterEpoch(b protocol.Boot) (Durable, error) {
	if b.Old == nil && b.Out != protocol.ReasonEpochReplaced {
		return d, nil
	}
	if len(b.Carried) == 0 {
		return Durable{SpentMS: allSpent(0)}, nil
	}
	var s Durable
	if err := json.Unmarshal(b.Carried, &s); err != nil {
		return d, fmt.Errorf("BOOT of epoch %s: what it carries over: %w", b.Epoch, err)
	}
	return s, nil
}

// allSpent is an empty bucket, of any size.
func allSpent(runMS uint64) Spent {
	s := make(Spent, MaxPulsesPerHour)
	for i := range s {
		s[i] = runMS
	}
	return s
}

// Spent are times of pulses, rising. In JSON each is the distance to the one
// before, which is short enough for the largest bucket.
type Spent []uint64

// MarshalJSON gives the distances.
func (s Spent) MarshalJSON() ([]byte, error) {
	out, last := make([]uint64, len(s)), uint64(0)
	for i, at := range s {
		out[i], last = at-last, at
	}
	return json.Marshal(out)
}

// UnmarshalJSON takes what MarshalJSON gives.
func (s *Spent) UnmarshalJSON(b []byte) error {
	var out []uint64
	if err := json.Unmarshal(b, &out); err != nil {
		return fmt.Errorf("spent_ms: %w", err)
	}
	at := uint64(0)
	for i := range out {
		at += out[i]
		out[i] = at
	}
	*s = out
	return nil
}

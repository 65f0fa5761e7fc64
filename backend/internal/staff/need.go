package staff

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"batteryswap/protocol"
)

// Urgency says how soon somebody must come.
type Urgency int

// The urgencies, the most urgent first.
const (
	Now   Urgency = 1 // people or batteries are in danger, or nobody can swap
	Today Urgency = 2 // riders are turned away, or soon will be
	Soon  Urgency = 3
)

// Need is one reason why a cabinet needs somebody.
type Need struct {
	Kind    string  `json:"kind"`
	Urgency Urgency `json:"urgency" doc:"1 now, 2 today, 3 soon"`
	Slot    int     `json:"slot,omitempty"`
}

// StuckAfter is when an open swap needs somebody.
const StuckAfter = 10 * time.Minute

// manyRecords is a backlog that a cabinet in contact does not have.
const manyRecords = 200

// Kinds of needs beside the kinds of alarms.
const (
	NeedOffline   = "offline"
	NeedEpoch     = "epoch_waits"
	NeedForked    = "forked"
	NeedOut       = "out_of_service"
	NeedCharged   = "no_charged_battery"
	NeedEmpty     = "no_empty_slot"
	NeedStuck     = "swap_stuck"
	NeedReview    = "review"
	NeedFault     = "fault_report"
	NeedBacklog   = "backlog"
	NeedConfirm   = "config_waits"
	NeedNeverSeen = "never_seen"
	NeedKey       = "maintenance" // nobody can swap: a key switch is turned
)

// NeedKinds are all kinds of need: each has a text.
func NeedKinds() []string {
	all := []string{
		NeedOffline, NeedEpoch, NeedForked, NeedOut, NeedCharged, NeedEmpty, NeedStuck, NeedReview, NeedFault, NeedBacklog, NeedConfirm, NeedNeverSeen, NeedKey,
	}
	for k := range alarmUrgency {
		all = append(all, string(k))
	}
	slices.Sort(all)
	return all
}

var alarmUrgency = map[protocol.AlarmKind]Urgency{
	protocol.AlarmSmoke: Now, protocol.AlarmWater: Now, protocol.AlarmTemperature: Now, protocol.AlarmEmergencyOff: Now,
	protocol.AlarmTamper: Now, protocol.AlarmJournal: Now, protocol.AlarmDoorOpen: Now,
	protocol.AlarmPulses: Today, protocol.AlarmBoardSilent: Today, protocol.AlarmSlotFault: Today, protocol.AlarmHeldBattery: Today,
}

// WhatItNeeds says why a cabinet needs somebody, the most urgent first.
func (c Cabinet) WhatItNeeds(now time.Time) []Need {
	var out []Need
	add := func(is bool, kind string, u Urgency) {
		if is {
			out = append(out, Need{Kind: kind, Urgency: u})
		}
	}
	for _, a := range c.Alarms {
		kind, slot := ParseAlarm(a)
		u, known := alarmUrgency[protocol.AlarmKind(kind)]
		if !known {
			kind, u = string(protocol.AlarmBoardSilent), Today // an alarm of a newer agent
		}
		out = append(out, Need{Kind: kind, Urgency: u, Slot: slot})
	}
	add(c.LastSeen == nil, NeedNeverSeen, Soon)
	add(c.LastSeen != nil && !c.Reachable, NeedOffline, Now)
	add(c.EpochWaits, NeedEpoch, Now)
	add(c.Forked, NeedForked, Now)
	add(c.OutOfService != "" && c.OutOfService != protocol.ReasonMaintenance && !c.Off && !c.EpochWaits && !c.Forked, NeedOut, Now)
	add(c.OutOfService == protocol.ReasonMaintenance && !c.Off, NeedKey, Soon)
	add(c.Reachable && !c.Off && c.Charged == 0, NeedCharged, Today)
	add(c.Reachable && !c.Off && c.Empty == 0, NeedEmpty, Today)
	add(c.OpenSince != nil && now.Sub(*c.OpenSince) > StuckAfter, NeedStuck, Now)
	add(c.Reachable && c.ConfigConfirmed < c.ConfigVersion && c.ConfigVersion > 1, NeedConfirm, Soon)
	add(c.Reviews > 0, NeedReview, Today)
	add(c.Faults > 0, NeedFault, Today)
	add(c.Backlog > manyRecords, NeedBacklog, Soon)
	slices.SortStableFunc(out, func(a, b Need) int { return cmp.Compare(a.Urgency, b.Urgency) })
	return out
}

// ParseAlarm takes KIND or KIND:SLOT apart.
func ParseAlarm(a string) (kind string, slot int) {
	kind, n, _ := strings.Cut(a, ":")
	slot, _ = strconv.Atoi(n) // none: the whole cabinet
	return kind, slot
}

// ByNeed sorts cabinets: who needs somebody first, then by name.
func ByNeed(all []Cabinet) {
	worst := func(c Cabinet) (Urgency, int) {
		if len(c.Needs) == 0 {
			return Soon + 1, 0
		}
		return c.Needs[0].Urgency, -len(c.Needs)
	}
	slices.SortStableFunc(all, func(a, b Cabinet) int {
		ua, na := worst(a)
		ub, nb := worst(b)
		return cmp.Or(cmp.Compare(ua, ub), cmp.Compare(na, nb), cmp.Compare(a.CabinetID, b.CabinetID))
	})
}

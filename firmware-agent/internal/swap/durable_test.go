package swap

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// TestSnapshotFits: the largest state that a cabinet can have fits into one
// record, and so does the largest ACCEPT.
func TestSnapshotFits(t *testing.T) {
	serial := func(n int) protocol.BatterySerial {
		return protocol.BatterySerial(fmt.Sprintf("%s%02d", strings.Repeat("B", protocol.MaxSerialLength-2), n))
	}
	d := Durable{BootSeq: 1 << 31, RunMS: 1 << 50, BaseMS: 1 << 50}
	soc := 100
	o := &Open{
		SwapID: swapID(1), Kind: protocol.KindSwap, BootSeq: 1 << 31, MonoMS: 1 << 50, Deposits: []int{47, 48},
		Deposit: &Deposited{Slot: 48, Serial: serial(1), Soc: &soc, Accepted: true, Reason: protocol.ReasonDepositLate},
		Taken:   &Taken{Slot: 48, Serial: serial(2)},
	}
	inv := protocol.Inventory{}
	for n := 1; n <= protocol.MaxSlots; n++ {
		o.Before = append(o.Before, Kept{Slot: n, Out: true, Presence: protocol.HoldsBattery, Serial: serial(n)})
		for _, k := range []protocol.AlarmKind{
			protocol.AlarmSlotFault, protocol.AlarmHeldBattery, protocol.AlarmTamper, protocol.AlarmDoorOpen, protocol.AlarmBoardSilent,
			protocol.AlarmTemperature, protocol.AlarmHeatRate, protocol.AlarmSensorSilent, protocol.AlarmCurrentOff, protocol.AlarmSmoke,
		} {
			d.Alarms = foldAlarm(d.Alarms, protocol.Alarm{Kind: k, Slot: n})
		}
		d.Config.SlotsOut = append(d.Config.SlotsOut, n)
		mv, age, c := 70_000, int64(1<<40), 25.5
		inv = append(inv, slot.Brief(protocol.SlotState{
			Slot: n, Door: protocol.DoorShut, Closed: true, Presence: protocol.HoldsBattery, BatterySerial: serial(n),
			Soc: &soc, VoltageMV: &mv, CellMaxC: &c, Charging: true, Charged: true, Out: true, AgeMS: &age, SocAgeMS: &age,
		}))
	}
	for n := range protocol.MaxOffers {
		o.Offers = append(o.Offers, protocol.Offer{Slot: 46 + n, BatterySerial: serial(n), Soc: 100})
	}
	for n := range protocol.MaxExpectSerials {
		o.Expect = append(o.Expect, serial(n))
	}
	for range pulsesOfSwap {
		o.Intents = append(o.Intents, Intent{Slot: 48, Purpose: protocol.PurposeDispense})
	}
	for n := range MaxPulsesPerHour {
		d.SpentMS = append(d.SpentMS, 1<<50+uint64(n)*hourMS/MaxPulsesPerHour)
	}
	for n := range maxForced {
		d.Forced = append(d.Forced, Kept{Slot: 40 + n, Presence: protocol.HoldsBattery, Serial: serial(n)})
	}
	d.Config.ClearFaults = map[int]int64{}
	for n := range protocol.MaxSlots {
		d.Config.ClearFaults[n+1] = protocol.MaxClearFaults
	}
	for n := range protocol.MaxFlaggedSerials {
		d.Config.FlaggedSerials = append(d.Config.FlaggedSerials, serial(n))
	}
	end := protocol.Maintenance{
		MaintenanceID: orderID(1), OrderID: orderID(2), What: protocol.OrderEnd, Slot: 48, Reason: protocol.ReasonMaintenanceOver,
		Grant: strings.Repeat("\"", 64) + strings.Repeat("x", maxOrderGrant-64), Inventory: inv,
	}
	for n := range protocol.MaxSlots {
		d.Maintained = &Maintained{MaintenanceID: orderID(1), BootSeq: 1 << 31, MonoMS: 1 << 50, Before: o.Before, Opened: d.Config.SlotsOut}
		end.Changes = append(end.Changes, protocol.Change{Slot: n + 1, Removed: serial(n), Added: serial(n + 1), Forced: true})
	}
	b, err := protocol.MarshalPayload(end)
	require.NoError(t, err)
	t.Logf("MAINTENANCE of %d bytes", len(b))
	_, err = d.Snapshot() // no swap is open meanwhile
	require.NoError(t, err)
	d.Open, d.Maintained = o, nil
	b, err = d.Snapshot()
	require.NoError(t, err)
	t.Logf("snapshot of %d bytes, of at most %d", len(b), protocol.MaxPayload)
	var back Durable
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, d, back)
	b, err = d.Carry(false)
	require.NoError(t, err)
	_, err = protocol.MarshalPayload(protocol.Boot{Old: &protocol.OldTail{}, Carried: b})
	require.NoError(t, err)

	b, err = protocol.MarshalPayload(protocol.Accept{
		SwapID: swapID(1), Kind: protocol.KindHandBack, Grant: strings.Repeat("\"", maxGrant/2) + strings.Repeat("x", maxGrant/2), Inventory: inv,
	})
	require.NoError(t, err)
	t.Logf("ACCEPT of %d bytes", len(b))
	b, err = protocol.MarshalPayload(protocol.Closed{
		SwapID: swapID(1), Kind: protocol.KindSwap, Outcome: protocol.OutcomeReview, Deposited: serial(1), Taken: serial(2),
		Explanations: []protocol.Outcome{protocol.OutcomeSwapped, protocol.OutcomeDepositedOwed, protocol.OutcomeReturned}, Inventory: inv,
	})
	require.NoError(t, err)
	t.Logf("CLOSED of %d bytes", len(b))
	_, err = (Durable{SpentMS: make(Spent, 20_000)}).Snapshot()
	require.Error(t, err)
}

func TestFoldNeverChangesWhatItWasGiven(t *testing.T) {
	r := usual(t)
	r.box(3).jam = 1
	r.start(1, protocol.KindSwap)
	r.deposit(flat("R1"))
	r.take(protocol.PurposeDispense)
	r.closed()
	var states []Durable
	var pictures []string
	var d Durable
	for _, j := range r.journal {
		var err error
		d, err = Fold(d, j.rec)
		require.NoError(t, err)
		b, err := d.Snapshot()
		require.NoError(t, err)
		states, pictures = append(states, d), append(pictures, string(b))
	}
	for i, s := range states { // fold on from each once more, along another path
		_, err := Fold(s, r.journal[len(r.journal)-1].rec)
		require.NoError(t, err)
		b, err := s.Snapshot()
		require.NoError(t, err)
		require.Equal(t, pictures[i], string(b), "state %d", i)
	}
}

// TestFoldFromAnySnapshot: a SNAPSHOT in any place changes nothing.
func TestFoldFromAnySnapshot(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	r.deposit(flat("R1"))
	r.opened(protocol.PurposeDispense)
	r.restart()
	r.shut(3)
	r.closed()
	fold := func(recs []protocol.Record) string {
		var d Durable
		for _, rec := range recs {
			var err error
			d, err = Fold(d, rec)
			require.NoError(t, err)
		}
		b, err := d.Snapshot()
		require.NoError(t, err)
		return string(b)
	}
	var all []protocol.Record
	for _, j := range r.journal {
		all = append(all, j.rec)
	}
	for i := 1; i <= len(all); i++ {
		snap := protocol.Record{
			Type: protocol.RecordSnapshot, BootSeq: all[i-1].BootSeq, MonoMS: all[i-1].MonoMS,
			Seq: uint64(i), Payload: []byte(fold(all[:i])),
		}
		require.Equal(t, fold(all), fold(append([]protocol.Record{snap}, all[i:]...)), "snapshot after record %d", i)
	}
}

func TestFoldRefusesWhatItCannotHaveWritten(t *testing.T) {
	for _, rec := range []protocol.Record{
		{Type: protocol.RecordAccept, Payload: []byte(`{"grant":"no json"}`)},
		{Type: protocol.RecordIntent, Payload: []byte(`{`)},
		{Type: protocol.RecordSnapshot, Payload: []byte(`[]`)},
	} {
		_, err := Fold(Durable{}, rec)
		require.Error(t, err, "%s", rec.Type)
	}
	for _, rec := range []protocol.Record{ // of no interest to the fold
		{Type: protocol.RecordTimeStep, Payload: []byte(`{`)}, {Type: protocol.RecordReject},
	} {
		_, err := Fold(Durable{}, rec)
		require.NoError(t, err, "%s", rec.Type)
	}
}

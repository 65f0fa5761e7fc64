package protocol

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// change is a copy of the example of M with one thing wrong.
func change[M Message](t *testing.T, f func(*M)) Message {
	t.Helper()
	for _, m := range exampleMessages() {
		if m, ok := m.(M); ok {
			f(&m)
			return m
		}
	}
	t.Fatal("no example")
	return nil
}

func TestValidateNamesTheField(t *testing.T) {
	long := strings.Repeat("x", 65)
	for want, m := range map[string]Message{
		"epoch: want 32":                     change(t, func(m *Hello) { m.Epoch = Epoch{} }),
		"boot_id: want 32 hexadecimal":       change(t, func(m *Hello) { m.BootID = BootID{} }),
		"boot_seq and tail_seq: want 1":      change(t, func(m *Hello) { m.BootSeq = 0 }),
		"acked_seq is 43: want at most":      change(t, func(m *Hello) { m.AckedSeq = 43 }),
		"software: want at most 64":          change(t, func(m *Hello) { m.Software = long }),
		"clock_state is 7: want 0 or 1":      change(t, func(m *Hello) { m.ClockState = 7 }),
		"inventory[1].slot is 1: want":       change(t, func(m *Hello) { m.Inventory[1].Slot = 1 }),
		"inventory[2].slot is 49: want":      change(t, func(m *Hello) { m.Inventory[2].Slot = MaxSlots + 1 }),
		"inventory[0].soc is 101: want":      change(t, func(m *Hello) { m.Inventory[0].Soc = ptr(101) }),
		"inventory[0]: battery_serial":       change(t, func(m *Hello) { m.Inventory[0].BatterySerial = "a b" }),
		`inventory[0].door "ajar": want`:     change(t, func(m *Hello) { m.Inventory[0].Door = "ajar" }),
		`inventory[0].presence "some": want`: change(t, func(m *Hello) { m.Inventory[0].Presence = "some" }),
		"inventory: 49 slots":                change(t, func(m *Hello) { m.Inventory = make(Inventory, MaxSlots+1) }),
		`verdict "maybe": want resume`:       change(t, func(m *HelloOK) { m.Verdict = "maybe" }),
		"resume_seq: want 1 or more":         change(t, func(m *HelloOK) { m.ResumeSeq = 0 }),
		"config.slots_out: 49 slots":         change(t, func(m *HelloOK) { m.Config.SlotsOut = make([]int, MaxSlots+1) }),
		"config.slots_out: slot 0":           change(t, func(m *HelloOK) { m.Config.SlotsOut = []int{0} }),
		"config.flagged_serials: 79":         change(t, func(m *HelloOK) { m.Config.FlaggedSerials = make([]BatterySerial, MaxFlaggedSerials+1) }),
		"config.clear_faults: slot 49":       change(t, func(m *HelloOK) { m.Config.ClearFaults = map[int]int64{MaxSlots + 1: 1} }),
		"config.clear_faults: slot 4: count": change(t, func(m *HelloOK) { m.Config.ClearFaults = map[int]int64{4: 0} }),
		"config.flagged_serials: battery":    change(t, func(m *HelloOK) { m.Config.FlaggedSerials = []BatterySerial{""} }),
		"from_seq: want 1 or more":           change(t, func(m *Log) { m.FromSeq = 0 }),
		"records: 0, want 1 to 32":           change(t, func(m *Log) { m.Records = nil }),
		"records: 33, want 1 to 32":          change(t, func(m *Log) { m.Records = make([][]byte, MaxLogRecords+1) }),
		"epoch: want 32 hexadecimal":         change(t, func(m *LogAck) { m.Epoch = Epoch{} }),
		"presence: want at most 32":          change(t, func(m *Prepare) { m.Presence = long }),
		`what "shake": want begin, open`:     change(t, func(m *MaintenanceRequest) { m.What = "shake" }),
		"slot is 0: want 1 to 48":            change(t, func(m *MaintenanceRequest) { m.Slot = 0 }),
		"slot is 2: want none for end":       change(t, func(m *MaintenanceGrant) { m.What = OrderEnd }),
		`order_id "": want a UUIDv7`:         change(t, func(m *MaintenanceGrant) { m.OrderID = "" }),
		"nonce or reason: want one":          change(t, func(m *MaintenanceAnswer) { m.Nonce, m.Reason = Nonce{}, "" }),
		"epoch: want 32 hexadecimal di":      change(t, func(m *MaintenanceAnswer) { m.Epoch, m.Reason = Epoch{}, "" }),
		"boot_seq: want 1 ":                  change(t, func(m *MaintenanceAnswer) { m.BootSeq, m.Reason = 0, "" }),
		`reason "mood": not on`:              change(t, func(m *MaintenanceAnswer) { m.Reason = "mood" }),
		`kind "gift": want swap`:             change(t, func(m *Prepare) { m.Kind = "gift" }),
		"boot_seq: want 1 or more":           change(t, func(m *Prepared) { m.BootSeq = 0 }),
		"deposit_slots: slot 0: want":        change(t, func(m *Prepared) { m.DepositSlots = []int{0} }),
		"deposit_slots: slot 2: want":        change(t, func(m *Prepared) { m.DepositSlots = []int{2, 2} }),
		"dispense: slot 5: want":             change(t, func(m *Prepared) { m.Dispense[0].Slot = 5 }),
		"dispense: soc is -1":                change(t, func(m *Prepared) { m.Dispense[0].Soc = -1 }),
		"dispense: battery_serial":           change(t, func(m *Prepared) { m.Dispense[0].BatterySerial = "" }),
		"want at most 2 and 3":               change(t, func(m *Prepared) { m.DepositSlots = []int{2, 3, 4} }),
		`reason "because": not on`:           change(t, func(m *Refused) { m.Reason = "because" }),
		"expect_serials: 5, want at most 4":  change(t, func(m *Grant) { m.ExpectSerials = make([]BatterySerial, 5) }),
		"expect_serials: battery_serial":     change(t, func(m *Grant) { m.ExpectSerials = []BatterySerial{""} }),
		"want at least one of each":          change(t, func(m *Grant) { m.ExpectSerials = nil }),
		"do not fit a owed":                  change(t, func(m *Grant) { m.Kind = KindOwed }),
		"do not fit a swap":                  change(t, func(m *Grant) { m.Dispense = nil }),
		"do not fit a hand_back":             change(t, func(m *Grant) { m.Kind = KindHandBack }),
		"swap_id":                            change(t, func(m *Cancel) { m.SwapID = "" }),
		`what "open": want "recheck"`:        change(t, func(m *Wish) { m.What = "open" }),
		"page_url: want http":                change(t, func(m *Guide) { m.PageURL = "ftp://x" }),
		"page_url: want no fragment":         change(t, func(m *Guide) { m.PageURL += "#x" }),
		"hotline: want at most":              change(t, func(m *Guide) { m.Hotline = long + long }),
		"nearest: 5, want at most 4":         change(t, func(m *Guide) { m.Nearest = make([]Neighbour, 5) }),
		"nearest[0].station and street":      change(t, func(m *Guide) { m.Nearest[0].Station = long + long }),
		"nearest[0].metres is -1":            change(t, func(m *Guide) { m.Nearest[0].Metres = -1 }),
		"nearest[0].charged and empty":       change(t, func(m *Guide) { m.Nearest[0].Empty = MaxSlots + 1 }),
		"nearest[0].cabinet_id":              change(t, func(m *Guide) { m.Nearest[0].CabinetID = "" }),
		"inventory[0].slot is 0":             change(t, func(m *InventoryReport) { m.Slots[0].Slot = 0 }),
		"alarms: 49, want at most 48":        change(t, func(m *Telemetry) { m.Alarms = make([]string, MaxSlots+1) }),
		"alarms[0]: want at most 64 bytes":   change(t, func(m *Telemetry) { m.Alarms[0] = long }),
		"software: want at most":             change(t, func(m *Telemetry) { m.Software = long }),
		`out_of_service "tea": not on`:       change(t, func(m *Telemetry) { m.OutOfService = "tea" }),
		`swap_id "7": want a UUIDv7`:         change(t, func(m *Telemetry) { m.SwapID = "7" }),
	} {
		t.Run(want, func(t *testing.T) { require.ErrorContains(t, m.Validate(), want) })
	}
}

// TestValidateRefusesWhatWasNeverDrawn: zeros where random bits belong mean that
// somebody forgot to draw them, and everybody can guess them.
func TestValidateRefusesWhatWasNeverDrawn(t *testing.T) {
	for name, c := range map[string]struct {
		m    Message
		want string
	}{
		"hello_ok, epoch":    {change(t, func(m *HelloOK) { m.Epoch = Epoch{} }), "epoch: want 32"},
		"hello_ok, boot_id":  {change(t, func(m *HelloOK) { m.BootID = BootID{} }), "boot_id: want 32"},
		"prepared, epoch":    {change(t, func(m *Prepared) { m.Epoch = Epoch{} }), "epoch: want 32"},
		"prepared, nonce":    {change(t, func(m *Prepared) { m.Nonce = Nonce{} }), "nonce: want 32"},
		"prepared, boot_id":  {change(t, func(m *Prepared) { m.BootID = BootID{} }), "boot_id: want 32"},
		"grant, nonce":       {change(t, func(m *Grant) { m.Nonce = Nonce{} }), "nonce: want 32"},
		"grant, boot_id":     {change(t, func(m *Grant) { m.BootID = BootID{} }), "boot_id: want 32"},
		"grant, no rider":    {change(t, func(m *Grant) { m.RiderRef = "" }), `rider_ref "": want 32`},
		"grant, short rider": {change(t, func(m *Grant) { m.RiderRef = m.RiderRef[1:] }), "rider_ref"},
		"grant, long rider":  {change(t, func(m *Grant) { m.RiderRef += "0" }), "rider_ref"},
		"grant, rider":       {change(t, func(m *Grant) { m.RiderRef = "A" + m.RiderRef[1:] }), "rider_ref"},
		"grant, a name":      {change(t, func(m *Grant) { m.RiderRef = "courier-courier-courier-courier-" }), "rider_ref"},
		"telemetry, boot_id": {change(t, func(m *Telemetry) { m.BootID = BootID{} }), "boot_id: want 32"},
		"will, boot_id":      {change(t, func(m *Will) { m.BootID = BootID{} }), "boot_id: want 32"},
	} {
		t.Run(name, func(t *testing.T) { require.ErrorContains(t, c.m.Validate(), c.want) })
	}
}

func TestIdentifiers(t *testing.T) {
	for _, id := range []CabinetID{"hb-0007", "abcd", "0-0-", CabinetID(strings.Repeat("z", 24))} {
		require.NoError(t, id.Validate())
	}
	for _, id := range []CabinetID{"", "abc", "HB-0007", "hb_0007", "hb/0007", "hb+0007", "hb#", "hb 0007", "hb-000é", "hb-0007\n", CabinetID(strings.Repeat("z", 25))} {
		require.ErrorContains(t, id.Validate(), "cabinet_id")
	}
	require.NoError(t, exampleSwap.Validate())
	for _, id := range []SwapID{
		"", "1", "01920000-0000-4000-8000-000000000001", "01920000-0000-7000-c000-000000000001", "01920000-0000-7000-8000-00000000000G",
		"01920000-0000-7000-8000-00000000000A", "0192000000007000800000000000000001xx", "01920000-0000-7000-8000-0000000000011", "{1920000-0000-7000-8000-00000000001}",
	} {
		require.ErrorContains(t, id.Validate(), "swap_id")
	}
	for _, s := range []BatterySerial{"B", "BT2072503000001234567890", BatterySerial(strings.Repeat("~", MaxSerialLength))} {
		require.NoError(t, s.Validate())
	}
	for _, s := range []BatterySerial{"", "a b", "a\x00", "é", "a\n", BatterySerial(strings.Repeat("~", MaxSerialLength+1))} {
		require.ErrorContains(t, s.Validate(), "battery_serial")
	}
}

func TestHexIdentifiers(t *testing.T) {
	var e Epoch
	require.NoError(t, e.UnmarshalText([]byte("000102030405060708090a0b0c0d0e0f")))
	require.Equal(t, "000102030405060708090a0b0c0d0e0f", e.String())
	require.Equal(t, uint32(0x03020100), e.Short())
	require.True(t, Epoch{}.IsZero())
	require.False(t, e.IsZero())
	for field, u := range map[string]interface{ UnmarshalText([]byte) error }{
		"epoch": new(Epoch), "hash": new(Hash), "nonce": new(Nonce), "boot_id": new(BootID),
	} {
		for _, bad := range []string{"", "00", strings.Repeat("0", 31), strings.Repeat("0", 33), strings.Repeat("g", 32)} {
			require.ErrorContains(t, u.UnmarshalText([]byte(bad)), field)
		}
		require.NoError(t, u.UnmarshalText([]byte(strings.Repeat("f", 32))))
	}
}

func TestTopics(t *testing.T) {
	for _, ch := range []Channel{UpLog, UpRPC, UpTelemetry, UpWill, Down} {
		id, got, err := ParseTopic(Topic(exampleCabinet, ch))
		require.NoError(t, err)
		require.Equal(t, exampleCabinet, id)
		require.Equal(t, ch, got)
	}
	require.Equal(t, "swap/v1/hb-0007/up/log", Topic(exampleCabinet, UpLog))
	require.Equal(t, "swap/v1/+/up/rpc", Filter(UpRPC))
	require.Equal(t, "$share/backend/swap/v1/+/up/log", SharedFilter(UpLog))
	for _, bad := range []string{
		"", "swap/v1", "swap/v1/", "swap/v1/hb-0007", "swap/v1/hb-0007/", "swap/v1/hb-0007/up", "swap/v1/hb-0007/up/log/",
		"swap/v1/hb-0007/up/other", "swap/v1/+/down", "swap/v1/#", "swap/v1/x/down", "swap/v1//down", "swap/v2/hb-0007/down",
		"/swap/v1/hb-0007/down", "Swap/v1/hb-0007/down", "swap/v1/hb-0007/down\x00", "$share/backend/swap/v1/hb-0007/down",
		"swap/v1/hb-0007/other/down",
	} {
		_, _, err := ParseTopic(bad)
		require.ErrorContains(t, err, "topic", bad)
	}
}

func TestVocabulary(t *testing.T) {
	for _, k := range []Kind{KindSwap, KindOwed, KindIssue, KindHandBack} {
		require.True(t, k.Valid())
		require.True(t, k.Deposits() || k.Dispenses())
		require.Equal(t, !k.Deposits(), k.NeedsPresence(), "%s: whoever deposits nothing must prove to stand there", k)
		require.True(t, OutcomeReview.PossibleFor(k))
		require.False(t, OutcomeNotStarted.PossibleFor(k), "an agent voids, it does not close so")
	}
	require.False(t, Kind("").Valid())
	require.Nil(t, outcomesOf("gift"))
	counted := 0
	for _, o := range []Outcome{
		OutcomeNoDeposit, OutcomeSwapped, OutcomeReturned, OutcomeDepositedOwed, OutcomeOwedTaken, OutcomeOwedNotTaken, OutcomeIssued,
		OutcomeIssueNotTaken, OutcomeHandedBack, OutcomeNotStarted, OutcomeReview,
	} {
		if o.Counts() {
			counted++
		}
	}
	require.Equal(t, 2, counted, "swapped and owed_taken count, and nothing else")
	require.True(t, OutcomeSwapped.Counts() && OutcomeOwedTaken.Counts())
	require.False(t, OutcomeSwapped.PossibleFor(KindOwed))
	require.False(t, Purpose("").Valid())
	for _, p := range []Purpose{PurposeDeposit, PurposeDispense, PurposeReturn, PurposeReopen} {
		require.True(t, p.Valid())
	}
	require.Equal(t, "CLOSED", RecordClosed.String())
	require.Equal(t, "TIME_STEP", RecordTimeStep.String())
	require.Equal(t, "RECORD(0)", RecordType(0).String())
	require.Equal(t, "RECORD(255)", RecordType(math.MaxUint8).String())
}

func TestInventorySlot(t *testing.T) {
	s, ok := exampleInventory().Slot(2)
	require.True(t, ok)
	require.Equal(t, PresenceEmpty, s.Presence)
	_, ok = exampleInventory().Slot(9)
	require.False(t, ok)
}

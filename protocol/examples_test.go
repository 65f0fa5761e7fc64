package protocol

import (
	"crypto/ed25519"
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The cabinet and the swap that the examples speak of.
const (
	exampleCabinet CabinetID     = "hb-0007"
	exampleSwap    SwapID        = "01920000-0000-7000-8000-000000000001"
	exampleOrder   OrderID       = "01920000-0000-7000-8000-0000000000f1"
	exampleFlat    BatterySerial = "BT-0001"
	exampleFull    BatterySerial = "BT-0042"
)

func ptr[T any](v T) *T { return &v }

// testKey is a key pair that is the same in every run.
func testKey(seed byte) (ed25519.PublicKey, ed25519.PrivateKey) {
	b := make([]byte, ed25519.SeedSize)
	b[0] = seed
	k := ed25519.NewKeyFromSeed(b)
	return k.Public().(ed25519.PublicKey), k
}

func exampleInventory() Inventory {
	return Inventory{
		{
			Slot: 1, Door: DoorShut, Closed: true, Presence: HoldsBattery, BatterySerial: exampleFull,
			Soc: ptr(97), VoltageMV: ptr(53100), CellMaxC: ptr(28.5), Charging: true, Charged: true, AgeMS: ptr(int64(320)), SocAgeMS: ptr(int64(4100)),
		},
		{Slot: 2, Door: DoorShut, Closed: true, Presence: PresenceEmpty, AgeMS: ptr(int64(610))},
		{Slot: 3, Out: true},
	}
}

// exampleMessages is one of each message, with every field filled.
func exampleMessages() []Message {
	epoch, boot := Epoch{0: 0xe1, 15: 1}, BootID{0: 0xb0, 15: 2}
	return []Message{
		Hello{
			Epoch: epoch, FirstSeq: 1, TailSeq: 42, TailHash: Hash{1}, AckedSeq: 40, AckedHash: Hash{2}, BootID: boot, BootSeq: 3,
			Software: "1.0.0", ClockState: ClockSynchronised, ConfigVersion: 4, KeysVersion: 1, Inventory: exampleInventory(),
			Challenge: Challenge{0: 0xc1, 15: 7},
		},
		HelloRequest{Challenge: Challenge{0: 0xc1, 15: 7}},
		HelloOK{
			Epoch: epoch, BootID: boot, Verdict: VerdictResume, ResumeSeq: 41, ServerTime: time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC),
			Config: CabinetConfig{Version: 5, OutOfService: true, SlotsOut: []int{3}, FlaggedSerials: []BatterySerial{"BT-0666"}, ClearFaults: map[int]int64{3: 2}},
			Keys:   "{…}\nroot …",
		},
		Log{Epoch: epoch, MonoMS: 123456, BootSeq: 3, FromSeq: 41, Records: [][]byte{{1, 2, 3}, {4, 5}}, HeadHash: Hash{3}},
		LogAck{Epoch: epoch, UptoSeq: 42, HashAtUpto: Hash{3}, ResendFrom: 43},
		Prepare{SwapID: exampleSwap, Kind: KindOwed, Presence: "48213"},
		Prepared{
			SwapID: exampleSwap, Epoch: epoch, BootSeq: 3, BootID: boot, Nonce: Nonce{9},
			DepositSlots: []int{2, 5}, Dispense: []Offer{{Slot: 1, BatterySerial: exampleFull, Soc: 97}},
		},
		Refused{SwapID: exampleSwap, Reason: ReasonNoChargedBattery},
		Grant{
			SwapID: exampleSwap, Kind: KindSwap, Nonce: Nonce{9}, BootID: boot, RiderRef: "00112233445566778899aabbccddeeff",
			DepositSlots: []int{2, 5}, Dispense: []Offer{{Slot: 1, BatterySerial: exampleFull, Soc: 97}}, ExpectSerials: []BatterySerial{exampleFlat},
		},
		Cancel{SwapID: exampleSwap},
		Wish{SwapID: exampleSwap, What: WishRecheck},
		Guide{
			PageURL: "https://swap.example/c/hb-0007", Hotline: "0571-0000", At: time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC),
			Nearest: []Neighbour{{CabinetID: "hb-0008", Station: "Hubin", Street: "Wensan Road", Metres: 420, Charged: 7, Empty: 2}},
		},
		MaintenanceRequest{OrderID: exampleOrder, What: OrderOpen, Slot: 2},
		MaintenanceAnswer{OrderID: exampleOrder, Epoch: epoch, BootSeq: 3, BootID: boot, Nonce: Nonce{9}, Reason: ReasonKeyNotTurned},
		MaintenanceGrant{OrderID: exampleOrder, What: OrderOpen, Slot: 2, Nonce: Nonce{9}, BootID: boot},
		InventoryRequest{},
		InventoryReport{Slots: exampleInventory()},
		Telemetry{
			BootID: boot, BootSeq: 3, MonoMS: 123456, Software: "1.0.0", BacklogRecords: 2, SwapID: exampleSwap,
			OutOfService: ReasonOutOfService, Alarms: []string{"door_open:2"}, UpperC: ptr(31.5), EnergyJ: ptr(uint64(9_000_000)), Slots: exampleInventory(),
		},
		Will{BootID: boot},
	}
}

// examplePayloads is one of each record payload, with every field filled.
func examplePayloads() []Payload {
	epoch, boot := Epoch{0: 0xe1, 15: 1}, BootID{0: 0xb0, 15: 2}
	battery := Battery{BatterySerial: exampleFlat, Soc: ptr(31), VoltageMV: ptr(48200), CellMaxC: ptr(33.5)}
	config := CabinetConfig{Version: 5, OutOfService: true, SlotsOut: []int{3}, FlaggedSerials: []BatterySerial{"BT-0666"}, ClearFaults: map[int]int64{3: 2}}
	return []Payload{
		Boot{BootID: boot, Software: "1.0.0", Epoch: epoch, CutBytes: 17, Old: &OldTail{Epoch: Epoch{5}, Seq: 9, Hash: Hash{6}}, Carried: []byte(`{"run_ms":9}`), Out: ReasonOutOfService},
		Accept{SwapID: exampleSwap, Kind: KindSwap, Nonce: Nonce{9}, BootID: boot, Grant: "{\"v\":1}\ng1 …", Inventory: exampleInventory()},
		Intent{SwapID: exampleSwap, OrderID: exampleOrder, Slot: 1, Purpose: PurposeDispense, Pulse: 2, BatterySerial: exampleFull},
		DoorMoved{SwapID: exampleSwap, Slot: 2, Purpose: PurposeDeposit, Door: DoorOpen},
		Deposit{SwapID: exampleSwap, Slot: 2, Battery: battery, Accepted: true, Reason: ReasonDepositLate},
		Taken{SwapID: exampleSwap, Slot: 1, BatterySerial: exampleFull},
		Closed{
			SwapID: exampleSwap, Kind: KindSwap, Outcome: OutcomeReview, DepositSlot: 2, Deposited: exampleFlat, TakeSlot: 1, Taken: exampleFull,
			Reason: ReasonInventoryDiffers, Explanations: []Outcome{OutcomeSwapped, OutcomeDepositedOwed}, Inventory: exampleInventory(),
		},
		Void{SwapID: exampleSwap, Reason: ReasonPowerCut},
		Reject{Type: TypeGrant, Why: "nonce", Count: 3},
		Tamper{Slot: 4, Presence: HoldsBattery, BatterySerial: exampleFull, Inventory: exampleInventory()},
		Alarm{Kind: AlarmDoorOpen, Slot: 2, SwapID: exampleSwap, Cleared: true, OnSite: true, Inventory: exampleInventory()},
		ChargeCut{Slot: 4, Kind: AlarmTemperature},
		Maintenance{
			MaintenanceID: exampleOrder, OrderID: exampleOrder, What: OrderEnd, Slot: 2, Grant: "{\"v\":1}\ng1 …", Reason: ReasonMaintenanceOver,
			Inventory: exampleInventory(), Changes: []Change{{Slot: 2, Removed: exampleFlat, Added: exampleFull, Forced: true}},
		},
		ConfigApplied{Config: config, KeysVersion: 1},
		TimeStep{WallMS: 1777622400000, Clock: ClockSynchronised},
	}
}

// declared are the constants of a type in the package's files.
func declared(t *testing.T, typeName string) []string {
	t.Helper()
	packages, err := parser.ParseDir(token.NewFileSet(), ".", nil, 0) //nolint:staticcheck // one package, no build tags
	require.NoError(t, err)
	var names []string
	for _, f := range packages["protocol"].Files {
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Names) == 1 {
				if id, ok := spec.Type.(*ast.Ident); ok && id.Name == typeName {
					names = append(names, spec.Names[0].Name)
				}
			}
			return true
		})
	}
	require.NotEmpty(t, names)
	return names
}

func TestExamplesAreComplete(t *testing.T) {
	types := map[Type]bool{}
	for _, m := range exampleMessages() {
		require.NoError(t, m.Validate(), m.MessageType())
		types[m.MessageType()] = true
	}
	require.Len(t, types, len(declared(t, "Type")), "a type of message has no example")

	records := map[RecordType]bool{RecordSnapshot: true} // its form is the agent's own
	for _, p := range examplePayloads() {
		records[p.RecordType()] = true
	}
	for r := RecordBoot; r.Valid(); r++ {
		require.Contains(t, records, r, "a type of record has no example")
	}
}

func TestReasonsAreClosed(t *testing.T) {
	require.Len(t, Reasons(), len(declared(t, "Reason")), "a reason is missing from the list")
	for _, r := range Reasons() {
		require.True(t, r.Valid())
		require.Regexp(t, `^[a-z]+(_[a-z]+)*$`, string(r))
	}
	require.False(t, Reason("").Valid())
	changed := Reasons()
	changed[0] = "changed"
	require.NotEqual(t, changed[0], Reasons()[0], "the list was shared")
}

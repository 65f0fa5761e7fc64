package protocol

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata/golden, or writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644)) //nolint:gosec // a file of the tree
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "%s has changed: programs in the field still speak the old form", path)
}

// anyKey is a lookup that knows one key, whatever it is to sign.
func anyKey(kid string, pub ed25519.PublicKey) KeyLookup {
	return func(k string, _ Type, _ CabinetID) (ed25519.PublicKey, bool) { return pub, k == kid }
}

// decodeAny decodes into a new value of the example's type.
func decodeAny(e Envelope, like Message) (Message, error) {
	switch like.(type) {
	case Hello:
		return decodeAs[Hello](e)
	case HelloRequest:
		return decodeAs[HelloRequest](e)
	case HelloOK:
		return decodeAs[HelloOK](e)
	case Log:
		return decodeAs[Log](e)
	case LogAck:
		return decodeAs[LogAck](e)
	case Prepare:
		return decodeAs[Prepare](e)
	case Prepared:
		return decodeAs[Prepared](e)
	case Refused:
		return decodeAs[Refused](e)
	case Grant:
		return decodeAs[Grant](e)
	case Cancel:
		return decodeAs[Cancel](e)
	case Wish:
		return decodeAs[Wish](e)
	case Guide:
		return decodeAs[Guide](e)
	case MaintenanceRequest:
		return decodeAs[MaintenanceRequest](e)
	case MaintenanceAnswer:
		return decodeAs[MaintenanceAnswer](e)
	case MaintenanceGrant:
		return decodeAs[MaintenanceGrant](e)
	case InventoryRequest:
		return decodeAs[InventoryRequest](e)
	case InventoryReport:
		return decodeAs[InventoryReport](e)
	case Telemetry:
		return decodeAs[Telemetry](e)
	case Will:
		return decodeAs[Will](e)
	}
	panic("no such message: " + string(like.MessageType()))
}

func decodeAs[M Message](e Envelope) (Message, error) {
	var m M
	err := Decode(e, &m)
	return m, err
}

func TestGoldenMessages(t *testing.T) {
	pub, key := testKey(1)
	for _, m := range exampleMessages() {
		t.Run(string(m.MessageType()), func(t *testing.T) {
			raw, err := Seal("k1", key, exampleCabinet, m)
			require.NoError(t, err)
			golden(t, "messages/"+string(m.MessageType())+".txt", append(bytes.Clone(raw), '\n'))
			e, err := Open(raw, anyKey("k1", pub))
			require.NoError(t, err)
			require.Equal(t, m.MessageType(), e.Type)
			require.Equal(t, exampleCabinet, e.CabinetID)
			require.Equal(t, "k1", e.KeyID)
			require.Equal(t, raw, e.Raw)
			got, err := decodeAny(e, m)
			require.NoError(t, err)
			require.Equal(t, m, got)
		})
	}
}

// decodePayload decodes a record's payload into a new value of the example's type.
func decodePayload(r Record, like Payload) (Payload, error) {
	switch like.(type) {
	case Boot:
		return payloadAs[Boot](r)
	case Accept:
		return payloadAs[Accept](r)
	case Intent:
		return payloadAs[Intent](r)
	case DoorMoved:
		return payloadAs[DoorMoved](r)
	case Deposit:
		return payloadAs[Deposit](r)
	case Taken:
		return payloadAs[Taken](r)
	case Closed:
		return payloadAs[Closed](r)
	case Void:
		return payloadAs[Void](r)
	case Reject:
		return payloadAs[Reject](r)
	case Tamper:
		return payloadAs[Tamper](r)
	case Alarm:
		return payloadAs[Alarm](r)
	case ChargeCut:
		return payloadAs[ChargeCut](r)
	case Maintenance:
		return payloadAs[Maintenance](r)
	case ConfigApplied:
		return payloadAs[ConfigApplied](r)
	case TimeStep:
		return payloadAs[TimeStep](r)
	}
	panic("no such payload: " + like.RecordType().String())
}

func payloadAs[P Payload](r Record) (Payload, error) {
	var p P
	err := UnmarshalPayload(r, &p)
	return p, err
}

// exampleRecord wraps a payload as the third record of a second boot.
func exampleRecord(t testing.TB, p Payload) []byte {
	t.Helper()
	payload, err := MarshalPayload(p)
	require.NoError(t, err)
	b, err := AppendRecord(nil, Record{
		EpochShort: Epoch{0: 0xe1, 15: 1}.Short(), Seq: 42, BootSeq: 3, MonoMS: 123456, WallMS: 1777622400000,
		Clock: ClockSynchronised, Type: p.RecordType(), PrevHash: Hash{1, 2, 3}, Payload: payload,
	})
	require.NoError(t, err)
	return b
}

func TestGoldenRecords(t *testing.T) {
	for _, p := range examplePayloads() {
		name := strings.ToLower(p.RecordType().String())
		t.Run(name, func(t *testing.T) {
			b := exampleRecord(t, p)
			r, n, h, err := DecodeRecord(b)
			require.NoError(t, err)
			require.Equal(t, len(b), n)
			text := string(r.Payload) + "\n" + hex.Dump(b) + "hash " + h.String() + "\n"
			golden(t, "records/"+name+".txt", []byte(text))
			got, err := decodePayload(r, p)
			require.NoError(t, err)
			require.Equal(t, p, got)
		})
	}
}

// TestGoldenFilesAreAllUsed finds files that no test reads any more.
func TestGoldenFilesAreAllUsed(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*/*")
	require.NoError(t, err)
	require.Len(t, files, len(exampleMessages())+len(examplePayloads()))
}

// TestExamplesFillEveryField keeps a new field from going unseen by the golden
// files.
func TestExamplesFillEveryField(t *testing.T) {
	for _, m := range exampleMessages() {
		requireFilled(t, string(m.MessageType()), reflect.ValueOf(m))
	}
	for _, p := range examplePayloads() {
		requireFilled(t, p.RecordType().String(), reflect.ValueOf(p))
	}
}

func requireFilled(t *testing.T, name string, v reflect.Value) {
	t.Helper()
	if v.Type() == reflect.TypeFor[Inventory]() {
		return // several slots fill it together
	}
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				require.False(t, v.Field(i).IsZero(), "%s.%s is empty in the example", name, field.Name)
				requireFilled(t, name+"."+field.Name, v.Field(i))
			}
		}
	}
}

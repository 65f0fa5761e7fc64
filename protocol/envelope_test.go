package protocol

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// seal signs a first line as it is, so that tests can say what Seal would not.
func seal(kid string, key ed25519.PrivateKey, typ Type, cabinet CabinetID, line string) []byte {
	sig := ed25519.Sign(key, signedBytes(typ, cabinet, []byte(line)))
	return []byte(line + "\n" + kid + " " + base64.RawURLEncoding.EncodeToString(sig))
}

// mutations are other values of the byte at i: each of its bits changed, and on
// the second line, which is not what is signed, every other value.
func mutations(raw []byte, i int) []byte {
	var values []byte
	second := i > bytes.IndexByte(raw, '\n')
	for v := range 256 {
		if x := byte(v) ^ raw[i]; x != 0 && (second || x&(x-1) == 0) {
			values = append(values, byte(v))
		}
	}
	return values
}

// TestEnvelopeRefusesEveryMutation changes every byte, takes every byte out,
// doubles it and cuts the message there.
func TestEnvelopeRefusesEveryMutation(t *testing.T) {
	pub, key := testKey(1)
	raw, err := Seal("k1", key, exampleCabinet, exampleMessages()[7])
	require.NoError(t, err)
	refused := func(what string, at int, b []byte) {
		t.Helper()
		_, err := Open(b, anyKey("k1", pub))
		require.Error(t, err, "%s at byte %d was accepted", what, at)
	}
	for i := range raw {
		b := bytes.Clone(raw)
		for _, v := range mutations(raw, i) {
			b[i] = v
			refused(fmt.Sprintf("value %#x", v), i, b)
		}
		refused("a cut", i, raw[:i])
		refused("a missing byte", i, append(bytes.Clone(raw[:i]), raw[i+1:]...))
		refused("a doubled byte", i, append(bytes.Clone(raw[:i+1]), raw[i:]...))
	}
	for i := range len(raw) + 1 {
		for _, extra := range []string{"\n", "\r", " ", "=", "\x00"} {
			refused(fmt.Sprintf("an added %q", extra), i, append(append(bytes.Clone(raw[:i]), extra...), raw[i:]...))
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	pub, key := testKey(1)
	_, other := testKey(2)
	good := `{"v":1,"type":"cancel","cabinet_id":"hb-0007","swap_id":"` + string(exampleSwap) + `"}`
	for name, c := range map[string]struct {
		raw  []byte
		is   error
		want string
	}{
		"empty":          {nil, ErrMalformed, "two lines"},
		"one line":       {[]byte(good), ErrMalformed, "two lines"},
		"three lines":    {append(seal("k1", key, TypeCancel, exampleCabinet, good), '\n'), ErrMalformed, "two lines"},
		"no signature":   {[]byte(good + "\nk1"), ErrMalformed, "a key's id and a signature"},
		"no key":         {[]byte(good + "\n " + strings.Repeat("A", 86)), ErrMalformed, "a key's id and a signature"},
		"long key":       {[]byte(good + "\n" + strings.Repeat("k", 33) + " " + strings.Repeat("A", 86)), ErrMalformed, "a key's id and a signature"},
		"not base64":     {[]byte(good + "\nk1 " + strings.Repeat("!", 86)), ErrMalformed, "base64url"},
		"short":          {[]byte(good + "\nk1 AAAA"), ErrMalformed, "64 bytes"},
		"not json":       {seal("k1", key, TypeCancel, exampleCabinet, "hello"), ErrMalformed, "first line"},
		"not an object":  {seal("k1", key, TypeCancel, exampleCabinet, `["v"]`), ErrMalformed, "first line"},
		"version":        {seal("k1", key, TypeCancel, exampleCabinet, strings.Replace(good, `"v":1`, `"v":2`, 1)), ErrMalformed, "v is 2, want 1"},
		"cabinet":        {seal("k1", key, TypeCancel, "HB/0007", strings.Replace(good, "hb-0007", "HB/0007", 1)), ErrMalformed, "cabinet_id"},
		"other key":      {seal("k2", key, TypeCancel, exampleCabinet, good), ErrUnknownKey, `"k2"`},
		"forged":         {seal("k1", other, TypeCancel, exampleCabinet, good), ErrSignature, "cancel"},
		"other type":     {seal("k1", key, TypeGrant, exampleCabinet, good), ErrSignature, "cancel"},
		"other cabinet":  {seal("k1", key, TypeCancel, "hb-0008", good), ErrSignature, "cancel"},
		"other domain":   {[]byte(good + "\nk1 " + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(good)))), ErrSignature, "cancel"},
		"too large":      {append(seal("k1", key, TypeCancel, exampleCabinet, good), make([]byte, MaxEnvelope)...), ErrTooLarge, "32768"},
		"padded base64":  {append(seal("k1", key, TypeCancel, exampleCabinet, good), "=="...), ErrMalformed, "base64url"},
		"return in it":   {append(seal("k1", key, TypeCancel, exampleCabinet, good), '\r'), ErrMalformed, "base64url"},
		"wrong key size": {seal("short", key, TypeCancel, exampleCabinet, good), ErrUnknownKey, `"short"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(c.raw, func(kid string, _ Type, _ CabinetID) (ed25519.PublicKey, bool) {
				if kid == "short" {
					return pub[:5], true
				}
				return pub, kid == "k1"
			})
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// TestEnvelopeIsBoundToItsCabinet seals the same message to two cabinets: both
// open, each with its own signature only.
func TestEnvelopeIsBoundToItsCabinet(t *testing.T) {
	pub, key := testKey(1)
	var tails []string
	for _, id := range []CabinetID{"hb-0007", "hb-0008"} {
		raw, err := Seal("k1", key, id, Cancel{SwapID: exampleSwap})
		require.NoError(t, err)
		e, err := Open(raw, anyKey("k1", pub))
		require.NoError(t, err)
		require.Equal(t, id, e.CabinetID)
		line, tail, _ := strings.Cut(string(raw), "\n")
		require.Contains(t, line, id)
		tails = append(tails, tail)
	}
	line := `{"v":1,"type":"cancel","cabinet_id":"hb-0007","swap_id":"` + string(exampleSwap) + `"}`
	_, err := Open([]byte(line+"\n"+tails[0]), anyKey("k1", pub))
	require.NoError(t, err)
	_, err = Open([]byte(line+"\n"+tails[1]), anyKey("k1", pub))
	require.ErrorIs(t, err, ErrSignature)
}

func TestSealRefuses(t *testing.T) {
	_, key := testKey(1)
	_, err := Seal("k1", key, "HB 7", Cancel{SwapID: exampleSwap})
	require.ErrorContains(t, err, "cabinet_id")
	_, err = Seal("k1", key, exampleCabinet, Cancel{SwapID: "7"})
	require.ErrorContains(t, err, "swap_id")
	for _, kid := range []string{"", "k 1", "k\n1", strings.Repeat("k", 33)} {
		_, err = Seal(kid, key, exampleCabinet, Cancel{SwapID: exampleSwap})
		require.ErrorContains(t, err, "kid")
	}
	_, err = Seal("k1", key, exampleCabinet, Log{Epoch: Epoch{1}, FromSeq: 1, Records: [][]byte{make([]byte, MaxRecord), make([]byte, MaxRecord)}})
	require.ErrorIs(t, err, ErrTooLarge)
}

// TestLargestFits seals the largest of what has no bound of its own but the
// envelope's: if it does not fit, a cabinet could never send it.
func TestLargestFits(t *testing.T) {
	_, key := testKey(1)
	serial := BatterySerial(strings.Repeat("W", MaxSerialLength))
	var inv Inventory
	var slotsOut []int
	repaired := map[int]int64{}
	for n := 1; n <= MaxSlots; n++ {
		slotsOut = append(slotsOut, n)
		repaired[n] = MaxClearFaults
		inv = append(inv, SlotState{
			Slot: n, Door: DoorShut, Closed: true, Presence: HoldsBattery, BatterySerial: serial, Soc: ptr(100), VoltageMV: ptr(100000),
			CellMaxC: ptr(-100.1), Charging: true, Charged: true, Out: true, AgeMS: ptr(int64(99999999)), SocAgeMS: ptr(int64(99999999)),
		})
	}
	flagged := make([]BatterySerial, MaxFlaggedSerials)
	for i := range flagged {
		flagged[i] = serial
	}
	config := CabinetConfig{Version: 1 << 40, SlotsOut: slotsOut, FlaggedSerials: flagged, ClearFaults: repaired}
	grant, err := Seal("0123456789abcdef", key, exampleCabinet, Grant{
		Nonce: Nonce{1}, BootID: BootID{1},
		SwapID: exampleSwap, Kind: KindSwap, RiderRef: RiderRef(strings.Repeat("a", 32)), DepositSlots: []int{47, 48},
		Dispense:      []Offer{{44, serial, 100}, {45, serial, 100}, {46, serial, 100}},
		ExpectSerials: []BatterySerial{serial, serial, serial, serial},
	})
	require.NoError(t, err)
	for _, p := range []Payload{
		Accept{SwapID: exampleSwap, Kind: KindHandBack, Grant: string(grant), Inventory: inv},
		Closed{
			SwapID: exampleSwap, Kind: KindSwap, Outcome: OutcomeDepositedOwed, Deposited: serial, Taken: serial,
			Explanations: outcomesOf(KindSwap), Inventory: inv,
		},
		ConfigApplied{Config: config},
	} {
		_, err := MarshalPayload(p)
		require.NoError(t, err, p.RecordType())
	}
	root, err := SealKeyList(key, maxKeyList())
	require.NoError(t, err)
	for _, m := range []Message{
		Hello{Epoch: Epoch{1}, BootID: BootID{1}, BootSeq: 1, TailSeq: 1, Software: strings.Repeat("s", 64), Inventory: inv},
		HelloOK{Epoch: Epoch{1}, BootID: BootID{1}, Verdict: VerdictResume, ResumeSeq: 1, Config: config, Keys: string(root)},
		Log{Epoch: Epoch{1}, FromSeq: 1, Records: [][]byte{make([]byte, MaxRecord)}},
		Telemetry{BootID: BootID{1}, Software: strings.Repeat("s", 64), Alarms: manyAlarms(), Slots: inv},
	} {
		_, err := Seal("0123456789abcdef", key, exampleCabinet, m)
		require.NoError(t, err, m.MessageType())
	}
}

func maxKeyList() KeyList {
	l := KeyList{Version: 1}
	for i := range MaxKeys {
		l.Keys = append(l.Keys, Key{fmt.Sprintf("%032d", i), UseService, make([]byte, ed25519.PublicKeySize)})
	}
	return l
}

func manyAlarms() []string {
	alarms := make([]string, MaxSlots)
	for i := range alarms {
		alarms[i] = strings.Repeat("a", MaxAlarmLength)
	}
	return alarms
}

// TestKeyUses proves that a service key signs nothing that leads to a pulse, and a
// grant key nothing else.
func TestKeyUses(t *testing.T) {
	grantPub, grantKey := testKey(1)
	servicePub, serviceKey := testKey(2)
	list := KeyList{Version: 1, Keys: []Key{{"g1", UseGrant, grantPub}, {"s1", UseService, servicePub}}}
	for _, m := range exampleMessages() {
		right, kid, wrong, wrongKid := serviceKey, "s1", grantKey, "g1"
		if UseFor(m.MessageType()) == UseGrant {
			right, kid, wrong, wrongKid = grantKey, "g1", serviceKey, "s1"
		}
		raw, err := Seal(kid, right, exampleCabinet, m)
		require.NoError(t, err)
		_, err = Open(raw, list.Lookup)
		require.NoError(t, err, m.MessageType())

		raw, err = Seal(wrongKid, wrong, exampleCabinet, m)
		require.NoError(t, err)
		_, err = Open(raw, list.Lookup)
		require.ErrorIs(t, err, ErrUnknownKey, m.MessageType())

		raw, err = Seal(kid, wrong, exampleCabinet, m)
		require.NoError(t, err)
		_, err = Open(raw, list.Lookup)
		require.ErrorIs(t, err, ErrSignature, m.MessageType())
	}
	require.Equal(t, UseGrant, UseFor(TypeGrant))
	require.Equal(t, UseGrant, UseFor(TypeMaintenanceGrant))
	// Names of fields match without regard to case when JSON is read: a type
	// said twice must not choose one key and mean another message.
	line := `{"v":1,"type":"grant","cabinet_id":"hb-0007","TYPE":"cancel","swap_id":"` + string(exampleSwap) + `"}`
	_, err := Open(seal("s1", serviceKey, TypeGrant, exampleCabinet, line), list.Lookup)
	require.Error(t, err)
	e, err := Open(seal("s1", serviceKey, TypeCancel, exampleCabinet, line), list.Lookup)
	require.NoError(t, err)
	var g Grant
	require.ErrorContains(t, Decode(e, &g), `the envelope holds a "cancel"`)
}

// TestDecodeUnknownFields proves that what leads to a pulse is read strictly
// and all else is not.
func TestDecodeUnknownFields(t *testing.T) {
	pub, key := testKey(1)
	for _, m := range exampleMessages() {
		raw, err := Seal("k1", key, exampleCabinet, m)
		require.NoError(t, err)
		line, _, _ := strings.Cut(string(raw), "\n")
		line = strings.TrimSuffix(line, "}") + `,"news":{"a":[1]}}`
		e, err := Open(seal("k1", key, m.MessageType(), exampleCabinet, line), anyKey("k1", pub))
		require.NoError(t, err)
		got, err := decodeAny(e, m)
		if m.MessageType() == TypeGrant || m.MessageType() == TypeMaintenanceGrant {
			require.ErrorContains(t, err, `unknown field "news"`)
			continue
		}
		require.NoError(t, err, m.MessageType())
		require.Equal(t, m, got)
	}
}

func TestDecodeWantsTheType(t *testing.T) {
	pub, key := testKey(1)
	messages := exampleMessages()
	for i, m := range messages {
		raw, err := Seal("k1", key, exampleCabinet, m)
		require.NoError(t, err)
		e, err := Open(raw, anyKey("k1", pub))
		require.NoError(t, err)
		other := messages[(i+1)%len(messages)]
		_, err = decodeAny(e, other)
		require.ErrorContains(t, err, fmt.Sprintf("decode %s: the envelope holds a %q", other.MessageType(), m.MessageType()))
	}
}

package protocol

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestRecordRefusesEveryCutAndFlip cuts the record at every byte and flips
// every bit of it.
func TestRecordRefusesEveryCutAndFlip(t *testing.T) {
	for _, p := range examplePayloads() {
		whole := exampleRecord(t, p)
		for n := range whole {
			_, _, _, err := DecodeRecord(whole[:n])
			require.ErrorIs(t, err, ErrRecordShort, "%s cut at %d", p.RecordType(), n)
		}
		for bit := range len(whole) * 8 {
			b := bytes.Clone(whole)
			b[bit/8] ^= 1 << (bit % 8)
			_, _, _, err := DecodeRecord(b)
			require.Error(t, err, "%s with bit %d flipped", p.RecordType(), bit)
		}
	}
}

// TestRecordFollowed reads a record out of a longer stretch of bytes and leaves
// what follows alone.
func TestRecordFollowed(t *testing.T) {
	first, second := exampleRecord(t, examplePayloads()[1]), exampleRecord(t, examplePayloads()[2])
	all := append(bytes.Clone(first), second...)
	r, n, h, err := DecodeRecord(all)
	require.NoError(t, err)
	require.Equal(t, len(first), n)
	require.Equal(t, RecordAccept, r.Type)
	r, n, h2, err := DecodeRecord(all[n:])
	require.NoError(t, err)
	require.Equal(t, len(second), n)
	require.Equal(t, RecordIntent, r.Type)
	require.NotEqual(t, h, h2)
}

func TestRecordRefuses(t *testing.T) {
	good := Record{Seq: 1, Type: RecordVoid, Payload: []byte("{}")}
	for name, f := range map[string]func(*Record){
		"seq 0":         func(r *Record) { r.Seq = 0 },
		"type 0":        func(r *Record) { r.Type = 0 },
		"unknown clock": func(r *Record) { r.Clock = ClockSynchronised + 1 },
		"long payload":  func(r *Record) { r.Payload = make([]byte, MaxPayload+1) },
	} {
		r := good
		f(&r)
		kept := []byte("before")
		got, err := AppendRecord(kept, r)
		require.Error(t, err, name)
		require.Equal(t, kept, got, "%s: something was appended", name)
	}
	whole, err := AppendRecord(nil, good)
	require.NoError(t, err)
	for name, f := range map[string]func([]byte){
		"magic":      func(b []byte) { b[0]++ },
		"length":     func(b []byte) { binary.LittleEndian.PutUint32(b[4:], 1<<31) },
		"no head":    func(b []byte) { binary.LittleEndian.PutUint32(b[4:], recordHeadSize-1) },
		"seq 0":      func(b []byte) { b[16] = 0 },
		"clock":      func(b []byte) { b[recordPrefix+32] = 2 },
		"type 0":     func(b []byte) { b[recordPrefix+33] = 0 },
		"all zeroes": func(b []byte) { clear(b) },
	} {
		b := bytes.Clone(whole)
		f(b)
		if name != "all zeroes" { // a checksum that fits
			binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b[recordPrefix:], castagnoli))
		}
		_, _, _, err := DecodeRecord(b)
		require.ErrorIs(t, err, ErrRecordBad, name)
	}
	_, _, _, err = DecodeRecord([]byte("no record"))
	require.ErrorIs(t, err, ErrRecordBad, "too short for a record, but not the start of one either")
}

// TestRecordOfANewerAgent: a type that this program does not know is no damage.
func TestRecordOfANewerAgent(t *testing.T) {
	want := Record{Seq: 7, Type: RecordTimeStep + 1, Payload: []byte(`{"news":true}`)}
	b, err := AppendRecord(nil, want)
	require.NoError(t, err)
	got, n, _, err := DecodeRecord(b)
	require.NoError(t, err)
	require.Equal(t, len(b), n)
	require.Equal(t, want, got)
	require.False(t, got.Type.Valid(), "what is known stays known")
	require.Equal(t, "RECORD(17)", got.Type.String())
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Record{
			EpochShort: rapid.Uint32().Draw(t, "epoch"),
			Seq:        rapid.Uint64Min(1).Draw(t, "seq"),
			BootSeq:    rapid.Uint32().Draw(t, "boot"),
			MonoMS:     rapid.Uint64().Draw(t, "mono"),
			WallMS:     rapid.Uint64().Draw(t, "wall"),
			Clock:      ClockState(rapid.IntRange(0, 1).Draw(t, "clock")),
			Type:       RecordType(rapid.IntRange(1, 255).Draw(t, "type")),
			PrevHash:   Hash(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "prev")),
			Payload:    rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload"),
		}
		b, err := AppendRecord([]byte("x"), want)
		require.NoError(t, err)
		got, n, _, err := DecodeRecord(b[1:])
		require.NoError(t, err)
		require.Equal(t, len(b)-1, n)
		require.Equal(t, want, got)
	})
}

func TestPayloadRefuses(t *testing.T) {
	r := Record{Seq: 4, Type: RecordIntent, Payload: []byte(`{"swap_id":"x","slot":1,"news":true}`)}
	var i Intent
	require.NoError(t, UnmarshalPayload(r, &i), "a newer agent may say more")
	require.Equal(t, Intent{SwapID: "x", Slot: 1}, i)
	var v Void
	require.ErrorContains(t, UnmarshalPayload(r, &v), "payload of seq 4: the record is INTENT, not VOID")
	for _, bad := range []string{"", "{", `{"slot":"1"}`, `{"slot":1}{}`, `{"slot":1} x`, "[]"} {
		r.Payload = []byte(bad)
		require.ErrorContains(t, UnmarshalPayload(r, &i), "payload of INTENT seq 4", bad)
	}
	_, err := MarshalPayload(Reject{Why: string(make([]byte, MaxPayload))})
	require.ErrorContains(t, err, "payload of REJECT")
}

package protocol

import (
	"crypto/ed25519"
	"testing"

	"github.com/stretchr/testify/require"
)

func testKey(seed byte) (ed25519.PublicKey, ed25519.PrivateKey) {
	b := make([]byte, ed25519.SeedSize)
	b[0] = seed
	k := ed25519.NewKeyFromSeed(b)
	return k.Public().(ed25519.PublicKey), k
}

func TestEnvelopeRoundTrip(t *testing.T) {
	pub, key := testKey(1)
	lookup := func(kid string, _ Type, _ CabinetID) (ed25519.PublicKey, bool) { return pub, kid == "g1" }
	id := SwapID("01920000-0000-7000-8000-000000000001")
	raw, err := Seal("g1", key, "hb-0001", Prepare{SwapID: id, Kind: KindSwap})
	require.NoError(t, err)
	e, err := Open(raw, lookup)
	require.NoError(t, err)
	require.Equal(t, CabinetID("hb-0001"), e.CabinetID)
	var p Prepare
	require.NoError(t, Decode(e, &p))
	require.Equal(t, Prepare{SwapID: id, Kind: KindSwap}, p)
	var c Cancel
	require.Error(t, Decode(e, &c))
	raw[5] ^= 1
	_, err = Open(raw, lookup)
	require.Error(t, err)
}

func TestRecordRoundTrip(t *testing.T) {
	r := Record{EpochShort: 7, Seq: 3, BootSeq: 2, MonoMS: 10, WallMS: 11, Type: RecordVoid, Payload: []byte(`{}`)}
	b, err := AppendRecord(nil, r)
	require.NoError(t, err)
	got, n, _, err := DecodeRecord(b)
	require.NoError(t, err)
	require.Equal(t, len(b), n)
	require.Equal(t, r, got)
}

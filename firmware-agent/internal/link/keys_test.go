package link

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

func TestKeyRingGoesForwardOnly(t *testing.T) {
	r := newRig(t, nil)
	file := filepath.Join(t.TempDir(), "keys.json")
	var told bytes.Buffer
	log := slog.New(slog.NewTextHandler(&told, nil))
	k, err := OpenKeyRing(public(r.root), r.keyList(5), file, log)
	require.NoError(t, err)
	require.Equal(t, int64(5), k.Version())
	pub, ok := k.Lookup("g1", protocol.TypeGrant, cabinet)
	require.True(t, ok)
	require.Equal(t, public(r.grant), pub)

	require.NoError(t, k.Update(r.keyList(5)))
	require.NoError(t, k.Update(r.keyList(4)))
	require.NoFileExists(t, file)
	require.Equal(t, int64(5), k.Version())
	require.ErrorIs(t, k.Update([]byte("{}")), protocol.ErrMalformed)
	forged, err := protocol.SealKeyList(r.service, protocol.KeyList{Version: 9, Keys: []protocol.Key{
		{KeyID: "x", Use: protocol.UseGrant, PublicKey: public(r.service)},
	}})
	require.NoError(t, err)
	require.ErrorIs(t, k.Update(forged), protocol.ErrSignature)
	require.NoError(t, k.Update(r.keyList(7)))
	require.Equal(t, int64(7), k.Version())

	// The next boot has it, also when the first list is older or newer.
	for first, want := range map[int64]int64{5: 7, 7: 7, 8: 8} {
		k, err = OpenKeyRing(public(r.root), r.keyList(first), file, log)
		require.NoError(t, err)
		require.Equal(t, want, k.Version())
	}
	require.Empty(t, told.String())
	require.NoError(t, os.WriteFile(file, []byte("torn"), 0o600))
	k, err = OpenKeyRing(public(r.root), r.keyList(5), file, log)
	require.NoError(t, err)
	require.Equal(t, int64(5), k.Version())
	require.Contains(t, told.String(), "not used")
	_, err = OpenKeyRing(public(r.root), forged, file, log)
	require.ErrorIs(t, err, protocol.ErrSignature)

	// What cannot be kept is not used: after a restart it would be gone.
	k, err = OpenKeyRing(public(r.root), r.keyList(5), filepath.Join(file, "no"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.ErrorContains(t, k.Update(r.keyList(6)), "keep key list 6")
	require.Equal(t, int64(5), k.Version())
}

func TestKeysComeWithHelloOK(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		m := r.welcome(protocol.VerdictResume, 1)
		m.Keys = string(r.keyList(2))
		r.says(m)
		require.Equal(t, int64(2), r.opt.Keys.Version())
		require.Equal(t, []string{"hello", "1-5"}, r.logs())
		m.Keys = "forged"
		r.says(m)
		require.Equal(t, int64(2), r.opt.Keys.Version())
		require.Equal(t, []string{"hello_ok key_list"}, r.rejected)
		require.Equal(t, 2, r.counted["in hello_ok ok"], "the log goes on")
	})
}

package fleet

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

func TestKeysRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, InitKeys(dir))
	for _, name := range []string{rootKeyFile, grantKeyFile, serviceKeyFile, riderRefFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
	before, err := os.ReadFile(filepath.Join(dir, grantKeyFile))
	require.NoError(t, err)
	require.ErrorContains(t, InitKeys(dir), "nothing was changed")
	after, err := os.ReadFile(filepath.Join(dir, grantKeyFile))
	require.NoError(t, err)
	require.Equal(t, before, after)

	require.NoError(t, os.Remove(filepath.Join(dir, rootKeyFile)), "the root may be off line")
	k, err := LoadKeys(dir)
	require.NoError(t, err)
	list, err := protocol.OpenKeyList([]byte(k.Signed), k.Root)
	require.NoError(t, err)
	require.Equal(t, k.List, list)

	g := protocol.Grant{
		SwapID: "01920000-0000-7000-8000-000000000001", Kind: protocol.KindIssue, Nonce: protocol.Nonce{1}, BootID: protocol.BootID{1}, RiderRef: "00112233445566778899aabbccddeeff",
		Dispense: []protocol.Offer{{Slot: 1, BatterySerial: "B-1", Soc: 95}},
	}
	raw, err := protocol.Seal(k.signing.GrantID, k.signing.Grant, "hb-0001", g)
	require.NoError(t, err)
	got, err := k.OpenGrant("hb-0001", string(raw))
	require.NoError(t, err)
	require.Equal(t, g.Dispense, got.Dispense)
	_, err = k.OpenGrant("hb-0002", string(raw))
	require.ErrorContains(t, err, "it is for hb-0001")
	raw, err = protocol.Seal(k.signing.ServiceID, k.signing.Service, "hb-0001", g)
	require.NoError(t, err)
	_, err = k.OpenGrant("hb-0001", string(raw))
	require.ErrorIs(t, err, protocol.ErrUnknownKey, "the service key grants nothing")

	a := k.RiderRef("hb-0001", "0190aaaa-0000-7000-8000-00000000000a")
	require.Regexp(t, "^[0-9a-f]{32}$", a)
	require.Equal(t, a, k.RiderRef("hb-0001", "0190aaaa-0000-7000-8000-00000000000a"))
	require.NotEqual(t, a, k.RiderRef("hb-0002", "0190aaaa-0000-7000-8000-00000000000a"))
}

func TestKeyMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
	}{
		"no directory":   {func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(dir)) }, "no such file"},
		"others read it": {func(t *testing.T, dir string) { require.NoError(t, os.Chmod(filepath.Join(dir, grantKeyFile), 0o640)) }, "mode 0640, want 0600"},
		"not a key":      {func(t *testing.T, dir string) { write(t, dir, serviceKeyFile, "nonsense") }, "service.key: want a private key"},
		"short secret":   {func(t *testing.T, dir string) { write(t, dir, riderRefFile, "AAAA") }, "rider-ref.key: want 32 bytes"},
		"root":           {func(t *testing.T, dir string) { write(t, dir, rootPublicFile, "AAAA") }, "root.pub: want an Ed25519 public key"},
		"unsigned list":  {func(t *testing.T, dir string) { write(t, dir, keyListFile, `{"version":2,"keys":[]}`) }, "keys.json"},
		"not listed": {func(t *testing.T, dir string) {
			other := filepath.Join(t.TempDir(), "other")
			require.NoError(t, InitKeys(other))
			b, err := os.ReadFile(filepath.Join(other, grantKeyFile))
			require.NoError(t, err)
			write(t, dir, grantKeyFile, string(b))
		}, "grant.key: not in keys.json for grant"},
		"swapped": {func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, serviceKeyFile))
			require.NoError(t, err)
			write(t, dir, grantKeyFile, string(b))
		}, "grant.key: not in keys.json for grant"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			require.NoError(t, InitKeys(dir))
			c.spoil(t, dir)
			_, err := LoadKeys(dir)
			require.ErrorContains(t, err, c.want)
		})
	}
	dir := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, InitKeys(dir))
	write(t, dir, serviceKeyFile, "nonsense")
	write(t, dir, riderRefFile, "AAAA")
	_, err := LoadKeys(dir)
	require.ErrorContains(t, err, serviceKeyFile)
	require.ErrorContains(t, err, riderRefFile, "all at once")
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

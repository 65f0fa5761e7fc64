package protocol

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func exampleKeyList() KeyList {
	g, _ := testKey(1)
	s, _ := testKey(2)
	return KeyList{Version: 3, Keys: []Key{{"g1", UseGrant, g}, {"s1", UseService, s}}}
}

func TestKeyListRoundTrip(t *testing.T) {
	pub, root := testKey(9)
	raw, err := SealKeyList(root, exampleKeyList())
	require.NoError(t, err)
	for _, end := range []string{"", "\n"} { // as a file ends
		got, err := OpenKeyList(append(bytes.Clone(raw), end...), pub)
		require.NoError(t, err)
		require.Equal(t, exampleKeyList(), got)
	}
}

func TestKeyListRefusesEveryMutation(t *testing.T) {
	pub, root := testKey(9)
	raw, err := SealKeyList(root, exampleKeyList())
	require.NoError(t, err)
	for i := range raw {
		b := bytes.Clone(raw)
		for _, v := range mutations(raw, i) {
			b[i] = v
			_, err := OpenKeyList(b, pub)
			require.Error(t, err, "byte %d as %#x", i, v)
		}
		_, err := OpenKeyList(raw[:i], pub)
		require.Error(t, err, "cut at %d", i)
		for _, extra := range []string{"\r", " ", "="} {
			_, err := OpenKeyList(append(append(bytes.Clone(raw[:i]), extra...), raw[i:]...), pub)
			require.Error(t, err, "%q added at %d", extra, i)
		}
	}
	other, _ := testKey(8)
	_, err = OpenKeyList(raw, other)
	require.ErrorIs(t, err, ErrSignature)
	_, err = OpenKeyList(raw, nil)
	require.ErrorIs(t, err, ErrSignature)
	_, err = OpenKeyList(append(raw, bytes.Repeat([]byte{'\n'}, MaxEnvelope)...), pub)
	require.ErrorIs(t, err, ErrMalformed)
}

func TestKeyListValidates(t *testing.T) {
	pub, root := testKey(9)
	for want, f := range map[string]func(*KeyList){
		"version: want 1":          func(l *KeyList) { l.Version = 0 },
		"keys: 0, want 1 to 16":    func(l *KeyList) { l.Keys = nil },
		"keys: 17, want 1 to 16":   func(l *KeyList) { l.Keys = make([]Key, MaxKeys+1) },
		"keys[1].kid \"g1\"":       func(l *KeyList) { l.Keys[1].KeyID = "g1" },
		"keys[0].kid \"\"":         func(l *KeyList) { l.Keys[0].KeyID = "" },
		"keys[0].kid \"g 1\"":      func(l *KeyList) { l.Keys[0].KeyID = "g 1" },
		"keys[0].kid \"g\\n1\"":    func(l *KeyList) { l.Keys[0].KeyID = "g\n1" },
		"keys[0].kid \"gggggggggg": func(l *KeyList) { l.Keys[0].KeyID = strings.Repeat("g", 33) },
		"keys[0].use \"root\"":     func(l *KeyList) { l.Keys[0].Use = "root" },
		"keys[0].public_key: 5":    func(l *KeyList) { l.Keys[0].PublicKey = make([]byte, 5) },
	} {
		l := exampleKeyList()
		f(&l)
		_, err := SealKeyList(root, l)
		require.ErrorContains(t, err, want)
	}
	line := `{"version":1,"keys":"none"}`
	sig := ed25519.Sign(root, append([]byte(keyListDomain), line...))
	_, err := OpenKeyList([]byte(line+"\nroot "+base64.RawURLEncoding.EncodeToString(sig)), pub)
	require.ErrorIs(t, err, ErrMalformed)
}

func TestKeyID(t *testing.T) {
	pub, _ := testKey(1)
	require.Equal(t, "fa4d86c3b551aa6c", KeyID(pub))
}

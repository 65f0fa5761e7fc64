package protocol

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// KeyUse is what a backend's key may sign.
type KeyUse string

// The uses of a backend's key.
const (
	UseGrant   KeyUse = "grant"   // what leads to a pulse, and nothing else
	UseService KeyUse = "service" // every other message to a cabinet
)

// UseFor is the use of the keys that may sign messages of a type to a cabinet.
func UseFor(t Type) KeyUse {
	if t == TypeGrant || t == TypeMaintenanceGrant {
		return UseGrant
	}
	return UseService
}

// MaxKeys bounds a key list.
const MaxKeys = 16

// Key is one entry of the key list.
type Key struct {
	KeyID     string `json:"kid"`
	Use       KeyUse `json:"use"`
	PublicKey []byte `json:"public_key"` // Ed25519, 32 bytes, in base64
}

// KeyList says which keys speak for the backend. It is versioned and signed by
// the offline root; an agent never goes back to a lower version.
type KeyList struct {
	Version int64 `json:"version"`
	Keys    []Key `json:"keys"`
}

const (
	maxKeyID  = 32
	wantKeyID = "1 to 32 of a-z, A-Z, 0-9, - and _"
)

// validKeyID keeps out of a key's id what would end it on an envelope's second
// line.
func validKeyID(kid string) bool {
	for _, c := range []byte(kid) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return len(kid) > 0 && len(kid) <= maxKeyID
}

const keyListDomain = "swap/v1\x00keys\x00\x00"

// SealKeyList signs a key list with the root key: two lines, as an envelope.
func SealKeyList(root ed25519.PrivateKey, l KeyList) ([]byte, error) {
	if err := l.validate(); err != nil {
		return nil, fmt.Errorf("seal key list: %w", err)
	}
	line, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("seal key list: %w", err)
	}
	sig := ed25519.Sign(root, append([]byte(keyListDomain), line...))
	return append(append(line, "\nroot "...), base64.RawURLEncoding.EncodeToString(sig)...), nil
}

// OpenKeyList verifies a signed key list against the root's public key.
func OpenKeyList(raw []byte, root ed25519.PublicKey) (KeyList, error) {
	line, tail, ok := bytes.Cut(bytes.TrimRight(raw, "\n"), []byte{'\n'})
	sig64, ok2 := bytes.CutPrefix(tail, []byte("root "))
	if !ok || !ok2 || len(raw) > MaxEnvelope {
		return KeyList{}, fmt.Errorf("key list: %w: want two lines, the second \"root SIGNATURE\"", ErrMalformed)
	}
	sig, err := decodeSignature(sig64)
	if err != nil {
		return KeyList{}, fmt.Errorf("key list: %w", err)
	}
	if len(root) != ed25519.PublicKeySize || !ed25519.Verify(root, append([]byte(keyListDomain), line...), sig) {
		return KeyList{}, fmt.Errorf("key list: %w", ErrSignature)
	}
	var l KeyList
	if err := json.Unmarshal(line, &l); err != nil {
		return KeyList{}, fmt.Errorf("key list: %w: %w", ErrMalformed, err)
	}
	if err := l.validate(); err != nil {
		return KeyList{}, fmt.Errorf("key list: %w", err)
	}
	return l, nil
}

// Lookup finds a key that may sign messages of a type to a cabinet. It is a
// KeyLookup.
func (l KeyList) Lookup(kid string, t Type, _ CabinetID) (ed25519.PublicKey, bool) {
	use := UseFor(t)
	for _, k := range l.Keys {
		if k.KeyID == kid && k.Use == use {
			return k.PublicKey, true
		}
	}
	return nil, false
}

func (l KeyList) validate() error {
	if l.Version < 1 {
		return errors.New("version: want 1 or more")
	}
	if len(l.Keys) == 0 || len(l.Keys) > MaxKeys {
		return fmt.Errorf("keys: %d, want 1 to %d", len(l.Keys), MaxKeys)
	}
	seen := []string{}
	for i, k := range l.Keys {
		switch {
		case !validKeyID(k.KeyID) || slices.Contains(seen, k.KeyID):
			return fmt.Errorf("keys[%d].kid %.40q: want %s, each once", i, k.KeyID, wantKeyID)
		case k.Use != UseGrant && k.Use != UseService:
			return fmt.Errorf("keys[%d].use %.20q: want grant or service", i, k.Use)
		case len(k.PublicKey) != ed25519.PublicKeySize:
			return fmt.Errorf("keys[%d].public_key: %d bytes, want %d", i, len(k.PublicKey), ed25519.PublicKeySize)
		}
		seen = append(seen, k.KeyID)
	}
	return nil
}

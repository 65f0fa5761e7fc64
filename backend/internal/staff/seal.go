package staff

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// SealKeyBytes is the length of a Seal's key.
const SealKeyBytes = 32

// SealMark starts what a Seal has closed. No secret in base32 has a colon.
const SealMark = "v1:"

// Seal keeps the secrets of authenticator apps closed: whoever reads the
// database alone cannot make a code.
type Seal struct{ aead cipher.AEAD }

// NewSeal makes one from a key that the database does not have.
func NewSeal(key []byte) (*Seal, error) {
	if len(key) != SealKeyBytes {
		return nil, fmt.Errorf("seal: a key of %d bytes, want %d", len(key), SealKeyBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return &Seal{aead}, nil
}

// Sealed reports whether a secret as it is kept is closed: those of before were
// not.
func Sealed(kept string) bool { return strings.HasPrefix(kept, SealMark) }

// errNoKey is of a program that was not given the backend's keys.
var errNoKey = errors.New("secrets of staff are sealed: want --key-dir, the backend's keys")

// Close seals the secret of a login: for another login it does not open.
func (s *Seal) Close(login, secret string) (string, error) {
	if s == nil {
		return "", errNoKey
	}
	return SealMark + base64.RawStdEncoding.EncodeToString(s.aead.Seal(nil, nil, []byte(secret), []byte(login))), nil
}

// Open gives the secret back. One that was kept open is given as it is.
func (s *Seal) Open(login, kept string) (string, error) {
	if !Sealed(kept) {
		return kept, nil
	}
	if s == nil {
		return "", errNoKey
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimPrefix(kept, SealMark))
	if err == nil {
		b, err = s.aead.Open(nil, nil, b, []byte(login))
	}
	if err != nil {
		return "", fmt.Errorf("secret of %s: it was sealed with another key, or for somebody else", login)
	}
	return string(b), nil
}

// Package phone knows the mobile numbers of riders and how they are kept.
//
// It gives Parse, which reads a number as people write it, Mask, which is what
// staff see, and Vault, which keeps numbers, and codes on their way to them, so
// that a copy of the database alone gives none away: closed with AES-GCM, and found
// again by a keyed hash. It needs a key that the database does not have.
//
// # Why
//
// There are few numbers: who had their plain hashes could try them all in
// minutes. Without the key they are as good as random.
package phone

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Number is a mobile number of mainland China: 11 digits, the first two 13 to 19
// (the numbering plan of the Ministry of Industry and Information Technology, 2017).
// It never stands in a log.
type Number string

const (
	digits = 11
	// maxText bounds what is read: prefix, separators and brackets included.
	maxText = 40
)

// ErrNumber says what was expected, and never what was given: it gets logged.
var ErrNumber = errors.New("phone: want a mobile number of 11 digits that starts with 13 to 19")

// Parse reads a number as people and spreadsheets write it: with +86 or 0086
// before it, with blanks, dashes and brackets, in full-width digits.
func Parse(text string) (Number, error) {
	if len(text) > maxText {
		return "", ErrNumber
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case r >= '0' && r <= '9':
			b.WriteRune(r)
		case r >= '０' && r <= '９':
			b.WriteRune(r - '０' + '0')
		case strings.ContainsRune(" \t\u00a0\u3000-–—()（）+＋'", r):
		default:
			return "", ErrNumber
		}
	}
	n := b.String()
	if len(n) > digits {
		n = strings.TrimPrefix(strings.TrimPrefix(n, "00"), "86")
	}
	if len(n) != digits || n[0] != '1' || n[1] < '3' {
		return "", ErrNumber
	}
	return Number(n), nil
}

// Mask is what may be shown without a reason: 138****1234.
func (n Number) Mask() string {
	if len(n) != digits {
		return "****"
	}
	return string(n[:3]) + "****" + string(n[7:])
}

// String masks: a number that is printed by mistake gives nobody away.
func (n Number) String() string { return n.Mask() }

// LogValue masks what a log would write as JSON.
func (n Number) LogValue() slog.Value { return slog.StringValue(n.Mask()) }

// Vault keeps numbers, and the codes that are sent to them.
type Vault struct {
	aead  cipher.AEAD
	hash  []byte
	codes []byte
}

// MinKeyBytes is the least that a Vault's key has to have.
const MinKeyBytes = 32

// NewVault makes one; all its keys are derived from the one given.
func NewVault(key []byte) (*Vault, error) {
	if len(key) < MinKeyBytes {
		return nil, fmt.Errorf("phone vault: a key of %d bytes, want %d or more", len(key), MinKeyBytes)
	}
	closing, err := hkdf.Key(sha256.New, key, nil, "batteryswap phone numbers v1", 32)
	if err != nil {
		return nil, fmt.Errorf("phone vault: %w", err)
	}
	hash, err := hkdf.Key(sha256.New, key, nil, "batteryswap phone lookup v1", 32)
	if err != nil {
		return nil, fmt.Errorf("phone vault: %w", err)
	}
	codes, err := hkdf.Key(sha256.New, key, nil, "batteryswap codes v1", 32)
	if err != nil {
		return nil, fmt.Errorf("phone vault: %w", err)
	}
	block, err := aes.NewCipher(closing)
	if err != nil {
		return nil, fmt.Errorf("phone vault: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("phone vault: %w", err)
	}
	return &Vault{aead: aead, hash: hash, codes: codes}, nil
}

// Close seals the number of a rider: for another rider it does not open.
func (v *Vault) Close(riderID string, n Number) string { return v.seal(riderID, string(n)) }

// Open gives the number back.
func (v *Vault) Open(riderID, sealed string) (Number, error) {
	n, err := v.open(riderID, sealed)
	if err != nil {
		return "", fmt.Errorf("phone of rider %s: it was sealed with another key, or for somebody else", riderID)
	}
	return Number(n), nil
}

// CloseCode seals a code until its message has been sent.
func (v *Vault) CloseCode(messageID, code string) string { return v.seal("code "+messageID, code) }

// OpenCode gives the code back.
func (v *Vault) OpenCode(messageID, sealed string) (string, error) {
	code, err := v.open("code "+messageID, sealed)
	if err != nil {
		return "", fmt.Errorf("code of message %s: it was sealed with another key, or for another message", messageID)
	}
	return code, nil
}

func (v *Vault) seal(about, text string) string {
	return base64.RawStdEncoding.EncodeToString(v.aead.Seal(nil, nil, []byte(text), []byte(about)))
}

func (v *Vault) open(about, sealed string) (string, error) {
	b, err := base64.RawStdEncoding.DecodeString(sealed)
	if err == nil {
		b, err = v.aead.Open(nil, nil, b, []byte(about))
	}
	return string(b), err
}

// HashCode is by what a code is checked; about says whose it is. There are few
// codes: as of numbers, only a keyed hash hides them.
func (v *Vault) HashCode(about, code string) []byte {
	h := hmac.New(sha256.New, v.codes)
	h.Write([]byte(about))
	h.Write([]byte{0})
	h.Write([]byte(code))
	return h.Sum(nil)
}

// Hash is by what a number is found: 32 bytes.
func (v *Vault) Hash(n Number) []byte {
	h := hmac.New(sha256.New, v.hash)
	h.Write([]byte(n))
	return h.Sum(nil)
}

// fileOf is what a closed file is for: nothing else that is closed opens as one.
const fileOf = "file"

// CloseFile seals a file in which numbers stand.
func (v *Vault) CloseFile(file []byte) []byte { return v.aead.Seal(nil, nil, file, []byte(fileOf)) }

// OpenFile gives it back.
func (v *Vault) OpenFile(sealed []byte) ([]byte, error) {
	file, err := v.aead.Open(nil, nil, sealed, []byte(fileOf))
	if err != nil {
		return nil, errors.New("file: it was sealed with another key")
	}
	return file, nil
}

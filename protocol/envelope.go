package protocol

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// MaxEnvelope bounds a message on the wire, in bytes.
const MaxEnvelope = 32 << 10

// Version is the "v" of every message.
const Version = 1

// Message is one of the message structs of this package.
type Message interface {
	MessageType() Type
	// Validate says which field is wrong and what was expected, or nil.
	Validate() error
}

// header is what the first line of every envelope starts with.
type header struct {
	V         int       `json:"v"`
	Type      Type      `json:"type"`
	CabinetID CabinetID `json:"cabinet_id"`
}

// Envelope is a message whose signature has been verified.
//
// Two lines: compact JSON, then the key's id and the signature, readable with
// any MQTT client. The signature is over the bytes carried, never over a
// re-encoding.
type Envelope struct {
	Type      Type
	CabinetID CabinetID
	KeyID     string
	// Raw is the whole envelope as it came.
	Raw  []byte
	line []byte
}

// Errors of Open. A caller tells them apart to count them.
var (
	ErrMalformed  = errors.New("malformed envelope")
	ErrTooLarge   = fmt.Errorf("envelope larger than %d bytes", MaxEnvelope)
	ErrUnknownKey = errors.New("unknown key")
	ErrSignature  = errors.New("wrong signature")
)

// KeyID names a device's key: the first 8 bytes of SHA-256 of its public key,
// in hexadecimal.
func KeyID(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	return hex.EncodeToString(sum[:8])
}

// Seal encodes and signs a message to or from a cabinet. The key is an Ed25519
// private key, wherever it is kept.
func Seal(kid string, key crypto.Signer, cabinet CabinetID, m Message) ([]byte, error) {
	if !validKeyID(kid) {
		return nil, fmt.Errorf("seal %s: kid %.40q: want %s", m.MessageType(), kid, wantKeyID)
	}
	if err := cabinet.Validate(); err != nil {
		return nil, fmt.Errorf("seal %s: %w", m.MessageType(), err)
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("seal %s: %w", m.MessageType(), err)
	}
	head, err := json.Marshal(header{Version, m.MessageType(), cabinet})
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", m.MessageType(), err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", m.MessageType(), err)
	}
	line := head
	if len(body) > 2 { // not "{}"
		line = append(append(head[:len(head)-1], ','), body[1:]...)
	}
	out := make([]byte, 0, len(line)+len(kid)+90)
	out = append(out, line...)
	out = append(out, '\n')
	out = append(out, kid...)
	out = append(out, ' ')
	sig, err := key.Sign(nil, signedBytes(m.MessageType(), cabinet, line), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("seal %s: sign: %w", m.MessageType(), err)
	}
	out = base64.RawURLEncoding.AppendEncode(out, sig)
	if len(out) > MaxEnvelope {
		return nil, fmt.Errorf("seal %s: %w", m.MessageType(), ErrTooLarge)
	}
	return out, nil
}

// signedBytes is what a signature covers: the domain, the type and the cabinet
// keep a signature from being valid in any other place.
func signedBytes(t Type, cabinet CabinetID, line []byte) []byte {
	b := make([]byte, 0, 16+len(t)+len(cabinet)+len(line))
	b = append(b, "swap/v1\x00"...)
	b = append(b, t...)
	b = append(b, 0)
	b = append(b, cabinet...)
	b = append(b, 0)
	return append(b, line...)
}

// decodeSignature accepts one spelling of each signature only: base64 skips
// carriage returns wherever they stand, so the length is checked first.
func decodeSignature(text []byte) ([]byte, error) {
	enc := base64.RawURLEncoding.Strict()
	if len(text) == enc.EncodedLen(ed25519.SignatureSize) {
		if sig, err := enc.DecodeString(string(text)); err == nil && len(sig) == ed25519.SignatureSize {
			return sig, nil
		}
	}
	return nil, fmt.Errorf("%w: signature: want %d bytes in base64url", ErrMalformed, ed25519.SignatureSize)
}

// KeyLookup finds the public key that may sign messages of a type for a
// cabinet. It returns false when there is none: a key of another use is none.
type KeyLookup func(kid string, t Type, cabinet CabinetID) (ed25519.PublicKey, bool)

// Verify tells whether sig is the signature of a message by a key. In production
// it is ed25519.Verify; a simulation, in which nobody forges, has a quicker one.
type Verify func(pub ed25519.PublicKey, message, sig []byte) bool

// Open takes an envelope apart and verifies its signature. It does not look at
// the message's own fields: Decode does.
func Open(raw []byte, lookup KeyLookup) (Envelope, error) {
	return OpenBy(raw, lookup, ed25519.Verify)
}

// OpenBy is Open with another way to verify a signature.
func OpenBy(raw []byte, lookup KeyLookup, verify Verify) (Envelope, error) {
	if len(raw) > MaxEnvelope {
		return Envelope{}, ErrTooLarge
	}
	line, tail, ok := bytes.Cut(raw, []byte{'\n'})
	if !ok || bytes.IndexByte(tail, '\n') >= 0 {
		return Envelope{}, fmt.Errorf("%w: want two lines", ErrMalformed)
	}
	kid, sig64, ok := bytes.Cut(tail, []byte{' '})
	if !ok || len(kid) == 0 || len(kid) > maxKeyID {
		return Envelope{}, fmt.Errorf("%w: second line: want a key's id and a signature", ErrMalformed)
	}
	sig, err := decodeSignature(sig64)
	if err != nil {
		return Envelope{}, err
	}
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		return Envelope{}, fmt.Errorf("%w: first line: %w", ErrMalformed, err)
	}
	if h.V != Version {
		return Envelope{}, fmt.Errorf("%w: v is %d, want %d", ErrMalformed, h.V, Version)
	}
	if err := h.CabinetID.Validate(); err != nil {
		return Envelope{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	pub, ok := lookup(string(kid), h.Type, h.CabinetID)
	if !ok || len(pub) != ed25519.PublicKeySize {
		return Envelope{}, fmt.Errorf("%w %.32q for %.20q", ErrUnknownKey, kid, h.Type)
	}
	if !verify(pub, signedBytes(h.Type, h.CabinetID, line), sig) {
		return Envelope{}, fmt.Errorf("%w of %.20q by key %.32q", ErrSignature, h.Type, kid)
	}
	return Envelope{Type: h.Type, CabinetID: h.CabinetID, KeyID: string(kid), Raw: raw, line: line}, nil
}

// Decode reads the message out of a verified envelope into m, whose type must
// be the envelope's. Unknown fields are an error in what leads to a pulse and are
// tolerated elsewhere. The result has passed Validate.
func Decode[M Message](e Envelope, m *M) error {
	want := (*m).MessageType()
	if e.Type != want {
		return fmt.Errorf("decode %s: the envelope holds a %q", want, e.Type)
	}
	var err error
	if UseFor(want) == UseGrant {
		err = decodeStrict(e.line, m)
	} else {
		err = json.Unmarshal(e.line, m)
	}
	if err != nil {
		return fmt.Errorf("decode %s: %w", want, err)
	}
	if err := (*m).Validate(); err != nil {
		return fmt.Errorf("decode %s: %w", want, err)
	}
	return nil
}

// decodeStrict refuses any field that neither the header nor the message has.
func decodeStrict(line []byte, m any) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return err
	}
	delete(fields, "v")
	delete(fields, "type")
	delete(fields, "cabinet_id")
	rest, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(rest))
	d.DisallowUnknownFields()
	return d.Decode(m)
}

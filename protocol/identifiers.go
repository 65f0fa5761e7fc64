package protocol

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// Bounds of identifiers and of a cabinet.
const (
	// MaxSlots is the largest number of slots of one cabinet.
	MaxSlots = 48
	// MaxSerialLength bounds a battery's serial (OCPP 2.1 serialNumber is 50).
	MaxSerialLength = 50
)

// CabinetID names a cabinet: 4 to 24 of a-z, 0-9 and "-". It is an MQTT topic
// level, a TLS common name and what is printed on the cabinet's sticker.
type CabinetID string

// Validate says what is wrong with the identifier, or nil.
func (id CabinetID) Validate() error {
	if len(id) < 4 || len(id) > 24 {
		return fmt.Errorf("cabinet_id %.30q: want 4 to 24 characters of a-z, 0-9 and -", string(id))
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("cabinet_id %q: want 4 to 24 characters of a-z, 0-9 and -", string(id))
		}
	}
	return nil
}

// SwapID names one swap: a UUIDv7 in its canonical lower-case form, made by the
// backend. The credit that a swap leaves owed carries the same value.
type SwapID string

// Validate says what is wrong with the identifier, or nil.
func (id SwapID) Validate() error { return validateUUIDv7("swap_id", string(id)) }

func validateUUIDv7(field, id string) error {
	bad := len(id) != 36
	for i := 0; !bad && i < len(id); i++ {
		c := id[i]
		switch i {
		case 8, 13, 18, 23:
			bad = c != '-'
		case 14:
			bad = c != '7'
		case 19:
			bad = c != '8' && c != '9' && c != 'a' && c != 'b'
		default:
			bad = (c < '0' || c > '9') && (c < 'a' || c > 'f')
		}
	}
	if bad {
		return fmt.Errorf("%s %.40q: want a UUIDv7 in lower case", field, id)
	}
	return nil
}

// BatterySerial is a battery's code as its electronics report it; "" is unknown.
type BatterySerial string

// Validate says what is wrong with the serial, or nil. "" is not a serial.
func (s BatterySerial) Validate() error {
	if len(s) == 0 || len(s) > MaxSerialLength {
		return fmt.Errorf("battery_serial %.60q: want 1 to %d printable ASCII characters", string(s), MaxSerialLength)
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("battery_serial %q: want 1 to %d printable ASCII characters", string(s), MaxSerialLength)
		}
	}
	return nil
}

// RiderRef is HMAC-SHA256(key, cabinet_id ‖ 0 ‖ rider_id), the first 16 bytes in
// hexadecimal: all that a cabinet learns of a rider.
type RiderRef string

// Validate says what is wrong with the reference, or nil.
func (r RiderRef) Validate() error {
	bad := len(r) != 32
	for i := 0; !bad && i < len(r); i++ {
		bad = (r[i] < '0' || r[i] > '9') && (r[i] < 'a' || r[i] > 'f')
	}
	if bad {
		return fmt.Errorf("rider_ref %.40q: want 32 hexadecimal digits in lower case", string(r))
	}
	return nil
}

// Epoch is 128 random bits made when a journal is formatted.
type Epoch [16]byte

// Hash is the first 16 bytes of SHA-256.
type Hash [16]byte

// Nonce is 128 random bits that one boot of an agent minted for one swap, or for
// one order under maintenance.
type Nonce [16]byte

// BootID is 128 random bits that name one run of an agent.
type BootID [16]byte

// Challenge is 128 random bits that a hello gives back: it was said since.
type Challenge [16]byte

var errHex16 = errors.New("want 32 hexadecimal digits")

func unmarshalHex16(dst *[16]byte, field string, text []byte) error {
	if len(text) != 32 {
		return fmt.Errorf("%s %.40q: %w", field, text, errHex16)
	}
	if _, err := hex.Decode(dst[:], text); err != nil {
		return fmt.Errorf("%s %.40q: %w", field, text, errHex16)
	}
	return nil
}

// String is the 32 hexadecimal digits.
func (e Epoch) String() string { return hex.EncodeToString(e[:]) }

// IsZero reports whether no epoch is named.
func (e Epoch) IsZero() bool { return e == Epoch{} }

// MarshalText is the 32 hexadecimal digits.
func (e Epoch) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText takes 32 hexadecimal digits.
func (e *Epoch) UnmarshalText(b []byte) error { return unmarshalHex16((*[16]byte)(e), "epoch", b) }

// Short is the part of the epoch that every journal record carries.
func (e Epoch) Short() uint32 {
	return uint32(e[0]) | uint32(e[1])<<8 | uint32(e[2])<<16 | uint32(e[3])<<24
}

// String is the 32 hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText is the 32 hexadecimal digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText takes 32 hexadecimal digits.
func (h *Hash) UnmarshalText(b []byte) error { return unmarshalHex16((*[16]byte)(h), "hash", b) }

// IsZero reports whether no nonce is named.
func (n Nonce) IsZero() bool { return n == Nonce{} }

// String is the 32 hexadecimal digits.
func (n Nonce) String() string { return hex.EncodeToString(n[:]) }

// MarshalText is the 32 hexadecimal digits.
func (n Nonce) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText takes 32 hexadecimal digits.
func (n *Nonce) UnmarshalText(b []byte) error { return unmarshalHex16((*[16]byte)(n), "nonce", b) }

// IsZero reports whether there is no challenge.
func (c Challenge) IsZero() bool { return c == Challenge{} }

// String is the 32 hexadecimal digits.
func (c Challenge) String() string { return hex.EncodeToString(c[:]) }

// MarshalText is the 32 hexadecimal digits.
func (c Challenge) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText takes 32 hexadecimal digits.
func (c *Challenge) UnmarshalText(b []byte) error {
	return unmarshalHex16((*[16]byte)(c), "challenge", b)
}

// IsZero reports whether no boot is named.
func (b BootID) IsZero() bool { return b == BootID{} }

// String is the 32 hexadecimal digits.
func (b BootID) String() string { return hex.EncodeToString(b[:]) }

// MarshalText is the 32 hexadecimal digits.
func (b BootID) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText takes 32 hexadecimal digits.
func (b *BootID) UnmarshalText(t []byte) error { return unmarshalHex16((*[16]byte)(b), "boot_id", t) }

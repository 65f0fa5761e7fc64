// Package authenticator is the app on a staff member's phone: it shows the code
// that signs in with a password.
//
// It knows RFC 6238 as such apps do it: SHA-1, six digits, 30 seconds. It gives
// Code. It needs the secret that the backend printed, and the time.
package authenticator

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // what RFC 6238 and every app use
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"time"
)

// Period is for how long a code is shown.
const Period = 30 * time.Second

// Code is what the app shows for a secret in base32.
func Code(secret string, at time.Time) (string, error) {
	key, err := base32.StdEncoding.DecodeString(secret)
	if err != nil {
		return "", fmt.Errorf("secret of an authenticator app: %w", err)
	}
	h := hmac.New(sha1.New, key)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(at.Unix()/int64(Period.Seconds()))))
	sum := h.Sum(nil)
	from := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[from:from+4])&0x7fffffff%1_000_000), nil
}

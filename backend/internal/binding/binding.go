package binding

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"batteryswap/backend/internal/phone"
)

// Bounds of codes that are sent to phones: six digits are typed at a cabinet in the
// rain, so they hold for minutes and few tries.
const (
	CodeDigits = 6
	CodeLife   = 5 * time.Minute
	Tries      = 5 // of each code, also of one that staff handed out
	// CodePause, CodesPerHour and CodesPerDay are of one phone.
	CodePause    = time.Minute
	CodesPerHour = 5
	CodesPerDay  = 10
	// CodesPerAddress an hour: a mobile network puts many phones behind one address.
	CodesPerAddress = 30
	// MessagesPerHour of all phones together, unless it is set otherwise: what is
	// above it is more likely somebody who makes others' phones ring.
	MessagesPerHour = 1000
	// WrongPerAddress tries an hour, of whatever codes.
	WrongPerAddress = 60
)

// Bounds of a code that staff hand out, and of what binding leads to.
const (
	StaffDigits = 8
	SessionLife = 180 * 24 * time.Hour
	// MaxDevices of one rider: the one that was used longest ago makes room.
	MaxDevices = 20
	// SeenEvery spares a write for each request.
	SeenEvery = 10 * time.Minute
)

// ErrWrong says that the proof is nobody's: a wrong code, one that is too old, was
// used before or tried too often, or a person that is not on the roll.
var ErrWrong = errors.New("the code is wrong, too old, used, or was tried too often")

// ErrNotSent says that this backend sends no codes to phones.
var ErrNotSent = errors.New("this backend sends no codes to phones")

// TooMany says that a bound is reached, and for how long.
type TooMany struct {
	Wait time.Duration
	// All: the bound of all phones together. Somebody should look.
	All bool
}

// Error implements error.
func (e *TooMany) Error() string { return fmt.Sprintf("too many tries: wait %s", e.Wait) }

// Proof is what a person shows to prove who they are: a phone or a membership
// number, and a code.
type Proof struct {
	Phone        phone.Number // "" where the membership number is given
	MembershipNo string
	Code         string
	Address      string // where it comes from, for the bounds of guessing
}

// Digits are those of what a person typed as a code.
func (p Proof) Digits() string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9':
			return r
		case r >= '０' && r <= '９':
			return r - '０' + '0'
		}
		return -1
	}, p.Code)
}

// Session is what a phone gets that proved itself.
type Session struct {
	TokenHash []byte
	Browser   Browser
	// Privacy is the version of the privacy notice that was accepted, "" for none.
	Privacy string
}

// Device is a browser that speaks for its rider.
type Device struct {
	ID        string
	Browser   Browser
	FirstSeen time.Time
	LastSeen  time.Time
	Here      bool // it is the one that asks
}

// Message is a code on its way to a phone.
type Message struct {
	MessageID string
	RiderID   string
	Phone     phone.Number
	Code      string
	ExpiresAt time.Time
	Language  string // zh or en
	Tries     int    // to send it, with the one that begins now
}

// NewCode makes a code of so many digits.
func NewCode(digits int) string {
	most := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil)
	n, err := rand.Int(rand.Reader, most)
	if err != nil {
		panic(err) // the system's source of randomness never fails
	}
	return fmt.Sprintf("%0*d", digits, n)
}

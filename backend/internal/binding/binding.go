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
	Tries      = 5
	// CodePause, CodesPerHour and CodesPerDay are of one phone.
	CodePause    = time.Minute
	CodesPerHour = 5
	CodesPerDay  = 10
	// CodesPerAddress an hour: a mobile network puts many phones behind one address.
	CodesPerAddress = 30
	// MessagesPerHour of all phones together, unless it is set otherwise: what is
	// above it is more likely somebody who makes others' phones ring.
	MessagesPerHour = 1000
	// WrongPerAddress tries an hour, of whatever codes of one kind: who uses up those
	// of phones leaves those that staff hand out.
	WrongPerAddress = 60
	// WrongPerHour of all codes of riders' phones together, unless it is set
	// otherwise. In an hour MessagesPerHour codes go out at most, and one person in
	// ten or so types one wrong: what is far above that is somebody who guesses from
	// many addresses. Of a million codes so many tries find one in 2,000 hours.
	WrongPerHour = 500
)

// Bounds of a code that staff hand out, and of what binding leads to.
const (
	StaffDigits = 8
	// StaffTries of such a code in all, and Tries of each address: eight digits in
	// 500 tries are as safe as six in five, and who knows somebody's number does
	// not use the code up from one place.
	StaffTries  = 500
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

// Bound is one of those that codes and tries have.
type Bound string

// The bounds. Those of all phones together are worth a look by somebody.
const (
	OfAsking   Bound = "asked"    // codes for this phone, or from this address
	OfTrying   Bound = "tried"    // wrong codes from this address
	OfMessages Bound = "messages" // codes to all phones
	OfGuessing Bound = "wrong"    // wrong codes of all phones
)

// Bounds are all of them.
func Bounds() []Bound { return []Bound{OfAsking, OfTrying, OfMessages, OfGuessing} }

// OfAll reports whether it is one of all phones together.
func (b Bound) OfAll() bool { return b == OfMessages || b == OfGuessing }

// TooMany says that a bound is reached, which, and for how long.
type TooMany struct {
	Wait  time.Duration
	Bound Bound
}

// Error implements error.
func (e *TooMany) Error() string { return fmt.Sprintf("too many (%s): wait %s", e.Bound, e.Wait) }

// Proof is what a person shows to prove who they are: a phone or a membership
// number, and a code. What could be either stands in both.
type Proof struct {
	Phone        phone.Number
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

// Handed reports whether the code is one that staff hand out.
func (p Proof) Handed() bool { return len(p.Digits()) == StaffDigits }

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

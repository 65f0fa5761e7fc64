package staff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Errors that pages and machines are told apart.
var (
	ErrNotFound = errors.New("not found")
	// ErrTooManyTries: wait until the window is over.
	ErrTooManyTries = errors.New("too many tries: wait a quarter of an hour")
	// ErrExists: the name is taken.
	ErrExists = errors.New("there already")
)

// Mistake is something wrong with what was given: it names the field and what was
// expected.
type Mistake struct{ Err error }

// Error implements error.
func (m *Mistake) Error() string { return m.Err.Error() }

// Unwrap gives what was said.
func (m *Mistake) Unwrap() error { return m.Err }

// Mistakef makes one.
func Mistakef(format string, a ...any) error { return &Mistake{fmt.Errorf(format, a...)} }

// AsMistake marks what is wrong with what was given; nil stays nil.
func AsMistake(err error) error {
	if err == nil {
		return nil
	}
	return &Mistake{err}
}

// Refusal is an act that cannot be done now, though nothing is wrong with how it
// was asked for.
type Refusal struct {
	Code   string // of a closed list: each has a text
	Detail string
	Next   time.Time // from when on it can be asked for again; zero: that is not known
}

// Error implements error.
func (r *Refusal) Error() string {
	if !r.Next.IsZero() {
		return r.Code + ": not before " + r.Next.UTC().Format(time.RFC3339)
	}
	return r.Code + ": " + r.Detail
}

// The codes of refusals.
const (
	LastAdmin       = "last_admin"      // nobody could add accounts
	NotPersonal     = "not_personal"    // figures of single riders
	AlreadyDecided  = "already_decided" // somebody was first
	Contradiction   = "contradiction"   // the facts in the books deny the decision
	TooManyRecalled = "too_many_recalled"
	SlotUnknown     = "slot_unknown"
	NotWithStaff    = "not_with_staff" // fetch it first
	Retired         = "retired"
	NothingWaits    = "nothing_waits"
	AlreadyDone     = "already_done" // somebody was first
	BatteriesInside = "batteries_inside"
	TryAgain        = "try_again"      // somebody else changed the same meanwhile
	RollChanged     = "roll_changed"   // the roll was checked anew since
	NotSettled      = "not_settled"    // a rider still has a battery, or one is owed
	CabinetSilent   = "cabinet_silent" // it cannot be asked, or has not answered
	TooSoon         = "too_soon"       // the same was done, or is wanted, already
)

// RefusalCodes is the closed list.
func RefusalCodes() []string {
	return []string{
		LastAdmin, NotPersonal, AlreadyDecided, Contradiction, TooManyRecalled, SlotUnknown, NotWithStaff, Retired, NothingWaits, AlreadyDone, BatteriesInside,
		TryAgain, RollChanged, NotSettled, CabinetSilent, TooSoon,
	}
}

// Role is what an account may do. An account may have several.
type Role string

// The roles.
const (
	Operator    Role = "operator"    // keeps the fleet going: slots, batteries, reviews
	Union       Role = "union"       // the riders' body: riders, codes, credits, numbers
	Maintenance Role = "maintenance" // works on cabinets on site
	Admin       Role = "admin"       // accounts, tokens, cabinets' keys, the audit log
	Personal    Role = "personal"    // beside another: figures of single riders
)

// Roles are all roles, in the order in which they are shown.
func Roles() []Role { return []Role{Operator, Union, Maintenance, Admin, Personal} }

// ParseRoles reads role names; none at all is a mistake.
func ParseRoles(names []string) ([]Role, error) {
	var out []Role
	for _, n := range names {
		r := Role(strings.TrimSpace(n))
		if !slices.Contains(Roles(), r) {
			return nil, Mistakef("role %.20q: want operator, union, maintenance, admin or personal", n)
		}
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, Mistakef("roles: want at least one of operator, union, maintenance, admin, personal")
	}
	return out, nil
}

// Actor is who acts: a staff member in a session, or a machine with a token.
type Actor struct {
	Login string // of a machine: token:NAME
	Roles []Role
}

// Has reports whether the actor has one of the roles.
func (a Actor) Has(roles ...Role) bool {
	return slices.ContainsFunc(a.Roles, func(r Role) bool { return slices.Contains(roles, r) })
}

// Shell is who acts at a shell of the server itself.
const Shell = "shell"

type actorKey struct{}

// As says who acts from here on: the audit log names them.
func As(ctx context.Context, a Actor) context.Context { return context.WithValue(ctx, actorKey{}, a) }

// Who is who acts: at a shell nobody has signed in.
func Who(ctx context.Context) Actor {
	if a, ok := ctx.Value(actorKey{}).(Actor); ok {
		return a
	}
	return Actor{Login: Shell}
}

// Bounds of a session.
const (
	// Idle ends a session that nobody uses.
	Idle = 30 * time.Minute
	// SessionLife ends any session: a working day with its overtime.
	SessionLife = 12 * time.Hour
	// Fresh is for how long a code counts for what asks for a fresh one.
	Fresh = 5 * time.Minute
)

// Session is a staff member's open session.
type Session struct {
	Actor
	Name        string
	ConfirmedAt time.Time // the last code
}

// IsFresh reports whether a code was given lately.
func (s Session) IsFresh(now time.Time) bool { return now.Sub(s.ConfirmedAt) < Fresh }

// Bounds of signing in, within Window. They hold for guessing and for who is
// guessed at: an address that tries one account cannot lock its owner out
// elsewhere before a good many tries.
const (
	Window          = 15 * time.Minute
	TriesOfPair     = 5  // of one address at one account
	TriesOfLogin    = 30 // at one account from anywhere
	TriesOfAddress  = 60 // of one address
	minPassword     = 12 // characters
	maxPassword     = 128
	maxLogin        = 32
	MaxReason       = 200 // characters of a reason that staff give
	CodeLife        = 24 * time.Hour
	MaxTokenLife    = 366 * 24 * time.Hour
	RecoveryCodes   = 8
	recoveryCodeLen = 16
)

// CheckLogin says what is wrong with a login name, or nil.
func CheckLogin(login string) error {
	if login == "" || len(login) > maxLogin {
		return Mistakef("login %.40q: want 1 to %d characters", login, maxLogin)
	}
	for _, c := range []byte(login) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return Mistakef("login %.40q: want a-z, 0-9, -, . and _", login)
		}
	}
	if login == Shell {
		return Mistakef("login %q: it is what a shell is called", login)
	}
	return nil
}

// CheckReason says what is wrong with a reason that staff give, or nil.
func CheckReason(reason string) error {
	if n := len([]rune(strings.TrimSpace(reason))); n < 3 || n > MaxReason {
		return Mistakef("reason: %d characters, want 3 to %d", n, MaxReason)
	}
	return nil
}

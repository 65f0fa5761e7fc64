package rider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// Inbox is where text messages to phones arrive.
type Inbox interface {
	// Code waits for a code that was sent to a number and not used yet.
	Code(ctx context.Context, number string) (string, error)
	// Used says that a code is of no more use.
	Used(number, code string)
}

// Member is what binds a phone as real riders do.
type Member struct {
	Number string // of the phone, as in the union's roll
	Inbox  Inbox
	// Address is where the phone says to come from: of one address few codes may be
	// asked for.
	Address string
}

// NewMember is a phone that binds itself when it is asked who it is: it accepts the
// privacy notice, asks for a code, and types what arrives.
func NewMember(base string, m Member, client *http.Client) *Phone {
	b := &binder{member: m, key: rand.Text()}
	return &Phone{base: strings.TrimRight(base, "/"), http: client, address: m.Address, signIn: b.bind}
}

// Bind binds the phone now.
func (p *Phone) Bind(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return p.signIn(ctx, p)
}

// binder holds what a phone's binding needs from try to try.
type binder struct {
	member Member
	mu     sync.Mutex
	key    string // the same until it was answered: one binding, however often it is asked for
}

// errBind says why not. It is no refusal of a scan: whoever scans asks again.
func errBind(what string, err error) error { return fmt.Errorf("bind: %s: %s", what, err.Error()) }

func (b *binder) bind(ctx context.Context, p *Phone) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var notice struct {
		Version string `json:"version"`
	}
	if err := p.try(ctx, http.MethodGet, "/api/v1/privacy", "", nil, &notice); err != nil {
		return errBind("read which privacy notice it is", err)
	}
	err := p.try(ctx, http.MethodPost, "/api/v1/codes", "", map[string]any{"phone": b.member.Number}, nil)
	var refused *Refused
	if err != nil && (!errors.As(err, &refused) || refused.Status != http.StatusTooManyRequests) { // one may be there from before
		return errBind("ask for a code", err)
	}
	code, err := b.member.Inbox.Code(ctx, b.member.Number)
	if err != nil {
		return errBind("wait for a code", err)
	}
	err = p.open(ctx, b.key, map[string]any{"phone": b.member.Number, "code": code, "privacy_version": notice.Version})
	if err == nil || errors.As(err, &refused) && refused.Status == http.StatusForbidden {
		b.member.Inbox.Used(b.member.Number, code)
		b.key = rand.Text()
	}
	if err != nil {
		return errBind("show the code", err)
	}
	return nil
}

package web

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"batteryswap/backend/internal/binding"
	numbers "batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/swap"
)

const (
	tokenBytes = 32
	maxToken   = 128 // characters; a longer one is nobody's
)

// SignIn binds phones to riders. Errors but binding.ErrWrong, binding.ErrNotSent
// and *binding.TooMany mean that it cannot answer now.
type SignIn interface {
	// SendsCodes reports whether codes are sent to phones.
	SendsCodes() bool
	// SendCode has a code sent to a phone if it is a rider's. Whether it is, is
	// neither said nor to be told by the time that it takes.
	SendCode(ctx context.Context, n numbers.Number, address, language string) error
	// Bind lets a session speak for the rider whose proof it is.
	Bind(context.Context, binding.Proof, binding.Session) (swap.RiderID, error)
}

// session is what a phone holds: a token; the database knows its hash.
type session struct {
	token   string
	expires time.Time
}

// newToken makes the token of a session. The same key of the same person makes the
// same: who did not hear the answer asks again, and has one session and not two.
// Nobody can tell the token from the key.
func (w *Web) newToken(key, who string) session {
	h := hmac.New(sha256.New, w.sessionKey)
	fmt.Fprintf(h, "%d %s %s", len(key), key, who)
	return session{token: base64.RawURLEncoding.EncodeToString(h.Sum(nil)), expires: time.Now().Add(binding.SessionLife)}
}

// developmentSession signs a rider in with the one code for all. False means
// refused: rider_id and code belong to nobody.
func (w *Web) developmentSession(ctx context.Context, id, code, userAgent string) (session, bool, error) {
	if w.o.DevelopmentCode == "" || subtle.ConstantTimeCompare([]byte(code), []byte(w.o.DevelopmentCode)) != 1 {
		return session{}, false, nil
	}
	s := w.newToken(rand.Text(), "")
	err := w.o.Books.CreateSession(ctx, swap.RiderID(strings.ToLower(strings.TrimSpace(id))),
		binding.Session{TokenHash: hashToken(s.token), Browser: binding.BrowserOf(userAgent)})
	if errors.Is(err, ErrNotFound) {
		return session{}, false, nil
	}
	if err != nil {
		return session{}, false, fmt.Errorf("create session: %w", err)
	}
	return s, true, nil
}

func hashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// cookie holds a session. The prefix makes browsers insist on Secure and on this
// very host.
func (w *Web) cookie(s session) *http.Cookie {
	return &http.Cookie{
		Name: w.cookieName, Value: s.token, Path: "/", Expires: s.expires, MaxAge: int(binding.SessionLife.Seconds()),
		Secure: w.https, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// noCookie takes it away.
func (w *Web) noCookie() *http.Cookie {
	c := w.cookie(session{})
	c.MaxAge = -1
	return c
}

type tokenKey struct{}

// withToken puts a request's session token into its context.
func (w *Web) withToken(r *http.Request) *http.Request {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		if c, err := r.Cookie(w.cookieName); err == nil {
			token = c.Value
		}
	}
	if token == "" || len(token) > maxToken {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), tokenKey{}, token))
}

// tokenOf is the hash of a request's token.
func tokenOf(ctx context.Context) []byte {
	token, _ := ctx.Value(tokenKey{}).(string)
	return hashToken(token)
}

// rider is who makes this request. ErrNotFound means nobody.
func (w *Web) rider(ctx context.Context) (swap.RiderID, error) {
	if token, _ := ctx.Value(tokenKey{}).(string); token == "" {
		return "", ErrNotFound
	}
	return w.o.Books.SessionRider(ctx, tokenOf(ctx))
}

package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"batteryswap/backend/internal/swap"
)

const (
	sessionLife = 180 * 24 * time.Hour
	tokenBytes  = 32
	maxToken    = 128 // characters; a longer one is nobody's
)

// DevelopmentCode lets any known rider sign in with one code for all. It is for
// development and demonstrations only.
type DevelopmentCode struct {
	Code  string
	Books Books
}

// Rider implements SignIn.
func (d DevelopmentCode) Rider(ctx context.Context, id, code string) (swap.RiderID, bool, error) {
	if subtle.ConstantTimeCompare([]byte(code), []byte(d.Code)) != 1 {
		return "", false, nil
	}
	r, err := d.Books.Rider(ctx, swap.RiderID(strings.ToLower(strings.TrimSpace(id))))
	if errors.Is(err, ErrNotFound) {
		return "", false, nil
	}
	return r.RiderID, err == nil, err
}

// session is what a phone holds: a token; the database knows its hash.
type session struct {
	token   string
	expires time.Time
}

// newSession signs a rider in. False means refused: identifier and code belong to
// nobody, or to a rider who is not active.
func (w *Web) newSession(ctx context.Context, id, code string) (session, bool, error) {
	rider, ok, err := w.o.SignIn.Rider(ctx, id, code)
	if err != nil || !ok {
		return session{}, false, err
	}
	b := make([]byte, tokenBytes)
	rand.Read(b) // never fails
	s := session{token: base64.RawURLEncoding.EncodeToString(b), expires: time.Now().Add(sessionLife)}
	err = w.o.Books.CreateSession(ctx, rider, hashToken(s.token), s.expires)
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
		Name: w.cookieName, Value: s.token, Path: "/", Expires: s.expires, MaxAge: int(sessionLife.Seconds()),
		Secure: w.https, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
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

// rider is who makes this request. ErrNotFound means nobody.
func (w *Web) rider(ctx context.Context) (swap.RiderID, error) {
	token, _ := ctx.Value(tokenKey{}).(string)
	if token == "" {
		return "", ErrNotFound
	}
	return w.o.Books.SessionRider(ctx, hashToken(token))
}

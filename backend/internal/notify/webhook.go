package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Headers of a notice.
const (
	HeaderEvent     = "Swap-Event-Id"
	HeaderTimestamp = "Swap-Timestamp" // Unix seconds at sending
	HeaderSignature = "Swap-Signature" // sha256=HEX of HMAC(secret, timestamp "." body)
)

const (
	// secretLeast is the size of the secret: that of the hash.
	secretLeast = 32
	secretMost  = 1024
	// maxAnswer bounds what is read of an answer, so that its connection serves
	// again.
	maxAnswer = 4 << 10
)

// Webhook posts each notice and each code as JSON. Any answer but 2xx is an error.
type Webhook struct {
	url    string
	secret []byte
	client *http.Client
	now    func() time.Time
}

// NewWebhook makes a webhook. The URL is https; http only to this very machine.
func NewWebhook(address string, secret []byte, now func() time.Time) (*Webhook, error) {
	if err := CheckURL(address); err != nil {
		return nil, err
	}
	if len(secret) < secretLeast || len(secret) > secretMost {
		return nil, fmt.Errorf("secret: %d bytes, want %d to %d", len(secret), secretLeast, secretMost)
	}
	return &Webhook{url: address, secret: secret, now: now, client: &http.Client{
		// What is signed for one address is not sent to another.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// CheckURL says what is wrong with a webhook's address. It does not repeat it:
// it may hold a token.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("want https://HOST/PATH")
	case u.Scheme == "http" && !isLocal(u.Hostname()):
		return errors.New("want https://: http:// is for 127.0.0.1 and localhost only")
	}
	return nil
}

func isLocal(host string) bool { return host == "localhost" || host == "127.0.0.1" || host == "::1" }

// ReadSecret reads a secret that nobody else may read; blanks around it are
// taken off.
func ReadSecret(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: mode %04o, want 0600: others can read it", file, info.Mode().Perm())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	secret := strings.TrimSpace(string(b))
	if len(secret) < secretLeast || len(secret) > secretMost {
		return nil, fmt.Errorf("%s: %d characters, want %d to %d", file, len(secret), secretLeast, secretMost)
	}
	return []byte(secret), nil
}

// Sign is the signature of a body that was sent at a time.
func Sign(secret []byte, timestamp string, body []byte) string {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(timestamp))
	h.Write([]byte{'.'})
	h.Write(body)
	return "sha256=" + hex.EncodeToString(h.Sum(nil))
}

// Notify implements Notifier.
func (w *Webhook) Notify(ctx context.Context, n Notice) error { return w.post(ctx, n.EventID, n) }

// SendCode implements CodeSender.
func (w *Webhook) SendCode(ctx context.Context, c Code) error { return w.post(ctx, c.MessageID, c) }

// post sends what is to be told, signed; id is the same whenever it is told.
func (w *Webhook) post(ctx context.Context, id string, what any) error {
	body, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("webhook: the address cannot be used")
	}
	timestamp := strconv.FormatInt(w.now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(HeaderEvent, id)
	r.Header.Set(HeaderTimestamp, timestamp)
	r.Header.Set(HeaderSignature, Sign(w.secret, timestamp, body))
	answer, err := w.client.Do(r)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) { // its text has the address, which may hold a token
			err = e.Err
		}
		return fmt.Errorf("webhook: %w", err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer)); err != nil {
		return fmt.Errorf("webhook: read the answer: %w", err)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("webhook: answered %d, want 2xx", answer.StatusCode)
	}
	return nil
}

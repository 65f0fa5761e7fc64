package demo

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMessages: only what is signed arrives, and a code is told once.
func TestMessages(t *testing.T) {
	b := newInbox()
	require.Len(t, b.secret, secretLetters)
	now := time.Unix(1_800_000_000, 0)
	b.now = func() time.Time { return now }
	var told []string
	b.onMessage("15400000001", func(code string) { told = append(told, code) })
	send := func(body string, at time.Time, secret []byte) int {
		timestamp := fmt.Sprint(at.Unix())
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(timestamp + "." + body))
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Swap-Timestamp", timestamp)
		r.Header.Set("Swap-Signature", "sha256="+hex.EncodeToString(h.Sum(nil)))
		rec := httptest.NewRecorder()
		b.ServeHTTP(rec, r)
		return rec.Code
	}
	good := `{"kind":"binding_code","phone":"15400000001","code":"123456"}`
	require.Equal(t, 403, send(good, now, []byte("another secret")))
	require.Equal(t, 403, send(good, now.Add(-time.Hour), b.secret))
	require.Equal(t, 400, send(`{"kind":"alarm"}`, now, b.secret))
	require.Equal(t, 413, send(strings.Repeat("x", maxMessage+1), now, b.secret))
	require.Empty(t, told)
	require.Equal(t, 204, send(good, now, b.secret))
	require.Equal(t, 204, send(good, now, b.secret), "it may come twice")
	require.Equal(t, 204, send(strings.Replace(good, "0001", "0002", 1), now, b.secret))
	require.Equal(t, []string{"123456"}, told)
	code, err := b.Code(t.Context(), "15400000001")
	require.NoError(t, err)
	require.Equal(t, "123456", code)
	b.Used("15400000001", "999999")
	require.Equal(t, "123456", b.last("15400000001"))
	b.Used("15400000001", code)
	require.Empty(t, b.last("15400000001"))
}

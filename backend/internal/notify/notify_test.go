package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

var (
	secret = []byte("0123456789abcdef0123456789abcdef")
	noon   = time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)
	fire   = Notice{
		EventID: "hb-0001/aa/7", Record: "charge_cut", Kind: protocol.AlarmSmoke, CabinetID: "hb-0001", Station: "Hubin", Street: "Wensan Road",
		Slot: 3, At: noon, TimeQuality: "wall", ReceivedAt: noon.Add(time.Second), Try: 1,
	}
)

func webhook(t *testing.T, address string) *Webhook {
	t.Helper()
	w, err := NewWebhook(address, secret, func() time.Time { return noon })
	require.NoError(t, err)
	return w
}

func TestANoticeIsSigned(t *testing.T) {
	type got struct {
		header http.Header
		body   []byte
	}
	came := make(chan got, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body) // what is missing fails below
		came <- got{r.Header, b}
	}))
	defer s.Close()
	require.NoError(t, webhook(t, s.URL+"/hook?token=t").Notify(t.Context(), fire))
	g := <-came
	require.Equal(t, "application/json", g.header.Get("Content-Type"))
	require.Equal(t, "hb-0001/aa/7", g.header.Get(HeaderEvent))
	require.Equal(t, "1772337600", g.header.Get(HeaderTimestamp))
	// printf '1772337600.%s' "$body" | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
	require.Equal(t, Sign(secret, "1772337600", g.body), g.header.Get(HeaderSignature))
	require.JSONEq(t, `{"event_id":"hb-0001/aa/7","record":"charge_cut","kind":"smoke","cleared":false,"cabinet_id":"hb-0001","station":"Hubin",
		"street":"Wensan Road","slot":3,"at":"2026-03-01T04:00:00Z","time_quality":"wall","received_at":"2026-03-01T04:00:01Z","try":1}`, string(g.body))
	var back Notice
	require.NoError(t, json.Unmarshal(g.body, &back))
	require.Equal(t, fire, back)
}

// TestSignature has a value that another program computed:
// printf '1772337600.{}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef.
func TestSignature(t *testing.T) {
	require.Equal(t, "sha256=2672f08c2e2f8b4a611fb0e92c6635d142eaf8cc268bc54b477c409e100fe49d", Sign(secret, "1772337600", []byte("{}")))
	require.NotEqual(t, Sign(secret, "1", []byte("{}")), Sign(secret, "2", []byte("{}")))
	require.NotEqual(t, Sign(secret, "1", []byte("{}")), Sign(secret[1:], "1", []byte("{}")))
}

func TestOnlySuccessIsTold(t *testing.T) {
	answer := http.StatusOK
	elsewhere := 0
	mux := http.NewServeMux()
	mux.HandleFunc("/hook", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Location", "/elsewhere")
		rw.WriteHeader(answer)
		_, _ = rw.Write(make([]byte, 1<<20))
	})
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { elsewhere++ })
	s := httptest.NewServer(mux)
	defer s.Close()
	w := webhook(t, s.URL+"/hook")
	for status, told := range map[int]bool{200: true, 202: true, 204: true, 301: false, 307: false, 400: false, 404: false, 429: false, 500: false, 503: false} {
		answer = status
		err := w.Notify(t.Context(), fire)
		require.Equal(t, told, err == nil, "%d: %v", status, err)
	}
	require.Zero(t, elsewhere, "what is signed for one address is not sent to another")
}

func TestASlowReceiverIsNotWaitedFor(t *testing.T) {
	hold := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hold }))
	defer s.Close()
	defer close(hold)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := webhook(t, s.URL+"/hook?token=t").Notify(ctx, fire)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotContains(t, err.Error(), "token", "an address may hold a token")
}

func TestAddressAndSecret(t *testing.T) {
	for _, bad := range []string{"", "hook", "ftp://h/", "http://gateway.example/hook", "https://", "https://u:secret word@h/"} {
		_, err := NewWebhook(bad, secret, time.Now)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "secret")
	}
	for _, good := range []string{"https://gateway.example/hook?token=t", "http://127.0.0.1:9000/", "http://localhost/"} {
		require.NoError(t, CheckURL(good), good)
	}
	_, err := NewWebhook("https://h/", secret[1:], time.Now)
	require.ErrorContains(t, err, "31 bytes, want 32")

	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, append(secret, '\n'), 0o600))
	got, err := ReadSecret(file)
	require.NoError(t, err)
	require.Equal(t, secret, got)
	require.NoError(t, os.Chmod(file, 0o644))
	_, err = ReadSecret(file)
	require.ErrorContains(t, err, "want 0600")
	require.NoError(t, os.WriteFile(file, []byte("short"), 0o600))
	require.NoError(t, os.Chmod(file, 0o600))
	_, err = ReadSecret(file)
	require.ErrorContains(t, err, "5 characters, want 32")
	_, err = ReadSecret(file + ".absent")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestLog(t *testing.T) {
	var b bytes.Buffer
	var n Notifier = Log{slog.New(slog.NewJSONHandler(&b, nil))}
	require.NoError(t, n.Notify(t.Context(), fire))
	require.True(t, strings.Contains(b.String(), `"cabinet_id":"hb-0001"`) && strings.Contains(b.String(), `"reason":"smoke"`), b.String())
}

// TestACodeIsSigned as a notice is, and a log has no number.
func TestACodeIsSigned(t *testing.T) {
	code := Code{MessageID: "m-1", Kind: KindCode, Phone: "15400000001", Code: "012345", Language: "zh", ExpiresAt: noon, Try: 2}
	bodies, signatures := make(chan string, 1), make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body) // what is missing fails below
		bodies <- r.Header.Get(HeaderEvent) + " " + string(b)
		signatures <- r.Header.Get(HeaderSignature) + " " + Sign(secret, r.Header.Get(HeaderTimestamp), b)
	}))
	defer s.Close()
	var sender CodeSender = webhook(t, s.URL)
	require.NoError(t, sender.SendCode(t.Context(), code))
	id, body, _ := strings.Cut(<-bodies, " ")
	require.Equal(t, "m-1", id)
	require.JSONEq(t, `{"message_id":"m-1","kind":"binding_code","phone":"15400000001","code":"012345","language":"zh","expires_at":"2026-03-01T04:00:00Z","try":2}`, body)
	got, want, _ := strings.Cut(<-signatures, " ")
	require.Equal(t, want, got)

	var b bytes.Buffer
	sender = Log{slog.New(slog.NewJSONHandler(&b, nil))}
	require.NoError(t, sender.SendCode(t.Context(), code))
	require.Contains(t, b.String(), `"phone":"154****0001","code":"012345"`)
	require.NotContains(t, b.String(), "15400000001")
}

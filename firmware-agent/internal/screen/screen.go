package screen

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"batteryswap/protocol"
)

//go:embed static
var static embed.FS

// Options are what a screen needs. The functions are called from any goroutine
// and must return quickly.
type Options struct {
	CabinetID protocol.CabinetID
	// Scene is what happens at the cabinet now.
	Scene func() Scene
	// Online reports whether the backend is there.
	Online func() bool
	Codes  *Codes
	// Now is the agent's monotonic clock.
	Now func() time.Duration
	// GuideFile keeps the newest guide over a restart.
	GuideFile string
}

// Screen is the page.
type Screen struct {
	o             Options
	guides        *guideBook
	style, script []byte
	policy        string // Content-Security-Policy
	texts         texts
}

// New makes a screen. An error beside a screen is of the kept guide, which is then
// forgotten: the backend sends another.
func New(o Options) (*Screen, error) {
	if o.Scene == nil || o.Online == nil || o.Codes == nil || o.Now == nil {
		return nil, errors.New("screen: Scene, Online, Codes and Now are needed")
	}
	s := &Screen{o: o}
	var err error
	if s.style, err = static.ReadFile("static/screen.css"); err != nil {
		return nil, fmt.Errorf("screen: %w", err)
	}
	if s.script, err = static.ReadFile("static/screen.js"); err != nil {
		return nil, fmt.Errorf("screen: %w", err)
	}
	if s.texts, err = loadTexts(); err != nil {
		return nil, fmt.Errorf("screen: %w", err)
	}
	s.policy = "default-src 'none'; connect-src 'self'; style-src " + sourceHash(s.style) + "; script-src " + sourceHash(s.script) +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	s.guides, err = openGuides(o.GuideFile)
	return s, err
}

func sourceHash(content []byte) string {
	sum := sha256.Sum256(content)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// Guide takes what the backend says of elsewhere. An error is of the file that it
// is kept in; it is shown all the same.
func (s *Screen) Guide(g protocol.Guide) error {
	if err := s.guides.take(g); err != nil {
		return fmt.Errorf("keep the guide: %w", err)
	}
	return nil
}

// ServeHTTP gives the page, and its changing part at /live.
func (s *Screen) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	h := rw.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", s.policy)
	if !isLoopback(r.Host) {
		// A page from elsewhere that calls this host by a name of its own must not
		// read the code.
		http.Error(rw, "this page is for the cabinet's own screen", http.StatusMisdirectedRequest)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(rw, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	var p page
	switch r.URL.Path {
	case "/":
		s.whole(&p)
	case "/live":
		s.live(&p)
	case "/favicon.ico":
		rw.WriteHeader(http.StatusNoContent)
		return
	default:
		http.NotFound(rw, r)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(rw, p.String()) // a browser that is gone asks again
}

func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

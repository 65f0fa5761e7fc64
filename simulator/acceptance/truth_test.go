package acceptance

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// balancer stands before the replicas, as in production: it asks the next one
// when one does not take the connection.
type balancer []*replica

// RoundTrip implements http.RoundTripper.
func (b balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	err := errors.New("no replica")
	for _, one := range b {
		at, bad := url.Parse(one.url)
		if bad != nil {
			return nil, bad
		}
		try := r.Clone(r.Context())
		try.URL.Scheme, try.URL.Host, try.Body = at.Scheme, at.Host, io.NopCloser(bytes.NewReader(body))
		var resp *http.Response
		if resp, err = http.DefaultTransport.RoundTrip(try); err == nil {
			return resp, nil
		}
	}
	return nil, err
}

// balance serves the replicas at one address.
func (s *stage) balance() string {
	s.t.Helper()
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetXForwarded() }, Transport: balancer(s.replicas), FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) },
	})
	s.t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// shows waits until a page says all of these texts, and none of those.
func (p *phonePage) shows(what string, keys ...string) {
	p.t.Helper()
	p.wait(what, func(page string) bool {
		for _, key := range keys {
			if not := strings.HasPrefix(key, "!"); strings.Contains(page, p.words[strings.TrimPrefix(key, "!")]) == not {
				return false
			}
		}
		return true
	})
}

// truth is a rider at a cabinet, with the phone's page and the cabinet's screen.
type truth struct {
	*phonePage
	c       *cabinet
	screen  *kiosk
	id, own string
}

// TestPageAndScreenTellTheTruth takes away, in the middle of two swaps, one
// replica, every replica, a cabinet's agent and the broker. Page and screen say
// what is known and what to do, never that something failed which did not, and
// follow by themselves when what was away is back.
func TestPageAndScreenTellTheTruth(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	s.startReplica()
	s.startReplica()
	address := s.balance()
	browser := openBrowser(t, phoneWidth, phoneHeight)
	_, err := chromedp.Run(browser, chromedp.Title()) // it starts with its first action
	require.NoError(t, err)
	at := func(name, language string) *truth {
		c := s.newCabinet(6, 4)
		c.startBoards()
		c.startAgent()
		c.heard(4)
		r := &truth{c: c, screen: openKiosk(browser, t, c)}
		r.id, r.own = s.newRider()
		r.phonePage = openPhone(browser, t, address, phoneKind{name: "truth-" + name, language: language, width: phoneWidth, height: phoneHeight})
		r.signIn(c, r.id)
		r.tap(swapButton)
		r.shows("where to put it", "step.deposit")
		return r
	}
	powerless, alone := at("powerless", "zh"), at("alone", "en")

	// One replica is gone: its streams break, and the other tells the rest.
	s.replicas[0].Kill()
	for _, r := range []*truth{powerless, alone} {
		slot := s.openDoor(r.c, 1)
		require.NoError(t, s.world.Insert(s.now(), r.id, r.c.id, slot, r.own, true))
		require.NoError(t, s.world.CloseDoor(s.now(), r.id, r.c.id, slot))
		r.shows("what to take", "step.dispense", "!lost")
		r.screen.wait("what to take", "取走满电电池")
	}

	// One cabinet has no power any more, and the other no network; it finishes alone.
	powerless.c.Kill()
	s.broker.Stop()
	powerless.screen.wait("that nobody is there", "没有响应")
	alone.take(s)
	alone.screen.wait("the end", "换电完成")

	// Every replica is gone, too: the phone says what it cannot know.
	s.replicas[1].Kill()
	for _, r := range []*truth{powerless, alone} {
		r.shows("that nothing answers", "lost", "step.dispense")
		r.look("no-replica")
	}
	require.NoError(t, s.replicas[0].Start())
	for _, r := range []*truth{powerless, alone} {
		r.shows("that it is back, and the result not known", "!lost", "unknown", "i_closed", "!outcome.swapped", "!outcome.review")
		r.look("unknown")
	}
	alone.screen.wait("that it is offline", "没有联网")
	powerless.take(s)

	require.NoError(t, s.broker.Start())
	require.NoError(t, powerless.c.Start())
	for _, r := range []*truth{powerless, alone} {
		r.shows("the end", "outcome.swapped", "!unknown")
		r.look("done")
		r.screen.wait("ready", `class="qr"`)
	}
	books := s.audited()
	for _, r := range []*truth{powerless, alone} {
		require.Equal(t, 1, books.of(t, r.id).Counted)
	}
}

// take takes the battery that is offered, and closes the door.
func (r *truth) take(s *stage) {
	slot := s.openDoor(r.c, 1)
	_, err := s.world.Take(s.now(), r.id, r.c.id, slot)
	require.NoError(s.t, err)
	require.NoError(s.t, s.world.CloseDoor(s.now(), r.id, r.c.id, slot))
}

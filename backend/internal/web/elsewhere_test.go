package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// placed puts the fake's cabinets on a street in Hangzhou, the third in working
// order 445 m to the north of the first.
func (s *site) placed() *site {
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	for id, north := range map[protocol.CabinetID]float64{home: 0, "hb-0002": .001, "hb-0003": .004} {
		c := s.books.cabinets[id]
		lat, lon := 30.2583+north, 120.1592
		c.Latitude, c.Longitude, c.Hotline, c.Station, c.Street = &lat, &lon, "0571-5555-0100", "Hubin", "Wensan Road"
		s.books.cabinets[id] = c
	}
	c := s.books.cabinets["hb-0003"]
	c.Reachable, c.Charged, c.Empty = true, 5, 3
	s.books.cabinets["hb-0003"] = c
	return s
}

// refuse answers every scan with a reason.
func (s *site) refuse(r swap.Refusal) {
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	s.books.onScan = func(swap.Scan) (swap.View, *swap.Refusal, error) { return swap.View{}, &r, nil }
}

// signIn opens a cabinet's page as a rider.
func (p *phone) signIn(cabinet protocol.CabinetID, rider swap.RiderID) {
	p.t.Helper()
	p.open("/c/" + string(cabinet) + "?lang=en")
	p.submit("/sign-in", "rider_id", string(rider), "code", "letmein")
	require.Equal(p.t, http.StatusOK, p.status)
}

// TestEveryRefusalSaysWhatToDo: its own text, the hotline, and, where going
// elsewhere helps, the nearest cabinet that does.
func TestEveryRefusalSaysWhatToDo(t *testing.T) {
	en, err := loadTexts("en")
	require.NoError(t, err)
	for _, r := range protocol.Reasons() {
		t.Run(string(r), func(t *testing.T) {
			s := newSite(t).placed()
			s.refuse(swap.Refusal{Reason: r})
			p := newPhone(t, s)
			p.signIn(home, riderA)
			p.submit("/swaps")
			require.Equal(t, refusalStatus(r), p.status)
			require.Contains(t, unescape(p.html), en["reason."+string(r)])
			if r != protocol.ReasonCabinetUnknown { // then nobody knows which street this is
				require.Contains(t, p.html, `href="tel:0571-5555-0100"`)
			}
			require.Equal(t, leadsElsewhere(r), strings.Contains(p.html, "hb-0003"), "the one that has what is wanted")
			require.NotContains(t, p.html, "hb-0002", "it is out of order")
			require.Equal(t, r == protocol.ReasonPresence, strings.Contains(p.html, `name="presence"`))
		})
	}
}

func unescape(html string) string {
	return strings.NewReplacer("&#39;", "'", "&#34;", `"`, "&amp;", "&").Replace(html)
}

// TestPresenceIsPostedInABody: never in a path, where logs would keep it.
func TestPresenceIsPostedInABody(t *testing.T) {
	s := newSite(t).placed()
	var got []string
	s.books.onScan = func(sc swap.Scan) (swap.View, *swap.Refusal, error) {
		got = append(got, sc.Presence)
		return swap.View{}, &swap.Refusal{Reason: protocol.ReasonPresence}, nil
	}
	p := newPhone(t, s)
	p.signIn(home, riderB)
	v := s.books.swaps[swapB]
	v.State = swap.StateClosed
	s.books.swaps[swapB] = v
	p.open("/c/hb-0001")
	require.Contains(t, p.html, `name="presence"`, "an owed battery needs it")
	p.submit("/swaps", "presence", "abc-def ")
	require.Contains(t, p.html, `name="presence"`, "and it is asked for again")
	p.submit("/swaps", "presence", strings.Repeat("x", 200))
	require.Equal(t, []string{"ABCDEF", strings.Repeat("X", maxCode)}, got)
	require.NotContains(t, s.log.String(), "ABCDEF")
	require.NotContains(t, s.log.String(), "abc-def")
}

func TestNearby(t *testing.T) {
	s := newSite(t).placed()
	p := newPhone(t, s)
	p.open("/nearby?from=hb-0001&lang=en")
	require.Equal(t, http.StatusOK, p.status)
	near, far := strings.Index(p.html, "hb-0002"), strings.Index(p.html, "hb-0003")
	require.Positive(t, near)
	require.Greater(t, far, near, "by distance")
	require.Contains(t, p.html, "440 m")
	require.Contains(t, p.html, "not online", "of the dead one")
	links := strings.Split(unescape(p.html), `href="https://`)
	require.Len(t, links, 5, "two maps for each of two cabinets")
	amap, err := url.Parse("https://" + strings.SplitN(links[3], `"`, 2)[0])
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(amap.Query().Get("to"), "120.16"), "the longitude first: %s", amap)
	for _, path := range []string{"/nearby", "/nearby?from=hb-0404", "/nearby?from=<script>"} {
		p.open(path)
		require.Equal(t, http.StatusOK, p.status)
		require.Contains(t, p.html, "hb-0001")
		require.NotContains(t, p.html, "<script>")
	}
	s.books.setDown(errDown)
	p.open("/nearby")
	require.Equal(t, http.StatusServiceUnavailable, p.status)
}

func TestHistory(t *testing.T) {
	s := newSite(t).placed()
	p := newPhone(t, s)
	p.open("/c/hb-0001/history")
	require.Equal(t, http.StatusUnauthorized, p.status)
	s.books.change(func(v *swap.View) {
		v.State, v.Step, v.Outcome = swap.StateClosed, swap.StepClosed, protocol.OutcomeSwapped
		v.StartedAt = time.Date(2026, 3, 1, 20, 30, 0, 0, time.UTC)
	})
	p.signIn(home, riderA)
	p.open("/c/hb-0001/history")
	require.Contains(t, p.html, "Swaps this month: 41")
	require.Contains(t, p.html, "03-02 04:30", "the rider's own day")
	require.Contains(t, p.html, "Ride safely")
	require.NotContains(t, p.html, string(swapB), "another rider's")
}

// TestSigningOutEndsTheSession: a copy of the cookie is worth nothing afterwards.
func TestSigningOutEndsTheSession(t *testing.T) {
	s := newSite(t)
	p := newPhone(t, s)
	p.signIn(home, riderA)
	at, err := url.Parse(s.URL)
	require.NoError(t, err)
	token := ""
	for _, c := range p.client.Jar.Cookies(at) {
		if c.Name == s.web.cookieName {
			token = c.Value
		}
	}
	r, _ := s.ask(t, http.MethodGet, "/api/v1/riders/me", token, "")
	require.Equal(t, http.StatusOK, r.StatusCode)
	p.submit("/sign-out")
	require.Contains(t, p.html, "Sign in")
	r, _ = s.ask(t, http.MethodGet, "/api/v1/riders/me", token, "")
	require.Equal(t, http.StatusUnauthorized, r.StatusCode)
}

// TestASwapThatHangs: its cabinet is dead, and another one can be used.
func TestASwapThatHangs(t *testing.T) {
	s := newSite(t).placed()
	p := newPhone(t, s)
	v := s.books.swaps[swapB]
	v.Reachable = false
	s.books.swaps[swapB] = v
	p.signIn("hb-0003", riderB)
	require.Contains(t, p.html, "Your swap at hb-0001 has no result yet")
	require.Contains(t, p.html, `action="/c/hb-0003/swaps"`)
	p.open("/c/hb-0001/swaps/" + string(swapB))
	require.Contains(t, p.html, "the result is unknown")
	require.Contains(t, p.html, "hb-0003", "where to go")
	require.Contains(t, p.html, "tel:0571")
	p.open("/c/hb-0001")
	require.NotContains(t, p.html, `action="/c/hb-0001/swaps"`, "not at the dead one itself")
}

package acceptance

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"batteryswap/simulator/world"
)

// TestSwapByThePage does a swap by the rider's page alone: as it comes, without
// JavaScript, and with nothing but a keyboard. TestSwapOnTheDemo has a slow network.
func TestSwapByThePage(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	r := s.startReplica()
	c := s.newCabinet(10, 8)
	c.startBoards()
	c.startAgent()
	c.heard(8)
	browser := openBrowser(t, phoneWidth, phoneHeight)
	_, err := chromedp.Run(browser, chromedp.Title()) // it starts with its first action
	require.NoError(t, err)
	for _, kind := range []phoneKind{
		{name: "as-it-comes", language: "zh", width: phoneWidth, height: phoneHeight},
		{name: "without-script", language: "en", width: phoneWidth, height: phoneHeight, noScript: true},
		{name: "keyboard-only", language: "en", width: wideWidth, height: wideHeight, keyboard: true},
	} {
		t.Run(kind.name, func(t *testing.T) {
			id, own := s.newRider()
			p := openPhone(browser, t, r.url, kind)
			p.signIn(c, id)
			began := time.Now()
			require.Equal(t, "outcome.swapped", p.follow(s, c, id, own, false, func() { p.tap(swapButton) }))
			t.Logf("from tap to done: %.1f s", time.Since(began).Seconds())
			held := s.world.Hands(id)
			require.Len(t, held, 1)
			require.NotEqual(t, own, held[0])
			require.Contains(t, p.text(), strings.ReplaceAll(p.words["month"], "{count}", "1"))
			books := s.audited().of(t, id)
			require.Equal(t, 1, books.Counted)
			require.Equal(t, held, books.Batteries)
		})
	}
	t.Run("every-kind", func(t *testing.T) {
		p := openPhone(browser, t, r.url, phoneKind{name: "every-kind", language: "zh", width: phoneWidth, height: phoneHeight})
		p.everyKind(s, c)
	})
}

// everyKind lets a new rider take the first battery and hand it back, and another
// leave somebody's battery behind and go on with one that staff give in hardship:
// the screen's code and the cabinet's button prove who stands there.
func (p *phonePage) everyKind(s *stage, c *cabinet) {
	id := s.newOwedRider()
	p.signIn(c, id)
	typed := func() {
		p.fill("input[name=presence]", strings.ToLower(screenCode(p.t, c)))
		p.tap(swapButton)
	}
	require.Equal(p.t, "outcome.issued", p.follow(s, c, id, "", false, typed))
	first := s.world.Hands(id)
	require.Len(p.t, first, 1)
	p.toCabinet(c)
	handBack := func() { p.tap("form[action$='/swaps']:has([name=hand_back]) button") }
	require.Equal(p.t, "outcome.handed_back", p.follow(s, c, id, first[0], false, handBack))
	books := s.audited().of(p.t, id)
	require.Zero(p.t, books.Counted, "neither is a swap")
	require.Empty(p.t, books.Batteries)
	p.toCabinet(c)
	p.tap("form[action$='/sign-out'] button")

	id, own := s.newRider()
	const foreign = "NOBODYS-1"
	require.NoError(p.t, s.world.PutInHands(id, world.Battery{Serial: foreign, SocPermille: 300}))
	p.signIn(c, id)
	require.Equal(p.t, "outcome.review", p.follow(s, c, id, foreign, true, func() { p.tap(swapButton) }))
	review := regexp.MustCompile(`(?m)^(\d+) .*held_battery`).FindStringSubmatch(s.run("backend", "review", "list"))
	require.NotNil(p.t, review)
	s.run("backend", "review", "hardship", review[1], "--by", "wei")
	p.toCabinet(c)
	require.Contains(p.t, p.text(), p.words["collect"])
	pressed := func() {
		require.NoError(p.t, s.world.PressButton(s.now(), id, c.id))
		p.tap(swapButton)
	}
	require.Equal(p.t, "outcome.owed_taken", p.follow(s, c, id, "", false, pressed))
	require.Len(p.t, s.world.Hands(id), 2, "the own one too")
	books = s.audited().of(p.t, id)
	require.Equal(p.t, 1, books.Counted)
	require.Contains(p.t, books.Batteries, own)
	require.Zero(p.t, books.OpenCredits)

	p.tap("a.button[href*='/fault?']")
	p.wait("what is broken", func(page string) bool { return strings.Contains(page, p.words["fault.ask"]) })
	p.look("fault")
	p.tap("button[value=door]")
	p.wait("that the report arrived", func(page string) bool {
		return strings.Contains(page, strings.ReplaceAll(p.words["fault.sent"], "{number}", "1"))
	})
	p.look("fault-sent")
}

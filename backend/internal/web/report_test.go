package web

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// TestReportAFault: one tap, with cabinet, swap and slot filled in.
func TestReportAFault(t *testing.T) {
	s := newSite(t).placed()
	p := newPhone(t, s)
	p.open("/c/hb-0001/fault")
	require.Equal(t, http.StatusUnauthorized, p.status)
	s.books.change(func(v *swap.View) { v.State, v.Step, v.Slot = swap.StateActive, swap.StepDeposit, 3 })
	p.signIn(home, riderA)
	require.Contains(t, p.html, `href="/c/hb-0001/fault"`)
	p.open("/c/hb-0001/swaps/" + string(swapA))
	require.Contains(t, unescape(p.html), `href="/c/hb-0001/fault?slot=3&swap_id=`+string(swapA)+`"`)
	p.open("/c/hb-0001/fault?slot=3&swap_id=" + string(swapA))
	require.Contains(t, p.html, "00000a", "the end of the swap's number")
	require.Contains(t, p.html, `value="3"`)
	p.submit("/fault", "slot", "3", "kind", "door", "text", " it sticks <b> ")
	require.Equal(t, http.StatusOK, p.status)
	require.Contains(t, p.html, "Report 1 has arrived")
	require.Contains(t, p.html, `href="tel:0571-5555-0100"`)
	require.Contains(t, p.html, `href="/c/hb-0001/swaps/`+string(swapA)+`"`, "back to the swap")
	require.Equal(t, []staff.Fault{{CabinetID: home, Slot: 3, SwapID: swapA, RiderID: riderA, Kind: "door", Text: "it sticks <b>"}}, s.books.faults)

	// What does not fit is left out; the report arrives all the same.
	p.open("/c/hb-0001/fault?slot=99&swap_id=" + string(swapB))
	require.NotContains(t, p.html, `value="`+string(swapB), "another rider's")
	p.submit("/fault", "slot", "x", "kind", "<script>", "swap_id", string(swapB), "text", strings.Repeat("门", 400))
	got := s.books.faults[1]
	require.Equal(t, staff.Fault{CabinetID: home, RiderID: riderA, Kind: "other", Text: strings.Repeat("门", maxFaultText)}, got)

	p.open("/c/hb-0001/fault")
	s.books.tooMany = ErrTooMany
	p.submit("/fault", "kind", "door")
	require.Equal(t, http.StatusTooManyRequests, p.status)
	require.Contains(t, p.html, "call the hotline")
	s.books.tooMany = errDown
	p.open("/c/hb-0001/fault")
	p.submit("/fault", "kind", "door")
	require.Equal(t, http.StatusServiceUnavailable, p.status)
	p.open("/c/hb-0404/fault")
	require.Equal(t, http.StatusNotFound, p.status)
}

func TestWaitAt(t *testing.T) {
	now := time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)
	open := func(ago time.Duration) swap.CabinetView {
		return swap.CabinetView{SwapOpen: true, SwapSince: now.Add(-ago)}
	}
	for name, c := range map[string]struct {
		cabinet swap.CabinetView
		want    *wait
	}{
		"free":             {swap.CabinetView{}, nil},
		"just begun":       {open(0), &wait{Seconds: 60}},
		"a clock behind":   {open(-time.Second), &wait{Seconds: 60}},
		"in the middle":    {open(25 * time.Second), &wait{Seconds: 40}},
		"nearly done":      {open(59 * time.Second), &wait{Seconds: 10}},
		"a little late":    {open(90 * time.Second), &wait{Seconds: 10}},
		"something is off": {open(4*time.Minute + time.Second), &wait{Minutes: 4}},
		"a door":           {swap.CabinetView{Inventory: protocol.Inventory{{Slot: 2}, {Slot: 4, Door: protocol.DoorOpen}}}, &wait{Door: 4}},
	} {
		require.Equal(t, c.want, waitAt(c.cabinet, now), name)
	}
}

func TestStagesOfASwap(t *testing.T) {
	at := func(kind protocol.Kind, state swap.State, step swap.Step, o protocol.Outcome) (now string, n int) {
		way := stages(swap.View{Kind: kind, State: state, Step: step, Outcome: o})
		for _, p := range way {
			if p.Now {
				now = p.Text
			}
		}
		return now, len(way)
	}
	for _, c := range []struct {
		kind    protocol.Kind
		state   swap.State
		step    swap.Step
		outcome protocol.Outcome
		now     string
		n       int
	}{
		{protocol.KindSwap, swap.StateGranted, swap.StepGranted, "", "way.put", 3},
		{protocol.KindSwap, swap.StateActive, swap.StepVerify, "", "way.put", 3},
		{protocol.KindSwap, swap.StateActive, swap.StepDispense, "", "way.take", 3},
		{protocol.KindSwap, swap.StateActive, swap.StepReturn, "", "way.take", 3},
		{protocol.KindSwap, swap.StateClosed, swap.StepClosed, protocol.OutcomeSwapped, "way.done", 3},
		{protocol.KindSwap, swap.StateClosed, swap.StepClosed, protocol.OutcomeNoDeposit, "", 0},
		{protocol.KindOwed, swap.StateGranted, swap.StepGranted, "", "way.take", 2},
		{protocol.KindIssue, swap.StateActive, swap.StepDispense, "", "way.take", 2},
		{protocol.KindHandBack, swap.StateActive, swap.StepDeposit, "", "way.put", 2},
		{protocol.KindHandBack, swap.StateActive, swap.StepReturn, "", "way.put", 2},
		{protocol.KindHandBack, swap.StateClosed, swap.StepClosed, protocol.OutcomeHandedBack, "way.done", 2},
	} {
		now, n := at(c.kind, c.state, c.step, c.outcome)
		require.Equal(t, c.now, now, "%+v", c)
		require.Equal(t, c.n, n, "%+v", c)
	}
}

// TestAPageThatHearsNothing says so, and goes on by itself; and the keyboard
// stays where it was when the words around it change.
func TestAPageThatHearsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t).placed()
	s.books.change(func(v *swap.View) { v.State, v.Step, v.Slot = swap.StateActive, swap.StepDeposit, 3 })
	b := newTab(t, s, 360, 640)
	b.as(riderA)
	b.open("/c/hb-0001/swaps/" + string(swapA) + "?lang=en")
	lost := chromedp.CSS("#lost")
	require.NoError(t, chromedp.Do(b.ctx, chromedp.WaitNotVisible(lost)))
	s.books.setDown(errDown)
	s.CloseClientConnections() // streams, too
	require.NoError(t, chromedp.Do(b.ctx, chromedp.WaitVisible(lost)))
	b.look("lost", "en")
	s.books.setDown(nil)
	require.NoError(t, chromedp.Do(b.ctx, chromedp.WaitNotVisible(lost)))
	require.NoError(t, chromedp.Do(b.ctx, chromedp.Focus(chromedp.CSS("form[action$='/wish'] button"))))
	s.books.change(func(v *swap.View) { v.Step, v.Slot = swap.StepDispense, 7 })
	require.NoError(t, chromedp.Do(b.ctx, chromedp.WaitVisible(chromedp.CSS(".take"))))
	focused, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.activeElement.innerText`))
	require.NoError(t, err)
	require.Contains(t, focused, "I closed the door")
}

package fleet

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

func TestOneSwapEndToEnd(t *testing.T) {
	w := newTown(t)
	f := w.start().ready()
	a := w.cabinet("hb-0001")
	ok := a.hello()
	require.Equal(t, protocol.VerdictResume, ok.Verdict)
	require.Equal(t, a.boot, ok.BootID)
	require.NotEmpty(t, ok.Keys, "an agent without keys gets the list")
	a.ship()
	a.beat()
	p := w.rider(f, "li")

	s := p.scan(f, "hb-0001", 201)
	require.Equal(t, protocol.KindSwap, s.Kind)
	require.Equal(t, swap.StateGranted, s.State)
	g := receive(t, a.grants)
	require.Equal(t, s.SwapID, g.SwapID)
	require.Equal(t, []protocol.BatterySerial{"R-li"}, g.ExpectSerials)
	require.Equal(t, w.keys.RiderRef("hb-0001", p.id), g.RiderRef)

	events := listen(t, f, p, s.SwapID)
	a.carryOut(g)
	a.ship()
	require.Eventually(t, func() bool { return p.swap(f, s.SwapID).State == swap.StateClosed }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, protocol.OutcomeSwapped, p.swap(f, s.SwapID).Outcome)
	me := p.me(f)
	require.Equal(t, 1, me.SwapsTotal)
	require.Equal(t, 1, me.SwapsThisMonth)
	require.Equal(t, []protocol.BatterySerial{serialAt("hb-0001", 7)}, me.Batteries)
	require.Zero(t, me.OpenCredits)
	require.Contains(t, receive(t, events), `"outcome":"swapped"`, "the stream followed the records and ended with the swap")

	report := w.audited()
	require.Equal(t, 1, report.Riders[0].Counted)
	require.Equal(t, 1, report.Riders[0].Takes)

	// A second scan gives back the one, with the other battery.
	again := p.scan(f, "hb-0001", 201)
	require.NotEqual(t, s.SwapID, again.SwapID)
	g = receive(t, a.grants)
	require.Equal(t, []protocol.BatterySerial{serialAt("hb-0001", 7)}, g.ExpectSerials)
	a.carryOut(g)
	a.ship()
	require.Eventually(t, func() bool { return p.me(f).SwapsTotal == 2 }, 10*time.Second, 10*time.Millisecond)
	w.audited()
}

// listen reads an event stream to its end and gives what it said.
func listen(t testing.TB, f *replica, p *handset, id protocol.SwapID) <-chan string {
	t.Helper()
	all := make(chan string, 1)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.Address()+"/api/v1/swaps/"+string(id)+"/events", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := http.DefaultClient.Do(r) //nolint:bodyclose // closed by who reads it
	require.NoError(t, err)
	go func() {
		defer resp.Body.Close()
		var b strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := resp.Body.Read(buf)
			b.Write(buf[:n])
			if err != nil {
				all <- b.String()
				return
			}
		}
	}()
	return all
}

func TestMetrics(t *testing.T) {
	w := newTown(t)
	f := w.start().ready()
	a := w.cabinet("hb-0001")
	a.hello()
	a.ship()
	p := w.rider(f, "li")
	p.scan(f, "hb-0001", 201)
	a.carryOut(receive(t, a.grants))
	a.ship()
	p.scan(f, "hb-9999", 404)
	a.send(protocol.UpLog, protocol.Hello{Epoch: a.epoch, BootID: a.boot, TailSeq: 1, BootSeq: 1})
	a.client.Publish(protocol.Topic("hb-0001", protocol.UpRPC), 1, false, "hello")
	for series, want := range map[string]string{
		`swap_mqtt_connected{connection="records"}`:                                        "1",
		`swap_mqtt_connected{connection="telemetry"}`:                                      "1",
		`swap_swaps_total{outcome="swapped"}`:                                              "1",
		`swap_cabinet_swaps_total{cabinet="hb-0001",result="counted"}`:                     "1",
		`swap_login_attempts_total{result="ok",who="rider"}`:                               "1",
		`swap_scans_total{result="granted"}`:                                               "1",
		`swap_scans_total{result="cabinet_unknown"}`:                                       "1",
		`swap_authorization_duration_seconds_count`:                                        "1",
		`swap_duration_seconds_count{phase="total"}`:                                       "1",
		`swap_duration_seconds_count{phase="deposit"}`:                                     "1",
		`swap_duration_seconds_count{phase="dispense"}`:                                    "1",
		`swap_mqtt_messages_total{direction="in",result="malformed",type="unknown"}`:       "1",
		`swap_mqtt_messages_total{direction="in",result="unexpected_type",type="unknown"}`: "1",
		`swap_mqtt_messages_total{direction="out",result="ok",type="grant"}`:               "1",
		`swap_http_requests_total{method="POST",route="/api/v1/swaps",status="201"}`:       "1",
		`swap_cabinet_slots{cabinet="hb-0001",state="charged"}`:                            "1",
		`swap_cabinet_slots{cabinet="hb-0001",state="empty"}`:                              "11",
		`swap_cabinet_connected{cabinet="hb-0001"}`:                                        "1",
		`swap_agent_backlog_records{cabinet="hb-0001"}`:                                    "2",
		`swap_in_progress`:       "0",
		`swap_reviews_open`:      "0",
		`swap_owed_credits_open`: "0",
		`swap_database_up`:       "1",
		`swap_ledger_mismatches`: "0",
	} {
		require.Eventually(t, func() bool { a.beat(); return f.metric(series) == want }, 20*time.Second, 100*time.Millisecond, series)
	}
	require.NotEmpty(t, f.metric(`swap_pgxpool_max_connections`))
	require.NotEmpty(t, f.metric(`go_goroutines`))
	require.NotEmpty(t, f.metric(`swap_ingest_lag_seconds_count`))
	require.NotEmpty(t, f.metric(`swap_ingest_batch_records_count`))

	resp, err := http.Get("http://" + f.MetricsAddress() + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	var b strings.Builder
	_, err = io.Copy(&b, resp.Body)
	require.NoError(t, err)
	for _, secret := range []string{string(p.id), "R-li", "B-hb-0001"} {
		require.NotContains(t, b.String(), secret, "no rider, battery or swap is ever a label")
	}
	perCabinet := strings.Count(b.String(), `cabinet="hb-0001"`)
	require.LessOrEqual(t, perCabinet, 20)
}

func TestRefusalsOfTheCabinet(t *testing.T) {
	w := newTown(t)
	f := w.start().ready()
	a := w.cabinet("hb-0001")
	a.hello()
	a.ship()
	p := w.rider(f, "li")

	a.mu.Lock()
	a.refuse = protocol.ReasonNoChargedBattery
	a.mu.Unlock()
	require.Equal(t, protocol.ReasonNoChargedBattery, p.scan(f, "hb-0001", 409).Reason)

	a.mu.Lock()
	a.refuse, a.mute = "", true
	a.mu.Unlock()
	began := time.Now()
	require.Equal(t, protocol.ReasonCabinetOffline, p.scan(f, "hb-0001", 503).Reason)
	require.Less(t, time.Since(began), 7*time.Second)
	require.NotEmpty(t, receive(t, a.cancels).SwapID, "what was asked is withdrawn")

	a.mu.Lock()
	a.mute = false
	a.mu.Unlock()
	p.scan(f, "hb-0001", 201) // at once
	g := receive(t, a.grants)

	status, _ := p.ask(f, "POST", "/api/v1/swaps/"+string(g.SwapID)+"/wish", map[string]any{"what": "recheck"})
	require.Equal(t, 202, status)
	require.Equal(t, g.SwapID, receive(t, a.wishes).SwapID)
}

// TestNoGrantIsSaid: what a cabinet prepared for a swap that cannot be granted is
// withdrawn, so that it does not stand ready for nobody.
func TestNoGrantIsSaid(t *testing.T) {
	w := newTown(t)
	f := w.start().ready()
	a := w.cabinet("hb-0001")
	a.hello()
	a.ship()
	p := w.rider(f, "li")
	a.mu.Lock()
	a.mute = true
	a.mu.Unlock()
	status := make(chan int, 1)
	go func() {
		got, _ := p.ask(f, "POST", "/api/v1/swaps", map[string]any{"cabinet_id": "hb-0001"})
		status <- got
	}()
	m := receive(t, a.prepares)
	require.NoError(t, w.store.AssignBattery(t.Context(), "R-li", swap.Place{}))
	a.mu.Lock()
	a.mute = false
	a.mu.Unlock()
	a.answer(m)
	require.Equal(t, 403, receive(t, status), "nothing to put in")
	require.Equal(t, m.SwapID, receive(t, a.cancels).SwapID)
}

// TestWhoIsNoMemberOnlyLooks: signing in shows what was; no swap begins.
func TestWhoIsNoMemberOnlyLooks(t *testing.T) {
	w := newTown(t)
	f := w.start().ready()
	a := w.cabinet("hb-0001")
	a.hello()
	a.ship()
	p := w.rider(f, "li")
	pool, err := pgxpool.New(t.Context(), w.database)
	require.NoError(t, err)
	defer pool.Close()
	for _, no := range []string{`active = false`, `active = true, member_to = current_date - 7`} {
		_, err = pool.Exec(t.Context(), `UPDATE rider SET `+no)
		require.NoError(t, err)
		require.Equal(t, protocol.ReasonRiderNotActive, p.scan(f, "hb-0001", 403).Reason, no)
		var s struct{ Token string }
		p.do(f, "POST", "/api/v1/sessions", map[string]any{"rider_id": p.id, "code": testCode}, 201, &s)
		status, b := p.ask(f, "GET", "/api/v1/riders/me", nil)
		require.Equal(t, 200, status)
		require.Contains(t, string(b), `"active":false`)
		status, _ = p.ask(f, "GET", "/c/hb-0001/history", nil)
		require.Equal(t, 200, status)
	}
}

func TestTwoReplicas(t *testing.T) {
	w := newTown(t)
	both := []*replica{w.start().ready(), w.start().ready()}
	const cabinets, rounds = 4, 5
	done := make(chan struct{}, cabinets)
	for i := range cabinets {
		id := protocol.CabinetID("hb-000" + string(rune('1'+i)))
		a := w.cabinet(id)
		p := w.rider(both[i%2], "r"+string(id))
		go func() {
			defer func() { done <- struct{}{} }()
			a.hello()
			a.ship()
			for n := range rounds {
				if status, b := p.ask(both[(i+n)%2], "POST", "/api/v1/swaps", map[string]any{"cabinet_id": id}); status != 201 {
					t.Errorf("%s: %d %s", id, status, b)
					return
				}
				a.carryOut(<-a.grants)
				a.ship()
				if !closed(p, both[n%2], n+1) {
					t.Errorf("%s: swap %d is not counted", id, n+1)
				}
			}
		}()
	}
	for range cabinets {
		<-done
	}
	for _, r := range w.audited().Riders {
		require.Equal(t, rounds, r.Counted)
		require.Empty(t, r.OpenSwaps)
		require.Len(t, r.Batteries, 1)
	}
	for _, f := range both {
		require.NotEmpty(t, f.metric(`swap_mqtt_messages_total{direction="in",result="ok",type="prepared"}`), "each grants some")
		require.NotEmpty(t, f.metric(`swap_mqtt_messages_total{direction="in",result="ok",type="log"}`), "each records some")
	}
}

func closed(p *handset, f *replica, total int) bool {
	for range 500 {
		if p.me(f).SwapsTotal == total {
			return true
		}
		<-time.After(10 * time.Millisecond)
	}
	return false
}

// TestManyRidersOneCabinet: 100 riders tap twice, at both replicas at once. One of
// the 200 scans is granted; every other is told the true reason (T11).
// TestT11ManyRidersOneCabinet: two hundred scans of one cabinet by a hundred riders,
// each at two replicas at once: one grant, and everybody else is told why not.
func TestT11ManyRidersOneCabinet(t *testing.T) {
	w := newTown(t)
	both := []*replica{w.start().ready(), w.start().ready()}
	a := w.cabinet("hb-0001")
	a.hello()
	a.ship()
	const riders = 100
	type told struct {
		rider  int
		status int
		answer
	}
	phones := make([]*handset, riders)
	for i := range riders {
		phones[i] = w.rider(both[i%2], fmt.Sprintf("r%03d", i))
	}
	answers := make(chan told, 2*riders)
	start := make(chan struct{})
	for i, p := range phones {
		for n, at := range both {
			twin := &handset{t: t, id: p.id, token: p.token, keys: 10 * n}
			go func() {
				<-start
				status, b := twin.ask(at, "POST", "/api/v1/swaps", map[string]any{"cabinet_id": "hb-0001"})
				got := told{rider: i, status: status}
				if err := json.Unmarshal(b, &got.answer); err != nil {
					t.Error(err)
				}
				answers <- got
			}()
		}
	}
	close(start)
	var all []told
	winner := -1
	for range 2 * riders {
		got := receive(t, answers)
		all = append(all, got)
		if got.status == http.StatusCreated {
			require.Equal(t, -1, winner, "two grants")
			winner = got.rider
		}
	}
	require.NotEqual(t, -1, winner, "nobody got a grant")
	for _, got := range all {
		switch {
		case got.status == http.StatusCreated:
		case got.rider == winner:
			require.Contains(t, []protocol.Reason{protocol.ReasonSwapOpen, protocol.ReasonBusy}, got.Reason)
		default:
			require.Equal(t, http.StatusConflict, got.status)
			require.Equal(t, protocol.ReasonBusy, got.Reason, "rider %d", got.rider)
		}
	}
	receive(t, a.grants)
	require.Empty(t, a.grants)
	for i, p := range phones[:3] { // the same question once more, at the other replica
		for n := range both {
			again := &handset{t: t, id: p.id, token: p.token, keys: 10 * n}
			status, b := again.ask(both[1-n], "POST", "/api/v1/swaps", map[string]any{"cabinet_id": "hb-0001"})
			if i != winner {
				require.Equal(t, http.StatusConflict, status, "%s", b)
				require.Contains(t, string(b), `"reason":"busy"`)
			}
		}
	}
	require.Empty(t, a.grants)
	w.audited()
}

func TestSlowClientsHoldNobodyUp(t *testing.T) {
	w := newTown(t)
	f := w.start().ready()
	a := w.cabinet("hb-0001")
	a.hello()
	a.ship()
	p := w.rider(f, "li")
	const slow = 500
	conns := make([]net.Conn, slow)
	for i := range conns {
		c, err := net.Dial("tcp", f.Address())
		require.NoError(t, err)
		defer c.Close()
		_, err = c.Write([]byte("POST /api/v1/swaps HTTP/1.1\r\nHost: x\r\n"))
		require.NoError(t, err)
		conns[i] = c
	}
	began := time.Now()
	p.scan(f, "hb-0001", 201)
	require.Less(t, time.Since(began), 5*time.Second)
	require.NoError(t, conns[0].SetReadDeadline(time.Now().Add(3*readHeaderTimeout)))
	_, err := io.ReadAll(conns[0])
	require.NoError(t, err, "the server hangs up on them")
}

func TestDoubleTapIsOneSwap(t *testing.T) {
	w := newTown(t)
	both := []*replica{w.start().ready(), w.start().ready()}
	a := w.cabinet("hb-0001")
	a.hello()
	a.ship()
	p := w.rider(both[0], "li")
	const taps = 20
	bodies := make(chan []byte, taps)
	for i := range taps {
		q := *p
		q.keys = 1000 // all with one key
		go func() {
			status, b := q.ask(both[i%2], "POST", "/api/v1/swaps", map[string]any{"cabinet_id": "hb-0001"})
			if status != 201 {
				t.Errorf("tap: %d %s", status, b)
			}
			bodies <- b
		}()
	}
	first := decode(t, receive(t, bodies))
	for range taps - 1 {
		require.Equal(t, first.SwapID, decode(t, receive(t, bodies)).SwapID)
	}
	receive(t, a.grants)
	require.Empty(t, a.grants, "one grant, ever")
}

func TestDatabaseAwayAtStartAndLater(t *testing.T) {
	w := newTown(t)
	a := w.cabinet("hb-0001")
	line, through := newWire(t, w.database)
	line.set(true)
	f := w.start(func(o *Options) { o.DatabaseURL = through })
	require.Equal(t, 200, f.status("/healthz"))
	require.Equal(t, 503, f.status("/readyz"))
	require.Eventually(t, func() bool { return strings.Contains(f.log.String(), "database fails; trying again") }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, 503, f.status("/c/hb-0001"))
	require.Equal(t, "0", f.metric("swap_database_up"))

	line.set(false)
	f.ready()
	a.hello()
	a.ship()
	p := w.rider(f, "li")
	p.scan(f, "hb-0001", 201)
	g := receive(t, a.grants)

	line.set(true)
	a.carryOut(g) // the cabinet finishes alone
	m, _ := a.log()
	a.send(protocol.UpLog, m)
	require.Eventually(t, func() bool { return f.status("/readyz") == 503 }, 30*time.Second, 50*time.Millisecond)
	require.Equal(t, 200, f.status("/healthz"))
	require.Empty(t, a.acks, "nothing is acknowledged that is not committed")

	line.set(false)
	f.ready()
	a.ship()
	require.Eventually(t, func() bool { return p.me(f).SwapsTotal == 1 }, 10*time.Second, 10*time.Millisecond)
	w.audited()
	require.Contains(t, f.log.String(), "database works again")
}

func TestBrokerAwayAtStartAndLater(t *testing.T) {
	w := newTown(t)
	w.broker.stop()
	f := w.start()
	require.Equal(t, 200, f.status("/healthz"))
	require.Equal(t, 503, f.status("/readyz"))
	a := w.cabinet("hb-0001")
	p := w.rider(f, "li")
	require.Equal(t, protocol.ReasonCabinetOffline, p.scan(f, "hb-0001", 503).Reason)

	w.broker.start()
	f.ready()
	a.hello()
	a.ship()
	p.scan(f, "hb-0001", 201)
	g := receive(t, a.grants)
	w.broker.stop()
	a.carryOut(g)
	require.Eventually(t, func() bool { return f.status("/readyz") == 503 }, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, "0", f.metric(`swap_mqtt_connected{connection="records"}`))
	w.broker.start()
	f.ready()
	a.ship()
	require.Eventually(t, func() bool { return p.me(f).SwapsTotal == 1 }, 10*time.Second, 10*time.Millisecond)
	w.audited()
}

func TestAnUnenrolledCabinetIsHeardOnceEnrolled(t *testing.T) {
	w := newTown(t)
	f := w.start().ready()
	a := newAgent(t, "hb-0009", w.keys.List.Lookup)
	a.connect(w.broker.url())
	require.Eventually(t, a.client.IsConnectionOpen, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool {
		a.send(protocol.UpRPC, protocol.Hello{Epoch: a.epoch, BootID: a.boot, TailSeq: 1, BootSeq: 1})
		return f.metric(`swap_mqtt_messages_total{direction="in",result="unknown_cabinet",type="unknown"}`) != ""
	}, 10*time.Second, 50*time.Millisecond)
	require.Contains(t, f.log.String(), `"reason":"unknown_cabinet"`)
	require.NoError(t, w.store.EnrolCabinet(t.Context(), postgres.Enrolment{
		CabinetID: "hb-0009", DeviceKey: a.public(), Slots: 12, Station: "s", Street: "s",
	}))
	began := time.Now()
	a.hello()
	require.Less(t, time.Since(began), 10*time.Second, "told, not found by the minute's reading")
}

func TestStopIsCleanAndTwice(t *testing.T) {
	w := newTown(t)
	f := w.start().ready()
	a := w.cabinet("hb-0001")
	a.hello()
	a.ship()
	p := w.rider(f, "li")
	s := p.scan(f, "hb-0001", 201)
	events := listen(t, f, p, s.SwapID)
	began := time.Now()
	f.halt()
	require.Less(t, time.Since(began), 5*time.Second, "an open stream holds nothing up")
	require.NotEmpty(t, receive(t, events))
	http.DefaultClient.CloseIdleConnections()
	w.store.Close() // the goroutines of the test's own
	require.Eventually(t, func() bool { return ourGoroutines() == "" }, 30*time.Second, 20*time.Millisecond, "%s", ourGoroutines())
	f.halt()
	require.ErrorContains(t, f.Start(t.Context()), "started before")

	taken := w.start()
	require.Zero(t, f.status("/healthz"), "nobody answers")
	busy, err := New(Options{
		DatabaseURL: w.database, BrokerURL: w.broker.url(), Keys: w.keys, Listen: taken.Address(), MetricsListen: "127.0.0.1:0", Log: taken.o.Log,
	})
	require.NoError(t, err)
	require.ErrorContains(t, busy.Start(t.Context()), "listen: ")
}

// ourGoroutines are the stacks that run code of this backend or of its client,
// tests left out.
func ourGoroutines() string {
	buf := make([]byte, 4<<20)
	var left []string
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		ours := strings.Contains(stack, "batteryswap/backend/internal/") || strings.Contains(stack, "batteryswap/backend/fleet.(*Fleet)")
		if ours && !strings.Contains(stack, "_test.go") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

func decode(t testing.TB, b []byte) answer {
	t.Helper()
	var a answer
	require.NoError(t, json.Unmarshal(b, &a))
	return a
}

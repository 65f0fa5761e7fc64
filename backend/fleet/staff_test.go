package fleet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/backend/internal/web"
	"batteryswap/protocol"
)

const staffPassword = "a good long password"

// office is a console over a real database, with people of every role.
type office struct {
	*town
	pool     *pgxpool.Pool
	web      *web.Web
	url      string
	secrets  map[string]string // of the app, by login
	recovery map[string][]string
	tokens   map[staff.Role]string
	made     int
}

func newOffice(t testing.TB) *office {
	o := &office{town: newTown(t), secrets: map[string]string{}, recovery: map[string][]string{}, tokens: map[staff.Role]string{}}
	r := o.start()
	handler, err := r.pages(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})
	require.NoError(t, err)
	o.web = handler.(*web.Web)
	o.url = "http://" + r.Address()
	o.pool, err = pgxpool.New(t.Context(), o.database)
	require.NoError(t, err)
	t.Cleanup(o.pool.Close)
	for _, role := range staff.Roles() {
		o.account(string(role), role)
		token := staff.NewToken()
		require.NoError(t, o.store.AddToken(t.Context(), string(role), []staff.Role{role}, staff.HashToken(token), time.Now().Add(time.Hour)))
		o.tokens[role] = token
	}
	return o
}

func (o *office) account(login string, roles ...staff.Role) {
	o.t.Helper()
	h, err := staff.HashPassword(staffPassword)
	require.NoError(o.t, err)
	c := staff.Credentials{PasswordHash: h, Secret: staff.NewSecret()}
	o.secrets[login], o.recovery[login] = c.Secret, staff.NewRecoveryCodes()
	for _, code := range o.recovery[login] {
		c.Recovery = append(c.Recovery, staff.HashRecovery(code))
	}
	require.NoError(o.t, o.store.AddAccount(o.t.Context(), staff.NewAccount{Login: login, Name: login, Roles: roles, Credentials: c}))
}

// session opens one whose last code is as old as said.
func (o *office) session(login string, confirmed time.Duration) *http.Cookie {
	o.t.Helper()
	o.made++
	token := fmt.Sprintf("session-%d", o.made)
	_, err := o.pool.Exec(o.t.Context(), `INSERT INTO staff_session (token_hash, login, address, confirmed_at) VALUES ($1, $2, 'test', now() - $3::interval)`,
		staff.HashToken(token), login, confirmed)
	require.NoError(o.t, err)
	return &http.Cookie{Name: "staff", Value: token}
}

// ask sends one request and follows nothing.
func (o *office) ask(method, path string, form url.Values, with func(*http.Request)) (int, string, http.Header) {
	o.t.Helper()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequestWithContext(o.t.Context(), method, path, body)
	r.Header.Set("Accept-Language", "en")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if with != nil {
		with(r)
	}
	rec := httptest.NewRecorder()
	o.web.ServeHTTP(rec, r)
	return rec.Code, rec.Body.String(), rec.Header()
}

// rows counts everything that an act could add or change.
func (o *office) rows() string {
	o.t.Helper()
	var all string
	require.NoError(o.t, o.pool.QueryRow(o.t.Context(), `SELECT concat_ws(' ', (SELECT count(*) FROM audit_log), (SELECT count(*) FROM ledger), (SELECT sum(config_version) FROM cabinet),
		(SELECT count(*) FROM battery_mark), (SELECT count(*) FROM binding_code), (SELECT count(*) FROM credit), (SELECT count(*) FROM staff_account),
		(SELECT count(*) FROM staff_token WHERE revoked_at IS NULL), (SELECT count(*) FROM fault_report WHERE done_at IS NULL), (SELECT count(*) FROM swap),
		(SELECT count(*) FROM roll_import), (SELECT string_agg(name, ' ') FROM union_body), (SELECT count(*) FROM rider WHERE forgotten_at IS NULL))`).Scan(&all))
	return all
}

// fill puts objects into the places of a route's pattern.
func fill(path string, objects map[string]string) string {
	for name, v := range objects {
		path = strings.ReplaceAll(path, "{"+name+"}", v)
	}
	return strings.ReplaceAll(path, "{$}", "")
}

// TestEveryRouteAndRole (T14, T15, T16, T22): every route of staff, by everybody
// who may not: refused, and nothing has happened. By those who may: there is an
// answer, and none for an object that is not there.
func TestEveryRouteAndRole(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.cabinet("hb-0001")
	o.battery("B-1", swap.Place{})
	rider, err := o.store.AddRider(t.Context(), postgres.NewRider{Name: "Zhang San"})
	require.NoError(t, err)
	known := map[string]string{
		"cabinet_id": "hb-0001", "slot": "3", "swap_id": "01920000-0000-7000-8000-00000000000a", "review_id": "1", "battery_serial": "B-1",
		"rider_id": string(rider), "report_id": "1", "login": "union", "name": "union", "session_id": "0123456789abcdef",
		"import_id": "1", "union_id": "1",
	}
	none := map[string]string{
		"cabinet_id": "hb-9999", "slot": "99", "swap_id": "01920000-0000-7000-8000-0000000000ff", "review_id": "999", "battery_serial": "B-999",
		"rider_id": "0190aaaa-0000-7000-8000-0000000000ff", "report_id": "999", "login": "nobody", "name": "nobody", "session_id": "fedcba9876543210",
		"import_id": "999", "union_id": "999",
	}
	routes := 0
	for _, route := range o.web.Routes() {
		if route.Open || route.Rider {
			continue
		}
		routes++
		api := strings.HasPrefix(route.Path, "/api/")
		for _, objects := range []map[string]string{none, known} {
			path := fill(route.Path, objects)
			what := route.Method + " " + path
			was := o.rows()
			status, _, header := o.ask(route.Method, path, nil, nil)
			if route.Method == http.MethodGet && !api {
				require.Equal(t, http.StatusSeeOther, status, what)
				require.Contains(t, header.Get("Location"), "/staff/sign-in", what)
			} else {
				require.Equal(t, http.StatusUnauthorized, status, what)
			}
			for _, role := range staff.Roles() {
				cookie := o.session(string(role), 0)
				with := func(r *http.Request) {
					r.AddCookie(cookie)
					if api {
						r.Header.Set("Authorization", "Bearer "+o.tokens[role])
					}
				}
				if slices.Contains(route.Roles, role) {
					continue
				}
				status, body, _ := o.ask(route.Method, path, nil, with)
				require.Equal(t, http.StatusForbidden, status, "%s by %s: %s", what, role, body)
			}
			if route.Fresh { // whoever may, but gave the last code long ago, is asked for one
				for _, role := range route.Roles {
					cookie := o.session(string(role), staff.Fresh+time.Minute)
					status, body, _ := o.ask(route.Method, path, nil, func(r *http.Request) { r.AddCookie(cookie) })
					require.Equal(t, http.StatusForbidden, status, what)
					require.Contains(t, body, "confirm_code", what)
				}
			}
			if route.Method == http.MethodPost { // another site's page, in the browser of one who may
				cookie := o.session(string(route.Roles[0]), 0)
				status, _, _ := o.ask(route.Method, path, nil, func(r *http.Request) {
					r.AddCookie(cookie)
					r.Header.Set("Sec-Fetch-Site", "cross-site")
				})
				require.Equal(t, http.StatusForbidden, status, what)
			}
			require.Equal(t, was, o.rows(), "%s was refused, and did something", what)
			o.allowed(route, path, what, objects["cabinet_id"] == "hb-9999")
		}
	}
	require.Greater(t, routes, 50)
}

// allowed asks by everybody who may.
func (o *office) allowed(route web.Route, path, what string, foreign bool) {
	api := strings.HasPrefix(route.Path, "/api/")
	for _, role := range route.Roles {
		cookie := o.session(string(role), 0)
		was := o.rows()
		status, body, _ := o.ask(route.Method, path, nil, func(r *http.Request) {
			if r.AddCookie(cookie); api {
				r.Header.Set("Authorization", "Bearer "+o.tokens[role])
			}
		})
		require.NotContains(o.t, []int{http.StatusUnauthorized, http.StatusForbidden}, status, "%s by %s: %s", what, role, body)
		require.NotEqual(o.t, http.StatusServiceUnavailable, status, "%s by %s: %s", what, role, body)
		require.Less(o.t, status, 504, what)
		require.NotEqual(o.t, http.StatusInternalServerError, status, what)
		if foreign && strings.Contains(route.Path, "{") && !strings.HasSuffix(route.Path, "{$}") {
			require.GreaterOrEqual(o.t, status, 400, "%s by %s: there is no such object", what, role)
		}
		if route.Method == http.MethodGet || foreign && strings.Contains(route.Path, "{") {
			require.Equal(o.t, was, o.rows(), "%s by %s changed something", what, role)
		}
	}
}

// TestRidersObjects (T15): a rider's swap is nobody else's, on any route.
func TestRidersObjects(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.cabinet("hb-0001")
	var sessions []string
	var riders []swap.RiderID
	for _, name := range []string{"Zhang San", "Li Si"} {
		id, err := o.store.AddRider(t.Context(), postgres.NewRider{Name: name})
		require.NoError(t, err)
		serial := protocol.BatterySerial("OWN-" + name[:1])
		o.battery(serial, swap.Place{RiderID: id})
		require.NoError(t, o.store.CreateSession(t.Context(), id, binding.Session{TokenHash: staff.HashToken(name)}))
		sessions, riders = append(sessions, name), append(riders, id)
	}
	require.Eventually(t, func() bool {
		_, err := o.pool.Exec(t.Context(), `UPDATE cabinet_cursor SET epoch = '\x00000000000000000000000000000001' WHERE epoch IS NULL`)
		return err == nil
	}, 10*time.Second, 50*time.Millisecond)
	v, _, no, err := o.store.Request(t.Context(), swap.Scan{RiderID: riders[0], CabinetID: "hb-0001", IdempotencyKey: "k"})
	require.NoError(t, err)
	require.Nil(t, no)
	n := 0
	for _, route := range o.web.Routes() {
		if !route.Rider || !strings.Contains(route.Path, "{swap_id}") {
			continue
		}
		n++
		path := fill(route.Path, map[string]string{"cabinet_id": "hb-0001", "swap_id": string(v.SwapID)})
		for i, want := range []bool{true, false} {
			status, body, _ := o.ask(route.Method, path, nil, func(r *http.Request) {
				ctx, cancel := context.WithTimeout(r.Context(), 500*time.Millisecond)
				t.Cleanup(cancel)
				*r = *r.WithContext(ctx)
				r.Header.Set("Authorization", "Bearer "+sessions[i])
				if strings.HasPrefix(path, "/api/") && route.Method == http.MethodPost {
					r.Header.Set("Content-Type", "application/json")
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader(`{"what":"recheck"}`)), 18
				}
			})
			require.Equal(t, !want, status == http.StatusNotFound, "%s %s: %d %s", route.Method, path, status, body)
		}
	}
	require.GreaterOrEqual(t, n, 6)
}

// TestSignInByThePage (T16): a wrong code, a replayed code, a lost session and a
// code that is asked for again: each is told, and nothing half-done.
func TestSignInByThePage(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.cabinet("hb-0001")
	signIn := func(login, password, code string) (int, string, *http.Cookie) {
		t.Helper()
		status, body, header := o.ask(http.MethodPost, "/staff/sign-in", url.Values{"login": {login}, "password": {password}, "code": {code}, "next": {"/staff/swaps"}}, nil)
		for _, c := range (&http.Response{Header: header}).Cookies() {
			if c.Name == "staff" {
				require.True(t, c.HttpOnly)
				require.Equal(t, http.SameSiteLaxMode, c.SameSite)
				return status, header.Get("Location"), c
			}
		}
		return status, body, nil
	}
	now, err := staff.Code(o.secrets["admin"], time.Now())
	require.NoError(t, err)
	status, body, _ := signIn("admin", "a wrong long password", now)
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, body, "Login, password or code is wrong")
	require.NotContains(t, body, "a wrong long password")
	status, to, cookie := signIn("Admin ", staffPassword, now)
	require.Equal(t, http.StatusSeeOther, status)
	require.Equal(t, "/staff/swaps", to)
	status, _, _ = signIn("admin", staffPassword, now)
	require.Equal(t, http.StatusForbidden, status, "a code works once")

	// What asks for a fresh code is done after it, with what was filled in.
	_, err = o.pool.Exec(t.Context(), `UPDATE staff_session SET confirmed_at = now() - interval '10 minutes'`)
	require.NoError(t, err)
	was := o.rows()
	form := url.Values{"reason": {"burnt down"}, "role": {"union", "operator"}, "login": {"wang"}, "name": {"Wang"}}
	with := func(r *http.Request) { r.AddCookie(cookie) }
	status, body, _ = o.ask(http.MethodPost, "/staff/accounts", form, with)
	require.Equal(t, http.StatusForbidden, status)
	for _, kept := range []string{`name="login" value="wang"`, `name="role" value="union"`, `name="role" value="operator"`} {
		require.Contains(t, body, kept)
	}
	form.Set("confirm_code", "000000")
	status, body, _ = o.ask(http.MethodPost, "/staff/accounts", form, with)
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, body, "Nothing was done.")
	require.NotContains(t, body, "000000")
	require.Equal(t, was, o.rows())
	form.Set("confirm_code", staff.ShowRecovery(o.recovery["admin"][0]))
	status, body, _ = o.ask(http.MethodPost, "/staff/accounts", form, with)
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, "Recovery codes", "of the new account, shown once")
	accounts, err := o.store.Accounts(t.Context())
	require.NoError(t, err)
	require.Len(t, accounts, 1+len(staff.Roles()))

	// A page that refreshes itself keeps no session alive.
	_, err = o.pool.Exec(t.Context(), `UPDATE staff_session SET seen_at = now() - interval '29 minutes'`)
	require.NoError(t, err)
	status, _, _ = o.ask(http.MethodGet, "/staff/cabinets", nil, func(r *http.Request) { r.AddCookie(cookie); r.Header.Set("X-Live", "1") })
	require.Equal(t, http.StatusOK, status)
	_, err = o.pool.Exec(t.Context(), `UPDATE staff_session SET seen_at = seen_at - interval '2 minutes'`)
	require.NoError(t, err)
	was = o.rows()
	status, body, _ = o.ask(http.MethodPost, "/staff/cabinets/hb-0001/slots/3", url.Values{"to": {"out"}, "reason": {"door is bent"}}, with)
	require.Equal(t, http.StatusUnauthorized, status)
	require.Contains(t, body, "Your session has ended")
	require.Contains(t, body, "Nothing was done.")
	require.Equal(t, was, o.rows())
}

// TestSlotOutReachesTheCabinet: by the page, and without a new connection.
func TestSlotOutReachesTheCabinet(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	a := o.cabinet("hb-0001")
	cookie := o.session("operator", 0)
	a.hello()
	a.ship()
	status, _, _ := o.ask(http.MethodPost, "/staff/cabinets/hb-0001/slots/3", url.Values{"to": {"out"}, "reason": {"door is bent"}}, func(r *http.Request) { r.AddCookie(cookie) })
	require.Equal(t, http.StatusSeeOther, status)
	deadline := time.After(20 * time.Second)
	for {
		select {
		case ok := <-a.hellos:
			if slices.Equal(ok.Config.SlotsOut, []int{3}) {
				require.Equal(t, protocol.VerdictResume, ok.Verdict)
				return
			}
		case <-deadline:
			t.Fatal("the cabinet was not told")
		}
	}
}

// TestWhatAsksForAFreshCode (T16): what cannot be undone, gives a person away, or
// makes somebody able to sign in.
func TestWhatAsksForAFreshCode(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	var fresh []string
	for _, r := range o.web.Routes() {
		if r.Fresh {
			require.Equal(t, http.MethodPost, r.Method, r.Path)
			fresh = append(fresh, r.Path)
		}
	}
	for _, path := range []string{
		"/staff/cabinets", "/staff/cabinets/{cabinet_id}/replace", "/staff/cabinets/{cabinet_id}/epoch", "/staff/cabinets/{cabinet_id}/retire",
		"/staff/riders/{rider_id}/reveal", "/staff/riders/{rider_id}/code", "/staff/riders/{rider_id}/credit",
		"/staff/accounts", "/staff/accounts/{login}", "/staff/tokens", "/staff/tokens/{name}/revoke",
		"/staff/me/password", "/staff/me/recovery-codes",
	} {
		require.Contains(t, fresh, path)
	}
}

// TestFaultReports: what a rider reported is listed at the cabinet and by itself;
// of two who deal with it, the second is told who was first.
func TestFaultReports(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.cabinet("hb-0001")
	var id int64
	require.NoError(t, o.pool.QueryRow(t.Context(), `INSERT INTO fault_report (cabinet_id, slot, kind, text) VALUES ('hb-0001', 4, 'door', 'it does <b>not</b> close') RETURNING report_id`).Scan(&id))
	as := func(role staff.Role) func(*http.Request) {
		cookie := o.session(string(role), 0)
		return func(r *http.Request) { r.AddCookie(cookie) }
	}
	for path, want := range map[string]string{
		"/staff/cabinets": "A rider reported a fault", "/staff/cabinets/hb-0001": "fault reports: 1", "/staff/faults": "it does &lt;b&gt;not&lt;/b&gt; close",
	} {
		status, body, _ := o.ask(http.MethodGet, path, nil, as(staff.Maintenance))
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, body, want, path)
	}
	done := fmt.Sprintf("/staff/faults/%d", id)
	status, body, _ := o.ask(http.MethodPost, done, url.Values{"note": {""}}, as(staff.Maintenance))
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Contains(t, body, "Nothing was done.")
	status, _, header := o.ask(http.MethodPost, done, url.Values{"note": {"hinge bent back"}}, as(staff.Maintenance))
	require.Equal(t, http.StatusSeeOther, status)
	require.Equal(t, "/staff/faults?done=fault", header.Get("Location"))
	status, body, _ = o.ask(http.MethodPost, done, url.Values{"note": {"me too"}}, as(staff.Operator))
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, "Somebody dealt with this before you")
	_, body, _ = o.ask(http.MethodGet, "/staff/faults", nil, as(staff.Operator))
	require.Contains(t, body, "hinge bent back · maintenance")
	_, body, _ = o.ask(http.MethodGet, "/staff/cabinets/hb-0001", nil, as(staff.Operator))
	require.NotContains(t, body, "fault reports:")
}

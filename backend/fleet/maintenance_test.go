package fleet

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/staff"
	"batteryswap/protocol"
)

// TestMaintenanceByPageAndAPI: an order goes to the cabinet and its answer is
// granted, whichever replica hears it; who gave it is told how it stands. Without
// the role, or a fresh code, nothing is asked.
func TestMaintenanceByPageAndAPI(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	second := o.start()
	a := o.cabinet("hb-0001")
	a.hello()
	a.ship()
	const path = "/staff/cabinets/hb-0001/maintenance"
	page := func(login string, confirmed time.Duration, form url.Values) (int, string) {
		cookie := o.session(login, confirmed)
		status, body, header := o.ask(http.MethodPost, path, form, func(r *http.Request) { r.AddCookie(cookie) })
		return status, body + header.Get("Location")
	}
	post := func(role staff.Role, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/staff/"+path, bytes.NewBufferString(body))
		r.Header.Set("Authorization", "Bearer "+o.tokens[role])
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		o.web.ServeHTTP(rec, r)
		return rec
	}
	api := func(role staff.Role, body string) (int, staff.Order) {
		rec := post(role, "cabinets/hb-0001/maintenance", body)
		var order staff.Order
		_ = json.NewDecoder(rec.Body).Decode(&order) // a problem is none
		return rec.Code, order
	}
	begin := url.Values{"what": {"begin"}}
	for _, login := range []string{"operator", "union", "admin"} {
		status, _ := page(login, 0, begin)
		require.Equal(t, http.StatusForbidden, status, login)
		status, _ = api(staff.Role(login), `{"what":"begin"}`)
		require.Equal(t, http.StatusForbidden, status, login)
	}
	status, body := page("maintenance", staff.Fresh+time.Second, begin)
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, body, "confirm_code")

	a.refuse = protocol.ReasonKeyNotTurned
	status, body = page("maintenance", 0, begin)
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, "The key switch inside the cabinet is not turned.")
	status, order := api(staff.Maintenance, `{"what":"open","slot":4}`)
	require.Equal(t, http.StatusCreated, status)
	require.Equal(t, protocol.ReasonKeyNotTurned, order.Reason)
	status, _ = api(staff.Maintenance, `{"what":"open","slot":48}`)
	require.Equal(t, http.StatusConflict, status, "no such slot")
	status, _ = api(staff.Maintenance, `{"what":"open"}`)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Empty(t, a.orders)

	a.refuse = ""
	carried := make(chan struct{})
	go func() {
		defer close(carried)
		g := <-a.orders
		a.write(protocol.Maintenance{MaintenanceID: g.OrderID, OrderID: g.OrderID, What: g.What})
		a.ship()
	}()
	begin.Set("key", "of-this-page")
	status, body = page("maintenance", 0, begin)
	<-carried
	require.Equal(t, http.StatusSeeOther, status)
	require.Contains(t, body, "done=maintenance_begin")
	status, body = page("maintenance", 0, begin)
	require.Equal(t, http.StatusSeeOther, status, "a second tap, or the form once more: %s", body)
	require.Contains(t, body, "done=maintenance_begin")
	_, html, _ := o.ask(http.MethodGet, "/staff/cabinets/hb-0001", nil, func(r *http.Request) { r.AddCookie(o.session("maintenance", 0)) })
	keys := regexp.MustCompile(`name="key" value="([A-Z2-7]{26})"`).FindAllStringSubmatch(html, -1)
	require.Len(t, keys, 2, "to open and to end; each page has its own")
	require.NotEqual(t, keys[0][1], keys[1][1])
	d, err := second.store.CabinetDetail(t.Context(), "hb-0001")
	require.NoError(t, err)
	require.Equal(t, "maintenance", d.Maintenance.By)

	a.mute = true
	status, body = page("maintenance", 0, url.Values{"what": {"end"}})
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, "did not answer")
	require.Empty(t, o.audited().Differences)

	// What else machines do to one cabinet, or one battery.
	out := `{"out":true,"reason":"the door is bent"}`
	require.Equal(t, http.StatusNoContent, post(staff.Operator, "cabinets/hb-0001/slots/3", out).Code)
	require.Equal(t, http.StatusNoContent, post(staff.Operator, "cabinets/hb-0001/service", out).Code)
	require.Equal(t, http.StatusNoContent, post(staff.Operator, "batteries/"+string(serialAt("hb-0001", 7))+"/marks", `{"mark":"flagged","on":true,"reason":"looks swollen"}`).Code)
}

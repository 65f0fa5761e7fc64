package fleet

import (
	"context"
	"encoding/csv"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres/pgtest"
	"batteryswap/backend/internal/staff"
)

// idle is a browser that takes nothing until it is told to.
type idle struct {
	*httptest.ResponseRecorder
	began, run chan struct{}
}

func (i idle) Write(b []byte) (int, error) {
	select {
	case i.began <- struct{}{}:
	default:
	}
	<-i.run
	return i.ResponseRecorder.Write(b)
}

// TestExportsOfManyRiders: an export by rider has all of them by their masked names;
// and a browser that takes its time holds no transaction open.
func TestExportsOfManyRiders(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	require.NoError(t, pgtest.FillFigures(t.Context(), o.database, pgtest.Fill{Swaps: 2000, Riders: 250, Cabinets: 2, Days: 5, Last: "2026-03-14"}))
	o.account("chief", staff.Union, staff.Personal)
	form := url.Values{"from": {"2026-03-10"}, "to": {"2026-03-14"}, "by": {"rider"}, "what": {"figure"}, "format": {"csv"}, "reason": {"court order 7"}}
	status, body, _ := o.export("chief", 0, form)
	require.Equal(t, http.StatusOK, status, body)
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(body, "\ufeff"))).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 1+250+3)
	for _, row := range rows[1:251] {
		require.Contains(t, row[0], "骑** …", row)
	}
	_, body = o.get("chief", "/staff/statistics?by=rider&from=2026-03-10&to=2026-03-14")
	require.GreaterOrEqual(t, strings.Count(body, "骑** …"), 250)

	form.Set("what", "takes")
	cookie := o.session("chief", 0)
	slow := idle{httptest.NewRecorder(), make(chan struct{}, 1), make(chan struct{})}
	done := make(chan struct{})
	go func() {
		r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/staff/statistics/export", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.AddCookie(cookie)
		o.web.ServeHTTP(slow, r)
		close(done)
	}()
	<-slow.began
	var open int
	require.NoError(t, o.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`).Scan(&open))
	require.Zero(t, open)
	close(slow.run)
	<-done
	require.Equal(t, 2001, strings.Count(slow.Body.String(), "\r\n"))
}

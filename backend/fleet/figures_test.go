package fleet

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres/pgtest"
	"batteryswap/backend/internal/spreadsheet"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
)

// newBureau is an office with a month of figures: 2,425 swaps in 38 days.
func newBureau(t *testing.T) *office {
	o := newOffice(t)
	require.NoError(t, pgtest.FillFigures(t.Context(), o.database, pgtest.Fill{Swaps: 2425, Riders: 60, Cabinets: 4, Days: 38, Last: "2026-03-14"}))
	o.account("chief", staff.Union, staff.Personal)
	return o
}

const pilotRange = "from=2026-02-05&to=2026-03-14"

// pilotMonths are the whole months around it.
const pilotMonths = "from=2026-02-01&to=2026-03-31"

func (o *office) get(login, path string) (int, string) {
	o.t.Helper()
	cookie := o.session(login, 0)
	status, body, _ := o.ask(http.MethodGet, path, nil, func(r *http.Request) { r.AddCookie(cookie) })
	return status, body
}

// figureReply is what the API says.
type figureReply struct {
	AsOf   int64 `json:"as_of"`
	Swaps  int
	PerDay int `json:"per_day"`
	Days   int
	Later  int `json:"later_swaps"`
	Riders *int
	Groups []struct {
		Key    string
		Swaps  *int
		Riders *int
		Hidden bool
	}
}

func (o *office) figure(role staff.Role, query string) (int, figureReply) {
	o.t.Helper()
	status, body, _ := o.ask(http.MethodGet, "/api/v1/statistics/swaps?"+query, nil, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+o.tokens[role]) })
	var f figureReply
	require.NoError(o.t, json.Unmarshal([]byte(body), &f), body)
	return status, f
}

func (o *office) export(login string, confirmed time.Duration, form url.Values) (int, string, http.Header) {
	o.t.Helper()
	cookie := o.session(login, confirmed)
	return o.ask(http.MethodPost, "/staff/statistics/export", form, func(r *http.Request) { r.AddCookie(cookie) })
}

// lines counts lines of the audit log of an act.
func (o *office) lines(act string) (n int, last string) {
	o.t.Helper()
	require.NoError(o.t, o.pool.QueryRow(o.t.Context(), `SELECT count(*), coalesce(max(body), '') FROM audit_log WHERE body::jsonb ->> 'act' = $1`, act).Scan(&n, &last))
	return n, last
}

// TestEverySourceSaysTheSame: page, API, xlsx and CSV.
func TestEverySourceSaysTheSame(t *testing.T) {
	t.Parallel()
	o := newBureau(t)
	status, body := o.get("union", "/staff/statistics?"+pilotRange)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "2,425 swaps in all, 64 a day")
	_, body = o.get("union", "/staff/statistics?lang=zh&"+pilotRange)
	require.Contains(t, body, "累计换电 2,425 次，日均 64 次")
	for _, by := range statistics.Dimensions() {
		for _, role := range []staff.Role{staff.Union, staff.Operator, staff.Admin} {
			if status, f := o.figure(role, pilotRange+"&by="+string(by)); by.ByPeople() {
				require.Equal(t, http.StatusUnprocessableEntity, status, "without the permission by whole months only")
				require.Empty(t, f.Groups)
			}
			asked := pilotRange
			if by.ByPeople() {
				asked = pilotMonths
			}
			status, f := o.figure(role, asked+"&by="+string(by))
			if by == statistics.ByRider {
				require.Equal(t, http.StatusForbidden, status)
				continue
			}
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, 2425, f.Swaps, by)
			require.Equal(t, statistics.PerDay(2425, f.Days), f.PerDay)
			sum := 0
			for _, g := range f.Groups {
				if g.Swaps != nil && !strings.Contains(g.Key, "/") || by == statistics.ByHour {
					sum += *g.Swaps
				}
			}
			if by != statistics.Total {
				require.Equal(t, 2425, sum, by)
			}
		}
	}
	form := url.Values{"from": {"2026-02-05"}, "to": {"2026-03-14"}, "what": {"takes"}, "format": {"csv"}}
	status, body, header := o.export("union", 0, form)
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, header.Get("Content-Disposition"), `filename*=UTF-8''Swaps%202026-02-05%202026-03-14.csv`)
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(body, "\ufeff"))).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 2426)
	form.Set("format", "xlsx")
	_, body, header = o.export("union", 0, form)
	require.Equal(t, spreadsheet.XLSX.ContentType(), header.Get("Content-Type"))
	rows, err = spreadsheet.Rows([]byte(body), 5000)
	require.NoError(t, err)
	require.Len(t, rows, 2426)
	form.Set("what", "figure")
	form.Set("by", "street")
	_, body, _ = o.export("union", 0, form)
	rows, err = spreadsheet.Rows([]byte(body), 5000)
	require.NoError(t, err)
	require.Contains(t, rows, []string{"Total", "", "2425", "", "2026-02-05–2026-03-14"})
	n, last := o.lines("export")
	require.Equal(t, 3, n, "each is written down")
	require.Contains(t, last, `"format"`)
}

// TestUnionSeesNobody (T21, T22): whatever a union member asks for, there is no
// phone number, no rider, and no group of fewer than ten riders, in any range, also
// not by subtraction of what is shown.
func TestUnionSeesNobody(t *testing.T) {
	t.Parallel()
	o := newBureau(t)
	// A branch with four riders, and a platform with six.
	_, err := o.pool.Exec(t.Context(), `SET session_replication_role = replica; UPDATE counted_rider SET union_path = '{1,2,999}' WHERE counted_rider_id <= 4;
		UPDATE counted_rider SET platform = '闪电' WHERE counted_rider_id BETWEEN 5 AND 10; SET session_replication_role = DEFAULT`)
	require.NoError(t, err)
	for _, by := range []string{"union", "platform"} {
		status, f := o.figure(staff.Union, pilotMonths+"&by="+by)
		require.Equal(t, http.StatusOK, status)
		require.Nil(t, f.Riders, "less those of one month it is who is new in the other")
		status, f = o.figure(staff.Union, "from=2026-02-01&to=2026-02-28&by="+by)
		require.Equal(t, http.StatusOK, status)
		siblings := map[string][]int{} // by parent: shown, hidden
		hidden := map[string]bool{}
		for _, g := range f.Groups {
			parent := ""
			if i := strings.LastIndexByte(g.Key, '/'); i >= 0 {
				parent = g.Key[:i]
			}
			if siblings[parent] == nil {
				siblings[parent] = []int{0, 0}
			}
			if hidden[g.Key] = g.Hidden; g.Hidden {
				require.Nil(t, g.Swaps)
				require.Nil(t, g.Riders)
				siblings[parent][1]++
			} else {
				require.GreaterOrEqual(t, *g.Riders, statistics.Least)
				siblings[parent][0]++
			}
		}
		for parent, n := range siblings {
			if hidden[parent] && parent != "" || n[0]+n[1] == 1 {
				continue // there is nothing to subtract from
			}
			require.NotEqual(t, 1, n[1], "%s below %q: one alone is a subtraction", by, parent)
		}
		if by == "union" {
			require.True(t, hidden["1/2/999"])
		} else {
			require.True(t, hidden["闪电"])
		}
	}
	phone := regexp.MustCompile(`1[3-9]\d{9}`)
	for _, path := range []string{"?" + pilotRange, "?by=union&compare=yes&" + pilotMonths, "?by=platform&" + pilotMonths, "?by=cabinet&" + pilotRange, "/report?month=2026-02"} {
		status, body := o.get("union", "/staff/statistics"+path)
		require.Equal(t, http.StatusOK, status, path)
		require.NotRegexp(t, phone, regexp.MustCompile(`<svg.*?</svg>`).ReplaceAllString(body, ""))
		require.NotContains(t, body, "0190aaaa-", "a rider")
		require.NotContains(t, body, "by=rider")
	}
	cookie := o.session("union", 0)
	status, body, header := o.ask(http.MethodGet, "/staff/statistics?by=union&as_of=7&"+pilotRange, nil, func(r *http.Request) { r.AddCookie(cookie) })
	require.Equal(t, http.StatusSeeOther, status, body)
	require.Equal(t, "/staff/statistics?by=union&"+pilotMonths, header.Get("Location"), "whole months, as of now")
	_, body = o.get("union", "/staff/statistics?"+pilotRange)
	require.Contains(t, body, "by=union&amp;"+strings.ReplaceAll(pilotMonths, "&", "&amp;"), "where the tab leads")
	status, body = o.get("union", "/staff/statistics?by=rider&"+pilotRange)
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, body, "An admin has to give you the permission first")
}

// TestPersonalExports: only with the permission, a reason and a fresh code, and
// each is in the log.
func TestPersonalExports(t *testing.T) {
	t.Parallel()
	o := newBureau(t)
	form := url.Values{"from": {"2026-03-14"}, "to": {"2026-03-14"}, "what": {"takes"}, "format": {"csv"}, "personal": {"yes"}, "reason": {"court order 7"}}
	was := o.rows()
	status, body, _ := o.export("union", 0, form)
	require.Equal(t, http.StatusForbidden, status)
	require.NotContains(t, body, "骑手")
	status, body, _ = o.export("chief", time.Hour, form)
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, body, "confirm_code")
	form.Del("reason")
	status, _, _ = o.export("chief", 0, form)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Equal(t, was, o.rows(), "nothing has happened")
	form.Set("reason", "court order 7")
	status, body, _ = o.export("chief", 0, form)
	require.Equal(t, http.StatusOK, status)
	rows, err := csv.NewReader(bytes.NewReader([]byte(body)[3:])).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows[0], 13)
	require.Contains(t, rows[1][8], "骑手")
	n, last := o.lines("export")
	require.Equal(t, 1, n)
	require.Contains(t, last, "court order 7")
	require.Contains(t, last, `"actor": "chief"`)
	form.Del("personal")
	_, body, _ = o.export("chief", 0, form)
	require.NotContains(t, body, "骑手", "not asked for")
	status, body = o.get("chief", "/staff/statistics?by=rider&"+pilotRange)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "骑**")
	require.NotRegexp(t, `骑手\d`, body)
}

// TestPublishedStays: a figure that was published says the same when more has been
// counted, and shows how much.
func TestPublishedStays(t *testing.T) {
	t.Parallel()
	o := newBureau(t)
	cookie := o.session("union", 0)
	with := func(r *http.Request) { r.AddCookie(cookie) }
	form := url.Values{"from": {"2026-02-05"}, "to": {"2026-03-14"}, "as_of": {"2425"}, "name": {"The newspaper's"}}
	status, _, header := o.ask(http.MethodPost, "/staff/statistics/publish", form, with)
	require.Equal(t, http.StatusSeeOther, status)
	require.Contains(t, header.Get("Location"), "as_of=2425")
	status, body, _ := o.ask(http.MethodPost, "/staff/statistics/publish", form, with)
	require.Equal(t, http.StatusConflict, status, "a name is given once")
	require.Contains(t, body, "newspaper")
	form.Set("as_of", "99999")
	form.Set("name", "x")
	status, body, _ = o.ask(http.MethodPost, "/staff/statistics/publish", form, with)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Contains(t, body, "where the ledger is now")
	_, err := o.pool.Exec(t.Context(), `INSERT INTO counted_take SELECT day, position + 2425, at, swap_id, counted_cabinet_id, counted_rider_id, owed FROM counted_take WHERE position IN (7, 900, 2425);
		UPDATE hour_count SET swaps = swaps + 1 FROM counted_take t WHERE t.position > 2425 AND hour_count.day = t.day AND hour = extract(hour FROM at AT TIME ZONE 'Asia/Shanghai');
		SELECT setval('ledger_position_seq', 4850)`)
	require.NoError(t, err)
	_, now := o.figure(staff.Union, pilotRange)
	require.Equal(t, 2428, now.Swaps)
	require.Zero(t, now.Later)
	_, then := o.figure(staff.Union, pilotRange+"&as_of=2425")
	require.Equal(t, []int{2425, 64, 3}, []int{then.Swaps, then.PerDay, then.Later})
	_, body = o.get("union", "/staff/statistics?as_of=2425&"+pilotRange)
	require.Contains(t, body, "&#43;3 since")
	require.Contains(t, body, "The newspaper&#39;s")
	_, err = o.pool.Exec(t.Context(), `UPDATE published_figure SET swaps = 1`)
	require.Error(t, err)
	n, _ := o.lines("figure.publish")
	require.Equal(t, 1, n)
}

// TestAuditOnDemand: staff ask, a replica does it, the page shows it; who asks again too
// soon is told when to.
func TestAuditOnDemand(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	done := func() bool {
		a, err := o.store.Audited(t.Context())
		return err == nil && a.WantedAt.IsZero() && !a.BeganAt.IsZero()
	}
	require.Eventually(t, done, time.Minute, 200*time.Millisecond, "one at the start")
	ask := func(language string) (int, string, http.Header) {
		cookie := o.session("operator", 0)
		return o.ask(http.MethodPost, "/staff/statistics/audit", url.Values{"from": {"2026-03-01"}, "to": {"2026-03-14"}}, func(r *http.Request) {
			r.AddCookie(cookie)
			r.Header.Set("Accept-Language", language)
		})
	}
	var began time.Time
	require.NoError(t, o.pool.QueryRow(t.Context(), `SELECT began_at FROM audit_run`).Scan(&began))
	for language, text := range map[string]string{"en": "less than ten minutes ago", "zh": "不到十分钟前"} {
		status, body, header := ask(language)
		require.Equal(t, http.StatusTooManyRequests, status)
		require.Contains(t, body, text)
		require.Contains(t, body, began.Add(10*time.Minute).In(time.FixedZone("", 8*60*60)).Format("2006-01-02 15:04:05"))
		require.Contains(t, body, "/staff/statistics?from=2026-03-01&amp;to=2026-03-14", "the way back")
		wait, err := strconv.Atoi(header.Get("Retry-After"))
		require.NoError(t, err)
		require.InDelta(t, 600, wait, 60)
	}
	_, err := o.pool.Exec(t.Context(), `UPDATE audit_run SET began_at = began_at - interval '601 s'`)
	require.NoError(t, err)
	status, _, _ := ask("en")
	require.Equal(t, http.StatusSeeOther, status)
	status, _, _ = ask("en")
	require.Equal(t, http.StatusTooManyRequests, status, "one is wanted, or was just made")
	require.Eventually(t, done, time.Minute, 200*time.Millisecond)
	_, body := o.get("operator", "/staff/statistics")
	require.Contains(t, body, fmt.Sprintf("%d swaps, 0 records examined, 0 differences", 0))
}

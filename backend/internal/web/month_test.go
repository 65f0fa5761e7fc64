package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/statistics"
)

func rangeOf(t *testing.T, from, to string) statistics.Range {
	t.Helper()
	r, err := statistics.ParseRange(from, to)
	require.NoError(t, err)
	return r
}

// monthOffice counts ten swaps a day, and each day of April 2026 as twelve.
type monthOffice struct{ takesOffice }

func (*monthOffice) Figure(_ context.Context, q statistics.Question) (statistics.Figure, error) {
	f := statistics.Figure{Question: q}
	f.AsOf = 7
	for d := q.From; d <= q.To; d++ {
		f.Swaps += 10
		if strings.HasPrefix(d.String(), "2026-04") {
			f.Swaps += 2
		}
	}
	f.PerDay = statistics.PerDay(f.Swaps, f.Days())
	return f, nil
}

func (*monthOffice) MonthReport(context.Context, statistics.Day) (statistics.Month, error) {
	return statistics.Month{}, nil
}

func (*monthOffice) Audited(context.Context) (statistics.Audit, error) {
	return statistics.Audit{}, nil
}

// TestMonthsAreComparedDayForDay: a month that is not over with the same days of the
// one before, which may be shorter; a whole one with the whole one before.
func TestMonthsAreComparedDayForDay(t *testing.T) {
	t.Parallel()
	w := (&takesOffice{}).web(t)
	w.o.Staff = &monthOffice{}
	for _, x := range []struct{ month, today, from, to, change string }{
		{"2026-04-01", "2026-04-10", "2026-03-01", "2026-03-10", "+20.0 %"},
		{"2026-04-01", "2026-04-01", "2026-03-01", "2026-03-01", "+20.0 %"},
		{"2026-04-01", "2026-04-30", "2026-03-01", "2026-03-30", "+20.0 %"},
		{"2026-04-01", "2026-05-01", "2026-03-01", "2026-03-31", "+16.1 %"},
		{"2026-03-01", "2026-03-31", "2026-02-01", "2026-02-28", "+10.7 %"},
		{"2026-03-01", "2026-03-28", "2026-02-01", "2026-02-28", "+0.0 %"},
		{"2026-02-01", "2026-02-28", "2026-01-01", "2026-01-28", "+0.0 %"},
		{"2026-01-01", "2026-01-31", "2025-12-01", "2025-12-31", "+0.0 %"},
	} {
		month, now := rangeOf(t, x.month, x.today), rangeOf(t, x.today, x.today).From
		month.To = month.From.NextMonth() - 1
		p, err := w.monthOf(t.Context(), w.console.texts["en"], month, now)
		require.NoError(t, err)
		require.Equal(t, rangeOf(t, x.from, x.to), p.Before.Range, "%s on %s", x.month, x.today)
		require.Equal(t, x.change, p.Change, "%s on %s", x.month, x.today)
		require.Equal(t, int64(7), p.Before.AsOf)
		require.Equal(t, month.To < now, p.Next != "")
		days := x.from
		if x.to != x.from {
			days += " – " + x.to
		}
		for language, texts := range map[string][2]string{
			"en": {"the same days of the month before, " + days + ":", "the whole month before, " + days + ":"},
			"zh": {"上月同期 " + days + " 比较", "上月全月 " + days + " 比较"},
		} {
			rec := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/staff/statistics/report", nil)
			r.Header.Set("Accept-Language", language)
			w.show(rec, r, http.StatusOK, "month", p)
			said := texts[0]
			if month.To < now {
				said = texts[1]
			}
			require.Contains(t, rec.Body.String(), said)
		}
	}
	rec := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/staff/statistics/report?month=2999-01", nil)
	r.AddCookie(&http.Cookie{Name: "staff", Value: "x"})
	r.Header.Set("Accept-Language", "en")
	w.ServeHTTP(rec, r)
	require.Equal(t, http.StatusUnprocessableEntity, rec.Code)
	require.Contains(t, rec.Body.String(), "month: 2999-01 has not begun, want at most 20")
}

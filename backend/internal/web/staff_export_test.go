package web

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/spreadsheet"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
)

// books of takes: one after the other, as many as are wanted.
type takesOffice struct {
	Staff
	rows  int
	meant func(row int) error // what happens at a row
}

func (o *takesOffice) StaffSession(context.Context, []byte, bool) (staff.Session, error) {
	return staff.Session{Actor: staff.Actor{Login: "chief", Roles: []staff.Role{staff.Union, staff.Personal}}, ConfirmedAt: time.Now()}, nil
}

func (o *takesOffice) ExportTakes(ctx context.Context, e statistics.Export, each func(statistics.Take) error) error {
	for i := range o.rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		if o.meant != nil {
			if err := o.meant(i); err != nil {
				return fmt.Errorf("export: %w", err)
			}
		}
		x := statistics.Take{
			Position: int64(i), Day: e.From, At: e.From.Begins(), SwapID: "01920000-0000-7000-8000-00000000000a", CabinetID: "hb-0001", Street: "文一西路",
			RiderID: "0190aaaa-0000-7000-8000-000000000001", Name: strings.Repeat("李雷", 1000), Phone: "13800000000", MembershipNo: "00123", Union: "1/3", Platform: "闪电",
		}
		if err := each(x); err != nil {
			return err
		}
	}
	return nil
}

func (o *takesOffice) web(t *testing.T) *Web {
	t.Helper()
	u, err := url.Parse("http://127.0.0.1")
	require.NoError(t, err)
	w, err := New(Options{
		Books: newFakeBooks(), Staff: o, PublicURL: u, Observe: func(string, string, int, time.Duration) {}, Scanned: func(string, time.Duration) {},
		Version: "test", Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	return w
}

// exports posts the form of an export.
func exports(ctx context.Context, w *Web, rw http.ResponseWriter, format string, headers ...string) {
	form := url.Values{"from": {"2026-03-01"}, "to": {"2026-03-02"}, "what": {"takes"}, "format": {format}, "personal": {"yes"}, "reason": {"a test"}}
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, exportPath, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept-Language", "en")
	r.AddCookie(&http.Cookie{Name: "staff", Value: "x"})
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w.ServeHTTP(rw, r)
}

// files are what has a name in a folder and holds something.
func files(t *testing.T, folder string) (out []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != folder {
			out = append(out, path)
		}
		return err
	}))
	return out
}

// gone is a browser that breaks off.
type gone struct{ *httptest.ResponseRecorder }

func (g gone) Write(b []byte) (int, error) {
	if g.Body.Len() > 0 {
		return 0, errors.New("broken pipe")
	}
	return g.ResponseRecorder.Write(b)
}

// TestExportsLeaveNothingBehind: whatever happens to an export, no file of it stays, and
// while it is made none with people in it has a name. What fails before it is whole is
// a page. The rows are too many for a workbook in memory.
func TestExportsLeaveNothingBehind(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	o := &takesOffice{rows: 4096}
	w := o.web(t)
	for _, format := range []string{"csv", "xlsx"} {
		o.meant = func(row int) error {
			if row == o.rows-1 {
				for _, f := range files(t, folder) {
					require.DirExists(t, f)
				}
			}
			return nil
		}
		rec := httptest.NewRecorder()
		exports(t.Context(), w, rec, format)
		require.Equal(t, http.StatusOK, rec.Code, rec.Body.String()[:min(rec.Body.Len(), 500)])
		require.Equal(t, strconv.Itoa(rec.Body.Len()), rec.Header().Get("Content-Length"))
		require.Empty(t, files(t, folder))

		o.meant = func(row int) error {
			if row == o.rows-1 {
				return errors.New("the database is gone")
			}
			return nil
		}
		rec = httptest.NewRecorder()
		exports(t.Context(), w, rec, format)
		require.Equal(t, http.StatusServiceUnavailable, rec.Code)
		require.Contains(t, rec.Body.String(), "Nothing was done")
		require.Empty(t, rec.Header().Get("Content-Disposition"))
		require.Empty(t, files(t, folder))

		ctx, cancel := context.WithCancel(t.Context())
		o.meant = func(row int) error {
			if row == o.rows-2 {
				cancel()
			}
			return nil
		}
		exports(ctx, w, httptest.NewRecorder(), format)
		require.Error(t, ctx.Err())
		require.Empty(t, files(t, folder))

		o.meant = nil
		rec = httptest.NewRecorder()
		require.PanicsWithValue(t, http.ErrAbortHandler, func() { exports(t.Context(), w, gone{rec}, format) }, "the browser must not take it for whole")
		require.Equal(t, http.StatusOK, rec.Code)
		require.Empty(t, files(t, folder))
	}
}

// TestExportWithoutSpace: who asks is told, in words and as a problem.
func TestExportWithoutSpace(t *testing.T) {
	t.Parallel()
	o := &takesOffice{rows: 1, meant: func(int) error { return &fs.PathError{Op: "write", Path: "/tmp/x", Err: syscall.ENOSPC} }}
	w := o.web(t)
	rec := httptest.NewRecorder()
	exports(t.Context(), w, rec, "csv")
	require.Equal(t, http.StatusInsufficientStorage, rec.Code)
	require.Contains(t, rec.Body.String(), "no space left")
	require.NotContains(t, rec.Body.String(), "/tmp/x")
	rec = httptest.NewRecorder()
	exports(t.Context(), w, rec, "csv", "Accept-Language", "zh")
	require.Contains(t, rec.Body.String(), "没有足够空间")
	rec = httptest.NewRecorder()
	exports(t.Context(), w, rec, "csv", "Accept", "application/json")
	require.Equal(t, "application/problem+json", rec.Header().Get("Content-Type"))
	require.Contains(t, rec.Body.String(), "urn:batteryswap:problem:no-space")
}

// slow is a browser that takes nothing until it is told to.
type slow struct {
	*httptest.ResponseRecorder
	began chan struct{}
	run   chan struct{}
}

func (s slow) Write(b []byte) (int, error) {
	select {
	case s.began <- struct{}{}:
	default:
	}
	<-s.run
	return s.ResponseRecorder.Write(b)
}

// TestTwoExportsAtOnce: a third is told to come back.
func TestTwoExportsAtOnce(t *testing.T) {
	t.Parallel()
	o := &takesOffice{rows: 10}
	w := o.web(t)
	run, done := make(chan struct{}), make(chan string)
	for range maxExports {
		s := slow{httptest.NewRecorder(), make(chan struct{}, 1), run}
		go func() {
			exports(context.Background(), w, s, "csv")
			done <- s.Body.String()
		}()
		<-s.began
	}
	for language, text := range map[string]string{"en": "Please try again in a few minutes", "zh": "请过几分钟再试"} {
		rec := httptest.NewRecorder()
		exports(t.Context(), w, rec, "csv", "Accept-Language", language)
		require.Equal(t, http.StatusServiceUnavailable, rec.Code)
		require.Contains(t, rec.Body.String(), text)
		require.NotEmpty(t, rec.Header().Get("Retry-After"))
	}
	rec := httptest.NewRecorder()
	exports(t.Context(), w, rec, "csv", "Accept", "application/json")
	require.Equal(t, "application/problem+json", rec.Header().Get("Content-Type"))
	require.Contains(t, rec.Body.String(), "too-many-exports")
	require.NotEmpty(t, rec.Header().Get("Retry-After"))
	close(run)
	for range maxExports {
		rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(<-done, "\ufeff"))).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 11)
	}
	rec = httptest.NewRecorder()
	exports(t.Context(), w, rec, "xlsx")
	require.Equal(t, http.StatusOK, rec.Code)
	rows, err := spreadsheet.Rows(rec.Body.Bytes(), 20)
	require.NoError(t, err)
	require.Equal(t, []string{"00123", "1/3"}, rows[1][10:12])
	require.True(t, bytes.HasPrefix(rec.Body.Bytes(), []byte("PK")))
}

package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
)

// Figures are what the union's statistics need.
type Figures interface {
	// Figure answers a question: the same for ever, as of the same position.
	Figure(context.Context, statistics.Question) (statistics.Figure, error)
	FirstDay(context.Context) (statistics.Day, bool, error)
	MonthReport(ctx context.Context, month statistics.Day) (statistics.Month, error)
	Publish(ctx context.Context, name string, q statistics.Question) error
	PublishedFigures(context.Context) ([]statistics.Published, error)
	Audited(context.Context) (statistics.Audit, error)
	AskAudit(context.Context) error
	// NoteExport writes down who takes figures along, ExportTakes does that too and
	// then gives take by take.
	NoteExport(ctx context.Context, e statistics.Export, what string) error
	ExportTakes(ctx context.Context, e statistics.Export, each func(statistics.Take) error) error
}

const statisticsPath = "/staff/statistics"

// figureReaders may see the union's figures.
var figureReaders = []staff.Role{staff.Union, staff.Operator, staff.Admin}

func (w *Web) registerStatistics(mux *http.ServeMux) {
	w.handle(mux, "GET "+statisticsPath, only(figureReaders...), w.pageStatistics)
	w.handle(mux, "GET "+statisticsPath+"/report", only(figureReaders...), w.pageMonth)
	w.handle(mux, "POST "+statisticsPath+"/publish", only(figureReaders...), w.postPublish)
	w.handle(mux, "POST "+statisticsPath+"/audit", only(figureReaders...), w.postAskAudit)
	w.handle(mux, "POST "+exportPath, only(figureReaders...).freshly(), w.postExport)
}

// link is one of several views.
type link struct {
	Text, Path string
	Here       bool
}

// figureRow is a line of the table under a chart.
type figureRow struct {
	statistics.Group
	Label  string
	Link   string
	PerDay int
	// Before is the same group in the range before; nil: not compared, or hidden.
	Before *int
	Share  string // of all, in percent
}

type statisticsPage struct {
	statistics.Figure
	Before  *statistics.Figure // of the range before, where it is compared
	Change  string             // from the one to the other, in percent
	Presets []link
	Tabs    []link
	Chart   chart
	Rows    []figureRow
	Rest    int // rows that are not shown
	Audit   statistics.Audit
	Quoted  []statistics.Published
	Day     bool // the range is one day
	// Now is the same question as of now, Fixed as of this figure's position.
	Now, Fixed string
	Personal   bool
	Months     bool // it is told of closed months only
	Query      url.Values
}

// maxRows bounds a table that people read.
const maxRows = 400

func (w *Web) pageStatistics(rw http.ResponseWriter, r *http.Request) {
	q, err := w.questionOf(r)
	if err != nil {
		w.staffFailed(rw, r, staff.AsMistake(err))
		return
	}
	p := statisticsPage{Query: r.URL.Query(), Personal: staffSession(r).Has(staff.Personal), Day: q.Days() == 1}
	p.Months = q.By.ByPeople() && !p.Personal
	if c := q.Closed(time.Now()); p.Months && c != q.Range {
		http.Redirect(rw, r, with(p.Query, "from", c.From.String(), "to", c.To.String(), "as_of", ""), http.StatusSeeOther)
		return
	}
	if err = w.ask(r, &p, q); err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	t := w.console.texts[language(r)]
	p.lines(t)
	p.Chart = t.chartOf(p.Figure, p.Rows)
	if p.By = q.By; q.By == statistics.Total {
		p.Rows = nil
	}
	p.Rows, p.Rest = p.Rows[:min(len(p.Rows), maxRows)], max(0, len(p.Rows)-maxRows)
	p.Tabs = tabs(p.Question, p.Query, p.Personal)
	p.Now, p.Fixed = with(p.Query, "as_of", ""), with(p.Query, "as_of", strconv.FormatInt(p.AsOf, 10), "from", p.From.String(), "to", p.To.String())
	w.show(rw, r, http.StatusOK, "statistics", p)
}

// ask asks for all that the page says.
func (w *Web) ask(r *http.Request, p *statisticsPage, q statistics.Question) (err error) {
	ctx := r.Context()
	if p.Figure, err = w.o.Staff.Figure(ctx, drawn(q)); err != nil {
		return err
	}
	if p.Query.Get("compare") != "" {
		before := p.Question
		before.Range = q.Previous()
		f, err := w.o.Staff.Figure(ctx, before)
		if err != nil {
			return err
		}
		p.Before, p.Change = &f, change(f.Swaps, p.Swaps)
	}
	if p.Audit, err = w.o.Staff.Audited(ctx); err != nil {
		return err
	}
	if p.Quoted, err = w.o.Staff.PublishedFigures(ctx); err != nil {
		return err
	}
	p.Presets, err = w.presets(r, q, p.Months)
	return err
}

// drawn is the question whose answer the page draws: the total has its days.
func drawn(q statistics.Question) statistics.Question {
	if q.By == statistics.Total {
		q.By = statistics.ByDay
	}
	return q
}

// Several reports whether it is told of several closed months: then no riders are
// counted, for the sums of fewer months could be taken off.
func (p statisticsPage) Several() bool { return p.Months && p.From.NextMonth() <= p.To }

// Hours are the rows of an hour of the day each, from Monday to Sunday; those at
// night that have no swap on any day are left out.
func (p statisticsPage) Hours() []hourRow {
	n := map[string]int{}
	for _, g := range p.Groups {
		n[g.Key] = g.Swaps
	}
	var out []hourRow
	for hour := range 24 {
		row := hourRow{Hour: fmt.Sprintf("%02d:00", hour), Days: make([]int, 7)}
		for day := range row.Days {
			row.Days[day] = n[fmt.Sprintf("%d/%02d", day+1, hour)]
			row.Swaps += row.Days[day]
		}
		if row.Swaps > 0 {
			out = append(out, row)
		}
	}
	return out
}

// hourRow is an hour of the day, on each weekday and together.
type hourRow struct {
	Hour  string
	Days  []int
	Swaps int
}

// questionOf reads what is asked for: without a range the last thirty days.
func (w *Web) questionOf(r *http.Request) (q statistics.Question, err error) {
	get := r.URL.Query().Get
	if r.Method == http.MethodPost {
		get = r.PostForm.Get
	}
	if q.By, err = statistics.ParseDimension(get("by")); err != nil {
		return q, err
	}
	if s := get("as_of"); s != "" {
		if q.AsOf, err = strconv.ParseInt(s, 10, 64); err != nil || q.AsOf < 1 {
			return q, fmt.Errorf("as_of: %.20q, want a position of the ledger", s)
		}
	}
	q.Street = get("street")
	if get("from") == "" && get("to") == "" {
		today := statistics.DayOf(time.Now())
		q.Range = statistics.Range{From: today - 29, To: today}
		return q, nil
	}
	q.Range, err = statistics.ParseRange(get("from"), get("to"))
	return q, err
}

// with is the page's address with some of its query changed; "" takes it away.
func with(q url.Values, pairs ...string) string {
	out := url.Values{}
	for k, v := range q {
		if k != "lang" && k != "done" {
			out[k] = v
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			out.Del(pairs[i])
		} else {
			out.Set(pairs[i], pairs[i+1])
		}
	}
	return statisticsPath + "?" + out.Encode()
}

// preset is a range that people ask for often.
type preset struct {
	text string
	statistics.Range
}

// presets are those that there are; of closed months, where only those are told of.
func (w *Web) presets(r *http.Request, q statistics.Question, months bool) ([]link, error) {
	now := time.Now()
	today := statistics.DayOf(now)
	y, _, _ := today.Date().Date()
	last := preset{"range.last_month", statistics.Range{From: (today.Month() - 1).Month(), To: today.Month() - 1}}
	year := preset{"range.year", statistics.Range{From: statistics.DateOf(y, 1, 1), To: today}}
	ranges := []preset{
		{"range.today", statistics.Range{From: today, To: today}}, {"range.7", statistics.Range{From: today - 6, To: today}},
		{"range.30", statistics.Range{From: today - 29, To: today}}, {"range.month", statistics.Range{From: today.Month(), To: today}}, last, year,
	}
	if months {
		ranges = nil
		for _, p := range []preset{last, year} {
			if c := p.Closed(now); c.From == p.From { // else no month of it is closed
				ranges = append(ranges, preset{p.text, c})
			}
		}
	}
	first, ok, err := w.o.Staff.FirstDay(r.Context())
	if err != nil {
		return nil, err
	}
	if ok && first <= today {
		all := preset{"range.all", statistics.Range{From: max(first, today-statistics.MaxDays+1), To: today}}
		if months {
			all.Range = all.Closed(now)
		}
		ranges = append(ranges, all)
	}
	var out []link
	for _, x := range ranges {
		out = append(out, link{x.text, with(r.URL.Query(), "from", x.From.String(), "to", x.To.String(), "as_of", ""), x.Range == q.Range})
	}
	return out, nil
}

// tabs are the dimensions; single riders only for who may see them.
func tabs(q statistics.Question, query url.Values, personal bool) []link {
	var out []link
	for _, d := range statistics.Dimensions() {
		if d == statistics.ByRider && !personal {
			continue
		}
		path := with(query, "by", string(d), "street", "")
		if c := q.Closed(time.Now()); d.ByPeople() && !personal { // a position may be from before they were closed
			path = with(query, "by", string(d), "street", "", "from", c.From.String(), "to", c.To.String(), "as_of", "")
		}
		out = append(out, link{"by." + string(d), path, d == q.By})
	}
	return out
}

// lines puts the groups into words.
func (p *statisticsPage) lines(t texts) {
	before := map[string]*int{}
	if p.Before != nil {
		for _, g := range p.Before.Groups {
			if n := g.Swaps; !g.Hidden {
				before[g.Key] = &n
			}
		}
	}
	for _, g := range p.Groups {
		row := figureRow{
			Group: g, Label: t.group(p.By, g), Link: drill(p.Question, p.Query, g), PerDay: statistics.PerDay(g.Swaps, p.Days()), Share: percent(g.Swaps, p.Swaps),
		}
		if p.Before != nil && p.By != statistics.ByDay {
			if row.Before = before[g.Key]; row.Before == nil && !p.By.ByPeople() {
				row.Before = new(int)
			}
		}
		p.Rows = append(p.Rows, row)
	}
}

// Hidden reports whether a group is not shown.
func (p statisticsPage) Hidden() bool {
	for _, r := range p.Rows {
		if r.Group.Hidden {
			return true
		}
	}
	return false
}

// drill is where the line's own figures are; "": nowhere.
func drill(q statistics.Question, query url.Values, g statistics.Group) string {
	switch q.By {
	case statistics.ByDay:
		return with(query, "from", g.Key, "to", g.Key, "by", string(statistics.ByHour), "compare", "")
	case statistics.ByStreet:
		return with(query, "by", string(statistics.ByCabinet), "street", g.Key)
	case statistics.ByCabinet:
		return "/staff/cabinets/" + url.PathEscape(g.Key)
	case statistics.ByRider:
		return "/staff/riders/" + url.PathEscape(g.Key)
	default:
		return ""
	}
}

// group is the name of a line.
func (t texts) group(by statistics.Dimension, g statistics.Group) string {
	switch by {
	case statistics.ByDay:
		d, err := statistics.ParseDay(g.Key)
		if err != nil {
			return g.Key
		}
		return g.Key + " " + t.text("weekday."+strconv.Itoa(d.Weekday()))
	case statistics.ByHour:
		day, hour, _ := strings.Cut(g.Key, "/")
		return t.text("weekday."+day) + " " + hour + ":00"
	case statistics.ByUnion:
		if g.Key == "" {
			return t.text("figures.no_union")
		}
		if g.Name == "" {
			return t.text("figures.direct")
		}
	case statistics.ByPlatform:
		if g.Key == "" {
			return t.text("figures.no_platform")
		}
	case statistics.ByCabinet:
		return g.Key + " · " + g.Name
	case statistics.ByRider:
		return g.Name + " …" + short(g.Key)
	}
	return g.Name
}

// grouped writes a number with commas, as both languages do.
func grouped(v any) string {
	s := fmt.Sprint(v)
	if n, ok := v.(*int); ok {
		if n == nil {
			return "–"
		}
		s = strconv.Itoa(*n)
	}
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func percent(part, whole int) string {
	if whole == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(whole))
}

// change is from one number to another, in percent; "" when there is none.
func change(from, to int) string {
	if from == 0 {
		return ""
	}
	return fmt.Sprintf("%+.1f %%", 100*float64(to-from)/float64(from))
}

// asked is the query of the page that a form was on.
func asked(r *http.Request) url.Values {
	q := url.Values{}
	for _, k := range []string{"from", "to", "by", "as_of", "street"} {
		if v := r.PostForm.Get(k); v != "" {
			q.Set(k, v)
		}
	}
	return q
}

// back is the page that a form was on, and what was done there.
func back(rw http.ResponseWriter, r *http.Request, what string) {
	q := asked(r)
	q.Set("done", what)
	http.Redirect(rw, r, statisticsPath+"?"+q.Encode(), http.StatusSeeOther)
}

func (w *Web) postPublish(rw http.ResponseWriter, r *http.Request) {
	q, err := w.questionOf(r)
	if err == nil && q.AsOf == 0 {
		err = fmt.Errorf("as_of: want the position of the figure that is published")
	}
	if err = staff.AsMistake(err); err == nil {
		err = w.o.Staff.Publish(r.Context(), r.PostForm.Get("name"), q)
	}
	if err != nil {
		w.staffFailedOn(rw, r, err, statisticsPath+"?"+asked(r).Encode())
		return
	}
	back(rw, r, "published")
}

func (w *Web) postAskAudit(rw http.ResponseWriter, r *http.Request) {
	if err := w.o.Staff.AskAudit(r.Context()); err != nil {
		w.staffFailedOn(rw, r, err, statisticsPath+"?"+asked(r).Encode())
		return
	}
	back(rw, r, "audit_asked")
}

// monthPage is a month to print.
type monthPage struct {
	statistics.Figure                   // by day
	Before            statistics.Figure // of the month before: of as many days, while this one is not over
	Change            string
	Over              bool
	Month             string
	Trend, Heat       chart
	Cabinets, Streets []figureRow
	Hours             []figureRow
	Other             statistics.Month
	Availability      string
	Audit             statistics.Audit
	Earlier, Next     string // months
	At                time.Time
}

// BeforeDays are the days that the month is compared with.
func (p monthPage) BeforeDays() string {
	if p.Before.From == p.Before.To {
		return p.Before.From.String()
	}
	return p.Before.From.String() + " – " + p.Before.To.String()
}

// busiest is how many cabinets and hours a report names.
const busiest = 10

func (w *Web) pageMonth(rw http.ResponseWriter, r *http.Request) {
	now := statistics.DayOf(time.Now())
	month := now.Month()
	if s := r.URL.Query().Get("month"); s != "" {
		d, err := statistics.ParseDay(s + "-01")
		if err != nil {
			w.staffFailed(rw, r, staff.Mistakef("month: %.20q, want a month as 2006-01", s))
			return
		}
		month = d
	}
	if month > now {
		w.staffFailedOn(rw, r, staff.Mistakef("month: %s has not begun, want at most %s", monthName(month), monthName(now)), statisticsPath)
		return
	}
	p, err := w.monthOf(r.Context(), w.console.texts[language(r)], statistics.Range{From: month, To: month.NextMonth() - 1}, now)
	answer(w, rw, r, "month", p, err)
}

// monthName is the month of a day, as 2006-01.
func monthName(d statistics.Day) string { return d.String()[:len("2006-01")] }

// monthBefore is what the days of a month up to a day are compared with: the same
// days of the month before, which may be shorter; all of it when the month is over.
func monthBefore(days statistics.Range, over bool) statistics.Range {
	first, last := (days.From - 1).Month(), days.From-1
	if !over {
		last = min(last, first+days.To-days.From)
	}
	return statistics.Range{From: first, To: last}
}

// monthOf asks for all that a report says. A month that is not over ends today.
func (w *Web) monthOf(ctx context.Context, t texts, month statistics.Range, now statistics.Day) (p monthPage, err error) {
	p.At = time.Now()
	p.Month, p.Earlier, p.Over = monthName(month.From), monthName(month.From-1), !month.Has(now)
	if p.Over {
		p.Next = monthName(month.To + 1)
	}
	q := statistics.Question{Range: month, By: statistics.ByDay}
	if !p.Over {
		q.To = now
	}
	if p.Figure, err = w.o.Staff.Figure(ctx, q); err != nil {
		return p, err
	}
	q.AsOf = p.AsOf
	parts := map[statistics.Dimension]statistics.Figure{}
	for _, by := range []statistics.Dimension{statistics.ByHour, statistics.ByCabinet, statistics.ByStreet} {
		q.By = by
		if parts[by], err = w.o.Staff.Figure(ctx, q); err != nil {
			return p, err
		}
	}
	q.Range, q.By = monthBefore(q.Range, p.Over), statistics.Total
	if p.Before, err = w.o.Staff.Figure(ctx, q); err != nil {
		return p, err
	}
	p.Change = change(p.Before.Swaps, p.Swaps)
	if p.Other, err = w.o.Staff.MonthReport(ctx, month.From); err != nil {
		return p, err
	}
	if p.Availability = "–"; p.Other.Availability() >= 0 {
		p.Availability = fmt.Sprintf("%d.%d %%", p.Other.Availability()/10, p.Other.Availability()%10)
	}
	p.Trend, p.Heat = t.chartOf(p.Figure, nil), t.chartOf(parts[statistics.ByHour], nil)
	p.Cabinets, p.Streets = t.top(parts[statistics.ByCabinet]), t.top(parts[statistics.ByStreet])
	p.Hours = t.topHours(parts[statistics.ByHour])
	p.Audit, err = w.o.Staff.Audited(ctx)
	return p, err
}

// top are the groups with most swaps.
func (t texts) top(f statistics.Figure) []figureRow {
	var out []figureRow
	for _, g := range f.Groups[:min(len(f.Groups), busiest)] {
		out = append(out, figureRow{Group: g, Label: t.group(f.By, g), PerDay: statistics.PerDay(g.Swaps, f.Days()), Share: percent(g.Swaps, f.Swaps)})
	}
	return out
}

// topHours are the hours of the day with most swaps, whatever the weekday.
func (t texts) topHours(f statistics.Figure) []figureRow {
	by := map[string]int{}
	for _, g := range f.Groups {
		_, hour, _ := strings.Cut(g.Key, "/")
		by[hour] += g.Swaps
	}
	var out []figureRow
	for _, x := range statistics.Tallies(by) {
		if len(out) < busiest/2 {
			out = append(out, figureRow{Group: statistics.Group{Swaps: x.N}, Label: x.Name + ":00–" + x.Name + ":59", Share: percent(x.N, f.Swaps)})
		}
	}
	return out
}

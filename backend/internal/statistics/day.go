package statistics

import (
	"fmt"
	"time"
)

// Day is a calendar day of Asia/Shanghai, counted from 1970-01-01.
type Day int

// shanghai has had no daylight saving since 1991: an offset is the whole zone.
var shanghai = time.FixedZone("Asia/Shanghai", 8*60*60)

const daySeconds = 24 * 60 * 60

// DayOf is the day that holds t.
func DayOf(t time.Time) Day {
	y, m, d := t.In(shanghai).Date()
	return DateOf(y, m, d)
}

// DateOf is a day of the calendar; as with time.Date, day 0 is the last of the
// month before.
func DateOf(year int, month time.Month, day int) Day {
	return Day(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / daySeconds)
}

// ParseDay reads a day as 2006-01-02, of a year that has four digits.
func ParseDay(s string) (Day, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil || t.Year() < 1970 {
		return 0, fmt.Errorf("%.20q: want a day as 2006-01-02", s)
	}
	return Day(t.Unix() / daySeconds), nil
}

// Date is midnight, UTC, of the day's name: what a database takes for it.
func (d Day) Date() time.Time { return time.Unix(int64(d)*daySeconds, 0).UTC() }

// Begins is when the day begins.
func (d Day) Begins() time.Time {
	y, m, n := d.Date().Date()
	return time.Date(y, m, n, 0, 0, 0, 0, shanghai)
}

// String is the day as 2006-01-02.
func (d Day) String() string { return d.Date().Format(time.DateOnly) }

// MarshalText writes the day as String does.
func (d Day) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads it.
func (d *Day) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDay(string(b))
	return err
}

// Weekday is 1 for Monday to 7 for Sunday.
func (d Day) Weekday() int { return (int(d.Date().Weekday())+6)%7 + 1 }

// Month is the first day of the day's month.
func (d Day) Month() Day {
	y, m, _ := d.Date().Date()
	return DateOf(y, m, 1)
}

// NextMonth is the first day of the month after.
func (d Day) NextMonth() Day {
	y, m, _ := d.Date().Date()
	return DateOf(y, m+1, 1)
}

// part is the first day of the day's part of its month: the 1st, 9th, 17th, 25th.
func (d Day) part() Day {
	_, _, n := d.Date().Date()
	return d.Month() + Day(8*min((n-1)/8, 3))
}

// NextPart is the first day of the part of a month after the day's.
func (d Day) NextPart() Day {
	p := d.part()
	if p == d.Month()+24 {
		return d.NextMonth()
	}
	return p + 8
}

// MaxDays bounds a range: five years, which is 61 months at most.
const MaxDays = 5*365 + 2

// Range is from From to To, both included.
type Range struct {
	From Day `json:"from"`
	To   Day `json:"to"`
}

// ParseRange reads both ends, and says all that is wrong.
func ParseRange(from, to string) (Range, error) {
	a, err := ParseDay(from)
	if err != nil {
		return Range{}, fmt.Errorf("from: %w", err)
	}
	b, err := ParseDay(to)
	if err != nil {
		return Range{}, fmt.Errorf("to: %w", err)
	}
	r := Range{a, b}
	return r, r.Check()
}

// Check says what is wrong with a range, or nil.
func (r Range) Check() error {
	switch {
	case r.To < r.From:
		return fmt.Errorf("to: %s is before %s", r.To, r.From)
	case r.Days() > MaxDays:
		return fmt.Errorf("to: %d days, want at most %d", r.Days(), MaxDays)
	}
	return nil
}

// Days is how many calendar days the range has.
func (r Range) Days() int { return int(r.To-r.From) + 1 }

// Has reports whether the day is in the range.
func (r Range) Has(d Day) bool { return r.From <= d && d <= r.To }

// Previous is what a range is compared with: for whole months as many months
// before, for any other as many days.
func (r Range) Previous() Range {
	if r.Whole() {
		from := r.From
		for m := r.From; m <= r.To; m = m.NextMonth() {
			from = (from - 1).Month()
		}
		return Range{from, r.From - 1}
	}
	return Range{r.From - Day(r.Days()), r.From - 1}
}

// Months are the first days of all months that the range touches.
func (r Range) Months() []Day {
	var out []Day
	for m := r.From.Month(); m <= r.To; m = m.NextMonth() {
		out = append(out, m)
	}
	return out
}

// closingDays is how many days after its end a month is closed: cabinets that could
// not be reached have told their swaps by then, but for a few.
const closingDays = 3

// Closes is when the month that holds the day is closed: from then on its
// breakdowns by what riders are do not change any more.
func (d Day) Closes() time.Time { return (d.NextMonth() + closingDays).Begins() }

// Whole reports whether the range is of whole months.
func (r Range) Whole() bool { return r.From == r.From.Month() && r.To+1 == (r.To+1).Month() }

// Closed are the whole months that the range touches and that are closed by now;
// where it touches none, the last one that is.
func (r Range) Closed(now time.Time) Range {
	next := DayOf(now).Month() // the first that is not closed
	if last := (next - 1).Month(); now.Before(last.Closes()) {
		next = last
	}
	from := min(r.From.Month(), (next - 1).Month())
	to := max(min(r.To.NextMonth(), next), from.NextMonth()) - 1
	for (Range{from, to}).Check() != nil { // whole months may be too many days
		from = from.NextMonth()
	}
	return Range{from, to}
}

// Pieces are what a range is added up from: as few as possible, each day once.
type Pieces struct {
	Months []Day // first days of whole months
	Parts  []Day // first days of whole parts of months: from the 1st, 9th, 17th, 25th
	Days   []Day
	// Less are days of Parts that are not in the range: a part less a few days is
	// fewer takes to read than the other days.
	Less []Day
}

// Split takes a range apart. Days of which without is true are left out.
func (r Range) Split(without func(Day) bool) Pieces {
	var p Pieces
	for d := r.From; d <= r.To; {
		if month := d.Month(); d == month && month.NextMonth()-1 <= r.To && none(without, month, month.NextMonth()) {
			p.Months = append(p.Months, month)
			d = month.NextMonth()
			continue
		}
		next := d.NextPart()
		p.part(Range{d, min(next-1, r.To)}, without)
		d = next
	}
	return p
}

// part adds days of one part of a month: as these, or as the part less the others.
func (p *Pieces) part(days Range, without func(Day) bool) {
	first, next := days.From.part(), days.From.NextPart()
	if outside := int(next-first) - days.Days(); outside >= days.Days() || !none(without, days.From, days.To+1) {
		for d := days.From; d <= days.To; d++ {
			if !without(d) {
				p.Days = append(p.Days, d)
			}
		}
		return
	}
	p.Parts = append(p.Parts, first)
	for d := first; d < next; d++ {
		if !days.Has(d) {
			p.Less = append(p.Less, d)
		}
	}
}

// none reports whether no day from first to the one before next is one of those.
func none(those func(Day) bool, first, next Day) bool {
	for d := first; d < next; d++ {
		if those(d) {
			return false
		}
	}
	return true
}

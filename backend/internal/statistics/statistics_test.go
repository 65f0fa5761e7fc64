package statistics

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestDayIsOfShanghai(t *testing.T) {
	t.Parallel()
	for at, want := range map[string]string{
		"2026-03-01T15:59:59Z": "2026-03-01", "2026-03-01T16:00:00Z": "2026-03-02", "2024-02-28T16:00:00Z": "2024-02-29", "1970-01-01T00:00:00Z": "1970-01-01",
	} {
		moment, err := time.Parse(time.RFC3339, at)
		require.NoError(t, err)
		d := DayOf(moment)
		require.Equal(t, want, d.String())
		back, err := ParseDay(want)
		require.NoError(t, err)
		require.Equal(t, d, back)
		require.Equal(t, d, DayOf(d.Begins()))
		require.Equal(t, d-1, DayOf(d.Begins().Add(-1)))
	}
	for _, bad := range []string{"", "2026-2-3", "2026-02-30", "1969-12-31", "2026-02-03T00:00:00Z"} {
		_, err := ParseDay(bad)
		require.ErrorContains(t, err, "want a day as 2006-01-02", bad)
	}
	require.Equal(t, 1, DateOf(2026, 3, 2).Weekday())
	require.Equal(t, 7, DateOf(2026, 3, 1).Weekday())
}

func TestRangeSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := ParseRange("2026-03-02", "2026-03-01")
	require.ErrorContains(t, err, "to: 2026-03-01 is before 2026-03-02")
	_, err = ParseRange("x", "2026-03-01")
	require.ErrorContains(t, err, "from:")
	_, err = ParseRange("2016-03-02", "2026-03-01")
	require.ErrorContains(t, err, "want at most")
	r, err := ParseRange("2021-03-01", "2026-02-28")
	require.NoError(t, err)
	require.LessOrEqual(t, len(r.Months()), 62, "a bit for each")
}

func TestPrevious(t *testing.T) {
	t.Parallel()
	for _, c := range [][4]string{
		{"2026-03-01", "2026-03-31", "2026-02-01", "2026-02-28"},
		{"2026-01-01", "2026-03-31", "2025-10-01", "2025-12-31"},
		{"2026-03-02", "2026-03-08", "2026-02-23", "2026-03-01"},
		{"2026-03-05", "2026-03-05", "2026-03-04", "2026-03-04"},
	} {
		r, err := ParseRange(c[0], c[1])
		require.NoError(t, err)
		require.Equal(t, c[2]+" "+c[3], r.Previous().From.String()+" "+r.Previous().To.String())
	}
}

// TestPerDay: 2,425 in 38 days are 63.8, so 64; a half goes up.
func TestPerDay(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]int{{2425, 38, 64}, {5, 2, 3}, {4, 8, 1}, {3, 8, 0}, {0, 5, 0}, {7, 0, 0}, {1, 1, 1}} {
		require.Equal(t, c[2], PerDay(c[0], c[1]), "%v", c)
	}
}

// TestSplitHasEachDayOnce, in as few pieces as the calendar gives.
func TestSplitHasEachDayOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		from := DateOf(2024, 1, 1) + Day(rapid.IntRange(0, 800).Draw(rt, "from"))
		r := Range{from, from + Day(rapid.IntRange(0, 200).Draw(rt, "days"))}
		without := map[Day]bool{}
		for range rapid.IntRange(0, 3).Draw(rt, "without") {
			without[from+Day(rapid.IntRange(0, 200).Draw(rt, "day"))] = true
		}
		seen := map[Day]int{}
		p := r.Split(func(d Day) bool { return without[d] })
		for _, m := range p.Months {
			for d := m; d < m.NextMonth(); d++ {
				seen[d]++
			}
		}
		for _, m := range p.Parts {
			for d := m; d < m.NextPart(); d++ {
				seen[d]++
			}
		}
		for _, d := range p.Days {
			seen[d]++
		}
		for _, d := range p.Less {
			seen[d]--
		}
		for d := r.From - 40; d <= r.To+40; d++ {
			want := 0
			if r.Has(d) && !without[d] {
				want = 1
			}
			require.Equal(rt, want, seen[d], d)
		}
		if len(without) == 0 {
			require.LessOrEqual(rt, len(p.Days)+len(p.Less), 8)
			require.LessOrEqual(rt, len(p.Parts), 8)
		}
	})
}

// crew is n riders of a body, with a swap each.
func crew(from, n int, platform string, path ...int64) []Member {
	var out []Member
	for i := range n {
		out = append(out, Member{Rider: fmt.Sprintf("r%03d", from+i), Path: path, Platform: platform, Swaps: 1, Periods: 1})
	}
	return out
}

func shown(groups []Group) map[string]int {
	out := map[string]int{}
	for _, g := range groups {
		if out[g.Key] = g.Swaps; g.Hidden {
			out[g.Key] = -1
		}
	}
	return out
}

func TestSmallGroupsAreHidden(t *testing.T) {
	t.Parallel()
	members := append(append(append(crew(0, 40, "red"), crew(100, 12, "blue")...), crew(200, 3, "")...), crew(300, 25, "green")...)
	require.Equal(t, map[string]int{"red": 40, "green": 25, "blue": -1, "": -1}, shown(Platforms(members)), "blue, the smallest that is left, hides the three")
	require.Equal(t, map[string]int{"red": 40, "": -1, "green": -1}, shown(Platforms(append(append(crew(0, 40, "red"), crew(200, 9, "")...), crew(300, 25, "green")...))))
	require.Equal(t, map[string]int{"red": 40, "green": 25}, shown(Platforms(append(crew(0, 40, "red"), crew(300, 25, "green")...))))
	require.Equal(t, map[string]int{"red": 10, "": 0}, func() map[string]int { m := shown(Platforms(crew(0, 10, "red"))); m[""] = 0; return m }())
	require.Equal(t, map[string]int{"red": 40, "a": -1, "b": -1, "c": -1},
		shown(Platforms(append(append(append(crew(0, 40, "red"), crew(200, 3, "a")...), crew(300, 3, "b")...), crew(400, 11, "c")...))), "six between two groups are too few")
	require.Empty(t, Platforms(nil))
	require.Nil(t, Count(crew(0, 9, "")))
	require.Equal(t, 10, *Count(crew(0, 10, "")))
	require.Equal(t, 0, *Count(nil), "that nobody swapped is about nobody")
}

func TestTheTreeHidesWhatItsSumsGiveAway(t *testing.T) {
	t.Parallel()
	var members []Member
	members = append(members, crew(0, 30, "", 1, 2)...)     // a district's own
	members = append(members, crew(100, 4, "", 1, 2, 5)...) // a branch of it
	members = append(members, crew(200, 15, "", 1, 2, 6)...)
	members = append(members, crew(300, 20, "", 1, 3)...)
	members = append(members, crew(400, 11, "")...) // of no body
	require.Equal(t, map[string]int{"1": 69, "1/2": 49, "1/2/-": 30, "1/2/5": -1, "1/2/6": -1, "1/3": 20, "": 11}, shown(Unions(members)))
	for _, g := range Unions(members) {
		if g.Hidden {
			require.Zero(t, g.Swaps)
			require.Nil(t, g.Riders)
		}
	}
	small := append(crew(0, 30, "", 1), crew(100, 5, "", 2, 3)...)
	require.Equal(t, map[string]int{"1": -1, "2": -1, "2/3": -1}, shown(Unions(small)), "below a hidden body everything is")
	twice := append(crew(0, 9, "", 1, 2), crew(0, 9, "", 1, 3)...)
	require.Equal(t, map[string]int{"1": -1, "1/2": -1, "1/3": -1}, shown(Unions(twice)), "nine riders of two branches are nine")
}

// TestAPeriodWithFewRidersHides: or January alone could be subtracted from January
// and February.
func TestAPeriodWithFewRidersHides(t *testing.T) {
	t.Parallel()
	both := append(crew(0, 40, "red"), crew(100, 20, "blue")...)
	for i := range both {
		both[i].Periods = 0b11
	}
	require.Equal(t, map[string]int{"red": 40, "blue": 20}, shown(Platforms(both)))
	for i := 45; i < 60; i++ { // five of blue rode in February, too
		both[i].Periods = 0b01
	}
	require.Equal(t, map[string]int{"red": -1, "blue": -1}, shown(Platforms(both)))
	for i := 40; i < 60; i++ { // none did
		both[i].Periods = 0b01
	}
	require.Equal(t, map[string]int{"red": 40, "blue": 20}, shown(Platforms(both)), "that nobody rode is about nobody")
}

// TestTheSecondGroupIsOfThePeriod: in each month another group is the smallest that
// is left; whoever chooses months well would else read the one that is hidden.
func TestTheSecondGroupIsOfThePeriod(t *testing.T) {
	t.Parallel()
	month := func(period uint64, red, blue int) (out []Member) {
		for _, m := range append(append(append(crew(0, red, "red"), crew(100, blue, "blue")...), crew(200, 3, "few")...), crew(300, 40, "green")...) {
			m.Periods = period
			out = append(out, m)
		}
		return out
	}
	january, february := month(0b01, 12, 20), month(0b10, 20, 12)
	require.Equal(t, map[string]int{"green": 40, "blue": 20, "red": -1, "few": -1}, shown(Platforms(january)))
	require.Equal(t, map[string]int{"green": 40, "red": 20, "blue": -1, "few": -1}, shown(Platforms(february)))
	require.Equal(t, map[string]int{"green": 80, "red": -1, "blue": -1, "few": -1}, shown(Platforms(append(january, february...))))
}

// TestNoHiddenGroupBySubtraction: whatever the groups, what is hidden below one
// parent is, taken together, of at least ten riders and two groups, or it is all
// that there is below it.
func TestNoHiddenGroupBySubtraction(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var members []Member
		for i := range rapid.IntRange(0, 120).Draw(rt, "riders") {
			path := rapid.SliceOfN(rapid.Int64Range(1, 3), 0, 3).Draw(rt, "path")
			members = append(members, Member{Rider: fmt.Sprint(i), Path: path, Swaps: rapid.IntRange(1, 9).Draw(rt, "swaps"), Periods: 1})
		}
		siblings, riders := map[string][]Group{}, map[string]map[string]bool{}
		for _, g := range Unions(members) {
			siblings[parentOf(g)] = append(siblings[parentOf(g)], g)
			riders[g.Key] = map[string]bool{}
		}
		for _, m := range members {
			for i := range m.Path {
				riders[pathKey(m.Path[:i+1])][m.Rider] = true
			}
			if own := riders[pathKey(m.Path)+"/"+Direct]; own != nil {
				own[m.Rider] = true
			}
			if len(m.Path) == 0 {
				riders[""][m.Rider] = true
			}
		}
		for _, groups := range siblings {
			hidden, all := 0, map[string]bool{}
			for _, g := range groups {
				if g.Hidden {
					hidden++
					for r := range riders[g.Key] {
						all[r] = true
					}
				} else {
					require.GreaterOrEqual(rt, len(riders[g.Key]), Least)
				}
			}
			if 0 < hidden && hidden < len(groups) {
				require.GreaterOrEqual(rt, hidden, 2)
				require.GreaterOrEqual(rt, len(all), Least)
			}
		}
	})
}

func parentOf(g Group) string {
	for i := len(g.Key) - 1; i >= 0; i-- {
		if g.Key[i] == '/' {
			return g.Key[:i]
		}
	}
	return "top"
}

func TestClosedMonths(t *testing.T) {
	t.Parallel()
	day := func(s string) Day {
		d, err := ParseDay(s)
		require.NoError(t, err)
		return d
	}
	for name, x := range map[string]struct{ now, from, to, first, last string }{
		"thirty days on the 3rd":       {"2026-12-03T23:59:59+08:00", "2026-11-04", "2026-12-03", "2026-10-01", "2026-10-31"},
		"thirty days on the 4th":       {"2026-12-04T00:00:00+08:00", "2026-11-05", "2026-12-04", "2026-11-01", "2026-11-30"},
		"a day of this month":          {"2026-12-20T12:00:00+08:00", "2026-12-07", "2026-12-07", "2026-11-01", "2026-11-30"},
		"a day of an old month":        {"2026-12-20T12:00:00+08:00", "2024-02-29", "2024-02-29", "2024-02-01", "2024-02-29"},
		"parts of months":              {"2026-12-20T12:00:00+08:00", "2026-02-05", "2026-03-14", "2026-02-01", "2026-03-31"},
		"whole months":                 {"2026-12-20T12:00:00+08:00", "2026-02-01", "2026-03-31", "2026-02-01", "2026-03-31"},
		"the days to come":             {"2026-12-20T12:00:00+08:00", "2027-02-01", "2027-03-31", "2026-11-01", "2026-11-30"},
		"this year in January":         {"2026-01-20T12:00:00+08:00", "2026-01-01", "2026-01-20", "2025-12-01", "2025-12-31"},
		"five years, more as months":   {"2026-12-20T12:00:00+08:00", "2021-11-20", "2026-11-20", "2021-12-01", "2026-11-30"},
		"the evening before, by UTC":   {"2026-12-03T15:59:59Z", "2026-11-01", "2026-11-30", "2026-10-01", "2026-10-31"},
		"the night of closing, by UTC": {"2026-12-03T16:00:00Z", "2026-11-01", "2026-11-30", "2026-11-01", "2026-11-30"},
	} {
		now, err := time.Parse(time.RFC3339, x.now)
		require.NoError(t, err)
		got := Range{day(x.from), day(x.to)}.Closed(now)
		require.Equal(t, Range{day(x.first), day(x.last)}, got, name)
		require.True(t, got.Whole(), name)
		require.NoError(t, got.Check(), name)
		require.Equal(t, got, got.Closed(now), name)
	}
}

package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
)

// figuring answers a question from the daily aggregates, as they are in one
// snapshot, less the takes that were booked after the question's position.
type figuring struct {
	ctx context.Context //nolint:containedctx // of one question
	tx  pgx.Tx
	statistics.Question
	// mixed are the days of the range with takes before and after the position,
	// future those with takes after it alone.
	mixed, future map[statistics.Day]bool
	// closings are of those of the range's months that have takes.
	closings []closing
}

// Figure answers a question. The same question, with the same AsOf, has the same
// answer for ever.
func (s *Store) Figure(ctx context.Context, q statistics.Question) (statistics.Figure, error) {
	f := statistics.Figure{Question: q}
	err := s.figure(ctx, q, func(k *figuring) error {
		f.AsOf = k.AsOf
		days, err := k.days(&f)
		if err != nil {
			return err
		}
		f.PerDay = statistics.PerDay(f.Swaps, f.Days())
		switch q.By {
		case statistics.ByDay:
			f.Groups = days
		case statistics.ByHour:
			f.Groups, err = k.hours()
		case statistics.ByStreet, statistics.ByCabinet:
			err = k.cabinets(&f)
		case statistics.ByUnion, statistics.ByPlatform, statistics.ByRider:
			err = k.people(&f)
		}
		return err
	})
	if err != nil {
		return f, fmt.Errorf("figure: %w", err)
	}
	return f, nil
}

// figure prepares a question and lets answer read.
func (s *Store) figure(ctx context.Context, q statistics.Question, answer func(*figuring) error) error {
	if err := q.Check(); err != nil {
		return staff.AsMistake(err)
	}
	closings, err := s.closingsOf(ctx, q)
	if err != nil {
		return err
	}
	if q.AsOf, err = s.asOf(ctx, q.AsOf); err != nil {
		return err
	}
	// The snapshot comes after the position: all that is up to it is in it.
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// Ranges are short or long: the planner may look at them.
		if _, err := tx.Exec(ctx, `SET LOCAL plan_cache_mode = force_custom_plan`); err != nil {
			return err
		}
		k := &figuring{ctx: ctx, tx: tx, Question: q, closings: closings, mixed: map[statistics.Day]bool{}, future: map[statistics.Day]bool{}}
		if err := k.late(); err != nil {
			return err
		}
		return answer(k)
	})
}

// read runs a query of the question. named are its arguments by name, beside
// @from, @to and @as_of.
func (k *figuring) read(sql string, named pgx.NamedArgs, scan []any, each func() error) error {
	args := pgx.NamedArgs{"from": k.From.Date(), "to": k.To.Date(), "as_of": k.AsOf, "mixed": asDates(sorted(k.mixed)), "future": asDates(sorted(k.future))}
	for name, v := range named {
		args[name] = v
	}
	rows, err := k.tx.Query(k.ctx, sql, args)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, scan, each)
	return err
}

func sorted(set map[statistics.Day]bool) []statistics.Day { return slices.Sorted(maps.Keys(set)) }

func asDates(days []statistics.Day) []time.Time {
	out := make([]time.Time, len(days))
	for i, d := range days {
		out[i] = d.Date()
	}
	return out
}

// late finds the days that have takes after the position: two looks into an
// index for each day.
func (k *figuring) late() error {
	var day time.Time
	var early bool
	return k.read(`SELECT d.day, f.position <= @as_of FROM (SELECT generate_series(@from::date, @to::date, interval '1 day')::date AS day) d
		CROSS JOIN LATERAL (SELECT position FROM counted_take t WHERE t.day = d.day ORDER BY position DESC LIMIT 1) l
		CROSS JOIN LATERAL (SELECT position FROM counted_take t WHERE t.day = d.day ORDER BY position LIMIT 1) f
		WHERE l.position > @as_of`,
		nil, []any{&day, &early}, func() error {
			if d := dayOf(day); early {
				k.mixed[d] = true
			} else {
				k.future[d] = true
			}
			return nil
		})
}

// dayOf is the day of what the database gives for one.
func dayOf(date time.Time) statistics.Day {
	y, m, d := date.Date()
	return statistics.DateOf(y, m, d)
}

// days counts each day, those without a swap included, and all together; what is
// later is counted by itself.
func (k *figuring) days(f *statistics.Figure) ([]statistics.Group, error) {
	count := make([]int, k.Days())
	var day time.Time
	var n int
	err := k.read(`SELECT day, sum(swaps) FROM hour_count WHERE day BETWEEN @from AND @to GROUP BY 1`, nil, []any{&day, &n}, func() error {
		if d := dayOf(day); k.future[d] {
			f.Later += n
		} else {
			count[d-k.From] = n
		}
		return nil
	})
	if err == nil {
		err = k.read(`SELECT day, count(*) FROM counted_take WHERE day = ANY(@mixed) AND position > @as_of GROUP BY 1`, nil, []any{&day, &n}, func() error {
			count[dayOf(day)-k.From] -= n
			f.Later += n
			return nil
		})
	}
	out := make([]statistics.Group, len(count))
	for i, n := range count {
		f.Swaps += n
		name := (k.From + statistics.Day(i)).String()
		out[i] = statistics.Group{Key: name, Name: name, Swaps: n}
	}
	return out, err
}

// hours counts each hour of each weekday that has a swap.
func (k *figuring) hours() ([]statistics.Group, error) {
	var out []statistics.Group
	var weekday, hour, n int
	err := k.read(`SELECT weekday, hour::int, sum(n)::bigint FROM (
			SELECT extract(isodow FROM day)::int AS weekday, hour, swaps AS n FROM hour_count WHERE day BETWEEN @from AND @to AND day <> ALL(@future)
			UNION ALL SELECT extract(isodow FROM day)::int, extract(hour FROM at AT TIME ZONE 'Asia/Shanghai'), -1
			FROM counted_take WHERE day = ANY(@mixed) AND position > @as_of) x GROUP BY 1, 2 HAVING sum(n) > 0 ORDER BY 1, 2`,
		nil, []any{&weekday, &hour, &n}, func() error {
			key := fmt.Sprintf("%d/%02d", weekday, hour)
			out = append(out, statistics.Group{Key: key, Name: key, Swaps: n})
			return nil
		})
	return out, err
}

// cabinets counts by cabinet, or by the street where the cabinet stood. Of one
// street the figure is that street's.
func (k *figuring) cabinets(f *statistics.Figure) error {
	column := `c.cabinet_id`
	if k.By == statistics.ByStreet {
		column = `c.street`
	}
	var key, name string
	var n int
	err := k.read(`SELECT `+column+` AS key, CASE WHEN @by = 'street' THEN min(c.street) ELSE string_agg(DISTINCT c.street, ', ') END, sum(x.n)::bigint
		FROM (SELECT id, sum(n) AS n FROM (
				SELECT counted_cabinet_id AS id, swaps AS n FROM cabinet_count WHERE day BETWEEN @from AND @to AND day <> ALL(@future)
				UNION ALL SELECT counted_cabinet_id, -1 FROM counted_take WHERE day = ANY(@mixed) AND position > @as_of) y GROUP BY 1 HAVING sum(n) > 0) x
			JOIN counted_cabinet c ON c.counted_cabinet_id = x.id
		WHERE @street = '' OR c.street = @street GROUP BY 1 ORDER BY 3 DESC, 1`,
		pgx.NamedArgs{"street": k.Street, "by": string(k.By)}, []any{&key, &name, &n}, func() error {
			f.Groups = append(f.Groups, statistics.Group{Key: key, Name: name, Swaps: n})
			return nil
		})
	if err != nil || k.Street == "" {
		return err
	}
	f.Swaps = 0
	for _, g := range f.Groups {
		f.Swaps += g.Swaps
	}
	f.PerDay = statistics.PerDay(f.Swaps, f.Days())
	return k.read(`SELECT count(*) FROM counted_take JOIN counted_cabinet c USING (counted_cabinet_id)
		WHERE day = ANY(@mixed::date[] || @future::date[]) AND position > @as_of AND c.street = @street`,
		pgx.NamedArgs{"street": k.Street}, []any{&f.Later}, func() error { return nil })
}

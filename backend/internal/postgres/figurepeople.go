package postgres

import (
	"strings"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
)

// people breaks a figure down by what riders are. Who asks for single riders
// needs the permission.
func (k *figuring) people(f *statistics.Figure) error {
	if k.By == statistics.ByRider && !staff.Who(k.ctx).Has(staff.Personal) {
		return &staff.Refusal{Code: staff.NotPersonal, Detail: string(staff.Personal)}
	}
	closed := asksForClosed(k.ctx, k.Question)
	read := k.members
	if closed {
		read = k.closedMembers
	}
	members, err := read()
	if err != nil {
		return err
	}
	f.Riders = statistics.Count(members)
	switch k.By {
	case statistics.ByUnion:
		f.Groups = statistics.Unions(members)
		err = k.nameBodies(f.Groups)
	case statistics.ByPlatform:
		f.Groups = statistics.Platforms(members)
	default:
		f.Groups = statistics.Riders(members)
		err = k.nameRiders(f.Groups)
	}
	if closed && len(k.Months()) > 1 { // less those of fewer months it is who is new
		f.Riders = nil
		for i := range f.Groups {
			f.Groups[i].Riders = nil
		}
	}
	f.Ungrouped = f.Swaps
	for _, m := range members {
		f.Ungrouped -= m.Swaps
	}
	return err
}

// sqlMembers adds up riders from whole months, parts of months and single takes,
// less the takes of these pieces that are not in the range, or later than the
// position.
const sqlMembers = `SELECT r.rider_id::text, r.union_path, r.platform, n.swaps, 1::bigint AS periods FROM (
	SELECT id, sum(swaps) AS swaps FROM (
		SELECT counted_rider_id AS id, swaps FROM rider_count WHERE whole AND since = ANY(@months)
		UNION ALL SELECT counted_rider_id, swaps FROM rider_count WHERE NOT whole AND since = ANY(@parts)
		UNION ALL SELECT counted_rider_id, 1 FROM counted_take WHERE day = ANY(@days) AND position <= @as_of
		UNION ALL SELECT counted_rider_id, -1 FROM counted_take WHERE day = ANY(@outside)
		UNION ALL SELECT counted_rider_id, -1 FROM counted_take WHERE day = ANY(@less) AND position > @as_of
	) x GROUP BY id HAVING sum(swaps) > 0) n
	JOIN counted_rider r ON r.counted_rider_id = n.id`

// members are the riders who took one in the range, as what they were then. The
// range is one period.
func (k *figuring) members() ([]statistics.Member, error) {
	split := k.Split(func(d statistics.Day) bool { return k.future[d] })
	var less []statistics.Day // those of the range
	mixed := func(first, next statistics.Day) {
		for d := first; d < next; d++ {
			if k.mixed[d] {
				less = append(less, d)
			}
		}
	}
	for _, m := range split.Months {
		mixed(m, m.NextMonth())
	}
	for _, p := range split.Parts {
		mixed(p, p.NextPart())
	}
	return k.readMembers(sqlMembers, pgx.NamedArgs{
		"months": asDates(split.Months), "parts": asDates(split.Parts), "days": asDates(split.Days), "outside": asDates(split.Less), "less": asDates(less),
	})
}

// sqlClosed adds up whole months, less what was booked after they were closed, or
// was counted afterwards. Each is a period. Such takes are few and months are many:
// so the months' own sums are read, and the days that have such takes are found by
// one look into an index each. OFFSET 0 keeps the planner to that.
const sqlClosed = `WITH late AS MATERIALIZED (
		SELECT counted_rider_id, since, count(*) AS swaps FROM (
			SELECT t.counted_rider_id, m.since FROM unnest(@months::date[], @positions::bigint[]) AS m(since, position)
			CROSS JOIN LATERAL generate_series(m.since, m.since + interval '1 month' - interval '1 day', interval '1 day') d(day)
			CROSS JOIN LATERAL (SELECT position FROM counted_take t WHERE t.day = d.day::date ORDER BY position DESC LIMIT 1) l
			CROSS JOIN LATERAL (SELECT counted_rider_id FROM counted_take t WHERE t.day = d.day::date AND t.position > m.position OFFSET 0) t
			WHERE l.position > m.position
			UNION ALL SELECT t.counted_rider_id, m.since FROM unnest(@months::date[], @positions::bigint[]) AS m(since, position)
			JOIN counted_take t ON t.missed AND t.day >= m.since AND t.day < m.since + interval '1 month' AND t.position <= m.position
		) x GROUP BY 1, 2)
	SELECT r.rider_id::text, r.union_path, r.platform, n.swaps, n.periods FROM (
		SELECT id, sum(swaps) AS swaps, bit_or(1::bigint << (array_position(@months::date[], since) - 1)) AS periods FROM (
			SELECT counted_rider_id AS id, since, swaps FROM rider_count
				WHERE whole AND since = ANY(@months) AND (counted_rider_id, since) NOT IN (SELECT counted_rider_id, since FROM late)
			UNION ALL SELECT l.counted_rider_id, l.since, c.swaps - l.swaps FROM late l CROSS JOIN LATERAL (
				SELECT swaps FROM rider_count c WHERE c.whole AND c.since = l.since AND c.counted_rider_id = l.counted_rider_id OFFSET 0) c
				WHERE c.swaps > l.swaps
		) x GROUP BY 1) n
	JOIN counted_rider r ON r.counted_rider_id = n.id`

// closedMembers are the riders who took one in the closed months of the range.
func (k *figuring) closedMembers() ([]statistics.Member, error) {
	months, positions := make([]statistics.Day, len(k.closings)), make([]int64, len(k.closings))
	for i, c := range k.closings {
		months[i], positions[i] = c.month, c.at
	}
	return k.readMembers(sqlClosed, pgx.NamedArgs{"months": asDates(months), "positions": positions})
}

func (k *figuring) readMembers(sql string, named pgx.NamedArgs) ([]statistics.Member, error) {
	var out []statistics.Member
	var m statistics.Member
	var periods int64
	err := k.read(sql, named, []any{&m.Rider, &m.Path, &m.Platform, &m.Swaps, &periods}, func() error {
		m.Periods = uint64(periods)
		out = append(out, m)
		m.Path = nil
		return nil
	})
	return out, err
}

// nameBodies gives the bodies their names of now.
func (k *figuring) nameBodies(groups []statistics.Group) error {
	names, levels := map[string]string{}, map[string]string{}
	var id, name, level string
	err := k.read(`SELECT union_id::text, name, level FROM union_body`, nil, []any{&id, &name, &level}, func() error {
		names[id], levels[id] = name, level
		return nil
	})
	for i := range groups {
		g := &groups[i]
		last := g.Key[strings.LastIndexByte(g.Key, '/')+1:]
		if last == "" || last == statistics.Direct {
			continue
		}
		if g.Name, g.Level = names[last], levels[last]; g.Name == "" {
			g.Name = "#" + last // it is gone
		}
	}
	return err
}

// nameRiders gives the riders their masked names. They are most of all riders: so
// all are read, which is quicker than a look for each.
func (k *figuring) nameRiders(groups []statistics.Group) error {
	at := make(map[string]int, len(groups))
	for i, g := range groups {
		at[g.Key] = i
	}
	var id, name string
	return k.read(`SELECT rider_id::text, name FROM rider`, nil, []any{&id, &name}, func() error {
		if i, is := at[id]; is {
			groups[i].Name = staff.Mask(name)
		}
		return nil
	})
}

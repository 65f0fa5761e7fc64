package postgres

import (
	"strings"
	"time"

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
	members, err := k.members()
	if err != nil {
		return err
	}
	f.Riders = statistics.Count(members)
	switch k.By {
	case statistics.ByUnion:
		f.Groups = statistics.Unions(members)
		return k.nameBodies(f.Groups)
	case statistics.ByPlatform:
		f.Groups = statistics.Platforms(members)
		return nil
	default:
		f.Groups = statistics.Riders(members)
		return k.nameRiders(f.Groups)
	}
}

// sqlMembers adds up riders from whole months, parts of months and single takes,
// less the takes of these pieces that are later than the position. Months of which
// something is later show who took one in them only after that was taken off.
const sqlMembers = `SELECT r.rider_id::text, r.union_path, r.platform, n.swaps, n.months FROM (
	SELECT id, sum(swaps) AS swaps, bit_or(bit) AS months FROM (
		SELECT c.counted_rider_id AS id, c.swaps, p.bit
			FROM unnest(@whole::boolean[], @since::date[], @bits::bigint[]) AS p(whole, since, bit) JOIN rider_count c ON c.whole = p.whole AND c.since = p.since
		UNION ALL SELECT counted_rider_id, 1, 0 FROM counted_take WHERE day = ANY(@days) AND position <= @as_of
		UNION ALL SELECT counted_rider_id, -1, 0 FROM counted_take WHERE day = ANY(@less) AND position > @as_of
		UNION ALL SELECT c.counted_rider_id, 0, e.bit
			FROM unnest(@edge::date[], @edge_bits::bigint[]) AS e(since, bit) JOIN rider_count c ON c.whole AND c.since = e.since
		UNION ALL SELECT id, 0, bit FROM (
			SELECT c.counted_rider_id AS id, p.bit, c.swaps FROM unnest(@dirty_whole::boolean[], @dirty_since::date[], @dirty_bits::bigint[]) AS p(whole, since, bit)
				JOIN rider_count c ON c.whole = p.whole AND c.since = p.since
			UNION ALL SELECT t.counted_rider_id, d.bit, 1 FROM unnest(@dirty_days::date[], @dirty_day_bits::bigint[]) AS d(day, bit)
				JOIN counted_take t ON t.day = d.day AND t.position <= @as_of
			UNION ALL SELECT t.counted_rider_id, d.bit, -1 FROM unnest(@dirty_less::date[], @dirty_less_bits::bigint[]) AS d(day, bit)
				JOIN counted_take t ON t.day = d.day AND t.position > @as_of
			) d GROUP BY id, bit HAVING sum(swaps) > 0
	) x GROUP BY id HAVING sum(swaps) > 0) n
	JOIN counted_rider r ON r.counted_rider_id = n.id`

// pieces are parts of riders' counts, as a query takes them: each with the bit of
// its month.
type pieces struct {
	whole                   []bool
	since, days, less       []time.Time
	bits, dayBits, lessBits []int64
}

// add splits a range up to the position: whole pieces, less what is later in them,
// and single days.
func (p *pieces) add(k *figuring, r statistics.Range, bit func(statistics.Day) int64) {
	split := r.Split(func(d statistics.Day) bool { return k.future[d] })
	whole := func(first, next statistics.Day, month bool) {
		p.whole, p.since, p.bits = append(p.whole, month), append(p.since, first.Date()), append(p.bits, bit(first))
		for d := first; d < next; d++ {
			if k.mixed[d] {
				p.less, p.lessBits = append(p.less, d.Date()), append(p.lessBits, bit(d))
			}
		}
	}
	for _, m := range split.Months {
		whole(m, m.NextMonth(), true)
	}
	for _, m := range split.Parts {
		whole(m, m.NextPart(), false)
	}
	for _, d := range split.Days {
		p.days, p.dayBits = append(p.days, d.Date()), append(p.dayBits, bit(d))
	}
}

// members are the riders who took one in the range, as what they were then, and
// in which months they did.
func (k *figuring) members() ([]statistics.Member, error) {
	stained := map[statistics.Day]bool{} // months with something later
	for _, set := range []map[statistics.Day]bool{k.mixed, k.future} {
		for d := range set {
			stained[d.Month()] = true
		}
	}
	var in, dirty pieces
	var edge []time.Time
	var edgeBits []int64
	number := map[statistics.Day]int64{}
	for i, m := range k.Months() {
		number[m] = 1 << i
	}
	// A whole month that nothing is later of shows by itself who took one in it.
	in.add(k, k.Range, func(d statistics.Day) int64 {
		if m := d.Month(); d == m && !stained[m] && m >= k.From && m.NextMonth()-1 <= k.To {
			return number[m]
		}
		return 0
	})
	for _, m := range k.Months() {
		switch {
		case stained[m]:
			dirty.add(k, statistics.Range{From: m, To: m.NextMonth() - 1}, func(statistics.Day) int64 { return number[m] })
		case m < k.From || m.NextMonth()-1 > k.To:
			edge, edgeBits = append(edge, m.Date()), append(edgeBits, number[m])
		}
	}
	var out []statistics.Member
	var m statistics.Member
	var months int64
	err := k.read(sqlMembers, pgx.NamedArgs{
		"whole": in.whole, "since": in.since, "bits": in.bits, "days": in.days, "less": in.less, "edge": edge, "edge_bits": edgeBits,
		"dirty_whole": dirty.whole, "dirty_since": dirty.since, "dirty_bits": dirty.bits, "dirty_days": dirty.days, "dirty_day_bits": dirty.dayBits,
		"dirty_less": dirty.less, "dirty_less_bits": dirty.lessBits,
	}, []any{&m.Rider, &m.Path, &m.Platform, &m.Swaps, &months}, func() error {
		m.Months = uint64(months)
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

// nameRiders gives the riders their masked names.
func (k *figuring) nameRiders(groups []statistics.Group) error {
	if len(groups) > maxRiders {
		groups = groups[:maxRiders]
	}
	ids, at := make([]string, len(groups)), map[string]int{}
	for i, g := range groups {
		ids[i], at[g.Key] = g.Key, i
	}
	var id, name string
	return k.read(`SELECT rider_id::text, name FROM rider WHERE rider_id = ANY(@ids::uuid[])`, pgx.NamedArgs{"ids": ids}, []any{&id, &name}, func() error {
		groups[at[id]].Name = staff.Mask(name)
		return nil
	})
}

// maxRiders bounds the riders that are named.
const maxRiders = 100

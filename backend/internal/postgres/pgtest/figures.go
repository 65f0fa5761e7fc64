package pgtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Fill says how much is counted in a database that is filled for figures. There
// are as many branches as a hundredth of the riders, and at least three.
type Fill struct {
	Swaps, Riders, Cabinets, Days int
	Last                          string // the last day, as 2006-01-02
}

// fillSQL makes a union, its riders, cabinets in streets, and counted takes spread
// evenly over the days and by a hash over everything else. The ledger itself stays
// empty: figures do not read it.
func fillSQL(f Fill) []string {
	branches := max(3, f.Riders/100)
	spread := func(salt, n int) string {
		return fmt.Sprintf(`(hashint8(g * 31 + %d)::bigint & 2147483647) %% %d`, salt, n)
	}
	return []string{
		`INSERT INTO union_body (level, name) VALUES ('city', '总工会')`,
		`INSERT INTO union_body (level, name, parent_id) SELECT 'district', '区工会 ' || g, 1 FROM generate_series(1, 5) g`,
		fmt.Sprintf(`INSERT INTO union_body (level, name, parent_id) SELECT 'branch', '分会 ' || g, 2 + g %% 5 FROM generate_series(1, %d) g`, branches),
		fmt.Sprintf(`INSERT INTO cabinet (cabinet_id, station, street, slots) SELECT 'hb-' || lpad(g::text, 5, '0'), '站点 ' || g, '街道 ' || g %% greatest(2, %[1]d / 15), 12
			FROM generate_series(1, %[1]d) g`, f.Cabinets),
		fmt.Sprintf(`INSERT INTO rider (rider_id, name, union_id, platform, membership_no) SELECT ('0190aaaa-0000-7000-8000-' || lpad(to_hex(g), 12, '0'))::uuid, '骑手' || g,
			NULLIF(6 + g %% (%d + 1), 6), (ARRAY['美团', '饿了么', '闪送', '顺丰', ''])[1 + g %% 5], lpad(g::text, 8, '0') FROM generate_series(1, %d) g`, branches, f.Riders),
		`INSERT INTO counted_cabinet (cabinet_id, street, digest) SELECT cabinet_id, street, digest_of(cabinet_id, street) FROM cabinet ORDER BY cabinet_id`,
		`INSERT INTO counted_rider (rider_id, union_path, platform, digest) SELECT rider_id, CASE WHEN union_id IS NULL THEN '{}' ELSE union_path(union_id) END, platform,
			digest_of(rider_id::text, union_path(union_id)::text, platform) FROM rider ORDER BY rider_id`,
		fmt.Sprintf(`INSERT INTO counted_take (day, position, at, swap_id, counted_cabinet_id, counted_rider_id, owed)
			SELECT day, g, (day::timestamp + make_interval(hours => (6 + %[1]s)::int, secs => (%[2]s)::int)) AT TIME ZONE 'Asia/Shanghai',
				('019a0000-0000-7000-8000-' || lpad(to_hex(g), 12, '0'))::uuid, 1 + %[3]s, 1 + %[4]s, g %% 50 = 0
			FROM (SELECT g, date '%[5]s' - (%[6]d - 1 - ((g - 1) * %[6]d / %[7]d)::int) AS day FROM generate_series(1::bigint, %[7]d) g) x`,
			spread(1, 17), spread(2, 3600), spread(3, f.Cabinets), spread(4, f.Riders), f.Last, f.Days, f.Swaps),
		fmt.Sprintf(`SELECT setval('ledger_position_seq', %d)`, f.Swaps),
		`INSERT INTO hour_count SELECT day, extract(hour FROM at AT TIME ZONE 'Asia/Shanghai'), 0, count(*) FROM counted_take GROUP BY 1, 2`,
		`INSERT INTO cabinet_count SELECT day, counted_cabinet_id, count(*) FROM counted_take GROUP BY 1, 2`,
		`INSERT INTO rider_count SELECT true, date_trunc('month', day::timestamp)::date, counted_rider_id, count(*) FROM counted_take GROUP BY 2, 3`,
		`INSERT INTO rider_count SELECT false, part_of(day), counted_rider_id, count(*) FROM counted_take GROUP BY 2, 3`,
		`ANALYZE`,
	}
}

// FillFigures fills a fresh database.
func FillFigures(ctx context.Context, url string, f Fill) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range fillSQL(f) {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.80s: %w", sql, err)
		}
	}
	return nil
}

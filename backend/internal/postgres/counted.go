package postgres

import (
	"math/rand/v2"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
)

// lanes is how many sets of hours there are: two replicas seldom share one.
const lanes = 16

func newLane() int { return rand.IntN(lanes) }

// sqlCount writes down what counted takes belong to, and moves the daily
// aggregates, in the transaction of their entries. It is one statement, so that
// all of it sees one moment: a cabinet that is moved meanwhile stands in one street.
// Whoever books a take has its cabinet's cursor and its rider's row, so nobody
// else writes down the same cabinet or rider now. Hours are locked in their order.
const sqlCount = `
WITH k AS MATERIALIZED (
	SELECT l.*, b.street, CASE WHEN r.union_id IS NULL THEN '{}' ELSE union_path(r.union_id) END AS union_path, r.platform
	FROM unnest($1::uuid[], $2::int[]) AS w(id, no)
	CROSS JOIN LATERAL (SELECT day, position, at, swap_id, cabinet_id, rider_id, kind FROM ledger WHERE swap_id = w.id AND entry_no = w.no OFFSET 0) l
	CROSS JOIN LATERAL (SELECT street FROM cabinet WHERE cabinet_id = l.cabinet_id OFFSET 0) b
	CROSS JOIN LATERAL (SELECT union_id, platform FROM rider WHERE rider_id = l.rider_id OFFSET 0) r
), had_cabinet AS MATERIALIZED (
	SELECT DISTINCT k.cabinet_id, k.street, h.id FROM k LEFT JOIN LATERAL
		(SELECT counted_cabinet_id AS id FROM counted_cabinet x WHERE x.cabinet_id = k.cabinet_id AND x.street = k.street OFFSET 0) h ON true
), new_cabinet AS (
	INSERT INTO counted_cabinet (cabinet_id, street, digest)
	SELECT cabinet_id, street, digest_of(cabinet_id, street) FROM had_cabinet WHERE id IS NULL ORDER BY 1, 2 RETURNING counted_cabinet_id, cabinet_id, street
), c AS (
	SELECT id, cabinet_id, street FROM had_cabinet WHERE id IS NOT NULL UNION ALL SELECT * FROM new_cabinet
), had_rider AS MATERIALIZED (
	SELECT DISTINCT k.rider_id, k.union_path, k.platform, h.id FROM k LEFT JOIN LATERAL
		(SELECT counted_rider_id AS id FROM counted_rider x WHERE x.rider_id = k.rider_id AND x.union_path = k.union_path AND x.platform = k.platform OFFSET 0) h ON true
), new_rider AS (
	INSERT INTO counted_rider (rider_id, union_path, platform, digest)
	SELECT rider_id, union_path, platform, digest_of(rider_id::text, union_path::text, platform) FROM had_rider WHERE id IS NULL ORDER BY 1, 2, 3
	RETURNING counted_rider_id, rider_id, union_path, platform
), r AS (
	SELECT id, rider_id, union_path, platform FROM had_rider WHERE id IS NOT NULL UNION ALL SELECT * FROM new_rider
), take AS (
	INSERT INTO counted_take (day, position, at, swap_id, counted_cabinet_id, counted_rider_id, owed, missed)
	SELECT k.day, k.position, k.at, k.swap_id, c.id, r.id, k.kind = 'owed', $4 FROM k
		JOIN c USING (cabinet_id, street) JOIN r USING (rider_id, union_path, platform) ORDER BY k.position
	RETURNING day, extract(hour FROM at AT TIME ZONE 'Asia/Shanghai')::smallint AS hour, counted_cabinet_id, counted_rider_id
), hours AS (
	INSERT INTO hour_count AS h (day, hour, lane, swaps) SELECT day, hour, $3, count(*) FROM take GROUP BY 1, 2 ORDER BY 1, 2
	ON CONFLICT (day, hour, lane) DO UPDATE SET swaps = h.swaps + EXCLUDED.swaps
), cabinets AS (
	INSERT INTO cabinet_count AS h (day, counted_cabinet_id, swaps) SELECT day, counted_cabinet_id, count(*) FROM take GROUP BY 1, 2 ORDER BY 1, 2
	ON CONFLICT (day, counted_cabinet_id) DO UPDATE SET swaps = h.swaps + EXCLUDED.swaps
)
INSERT INTO rider_count AS h (whole, since, counted_rider_id, swaps)
SELECT s.whole, s.since, t.counted_rider_id, count(*) FROM take t
	CROSS JOIN LATERAL (VALUES (true, date_trunc('month', t.day::timestamp)::date), (false, part_of(t.day))) s(whole, since)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (whole, since, counted_rider_id) DO UPDATE SET swaps = h.swaps + EXCLUDED.swaps`

// queueCounted counts the entries that do, after they were written.
func queueCounted(b *pgx.Batch, entries []swap.Entry, lane int) {
	var swaps []string
	var numbers []int
	for _, e := range entries {
		if e.Counted {
			swaps, numbers = append(swaps, string(e.SwapID)), append(numbers, e.EntryNo)
		}
	}
	if len(swaps) > 0 {
		b.Queue(sqlCount, swaps, numbers, lane, false)
	}
}

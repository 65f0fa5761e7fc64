package postgres

// figureChecks hold what the union's figures are read from against the ledger.
func figureChecks() []check {
	told := `concat_ws(' ', day, swap_id, at, cabinet_id, rider_id, owed)`
	return []check{
		{"counted_take", `SELECT position::text, t.said, l.said FROM
				(SELECT position, ` + told + ` AS said FROM counted_take LEFT JOIN counted_cabinet USING (counted_cabinet_id) LEFT JOIN counted_rider USING (counted_rider_id)) t
			FULL JOIN (SELECT position, ` + told + ` AS said FROM (SELECT *, kind = 'owed' AS owed FROM ledger WHERE counted) x) l USING (position)
			WHERE t.said IS DISTINCT FROM l.said`},
		{"counted_cabinet", `SELECT counted_cabinet_id::text, concat_ws(' ', cabinet_id, street), 'another cabinet or street when it was written, or no take' FROM counted_cabinet c
			WHERE digest <> digest_of(cabinet_id, street) OR NOT EXISTS (SELECT FROM cabinet_count n WHERE n.counted_cabinet_id = c.counted_cabinet_id)`},
		{"counted_rider", `SELECT counted_rider_id::text, concat_ws(' ', rider_id, union_path, platform), 'another rider, union or platform when it was written, or no take' FROM counted_rider c
			WHERE digest <> digest_of(rider_id::text, union_path::text, platform) OR NOT EXISTS (SELECT FROM rider_count n WHERE n.counted_rider_id = c.counted_rider_id)`},
		{"hour_count.swaps", `SELECT concat_ws(' ', day, hour), h.n::text, t.n::text FROM (SELECT day, hour, sum(swaps) AS n FROM hour_count GROUP BY 1, 2) h
			FULL JOIN (SELECT day, extract(hour FROM at AT TIME ZONE 'Asia/Shanghai')::smallint AS hour, count(*) AS n FROM counted_take GROUP BY 1, 2) t USING (day, hour)
			WHERE h.n IS DISTINCT FROM t.n`},
		{"cabinet_count.swaps", `SELECT concat_ws(' ', day, counted_cabinet_id), c.swaps::text, t.n::text FROM cabinet_count c
			FULL JOIN (SELECT day, counted_cabinet_id, count(*) AS n FROM counted_take GROUP BY 1, 2) t USING (day, counted_cabinet_id)
			WHERE c.swaps IS DISTINCT FROM t.n`},
		{"rider_count.swaps", `SELECT concat_ws(' ', CASE WHEN whole THEN 'month' ELSE 'part' END, since, counted_rider_id), c.swaps::text, t.n::text FROM rider_count c
			FULL JOIN (SELECT s.whole, s.since, counted_rider_id, count(*) AS n FROM counted_take
				CROSS JOIN LATERAL (VALUES (true, date_trunc('month', day::timestamp)::date), (false, part_of(day))) s(whole, since) GROUP BY 1, 2, 3) t
			USING (whole, since, counted_rider_id) WHERE c.swaps IS DISTINCT FROM t.n`},
	}
}

package postgres_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
)

// memberWith imports a member of the roll and gives their pseudonym.
func (d *deck) member(number, phone, to string) swap.RiderID {
	d.t.Helper()
	i := d.importRoll("姓名,手机,会员号,到期日期\n某人,"+phone+","+number+","+to+"\n", false)
	require.Equal(d.t, []int{1, 0, 0, 0}, counts(i))
	return swap.RiderID(query[string](d, `SELECT rider_id::text FROM rider WHERE membership_no = '`+number+`'`))
}

// TestARiderIsForgotten: the person goes, the counts stay, and who has a battery
// of ours is asked about it first.
func TestARiderIsForgotten(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	ctx := d.as("li")
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	id := d.member("Z-1", "13800001234", "")
	require.NoError(t, d.store.CreateSession(ctx, id, deviceOf("token")))
	d.battery("OWN", swap.Place{RiderID: id})
	taken := c.swapped(c.granted(id, false), "OWN")
	k.sends(c)

	found, err := d.store.Riders(ctx, "Z-1")
	require.NoError(t, err)
	require.Len(t, found, 1, "found by the number")
	require.NotContains(t, found[0].Name, "某人", "masked")
	who, err := d.store.Reveal(ctx, id, "lost a bag")
	require.NoError(t, err)
	require.Equal(t, staff.Revealed{Name: "某人", Phone: "13800001234"}, who)

	raw, err := d.store.RiderData(ctx, id, "asked for it in writing")
	require.NoError(t, err)
	var data map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &data))
	require.JSONEq(t, `"13800001234"`, string(data["phone"]))
	for _, part := range []string{"rider", "sessions", "scans", "swaps", "ledger", "day_counts", "batteries", "counted_as", "roll_rows"} {
		require.Greater(t, len(data[part]), 2, part)
	}
	require.NotContains(t, string(raw), "token_hash")
	require.NotContains(t, string(raw), "phone_sealed")

	refusal(t, d.store.ForgetRider(ctx, id, "asked for it in writing"), staff.NotSettled)
	require.NoError(t, d.store.AssignBattery(ctx, taken, swap.Place{}))
	require.ErrorContains(t, d.store.ForgetRider(ctx, id, ""), "reason")
	require.NoError(t, d.store.ForgetRider(ctx, id, "asked for it in writing"))
	detail, err := d.store.RiderDetail(ctx, id)
	require.NoError(t, err)
	require.True(t, detail.Forgotten)
	require.Equal(t, 1, detail.Counted, "the counts stay")
	require.Equal(t, int64(1), query[int64](d, `SELECT sum(swaps) FROM day_count`))
	_, err = d.store.SessionRider(ctx, []byte("token"))
	require.ErrorIs(t, err, postgres.ErrNotFound)
	require.Zero(t, query[int64](d, `SELECT count(*) FROM rider WHERE phone_hash IS NOT NULL OR membership_no IS NOT NULL OR name = '某人'`))
	lines, err := d.store.AuditLines(ctx, string(id), 0, 10)
	require.NoError(t, err)
	var acts []string
	for _, l := range lines {
		acts = append(acts, l.Act)
		require.NotContains(t, string(l.Detail), "1380000")
	}
	require.Equal(t, []string{"rider.forget", "rider.data", "rider.reveal"}, acts)
	require.NotEqual(t, id, d.member("Z-1", "13800001234", ""), "who comes back is somebody new")
	d.honest()
}

// TestRiderDataIsAll: whatever table names a rider is in what a rider is given, but for
// codes, which are secrets of a day.
func TestRiderDataIsAll(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	raw, err := d.store.RiderData(d.as("li"), alice, "asked for it in writing")
	require.NoError(t, err)
	var data map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &data))
	part := map[string]string{
		"rider": "rider", "session": "sessions", "privacy_acceptance": "privacy_acceptances", "scan": "scans", "swap": "swaps", "ledger": "ledger",
		"day_count": "day_counts", "credit": "credits", "battery": "batteries", "review": "reviews", "fault_report": "fault_reports",
		"counted_rider": "counted_as", "roll_fate": "roll_rows",
	}
	rows, err := d.direct().Query(t.Context(), `SELECT c.table_name FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
		WHERE c.column_name = 'rider_id' AND c.table_schema = current_schema() AND t.table_type = 'BASE TABLE'`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(tables), len(part))
	for _, table := range tables {
		if table != "binding_code" && table != "phone_code" {
			require.Contains(t, data, part[table], table)
		}
	}
}

// TestRetention: 13 months after the membership ended the person goes by itself.
func TestRetention(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	today := query[string](d, `SELECT to_char(now() AT TIME ZONE 'Asia/Shanghai', 'YYYY-MM-DD')`)
	now, err := time.Parse(time.DateOnly, today)
	require.NoError(t, err)
	limit := now.AddDate(0, -13, 0)
	long := d.member("Z-1", "13800000001", limit.AddDate(0, 0, -3).Format(time.DateOnly))
	kept := d.member("Z-2", "13800000002", limit.AddDate(0, 0, 3).Format(time.DateOnly))
	owes := d.member("Z-3", "13800000003", limit.AddDate(-1, 0, 0).Format(time.DateOnly))
	d.battery("B", swap.Place{RiderID: owes})
	forgotten, unsettled, err := d.store.ForgetEnded(t.Context(), 13)
	require.NoError(t, err)
	require.Equal(t, []int{1, 1}, []int{forgotten, unsettled})
	for id, want := range map[swap.RiderID]bool{long: true, kept: false, owes: false} {
		detail, err := d.store.RiderDetail(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want, detail.Forgotten)
	}
}

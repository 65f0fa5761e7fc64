package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// TestAClosedMonthStaysAsItWasTold: a swap that is told after its month was closed
// changes the total and no group; the union's staff gets no breakdown of a month
// that is not closed, nor as of a position from before.
func TestAClosedMonthStaysAsItWasTold(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c, k := d.cabinet("hb-0001"), d.desk(d.store)
	require.NoError(t, d.exec(`UPDATE cabinet SET enrolled_at = now() - interval '100 days'`))
	month := statistics.Range{To: statistics.DayOf(time.Now())}
	month.From = month.To
	month = month.Closed(time.Now())
	swapOnce := func(r swap.RiderID) {
		c.ahead = time.Until(month.From.Begins().Add(9 * 24 * time.Hour))
		own := protocol.BatterySerial(fmt.Sprintf("OWN-%s-%d", r, query[int64](d, `SELECT count(*) FROM battery`)))
		d.battery(own, swap.Place{RiderID: r})
		c.swapped(c.granted(r, false), own)
		k.sends(c)
	}
	require.NoError(t, d.exec(`UPDATE rider SET platform = 'red'`))
	var before int64 // the last take of those
	for i := range 11 {
		before = query[int64](d, `SELECT last_value FROM ledger_position_seq`)
		r, err := d.store.AddRider(t.Context(), postgres.NewRider{Name: fmt.Sprint("R", i)})
		require.NoError(t, err)
		require.NoError(t, d.exec(`UPDATE rider SET platform = 'red' WHERE rider_id = $1`, string(r)))
		swapOnce(r)
	}
	union := staff.As(context.Background(), staff.Actor{Login: "u", Roles: []staff.Role{staff.Union}})
	q := statistics.Question{Range: month, By: statistics.ByPlatform}
	all, err := d.store.LedgerPosition(t.Context())
	require.NoError(t, err)
	d.battery("ONE-MORE", swap.Place{}) // the ledger goes on

	was, err := d.store.Figure(union, q)
	require.NoError(t, err)
	require.Equal(t, 11, was.Groups[0].Swaps)
	require.Zero(t, was.Ungrouped)
	swapOnce(alice)
	is, err := d.store.Figure(union, q)
	require.NoError(t, err)
	require.Equal(t, was.Groups, is.Groups)
	require.Equal(t, was.Riders, is.Riders)
	require.Equal(t, 12, is.Swaps)
	require.Equal(t, 1, is.Ungrouped)

	early := q
	early.AsOf = before
	_, err = d.store.Figure(union, early)
	require.ErrorContains(t, err, "as_of", "a take lies between it and the closing")
	early.AsOf = all
	is, err = d.store.Figure(union, early)
	require.NoError(t, err)
	require.Equal(t, was.Groups, is.Groups)
	early.AsOf = 1
	is, err = d.store.Figure(union, early)
	require.NoError(t, err)
	require.Empty(t, is.Groups, "nobody had taken one")
	empty, err := d.store.Figure(union, statistics.Question{Range: statistics.Range{From: (month.From - 1).Month(), To: month.From - 1}, By: statistics.ByPlatform})
	require.NoError(t, err)
	require.Empty(t, empty.Groups)
	require.EqualValues(t, 1, query[int64](d, `SELECT count(*) FROM month_closing`), "a month without a take is not closed")
	for name, r := range map[string]statistics.Range{
		"a part of it": {From: month.From, To: month.To - 1}, "this month": {From: statistics.DayOf(time.Now()).Month(), To: statistics.DayOf(time.Now()).NextMonth() - 1},
		"thirty days": {From: statistics.DayOf(time.Now()) - 29, To: statistics.DayOf(time.Now())},
	} {
		for _, by := range []statistics.Dimension{statistics.ByUnion, statistics.ByPlatform} {
			_, err = d.store.Figure(union, statistics.Question{Range: r, By: by})
			require.ErrorContains(t, err, "want whole months", name)
			_, err = d.store.Figure(staff.As(union, staff.Actor{Login: "p", Roles: []staff.Role{staff.Union, staff.Personal}}), statistics.Question{Range: r, By: by})
			require.NoError(t, err, name)
		}
	}
	require.Error(t, d.exec(`UPDATE month_closing SET position = position + 1`), "a closing can be moved")
}

// TestStreetIsAskedForByCabinetAlone: or the headline would be the fleet's, over
// one street's lines.
func TestStreetIsAskedForByCabinetAlone(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	today := statistics.DayOf(time.Now())
	q := statistics.Question{Range: statistics.Range{From: today, To: today}, Street: "Lane"}
	for _, by := range statistics.Dimensions() {
		q.By = by
		_, err := d.store.Figure(t.Context(), q)
		if by == statistics.ByCabinet {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "street", by)
		}
	}
	q.By = statistics.ByCabinet
	require.ErrorContains(t, d.store.Publish(t.Context(), "Lane's", q), "street")
}

// TestTakesThatAnOldVersionBooked are in the ledger and in no figure, until the
// next audit counts them.
func TestTakesThatAnOldVersionBooked(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c, k := d.cabinet("hb-0001"), d.desk(d.store)
	for i, r := range []swap.RiderID{alice, bob} {
		own := protocol.BatterySerial(fmt.Sprint("OWN-", i))
		d.battery(own, swap.Place{RiderID: r})
		c.swapped(c.granted(r, false), own)
		k.sends(c)
	}
	// As it left the tables: without what counts.
	for _, table := range []string{"counted_take", "counted_cabinet", "counted_rider"} {
		require.NoError(t, d.exec(`ALTER TABLE `+table+` DISABLE TRIGGER append_only`))
	}
	require.NoError(t, d.exec(`DELETE FROM counted_take WHERE position = (SELECT max(position) FROM counted_take)`))
	require.NoError(t, d.exec(`DELETE FROM rider_count WHERE counted_rider_id NOT IN (SELECT counted_rider_id FROM counted_take)`))
	require.NoError(t, d.exec(`DELETE FROM counted_rider WHERE counted_rider_id NOT IN (SELECT counted_rider_id FROM counted_take)`))
	require.NoError(t, d.exec(`UPDATE cabinet_count SET swaps = 1`))
	require.NoError(t, d.exec(`DELETE FROM hour_count`))
	require.NoError(t, d.exec(`INSERT INTO hour_count SELECT day, extract(hour FROM at AT TIME ZONE 'Asia/Shanghai'), 0, count(*) FROM counted_take GROUP BY 1, 2`))

	rep, err := d.store.Audit(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, rep.Differences, "nobody would notice")
	rep, did, err := d.store.AuditIfDue(t.Context(), never)
	require.NoError(t, err)
	require.True(t, did)
	require.Empty(t, rep.Differences)
	today := statistics.DayOf(time.Now())
	f, err := d.store.Figure(t.Context(), statistics.Question{Range: statistics.Range{From: today - 1, To: today}, By: statistics.ByCabinet})
	require.NoError(t, err)
	require.Equal(t, 2, f.Swaps)
	require.EqualValues(t, 1, query[int64](d, `SELECT count(*) FROM audit_log WHERE body::jsonb ->> 'act' = 'figures.missed'`))
	n, err := d.store.CountMissed(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
)

// TestReportsOfARider: a finger that taps twice reports once, and a day has an end.
func TestReportsOfARider(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	d.cabinet("hb-0001")
	ctx := t.Context()
	f := staff.Fault{CabinetID: "hb-0001", Slot: 3, RiderID: alice, Kind: "door", Text: "it sticks"}
	first, err := d.store.RiderReport(ctx, f)
	require.NoError(t, err)
	again, err := d.store.RiderReport(ctx, f)
	require.NoError(t, err)
	require.Equal(t, first, again)
	f.Kind = "screen"
	other, err := d.store.RiderReport(ctx, f)
	require.NoError(t, err)
	require.NotEqual(t, first, other)
	_, err = d.store.RiderReport(ctx, staff.Fault{CabinetID: "hb-9999", RiderID: alice, Kind: "door"})
	require.ErrorIs(t, err, postgres.ErrNotFound)
	_, err = d.store.RiderReport(ctx, staff.Fault{CabinetID: "hb-0001", Kind: "door"})
	require.ErrorIs(t, err, postgres.ErrNotFound, "nobody's")
	for n := range 18 {
		f.Text = fmt.Sprint(n)
		_, err = d.store.RiderReport(ctx, f)
		require.NoError(t, err)
	}
	f.Text = "one more"
	_, err = d.store.RiderReport(ctx, f)
	require.ErrorIs(t, err, postgres.ErrTooManyReports)
	f.Text = "17"
	_, err = d.store.RiderReport(ctx, f)
	require.NoError(t, err, "the same again is no more")
	f.RiderID, f.Text = bob, "one more"
	_, err = d.store.RiderReport(ctx, f)
	require.NoError(t, err, "another rider")
}

// TestReportsOfARiderAtOnce: the end of a day holds for those that come together, at
// all replicas, and a finger's two taps are one report then, too.
func TestReportsOfARiderAtOnce(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	d.cabinet("hb-0001")
	replicas := []*postgres.Store{d.store, d.open()}
	var written, many atomic.Int64
	at(60, func(i int) {
		_, err := replicas[i%2].RiderReport(context.Background(), staff.Fault{CabinetID: "hb-0001", RiderID: alice, Kind: "door", Text: fmt.Sprint(i)})
		switch {
		case err == nil:
			written.Add(1)
		case errors.Is(err, postgres.ErrTooManyReports):
			many.Add(1)
		default:
			t.Error(err)
		}
	})
	require.Equal(t, int64(20), written.Load())
	require.Equal(t, int64(40), many.Load())
	at(10, func(i int) {
		_, err := replicas[i%2].RiderReport(context.Background(), staff.Fault{CabinetID: "hb-0001", RiderID: bob, Kind: "door", Text: "it sticks"})
		if err != nil {
			t.Error(err)
		}
	})
	require.Equal(t, int64(1), query[int64](d, `SELECT count(*) FROM fault_report WHERE text = 'it sticks'`))
}

package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
)

// TestCabinetGauges: every replica reads the same of a cabinet; what is old is
// not fresh, though something else may still be heard of it.
func TestCabinetGauges(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	d.cabinet("hb-0001")
	d.cabinet("hb-0002")
	one, other := d.open(), d.open()
	read := func(s *postgres.Store, inventories bool) []postgres.CabinetGauges {
		t.Helper()
		all, err := s.CabinetGauges(t.Context(), inventories)
		require.NoError(t, err)
		require.Len(t, all, 2)
		return all
	}
	require.False(t, read(one, false)[0].Fresh)

	h := told("hb-0001", 7)
	upper, energy := 31.5, uint64(9_000_000)
	h.Telemetry.UpperC, h.Telemetry.EnergyJ, h.Telemetry.MonoMS = &upper, &energy, 60_000
	wrote, err := one.Telemetry(context.Background(), []postgres.Heard{h})
	require.NoError(t, err)
	require.True(t, wrote)
	g := read(one, false)[0]
	require.Equal(t, read(other, false)[0], g, "any replica says the same")
	require.True(t, g.Fresh && g.Connected)
	require.Equal(t, [4]int{1, 1, 1, 1}, [4]int{g.Charged, g.Holding, g.Empty, g.Out})
	require.InDelta(t, 31.5, *g.UpperC, 0)
	require.InDelta(t, 9e6, *g.EnergyJ, 0)
	require.Nil(t, g.ClockOffsetS, "nobody knows its clock yet")
	require.Empty(t, g.Inventory)
	require.Len(t, read(one, true)[0].Inventory, 5)

	// Its boot's clock was synchronised: wall less monotonic time is known. It is
	// 90 s ahead.
	require.NoError(t, d.exec(`UPDATE cabinet_cursor SET boot_id = $1, clock_boot = 1,
		clock_offset_ms = (extract(epoch FROM now()) * 1000)::bigint + 90000 - 60000 WHERE cabinet_id = 'hb-0001'`, h.Telemetry.BootID[:]))
	g = read(one, false)[0]
	require.NotNil(t, g.ClockOffsetS)
	require.InDelta(t, 90, *g.ClockOffsetS, 30)

	require.NoError(t, d.exec(`UPDATE cabinet_state SET seen_at = now() - interval '61 s', mono_ms = 9223372036854775807;
		UPDATE cabinet_cursor SET heard_at = now()`))
	g = read(other, false)[0]
	require.False(t, g.Fresh)
	require.True(t, g.Connected)
	require.False(t, read(other, false)[1].Fresh)
}

// TestFleetGauges counts what is open, and who has the batteries.
func TestFleetGauges(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	d.cabinet("hb-0001")
	s := d.open()
	d.battery("B-77", swap.Place{CabinetID: "hb-0001", Slot: 3})
	before, err := s.Gauges(t.Context())
	require.NoError(t, err)
	require.Zero(t, before.OpenReviews)
	require.True(t, before.OldestReview.IsZero())
	require.Positive(t, before.Batteries["slot"])
	require.NoError(t, d.exec(`INSERT INTO review (cabinet_id, reason, seq, at, time_quality, opened_at)
		SELECT 'hb-0001', 'log_hole', n, now(), 'receipt', now() - n * interval '1 hour' FROM generate_series(1, 3) n`))
	require.NoError(t, d.exec(`UPDATE battery SET holder = 'review', slot = NULL WHERE battery_serial = 'B-77'`))
	now, err := s.Gauges(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, now.OpenReviews)
	require.InDelta(t, 3, time.Since(now.OldestReview).Hours(), 0.2)
	require.Equal(t, before.Batteries["review"]+1, now.Batteries["review"])
	require.Equal(t, before.Batteries["slot"]-1, now.Batteries["slot"])
	require.Nil(t, now.Audit)
	require.NoError(t, s.StoreAudit(t.Context(), postgres.Report{Records: 9}))
	now, err = s.Gauges(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 9, now.Audit.Records)
}

package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// TestSafetyEventsAreToldOnce: each is due from the commit of its record on, to
// one replica at a time, until it has been told; a record that comes again makes
// no second one.
func TestSafetyEventsAreToldOnce(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	other := d.open()
	claim := func(s *postgres.Store, lease time.Duration) []postgres.Notice {
		t.Helper()
		got, err := s.ClaimNotices(t.Context(), 10, lease)
		require.NoError(t, err)
		return got
	}
	k := d.desk(d.store)
	require.Empty(t, claim(d.store, time.Minute))
	c.write(
		protocol.ChargeCut{Slot: 3, Kind: protocol.AlarmTemperature},
		protocol.Alarm{Kind: protocol.AlarmSmoke},
		protocol.Tamper{Slot: 7},
		protocol.Alarm{Kind: protocol.AlarmKind(string(make([]byte, 2000))), Slot: 1 << 20, SwapID: "no swap", Cleared: true},
		protocol.DoorMoved{Slot: 3, Door: protocol.DoorOpen},
	)
	k.sends(c)
	got := claim(d.store, time.Minute)
	require.Len(t, got, 4)
	require.Empty(t, claim(other, time.Minute), "somebody tells them")
	byRecord := map[uint64]postgres.Notice{}
	for _, n := range got {
		require.Equal(t, c.id, n.CabinetID)
		require.Equal(t, c.epoch, n.Epoch)
		require.Equal(t, 1, n.Tries)
		require.Equal(t, "Station", n.Station)
		require.Equal(t, "Street", n.Street)
		byRecord[n.Seq] = n
	}
	first := c.acked - 4
	require.Equal(t, swap.ChargeCutRecord, byRecord[first].Record)
	require.Equal(t, protocol.Alarm{Kind: protocol.AlarmTemperature, Slot: 3}, byRecord[first].Alarm)
	require.Equal(t, swap.AlarmRecord, byRecord[first+1].Record)
	require.Equal(t, protocol.Alarm{Kind: protocol.AlarmSmoke}, byRecord[first+1].Alarm)
	require.Equal(t, swap.TamperRecord, byRecord[first+2].Record)
	require.Equal(t, protocol.Alarm{Kind: protocol.AlarmTamper, Slot: 7}, byRecord[first+2].Alarm)

	k.Submit(c.log(1, len(c.raws))) // it comes again
	require.NoError(t, d.store.NoticeTold(t.Context(), byRecord[first]))
	require.NoError(t, d.store.NoticeFailed(t.Context(), byRecord[first+1], -time.Second))
	require.NoError(t, d.store.NoticeFailed(t.Context(), byRecord[first+2], time.Hour))
	again := claim(other, 0)
	require.Len(t, again, 1, "only what failed is due")
	require.Equal(t, byRecord[first+1].Seq, again[0].Seq)
	require.Equal(t, 2, again[0].Tries)
	again = claim(d.store, time.Minute)
	require.Len(t, again, 1, "the lease of who died has ended")
	require.Equal(t, 3, again[0].Tries)

	c.write(protocol.Alarm{Kind: protocol.AlarmWater})
	k.sends(c)
	require.NoError(t, d.exec(`UPDATE safety_event SET due_at = now() - interval '1 hour' WHERE tries > 0`))
	got, err := d.store.ClaimNotices(t.Context(), 1, time.Minute)
	require.NoError(t, err)
	require.Equal(t, protocol.AlarmWater, got[0].Alarm.Kind, "what is new goes first")
	require.Equal(t, int64(5), query[int64](d, `SELECT count(*) FROM safety_event`))
	g, err := d.store.Gauges(t.Context())
	require.NoError(t, err)
	require.Equal(t, 4, g.Untold)
}

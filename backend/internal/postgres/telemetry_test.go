package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/protocol"
)

func told(id protocol.CabinetID, backlog uint64) postgres.Heard {
	soc := 97
	return postgres.Heard{CabinetID: id, Telemetry: protocol.Telemetry{
		BootID: protocol.BootID{1}, BootSeq: 1, Software: "test\x00", BacklogRecords: backlog, Alarms: []string{"smoke", "\xff"},
		Slots: protocol.Inventory{
			{Slot: 1, Presence: protocol.HoldsBattery, Charged: true, Soc: &soc, BatterySerial: "B-1"},
			{Slot: 2, Presence: protocol.HoldsBattery, BatterySerial: "B-2"},
			{Slot: 3, Presence: protocol.PresenceEmpty},
			{Slot: 4, Presence: protocol.PresenceEmpty, Out: true},
			{Slot: 5, Presence: "maybe", Door: "ajar", Charged: true},
		},
	}}
}

// TestTelemetryIsWrittenByOne: the first replica that hears anything writes for
// all; when it has gone deaf, or died, another takes over.
func TestTelemetryIsWrittenByOne(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	d.cabinet("hb-0001")
	deaf, other := d.open(), d.open()
	write := func(s *postgres.Store, heard ...postgres.Heard) bool {
		t.Helper()
		wrote, err := s.Telemetry(context.Background(), heard)
		require.NoError(t, err)
		return wrote
	}
	require.False(t, write(other), "nothing to write is no reason to be the one")
	require.True(t, write(deaf, told("hb-0001", 7), told("hb-0404", 1)))
	require.False(t, write(other, told("hb-0001", 8)))
	all, err := other.Cabinets(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1, "what is not enrolled is not written")
	v := all[0]
	require.Equal(t, uint64(7), v.Backlog)
	require.Equal(t, [4]int{1, 1, 1, 1}, [4]int{v.Charged, v.Holding, v.Empty, v.Out})
	require.Empty(t, v.Inventory, "lists do without")
	require.True(t, v.Reachable)
	one, err := other.Cabinet(t.Context(), "hb-0001")
	require.NoError(t, err)
	require.Len(t, one.Inventory, 5)
	require.Equal(t, protocol.PresenceUnknown, one.Inventory[4].Presence)
	require.Equal(t, protocol.DoorUnknown, one.Inventory[4].Door)
	one.Inventory, v.LastSeen = nil, one.LastSeen
	require.Equal(t, v, one)

	require.True(t, write(deaf), "a short silence is none")
	require.Eventually(t, func() bool {
		write(deaf)
		return write(other, told("hb-0001", 9))
	}, patience, 100*time.Millisecond)
	require.False(t, write(deaf, told("hb-0001", 10)), "there is one")
	other.Close()
	require.Eventually(t, func() bool { return write(deaf, told("hb-0001", 11)) }, patience, 20*time.Millisecond)
	one, err = deaf.Cabinet(t.Context(), "hb-0001")
	require.NoError(t, err)
	require.Equal(t, uint64(11), one.Backlog)
}

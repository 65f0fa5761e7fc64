package pilot

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

func TestSpreadLosesNone(t *testing.T) {
	for total := range 200 {
		for _, weights := range [][]int{{1}, {1, 1, 1}, {0, 5, 0, 3}, hours[:], weekdays[:]} {
			sum := 0
			for i, n := range spread(total, weights) {
				require.GreaterOrEqual(t, n, 0)
				require.False(t, weights[i] == 0 && n > 0, "nobody swaps at that hour")
				sum += n
			}
			require.Equal(t, total, sum)
		}
	}
	require.Equal(t, []int{4, 3, 3}, spread(10, []int{1, 1, 1}))
}

func TestThePlanIsThePilots(t *testing.T) {
	first := time.Date(2026, 3, 2, 0, 0, 0, 0, street)
	o := Options{Days: 38, Swaps: 2425, Cabinets: 4, Riders: 40, Seed: 1}
	plan := newPlan(o, first)
	require.Len(t, plan, o.Swaps)
	require.Equal(t, plan, newPlan(o, first), "the seed draws it")
	perDay, perHour, perFate := map[int]int{}, map[int]int{}, map[fate]int{}
	for i, v := range plan {
		require.False(t, i > 0 && v.at.Before(plan[i-1].at))
		perDay[int(v.at.Sub(first)/(24*time.Hour))]++
		perHour[v.at.In(street).Hour()]++
		perFate[v.fate]++
	}
	require.Len(t, perDay, o.Days)
	require.Zero(t, perHour[3])
	require.Greater(t, perHour[11], 2*perHour[14], "before lunch there is a peak")
	for _, f := range fates {
		require.Positive(t, perFate[f.fate], "%s", f.fate)
	}
}

// Facts are of one battery in one place.
func TestFactsRefuseTheImpossible(t *testing.T) {
	const c = protocol.CabinetID("pilot-01")
	at := time.Date(2026, 3, 2, 23, 59, 59, 0, street)
	f := &facts{
		slots: map[protocol.CabinetID][]compartment{c: {{serial: "A"}, {}}}, hands: []protocol.BatterySerial{"R"}, takes: map[string]int{},
	}
	_, err := f.take(0, c, 1, at)
	require.Error(t, err, "the rider's hands are full")
	_, err = f.put(0, c, 1, at)
	require.Error(t, err, "the slot is full")
	serial, err := f.put(0, c, 2, at)
	require.NoError(t, err)
	require.EqualValues(t, "R", serial)
	_, err = f.put(0, c, 2, at)
	require.Error(t, err)
	require.Equal(t, []protocol.Offer{{Slot: 1, BatterySerial: "A", Soc: 97}}, f.offers(c, at), "the other is being charged")
	require.Len(t, f.offers(c, at.Add(chargeTime)), 2)
	serial, err = f.take(0, c, 1, at)
	require.NoError(t, err)
	require.EqualValues(t, "A", serial)
	_, err = f.take(0, c, 1, at)
	require.Error(t, err)
	require.Equal(t, map[string]int{"2026-03-02": 1}, f.takes)
	require.Equal(t, []int{1}, f.empty(c))
}

func TestOptionsNameEveryMistake(t *testing.T) {
	err := Options{Days: 0, Swaps: -1, Cabinets: 1, Riders: 3}.Check()
	require.ErrorContains(t, err, "--days: 0, want 1 to 366")
	require.ErrorContains(t, err, "--swaps: -1")
	require.ErrorContains(t, err, "--riders: 3")
	require.NoError(t, Options{Days: 38, Swaps: 2425, Cabinets: 4, Riders: 40}.Check())
}

package postgres_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// at runs f n times at once.
func at(n int, f func(i int)) {
	var wg sync.WaitGroup
	gun := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-gun; f(i) })
	}
	close(gun)
	wg.Wait()
}

// TestManyRequestsOneGrant: two replicas, 200 scans of one cabinet at once, and
// its answer to whoever was first, many times over (T11).
func TestManyRequestsOneGrant(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	stores := []*postgres.Store{d.store, d.open()}
	const n = 200
	riders := make([]swap.RiderID, n)
	for i := range riders {
		r, err := d.store.AddRider(t.Context(), postgres.NewRider{Name: "R"})
		require.NoError(t, err)
		riders[i] = r
	}
	var rows []postgres.Battery
	for i := range riders {
		rows = append(rows, postgres.Battery{BatterySerial: protocol.BatterySerial(fmt.Sprintf("OWN-%d", i))})
	}
	_, err := d.store.ImportBatteries(t.Context(), rows)
	require.NoError(t, err)
	for i, r := range riders {
		require.NoError(t, d.store.AssignBattery(t.Context(), rows[i].BatterySerial, swap.Place{RiderID: r}))
	}
	var mu sync.Mutex
	asked, grants := 0, 0
	reasons := map[protocol.Reason]int{}
	count := func(f func()) { mu.Lock(); defer mu.Unlock(); f() }
	at(n, func(i int) {
		_, p, no, err := stores[i%2].Request(t.Context(), swap.Scan{RiderID: riders[i], CabinetID: c.id, IdempotencyKey: "once"})
		require.NoError(t, err)
		if no != nil {
			count(func() { reasons[no.Reason]++ })
			return
		}
		count(func() { asked++ })
		at(16, func(j int) { // a broker that repeats
			g, err := stores[j%2].Prepared(t.Context(), c.id, c.prepared(p))
			require.NoError(t, err)
			if g != nil {
				count(func() { grants++ })
			}
		})
	})
	require.Equal(t, 1, asked)
	require.Equal(t, map[protocol.Reason]int{protocol.ReasonBusy: n - 1}, reasons)
	require.Equal(t, 1, grants)
	d.honest()
}

// TestOneRiderManyCabinets: a double tap at two cabinets, and one credit.
func TestOneRiderManyCabinets(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	stores := []*postgres.Store{d.store, d.open()}
	var cs []*cabinet
	for i := range 8 {
		cs = append(cs, d.cabinet(protocol.CabinetID(fmt.Sprintf("hb-%04d", i+1))))
	}
	require.NoError(t, d.store.StaffCredit(t.Context(), alice))
	for round := range 5 {
		var mu sync.Mutex
		var grants []*protocol.Grant
		won := -1
		at(64, func(i int) {
			c := cs[i%8]
			_, p, no, err := stores[i%2].Request(t.Context(), swap.Scan{
				RiderID: alice, CabinetID: c.id, IdempotencyKey: fmt.Sprintf("%d at %s", round, c.id),
			})
			require.NoError(t, err)
			if no != nil || p == nil {
				return
			}
			g, err := stores[i%2].Prepared(t.Context(), c.id, c.prepared(p))
			require.NoError(t, err)
			if g != nil {
				mu.Lock()
				defer mu.Unlock()
				grants, won = append(grants, g), i%8
			}
		})
		require.Len(t, grants, 1, "one open swap, one credit")
		require.Equal(t, protocol.KindIssue, grants[0].Kind)
		k := d.desk(d.store)
		cs[won].write(protocol.Void{SwapID: grants[0].SwapID})
		k.sends(cs[won])
		require.Equal(t, 1, d.account(alice).OpenCredits)
	}
}

// TestReplicasIngestTheSame: two recorders get the same messages at once.
func TestReplicasIngestTheSame(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	a, b := d.desk(d.store), d.desk(d.open())
	own := []protocol.BatterySerial{"OWN-A", "OWN-B"}
	cs := []*cabinet{d.cabinet("hb-0001"), d.cabinet("hb-0002")}
	for i, r := range []swap.RiderID{alice, bob} {
		d.battery(own[i], swap.Place{RiderID: r})
	}
	for round := range 10 {
		for i, r := range []swap.RiderID{alice, bob} {
			c := cs[(i+round)%2]
			g := c.granted(r, false)
			own[i] = c.swapped(g, own[i])
			for from := int(c.acked) + 1; from <= len(c.raws); from++ {
				for _, k := range []*desk{a, b, b, a} {
					k.Submit(c.log(int(c.acked)+1, from))
				}
			}
			a.sends(c)
		}
	}
	require.Equal(t, 10, d.account(alice).Counted)
	require.Equal(t, 10, d.account(bob).Counted)
	require.Zero(t, query[int64](d, `SELECT count(*) FROM review`))
}

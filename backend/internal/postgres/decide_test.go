package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// hold locks a cabinet's cursor, as a replica would that stalls with it.
func (d *deck) hold(id protocol.CabinetID) (release func()) {
	d.t.Helper()
	conn, err := pgx.Connect(context.Background(), d.url)
	require.NoError(d.t, err)
	_, err = conn.Exec(context.Background(), `BEGIN`)
	require.NoError(d.t, err)
	_, err = conn.Exec(context.Background(), `SELECT FROM cabinet_cursor WHERE cabinet_id = $1 FOR UPDATE`, string(id))
	require.NoError(d.t, err)
	return func() { require.NoError(d.t, conn.Close(context.Background())) }
}

type asked struct {
	prepare *protocol.Prepare
	refusal *swap.Refusal
	err     error
}

// ask scans in the background.
func (d *deck) ask(r swap.RiderID, id protocol.CabinetID, key string) <-chan asked {
	out := make(chan asked, 1)
	go func() {
		_, p, no, err := d.store.Request(context.Background(), swap.Scan{RiderID: r, CabinetID: id, IdempotencyKey: key})
		out <- asked{p, no, err}
	}()
	return out
}

func (d *deck) answer(from <-chan asked) asked {
	d.t.Helper()
	select {
	case a := <-from:
		require.NoError(d.t, a.err)
		return a
	case <-time.After(patience):
		d.t.Fatal("no answer")
		panic("unreachable")
	}
}

// TestAHeldCabinetHoldsUpNobodyElse: somebody stalls with one cabinet's cursor
// in hand. Scans at the others are decided all the same, and the one that waits
// is decided when it is released.
func TestAHeldCabinetHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	d.cabinet("hb-0001")
	d.cabinet("hb-0002")
	d.battery("OWN-A", swap.Place{RiderID: alice})
	d.battery("OWN-B", swap.Place{RiderID: bob})
	release := d.hold("hb-0001")
	waits := d.ask(alice, "hb-0001", "one")
	require.Eventually(t, func() bool {
		return query[int64](d, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	}, patience, time.Millisecond)
	for i := range 5 {
		a := d.answer(d.ask(bob, "hb-0002", fmt.Sprint(i)))
		require.Equal(t, i == 0, a.prepare != nil)
	}
	select {
	case <-waits:
		t.Fatal("it was decided without the cursor")
	default:
	}
	release()
	require.NotNil(t, d.answer(waits).prepare)
}

// TestT11ManyScansOfAHeldCabinet: another replica is busy with the cabinet for longer
// than a group waits. Whoever asked meanwhile is answered, and one has the grant.
func TestT11ManyScansOfAHeldCabinet(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	d.cabinet("hb-0001")
	riders := make([]swap.RiderID, 100)
	for i := range riders {
		var err error
		riders[i], err = d.store.AddRider(t.Context(), postgres.NewRider{Name: "R"})
		require.NoError(t, err)
		d.battery(protocol.BatterySerial(fmt.Sprintf("OWN-%d", i)), swap.Place{RiderID: riders[i]})
	}
	release := d.hold("hb-0001")
	var all []<-chan asked
	for _, r := range riders {
		all = append(all, d.ask(r, "hb-0001", "k"))
	}
	require.Eventually(t, func() bool {
		return query[int64](d, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 1
	}, patience, time.Millisecond)
	release()
	granted := 0
	for _, a := range all {
		got := d.answer(a)
		if got.prepare != nil {
			granted++
			continue
		}
		require.Equal(t, protocol.ReasonBusy, got.refusal.Reason)
	}
	require.Equal(t, 1, granted)
	d.honest()
}

// TestARefusedDecisionSpoilsNoOther: a nonce that was granted before is refused
// by the database, and with it the transaction of all who were decided together.
func TestARefusedDecisionSpoilsNoOther(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	d.cabinet("hb-0002")
	d.cabinet("hb-0003")
	d.battery("OWN-A", swap.Place{RiderID: alice})
	d.battery("OWN-B", swap.Place{RiderID: bob})
	k := d.desk(d.store)
	spent := c.granted(alice, false)
	c.write(protocol.Void{SwapID: spent.SwapID})
	k.sends(c)
	p := d.answer(d.ask(alice, "hb-0001", "one")).prepare
	used := c.prepared(p)
	used.Nonce = spent.Nonce

	release := d.hold("hb-0003") // whatever is asked meanwhile is decided together
	defer release()
	first := d.ask("00000000-0000-4000-8000-0000000000cc", "hb-0003", "first")
	require.Eventually(t, func() bool {
		return query[int64](d, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	}, patience, time.Millisecond)
	good := d.ask(bob, "hb-0002", "good")
	g, err := d.store.Prepared(t.Context(), "hb-0001", used)
	require.NoError(t, err)
	require.Nil(t, g)
	require.NotNil(t, d.answer(good).prepare)
	release()
	require.Equal(t, protocol.ReasonRiderNotActive, d.answer(first).refusal.Reason)
	g, err = d.store.Prepared(t.Context(), "hb-0001", c.prepared(p))
	require.NoError(t, err)
	require.NotNil(t, g)
	d.honest()
}

// TestAskedTogether: whatever is asked at once is decided as if one by one.
func TestAskedTogether(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	const n = 40
	var cs []*cabinet
	for i := range n {
		cs = append(cs, d.cabinet(protocol.CabinetID(fmt.Sprintf("hb-%04d", i+1))))
	}
	riders := make([]swap.RiderID, n)
	for i := range riders {
		r, err := d.store.AddRider(t.Context(), postgres.NewRider{Name: "R"})
		require.NoError(t, err)
		riders[i] = r
		d.battery(protocol.BatterySerial(fmt.Sprintf("OWN-%d", i)), swap.Place{RiderID: r})
	}
	var all []<-chan asked
	for i := range n {
		all = append(all, d.ask(riders[i], cs[i].id, "one"), d.ask(riders[i], cs[i].id, "one"), d.ask(riders[i], cs[(i+1)%n].id, "two"))
	}
	prepares := map[protocol.SwapID]bool{}
	for i := range all {
		a := d.answer(all[i])
		require.True(t, a.prepare != nil || a.refusal.Reason == protocol.ReasonSwapOpen || a.refusal.Reason == protocol.ReasonBusy, "%+v", a)
		if a.prepare != nil {
			prepares[a.prepare.SwapID] = true
		}
	}
	require.NotEmpty(t, prepares)
	require.Equal(t, int64(len(prepares)), query[int64](d, `SELECT count(*) FROM swap`))
	require.Equal(t, int64(2*n), query[int64](d, `SELECT count(*) FROM scan`))
	d.honest()
}

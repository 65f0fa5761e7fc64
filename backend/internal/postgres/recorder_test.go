package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// TestDatedByArrival: a cabinet without a clock tells while the database is away.
// Its records are dated by when they came, not by when they could be committed.
func TestDatedByArrival(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	c.adrift = true
	c.reboot()
	k.sends(c)
	away := d.refuseConnections()
	c.write(protocol.Tamper{Slot: 2})
	came := time.Now()
	require.True(t, k.Submit(c.log(3, 3)))
	<-time.After(1500 * time.Millisecond)
	away()
	k.sends(c)
	at := query[time.Time](d, `SELECT at FROM record WHERE seq = 3`)
	require.WithinDuration(t, came, at, 500*time.Millisecond)
	require.Equal(t, string(swap.TimeAge), query[string](d, `SELECT time_quality FROM record WHERE seq = 3`))
	require.WithinDuration(t, came, query[time.Time](d, `SELECT received_at FROM safety_event`), 500*time.Millisecond)
	report, err := d.store.Audit(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Differences, "the audit dates them so again")
}

// TestAFaultOfOneCabinetStopsNobody: a row of the one that this program cannot
// read, or a fault of this program itself, and the others are committed.
func TestAFaultOfOneCabinetStopsNobody(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	bad, good := d.cabinet("hb-0001"), d.cabinet("hb-0002")
	d.battery("OWN", swap.Place{RiderID: alice})
	k := d.desk(d.store)
	g := bad.granted(alice, false)
	bad.accept(g)
	k.sends(bad)
	require.NoError(t, d.exec(`UPDATE swap SET dispense = '{"not": "a list"}'`))
	bad.deposit(g, "OWN")
	good.write(protocol.Tamper{Slot: 1})
	release := d.hold(good.id) // both are in one group
	require.True(t, k.Submit(good.log(1, 1)))
	require.True(t, k.Submit(bad.log(int(bad.acked)+1, len(bad.raws))))
	require.True(t, k.Submit(good.log(1, 2)))
	release()
	k.until(func() bool { return k.acks[good.id].UptoSeq == 2 && k.rejected[bad.id] > 0 })

	broken, err := postgres.Open(context.Background(), d.url, postgres.Options{RiderRef: riderRef, OpenGrant: func(protocol.CabinetID, string) (protocol.Grant, error) {
		panic("a fault of this program")
	}})
	require.NoError(t, err)
	t.Cleanup(broken.Close)
	k = d.desk(broken)
	third := d.cabinet("hb-0003")
	third.write(protocol.Accept{SwapID: "019a0000-0000-7000-8000-000000000001", Kind: protocol.KindSwap, Nonce: protocol.Nonce{1}, BootID: third.bootID(), Grant: "g"})
	require.True(t, k.Submit(third.log(1, 2)))
	good.write(protocol.Tamper{Slot: 2})
	require.True(t, k.Submit(good.log(3, 3)))
	k.until(func() bool { return k.acks[good.id].UptoSeq == 3 && k.rejected[third.id] > 0 })
}

// TestDrainLeavesNothingBehind: what was taken is committed and answered before
// the recorder goes; when the database is away, it is not waited for.
func TestDrainLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	for range 30 {
		c.write(protocol.Tamper{Slot: 1})
	}
	for n := 1; n <= 31; n++ {
		require.True(t, k.Submit(c.log(1, n)))
	}
	forged := c.log(1, 1)
	forged.Log.FromSeq = 9
	require.True(t, k.Submit(forged))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k.Drain(ctx)
	require.NoError(t, ctx.Err())
	require.Equal(t, uint64(31), k.ack(c.id).UptoSeq)
	require.False(t, k.Submit(c.log(1, 1)))
	k.Drain(ctx)
	k.Close()

	k = d.desk(d.store)
	away := d.refuseConnections()
	defer away()
	require.True(t, k.Submit(c.log(1, 1)))
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	k.Drain(short)
	require.Error(t, short.Err())
	k.Close()
}

// TestClocksThroughTheRecorder: a boot that learns the time later dates what its
// later messages tell, also in another replica.
func TestClocksThroughTheRecorder(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	c.adrift = true
	c.reboot()
	k.sends(c)
	wall := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	require.NoError(t, d.exec(`UPDATE cabinet SET enrolled_at = now() - interval '2 days'`))
	c.write(protocol.TimeStep{WallMS: wall.UnixMilli(), Clock: protocol.ClockSynchronised})
	k.sends(c)
	other := d.desk(d.open())
	c.write(protocol.Tamper{Slot: 1})
	other.sends(c)
	require.Equal(t, string(swap.TimeStepped), query[string](d, `SELECT time_quality FROM record WHERE seq = 4`))
	require.WithinDuration(t, wall.Add(10*time.Millisecond), query[time.Time](d, `SELECT at FROM record WHERE seq = 4`), time.Millisecond)
	c.reboot()
	other.sends(c)
	require.Equal(t, string(swap.TimeAge), query[string](d, `SELECT time_quality FROM record WHERE seq = 5`), "another boot: its clock is not known")
}

// TestPhasesAreTimed by the agent's monotonic clock, whatever its wall clock does;
// a phase that a power cut fell into is left out.
func TestPhasesAreTimed(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	d.battery("OWN", swap.Place{RiderID: alice})
	type timed struct {
		phase string
		took  time.Duration
	}
	phases, acks := make(chan timed, 10), make(chan protocol.LogAck, 10)
	r := postgres.NewRecorder(d.store, postgres.RecorderOptions{
		Acked: func(_ protocol.CabinetID, a protocol.LogAck) { acks <- a },
		Hooks: postgres.Hooks{Timed: func(phase string, took time.Duration) { phases <- timed{phase, took} }},
	})
	t.Cleanup(r.Close)
	send := func() {
		t.Helper()
		for from := int(c.acked) + 1; from <= len(c.raws); from++ { // in many messages
			require.True(t, r.Submit(c.log(from, from)))
			select {
			case <-acks:
			case <-time.After(patience):
				t.Fatal("no answer")
			}
			c.acked = uint64(from)
		}
	}
	g := c.granted(alice, false)
	c.accept(g)
	c.adrift = true
	c.deposit(g, "OWN")
	o := c.take(g)
	c.write(protocol.Closed{
		SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeSwapped,
		DepositSlot: g.DepositSlots[0], Deposited: "OWN", TakeSlot: o.Slot, Taken: o.BatterySerial,
	})
	send()
	require.Len(t, phases, 2)
	require.Equal(t, timed{postgres.PhaseDeposit, 40 * time.Millisecond}, <-phases)
	require.Equal(t, timed{postgres.PhaseDispense, 30 * time.Millisecond}, <-phases)

	g = c.granted(alice, false)
	c.accept(g)
	c.reboot()
	c.deposit(g, o.BatterySerial)
	send()
	require.Empty(t, phases)
}

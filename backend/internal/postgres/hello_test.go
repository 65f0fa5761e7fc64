package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

func TestHelloResumes(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	c.write(protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2})
	ok := c.hello()
	require.Equal(t, protocol.VerdictResume, ok.Verdict)
	require.Equal(t, uint64(1), ok.ResumeSeq)
	require.Equal(t, int64(1), ok.Config.Version)
	require.NoError(t, ok.Validate())
	k.sends(c)
	require.Equal(t, uint64(4), c.hello().ResumeSeq)
	_, err := d.store.Hello(t.Context(), "hb-0404", c.helloMessage())
	require.ErrorIs(t, err, postgres.ErrNotFound)
	m := c.helloMessage()
	m.FirstSeq = 9
	_, err = d.store.Hello(t.Context(), c.id, m)
	require.ErrorContains(t, err, "first_seq")
}

func TestAgentBehindOrForked(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*protocol.Hello){
		"behind":                    func(m *protocol.Hello) { m.TailSeq, m.AckedSeq = 2, 2 },
		"another tail":              func(m *protocol.Hello) { m.TailHash[0] ^= 1 },
		"acked something else":      func(m *protocol.Hello) { m.AckedHash[0] ^= 1 },
		"acked something else once": func(m *protocol.Hello) { m.AckedSeq, m.AckedHash = 2, protocol.Hash{1} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDeck(t)
			c := d.cabinet("hb-0001")
			k := d.desk(d.store)
			c.write(protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2})
			k.sends(c)
			m := c.helloMessage()
			spoil(&m)
			ok, err := d.store.Hello(t.Context(), c.id, m)
			require.NoError(t, err)
			require.Equal(t, protocol.VerdictNewEpoch, ok.Verdict)
			require.Equal(t, protocol.VerdictNewEpoch, c.hello().Verdict, "there is no way back")
			require.Equal(t, "epoch_replaced", query[string](d, `SELECT reason FROM review`))
		})
	}
}

// TestRestoredConfigurationCountsOn: the cabinet has taken a version that the
// database has lost. What staff set now must count as newer.
func TestRestoredConfigurationCountsOn(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	m := c.helloMessage()
	m.ConfigVersion = 7
	ok, err := d.store.Hello(t.Context(), c.id, m)
	require.NoError(t, err)
	require.Equal(t, int64(8), ok.Config.Version)
	ok, err = d.store.Hello(t.Context(), c.id, m)
	require.NoError(t, err)
	require.Equal(t, int64(8), ok.Config.Version, "once")
}

func TestANewEpochWaitsForStaff(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	d.battery("OWN", swap.Place{RiderID: alice})
	g := c.granted(alice, false)
	c.accept(g)
	c.deposit(g, "OWN")
	o := g.Dispense[0]
	c.write(protocol.Intent{SwapID: g.SwapID, Slot: o.Slot, Purpose: protocol.PurposeDispense, Pulse: 1, BatterySerial: o.BatterySerial})
	k.sends(c)
	old := *c
	require.Error(t, d.store.AcceptEpoch(t.Context(), c.id), "none waits")
	c.format(2)
	require.Equal(t, protocol.VerdictWait, c.hello().Verdict)
	require.True(t, k.Submit(c.log(1, 1)))
	k.until(func() bool { return k.asked[c.id].Validate() == nil })

	require.NoError(t, d.store.AcceptEpoch(t.Context(), c.id))
	ok := c.hello()
	require.Equal(t, protocol.VerdictResume, ok.Verdict)
	require.Equal(t, uint64(1), ok.ResumeSeq)
	k.sends(c)
	require.Equal(t, protocol.VerdictNewEpoch, old.hello().Verdict, "an epoch that was left never comes back")
	v, err := d.store.Swap(t.Context(), alice, g.SwapID)
	require.NoError(t, err)
	require.Equal(t, protocol.OutcomeReview, v.Outcome)
	require.Equal(t, protocol.ReasonEpochReplaced, v.Reason)
	require.Equal(t, "review", query[string](d, `SELECT holder FROM battery WHERE battery_serial = $1`, string(o.BatterySerial)))
	x := d.account(alice)
	require.Equal(t, 1, x.Reviews)
	require.Equal(t, 1, x.Deposits)
	// A review never blocks a rider: what may be in their hands may be deposited.
	delete(c.serials, o.Slot)
	require.Equal(t, []protocol.BatterySerial{o.BatterySerial}, c.granted(alice, false).ExpectSerials)
}

func TestReplacedCabinet(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	k.sends(c)
	again := postgres.Enrolment{CabinetID: c.id, DeviceKey: make([]byte, 32), Slots: 12, Station: "S", Street: "S"}
	require.ErrorContains(t, d.store.EnrolCabinet(t.Context(), again), "enrolled already")
	again.Replace = true
	require.NoError(t, d.store.EnrolCabinet(t.Context(), again))
	keys, err := d.store.DeviceKeys(t.Context())
	require.NoError(t, err)
	require.Len(t, keys[c.id], 1)
	require.Equal(t, again.DeviceKey, keys[c.id][0].PublicKey)
	old := *c
	c.format(2)
	require.Equal(t, protocol.VerdictResume, c.hello().Verdict, "the first epoch under the new key")
	require.Equal(t, protocol.VerdictNewEpoch, old.hello().Verdict)
	again.CabinetID = "hb-0404"
	require.ErrorIs(t, d.store.EnrolCabinet(t.Context(), again), postgres.ErrNotFound)
	require.ErrorContains(t, d.store.EnrolCabinet(t.Context(), postgres.Enrolment{CabinetID: "x"}), "cabinet_id")
	require.ErrorContains(t, d.store.EnrolCabinet(t.Context(), postgres.Enrolment{CabinetID: "x"}), "street")
	early := postgres.Enrolment{CabinetID: "hb-0500", DeviceKey: make([]byte, 32), Slots: 12, Station: "S", Street: "S", Since: time.Now().Add(time.Hour)}
	require.ErrorContains(t, d.store.EnrolCabinet(t.Context(), early), "since")
	early.Since = time.Now().AddDate(0, 0, -38)
	require.NoError(t, d.store.EnrolCabinet(t.Context(), early))
	var days int
	require.NoError(t, d.direct().QueryRow(t.Context(), `SELECT now()::date - enrolled_at::date FROM cabinet WHERE cabinet_id = 'hb-0500'`).Scan(&days))
	require.Equal(t, 38, days)
}

// TestRestoredFromABackup goes back to an old copy of the database, behind what
// cabinets have been told, and lets them tell it again.
func TestRestoredFromABackup(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	a, b := d.cabinet("hb-0001"), d.cabinet("hb-0002")
	k := d.desk(d.store)
	d.battery("OWN-A", swap.Place{RiderID: alice})
	d.battery("OWN-B", swap.Place{RiderID: bob})
	k.sends(a)
	k.sends(b)
	k.Close()
	backup := d.backup()
	k = d.desk(d.store)

	// After the backup: alice is left owed at a, spends it at b; bob swaps at a.
	g := a.granted(alice, false)
	a.accept(g)
	a.deposit(g, "OWN-A")
	a.write(protocol.Closed{SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeDepositedOwed, DepositSlot: 3, Deposited: "OWN-A"})
	k.sends(a)
	owed := b.granted(alice, false)
	require.Equal(t, protocol.KindOwed, owed.Kind)
	b.accept(owed)
	o := b.take(owed)
	b.write(protocol.Closed{SwapID: owed.SwapID, Kind: owed.Kind, Outcome: protocol.OutcomeOwedTaken, TakeSlot: o.Slot, Taken: o.BatterySerial})
	k.sends(b)
	bobs := a.granted(bob, false)
	bobTook := a.swapped(bobs, "OWN-B")
	k.sends(a)
	k.Close()

	d.restore(backup)
	require.NoError(t, d.store.StaffCredit(t.Context(), bob))
	// b speaks first: the spending comes before its origin.
	ok := b.hello()
	require.Equal(t, protocol.VerdictResume, ok.Verdict)
	require.Equal(t, uint64(2), ok.ResumeSeq)
	gauges, err := d.store.Gauges(t.Context())
	require.NoError(t, err)
	require.True(t, gauges.Recovering)
	_, _, no, err := d.store.Request(t.Context(), swap.Scan{RiderID: alice, CabinetID: b.id, IdempotencyKey: "while recovering"})
	require.NoError(t, err)
	require.Nil(t, no, "alice has a battery, by the books of then: deposit first")
	v := query[string](d, `SELECT kind FROM swap`)
	require.Equal(t, "swap", v)
	require.NoError(t, d.exec(`UPDATE swap SET requested_at = requested_at - interval '1 min'`))
	_, err = d.store.ExpireRequests(t.Context())
	require.NoError(t, err)

	k = d.desk(d.store)
	b.acked = 1
	k.sends(b)
	require.Equal(t, 1, query[int](d, `SELECT credits_due FROM rider WHERE rider_id = $1`, string(alice)))
	gauges, err = d.store.Gauges(t.Context())
	require.NoError(t, err)
	require.True(t, gauges.Recovering, "a has not told yet")
	d.asks(a, b)
	a.acked = 1
	k.sends(a)
	gauges, err = d.store.Gauges(t.Context())
	require.NoError(t, err)
	require.False(t, gauges.Recovering, "all have caught up")

	x, y := d.account(alice), d.account(bob)
	require.Equal(t, 1, x.Counted)
	require.Equal(t, 0, x.OpenCredits)
	require.Equal(t, []protocol.BatterySerial{o.BatterySerial}, x.Batteries)
	require.Equal(t, 1, y.Counted)
	require.Equal(t, []protocol.BatterySerial{bobTook}, y.Batteries)
	require.Equal(t, 1, y.OpenCredits)
	require.Equal(t, 2, x.Reviews, "each swap that the books had lost is looked at")
	require.Equal(t, "unknown_swap", query[string](d, `SELECT DISTINCT reason FROM review`))
}

func TestAHoleThatNobodyCanFill(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	k.sends(c)
	c.write(protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2}, protocol.Tamper{Slot: 3}, protocol.Tamper{Slot: 4})
	m := c.helloMessage()
	m.FirstSeq = 4
	ok, err := d.store.Hello(t.Context(), c.id, m)
	require.NoError(t, err)
	require.Equal(t, uint64(4), ok.ResumeSeq)
	c.acked = 3
	k.sends(c)
	require.Equal(t, "log_hole", query[string](d, `SELECT reason FROM review`))
	require.Equal(t, int64(3), query[int64](d, `SELECT count(*) FROM record`))
	d.honest()
}

func TestRecoveryIsWaived(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	require.NoError(t, d.exec(`UPDATE fleet SET recovering_since = now()`))
	require.NoError(t, d.store.WaiveRecovery(t.Context(), ""))
	g, err := d.store.Gauges(t.Context())
	require.NoError(t, err)
	require.False(t, g.Recovering)
}

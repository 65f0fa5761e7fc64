package postgres_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// asks lets those of the cabinets say hello that a replica would ask.
func (d *deck) asks(cs ...*cabinet) {
	d.t.Helper()
	ids, challenge, err := d.store.ToAsk(d.t.Context(), false)
	require.NoError(d.t, err)
	for _, c := range cs {
		if slices.Contains(ids, c.id) {
			c.asked = protocol.HelloRequest{Challenge: challenge}
			require.NoError(d.t, c.asked.Validate())
			require.Equal(d.t, protocol.VerdictResume, c.hello().Verdict)
		}
	}
}

func (d *deck) recovering() bool {
	return query[bool](d, `SELECT recovering_since IS NOT NULL FROM fleet`)
}

// TestARecoveryEndsWithoutAReconnect: a gap in a log begins it, and cabinets that
// stayed connected say hello because they are asked.
func TestARecoveryEndsWithoutAReconnect(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	a, b := d.cabinet("hb-0001"), d.cabinet("hb-0002")
	k := d.desk(d.store)
	k.sends(b)
	ids, _, err := d.store.ToAsk(t.Context(), false)
	require.NoError(t, err)
	require.Empty(t, ids)
	old := []protocol.Hello{a.helloMessage(), b.helloMessage()}
	a.write(protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2})
	require.True(t, k.Submit(a.log(2, 3)))
	k.until(func() bool { return k.acks[a.id].ResendFrom == 1 })
	require.True(t, d.recovering())
	require.Equal(t, "hb-0001", query[string](d, `SELECT recovering_cabinet FROM fleet`), "who said so")
	k.sends(a)
	require.True(t, d.recovering(), "b was not asked yet")
	for i, c := range []*cabinet{a, b} { // what a broker has kept does not count
		_, err := d.store.Hello(t.Context(), c.id, old[i])
		require.True(t, err == nil || i == 0)
	}
	a.hello()
	b.hello()
	require.True(t, d.recovering(), "said before it was asked, perhaps")
	d.asks(a)
	ids, _, err = d.store.ToAsk(t.Context(), false)
	require.NoError(t, err)
	require.Equal(t, []protocol.CabinetID{"hb-0002"}, ids)
	require.True(t, d.recovering())
	d.asks(a, b)
	require.False(t, d.recovering())

	require.NoError(t, d.store.BeginRecovery(t.Context()))
	a.hello()
	b.hello()
	require.True(t, d.recovering(), "the next one has another challenge")
}

// TestAKeptHelloDoesNotEndARecovery restores a database and replays what cabinets
// said when it was backed up: it fits the books of then.
func TestAKeptHelloDoesNotEndARecovery(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	k.sends(c)
	require.NoError(t, d.store.BeginRecovery(t.Context()))
	d.asks(c)
	require.False(t, d.recovering())
	kept := c.helloMessage()
	k.Close()
	backup := d.backup()
	k = d.desk(d.store)
	c.write(protocol.Tamper{Slot: 1})
	k.sends(c)
	k.Close()
	d.restore(backup)
	k = d.desk(d.store)
	require.NoError(t, d.store.BeginRecovery(t.Context()))
	ok, err := d.store.Hello(t.Context(), c.id, kept)
	require.NoError(t, err)
	require.Equal(t, uint64(2), ok.ResumeSeq)
	require.True(t, d.recovering())
	d.asks(c)
	require.True(t, d.recovering(), "its record is not told yet")
	c.acked = 1
	k.sends(c)
	require.False(t, d.recovering())
}

func TestStaffBeginARecovery(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c, other := d.cabinet("hb-0001"), d.cabinet("hb-0002")
	k := d.desk(d.store)
	k.sends(c)
	k.sends(other)
	require.NoError(t, d.store.StaffCredit(t.Context(), alice))
	require.NoError(t, d.store.BeginRecovery(t.Context()))
	_, _, no, err := d.store.Request(t.Context(), swap.Scan{RiderID: alice, CabinetID: c.id, IdempotencyKey: "1"})
	require.NoError(t, err)
	require.Equal(t, protocol.ReasonRecovering, no.Reason)
	d.asks(c)
	require.ErrorIs(t, d.store.WaiveRecovery(t.Context(), "hb-0404"), postgres.ErrNotFound)
	require.NoError(t, d.store.WaiveRecovery(t.Context(), other.id))
	require.False(t, d.recovering(), "the others have told")
	require.Equal(t, protocol.KindIssue, c.granted(alice, false).Kind)
}

func TestARetiredCabinet(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c, gone := d.cabinet("hb-0001"), d.cabinet("hb-0002")
	d.battery("OWN", swap.Place{RiderID: alice})
	g := gone.granted(alice, false)
	require.NoError(t, d.store.BeginRecovery(t.Context()))
	k := d.desk(d.store)
	k.sends(c)
	d.asks(c)
	require.True(t, d.recovering())
	d.bookEmpty(gone.id)
	require.NoError(t, d.store.RetireCabinet(t.Context(), gone.id))
	require.False(t, d.recovering(), "nothing more is expected of it")
	v, err := d.store.Swap(t.Context(), alice, g.SwapID)
	require.NoError(t, err)
	require.Equal(t, protocol.OutcomeReview, v.Outcome)
	keys, err := d.store.DeviceKeys(t.Context())
	require.NoError(t, err)
	require.NotContains(t, keys, gone.id)
	ids, _, err := d.store.ToAsk(t.Context(), true)
	require.NoError(t, err)
	require.Equal(t, []protocol.CabinetID{c.id}, ids)
	require.Equal(t, protocol.VerdictNewEpoch, gone.hello().Verdict, "even if its key were believed")
	require.ErrorIs(t, d.store.RetireCabinet(t.Context(), "hb-0404"), postgres.ErrNotFound)
	require.NotNil(t, c.granted(alice, false), "its rider goes on")

	again := postgres.Enrolment{CabinetID: gone.id, DeviceKey: make([]byte, 32), Slots: 12, Station: "S", Street: "S", Replace: true}
	require.NoError(t, d.store.EnrolCabinet(t.Context(), again))
	gone.format(2)
	require.Equal(t, protocol.VerdictResume, gone.hello().Verdict, "in service again")
	d.honest()
}

// TestOneCabinetDoesNotStopTheFleet: staff take it out of service, and what it
// claims begins nothing any more.
func TestOneCabinetDoesNotStopTheFleet(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	m := c.helloMessage()
	m.TailSeq, m.AckedSeq = 1<<40, 1<<40
	_, err := d.store.Hello(t.Context(), c.id, m)
	require.NoError(t, err)
	require.False(t, d.recovering(), "acknowledged without a hash")
	m.AckedHash = protocol.Hash{1}
	_, err = d.store.Hello(t.Context(), c.id, m)
	require.NoError(t, err)
	require.True(t, d.recovering())
	require.Equal(t, int64(1<<40), query[int64](d, `SELECT recovering_seq FROM fleet WHERE recovering_cabinet = 'hb-0001'`))
	require.NoError(t, d.exec(`UPDATE cabinet SET out_of_service = true`))
	require.NoError(t, d.store.WaiveRecovery(t.Context(), ""))
	_, err = d.store.Hello(t.Context(), c.id, m)
	require.NoError(t, err)
	c.write(protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2})
	require.True(t, k.Submit(c.log(3, 3)))
	k.until(func() bool { return k.acks[c.id].ResendFrom == 1 })
	require.False(t, d.recovering())
}

// TestALogOfAnUnknownEpoch: the database was restored to before a cabinet's first
// hello. Its log is answered by a hello_request, and goes on.
func TestALogOfAnUnknownEpoch(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	k.sends(c)
	require.NoError(t, d.exec(`DELETE FROM cabinet_epoch; UPDATE cabinet_cursor SET epoch = NULL, last_seq = 0, last_hash = NULL;
		ALTER TABLE record DISABLE TRIGGER ALL; DELETE FROM record; ALTER TABLE log_batch DISABLE TRIGGER ALL; DELETE FROM log_batch`))
	c.write(protocol.Tamper{Slot: 1})
	require.True(t, k.Submit(c.log(2, 2)))
	k.until(func() bool { return k.asked[c.id].Validate() == nil })
	k.mu.Lock()
	c.asked = k.asked[c.id]
	k.mu.Unlock()
	ok := c.hello()
	require.Equal(t, protocol.VerdictResume, ok.Verdict)
	require.Equal(t, uint64(1), ok.ResumeSeq)
	require.True(t, d.recovering(), "it was acknowledged more")
	c.acked = 0
	k.sends(c)
	d.asks(c)
	require.False(t, d.recovering())
}

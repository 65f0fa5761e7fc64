package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/protocol"
)

// row is all that is stored of a cabinet's cursor, its epochs and the fleet.
func (c *cabinet) row() string {
	return query[string](c.d, `SELECT k::text || (SELECT f::text FROM fleet f) || (SELECT count(*) FROM review)
		|| (SELECT string_agg(e::text, ' ' ORDER BY epoch) FROM cabinet_epoch e WHERE e.cabinet_id = k.cabinet_id)
		FROM cabinet_cursor k WHERE cabinet_id = $1`, string(c.id))
}

// TestAnOldHelloChangesNothing replays every hello that a cabinet has said:
// a broker may hold them back, or be hostile.
func TestAnOldHelloChangesNothing(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	var said []protocol.Hello
	for range 3 {
		for range 3 {
			c.write(protocol.Tamper{Slot: 1})
			said = append(said, c.helloMessage())
			k.sends(c)
		}
		c.reboot()
	}
	ok := c.hello()
	require.Equal(t, protocol.VerdictResume, ok.Verdict)
	k.sends(c)
	before := c.row()
	for i, m := range said {
		_, err := d.store.Hello(t.Context(), c.id, m)
		require.ErrorIs(t, err, postgres.ErrOld, "hello %d", i)
		require.Equal(t, before, c.row(), "hello %d", i)
	}
	ok = c.hello()
	require.Equal(t, protocol.VerdictResume, ok.Verdict)
	require.Equal(t, uint64(len(c.raws)+1), ok.ResumeSeq)
}

// TestHelloOfTwoWorkers handles two hellos of one boot in the wrong order, while
// the log goes on.
func TestHelloOfTwoWorkers(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	first := c.helloMessage()
	c.write(protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2})
	require.Equal(t, protocol.VerdictResume, c.hello().Verdict)
	ok, err := d.store.Hello(t.Context(), c.id, first)
	require.NoError(t, err, "nothing of it is in the books: it may be answered")
	require.Equal(t, uint64(1), ok.ResumeSeq)
	require.Equal(t, int64(3), query[int64](d, `SELECT hello_tail_seq FROM cabinet_cursor`), "the tail does not become shorter")
	k := d.desk(d.store)
	k.sends(c)
	_, err = d.store.Hello(t.Context(), c.id, first)
	require.ErrorIs(t, err, postgres.ErrOld)
	require.Zero(t, query[int64](d, `SELECT count(*) FROM review`))
}

// TestARolledBackJournalIsFound: it writes BOOT before it says hello, so its tail
// is another record, wherever it was rolled back to.
func TestARolledBackJournalIsFound(t *testing.T) {
	t.Parallel()
	for to := 1; to <= 4; to++ {
		d := newDeck(t)
		c := d.cabinet("hb-0001")
		k := d.desk(d.store)
		c.write(protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2}, protocol.Tamper{Slot: 3})
		k.sends(c)
		c.raws, c.hashes = c.raws[:to], c.hashes[:to]
		c.acked = min(c.acked, uint64(to))
		c.reboot()
		ok := c.hello()
		if to == 4 {
			require.Equal(t, protocol.VerdictResume, ok.Verdict, "nothing was lost")
			continue
		}
		require.Equal(t, protocol.VerdictNewEpoch, ok.Verdict, "to %d", to)
	}
}

// TestAnEpochThatWasLeftSaysNothing: a hello of a cabinet that was replaced, or
// of a new epoch that waits, is no word of the one that counts.
func TestAnEpochThatWasLeftSaysNothing(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	k := d.desk(d.store)
	k.sends(c)
	old := *c
	c.format(2)
	require.Equal(t, protocol.VerdictWait, c.hello().Verdict)
	cursor := `SELECT k::text FROM cabinet_cursor k`
	before := query[string](d, cursor)
	require.Equal(t, protocol.VerdictWait, c.hello().Verdict)
	require.Equal(t, before, query[string](d, cursor))
	require.NoError(t, d.store.AcceptEpoch(t.Context(), c.id))
	require.Equal(t, protocol.VerdictResume, c.hello().Verdict)
	before = query[string](d, cursor)
	require.Equal(t, protocol.VerdictNewEpoch, old.hello().Verdict)
	require.Equal(t, before, query[string](d, cursor))
}

// TestReplacedWhileTheOldSaysHello lets a hello of the old device wait for the
// cursor that the replacement holds: its epoch does not come back.
func TestReplacedWhileTheOldSaysHello(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	require.NoError(t, d.exec(`BEGIN; SELECT FROM cabinet_cursor FOR UPDATE`))
	verdict := make(chan protocol.HelloOK, 1)
	go func() {
		ok, err := d.store.Hello(t.Context(), c.id, c.helloMessage())
		if err != nil {
			t.Error(err)
		}
		verdict <- ok
	}()
	require.Eventually(t, func() bool {
		return query[int](d, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	}, patience, time.Millisecond)
	require.NoError(t, d.exec(`UPDATE cabinet_epoch SET state = 'left'; UPDATE cabinet_cursor SET epoch = NULL, last_seq = 0, last_hash = NULL; COMMIT`))
	require.Equal(t, protocol.VerdictNewEpoch, (<-verdict).Verdict)
	require.Zero(t, query[int](d, `SELECT count(*) FROM cabinet_epoch WHERE state = 'current'`))
}

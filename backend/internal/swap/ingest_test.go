package swap

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

func TestIngestPlacesMessages(t *testing.T) {
	k := newBench(t)
	k.log.write(protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2}, protocol.Tamper{Slot: 3})
	require.Equal(t, Gap, k.log.ingest(k.Books, k.cabinet, 3, 4), "2 is missing")
	require.Equal(t, Took, k.log.ingest(k.Books, k.cabinet, 1, 3), "overlaps what is known")
	require.Equal(t, uint64(3), k.cabinet.LastSeq)
	require.Equal(t, Took, k.log.ingest(k.Books, k.cabinet, 1, 2), "old")
	require.Equal(t, uint64(3), k.cabinet.LastSeq)

	m := k.log.message(4, 4)
	m.Epoch = epochNo(5)
	_, v := k.Ingest(k.cabinet, m.Epoch, []Record{{}}, Receipt{})
	require.Equal(t, Elsewhere, v)
}

// fork is a journal that says something else from seq n on.
func (l *logbook) fork(n int) *logbook {
	o := newLogbook(l.t, l.epoch)
	for _, raw := range l.raws[:n-1] {
		r, _, h, err := protocol.DecodeRecord(raw)
		require.NoError(l.t, err)
		o.raws, o.tail, o.mono = append(o.raws, raw), h, r.MonoMS
	}
	for len(o.raws) < len(l.raws)+1 {
		o.write(protocol.Tamper{Slot: 9})
	}
	return o
}

func TestForksAreFound(t *testing.T) {
	cases := map[string]struct{ from, to int }{
		"last record differs":      {5, 5},
		"overlap differs":          {4, 6},
		"next has another past":    {6, 6},
		"an old record differs":    {3, 4},
		"all of it, and one more":  {1, 6},
		"differs from the first":   {2, 6},
		"an old record, one alone": {4, 4},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			k := newBench(t)
			k.log.write(protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2}, protocol.Tamper{Slot: 3}, protocol.Tamper{Slot: 4})
			k.fold()
			k.cabinet.Hashes = map[uint64]protocol.Hash{}
			for i, raw := range k.log.raws {
				_, _, h, err := protocol.DecodeRecord(raw)
				require.NoError(t, err)
				k.cabinet.Hashes[uint64(i+1)] = h
			}
			other := k.log.fork(3)
			require.Equal(t, Forks, other.ingest(k.Books, k.cabinet, c.from, c.to))
			require.Equal(t, Elsewhere, k.log.ingest(k.Books, k.cabinet, 5, 5), "neither is believed any more")
			k.keep()
			require.Len(t, k.reviews, 1)
			require.Equal(t, protocol.ReasonEpochReplaced, k.reviews[0].Reason)
			require.Equal(t, uint64(5), k.cabinet.LastSeq)
		})
	}
}

func TestAHoleIsJumped(t *testing.T) {
	k := newBench(t)
	k.log.write(protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2}, protocol.Tamper{Slot: 3})
	k.Jump(k.cabinet, 3, Now(k.now))
	require.Equal(t, Took, k.log.ingest(k.Books, k.cabinet, 3, 4))
	require.Equal(t, uint64(4), k.cabinet.LastSeq)
	require.False(t, k.cabinet.Hole)
	k.keep()
	require.Len(t, k.reviews, 1)
	require.Equal(t, protocol.ReasonLogHole, k.reviews[0].Reason)
}

func TestDecodeLogRefusesWhatIsNoChain(t *testing.T) {
	l := newLogbook(t, epochNo(1))
	l.write(protocol.Boot{}, protocol.Tamper{Slot: 1}, protocol.Tamper{Slot: 2})
	good := func() protocol.Log {
		m := l.message(1, 3)
		m.Records = append([][]byte(nil), m.Records...)
		return m
	}
	_, err := DecodeLog(good())
	require.NoError(t, err)
	for want, spoil := range map[string]func(*protocol.Log){
		"records: none":          func(m *protocol.Log) { m.Records = nil },
		"records[1].seq is 3":    func(m *protocol.Log) { m.Records = [][]byte{m.Records[0], m.Records[2]} },
		"records[0].seq is 1":    func(m *protocol.Log) { m.FromSeq = 2 },
		"records[0].epoch_short": func(m *protocol.Log) { m.Epoch = epochNo(2) },
		"bytes after the record": func(m *protocol.Log) { m.Records[2] = append(append([]byte(nil), m.Records[2]...), 0) },
		"records[2]: record":     func(m *protocol.Log) { m.Records[2] = m.Records[2][:20] },
		"records[1].prev_hash": func(m *protocol.Log) {
			o := newLogbook(t, l.epoch)
			o.write(protocol.Boot{Software: "other"}, protocol.Tamper{Slot: 1})
			m.Records[1] = o.raws[1]
		},
	} {
		m := good()
		spoil(&m)
		_, err := DecodeLog(m)
		require.ErrorContains(t, err, want)
	}
}

func TestTimeOfARecord(t *testing.T) {
	receipt := start.Add(time.Hour)
	rc := Receipt{At: receipt, MonoMS: 100_000, BootSeq: 2}
	rec := func(boot uint32, monoMS uint64, wall time.Time, c protocol.ClockState) Record {
		return Record{Record: protocol.Record{BootSeq: boot, MonoMS: monoMS, WallMS: uint64(wall.UnixMilli()), Clock: c, Type: protocol.RecordTamper}}
	}
	step := func(boot uint32, monoMS uint64, wall time.Time) Record {
		r := rec(boot, monoMS, wall, protocol.ClockSynchronised)
		r.Body = protocol.TimeStep{WallMS: wall.UnixMilli(), Clock: protocol.ClockSynchronised}
		return r
	}
	odd := time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC)
	un, sy := protocol.ClockUnsynchronised, protocol.ClockSynchronised
	type want struct {
		at      time.Time
		quality TimeQuality
	}
	cases := map[string]struct {
		rs   []Record
		want []want
	}{
		"synchronised": {[]Record{rec(2, 1, start, sy)}, []want{{start, TimeWall}}},
		"ten years ahead, same boot": {[]Record{rec(2, 40_000, start.AddDate(10, 0, 0), sy)},
			[]want{{receipt.Add(-time.Minute), TimeAge}}},
		"before the cabinet was enrolled, another boot": {[]Record{rec(1, 40_000, start.AddDate(0, 0, -3), sy)},
			[]want{{receipt, TimeReceipt}}},
		"unsynchronised, same boot":    {[]Record{rec(2, 70_000, odd, un)}, []want{{receipt.Add(-30 * time.Second), TimeAge}}},
		"unsynchronised, another boot": {[]Record{rec(1, 70_000, odd, un)}, []want{{receipt, TimeReceipt}}},
		"dated backwards within its boot": {
			[]Record{rec(1, 5_000, odd, un), step(1, 65_000, start.Add(time.Minute)), rec(2, 1, odd, un)},
			[]want{{start, TimeStepped}, {start.Add(time.Minute), TimeWall}, {receipt.Add(-99_999 * time.Millisecond), TimeAge}},
		},
		"an age beyond belief": {[]Record{rec(2, 100_001, odd, un)}, []want{{receipt, TimeReceipt}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cab := &Cabinet{EnrolledAt: start.Add(-time.Hour)}
			for i, st := range cab.stamps(c.rs, rc) {
				got := want{st.At, st.Quality}
				require.Equal(t, c.want[i], got, "record %d", i)
			}
		})
	}

	t.Run("a later message of a boot that is dated", func(t *testing.T) {
		cab := &Cabinet{EnrolledAt: start.Add(-time.Hour)}
		cab.stamps([]Record{step(1, 65_000, start.Add(time.Minute))}, rc)
		st := cab.stamps([]Record{rec(1, 5_000, odd, un)}, rc)
		require.Equal(t, start, st[0].At)
		require.Equal(t, TimeStepped, st[0].Quality)
	})
}

func TestDayOfATake(t *testing.T) {
	require.Equal(t, Day("2025-11-05"), DayOf(time.Date(2025, 11, 5, 15, 59, 59, 0, time.UTC)))
	require.Equal(t, Day("2025-11-06"), DayOf(time.Date(2025, 11, 5, 16, 0, 0, 0, time.UTC)))
	require.Equal(t, Day("2025-12-01"), MonthOf(time.Date(2025, 11, 30, 16, 0, 0, 0, time.UTC)))
	require.Equal(t, Day("2025-11-01"), MonthOf(time.Date(2025, 11, 30, 15, 0, 0, 0, time.UTC)))
	loc, err := time.LoadLocation("Asia/Shanghai")
	require.NoError(t, err)
	for d := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC); d.Year() < 2040; d = d.Add(7 * time.Hour) {
		require.Equal(t, Day(d.In(loc).Format(time.DateOnly)), DayOf(d))
	}
}

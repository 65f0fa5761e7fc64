package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// Small segments, so that a test sees many rolls.
const testSegment = 4 << 10

// testClock is a clock that a test moves.
type testClock struct {
	mu   sync.Mutex
	mono uint64
}

func (c *testClock) read() (uint64, uint64, protocol.ClockState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mono++
	return c.mono, 1_700_000_000_000 + c.mono, protocol.ClockSynchronised
}

func (c *testClock) move(ms uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mono += ms
}

// seeded gives random bytes from a seed.
func seeded(seed uint64) *rand.ChaCha8 {
	var b [32]byte
	b[0], b[1] = byte(seed), byte(seed>>8)
	return rand.NewChaCha8(b)
}

func testOptions() Options {
	return Options{
		Clock:        (&testClock{}).read,
		Random:       seeded(1),
		Snapshot:     func() ([]byte, error) { return []byte(`{"state":1}`), nil },
		SegmentBytes: testSegment,
		MaxBytes:     64 * testSegment,
		KeepMS:       KeepMS,
	}
}

func mustOpen(t testing.TB, d Disk, opt Options) (*Journal, Recovery) {
	t.Helper()
	j, rec, err := Open(d, opt)
	require.NoError(t, err)
	return j, rec
}

// fact is the nth payload of a test.
func fact(n int) protocol.Payload {
	return protocol.Reject{Why: fmt.Sprintf("fact %04d", n), Count: n}
}

// facts reads all facts that stand in the journal, through Read, and checks
// the chain on the way.
func facts(t testing.TB, j *Journal) []int {
	t.Helper()
	var found []int
	pos := j.Position()
	next, hash := pos.FirstSeq, protocol.Hash{}
	for next <= pos.TailSeq {
		raws, err := j.Read(next, 7, 1<<10)
		require.NoError(t, err)
		require.NotEmpty(t, raws)
		for _, raw := range raws {
			r, n, h, err := protocol.DecodeRecord(raw)
			require.NoError(t, err)
			require.Len(t, raw, n)
			require.Equal(t, next, r.Seq)
			if next > pos.FirstSeq {
				require.Equal(t, hash, r.PrevHash)
			}
			next, hash = next+1, h
			if r.Type == protocol.RecordReject {
				var p protocol.Reject
				require.NoError(t, protocol.UnmarshalPayload(r, &p))
				found = append(found, p.Count)
			}
		}
	}
	require.Equal(t, pos.TailHash, hash)
	return found
}

func upTo(n int) []int {
	var s []int
	for i := 1; i <= n; i++ {
		s = append(s, i)
	}
	return s
}

func TestAppendReadReopen(t *testing.T) {
	d := newMemDisk()
	j, rec := mustOpen(t, d, testOptions())
	require.Equal(t, WhyFresh, rec.NewEpoch)
	require.Nil(t, rec.Old)
	require.Equal(t, uint32(1), j.Position().BootSeq)
	for i := 1; i <= 199; i += 2 {
		require.NoError(t, j.Append(fact(i), fact(i+1)))
	}
	require.Equal(t, upTo(200), facts(t, j))
	epoch := j.Position().Epoch
	_, _, err := Open(d, testOptions())
	require.ErrorIs(t, err, ErrInUse)
	require.NoError(t, j.Close())
	require.NoError(t, j.Close())
	require.ErrorIs(t, j.Append(fact(1)), ErrDead)

	j, rec = mustOpen(t, d.clone(), testOptions())
	require.Zero(t, rec)
	require.Equal(t, epoch, j.Position().Epoch)
	require.Equal(t, uint32(2), j.Position().BootSeq)
	require.Equal(t, upTo(200), facts(t, j))
	require.NoError(t, j.Append(fact(201)))
	require.Equal(t, upTo(201), facts(t, j))
}

func TestEachSegmentStartsWithASnapshotOfWhatWasBefore(t *testing.T) {
	opt := testOptions()
	folded := 0
	opt.Appended = func(r protocol.Record) {
		if r.Type != protocol.RecordSnapshot {
			folded++
		}
	}
	opt.Snapshot = func() ([]byte, error) { return fmt.Appendf(nil, `{"folded":%d}`, folded), nil }
	d := newMemDisk()
	j, _ := mustOpen(t, d, opt)
	for i := 1; i <= 300; i += 3 {
		require.NoError(t, j.Append(fact(i), fact(i+1), fact(i+2)))
	}
	require.Greater(t, len(j.segments), 3)
	check := func(j *Journal) {
		state, after := 0, 0
		require.NoError(t, j.Replay(func(r protocol.Record) error {
			if r.Type == protocol.RecordSnapshot {
				require.Zero(t, after, "a snapshot in the middle of a replay")
				n, err := fmt.Sscanf(string(r.Payload), `{"folded":%d}`, &state)
				require.NoError(t, err)
				require.Equal(t, 1, n)
				return nil
			}
			after++
			return nil
		}))
		require.Equal(t, 300, state+after)
	}
	check(j)
	j2, _ := mustOpen(t, d.clone(), testOptions())
	check(j2)
}

func TestAppendRefusesWhatItCannotWriteAndLivesOn(t *testing.T) {
	j, _ := mustOpen(t, newMemDisk(), testOptions())
	require.ErrorContains(t, j.Append(protocol.Reject{Why: strings.Repeat("x", protocol.MaxPayload)}), "payload of REJECT")
	require.ErrorContains(t, j.Append(fact(1), protocol.Reject{Why: strings.Repeat("x", testSegment)}), "more than a segment")
	require.ErrorContains(t, j.Append(slices.Repeat([]protocol.Payload{fact(1)}, MaxBatch+1)...), "at most 16")
	require.Zero(t, j.Position().TailSeq)
	require.NoError(t, j.Append(fact(1)))
	require.NoError(t, j.Err())
	require.Equal(t, upTo(1), facts(t, j))
}

func TestAckIsCheckedAndStored(t *testing.T) {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	for i := 1; i <= 120; i++ {
		require.NoError(t, j.Append(fact(i)))
	}
	raws, err := j.Read(1, 100, 1<<20)
	require.NoError(t, err)
	require.Len(t, raws, 100)
	_, _, h90, err := protocol.DecodeRecord(raws[89])
	require.NoError(t, err)

	require.ErrorIs(t, j.Ack(91, h90), ErrMismatch)
	require.ErrorIs(t, j.Ack(9000, h90), ErrMismatch)
	require.Zero(t, j.Position().AckedSeq)
	require.NoError(t, j.Ack(90, h90))
	require.NoError(t, j.Ack(90, protocol.Hash{}), "an old acknowledgement is no news")
	require.Equal(t, uint64(90), j.Position().AckedSeq)
	require.Equal(t, h90, j.Position().AckedHash)

	j2, rec := mustOpen(t, d.crash(rand.New(rand.NewPCG(1, 1))), testOptions())
	require.Zero(t, rec)
	require.Equal(t, uint64(90), j2.Position().AckedSeq)

	// A hash that no Read has shown lately is found on the device.
	_, err = j.Read(110, 1, 1)
	require.NoError(t, err)
	_, _, h95, err := protocol.DecodeRecord(raws[94])
	require.NoError(t, err)
	require.NoError(t, j.Ack(95, h95))
	require.NoError(t, j.Close())
	j3, _ := mustOpen(t, d.clone(), testOptions())
	require.Equal(t, uint64(95), j3.Position().AckedSeq, "Close stores the last one")
}

func TestReadBounds(t *testing.T) {
	j, _ := mustOpen(t, newMemDisk(), testOptions())
	for i := 1; i <= 100; i++ {
		require.NoError(t, j.Append(fact(i)))
	}
	raws, err := j.Read(3, 5, 1<<20)
	require.NoError(t, err)
	require.Len(t, raws, 5)
	raws, err = j.Read(3, 100, 1)
	require.NoError(t, err)
	require.Len(t, raws, 1, "at least one, however large")
	raws, err = j.Read(j.Position().TailSeq+1, 5, 1<<20)
	require.NoError(t, err)
	require.Empty(t, raws)
	_, err = j.Read(0, 5, 1<<20)
	require.ErrorIs(t, err, ErrGone)
}

func TestSegmentsGoWhenCommittedAndOld(t *testing.T) {
	clock := &testClock{}
	opt := testOptions()
	opt.Clock = clock.read
	d := newMemDisk()
	j, _ := mustOpen(t, d, opt)
	n := 0
	fill := func(j *Journal, segments int) {
		for roll := len(d.now) + segments; len(d.now) < roll; {
			n++
			require.NoError(t, j.Append(fact(n)))
		}
	}
	fill(j, 3)
	clock.move(KeepMS)
	fill(j, 1)
	require.Equal(t, uint64(1), j.Position().FirstSeq, "nothing is committed")
	acked := j.Position()
	require.NoError(t, j.Ack(acked.TailSeq, acked.TailHash))
	fill(j, 1)
	first := j.Position().FirstSeq
	require.Greater(t, first, uint64(1), "committed and old")
	require.Less(t, first, acked.TailSeq, "committed but not old")

	// The age counts over restarts, and a restart sees no loss.
	d = d.clone()
	clock = &testClock{}
	opt.Clock = clock.read
	j, rec := mustOpen(t, d, opt)
	require.Zero(t, rec)
	require.Equal(t, first, j.Position().FirstSeq)
	require.Equal(t, acked.TailSeq, j.Position().AckedSeq)
	clock.move(KeepMS)
	require.NoError(t, j.Append(fact(n+1)))
	fill(j, 1)
	require.Greater(t, j.Position().FirstSeq, first)
	require.LessOrEqual(t, j.Position().FirstSeq, acked.TailSeq+1, "what is not committed stays")
}

func TestAFullJournalRefusesAndKeepsAll(t *testing.T) {
	opt := testOptions()
	opt.MaxBytes = 5 * testSegment
	d := newMemDisk()
	j, _ := mustOpen(t, d, opt)
	n, full := 0, 0
	var err error
	for err == nil {
		if err = j.Append(fact(n + 1)); err == nil {
			n++
		}
		if full == 0 && j.Position().Full {
			full = n
		}
	}
	require.ErrorIs(t, err, ErrFull)
	require.NotZero(t, full)
	require.Greater(t, n-full, 20, "room for a swap to end after Full is said")
	require.NoError(t, j.Err(), "full is not dead")
	require.Equal(t, upTo(n), facts(t, j))
	require.Len(t, d.now, 5)
}

func TestManyCallers(t *testing.T) {
	j, _ := mustOpen(t, newMemDisk(), testOptions())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				require.NoError(t, j.Append(fact(w*50+i+1)))
			}
		})
	}
	wg.Go(func() {
		for acked := uint64(0); acked < 200; {
			pos := j.Position()
			raws, err := j.Read(acked+1, 32, 8<<10)
			require.NoError(t, err)
			for _, raw := range raws {
				r, _, h, err := protocol.DecodeRecord(raw)
				require.NoError(t, err)
				require.NoError(t, j.Ack(r.Seq, h))
				acked = r.Seq
			}
			require.LessOrEqual(t, pos.AckedSeq, pos.TailSeq)
		}
	})
	wg.Wait()
	found := facts(t, j)
	slices.Sort(found)
	require.Equal(t, upTo(200), found)
}

func TestReplayGivesTheVisitorsError(t *testing.T) {
	j, _ := mustOpen(t, newMemDisk(), testOptions())
	require.NoError(t, j.Replay(func(protocol.Record) error { return errors.New("nothing to see") }))
	require.NoError(t, j.Append(fact(1)))
	require.ErrorContains(t, j.Replay(func(protocol.Record) error { return errors.New("no") }), "no")
}

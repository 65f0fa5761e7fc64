package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// void is a short payload: the fewer the bytes, the more of them can be tried.
type void struct{}

func (void) RecordType() protocol.RecordType { return protocol.RecordVoid }

// sample is a journal of 200 records in one segment, and where each one ends.
func sample(t testing.TB) (d *memDisk, name string, ends []int) {
	t.Helper()
	opt := testOptions()
	opt.SegmentBytes = sampleSegment
	d = newMemDisk()
	j, _ := mustOpen(t, d, opt)
	for range 200 {
		require.NoError(t, j.Append(void{}))
		ends = append(ends, int(j.tail.off))
	}
	require.Len(t, d.now, 1)
	return d, j.name().String(), ends
}

const sampleSegment = 16 << 10

func sampleOptions() Options {
	opt := testOptions()
	opt.SegmentBytes = sampleSegment
	return opt
}

// oneFile is a disk with one segment of these bytes.
func oneFile(name string, data []byte) *memDisk {
	d := newMemDisk()
	f := &memFile{data: data, held: data, dirty: map[int]bool{}} // for tests that do not crash
	d.now[name], d.durable[name] = f, f
	return d
}

// inParallel runs try for 0 to n-1 on all processors and stops at an error.
func inParallel(t *testing.T, n int, try func(i int) error) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(1000)) // half the time went there
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w * stride; i < n && errs[w] == nil; i += workers * stride {
				if err := try(i); err != nil {
					errs[w] = fmt.Errorf("at %d: %w", i, err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
}

// goesOn opens a disk, demands a tail, and that appending works from there.
func goesOn(d *memDisk, tail int, cut int64) error {
	j, rec, err := Open(d, sampleOptions())
	if err != nil {
		return err
	}
	if rec.NewEpoch != "" || rec.CutBytes != cut || j.Position().TailSeq != uint64(tail) {
		return fmt.Errorf("%+v, tail %d: want tail %d and %d bytes cut", rec, j.Position().TailSeq, tail, cut)
	}
	if err := j.Append(fact(1), fact(2)); err != nil {
		return err
	}
	j2, rec, err := Open(d.clone(), sampleOptions())
	if err != nil {
		return err
	}
	if rec != (Recovery{}) || j2.Position().TailSeq != uint64(tail+2) {
		return fmt.Errorf("after an append: %+v, tail %d, want %d", rec, j2.Position().TailSeq, tail+2)
	}
	return nil
}

func TestCutAtEveryByte(t *testing.T) {
	d, name, ends := sample(t)
	whole := d.now[name].data
	inParallel(t, ends[199], func(cut int) error {
		done, _ := slices.BinarySearch(ends, cut+1)
		if done == 0 {
			// Not even the first record: as if there never was a journal.
			j, rec, err := Open(oneFile(name, slices.Clone(whole[:cut])), sampleOptions())
			if err != nil || rec.NewEpoch != WhyFresh || j.Position().TailSeq != 0 {
				return fmt.Errorf("%+v: want a fresh journal: %w", rec, err)
			}
			return nil
		}
		torn := int64(cut - ends[done-1])
		for torn > 0 && whole[ends[done-1]+int(torn)-1] == 0 {
			torn--
		}
		short := oneFile(name, slices.Clone(whole[:cut]))
		if err := goesOn(short, done, torn); err != nil {
			return fmt.Errorf("the file ends there: %w", err)
		}
		zeros := slices.Clone(whole)
		clear(zeros[cut:])
		if err := goesOn(oneFile(name, zeros), done, torn); err != nil {
			return fmt.Errorf("zeros follow: %w", err)
		}
		return nil
	})
}

func TestFlipEveryBit(t *testing.T) {
	d, name, ends := sample(t)
	whole := d.now[name].data
	bits := (ends[199] + 64) * 8
	inParallel(t, bits, func(bit int) error {
		flipped := slices.Clone(whole)
		flipped[bit/8] ^= 1 << (bit % 8)
		hit, _ := slices.BinarySearch(ends, bit/8+1) // records before the flip
		if hit >= 199 {
			// The last record: no different from a torn write. Or after it.
			return goesOn(oneFile(name, flipped), hit, tornBytes(flipped, ends[hit-1]))
		}
		disk := oneFile(name, flipped)
		j, rec, err := Open(disk, sampleOptions())
		if err != nil {
			return err
		}
		if rec.NewEpoch != WhyCorrupt {
			return fmt.Errorf("%+v: want corrupt", rec)
		}
		if hit > 0 && (rec.Old == nil || rec.Old.Seq != uint64(hit)) {
			return fmt.Errorf("old tail %+v: want seq %d", rec.Old, hit)
		}
		kept := disk.now[name].data
		kept[bit/8] ^= 1 << (bit % 8)
		if j.Position().TailSeq != 0 || !slices.Equal(kept, whole) {
			return errors.New("the damaged file is not kept aside")
		}
		return nil
	})
}

func tornBytes(data []byte, end int) int64 {
	n := len(data)
	for n > end && data[n-1] == 0 {
		n--
	}
	return int64(n - end)
}

// script appends facts in batches of one to three, with acknowledgements, until
// an append fails. It returns how many facts are promised, and the error.
func script(j *Journal, from, facts int) (promised int, err error) {
	for n := from; n < from+facts; {
		var batch []protocol.Payload
		for range 1 + n%3 {
			batch = append(batch, fact(n+len(batch)))
		}
		if err := j.Append(batch...); err != nil {
			return n - 1, err
		}
		n += len(batch)
		promised = n - 1
		if pos := j.Position(); n%5 == 0 {
			if err := j.Ack(pos.TailSeq, pos.TailHash); err != nil {
				return promised, err
			}
		}
	}
	return promised, nil
}

// scriptOps counts the disk operations of the script.
func scriptOps(t *testing.T) int {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	_, err := script(j, 1, 120)
	require.NoError(t, err)
	require.Len(t, d.now, 4, "three segments and the acknowledged position")
	return d.ops
}

// checkAfter opens what is left of a disk and demands every promised fact, and
// nothing but a prefix of what was appended.
func checkAfter(t *testing.T, d *memDisk, promised int) {
	t.Helper()
	j, rec := mustOpen(t, d, testOptions())
	if promised == 0 && rec.NewEpoch == WhyFresh {
		return
	}
	require.Empty(t, rec.NewEpoch, rec.Detail)
	found := facts(t, j)
	require.GreaterOrEqual(t, len(found), promised, "a synced record is lost")
	require.Equal(t, upTo(len(found)), found)
	require.LessOrEqual(t, j.Position().AckedSeq, j.Position().TailSeq)
	more, err := script(j, len(found)+1, 40)
	require.NoError(t, err)
	j, rec = mustOpen(t, d.clone(), testOptions())
	require.Empty(t, rec.NewEpoch, rec.Detail)
	require.Equal(t, upTo(more), facts(t, j))
}

func TestPowerCutAtEachOperation(t *testing.T) {
	for op := 1; op <= scriptOps(t); op += (stride + 9) / 10 {
		for seed := range uint64(6) {
			r := rand.New(rand.NewPCG(uint64(op), seed))
			d := newMemDisk()
			d.fault = func(n int, _ string) (int, error) {
				if n >= op {
					return r.IntN(2 * sector), errCut
				}
				return 0, nil
			}
			promised := 0
			if j, _, err := Open(d, testOptions()); err == nil {
				promised, err = script(j, 1, 120)
				require.ErrorIs(t, err, errCut)
			}
			checkAfter(t, d.crash(r), promised)
		}
	}
}

func TestErrorAtEachOperationKillsForGood(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC, nil} {
		for op := 1; op <= scriptOps(t); op += (stride + 9) / 10 {
			d := newMemDisk()
			failed := false
			d.fault = func(n int, what string) (int, error) {
				if n != op {
					return 0, nil
				}
				if fault == nil { // a short write, without an error
					failed = what == "write"
					return 1, nil
				}
				failed = true
				return 0, fault
			}
			j, _, err := Open(d, testOptions())
			if err != nil {
				require.ErrorContains(t, err, "open the journal")
				continue
			}
			promised, err := script(j, 1, 120)
			if !failed {
				require.NoError(t, err)
				continue
			}
			require.ErrorIs(t, err, ErrDead, "operation %d", op)
			if fault != nil {
				require.ErrorIs(t, err, fault)
			}
			<-j.Failed()
			ops, syncs := d.ops, d.syncs
			require.ErrorIs(t, j.Append(fact(9999)), ErrDead)
			require.ErrorIs(t, j.Abandon(), ErrDead)
			require.NoError(t, j.Close())
			require.Equal(t, []int{ops, syncs}, []int{d.ops, d.syncs}, "the disk is touched after an error")
			checkAfter(t, d.crash(rand.New(rand.NewPCG(uint64(op), 7))), promised)
			d.fault = nil
			checkAfter(t, d, promised)
		}
	}
}

func TestADeadJournalCanBeRead(t *testing.T) {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	promised, err := script(j, 1, 60)
	require.NoError(t, err)
	d.fault = func(int, string) (int, error) { return 0, syscall.EROFS }
	require.ErrorIs(t, j.Append(fact(promised+1)), syscall.EROFS)
	require.Equal(t, upTo(promised), facts(t, j))
	pos := j.Position()
	require.NoError(t, j.Ack(pos.TailSeq, pos.TailHash), "in memory")

	// And so it is after a restart: it says what it has and writes nothing.
	d = d.clone()
	d.fault = func(int, string) (int, error) { return 0, syscall.EROFS }
	j, rec := mustOpen(t, d, testOptions())
	require.Empty(t, rec.NewEpoch)
	require.Equal(t, upTo(promised), facts(t, j))
	require.ErrorIs(t, j.Append(protocol.Boot{}), syscall.EROFS)
}

func TestALyingDeviceIsFoundByTheAcknowledgement(t *testing.T) {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	_, err := script(j, 1, 60)
	require.NoError(t, err)
	old := d.clone()
	promised, err := script(j, 61, 60)
	require.NoError(t, err)
	require.NoError(t, j.Close())
	acked := j.Position()

	// The device gives yesterday's content, but for the acknowledgement.
	old.now[ackedName] = d.now[ackedName]
	opt := testOptions()
	opt.Random = seeded(2)
	j2, rec := mustOpen(t, old, opt)
	require.Equal(t, WhyBehindAck, rec.NewEpoch)
	require.Equal(t, acked.Epoch, rec.Old.Epoch)
	require.Less(t, rec.Old.Seq, acked.AckedSeq)
	require.NotEqual(t, acked.Epoch, j2.Position().Epoch)
	require.Zero(t, j2.Position().AckedSeq)

	// The new epoch stays, also after the next boots.
	require.NoError(t, j2.Append(protocol.Boot{Epoch: j2.Position().Epoch, Old: rec.Old}))
	epoch := j2.Position().Epoch
	require.NoError(t, j2.Close())
	j3, rec := mustOpen(t, old.clone(), testOptions())
	require.Zero(t, rec)
	require.Equal(t, epoch, j3.Position().Epoch)
	require.Equal(t, uint32(2), j3.Position().BootSeq)
	require.NotZero(t, promised)
}

func TestAnotherHistoryUnderTheSameSeqIsFound(t *testing.T) {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	_, err := script(j, 1, 60)
	require.NoError(t, err)
	fork := d.clone()
	_, err = script(j, 61, 60)
	require.NoError(t, err)
	require.NoError(t, j.Close())
	j2, _ := mustOpen(t, fork, testOptions())
	for range 120 {
		require.NoError(t, j2.Append(fact(5000)))
	}
	require.NoError(t, j2.Close())
	fork.now[ackedName] = d.now[ackedName]
	_, rec := mustOpen(t, fork.clone(), testOptions())
	require.Equal(t, WhyBehindAck, rec.NewEpoch)
}

func TestAbandonedEpoch(t *testing.T) {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	_, err := script(j, 1, 20)
	require.NoError(t, err)
	pos := j.Position()
	require.NoError(t, j.Abandon())
	require.NoError(t, j.Append(fact(21)), "it is left at the next boot")
	require.NoError(t, j.Close())

	opt := testOptions()
	opt.Random = seeded(2)
	d = d.clone()
	j, rec := mustOpen(t, d, opt)
	require.Equal(t, WhyAbandoned, rec.NewEpoch)
	require.Equal(t, pos.Epoch, rec.Old.Epoch)
	require.Equal(t, pos.TailSeq+1, rec.Old.Seq)

	// A power cut before the new epoch's first record: the same again.
	opt.Random = seeded(3)
	d = d.clone()
	j2, again := mustOpen(t, d, opt)
	require.Equal(t, rec, again)
	require.NotEqual(t, j.Position().Epoch, j2.Position().Epoch)
	require.NoError(t, j2.Append(protocol.Boot{Old: again.Old}))
	j3, rec := mustOpen(t, d.clone(), testOptions())
	require.Zero(t, rec)
	require.Equal(t, j2.Position().Epoch, j3.Position().Epoch)
}

func TestNewEpochsAreBounded(t *testing.T) {
	opt := testOptions()
	opt.MaxBytes = 4 * testSegment
	d := newMemDisk()
	for n := range 4 {
		opt.Random = seeded(uint64(n))
		j, _ := mustOpen(t, d, opt)
		require.NoError(t, j.Append(fact(1)))
		require.NoError(t, j.Abandon())
		require.NoError(t, j.Close())
	}
	_, _, err := Open(d, opt)
	require.ErrorIs(t, err, ErrFull)
	reports, err := Inspect(d, func(Entry) error { return nil })
	require.NoError(t, err)
	require.Len(t, reports, 4)
}

func TestACutRoll(t *testing.T) {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	n := 0
	for len(d.now) < 3 {
		n++
		require.NoError(t, j.Append(fact(n)))
	}
	// The third segment holds SNAPSHOT and the last fact.
	third, last := j.name().String(), d.now[j.name().String()].data
	for what, content := range map[string][]byte{
		"absent":                nil,
		"empty":                 {},
		"short zeros":           make([]byte, 100),
		"zeros":                 make([]byte, testSegment),
		"part of the snapshot":  append(slices.Clone(last[:40]), make([]byte, testSegment-40)...),
		"snapshot and no fact":  append(slices.Clone(last[:j.tail.off-1]), make([]byte, testSegment)...),
		"a short file and part": last[:30],
	} {
		cut := d.clone()
		if delete(cut.now, third); content != nil {
			cut.now[third] = &memFile{data: slices.Clone(content), held: slices.Clone(content), dirty: map[int]bool{}}
		}
		j, rec := mustOpen(t, cut, testOptions())
		require.Empty(t, rec.NewEpoch, what)
		require.Equal(t, upTo(n-1), facts(t, j), what)
		more, err := script(j, n, 50)
		require.NoError(t, err, what)
		j, rec = mustOpen(t, cut.clone(), testOptions())
		require.Zero(t, rec, what)
		require.Equal(t, upTo(more), facts(t, j), what)
	}
}

func TestATornRecordIsGoneOnceItIsCut(t *testing.T) {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	require.NoError(t, j.Append(fact(1)))
	end := j.tail.off
	require.NoError(t, j.Append(protocol.Reject{Why: strings.Repeat("long", 300)}))
	d = d.clone()
	data := d.now[j.name().String()].data
	data[end+20]++ // torn in its head; the rest of it was written
	d = oneFile(j.name().String(), data)
	j, rec := mustOpen(t, d, testOptions())
	require.NotZero(t, rec.CutBytes)
	require.NoError(t, j.Append(fact(2)))
	j, rec = mustOpen(t, d.clone(), testOptions())
	require.Zero(t, rec, "what was cut before is reported again")
	require.Equal(t, upTo(2), facts(t, j))
}

func TestAHoleBetweenSegmentsIsCorruption(t *testing.T) {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	_, err := script(j, 1, 120)
	require.NoError(t, err)
	second := j.segments[1]
	for what, spoil := range map[string]func(*memDisk){
		"file gone":        func(d *memDisk) { delete(d.now, second.name.String()) },
		"file empty":       func(d *memDisk) { d.now[second.name.String()].data = nil },
		"end of file torn": func(d *memDisk) { clear(d.now[second.name.String()].data[second.end-5:]) },
		"last record gone": func(d *memDisk) { clear(d.now[second.name.String()].data[second.end-90:]) },
		"another's file": func(d *memDisk) {
			d.now[second.name.String()].data = slices.Clone(d.now[j.segments[2].name.String()].data)
		},
	} {
		bad := d.clone()
		spoil(bad)
		for _, f := range bad.now {
			f.held = slices.Clone(f.data)
		}
		_, rec := mustOpen(t, bad, testOptions())
		require.Equal(t, WhyCorrupt, rec.NewEpoch, what)
		require.NotNil(t, rec.Old, what)
		require.LessOrEqual(t, rec.Old.Seq, second.last, what)
	}
}

func TestInspect(t *testing.T) {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	promised, err := script(j, 1, 120)
	require.NoError(t, err)
	seen := 0
	reports, err := Inspect(d, func(e Entry) error {
		require.Equal(t, j.Position().Epoch, e.Epoch)
		if e.Type == protocol.RecordReject {
			seen++
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, promised, seen)
	require.Len(t, reports, 1)
	require.Empty(t, reports[0].Corrupt)
	require.Equal(t, j.Position().TailHash, reports[0].TailHash)

	d.now[j.segments[1].name.String()].data[70] ^= 4
	reports, err = Inspect(d, func(Entry) error { return nil })
	require.NoError(t, err)
	require.Contains(t, reports[0].Corrupt, "valid records follow")
}

// TestReplayLeft: what the epoch before told can still be folded, as far as its
// records are good; from its newest snapshot on.
func TestReplayLeft(t *testing.T) {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	for n := 1; len(j.segments) < 3; n++ {
		require.NoError(t, j.Append(fact(n)))
	}
	last := j.segments[2].name
	require.NoError(t, j.Append(fact(500), fact(501)))
	tail := j.Position().TailSeq
	show := func(j *Journal) (seqs []uint64) {
		require.NoError(t, j.ReplayLeft(func(r protocol.Record) error {
			seqs = append(seqs, r.Seq)
			return nil
		}))
		return seqs
	}
	require.Empty(t, show(j), "nothing was left")
	require.NoError(t, j.Abandon())
	require.NoError(t, j.Close())
	j, rec := mustOpen(t, d.clone(), testOptions())
	require.Equal(t, WhyAbandoned, rec.NewEpoch)
	seqs := show(j)
	require.Equal(t, last.first, seqs[0])
	require.Equal(t, tail, seqs[len(seqs)-1])

	bad := d.clone()
	data := slices.Clone(bad.now[last.String()].data)
	data[protocol.MinRecord]++ // in the first record
	bad.now[last.String()] = &memFile{data: data, held: slices.Clone(data), dirty: map[int]bool{}}
	j, rec = mustOpen(t, bad, testOptions())
	require.Equal(t, WhyCorrupt, rec.NewEpoch)
	seqs = show(j)
	require.NotEmpty(t, seqs)
	require.Equal(t, last.first-1, seqs[len(seqs)-1])
}

package journal

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// Records that were never committed are gone with the oldest file: that is not
// to pass in silence. (TestAHoleBetweenSegmentsIsCorruption leaves this one out.)
func TestLossOfTheOldestUnackedSegmentIsNoticed(t *testing.T) {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	for n := 1; len(j.segments) < 3; n++ {
		require.NoError(t, j.Append(fact(n)))
	}
	require.Zero(t, j.Position().AckedSeq, "nothing is committed")
	first := j.segments[0]
	require.NoError(t, j.Close())
	bad := d.clone()
	delete(bad.now, first.name.String())
	k, rec := mustOpen(t, bad, testOptions())
	reports, err := Inspect(bad, func(Entry) error { return nil })
	require.NoError(t, err)
	require.Contains(t, reports[0].Corrupt, "never acknowledged and are gone")
	require.Equal(t, WhyCorrupt, rec.NewEpoch, "seq 1 to %d are gone, position is %+v", first.last, k.Position())
}

// What was committed may go; but the epoch's last whole file never goes.
func TestOnlyACutRollIsLeftOfAnEpoch(t *testing.T) {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	name := j.name()
	require.NoError(t, j.Close())
	bad := d.clone()
	delete(bad.now, name.String())
	name.first = 45
	bad.now[name.String()] = &memFile{data: make([]byte, testSegment), held: make([]byte, testSegment), dirty: map[int]bool{}}
	_, rec := mustOpen(t, bad, testOptions())
	require.Equal(t, WhyCorrupt, rec.NewEpoch)
}

// "A journal that can be read but not written is no error here": also when a
// power cut left a blank file of a cut format or roll behind.
func TestReadOnlyWithABlankSegmentOpens(t *testing.T) {
	d := newMemDisk()
	j, _ := mustOpen(t, d, testOptions())
	_, err := script(j, 1, 5)
	require.NoError(t, err)
	name := j.name()
	require.NoError(t, j.Close())
	d = d.clone()
	blank := segmentName{generation: name.generation + 1, epoch: name.epoch, first: 1}
	d.now[blank.String()] = &memFile{data: make([]byte, testSegment), held: make([]byte, testSegment), dirty: map[int]bool{}}
	d.fault = func(_ int, what string) (int, error) {
		if what == "remove" || what == "write" || what == "sync" || what == "create" {
			return 0, errors.New("read-only file system")
		}
		return 0, nil
	}
	_, _, err = Open(d, testOptions())
	require.NoError(t, err)
}

package journal

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnARealFileSystem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	forgotten := 0
	forget := func(uintptr) error { forgotten++; return nil }
	d, err := OpenDir(dir, forget)
	require.NoError(t, err)
	opt := testOptions()
	opt.SegmentBytes, opt.MaxBytes = SegmentBytes, MaxBytes
	j, rec := mustOpen(t, d, opt)
	require.Equal(t, WhyFresh, rec.NewEpoch)
	require.NoError(t, j.Append(fact(1), fact(2)))
	info, err := os.Stat(filepath.Join(dir, j.name().String()))
	require.NoError(t, err)
	require.Equal(t, int64(SegmentBytes), info.Size())
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	again, err := OpenDir(dir, forget)
	require.NoError(t, err)
	_, _, err = Open(again, opt)
	require.ErrorIs(t, err, ErrInUse)

	pos := j.Position()
	require.NoError(t, j.Ack(pos.TailSeq, pos.TailHash))
	require.NoError(t, j.Abandon())
	require.NoError(t, j.Close())
	opt.Random = seeded(2)
	j, rec = mustOpen(t, again, opt)
	require.Equal(t, WhyAbandoned, rec.NewEpoch)
	require.Equal(t, pos.TailHash, rec.Old.Hash)
	require.Equal(t, 1, forgotten)
	require.NoError(t, j.Close())
}

func TestADirectoryThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := OpenDir(filepath.Join(file, "journal"), nil)
	require.ErrorContains(t, err, "make the journal's directory")
	_, err = OpenDir(file, nil)
	require.ErrorContains(t, err, "make the journal's directory")
}

// Each directory that was made is an entry in the one above, and a power cut takes
// whatever entry was not synced, with all that is below it.
func TestEveryDirectoryThatWasMadeIsSynced(t *testing.T) {
	top := t.TempDir()
	synced := []string{}
	note := func(dir string) error { synced = append(synced, dir); return nil }
	dir := filepath.Join(top, "a", "b", "journal")
	require.NoError(t, makeDir(dir, note))
	require.Equal(t, []string{top, filepath.Join(top, "a"), filepath.Join(top, "a", "b")}, synced)
	require.DirExists(t, dir)
	synced = nil
	require.NoError(t, makeDir(dir, note))
	require.Equal(t, []string{filepath.Join(top, "a", "b")}, synced, "the one that made it may have been cut before its sync")
	failing := func(err error) func(string) error { return func(string) error { return err } }
	require.ErrorIs(t, makeDir(dir, failing(syscall.EIO)), syscall.EIO)
	require.NoError(t, makeDir(dir, failing(syscall.EROFS)), "a journal on a read-only file system can be read")
}

// FuzzOpen opens whatever bytes a segment may hold: it must not panic, must
// keep a damaged file, and must go on writing.
func FuzzOpen(f *testing.F) {
	d, name, ends := sample(f)
	whole := d.now[name].data
	f.Add(whole[:ends[3]])
	f.Add(whole[:ends[3]-1])
	f.Add([]byte{})
	f.Add(append(slices.Clone(whole[:ends[1]]), whole[ends[2]:ends[5]]...))
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > sampleSegment {
			return
		}
		d := oneFile(name, slices.Clone(content))
		j, rec, err := Open(d, sampleOptions())
		require.NoError(t, err)
		if rec.NewEpoch == WhyCorrupt {
			require.Equal(t, content, d.now[name].data)
		}
		before := facts(t, j)
		require.NoError(t, j.Append(fact(1)))
		j, rec, err = Open(d.clone(), sampleOptions())
		require.NoError(t, err)
		require.Empty(t, rec.NewEpoch)
		require.Equal(t, append(before, 1), facts(t, j))
	})
}

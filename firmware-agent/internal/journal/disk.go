package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Disk is what the journal asks of a file system. Names are plain file names
// in the journal's directory.
type Disk interface {
	// List gives the names of all files.
	List() ([]string, error)
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing.
	OpenWrite(name string) (File, error)
	// Create makes a new file; one that exists is an error.
	Create(name string) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// Forget drops what memory caches of a file, so that the next read gives
	// what the device holds.
	Forget(name string) error
	// Sync makes creations, renames and removals durable.
	Sync() error
	// Lock takes the directory for this process until the lock is closed.
	Lock() (io.Closer, error)
}

// File is one file of a Disk.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes what was written durable (fdatasync).
	Sync() error
	// Size is in bytes.
	Size() (int64, error)
}

// ErrInUse says that another process, or another part of this one, has the
// journal open.
var ErrInUse = errors.New("the journal is already open elsewhere")

const lockName = "lock"

// osDisk is a directory of the operating system.
type osDisk struct {
	dir       string
	dropCache func(fd uintptr) error
}

// OpenDir makes the directory when it is missing and gives it as a Disk.
// dropCache, when not nil, makes the kernel forget the clean pages that it
// caches of a file.
func OpenDir(dir string, dropCache func(fd uintptr) error) (Disk, error) {
	if err := makeDir(dir, syncDir); err != nil {
		return nil, err
	}
	return &osDisk{dir: dir, dropCache: dropCache}, nil
}

// makeDir makes dir and what is missing above it, and makes each entry durable.
// The directory that is there may have been made just before a power cut: its
// entry is synced too, every time.
func makeDir(dir string, sync func(dir string) error) error {
	above := filepath.Dir(dir)
	_, err := os.Stat(above)
	if errors.Is(err, fs.ErrNotExist) {
		err = makeDir(above, sync)
	}
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if info, stat := os.Stat(dir); stat == nil && info.IsDir() {
		err = nil // also on a file system that is read-only
	}
	if err != nil {
		return fmt.Errorf("make the journal's directory: %w", err)
	}
	// Where nothing can be written, nothing waits to be made durable.
	if err := sync(above); err != nil && !errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("sync the directory above the journal: %w", err)
	}
	return nil
}

func (d *osDisk) path(name string) string { return filepath.Join(d.dir, name) }

func (d *osDisk) List() ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d *osDisk) Open(name string) (File, error)      { return d.open(name, os.O_RDONLY) }
func (d *osDisk) OpenWrite(name string) (File, error) { return d.open(name, os.O_RDWR) }

func (d *osDisk) open(name string, flag int) (File, error) {
	f, err := os.OpenFile(d.path(name), flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d *osDisk) Forget(name string) error {
	if d.dropCache == nil {
		return nil
	}
	f, err := os.Open(d.path(name))
	if err != nil {
		return err
	}
	// Dirty pages stay cached, so they are written first. Pages that an earlier
	// failed sync marked clean are not written, and that is the point.
	err = osFile{f}.Sync()
	if err == nil {
		err = d.dropCache(f.Fd())
	}
	return errors.Join(err, f.Close())
}

func (d *osDisk) Create(name string) (File, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (d *osDisk) Rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }
func (d *osDisk) Remove(name string) error     { return os.Remove(d.path(name)) }
func (d *osDisk) Sync() error                  { return syncDir(d.dir) }

func (d *osDisk) Lock() (io.Closer, error) {
	// For reading only: a file system that turned read-only still has a journal
	// to be read by one.
	f, err := os.OpenFile(d.path(lockName), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrInUse
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

type osFile struct{ *os.File }

func (f osFile) Sync() error {
	if err := syscall.Fdatasync(int(f.Fd())); err != nil {
		return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

package journal

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

// sector is what a device writes whole or not at all.
const sector = 512

// errCut ends a run: the power is gone.
var errCut = errors.New("power cut")

// memDisk is a directory in memory that keeps apart what was written and what
// is durable. Every change is an operation with a number; fault may fail one.
type memDisk struct {
	mu      sync.Mutex
	now     map[string]*memFile // as a program sees it
	durable map[string]*memFile // directory entries that survive
	ops     int
	syncs   int
	locked  bool
	// fault is asked before each operation: n bytes of a write are then done.
	fault func(op int, what string) (n int, err error)
}

type memFile struct {
	data  []byte // as a program sees it
	held  []byte // what the device holds
	dirty map[int]bool
	lost  bool // a failed sync made pages count as clean that are not
}

func newMemDisk() *memDisk {
	return &memDisk{now: map[string]*memFile{}, durable: map[string]*memFile{}}
}

// cloneDurable is the disk after a quiet power-off: nothing is lost.
func (d *memDisk) clone() *memDisk {
	c := newMemDisk()
	for name, f := range d.now {
		g := &memFile{data: slices.Clone(f.data), held: slices.Clone(f.data), dirty: map[int]bool{}}
		c.now[name], c.durable[name] = g, g
	}
	return c
}

// crash is the disk after a power cut: of what was not synced, each sector and
// each directory entry may have reached the device or not.
func (d *memDisk) crash(r *rand.Rand) *memDisk {
	c := newMemDisk()
	entries := maps.Clone(d.durable)
	names := map[string]bool{}
	for n := range d.durable {
		names[n] = true
	}
	for n := range d.now {
		names[n] = true
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if d.now[n] != d.durable[n] && r.IntN(2) == 0 {
			if f, ok := d.now[n]; ok {
				entries[n] = f
			} else {
				delete(entries, n)
			}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(entries)) {
		f := entries[n]
		data := slices.Clone(f.held)
		for _, s := range slices.Sorted(maps.Keys(f.dirty)) {
			if r.IntN(2) == 0 {
				continue
			}
			lo, hi := s*sector, min((s+1)*sector, len(f.data))
			if hi > len(data) {
				data = append(data, make([]byte, hi-len(data))...)
			}
			copy(data[lo:hi], f.data[lo:hi])
		}
		g := &memFile{data: data, held: slices.Clone(data), dirty: map[int]bool{}}
		c.now[n], c.durable[n] = g, g
	}
	return c
}

// op counts an operation and says whether it fails.
func (d *memDisk) op(what string) (int, error) {
	d.ops++
	if d.fault == nil {
		return 0, nil
	}
	return d.fault(d.ops, what)
}

func (d *memDisk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.now)), nil
}

func (d *memDisk) Open(name string) (File, error)      { return d.open(name, false) }
func (d *memDisk) OpenWrite(name string) (File, error) { return d.open(name, true) }

func (d *memDisk) open(name string, write bool) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.now[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &memHandle{disk: d, f: f, write: write}, nil
}

func (d *memDisk) Create(name string) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.op("create"); err != nil {
		return nil, err
	}
	if _, ok := d.now[name]; ok {
		return nil, fs.ErrExist
	}
	f := &memFile{dirty: map[int]bool{}}
	d.now[name] = f
	return &memHandle{disk: d, f: f, write: true}, nil
}

func (d *memDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.op("rename"); err != nil {
		return err
	}
	d.now[to] = d.now[from]
	delete(d.now, from)
	return nil
}

func (d *memDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.op("remove"); err != nil {
		return err
	}
	delete(d.now, name)
	return nil
}

func (d *memDisk) Forget(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.now[name]
	if f.lost && len(f.dirty) == 0 {
		f.data, f.lost = slices.Clone(f.held), false
	}
	return nil
}

func (d *memDisk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	if _, err := d.op("sync directory"); err != nil {
		return err
	}
	d.durable = maps.Clone(d.now)
	return nil
}

func (d *memDisk) Lock() (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locked {
		return nil, ErrInUse
	}
	d.locked = true
	return unlocker{d}, nil
}

type unlocker struct{ d *memDisk }

func (u unlocker) Close() error {
	u.d.mu.Lock()
	defer u.d.mu.Unlock()
	u.d.locked = false
	return nil
}

type memHandle struct {
	disk  *memDisk
	f     *memFile
	write bool
}

func (h *memHandle) ReadAt(b []byte, off int64) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if off >= int64(len(h.f.data)) {
		return 0, io.EOF
	}
	n := copy(b, h.f.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) WriteAt(b []byte, off int64) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if !h.write {
		return 0, fs.ErrPermission
	}
	n, err := h.disk.op("write")
	if err == nil && n == 0 {
		n = len(b)
	}
	n = min(n, len(b))
	if end := int(off) + n; end > len(h.f.data) {
		h.f.data = append(h.f.data, make([]byte, end-len(h.f.data))...)
	}
	copy(h.f.data[off:], b[:n])
	for s := int(off) / sector; n > 0 && s <= (int(off)+n-1)/sector; s++ {
		h.f.dirty[s] = true
	}
	return n, err
}

func (h *memHandle) Sync() error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	h.disk.syncs++
	if _, err := h.disk.op("sync"); err != nil {
		// As Linux does: the pages count as clean from here on.
		h.f.dirty, h.f.lost = map[int]bool{}, true
		return err
	}
	h.f.sync()
	return nil
}

// sync brings the dirty sectors to the device.
func (f *memFile) sync() {
	if n := len(f.data) - len(f.held); n > 0 {
		f.held = append(f.held, make([]byte, n)...)
	}
	for s := range f.dirty {
		lo, hi := s*sector, min((s+1)*sector, len(f.data))
		copy(f.held[lo:hi], f.data[lo:hi])
	}
	clear(f.dirty)
}

func (h *memHandle) Size() (int64, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	return int64(len(h.f.data)), nil
}

func (h *memHandle) Close() error { return nil }

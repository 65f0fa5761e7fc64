package soak

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"

	"batteryswap/firmware-agent/agent"
)

// sector is what the flash writes whole or not at all.
const sector = 512

// flash is the directory of a journal. It keeps apart what the program sees and
// what the device holds.
type flash struct {
	files   map[string]*blob // as the program sees them
	entries map[string]*blob // the directory that survives a cut
	locked  bool
	fail    error // of every write and sync from now on
	lie     bool  // the next sync says yes and does nothing
	// point is told of each moment at which the power may go; true is that it
	// goes in the middle.
	point func(name string) bool
	// synced is told of each range that the program believes to be durable.
	synced  func(name string, b []byte)
	removed func(name string)
	lucky   luck  // of the next cut
	last    *blob // the file that was synced last
}

// luck is what a cut leaves of what was not synced.
type luck uint8

const (
	anyLuck  luck = iota // each sector and each entry of the directory by a coin
	noLuck               // nothing
	allLuck              // all of it
	liedLuck             // nothing, and what the last sync promised is gone, too
	lucks
)

// toss says whether something that was not synced is there.
func (l luck) toss(r *rand.Rand) bool {
	switch l {
	case anyLuck:
		return r.IntN(2) == 0
	case allLuck:
		return true
	}
	return false
}

type blob struct {
	name    string
	data    []byte
	held    []byte
	pending []span
	undo    []byte // held, as it was before the last sync
}

// span is a write that is not durable; told: the program believes that it is.
type span struct {
	from, to int
	told     bool
}

func newFlash() *flash {
	return &flash{
		files: map[string]*blob{}, entries: map[string]*blob{}, point: func(string) bool { return false },
		synced: func(string, []byte) {}, removed: func(string) {},
	}
}

// afterCut is the flash when the power comes back: of what was not synced, each
// sector and each entry of the directory may be there, or not, or garbled.
func (f *flash) afterCut(r *rand.Rand, l luck, garble bool) *flash {
	g := newFlash()
	if l == liedLuck && f.last != nil {
		f.last.held, f.last.pending = f.last.undo, nil
	}
	entries := maps.Clone(f.entries)
	names := map[string]bool{}
	for n := range f.entries {
		names[n] = true
	}
	for n := range f.files {
		names[n] = true
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if f.files[n] == f.entries[n] || !l.toss(r) {
			continue
		}
		if b, ok := f.files[n]; ok {
			entries[n] = b
		} else {
			delete(entries, n)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(entries)) {
		was := entries[n]
		b := was.afterCut(r, l, garble)
		b.name = n
		for _, p := range was.pending {
			if !p.told && p.to <= len(b.held) && bytes.Equal(b.held[p.from:p.to], was.data[p.from:p.to]) {
				f.synced(n, b.held[p.from:p.to]) // durable by luck
			}
		}
		g.files[n], g.entries[n] = b, b
	}
	return g
}

func (b *blob) afterCut(r *rand.Rand, l luck, garble bool) *blob {
	held := slices.Clone(b.held)
	for _, p := range b.pending {
		for at := p.from / sector; at*sector < p.to; at++ {
			lo, hi := at*sector, min((at+1)*sector, len(b.data))
			if !l.toss(r) || lo >= hi {
				continue
			}
			if hi > len(held) {
				held = append(held, make([]byte, hi-len(held))...)
			}
			copy(held[lo:hi], b.data[lo:hi])
			if garble && r.IntN(4) == 0 {
				// Only what was being written: a sector that is rewritten keeps
				// what was synced in it.
				for i := max(lo, p.from); i < min(hi, p.to); i++ {
					held[i] = byte(r.Uint32())
				}
			}
		}
	}
	return &blob{data: slices.Clone(held), held: held}
}

func (f *flash) List() ([]string, error) { return slices.Sorted(maps.Keys(f.files)), nil }

func (f *flash) Open(name string) (agent.File, error) {
	b, ok := f.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &handle{f, b}, nil
}

func (f *flash) OpenWrite(name string) (agent.File, error) { return f.Open(name) }

func (f *flash) Create(name string) (agent.File, error) {
	if _, ok := f.files[name]; ok {
		return nil, fs.ErrExist
	}
	f.point("before create")
	if f.fail != nil {
		return nil, f.fail
	}
	f.files[name] = &blob{name: name}
	f.point("after create")
	return f.Open(name)
}

func (f *flash) Rename(from, to string) error {
	f.point("before rename")
	if f.fail != nil {
		return f.fail
	}
	f.files[to] = f.files[from]
	delete(f.files, from)
	f.point("after rename")
	return nil
}

func (f *flash) Remove(name string) error {
	f.point("before remove")
	if f.fail != nil {
		return f.fail
	}
	f.removed(name)
	delete(f.files, name)
	f.point("after remove")
	return nil
}

func (f *flash) Forget(string) error { return nil }

func (f *flash) Sync() error {
	f.point("before sync of the directory")
	if f.fail != nil {
		return f.fail
	}
	f.entries = maps.Clone(f.files)
	f.point("after sync of the directory")
	return nil
}

var errLocked = errors.New("locked twice")

func (f *flash) Lock() (io.Closer, error) {
	if f.locked {
		return nil, errLocked
	}
	f.locked = true
	return unlocker{f}, nil
}

type unlocker struct{ f *flash }

func (u unlocker) Close() error { u.f.locked = false; return nil }

// handle is an open file.
type handle struct {
	f *flash
	b *blob
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(h.b.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.b.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	h.f.point("before write")
	if h.f.fail != nil {
		return 0, h.f.fail
	}
	if h.f.point("torn write") {
		h.write(p[:len(p)/2], off)
		panic(powerCut{})
	}
	h.write(p, off)
	h.f.point("after write")
	return len(p), nil
}

func (h *handle) write(p []byte, off int64) {
	end := int(off) + len(p)
	if end > len(h.b.data) {
		h.b.data = append(h.b.data, make([]byte, end-len(h.b.data))...)
	}
	copy(h.b.data[off:], p)
	h.b.pending = append(h.b.pending, span{from: int(off), to: end})
}

func (h *handle) Sync() error {
	if h.f.fail != nil {
		return h.f.fail
	}
	for i, p := range h.b.pending {
		if h.b.pending[i].told = true; !p.told {
			h.f.synced(h.b.name, h.b.data[p.from:p.to])
		}
	}
	lies := h.f.lie
	if h.f.last = h.b; h.f.lucky == liedLuck {
		h.b.undo = slices.Clone(h.b.held)
	}
	if h.f.lie = false; !lies {
		if len(h.b.held) < len(h.b.data) {
			h.b.held = append(h.b.held, make([]byte, len(h.b.data)-len(h.b.held))...)
		}
		for _, p := range h.b.pending {
			copy(h.b.held[p.from:p.to], h.b.data[p.from:p.to])
		}
		h.b.pending = h.b.pending[:0]
	}
	h.f.point("after sync")
	return nil
}

func (h *handle) Size() (int64, error) { return int64(len(h.b.data)), nil }
func (h *handle) Close() error         { return nil }

package journal

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"batteryswap/protocol"
)

// Sizes of a journal.
const (
	// SegmentBytes is the preallocated size of a segment.
	SegmentBytes = 1 << 20
	// MaxBytes bounds all segments together. Beyond it Append refuses: a record
	// is never dropped to make room.
	MaxBytes = 256 << 20
	// KeepMS is how long a committed record is kept, in time under power: a
	// backend restored from a backup asks for it again.
	KeepMS = 30 * 24 * 60 * 60 * 1000
	// MaxBatch bounds the payloads of one Append.
	MaxBatch = 16
)

// Errors of Append and Ack. A dead journal wraps what killed it.
var (
	ErrDead     = errors.New("the journal is read-only")
	ErrFull     = fmt.Errorf("the journal holds %d MiB", MaxBytes>>20)
	ErrMismatch = errors.New("the acknowledged record is not this journal's")
)

// Options are what a journal needs. All functions are called with the journal
// locked: they must not call it back.
type Options struct {
	// Clock gives the monotonic clock since boot, the wall clock (Unix), both
	// in ms, and how far the wall clock can be trusted.
	Clock func() (monoMS, wallMS uint64, state protocol.ClockState)
	// Random gives the bits of a new epoch.
	Random io.Reader
	// Snapshot encodes the fold of all records so far. It is called when a
	// segment is rolled, before any of the records that are being appended.
	Snapshot func() ([]byte, error)
	// Appended sees each record that is on the device, in order; its payload is
	// valid during the call. It may be nil.
	Appended func(protocol.Record)
	// Synced is told how long each sync of a record took. It may be nil.
	Synced func(time.Duration)

	// Sizes and ages for tests and simulations; 0: the constants above.
	SegmentBytes, MaxBytes int64
	KeepMS                 uint64
}

// Journal is an open journal. Its methods may be called from any goroutine.
type Journal struct {
	disk Disk
	lock io.Closer
	opt  Options

	mu       sync.Mutex
	err      error
	failed   chan struct{}
	segments []segment
	tail     place
	boot     uint32 // of the tail; this boot is one more
	bootSeq  uint32 // of this boot
	monoMS   uint64
	upMS     uint64
	bytes    int64 // of all files
	active   File
	buf      []byte
	acked    position
	stored   position // acked as it stands on the device
	storedMS uint64   // upMS then

	// left is the epoch that Open has left for a new one; nil when it did not.
	left *chain

	reading sync.Mutex
	hint    hint
}

// position names one record.
type position struct {
	seq  uint64
	hash protocol.Hash
}

// Position is where a journal stands.
type Position struct {
	Epoch     protocol.Epoch
	FirstSeq  uint64 // oldest record that is still there
	TailSeq   uint64 // newest; 0: none yet
	TailHash  protocol.Hash
	AckedSeq  uint64 // newest that the backend has committed; 0: none
	AckedHash protocol.Hash
	BootSeq   uint32 // of this boot
	Full      bool   // no new swap may start: see MaxBytes
}

// Position gives where the journal stands.
func (j *Journal) Position() Position {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Position{
		Epoch:     j.name().epoch,
		FirstSeq:  j.segments[0].name.first,
		TailSeq:   j.tail.seq,
		TailHash:  j.tail.hash,
		AckedSeq:  j.acked.seq,
		AckedHash: j.acked.hash,
		BootSeq:   j.bootSeq,
		// A swap that has begun must be able to end, also across a roll.
		Full: j.bytes+2*j.opt.SegmentBytes > j.opt.MaxBytes,
	}
}

func (j *Journal) name() segmentName { return j.segments[len(j.segments)-1].name }

// Err is what killed the journal, or nil.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// Failed is closed when the journal dies.
func (j *Journal) Failed() <-chan struct{} { return j.failed }

// fail makes the journal read-only for good.
func (j *Journal) fail(err error) error {
	if j.err == nil {
		j.err = fmt.Errorf("%w: %w", ErrDead, err)
		close(j.failed)
	}
	return j.err
}

// Append writes records of these payloads and returns when all of them are on
// the device. They stand in one segment. On an error of the disk some of them
// may be there, and the journal is read-only for good.
func (j *Journal) Append(payloads ...protocol.Payload) error {
	if len(payloads) > MaxBatch {
		return fmt.Errorf("append %d records: want at most %d", len(payloads), MaxBatch)
	}
	encoded := make([][]byte, len(payloads))
	need := int64(0)
	for i, p := range payloads {
		b, err := protocol.MarshalPayload(p)
		if err != nil {
			return fmt.Errorf("append: %w", err)
		}
		if !p.RecordType().Valid() || p.RecordType() == protocol.RecordSnapshot {
			return fmt.Errorf("append: %s: want a type of record other than SNAPSHOT", p.RecordType())
		}
		encoded[i] = b
		need += int64(protocol.MinRecord + len(b))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	if j.tail.off+need > j.opt.SegmentBytes {
		if err := j.roll(need); err != nil {
			return err
		}
	}
	for i, p := range payloads {
		if err := j.write(p.RecordType(), encoded[i]); err != nil {
			return err
		}
	}
	return nil
}

// write puts one record after the tail and syncs it.
func (j *Journal) write(t protocol.RecordType, payload []byte) error {
	mono, wall, state := j.opt.Clock()
	rec := protocol.Record{
		EpochShort: j.name().epoch.Short(),
		Seq:        j.tail.seq + 1,
		BootSeq:    j.bootSeq,
		MonoMS:     mono,
		WallMS:     wall,
		Clock:      state,
		Type:       t,
		PrevHash:   j.tail.hash,
		Payload:    payload,
	}
	var err error
	if j.buf, err = protocol.AppendRecord(j.buf[:0], rec); err != nil {
		return j.fail(err)
	}
	rec, n, hash, err := protocol.DecodeRecord(j.buf)
	if err != nil {
		return j.fail(fmt.Errorf("encode %s: %w", t, err))
	}
	if err := writeAll(j.active, j.buf, j.tail.off); err != nil {
		return j.fail(fmt.Errorf("write %s seq %d: %w", t, rec.Seq, err))
	}
	start := time.Now()
	if err := j.active.Sync(); err != nil {
		return j.fail(fmt.Errorf("sync %s seq %d: %w", t, rec.Seq, err))
	}
	if j.opt.Synced != nil {
		j.opt.Synced(time.Since(start))
	}
	c := chain{segments: j.segments, boot: j.boot, monoMS: j.monoMS, upMS: j.upMS}
	c.add(entry{Record: rec, raw: j.buf[:n], off: j.tail.off})
	j.boot, j.monoMS, j.upMS = c.boot, c.monoMS, c.upMS
	j.tail = place{seq: rec.Seq, hash: hash, off: j.tail.off + int64(n)}
	if j.opt.Appended != nil {
		j.opt.Appended(rec)
	}
	return nil
}

func writeAll(f File, b []byte, off int64) error {
	n, err := f.WriteAt(b, off)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// roll starts the next segment with a SNAPSHOT, so that need bytes fit in.
func (j *Journal) roll(need int64) error {
	if err := j.prune(); err != nil {
		return err
	}
	snapshot, err := j.opt.Snapshot()
	if err != nil {
		return j.fail(fmt.Errorf("snapshot: %w", err))
	}
	if protocol.MinRecord+int64(len(snapshot))+need > j.opt.SegmentBytes {
		return fmt.Errorf("append: %d bytes and a snapshot of %d: more than a segment", need, len(snapshot))
	}
	if j.bytes+j.opt.SegmentBytes > j.opt.MaxBytes {
		return ErrFull
	}
	last := j.name()
	name := segmentName{generation: last.generation, epoch: last.epoch, first: j.tail.seq + 1}
	if err := j.start(name); err != nil {
		return err
	}
	return j.write(protocol.RecordSnapshot, snapshot)
}

// start creates a segment and makes it the active one.
func (j *Journal) start(name segmentName) error {
	f, err := createSegment(j.disk, name, j.opt.SegmentBytes)
	if err != nil {
		return j.fail(err)
	}
	if j.active != nil {
		if err := j.active.Close(); err != nil {
			return j.fail(errors.Join(fmt.Errorf("close a full segment: %w", err), f.Close()))
		}
	}
	j.active = f
	j.bytes += j.opt.SegmentBytes
	j.segments = append(j.segments, segment{name: name, last: name.first - 1, upMS: j.upMS})
	j.tail.off = 0
	return nil
}

// createSegment makes a file of zeros, durably. Zeros rather than an allocation
// without content: to write into such a one costs a change of the file system's
// own journal for each record.
func createSegment(d Disk, name segmentName, size int64) (_ File, err error) {
	f, err := d.Create(name.String())
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	if err := fillZero(f, 0, size); err != nil {
		return nil, errors.Join(fmt.Errorf("preallocate %s: %w", name, err), f.Close())
	}
	if err := d.Sync(); err != nil {
		return nil, errors.Join(fmt.Errorf("sync the journal's directory: %w", err), f.Close())
	}
	return f, nil
}

func fillZero(f File, from, to int64) error {
	zeros := make([]byte, min(64<<10, max(0, to-from)))
	for off := from; off < to; {
		b := zeros[:min(int64(len(zeros)), to-off)]
		if err := writeAll(f, b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return f.Sync()
}

// Close stores how far the backend has acknowledged, and lets the directory go.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lock == nil {
		return nil
	}
	var err error
	if j.err == nil {
		err = j.storeAcked()
	}
	if j.active != nil {
		err = errors.Join(err, j.active.Close())
	}
	if j.err == nil {
		j.err = fmt.Errorf("%w: closed", ErrDead)
	}
	err = errors.Join(err, j.lock.Close())
	j.lock = nil
	if err != nil {
		return fmt.Errorf("close the journal: %w", err)
	}
	return nil
}

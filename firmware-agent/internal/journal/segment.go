package journal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"batteryswap/protocol"
)

// segmentName says what a segment's file holds, so that an empty or damaged
// file still tells where it belongs.
type segmentName struct {
	generation uint32 // counts the epochs of this directory, from 1
	epoch      protocol.Epoch
	first      uint64 // seq of its first record
}

const segmentSuffix = ".seg"

// String is a name that sorts in the order of writing.
func (n segmentName) String() string {
	return fmt.Sprintf("%06d-%s-%020d%s", n.generation, n.epoch, n.first, segmentSuffix)
}

func parseSegmentName(s string) (segmentName, bool) {
	var n segmentName
	parts := strings.Split(strings.TrimSuffix(s, segmentSuffix), "-")
	if !strings.HasSuffix(s, segmentSuffix) || len(parts) != 3 || len(parts[1]) != hex.EncodedLen(len(n.epoch)) {
		return n, false
	}
	generation, err1 := strconv.ParseUint(parts[0], 10, 32)
	_, err2 := hex.Decode(n.epoch[:], []byte(parts[1]))
	first, err3 := strconv.ParseUint(parts[2], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil || generation == 0 || first == 0 {
		return n, false
	}
	n.generation, n.first = uint32(generation), first
	return n, n.String() == s
}

// segment is what the journal remembers of one of its files.
type segment struct {
	name segmentName
	last uint64 // seq of its last record
	end  int64  // bytes of its records
	// upMS is the time under power up to its last record, see journal.upMS.
	upMS uint64
}

// place is where the next record of a chain is expected and what it must be.
type place struct {
	seq  uint64 // of the record before; 0: none
	hash protocol.Hash
	off  int64
}

// entry is one record as it stands in a segment. Its bytes are valid until the
// next call of the reader that gave it.
type entry struct {
	protocol.Record
	raw  []byte
	hash protocol.Hash
	off  int64
}

// Errors of a segmentReader, besides those of the disk.
var (
	errBad   = errors.New("no record")               // zeros, or see damage
	errChain = errors.New("record out of the chain") // whole, but not the next one
)

// segmentReader reads the records of one segment one after another.
type segmentReader struct {
	file  io.ReaderAt
	size  int64
	epoch uint32
	buf   []byte
	start int64 // offset of buf in the file
	place
}

// readAhead is how many bytes are read at once: at least one whole record.
const readAhead = 2 * protocol.MaxRecord

func newSegmentReader(f File, name segmentName, from place) (*segmentReader, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	return &segmentReader{file: f, size: size, epoch: name.epoch.Short(), place: from, start: from.off}, nil
}

// fill makes buf hold the bytes from off on: a whole record, if one is there.
func (r *segmentReader) fill() error {
	at := r.off - r.start
	if have := int64(len(r.buf)) - at; have >= protocol.MaxRecord || r.off+have >= r.size {
		return nil
	}
	if r.buf == nil {
		r.buf = make([]byte, min(readAhead, max(0, r.size-r.start)))
	}
	n, err := r.file.ReadAt(r.buf[:min(int64(cap(r.buf)), max(0, r.size-r.off))], r.off)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	r.buf, r.start = r.buf[:n], r.off
	return nil
}

// next gives the next record of the chain.
func (r *segmentReader) next() (entry, error) {
	if err := r.fill(); err != nil {
		return entry{}, err
	}
	b := r.buf[min(r.off-r.start, int64(len(r.buf))):]
	rec, n, hash, err := protocol.DecodeRecord(b)
	if err != nil {
		return entry{}, fmt.Errorf("%w after seq %d at byte %d: %w", errBad, r.seq, r.off, err)
	}
	first := r.seq == 0
	if rec.EpochShort != r.epoch || !first && (rec.Seq != r.seq+1 || rec.PrevHash != r.hash) {
		return entry{}, fmt.Errorf("%w: seq %d after seq %d at byte %d", errChain, rec.Seq, r.seq, r.off)
	}
	e := entry{Record: rec, raw: b[:n], hash: hash, off: r.off}
	r.seq, r.hash, r.off = rec.Seq, hash, r.off+int64(n)
	return e, nil
}

// damage looks at what follows the last good record: how many bytes a torn
// write left, and whether a valid record of this journal stands after them.
func (r *segmentReader) damage() (torn int64, validAfter bool, err error) {
	rest := make([]byte, max(0, r.size-r.off))
	if _, err := r.file.ReadAt(rest, r.off); err != nil && !errors.Is(err, io.EOF) {
		return 0, false, err
	}
	torn = int64(len(bytes.TrimRight(rest, "\x00")))
	for i := 0; i+protocol.MinRecord <= len(rest); i++ {
		if rest[i] != recordStart {
			continue
		}
		rec, _, _, err := protocol.DecodeRecord(rest[i:])
		if err == nil && rec.EpochShort == r.epoch {
			return torn, true, nil
		}
	}
	return torn, false, nil
}

// recordStart is the first byte of every record: of "SWR1".
const recordStart = 'S'

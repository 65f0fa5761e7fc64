package journal

import (
	"errors"
	"fmt"
	"slices"

	"batteryswap/protocol"
)

// ErrGone says that a record was asked for that is no longer kept.
var ErrGone = errors.New("the record is no longer kept")

// hint is where the last Read ended, so that shipping does not read a segment
// from its start for every batch.
type hint struct {
	name segmentName
	place
	batch []position // what the last Read gave
}

// Read gives records as they stand on the device, from seq from on: at least
// one, if there is one, then as many as fit the bounds.
func (j *Journal) Read(from uint64, maxRecords, maxBytes int) ([][]byte, error) {
	j.reading.Lock()
	defer j.reading.Unlock()
	segments, tail := j.view()
	if from > tail.seq {
		return nil, nil
	}
	var out [][]byte
	var batch []position
	size := 0
	err := walk(j.disk, segments, tail.seq, from, &j.hint, func(e entry) (bool, error) {
		if len(out) > 0 && (len(out) == maxRecords || size+len(e.raw) > maxBytes) {
			return false, nil
		}
		out = append(out, slices.Clone(e.raw))
		batch = append(batch, position{e.Seq, e.hash})
		size += len(e.raw)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the journal from seq %d: %w", from, err)
	}
	j.hint.batch = batch
	return out, nil
}

// hashOf gives the hash of one record.
func (j *Journal) hashOf(seq uint64) (protocol.Hash, error) {
	j.reading.Lock()
	defer j.reading.Unlock()
	segments, tail := j.view()
	if seq == tail.seq {
		return tail.hash, nil
	}
	for _, p := range j.hint.batch {
		if p.seq == seq {
			return p.hash, nil
		}
	}
	var hash protocol.Hash
	err := walk(j.disk, segments, tail.seq, seq, nil, func(e entry) (bool, error) {
		hash = e.hash
		return false, nil
	})
	return hash, err
}

// Replay shows the newest SNAPSHOT, if there is one, and every record after it:
// the fold of these is the state. Without a snapshot it starts at seq 1.
func (j *Journal) Replay(visit func(protocol.Record) error) error {
	segments, tail := j.view()
	return j.replay(segments, tail, visit)
}

// ReplayLeft does the same for the epoch that Open has left, as far as its
// records are good. Without one it shows nothing.
func (j *Journal) ReplayLeft(visit func(protocol.Record) error) error {
	if j.left == nil {
		return nil
	}
	return j.replay(j.left.segments, j.left.tail, visit)
}

func (j *Journal) replay(segments []segment, tail place, visit func(protocol.Record) error) error {
	if tail.seq == 0 {
		return nil
	}
	last := segments[len(segments)-1]
	err := walk(j.disk, segments, tail.seq, last.name.first, nil, func(e entry) (bool, error) {
		r := e.Record
		r.Payload = slices.Clone(r.Payload)
		return true, visit(r)
	})
	if err != nil {
		return fmt.Errorf("replay the journal: %w", err)
	}
	return nil
}

// view is what a reader needs, without holding the journal during the reading.
func (j *Journal) view() ([]segment, place) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.segments), j.tail
}

// walk shows the records from one seq to another until visit wants no more. A
// hint, when given, tells where to start, and is moved on.
func walk(d Disk, segments []segment, tail, from uint64, h *hint, visit func(entry) (bool, error)) error {
	i, _ := slices.BinarySearchFunc(segments, from, func(s segment, seq uint64) int {
		if s.last < seq {
			return -1
		}
		return 1
	})
	if from < segments[0].name.first {
		return fmt.Errorf("%w: seq %d, the oldest is %d", ErrGone, from, segments[0].name.first)
	}
	for ; i < len(segments) && segments[i].name.first <= tail; i++ {
		more, err := walkSegment(d, segments[i], min(tail, segments[i].last), from, h, visit)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func walkSegment(d Disk, s segment, upto, from uint64, h *hint, visit func(entry) (bool, error)) (more bool, err error) {
	f, err := d.Open(s.name.String())
	if err != nil {
		return false, fmt.Errorf("open %s: %w", s.name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var start place
	if h != nil && h.name == s.name && h.seq < from {
		start = h.place
	}
	r, err := newSegmentReader(f, s.name, start)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", s.name, err)
	}
	for r.seq < upto {
		before := r.place
		e, err := r.next()
		if err != nil {
			return false, fmt.Errorf("read %s: %w", s.name, err)
		}
		if e.off == 0 && e.Seq != s.name.first {
			return false, fmt.Errorf("read %s: starts with seq %d", s.name, e.Seq)
		}
		if e.Seq < from {
			continue
		}
		if more, err = visit(e); err != nil || !more {
			if h != nil {
				h.name, h.place = s.name, before
			}
			return more, err
		}
	}
	if h != nil {
		h.name, h.place = s.name, r.place
	}
	return true, nil
}

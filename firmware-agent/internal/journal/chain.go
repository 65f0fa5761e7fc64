package journal

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"batteryswap/protocol"
)

// chain is what a scan found of one epoch.
type chain struct {
	segments []segment
	tail     place // of the last segment
	boot     uint32
	monoMS   uint64
	upMS     uint64
	// torn counts the bytes after the tail that a cut write left.
	torn int64
	// blank are the files after the tail that hold no record: a cut roll.
	blank []segmentName
	// broken says why the chain is corrupt; "" when it is not.
	broken string
}

// add takes the next record in. The time under power grows by the monotonic
// clock: by all of it at the first record of a boot.
func (c *chain) add(e entry) {
	grown := e.MonoMS
	if e.BootSeq == c.boot {
		grown = e.MonoMS - min(c.monoMS, e.MonoMS)
	}
	c.boot, c.monoMS, c.upMS = e.BootSeq, e.MonoMS, c.upMS+grown
	last := &c.segments[len(c.segments)-1]
	last.last, last.end, last.upMS = e.Seq, e.off+int64(len(e.raw)), c.upMS
}

// lostStart says which records are missing before the first file of the epoch:
// only what is acknowledged is ever removed, and never all of it.
func (c *chain) lostStart(first uint64, acked position) string {
	switch {
	case len(c.segments) == 0 && first > 1:
		return fmt.Sprintf("seq 1 to %d are gone", first-1)
	case first > acked.seq+1:
		return fmt.Sprintf("seq %d to %d were never acknowledged and are gone", acked.seq+1, first-1)
	}
	return ""
}

// listSegments gives the segments in the directory in the order of writing.
func listSegments(d Disk) ([]segmentName, error) {
	files, err := d.List()
	if err != nil {
		return nil, fmt.Errorf("list the journal's directory: %w", err)
	}
	var names []segmentName
	for _, f := range files {
		if n, ok := parseSegmentName(f); ok {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b segmentName) int { return strings.Compare(a.String(), b.String()) })
	return names, nil
}

// byGeneration cuts a sorted list into one list for each epoch.
func byGeneration(names []segmentName) [][]segmentName {
	var groups [][]segmentName
	for i, n := range names {
		if i == 0 || n.generation != names[i-1].generation {
			groups = append(groups, nil)
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], n)
	}
	return groups
}

// scan reads the segments of one epoch and shows each good record to visit. An
// error is the disk's or visit's; what is wrong with the records is in the chain.
func scan(d Disk, names []segmentName, visit func(entry) error) (*chain, error) {
	c := &chain{}
	for i, name := range names {
		switch {
		case c.broken != "":
			return c, nil
		case name.epoch != names[0].epoch:
			c.broken = fmt.Sprintf("%s: another epoch in the same generation", name)
			return c, nil
		case len(c.blank) == 0 && c.torn == 0 && (i == 0 || name.first == c.tail.seq+1):
			if err := c.scanSegment(d, name, visit); err != nil {
				return nil, err
			}
		default:
			if err := c.scanAfterEnd(d, name); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// scanSegment reads a segment that continues the chain.
func (c *chain) scanSegment(d Disk, name segmentName, visit func(entry) error) (err error) {
	f, err := d.Open(name.String())
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r, err := newSegmentReader(f, name, place{seq: c.tail.seq, hash: c.tail.hash})
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	for {
		e, err := r.next()
		if errors.Is(err, errBad) {
			return c.endOf(name, r, err)
		}
		if errors.Is(err, errChain) {
			c.broken = fmt.Sprintf("%s: %v", name, err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if e.off == 0 {
			if c.broken = wrongStart(name, e); c.broken != "" {
				return nil
			}
			c.segments = append(c.segments, segment{name: name})
		}
		c.add(e)
		c.tail = r.place
		if err := visit(e); err != nil {
			return err
		}
	}
}

// wrongStart checks the first record of a segment.
func wrongStart(name segmentName, e entry) string {
	switch {
	case e.Seq != name.first:
		return fmt.Sprintf("%s: starts with seq %d", name, e.Seq)
	case e.Seq == 1 && (e.PrevHash != protocol.Hash{}):
		return fmt.Sprintf("%s: the first record names one before it", name)
	case e.Seq > 1 && e.Type != protocol.RecordSnapshot:
		return fmt.Sprintf("%s: starts with %s, not with SNAPSHOT", name, e.Type)
	}
	return ""
}

// endOf judges what follows the last good record of a segment.
func (c *chain) endOf(name segmentName, r *segmentReader, why error) error {
	torn, validAfter, err := r.damage()
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", name, err)
	case validAfter:
		c.broken = fmt.Sprintf("%s: %v; valid records follow", name, why)
	case r.off == 0:
		c.blank = append(c.blank, name)
	default:
		c.torn = torn
	}
	return nil
}

// scanAfterEnd looks for records in a segment after the end of the chain: a
// torn write or a cut roll is the last thing that happened, so there are none.
func (c *chain) scanAfterEnd(d Disk, name segmentName) (err error) {
	f, err := d.Open(name.String())
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r, err := newSegmentReader(f, name, place{})
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	_, validAfter, err := r.damage()
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if validAfter {
		c.broken = fmt.Sprintf("%s: valid records after the chain ended with seq %d", name, c.tail.seq)
		return nil
	}
	c.blank = append(c.blank, name)
	return nil
}

package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"batteryswap/protocol"
)

// Why says why an epoch was left for a new one. "" is: it was not.
type Why string

// The reasons to format a new epoch.
const (
	WhyFresh     Why = "no journal here"
	WhyCorrupt   Why = "corrupt"
	WhyBehindAck Why = "behind what was acknowledged"
	WhyAbandoned Why = "the backend asked for a new epoch"
)

// Recovery is what Open found.
type Recovery struct {
	// CutBytes counts the bytes of a torn tail that were removed.
	CutBytes int64
	// NewEpoch says why a new epoch was formatted. All but WhyFresh mean: out
	// of service until staff accept it.
	NewEpoch Why
	// Old is the last good record of the epoch that was left.
	Old *protocol.OldTail
	// Detail is for the log.
	Detail string
}

// Open takes the directory, recovers what is there and stands ready to append.
// The caller replays, then appends BOOT. An error means that nothing is known
// of the journal. A journal that can be read but not written is no error here:
// its first Append gives it.
func Open(disk Disk, opt Options) (_ *Journal, rec Recovery, err error) {
	if opt.Clock == nil || opt.Random == nil || opt.Snapshot == nil {
		return nil, rec, errors.New("open the journal: want a clock, a random source and a snapshot function")
	}
	opt.SegmentBytes = cmp.Or(opt.SegmentBytes, SegmentBytes)
	opt.MaxBytes = cmp.Or(opt.MaxBytes, MaxBytes)
	opt.KeepMS = cmp.Or(opt.KeepMS, KeepMS)
	lock, err := disk.Lock()
	if err != nil {
		return nil, rec, fmt.Errorf("lock the journal: %w", err)
	}
	j := &Journal{disk: disk, lock: lock, opt: opt, failed: make(chan struct{})}
	if rec, err = j.recover(); err != nil {
		return nil, rec, fmt.Errorf("open the journal: %w", errors.Join(err, lock.Close()))
	}
	return j, rec, nil
}

func (j *Journal) recover() (Recovery, error) {
	names, err := listSegments(j.disk)
	if err != nil {
		return Recovery{}, err
	}
	for _, n := range names {
		// On an error the pages may say what the device does not hold: they
		// can be read, but nothing may be built upon them.
		if err := j.disk.Forget(n.String()); err != nil {
			_ = j.fail(fmt.Errorf("read back %s: %w", n, err))
		}
	}
	j.bytes = int64(len(names)) * j.opt.SegmentBytes
	groups := byGeneration(names)
	for i := len(groups) - 1; i >= 0; i-- {
		c, err := scan(j.disk, groups[i], func(entry) error { return nil })
		if err != nil {
			return Recovery{}, err
		}
		if len(c.segments) == 0 && c.broken == "" && groups[i][0].first == 1 {
			// The format of this epoch was cut before its first record.
			// Where it cannot be removed the disk cannot be written, and the
			// epoch before it can still be read.
			if j.err == nil {
				if err := j.removeBlank(c.blank); err != nil {
					_ = j.fail(err)
				}
			}
			continue
		}
		return j.resume(groups[i][0], c)
	}
	rec := Recovery{NewEpoch: WhyFresh}
	return rec, j.format(1)
}

// resume goes on with an epoch, or leaves it for a new one.
func (j *Journal) resume(name segmentName, c *chain) (Recovery, error) {
	acked, err := readAcked(j.disk, name.epoch)
	if err != nil {
		return Recovery{}, err
	}
	abandoned, err := isAbandoned(j.disk, name.epoch)
	if err != nil {
		return Recovery{}, err
	}
	rec := Recovery{CutBytes: c.torn}
	behind := ""
	if c.broken == "" {
		c.broken = c.lostStart(name.first, acked)
	}
	if c.broken == "" {
		if behind, err = j.behindAck(c, acked); err != nil {
			return Recovery{}, err
		}
	}
	switch {
	case c.broken != "":
		rec.NewEpoch, rec.Detail = WhyCorrupt, c.broken
	case behind != "":
		rec.NewEpoch, rec.Detail = WhyBehindAck, behind
	case abandoned:
		rec.NewEpoch = WhyAbandoned
	default:
		j.segments, j.tail, j.boot, j.monoMS, j.upMS = c.segments, c.tail, c.boot, c.monoMS, c.upMS
		j.bootSeq = c.boot + 1
		j.acked, j.stored, j.storedMS = acked, acked, c.upMS
		if j.err == nil {
			if err := j.mend(c); err != nil {
				_ = j.fail(err)
			}
		}
		return rec, nil
	}
	if c.tail.seq > 0 {
		rec.Old = &protocol.OldTail{Epoch: name.epoch, Seq: c.tail.seq, Hash: c.tail.hash}
		j.left = c
	}
	return rec, j.format(name.generation + 1)
}

// behindAck compares the chain with what the backend has acknowledged: a device
// that was rolled back, or lied about a sync, no longer has it.
func (j *Journal) behindAck(c *chain, acked position) (string, error) {
	if acked.seq == 0 || acked.seq < c.segments[0].name.first {
		return "", nil
	}
	if acked.seq > c.tail.seq {
		return fmt.Sprintf("seq %d was acknowledged, the tail is %d", acked.seq, c.tail.seq), nil
	}
	var own protocol.Hash
	err := walk(j.disk, c.segments, c.tail.seq, acked.seq, nil, func(e entry) (bool, error) {
		own = e.hash
		return false, nil
	})
	if err != nil {
		return "", err
	}
	if own != acked.hash {
		return fmt.Sprintf("seq %d is not the record that was acknowledged", acked.seq), nil
	}
	return "", nil
}

// format begins a new epoch.
func (j *Journal) format(generation uint32) error {
	name := segmentName{generation: generation, first: 1}
	if _, err := io.ReadFull(j.opt.Random, name.epoch[:]); err != nil {
		return fmt.Errorf("draw an epoch: %w", err)
	}
	if j.err != nil {
		return j.err
	}
	if j.bytes+j.opt.SegmentBytes > j.opt.MaxBytes {
		return ErrFull // earlier epochs are evidence, and nobody's to remove
	}
	j.segments, j.tail, j.bootSeq = nil, place{}, 1
	return j.start(name)
}

// mend removes what a power cut left after the tail, and opens the last segment
// for writing.
func (j *Journal) mend(c *chain) error {
	if err := j.removeBlank(c.blank); err != nil {
		return err
	}
	f, err := j.disk.OpenWrite(j.name().String())
	if err != nil {
		return fmt.Errorf("open the last segment: %w", err)
	}
	size, err := f.Size()
	if err != nil {
		return errors.Join(fmt.Errorf("size of the last segment: %w", err), f.Close())
	}
	if c.torn > 0 || size < j.opt.SegmentBytes {
		end := max(j.opt.SegmentBytes, c.tail.off+c.torn)
		if err := fillZero(f, c.tail.off, end); err != nil {
			return errors.Join(fmt.Errorf("cut a torn tail: %w", err), f.Close())
		}
	}
	j.active = f
	return nil
}

// removeBlank removes files that hold no record.
func (j *Journal) removeBlank(names []segmentName) error {
	for _, n := range names {
		if err := j.disk.Remove(n.String()); err != nil {
			return fmt.Errorf("remove %s, which holds no record: %w", n, err)
		}
		j.bytes -= j.opt.SegmentBytes
	}
	if len(names) == 0 {
		return nil
	}
	if err := j.disk.Sync(); err != nil {
		return fmt.Errorf("sync the journal's directory: %w", err)
	}
	return nil
}

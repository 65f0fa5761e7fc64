package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"

	"batteryswap/protocol"
)

// Files that hold one small value each.
const (
	ackedName   = "acked"
	abandonName = "abandoned"
	newSuffix   = ".new"
)

// How far the stored acknowledgement may lag. To lag costs nothing but that
// records are kept longer: the backend says where to resume.
const (
	storeAckRecords = 64
	storeAckMS      = 60_000
)

// Ack takes note that the backend has committed all records up to one. The hash
// must be that record's. It may be repeated; it never goes back.
func (j *Journal) Ack(upto uint64, hash protocol.Hash) error {
	pos := j.Position()
	if upto <= pos.AckedSeq {
		return nil
	}
	if upto > pos.TailSeq {
		return fmt.Errorf("%w: seq %d, the last is %d", ErrMismatch, upto, pos.TailSeq)
	}
	own, err := j.hashOf(upto)
	if err != nil {
		return fmt.Errorf("acknowledge seq %d: %w", upto, err)
	}
	if own != hash {
		return fmt.Errorf("%w: seq %d has the hash %s, not %s", ErrMismatch, upto, own, hash)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if upto <= j.acked.seq {
		return nil
	}
	j.acked = position{seq: upto, hash: hash}
	if j.err != nil || upto < j.stored.seq+storeAckRecords && j.upMS < j.storedMS+storeAckMS {
		return nil
	}
	return j.storeAcked()
}

// storedAck is the content of the file.
type storedAck struct {
	Epoch protocol.Epoch `json:"epoch"`
	Seq   uint64         `json:"seq"`
	Hash  protocol.Hash  `json:"hash"`
}

func (j *Journal) storeAcked() error {
	if j.acked == j.stored {
		return nil
	}
	line, err := json.Marshal(storedAck{Epoch: j.name().epoch, Seq: j.acked.seq, Hash: j.acked.hash})
	if err != nil {
		return fmt.Errorf("encode the acknowledged position: %w", err)
	}
	if err := storeSmall(j.disk, ackedName, line); err != nil {
		return j.fail(err)
	}
	j.stored, j.storedMS = j.acked, j.upMS
	return nil
}

// readAcked gives what is stored for an epoch: nothing when the file is absent,
// damaged, or of another epoch.
func readAcked(d Disk, epoch protocol.Epoch) (position, error) {
	line, err := readSmall(d, ackedName)
	if err != nil || line == nil {
		return position{}, err
	}
	var s storedAck
	if err := json.Unmarshal(line, &s); err != nil || s.Epoch != epoch {
		return position{}, nil
	}
	return position{seq: s.Seq, hash: s.Hash}, nil
}

// prune removes segments that are committed and old enough, oldest first.
func (j *Journal) prune() error {
	removed, now := 0, j.upNow()
	for len(j.segments)-removed > 1 {
		s := j.segments[removed]
		if s.last > j.acked.seq || now < s.upMS+j.opt.KeepMS {
			break
		}
		// First the note that they are committed: a gap before the first
		// record must not look like a loss.
		if err := j.storeAcked(); err != nil {
			return err
		}
		if err := j.disk.Remove(s.name.String()); err != nil {
			return j.fail(fmt.Errorf("remove %s: %w", s.name, err))
		}
		j.bytes -= j.opt.SegmentBytes
		removed++
	}
	if removed == 0 {
		return nil
	}
	j.segments = append([]segment(nil), j.segments[removed:]...)
	if err := j.disk.Sync(); err != nil {
		return j.fail(fmt.Errorf("sync the journal's directory: %w", err))
	}
	return nil
}

// upNow is the time under power until now.
func (j *Journal) upNow() uint64 {
	mono, _, _ := j.opt.Clock()
	if j.boot == j.bootSeq {
		mono -= min(mono, j.monoMS)
	}
	return j.upMS + mono
}

// Abandon notes durably that this epoch must be left: the next Open formats a
// new one that names this one's tail.
func (j *Journal) Abandon() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	if err := storeSmall(j.disk, abandonName, []byte(j.name().epoch.String())); err != nil {
		return j.fail(err)
	}
	return nil
}

func isAbandoned(d Disk, epoch protocol.Epoch) (bool, error) {
	line, err := readSmall(d, abandonName)
	return string(line) == epoch.String(), err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// storeSmall replaces a file by one line and its checksum.
func storeSmall(d Disk, name string, line []byte) error {
	if err := removeIfThere(d, name+newSuffix); err != nil {
		return err
	}
	f, err := d.Create(name + newSuffix)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	content := fmt.Appendf(nil, "%s %08x\n", line, crc32.Checksum(line, castagnoli))
	err = writeAll(f, content, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := d.Rename(name+newSuffix, name); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync the journal's directory: %w", err)
	}
	return nil
}

func removeIfThere(d Disk, name string) error {
	there, err := exists(d, name)
	if err == nil && there {
		err = d.Remove(name)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// maxSmall bounds such a file.
const maxSmall = 1024

// readSmall gives the line, or nil when the file is absent or damaged.
func readSmall(d Disk, name string) (line []byte, err error) {
	there, err := exists(d, name)
	if err != nil || !there {
		return nil, err
	}
	f, err := d.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := make([]byte, maxSmall)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	b = bytes.TrimSuffix(b[:n], []byte("\n"))
	i := bytes.LastIndexByte(b, ' ')
	if i < 0 {
		return nil, nil
	}
	sum, err := strconv.ParseUint(string(b[i+1:]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(b[:i], castagnoli) {
		return nil, nil
	}
	return b[:i], nil
}

func exists(d Disk, name string) (bool, error) {
	names, err := d.List()
	if err != nil {
		return false, err
	}
	for _, n := range names {
		if n == name {
			return true, nil
		}
	}
	return false, nil
}

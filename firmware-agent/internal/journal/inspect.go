package journal

import (
	"fmt"

	"batteryswap/protocol"
)

// Entry is one record as Inspect shows it.
type Entry struct {
	Epoch protocol.Epoch
	protocol.Record
	Hash protocol.Hash
}

// EpochReport is what Inspect found of one epoch.
type EpochReport struct {
	Epoch    protocol.Epoch `json:"epoch"`
	Segments int            `json:"segments"`
	FirstSeq uint64         `json:"first_seq"`
	TailSeq  uint64         `json:"tail_seq"`
	TailHash protocol.Hash  `json:"tail_hash"`
	AckedSeq uint64         `json:"acked_seq"`
	// TornBytes follow the tail: the next boot cuts them.
	TornBytes int64 `json:"torn_bytes,omitempty"`
	// Corrupt says what is wrong; "" when nothing is.
	Corrupt string `json:"corrupt,omitempty"`
}

// Inspect reads a journal without taking it, also while an agent runs: then it
// may see a record that is just being written as torn. It shows every good
// record in order and reports on each epoch, the oldest first.
func Inspect(d Disk, visit func(Entry) error) ([]EpochReport, error) {
	names, err := listSegments(d)
	if err != nil {
		return nil, err
	}
	var reports []EpochReport
	for _, group := range byGeneration(names) {
		epoch := group[0].epoch
		c, err := scan(d, group, func(e entry) error { return visit(Entry{epoch, e.Record, e.hash}) })
		if err != nil {
			return reports, fmt.Errorf("inspect the journal: %w", err)
		}
		acked, err := readAcked(d, epoch)
		if err != nil {
			return reports, fmt.Errorf("inspect the journal: %w", err)
		}
		if c.broken == "" {
			c.broken = c.lostStart(group[0].first, acked)
		}
		r := EpochReport{
			Epoch: epoch, Segments: len(c.segments), FirstSeq: group[0].first, TailSeq: c.tail.seq,
			TailHash: c.tail.hash, AckedSeq: acked.seq, TornBytes: c.torn, Corrupt: c.broken,
		}
		if r.Corrupt == "" && acked.seq > c.tail.seq {
			r.Corrupt = fmt.Sprintf("seq %d was acknowledged, the tail is %d", acked.seq, c.tail.seq)
		}
		reports = append(reports, r)
	}
	return reports, nil
}

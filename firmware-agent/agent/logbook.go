package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"batteryswap/firmware-agent/internal/cabinet"
	"batteryswap/firmware-agent/internal/journal"
	"batteryswap/firmware-agent/internal/link"
	"batteryswap/protocol"
)

// logbook is the journal as one boot uses it, the state that it tells, and what
// the backend has made of it.
type logbook struct {
	bootID   protocol.BootID
	software string
	log      *slog.Logger

	fold    cabinet.Fold
	journal *journal.Journal // nil: it could not be opened
	// waits is true while the backend, or a new epoch, wants no swaps here.
	waits atomic.Bool
	// lastWall is the newest wall clock of the journal that was synchronised.
	lastWall time.Time
}

// begin opens the journal, replays it and writes BOOT. After an error nothing
// can be recorded, though the journal may be there to be read.
func (b *logbook) begin(disk journal.Disk, o journal.Options) error {
	o.Snapshot = b.fold.Snapshot
	j, rec, err := journal.Open(disk, o)
	if err != nil {
		return err
	}
	b.journal = j
	if err := j.Replay(b.replayed); err != nil {
		return err
	}
	pos := j.Position()
	boot := protocol.Boot{
		BootID: b.bootID, Software: b.software, Epoch: pos.Epoch, CutBytes: rec.CutBytes, Old: rec.Old,
	}
	if rec.NewEpoch != "" && rec.NewEpoch != journal.WhyFresh {
		boot.Out = protocol.ReasonEpochReplaced
		boot.Carried = b.carry(rec.NewEpoch == journal.WhyAbandoned)
		b.waits.Store(true)
		b.log.Error("the journal begins a new epoch; out of service until staff accept it",
			"event", "new_epoch", "reason", string(rec.NewEpoch), "err", rec.Detail)
	}
	if rec.CutBytes > 0 {
		b.log.Warn("a torn record was cut", "event", "torn_tail", "bytes", rec.CutBytes)
	}
	return j.Append(boot)
}

// carry is what a new epoch takes over from the one that is left. whole says that
// no record of it is missing. What cannot be read is not carried over; then the
// bucket of pulses begins empty.
func (b *logbook) carry(whole bool) []byte {
	var left cabinet.Fold
	err := b.journal.ReplayLeft(left.Add)
	if err != nil {
		b.log.Error("the epoch before is not wholly carried over", "event", "new_epoch", "err", err)
	}
	carried, err := left.State().Carry(whole && err == nil)
	if err != nil {
		b.log.Error("nothing is carried over from the epoch before", "event", "new_epoch", "err", err)
	}
	return carried
}

// outOfJournal says that nothing can be recorded, so that nothing may be done.
func (b *logbook) outOfJournal(err error) {
	b.waits.Store(true)
	b.log.Error("no journal: out of service", "event", "out_of_service", "reason", string(protocol.ReasonOutOfService), "err", err)
}

// writable reports whether the journal can be built upon.
func (b *logbook) writable() bool {
	return b.journal != nil && b.journal.Err() == nil && b.fold.State().BootID == b.bootID
}

// replayed takes a record in that stood in the journal before this boot.
func (b *logbook) replayed(r protocol.Record) error {
	if at := time.UnixMilli(int64(r.WallMS)); r.Clock == protocol.ClockSynchronised && at.After(b.lastWall) {
		b.lastWall = at
	}
	return b.fold.Add(r)
}

// outOfService says why no swap may begin, "" when one may.
func (b *logbook) outOfService() protocol.Reason {
	if b.waits.Load() || b.journal.Position().Full {
		return protocol.ReasonOutOfService
	}
	return ""
}

// judged takes the backend's verdict on this journal. An error is that the agent
// cannot go on with it.
func (b *logbook) judged(v protocol.Verdict) error {
	switch v {
	case protocol.VerdictResume:
		b.waits.Store(false)
	case protocol.VerdictWait:
		b.waits.Store(true)
		b.log.Warn("the backend waits for staff to accept this journal; out of service", "event", "epoch_waits")
	case protocol.VerdictNewEpoch:
		b.waits.Store(true)
		err := errors.New("the backend asks for a new epoch")
		if abandon := b.journal.Abandon(); abandon != nil {
			err = fmt.Errorf("%w: %w", err, abandon)
		}
		return err
	}
	return nil
}

// backlog counts the records that the backend has not committed.
func (b *logbook) backlog() uint64 {
	if b.journal == nil {
		return 0
	}
	pos := b.journal.Position()
	return pos.TailSeq - pos.AckedSeq
}

// shipped is the journal as the link sees it.
type shipped struct{ *journal.Journal }

func (s shipped) Position() link.Position {
	p := s.Journal.Position()
	return link.Position{
		Epoch: p.Epoch, FirstSeq: p.FirstSeq, TailSeq: p.TailSeq, TailHash: p.TailHash,
		AckedSeq: p.AckedSeq, AckedHash: p.AckedHash, BootSeq: p.BootSeq,
	}
}

package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// maxSeq bounds a sequence number that is believed.
const maxSeq = 1 << 62

// epochLeft is the state of an epoch that does not count any more.
const epochLeft = "left"

// Hello decides from where a cabinet sends its log. The answer has no key list:
// the caller adds it when the agent's version is older. ErrOld is a hello that
// was held back or sent again: it changed nothing, and gets no answer.
func (s *Store) Hello(ctx context.Context, id protocol.CabinetID, m protocol.Hello) (protocol.HelloOK, error) {
	if m.TailSeq > maxSeq || m.FirstSeq > m.TailSeq {
		return protocol.HelloOK{}, fmt.Errorf("hello of %s: first_seq %d, tail_seq %d: want first_seq not above tail_seq", id, m.FirstSeq, m.TailSeq)
	}
	ok := protocol.HelloOK{Epoch: m.Epoch, BootID: m.BootID}
	w := wanted{
		cabinets: strs(id), openAt: strs(id), epochs: [][]byte{m.Epoch[:]},
		lastCabinets: strs(id, id), lastEpochs: [][]byte{m.Epoch[:], m.Epoch[:]}, lastSeqs: []int64{int64(m.TailSeq), int64(m.AckedSeq)},
	}
	err := s.transact(ctx, w, func(l *loaded, b *pgx.Batch) error {
		c := l.books.Cabinets[id]
		if c == nil {
			return ErrNotFound
		}
		ok.ServerTime = l.now
		if m.ConfigVersion > 0 && m.ConfigVersion < maxSeq {
			// Restored from a backup: what staff set here now must count as newer.
			b.Queue(`UPDATE cabinet SET config_version = $2::bigint + 1 WHERE cabinet_id = $1 AND config_version < $2::bigint`, string(id), m.ConfigVersion)
		}
		b.Queue(`UPDATE cabinet SET config_confirmed = least($2, config_version) WHERE cabinet_id = $1 AND config_confirmed <> least($2, config_version)`,
			string(id), max(0, m.ConfigVersion))
		left := l.epochState == epochLeft
		if c.Epoch.IsZero() && !left {
			l.books.EnterEpoch(c, m.Epoch) // enrolled or replaced: the first epoch is taken as it comes
			queueEpoch(b, id, m.Epoch)
		}
		switch {
		case m.Epoch == c.Epoch:
			return s.judgeHello(l, b, c, m, &ok)
		case left: // an epoch that was left never comes back
			ok.Verdict = protocol.VerdictNewEpoch
		default: // a new one waits for staff
			ok.Verdict = protocol.VerdictWait
			b.Queue(`INSERT INTO cabinet_epoch (cabinet_id, epoch, state) VALUES ($1, $2, 'waiting') ON CONFLICT DO NOTHING`, string(id), m.Epoch[:])
		}
		return nil
	})
	if err != nil {
		return protocol.HelloOK{}, fmt.Errorf("hello of %s: %w", id, err)
	}
	if ok.Config, err = s.config(ctx, id); err != nil {
		return protocol.HelloOK{}, err
	}
	return ok, nil
}

// judgeHello is the verdict on a hello of the epoch that counts.
func (s *Store) judgeHello(l *loaded, b *pgx.Batch, c *swap.Cabinet, m protocol.Hello, ok *protocol.HelloOK) error {
	from := c.LastSeq
	greeting := l.books.Hello(c, m, swap.Now(l.now))
	if greeting == swap.Old {
		return ErrOld
	}
	c.HeardAt = l.now
	// One that gives the challenge back was said in this recovery. Any other may be
	// one that was held back: it does not make the tail shorter.
	b.Queue(`UPDATE cabinet_cursor SET hello_at = $2, heard_at = $2,
		hello_challenge = CASE WHEN $3 THEN $4::bytea ELSE hello_challenge END,
		hello_tail_seq = CASE WHEN $3 THEN $5::bigint ELSE greatest(hello_tail_seq, $5::bigint) END WHERE cabinet_id = $1`,
		string(c.CabinetID), l.now, m.Challenge == l.challenge, m.Challenge[:], int64(m.TailSeq))
	switch greeting {
	case swap.Contradicts:
		ok.Verdict = protocol.VerdictNewEpoch
		s.log.Error("a cabinet's journal contradicts what it has told before", "cabinet_id", c.CabinetID, "reason", protocol.ReasonEpochReplaced)
		return nil
	case swap.Restored:
		s.queueRecovering(l, b, c, m.AckedSeq)
	}
	if m.FirstSeq > from+1 {
		s.log.Error("records that no agent has any more", "cabinet_id", c.CabinetID, "reason", protocol.ReasonLogHole)
	}
	ok.Verdict, ok.ResumeSeq = protocol.VerdictResume, c.LastSeq+1
	if l.recovering {
		l.queueChanges(b)
		queueCaughtUp(b)
	}
	return nil
}

// queueEpoch makes an epoch the one that counts.
func queueEpoch(b *pgx.Batch, id protocol.CabinetID, e protocol.Epoch) {
	b.Queue(`UPDATE cabinet_epoch SET state = 'left', changed_at = now() WHERE cabinet_id = $1 AND state = 'current' AND epoch <> $2`, string(id), e[:])
	b.Queue(`INSERT INTO cabinet_epoch (cabinet_id, epoch, state) VALUES ($1, $2, 'current')
		ON CONFLICT (cabinet_id, epoch) DO UPDATE SET state = 'current', changed_at = now()`, string(id), e[:])
}

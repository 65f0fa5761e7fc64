package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// maxSeq bounds a sequence number that is believed.
const maxSeq = 1 << 62

// Hello decides from where a cabinet sends its log. The answer has no key list:
// the caller adds it when the agent's version is older.
func (s *Store) Hello(ctx context.Context, id protocol.CabinetID, m protocol.Hello) (protocol.HelloOK, error) {
	if m.TailSeq > maxSeq || m.FirstSeq > m.TailSeq {
		return protocol.HelloOK{}, fmt.Errorf("hello of %s: first_seq %d, tail_seq %d: want first_seq not above tail_seq", id, m.FirstSeq, m.TailSeq)
	}
	acked, err := s.hashAt(ctx, id, m.Epoch, m.AckedSeq)
	if err != nil {
		return protocol.HelloOK{}, fmt.Errorf("hello of %s: %w", id, err)
	}
	left, err := s.hasLeft(ctx, id, m.Epoch)
	if err != nil {
		return protocol.HelloOK{}, fmt.Errorf("hello of %s: %w", id, err)
	}
	ok := protocol.HelloOK{Epoch: m.Epoch, BootID: m.BootID}
	err = s.transact(ctx, wanted{cabinets: strs(id)}, func(l *loaded, b *pgx.Batch) error {
		c := l.books.Cabinets[id]
		if c == nil {
			return ErrNotFound
		}
		ok.ServerTime = l.now
		b.Queue(`UPDATE cabinet_cursor SET hello_at = $2, hello_boot_id = $3, hello_tail_seq = $4, heard_at = $2 WHERE cabinet_id = $1`,
			string(id), l.now, m.BootID[:], int64(m.TailSeq))
		if c.Epoch.IsZero() && !left {
			l.books.EnterEpoch(c, m.Epoch) // enrolled or replaced: the first epoch is taken as it comes
			queueEpoch(b, id, m.Epoch)
		}
		switch {
		case m.Epoch == c.Epoch:
			s.judgeHello(l, b, c, m, acked, &ok)
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
func (s *Store) judgeHello(l *loaded, b *pgx.Batch, c *swap.Cabinet, m protocol.Hello, acked *protocol.Hash, ok *protocol.HelloOK) {
	c.HeardAt = l.now
	forked := m.TailSeq < c.LastSeq ||
		m.TailSeq == c.LastSeq && !c.Hole && c.LastSeq > 0 && m.TailHash != c.LastHash ||
		m.AckedSeq == c.LastSeq && !c.Hole && c.LastSeq > 0 && m.AckedHash != c.LastHash ||
		acked != nil && *acked != m.AckedHash
	if forked || c.Forked {
		l.books.Fork(c, swap.Now(l.now))
		ok.Verdict = protocol.VerdictNewEpoch
		s.log.Error("a cabinet's journal contradicts what it has told before", "cabinet_id", c.CabinetID, "reason", protocol.ReasonEpochReplaced)
		return
	}
	if m.AckedSeq > c.LastSeq {
		queueRecovering(b)
		s.log.Error("a cabinet knows of records that this database has lost", "cabinet_id", c.CabinetID)
	}
	if m.FirstSeq > c.LastSeq+1 {
		l.books.Jump(c, m.FirstSeq, swap.Now(l.now))
		s.log.Error("records that no agent has any more", "cabinet_id", c.CabinetID, "reason", protocol.ReasonLogHole)
	}
	ok.Verdict, ok.ResumeSeq = protocol.VerdictResume, c.LastSeq+1
	queueCaughtUp(b)
}

// queueEpoch makes an epoch the one that counts.
func queueEpoch(b *pgx.Batch, id protocol.CabinetID, e protocol.Epoch) {
	b.Queue(`UPDATE cabinet_epoch SET state = 'left', changed_at = now() WHERE cabinet_id = $1 AND state = 'current' AND epoch <> $2`, string(id), e[:])
	b.Queue(`INSERT INTO cabinet_epoch (cabinet_id, epoch, state) VALUES ($1, $2, 'current')
		ON CONFLICT (cabinet_id, epoch) DO UPDATE SET state = 'current', changed_at = now()`, string(id), e[:])
}

// queueRecovering says that the database was restored from a backup.
func queueRecovering(b *pgx.Batch) {
	b.Queue(`UPDATE fleet SET recovering_since = coalesce(recovering_since, now())`)
}

// queueCaughtUp ends a recovery: since it began every cabinet has said hello,
// and all that each had to tell has been ingested. It follows the writes.
func queueCaughtUp(b *pgx.Batch) {
	b.Queue(`UPDATE fleet SET recovering_since = NULL WHERE recovering_since IS NOT NULL AND NOT EXISTS (
		SELECT FROM cabinet_cursor k WHERE k.epoch IS NOT NULL AND NOT k.forked AND
			(k.hello_at IS NULL OR k.hello_at < fleet.recovering_since OR k.last_seq < k.hello_tail_seq))`)
}

// hasLeft reports whether the cabinet has left this epoch behind.
func (s *Store) hasLeft(ctx context.Context, id protocol.CabinetID, e protocol.Epoch) (bool, error) {
	var left bool
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM cabinet_epoch WHERE cabinet_id = $1 AND epoch = $2 AND state = 'left')`,
		string(id), e[:]).Scan(&left)
	if err != nil {
		return false, fmt.Errorf("read the epochs: %w", err)
	}
	return left, nil
}

// hashAt is the hash of a record that is in the books, nil when none is.
func (s *Store) hashAt(ctx context.Context, id protocol.CabinetID, e protocol.Epoch, seq uint64) (*protocol.Hash, error) {
	var b []byte
	err := s.pool.QueryRow(ctx, `SELECT hash FROM record WHERE cabinet_id = $1 AND epoch = $2 AND seq = $3`, string(id), e[:], int64(seq)).Scan(&b)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read record %d: %w", seq, err)
	}
	h := protocol.Hash(b)
	return &h, nil
}

// config is what staff set for a cabinet.
func (s *Store) config(ctx context.Context, id protocol.CabinetID) (protocol.CabinetConfig, error) {
	var c protocol.CabinetConfig
	err := s.pool.QueryRow(ctx, `SELECT config_version, out_of_service, slots_out FROM cabinet WHERE cabinet_id = $1`, string(id)).
		Scan(&c.Version, &c.OutOfService, &c.SlotsOut)
	if err != nil {
		return c, fmt.Errorf("read the configuration of %s: %w", id, err)
	}
	return c, nil
}

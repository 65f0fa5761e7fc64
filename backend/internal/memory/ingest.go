package memory

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// maxSeq bounds a sequence number that is believed.
const maxSeq = 1 << 62

// Ingest makes a log message part of the books. The answer, a LogAck or a
// HelloRequest, may be nil; it is sent after this returns, which is the commit.
func (s *Store) Ingest(now time.Time, id protocol.CabinetID, l protocol.Log) (protocol.Message, error) {
	records, err := swap.DecodeLog(l)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", id, err)
	}
	c := s.rows.books.Cabinets[id]
	if c == nil {
		return nil, fmt.Errorf("log of %s: %w", id, ErrNotFound)
	}
	for _, r := range records {
		s.fetch(swap.SwapOf(r))
	}
	row := s.rows.cabinets[id]
	last := records[len(records)-1].Seq
	if h, known := row.hashes[recordKey{l.Epoch, last}]; known && l.Epoch == c.Epoch {
		c.Hashes = map[uint64]protocol.Hash{last: h}
	}
	s.rows.books.Lost = s.lost(c, records)
	c.HeardAt = now
	stored, verdict := s.rows.books.Ingest(c, l.Epoch, records, swap.Receipt{At: now, MonoMS: l.MonoMS, BootSeq: l.BootSeq})
	for _, r := range stored {
		row.hashes[recordKey{l.Epoch, r.Record.Seq}] = r.Hash
	}
	s.commit()
	if verdict == swap.Gap {
		s.recover(now, c) // an agent goes on only from what was acknowledged
	} else {
		s.caughtUp()
	}
	switch verdict {
	case swap.Took, swap.Gap:
		ack := protocol.LogAck{Epoch: l.Epoch, UptoSeq: c.LastSeq, HashAtUpto: c.LastHash}
		if c.Hole {
			ack.UptoSeq = 0 // what is before the hole's end was never ours to acknowledge
		}
		if verdict == swap.Gap {
			ack.ResendFrom = c.LastSeq + 1
		}
		return ack, nil
	}
	// Its hello gets the verdict.
	return protocol.HelloRequest{Challenge: s.rows.challenge}, fmt.Errorf("log of epoch %s: %s", l.Epoch, verdict)
}

// lost are the grants of ours that the cabinet has accepted and the books have
// not granted: what a restored database has lost.
func (s *Store) lost(c *swap.Cabinet, records []swap.Record) map[protocol.SwapID]swap.LostGrant {
	var found map[protocol.SwapID]swap.LostGrant
	for _, r := range records {
		a, ok := r.Body.(protocol.Accept)
		if !ok || r.Seq <= c.LastSeq {
			continue
		}
		if have := s.rows.books.Swaps[a.SwapID]; have != nil && have.Nonce == a.Nonce {
			continue
		}
		g, err := s.o.OpenGrant(c.CabinetID, a.Grant)
		if err != nil || g.SwapID != a.SwapID || g.Nonce != a.Nonce || g.Kind != a.Kind {
			continue
		}
		l := swap.LostGrant{Grant: g}
		for rider := range s.rows.books.Riders {
			if s.o.RiderRef(c.CabinetID, rider) == g.RiderRef {
				l.RiderID = rider
			}
		}
		if found == nil {
			found = map[protocol.SwapID]swap.LostGrant{}
		}
		found[a.SwapID] = l
	}
	return found
}

// Hello decides from where a cabinet sends its log.
func (s *Store) Hello(now time.Time, id protocol.CabinetID, m protocol.Hello) (protocol.HelloOK, error) {
	if m.TailSeq > maxSeq || m.FirstSeq > m.TailSeq {
		return protocol.HelloOK{}, fmt.Errorf("hello of %s: first_seq %d, tail_seq %d: want first_seq not above tail_seq", id, m.FirstSeq, m.TailSeq)
	}
	c, row := s.rows.books.Cabinets[id], s.rows.cabinets[id]
	if c == nil {
		return protocol.HelloOK{}, fmt.Errorf("hello of %s: %w", id, ErrNotFound)
	}
	wasLeft := row.epochs[m.Epoch] == left
	if c.Epoch.IsZero() && !wasLeft {
		s.rows.books.EnterEpoch(c, m.Epoch) // enrolled: the first epoch is taken as it comes
		row.epochs[m.Epoch] = current
	}
	if v := m.ConfigVersion; v > row.config.Version && v < maxSeq {
		row.config.Version = v + 1 // restored: what staff set since is not taken back by its number
	}
	ok := protocol.HelloOK{Epoch: m.Epoch, BootID: m.BootID, ServerTime: now, Config: row.config}
	switch {
	case m.Epoch == c.Epoch:
		if err := s.judgeHello(now, c, row, m, &ok); err != nil {
			return ok, fmt.Errorf("hello of %s: %w", id, err)
		}
	case wasLeft: // an epoch that was left never comes back
		ok.Verdict = protocol.VerdictNewEpoch
	default: // a new one waits for staff
		ok.Verdict = protocol.VerdictWait
		row.epochs[m.Epoch], row.waiting = waiting, m.Epoch
	}
	s.commit()
	s.caughtUp()
	return ok, nil
}

// judgeHello is the verdict on a hello of the epoch that counts.
func (s *Store) judgeHello(now time.Time, c *swap.Cabinet, row *cabinet, m protocol.Hello, ok *protocol.HelloOK) error {
	c.Hashes = map[uint64]protocol.Hash{}
	for _, seq := range []uint64{m.TailSeq, m.AckedSeq} {
		if h, known := row.hashes[recordKey{m.Epoch, seq}]; known {
			c.Hashes[seq] = h
		}
	}
	greeting := s.rows.books.Hello(c, m, swap.Now(now))
	if greeting == swap.Old {
		return ErrOld
	}
	// Any but one that gives the challenge back may have been held back.
	if m.Challenge == s.rows.challenge {
		row.helloChallenge, row.helloTail = m.Challenge, m.TailSeq
	}
	row.helloTail, c.HeardAt = max(row.helloTail, m.TailSeq), now
	ok.Verdict, ok.ResumeSeq = protocol.VerdictResume, c.LastSeq+1
	switch greeting {
	case swap.Contradicts:
		ok.Verdict, ok.ResumeSeq = protocol.VerdictNewEpoch, 0
	case swap.Restored:
		s.recover(now, c)
	}
	return nil
}

// recover says that the books were restored from a backup.
func (s *Store) recover(now time.Time, c *swap.Cabinet) {
	if s.rows.recovering.IsZero() && !c.OutOfService {
		s.rows.recovering, s.rows.challenge = now, s.draw()
	}
}

// draw makes a challenge.
func (s *Store) draw() (c protocol.Challenge) {
	sum := sha256.Sum256([]byte(s.o.NewID()))
	copy(c[:], sum[:])
	return c
}

// ToAsk are the cabinets that have not said hello since a recovery began.
func (s *Store) ToAsk() (ids []protocol.CabinetID, m protocol.HelloRequest) {
	if s.rows.recovering.IsZero() {
		return nil, m
	}
	for _, id := range slices.Sorted(maps.Keys(s.rows.cabinets)) {
		if s.rows.cabinets[id].helloChallenge != s.rows.challenge {
			ids = append(ids, id)
		}
	}
	return ids, protocol.HelloRequest{Challenge: s.rows.challenge}
}

// caughtUp ends a recovery: since it began every cabinet has said hello, and all
// that each had to tell has been ingested.
func (s *Store) caughtUp() {
	for id, c := range s.rows.books.Cabinets {
		row := s.rows.cabinets[id]
		if c.Epoch.IsZero() || c.Forked || c.OutOfService {
			continue
		}
		if row.helloChallenge != s.rows.challenge || c.LastSeq < row.helloTail {
			return
		}
	}
	s.rows.recovering = time.Time{}
}

// AcceptEpoch makes the epoch that waits at a cabinet the one that counts. What
// was open in the old one goes to review.
func (s *Store) AcceptEpoch(now time.Time, id protocol.CabinetID) error {
	c, row := s.rows.books.Cabinets[id], s.rows.cabinets[id]
	if c == nil || row.waiting.IsZero() || row.epochs[row.waiting] != waiting {
		return fmt.Errorf("accept an epoch of %s: %w: none waits", id, ErrNotFound)
	}
	s.rows.books.LeaveEpoch(c, row.inventory, swap.Now(now))
	for e := range row.epochs {
		row.epochs[e] = left
	}
	s.rows.books.EnterEpoch(c, row.waiting)
	row.epochs[row.waiting], row.waiting = current, protocol.Epoch{}
	s.commit()
	return nil
}

package link

import (
	"errors"
	"fmt"
	"time"

	"batteryswap/protocol"
)

// Sending again: 2 s, doubling to 60 s, ± 20 %, for ever.
const (
	minResend = 2 * time.Second
	maxResend = 60 * time.Second

	// batchBytes bounds the records of one batch so that in base64, with the
	// rest of the message, they fit an envelope.
	batchBytes = 23 << 10
)

// phase is what the shipper waits for.
type phase int

const (
	silent   phase = iota // there is no journal, or the backend does not want this epoch
	greeting              // hello is sent, until hello_ok comes
	waiting               // the epoch waits for staff: hello once a minute
	shipping              // one batch in flight, or nothing to send
)

// shipper brings the journal to the backend: hello, then batch after batch, each
// sent again until it is acknowledged. It does no I/O but reading the journal.
type shipper struct {
	opt   Options
	phase phase
	next  uint64    // first record to send
	upto  uint64    // last record of the batch in flight; 0: none
	tries int       // of the hello or batch in flight
	again time.Time // when it is sent again
	asked time.Time // when the backend last asked to send again, without progress since

	challenge protocol.Challenge // of the last hello_request
	answer    time.Time          // when it is answered; zero: nothing is asked
	answered  time.Time          // when the one before was
}

func newShipper(opt Options) *shipper { return &shipper{opt: opt} }

// greet begins a connection.
func (s *shipper) greet(now time.Time) {
	s.phase, s.upto, s.tries, s.again, s.answer = silent, 0, 0, time.Time{}, time.Time{}
	if s.opt.Journal != nil && s.opt.Journal.Position().TailSeq > 0 {
		s.phase, s.again = greeting, now
	}
}

// at is when due has something, if nothing else happens.
func (s *shipper) at() time.Time {
	if !s.answer.IsZero() && (s.again.IsZero() || s.answer.Before(s.again)) {
		return s.answer
	}
	return s.again
}

// helloRequest has hello said once more: soon, but only so often, for a broker
// may send a request again and again. Till then the log goes on.
func (s *shipper) helloRequest(now time.Time, c protocol.Challenge) bool {
	if s.phase == silent {
		return false
	}
	s.challenge = c
	if s.answer.IsZero() {
		s.answer = now
		if soonest := s.answered.Add(protocol.MinHelloInterval); now.Before(soonest) {
			s.answer = soonest
		}
	}
	return true
}

// delay is how long to wait for an answer before sending again.
func (s *shipper) delay() time.Duration {
	d := minResend << min(s.tries, 10)
	return jitter(s.opt.Random, min(d, maxResend))
}

// due gives the message that is to be sent now, or nil.
func (s *shipper) due(now time.Time) protocol.Message {
	if !s.answer.IsZero() && !now.Before(s.answer) {
		s.answer, s.answered, s.again, s.tries = time.Time{}, now, now, 0
		if s.phase == shipping {
			s.phase = greeting
		}
	}
	late := !s.again.IsZero() && !now.Before(s.again)
	switch {
	case s.phase == greeting && late:
		s.again = now.Add(s.delay())
		s.tries++
		return s.hello()
	case s.phase == waiting && late:
		s.again = now.Add(jitter(s.opt.Random, maxResend))
		return s.hello()
	case s.phase == shipping && (s.upto == 0 || late):
		return s.batch(now, late)
	}
	return nil
}

func (s *shipper) hello() protocol.Message {
	pos := s.opt.Journal.Position()
	_, clock := s.opt.Clock()
	return protocol.Hello{
		Epoch: pos.Epoch, FirstSeq: pos.FirstSeq, TailSeq: pos.TailSeq, TailHash: pos.TailHash,
		AckedSeq: pos.AckedSeq, AckedHash: pos.AckedHash, BootID: s.opt.BootID, BootSeq: pos.BootSeq,
		Software: s.opt.Software, ClockState: clock, ConfigVersion: s.opt.ConfigVersion(),
		KeysVersion: s.opt.Keys.Version(), Inventory: s.opt.Inventory(), Challenge: s.challenge,
	}
}

// batch reads what is to be sent: whatever was appended meanwhile goes along.
func (s *shipper) batch(now time.Time, again bool) protocol.Message {
	if !again && !s.again.IsZero() {
		return nil // the journal could not be read, or the backend is to be spared
	}
	raws, err := s.opt.Journal.Read(s.next, protocol.MaxLogRecords, batchBytes)
	var m protocol.Log
	if err == nil && len(raws) > 0 {
		m, err = s.log(raws)
	}
	switch {
	case err != nil:
		s.opt.Log.Error("the journal cannot be read", "event", "journal_read", "cabinet_id", s.opt.CabinetID, "err", err)
		s.again = now.Add(s.delay())
		s.tries++
		return nil
	case len(raws) == 0:
		s.upto, s.again = 0, time.Time{}
		return nil
	}
	if last := s.next + uint64(len(raws)) - 1; last != s.upto {
		s.upto, s.tries = last, 0
	}
	s.again = now.Add(s.delay())
	s.tries++
	return m
}

func (s *shipper) log(raws [][]byte) (protocol.Log, error) {
	pos := s.opt.Journal.Position()
	_, _, head, err := protocol.DecodeRecord(raws[len(raws)-1])
	if err != nil {
		return protocol.Log{}, fmt.Errorf("seq %d: %w", s.next+uint64(len(raws))-1, err)
	}
	mono, _ := s.opt.Clock()
	return protocol.Log{
		Epoch: pos.Epoch, MonoMS: mono, BootSeq: pos.BootSeq, FromSeq: s.next, Records: raws, HeadHash: head,
	}, nil
}

// Errors of an answer that cannot be used.
var (
	errStale    = errors.New("of another boot or epoch")
	errWrongAck = errors.New("acknowledges what this journal does not hold")
)

// helloOK takes the backend's verdict on this epoch.
func (s *shipper) helloOK(now time.Time, m protocol.HelloOK) error {
	pos := s.opt.Journal.Position()
	switch m.Verdict {
	case protocol.VerdictNewEpoch:
		s.phase, s.again = silent, time.Time{}
	case protocol.VerdictWait:
		s.phase, s.again = waiting, now.Add(jitter(s.opt.Random, maxResend))
	case protocol.VerdictResume:
		if m.ResumeSeq > pos.TailSeq+1 {
			return fmt.Errorf("%w: resume from %d, the tail is %d", errStale, m.ResumeSeq, pos.TailSeq)
		}
		if m.ResumeSeq < pos.FirstSeq {
			s.opt.Log.Warn("the backend asks for records that are no longer kept", "event", "log_hole",
				"cabinet_id", s.opt.CabinetID, "resume_seq", m.ResumeSeq, "first_seq", pos.FirstSeq)
		}
		s.phase = shipping
		from := max(m.ResumeSeq, pos.FirstSeq)
		if from > pos.TailSeq && pos.AckedSeq < pos.TailSeq {
			// All is committed, but the acknowledgement was lost, and no other
			// would come before the next record.
			from = pos.TailSeq
		}
		s.restart(from)
	}
	return nil
}

// restart sends from a record on, at once.
func (s *shipper) restart(from uint64) {
	s.next, s.upto, s.tries, s.again = from, 0, 0, time.Time{}
}

// logAck takes an acknowledgement: only this moves the log on.
func (s *shipper) logAck(now time.Time, m protocol.LogAck) error {
	pos := s.opt.Journal.Position()
	if m.Epoch != pos.Epoch {
		return fmt.Errorf("%w: epoch %s", errStale, m.Epoch)
	}
	if m.UptoSeq > 0 {
		if err := s.opt.Journal.Ack(m.UptoSeq, m.HashAtUpto); err != nil {
			return fmt.Errorf("%w: %w", errWrongAck, err)
		}
	}
	if s.phase != shipping {
		return nil
	}
	if s.upto > 0 && m.UptoSeq >= s.next {
		s.asked = time.Time{}
		s.restart(m.UptoSeq + 1)
	}
	if r := m.ResendFrom; r > 0 && r != s.next {
		if r < pos.FirstSeq || r > pos.TailSeq {
			return fmt.Errorf("%w: resend from %d of %d to %d", errStale, r, pos.FirstSeq, pos.TailSeq)
		}
		// At once, but not in a circle: a backend that asks to and fro gets no
		// more than one that does not answer.
		if !s.asked.IsZero() && now.Sub(s.asked) < minResend {
			return nil
		}
		s.asked = now
		s.restart(r)
	}
	return nil
}

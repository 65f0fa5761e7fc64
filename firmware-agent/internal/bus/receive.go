package bus

import (
	"bytes"
	"fmt"
	"time"
)

// garbageShown is how many bytes of garbage an error shows.
const garbageShown = 16

// receive collects bytes until the reply to j is among them. The reply is
// complete when its length says so: nobody waits for silence. A reply that has
// begun in time may take longer than its bytes do, for adapters hand them over
// in pieces.
func (o *owner) receive(j *job, sent time.Time) ([]byte, error) {
	deadline := sent.Add(o.timing.timeout(len(j.request), j.exchange.ExpectedLen()))
	limit := deadline.Add(o.timing.Late)
	// The reply cannot be complete earlier than this.
	complete := sent.Add(o.timing.wire(len(j.request) + j.exchange.ExpectedLen()))
	if o.leisure.on {
		nap(complete.Add(o.leisure.lag + napMargin))
	} else {
		nap(complete)
	}
	for got, reads := 0, 1; got < len(o.buffer); reads++ {
		wait := time.Until(deadline)
		n, err := o.read(wait, o.buffer[got:])
		if err != nil {
			return nil, err
		}
		if n == 0 && wait <= 0 {
			return nil, o.noReply(j, got)
		}
		if n == 0 {
			continue
		}
		got += n
		start, end, missing := o.find(j, o.buffer[:got])
		if end > 0 {
			o.leisure.learn(reads == 1, o.timing.Device)
			if discarded := got - (end - start); discarded > 0 {
				o.bus.count(func(s *Stats) { s.DiscardedBytes += uint64(discarded) })
			}
			return bytes.Clone(o.buffer[start:end]), nil
		}
		if missing > 0 {
			deadline = later(deadline, time.Now().Add(o.timing.wire(missing)+o.timing.Device+margin), limit)
			nap(time.Now().Add(o.timing.wire(missing)))
		}
	}
	return nil, o.noReply(j, len(o.buffer))
}

// later is the later of two times, but not after limit.
func later(a, b, limit time.Time) time.Time {
	if b.After(limit) {
		b = limit
	}
	if b.After(a) {
		return b
	}
	return a
}

// find looks for the reply at every offset, for noise, an echo or a late reply
// may stand before it. end is 0 when there is none; missing is how many bytes
// at least are still to come.
func (o *owner) find(j *job, got []byte) (start, end, missing int) {
	first, echoEnd := 0, 0
	if at := bytes.Index(got, j.request); at >= 0 {
		echoEnd = at + len(j.request)
	}
	if o.echo != echoNone {
		// A reply to a write looks like the request: do not take the echo for it.
		first = echoEnd
	}
	for i := first; i < len(got); i++ {
		n, err := j.exchange.ReplyLen(got[i:])
		if err != nil || n > maxFrame {
			continue
		}
		if rest := n - (len(got) - i); n == 0 || rest > 0 {
			if missing == 0 || rest < missing {
				missing = max(rest, 0)
			}
			continue
		}
		if j.exchange.Accept(got[i:i+n]) == nil {
			o.learnEcho(echoEnd > 0 && i >= echoEnd)
			return i, i + n, 0
		}
	}
	return 0, 0, missing
}

// echo is what is known of the adapter.
type echo uint8

// Until something but the answer to a write has come, an adapter's echo cannot be
// told from it.
const (
	echoUnknown echo = iota
	echoNone
	echoRepeats
)

// learnEcho remembers whether the adapter repeats what is sent: it does when the
// request stood before the reply, or alone where it cannot be the reply; it does
// not when a reply came without.
func (o *owner) learnEcho(repeats bool) {
	switch {
	case !repeats:
		o.echo = echoNone
	case o.echo != echoRepeats:
		o.log.Warn("the serial adapter repeats what is sent; its echo is left out")
		o.echo = echoRepeats
	}
}

func (o *owner) noReply(j *job, got int) error {
	if got == 0 {
		return ErrTimeout
	}
	o.bus.count(func(s *Stats) { s.DiscardedBytes += uint64(got) })
	if bytes.Equal(o.buffer[:got], j.request) {
		if j.exchange.Accept(j.request) != nil {
			o.learnEcho(true)
		}
		return fmt.Errorf("%w: only an echo of the request", ErrTimeout)
	}
	return fmt.Errorf("%w: % X (%d bytes)", ErrGarbled, o.buffer[:min(got, garbageShown)], got)
}

// nap sleeps until shortly before t. It saves a wake-up for each byte.
func nap(t time.Time) {
	if d := time.Until(t) - napMargin; d > 0 {
		time.Sleep(d)
	}
}

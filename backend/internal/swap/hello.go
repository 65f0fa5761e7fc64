package swap

import (
	"batteryswap/protocol"
)

// Greeting is what a hello of the epoch that counts means.
type Greeting string

// The greetings.
const (
	Resumes Greeting = "resumes" // its log goes on from LastSeq+1
	// Restored is Resumes too, and the books have lost what they had: the cabinet
	// was acknowledged more.
	Restored    Greeting = "restored"
	Contradicts Greeting = "contradicts" // a journal rolled back, or two of them
	Old         Greeting = "old"         // said before records that are in the books: it means nothing now
)

// Hello judges a hello of the epoch that counts. The hashes of the records at
// its tail and at what is acknowledged must be loaded, as far as they are in the
// books. What its journal no longer has is left as a hole.
//
// A broker may hold a hello back, or send it again: it is no contradiction that
// the books are ahead of it. A journal that was rolled back shows itself, for it
// has written BOOT before it says hello, so its tail is another record.
func (b *Books) Hello(c *Cabinet, m protocol.Hello, at Stamp) Greeting {
	switch {
	case c.Forked, m.AckedSeq > m.TailSeq, c.differs(m.TailSeq, m.TailHash), c.differs(m.AckedSeq, m.AckedHash):
		b.Fork(c, at)
		return Contradicts
	case m.TailSeq < c.LastSeq:
		return Old
	}
	restored := m.AckedSeq > c.LastSeq && m.AckedHash != (protocol.Hash{})
	if m.FirstSeq > c.LastSeq+1 {
		b.Jump(c, m.FirstSeq, at)
	}
	if restored {
		return Restored
	}
	return Resumes
}

// differs reports whether the books have another record there.
func (c *Cabinet) differs(seq uint64, h protocol.Hash) bool {
	have, known := c.Hashes[seq]
	if seq == c.LastSeq && seq > 0 && !c.Hole {
		have, known = c.LastHash, true
	}
	return known && have != h
}

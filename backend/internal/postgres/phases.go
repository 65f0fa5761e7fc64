package postgres

import (
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// The phases of a swap that are timed.
const (
	PhaseDeposit  = "deposit"  // from the accepted grant to the accepted battery
	PhaseDispense = "dispense" // from there, or from the grant, to the take
)

// maxTimed bounds the swaps that are timed at once.
const maxTimed = 10000

// phases times the phases of swaps by their agents' own monotonic clocks. It
// remembers only what came through this recorder in this life: of a swap whose
// records went elsewhere a phase is left out.
type phases struct {
	began map[protocol.SwapID]moment
	timed func(phase string, took time.Duration)
}

// moment is when a phase began.
type moment struct {
	epoch   protocol.Epoch
	bootSeq uint32
	monoMS  uint64
}

func newPhases(timed func(string, time.Duration)) *phases {
	return &phases{began: map[protocol.SwapID]moment{}, timed: timed}
}

// note is told of each record that was committed, in order.
func (p *phases) note(r swap.Stored) {
	switch body := r.Body.(type) {
	case protocol.Accept:
		p.begin(r)
	case protocol.Deposit:
		if body.Accepted {
			p.end(r, PhaseDeposit)
			p.begin(r)
		}
	case protocol.Taken:
		p.end(r, PhaseDispense)
	case protocol.Closed:
		delete(p.began, r.SwapID)
	}
}

func (p *phases) begin(r swap.Stored) {
	if len(p.began) >= maxTimed { // most of them will never end here
		clear(p.began)
	}
	p.began[r.SwapID] = moment{r.Epoch, r.BootSeq, r.MonoMS}
}

func (p *phases) end(r swap.Stored, phase string) {
	m, known := p.began[r.SwapID]
	if known && m.epoch == r.Epoch && m.bootSeq == r.BootSeq && m.monoMS <= r.MonoMS {
		p.timed(phase, time.Duration(r.MonoMS-m.monoMS)*time.Millisecond)
	}
}

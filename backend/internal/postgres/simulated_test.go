package postgres_test

import (
	"time"

	"github.com/stretchr/testify/require"

	simulated "batteryswap/backend/internal/memory"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// third is the store that simulations run on: it is told the same as the other
// two, and must answer and hold the same. It has no staff who decide.
type third struct {
	*simulated.Store
	ids []protocol.SwapID // what the database called the next rows
}

func newThird(d *deck) *third {
	x := &third{}
	x.Store = simulated.New(simulated.Options{RiderRef: riderRef, OpenGrant: d.openGrant, NewID: x.next})
	return x
}

func (x *third) next() protocol.SwapID {
	if len(x.ids) == 0 {
		return "019a0000-0000-7000-8000-000000000000"
	}
	id := x.ids[0]
	x.ids = x.ids[1:]
	return id
}

// facts are its rows in the words of the other two.
func (x *third) facts() map[string]string {
	v := x.View()
	m := newMemory()
	m.Cabinets, m.Riders, m.Credits, m.Swaps, m.days, m.ledger = v.Cabinets, v.Riders, v.Credits, v.Swaps, v.Days, v.Ledger
	for _, b := range v.Batteries {
		y := *b
		m.AddBattery(&y)
	}
	for _, r := range v.Reviews {
		m.reviews = append(m.reviews, memoryReview{Review: r})
	}
	return m.facts()
}

func (w *twin) thirdRequest(id protocol.SwapID, scan swap.Scan, at time.Time, no *swap.Refusal) {
	if w.third == nil {
		return
	}
	w.third.ids = []protocol.SwapID{id}
	have, _, refused := w.third.Request(at, scan)
	require.Equal(w.T, no, refused)
	if no == nil {
		require.Equal(w.T, id, have)
	}
}

func (w *twin) thirdPrepared(c *cabinet, m protocol.Prepared, at time.Time, want *protocol.Grant) {
	if w.third != nil {
		have, _ := w.third.Prepared(at, c.id, m)
		require.Equal(w.T, want, have)
	}
}

func (w *twin) thirdIngest(c *cabinet, l protocol.Log, want protocol.LogAck) {
	if w.third != nil {
		have, err := w.third.Ingest(time.Now(), c.id, l)
		require.NoError(w.T, err)
		require.Equal(w.T, protocol.Message(want), have)
	}
}

func (w *twin) thirdHello(c *cabinet, m protocol.Hello, want protocol.HelloOK, refused error) {
	if w.third == nil {
		return
	}
	have, err := w.third.Hello(time.Now(), c.id, m)
	require.Equal(w.T, refused == nil, err == nil, "%v, %v", refused, err)
	if err == nil {
		require.Equal(w.T, []any{want.Verdict, want.ResumeSeq, want.Epoch}, []any{have.Verdict, have.ResumeSeq, have.Epoch})
	}
}

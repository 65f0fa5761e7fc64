package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// What clients do with one rider's credits.
type registerAct string

const (
	actGive  registerAct = "give"  // one more
	actAsk   registerAct = "ask"   // for a swap
	actGrant registerAct = "grant" // reserves one
	actSpend registerAct = "spend" // taken
	actFree  registerAct = "free"  // not taken
	actDrop  registerAct = "drop"  // refused by the cabinet
	actRead  registerAct = "read"
)

// register is what one rider's credits must look like from outside.
type register struct {
	open, reserved int
	taken          bool        // the rider has a battery to ask with, when no credit is open
	swap           registerAct // "": none; the act that its state comes from
}

// answer is what an act gave: that it was done, without a credit, and what was
// read.
type answer struct {
	done, plain bool
	n           int
}

// registerModel is the credit register as one thing at one time.
func registerModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return register{} },
		Step: func(state, input, output any) (bool, any) {
			s, out := state.(register), output.(answer)
			switch input.(registerAct) {
			case actGive:
				s.open++
			case actAsk:
				if out.done != (s.swap == "" && (s.open > 0 || s.taken)) || out.plain && s.open > 0 {
					return false, s
				}
				if out.done {
					s.swap = actAsk
				}
			case actGrant:
				if out.done && (s.swap != actAsk || s.open == 0) {
					return false, s
				}
				if out.done {
					s.swap, s.open, s.reserved = actGrant, s.open-1, s.reserved+1
				}
			case actSpend, actFree:
				if s.swap != actGrant || s.reserved == 0 {
					return false, s
				}
				s.swap, s.reserved = "", s.reserved-1
				if input.(registerAct) == actFree {
					s.open++
				} else {
					s.taken = true
				}
			case actDrop:
				if s.swap != actAsk {
					return false, s
				}
				s.swap = ""
			case actRead:
				return out.n == s.open+s.reserved, s
			}
			return true, s
		},
	}
}

// client is somebody at a cabinet, served by one of two replicas.
type client struct {
	id      int
	store   *postgres.Store
	k       *desk
	c       *cabinet
	rider   swap.RiderID
	history *history
	rand    *rand.Rand
	keys    *atomic.Int64
}

// history is what all clients saw.
type history struct {
	mu  sync.Mutex
	ops []porcupine.Operation
}

func (x *client) do(act registerAct, f func() answer) answer {
	from := time.Now().UnixNano()
	out := f()
	op := porcupine.Operation{ClientId: x.id, Input: act, Output: out, Call: from, Return: time.Now().UnixNano()}
	x.history.mu.Lock()
	defer x.history.mu.Unlock()
	x.history.ops = append(x.history.ops, op)
	return out
}

// step is one thing that a client does; errors end the history.
func (x *client) step(ctx context.Context) (err error) {
	done := func() answer { return answer{done: err == nil} }
	switch x.rand.IntN(4) {
	case 0:
		x.do(actGive, func() answer { err = x.store.StaffCredit(ctx, x.rider); return done() })
	case 1:
		x.do(actRead, func() answer {
			var v swap.RiderView
			v, err = x.store.Rider(ctx, x.rider)
			return answer{n: v.OpenCredits}
		})
	default:
		err = x.swap(ctx)
	}
	return err
}

// swap asks, and ends what it got in one of the ways.
func (x *client) swap(ctx context.Context) (err error) {
	var p *protocol.Prepare
	asked := x.do(actAsk, func() answer {
		_, p, _, err = x.store.Request(ctx, swap.Scan{RiderID: x.rider, CabinetID: x.c.id, IdempotencyKey: strconv.FormatInt(x.keys.Add(1), 10)})
		return answer{done: p != nil, plain: p != nil && p.Kind == protocol.KindSwap}
	})
	if err != nil || !asked.done {
		return err
	}
	var g *protocol.Grant
	if !asked.plain && x.rand.IntN(4) > 0 {
		x.do(actGrant, func() answer {
			g, err = x.store.Prepared(ctx, x.c.id, x.c.prepared(p))
			return answer{done: g != nil}
		})
	}
	switch {
	case err != nil:
		return err
	case g == nil:
		x.do(actDrop, func() answer {
			err = x.store.Refused(ctx, x.c.id, protocol.Refused{SwapID: p.SwapID, Reason: protocol.ReasonBusy})
			return answer{done: err == nil}
		})
		return err
	}
	x.c.accept(g)
	act, end := actFree, protocol.Closed{SwapID: g.SwapID, Kind: g.Kind, Outcome: protocol.OutcomeIssueNotTaken}
	if x.rand.IntN(2) == 0 {
		act, end.Outcome = actSpend, protocol.OutcomeIssued
		o := x.c.take(g)
		end.TakeSlot, end.Taken = o.Slot, o.BatterySerial
		defer func() {
			if err == nil {
				err = x.refill(ctx, o.Slot)
			}
		}()
	}
	x.c.write(end)
	x.do(act, func() answer { x.k.sends(x.c); return answer{done: true} })
	return nil
}

// TestCreditRegisterIsLinearizable: clients of two replicas give, reserve, spend,
// free and read one rider's credits at once; each history can be told as if one
// thing had happened at a time. HISTORIES says how many.
func TestCreditRegisterIsLinearizable(t *testing.T) {
	t.Parallel()
	histories := 12
	if n, err := strconv.Atoi(os.Getenv("HISTORIES")); err == nil {
		histories = n
	}
	d := newDeck(t)
	stores := []*postgres.Store{d.store, d.open()}
	desks := []*desk{d.desk(stores[0]), d.desk(stores[1])}
	var keys atomic.Int64
	var clients []*client
	for i := range 5 {
		clients = append(clients, &client{
			id: i, store: stores[i%2], k: desks[i%2], c: d.cabinet(protocol.CabinetID(fmt.Sprintf("hb-%04d", i+1))), keys: &keys,
		})
	}
	for n := range histories {
		rider, err := d.store.AddRider(t.Context(), postgres.NewRider{Name: "R"})
		require.NoError(t, err)
		h := &history{}
		errs := make([]error, len(clients))
		at(len(clients), func(i int) {
			x := clients[i]
			x.rider, x.history, x.rand = rider, h, rand.New(rand.NewPCG(uint64(n), uint64(i)))
			for range 5 {
				if errs[i] == nil {
					errs[i] = x.step(context.Background())
				}
			}
		})
		for _, err := range errs {
			require.NoError(t, err)
		}
		require.Equal(t, porcupine.Ok, porcupine.CheckOperationsTimeout(registerModel(), h.ops, time.Minute), "history %d: %v", n, h.ops)
	}
	d.honest()
}

// refill puts a new battery into a slot.
func (x *client) refill(ctx context.Context, slot int) error {
	serial := protocol.BatterySerial(fmt.Sprintf("N-%d", x.keys.Add(1)))
	if _, err := x.store.ImportBatteries(ctx, []postgres.Battery{{BatterySerial: serial}}); err != nil {
		return err
	}
	x.c.serials[slot] = serial
	return x.store.AssignBattery(ctx, serial, swap.Place{CabinetID: x.c.id, Slot: slot})
}

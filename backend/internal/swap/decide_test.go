package swap

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

func TestDecide(t *testing.T) {
	cabinet := &Cabinet{Epoch: epochNo(1)}
	rider := &Rider{Active: true}
	owedCredit, staffCredit := &Credit{Origin: OriginSwap}, &Credit{Origin: OriginStaff}
	ok := func(f func(*Standing)) Standing {
		st := Standing{Cabinet: cabinet, Rider: rider, Batteries: 1}
		if f != nil {
			f(&st)
		}
		return st
	}
	open := OpenSwap{SwapID: id(5), State: StateActive}
	silent := OpenSwap{SwapID: id(5), State: StateActive, Unreachable: true}
	cases := map[string]struct {
		handBack bool
		st       Standing
		kind     protocol.Kind
		park     int
		reason   protocol.Reason
	}{
		"a battery":                   {false, ok(nil), protocol.KindSwap, 0, ""},
		"a credit comes first":        {false, ok(func(s *Standing) { s.Credit = owedCredit }), protocol.KindOwed, 0, ""},
		"hardship is owed":            {false, ok(func(s *Standing) { s.Credit = &Credit{Origin: OriginReview} }), protocol.KindOwed, 0, ""},
		"first battery":               {false, ok(func(s *Standing) { s.Credit, s.Batteries = staffCredit, 0 }), protocol.KindIssue, 0, ""},
		"hand back, though owed":      {true, ok(func(s *Standing) { s.Credit = owedCredit }), protocol.KindHandBack, 0, ""},
		"no cabinet":                  {false, ok(func(s *Standing) { s.Cabinet = nil }), "", 0, protocol.ReasonCabinetUnknown},
		"no rider":                    {false, ok(func(s *Standing) { s.Rider = nil }), "", 0, protocol.ReasonRiderNotActive},
		"not a member":                {false, ok(func(s *Standing) { s.Rider = &Rider{} }), "", 0, protocol.ReasonRiderNotActive},
		"out of service":              {false, ok(func(s *Standing) { s.Cabinet = &Cabinet{OutOfService: true, Epoch: epochNo(1)} }), "", 0, protocol.ReasonOutOfService},
		"forked":                      {false, ok(func(s *Standing) { s.Cabinet = &Cabinet{Forked: true, Epoch: epochNo(1)} }), "", 0, protocol.ReasonOutOfService},
		"never said hello":            {false, ok(func(s *Standing) { s.Cabinet = &Cabinet{} }), "", 0, protocol.ReasonOutOfService},
		"somebody is there":           {false, ok(func(s *Standing) { s.CabinetBusy = true }), "", 0, protocol.ReasonBusy},
		"swap open":                   {false, ok(func(s *Standing) { s.Open = []OpenSwap{open} }), "", 0, protocol.ReasonSwapOpen},
		"swap open, one silent":       {false, ok(func(s *Standing) { s.Open = []OpenSwap{silent, open} }), "", 0, protocol.ReasonSwapOpen},
		"silent elsewhere":            {false, ok(func(s *Standing) { s.Open = []OpenSwap{silent} }), protocol.KindSwap, 1, ""},
		"silent elsewhere and a debt": {false, ok(func(s *Standing) { s.Open, s.Credit = []OpenSwap{silent}, owedCredit }), protocol.KindSwap, 1, ""},
		"silent, nothing to deposit":  {false, ok(func(s *Standing) { s.Open, s.Batteries, s.Credit = []OpenSwap{silent}, 0, owedCredit }), "", 0, protocol.ReasonSwapOpen},
		"a request ends by itself": {false, ok(func(s *Standing) {
			s.Open = []OpenSwap{{SwapID: id(5), State: StateRequested, Unreachable: true}}
		}), "", 0, protocol.ReasonSwapOpen},
		"recovering, with a battery":   {false, ok(func(s *Standing) { s.Recovering, s.Credit = true, owedCredit }), protocol.KindSwap, 0, ""},
		"recovering, only a credit":    {false, ok(func(s *Standing) { s.Recovering, s.Credit, s.Batteries = true, owedCredit, 0 }), "", 0, protocol.ReasonRecovering},
		"nothing":                      {false, ok(func(s *Standing) { s.Batteries = 0 }), "", 0, protocol.ReasonNoBattery},
		"nothing to hand back":         {true, ok(func(s *Standing) { s.Batteries, s.Credit = 0, owedCredit }), "", 0, protocol.ReasonNoBattery},
		"all of it is under review":    {false, ok(func(s *Standing) { s.Batteries, s.Rider = 0, &Rider{Active: true, OpenReviews: 1} }), "", 0, protocol.ReasonUnderReview},
		"the credit is in some review": {false, ok(func(s *Standing) { s.Batteries, s.CreditBound = 0, true }), "", 0, protocol.ReasonUnderReview},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d, no := Decide(c.handBack, c.st)
			if c.reason != "" {
				require.NotNil(t, no)
				require.Equal(t, c.reason, no.Reason)
				if no.Reason == protocol.ReasonSwapOpen {
					require.Equal(t, id(5), no.SwapID)
				}
				return
			}
			require.Nil(t, no)
			require.Equal(t, c.kind, d.Kind)
			require.Len(t, d.Park, c.park)
		})
	}
}

func TestGrantIsRefusedUnlessAllHolds(t *testing.T) {
	scan := Scan{RiderID: alice, CabinetID: "hb-0001"}
	fresh := func(t *testing.T) (*bench, *Swap) {
		k := newBench(t)
		s, no := k.Request(scan, id(1), k.now, false)
		require.Nil(t, no)
		return k, s
	}
	for name, spoil := range map[string]func(*bench, *protocol.Prepared){
		"epoch":           func(_ *bench, p *protocol.Prepared) { p.Epoch = epochNo(3) },
		"forked":          func(k *bench, _ *protocol.Prepared) { k.cabinet.Forked = true },
		"earlier boot":    func(k *bench, _ *protocol.Prepared) { k.log.reboot(); k.fold() },
		"voided":          func(k *bench, p *protocol.Prepared) { k.log.write(protocol.Void{SwapID: p.SwapID}); k.fold() },
		"too old":         func(k *bench, _ *protocol.Prepared) { k.now = k.now.Add(PreparedWithin) },
		"expired":         func(k *bench, p *protocol.Prepared) { k.Expire(k.Swaps[p.SwapID], k.now.Add(RequestExpires)) },
		"refused":         func(k *bench, p *protocol.Prepared) { k.Refuse(k.cabinet, protocol.Refused{SwapID: p.SwapID}, k.now) },
		"unknown swap":    func(_ *bench, p *protocol.Prepared) { p.SwapID = id(77) },
		"nothing charged": func(_ *bench, p *protocol.Prepared) { p.Dispense = nil },
		"nowhere to put":  func(_ *bench, p *protocol.Prepared) { p.DepositSlots = nil },
		"battery is gone": func(k *bench, _ *protocol.Prepared) { k.Batteries[own].Holder = WithStaff },
	} {
		t.Run(name, func(t *testing.T) {
			k, s := fresh(t)
			p := k.prepared(s)
			spoil(k, &p)
			g, err := k.Grant(k.cabinet, p, aRef, k.now, false)
			require.Error(t, err)
			require.Nil(t, g)
			require.NotEqual(t, StateGranted, s.State)
		})
	}
	k, s := fresh(t)
	p := k.prepared(s)
	g, err := k.Grant(k.cabinet, p, aRef, k.now.Add(PreparedWithin-time.Millisecond), false)
	require.NoError(t, err)
	require.NoError(t, g.Validate())
	_, err = k.Grant(k.cabinet, p, aRef, k.now, false)
	require.Error(t, err, "once")
}

func TestCreditsAreReservedOnce(t *testing.T) {
	k := newBench(t)
	k.Batteries[own].Holder, k.Batteries[own].RiderID = WithStaff, ""
	require.NoError(t, k.StaffCredit(id(1), alice, Now(k.now)))
	other := k.addCabinet("hb-0002", epochNo(2))
	other.HeardAt = k.now
	s, no := k.Request(Scan{RiderID: alice, CabinetID: "hb-0001"}, id(2), k.now, false)
	require.Nil(t, no)
	_, err := k.Grant(k.cabinet, k.prepared(s), aRef, k.now, true)
	require.ErrorContains(t, err, "restored")
	require.Equal(t, protocol.ReasonRecovering, s.Reason)
	s, no = k.Request(Scan{RiderID: alice, CabinetID: "hb-0001"}, id(3), k.now, false)
	require.Nil(t, no)
	k.Credits[id(1)].State, k.Credits[id(1)].SwapID = CreditSpent, id(9)
	_, err = k.Grant(k.cabinet, k.prepared(s), aRef, k.now, false)
	require.ErrorContains(t, err, "no open credit")
	require.Equal(t, protocol.OutcomeNotStarted, s.Outcome)
}

// aRef is a rider as a cabinet knows one.
const aRef = protocol.RiderRef("0123456789abcdef0123456789abcdef")

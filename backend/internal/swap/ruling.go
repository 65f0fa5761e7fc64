package swap

import (
	"cmp"
	"fmt"
	"slices"

	"batteryswap/protocol"
)

// Decide books a person's decision: as entries, dated at the decision. It adds
// what is missing and undoes no fact. The books must hold the case's swap with
// its rider, that rider's credits and the swap's own, the case's batteries, and
// what stands in their slots. An error changes nothing.
func (b *Books) Decide(c Case, d ReviewDecision, at Stamp) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if c.Decided != nil {
		return &AlreadyDecided{c.ReviewID, *c.Decided}
	}
	from := len(b.entries)
	e := Entry{What: Ruled, Ruling: d.Decision, Ground: d.Reason, By: d.By}
	if s := b.Swaps[c.SwapID]; s != nil {
		k := ruling{Books: b, Case: c, s: s, d: d, at: at}
		p, err := k.plan()
		if err != nil {
			return err
		}
		k.book(p)
		b.enter(s, at, e)
		s.Reviewed, s.Ruling = "", d.Decision
		b.touchSwap(s, at)
	} else {
		if d.Decision != RuledNoted {
			return &Contradiction{d.Decision, "the review belongs to no swap", []Ruling{RuledNoted}}
		}
		e.SwapID, e.EntryNo, e.CabinetID, e.Stamp = c.Act, 1, c.CabinetID, at
		b.add(e)
	}
	for i := range b.entries[from:] {
		b.entries[from+i].ReviewID = c.ReviewID
	}
	if r := b.Riders[c.RiderID]; r != nil {
		r.OpenReviews--
		b.touchRider(r)
	}
	b.decisions = append(b.decisions, DecidedReview{c.ReviewID, Decided{d.Decision, d.Reason, d.By, at.At}})
	return nil
}

// Hardship gives the rider of an open review a battery to go on with: one per
// review and Asia/Shanghai day.
func (b *Books) Hardship(c Case, by string, at Stamp) error {
	if err := checkBy(by); err != nil {
		return err
	}
	if c.Decided != nil {
		return &AlreadyDecided{c.ReviewID, *c.Decided}
	}
	if b.Riders[c.RiderID] == nil {
		return fmt.Errorf("review %d: it names no rider", c.ReviewID)
	}
	for _, t := range c.Given {
		if DayOf(t) == DayOf(at.At) {
			return fmt.Errorf("review %d: a hardship credit was given on %s: want at most one a day", c.ReviewID, DayOf(t))
		}
	}
	cr := &Credit{CreditID: c.Act, RiderID: c.RiderID, Origin: OriginReview, State: CreditOpen, OpenedAt: at.At}
	b.Credits[c.Act] = cr
	b.touchCredit(cr)
	b.add(Entry{
		SwapID: c.Act, EntryNo: 1, What: CreditOpened, RiderID: c.RiderID, CreditID: c.Act, Origin: OriginReview,
		ReviewID: c.ReviewID, By: by, Stamp: at,
	})
	return nil
}

// Rulings are those that the facts of a closed swap leave: a DEPOSIT, a TAKEN or
// a return in the books is not denied.
func (s *Swap) Rulings() []Ruling {
	switch {
	case s.RiderID == "" || s.Kind == "":
		return []Ruling{RuledNoted}
	case s.Taken != "":
		return []Ruling{RuledTaken}
	case s.givenBack():
		return []Ruling{RuledReturned}
	case !s.Kind.Deposits():
		return []Ruling{RuledTaken, RuledOwed}
	}
	out := []Ruling{RuledReturned, RuledOwed}
	if s.Kind.Dispenses() {
		out = append([]Ruling{RuledTaken}, out...)
	}
	if s.Judgement != Accepted {
		out = append(out, RuledNotDeposited)
	}
	return out
}

// givenBack reports whether an accepted deposit went back to its rider.
func (s *Swap) givenBack() bool {
	return s.Judgement == Accepted && (s.Outcome == protocol.OutcomeReturned || s.Ruling == RuledReturned)
}

// ruling is one decision on a swap while it is worked out.
type ruling struct {
	*Books
	Case
	s  *Swap
	d  ReviewDecision
	at Stamp
}

// missing is what a decision says that the books do not have yet.
type missing struct {
	deposit protocol.BatterySerial // "": none
	take    *protocol.Offer
}

// plan finds what is to be booked, or why the decision cannot be.
func (k *ruling) plan() (p missing, err error) {
	if k.s.Open() {
		return p, fmt.Errorf("swap %s is %s: its cabinet has not told how it ended", k.s.SwapID, k.s.State)
	}
	if !slices.Contains(k.s.Rulings(), k.d.Decision) {
		return p, k.denied("the books have %s", k.s.facts())
	}
	if k.d.Decision == RuledNoted {
		return p, k.placed()
	}
	if k.d.Decision == RuledTaken && k.s.Taken == "" {
		if p.take, err = k.which(); err != nil {
			return p, err
		}
	}
	in := k.d.Decision == RuledTaken || k.d.Decision == RuledOwed
	if in && k.s.Kind.Deposits() && k.s.Judgement != Accepted {
		if p.deposit, err = k.deposited(); err != nil {
			return p, err
		}
	}
	return p, k.since(p)
}

func (k *ruling) denied(format string, a ...any) error {
	return &Contradiction{k.d.Decision, fmt.Sprintf(format, a...), k.s.Rulings()}
}

// facts are what the books say of the swap, in words.
func (s *Swap) facts() string {
	switch {
	case s.RiderID == "" || s.Kind == "":
		return "no rider or kind for the swap"
	case s.Taken != "":
		return fmt.Sprintf("the take of %s", s.Taken)
	case s.givenBack():
		return fmt.Sprintf("the return of %s", s.Deposited)
	case s.Judgement == Accepted:
		return fmt.Sprintf("the %s deposit of %s", s.Kind, s.Deposited)
	}
	return fmt.Sprintf("the kind %s", s.Kind)
}

// placed makes sure that staff have said where each battery of a swap is that
// has no rider: nobody else can.
func (k *ruling) placed() error {
	for _, e := range k.Case.Batteries {
		if k.unresolved(e.BatterySerial) {
			return fmt.Errorf("battery_serial %q is under review: say where it is first (battery assign)", e.BatterySerial)
		}
	}
	return nil
}

// unresolved reports whether the battery is under review because of this swap,
// and nothing has been heard of it since.
func (k *ruling) unresolved(serial protocol.BatterySerial) bool {
	_, moved := k.Next[serial]
	x := k.Books.Batteries[serial]
	return !moved && x != nil && x.Holder == UnderCheck
}

// which is the battery that left.
func (k *ruling) which() (*protocol.Offer, error) {
	var doubted []protocol.BatterySerial
	for _, e := range k.Case.Batteries {
		if e.What == Doubted && e.BatterySerial != k.s.Deposited {
			doubted = append(doubted, e.BatterySerial)
		}
	}
	if len(doubted) == 0 {
		doubted = k.s.Pulsed
	}
	offers := slices.Clone(k.s.Dispense)
	for _, serial := range doubted {
		if !k.s.offers(serial) {
			offers = append(offers, protocol.Offer{BatterySerial: serial})
		}
	}
	serial := k.d.Taken
	if serial == "" && len(doubted) == 1 {
		serial = doubted[0]
	}
	i := slices.IndexFunc(offers, func(o protocol.Offer) bool { return o.BatterySerial == serial })
	switch x := k.Books.Batteries[serial]; {
	case i < 0 || serial == k.s.Deposited:
		var list []protocol.BatterySerial
		for _, o := range offers {
			list = append(list, o.BatterySerial)
		}
		return nil, fmt.Errorf("taken is %q: want the battery_serial that left, one of %v", serial, list)
	case x == nil:
		return nil, fmt.Errorf("taken is %q: not in the registry", serial)
	default:
		_, moved := k.Next[serial]
		there := x.Holder == InSlot && x.CabinetID == k.s.CabinetID || x.Holder == UnderCheck || x.Holder == WithStaff
		if !moved && !there {
			return nil, k.denied("battery_serial %s is with %s %s%s", serial, x.Holder, x.RiderID, x.CabinetID)
		}
	}
	return &offers[i], nil
}

// deposited is the battery that was put in.
func (k *ruling) deposited() (protocol.BatterySerial, error) {
	serial := cmp.Or(k.d.Deposited, k.s.Deposited)
	x := k.Books.Batteries[serial]
	if x == nil {
		return "", fmt.Errorf("deposited is %q: want the battery_serial that was put in, from the registry", serial)
	}
	_, moved := k.Next[serial]
	mine := x.Holder == WithRider && x.RiderID == k.s.RiderID
	here := x.Holder == InSlot && x.CabinetID == k.s.CabinetID
	if !moved && !mine && !here && x.Holder != UnderCheck && x.Holder != WithStaff {
		return "", k.denied("battery_serial %s is with %s %s%s", serial, x.Holder, x.RiderID, x.CabinetID)
	}
	return serial, nil
}

// since holds the decision against what has been heard of the batteries since:
// what the rider has put in elsewhere was in the rider's hands, what another has
// taken out of the cabinet was in there.
func (k *ruling) since(p missing) error {
	own := cmp.Or(p.deposit, k.s.Deposited)
	left := k.s.Taken
	if p.take != nil {
		left = p.take.BatterySerial
	}
	for _, serial := range sortedKeys(k.Next) {
		next := k.Next[serial]
		hadIt := next.What == Deposited && next.RiderID == k.s.RiderID
		stayed := next.What == Taken && next.CabinetID == k.s.CabinetID
		switch {
		case serial == own && hadIt && (k.d.Decision == RuledTaken || k.d.Decision == RuledOwed):
			return k.denied("battery_serial %s was put into %s by its rider since: it had been returned", serial, next.CabinetID)
		case serial == own && stayed && k.d.Decision == RuledReturned:
			return k.denied("battery_serial %s was taken from %s since: it had not been returned", serial, next.CabinetID)
		case serial != own && serial != left && hadIt && k.touched(serial):
			return k.denied("battery_serial %s was put into %s by its rider since: it had been taken", serial, next.CabinetID)
		case serial == left && p.take != nil && stayed:
			return k.denied("battery_serial %s was taken from %s by another swap since: it had not been taken", serial, next.CabinetID)
		}
	}
	return nil
}

// touched reports whether the swap put the battery in doubt.
func (k *ruling) touched(serial protocol.BatterySerial) bool {
	return slices.ContainsFunc(k.Case.Batteries, func(e Entry) bool { return e.BatterySerial == serial && e.What == Doubted })
}

// book enters what is missing, moves credits, and gives every battery of the
// case a place.
func (k *ruling) book(p missing) {
	if k.s.Kind == protocol.KindSwap {
		k.free(k.s, k.at) // what it left owed, if that was set aside until now
	}
	if p.deposit != "" {
		k.bookDeposit(p.deposit)
	}
	switch k.d.Decision {
	case RuledTaken:
		if p.take != nil {
			k.bookTake(*p.take)
		}
	case RuledReturned:
		if !k.s.givenBack() {
			k.bookReturn()
			k.takeBack()
		}
	case RuledOwed:
		switch {
		case k.s.Kind != protocol.KindSwap:
			k.free(k.s, k.at)
		case k.Credits[k.s.SwapID] == nil && len(k.Given) == 0:
			k.openCredit(k.s, k.at)
		}
	case RuledNotDeposited, RuledNoted:
	}
	for _, e := range k.Case.Batteries {
		if k.unresolved(e.BatterySerial) {
			k.resolve(e)
		}
	}
}

// bookDeposit enters a deposit that a person found.
func (k *ruling) bookDeposit(serial protocol.BatterySerial) {
	s, x := k.s, k.Books.Batteries[serial]
	if s.DepositSlot == 0 && len(s.DepositSlots) > 0 {
		s.DepositSlot = s.DepositSlots[0]
	}
	s.Judgement, s.Deposited = Accepted, serial
	e := Entry{What: Deposited, Slot: s.DepositSlot, BatterySerial: serial}
	if _, moved := k.Next[serial]; !moved {
		e.Holder = k.putIn(x, s.DepositSlot)
	}
	k.enter(s, k.at, e)
	r := k.Riders[s.RiderID]
	r.Deposits++
	k.touchRider(r)
}

// putIn places a battery in the swap's cabinet, and with staff where the books
// have another one in that slot or do not know the slot.
func (k *ruling) putIn(x *Battery, slot int) Holder {
	there := k.inSlot[slotKey{k.s.CabinetID, slot}]
	if slot == 0 || there != "" && there != x.BatterySerial {
		k.place(x, WithStaff, "", "", 0)
		return WithStaff
	}
	k.place(x, InSlot, "", k.s.CabinetID, slot)
	return InSlot
}

// bookTake enters a take that a person found. Whoever moved the battery on since
// had it from the rider.
func (k *ruling) bookTake(o protocol.Offer) {
	if _, moved := k.Next[o.BatterySerial]; moved {
		k.putAhead(k.Books.Batteries[o.BatterySerial], k.s)
	}
	k.reserveAny(k.s, k.at)
	k.Books.bookTake(k.s, o.Slot, o.BatterySerial, false, k.at)
	k.takeBack()
}

// bookReturn gives the battery that was put in back to its rider.
func (k *ruling) bookReturn() {
	s, x := k.s, k.Books.Batteries[k.s.Deposited]
	if x == nil {
		return // it was never recognised: the books never moved it
	}
	e := Entry{What: Resolved, Slot: s.DepositSlot, BatterySerial: s.Deposited}
	if _, moved := k.Next[s.Deposited]; !moved {
		e.Holder = WithRider
		k.place(x, WithRider, s.RiderID, "", 0)
	}
	if s.Judgement == Accepted {
		e.What = Returned
		r := k.Riders[s.RiderID]
		r.Returns++
		k.touchRider(r)
	}
	if e.What == Returned || e.Holder != "" {
		k.enter(s, k.at, e)
	}
}

// takeBack uses the credit up that the swap had left: its rider had a battery
// after all. When it has been spent, the next one settles it.
func (k *ruling) takeBack() {
	cr := k.Credits[k.s.SwapID]
	if cr == nil || cr.Origin != OriginSwap {
		return
	}
	r := k.Riders[k.s.RiderID]
	r.CreditsDue++
	k.touchRider(r)
	k.enter(k.s, k.at, Entry{What: CreditDue})
	for _, open := range append([]*Credit{cr}, k.openCredits(r.RiderID)...) {
		if open.State == CreditOpen {
			k.settle(k.s, open, k.at)
		}
	}
}

// resolve gives a battery under review the place that the ruling leaves for it:
// what left is with the rider, everything else where it was.
func (k *ruling) resolve(e Entry) {
	x := k.Books.Batteries[e.BatterySerial]
	to := Entry{What: Resolved, Slot: e.Slot, BatterySerial: e.BatterySerial}
	if e.BatterySerial == k.s.Taken {
		to.Holder, to.Slot = WithRider, 0
		k.place(x, WithRider, k.s.RiderID, "", 0)
	} else {
		to.Holder = k.putIn(x, e.Slot)
	}
	k.enter(k.s, k.at, to)
}

// MoveToReview closes a swap whose cabinet has been silent for UnreachableAfter:
// a person decides, and what the cabinet says later is held against it. The
// inventory is the last that is known.
func (b *Books) MoveToReview(c *Cabinet, s *Swap, inv protocol.Inventory, at Stamp) error {
	switch {
	case s.State != StateGranted && s.State != StateActive:
		return fmt.Errorf("swap is %s: want granted or active", s.State)
	case s.Reviewed != "":
		// One open review a swap, so nothing would say when it was moved, and an
		// audit could not tell it again.
		return fmt.Errorf("swap is under review already (%s): it ends when its cabinet is heard, replaced or retired", s.Reviewed)
	case at.At.Sub(c.HeardAt) <= UnreachableAfter:
		return fmt.Errorf("cabinet_id %s was heard %s ago: want more than %s", c.CabinetID, at.At.Sub(c.HeardAt), UnreachableAfter)
	}
	at.Epoch, at.Seq = c.Epoch, c.LastSeq
	b.giveUp(s, inv, protocol.ReasonCabinetOffline, at)
	return nil
}

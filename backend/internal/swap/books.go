package swap

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"batteryswap/protocol"
)

// CreditID names a credit: the swap that left it owed, or the staff act that
// gave it.
type CreditID = protocol.SwapID

// Cabinet is what the books know of one cabinet: how far its log has been
// folded, and in which boot.
type Cabinet struct {
	CabinetID    protocol.CabinetID
	Slots        int
	EnrolledAt   time.Time
	HeardAt      time.Time // last sign of life, by the database's clock; zero: never
	OutOfService bool      // by staff
	// Epoch is the one whose records count; zero until the first hello.
	Epoch    protocol.Epoch
	LastSeq  uint64
	LastHash protocol.Hash
	// Hole is true while the record before LastSeq+1 is one that nobody has:
	// the next record's link is then taken as it comes.
	Hole    bool
	Forked  bool // this epoch contradicted itself: nothing of it is taken any more
	BootSeq uint32
	BootID  protocol.BootID
	// ClockOffsetMS is wall less monotonic clock in boot ClockBoot, once its
	// clock was synchronised; ClockBoot 0: not known.
	ClockBoot     uint32
	ClockOffsetMS int64
	// Hashes are of committed records below LastSeq, as far as they were loaded.
	Hashes map[uint64]protocol.Hash
}

// Judgement is how a battery in the deposit slot was judged.
type Judgement string

// The judgements. Only an accepted deposit is in the ledger.
const (
	NotJudged   Judgement = ""
	Accepted    Judgement = "accepted"
	NotAccepted Judgement = "not_accepted"
)

// Swap is one swap's row.
type Swap struct {
	SwapID    protocol.SwapID
	CabinetID protocol.CabinetID
	RiderID   RiderID       // "": unknown, a swap that the books had lost
	Kind      protocol.Kind // "": unknown, likewise
	State     State
	// ByFact marks a swap that a record made or opened again. Unique indexes
	// guard requests, not facts: they leave it out.
	ByFact bool
	// Parked marks an open swap at a cabinet that has been silent for too long:
	// it no longer stops its rider from a deposit-first swap elsewhere.
	Parked bool

	Epoch        protocol.Epoch // of the grant, with the next four
	BootSeq      uint32
	BootID       protocol.BootID
	Nonce        protocol.Nonce
	DepositSlots []int
	Dispense     []protocol.Offer
	CreditID     CreditID // reserved or spent by this swap

	Step        Step
	Slot        int
	Door        protocol.Door
	Judgement   Judgement
	DepositSlot int
	Deposited   protocol.BatterySerial
	Soc         *int
	Pulsed      []protocol.BatterySerial // batteries whose slot was pulsed to dispense
	TakeSlot    int
	Taken       protocol.BatterySerial
	Outcome     protocol.Outcome
	Reason      protocol.Reason
	Reviewed    protocol.Reason // of its open review; "": none
	Ruling      Ruling          // of its last review that was decided
	Entries     int             // in the ledger

	ViewSeq     uint64
	RequestedAt time.Time
	UpdatedAt   time.Time
	ClosedAt    time.Time // zero while open
}

// Open reports whether the swap is not closed.
func (s *Swap) Open() bool { return s.State != StateClosed }

// Rider is one rider's account. The counts are sums over the ledger.
type Rider struct {
	RiderID     RiderID
	Active      bool
	Deposits    int // accepted deposits
	Returns     int // of those, given back
	Takes       int // batteries taken, of every kind
	Counted     int // takes that count as a swap
	Issued      int // first batteries taken
	CreditsDue  int // takes whose credit the books have not seen yet
	OpenReviews int
}

// Origin is why the fleet owes a battery.
type Origin string

// The origins of a credit.
const (
	OriginSwap   Origin = "swap"   // deposited, got nothing
	OriginStaff  Origin = "staff"  // a first battery
	OriginReview Origin = "review" // hardship
)

// Kind is what a scan becomes that spends a credit of this origin.
func (o Origin) Kind() protocol.Kind {
	if o == OriginStaff {
		return protocol.KindIssue
	}
	return protocol.KindOwed
}

// CreditState is where a credit stands.
type CreditState string

// The states of a credit. Reserved and spent name a swap.
const (
	CreditOpen     CreditState = "open"
	CreditReserved CreditState = "reserved"
	CreditSpent    CreditState = "spent"
	CreditSettled  CreditState = "settled" // opened after it had been spent: a take was due
)

// Credit is one battery that the fleet owes a rider.
type Credit struct {
	CreditID CreditID
	RiderID  RiderID
	Origin   Origin
	State    CreditState
	SwapID   protocol.SwapID // that reserved or spent it
	OpenedAt time.Time
}

// Holder says who has a battery.
type Holder string

// The holders.
const (
	WithRider  Holder = "rider"
	InSlot     Holder = "slot"
	WithStaff  Holder = "staff"
	UnderCheck Holder = "review"
)

// Battery is one battery's row: exactly one custody.
type Battery struct {
	BatterySerial protocol.BatterySerial
	Type          string // as registered
	Foreign       bool   // not in the registry: seen in a cabinet
	Holder        Holder
	RiderID       RiderID // with a rider; under review: the rider who may have it
	CabinetID     protocol.CabinetID
	Slot          int
	// AheadOf are open swaps of which less has been told than of this battery: they
	// gave it to their rider, though it has been deposited elsewhere since; or they
	// may have taken it in, though staff have said since that their rider has it.
	AheadOf []protocol.SwapID
	Entries int // of the ledger that name it
}

func (x *Battery) isAheadOf(s *Swap) bool { return slices.Contains(x.AheadOf, s.SwapID) }

func (b *Books) putAhead(x *Battery, s *Swap) {
	if !x.isAheadOf(s) {
		x.AheadOf = append(x.AheadOf, s.SwapID)
		b.touchBattery(x)
	}
}

// caughtUp reports whether the battery was ahead of the swap, which has told now.
func (b *Books) caughtUp(x *Battery, s *Swap) bool {
	if !x.isAheadOf(s) {
		return false
	}
	x.AheadOf = slices.DeleteFunc(slices.Clone(x.AheadOf), func(id protocol.SwapID) bool { return id == s.SwapID })
	b.touchBattery(x)
	return true
}

// Books are the rows that a decision or a batch of records touches. Whoever
// fills them must load every row that exists: a row that is not there is taken
// not to exist. Batteries are put in by AddBattery.
type Books struct {
	Cabinets  map[protocol.CabinetID]*Cabinet
	Swaps     map[protocol.SwapID]*Swap
	Riders    map[RiderID]*Rider
	Credits   map[CreditID]*Credit
	Batteries map[protocol.BatterySerial]*Battery
	// Lost are the verified grants of accepted swaps that the books have not
	// granted: a database restored from a backup.
	Lost map[protocol.SwapID]LostGrant

	inSlot  map[slotKey]protocol.BatterySerial
	changed changed
	entries []Entry
	reviews []Review
	ended   []*Swap
	alarms  []SafetyEvent
	// decisions are of reviews that were decided.
	decisions   []DecidedReview
	maintenance []MaintenanceEvent
	// apart: one cabinet's records are retold. Where a battery was before is not
	// known then, and nothing is concluded from it.
	apart bool
}

// DecidedReview is a review with its decision.
type DecidedReview struct {
	ReviewID int64
	Decided
}

// LostGrant is a grant of ours that came back in a cabinet's ACCEPT.
type LostGrant struct {
	Grant   protocol.Grant
	RiderID RiderID // "" when no rider has its rider_ref
}

// SafetyRecord is the type of record that a safety event comes from.
type SafetyRecord string

// The records that tell of safety events.
const (
	AlarmRecord     SafetyRecord = "alarm"
	ChargeCutRecord SafetyRecord = "charge_cut"
	TamperRecord    SafetyRecord = "tamper"
)

// SafetyEvent is what people must be told of at once. Its record's epoch and seq
// name it.
type SafetyEvent struct {
	CabinetID protocol.CabinetID
	Record    SafetyRecord
	Alarm     protocol.Alarm
	Stamp
}

// NewBooks returns empty books.
func NewBooks() *Books {
	return &Books{
		Cabinets:  map[protocol.CabinetID]*Cabinet{},
		Swaps:     map[protocol.SwapID]*Swap{},
		Riders:    map[RiderID]*Rider{},
		Credits:   map[CreditID]*Credit{},
		Batteries: map[protocol.BatterySerial]*Battery{},
		Lost:      map[protocol.SwapID]LostGrant{},
		inSlot:    map[slotKey]protocol.BatterySerial{},
		changed:   newChanged(),
	}
}

type changed struct {
	cabinets  map[protocol.CabinetID]*Cabinet
	swaps     map[protocol.SwapID]*Swap
	riders    map[RiderID]*Rider
	credits   map[CreditID]*Credit
	batteries map[protocol.BatterySerial]*Battery
	days      map[DayKey]int
}

func newChanged() changed {
	return changed{
		cabinets:  map[protocol.CabinetID]*Cabinet{},
		swaps:     map[protocol.SwapID]*Swap{},
		riders:    map[RiderID]*Rider{},
		credits:   map[CreditID]*Credit{},
		batteries: map[protocol.BatterySerial]*Battery{},
		days:      map[DayKey]int{},
	}
}

// DayKey names one daily aggregate: a rider's counted swaps at a cabinet on an
// Asia/Shanghai day.
type DayKey struct {
	RiderID   RiderID
	CabinetID protocol.CabinetID
	Day       Day
}

// DayCount is what to add to one daily aggregate.
type DayCount struct {
	DayKey
	Swaps int
}

// Changes are what has to be written: rows as they are now, sorted by their
// keys, and what is to be appended, in order.
type Changes struct {
	Cabinets  []*Cabinet
	Swaps     []*Swap
	Riders    []*Rider
	Credits   []*Credit
	Batteries []*Battery
	Days      []DayCount
	Entries   []Entry
	Reviews   []Review
	Decisions []DecidedReview
	Ended     []*Swap // closed now; they are among Swaps too
	Alarms    []SafetyEvent
	// Maintenance is what cabinets told of it, in order.
	Maintenance []MaintenanceEvent
}

// Changes returns what changed since the last call, and forgets it.
func (b *Books) Changes() Changes {
	ch := Changes{
		Cabinets:  sorted(b.changed.cabinets),
		Swaps:     sorted(b.changed.swaps),
		Riders:    sorted(b.changed.riders),
		Credits:   sorted(b.changed.credits),
		Batteries: sorted(b.changed.batteries),
		Entries:   b.entries,
		Reviews:   b.reviews,
		Decisions: b.decisions,
		Ended:     b.ended,
		Alarms:    b.alarms,

		Maintenance: b.maintenance,
	}
	for k, n := range b.changed.days {
		ch.Days = append(ch.Days, DayCount{k, n})
	}
	slices.SortFunc(ch.Days, func(x, y DayCount) int {
		return cmp.Or(cmp.Compare(x.RiderID, y.RiderID), cmp.Compare(x.Day, y.Day), cmp.Compare(x.CabinetID, y.CabinetID))
	})
	b.changed, b.entries, b.reviews, b.decisions, b.ended, b.alarms, b.maintenance = newChanged(), nil, nil, nil, nil, nil, nil
	return ch
}

func sorted[K cmp.Ordered, V any](m map[K]V) []V {
	if len(m) == 0 {
		return nil
	}
	out := make([]V, 0, len(m))
	for _, k := range sortedKeys(m) {
		out = append(out, m[k])
	}
	return out
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func (b *Books) touchCabinet(c *Cabinet) { b.changed.cabinets[c.CabinetID] = c }
func (b *Books) touchRider(r *Rider)     { b.changed.riders[r.RiderID] = r }
func (b *Books) touchCredit(c *Credit)   { b.changed.credits[c.CreditID] = c }
func (b *Books) touchBattery(x *Battery) { b.changed.batteries[x.BatterySerial] = x }

// touchSwap marks the row as changed by what happened at: its view moves on.
func (b *Books) touchSwap(s *Swap, at Stamp) {
	s.ViewSeq = max(s.ViewSeq+1, at.Seq)
	s.UpdatedAt = at.ReceivedAt
	b.changed.swaps[s.SwapID] = s
}

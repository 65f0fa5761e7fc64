package statistics

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"batteryswap/protocol"
)

// Dimension is what a figure is broken down by.
type Dimension string

// The dimensions.
const (
	Total      Dimension = "total"
	ByDay      Dimension = "day"
	ByHour     Dimension = "hour" // of a weekday
	ByStreet   Dimension = "street"
	ByCabinet  Dimension = "cabinet"
	ByUnion    Dimension = "union"
	ByPlatform Dimension = "platform"
	ByRider    Dimension = "rider"
)

// Dimensions is the closed list, in the order in which they are shown.
func Dimensions() []Dimension {
	return []Dimension{Total, ByDay, ByHour, ByStreet, ByCabinet, ByUnion, ByPlatform, ByRider}
}

// ParseDimension reads one; "" is the total.
func ParseDimension(s string) (Dimension, error) {
	if s == "" {
		return Total, nil
	}
	if d := Dimension(s); slices.Contains(Dimensions(), d) {
		return d, nil
	}
	names := make([]string, 0, len(Dimensions()))
	for _, d := range Dimensions() {
		names = append(names, string(d))
	}
	return "", fmt.Errorf("by: %.20q, want one of %s", s, strings.Join(names, ", "))
}

// Question is what somebody wants to know. The same question, with the same AsOf,
// has the same answer for ever.
type Question struct {
	Range
	By Dimension
	// AsOf is a position of the ledger: what was booked later is left out. 0: now.
	AsOf int64
	// Street asks for one street's swaps alone, by cabinet; "": all.
	Street string
}

// Check says what is wrong with a question, or nil.
func (q Question) Check() error {
	if q.Street != "" && q.By != ByCabinet {
		return fmt.Errorf("street: %.40q, want none but with by=cabinet", q.Street)
	}
	return q.Range.Check()
}

// ByPeople reports whether it is about what riders are: as long as nobody may ask
// for single riders, that is told of closed months only.
func (d Dimension) ByPeople() bool { return d == ByUnion || d == ByPlatform }

// Figure is the answer. Counted are the takes of swaps that ended swapped or
// owed_taken, on the Asia/Shanghai day of the take, at the taking cabinet.
type Figure struct {
	Question
	Swaps int
	// PerDay is Swaps by all calendar days of the range, rounded half up.
	PerDay int
	// Later were booked after AsOf, of days in the range.
	Later int
	// Ungrouped are among Swaps and in no group: they were counted after their month
	// was closed, or not when they were booked.
	Ungrouped int
	// Riders is how many riders took one; nil when that is not asked for, or too
	// few to be told.
	Riders *int
	Groups []Group
}

// PerDay is the daily average: count by days, rounded half up.
func PerDay(swaps, days int) int {
	if days <= 0 {
		return 0
	}
	return (2*swaps + days) / (2 * days)
}

// Group is one line of a breakdown.
type Group struct {
	// Key names it: a day, "WEEKDAY/HOUR" with Monday as 1, a street, a cabinet_id,
	// union_ids from the top down with slashes, a platform, a rider_id.
	Key  string
	Name string
	// Depth is of a union's body: 0 at the top.
	Depth int
	Level string // of a union's body: city, district, street, branch
	Swaps int
	// Riders is how many riders are in it, where that is told.
	Riders *int
	// Hidden: it has too few riders, or would give such a group away; it has no
	// numbers.
	Hidden bool
}

// Published is a figure that was given a name, to be quoted.
type Published struct {
	Name string
	Range
	AsOf  int64
	Swaps int
	By    string
	At    time.Time
}

// PerDay is its daily average.
func (p Published) PerDay() int { return PerDay(p.Swaps, p.Days()) }

// Audit is a recount of all books; the last that there is.
type Audit struct {
	BeganAt     time.Time // zero: there was none
	Took        time.Duration
	Swaps       int64
	Entries     int64
	Records     int64
	Differences int64
	WantedAt    time.Time // somebody asked for another one; zero: it is done
}

// Take is a counted take, as it is exported. What follows Personal is filled only
// with the permission.
type Take struct {
	Position  int64
	Day       Day
	At        time.Time
	SwapID    string
	CabinetID string
	Street    string
	Owed      bool

	RiderID, Name, Phone, MembershipNo string
	Union, Platform                    string
}

// Export is what somebody wants to take along.
type Export struct {
	Question
	Format   string
	Personal bool   // single riders, too
	Reason   string // why, where it is personal
}

// Tally counts what has a name.
type Tally struct {
	Name string
	N    int
}

// Tallies are counts by name, the highest first.
func Tallies(by map[string]int) []Tally {
	var out []Tally
	for name, n := range by {
		out = append(out, Tally{name, n})
	}
	slices.SortFunc(out, func(a, b Tally) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Name, b.Name)) })
	return out
}

// Month is what a month's report says beside its figures. Unlike those it is of
// the moment when it is asked for.
type Month struct {
	Scans       int     // presentations of a cabinet's code
	Served      int     // of those, granted
	Refused     []Tally // by reason, for the cabinet's or the fleet's sake
	NotTheFleet int     // refused for the rider's sake
	Ends        []Tally // swaps by how they ended, but those that counted
	Alarms      []Tally // safety events by kind
	Reviews     int     // that were opened
}

// Availability is the share of scans that got what they came for, in permille, of
// those that the fleet could serve; -1 when there was none.
func (m Month) Availability() int {
	refused := 0
	for _, r := range m.Refused {
		refused += r.N
	}
	if m.Served+refused == 0 {
		return -1
	}
	return (2000*m.Served + m.Served + refused) / (2 * (m.Served + refused))
}

// OfTheFleet reports whether a scan that was refused for this reason could have
// been served by another, better stocked, or working cabinet.
func OfTheFleet(r protocol.Reason) bool {
	switch r {
	case protocol.ReasonBusy, protocol.ReasonNoChargedBattery, protocol.ReasonNoEmptySlot, protocol.ReasonOutOfService, protocol.ReasonAlarm,
		protocol.ReasonMaintenance, protocol.ReasonCabinetOffline, protocol.ReasonRecovering, protocol.ReasonGrantLate:
		return true
	}
	return false
}

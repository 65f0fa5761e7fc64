package staff

import (
	"crypto/ed25519"
	"encoding/json"
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Credentials are what an account proves itself by.
type Credentials struct {
	PasswordHash, Secret string
	Recovery             [][]byte // hashes
}

// NewAccount is a staff account to add.
type NewAccount struct {
	Login, Name string
	Roles       []Role
	Credentials
}

// Try is one try to prove who one is. It counts as wrong until it is settled.
type Try struct {
	ID      int64
	Secrets Secrets
}

// Enrolment is what staff say of a cabinet. Replace gives an enrolled cabinet a
// new device key: its journal is gone, its open swaps go to review, and the next
// epoch is taken as it comes. Since is when a new cabinet began to work, for one
// that did so before it was entered here; zero is now. Its records are believed
// from a day before.
type Enrolment struct {
	CabinetID       protocol.CabinetID
	DeviceKey       ed25519.PublicKey
	Slots           int
	Station, Street string
	Replace         bool
	Since           time.Time
}

// NewBattery is one row of the registry, to be imported.
type NewBattery struct {
	BatterySerial protocol.BatterySerial
	Type          string
}

// Account is a staff account as others see it.
type Account struct {
	Login         string     `json:"login"`
	Name          string     `json:"name"`
	Roles         []Role     `json:"roles"`
	AddedAt       time.Time  `json:"added_at"`
	Disabled      bool       `json:"disabled"`
	SeenAt        *time.Time `json:"seen_at,omitempty"`
	Sessions      int        `json:"sessions" doc:"Open ones"`
	RecoveryCodes int        `json:"recovery_codes" doc:"That are left"`
}

// OpenSession is a session that is open, as its own account sees it.
type OpenSession struct {
	ID       string // of the page, and of no use elsewhere
	Address  string
	OpenedAt time.Time
	SeenAt   time.Time
	Here     bool // the one that asks
}

// Token is a machine's token as others see it.
type Token struct {
	Name      string    `json:"name"`
	Roles     []Role    `json:"roles"`
	AddedAt   time.Time `json:"added_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Ended     bool      `json:"ended" doc:"Revoked or expired"`
}

// Cabinet is a cabinet as staff list it.
type Cabinet struct {
	CabinetID       protocol.CabinetID `json:"cabinet_id"`
	Station         string             `json:"station"`
	Street          string             `json:"street"`
	Slots           int                `json:"slots"`
	Reachable       bool               `json:"reachable"`
	LastSeen        *time.Time         `json:"last_seen,omitempty"`
	OutOfService    protocol.Reason    `json:"out_of_service,omitempty" doc:"As the cabinet says"`
	Off             bool               `json:"off,omitempty" doc:"Out of service by staff"`
	Charged         int                `json:"charged"`
	Empty           int                `json:"empty"`
	Alarms          []string           `json:"alarms,omitempty" doc:"KIND or KIND:SLOT"`
	Software        string             `json:"software,omitempty"`
	UpperC          *float64           `json:"upper_c,omitempty" doc:"Temperature under the roof"`
	Backlog         int64              `json:"backlog_records"`
	OpenSwap        protocol.SwapID    `json:"open_swap,omitempty"`
	OpenSince       *time.Time         `json:"open_since,omitempty"`
	Forked          bool               `json:"forked,omitempty"`
	EpochWaits      bool               `json:"epoch_waits,omitempty" doc:"Its journal was lost or rolled back: accept the new one"`
	Reviews         int                `json:"reviews"`
	Faults          int                `json:"faults" doc:"Reports of riders that nobody has dealt with"`
	SlotsOut        []int              `json:"slots_out,omitempty" doc:"By staff"`
	ConfigVersion   int64              `json:"config_version"`
	ConfigConfirmed int64              `json:"config_confirmed"`
	Needs           []Need             `json:"needs,omitempty" doc:"Why it needs somebody, the most urgent first"`
	Inventory       protocol.Inventory `json:"-"`
}

// Slot is one slot as staff see it: as the cabinet reports it and as the books
// have it.
type Slot struct {
	protocol.SlotState
	SeenAgeMS *int64                 `json:"seen_age_ms,omitempty" doc:"Of door and presence, now"`
	NowAgeMS  *int64                 `json:"battery_age_ms,omitempty" doc:"Of charge and temperature, now"`
	Booked    protocol.BatterySerial `json:"booked,omitempty" doc:"What the books have in it"`
	Differs   bool                   `json:"differs,omitempty" doc:"The cabinet reports another battery than the books have"`
	Off       bool                   `json:"off,omitempty" doc:"Out of service by staff"`
	Alarms    []string               `json:"alarms,omitempty"`
	Recalled  bool                   `json:"recalled,omitempty"`
}

// CabinetDetail is one cabinet with all that its page shows.
type CabinetDetail struct {
	Cabinet
	Table []Slot `json:"table"`
	// Maintenance is under way; nil: none is.
	Maintenance *Visit  `json:"maintenance,omitempty"`
	Orders      []Order `json:"orders,omitempty" doc:"Of maintenance: the last ones, the newest first"`
	Records     []Event `json:"records" doc:"The last ones, the newest first"`
}

// Event is one line of a story: a record of a cabinet, an entry of the ledger, a
// scan, a decision.
type Event struct {
	At        *time.Time             `json:"at,omitempty" doc:"Absent: not dated"`
	Quality   swap.TimeQuality       `json:"time_quality,omitempty"`
	Source    string                 `json:"source" enum:"scan,record,ledger,review"`
	What      string                 `json:"what"`
	Seq       uint64                 `json:"seq,omitempty"`
	CabinetID protocol.CabinetID     `json:"cabinet_id,omitempty"`
	SwapID    protocol.SwapID        `json:"swap_id,omitempty"`
	RiderID   swap.RiderID           `json:"rider_id,omitempty"`
	Slot      int                    `json:"slot,omitempty"`
	Serial    protocol.BatterySerial `json:"battery_serial,omitempty"`
	Holder    swap.Holder            `json:"holder,omitempty"`
	Reason    protocol.Reason        `json:"reason,omitempty"`
	By        string                 `json:"by,omitempty"`
	Late      bool                   `json:"late,omitempty"`
	Payload   json.RawMessage        `json:"payload,omitempty"`
}

// SwapRow is a swap as staff list it.
type SwapRow struct {
	SwapID      protocol.SwapID        `json:"swap_id"`
	CabinetID   protocol.CabinetID     `json:"cabinet_id"`
	RiderID     swap.RiderID           `json:"rider_id,omitempty"`
	Kind        protocol.Kind          `json:"kind,omitempty"`
	State       swap.State             `json:"state"`
	Outcome     protocol.Outcome       `json:"outcome,omitempty"`
	Reason      protocol.Reason        `json:"reason,omitempty"`
	Deposited   protocol.BatterySerial `json:"deposited,omitempty"`
	Taken       protocol.BatterySerial `json:"taken,omitempty"`
	RequestedAt time.Time              `json:"requested_at"`
	ClosedAt    *time.Time             `json:"closed_at,omitempty"`
}

// Story is what happened in a swap.
type Story struct {
	SwapRow
	Reviews []int64 `json:"reviews,omitempty"`
	Events  []Event `json:"events"`
}

// Scan is one presentation of a cabinet's code.
type Scan struct {
	At        time.Time          `json:"at"`
	RiderID   swap.RiderID       `json:"rider_id"`
	CabinetID protocol.CabinetID `json:"cabinet_id"`
	SwapID    protocol.SwapID    `json:"swap_id,omitempty" doc:"What it became"`
	Reason    protocol.Reason    `json:"reason,omitempty" doc:"Why it became nothing"`
	Other     protocol.SwapID    `json:"other_swap_id,omitempty"`
}

// Battery is a battery as staff see it.
type Battery struct {
	Serial    protocol.BatterySerial `json:"battery_serial"`
	Type      string                 `json:"type"`
	Foreign   bool                   `json:"foreign,omitempty" doc:"Not in the registry"`
	Holder    swap.Holder            `json:"holder"`
	RiderID   swap.RiderID           `json:"rider_id,omitempty"`
	CabinetID protocol.CabinetID     `json:"cabinet_id,omitempty"`
	Slot      int                    `json:"slot,omitempty"`
	Marks     []Mark                 `json:"marks,omitempty"`
}

// Is reports whether the battery has a mark.
func (b Battery) Is(mark string) bool {
	for _, m := range b.Marks {
		if m.Mark == mark {
			return true
		}
	}
	return false
}

// Marks of a battery.
const (
	Flagged  = "flagged"  // look at it
	Recalled = "recalled" // held wherever it comes in
	Gone     = "retired"  // out of the fleet for good
)

// Mark is what staff say of a battery.
type Mark struct {
	Mark   string    `json:"mark" enum:"flagged,recalled,retired"`
	Reason string    `json:"reason"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// BatteryDetail is a battery with who had it.
type BatteryDetail struct {
	Battery
	History []Event `json:"history" doc:"The newest first"`
}

// Rider is a rider as staff see one: masked.
type Rider struct {
	RiderID swap.RiderID `json:"rider_id"`
	Name    string       `json:"name" doc:"Masked"`
	Union   string       `json:"union,omitempty"`
	Street  string       `json:"street,omitempty"`
	// Platform and membership are as the roll has them.
	Platform     string `json:"platform,omitempty"`
	MembershipNo string `json:"membership_no,omitempty"`
	HasPhone     bool   `json:"has_phone,omitempty" doc:"A number is kept, closed"`
	MemberFrom   string `json:"member_from,omitempty" doc:"First day of the membership"`
	MemberTo     string `json:"member_to,omitempty" doc:"Last day of the membership"`
	Forgotten    bool   `json:"forgotten,omitempty" doc:"The person is gone, the pseudonym stays"`
	Active       bool   `json:"active"`
	Counted      int    `json:"counted,omitempty" doc:"Swaps; only for who may see figures of single riders"`
	Reviews      int    `json:"reviews"`
}

// Credit is a battery that the fleet owes, and why.
type Credit struct {
	CreditID string           `json:"credit_id,omitempty" doc:"Of one from a swap, the swap's"`
	RiderID  swap.RiderID     `json:"rider_id"`
	Origin   swap.Origin      `json:"origin" enum:"swap,staff,review"`
	State    swap.CreditState `json:"state"`
	SwapID   protocol.SwapID  `json:"swap_id,omitempty" doc:"That reserved or spent it"`
	From     protocol.SwapID  `json:"from_swap_id,omitempty" doc:"That left it owed"`
	OpenedAt time.Time        `json:"opened_at" doc:"The day alone, for who may not see single riders"`
}

// RiderDetail is a rider with what explains what happens to them.
type RiderDetail struct {
	Rider
	Batteries    []protocol.BatterySerial `json:"batteries,omitempty" doc:"Only for who may see single riders"`
	BatteryCount int                      `json:"battery_count" doc:"How many the rider has"`
	Credits      []Credit                 `json:"credits"`
	Scans        []Scan                   `json:"scans" doc:"The newest first"`
	CodeUntil    *time.Time               `json:"code_until,omitempty" doc:"A binding code is out"`
	Devices      int                      `json:"devices" doc:"Phones that speak for the rider"`
}

// Fault is what a rider reported.
type Fault struct {
	ReportID   int64              `json:"report_id"`
	CabinetID  protocol.CabinetID `json:"cabinet_id"`
	Slot       int                `json:"slot,omitempty"`
	SwapID     protocol.SwapID    `json:"swap_id,omitempty"`
	RiderID    swap.RiderID       `json:"rider_id,omitempty"`
	Kind       string             `json:"kind" enum:"door,battery,screen,other"`
	Text       string             `json:"text,omitempty"`
	ReportedAt time.Time          `json:"reported_at"`
	DoneAt     *time.Time         `json:"done_at,omitempty"`
	DoneBy     string             `json:"done_by,omitempty"`
	Note       string             `json:"note,omitempty"`
}

// Mask keeps the first letter of a name: who knows the person recognises it, who
// does not learns nothing.
func Mask(name string) string {
	for _, r := range name {
		return string(r) + "**"
	}
	return ""
}

// Summed takes out of a record's payload what a line of a story shows. The rest
// goes along but for inventories and grants: they are evidence and no story.
func (e Event) Summed() Event {
	fields := map[string]json.RawMessage{}
	if json.Unmarshal(e.Payload, &fields) != nil {
		e.Payload = nil
		return e
	}
	var p struct {
		Slot          int                    `json:"slot"`
		BatterySerial protocol.BatterySerial `json:"battery_serial"`
		Battery       protocol.Battery       `json:"battery"`
		Reason        protocol.Reason        `json:"reason"`
	}
	if json.Unmarshal(e.Payload, &p) == nil {
		e.Slot, e.Serial, e.Reason = p.Slot, p.BatterySerial, p.Reason
		if e.Serial == "" {
			e.Serial = p.Battery.BatterySerial
		}
	}
	for _, no := range []string{"inventory", "grant", "carried", "nonce", "boot_id", "swap_id", "epoch", "old", "maintenance_id", "order_id"} {
		delete(fields, no)
	}
	e.Payload, _ = json.Marshal(fields) // raw messages that were decoded just now
	return e
}

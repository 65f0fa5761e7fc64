package protocol

import (
	"errors"
	"fmt"
	"time"
)

// Type is the "type" of a message.
type Type string

// The types of message.
const (
	TypeHello        Type = "hello"
	TypeHelloRequest Type = "hello_request"
	TypeHelloOK      Type = "hello_ok"
	TypeLog          Type = "log"
	TypeLogAck       Type = "log_ack"
	TypePrepare      Type = "prepare"
	TypePrepared     Type = "prepared"
	TypeRefused      Type = "refused"
	TypeGrant        Type = "grant"
	TypeCancel       Type = "cancel"
	TypeWish         Type = "wish"
	TypeGuide        Type = "guide"
	// Those of maintenance.
	TypeMaintenanceRequest Type = "maintenance_request"
	TypeMaintenanceAnswer  Type = "maintenance_answer"
	TypeMaintenanceGrant   Type = "maintenance_grant"

	TypeInventoryRequest Type = "inventory_request"
	TypeInventory        Type = "inventory"
	TypeTelemetry        Type = "telemetry"
	TypeWill             Type = "will"
)

// Bounds of what a message may name.
const (
	MaxDepositSlots  = 2
	MaxOffers        = 3
	MaxExpectSerials = 4
	MaxLogRecords    = 32
	// MaxFlaggedSerials keeps a cabinet's configuration within a record, beside
	// all else that a snapshot holds.
	MaxFlaggedSerials = 78
	// MaxClearFaults bounds how often a slot can be repaired.
	MaxClearFaults = 999_999_999
	// MaxSoftware and MaxAlarmLength bound what an agent says of itself, in bytes.
	MaxSoftware    = 64
	MaxAlarmLength = 64
)

// Hello is the agent's first word after every connect, and whenever it is asked.
type Hello struct {
	Epoch         Epoch      `json:"epoch"`
	FirstSeq      uint64     `json:"first_seq"` // oldest record the agent still has
	TailSeq       uint64     `json:"tail_seq"`
	TailHash      Hash       `json:"tail_hash"`
	AckedSeq      uint64     `json:"acked_seq"` // 0: none
	AckedHash     Hash       `json:"acked_hash"`
	BootID        BootID     `json:"boot_id"`
	BootSeq       uint32     `json:"boot_seq"`
	Software      string     `json:"software"`
	ClockState    ClockState `json:"clock_state"`
	ConfigVersion int64      `json:"config_version"`
	KeysVersion   int64      `json:"keys_version"`
	Inventory     Inventory  `json:"inventory"`
	// Challenge is of the last hello_request that this boot has heard.
	Challenge Challenge `json:"challenge,omitzero"`
}

// HelloRequest asks for a hello now: the backend has started, or was restored, or
// got records of an epoch that it does not know. An agent answers one in
// MinHelloInterval at most, so that one that is sent again does no harm.
type HelloRequest struct {
	Challenge Challenge `json:"challenge"`
}

// MinHelloInterval is the least time between two hellos that were asked for.
const MinHelloInterval = 5 * time.Second

// Verdict is what the backend makes of a hello.
type Verdict string

// The verdicts.
const (
	VerdictResume   Verdict = "resume"    // send from resume_seq
	VerdictNewEpoch Verdict = "new_epoch" // the journal is behind what it acked, or forked: format anew
	VerdictWait     Verdict = "wait"      // this epoch waits for staff: stay out of service, send nothing
)

// HelloOK answers hello.
type HelloOK struct {
	Epoch      Epoch         `json:"epoch"` // the epoch that hello named
	BootID     BootID        `json:"boot_id"`
	Verdict    Verdict       `json:"verdict"`
	ResumeSeq  uint64        `json:"resume_seq"`
	ServerTime time.Time     `json:"server_time"` // advice only
	Config     CabinetConfig `json:"config"`
	Keys       string        `json:"keys,omitempty"` // signed key list, when newer than the agent's
}

// CabinetConfig is what staff set for a cabinet; a CONFIG record confirms it.
type CabinetConfig struct {
	Version      int64 `json:"version"`
	OutOfService bool  `json:"out_of_service,omitempty"`
	SlotsOut     []int `json:"slots_out,omitempty"`
	// FlaggedSerials are of recalled batteries: one that comes in is kept, never
	// given back, dispensed or charged.
	FlaggedSerials []BatterySerial `json:"flagged_serials,omitempty"`
	// ClearFaults counts, for each slot, how often staff said that it is repaired.
	// A count higher than the one before clears the slot's fault: an agent that
	// missed configurations in between misses no repair.
	ClearFaults map[int]int64 `json:"clear_faults,omitempty"`
}

// Log carries journal records, one batch in flight.
type Log struct {
	Epoch    Epoch    `json:"epoch"`
	MonoMS   uint64   `json:"mono_ms"` // agent's monotonic clock now
	BootSeq  uint32   `json:"boot_seq"`
	FromSeq  uint64   `json:"from_seq"`
	Records  [][]byte `json:"records"` // each as written on disk, in base64
	HeadHash Hash     `json:"head_hash"`
}

// LogAck says what is committed. It is cumulative and sent only after COMMIT.
type LogAck struct {
	Epoch      Epoch  `json:"epoch"`
	UptoSeq    uint64 `json:"upto_seq"`
	HashAtUpto Hash   `json:"hash_at_upto"`
	// ResendFrom, when not 0, asks for records from there again.
	ResendFrom uint64 `json:"resend_from,omitempty"`
}

// Prepare asks an agent to propose slots for a swap.
type Prepare struct {
	SwapID   SwapID `json:"swap_id"`
	Kind     Kind   `json:"kind"`
	Presence string `json:"presence,omitempty"`
}

// Offer is a charged battery that the agent proposes to dispense.
type Offer struct {
	Slot          int           `json:"slot"`
	BatterySerial BatterySerial `json:"battery_serial"`
	Soc           int           `json:"soc"` // %
}

// Prepared answers prepare: slots proposed from live sensors and reserved in RAM.
type Prepared struct {
	SwapID       SwapID  `json:"swap_id"`
	Epoch        Epoch   `json:"epoch"`
	BootSeq      uint32  `json:"boot_seq"`
	BootID       BootID  `json:"boot_id"`
	Nonce        Nonce   `json:"nonce"`
	DepositSlots []int   `json:"deposit_slots"`
	Dispense     []Offer `json:"dispense"`
}

// Refused answers prepare, or a grant that came too late.
type Refused struct {
	SwapID SwapID `json:"swap_id"`
	Reason Reason `json:"reason"`
}

// Grant is the signed permission to do one swap, once, in this boot, with these
// slots: with MaintenanceGrant the only message that leads to a pulse. It carries no limits: those of
// the agent hold.
type Grant struct {
	SwapID        SwapID          `json:"swap_id"`
	Kind          Kind            `json:"kind"`
	Nonce         Nonce           `json:"nonce"`
	BootID        BootID          `json:"boot_id"`
	RiderRef      RiderRef        `json:"rider_ref"`
	DepositSlots  []int           `json:"deposit_slots"`
	Dispense      []Offer         `json:"dispense"`
	ExpectSerials []BatterySerial `json:"expect_serials"`
}

// Cancel withdraws a swap before ACCEPT. It is answered by a VOID record.
type Cancel struct {
	SwapID SwapID `json:"swap_id"`
}

// WishRecheck asks to read the sensors again now ("I closed the door").
const WishRecheck = "recheck"

// Wish is a rider's wish. It never opens anything.
type Wish struct {
	SwapID SwapID `json:"swap_id"`
	What   string `json:"what"`
}

// InventoryRequest asks for an inventory.
type InventoryRequest struct{}

// InventoryReport answers inventory_request.
type InventoryReport struct {
	Slots Inventory `json:"slots"`
}

// Telemetry is the heartbeat: the whole cabinet, every 20 s and on change.
type Telemetry struct {
	BootID         BootID    `json:"boot_id"`
	BootSeq        uint32    `json:"boot_seq"`
	MonoMS         uint64    `json:"mono_ms"`
	Software       string    `json:"software"`
	BacklogRecords uint64    `json:"backlog_records"` // journalled, not acknowledged
	SwapID         SwapID    `json:"swap_id,omitempty"`
	OutOfService   Reason    `json:"out_of_service,omitempty"`
	Alarms         []string  `json:"alarms,omitempty"`
	UpperC         *float64  `json:"upper_c,omitempty"`  // cabinet air, °C
	EnergyJ        *uint64   `json:"energy_j,omitempty"` // taken from the mains since the meter was made
	Slots          Inventory `json:"slots"`
}

// Will is published by the broker when the agent's connection dies.
type Will struct {
	BootID BootID `json:"boot_id"`
}

// MessageType names the message.
func (Hello) MessageType() Type            { return TypeHello }
func (HelloRequest) MessageType() Type     { return TypeHelloRequest }
func (HelloOK) MessageType() Type          { return TypeHelloOK }
func (Log) MessageType() Type              { return TypeLog }
func (LogAck) MessageType() Type           { return TypeLogAck }
func (Prepare) MessageType() Type          { return TypePrepare }
func (Prepared) MessageType() Type         { return TypePrepared }
func (Refused) MessageType() Type          { return TypeRefused }
func (Grant) MessageType() Type            { return TypeGrant }
func (Cancel) MessageType() Type           { return TypeCancel }
func (Wish) MessageType() Type             { return TypeWish }
func (InventoryRequest) MessageType() Type { return TypeInventoryRequest }
func (InventoryReport) MessageType() Type  { return TypeInventory }
func (Telemetry) MessageType() Type        { return TypeTelemetry }
func (Will) MessageType() Type             { return TypeWill }

// Random bits that are all zero were never drawn, and everybody can guess them.
var (
	errZeroEpoch     = errors.New("epoch: want 32 hexadecimal digits that are not all zero")
	errZeroNonce     = errors.New("nonce: want 32 hexadecimal digits that are not all zero")
	errZeroBootID    = errors.New("boot_id: want 32 hexadecimal digits that are not all zero")
	errZeroChallenge = errors.New("challenge: want 32 hexadecimal digits that are not all zero")
)

// Validate says what is wrong with the message, or nil.
func (m Hello) Validate() error {
	switch {
	case m.Epoch.IsZero():
		return errZeroEpoch
	case m.BootID.IsZero():
		return errZeroBootID
	case m.BootSeq == 0 || m.TailSeq == 0:
		return errors.New("boot_seq and tail_seq: want 1 or more")
	case m.AckedSeq > m.TailSeq:
		return fmt.Errorf("acked_seq is %d: want at most tail_seq %d", m.AckedSeq, m.TailSeq)
	case len(m.Software) > MaxSoftware:
		return fmt.Errorf("software: want at most %d bytes", MaxSoftware)
	case !m.ClockState.Valid():
		return fmt.Errorf("clock_state is %d: want 0 or 1", m.ClockState)
	}
	return m.Inventory.Validate()
}

// Validate says what is wrong with the message, or nil.
func (m HelloRequest) Validate() error {
	if m.Challenge.IsZero() {
		return errZeroChallenge
	}
	return nil
}

// Validate says what is wrong with the message, or nil.
func (m HelloOK) Validate() error {
	switch {
	case m.Epoch.IsZero():
		return errZeroEpoch
	case m.BootID.IsZero():
		return errZeroBootID
	}
	switch m.Verdict {
	case VerdictResume, VerdictNewEpoch, VerdictWait:
	default:
		return fmt.Errorf("verdict %.20q: want resume, new_epoch or wait", m.Verdict)
	}
	if m.Verdict == VerdictResume && m.ResumeSeq == 0 {
		return errors.New("resume_seq: want 1 or more")
	}
	if err := m.Config.Validate(); err != nil {
		return fmt.Errorf("config.%w", err)
	}
	return nil
}

// Validate says what is wrong with the configuration, or nil.
func (c CabinetConfig) Validate() error {
	if len(c.SlotsOut) > MaxSlots {
		return fmt.Errorf("slots_out: %d slots, want at most %d", len(c.SlotsOut), MaxSlots)
	}
	for _, n := range c.SlotsOut {
		if n < 1 || n > MaxSlots {
			return fmt.Errorf("slots_out: slot %d: want 1 to %d", n, MaxSlots)
		}
	}
	for n, count := range c.ClearFaults {
		if n < 1 || n > MaxSlots {
			return fmt.Errorf("clear_faults: slot %d: want 1 to %d", n, MaxSlots)
		}
		if count < 1 || count > MaxClearFaults {
			return fmt.Errorf("clear_faults: slot %d: count is %d, want 1 to %d", n, count, MaxClearFaults)
		}
	}
	if len(c.FlaggedSerials) > MaxFlaggedSerials {
		return fmt.Errorf("flagged_serials: %d, want at most %d", len(c.FlaggedSerials), MaxFlaggedSerials)
	}
	for _, s := range c.FlaggedSerials {
		if err := s.Validate(); err != nil {
			return fmt.Errorf("flagged_serials: %w", err)
		}
	}
	return nil
}

// Validate says what is wrong with the message, or nil.
func (m Log) Validate() error {
	switch {
	case m.Epoch.IsZero():
		return errZeroEpoch
	case m.FromSeq == 0:
		return errors.New("from_seq: want 1 or more")
	case len(m.Records) == 0 || len(m.Records) > MaxLogRecords:
		return fmt.Errorf("records: %d, want 1 to %d", len(m.Records), MaxLogRecords)
	}
	return nil
}

// Validate says what is wrong with the message, or nil.
func (m LogAck) Validate() error {
	if m.Epoch.IsZero() {
		return errZeroEpoch
	}
	return nil
}

// Validate says what is wrong with the message, or nil.
func (m Prepare) Validate() error {
	if len(m.Presence) > 32 {
		return errors.New("presence: want at most 32 bytes")
	}
	return validateSwap(m.SwapID, m.Kind)
}

// Validate says what is wrong with the message, or nil.
func (m Prepared) Validate() error {
	if err := m.SwapID.Validate(); err != nil {
		return err
	}
	switch {
	case m.Epoch.IsZero():
		return errZeroEpoch
	case m.BootSeq == 0:
		return errors.New("boot_seq: want 1 or more")
	case m.BootID.IsZero():
		return errZeroBootID
	case m.Nonce.IsZero():
		return errZeroNonce
	}
	return validateSlots(m.DepositSlots, m.Dispense)
}

// Validate says what is wrong with the message, or nil.
func (m Refused) Validate() error {
	if !m.Reason.Valid() {
		return fmt.Errorf("reason %.40q: not on the closed list", m.Reason)
	}
	return m.SwapID.Validate()
}

// Validate says what is wrong with the message, or nil.
func (m Grant) Validate() error {
	if err := validateSwap(m.SwapID, m.Kind); err != nil {
		return err
	}
	switch {
	case m.Nonce.IsZero():
		return errZeroNonce
	case m.BootID.IsZero():
		return errZeroBootID
	}
	if err := m.RiderRef.Validate(); err != nil {
		return err
	}
	if len(m.ExpectSerials) > MaxExpectSerials {
		return fmt.Errorf("expect_serials: %d, want at most %d", len(m.ExpectSerials), MaxExpectSerials)
	}
	for _, s := range m.ExpectSerials {
		if err := s.Validate(); err != nil {
			return fmt.Errorf("expect_serials: %w", err)
		}
	}
	if err := validateSlots(m.DepositSlots, m.Dispense); err != nil {
		return err
	}
	if m.Kind.Deposits() && (len(m.DepositSlots) == 0 || len(m.ExpectSerials) == 0) {
		return fmt.Errorf("deposit_slots and expect_serials: want at least one of each for a %s", m.Kind)
	}
	if m.Kind.Dispenses() != (len(m.Dispense) > 0) || m.Kind.Deposits() != (len(m.DepositSlots) > 0) {
		return fmt.Errorf("deposit_slots and dispense do not fit a %s", m.Kind)
	}
	return nil
}

// Validate says what is wrong with the message, or nil.
func (m Cancel) Validate() error { return m.SwapID.Validate() }

// Validate says what is wrong with the message, or nil.
func (m Wish) Validate() error {
	if m.What != WishRecheck {
		return fmt.Errorf("what %.20q: want %q", m.What, WishRecheck)
	}
	return m.SwapID.Validate()
}

// Validate says what is wrong with the message, or nil.
func (InventoryRequest) Validate() error { return nil }

// Validate says what is wrong with the message, or nil.
func (m InventoryReport) Validate() error { return m.Slots.Validate() }

// Validate says what is wrong with the message, or nil.
func (m Telemetry) Validate() error {
	if m.BootID.IsZero() {
		return errZeroBootID
	}
	if len(m.Software) > MaxSoftware {
		return fmt.Errorf("software: want at most %d bytes", MaxSoftware)
	}
	if len(m.Alarms) > MaxSlots {
		return fmt.Errorf("alarms: %d, want at most %d", len(m.Alarms), MaxSlots)
	}
	for i, a := range m.Alarms {
		if len(a) > MaxAlarmLength {
			return fmt.Errorf("alarms[%d]: want at most %d bytes", i, MaxAlarmLength)
		}
	}
	if m.OutOfService != "" && !m.OutOfService.Valid() {
		return fmt.Errorf("out_of_service %.40q: not on the closed list", m.OutOfService)
	}
	if m.SwapID != "" {
		if err := m.SwapID.Validate(); err != nil {
			return err
		}
	}
	return m.Slots.Validate()
}

// Validate says what is wrong with the message, or nil.
func (m Will) Validate() error {
	if m.BootID.IsZero() {
		return errZeroBootID
	}
	return nil
}

func validateSwap(id SwapID, k Kind) error {
	if !k.Valid() {
		return fmt.Errorf("kind %.20q: want swap, owed, issue or hand_back", k)
	}
	return id.Validate()
}

func validateSlots(deposit []int, offers []Offer) error {
	if len(deposit) > MaxDepositSlots || len(offers) > MaxOffers {
		return fmt.Errorf("deposit_slots and dispense: want at most %d and %d", MaxDepositSlots, MaxOffers)
	}
	seen := map[int]bool{}
	check := func(field string, n int) error {
		if n < 1 || n > MaxSlots || seen[n] {
			return fmt.Errorf("%s: slot %d: want numbers from 1 to %d, each once", field, n, MaxSlots)
		}
		seen[n] = true
		return nil
	}
	for _, n := range deposit {
		if err := check("deposit_slots", n); err != nil {
			return err
		}
	}
	for _, o := range offers {
		if err := check("dispense", o.Slot); err != nil {
			return err
		}
		if err := o.BatterySerial.Validate(); err != nil {
			return fmt.Errorf("dispense: %w", err)
		}
		if o.Soc < 0 || o.Soc > 100 {
			return fmt.Errorf("dispense: soc is %d: want 0 to 100", o.Soc)
		}
	}
	return nil
}

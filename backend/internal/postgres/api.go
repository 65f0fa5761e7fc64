package postgres

import (
	"context"
	"crypto/ed25519"
	"errors"
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

var errSoon = errors.New("postgres: body follows")

type Store struct{}

func Open(ctx context.Context, url string, o Options) (*Store, error) { return nil, errSoon }
func Migrate(ctx context.Context, url string) error                   { return errSoon }
func (s *Store) Close()                                               {}
func (s *Store) Ping(ctx context.Context) error                       { return errSoon }

func (s *Store) Request(ctx context.Context, scan swap.Scan) (swap.View, *protocol.Prepare, *swap.Refusal, error) {
	return swap.View{}, nil, nil, errSoon
}
func (s *Store) Prepared(ctx context.Context, id protocol.CabinetID, m protocol.Prepared) (*protocol.Grant, error) {
	return nil, errSoon
}
func (s *Store) Refused(ctx context.Context, id protocol.CabinetID, m protocol.Refused) error {
	return errSoon
}
func (s *Store) ExpireRequests(ctx context.Context) ([]Expired, error) { return nil, errSoon }
func (s *Store) Hello(ctx context.Context, id protocol.CabinetID, m protocol.Hello) (protocol.HelloOK, error) {
	return protocol.HelloOK{}, errSoon
}
func (s *Store) Telemetry(ctx context.Context, heard []Heard) (wrote bool, err error) {
	return false, errSoon
}
func (s *Store) Swap(ctx context.Context, rider swap.RiderID, id protocol.SwapID) (swap.View, error) {
	return swap.View{}, errSoon
}
func (s *Store) Cabinets(ctx context.Context) ([]swap.CabinetView, error) { return nil, errSoon }
func (s *Store) Cabinet(ctx context.Context, id protocol.CabinetID) (swap.CabinetView, error) {
	return swap.CabinetView{}, errSoon
}
func (s *Store) Rider(ctx context.Context, id swap.RiderID) (swap.RiderView, error) {
	return swap.RiderView{}, errSoon
}
func (s *Store) CreateSession(ctx context.Context, rider swap.RiderID, tokenHash []byte, expires time.Time) error {
	return errSoon
}
func (s *Store) SessionRider(ctx context.Context, tokenHash []byte) (swap.RiderID, error) {
	return "", errSoon
}
func (s *Store) DeviceKeys(ctx context.Context) (map[protocol.CabinetID][]DeviceKey, error) {
	return nil, errSoon
}
func (s *Store) Gauges(ctx context.Context) (Gauges, error)                       { return Gauges{}, errSoon }
func (s *Store) Audit(ctx context.Context) (Report, error)                        { return Report{}, errSoon }
func (s *Store) EnrolCabinet(ctx context.Context, e Enrolment) error              { return errSoon }
func (s *Store) AcceptEpoch(ctx context.Context, id protocol.CabinetID) error     { return errSoon }
func (s *Store) WaiveRecovery(ctx context.Context) error                          { return errSoon }
func (s *Store) ImportBatteries(ctx context.Context, rows []Battery) (int, error) { return 0, errSoon }
func (s *Store) AddRider(ctx context.Context, r NewRider) (swap.RiderID, error)   { return "", errSoon }
func (s *Store) StaffCredit(ctx context.Context, r swap.RiderID) error            { return errSoon }
func (s *Store) AssignBattery(ctx context.Context, serial protocol.BatterySerial, to Place) error {
	return errSoon
}

// Errors that a caller tells apart.
var (
	ErrNotFound  = errors.New("not found")
	ErrKeyReused = errors.New("idempotency key: already used for another scan") // same key, other cabinet or hand_back
)

// Options of a Store. RiderRef is required to grant.
type Options struct {
	RiderRef func(protocol.CabinetID, swap.RiderID) protocol.RiderRef
}

// Expired is a request that no cabinet answered in time: the caller sends cancel.
type Expired struct {
	CabinetID protocol.CabinetID
	SwapID    protocol.SwapID
}

// Heard is one telemetry message of one cabinet.
type Heard struct {
	CabinetID protocol.CabinetID
	Telemetry protocol.Telemetry
}

// DeviceKey is a key that speaks for a cabinet.
type DeviceKey struct {
	KeyID     string
	PublicKey ed25519.PublicKey
}

// Gauges are the counts that every replica's metrics show alike.
type Gauges struct {
	OpenSwaps, OpenReviews, OpenCredits int
	Recovering                          bool
}

// Enrolment is what staff say of a cabinet. Replace gives an enrolled cabinet
// a new device key: its journal is gone, the next epoch is taken as it comes.
type Enrolment struct {
	CabinetID       protocol.CabinetID
	DeviceKey       ed25519.PublicKey
	Slots           int
	Station, Street string
	Replace         bool
}

// Battery is one row of the registry.
type Battery struct {
	BatterySerial protocol.BatterySerial
	Type          string
}

// Place is where staff say a battery is: at a rider, in a slot, or with staff
// (the zero value).
type Place struct {
	RiderID   swap.RiderID
	CabinetID protocol.CabinetID
	Slot      int
}

// NewRider is a rider to add; RiderID "" makes one.
type NewRider struct {
	RiderID                       swap.RiderID
	Name, Union, Street, Platform string
}

// Report is what an audit found. An empty Differences is the proof.
type Report struct {
	Riders      []RiderReport `json:"riders"`
	Differences []Difference  `json:"differences"`
	Entries     int64         `json:"entries"` // ledger entries examined
	Records     int64         `json:"records"` // journal records examined
}

// RiderReport is one rider's account. Deposits are those that stayed: a battery
// given back to its rider is none.
type RiderReport struct {
	RiderID     swap.RiderID             `json:"rider_id"`
	Name        string                   `json:"name,omitempty"`
	Deposits    int                      `json:"deposits"`
	Takes       int                      `json:"takes"`   // batteries taken, of every kind
	Counted     int                      `json:"counted"` // swapped and owed_taken
	Issued      int                      `json:"issued"`
	OpenCredits int                      `json:"open_credits"` // open or reserved
	Batteries   []protocol.BatterySerial `json:"batteries"`    // in the rider's custody
	OpenSwaps   []protocol.SwapID        `json:"open_swaps"`
	Reviews     int                      `json:"reviews"` // open
}

// Difference is one figure of the books that the ledger does not bear out.
type Difference struct {
	What   string `json:"what"` // the table and column
	Key    string `json:"key"`  // whose
	Books  string `json:"books"`
	Ledger string `json:"ledger"`
}

// Batch is one log message whose envelope has been verified.
type Batch struct {
	CabinetID protocol.CabinetID
	Envelope  protocol.Envelope
	Log       protocol.Log
}

// RecorderOptions of a Recorder. The callbacks run on goroutines of the
// Recorder; Acked and Verdict only after COMMIT.
type RecorderOptions struct {
	QueueBatches int // bound of the queue; 0: 4096
	Acked        func(protocol.CabinetID, protocol.LogAck)
	Verdict      func(protocol.CabinetID, protocol.HelloOK)
	Hooks        Hooks
}

// Hooks are told what happened, for metrics and alarms. Each may be nil, must
// not block, and is called from one goroutine at a time.
type Hooks struct {
	Committed func(batches, records int, took time.Duration)
	Dropped   func()                                 // the queue was full
	Rejected  func(id protocol.CabinetID, err error) // a batch that was not taken
	Closed    func(protocol.CabinetID, protocol.Kind, protocol.Outcome)
	Alarm     func(protocol.CabinetID, protocol.Alarm) // after COMMIT; TAMPER and CHARGE_CUT too
}

// Recorder commits journal records.
type Recorder struct{}

func NewRecorder(s *Store, o RecorderOptions) *Recorder { return &Recorder{} }
func (r *Recorder) Submit(b Batch) bool                 { return false }
func (r *Recorder) Close()                              {}

// Notifications wakes whoever waits for a swap, or for the device keys.
type Notifications struct{}

func NewNotifications(s *Store) *Notifications { return &Notifications{} }
func (n *Notifications) Watch(id protocol.SwapID) (changed <-chan struct{}, cancel func()) {
	return nil, func() {}
}
func (n *Notifications) DeviceKeys() <-chan struct{} { return nil }
func (n *Notifications) Close()                      {}

package memory

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Options of a Store. All are needed.
type Options struct {
	// RiderRef is what a cabinet may know of a rider.
	RiderRef func(protocol.CabinetID, swap.RiderID) protocol.RiderRef
	// OpenGrant verifies a grant that came back in a cabinet's ACCEPT.
	OpenGrant func(cabinet protocol.CabinetID, envelope string) (protocol.Grant, error)
	// NewID names a swap or an act of staff: rising, and never twice.
	NewID func() protocol.SwapID
}

// Errors that a caller tells apart.
var (
	ErrNotFound = errors.New("not found")
	// ErrOld: older than what is in the books; it gets no answer.
	ErrOld = errors.New("older than what is in the books")
	// ErrUnique: a unique index refuses a row.
	ErrUnique = errors.New("refused by a unique index")
)

// Store is the books. Its methods are transactions: each happens whole.
type Store struct {
	o    Options
	rows rows
}

// rows is all that is stored.
type rows struct {
	// books hold every row but closed swaps, which are closed.
	books    *swap.Books
	closed   map[protocol.SwapID]*swap.Swap
	ledger   []swap.Entry
	reviews  []swap.Review
	days     map[swap.DayKey]int
	cabinets map[protocol.CabinetID]*cabinet
	scans    map[scanKey]scanned
	nonces   map[nonceKey]protocol.SwapID
	orders   map[protocol.OrderID]*swap.Order // of maintenance
	// recovering is since when the books are known to lack what cabinets told;
	// zero: they do not.
	recovering time.Time
	// challenge is what a hello must give back to count in a recovery.
	challenge protocol.Challenge
}

// cabinet is what is stored of a cabinet beside its cursor.
type cabinet struct {
	config    protocol.CabinetConfig
	epochs    map[protocol.Epoch]epochState
	waiting   protocol.Epoch // the one that waited last
	helloTail uint64
	// helloChallenge is what its last hello gave back that was asked for.
	helloChallenge protocol.Challenge
	inventory      protocol.Inventory // of the last telemetry
	hashes         map[recordKey]protocol.Hash
}

type epochState string

const (
	current epochState = "current"
	waiting epochState = "waiting"
	left    epochState = "left"
)

type recordKey struct {
	epoch protocol.Epoch
	seq   uint64
}

type nonceKey struct {
	cabinet protocol.CabinetID
	nonce   protocol.Nonce
}

// New makes empty books.
func New(o Options) *Store {
	s := &Store{o: o, rows: rows{
		books:    swap.NewBooks(),
		closed:   map[protocol.SwapID]*swap.Swap{},
		days:     map[swap.DayKey]int{},
		cabinets: map[protocol.CabinetID]*cabinet{},
		scans:    map[scanKey]scanned{},
		nonces:   map[nonceKey]protocol.SwapID{},
		orders:   map[protocol.OrderID]*swap.Order{},
	}}
	s.rows.challenge = s.draw()
	return s
}

// fetch puts closed swaps back among the rows that a transaction sees.
func (s *Store) fetch(ids ...protocol.SwapID) {
	for _, id := range ids {
		if x := s.rows.closed[id]; x != nil {
			s.rows.books.Swaps[id] = x
			delete(s.rows.closed, id)
		}
	}
}

// commit keeps what a transaction has changed.
func (s *Store) commit() {
	ch := s.rows.books.Changes()
	s.rows.ledger = append(s.rows.ledger, ch.Entries...)
	s.rows.reviews = append(s.rows.reviews, ch.Reviews...)
	s.follow(ch.Maintenance)
	for _, d := range ch.Days {
		s.rows.days[d.DayKey] += d.Swaps
	}
	for id, x := range s.rows.books.Swaps {
		if !x.Open() {
			s.rows.closed[id] = x
			delete(s.rows.books.Swaps, id)
		}
	}
}

// Backup is a copy of everything.
type Backup struct{ rows rows }

// Backup copies the books as they are.
func (s *Store) Backup() *Backup { return &Backup{s.rows.clone()} }

// Restore makes the books what they were at a backup.
func (s *Store) Restore(b *Backup) { s.rows = b.rows.clone() }

func (r rows) clone() rows {
	c := r
	c.books = swap.NewBooks()
	for id, x := range r.books.Cabinets {
		y := *x
		y.Hashes = maps.Clone(x.Hashes)
		c.books.Cabinets[id] = &y
	}
	c.books.Swaps, c.closed = cloneSwaps(r.books.Swaps), cloneSwaps(r.closed)
	c.books.Riders, c.books.Credits = cloneRows(r.books.Riders), cloneRows(r.books.Credits)
	for _, x := range cloneRows(r.books.Batteries) {
		x.AheadOf = slices.Clone(x.AheadOf)
		c.books.AddBattery(x)
	}
	c.ledger, c.reviews = slices.Clone(r.ledger), slices.Clone(r.reviews)
	c.days, c.scans, c.nonces = maps.Clone(r.days), maps.Clone(r.scans), maps.Clone(r.nonces)
	c.cabinets, c.orders = cloneRows(r.cabinets), cloneRows(r.orders)
	for _, x := range c.cabinets {
		x.epochs, x.hashes = maps.Clone(x.epochs), maps.Clone(x.hashes)
	}
	return c
}

func cloneRows[K comparable, V any](m map[K]*V) map[K]*V {
	out := make(map[K]*V, len(m))
	for k, x := range m {
		y := *x
		out[k] = &y
	}
	return out
}

func cloneSwaps(m map[protocol.SwapID]*swap.Swap) map[protocol.SwapID]*swap.Swap {
	out := cloneRows(m)
	for _, x := range out {
		x.Pulsed = slices.Clone(x.Pulsed)
	}
	return out
}

// Enrol makes a cabinet known.
func (s *Store) Enrol(now time.Time, id protocol.CabinetID, slots int) error {
	if s.rows.cabinets[id] != nil {
		return fmt.Errorf("cabinet_id %s: enrolled already", id)
	}
	s.rows.cabinets[id] = &cabinet{epochs: map[protocol.Epoch]epochState{}, hashes: map[recordKey]protocol.Hash{}}
	s.rows.books.Cabinets[id] = &swap.Cabinet{CabinetID: id, Slots: slots, EnrolledAt: now}
	return nil
}

// Configure sets what staff set of a cabinet; its version rises.
func (s *Store) Configure(id protocol.CabinetID, c protocol.CabinetConfig) {
	if x := s.rows.cabinets[id]; x != nil {
		c.Version = x.config.Version + 1
		x.config = c
		s.rows.books.Cabinets[id].OutOfService = c.OutOfService
	}
}

// AddRider adds an active rider.
func (s *Store) AddRider(id swap.RiderID) {
	s.rows.books.Riders[id] = &swap.Rider{RiderID: id, Active: true}
}

// Assign registers a battery, if it is new, and books where staff say it is.
func (s *Store) Assign(now time.Time, serial protocol.BatterySerial, to swap.Place) error {
	s.rows.books.Import(s.o.NewID(), 1, serial, "", swap.Now(now))
	err := s.rows.books.Assign(s.o.NewID(), serial, to, swap.Now(now))
	s.commit()
	return err
}

// StaffCredit gives a rider a first battery to come.
func (s *Store) StaffCredit(now time.Time, rider swap.RiderID) error {
	err := s.rows.books.StaffCredit(s.o.NewID(), rider, swap.Now(now))
	s.commit()
	return err
}

// Heard notes a sign of life and what telemetry shows of the slots.
func (s *Store) Heard(now time.Time, id protocol.CabinetID, inv protocol.Inventory) {
	c := s.rows.books.Cabinets[id]
	if c == nil {
		return
	}
	c.HeardAt = now
	s.rows.cabinets[id].inventory = inv
}

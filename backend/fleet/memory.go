package fleet

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"batteryswap/backend/internal/link"
	"batteryswap/backend/internal/memory"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Books are all rows of a Memory, for who checks them.
type Books = memory.View

// Cabinet is how far a cabinet has been heard.
type Cabinet = swap.Cabinet

// Review is a question to a person.
type Review = swap.Review

// Entry is a line of the ledger.
type Entry = swap.Entry

// Credit is a battery that the fleet owes a rider.
type Credit = swap.Credit

// Battery is a battery's row: one custody.
type Battery = swap.Battery

// Swap is a swap's row.
type Swap = swap.Swap

// RiderID names a rider.
type RiderID = swap.RiderID

// Scan is one presentation of a cabinet's code.
type Scan = swap.Scan

// Refusal is why a scan became no swap.
type Refusal = swap.Refusal

// Place is where staff say that a battery is.
type Place = swap.Place

// Backup is a copy of the books.
type Backup = memory.Backup

// What rows say of a battery, a credit and an entry.
const (
	WithRider  = swap.WithRider
	InSlot     = swap.InSlot
	WithStaff  = swap.WithStaff
	UnderCheck = swap.UnderCheck

	CreditOpen     = swap.CreditOpen
	CreditReserved = swap.CreditReserved
	CreditSpent    = swap.CreditSpent
	CreditSettled  = swap.CreditSettled

	EntryTaken     = swap.Taken
	EntryDeposited = swap.Deposited
	EntryReturned  = swap.Returned
	EntryRemoved   = swap.Removed
	EntryAdded     = swap.Added

	StateClosed = swap.StateClosed
)

// Signing makes the keys of a simulation, and verifies what they signed.
type Signing struct {
	// NewKey makes a key whose public half has the size of Ed25519's.
	NewKey func(seed [ed25519.SeedSize]byte) crypto.Signer
	Verify protocol.Verify
}

// Ed25519 is the signing of production.
func Ed25519() Signing {
	return Signing{
		NewKey: func(seed [ed25519.SeedSize]byte) crypto.Signer { return ed25519.NewKeyFromSeed(seed[:]) },
		Verify: ed25519.Verify,
	}
}

// Memory is a backend without database, broker, clock and goroutines: the same
// verification, decisions and fold as in production. One goroutine drives it.
type Memory struct {
	keys  Keys
	by    Signing
	ring  *link.Ring
	names map[protocol.CabinetID][]ed25519.PublicKey
	store *memory.Store
	send  func(topic string, payload []byte)
	now   time.Time
	asked time.Time // when cabinets were asked for hellos
	ids   uint64
}

// NewMemory makes a backend with empty books. Its keys are made of seed, and sign
// as by says; what it says to cabinets goes to send, which may lose it.
func NewMemory(seed uint64, by Signing, send func(topic string, payload []byte)) (*Memory, error) {
	m := &Memory{by: by, ring: &link.Ring{}, names: map[protocol.CabinetID][]ed25519.PublicKey{}, send: send}
	rootSeed := seedOf(seed, "root")
	root := ed25519.NewKeyFromSeed(rootSeed[:])
	grant, service := by.NewKey(seedOf(seed, "grant")), by.NewKey(seedOf(seed, "service"))
	m.keys.Root = root.Public().(ed25519.PublicKey)
	m.keys.List = protocol.KeyList{Version: 1, Keys: []protocol.Key{
		{KeyID: "g1", Use: protocol.UseGrant, PublicKey: grant.Public().(ed25519.PublicKey)},
		{KeyID: "s1", Use: protocol.UseService, PublicKey: service.Public().(ed25519.PublicKey)},
	}}
	signed, err := protocol.SealKeyList(root, m.keys.List)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	m.keys.Signed, m.keys.riderRef = string(signed), root.Seed()
	m.keys.signing = link.Keys{GrantID: "g1", Grant: grant, ServiceID: "s1", Service: service}
	m.store = memory.New(memory.Options{RiderRef: m.keys.RiderRef, OpenGrant: m.openGrant, NewID: m.newID})
	return m, nil
}

func seedOf(seed uint64, name string) [ed25519.SeedSize]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte(name), seed))
}

func (m *Memory) openGrant(cabinet protocol.CabinetID, envelope string) (protocol.Grant, error) {
	return m.keys.openGrant(cabinet, envelope, m.by.Verify)
}

// newID is a UUIDv7 of the time that was told last and a counter.
func (m *Memory) newID() protocol.SwapID {
	m.ids++
	ms := uint64(m.now.UnixMilli())
	return protocol.SwapID(fmt.Sprintf("%08x-%04x-7%03x-8000-%012x", ms>>16&0xffffffff, ms&0xffff, m.ids>>48, m.ids&(1<<48-1)))
}

// Keys are those that agents trust.
func (m *Memory) Keys() Keys { return m.keys }

// Store is the books, for staff acts and checks.
func (m *Memory) Store(now time.Time) *memory.Store {
	m.now = now
	return m.store
}

// Enrol makes a cabinet known with its device key.
func (m *Memory) Enrol(now time.Time, id protocol.CabinetID, slots int, device ed25519.PublicKey) error {
	m.names[id] = append(m.names[id], device)
	m.ring.Replace(m.names)
	return m.Store(now).Enrol(now, id, slots)
}

// Receive takes a message of a cabinet as the broker hands it over. An error is
// why it, or a part of it, was not taken.
func (m *Memory) Receive(now time.Time, topic string, payload []byte) error {
	m.now = now
	id, channel, err := protocol.ParseTopic(topic)
	if err != nil {
		return err
	}
	e, err := protocol.OpenBy(payload, m.ring.Lookup, m.by.Verify)
	if err != nil {
		return err
	}
	if e.CabinetID != id {
		return fmt.Errorf("topic of %s: the envelope names %s", id, e.CabinetID)
	}
	var why error
	known, err := m.handlers(&why).Dispatch(context.Background(), channel, e)
	if err == nil && !known {
		err = fmt.Errorf("%s: not a message of this channel", e.Type)
	}
	if err == nil {
		err = why
	}
	return err
}

func (m *Memory) handlers(why *error) link.Handlers {
	return link.Handlers{
		Log: func(e protocol.Envelope, l protocol.Log) {
			answer, err := m.store.Ingest(m.now, e.CabinetID, l)
			*why = err
			if answer != nil {
				m.publish(e.CabinetID, answer)
			}
		},
		Hello: func(_ context.Context, id protocol.CabinetID, h protocol.Hello) {
			answer, err := m.store.Hello(m.now, id, h)
			if *why = err; err == nil {
				if h.KeysVersion < m.keys.List.Version {
					answer.Keys = m.keys.Signed
				}
				m.publish(id, answer)
			}
		},
		Prepared: func(_ context.Context, id protocol.CabinetID, p protocol.Prepared) {
			g, err := m.store.Prepared(m.now, id, p)
			if *why = err; g != nil {
				m.publish(id, *g)
			}
		},
		Refused: func(_ context.Context, id protocol.CabinetID, r protocol.Refused) { m.store.Refused(m.now, id, r) },
		Maintenance: func(_ context.Context, id protocol.CabinetID, a protocol.MaintenanceAnswer) {
			g, err := m.store.MaintenanceAnswered(m.now, id, a)
			if *why = err; g != nil {
				m.publish(id, *g)
			}
		},
		Inventory: func(context.Context, protocol.CabinetID, protocol.InventoryReport) {
		},
		Telemetry: func(id protocol.CabinetID, t protocol.Telemetry) { m.store.Heard(m.now, id, t.Slots) },
		Will:      func(protocol.CabinetID, protocol.Will) {},
	}
}

func (m *Memory) publish(id protocol.CabinetID, msg protocol.Message) {
	raw, err := m.keys.signing.Seal(id, msg)
	if err != nil {
		return // what cannot be encoded is not sent; production counts it
	}
	m.send(protocol.Topic(id, protocol.Down), raw)
}

// Scan is a rider's scan. The refusal says why it became no swap.
func (m *Memory) Scan(now time.Time, s Scan) (protocol.SwapID, *Refusal) {
	m.now = now
	id, prepare, no := m.store.Request(now, s)
	if prepare != nil {
		m.publish(s.CabinetID, *prepare)
	}
	return id, no
}

// OrderMaintenance is an order of staff to a cabinet.
func (m *Memory) OrderMaintenance(now time.Time, id protocol.CabinetID, what protocol.Order, slot int) error {
	m.now = now
	ask, err := m.store.OrderMaintenance(now, id, what, slot)
	if err == nil {
		m.publish(id, ask)
	}
	return err
}

// Expire closes requests that no cabinet answered, and withdraws them. In a
// recovery it asks for hellos too.
func (m *Memory) Expire(now time.Time) {
	m.now = now
	for _, e := range m.store.Expire(now) {
		m.publish(e.CabinetID, protocol.Cancel{SwapID: e.SwapID})
	}
	if ids, ask := m.store.ToAsk(); len(ids) > 0 && now.Sub(m.asked) >= askEvery {
		m.asked = now
		for _, id := range ids {
			m.publish(id, ask)
		}
	}
}

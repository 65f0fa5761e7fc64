package memory

import (
	"fmt"
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// OrderMaintenance writes an order down, and gives what the cabinet is asked.
func (s *Store) OrderMaintenance(now time.Time, id protocol.CabinetID, what protocol.Order, slot int) (protocol.MaintenanceRequest, error) {
	m := protocol.MaintenanceRequest{OrderID: protocol.OrderID(s.o.NewID()), What: what, Slot: slot}
	if err := m.Validate(); err != nil {
		return m, err
	}
	if s.rows.books.Cabinets[id] == nil {
		return m, fmt.Errorf("order to %s: %w", id, ErrNotFound)
	}
	s.rows.orders[m.OrderID] = &swap.Order{OrderID: m.OrderID, CabinetID: id, What: what, Slot: slot, State: swap.OrderRequested, RequestedAt: now}
	return m, nil
}

// MaintenanceAnswered takes a cabinet's answer to an order. A nil grant comes with
// the reason.
func (s *Store) MaintenanceAnswered(now time.Time, id protocol.CabinetID, m protocol.MaintenanceAnswer) (*protocol.MaintenanceGrant, error) {
	c, o := s.rows.books.Cabinets[id], s.rows.orders[m.OrderID]
	if c == nil || o == nil {
		return nil, fmt.Errorf("order_id %s: not an order to this cabinet", m.OrderID)
	}
	return o.Answer(c, m, now)
}

// follow notes which orders cabinets have carried out.
func (s *Store) follow(events []swap.MaintenanceEvent) {
	for _, e := range events {
		if o := s.rows.orders[e.OrderID]; o != nil && o.CabinetID == e.CabinetID {
			o.State, o.Reason = swap.OrderDone, ""
		}
	}
}

package protocol

import (
	"errors"
	"fmt"
)

// OrderID is a UUIDv7 that the backend made for an order to a cabinet under
// maintenance; "" is none.
type OrderID string

// Validate says what is wrong with the identifier, or nil.
func (o OrderID) Validate() error { return validateUUIDv7("order_id", string(o)) }

// Order is what staff have a cabinet do under maintenance.
type Order string

// The orders.
const (
	OrderBegin Order = "begin" // no swaps from now on; needs the key switch
	OrderOpen  Order = "open"  // unlock one slot, once
	OrderEnd   Order = "end"   // as soon as all doors are closed
)

// Valid reports whether o is one of the orders.
func (o Order) Valid() bool { return o == OrderBegin || o == OrderOpen || o == OrderEnd }

// MaintenanceRequest asks an agent for the nonce that a maintenance_grant needs.
type MaintenanceRequest struct {
	OrderID OrderID `json:"order_id"`
	What    Order   `json:"what"`
	Slot    int     `json:"slot,omitempty"` // of open, else 0
}

// MaintenanceAnswer answers maintenance_request with a nonce, or either message
// with why the order is not carried out. Epoch and BootSeq say, as in prepared, in
// which log its records will come.
type MaintenanceAnswer struct {
	OrderID OrderID `json:"order_id"`
	Epoch   Epoch   `json:"epoch,omitzero"`
	BootSeq uint32  `json:"boot_seq,omitempty"`
	BootID  BootID  `json:"boot_id"`
	Nonce   Nonce   `json:"nonce,omitzero"`
	Reason  Reason  `json:"reason,omitempty"`
}

// MaintenanceGrant is the signed permission to carry out one order, once, in this
// boot. Beside Grant it is the only message that leads to a pulse, and only while
// the key switch in the cabinet is turned.
type MaintenanceGrant struct {
	OrderID OrderID `json:"order_id"`
	What    Order   `json:"what"`
	Slot    int     `json:"slot,omitempty"`
	Nonce   Nonce   `json:"nonce"`
	BootID  BootID  `json:"boot_id"`
}

// MessageType names the message.
func (MaintenanceRequest) MessageType() Type { return TypeMaintenanceRequest }
func (MaintenanceAnswer) MessageType() Type  { return TypeMaintenanceAnswer }
func (MaintenanceGrant) MessageType() Type   { return TypeMaintenanceGrant }

// Validate says what is wrong with the message, or nil.
func (m MaintenanceRequest) Validate() error { return validateOrder(m.OrderID, m.What, m.Slot) }

// Validate says what is wrong with the message, or nil.
func (m MaintenanceAnswer) Validate() error {
	switch {
	case m.BootID.IsZero():
		return errZeroBootID
	case m.Reason != "" && !m.Reason.Valid():
		return fmt.Errorf("reason %.40q: not on the closed list", m.Reason)
	case m.Nonce.IsZero() && m.Reason == "":
		return errors.New("nonce or reason: want one of them")
	case m.Reason == "" && m.Epoch.IsZero():
		return errZeroEpoch
	case m.Reason == "" && m.BootSeq == 0:
		return errors.New("boot_seq: want 1 or more")
	}
	return m.OrderID.Validate()
}

// Validate says what is wrong with the message, or nil.
func (m MaintenanceGrant) Validate() error {
	switch {
	case m.Nonce.IsZero():
		return errZeroNonce
	case m.BootID.IsZero():
		return errZeroBootID
	}
	return validateOrder(m.OrderID, m.What, m.Slot)
}

func validateOrder(id OrderID, what Order, slot int) error {
	switch {
	case !what.Valid():
		return fmt.Errorf("what %.20q: want begin, open or end", what)
	case what == OrderOpen && (slot < 1 || slot > MaxSlots):
		return fmt.Errorf("slot is %d: want 1 to %d", slot, MaxSlots)
	case what != OrderOpen && slot != 0:
		return fmt.Errorf("slot is %d: want none for %s", slot, what)
	}
	return id.Validate()
}

// Maintenance says that maintenance began, that a slot is opened for it, or that
// it is over.
type Maintenance struct {
	// MaintenanceID is the order that began it.
	MaintenanceID OrderID `json:"maintenance_id"`
	// OrderID is the order that this carries out; "" where it ended by itself.
	OrderID OrderID `json:"order_id,omitempty"`
	What    Order   `json:"what"`
	Slot    int     `json:"slot,omitempty"` // of open
	// Grant is the envelope that ordered it, verbatim; "" where it ended by itself.
	Grant string `json:"grant,omitempty"`
	// Reason is why it ended by itself.
	Reason Reason `json:"reason,omitempty"`
	// Inventory is the whole cabinet, at begin and at end.
	Inventory Inventory `json:"inventory,omitempty"`
	// Changes, at end, are the slots whose battery is another one than at begin.
	Changes []Change `json:"changes,omitempty"`
}

// Change is what maintenance did to a slot. Only what was read at both ends is a
// change.
type Change struct {
	Slot    int           `json:"slot"`
	Removed BatterySerial `json:"removed,omitempty"` // was in when it began
	Added   BatterySerial `json:"added,omitempty"`   // is in
	// Forced: no order had this slot opened. By whom it was, the cabinet cannot know.
	Forced bool `json:"forced,omitempty"`
}

// RecordType names the record.
func (Maintenance) RecordType() RecordType { return RecordMaintenance }

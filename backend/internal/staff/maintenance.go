package staff

import (
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// MaintenanceWindow is for how long after its begin maintenance opens doors: the
// cabinet's own limit, for to show it.
const MaintenanceWindow = 15 * time.Minute

// OrderAnswers is how long a cabinet that is connected takes to answer an order,
// at most; what it was asked then is of no use any more.
const OrderAnswers = 10 * time.Second

// Order is what staff have a cabinet do under maintenance.
type Order struct {
	OrderID protocol.OrderID `json:"order_id"`
	What    protocol.Order   `json:"what" enum:"begin,open,end"`
	Slot    int              `json:"slot,omitempty"`
	By      string           `json:"by"`
	At      time.Time        `json:"at"`
	State   swap.OrderState  `json:"state" enum:"requested,granted,done,refused" doc:"requested: the cabinet has not answered; granted: it may, and has not told that it did"`
	Reason  protocol.Reason  `json:"reason,omitempty" doc:"Why the cabinet refused"`
	DoneAt  *time.Time       `json:"done_at,omitempty"`
}

// Unanswered reports whether the cabinet has not answered in time: it will not be
// granted the order.
func (o Order) Unanswered(now time.Time) bool {
	return o.State == swap.OrderRequested && now.Sub(o.At) >= OrderAnswers
}

// Visit is the maintenance that is under way at a cabinet.
type Visit struct {
	MaintenanceID protocol.OrderID `json:"maintenance_id"`
	By            string           `json:"by"`
	BeganAt       time.Time        `json:"began_at"`
	Until         time.Time        `json:"until" doc:"No door is opened later; it ends when every door is closed"`
}

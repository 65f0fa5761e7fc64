package web

import (
	"time"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// swapBody is a swap as the API gives it.
type swapBody struct {
	SwapID    protocol.SwapID        `json:"swap_id" format:"uuid"`
	CabinetID protocol.CabinetID     `json:"cabinet_id"`
	Kind      protocol.Kind          `json:"kind" enum:"swap,owed,issue,hand_back"`
	State     swap.State             `json:"state" enum:"requested,granted,active,closed"`
	Step      swap.Step              `json:"step" doc:"What the rider is to do now" enum:"requested,granted,deposit,reopen,verify,dispense,return,closed"`
	Slot      int                    `json:"slot,omitempty" doc:"The door that step speaks of"`
	Door      protocol.Door          `json:"door,omitempty" doc:"Of slot, as last reported: open or shut"`
	Outcome   protocol.Outcome       `json:"outcome,omitempty" doc:"How a closed swap ended"`
	Reason    protocol.Reason        `json:"reason,omitempty" doc:"Why, where the outcome alone does not say"`
	Deposited protocol.BatterySerial `json:"deposited,omitempty"`
	Soc       *int                   `json:"soc,omitempty" doc:"Of the deposited battery, in percent"`
	Taken     protocol.BatterySerial `json:"taken,omitempty"`
	Seq       uint64                 `json:"seq" doc:"Rises with every change; the id of the events"`
	StartedAt time.Time              `json:"started_at"`
	UpdatedAt time.Time              `json:"updated_at"`
	Reachable bool                   `json:"reachable" doc:"False: nothing is heard of the cabinet; an open swap is unknown, not failed"`
}

func swapJSON(v swap.View) swapBody {
	return swapBody{
		SwapID: v.SwapID, CabinetID: v.CabinetID, Kind: v.Kind, State: v.State, Step: v.Step, Slot: v.Slot,
		Door: v.Door, Outcome: v.Outcome, Reason: v.Reason, Deposited: v.Deposited, Soc: v.Soc, Taken: v.Taken,
		Seq: v.Seq, StartedAt: v.StartedAt.UTC(), UpdatedAt: v.UpdatedAt.UTC(), Reachable: v.Reachable,
	}
}

// cabinetBody is a cabinet as anybody may see it.
type cabinetBody struct {
	CabinetID    protocol.CabinetID `json:"cabinet_id"`
	Station      string             `json:"station"`
	Street       string             `json:"street"`
	Reachable    bool               `json:"reachable"`
	LastSeen     *time.Time         `json:"last_seen,omitempty"`
	OutOfService protocol.Reason    `json:"out_of_service,omitempty"`
	Slots        int                `json:"slots"`
	Charged      int                `json:"charged" doc:"Batteries to take"`
	Empty        int                `json:"empty" doc:"Slots to put one in"`
	SwapOpen     bool               `json:"swap_open" doc:"Somebody swaps here now"`
	Inventory    []slotBody         `json:"inventory,omitempty" doc:"Of one cabinet only"`
}

// slotBody is a slot as anybody may see it: no serial.
type slotBody struct {
	Slot     int               `json:"slot"`
	Door     protocol.Door     `json:"door,omitempty"`
	Presence protocol.Presence `json:"presence,omitempty" doc:"empty or holds_battery; absent: unknown"`
	Soc      *int              `json:"soc,omitempty"`
	Charging bool              `json:"charging,omitempty"`
	Charged  bool              `json:"charged,omitempty"`
	Out      bool              `json:"out,omitempty" doc:"Takes no part in swaps"`
	AgeMS    *int64            `json:"age_ms,omitempty" doc:"Of door and presence when the cabinet reported them"`
}

func cabinetJSON(c swap.CabinetView) cabinetBody {
	b := cabinetBody{
		CabinetID: c.CabinetID, Station: c.Station, Street: c.Street, Reachable: c.Reachable,
		OutOfService: c.OutOfService, Slots: c.Slots, Charged: c.Charged, Empty: c.Empty, SwapOpen: c.SwapOpen,
	}
	if !c.LastSeen.IsZero() {
		seen := c.LastSeen.UTC()
		b.LastSeen = &seen
	}
	return b
}

func cabinetDetailJSON(c swap.CabinetView) cabinetBody {
	b := cabinetJSON(c)
	for _, s := range c.Inventory {
		b.Inventory = append(b.Inventory, slotBody{
			Slot: s.Slot, Door: s.Door, Presence: s.Presence, Soc: s.Soc, Charging: s.Charging,
			Charged: s.Charged, Out: s.Out, AgeMS: s.AgeMS,
		})
	}
	return b
}

// riderBody is a rider's own account.
type riderBody struct {
	RiderID        swap.RiderID             `json:"rider_id" format:"uuid"`
	SwapsThisMonth int                      `json:"swaps_this_month" doc:"Counted swaps of this Asia/Shanghai month"`
	SwapsTotal     int                      `json:"swaps_total"`
	OpenCredits    int                      `json:"open_credits" doc:"Batteries that the fleet owes"`
	Batteries      []protocol.BatterySerial `json:"batteries" doc:"In this rider's custody"`
	OpenSwap       protocol.SwapID          `json:"open_swap,omitempty"`
	Active         bool                     `json:"active" doc:"A member today: swaps may begin"`
	MemberFrom     swap.Day                 `json:"member_from,omitempty" format:"date" doc:"First day of the membership; absent: no bound"`
	MemberTo       swap.Day                 `json:"member_to,omitempty" format:"date" doc:"Last day"`
}

func riderJSON(r swap.RiderView) riderBody {
	b := riderBody{
		RiderID: r.RiderID, SwapsThisMonth: r.SwapsThisMonth, SwapsTotal: r.SwapsTotal,
		OpenCredits: r.OpenCredits, Batteries: r.Batteries, OpenSwap: r.OpenSwap,
		Active: !r.Inactive, MemberFrom: r.MemberFrom, MemberTo: r.MemberTo,
	}
	if b.Batteries == nil {
		b.Batteries = []protocol.BatterySerial{}
	}
	return b
}

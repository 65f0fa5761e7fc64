package swap

import (
	"time"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// Effect is something to do that moves no lock: Append, Reply, Hurry, Rejected,
// Prompt. They are done in order; when an Append fails, nothing after it is done.
type Effect interface{ effect() }

// Append writes records to the journal, in one lot, and syncs them.
type Append struct{ Payloads []protocol.Payload }

// Reply sends a message to the backend. It may be lost: the protocol asks again.
type Reply struct{ Message protocol.Message }

// Hurry asks for readings of these slots before all others.
type Hurry struct{ Slots []int }

// Rejected says that a command was refused; it is counted, and journalled at
// most once a minute for each Why.
type Rejected struct {
	Type protocol.Type
	Why  string
}

// Prompt says that a door waits for a hand.
type Prompt struct {
	Slot    int
	Purpose protocol.Purpose
}

func (Append) effect()   {}
func (Reply) effect()    {}
func (Hurry) effect()    {}
func (Rejected) effect() {}
func (Prompt) effect()   {}

// Pulse unlocks a slot once. It is not an Effect: only a Plan has one.
type Pulse struct {
	Slot    int
	Purpose protocol.Purpose
}

// Plan is what a step of the Machine wants done: the effects in order, and after
// all of them the pulse, if there is one. Its outcome comes back as Answered.
type Plan struct {
	Effects []Effect
	Pulse   *Pulse
}

// Input is what a step sees. Steps come with every event, and with or without
// one several times a second.
type Input struct {
	// Now is the agent's monotonic clock.
	Now time.Duration
	// Slots are the views of all slots, in the order of their numbers.
	Slots []slot.View
	// Refuse, when not "", is why no new swap may begin.
	Refuse protocol.Reason
	// Halt: a safety alarm is latched; no lock is pulsed for anybody.
	Halt bool
	// Key: the key switch in the cabinet is turned. Unknown is not turned.
	Key slot.Tri
	// Safety is what the safety loop says; nil: it says nothing.
	Safety *Safety
	// Event is what happened; nil is that time passed or a reading came.
	Event Event
}

func (in Input) view(n int) slot.View {
	for _, v := range in.Slots {
		if v.Slot == n {
			return v
		}
	}
	return slot.View{Slot: n}
}

// Event is one of Prepare, Grant, Cancel, Wish, MaintenanceRequest,
// MaintenanceGrant, Answered and Configure.
type Event interface{ event() }

// Prepare is a verified prepare, with what the machine needs to answer it.
type Prepare struct {
	protocol.Prepare
	// Random becomes the nonce if one is minted.
	Random protocol.Nonce
	// Present says that the rider has proved to stand at the cabinet.
	Present bool
}

// Grant is a verified grant with the envelope that it came in.
type Grant struct {
	protocol.Grant
	Raw []byte
}

// Cancel is a verified cancel.
type Cancel struct{ protocol.Cancel }

// Wish is a verified wish.
type Wish struct{ protocol.Wish }

// Answered says that the board has answered a pulse, or that nothing more will
// be heard of it. Neither proves that a door moved.
type Answered struct{ Slot int }

// Configure brings a configuration and the version of the key list in use.
type Configure struct {
	Config      protocol.CabinetConfig
	KeysVersion int64
}

func (Prepare) event()   {}
func (Grant) event()     {}
func (Cancel) event()    {}
func (Wish) event()      {}
func (Answered) event()  {}
func (Configure) event() {}

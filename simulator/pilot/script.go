package pilot

import (
	"time"

	"batteryswap/protocol"
)

// How long hands take.
const (
	handTime   = 12 * time.Second // from an open door to a closed one
	lockTime   = time.Second      // from an intent to an open door
	flatSoc    = 31
	darkTime   = 20 * time.Minute // of a blackout
	afterwards = 3 * time.Minute  // until a rider collects what is owed
)

// script writes the records of one swap while the rider's hands do it.
type script struct {
	*cabinet
	rider int
	granted
	err error
}

func (s *script) then(after time.Duration, p protocol.Payload) {
	if s.err == nil {
		s.now = s.now.Add(after)
		s.err = s.write(p)
	}
}

// open opens a slot's door.
func (s *script) open(slot int, purpose protocol.Purpose, serial protocol.BatterySerial) {
	s.then(0, protocol.Intent{SwapID: s.SwapID, Slot: slot, Purpose: purpose, Pulse: 1, BatterySerial: serial})
	s.then(lockTime, protocol.DoorMoved{SwapID: s.SwapID, Slot: slot, Purpose: purpose, Door: protocol.DoorOpen})
}

// shut lets the rider close it.
func (s *script) shut(slot int, purpose protocol.Purpose) {
	s.then(handTime, protocol.DoorMoved{SwapID: s.SwapID, Slot: slot, Purpose: purpose, Door: protocol.DoorShut})
}

func (s *script) accept() {
	s.then(0, protocol.Accept{SwapID: s.SwapID, Kind: s.Kind, Nonce: s.Nonce, BootID: s.BootID, Grant: s.raw})
}

func (s *script) close(c protocol.Closed) {
	c.SwapID, c.Kind = s.SwapID, s.Kind
	s.then(0, c)
}

// deposit puts the rider's battery in.
func (s *script) deposit() (slot int, serial protocol.BatterySerial) {
	slot = s.DepositSlots[0]
	s.open(slot, protocol.PurposeDeposit, "")
	if s.err == nil {
		serial, s.err = s.facts.put(s.rider, s.id, slot, s.now)
	}
	s.shut(slot, protocol.PurposeDeposit)
	soc := flatSoc
	s.then(0, protocol.Deposit{SwapID: s.SwapID, Slot: slot, Battery: protocol.Battery{BatterySerial: serial, Soc: &soc}, Accepted: true})
	return slot, serial
}

// take lets the rider take a charged battery out.
func (s *script) take() (slot int, serial protocol.BatterySerial) {
	offer := s.Dispense[0]
	s.open(offer.Slot, protocol.PurposeDispense, offer.BatterySerial)
	if s.err == nil {
		serial, s.err = s.facts.take(s.rider, s.id, offer.Slot, s.now.Add(handTime))
	}
	s.shut(offer.Slot, protocol.PurposeDispense)
	s.then(0, protocol.Taken{SwapID: s.SwapID, Slot: offer.Slot, BatterySerial: serial})
	return offer.Slot, serial
}

// swapped is a swap that goes well.
func (s *script) swapped() {
	s.accept()
	c := protocol.Closed{Outcome: protocol.OutcomeSwapped}
	c.DepositSlot, c.Deposited = s.deposit()
	c.TakeSlot, c.Taken = s.take()
	s.close(c)
}

// nothing is a door that is closed with nothing put in.
func (s *script) nothing() {
	s.accept()
	s.open(s.DepositSlots[0], protocol.PurposeDeposit, "")
	s.shut(s.DepositSlots[0], protocol.PurposeDeposit)
	s.close(protocol.Closed{Outcome: protocol.OutcomeNoDeposit})
}

// left is a charged battery that is not taken.
func (s *script) left() {
	s.accept()
	c := protocol.Closed{Outcome: protocol.OutcomeDepositedOwed}
	c.DepositSlot, c.Deposited = s.deposit()
	s.open(s.Dispense[0].Slot, protocol.PurposeDispense, s.Dispense[0].BatterySerial)
	s.shut(s.Dispense[0].Slot, protocol.PurposeDispense)
	s.close(c)
}

// collected is a battery that was owed.
func (s *script) collected() {
	s.accept()
	c := protocol.Closed{Outcome: protocol.OutcomeOwedTaken}
	c.TakeSlot, c.Taken = s.take()
	s.close(c)
}

// cut is a power cut after the deposit. The next boot has neither network nor
// clock; it closes the swap as its sensors say, and knows the time later.
func (s *script) cut() {
	s.accept()
	c := protocol.Closed{Outcome: protocol.OutcomeDepositedOwed, Reason: protocol.ReasonPowerCut}
	c.DepositSlot, c.Deposited = s.deposit()
	if s.err == nil {
		s.err = s.start(s.now.Add(darkTime), protocol.ClockUnsynchronised)
	}
	s.close(c)
	s.now = s.now.Add(darkTime)
	s.clock = protocol.ClockSynchronised
	s.then(0, protocol.TimeStep{WallMS: s.now.UnixMilli(), Clock: protocol.ClockSynchronised})
}

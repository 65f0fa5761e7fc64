package slotboard

import "fmt"

// Slot is everything that a slot's input registers say.
type Slot struct {
	Fast     Fast
	Identity Identity
	Cells    [CellCount]Value // mV
	NTC      [NTCCount]Value  // 0.1 °C
	Limits   ChargerLimits
	Firmware string // ≤ 8 ASCII characters
	Hardware string // ≤ 8 ASCII characters
	Counters Counters
	Board    Board
}

// Fast is the fast poll: the first 16 input registers of a slot.
type Fast struct {
	Status      Status
	Faults      Fault
	SocPermille Value // 0.1 %
	VoltageMV   Value
	CurrentMA   Value // positive: charging
	CellMax     Value // 0.1 °C
	CellMin     Value // 0.1 °C
	Air         Value // 0.1 °C
	Charger     ChargerState
	ChargerMV   Value // 100 mV steps
	ChargerMA   Value // 10 mA steps
	Lock        Lock
	// Alive counts the seconds since the board's reset and wraps.
	Alive uint16
}

// Lock is the board's account of the last lock command that it executed.
type Lock struct {
	Seq    uint8 // 0: none since the reset
	Result LockResult
}

// Identity is the battery's own account of itself.
type Identity struct {
	// Epoch counts changes of presence or of the serial, and wraps.
	Epoch uint16
	// Serial is the battery's code, "" when unknown.
	Serial       string
	Protocol     Value // 1 JBD, 2 JK, 3 Daly, 4 SM7E, 5 one-line
	Software     Value
	Hardware     Value
	Chemistry    Value // 1 LFP, 2 NCM, 3 LMO, 4 sodium
	Cycles       Value
	NominalMAh   Value // 10 mAh steps
	RemainingMAh Value // 10 mAh steps
	Made         Date
	CellCount    Value
	NTCCount     Value
}

// Date is a day, as a battery tells when it was made. The zero value is unknown.
type Date struct {
	Year, Month, Day int
}

// ChargerLimits is what the slot's charger can do at most.
type ChargerLimits struct {
	MV       Value // 100 mV steps
	MA       Value // 10 mA steps
	RawError uint16
}

// Counters counts what went wrong on the board's own ports since its reset.
type Counters struct {
	CRCErrors, BatteryErrors, ChargerErrors uint16
}

// Board is the board's account of itself.
type Board struct {
	Resets  uint16
	UptimeS uint32
	// Fitted has the bits of Status that the board can sense at all. A bit that
	// is not fitted is unknown, never "no".
	Fitted  Status
	Version uint16
}

// Registers gives the slot's image: input registers 0000 to SlotInputs-1. A
// value that does not fit its register is unknown in it.
func (s Slot) Registers() [SlotInputs]uint16 {
	var image [SlotInputs]uint16
	fast := s.Fast.registers()
	copy(image[RegStatus:], fast[:])
	s.Identity.put(image[:])
	for i, v := range s.Cells {
		image[int(RegCells)+i] = unsigned16(v, 1)
	}
	for i, v := range s.NTC {
		image[int(RegNTC)+i] = signed16(v)
	}
	image[RegChargerMax] = unsigned16(s.Limits.MV, 100)
	image[RegChargerMax+1] = unsigned16(s.Limits.MA, 10)
	image[RegChargerMax+2] = s.Limits.RawError
	putText(image[RegFirmware:RegFirmware+textRegisters], s.Firmware)
	putText(image[RegHardware:RegHardware+textRegisters], s.Hardware)
	image[RegCounters] = s.Counters.CRCErrors
	image[RegCounters+1] = s.Counters.BatteryErrors
	image[RegCounters+2] = s.Counters.ChargerErrors
	image[RegResets] = s.Board.Resets
	image[RegUptime], image[RegUptime+1] = words(s.Board.UptimeS)
	image[RegFitted] = uint16(s.Board.Fitted)
	image[RegVersion] = s.Board.Version
	return image
}

func (f Fast) registers() [FastCount]uint16 {
	var r [FastCount]uint16
	r[RegStatus] = uint16(f.Status)
	r[RegFaults], r[RegFaults+1] = words(uint32(f.Faults))
	r[RegSoc] = unsigned16(f.SocPermille, 1)
	r[RegVoltage], r[RegVoltage+1] = unsigned32(f.VoltageMV)
	r[RegCurrent], r[RegCurrent+1] = signed32(f.CurrentMA)
	r[RegCellMax] = signed16(f.CellMax)
	r[RegCellMin] = signed16(f.CellMin)
	r[RegAir] = signed16(f.Air)
	r[RegChargerState] = uint16(f.Charger)
	r[RegChargerVolt] = unsigned16(f.ChargerMV, 100)
	r[RegChargerAmp] = unsigned16(f.ChargerMA, 10)
	r[RegLock] = f.Lock.register()
	r[RegAlive] = f.Alive
	return r
}

func (l Lock) register() uint16 { return uint16(l.Seq)<<8 | uint16(l.Result) }

func (d Identity) put(image []uint16) {
	image[RegIdentityEpoch] = d.Epoch
	putText(image[RegSerial:RegSerial+serialRegisters], d.Serial)
	image[RegBMS] = unsigned16(d.Protocol, 1)
	image[RegBMS+1] = unsigned16(d.Software, 1)
	image[RegBMS+2] = unsigned16(d.Hardware, 1)
	image[RegBMS+3] = unsigned16(d.Chemistry, 1)
	image[RegCycles] = unsigned16(d.Cycles, 1)
	image[RegCycles+1] = unsigned16(d.NominalMAh, 10)
	image[RegCycles+2] = unsigned16(d.RemainingMAh, 10)
	image[RegCycles+3] = d.Made.register()
	image[RegCycles+4] = unsigned16(d.CellCount, 1)
	image[RegCycles+5] = unsigned16(d.NTCCount, 1)
}

// DecodeSlot reads a slot's whole image.
func DecodeSlot(image []uint16) (Slot, error) {
	if err := count("slot", image, SlotInputs); err != nil {
		return Slot{}, err
	}
	s := Slot{
		Fast:     decodeFast(image[RegStatus:]),
		Identity: decodeIdentity(image[RegIdentityEpoch:]),
		Limits: ChargerLimits{
			MV:       value16(image[RegChargerMax], 100),
			MA:       value16(image[RegChargerMax+1], 10),
			RawError: image[RegChargerMax+2],
		},
		Firmware: text(image[RegFirmware : RegFirmware+textRegisters]),
		Hardware: text(image[RegHardware : RegHardware+textRegisters]),
		Counters: Counters{image[RegCounters], image[RegCounters+1], image[RegCounters+2]},
		Board:    decodeBoard(image[RegResets:]),
	}
	for i := range s.Cells {
		s.Cells[i] = value16(image[int(RegCells)+i], 1)
	}
	for i := range s.NTC {
		s.NTC[i] = valueSigned16(image[int(RegNTC)+i])
	}
	return s, nil
}

// DecodeFast reads the FastCount registers of the fast poll, or more.
func DecodeFast(registers []uint16) (Fast, error) {
	if err := count("fast poll", registers, FastCount); err != nil {
		return Fast{}, err
	}
	return decodeFast(registers), nil
}

func decodeFast(r []uint16) Fast {
	f := Fast{
		Status:      Status(r[RegStatus]),
		Faults:      Fault(long(r[RegFaults], r[RegFaults+1])),
		SocPermille: value16(r[RegSoc], 1),
		VoltageMV:   value32(r[RegVoltage], r[RegVoltage+1]),
		CurrentMA:   valueSigned32(r[RegCurrent], r[RegCurrent+1]),
		CellMax:     valueSigned16(r[RegCellMax]),
		CellMin:     valueSigned16(r[RegCellMin]),
		Air:         valueSigned16(r[RegAir]),
		Charger:     ChargerState(r[RegChargerState]),
		ChargerMV:   value16(r[RegChargerVolt], 100),
		ChargerMA:   value16(r[RegChargerAmp], 10),
		Lock:        decodeLock(r[RegLock]),
		Alive:       r[RegAlive],
	}
	if f.SocPermille.N > maxSocPermille {
		f.SocPermille = Value{}
	}
	return f
}

// DecodeLock reads the LockCount registers of the lock's account, or more: what
// the last lock command came to, and the alive counter.
func DecodeLock(registers []uint16) (Lock, uint16, error) {
	if err := count("lock account", registers, LockCount); err != nil {
		return Lock{}, 0, err
	}
	return decodeLock(registers[0]), registers[1], nil
}

func decodeLock(r uint16) Lock { return Lock{Seq: uint8(r >> 8), Result: LockResult(r)} }

// DecodeIdentity reads the IdentityCount registers of the identity block, or
// more. A code that is no code is "".
func DecodeIdentity(registers []uint16) (Identity, error) {
	if err := count("identity block", registers, IdentityCount); err != nil {
		return Identity{}, err
	}
	return decodeIdentity(registers), nil
}

func decodeIdentity(r []uint16) Identity {
	bms, cycles := r[RegBMS-RegIdentityEpoch:], r[RegCycles-RegIdentityEpoch:]
	serial := r[RegSerial-RegIdentityEpoch:]
	return Identity{
		Epoch:        r[0],
		Serial:       text(serial[:serialRegisters]),
		Protocol:     value16(bms[0], 1),
		Software:     value16(bms[1], 1),
		Hardware:     value16(bms[2], 1),
		Chemistry:    value16(bms[3], 1),
		Cycles:       value16(cycles[0], 1),
		NominalMAh:   value16(cycles[1], 10),
		RemainingMAh: value16(cycles[2], 10),
		Made:         date(cycles[3]),
		CellCount:    value16(cycles[4], 1),
		NTCCount:     value16(cycles[5], 1),
	}
}

// DecodeBoard reads the BoardCount registers of the board's account, or more.
func DecodeBoard(registers []uint16) (Board, error) {
	if err := count("board account", registers, BoardCount); err != nil {
		return Board{}, err
	}
	return decodeBoard(registers), nil
}

func decodeBoard(r []uint16) Board {
	return Board{Resets: r[0], UptimeS: long(r[1], r[2]), Fitted: Status(r[3]), Version: r[4]}
}

func count(what string, registers []uint16, want int) error {
	if len(registers) < want {
		return fmt.Errorf("slotboard %s: %w: %d, expected %d", what, ErrCount, len(registers), want)
	}
	return nil
}

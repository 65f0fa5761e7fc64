package slotboard_test

import (
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
)

// vector is one question and its answer, as README.md prints them.
type vector struct{ request, reply []byte }

// vectors reads the frames that README.md gives to the maker of a board.
func vectors(t *testing.T) map[string]vector {
	t.Helper()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)### ([^\n]+)\n[^#]*?```frames\n> ([0-9A-F ]+)\n< ([0-9A-F ]+)\n```")
	found := map[string]vector{}
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		found[m[1]] = vector{unhex(t, m[2]), unhex(t, m[3])}
	}
	require.Len(t, found, strings.Count(string(text), "### "), "every heading has its two frames")
	return found
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

// registers checks a read of README.md against the codec of the frames and
// gives what the board answered.
func (v vector) registers(t *testing.T, unit uint8, address uint16, n uint16) []uint16 {
	t.Helper()
	q := modbus.Request{Unit: unit, Function: modbus.ReadInput, Address: address, Count: n}
	frame, err := q.Append(nil)
	require.NoError(t, err)
	require.Equal(t, v.request, frame)
	r, err := q.DecodeReply(v.reply)
	require.NoError(t, err)
	return r.Registers
}

var known = slotboard.Known

func charged() slotboard.Fast {
	return slotboard.Fast{
		Status: slotboard.BoltLocked | slotboard.BatteryPresent | slotboard.BatteryLink |
			slotboard.ChargerLink,
		SocPermille: known(875), VoltageMV: known(54321), CurrentMA: known(-1250),
		CellMax: known(247), CellMin: known(239), Air: known(-5),
		Charger: slotboard.ChargerIdle, ChargerMV: known(0), ChargerMA: known(0),
		Lock: slotboard.Lock{Seq: 7, Result: slotboard.LockOpened}, Alive: 4660,
	}
}

func empty() slotboard.Fast {
	return slotboard.Fast{
		Status: slotboard.DoorOpen | slotboard.AnyFault,
		Faults: slotboard.DoorLeftOpen | slotboard.ChargerTimeout,
		Air:    known(215), Lock: slotboard.Lock{Result: slotboard.LockNoFeedback}, Alive: 9,
	}
}

func identity() slotboard.Identity {
	return slotboard.Identity{
		Epoch: 5, Serial: "BT3072020120000200521001",
		Protocol: known(1), Software: known(33), Hardware: known(3), Chemistry: known(1),
		Cycles: known(118), NominalMAh: known(40000), RemainingMAh: known(34930),
		Made: slotboard.Date{Year: 2024, Month: 7, Day: 16}, CellCount: known(17), NTCCount: known(3),
	}
}

func cabinet() slotboard.Cabinet {
	return slotboard.Cabinet{
		Status: slotboard.ArresterOK | slotboard.CabinetLight | slotboard.Button | slotboard.ContactorClosed,
		Fitted: 0x7FFF, UpperTemp: known(312), LowerTemp: known(285), AirTemp: known(268),
		Humidity: known(540), BackupMV: known(12650), Alive: 258,
	}
}

func TestReadmeReads(t *testing.T) {
	all := vectors(t)
	fast, err := slotboard.DecodeFast(all["charged battery, slot 3"].registers(t, 3, slotboard.RegStatus, slotboard.FastCount))
	require.NoError(t, err)
	require.Equal(t, charged(), fast)
	fast, err = slotboard.DecodeFast(all["empty slot without feedback, slot 12"].registers(t, 12, slotboard.RegStatus, slotboard.FastCount))
	require.NoError(t, err)
	require.Equal(t, empty(), fast)
	who, err := slotboard.DecodeIdentity(all["identity, slot 3"].registers(t, 3, slotboard.RegIdentityEpoch, slotboard.IdentityCount))
	require.NoError(t, err)
	require.Equal(t, identity(), who)
	who, err = slotboard.DecodeIdentity(all["no battery, slot 4"].registers(t, 4, slotboard.RegIdentityEpoch, slotboard.IdentityCount))
	require.NoError(t, err)
	require.Equal(t, slotboard.Identity{Epoch: 6}, who)
	lock, alive, err := slotboard.DecodeLock(all["what the lock did, slot 3"].registers(t, 3, slotboard.RegLock, slotboard.LockCount))
	require.NoError(t, err)
	require.Equal(t, slotboard.Lock{Seq: 8, Result: slotboard.LockOpened}, lock)
	require.Equal(t, uint16(4663), alive)
	board, err := slotboard.DecodeBoard(all["board, slot 3"].registers(t, 3, slotboard.RegResets, slotboard.BoardCount))
	require.NoError(t, err)
	require.Equal(t, slotboard.Board{Resets: 2, UptimeS: 86405, Fitted: ^slotboard.BoltLocked, Version: slotboard.Version}, board)
	box, err := slotboard.DecodeCabinet(all["cabinet"].registers(t, slotboard.CabinetUnit, slotboard.RegCabinetStatus, slotboard.CabinetCount))
	require.NoError(t, err)
	require.Equal(t, cabinet(), box)
}

func TestReadmeWrites(t *testing.T) {
	all := vectors(t)
	write := func(address, value uint16) modbus.Request {
		return modbus.Request{Unit: 3, Function: modbus.WriteRegister, Address: address, Value: value}
	}
	requests := map[string]modbus.Request{
		"identity read, slot 3":   write(slotboard.HoldIdentityAck, 5),
		"unlock, slot 3":          write(slotboard.HoldLock, slotboard.LockCommand(8)),
		"no lock command, slot 3": write(slotboard.HoldLock, 0x4F00),
		"charging off, slot 3":    write(slotboard.HoldCharge, 0),
		"charge limits, slot 3": {Unit: 3, Function: modbus.WriteRegisters, Address: slotboard.HoldVoltLimit,
			Registers: []uint16{690, 1000}},
		"no lock coil, slot 3":   {Unit: 3, Function: modbus.WriteCoil, Address: 3, Value: modbus.CoilOn},
		"status as bits, slot 3": {Unit: 3, Function: modbus.ReadDiscreteInputs, Count: slotboard.DiscreteInputs},
	}
	refused := map[string]modbus.Exception{
		"no lock command, slot 3": modbus.IllegalValue,
		"no lock coil, slot 3":    modbus.IllegalAddress,
	}
	for name, q := range requests {
		frame, err := q.Append(nil)
		require.NoError(t, err, name)
		require.Equal(t, all[name].request, frame, name)
		r, err := q.DecodeReply(all[name].reply)
		if want, ok := refused[name]; ok {
			require.ErrorIs(t, err, want, name)
			continue
		}
		require.NoError(t, err, name)
		if r.Bits != nil {
			require.Equal(t, bitsOf(charged().Status), r.Bits, name)
		}
	}
	require.Len(t, all, len(requests)+7, "a vector of README.md is not tested")
}

func bitsOf(s slotboard.Status) []bool {
	bits := make([]bool, slotboard.DiscreteInputs)
	for i := range bits {
		bits[i] = s.Has(1 << i)
	}
	return bits
}

// What a board encodes is what README.md prints, and what an agent decodes.
func TestSlotImage(t *testing.T) {
	s := slotboard.Slot{Fast: charged(), Identity: identity(), Firmware: "23061501", Hardware: "rev-C",
		Counters: slotboard.Counters{CRCErrors: 1, BatteryErrors: 2, ChargerErrors: 3},
		Board:    slotboard.Board{Resets: 2, UptimeS: 86405, Fitted: ^slotboard.BoltLocked, Version: slotboard.Version},
		Limits:   slotboard.ChargerLimits{MV: known(69000), MA: known(10000), RawError: 7},
	}
	s.Cells[0], s.Cells[16], s.NTC[2] = known(3195), known(0), known(-200)
	image := s.Registers()
	all := vectors(t)
	require.Equal(t, all["charged battery, slot 3"].registers(t, 3, 0, 16), image[:16])
	require.Equal(t, all["identity, slot 3"].registers(t, 3, 0x10, 38), image[0x10:0x36])
	require.Equal(t, all["board, slot 3"].registers(t, 3, 0x8B, 5), image[0x8B:0x90])
	back, err := slotboard.DecodeSlot(image[:])
	require.NoError(t, err)
	require.Equal(t, s, back)

	nothing := slotboard.Slot{}
	image = nothing.Registers()
	require.Equal(t, uint16(0xFFFF), image[slotboard.RegSoc])
	require.Equal(t, uint16(0x7FFF), image[slotboard.RegCellMax])
	back, err = slotboard.DecodeSlot(image[:])
	require.NoError(t, err)
	require.Equal(t, nothing, back, "what is absent stays absent")
}

func TestCabinetImage(t *testing.T) {
	c := cabinet()
	c.Firmware, c.MainDoor = "1.0.3", slotboard.Lock{Seq: 4, Result: slotboard.LockOpened}
	c.ZoneTemps[17] = known(455)
	image := c.Registers()
	require.Equal(t, vectors(t)["cabinet"].registers(t, 100, 0, 9), image[:9])
	back, err := slotboard.DecodeCabinet(image[:])
	require.NoError(t, err)
	require.Equal(t, c, back)
}

func TestMarkersAndLimits(t *testing.T) {
	image := slotboard.Slot{Fast: slotboard.Fast{
		SocPermille: known(65535), VoltageMV: known(-1), CellMax: known(40000), CellMin: known(-40000), ChargerMV: known(-100),
	}, Identity: slotboard.Identity{Serial: strings.Repeat("9", 25), Made: slotboard.Date{Year: 1999, Month: 1, Day: 1}}}.Registers()
	back, err := slotboard.DecodeSlot(image[:])
	require.NoError(t, err)
	require.Equal(t, slotboard.Slot{}, back, "what does not fit is unknown")

	image[slotboard.RegSoc] = 1001
	image[slotboard.RegVoltage], image[slotboard.RegVoltage+1] = 0x8000, 0
	image[slotboard.RegCurrent], image[slotboard.RegCurrent+1] = 0x7FFF, 0
	image[slotboard.RegSerial] = 0x4200
	image[slotboard.RegSerial+1] = 0x4242
	back, err = slotboard.DecodeSlot(image[:])
	require.NoError(t, err)
	require.Equal(t, slotboard.Value{}, back.Fast.SocPermille, "a soc above 100 %")
	require.Equal(t, slotboard.Value{}, back.Fast.VoltageMV, "a voltage of 2 MV")
	require.Equal(t, slotboard.Value{}, back.Fast.CurrentMA)
	require.Empty(t, back.Identity.Serial, "a code with a hole")
	for i := range 12 {
		image[int(slotboard.RegSerial)+i] = 0xFFFF
	}
	back, err = slotboard.DecodeSlot(image[:])
	require.NoError(t, err)
	require.Empty(t, back.Identity.Serial)

	_, err = slotboard.DecodeSlot(image[:slotboard.SlotInputs-1])
	require.ErrorIs(t, err, slotboard.ErrCount)
	_, err = slotboard.DecodeFast(image[:15])
	require.ErrorIs(t, err, slotboard.ErrCount)
	_, err = slotboard.DecodeIdentity(image[:37])
	require.ErrorIs(t, err, slotboard.ErrCount)
	_, _, err = slotboard.DecodeLock(image[:1])
	require.ErrorIs(t, err, slotboard.ErrCount)
	_, err = slotboard.DecodeBoard(image[:4])
	require.ErrorIs(t, err, slotboard.ErrCount)
	_, err = slotboard.DecodeCabinet(image[:8])
	require.ErrorIs(t, err, slotboard.ErrCount)
}

func TestLockSequence(t *testing.T) {
	seq, seen := uint8(0), map[uint16]bool{}
	for range 255 {
		seq = slotboard.NextSeq(seq)
		command := slotboard.LockCommand(seq)
		require.False(t, seen[command])
		seen[command] = true
		back, ok := slotboard.LockSeq(command)
		require.True(t, ok)
		require.Equal(t, seq, back)
		require.NoError(t, slotboard.CheckWrite(slotboard.HoldLock, command))
	}
	require.Equal(t, uint8(1), slotboard.NextSeq(seq), "0 is never used")
	for _, value := range []uint16{0, 1, 0x4F00, 0x4E01, 0x5001, 0xFFFF} {
		_, ok := slotboard.LockSeq(value)
		require.False(t, ok, "%04X", value)
		require.ErrorIs(t, slotboard.CheckWrite(slotboard.HoldLock, value), slotboard.ErrValue)
	}
}

func TestCheckWrite(t *testing.T) {
	minus := uint16(0xFFFF)
	for _, c := range []struct {
		address, value uint16
		want           error
	}{
		{slotboard.HoldPulse, 50, nil}, {slotboard.HoldPulse, 1000, nil},
		{slotboard.HoldPulse, 49, slotboard.ErrValue}, {slotboard.HoldPulse, 1001, slotboard.ErrValue},
		{slotboard.HoldCharge, 2, slotboard.ErrValue},
		{slotboard.HoldHeaterTemp, minus, nil}, {slotboard.HoldHeaterTemp, 0x8000, slotboard.ErrValue},
		{slotboard.HoldHeaterTemp, 1001, slotboard.ErrValue},
		{slotboard.HoldIdentityAck, 0xFFFF, nil},
		{0x0002, 0, slotboard.ErrAddress}, {0xFFFF, 0, slotboard.ErrAddress},
		{slotboard.HoldUnit, 1, slotboard.ErrAddress},
	} {
		require.ErrorIs(t, slotboard.CheckWrite(c.address, c.value), c.want, "%04X %04X", c.address, c.value)
	}
}

func FuzzDecodeSlot(f *testing.F) {
	f.Add(make([]byte, 2*slotboard.SlotInputs))
	f.Fuzz(func(t *testing.T, raw []byte) {
		image := make([]uint16, slotboard.SlotInputs)
		for i := range min(len(raw)/2, len(image)) {
			image[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
		}
		s, err := slotboard.DecodeSlot(image)
		require.NoError(t, err)
		require.LessOrEqual(t, s.Fast.SocPermille.N, int32(1000))
		require.LessOrEqual(t, len(s.Identity.Serial), 24)
		again := s.Registers()
		back, err := slotboard.DecodeSlot(again[:])
		require.NoError(t, err)
		require.Equal(t, s, back)
		c, err := slotboard.DecodeCabinet(image)
		require.NoError(t, err)
		cabinet := c.Registers()
		same, err := slotboard.DecodeCabinet(cabinet[:])
		require.NoError(t, err)
		require.Equal(t, c, same)
	})
}

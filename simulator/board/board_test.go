package board

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol/meter"
	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
	"batteryswap/protocol/xymd02"
	"batteryswap/simulator/world"
)

const (
	cabinetID = "hb-0001"
	serialB2  = "BT107204512GBYH250919002"
	serialB1  = "BT107204512GBYH250919001"
)

// bench is a board, its world and a clock that the test turns.
type bench struct {
	t     *testing.T
	world *world.World
	board *Board
	at    time.Duration
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, world: world.New(rand.New(rand.NewPCG(1, 1)), 1)}
	require.NoError(t, b.world.AddCabinet(cabinetID, 3))
	require.NoError(t, b.world.PutInSlot(cabinetID, 2, world.Battery{Serial: serialB2, SocPermille: 875}))
	require.NoError(t, b.world.PutInHands("li", world.Battery{Serial: serialB1, SocPermille: 200}))
	var err error
	b.board, err = New(Options{
		World: b.world, Cabinet: cabinetID, Now: func() time.Duration { return b.at }, Meter: "sdm630", ClimateSensor: true,
	})
	require.NoError(t, err)
	return b
}

// pass lets time pass, as the line's loop does.
func (b *bench) pass(d time.Duration) {
	for end := b.at + d; b.at < end; {
		b.at = min(end, b.at+idle)
		b.board.tick(b.at)
	}
}

// ask sends a request and gives the reply; what follows the reply is done.
func (b *bench) ask(q modbus.Request) (modbus.Reply, error) {
	b.t.Helper()
	frame, err := q.Append(nil)
	require.NoError(b.t, err)
	sent := b.board.Answer(b.at, frame)
	require.Len(b.t, sent, 1, "one answer")
	b.at += 20 * time.Millisecond
	b.board.done(sent[0])
	return q.DecodeReply(sent[0].Bytes)
}

func (b *bench) write(unit uint8, address, value uint16) error {
	b.t.Helper()
	_, err := b.ask(modbus.Request{Unit: unit, Function: modbus.WriteRegister, Address: address, Value: value})
	return err
}

func (b *bench) image(unit uint8) slotboard.Slot {
	b.t.Helper()
	var image []uint16
	for _, n := range []uint16{80, slotboard.SlotInputs - 80} {
		r, err := b.ask(modbus.Request{
			Unit: unit, Function: modbus.ReadInput, Address: uint16(len(image)), Count: n,
		})
		require.NoError(b.t, err)
		image = append(image, r.Registers...)
	}
	s, err := slotboard.DecodeSlot(image)
	require.NoError(b.t, err)
	return s
}

func TestSlotTellsWhatIsThere(t *testing.T) {
	b := newBench(t)
	s := b.image(2)
	require.True(t, s.Fast.Status.Has(slotboard.BoltLocked|slotboard.BatteryPresent|slotboard.BatteryLink|slotboard.IdentityChanged))
	require.False(t, s.Fast.Status.Has(slotboard.DoorOpen))
	require.Equal(t, serialB2, s.Identity.Serial)
	require.Equal(t, slotboard.Known(875), s.Fast.SocPermille)
	require.Equal(t, uint16(slotboard.Version), s.Board.Version)
	require.True(t, s.Board.Fitted.Has(slotboard.BoltLocked))

	empty := b.image(1)
	require.False(t, empty.Fast.Status.Has(slotboard.BatteryPresent))
	require.Equal(t, slotboard.Value{}, empty.Fast.SocPermille, "nothing is known of no battery")
	require.Equal(t, slotboard.Value{}, empty.Fast.VoltageMV)
	require.Empty(t, empty.Identity.Serial)
}

func TestOneSequenceNumberOnePulse(t *testing.T) {
	b := newBench(t)
	pulses := func() (n int) {
		for _, e := range b.world.Events(0) {
			if e.Kind == world.Pulsed {
				n++
			}
		}
		return n
	}
	require.NoError(t, b.write(1, slotboard.HoldLock, slotboard.LockCommand(1)))
	require.Equal(t, 1, pulses())
	require.Equal(t, slotboard.Lock{Seq: 1, Result: slotboard.LockOpening}, b.image(1).Fast.Lock)
	require.NoError(t, b.write(1, slotboard.HoldLock, slotboard.LockCommand(1)))
	require.Equal(t, 1, pulses(), "the same number moves nothing")
	b.pass(time.Second)
	require.Equal(t, slotboard.Lock{Seq: 1, Result: slotboard.LockOpened}, b.image(1).Fast.Lock)
	require.True(t, b.image(1).Fast.Status.Has(slotboard.DoorOpen))

	require.ErrorIs(t, b.write(1, slotboard.HoldLock, 0x4F00), modbus.IllegalValue)
	require.ErrorIs(t, b.write(1, slotboard.HoldLock, 1), modbus.IllegalValue)
	_, err := b.ask(modbus.Request{Unit: 1, Function: modbus.WriteCoil, Address: 3, Value: modbus.CoilOn})
	require.ErrorIs(t, err, modbus.IllegalAddress)
	require.Equal(t, 1, pulses())

	require.NoError(t, b.world.SetFault(b.at, cabinetID, 3, world.StuckLock, world.Setting{}))
	require.NoError(t, b.write(3, slotboard.HoldLock, slotboard.LockCommand(9)))
	b.pass(1300 * time.Millisecond)
	require.Equal(t, slotboard.LockOpening, b.image(3).Fast.Lock.Result)
	b.pass(200 * time.Millisecond)
	require.Equal(t, slotboard.Lock{Seq: 9, Result: slotboard.LockNoFeedback}, b.image(3).Fast.Lock)
	require.Equal(t, 2, pulses())
}

func TestThePulseBeginsAfterTheReply(t *testing.T) {
	b := newBench(t)
	q := modbus.Request{Unit: 1, Function: modbus.WriteRegister, Address: slotboard.HoldLock, Value: slotboard.LockCommand(1)}
	frame, err := q.Append(nil)
	require.NoError(t, err)
	sent := b.board.Answer(b.at, frame)
	require.Empty(t, b.world.Events(0))
	b.board.done(sent[0])
	require.Equal(t, world.Pulsed, b.world.Events(0)[0].Kind)
}

func TestChargeInterlock(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.write(2, slotboard.HoldCharge, 1))
	require.True(t, b.image(2).Fast.Status.Has(slotboard.Charging|slotboard.ChargeEnabled))
	require.NoError(t, b.write(2, slotboard.HoldLock, slotboard.LockCommand(1)))
	require.Equal(t, slotboard.Lock{Seq: 1, Result: slotboard.LockRefusedCharging}, b.image(2).Fast.Lock)
	b.pass(time.Second)
	require.False(t, b.image(2).Fast.Status.Has(slotboard.DoorOpen))
	require.NoError(t, b.write(2, slotboard.HoldCharge, 0))
	require.False(t, b.image(2).Fast.Status.Has(slotboard.Charging))
	require.NoError(t, b.write(2, slotboard.HoldLock, slotboard.LockCommand(2)))
	b.pass(time.Second)
	require.True(t, b.image(2).Fast.Status.Has(slotboard.DoorOpen))
}

func TestMasterWatchdog(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.write(2, slotboard.HoldWatchdog, 5))
	require.NoError(t, b.write(2, slotboard.HoldCharge, 1))
	b.pass(4 * time.Second)
	require.True(t, b.world.Facts(b.at, cabinetID)[1].ChargeOn)
	b.pass(2 * time.Second)
	require.False(t, b.world.Facts(b.at, cabinetID)[1].ChargeOn, "silence switches charging off by itself")
	q := modbus.Request{Unit: 2, Function: modbus.ReadInput, Count: slotboard.FastCount}
	status := func() slotboard.Status {
		r, err := b.ask(q)
		require.NoError(t, err)
		return slotboard.Status(r.Registers[0])
	}
	require.True(t, status().Has(slotboard.WatchdogTripped))
	require.False(t, status().Has(slotboard.WatchdogTripped))
	require.False(t, status().Has(slotboard.ChargeEnabled), "it stays off until it is enabled again")
}

func TestIdentityIsAcknowledged(t *testing.T) {
	b := newBench(t)
	epoch := b.image(1).Identity.Epoch
	require.ErrorIs(t, b.write(1, slotboard.HoldIdentityAck, epoch+1), modbus.IllegalValue)
	require.NoError(t, b.write(1, slotboard.HoldIdentityAck, epoch))
	require.False(t, b.image(1).Fast.Status.Has(slotboard.IdentityChanged))
	require.NoError(t, b.write(1, slotboard.HoldLock, slotboard.LockCommand(1)))
	b.pass(time.Second)
	require.NoError(t, b.world.Insert(b.at, "li", cabinetID, 1, serialB1, false))
	s := b.image(1)
	require.True(t, s.Fast.Status.Has(slotboard.IdentityChanged|slotboard.BatteryPresent))
	require.False(t, s.Fast.Status.Has(slotboard.BatteryLink))
	require.Empty(t, s.Identity.Serial)
	require.NotEqual(t, epoch, s.Identity.Epoch)
	require.NoError(t, b.world.Plug(b.at, "li", cabinetID, 1, true))
	again := b.image(1)
	require.Equal(t, serialB1, again.Identity.Serial)
	require.NotEqual(t, s.Identity.Epoch, again.Identity.Epoch)

	// Out and in again between two polls is still a change.
	_, err := b.world.Take(b.at, "li", cabinetID, 1)
	require.NoError(t, err)
	require.NoError(t, b.world.Insert(b.at, "li", cabinetID, 1, serialB1, true))
	require.NotEqual(t, again.Identity.Epoch, b.image(1).Identity.Epoch)
}

func TestRegistersThatDoNotExist(t *testing.T) {
	b := newBench(t)
	for _, q := range []modbus.Request{
		{Unit: 1, Function: modbus.ReadInput, Address: slotboard.SlotInputs - 1, Count: 2},
		{Unit: 1, Function: modbus.ReadHolding, Address: 2, Count: 1},
		{Unit: 1, Function: modbus.ReadDiscreteInputs, Address: 10, Count: 7},
		{Unit: 1, Function: modbus.WriteRegisters, Address: slotboard.HoldPulse, Registers: []uint16{100, 0}},
		{Unit: slotboard.CabinetUnit, Function: modbus.ReadInput, Address: slotboard.CabinetInputs, Count: 1},
		{Unit: slotboard.CabinetUnit, Function: modbus.WriteRegister, Address: 9, Value: 1},
	} {
		_, err := b.ask(q)
		require.ErrorIs(t, err, modbus.IllegalAddress, "%+v", q)
	}
	r, err := b.ask(modbus.Request{Unit: 1, Function: modbus.ReadHolding, Address: slotboard.HoldPulse, Count: 1})
	require.NoError(t, err)
	require.Equal(t, []uint16{400}, r.Registers, "a refused write changes nothing")
	_, err = b.ask(modbus.Request{Unit: 1, Function: modbus.WriteCoils, Bits: []bool{true}})
	require.ErrorIs(t, err, modbus.IllegalFunction)
	require.ErrorIs(t, b.write(1, slotboard.HoldUnit, 7), modbus.IllegalValue, "protected")
	require.NoError(t, b.write(1, slotboard.HoldUnprotect, slotboard.UnprotectKey))
	require.NoError(t, b.write(1, slotboard.HoldUnit, 7))

	frame, err := modbus.Request{Unit: 4, Function: modbus.ReadInput, Count: 1}.Append(nil)
	require.NoError(t, err)
	require.Empty(t, b.board.Answer(b.at, frame), "no such unit: silence")
	unknown := modbus.AppendCRC([]byte{1, 0x4D, 0, 0})
	require.Equal(t, modbus.AppendCRC([]byte{1, 0xCD, 1}), b.board.Answer(b.at, unknown)[0].Bytes)
	unknown[0] ^= 1
	require.Empty(t, b.board.Answer(b.at, unknown), "wrong checksum: silence")
}

func TestCabinetBoard(t *testing.T) {
	b := newBench(t)
	read := func() slotboard.Cabinet {
		r, err := b.ask(modbus.Request{Unit: slotboard.CabinetUnit, Function: modbus.ReadInput, Count: slotboard.CabinetCount})
		require.NoError(t, err)
		c, err := slotboard.DecodeCabinet(r.Registers)
		require.NoError(t, err)
		return c
	}
	require.True(t, read().Status.Has(slotboard.ContactorClosed))
	require.False(t, read().Status.Has(slotboard.Button))
	require.NoError(t, b.world.PressButton(b.at, "li", cabinetID))
	require.True(t, read().Status.Has(slotboard.Button))
	b.pass(3 * time.Second)
	require.False(t, read().Status.Has(slotboard.Button))
	require.NoError(t, b.write(slotboard.CabinetUnit, slotboard.HoldContactor, 0))
	require.False(t, read().Status.Has(slotboard.ContactorClosed))
	require.NoError(t, b.write(slotboard.CabinetUnit, slotboard.HoldMainDoor, slotboard.LockCommand(1)))
	require.True(t, read().Status.Has(slotboard.MainDoorOpen))
}

func TestBoardFaults(t *testing.T) {
	q := modbus.Request{Unit: 2, Function: modbus.ReadInput, Count: slotboard.FastCount}
	frame, err := q.Append(nil)
	require.NoError(t, err)
	cases := []struct {
		fault world.Fault
		how   world.Setting
		check func(t *testing.T, at time.Duration, sent []Transmission)
	}{
		{world.DeadBoard, world.Setting{}, func(t *testing.T, _ time.Duration, sent []Transmission) {
			require.Empty(t, sent)
		}},
		{world.BadCRC, world.Setting{}, func(t *testing.T, _ time.Duration, sent []Transmission) {
			_, err := q.DecodeReply(sent[0].Bytes)
			require.Error(t, err)
			require.Len(t, sent[0].Bytes, q.ExpectedLen())
		}},
		{world.TruncatedReply, world.Setting{}, func(t *testing.T, _ time.Duration, sent []Transmission) {
			require.Less(t, len(sent[0].Bytes), q.ExpectedLen())
			require.NotEmpty(t, sent[0].Bytes)
		}},
		{world.GarbagePrefix, world.Setting{}, func(t *testing.T, _ time.Duration, sent []Transmission) {
			extra := len(sent[0].Bytes) - q.ExpectedLen()
			require.Positive(t, extra)
			_, err := q.DecodeReply(sent[0].Bytes[extra:])
			require.NoError(t, err)
		}},
		{world.EchoedRequest, world.Setting{}, func(t *testing.T, _ time.Duration, sent []Transmission) {
			require.Equal(t, frame, sent[0].Bytes[:len(frame)])
		}},
		{world.DoubledReply, world.Setting{}, func(t *testing.T, _ time.Duration, sent []Transmission) {
			require.Len(t, sent, 2)
			require.Equal(t, sent[0].Bytes, sent[1].Bytes)
			require.Greater(t, sent[1].Start, sent[0].Start)
		}},
		{world.LateReply, world.Setting{Delay: time.Second}, func(t *testing.T, at time.Duration, sent []Transmission) {
			require.Equal(t, at+time.Second, sent[0].Start)
		}},
	}
	for _, c := range cases {
		t.Run(string(c.fault), func(t *testing.T) {
			b := newBench(t)
			c.how.Count = 1
			require.NoError(t, b.world.SetFault(b.at, cabinetID, 2, c.fault, c.how))
			c.check(t, b.at, b.board.Answer(b.at, frame))
			after := b.board.Answer(b.at, frame)
			require.Len(t, after, 1)
			_, err := q.DecodeReply(after[0].Bytes)
			require.NoError(t, err, "the fault is used up")
		})
	}
}

func TestFrozenBoardAnswersWhatWas(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.world.SetFault(b.at, cabinetID, 2, world.FrozenBoard, world.Setting{}))
	before := b.image(2)
	b.pass(10 * time.Second)
	require.NoError(t, b.write(2, slotboard.HoldLock, slotboard.LockCommand(1)), "it takes the command")
	b.pass(time.Second)
	require.Equal(t, before, b.image(2), "and nothing moves, not even its alive counter")
	require.NoError(t, b.world.ClearFault(b.at, cabinetID, 2, world.FrozenBoard))
	require.NotEqual(t, before.Fast.Alive, b.image(2).Fast.Alive)
}

func TestHeatAndSmokeSwitchChargingOff(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.write(2, slotboard.HoldCharge, 1))
	require.NoError(t, b.world.ChangeBattery(b.at, serialB2, func(x *world.Battery) { x.TempDeciC = 650 }))
	b.pass(time.Second)
	require.False(t, b.world.Facts(b.at, cabinetID)[1].ChargeOn)
	require.True(t, b.image(2).Fast.Faults.Has(slotboard.SlotOverTemp))
	require.NoError(t, b.write(2, slotboard.HoldFaultClear, 0xFFFF))
	require.True(t, b.image(2).Fast.Faults.Has(slotboard.SlotOverTemp), "its cause is still there")
	require.NoError(t, b.world.ChangeBattery(b.at, serialB2, func(x *world.Battery) { x.TempDeciC = 300 }))
	require.True(t, b.image(2).Fast.Faults.Has(slotboard.SlotOverTemp), "it stays until it is cleared")
	require.NoError(t, b.write(2, slotboard.HoldFaultClear, 0xFFFF))
	require.False(t, b.image(2).Fast.Faults.Has(slotboard.SlotOverTemp))
}

func TestABoardWithoutProtectionWaitsForItsMaster(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.world.SetFault(b.at, cabinetID, 2, world.NoProtection, world.Setting{}))
	require.NoError(t, b.write(2, slotboard.HoldCharge, 1))
	require.NoError(t, b.world.ChangeBattery(b.at, serialB2, func(x *world.Battery) { x.TempDeciC = 650 }))
	b.pass(time.Second)
	require.True(t, b.image(2).Fast.Status.Has(slotboard.Charging))
	require.True(t, b.image(2).Fast.Faults.Has(slotboard.SlotOverTemp|slotboard.ChargeOverTemp), "it says what it sees")
	require.NoError(t, b.write(2, slotboard.HoldCharge, 0))
	require.False(t, b.image(2).Fast.Status.Has(slotboard.Charging))
}

func TestContactorAndEmergencyStop(t *testing.T) {
	b := newBench(t)
	contactor := func() (holding uint16, closed bool) {
		r, err := b.ask(modbus.Request{Unit: slotboard.CabinetUnit, Function: modbus.ReadHolding, Address: slotboard.HoldContactor, Count: 1})
		require.NoError(t, err)
		in, err := b.ask(modbus.Request{Unit: slotboard.CabinetUnit, Function: modbus.ReadInput, Count: slotboard.CabinetCount})
		require.NoError(t, err)
		return r.Registers[0], slotboard.CabinetStatus(in.Registers[0]).Has(slotboard.ContactorClosed)
	}
	charging := func() bool { return b.image(2).Fast.Status.Has(slotboard.Charging) }
	require.NoError(t, b.world.SetFault(b.at, cabinetID, 2, world.StuckCharger, world.Setting{}))
	require.True(t, charging(), "current flows though it is off")
	require.NoError(t, b.write(slotboard.CabinetUnit, slotboard.HoldContactor, 0))
	require.False(t, charging())
	require.NoError(t, b.write(slotboard.CabinetUnit, slotboard.HoldContactor, 1))
	require.True(t, charging())

	require.NoError(t, b.world.SetCabinet(b.at, cabinetID, func(c *world.CabinetSensors) { c.EmergencyStop = true }))
	b.pass(idle)
	holding, closed := contactor()
	require.Zero(t, holding)
	require.False(t, closed)
	require.NoError(t, b.write(slotboard.CabinetUnit, slotboard.HoldContactor, 1))
	require.False(t, charging(), "the stop has wires of its own")
	require.NoError(t, b.world.SetCabinet(b.at, cabinetID, func(c *world.CabinetSensors) { c.EmergencyStop = false }))
	b.pass(time.Second)
	_, closed = contactor()
	require.False(t, closed, "it takes a new command")
	require.NoError(t, b.write(slotboard.CabinetUnit, slotboard.HoldContactor, 1))
	require.True(t, charging())
}

func TestABatteryThatFallsSilentWhileItIsCharged(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.write(2, slotboard.HoldCharge, 1))
	require.NoError(t, b.world.SetFault(b.at, cabinetID, 2, world.LostTemperature, world.Setting{}))
	s := b.image(2)
	require.Equal(t, slotboard.Value{}, s.Fast.CellMax)
	require.True(t, s.Fast.SocPermille.Known)
	require.NoError(t, b.world.SetFault(b.at, cabinetID, 2, world.SilentBattery, world.Setting{}))
	b.pass(5 * time.Second)
	s = b.image(2)
	require.Equal(t, slotboard.Value{}, s.Fast.SocPermille)
	require.Equal(t, slotboard.Value{}, s.Fast.CurrentMA)
	require.Positive(t, s.Fast.ChargerMA.N, "the charger measures its own current")
	require.True(t, s.Fast.Status.Has(slotboard.Charging|slotboard.BatteryPresent))
	require.False(t, s.Fast.Status.Has(slotboard.BatteryLink))
	require.True(t, s.Fast.Faults.Has(slotboard.BatteryTimeout))
}

func TestChargeLimitsAndFan(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.write(2, slotboard.HoldCharge, 1))
	require.NoError(t, b.write(2, slotboard.HoldAmpLimit, 250))
	require.Equal(t, slotboard.Known(2_500), b.image(2).Fast.CurrentMA)
	require.NoError(t, b.write(2, slotboard.HoldVoltLimit, 500))
	require.Equal(t, slotboard.Known(0), b.image(2).Fast.CurrentMA)
	require.False(t, b.image(2).Fast.Status.Has(slotboard.FanOn))
	b.world.SetWeather(b.at, world.Weather{MeanDeciC: 400})
	b.pass(time.Hour)
	require.True(t, b.image(2).Fast.Status.Has(slotboard.FanOn), "above 30 °C, by itself")
	require.NoError(t, b.write(2, slotboard.HoldFan, 1))
	require.False(t, b.image(2).Fast.Status.Has(slotboard.FanOn))
}

func TestMeterAndClimateSensor(t *testing.T) {
	b := newBench(t)
	kind, _ := meter.Find("sdm630")
	read := func() meter.Reading {
		var replies [][]uint16
		for _, q := range kind.Requests(MeterUnit) {
			r, err := b.ask(q)
			require.NoError(t, err)
			replies = append(replies, r.Registers)
		}
		r, err := kind.Decode(replies)
		require.NoError(t, err)
		return r
	}
	idleW := read()
	require.Equal(t, meter.Known(220_000), idleW.LowestMV())
	require.NoError(t, b.world.ChangeBattery(b.at, serialB2, func(x *world.Battery) { x.SocPermille = 300 }))
	require.NoError(t, b.write(2, slotboard.HoldWatchdog, 0))
	require.NoError(t, b.write(2, slotboard.HoldCharge, 1))
	b.pass(10 * time.Minute)
	busy := read()
	require.Greater(t, busy.PowerMW.N, idleW.PowerMW.N+600_000)
	require.InDelta(t, float64(busy.PowerMW.N)*0.6, float64(busy.ImportedJ.N-idleW.ImportedJ.N), 30_000, "W times 600 s")

	_, err := b.ask(modbus.Request{Unit: MeterUnit, Function: modbus.ReadInput, Address: 0x0036, Count: 2})
	require.ErrorIs(t, err, modbus.IllegalAddress)
	require.NoError(t, b.world.SetFault(b.at, cabinetID, world.Meter, world.FrozenBoard, world.Setting{}))
	frozen := read()
	b.pass(time.Minute)
	require.Equal(t, frozen, read())
	frame, err := kind.Requests(MeterUnit)[0].Append(nil)
	require.NoError(t, err)
	require.NoError(t, b.world.SetCabinet(b.at, cabinetID, func(c *world.CabinetSensors) { c.MainsDeciV = 0 }))
	require.Empty(t, b.board.Answer(b.at, frame), "without mains a meter is silent")

	r, err := b.ask(xymd02.Request(ClimateUnit))
	require.NoError(t, err)
	climate, err := xymd02.Decode(r.Registers)
	require.NoError(t, err)
	require.Greater(t, climate.Temp.N, int32(250), "one charger has warmed the cabinet")
	require.NoError(t, b.world.SetFault(b.at, cabinetID, world.ClimateSensor, world.DeadBoard, world.Setting{}))
	frame, err = xymd02.Request(ClimateUnit).Append(nil)
	require.NoError(t, err)
	require.Empty(t, b.board.Answer(b.at, frame))

	_, err = New(Options{World: b.world, Cabinet: cabinetID, Now: func() time.Duration { return 0 }, Meter: "abacus"})
	require.ErrorContains(t, err, "abacus")
}

func TestForcedDoorIsAFault(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.world.ForceDoor(b.at, "thief", cabinetID, 2))
	b.pass(time.Second)
	require.True(t, b.image(2).Fast.Faults.Has(slotboard.DoorForced))
	require.True(t, b.image(2).Fast.Status.Has(slotboard.AnyFault))
	require.NoError(t, b.write(1, slotboard.HoldLock, slotboard.LockCommand(1)))
	b.pass(time.Second)
	require.False(t, b.image(1).Fast.Faults.Has(slotboard.DoorForced))
}

package xymd02_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol/modbus"
	"batteryswap/protocol/xymd02"
)

func known(n int32) xymd02.Value { return xymd02.Value{N: n, Known: true} }

// The request and the values of the data sheet; the reply's checksum is
// recomputed.
func TestVectors(t *testing.T) {
	frame, err := xymd02.Request(1).Append(nil)
	require.NoError(t, err)
	require.Equal(t, []byte{0x01, 0x04, 0x00, 0x01, 0x00, 0x02, 0x20, 0x0B}, frame)
	for _, c := range []struct {
		registers []uint16
		want      xymd02.Reading
	}{
		{[]uint16{0x0131, 0x0222}, xymd02.Reading{Temp: known(305), Humidity: known(546)}},
		{[]uint16{0xFF33, 0x0000}, xymd02.Reading{Temp: known(-205), Humidity: known(0)}},
		{[]uint16{0x7FFF, 0xFFFF}, xymd02.Reading{}},
		{[]uint16{0xFE6F, 0x03E9}, xymd02.Reading{}}, // −40.1 °C, 100.1 %
		{[]uint16{0x0BEA, 0x0222}, xymd02.Reading{Humidity: known(546)}},
	} {
		reply, err := modbus.Reply{Unit: 1, Function: modbus.ReadInput, Registers: c.registers}.Append(nil)
		require.NoError(t, err)
		r, err := xymd02.Request(1).DecodeReply(reply)
		require.NoError(t, err)
		got, err := xymd02.Decode(r.Registers)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
		back, err := xymd02.Answer(xymd02.Request(1), got)
		require.NoError(t, err)
		again, err := xymd02.Decode(back)
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
}

func TestASensorAnswersOnlyWhatItHas(t *testing.T) {
	_, err := xymd02.Decode([]uint16{1})
	require.ErrorIs(t, err, xymd02.ErrCount)
	for _, q := range []modbus.Request{
		{Function: modbus.ReadInput, Address: 0, Count: 2},
		{Function: modbus.ReadInput, Address: 2, Count: 2},
	} {
		_, err := xymd02.Answer(q, xymd02.Reading{})
		require.ErrorIs(t, err, xymd02.ErrAddress)
	}
	_, err = xymd02.Answer(modbus.Request{Function: modbus.ReadHolding, Address: 1, Count: 1}, xymd02.Reading{})
	require.ErrorIs(t, err, modbus.ErrFunction)
}

func FuzzDecode(f *testing.F) {
	f.Add(uint16(0x0131), uint16(0x0222))
	f.Fuzz(func(t *testing.T, temp, humidity uint16) {
		r, err := xymd02.Decode([]uint16{temp, humidity})
		require.NoError(t, err)
		back, err := xymd02.Answer(xymd02.Request(1), r)
		require.NoError(t, err)
		if r.Temp.Known {
			require.Equal(t, temp, back[0])
		}
		if r.Humidity.Known {
			require.Equal(t, humidity, back[1])
		}
	})
}

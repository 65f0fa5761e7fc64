package modbus_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol/modbus"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

// The frames of vendors' manuals, as they are printed there.
func TestVendorRequests(t *testing.T) {
	cases := []struct {
		device, frame string
		request       modbus.Request
	}{
		{"swap charger, status", "01 03 00 01 00 03 54 0B", modbus.Request{Unit: 1, Function: 3, Address: 1, Count: 3}},
		{"swap charger, on", "01 06 00 00 00 FF C9 8A", modbus.Request{Unit: 1, Function: 6, Value: 0xFF}},
		{"swap charger, off", "01 06 00 00 00 00 89 CA", modbus.Request{Unit: 1, Function: 6}},
		{"Waveshare relay, all off", "01 05 00 FF 00 00 FD FA", modbus.Request{Unit: 1, Function: 5, Address: 0xFF}},
		{"R4D8A08, relay 1 on", "01 06 00 01 01 00 D9 9A", modbus.Request{Unit: 1, Function: 6, Address: 1, Value: 0x0100}},
		{"R4D8A08, relay 1 for a second", "01 06 00 01 05 00 DB 5A", modbus.Request{Unit: 1, Function: 6, Address: 1, Value: 0x0500}},
		{"SDM120, voltage", "01 04 00 00 00 02 71 CB", modbus.Request{Unit: 1, Function: 4, Count: 2}},
		{"SDM120, import kWh", "01 04 00 48 00 02 F1 DD", modbus.Request{Unit: 1, Function: 4, Address: 0x48, Count: 2}},
		{"DDSU666, import kWh", "01 03 40 00 00 02 D1 CB", modbus.Request{Unit: 1, Function: 3, Address: 0x4000, Count: 2}},
		{"XY-MD02, both values", "01 04 00 01 00 02 20 0B", modbus.Request{Unit: 1, Function: 4, Address: 1, Count: 2}},
		{"Daly, everything", "D2 03 00 00 00 3E D7 B9", modbus.Request{Unit: 0xD2, Function: 3, Count: 62}},
	}
	for _, c := range cases {
		t.Run(c.device, func(t *testing.T) {
			want := unhex(t, c.frame)
			got, err := c.request.Append(nil)
			require.NoError(t, err)
			require.Equal(t, want, got)
			n, err := modbus.RequestLen(want[:2])
			require.NoError(t, err)
			require.Equal(t, len(want), n)
			back, err := modbus.DecodeRequest(want)
			require.NoError(t, err)
			require.Equal(t, c.request, back)
		})
	}
}

// Frames that the standard forbids and devices demand.
func TestVendorRaw(t *testing.T) {
	cases := []struct {
		device, frame string
		raw           modbus.Raw
	}{
		{"swap charger, info", "01 4D 03 20 00 08 2D 8C", modbus.Raw{Length: 21, Echo: 2}},
		{"swap charger, 69 V 10 A", "01 0F 00 01 00 02 02 B2 03 E8 A8 13", modbus.Raw{Length: 8, Echo: 6}},
		{"Waveshare relay 0, 700 ms", "01 05 02 00 00 07 8D B0", modbus.Raw{Length: 8, Echo: 6}},
		{"Waveshare relay 1, 800 ms", "01 05 02 01 00 08 9C 74", modbus.Raw{Length: 8, Echo: 6}},
	}
	for _, c := range cases {
		t.Run(c.device, func(t *testing.T) {
			want := unhex(t, c.frame)
			c.raw.Body = want[:len(want)-2]
			got, err := c.raw.Append(nil)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
	relay := modbus.Raw{Body: unhex(t, "01 05 02 00 00 07"), Length: 8, Echo: 6}
	require.NoError(t, relay.Accept(unhex(t, "01 05 02 00 00 07 8D B0")))
	require.ErrorIs(t, relay.Accept(modbus.AppendCRC(unhex(t, "01 05 02 00 00 00"))), modbus.ErrEcho, "a slave that silently answers 0000 did not pulse")
	charger := modbus.Raw{Body: unhex(t, "01 4D 03 20 00 08"), Length: 21, Echo: 2}
	data, err := charger.DecodeReply(modbus.AppendCRC(append([]byte{1, 0x4D}, make([]byte, 17)...)))
	require.NoError(t, err)
	require.Len(t, data, 17)
	_, err = modbus.Raw{Body: []byte{1}, Length: 8, Echo: 1}.Append(nil)
	require.ErrorIs(t, err, modbus.ErrLength)
	_, err = modbus.Raw{Body: []byte{1, 2}, Length: 300, Echo: 1}.Append(nil)
	require.ErrorIs(t, err, modbus.ErrLength)
	_, err = modbus.Raw{Body: []byte{1, 2}, Length: 8}.Append(nil)
	require.ErrorIs(t, err, modbus.ErrLength, "a reply without an echo could be anybody's")
}

func TestReplies(t *testing.T) {
	read := modbus.Request{Unit: 3, Function: modbus.ReadInput, Address: 0, Count: 2}
	coils := modbus.Request{Unit: 3, Function: modbus.ReadCoils, Count: 10}
	write := modbus.Request{Unit: 3, Function: modbus.WriteRegister, Address: 0x10, Value: 1}
	several := modbus.Request{Unit: 3, Function: modbus.WriteRegisters, Address: 0x11, Registers: []uint16{690, 1000}}
	bits := modbus.Request{Unit: 3, Function: modbus.WriteCoils, Address: 2, Bits: []bool{true, false, true}}
	cases := []struct {
		request modbus.Request
		reply   modbus.Reply
	}{
		{read, modbus.Reply{Unit: 3, Function: 4, Registers: []uint16{1, 0xFFFF}}},
		{coils, modbus.Reply{Unit: 3, Function: 1, Bits: []bool{true, true, false, false, true, false, false, false, true, false}}},
		{write, modbus.ReplyTo(write)},
		{several, modbus.ReplyTo(several)},
		{bits, modbus.ReplyTo(bits)},
	}
	for _, c := range cases {
		frame, err := c.reply.Append(nil)
		require.NoError(t, err)
		require.Len(t, frame, c.request.ExpectedLen())
		got, err := c.request.DecodeReply(frame)
		require.NoError(t, err)
		require.Equal(t, c.reply, got)
		asked, err := c.request.Append(nil)
		require.NoError(t, err)
		back, err := modbus.DecodeRequest(asked)
		require.NoError(t, err)
		require.Equal(t, c.request, back)

		// No frame that differs in any bit is taken for the reply.
		for bit := range 8 * len(frame) {
			frame[bit/8] ^= 1 << (bit % 8)
			_, err := c.request.DecodeReply(frame)
			require.Error(t, err, "bit %d", bit)
			frame[bit/8] ^= 1 << (bit % 8)
		}
		// Nor is one that is shorter or longer.
		for n := range frame {
			_, err := c.request.DecodeReply(frame[:n])
			require.Error(t, err, "%d bytes", n)
		}
		_, err = c.request.DecodeReply(append(frame, 0))
		require.Error(t, err)
	}
}

// A reply with a good checksum that answers something else is not accepted.
func TestForeignReplies(t *testing.T) {
	read := modbus.Request{Unit: 3, Function: modbus.ReadInput, Count: 2}
	write := modbus.Request{Unit: 3, Function: modbus.WriteRegister, Address: 0, Value: 0x4F05}
	cases := []struct {
		name    string
		request modbus.Request
		body    string
		want    error
	}{
		{"another unit", read, "04 04 04 00 00 00 00", modbus.ErrUnit},
		{"another function", read, "03 03 04 00 00 00 00", modbus.ErrFunction},
		{"another length", read, "03 04 02 00 00", modbus.ErrLength},
		{"byte count against length", read, "03 04 04 00 00", modbus.ErrLength},
		{"our own request", read, "03 04 00 00 00 02", modbus.ErrLength},
		{"another register", write, "03 06 00 01 4F 05", modbus.ErrEcho},
		{"another value", write, "03 06 00 00 4F 04", modbus.ErrEcho},
		{"refused", write, "03 86 03", modbus.IllegalValue},
		{"another function's refusal", write, "03 84 03", modbus.ErrFunction},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.request.DecodeReply(modbus.AppendCRC(unhex(t, c.body)))
			require.ErrorIs(t, err, c.want)
			err = c.request.Accept(modbus.AppendCRC(unhex(t, c.body)))
			if c.name == "refused" {
				require.NoError(t, err, "a refusal is a reply")
				return
			}
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestBadRequests(t *testing.T) {
	cases := []struct {
		name    string
		request modbus.Request
		want    error
	}{
		{"unknown function", modbus.Request{Unit: 1, Function: 7}, modbus.ErrFunction},
		{"nothing to read", modbus.Request{Unit: 1, Function: 3}, modbus.ErrRange},
		{"too many registers", modbus.Request{Unit: 1, Function: 3, Count: 126}, modbus.ErrRange},
		{"too many bits", modbus.Request{Unit: 1, Function: 1, Count: 2001}, modbus.ErrRange},
		{"too many to write", modbus.Request{Unit: 1, Function: 16, Registers: make([]uint16, 124)}, modbus.ErrRange},
		{"too many coils", modbus.Request{Unit: 1, Function: 15, Bits: make([]bool, 1969)}, modbus.ErrRange},
		{"past the last address", modbus.Request{Unit: 1, Function: 3, Address: 0xFFFF, Count: 2}, modbus.ErrRange},
		{"coil value", modbus.Request{Unit: 1, Function: 5, Value: 7}, modbus.ErrRange},
		{"unit", modbus.Request{Unit: 248, Function: 6}, modbus.ErrRange},
		{"broadcast read", modbus.Request{Function: 4, Count: 1}, modbus.ErrRange},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.request.Append(nil)
			require.ErrorIs(t, err, c.want)
		})
	}
	_, err := modbus.DecodeRequest(modbus.AppendCRC(unhex(t, "01 10 00 00 00 02 02 00 00")))
	require.ErrorIs(t, err, modbus.ErrRange, "two registers announced, one sent")
	_, err = modbus.DecodeRequest(modbus.AppendCRC(unhex(t, "01 2B 0E 01 00")))
	require.ErrorIs(t, err, modbus.ErrFunction)
	_, err = modbus.DecodeRequest(modbus.AppendCRC(unhex(t, "01 03 00 00 00 01 00")))
	require.ErrorIs(t, err, modbus.ErrLength)
	require.Zero(t, modbus.Request{Function: modbus.WriteRegister}.ExpectedLen(), "nobody answers a broadcast")
	_, err = modbus.Reply{Unit: 1, Function: 4}.Append(nil)
	require.ErrorIs(t, err, modbus.ErrRange)
	_, err = modbus.Reply{Unit: 1, Function: 7}.Append(nil)
	require.ErrorIs(t, err, modbus.ErrFunction)
	require.Equal(t, "modbus exception 6 (device busy)", modbus.DeviceBusy.Error())
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte{1, 3, 0, 0, 0, 1})
	f.Add([]byte{1, 16, 0, 0, 0, 1, 2, 0, 0})
	f.Add([]byte{1, 15, 0, 0, 0, 9, 2, 0xFF, 1})
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > modbus.MaxFrame {
			return
		}
		frame := modbus.AppendCRC(body)
		q, err := modbus.DecodeRequest(frame)
		if err != nil {
			return
		}
		again, err := q.Append(nil)
		require.NoError(t, err)
		back, err := modbus.DecodeRequest(again)
		require.NoError(t, err)
		require.Equal(t, q, back)
	})
}

func FuzzDecodeReply(f *testing.F) {
	f.Add(uint8(1), uint8(4), uint16(0), uint16(2), []byte{1, 4, 4, 0, 0, 0, 0})
	f.Add(uint8(1), uint8(6), uint16(0), uint16(2), []byte{1, 6, 0, 0, 0, 2})
	f.Add(uint8(1), uint8(1), uint16(0), uint16(9), []byte{1, 0x81, 2})
	f.Fuzz(func(t *testing.T, unit, function uint8, address, n uint16, body []byte) {
		if len(body) > modbus.MaxFrame {
			return
		}
		q := modbus.Request{Unit: unit, Function: modbus.Function(function), Address: address, Count: n, Value: n}
		if q.Check() != nil {
			return
		}
		frame := modbus.AppendCRC(body)
		r, err := q.DecodeReply(frame)
		if err != nil {
			return
		}
		again, err := r.Append(nil)
		require.NoError(t, err)
		require.Len(t, again, len(frame))
		back, err := q.DecodeReply(again)
		require.NoError(t, err)
		require.Equal(t, r, back)
	})
}

func FuzzDecodeRaw(f *testing.F) {
	f.Add([]byte{1, 0x4D, 0}, 8, 2, []byte{1, 0x4D, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, request []byte, length, echo int, body []byte) {
		w := modbus.Raw{Body: request, Length: length, Echo: echo}
		if w.Check() != nil || len(body) > modbus.MaxFrame {
			return
		}
		frame := modbus.AppendCRC(body)
		n, early := w.ReplyLen(body)
		got, err := w.DecodeReply(frame)
		if err != nil {
			return
		}
		require.NoError(t, early)
		require.Contains(t, []int{0, len(frame)}, n)
		require.Equal(t, body, append(bytes.Clone(request[:echo]), got...))
	})
}

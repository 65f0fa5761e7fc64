package swap

import (
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// FuzzDecodeLog takes what a cabinet may send: bytes that are no record, and a
// record with any payload in the middle of a swap. What is decoded is folded: the
// cursor moves on, whatever the record says.
func FuzzDecodeLog(f *testing.F) {
	for _, typ := range []protocol.RecordType{
		protocol.RecordBoot, protocol.RecordAccept, protocol.RecordIntent, protocol.RecordDeposit, protocol.RecordTaken, protocol.RecordClosed, protocol.RecordVoid,
	} {
		f.Add([]byte{}, uint8(typ), []byte(`{"swap_id":"01920000-0000-7000-8000-000000000001","slot":3}`), uint8(1))
	}
	f.Fuzz(func(t *testing.T, raw []byte, typ uint8, payload []byte, boots uint8) {
		k := newBench(t)
		_, _ = DecodeLog(protocol.Log{Epoch: k.log.epoch, FromSeq: 1, Records: [][]byte{raw}})
		kind := protocol.RecordType(typ)
		if !kind.Valid() || len(payload) > protocol.MaxPayload {
			return
		}
		g := k.granted(false)
		k.log.write(protocol.Accept{SwapID: g.SwapID, Kind: g.Kind, Nonce: g.Nonce})
		k.log.boot += uint32(boots % 2)
		k.log.raw(kind, payload)
		k.fold()
		require.Equal(t, uint64(len(k.log.raws)), k.cabinet.LastSeq)
	})
}

package swap

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// tape is a source of chance that plays what it was given, and is a generator
// once that has ended.
type tape struct {
	given []byte
	after *rand.PCG
}

// Uint64 repeats two bytes of the tape in all of its bits.
func (t *tape) Uint64() uint64 {
	if len(t.given) < 2 {
		return t.after.Uint64()
	}
	v := uint64(binary.LittleEndian.Uint16(t.given))
	t.given = t.given[2:]
	return v | v<<16 | v<<32 | v<<48
}

// FuzzMachine walks a cabinet through swaps in which the input decides what
// happens next: commands, their order and their repetition, the rider's hands,
// sensors, failed pulses, power cuts and a flash that lies. Every invariant holds.
func FuzzMachine(f *testing.F) {
	for seed := uint64(1); seed <= 8; seed++ {
		r, given := rand.New(rand.NewPCG(seed, 2)), []byte{}
		for range 600 {
			given = binary.LittleEndian.AppendUint16(given, uint16(r.Uint32()))
		}
		f.Add(given)
	}
	f.Fuzz(func(t *testing.T, given []byte) {
		w := newWalker(t, 1)
		w.rnd = rand.New(&tape{given: given, after: rand.NewPCG(1, 1)})
		for n := 1; n <= 2; n++ {
			w.one(n)
		}
		require.False(t, t.Failed())
	})
}

// FuzzFold folds a record with any payload, as a snapshot of another version or a
// flash with a matching checksum may hold it. What is taken can be written as a
// snapshot, and is the same when that is read.
func FuzzFold(f *testing.F) {
	r := usual(f)
	r.start(1, protocol.KindSwap)
	r.deposit(flat("R1"))
	var before Durable
	for _, j := range r.journal {
		f.Add(uint8(j.rec.Type), j.rec.Payload)
		var err error
		before, err = Fold(before, j.rec)
		require.NoError(f, err)
	}
	whole, err := before.Snapshot()
	require.NoError(f, err)
	f.Add(uint8(protocol.RecordSnapshot), whole)
	f.Fuzz(func(t *testing.T, typ uint8, payload []byte) {
		rec := protocol.Record{Type: protocol.RecordType(typ), BootSeq: 1, Seq: 99, MonoMS: 60_000, Payload: payload}
		if !rec.Type.Valid() {
			return
		}
		d, err := Fold(before, rec)
		if err != nil {
			return
		}
		snap, err := d.Snapshot()
		if err != nil {
			return // too long
		}
		again, err := Fold(Durable{}, protocol.Record{Type: protocol.RecordSnapshot, BootSeq: 1, Payload: snap})
		require.NoError(t, err)
		same, err := again.Snapshot()
		require.NoError(t, err)
		require.Equal(t, string(snap), string(same))
	})
}

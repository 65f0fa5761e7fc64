package swap

import (
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// A journal that a newer agent has written to is read on by an older one: what it
// does not know changes nothing.
func TestFoldLeavesRecordsOfANewerAgentOut(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	before := r.durable()
	last := r.journal[len(r.journal)-1].rec
	after, err := Fold(before, protocol.Record{
		Seq: last.Seq + 1, BootSeq: last.BootSeq, MonoMS: last.MonoMS, Type: protocol.RecordTimeStep + 1, Payload: []byte(`{"news":true}`),
	})
	require.NoError(t, err)
	require.Equal(t, before, after)
}

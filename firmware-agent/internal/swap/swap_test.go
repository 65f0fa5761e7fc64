package swap

import (
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

func TestSwapped(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	r.deposit(flat("R1"))
	r.take(protocol.PurposeDispense)
	c := r.closed()
	require.Equal(t, protocol.OutcomeSwapped, c.Outcome)
	require.Equal(t, protocol.BatterySerial("R1"), c.Deposited)
	require.Equal(t, protocol.BatterySerial("C3"), c.Taken)
}

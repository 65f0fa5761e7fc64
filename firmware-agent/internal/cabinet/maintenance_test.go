package cabinet

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// order asks for an order, grants it if it may be, and gives why it was refused.
func (r *rig) order(n int, what protocol.Order, slotNumber int) protocol.Reason {
	was := len(messages[protocol.MaintenanceAnswer](r))
	id := protocol.OrderID(fmt.Sprintf("01920000-0000-7000-9000-%012d", n))
	require.True(r.t, r.c.Deliver(Command{Message: protocol.MaintenanceRequest{OrderID: id, What: what, Slot: slotNumber}}))
	r.until("an answer", func() bool { return len(messages[protocol.MaintenanceAnswer](r)) > was })
	a := messages[protocol.MaintenanceAnswer](r)[was]
	if a.Reason != "" {
		return a.Reason
	}
	g := protocol.MaintenanceGrant{OrderID: id, What: what, Slot: slotNumber, Nonce: a.Nonce, BootID: a.BootID}
	raw, err := json.Marshal(g)
	require.NoError(r.t, err)
	require.True(r.t, r.c.Deliver(Command{Message: g, Raw: raw}))
	return ""
}

func (r *rig) turn(on bool) {
	r.mu.Lock()
	r.key = on
	r.mu.Unlock()
	r.until("the key switch is read", func() bool { return r.c.Scene().Maintenance == on })
}

// TestMaintenance: on the loop's way, too, no lock is pulsed before its order and
// its INTENT are journalled, and none without the key.
func TestMaintenance(t *testing.T) {
	inBubble(t, func(r *rig) {
		require.Equal(t, protocol.ReasonKeyNotTurned, r.order(1, protocol.OrderBegin, 0))
		r.turn(true)
		require.Empty(t, r.order(2, protocol.OrderBegin, 0))
		r.until("out of service", func() bool {
			all := messages[protocol.Telemetry](r)
			return all[len(all)-1].OutOfService == protocol.ReasonMaintenance
		})
		require.True(t, r.c.Deliver(Command{Message: protocol.Prepare{SwapID: swapID(1), Kind: protocol.KindSwap}}))
		r.until("refused", func() bool { return len(messages[protocol.Refused](r)) == 1 })
		require.Equal(t, protocol.ReasonMaintenance, messages[protocol.Refused](r)[0].Reason)
		require.True(t, r.get(5).charge)

		require.Empty(t, r.order(3, protocol.OrderOpen, 5))
		require.Equal(t, 5, r.opened())
		require.False(t, r.get(5).charge, "it is charged with its door open")
		r.act(5, "N5")
		var told []string
		r.until("the end", func() bool {
			r.order(100+len(told), protocol.OrderEnd, 0)
			told = r.events()
			return strings.Contains(told[len(told)-1], `"changes":[{"slot":5,"removed":"F5","added":"N5"}]`)
		})
		var kinds []string
		for _, line := range told {
			kind, _, _ := strings.Cut(line, " ")
			kinds = append(kinds, kind)
		}
		require.Equal(t, []string{"MAINTENANCE", "MAINTENANCE", "INTENT", "PULSE", "MAINTENANCE"}, kinds)
		r.turn(false)
		r.prepare(2, protocol.KindSwap)
	})
}

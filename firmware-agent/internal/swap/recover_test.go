package swap

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// A granted slot that was never pulsed, and whose board is dead or which staff
// have taken out with its door open, does not keep a recovery open for ever. What
// it holds is not known, so a person decides.
func TestRecoveryDoesNotWaitForASlotThatIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		slot int
		lose func(*rig, int)
	}{
		"dead, to dispense":    {4, func(r *rig, n int) { r.box(n).dead = true }},
		"dead, to deposit":     {2, func(r *rig, n int) { r.box(n).dead = true }},
		"out by staff, broken": {4, func(r *rig, n int) { r.box(n).open = true }},
	} {
		t.Run(name, func(t *testing.T) {
			r := usual(t)
			r.start(1, protocol.KindSwap)
			r.deposit(flat("R1"))
			require.Equal(t, 3, r.opened(protocol.PurposeDispense))
			r.powerOff()
			c.lose(r, c.slot)
			r.boot()
			r.shut(3)
			r.event(Configure{Config: protocol.CabinetConfig{Version: 1, SlotsOut: []int{c.slot}}})
			r.wait(30 * time.Second)
			require.NotNil(t, r.open(), "its readings may still come")
			end := r.closed()
			require.Less(t, r.now, 2*time.Minute)
			require.Equal(t, protocol.OutcomeReview, end.Outcome, "%s", r)
			require.Contains(t, end.Explanations, protocol.OutcomeDepositedOwed, "the truth")
			require.True(t, r.durable().Alarmed(protocol.AlarmHeldBattery, c.slot))
		})
	}
}

// A grant that the network repeats is no attack.
func TestRepeatedGrantIsNotRejected(t *testing.T) {
	r := usual(t)
	g := r.start(1, protocol.KindSwap)
	r.event(g)
	require.Empty(t, r.rejected)
	other := g
	other.Nonce[3]++
	r.event(other)
	require.Equal(t, []string{whyNonce}, r.rejected)
	r.deposit(flat("R1"))
	r.take(protocol.PurposeDispense)
	r.closed()
	require.Len(t, records[protocol.Accept](r), 1)
}

package cabinet

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// TestSceneFollowsTheSwap: at every moment the screen says what the doors want.
func TestSceneFollowsTheSwap(t *testing.T) {
	inBubble(t, func(r *rig) {
		s := r.c.Scene()
		require.Empty(t, s.Step)
		require.Empty(t, s.Outcome)
		require.Equal(t, 2, s.Empty)
		require.Equal(t, 2, s.Charged)
		r.grant(r.prepare(1, protocol.KindSwap), protocol.KindSwap, "R1")
		n := r.opened()
		r.until("the deposit", func() bool { return r.c.Scene().Step == StepDeposit })
		require.Equal(t, n, r.c.Scene().Slot)
		var seen []Step
		watch := func() bool {
			if s := r.c.Scene(); s.Step != "" && (len(seen) == 0 || seen[len(seen)-1] != s.Step) {
				seen = append(seen, s.Step)
			}
			return r.c.Scene().Outcome != ""
		}
		r.act(n, "R1")
		r.until("the dispense", func() bool { watch(); return r.c.Scene().Step == StepDispense })
		require.NotNil(t, r.c.Scene().Soc)
		k := r.opened()
		require.Equal(t, k, r.c.Scene().Slot)
		r.act(k, "")
		r.until("the end", watch)
		require.Equal(t, []Step{StepVerify, StepDispense, StepVerify}, slices.DeleteFunc(seen, func(s Step) bool { return s == StepDeposit }))
		require.Equal(t, protocol.OutcomeSwapped, r.c.Scene().Outcome)
		require.Empty(t, r.c.Scene().Step)
	})
}

// TestSceneOfADoorThatNobodySawOpen: who is quicker than two readings is not asked
// again for the battery that is in.
func TestSceneOfADoorThatNobodySawOpen(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.grant(r.prepare(1, protocol.KindSwap), protocol.KindSwap, "R1")
		n := r.opened()
		r.set(n, func(b *box) { b.serial, b.soc, b.loose, b.open = "R1", 120, true, false })
		r.until("that it was noticed", func() bool {
			require.NotEqual(t, StepReopen, r.c.Scene().Step)
			return r.c.Scene().Step == StepVerify
		})
		require.NotContains(t, strings.Join(r.events(), "\n"), "DOOR ", "it was seen open")
		r.set(n, func(b *box) { b.loose = false })
		r.until("the dispense", func() bool { return r.c.Scene().Step == StepDispense })
	})
}

// TestSceneAfterARestart: the screen asks for the door, and promises no other.
func TestSceneAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		time.Sleep(5 * time.Second)
		r.grant(r.prepare(1, protocol.KindSwap), protocol.KindSwap, "R1")
		n := r.opened()
		require.NoError(t, r.end())
		r.write(protocol.Boot{BootID: protocol.BootID{8}, Epoch: protocol.Epoch{1}})
		r.start()
		time.Sleep(5 * time.Second)
		require.Equal(t, StepSettle, r.c.Scene().Step)
		require.Equal(t, n, r.c.Scene().Slot)
		r.act(n, "R1")
		r.until("the end", func() bool { return r.c.Scene().Outcome == protocol.OutcomeDepositedOwed })
		require.NoError(t, r.end())
	})
}

// TestPresenceByCode: what the screen shows opens what the button does, and
// nothing else does.
func TestPresenceByCode(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.mu.Lock()
		r.codes = []string{"ABCDEF", "GHJKLM"}
		r.mu.Unlock()
		for i, code := range []string{"", "ABCDEG", "abcdef", "NPQRST"} {
			require.True(t, r.c.Deliver(Command{Message: protocol.Prepare{SwapID: swapID(i + 1), Kind: protocol.KindOwed, Presence: code}}))
			r.until("refused", func() bool { return len(messages[protocol.Refused](r)) == i+1 })
			require.Equal(t, protocol.ReasonPresence, messages[protocol.Refused](r)[i].Reason)
		}
		require.True(t, r.c.Deliver(Command{Message: protocol.Prepare{SwapID: swapID(9), Kind: protocol.KindOwed, Presence: "GHJKLM"}}))
		r.until("prepared", func() bool { return len(messages[protocol.Prepared](r)) == 1 })
	})
}

// TestSceneForgetsAKeyThatNobodyTellsOf: a board that died with the key turned does
// not keep riders away for ever.
func TestSceneForgetsAKeyThatNobodyTellsOf(t *testing.T) {
	inBubble(t, func(r *rig) {
		require.False(t, r.c.Scene().Maintenance)
		r.mu.Lock()
		r.key = true
		r.mu.Unlock()
		r.until("maintenance", func() bool { return r.c.Scene().Maintenance })
		r.mu.Lock()
		r.away = true
		r.mu.Unlock()
		r.until("it is not known any more", func() bool { return !r.c.Scene().Maintenance })
	})
}

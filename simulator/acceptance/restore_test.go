package acceptance

import (
	"context"
	"errors"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
	"batteryswap/simulator/rider"
	"batteryswap/simulator/world"
)

// copyFolder copies a folder with its owners, as a backup does.
func (s *stage) copyFolder(from, to string) {
	s.t.Helper()
	said, err := exec.CommandContext(s.t.Context(), "cp", "-a", from, to).CombinedOutput()
	require.NoError(s.t, err, "%s", said)
}

// replaceFolder puts a copy in a folder's place.
func (s *stage) replaceFolder(folder, by string) {
	s.t.Helper()
	said, err := exec.CommandContext(s.t.Context(), "mv", folder, folder+".lost").CombinedOutput()
	require.NoError(s.t, err, "%s", said)
	s.copyFolder(by, folder)
}

func (s *stage) ready() {
	s.t.Helper()
	for _, r := range s.replicas {
		s.until(r.Name+" is not ready", func() bool { return r.status("/readyz") == http.StatusOK })
	}
}

// depositsAndLeaves puts a rider's battery in; before the door closes the power
// goes, and it comes back afterwards.
func (s *stage) depositsAndLeaves(c *cabinet, riderID, serial string) protocol.SwapID {
	s.t.Helper()
	id := s.scan(s.replicas[0], riderID, c)
	slot := s.openDoor(c, 1)
	require.NoError(s.t, s.world.Insert(s.now(), riderID, c.id, slot, serial, true))
	c.Kill()
	require.NoError(s.t, s.world.CloseDoor(s.now(), riderID, c.id, slot))
	return id
}

// owed waits until the books owe a rider a battery.
func (s *stage) owed(riderID string) {
	s.t.Helper()
	s.until("no battery is owed", func() bool { return s.audited().of(s.t, riderID).OpenCredits == 1 })
}

// takesOwed takes the battery that a rider is owed.
func (s *stage) takesOwed(c *cabinet, riderID string, n int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	result, err := s.quickRider(s.replicas[0], riderID, c).Swap(ctx, n)
	require.NoError(s.t, err)
	require.Equal(s.t, protocol.OutcomeOwedTaken, result.Swap.Outcome)
}

// TestOldBackupUnderRunningAgents restores a database from before swaps that
// were counted, a battery that was owed and one that was owed and taken, while
// the agents go on: they tell it all again. Until they all have, nobody is given
// what this database believes to be owed.
func TestOldBackupUnderRunningAgents(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	s.startReplica()
	s.startReplica()
	near, far := s.newCabinet(6, 3), s.newCabinet(6, 3)
	for _, c := range s.cabinets {
		c.startBoards()
		c.startAgent()
		c.heard(3)
	}
	swaps, _ := s.newRider()
	spends, spent := s.newRider()
	waits, waiting := s.newRider()
	s.swapsAgain(near, swaps, 1)

	data, backup := filepath.Join(s.dir, "database", "data"), filepath.Join(s.dir, "database", "backup")
	s.database.Stop()
	s.copyFolder(data, backup)
	require.NoError(t, s.database.Start())
	s.ready()

	// What the backup does not know.
	s.swapsAgain(near, swaps, 2)
	s.depositsAndLeaves(near, spends, spent)
	require.NoError(t, near.Start())
	s.owed(spends)
	s.takesOwed(far, spends, 1)
	s.depositsAndLeaves(near, waits, waiting)
	require.NoError(t, near.Start())
	s.owed(waits)
	before := s.audited()
	far.Kill()

	// As the README says: stop, restore, begin a recovery, start.
	for _, r := range s.replicas {
		r.Stop()
	}
	s.database.Stop()
	s.replaceFolder(data, backup)
	require.NoError(t, s.database.Start())
	s.until("the restored database does not answer", func() bool {
		_, err := s.tools.Run(t.Context(), "", "backend", "cabinet", "begin-recovery")
		return err == nil
	})
	require.Equal(t, 1, s.audited().of(t, swaps).Counted, "the backup is old")
	for _, r := range s.replicas {
		require.NoError(t, r.Start())
	}
	s.ready()
	s.owed(waits) // the one cabinet has told
	s.until("the books do not know the rider's second swap", func() bool { return s.audited().of(t, swaps).Counted == 2 })
	require.Equal(t, 1, s.audited().of(t, spends).OpenCredits, "the other has not: it knows that this one is spent")
	for _, id := range []string{spends, waits} {
		s.refusedFor(near, id, protocol.ReasonRecovering)
	}

	require.NoError(t, far.Start())
	s.until("the books do not become what they were", func() bool {
		a := s.audited()
		for _, id := range []string{swaps, spends, waits} {
			was, is := before.of(t, id), a.of(t, id)
			was.Reviews, is.Reviews = 0, 0 // people look at what came back
			if !sameAccount(was, is) {
				return false
			}
		}
		return true
	})
	s.takesOwed(near, waits, 2)
	s.until("the take is not counted", func() bool {
		a := s.audited().of(t, waits)
		return a.OpenCredits == 0 && a.Counted == 1
	})
}

// refusedFor wants a scan to be refused.
func (s *stage) refusedFor(c *cabinet, riderID string, why protocol.Reason) {
	s.t.Helper()
	_, err := s.phone(s.replicas[0], riderID).Scan(s.t.Context(), c.id, "refused-"+riderID)
	var refused *rider.Refused
	require.ErrorAs(s.t, err, &refused)
	require.Equal(s.t, why, refused.Reason)
}

func sameAccount(a, b account) bool {
	same := len(a.Batteries) == len(b.Batteries) && len(a.OpenSwaps) == len(b.OpenSwaps)
	for i := 0; same && i < len(a.Batteries); i++ {
		same = a.Batteries[i] == b.Batteries[i]
	}
	return same && a.Deposits == b.Deposits && a.Takes == b.Takes && a.Counted == b.Counted && a.OpenCredits == b.OpenCredits
}

// TestDiskRolledBack puts an older copy of an agent's journal in its place, with
// a swap open: the backend finds that it contradicts what was told, the agent
// begins a new epoch and stays out of service until staff accept it, and the
// swap goes to a person.
func TestDiskRolledBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	r := s.startReplica()
	c := s.newCabinet(6, 4)
	c.startBoards()
	c.startAgent()
	c.heard(4)
	swaps, _ := s.newRider()
	leaves, left := s.newRider()
	s.swapsAgain(c, swaps, 1)
	c.Stop()
	state, old := filepath.Join(c.dir, "state"), filepath.Join(c.dir, "old")
	s.copyFolder(state, old)
	require.NoError(t, c.Start())
	s.swapsAgain(c, swaps, 2)
	id := s.depositsAndLeaves(c, leaves, left)

	pulses := s.pulses(c)
	s.replaceFolder(state, old)
	require.NoError(t, c.Start())
	s.until("the agent goes on with a journal that contradicts what it told", func() bool { return c.Alone() != nil })
	require.ErrorContains(t, c.Alone(), "new epoch")
	require.NoError(t, c.Start()) // as systemd does
	s.until("nobody accepts an epoch that does not wait", func() bool {
		require.NoError(t, c.Alone())
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := s.phone(r, swaps).Scan(ctx, c.id, "in-the-new-epoch")
		var refused *rider.Refused
		return errors.As(err, &refused) && refused.Reason == protocol.ReasonOutOfService
	})
	require.Equal(t, pulses, s.pulses(c), "a boot opened a door")
	require.Equal(t, 2, s.audited().of(t, swaps).Counted)

	s.run("backend", "cabinet", "accept-epoch", c.id)
	v, ok := s.swapOf(r, leaves, id)
	require.True(t, ok)
	require.Equal(t, protocol.OutcomeReview, v.Outcome)
	books := s.audited().of(t, leaves)
	require.Equal(t, 1, books.Reviews)
	require.Empty(t, books.OpenSwaps)
	// Else the agent asks again within a minute.
	c.Stop()
	require.NoError(t, c.Start())
	s.swapsAgain(c, swaps, 3)
}

// pulses counts the unlocks at a cabinet.
func (s *stage) pulses(c *cabinet) int {
	n := 0
	for _, e := range s.world.Events(0) {
		if e.Kind == world.Pulsed && e.Cabinet == c.id {
			n++
		}
	}
	return n
}

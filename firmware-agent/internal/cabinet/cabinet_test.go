package cabinet

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// types are the first words of what happened, from ACCEPT on.
func types(events []string) []string {
	var out []string
	for _, e := range events {
		word, _, _ := strings.Cut(e, " ")
		if word == "ACCEPT" || len(out) > 0 {
			out = append(out, word)
		}
	}
	return out
}

func TestOneSwap(t *testing.T) {
	inBubble(t, func(r *rig) {
		p := r.prepare(1, protocol.KindSwap)
		at := r.now()
		r.grant(p, protocol.KindSwap, "R1")
		n := r.opened()
		t.Logf("from the grant to the open door: %v at 19200 baud, 5 slots", r.now()-at)
		require.Less(t, r.now()-at, time.Second, "from the grant to the open door")
		require.Equal(t, 1, n)
		r.act(n, "R1")
		k := r.opened()
		require.Equal(t, 3, k)
		r.act(k, "")
		r.until("CLOSED", func() bool { return strings.HasPrefix(r.events()[len(r.events())-1], "CLOSED") })
		require.Equal(t, []string{
			"ACCEPT", "INTENT", "PULSE", "DOOR", "DOOR", "DEPOSIT", "INTENT", "PULSE", "DOOR", "DOOR", "TAKEN", "CLOSED",
		}, types(r.events()))
		require.Contains(t, r.events()[len(r.events())-1], `"outcome":"swapped"`)
		time.Sleep(time.Second)
		s := r.c.Stats()
		require.Equal(t, uint64(2), s.Pulses)
		require.Equal(t, map[string]uint64{"swapped": 1}, s.Closed)
		require.Equal(t, 118, s.PulsesLeft)
		require.False(t, s.SwapOpen)
		require.Equal(t, 5, s.SlotsFresh)
		require.Equal(t, 2, s.SlotsEmpty)
		require.Equal(t, 1, s.SlotsCharged)
		r.mu.Lock()
		hurry, watch := r.hurry, r.watch
		r.mu.Unlock()
		require.False(t, hurry, "at rest again")
		require.Empty(t, watch)
	})
}

func TestPreparedIsAnsweredFromMemory(t *testing.T) {
	inBubble(t, func(r *rig) {
		at := r.now()
		p := r.prepare(1, protocol.KindSwap)
		require.LessOrEqual(t, r.now()-at, 10*time.Millisecond)
		require.NoError(t, p.Validate())
		r.until("hurry", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.hurry && len(r.watch) == 4 })
	})
}

// TestJournalFails: no record, no pulse, and Run ends with the error.
func TestJournalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		time.Sleep(5 * time.Second)
		p := r.prepare(1, protocol.KindSwap)
		full := errors.New("no space left on device")
		r.mu.Lock()
		r.jErr = full
		r.mu.Unlock()
		r.grant(p, protocol.KindSwap, "R1")
		err := <-r.err
		require.ErrorIs(t, err, full)
		require.ErrorContains(t, err, "journal ACCEPT")
		time.Sleep(time.Minute)
		require.NotContains(t, strings.Join(r.events(), "\n"), "PULSE")
		r.stop()
	})
}

// TestJournalFailsBeforeTheNextPulse: the INTENT of the dispense is not on disk.
func TestJournalFailsBeforeTheNextPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		time.Sleep(5 * time.Second)
		r.grant(r.prepare(1, protocol.KindSwap), protocol.KindSwap, "R1")
		n := r.opened()
		time.Sleep(3 * time.Second)
		r.mu.Lock()
		r.jErr = errors.New("input/output error")
		r.mu.Unlock()
		r.act(n, "R1")
		require.Error(t, <-r.err)
		time.Sleep(time.Minute)
		require.Equal(t, 1, strings.Count(strings.Join(r.events(), "\n"), "PULSE"))
		r.stop()
	})
}

// TestUnlockErrorIsNotKnown: the board does not answer, and yet the door opens.
func TestUnlockErrorIsNotKnown(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.set(1, func(b *box) { b.failing = true })
		r.grant(r.prepare(1, protocol.KindSwap), protocol.KindSwap, "R1")
		r.act(r.opened(), "R1")
		r.act(r.opened(), "")
		r.until("CLOSED", func() bool { return r.c.SwapID() == "" })
		require.Contains(t, strings.Join(r.events(), "\n"), `"outcome":"swapped"`)
		require.Equal(t, uint64(1), r.c.Stats().PulseErrors)
	})
}

// TestUnlockThatHangs: the pulse is given up in time, and nothing is pulsed
// beside it.
func TestUnlockThatHangs(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.set(1, func(b *box) { b.unlock, b.stay = time.Hour, true })
		r.grant(r.prepare(1, protocol.KindSwap), protocol.KindSwap, "R1")
		r.until("first pulse", func() bool { return strings.Contains(strings.Join(r.events(), "\n"), "PULSE 1") })
		at := r.now()
		time.Sleep(unlockTime - time.Second)
		require.Equal(t, 1, strings.Count(strings.Join(r.events(), "\n"), "PULSE"))
		n := 0
		r.until("the second slot", func() bool { n = strings.Count(strings.Join(r.events(), "\n"), "PULSE 2"); return n > 0 })
		require.Equal(t, 2, strings.Count(strings.Join(r.events(), "\n"), "PULSE 1"))
		require.Greater(t, r.now()-at, 2*unlockTime)
		r.act(2, "R1")
		r.act(r.opened(), "")
		r.until("CLOSED", func() bool { return r.c.SwapID() == "" })
	})
}

// TestBootWithOpenSwap (I6): the cabinet senses and closes, and touches no lock.
func TestBootWithOpenSwap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		time.Sleep(5 * time.Second)
		r.grant(r.prepare(1, protocol.KindSwap), protocol.KindSwap, "R1")
		n := r.opened()
		require.NoError(t, r.end())
		pulses := strings.Count(strings.Join(r.events(), "\n"), "PULSE")
		r.write(protocol.Boot{BootID: protocol.BootID{8}, Epoch: protocol.Epoch{1}})
		r.start()
		time.Sleep(30 * time.Second)
		require.Equal(t, swapID(1), r.c.SwapID())
		require.True(t, r.c.Deliver(Command{Message: protocol.Prepare{SwapID: swapID(2), Kind: protocol.KindSwap}}))
		r.until("refused", func() bool { return len(messages[protocol.Refused](r)) == 1 })
		require.Equal(t, protocol.ReasonBusy, messages[protocol.Refused](r)[0].Reason)
		r.act(n, "R1")
		r.until("CLOSED", func() bool { return r.c.SwapID() == "" })
		require.Contains(t, strings.Join(r.events(), "\n"), `"outcome":"deposited_owed"`)
		require.Equal(t, pulses, strings.Count(strings.Join(r.events(), "\n"), "PULSE"))
		r.prepare(3, protocol.KindSwap)
		require.NoError(t, r.end())
	})
}

func TestQueuesAreBounded(t *testing.T) {
	r := &rig{t: t, began: time.Now(), boxes: make([]box, 2)}
	r.write(protocol.Boot{BootID: protocol.BootID{7}})
	c, err := New(Options{
		CoreOptions: CoreOptions{Slots: 2, State: r.fold.State(), Limits: slot.DefaultLimits(), MaxPulsesPerHour: 120},
		Journal:     r, Board: r, Sensors: r, Send: r.send, Now: r.now,
	})
	require.NoError(t, err)
	taken := 0
	for range 10_000 { // nobody runs it
		if c.Deliver(Command{Message: protocol.InventoryRequest{}}) {
			taken++
		}
		c.Observe(slot.Reading{Slot: 1})
		c.Reject(protocol.TypeGrant, "key")
		c.Configure(protocol.CabinetConfig{}, 1)
	}
	require.Equal(t, maxCommands, taken)
	require.Len(t, c.readings, maxReadings)
	s := c.Stats()
	require.Equal(t, uint64(3*10_000-2*maxCommands-cap(c.configs)), s.CommandsDropped)
	require.Equal(t, uint64(10_000-maxReadings), s.ReadingsDropped)
}

func TestNewRefusesNonsense(t *testing.T) {
	_, err := NewCore(CoreOptions{Slots: 49}, 0)
	require.ErrorContains(t, err, "slots")
	_, err = NewCore(CoreOptions{Slots: 4}, 0)
	require.ErrorContains(t, err, "BOOT")
}

func TestTelemetry(t *testing.T) {
	inBubble(t, func(r *rig) {
		time.Sleep(20 * time.Second)
		before := len(messages[protocol.Telemetry](r))
		time.Sleep(200 * time.Second)
		heartbeats := len(messages[protocol.Telemetry](r)) - before
		require.InDelta(t, 10, heartbeats, 1, "every 20 s")
		last := messages[protocol.Telemetry](r)[before+heartbeats-1]
		require.Len(t, last.Slots, 5)
		require.Equal(t, protocol.BootID{7}, last.BootID)
		require.Equal(t, uint64(3), last.BacklogRecords)
		require.Equal(t, uint64(9_000_000), *last.EnergyJ)
		before += heartbeats
		for range 100 { // soc that runs
			r.set(5, func(b *box) { b.soc += 3 })
			time.Sleep(100 * time.Millisecond)
		}
		on := len(messages[protocol.Telemetry](r)) - before
		require.Greater(t, on, 4, "on change")
		require.LessOrEqual(t, on, 11, "and at most once a second")
		r.mu.Lock()
		r.deaf = true
		r.mu.Unlock()
		time.Sleep(time.Minute)
		require.NotZero(t, r.c.Stats().MessagesDropped)
	})
}

func TestTelemetryTellsTheReason(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.mu.Lock()
		r.out = protocol.ReasonOutOfService
		r.mu.Unlock()
		time.Sleep(3 * time.Second)
		all := messages[protocol.Telemetry](r)
		require.Equal(t, protocol.ReasonOutOfService, all[len(all)-1].OutOfService)
		require.True(t, r.c.Stats().OutOfService)
		require.True(t, r.c.Deliver(Command{Message: protocol.Prepare{SwapID: swapID(1), Kind: protocol.KindSwap}}))
		r.until("refused", func() bool { return len(messages[protocol.Refused](r)) == 1 })
		require.Equal(t, protocol.ReasonOutOfService, messages[protocol.Refused](r)[0].Reason)
		require.Equal(t, map[string]uint64{"out_of_service": 1}, r.c.Stats().Refused)
	})
}

func TestRejectRecordsAreLimited(t *testing.T) {
	inBubble(t, func(r *rig) {
		rejects := func() []string {
			var out []string
			for _, e := range r.events() {
				if strings.HasPrefix(e, "REJECT") {
					out = append(out, e)
				}
			}
			return out
		}
		for range 30 {
			for range 20 {
				r.c.Reject(protocol.TypeGrant, "key")
			}
			time.Sleep(time.Second)
		}
		require.Equal(t, []string{`REJECT {"type":"grant","why":"key","count":1}`}, rejects())
		time.Sleep(2 * time.Minute)
		require.Equal(t, `REJECT {"type":"grant","why":"key","count":599}`, rejects()[1])
		require.Len(t, rejects(), 2)
		for n := range 500 { // whatever a stranger thinks of
			r.c.Reject("no such type", strings.Repeat("x", n))
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(time.Second)
		require.LessOrEqual(t, len(rejects()), 2+maxWhys+1)
		require.NotContains(t, strings.Join(rejects(), ""), "no such type")
		require.Equal(t, uint64(600), r.c.Stats().Rejected["key"])
	})
}

func TestInventoryRequest(t *testing.T) {
	inBubble(t, func(r *rig) {
		require.True(t, r.c.Deliver(Command{Message: protocol.InventoryRequest{}}))
		r.until("inventory", func() bool { return len(messages[protocol.InventoryReport](r)) == 1 })
		inv := messages[protocol.InventoryReport](r)[0].Slots
		require.Len(t, inv, 5)
		require.Equal(t, protocol.BatterySerial("C3"), inv[2].BatterySerial)
		require.NotNil(t, inv[2].AgeMS)
		require.Len(t, r.c.Inventory(), len(inv))
		require.True(t, r.c.Deliver(Command{Message: protocol.Hello{}}))
		r.until("reject", func() bool { return r.c.Stats().Rejected["unexpected"] == 1 })
	})
}

func TestConfigure(t *testing.T) {
	inBubble(t, func(r *rig) {
		cfg := protocol.CabinetConfig{Version: 4, SlotsOut: []int{3}}
		require.True(t, r.c.Configure(cfg, 2))
		require.True(t, r.c.Configure(cfg, 2))
		r.until("CONFIG", func() bool { c, _ := r.c.Config(); return c.Version == 4 })
		time.Sleep(time.Second)
		require.Equal(t, 1, strings.Count(strings.Join(r.events(), "\n"), "CONFIG"))
		_, keys := r.c.Config()
		require.Equal(t, int64(2), keys)
		inv := r.c.Inventory()
		require.True(t, inv[2].Out)
		p := r.prepare(1, protocol.KindSwap)
		require.Len(t, p.Dispense, 1)
		require.Equal(t, 4, p.Dispense[0].Slot)
	})
}

func TestButtonIsPresence(t *testing.T) {
	inBubble(t, func(r *rig) {
		ask := func(n int) protocol.Message {
			r.mu.Lock()
			was := len(r.sent)
			r.mu.Unlock()
			require.True(t, r.c.Deliver(Command{Message: protocol.Prepare{SwapID: swapID(n), Kind: protocol.KindOwed}}))
			var got protocol.Message
			r.until("answer", func() bool {
				r.mu.Lock()
				defer r.mu.Unlock()
				for _, m := range r.sent[was:] {
					switch m.(type) {
					case protocol.Prepared, protocol.Refused:
						got = m
					}
				}
				return got != nil
			})
			return got
		}
		require.Equal(t, protocol.Refused{SwapID: swapID(1), Reason: protocol.ReasonPresence}, ask(1))
		press := func() {
			r.mu.Lock()
			r.button = true
			r.mu.Unlock()
			time.Sleep(2 * time.Second)
			r.mu.Lock()
			r.button = false
			r.mu.Unlock()
		}
		press()
		time.Sleep(32 * time.Second)
		require.IsType(t, protocol.Refused{}, ask(2), "30 s are over")
		press()
		time.Sleep(20 * time.Second)
		require.IsType(t, protocol.Prepared{}, ask(3))
		require.True(t, r.c.Deliver(Command{Message: protocol.Cancel{SwapID: swapID(3)}}))
		require.IsType(t, protocol.Refused{}, ask(4), "one press, one swap")
	})
}

func TestCharging(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.until("slot 5 charges", func() bool { return r.get(5).charge })
		require.False(t, r.get(3).charge, "96 % is enough")
		r.set(3, func(b *box) { b.soc = 920 })
		r.set(4, func(b *box) { b.soc = 920 })
		r.until("they charge again", func() bool { return r.get(3).charge && r.get(4).charge })
		require.False(t, r.get(1).charge, "empty")
		p := r.prepare(1, protocol.KindSwap)
		r.until("slots of a swap do not charge", func() bool { return !r.get(3).charge && !r.get(4).charge })
		require.True(t, r.get(5).charge)
		require.True(t, r.c.Deliver(Command{Message: protocol.Cancel{SwapID: p.SwapID}}))
		r.until("and do again", func() bool { return r.get(3).charge && r.get(4).charge })
		require.True(t, r.c.Configure(protocol.CabinetConfig{Version: 1, SlotsOut: []int{3}, FlaggedSerials: []protocol.BatterySerial{"C4"}}, 0))
		r.until("nor what nobody may take", func() bool { return !r.get(3).charge && !r.get(4).charge })
		require.True(t, r.get(5).charge)
		require.True(t, r.c.Configure(protocol.CabinetConfig{Version: 2}, 0))
		r.until("until it may be taken", func() bool { return r.get(3).charge && r.get(4).charge })
		r.mu.Lock()
		r.smoke = true
		r.mu.Unlock()
		r.until("smoke", func() bool { return !r.get(3).charge && !r.get(4).charge && !r.get(5).charge })
	})
}

func TestSmokeRefuses(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.mu.Lock()
		r.smoke = true
		r.mu.Unlock()
		time.Sleep(2 * time.Second)
		require.True(t, r.c.Deliver(Command{Message: protocol.Prepare{SwapID: swapID(1), Kind: protocol.KindSwap}}))
		r.until("refused", func() bool { return len(messages[protocol.Refused](r)) == 1 })
		require.Equal(t, protocol.ReasonAlarm, messages[protocol.Refused](r)[0].Reason)
	})
}

// TestFoldIsNotAheadOfTheDisk: a snapshot that is taken while a lot is written
// holds what is on the disk, not what will be.
func TestFoldIsNotAheadOfTheDisk(t *testing.T) {
	var f Fold
	require.NoError(t, f.Add(protocol.Record{Type: protocol.RecordBoot, BootSeq: 1, Payload: []byte(`{"boot_id":"00000000000000000000000000000001","software":"x","epoch":"00000000000000000000000000000002"}`)}))
	b, err := f.Snapshot()
	require.NoError(t, err)
	var g Fold
	require.NoError(t, g.Add(protocol.Record{Type: protocol.RecordSnapshot, Payload: b}))
	require.Equal(t, f.State(), g.State())
	require.Error(t, f.Add(protocol.Record{Type: protocol.RecordAccept, Payload: []byte(`{}`)}))
	_, err = f.Snapshot()
	require.Error(t, err, "what could not be folded is not forgotten")
	require.Error(t, f.Add(protocol.Record{Type: protocol.RecordReject}))
}

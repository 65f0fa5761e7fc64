package link

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// near demands a gap of want ± 20 %, to the ms.
func near(t *testing.T, want, got time.Duration) {
	t.Helper()
	require.InDelta(t, float64(want), float64(got), 0.2*float64(want)+1e6)
}

func TestHelloIsRepeatedUntilItIsAnswered(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		r.pass(10 * time.Minute)
		hellos := r.take()
		require.Greater(t, len(hellos), 10)
		for i, s := range hellos[1:] {
			require.Equal(t, protocol.TypeHello, s.e.Type)
			near(t, min(2*time.Second<<i, time.Minute), s.at.Sub(hellos[i].at))
		}
		var h protocol.Hello
		require.NoError(t, protocol.Decode(hellos[0].e, &h))
		pos := r.j.Position()
		require.Equal(t, protocol.Hello{
			Epoch: pos.Epoch, FirstSeq: 1, TailSeq: 5, TailHash: pos.TailHash, BootID: r.opt.BootID, BootSeq: 1,
			Software: "test", ConfigVersion: 3, KeysVersion: 1, Inventory: protocol.Inventory{{Slot: 1}},
		}, h)
		require.Equal(t, protocol.Topic(cabinet, protocol.UpRPC), hellos[0].topic)
		require.Equal(t, byte(1), hellos[0].qos)

		r.says(r.welcome(protocol.VerdictResume, 1))
		require.Equal(t, []string{"1-5"}, r.logs())
	})
}

func TestTheLogGoesOutBatchByBatch(t *testing.T) {
	inBubble(t, newMemory(70, 10), func(r *rig) {
		require.Equal(t, []string{"hello"}, r.logs())
		r.says(r.welcome(protocol.VerdictResume, 3))
		require.Equal(t, []string{"3-34"}, r.logs(), "one batch in flight")
		r.says(r.ack(34))
		require.Equal(t, []string{"35-66"}, r.logs())
		r.j.append(1, 10)
		r.l.Appended()
		synctest.Wait()
		require.Empty(t, r.logs())
		r.says(r.ack(66))
		require.Equal(t, []string{"67-71"}, r.logs())
		require.Equal(t, uint64(66), r.j.acked)
		r.says(r.ack(71))
		r.pass(5 * time.Minute)
		require.Empty(t, r.logs(), "nothing to send")

		r.j.append(3, 10)
		r.l.Appended()
		synctest.Wait()
		require.Equal(t, []string{"72-74"}, r.logs(), "at once, together")
	})
}

func TestABatchIsSentAgainForEver(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		r.take()
		r.says(r.welcome(protocol.VerdictResume, 1))
		r.pass(time.Hour)
		logs := r.take()
		require.Greater(t, len(logs), 50)
		for i, s := range logs[1:] {
			require.Equal(t, protocol.TypeLog, s.e.Type)
			near(t, min(2*time.Second<<min(i, 10), time.Minute), s.at.Sub(logs[i].at))
		}
		r.j.append(2, 10)
		r.pass(2 * time.Minute)
		require.Contains(t, r.logs(), "1-7", "what came meanwhile goes along")
		r.says(r.ack(5))
		require.Equal(t, []string{"6-7"}, r.logs(), "a part is acknowledged: the rest at once")
		r.says(r.ack(5))
		require.Empty(t, r.logs(), "an old acknowledgement moves nothing")
	})
}

func TestOnlyATrueAcknowledgementMovesTheLog(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		r.says(r.welcome(protocol.VerdictResume, 1))
		r.take()
		wrong := r.ack(5)
		wrong.HashAtUpto[0] ^= 1
		r.says(wrong)
		beyond := r.ack(5)
		beyond.UptoSeq = 6
		r.says(beyond)
		foreign := r.ack(5)
		foreign.Epoch[3] = 1
		r.says(foreign)
		forged, err := protocol.Seal("s1", r.grant, cabinet, r.ack(5))
		require.NoError(t, err)
		r.receive(forged)
		require.Zero(t, r.j.acked)
		require.Equal(t, 2, r.counted["in log_ack wrong_ack"])
		require.Equal(t, 1, r.counted["in log_ack stale"])
		require.Equal(t, 1, r.counted["in unknown wrong_signature"])
		r.pass(3 * time.Second)
		require.Equal(t, []string{"1-5"}, r.logs())
		require.Equal(t, []string{"log_ack wrong_ack", "log_ack wrong_ack", " wrong_signature"}, r.rejected)
		r.says(r.ack(5))
		require.Equal(t, uint64(5), r.j.acked)
	})
}

func TestResendFromIsHonouredButNotInACircle(t *testing.T) {
	inBubble(t, newMemory(80, 10), func(r *rig) {
		r.says(r.welcome(protocol.VerdictResume, 61))
		r.take()
		again := protocol.LogAck{Epoch: r.j.epoch, UptoSeq: 20, HashAtUpto: r.j.hashAt(20), ResendFrom: 21}
		r.says(again)
		require.Equal(t, []string{"21-52"}, r.logs())
		r.says(r.ack(52))
		require.Equal(t, []string{"53-80"}, r.logs())

		// To and fro: one at once, then no faster than the resend period.
		for range 1000 {
			again.ResendFrom = 21
			r.says(again)
			again.ResendFrom = 41
			r.says(again)
		}
		require.Equal(t, []string{"21-52"}, r.logs())
		again.ResendFrom = 9000
		r.says(again)
		require.Equal(t, 1, r.counted["in log_ack stale"])
	})
}

func TestVerdicts(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		r.says(r.welcome(protocol.VerdictWait, 0))
		r.take()
		r.pass(10 * time.Minute)
		hellos := r.logs()
		require.Greater(t, len(hellos), 8)
		require.Less(t, len(hellos), 14)
		require.NotContains(t, hellos, "1-5", "an epoch that waits sends nothing")
		r.says(r.welcome(protocol.VerdictResume, 1))
		require.Equal(t, []string{"1-5"}, r.logs())
		r.says(r.welcome(protocol.VerdictNewEpoch, 0))
		r.pass(10 * time.Minute)
		require.Empty(t, r.logs())
		require.Len(t, r.greeted, 3)
	})
}

func TestAnAnswerOfAnotherBootOrEpochChangesNothing(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		m := r.welcome(protocol.VerdictNewEpoch, 0)
		m.BootID[0]++
		r.says(m)
		m = r.welcome(protocol.VerdictNewEpoch, 0)
		m.Epoch[0]++
		r.says(m)
		r.says(r.welcome(protocol.VerdictResume, 7)) // ahead of the tail
		require.Equal(t, 3, r.counted["in hello_ok stale"])
		require.Equal(t, []string{"hello"}, r.logs())

		r.says(r.welcome(protocol.VerdictResume, 1))
		require.Equal(t, 1, r.counted["in hello_ok ok"])
	})
}

// TestALostAcknowledgementIsAskedForAgain: the books have it all, and the cabinet
// does not know.
func TestALostAcknowledgementIsAskedForAgain(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		r.take()
		r.says(r.welcome(protocol.VerdictResume, 6))
		require.Equal(t, []string{"5-5"}, r.logs())
	})
}

// TestRestoredBooksWithAnOlderConfiguration: the cabinet refuses to go back to
// it, and tells what it has to tell.
func TestRestoredBooksWithAnOlderConfiguration(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		m := r.welcome(protocol.VerdictResume, 6)
		m.Config.Version = 8
		r.says(m)
		require.NotContains(t, r.logs(), "1-5")
		m = r.welcome(protocol.VerdictResume, 1)
		m.Config.Version = 7
		r.says(m)
		require.Contains(t, r.logs(), "1-5")
		require.Len(t, r.greeted, 2)
	})
}

func TestHelloIsRepeatedWhenTheCabinetIsBusy(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		r.set(func() { r.busy = true })
		r.says(r.welcome(protocol.VerdictResume, 1))
		require.Equal(t, 1, r.counted["in hello_ok dropped"])
		r.set(func() { r.busy = false })
		r.take()
		r.pass(3 * time.Second)
		require.Equal(t, []string{"hello"}, r.logs())
	})
}

func TestRecordsThatAreGoneAreJumped(t *testing.T) {
	j := newMemory(0, 0)
	j.first = 100
	j.append(5, 10)
	inBubble(t, j, func(r *rig) {
		r.says(r.welcome(protocol.VerdictResume, 3))
		require.Equal(t, []string{"hello", "100-104"}, r.logs())
	})
}

func TestTheLargestRecordsFitAnEnvelope(t *testing.T) {
	for _, size := range []int{protocol.MaxPayload, protocol.MaxPayload / 2, 700, 2} {
		inBubble(t, newMemory(64, size), func(r *rig) {
			r.take()
			r.says(r.welcome(protocol.VerdictResume, 1))
			for r.j.acked < 64 {
				logs := r.logs()
				require.Len(t, logs, 1, "size %d after %d", size, r.j.acked)
				r.says(r.ack(r.upto(logs[0])))
			}
			require.Zero(t, r.counted["out log failed"])
		})
	}
}

func TestAJournalThatCannotBeReadIsTriedAgain(t *testing.T) {
	j := newMemory(5, 10)
	j.fault = errors.New("EIO")
	inBubble(t, j, func(r *rig) {
		r.says(r.welcome(protocol.VerdictResume, 1))
		r.take()
		r.pass(time.Minute)
		require.Empty(t, r.logs())
		r.j.mu.Lock()
		r.j.fault = nil
		r.j.mu.Unlock()
		r.pass(time.Minute)
		require.Contains(t, r.logs(), "1-5")
	})
}

func TestWithoutAJournalNothingIsShipped(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.j = newMemory(1, 1)
		r.says(r.welcome(protocol.VerdictResume, 1))
		r.says(r.ack(1))
		r.pass(time.Hour)
		require.Empty(t, r.take())
		require.True(t, r.l.Send(protocol.Telemetry{BootID: r.opt.BootID}))
		synctest.Wait()
		require.Len(t, r.take(), 1)
	})
}

func TestTelemetryIsSentOnce(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		r.take()
		require.True(t, r.l.Send(protocol.Telemetry{BootID: r.opt.BootID}))
		synctest.Wait()
		sent := r.take()
		require.Len(t, sent, 1)
		require.Equal(t, byte(0), sent[0].qos)
		require.Equal(t, protocol.Topic(cabinet, protocol.UpTelemetry), sent[0].topic)
	})
}

func TestReconnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemory(5, 10))
		r.set(func() { r.connectErr = errors.New("refused") })
		r.start()
		r.pass(20 * time.Minute)
		for i, at := range r.attempts[1:] {
			near(t, min(time.Second<<min(i, 10), time.Minute), at.Sub(r.attempts[i]))
		}
		require.False(t, r.l.Send(protocol.Cancel{}), "nothing is kept for later")
		r.set(func() { r.connectErr = nil })
		r.pass(2 * time.Minute)
		require.Equal(t, []string{"hello"}, r.logs()[:1])
		r.says(r.welcome(protocol.VerdictResume, 1))
		r.says(r.ack(5))
		r.pass(time.Minute)
		r.take()
		close(r.pipe.gone)
		r.pass(1300 * time.Millisecond)
		require.Equal(t, []string{"hello"}, r.logs(), "again after a second, for the connection was a steady one")
		require.Equal(t, []bool{true, false, true}, r.connected)
		require.Equal(t, 1, r.closed)

		// A broker that takes nothing is left, and left alone for longer.
		r.set(func() { r.publishErr = errors.New("unconfirmed") })
		attempts := len(r.attempts)
		close(r.pipe.gone)
		r.pass(10 * time.Minute)
		require.Less(t, len(r.attempts)-attempts, 20)
		require.Greater(t, len(r.attempts)-attempts, 10)
		r.l.Stop()
	})
}

func TestSendIsBounded(t *testing.T) {
	m := protocol.Refused{SwapID: "01920000-0000-7000-8000-000000000001", Reason: protocol.ReasonBusy}
	inBubble(t, newMemory(5, 10), func(r *rig) {
		r.take()
		require.True(t, r.l.Send(m))
		synctest.Wait()
		sent := r.take()
		require.Len(t, sent, 1)
		require.Equal(t, protocol.Topic(cabinet, protocol.UpRPC), sent[0].topic)
		require.True(t, r.l.Send(protocol.Refused{SwapID: "no"}))
		synctest.Wait()
		require.Equal(t, 1, r.counted["out refused failed"], "what cannot be encoded ends no connection")
		require.Zero(t, r.closed)
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemory(5, 10))
		r.make()
		r.l.up.Store(true) // and nobody sends
		for range outboundQueue {
			require.True(t, r.l.Send(m))
		}
		require.False(t, r.l.Send(m))
		require.Equal(t, 1, r.counted["out refused dropped"])
		r.l.receive(inbound{})
		r.l.Start()
		synctest.Wait()
		require.Equal(t, []string{"hello"}, r.logs(), "what waited for another connection is stale")
		require.Equal(t, outboundQueue+1, r.counted["out refused dropped"])
		require.Zero(t, r.counted["in unknown foreign"])
		r.l.Stop()
	})
}

func TestCommandsAreDelivered(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		id := protocol.SwapID("01920000-0000-7000-8000-000000000001")
		all := []protocol.Message{
			protocol.Prepare{SwapID: id, Kind: protocol.KindSwap},
			protocol.Grant{
				SwapID: id, Kind: protocol.KindHandBack, Nonce: protocol.Nonce{1}, BootID: r.opt.BootID, RiderRef: "00112233445566778899aabbccddeeff", DepositSlots: []int{1}, Dispense: []protocol.Offer{},
				ExpectSerials: []protocol.BatterySerial{"B1"},
			},
			protocol.Cancel{SwapID: id},
			protocol.Wish{SwapID: id, What: protocol.WishRecheck},
			protocol.InventoryRequest{},
		}
		for _, m := range all {
			r.says(m)
		}
		require.Equal(t, all, r.delivered)
		r.set(func() { r.busy = true })
		r.says(all[0])
		require.Equal(t, 1, r.counted["in prepare dropped"])
		require.Empty(t, r.rejected)
	})
}

func TestWhatIsRefused(t *testing.T) {
	id := protocol.SwapID("01920000-0000-7000-8000-000000000001")
	for want, message := range map[string]func(r *rig) inbound{
		"in unknown retained": func(r *rig) inbound {
			return inbound{topic: protocol.Topic(cabinet, protocol.Down), payload: r.seal(protocol.Cancel{SwapID: id}), retained: true}
		},
		"in unknown foreign": func(r *rig) inbound {
			return inbound{topic: protocol.Topic("hb-0002", protocol.Down), payload: r.seal(protocol.Cancel{SwapID: id})}
		},
		"in unknown foreign ": func(r *rig) inbound {
			raw, err := protocol.Seal("s1", r.service, "hb-0002", protocol.Cancel{SwapID: id})
			require.NoError(r.t, err)
			return inbound{topic: protocol.Topic(cabinet, protocol.Down), payload: raw}
		},
		"in unknown oversized": func(*rig) inbound {
			return inbound{topic: protocol.Topic(cabinet, protocol.Down), payload: make([]byte, protocol.MaxEnvelope+1)}
		},
		"in unknown malformed": func(*rig) inbound {
			return inbound{topic: protocol.Topic(cabinet, protocol.Down), payload: []byte("open door 4")}
		},
		"in unknown unknown_key": func(r *rig) inbound {
			raw, err := protocol.Seal("s1", r.service, cabinet, protocol.Grant{
				SwapID: id, Kind: protocol.KindHandBack, Nonce: protocol.Nonce{1}, BootID: r.opt.BootID, RiderRef: "00112233445566778899aabbccddeeff", DepositSlots: []int{1}, ExpectSerials: []protocol.BatterySerial{"B1"},
			})
			require.NoError(r.t, err) // a service key must not sign a grant
			return inbound{topic: protocol.Topic(cabinet, protocol.Down), payload: raw}
		},
		"in unknown wrong_signature": func(r *rig) inbound {
			raw := r.seal(protocol.Cancel{SwapID: id})
			raw = bytes.Replace(raw, []byte("000001"), []byte("000002"), 1)
			return inbound{topic: protocol.Topic(cabinet, protocol.Down), payload: raw}
		},
		"in grant malformed": func(r *rig) inbound {
			raw, err := protocol.Seal("g1", r.grant, cabinet, widerGrant{protocol.Grant{
				SwapID: id, Kind: protocol.KindHandBack, Nonce: protocol.Nonce{1}, BootID: r.opt.BootID, RiderRef: "00112233445566778899aabbccddeeff", DepositSlots: []int{1}, ExpectSerials: []protocol.BatterySerial{"B1"},
			}, true})
			require.NoError(r.t, err) // a grant with a field that nobody knows
			return inbound{topic: protocol.Topic(cabinet, protocol.Down), payload: raw}
		},
	} {
		inBubble(t, newMemory(5, 10), func(r *rig) {
			want = strings.TrimSpace(want) // two ways to be foreign
			r.l.receive(message(r))
			synctest.Wait()
			require.Equal(t, 1, r.counted[want], "%s: %v", want, r.counted)
			require.Empty(t, r.delivered, want)
			typ, why, _ := strings.Cut(strings.TrimPrefix(want, "in "), " ")
			require.Equal(t, []string{strings.TrimPrefix(typ, "unknown") + " " + why}, r.rejected)
		})
	}
}

// widerGrant is a grant with one field more.
type widerGrant struct {
	protocol.Grant
	Force bool `json:"force"`
}

func TestUnexpectedIsCountedOnly(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		r.says(protocol.Will{BootID: r.opt.BootID})
		require.Equal(t, 1, r.counted["in unknown unexpected"])
		require.Empty(t, r.rejected)
	})
}

func TestAFloodIsDroppedNotQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newMemory(1, 1))
		l, err := New(r.opt)
		require.NoError(t, err)
		for range inboundQueue + 7 {
			l.receive(inbound{})
		}
		require.Equal(t, 7, r.counted["in unknown dropped"])
	})
}

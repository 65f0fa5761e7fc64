package link

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

func asks(n byte) protocol.HelloRequest {
	return protocol.HelloRequest{Challenge: protocol.Challenge{n}}
}

// challenges are those of the hellos among what was sent, with their times.
func (r *rig) hellos() (challenges []byte, at []time.Time) {
	for _, s := range r.take() {
		if s.e.Type == protocol.TypeHello {
			var h protocol.Hello
			require.NoError(r.t, protocol.Decode(s.e, &h))
			challenges, at = append(challenges, h.Challenge[0]), append(at, s.at)
		}
	}
	return challenges, at
}

func TestHelloIsSaidAgainWhenAsked(t *testing.T) {
	inBubble(t, newMemory(40, 10), func(r *rig) {
		r.says(r.welcome(protocol.VerdictResume, 1))
		r.take()
		r.says(asks(1))
		require.Equal(t, []string{"hello"}, r.logs(), "the batch in flight waits")
		r.says(r.ack(32))
		require.Empty(t, r.logs())
		require.Equal(t, uint64(32), r.j.acked, "what is committed is committed")
		r.pass(3 * time.Second)
		challenges, _ := r.hellos()
		require.Equal(t, []byte{1}, challenges, "again until it is answered")
		r.says(r.welcome(protocol.VerdictResume, 5))
		require.Equal(t, []string{"5-36"}, r.logs(), "from where the backend wants it")
	})
}

func TestAnEpochThatWaitsIsToldWhenAsked(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		r.says(r.welcome(protocol.VerdictWait, 0))
		r.take()
		r.says(asks(1))
		require.Equal(t, []string{"hello"}, r.logs())
		r.pass(30 * time.Second)
		require.Empty(t, r.logs(), "once a minute, as before")
	})
}

// TestRequestsThatAreSentAgainAndAgain: a hostile broker cannot make the agent
// say hello more often than every MinHelloInterval, and the log goes on.
func TestRequestsThatAreSentAgainAndAgain(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		r.says(r.welcome(protocol.VerdictResume, 1))
		r.take()
		for range 600 {
			r.says(asks(1))
			r.says(r.welcome(protocol.VerdictResume, 1))
			r.pass(100 * time.Millisecond)
		}
		var hellos []time.Time
		logs := 0
		for _, s := range r.take() {
			if s.e.Type == protocol.TypeHello {
				hellos = append(hellos, s.at)
			} else {
				logs++
			}
		}
		require.Len(t, hellos, 13, "a minute, both ends counted")
		for i, at := range hellos[1:] {
			require.Equal(t, protocol.MinHelloInterval, at.Sub(hellos[i]))
		}
		require.Positive(t, logs)
		require.Empty(t, r.rejected, "no sign of an attack: any answer may be late")

		r.says(asks(2))
		r.pass(10 * time.Second)
		challenges, _ := r.hellos()
		require.Equal(t, byte(2), challenges[0], "the last challenge is given back")
	})
}

func TestNothingToSayIsNotSaid(t *testing.T) {
	inBubble(t, newMemory(5, 10), func(r *rig) {
		r.says(r.welcome(protocol.VerdictNewEpoch, 0))
		r.take()
		r.says(asks(1))
		synctest.Wait()
		require.Empty(t, r.logs())
		require.Equal(t, 1, r.counted["in hello_request stale"])
		forged, err := protocol.Seal("s1", r.grant, cabinet, asks(1))
		require.NoError(t, err)
		r.receive(forged)
		require.Equal(t, 1, r.counted["in unknown wrong_signature"])
	})
}

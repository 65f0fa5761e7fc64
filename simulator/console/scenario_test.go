package console_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/simulator/console"
	"batteryswap/simulator/world"
)

// pulled is a plug that remembers what was done to it.
type pulled struct{ did []string }

func (p *pulled) Vanish() error { p.did = append(p.did, "vanish"); return nil }
func (p *pulled) Return() error { p.did = append(p.did, "return"); return nil }

// Each scenario does what it says to the world: its lines are ones that the
// console understands, and the trouble is there afterwards.
func TestScenarios(t *testing.T) {
	const id = "hb-0001"
	sensors := func(w *world.World, at time.Duration) world.CabinetSensors {
		s, err := w.SenseCabinet(at, id)
		require.NoError(t, err)
		return s
	}
	inputs := func(w *world.World, kind world.Kind, cause string) (n int) {
		for _, e := range w.Events(0) {
			if e.Kind == kind && e.Cause == cause {
				n++
			}
		}
		return n
	}
	// Slots 11 and 12 hold batteries and are charged: SLOT is 12.
	shows := map[string]func(*testing.T, *world.World, *pulled, time.Duration){
		"runaway": func(t *testing.T, w *world.World, _ *pulled, at time.Duration) {
			require.Greater(t, w.Facts(at+60*time.Second, id)[11].Battery.TempDeciC, 1000)
		},
		"smoke": func(t *testing.T, w *world.World, _ *pulled, _ time.Duration) {
			require.Equal(t, 2, inputs(w, world.InputChanged, "smoke"))
		},
		"silent-sensor": func(t *testing.T, w *world.World, _ *pulled, at time.Duration) {
			s, err := w.Sense(at, id, 12)
			require.NoError(t, err)
			require.Nil(t, s.Battery)
			require.Positive(t, s.CurrentMA)
		},
		"hot-battery": func(t *testing.T, w *world.World, _ *pulled, at time.Duration) {
			require.Equal(t, 580, w.Facts(at+time.Hour, id)[11].Battery.TempDeciC)
		},
		"stuck-relay": func(t *testing.T, w *world.World, _ *pulled, at time.Duration) {
			require.NoError(t, w.SwitchCharger(at, id, 12, false))
			require.Positive(t, w.Facts(at, id)[11].CurrentMA)
		},
		"emergency-stop": func(t *testing.T, w *world.World, _ *pulled, at time.Duration) {
			require.Equal(t, 2, inputs(w, world.InputChanged, "emergency_stop"))
			require.False(t, sensors(w, at).ContactorClosed)
			require.Zero(t, w.Facts(at, id)[11].CurrentMA)
		},
		"water": func(t *testing.T, w *world.World, _ *pulled, at time.Duration) {
			require.True(t, sensors(w, at).Water)
		},
		"supply-low": func(t *testing.T, w *world.World, _ *pulled, _ time.Duration) {
			require.Equal(t, 2, inputs(w, world.InputChanged, "mains"))
		},
		"frozen-board": func(t *testing.T, w *world.World, _ *pulled, at time.Duration) {
			require.Equal(t, []world.Fault{world.FrozenBoard}, w.Facts(at, id)[11].Faults)
		},
		"vanishing-port": func(t *testing.T, _ *world.World, p *pulled, _ time.Duration) {
			require.Equal(t, []string{"vanish", "return", "vanish", "return"}, p.did)
		},
		"frost": func(t *testing.T, w *world.World, _ *pulled, at time.Duration) {
			require.Less(t, w.Outside(at), -120)
			require.NoError(t, w.SwitchCharger(at, id, 12, false))
			require.Negative(t, w.Facts(at, id)[11].Battery.TempDeciC)
			require.NoError(t, w.SwitchAir(at, id, 12, false, true))
			require.Greater(t, w.Facts(at+10*time.Minute, id)[11].Battery.TempDeciC, 20)
		},
		"hot-day": func(t *testing.T, w *world.World, _ *pulled, at time.Duration) {
			require.Greater(t, w.Outside(at), 380)
			require.Greater(t, w.Facts(at+time.Hour, id)[11].Battery.TempDeciC, 450)
		},
	}
	require.Len(t, shows, len(console.Scenarios()))
	for _, s := range console.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			w := world.New(rand.New(rand.NewPCG(1, 1)), 1)
			require.NoError(t, w.AddCabinet(id, 12))
			for _, slot := range []int{11, 12} {
				require.NoError(t, w.PutInSlot(id, slot, world.Battery{Serial: world.Serial(slot), SocPermille: 950}))
				require.NoError(t, w.SwitchCharger(0, id, slot, true))
			}
			plug := &pulled{}
			at := time.Duration(0)
			c := &console.Console{
				World: w, Person: "you", Now: func() time.Duration { return at },
				Plugs: map[string]console.Plug{id: plug},
			}
			wait := func(_ context.Context, d time.Duration) error { at += d; return nil }
			c.Play(t.Context(), s, id, wait, func(said string) {
				require.NotContains(t, said, "no: ", said)
				require.NotContains(t, said, "SLOT")
				require.True(t, strings.HasPrefix(said, "scenario "+s.Name+": hb-0001: "), said)
			})
			show, ok := shows[s.Name]
			require.True(t, ok)
			show(t, w, plug, at)

			found, err := console.FindScenario(s.Name)
			require.NoError(t, err)
			require.Equal(t, s.Sentence, found.Sentence)
			require.True(t, strings.HasSuffix(s.Sentence, "."), "one sentence")
		})
	}
	_, err := console.FindScenario("earthquake")
	require.ErrorContains(t, err, "expected one of runaway, smoke")
}

// A scenario ends with its context, and README.md tells of each in its words.
func TestScenariosEndAndAreTold(t *testing.T) {
	c := newConsole(t)
	s, err := console.FindScenario("smoke")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.Play(ctx, s, "hb-0001", console.Wait, func(said string) { require.Fail(t, "played", said) })
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	told := strings.Split(string(readme), "\n")
	for _, s := range console.Scenarios() {
		require.Contains(t, told, "| `"+s.Name+"` | "+s.Sentence+" |")
	}
}

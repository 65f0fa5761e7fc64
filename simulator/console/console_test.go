package console_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/simulator/console"
	"batteryswap/simulator/world"
)

// newConsole is a console whose clock goes on by a second with each command.
func newConsole(t *testing.T) *console.Console {
	t.Helper()
	w := world.New(rand.New(rand.NewPCG(1, 1)), 1)
	require.NoError(t, w.AddCabinet("hb-0001", 3))
	require.NoError(t, w.PutInSlot("hb-0001", 2, world.Battery{Serial: "B2", SocPermille: 950}))
	at := time.Duration(0)
	return &console.Console{World: w, Person: "you", Cabinet: "hb-0001", Now: func() time.Duration {
		at += time.Second
		return at
	}}
}

func TestSwapByCommands(t *testing.T) {
	c := newConsole(t)
	do := func(line string) string {
		t.Helper()
		said, err := c.Do(line)
		require.NoError(t, err, line)
		return said
	}
	refused := func(line string, want error) {
		t.Helper()
		_, err := c.Do(line)
		require.ErrorIs(t, err, want, line)
	}
	refused("insert 1 B1", world.ErrDoorShut)
	require.NoError(t, c.World.Pulse(c.Now(), "hb-0001", 1, time.Second))
	do("insert 1 B1 31%")
	b, ok := c.World.Battery(c.Now(), "B1")
	require.True(t, ok)
	require.Equal(t, 310, b.SocPermille)
	refused("ride", console.ErrUsage)
	do("unplug 1")
	require.Contains(t, do("status"), "loose")
	do("plug 1")
	do("close 1")
	require.Contains(t, do("open 2"), "mechanical key")
	require.Contains(t, do("remove 2"), "B2")
	do("cabinet hb-0001 close 2")
	require.Contains(t, do("status"), "you hold: B2")
	require.Equal(t, "B2 at 20 %", do("ride"))
	b, _ = c.World.Battery(c.Now(), "B2")
	require.Equal(t, 200, b.SocPermille)

	refused("remove 2", world.ErrDoorShut)
	refused("dance 2", console.ErrUsage)
	refused("insert", console.ErrUsage)
	refused("insert x", console.ErrUsage)
	refused("insert 1 B9 400", console.ErrUsage)
	refused("close 9", world.ErrNoSuchPlace)
	refused("vanish", console.ErrUsage)
	c.Cabinet = ""
	refused("status", console.ErrUsage)
	require.Contains(t, do("cabinet hb-0001 status"), "B1")
	require.Empty(t, do("  "))
}

func TestFaultsByName(t *testing.T) {
	c := newConsole(t)
	for _, name := range strings.Fields(faults(t, c)) {
		said, err := c.Do("fault " + name + " 3 2 5s")
		require.NoError(t, err)
		require.Equal(t, "broken", said)
		require.Contains(t, c.Status("hb-0001"), name)
		_, err = c.Do("mend " + name + " 3")
		require.NoError(t, err)
		require.NotContains(t, c.Status("hb-0001"), name)
	}
	_, err := c.Do("fault broken 3")
	require.ErrorContains(t, err, "expected one of")
	_, err = c.Do("fault stuck_lock 3 soon")
	require.ErrorIs(t, err, console.ErrUsage)
}

func TestSurroundingsByCommands(t *testing.T) {
	c := newConsole(t)
	status := func() string { return c.Status("hb-0001") }
	do := func(line string) {
		t.Helper()
		_, err := c.Do(line)
		require.NoError(t, err, line)
	}
	for _, step := range []struct{ line, shows string }{
		{"smoke on", "SMOKE"},
		{"water on", "WATER"},
		{"key on", "maintenance key turned"},
		{"supply 75%", "on the backup supply"},
		{"weather 38.5 6", "outside 3"},
		{"heat 2 61.5", "61.5 °C"},
		{"soc 2 20", "20 %"},
		{"fault dead_board meter", "meter [dead_board]"},
		{"fault stuck_contactor board", "board [stuck_contactor]"},
		{"mend stuck_contactor 0", "contactor closed"},
		{"stop on", "EMERGENCY STOP pressed"},
		{"status", "contactor open"},
	} {
		do(step.line)
		require.Contains(t, status(), step.shows, step.line)
	}
	do("smoke off")
	require.NotContains(t, status(), "SMOKE")
	for _, line := range []string{
		"smoke", "smoke perhaps", "supply", "supply 900", "weather hot", "weather 20 90", "heat 2", "heat 2 900", "soc 2 101",
		"fault dead_board roof", "fault dead_board -1",
	} {
		_, err := c.Do(line)
		require.ErrorIs(t, err, console.ErrUsage, line)
	}
	_, err := c.Do("heat 1 60")
	require.ErrorIs(t, err, world.ErrSlotEmpty)
	_, err = c.Do("soc 7 60")
	require.ErrorIs(t, err, world.ErrNoSuchPlace)
}

func faults(t *testing.T, c *console.Console) string {
	t.Helper()
	names, err := c.Do("faults")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	return names
}

func TestTellNamesSlotAndBattery(t *testing.T) {
	c := newConsole(t)
	_, err := c.Do("open 2")
	require.NoError(t, err)
	_, err = c.Do("remove 2")
	require.NoError(t, err)
	for _, e := range c.World.Events(0) {
		said := console.Tell(e)
		require.Contains(t, said, "hb-0001 slot 2")
		require.Contains(t, said, "B2")
	}
}

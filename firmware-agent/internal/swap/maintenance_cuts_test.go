package swap

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/firmware-agent/internal/slot"
	"batteryswap/protocol"
)

// visit is a technician's script: slot 4 is emptied, slot 1 filled, the battery of
// slot 5 changed for another. It goes on with what is left after each cut.
type visit struct {
	*rig
	left   []errand
	inDark bool // hands go on in the dark
}

type errand struct {
	slot int
	put  *battery
}

func newVisit(t require.TestingT) *visit {
	return &visit{rig: usual(t), left: []errand{{4, nil}, {1, charged("N1")}, {5, charged("N5")}}}
}

// run does the script, whatever is cut, and ends with the key turned back.
func (v *visit) run() {
	v.key = slot.Yes
	for tries := 0; len(v.left) > 0; tries++ {
		require.Less(v.t, tries, 60, "the visit does not end\n%s", v.rig)
		v.light()
		v.order(protocol.OrderBegin, 0)
		e := v.left[0]
		if v.order(protocol.OrderOpen, e.slot) == "" && v.on {
			v.wait(tick)
		}
		if b := v.box(e.slot); b.open && (v.on || v.inDark) {
			b.in = e.put
			v.wait(tick)
			v.shut(e.slot)
			v.left = v.left[1:]
		}
		v.wait(4 * time.Second)
	}
	for tries := 0; len(v.ends()) == 0 || v.durable().Maintained != nil; tries++ {
		require.Less(v.t, tries, 10, "maintenance does not end\n%s", v.rig)
		v.light()
		v.order(protocol.OrderEnd, 0)
		v.wait(5 * time.Second)
	}
	v.light()
}

// light puts the power on again, and waits: no lock is pulsed by a boot. A door
// that stands open is closed by hand.
func (v *visit) light() {
	for !v.on {
		pulses := len(v.pulses)
		v.boot()
		v.wait(3 * time.Second)
		if d := v.durable(); v.on && d.Maintained != nil && v.anyOpen() {
			require.NotNil(v.t, v.recover, "R2: it ends with a door open\n%s", v.rig)
		}
		for i := range v.boxes {
			v.shut(i + 1)
		}
		v.wait(40 * time.Second)
		require.Len(v.t, v.pulses, pulses, "I6: a boot opened a door\n%s", v.rig)
	}
}

func (v *visit) anyOpen() bool {
	for _, b := range v.boxes {
		if b.open {
			return true
		}
	}
	return false
}

// done demands that all is told and nothing is left.
func (v *visit) done() {
	begun := 0
	for _, m := range records[protocol.Maintenance](v.rig) {
		begun += boolInt(m.What == protocol.OrderBegin)
	}
	require.Len(v.t, v.ends(), begun, "every begin has its end\n%s", v.rig)
	books := map[int]protocol.BatterySerial{3: "C3", 4: "C4", 5: "F5"}
	for _, m := range v.ends() { // as the books follow
		for _, c := range m.Changes {
			require.Equal(v.t, books[c.Slot], c.Removed, "%s", v.rig)
			require.False(v.t, c.Forced, "%s", v.rig)
			books[c.Slot] = c.Added
		}
	}
	require.Equal(v.t, map[int]protocol.BatterySerial{1: "N1", 3: "C3", 4: "", 5: "N5"}, books, "%s", v.rig)
	require.Empty(v.t, records[protocol.Tamper](v.rig), "%s", v.rig)
	require.Empty(v.t, v.durable().Alarms, "%s", v.rig)
	v.checkRest()
}

// TestMaintenanceCuts: the power is cut once at every effect of the script, and
// twice at a good part of the pairs; with a flash that loses the last INTENT, too.
func TestMaintenanceCuts(t *testing.T) {
	boundaries := 0
	plain := newVisit(t)
	plain.cut = func(string) bool { boundaries++; return false }
	plain.run()
	plain.done()
	require.Len(t, plain.pulses, 3)
	require.Greater(t, boundaries, 50)
	run := func(name string, at []int, inDark, lie bool) {
		t.Run(name, func(t *testing.T) {
			v := newVisit(t)
			v.inDark = inDark
			n := 0
			v.cut = func(string) bool {
				n++
				cut := len(at) > 0 && n == at[0]
				if cut {
					at, v.lie, n = at[1:], lie, 0
				}
				return cut
			}
			v.run()
			v.done()
		})
	}
	for first := 1; first <= boundaries; first++ {
		for _, inDark := range []bool{false, true} {
			run(fmt.Sprint("one ", first, inDark), []int{first}, inDark, false)
		}
		run(fmt.Sprint("lie ", first), []int{first}, true, true)
		for second := 1 + first%7; second <= boundaries; second += 7 {
			run(fmt.Sprint("two ", first, second), []int{first, second}, second%2 == 0, false)
		}
	}
}

package slot

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// reading is what a sound board says of a closed slot with a charged battery.
func reading(at time.Duration) Reading {
	return Reading{
		Slot: 1, At: at, DoorOpen: No, Bolt: Yes, BoltFitted: true, CoilActive: No, Switch: Yes, BatteryLink: Yes,
		Serial: "BT01", SocPermille: Known(960), VoltageMV: Known(64_000), CurrentMA: Known(0),
		CellMax: Known(250), CellMin: Known(240), Alive: uint16(at / time.Second), Smoke: No, Full: No, Charging: No,
	}
}

func empty(r Reading) Reading {
	r.Switch, r.BatteryLink, r.Serial = No, No, ""
	r.SocPermille, r.VoltageMV, r.CellMax, r.CellMin = Value{}, Value{}, Value{}, Value{}
	return r
}

// read observes readings every half second from start to end, each changed by f.
func read(e Evidence, start, end time.Duration, f func(*Reading)) Evidence {
	for at := start; at <= end; at += 500 * time.Millisecond {
		r := reading(at)
		if f != nil {
			f(&r)
		}
		e = e.Observe(r)
	}
	return e
}

func sound() Evidence { return read(New(1, DefaultLimits()), 0, 4*time.Second, nil) }

func TestSoundSlot(t *testing.T) {
	v := sound().View(4 * time.Second)
	require.True(t, v.Fresh && v.Closed && v.Fit && v.Charged && !v.Ajar)
	require.Equal(t, protocol.DoorShut, v.Door)
	require.Equal(t, Identified, v.Content)
	require.Equal(t, protocol.BatterySerial("BT01"), v.Serial)
	require.Equal(t, 96, *v.Battery.Soc)
	require.Equal(t, 64_000, *v.Battery.VoltageMV)
	require.InDelta(t, 25.0, *v.Battery.CellMaxC, 0.01)
}

func TestNothingReadIsNothingKnown(t *testing.T) {
	v := New(1, DefaultLimits()).View(time.Hour)
	require.Equal(t, View{Slot: 1}, v)
	one := New(1, DefaultLimits()).Observe(reading(time.Second)).View(time.Second)
	require.True(t, one.Fresh)
	require.Equal(t, protocol.DoorUnknown, one.Door, "two agreeing reads")
	require.Equal(t, Unclear, one.Content, "two agreeing reads")
	require.False(t, one.Closed || one.Charged)
}

func TestContentNeedsAllSigns(t *testing.T) {
	cases := []struct {
		name         string
		sw, link     Tri
		serial       string
		want         Content
		wantPresence protocol.Presence
	}{
		{"all say yes", Yes, Yes, "BT01", Identified, protocol.HoldsBattery},
		{"all say no", No, No, "", Empty, protocol.PresenceEmpty},
		{"no serial yet", Yes, Yes, "", Mute, protocol.HoldsBattery},
		{"not plugged in", Yes, No, "", Mute, protocol.HoldsBattery},
		{"link silent", Yes, Unknown, "", Mute, protocol.HoldsBattery},
		{"serial of before, link gone", Yes, No, "BT01", Mute, protocol.HoldsBattery},
		{"a serial that is none", Yes, Yes, "a b", Mute, protocol.HoldsBattery},
		{"switch silent", Unknown, No, "", Unclear, protocol.PresenceUnknown},
		{"switch silent, link there", Unknown, Yes, "BT01", Unclear, protocol.PresenceUnknown},
		{"link silent, switch says no", No, Unknown, "", Unclear, protocol.PresenceUnknown},
		{"switch says no, link yes", No, Yes, "BT01", Unclear, protocol.PresenceUnknown},
		{"switch says no, serial there", No, No, "BT01", Unclear, protocol.PresenceUnknown},
		{"all silent", Unknown, Unknown, "", Unclear, protocol.PresenceUnknown},
	}
	for _, c := range cases {
		e := read(New(1, DefaultLimits()), 0, 4*time.Second, func(r *Reading) { r.Switch, r.BatteryLink, r.Serial = c.sw, c.link, c.serial })
		v := e.View(4 * time.Second)
		require.Equal(t, c.want, v.Content, c.name)
		require.Equal(t, c.wantPresence, v.Presence(), c.name)
		require.Equal(t, c.want == Identified, v.Serial != "", c.name)
		require.Equal(t, c.want == Identified, v.Charged, c.name)
	}
}

func TestClosedNeedsDoorBoltAndTime(t *testing.T) {
	cases := []struct {
		name string
		f    func(*Reading)
		want bool
	}{
		{"shut and locked", nil, true},
		{"door open", func(r *Reading) { r.DoorOpen = Yes }, false},
		{"door unknown", func(r *Reading) { r.DoorOpen = Unknown }, false},
		{"bolt drawn", func(r *Reading) { r.Bolt = No }, false},
		{"bolt silent", func(r *Reading) { r.Bolt = Unknown }, false},
		{"no bolt sensor on this board", func(r *Reading) { r.Bolt, r.BoltFitted = Unknown, false }, true},
		{"coil driven", func(r *Reading) { r.CoilActive = Yes }, false},
	}
	for _, c := range cases {
		v := read(New(1, DefaultLimits()), 0, 4*time.Second, c.f).View(4 * time.Second)
		require.Equal(t, c.want, v.Closed, c.name)
		require.Equal(t, !c.want, v.Ajar, c.name)
	}
	e := read(New(1, DefaultLimits()), 0, 1500*time.Millisecond, nil)
	require.False(t, e.View(1500*time.Millisecond).Closed, "not yet 2 s")
	e = e.Observe(reading(2 * time.Second))
	v := e.View(2 * time.Second)
	require.True(t, v.Closed)
	require.Zero(t, v.ClosedSince)
	// One reading that says open begins the two seconds again.
	open := reading(2500 * time.Millisecond)
	open.DoorOpen = Yes
	e = e.Observe(open)
	require.False(t, e.View(2500*time.Millisecond).Closed)
	e = read(e, 3*time.Second, 4500*time.Millisecond, nil)
	require.False(t, e.View(4500*time.Millisecond).Closed)
	v = e.Observe(reading(5 * time.Second)).View(5 * time.Second)
	require.True(t, v.Closed)
	require.Equal(t, 3*time.Second, v.ClosedSince)
}

func TestBouncingIsNotKnown(t *testing.T) {
	n := 0
	e := read(sound(), 4500*time.Millisecond, 9*time.Second, func(r *Reading) {
		if n++; n%2 == 0 {
			*r = empty(*r)
			r.DoorOpen = Yes
		}
		v := sound().Observe(*r).View(r.At)
		require.NotEqual(t, Empty, v.Content, "one reading is not enough")
		require.NotEqual(t, protocol.DoorOpen, v.Door)
	})
	v := e.View(9 * time.Second)
	require.Equal(t, Unclear, v.Content)
	require.Equal(t, protocol.DoorUnknown, v.Door)
	other := reading(4500 * time.Millisecond)
	other.Serial = "BT02"
	require.Equal(t, Unclear, sound().Observe(other).View(other.At).Content, "two serials in a row")
}

func TestStaleIsNotKnown(t *testing.T) {
	e := sound()
	require.True(t, e.View(7*time.Second).Fresh)
	v := e.View(7*time.Second + 1)
	require.Equal(t, View{Slot: 1, Seen: true, At: 4 * time.Second}, v)
	// After a gap, what was before proves nothing about the time between.
	v = e.Observe(reading(8 * time.Second)).View(8 * time.Second)
	require.False(t, v.Closed, "the door may have opened meanwhile")
	require.Equal(t, Unclear, v.Content)
	// A single missed poll is no gap.
	require.True(t, e.Observe(reading(6*time.Second)).View(6*time.Second).Closed)
}

func TestSocHasItsOwnAge(t *testing.T) {
	silent := func(r *Reading) { r.SocPermille = Value{} }
	e := read(sound(), 4500*time.Millisecond, 64*time.Second, silent)
	v := e.View(64 * time.Second)
	require.True(t, v.Charged, "soc of 4 s is 60 s old")
	require.Equal(t, 4*time.Second, v.BatteryAt)
	e = read(e, 64500*time.Millisecond, 65*time.Second, silent)
	v = e.View(65 * time.Second)
	require.False(t, v.Charged || v.Fit)
	require.Nil(t, v.Battery.Soc)
	require.Equal(t, Identified, v.Content)
	require.Equal(t, protocol.BatterySerial("BT01"), v.Battery.BatterySerial)
}

func TestSocNeedsTwoAgreeingReadings(t *testing.T) {
	e := read(New(1, DefaultLimits()), 0, 4*time.Second, func(r *Reading) { r.SocPermille = Known(200) })
	jump := reading(4500 * time.Millisecond)
	jump.SocPermille = Known(1000)
	e = e.Observe(jump)
	require.Equal(t, 20, *e.View(4500 * time.Millisecond).Battery.Soc, "one reading of 100 % is a battery that wakes up")
	jump.At = 5 * time.Second
	jump.Alive = 5
	require.Equal(t, 100, *e.Observe(jump).View(5 * time.Second).Battery.Soc)
}

func TestZerosAreNoData(t *testing.T) {
	v := read(New(1, DefaultLimits()), 0, 4*time.Second, func(r *Reading) {
		r.SocPermille, r.VoltageMV, r.CellMax = Known(0), Known(0), Known(0)
	}).View(4 * time.Second)
	require.Nil(t, v.Battery.Soc)
	require.Equal(t, protocol.ReasonVoltage, Implausible(v.Battery))
}

func TestNumbersOfAnotherBatteryAreForgotten(t *testing.T) {
	e := read(sound(), 4500*time.Millisecond, 5*time.Second, func(r *Reading) {
		r.Serial, r.SocPermille = "BT02", Value{}
	})
	v := e.View(5 * time.Second)
	require.Equal(t, protocol.BatterySerial("BT02"), v.Serial)
	require.Nil(t, v.Battery.Soc, "96 %% was of BT01")
	require.False(t, v.Charged)
}

func TestFrozenBoardIsNotBelieved(t *testing.T) {
	frozen := func(r *Reading) { r.Alive = 4 }
	e := read(sound(), 4500*time.Millisecond, 7*time.Second, frozen)
	require.True(t, e.View(7*time.Second).Fresh)
	e = read(e, 7500*time.Millisecond, 60*time.Second, frozen)
	v := e.View(60 * time.Second)
	require.False(t, v.Fresh || v.Closed || v.Charged)
	// It lives again: what it said while frozen is no part of the two seconds.
	e = read(e, 60500*time.Millisecond, 62*time.Second, nil)
	require.True(t, e.View(62*time.Second).Fresh)
	require.False(t, e.View(62*time.Second).Closed)
	require.True(t, read(e, 62500*time.Millisecond, 63*time.Second, nil).View(63*time.Second).Closed)
}

// TestABoardThatWasFrozenBeforeTheStart: its copies of a closed door agree with
// each other, and nothing else.
func TestABoardThatWasFrozenBeforeTheStart(t *testing.T) {
	e := read(New(1, DefaultLimits()), 0, 3*time.Second, func(r *Reading) { r.Alive = 4 })
	require.False(t, e.View(3*time.Second).Closed)
	require.True(t, read(New(1, DefaultLimits()), 0, 2*time.Second, nil).View(2*time.Second).Closed)
}

// TestABoardThatFreezesWhileADoorIsWatched: the time that it stood still is no part
// of the two seconds. The simulation found a door that a frozen board called shut
// while it stood open, half a second after the pulse.
func TestABoardThatFreezesWhileADoorIsWatched(t *testing.T) {
	for alive, want := range map[uint16]bool{0: false, 1: false, 2: true} {
		e := read(New(1, DefaultLimits()), 0, 3*time.Second, func(r *Reading) { r.Alive = min(r.Alive, alive) })
		v := e.View(3 * time.Second)
		require.True(t, v.Fresh, "it is not known as frozen yet")
		require.Equal(t, want, v.Closed, "counted to %d", alive)
	}
}

func TestChargedNeedsAHealthyBattery(t *testing.T) {
	cases := []struct {
		name string
		f    func(*Reading)
		want bool
	}{
		{"sound", nil, true},
		{"just charged", func(r *Reading) { r.SocPermille = Known(900) }, true},
		{"not quite", func(r *Reading) { r.SocPermille = Known(899) }, false},
		{"protection", func(r *Reading) { r.Faults = 1 << 12 }, false},
		{"electronics time out", func(r *Reading) { r.Faults = faultBMSTimeout }, false},
		{"foreign", func(r *Reading) { r.Faults = faultForeign }, false},
		{"slot hot", func(r *Reading) { r.Faults = faultSlotHot }, false},
		{"charger fault does not matter", func(r *Reading) { r.Faults = 1 << 21 }, true},
		{"smoke", func(r *Reading) { r.Smoke = Yes }, false},
		{"hot", func(r *Reading) { r.CellMax = Known(551) }, false},
		{"warm", func(r *Reading) { r.CellMax = Known(550) }, true},
		{"frozen", func(r *Reading) { r.CellMax = Known(-201) }, false},
		{"temperature unknown", func(r *Reading) { r.CellMax = Value{} }, false},
		{"voltage unknown", func(r *Reading) { r.VoltageMV = Value{} }, false},
		{"voltage implausible", func(r *Reading) { r.VoltageMV = Known(120_000) }, false},
	}
	for _, c := range cases {
		v := read(New(1, DefaultLimits()), 0, 4*time.Second, c.f).View(4 * time.Second)
		require.Equal(t, c.want, v.Charged, c.name)
	}
}

func TestImplausible(t *testing.T) {
	n := func(n int) *int { return &n }
	f := func(f float64) *float64 { return &f }
	require.Equal(t, protocol.Reason(""), Implausible(protocol.Battery{Soc: n(5), VoltageMV: n(54_000), CellMaxC: f(20)}))
	require.Equal(t, protocol.ReasonTooHot, Implausible(protocol.Battery{Soc: n(5), VoltageMV: n(54_000), CellMaxC: f(70)}))
	require.Equal(t, protocol.ReasonVoltage, Implausible(protocol.Battery{Soc: n(5), VoltageMV: n(9_000), CellMaxC: f(20)}))
	require.Equal(t, protocol.ReasonVoltage, Implausible(protocol.Battery{BatterySerial: "B"}))
}

func TestFaultsOfTheSlot(t *testing.T) {
	both := func(r *Reading) { r.DoorOpen = Yes } // and the bolt says locked
	e := read(sound(), 4500*time.Millisecond, 6*time.Second, both)
	require.Equal(t, NoFault, e.View(6*time.Second).Fault, "for less than 2 s")
	e = read(e, 6500*time.Millisecond, 7*time.Second, both)
	require.Equal(t, LockDisagree, e.View(7*time.Second).Fault)
	e = e.Observe(reading(7500 * time.Millisecond))
	require.Equal(t, NoFault, e.View(7500*time.Millisecond).Fault)
	for _, bit := range []uint32{faultLockJam, faultCoilStuck} {
		v := read(sound(), 4500*time.Millisecond, 5*time.Second, func(r *Reading) { r.Faults = bit }).View(5 * time.Second)
		require.Equal(t, LockFault, v.Fault)
	}
}

func TestReadingsOutOfPlaceChangeNothing(t *testing.T) {
	e := sound()
	old := reading(3 * time.Second)
	old.DoorOpen = Yes
	require.Equal(t, e, e.Observe(old), "an answer that came late")
	other := reading(5 * time.Second)
	other.Slot = 2
	require.Equal(t, e, e.Observe(other))
}

func TestStateOfASlot(t *testing.T) {
	v := sound().View(4500 * time.Millisecond)
	s := v.State(4500*time.Millisecond, true)
	require.NoError(t, protocol.Inventory{s}.Validate())
	require.Equal(t, int64(500), *s.AgeMS)
	require.Equal(t, int64(500), *s.SocAgeMS)
	require.True(t, s.Out && s.Closed && s.Charged)
	require.Equal(t, protocol.HoldsBattery, s.Presence)
	b := Brief(s)
	require.Equal(t, protocol.SlotState{
		Slot: 1, Door: protocol.DoorShut, Closed: true, Presence: protocol.HoldsBattery, BatterySerial: "BT01",
		Soc: s.Soc, Charged: true, Out: true,
	}, b)
	none := New(7, DefaultLimits()).View(time.Second).State(time.Second, false)
	require.Equal(t, protocol.SlotState{Slot: 7}, none)
}

package swap

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// newEpoch is a cut, and a boot that begins a new epoch.
func (r *rig) newEpoch(whole bool) {
	b, err := r.durable().Carry(whole)
	require.NoError(r.t, err)
	r.powerOff()
	r.journal, r.bootSeq = nil, 0
	r.write(protocol.Boot{
		Epoch: protocol.Epoch{2}, Old: &protocol.OldTail{Epoch: protocol.Epoch{1}, Seq: 500}, Carried: b, Out: protocol.ReasonEpochReplaced,
	})
	r.boot()
	r.wait(4 * time.Second)
}

func bootRecord(t *testing.T, b protocol.Boot) protocol.Record {
	p, err := protocol.MarshalPayload(b)
	require.NoError(t, err)
	return protocol.Record{Seq: 1, BootSeq: 1, MonoMS: 10, Type: protocol.RecordBoot, Payload: p}
}

// I8: a new epoch does not refill the bucket: who holds the service key can ask
// for one as often as it likes.
func TestNewEpochDoesNotRefillTheBucket(t *testing.T) {
	limits := Limits{MaxPulsesPerHour: 120}
	for name, b := range map[string]protocol.Boot{
		"after an old one":       {Epoch: protocol.Epoch{2}, Old: &protocol.OldTail{Epoch: protocol.Epoch{1}, Seq: 500}},
		"after one without tail": {Epoch: protocol.Epoch{2}, Out: protocol.ReasonEpochReplaced},
	} {
		d, err := Fold(Durable{}, bootRecord(t, b))
		require.NoError(t, err)
		require.Zero(t, d.PulsesLeft(limits, time.Second), name)
		require.Equal(t, 120, d.PulsesLeft(limits, time.Hour+time.Second), name)
	}
	fresh, err := Fold(Durable{}, bootRecord(t, protocol.Boot{Epoch: protocol.Epoch{1}}))
	require.NoError(t, err)
	require.Equal(t, 120, fresh.PulsesLeft(limits, time.Second))
	_, err = Fold(Durable{}, bootRecord(t, protocol.Boot{Old: &protocol.OldTail{}, Carried: []byte(`[]`)}))
	require.Error(t, err)
}

// What was known before a new epoch is known after it.
func TestNewEpochCarriesOver(t *testing.T) {
	for _, whole := range []bool{true, false} {
		t.Run(fmt.Sprint("whole ", whole), func(t *testing.T) {
			r := usual(t)
			r.event(Configure{Config: protocol.CabinetConfig{Version: 7, SlotsOut: []int{5}}, KeysVersion: 3})
			r.start(1, protocol.KindSwap)
			r.deposit(flat("X9"))
			r.shut(r.opened(protocol.PurposeReturn))
			r.closed()
			r.force(4)
			was := r.durable()
			require.Len(t, was.SpentMS, 2)
			r.newEpoch(whole)
			d := r.durable()
			require.Equal(t, was.Config, d.Config)
			require.Equal(t, was.KeysVersion, d.KeysVersion)
			require.Equal(t, was.Alarms, d.Alarms)
			require.Equal(t, was.Forced, d.Forced)
			require.Equal(t, protocol.Epoch{1}, d.Epoch, "of the rig's boots")
			want := 118
			if !whole {
				want = 0
			}
			require.Equal(t, want, d.PulsesLeft(r.limits, r.now))
		})
	}
}

// A swap that a new epoch leaves open is under review in the books: what it may
// have moved is nobody's to take.
func TestNewEpochHoldsWhatAnOpenSwapMoved(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	n := r.deposit(charged("R1"))
	d := r.opened(protocol.PurposeDispense)
	r.newEpoch(true)
	r.shut(d)
	r.wait(3 * time.Minute)
	require.Nil(t, r.open())
	require.True(t, r.durable().Alarmed(protocol.AlarmHeldBattery, n))
	require.True(t, r.durable().Alarmed(protocol.AlarmHeldBattery, d))
}

// A configuration that the protocol allows is taken: else staff cannot take the
// cabinet out of service.
func TestAllowedConfigIsApplied(t *testing.T) {
	r := usual(t)
	cfg := protocol.CabinetConfig{Version: 1, OutOfService: true}
	for i := range protocol.MaxFlaggedSerials {
		cfg.FlaggedSerials = append(cfg.FlaggedSerials, protocol.BatterySerial(fmt.Sprintf("F%03d", i)))
	}
	require.NoError(t, cfg.Validate())
	r.event(Configure{Config: cfg})
	require.True(t, r.durable().Config.OutOfService, "rejected: %v", r.rejected)
}

// A lock that the epoch before had pulsed may let its door spring open late: no
// other door is opened before that slot is closed (I8), held or not.
func TestNewEpochWaitsForADoorThatSticks(t *testing.T) {
	r := usual(t)
	r.start(1, protocol.KindSwap)
	n := r.opened(protocol.PurposeDeposit)
	r.box(n).open, r.box(n).unlocked = false, true // the door sticks: the bolt is pulled, and it is merely shut
	r.newEpoch(true)
	r.wait(10 * time.Second)
	require.Nil(t, r.open())
	require.True(t, r.durable().Alarmed(protocol.AlarmHeldBattery, n))
	no, ok := r.prepare(2, protocol.KindSwap).(protocol.Refused)
	require.True(t, ok, "slot %d is not closed", n)
	require.Equal(t, protocol.ReasonBusy, no.Reason)

	r.event(Configure{Config: protocol.CabinetConfig{Version: 1, SlotsOut: []int{n}}})
	r.wait(time.Second)
	_, ok = r.prepare(4, protocol.KindSwap).(protocol.Prepared)
	require.True(t, ok, "who took it out has looked at its door")
	r.event(Configure{Config: protocol.CabinetConfig{Version: 2}})
	r.wait(time.Minute) // the swap that nobody granted is forgotten
	_, ok = r.prepare(5, protocol.KindSwap).(protocol.Refused)
	require.True(t, ok)
	r.shut(n)
	r.wait(3 * time.Second)
	_, ok = r.prepare(3, protocol.KindSwap).(protocol.Prepared)
	require.True(t, ok, "all is closed")
}

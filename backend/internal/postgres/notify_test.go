package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

func (d *deck) woken(from <-chan struct{}) {
	d.t.Helper()
	select {
	case <-from:
	case <-time.After(patience):
		d.t.Fatal("nobody was woken")
	}
}

// settled waits until the receiver has been silent for a while: it has seen all
// that happened so far.
func settled(from <-chan struct{}) {
	quiet := time.NewTimer(time.Second)
	defer quiet.Stop()
	for {
		select {
		case <-from:
			quiet.Reset(time.Second)
		case <-quiet.C:
			return
		}
	}
}

// TestWhoWaitsIsWoken: on the replica that decided and on the other; and by
// reading again, when a change was not announced or nobody listened.
func TestWhoWaitsIsWoken(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	c := d.cabinet("hb-0001")
	d.battery("OWN", swap.Place{RiderID: alice})
	other := d.open()
	here, there := postgres.NewNotifications(d.store), postgres.NewNotifications(other)
	t.Cleanup(here.Close)
	t.Cleanup(there.Close)
	d.woken(here.DeviceKeys()) // it listens
	d.woken(there.DeviceKeys())
	p := d.answer(d.ask(alice, "hb-0001", "one")).prepare
	a, stopA := here.Watch(p.SwapID)
	defer stopA()
	b, stopB := there.Watch(p.SwapID)
	defer stopB()
	settled(a)
	settled(b)
	g, err := d.store.Prepared(t.Context(), "hb-0001", c.prepared(p))
	require.NoError(t, err)
	require.NotNil(t, g)
	d.woken(a)
	d.woken(b)
	settled(a)
	settled(b)

	require.NoError(t, d.exec(`UPDATE swap SET view_seq = view_seq + 1`), "as if the announcement had been lost")
	d.woken(a)
	d.woken(b)

	settled(a)
	require.NoError(t, d.exec(`UPDATE cabinet_cursor SET heard_at = now() - interval '2 minutes'`))
	d.woken(a)

	require.NoError(t, d.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`))
	d.woken(here.DeviceKeys())
	d.woken(there.DeviceKeys())
	settled(b)
	c.accept(g)
	d.desk(d.store).sends(c)
	d.woken(b)
	v, err := other.Swap(t.Context(), alice, p.SwapID)
	require.NoError(t, err)
	require.Equal(t, swap.StateActive, v.State)
}

func TestNobodyWaitsAnyMore(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	n := postgres.NewNotifications(d.store)
	t.Cleanup(n.Close)
	changed, stop := n.Watch(protocol.SwapID("019a0000-0000-7000-8000-000000000001"))
	stop()
	stop()
	select {
	case <-changed:
		t.Fatal("woken")
	default:
	}
}

package fleet

import (
	"fmt"
	"testing"
	"time"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

func TestZZ(t *testing.T) {
	w := newTown(t)
	f := w.start(quiet).ready()
	a := w.cabinet("hb-0001")
	a.hello()
	a.ship()
	p := w.rider(f, "li")
	_ = postgres.Options{}
	var tr, tp, ts, tship []time.Duration
	for i := range 300 {
		t0 := time.Now()
		v, _, _, err := f.store.Request(t.Context(), swap.Scan{RiderID: p.id, CabinetID: "hb-0001", IdempotencyKey: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		t1 := time.Now()
		g, err := f.store.Prepared(t.Context(), "hb-0001", protocol.Prepared{SwapID: v.SwapID, Epoch: a.epoch, BootSeq: 1, BootID: a.boot, Nonce: protocol.Nonce{byte(i), byte(i >> 8), 1}, DepositSlots: a.deposit, Dispense: a.offers})
		if err != nil || g == nil {
			t.Fatal(err, g)
		}
		t2 := time.Now()
		f.store.Swap(t.Context(), p.id, v.SwapID)
		t3 := time.Now()
		a.write(protocol.Void{SwapID: v.SwapID})
		a.ship()
		t4 := time.Now()
		tr, tp, ts, tship = append(tr, t1.Sub(t0)), append(tp, t2.Sub(t1)), append(ts, t3.Sub(t2)), append(tship, t4.Sub(t3))
	}
	t.Log("request", median(tr), "prepared", median(tp), "swap", median(ts), "ship", median(tship))
}

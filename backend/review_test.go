package main

import (
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/postgres/pgtest"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// TestReviewsAtAShell: a hole in a log, and a swap whose cabinet lost its journal.
func TestReviewsAtAShell(t *testing.T) {
	database := pgtest.New(t)
	store, err := postgres.Open(t.Context(), database, postgres.Options{
		RiderRef: func(protocol.CabinetID, swap.RiderID) protocol.RiderRef { return "00112233445566778899aabbccddeeff" },
	})
	require.NoError(t, err)
	defer store.Close()
	pub, _, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	require.NoError(t, store.EnrolCabinet(t.Context(), postgres.Enrolment{CabinetID: "hb-0001", DeviceKey: pub, Slots: 12, Station: "s", Street: "s"}))
	rider, err := store.AddRider(t.Context(), postgres.NewRider{Name: "Li"})
	require.NoError(t, err)
	_, err = store.ImportBatteries(t.Context(), []postgres.Battery{{BatterySerial: "B-1"}})
	require.NoError(t, err)
	require.NoError(t, store.AssignBattery(t.Context(), "B-1", swap.Place{RiderID: rider}))
	hello := protocol.Hello{Epoch: protocol.Epoch{1}, FirstSeq: 5, TailSeq: 9, BootID: protocol.BootID{1}, BootSeq: 1, Software: "test"}
	_, err = store.Hello(t.Context(), "hb-0001", hello)
	require.NoError(t, err)
	v, prepare, no, err := store.Request(t.Context(), swap.Scan{RiderID: rider, CabinetID: "hb-0001", IdempotencyKey: "k"})
	require.NoError(t, err)
	require.Nil(t, no)
	g, err := store.Prepared(t.Context(), "hb-0001", protocol.Prepared{
		SwapID: prepare.SwapID, Epoch: hello.Epoch, BootSeq: 1, BootID: hello.BootID, Nonce: protocol.Nonce{1}, DepositSlots: []int{3},
		Dispense: []protocol.Offer{{Slot: 7, BatterySerial: "B-2", Soc: 97}},
	})
	require.NoError(t, err)
	require.NotNil(t, g)

	call := func(want int, args ...string) string {
		t.Helper()
		status, out, errout := shellRun(t, "", append(append([]string{"review"}, args...), "--database-url="+database)...)
		require.Equal(t, want, status, "%v: %s", args, errout)
		return out + errout
	}
	require.Contains(t, call(1, "move", string(v.SwapID)), "was heard")
	hello.Epoch = protocol.Epoch{2}
	_, err = store.Hello(t.Context(), "hb-0001", hello)
	require.NoError(t, err)
	require.NoError(t, store.AcceptEpoch(t.Context(), "hb-0001"))

	list := call(0, "list")
	require.Regexp(t, `2 +\S+ +hb-0001 +`+string(rider)+` +epoch_replaced +\[\] +-\n1 +\S+ +hb-0001 +- +log_hole`, list)
	shown := call(0, "show", "2")
	for _, want := range []string{"possible", "[taken returned owed not_deposited]", string(v.SwapID), "epoch_replaced"} {
		require.Contains(t, shown, want)
	}
	require.Contains(t, call(2, "decide", "2", "maybe", "--reason", "hunch", "--by", "wei"), `reason "hunch": want one of [seen_on_site`)
	require.Contains(t, call(1, "decide", "1", "owed", "--reason", "records", "--by", "wei"), "belongs to no swap: want one of [noted]")
	call(0, "decide", "1", "noted", "--reason", "records", "--by", "wei")
	call(0, "hardship", "2", "--by", "wei")
	require.Contains(t, call(1, "hardship", "2", "--by", "wei"), "at most one a day")
	call(0, "decide", "2", "not_deposited", "--reason", "seen_on_site", "--by", "wei")
	require.Contains(t, call(1, "decide", "2", "owed", "--reason", "rider", "--by", "li"), "wei decided not_deposited on ")
	// Books that were restored may have lost what the epoch before had told.
	require.Regexp(t, `3 +\S+ +hb-0001 +- +epoch_replaced`, call(0, "list"))
	call(0, "decide", "3", "noted", "--reason", "records", "--by", "wei")
	left := call(0, "list")
	require.Equal(t, 1, strings.Count(left, "\n"), "only the heading is left: %s", left)
	require.Contains(t, call(0, "list", "--all"), "not_deposited (seen_on_site) by wei")
	require.Contains(t, call(1, "show", "9"), "not found")
	status, out, _ := shellRun(t, "", "audit", "--database-url="+database)
	require.Equal(t, 0, status, out)
}

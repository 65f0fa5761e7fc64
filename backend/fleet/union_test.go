package fleet

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
)

// TestT22FromARiderToNoSwap: whatever the union's staff and their machines may open,
// nothing that names a rider names a swap of theirs, or what else leads there: a
// battery that they had, the moment at which something became owed.
func TestT22FromARiderToNoSwap(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id, asked, _ := o.memberAtWork()
	o.battery("IN-SLOT", swap.Place{CabinetID: "hb-0001", Slot: 5})
	_, err := o.store.RiderReport(t.Context(), staff.Fault{CabinetID: "hb-0001", Slot: 3, RiderID: id, SwapID: asked, Kind: "door", Text: "it sticks"})
	require.NoError(t, err)
	for _, sql := range []string{
		`UPDATE swap SET deposited = 'WAS-Z', taken = 'OWN-Z' WHERE swap_id = $1`,
		`INSERT INTO credit (credit_id, rider_id, origin, state, swap_id, opened_at) SELECT swap_id, rider_id, 'swap', 'reserved', swap_id, '2026-03-02T03:04:05Z' FROM swap WHERE swap_id = $1`,
		`INSERT INTO ledger (swap_id, entry_no, what, rider_id, cabinet_id, slot, battery_serial, holder, at, time_quality)
			SELECT swap_id, 1, 'deposit', rider_id, cabinet_id, 3, 'WAS-Z', 'slot', now(), 'wall' FROM swap WHERE swap_id = $1`,
	} {
		_, err := o.pool.Exec(t.Context(), sql, string(asked))
		require.NoError(t, err, sql)
	}
	objects := map[string]string{"cabinet_id": "hb-0001", "swap_id": string(asked), "rider_id": string(id), "import_id": "1", "battery_serial": "OWN-Z", "review_id": "1"}
	ending := func(s string) string { return s[len(s)-6:] }
	riders := []string{string(id), "…" + ending(string(id)), "Z**"}
	swaps := []string{string(asked), "…" + ending(string(asked)), "OWN-Z", "WAS-Z", "11:04:05", "03:04:05"}
	named := func(body string, names []string) string {
		if i := slices.IndexFunc(names, func(n string) bool { return strings.Contains(body, n) }); i >= 0 {
			return names[i]
		}
		return ""
	}
	o.account("both", staff.Union, staff.Maintenance)
	token := staff.NewToken()
	require.NoError(t, o.store.AddToken(t.Context(), "both", []staff.Role{staff.Union, staff.Maintenance}, staff.HashToken(token), time.Now().Add(time.Hour)))
	tokens := map[string]string{"union": o.tokens[staff.Union], "both": token, "operator": o.tokens[staff.Operator]}
	led := map[string][2]int{} // by login: pages that name the rider, and those that lead on to the swap
	for _, r := range o.web.Routes() {
		if r.Method != http.MethodGet || !strings.Contains(r.Path, "/staff/") || len(r.Roles) == 0 || strings.HasSuffix(r.Path, "/{$}") {
			continue
		}
		for login, token := range tokens {
			cookie := o.session(login, 0)
			status, body, _ := o.ask(http.MethodGet, fill(r.Path, objects), nil, func(q *http.Request) {
				q.AddCookie(cookie)
				q.Header.Set("Authorization", "Bearer "+token)
			})
			rider, leads := named(body, riders), named(body, swaps)
			n := led[login]
			if status == http.StatusOK && rider != "" {
				n[0]++
				if leads != "" {
					n[1]++
				}
				require.False(t, login != "operator" && leads != "", "%s: %s names rider %s and %s", login, r.Path, rider, leads)
			}
			if login == "union" {
				require.Empty(t, named(body, []string{"OWN-Z", "WAS-Z", "IN-SLOT"}), "%s: the union keeps no batteries", r.Path)
			}
			led[login] = n
		}
	}
	require.GreaterOrEqual(t, led["union"][0], 5, "riders, a rider, credits: as pages and for machines")
	require.GreaterOrEqual(t, led["operator"][1], 8, "who may see it does: %v", led)
}

package fleet

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// memberAtWork is a member of Branch 1 with the battery OWN-Z, whose swap at hb-0001
// is under way, and who was refused another one.
func (o *office) memberAtWork() (swap.RiderID, protocol.SwapID, *swap.Refusal) {
	o.t.Helper()
	o.cabinet("hb-0001")
	id, err := o.store.AddRider(o.t.Context(), postgres.NewRider{Name: "Zhang San", Union: "Branch 1"})
	require.NoError(o.t, err)
	o.battery("OWN-Z", swap.Place{RiderID: id})
	require.Eventually(o.t, func() bool {
		_, err := o.pool.Exec(o.t.Context(), `UPDATE cabinet_cursor SET epoch = '\x00000000000000000000000000000001' WHERE epoch IS NULL`)
		return err == nil
	}, 10*time.Second, 50*time.Millisecond)
	v, _, no, err := o.store.Request(o.t.Context(), swap.Scan{RiderID: id, CabinetID: "hb-0001", IdempotencyKey: "k"})
	require.NoError(o.t, err)
	require.Nil(o.t, no)
	_, _, no, err = o.store.Request(o.t.Context(), swap.Scan{RiderID: id, CabinetID: "hb-0001", IdempotencyKey: "k2"})
	require.NoError(o.t, err)
	require.NotNil(o.t, no)
	return id, v.SwapID, no
}

// TestT22NoFigureOfOneRider: the union's staff see who is a member and why
// somebody was refused, and neither how often one rider swapped nor whose a swap
// is; nobody sees it by the machines' API with a token of that role either.
func TestT22NoFigureOfOneRider(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id, asked, no := o.memberAtWork()
	_, err := o.pool.Exec(t.Context(), `UPDATE rider SET takes = 4137, deposits = 4137, counted = 4137 WHERE rider_id = $1`, string(id))
	require.NoError(t, err)

	rider := string(id)
	for _, page := range []struct {
		path    string
		status  int    // for the union
		secrets string // what only others see
		says    string
	}{
		{"/staff/riders", 200, "4137", "Branch 1"},
		{"/staff/riders/" + rider, 200, "4137", string(no.Reason)},
		{"/staff/riders/" + rider, 200, "rider_id=" + rider, "Branch 1"},
		{"/staff/swaps", 200, rider, "hb-0001"},
		{"/staff/swaps/" + string(asked), 200, rider, "hb-0001"},
		{"/staff/swaps?rider_id=" + url.QueryEscape(rider), 403, string(asked), "figures"},
		{"/api/v1/staff/swaps", 200, rider, "hb-0001"},
		{"/api/v1/staff/swaps?rider_id=" + rider, 403, string(asked), "not-personal"},
		{"/api/v1/staff/swaps/" + string(asked), 200, rider, "hb-0001"},
		{"/api/v1/staff/riders/" + rider, 200, "4137", "Branch 1"},
	} {
		for _, role := range []staff.Role{staff.Union, staff.Operator} {
			cookie := o.session(string(role), 0)
			status, body, _ := o.ask(http.MethodGet, page.path, nil, func(r *http.Request) {
				r.AddCookie(cookie)
				r.Header.Set("Authorization", "Bearer "+o.tokens[role])
			})
			if role == staff.Operator {
				require.Equal(t, http.StatusOK, status, page.path)
				require.Contains(t, body, page.secrets, page.path)
				continue
			}
			require.Equal(t, page.status, status, "%s: %s", page.path, body)
			require.NotContains(t, body, page.secrets, page.path)
			require.Contains(t, strings.ToLower(body), strings.ToLower(page.says), page.path)
		}
	}
}

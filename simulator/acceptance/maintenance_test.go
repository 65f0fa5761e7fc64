package acceptance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
	"batteryswap/simulator/rider"
	"batteryswap/simulator/world"
)

// technician works on cabinets: by a machine's token, at any replica.
type technician struct {
	*stage
	token string
	turn  int
}

// hands are what the world calls the technician.
const hands = "technician"

func (s *stage) technician(roles string) *technician {
	s.t.Helper()
	return &technician{stage: s, token: strings.TrimSpace(s.run("backend", "staff", "token", "add", "tech-"+roles, "--role", roles))}
}

// order gives one, and how it stands after a few seconds: the state, or why the
// cabinet refused.
func (k *technician) order(c *cabinet, what protocol.Order, slot int) string {
	k.t.Helper()
	var o struct {
		State  string `json:"state"`
		Reason string `json:"reason"`
		By     string `json:"by"`
	}
	status := k.call(http.MethodPost, "/api/v1/staff/cabinets/"+c.id+"/maintenance", map[string]any{"what": what, "slot": slot}, &o)
	require.Equal(k.t, http.StatusCreated, status)
	require.Equal(k.t, "token:tech-maintenance", o.By)
	if o.Reason != "" {
		return o.Reason
	}
	return o.State
}

// call asks each replica in turn.
func (k *technician) call(method, path string, body, into any) int {
	k.t.Helper()
	k.turn++
	b, err := json.Marshal(body)
	require.NoError(k.t, err)
	req, err := http.NewRequestWithContext(k.t.Context(), method, k.replicas[k.turn%len(k.replicas)].url+path, bytes.NewReader(b))
	require.NoError(k.t, err)
	req.Header.Set("Authorization", "Bearer "+k.token)
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: patience}
	resp, err := client.Do(req)
	require.NoError(k.t, err)
	defer resp.Body.Close()
	_ = json.NewDecoder(resp.Body).Decode(into) // what is not there is found missing
	return resp.StatusCode
}

// key turns the key switch.
func (k *technician) key(c *cabinet, on bool) {
	k.t.Helper()
	require.NoError(k.t, k.world.SetCabinet(k.now(), c.id, func(s *world.CabinetSensors) { s.MaintenanceKey = on }))
}

// at waits for an open door, changes what is in its slot, and closes it.
func (k *technician) at(c *cabinet, slot int, put string) {
	k.t.Helper()
	require.Equal(k.t, slot, k.openDoor(c, 1))
	if k.serial(c, slot) != "" {
		_, err := k.world.Take(k.now(), hands, c.id, slot)
		require.NoError(k.t, err)
	}
	if put != "" {
		require.NoError(k.t, k.world.Insert(k.now(), hands, c.id, slot, put, true))
	}
	require.NoError(k.t, k.world.CloseDoor(k.now(), hands, c.id, slot))
}

// ordered repeats an order that the cabinet is not ready for yet.
func (k *technician) ordered(c *cabinet, what protocol.Order, slot int) {
	k.t.Helper()
	last := ""
	k.until(fmt.Sprintf("%s %d is not carried out", what, slot), func() bool {
		last = k.order(c, what, slot)
		return last != string(protocol.ReasonBusy) && last != string(protocol.ReasonKeyNotTurned)
	})
	require.Equal(k.t, "done", last)
}

func (k *technician) holder(serial string) string {
	k.t.Helper()
	var b struct {
		Holder  string `json:"holder"`
		Cabinet string `json:"cabinet_id"`
		Slot    int    `json:"slot"`
		History []struct {
			By string `json:"by"`
		} `json:"history"`
	}
	require.Equal(k.t, http.StatusOK, k.call(http.MethodGet, "/api/v1/staff/batteries/"+serial, nil, &b))
	return strings.TrimSuffix(fmt.Sprintf("%s %s %d by %s", b.Holder, b.Cabinet, b.Slot, b.History[0].By), " by ")
}

// TestFailure44MaintenanceOnRealProcesses: a technician turns the key, has slots
// opened through the API, takes a battery out and puts another in, and the power
// goes in the middle of a second visit. The books follow what was moved, nothing is
// tampering, nobody swaps meanwhile, and without the key no door moves.
func TestFailure44MaintenanceOnRealProcesses(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	s.startReplica()
	s.startReplica()
	c := s.newCabinet(6, 3)
	c.startBoards()
	c.startAgent()
	c.heard(3)
	k := s.technician("maintenance")
	began := len(s.world.Events(0))

	require.Equal(t, "key_not_turned", k.order(c, protocol.OrderBegin, 0))
	require.Equal(t, "key_not_turned", k.order(c, protocol.OrderOpen, 6))
	require.Equal(t, http.StatusForbidden, s.technician("operator").call(http.MethodPost,
		"/api/v1/staff/cabinets/"+c.id+"/maintenance", map[string]any{"what": "begin"}, &struct{}{}))
	k.key(c, true)
	k.ordered(c, protocol.OrderBegin, 0)

	id, own := s.newRider()
	_, err := s.phone(s.replicas[0], id).Scan(t.Context(), c.id, "while-staff-work")
	var no *rider.Refused
	require.ErrorAs(t, err, &no)
	require.Equal(t, protocol.ReasonMaintenance, no.Reason)

	out, spare := s.serial(c, 6), s.newBattery()
	require.NoError(t, s.world.PutInHands(hands, world.Battery{Serial: spare, SocPermille: 960}))
	k.ordered(c, protocol.OrderOpen, 6)
	require.Equal(t, "busy", k.order(c, protocol.OrderOpen, 5), "one door at a time")
	k.at(c, 6, spare)
	k.ordered(c, protocol.OrderOpen, 1)
	k.at(c, 1, out)
	k.ordered(c, protocol.OrderOpen, 5)
	gone := s.serial(c, 5)
	k.at(c, 5, "")
	k.ordered(c, protocol.OrderEnd, 0)
	k.key(c, false)
	s.until("the books do not follow", func() bool { return k.holder(gone) == "staff  0 by token:tech-maintenance" })
	require.Equal(t, "slot "+c.id+" 6 by token:tech-maintenance", k.holder(spare))
	require.Equal(t, "slot "+c.id+" 1 by token:tech-maintenance", k.holder(out))
	requirePulses(t, s.world.Events(uint64(began)), 3)
	s.audited()

	// What was put in is given out.
	c.heard(3)
	result, err := s.quickRider(s.replicas[1], id, c).Swap(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, own, string(result.Swap.Deposited))

	// The power goes while a door is open.
	k.key(c, true)
	k.ordered(c, protocol.OrderBegin, 0)
	k.ordered(c, protocol.OrderOpen, 4)
	require.Equal(t, 4, s.openDoor(c, 1))
	c.Kill()
	left := s.serial(c, 4)
	_, err = s.world.Take(s.now(), hands, c.id, 4)
	require.NoError(t, err)
	pulsed := s.pulses(c)
	require.NoError(t, c.Start())
	s.until("the restarted agent is not heard", func() bool { return k.order(c, protocol.OrderOpen, 3) == string(protocol.ReasonBusy) })
	require.NoError(t, s.world.CloseDoor(s.now(), hands, c.id, 4))
	s.until("the books do not follow", func() bool { return k.holder(left) == "staff  0 by token:tech-maintenance" })
	require.Equal(t, pulsed, s.pulses(c), "a boot opened a door")
	require.Equal(t, "no_maintenance", k.order(c, protocol.OrderOpen, 3))
	require.Empty(t, s.audited().of(t, id).Reviews)

	var page struct {
		Table []struct {
			Slot   int    `json:"slot"`
			Booked string `json:"booked"`
		} `json:"table"`
		Alarms []string `json:"alarms"`
		Orders []struct {
			What string `json:"what"`
		} `json:"orders"`
		Maintenance any `json:"maintenance"`
	}
	require.Equal(t, http.StatusOK, k.call(http.MethodGet, "/api/v1/staff/cabinets/"+c.id, nil, &page))
	require.Len(t, page.Table, c.slots)
	for _, row := range page.Table {
		require.Equal(t, s.serial(c, row.Slot), row.Booked, "slot %d: in fact, and in the books", row.Slot)
	}
	require.Empty(t, page.Alarms, "nothing of it is tampering")
	require.NotEmpty(t, page.Orders)
	require.Nil(t, page.Maintenance)
}

// serial is what a slot holds, "" nothing.
func (s *stage) serial(c *cabinet, slot int) string {
	s.t.Helper()
	if b := s.world.Facts(s.now(), c.id)[slot-1].Battery; b != nil {
		return b.Serial
	}
	return ""
}

// maintain does a technician's visit by the console: without the key it is told
// what to do; with it a slot is opened, its battery taken out, and the page shows
// what is under way, who began it, and what is booked.
func (d *desk) maintain(slot int) {
	s, c := d.stage, d.cabinet
	k := &technician{stage: s}
	page := "/staff/cabinets/" + c.id
	press := func(button, says string) {
		d.open(page)
		_, err := chromedp.Run(d.ctx, chromedp.Evaluate[string](`document.body.dataset.old = "yes"`))
		require.NoError(d.t, err)
		d.tap("form[action$='/maintenance'] button[" + button + "]")
		// The page may say it of an earlier order: what counts is the answer to this one.
		require.NoError(d.t, chromedp.Do(d.ctx, chromedp.WaitVisible(chromedp.CSS("body:not([data-old]) main"))))
		d.says(d.words[says])
	}
	press("value=begin", "no.order_refused") // the cabinet's page may name the reason of one before
	d.says(d.words["reason.key_not_turned"])
	d.see("maintenance-no-key")
	k.key(c, true)
	s.until("the cabinet does not see the key", func() bool {
		d.open(page)
		return strings.Contains(d.text(), d.words["reason.maintenance"])
	})
	press("value=begin", "done.maintenance_begin")
	d.says(d.words["maintenance.on"], d.login)
	serial := s.serial(c, slot)
	press(fmt.Sprintf("name=slot][value='%d'", slot), "done.maintenance_open")
	d.see("maintenance-open")
	k.at(c, slot, "")
	d.open(page)
	d.tap("form[action$='/maintenance'] button[value=end]")
	s.until("the order to end is not answered", func() bool {
		text := d.text()
		return strings.Contains(text, d.words["done.maintenance_end"]) || strings.Contains(text, d.words["done.order_granted"])
	})
	s.until("it does not end", func() bool {
		d.open(page)
		return !strings.Contains(d.text(), d.words["maintenance.on"])
	})
	k.key(c, false)
	d.open("/staff/batteries/" + serial)
	d.says(d.words["holder.staff"], d.words["what.removed"], d.login)
	d.see("maintenance-booked")
	require.Empty(d.t, s.audited().Differences)
	s.until("nobody can swap again", func() bool {
		d.open(page)
		return !strings.Contains(d.text(), d.words["reason.maintenance"])
	})
}

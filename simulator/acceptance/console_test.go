package acceptance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
	"batteryswap/simulator/world"
)

// Measures of the desk that staff sit at.
const (
	deskWidth  = 1280 // CSS px
	deskHeight = 800
)

// TestConsole does by the console alone what staff must be able to do, with a
// real cabinet behind it: at a desk in Chinese, on a phone in English without
// JavaScript. Every page is looked at in both sizes and both languages.
func TestConsole(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	r := s.startReplica()
	c := s.newCabinet(12, 5)
	c.startBoards()
	c.startAgent()
	c.heard(5)
	news := s.makeNews(r, c)
	browser := openBrowser(t, deskWidth, deskHeight)
	_, err := chromedp.Run(browser, chromedp.Title()) // it starts with its first action
	require.NoError(t, err)

	office := func(t *testing.T, name, language string, width, height int) *desk {
		d := newDesk(browser, t, r, language, width, height)
		d.stage, d.cabinet, d.news = s, c, news
		d.shots = screenshots(t, "console-"+name)
		d.newAccount(name)
		return d
	}
	t.Run("desk-zh", func(t *testing.T) {
		d := office(t, "desk-zh", "zh", deskWidth, deskHeight)
		d.signIn()
		d.questions()
		d.slotOut(5)
		d.decide()
		d.recall(news.taken)
		d.comesInRecalled()
		d.wrongSheet()
		d.ownAccount()
		d.look()
		d.lostSession()
	})
	t.Run("phone-en", func(t *testing.T) {
		d := office(t, "phone-en", "en", phoneWidth, phoneHeight)
		d.withoutScript()
		d.signIn()
		d.questions()
		d.slotOut(6)
		d.slotIn(5)
		d.decideSecond(office(t, "colleague-en", "en", deskWidth, deskHeight))
		d.withScript()
		d.look()
	})
	t.Run("desk-en", func(t *testing.T) {
		d := office(t, "desk-en", "en", deskWidth, deskHeight)
		d.signIn()
		d.maintain(12)
		d.look()
	})
	t.Run("phone-zh", func(t *testing.T) {
		d := office(t, "phone-zh", "zh", phoneWidth, phoneHeight)
		d.signIn()
		d.maintain(11)
		d.look()
	})
}

// news is what has happened at the cabinet before staff look.
type news struct {
	riderID, own, taken string
	swapID              protocol.SwapID // a whole one
	refusedID           string          // a rider who has no battery, and was refused
	reviews             int
}

// makeNews lets a rider swap, another be refused, and two leave a wrong battery.
func (s *stage) makeNews(r *replica, c *cabinet) *news {
	n := &news{}
	n.riderID, n.own = s.newRider()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	result, err := s.quickRider(r, n.riderID, c).Swap(ctx, 1)
	require.NoError(s.t, err)
	require.Equal(s.t, protocol.OutcomeSwapped, result.Swap.Outcome)
	n.swapID, n.taken = result.Swap.SwapID, s.world.Hands(n.riderID)[0]
	n.refusedID = strings.TrimSpace(s.run("backend", "rider", "add", "--name", "Zhang San"))
	_, err = s.phone(r, n.refusedID).Scan(ctx, c.id, "why")
	require.ErrorContains(s.t, err, string(protocol.ReasonNoBattery))
	list := filepath.Join(s.dir, "roll.csv")
	require.NoError(s.t, os.WriteFile(list, []byte("name,phone,district,branch\nLi Wei,13800001234,Gongshu,Branch 1\nWang Fang,12,Gongshu,Branch 1\n"), 0o600))
	require.Contains(s.t, s.run("backend", "roll", "import", list, "--key-dir", s.keys(), "--apply", "--add-unions"), "imported: 1 added, 0 changed, 0 unchanged, 1 refused, 2 union bodies")
	for range 2 {
		id, _ := s.newRider()
		s.leaveWrongBattery(r, c, id)
		n.reviews++
	}
	return n
}

// leaveWrongBattery lets a rider put a battery in that is somebody else's, and
// leave it there when the cabinet gives it back: a review.
func (s *stage) leaveWrongBattery(r *replica, c *cabinet, riderID string) {
	s.t.Helper()
	wrong := s.newBattery()
	require.NoError(s.t, s.world.PutInHands(riderID, world.Battery{Serial: wrong, SocPermille: 300}))
	id := s.scan(r, riderID, c)
	slot := s.openDoor(c, 1)
	require.NoError(s.t, s.world.Insert(s.now(), riderID, c.id, slot, wrong, true))
	require.NoError(s.t, s.world.CloseDoor(s.now(), riderID, c.id, slot))
	phone := s.phone(r, riderID)
	s.until("it is not given back", func() bool {
		v, err := phone.Swap(s.t.Context(), id)
		return err == nil && v.Step == "return" && v.Door == protocol.DoorOpen
	})
	require.NoError(s.t, s.world.CloseDoor(s.now(), riderID, c.id, slot)) // and left in
	s.until("the swap does not end in review", func() bool {
		v, err := phone.Swap(s.t.Context(), id)
		return err == nil && v.Outcome == protocol.OutcomeReview
	})
}

// comesInRecalled lets the rider bring the battery that was recalled: the
// cabinet keeps it, and the console says so.
func (d *desk) comesInRecalled() {
	s, n := d.stage, d.news
	ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Minute)
	defer cancel()
	result, err := s.quickRider(d.replica, n.riderID, d.cabinet).Swap(ctx, 2)
	require.NoError(d.t, err)
	require.Equal(d.t, protocol.OutcomeSwapped, result.Swap.Outcome, "the rider is given another")
	require.NotEqual(d.t, n.taken, s.world.Hands(n.riderID)[0])
	d.open("/staff/batteries/" + n.taken)
	d.says(d.words["mark.recalled"], d.words["holder.slot"])
	d.stage.until("the slot does not show what was recalled", func() bool {
		d.open("/staff/cabinets/" + d.cabinet.id)
		row, err := chromedp.Run(d.ctx, chromedp.Evaluate[string](`[...document.querySelectorAll("tbody tr")].map(r => r.innerText).find(r => r.includes("`+n.taken+`")) || ""`))
		require.NoError(d.t, err)
		return strings.Contains(row, d.words["mark.recalled"])
	})
	d.see("recalled-held")
}

// questions answers what staff ask, from what the console shows.
func (d *desk) questions() {
	n := d.news
	// Which cabinets need me now, and why.
	d.open("/staff/cabinets")
	d.says(d.words["page.cabinets"], d.cabinet.id, d.words["need.review"], d.words["need.held_battery"])
	// What happened in swap X.
	d.open("/staff/swaps")
	d.fill("input[name=find]", string(n.swapID))
	d.tap("form.row button")
	d.says(d.words["end.swapped"], d.words["what.TAKEN"], d.words["what.take"], n.own, n.taken)
	// Who has battery Y, and who had it.
	d.open("/staff/batteries")
	d.fill("input[name=find]", n.own)
	d.tap("form.row button")
	d.tap("tbody tr:only-child a[href$='" + n.own + "']")
	d.says(d.words["battery.history"], d.words["what.deposit"], d.words["what.assigned"], n.riderID[len(n.riderID)-6:])
	// How many swaps were there today, by the page that a newspaper quotes.
	d.open("/staff/statistics")
	d.says(d.words["figures.definition"])
	d.tap(".links a")
	d.says(d.words["figures.definition"])
	require.Regexp(d.t, strings.NewReplacer("{n}", `[1-9]\d*`, "{avg}", `[1-9]\d*`).Replace(d.words["figures.sentence"]), d.text())
	// Why was rider Z refused.
	d.open("/staff/riders")
	d.fill("input[name=find]", "zhang")
	d.tap("form.row button")
	d.tap("tbody tr:only-child a[href$='" + n.refusedID + "']")
	d.says(d.words["reason.no_battery"])
}

// row is the form of a slot.
func (d *desk) slotForm(slot int, to string) {
	d.open("/staff/cabinets/" + d.cabinet.id)
	row := fmt.Sprintf("tbody tr:nth-child(%d) ", slot)
	d.tap(row + "summary")
	d.fill(row+"input[name=reason]", "the door is bent")
	d.tap(row + "button[value=" + to + "]")
}

// slotOut takes a slot out of service; the cabinet's own record confirms it.
func (d *desk) slotOut(slot int) {
	d.slotForm(slot, "out")
	d.says(d.words["done.slot_out"], d.words["slot.off"])
	d.confirmed()
	d.see("slot-out")
}

func (d *desk) slotIn(slot int) {
	d.slotForm(slot, "in")
	d.says(d.words["done.slot_in"])
	d.confirmed()
}

func (d *desk) confirmed() {
	d.stage.until("the cabinet does not confirm", func() bool {
		d.open("/staff/cabinets/" + d.cabinet.id)
		page := d.text()
		return strings.Contains(page, d.words["config.confirmed"]) && !strings.Contains(page, d.words["config.waits"])
	})
}

// openReview goes to the first review that waits.
func (d *desk) openReview() {
	d.open("/staff/reviews")
	d.says(d.words["page.reviews"])
	d.tap(".cards a")
	d.says(d.words["review.decide"], d.words["review.sides"], d.words["review.differs"])
}

func (d *desk) pressDecide(ruling string) {
	d.tap("input[value=" + ruling + "]")
	require.NoError(d.t, chromedp.Do(d.ctx, chromedp.SetValue(chromedp.CSS("select[name=reason]"), "seen_on_site")))
	d.tap("form.card button.go")
}

// decide decides a review: custody and count move by it, and the audit holds.
func (d *desk) decide() {
	d.openReview()
	d.see("review")
	d.pressDecide("not_deposited")
	d.says(d.words["done.decided"], d.words["ruling.not_deposited"], d.words["ground.seen_on_site"])
	d.see("decided")
	require.Empty(d.t, d.stage.audited().Differences)
}

// decideSecond decides a review that a colleague, who has it before him too,
// decides first.
func (d *desk) decideSecond(colleague *desk) {
	colleague.signIn()
	d.openReview()
	colleague.openReview()
	colleague.pressDecide("not_deposited")
	colleague.says(colleague.words["done.decided"])
	d.pressDecide("owed")
	d.says(d.words["no.already_decided"], d.words["nothing_done"], colleague.login)
	d.see("decided-before")
	d.open("/staff/reviews")
	d.says(d.words["reviews.none"])
	require.Empty(d.t, d.stage.audited().Differences)
}

// recall recalls a battery that a rider has.
func (d *desk) recall(serial string) {
	d.open("/staff/batteries/" + serial)
	d.says(d.words["holder.rider"])
	d.tap("#recall summary")
	d.tap("#recall input[value=recalled]")
	d.fill("#recall input[name=reason]", "swollen")
	d.see("recall")
	d.tap("#recall button.go")
	d.says(d.words["done.recalled"], "swollen", d.login)
	d.confirmed()
}

// wrongSheet imports a spreadsheet with mistakes: each is told by its row, and
// nothing is imported. The mended one is tried first, and then imported.
func (d *desk) wrongSheet() {
	give := func(name, content, button string) {
		file := filepath.Join(d.t.TempDir(), name)
		require.NoError(d.t, os.WriteFile(file, []byte(content), 0o600))
		d.open("/staff/batteries/import")
		require.NoError(d.t, chromedp.Do(d.ctx, chromedp.SetUploadFiles(chromedp.CSS("input[type=file]"), []string{file})))
		d.tap(button)
	}
	number := func(key string, n int) string { return strings.ReplaceAll(d.words[key], "{n}", fmt.Sprint(n)) }
	give("wrong.csv", "battery_serial,type\nNEW-1,60V20Ah\n,60V20Ah\nNEW-2,60V20Ah\nNEW-1,60V20Ah\n", "button.go")
	d.says(number("import.mistakes", 2), d.words["nothing_done"], strings.ReplaceAll(d.words["sheet.twice"], "{x}", "2"))
	d.see("import-mistakes")
	d.open("/staff/batteries/NEW-2")
	d.says(d.words["notfound"])
	give("no.xlsx", "PK\x03\x04 this is none", "button.go")
	d.says(d.words["import.wrong"], d.words["nothing_done"])
	give("right.csv", "battery_serial,type\nNEW-1,60V20Ah\nNEW-2,60V20Ah\n", "form.tall button:not(.go)")
	d.says(number("import.dry", 2))
	d.open("/staff/batteries/NEW-2")
	d.says(d.words["notfound"])
	give("right.csv", "battery_serial,type\nNEW-1,60V20Ah\nNEW-2,60V20Ah\n", "form.tall button.go")
	d.says(number("import.done", 2), number("import.new", 2))
	d.see("imported")
	d.open("/staff/batteries/NEW-2")
	d.says(d.words["holder.staff"])
}

// ownAccount changes the own password and makes new recovery codes.
func (d *desk) ownAccount() {
	password := "another long password"
	change := func(old string) {
		d.open("/staff/me")
		d.tap("#password summary")
		d.fill("#password input[name=old]", old)
		d.fill("#password input[name=new]", password)
		d.fill("#password input[name=again]", password)
		d.tap("#password button.go")
	}
	change("a wrong old password")
	d.says(d.words["no.password"], d.words["nothing_done"])
	d.see("password-wrong")
	change(d.password)
	d.says(d.words["done.password"])
	d.password = password
	d.tap("#codes summary")
	d.tap("#codes button.go")
	d.says(d.words["me.codes.once"])
	d.see("recovery-codes")
}

// lostSession is signed out elsewhere while a form is filled in: it is told, and
// nothing is done.
func (d *desk) lostSession() {
	d.open("/staff/cabinets/" + d.cabinet.id)
	d.stage.run("backend", "staff", "reset", d.login)
	row := "tbody tr:nth-child(7) "
	d.tap(row + "summary")
	d.fill(row+"input[name=reason]", "checking")
	d.tap(row + "button[value=out]")
	d.says(d.words["no.session"], d.words["nothing_done"])
	d.see("session-lost")
}

// look opens every page that has not been seen by the way.
func (d *desk) look() {
	n := d.news
	review := "/staff/reviews/1"
	for _, p := range []struct{ name, path, says string }{
		{"cabinets", "/staff/cabinets", "page.cabinets"},
		{"cabinet", "/staff/cabinets/" + d.cabinet.id, "slots"},
		{"enrol", "/staff/cabinets/new", "page.enrol"},
		{"sticker", "/staff/cabinets/" + d.cabinet.id + "/sticker", "page.sticker"},
		{"alarms", "/staff/alarms", "page.alarms"},
		{"swaps", "/staff/swaps", "page.swaps"},
		{"swap", "/staff/swaps/" + string(n.swapID), "story"},
		{"reviews", "/staff/reviews?all=1", "page.reviews"},
		{"review", review, "review.sides"},
		{"batteries", "/staff/batteries", "page.batteries"},
		{"battery", "/staff/batteries/" + n.taken, "battery.history"},
		{"import", "/staff/batteries/import", "page.import"},
		{"riders", "/staff/riders", "page.riders"},
		{"rider", "/staff/riders/" + n.riderID, "scans"},
		{"refused", "/staff/riders/" + n.refusedID, "reason.no_battery"},
		{"credits", "/staff/credits", "page.credits"},
		{"faults", "/staff/faults", "page.faults"},
		{"rolls", "/staff/roll", "union.tree"},
		{"roll", "/staff/roll/1", "roll.report"},
		{"accounts", "/staff/accounts", "page.accounts"},
		{"statistics", "/staff/statistics?compare=yes", "figures.definition"},
		{"statistics-hours", "/staff/statistics?by=hour", "by.hour"},
		{"statistics-streets", "/staff/statistics?by=street", "by.street"},
		{"statistics-union", "/staff/statistics?by=union", "figures.months"},
		{"month", "/staff/statistics/report", "month.availability.why"},
		{"me", "/staff/me", "me.sessions"},
		{"audit-log", "/staff/audit-log", "page.audit-log"},
		{"not-found", "/staff/nothing", "notfound"},
	} {
		d.open(p.path)
		d.says(d.words[p.says])
		d.see(p.name)
	}
}

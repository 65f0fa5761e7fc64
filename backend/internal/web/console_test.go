package web

import (
	"encoding/json"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// TestConsoleHasATextForEverything that its pages can show, in both languages.
func TestConsoleHasATextForEverything(t *testing.T) {
	keys := map[string]bool{"notfound": true, "unavailable": true, "no.role": true, "no.exists": true, "no.mistake": true, "no.tries": true, "no.sign_in": true, "no.code": true}
	add := func(prefix string, names ...string) {
		for _, n := range names {
			keys[prefix+n] = true
		}
	}
	add("need.", staff.NeedKinds()...)
	add("no.", staff.RefusalCodes()...)
	add("urgency.", "1", "2", "3")
	for _, r := range staff.Roles() {
		add("role.", string(r))
	}
	for _, r := range protocol.Reasons() {
		add("reason.", string(r))
	}
	for n := protocol.RecordBoot; n.Valid(); n++ {
		add("what.", n.String())
	}
	for _, r := range swap.Rulings() {
		add("ruling.", string(r))
	}
	for _, g := range swap.Grounds() {
		add("ground.", string(g))
	}
	for _, w := range []swap.What{
		swap.Deposited, swap.Taken, swap.Returned, swap.Held, swap.Doubted, swap.Assigned, swap.CreditOpened, swap.CreditTaken, swap.CreditUsed,
		swap.CreditFreed, swap.CreditDue, swap.CreditBalanced, swap.Resolved, swap.Ruled,
	} {
		add("what.", string(w))
	}
	for _, k := range []protocol.Kind{protocol.KindSwap, protocol.KindOwed, protocol.KindIssue, protocol.KindHandBack} {
		add("kind.", string(k))
	}
	for _, o := range []protocol.Outcome{
		protocol.OutcomeNoDeposit, protocol.OutcomeSwapped, protocol.OutcomeReturned, protocol.OutcomeDepositedOwed, protocol.OutcomeOwedTaken,
		protocol.OutcomeOwedNotTaken, protocol.OutcomeIssued, protocol.OutcomeIssueNotTaken, protocol.OutcomeHandedBack, protocol.OutcomeNotStarted, protocol.OutcomeReview,
	} {
		add("end.", string(o))
	}
	for _, h := range []swap.Holder{swap.WithRider, swap.InSlot, swap.WithStaff, swap.UnderCheck} {
		add("holder.", string(h))
	}
	for _, x := range []swap.State{swap.StateRequested, swap.StateGranted, swap.StateActive, swap.StateClosed} {
		add("swapstate.", string(x))
	}
	add("origin.", string(swap.OriginSwap), string(swap.OriginStaff), string(swap.OriginReview))
	add("credit.", string(swap.CreditOpen), string(swap.CreditReserved), string(swap.CreditSpent), string(swap.CreditSettled))
	for _, d := range statistics.Dimensions() {
		add("by.", string(d))
		if d != statistics.Total {
			add("chart.", string(d))
		}
	}
	add("weekday.", "1", "2", "3", "4", "5", "6", "7")
	add("level.", "city", "district", "street", "branch")
	add("range.", "today", "7", "30", "month", "last_month", "year", "all")
	add("done.", "published", "audit_asked")
	add("", "export.file", "export.sheet", "export.key", "export.note", "export.total", "export.days", "export.day", "export.time", "export.kind", "export.swap",
		"export.position", "export.rider", "export.phone", "export.membership", "figures.no_union", "figures.no_platform", "figures.direct")
	add("sheet.", staff.SheetCodes()...)
	add("mark.", staff.Flagged, staff.Recalled, staff.Gone)
	add("fault.", "door", "battery", "screen", "other")
	add("door.", "open", "shut")
	add("moved.", "open", "shut")
	add("purpose.", string(protocol.PurposeDeposit), string(protocol.PurposeDispense), string(protocol.PurposeReturn), string(protocol.PurposeReopen))
	for _, m := range menu(staff.Session{Actor: staff.Actor{Roles: staff.Roles()}}, "/staff/cabinets") {
		keys[m.Text] = true
	}
	used := regexp.MustCompile(`\bt[nw]? "([a-z0-9_.-]+)"`)
	defined := regexp.MustCompile(`\{\{define "([a-z-]+)"\}\}\n<(?:h1|p)`)
	require.NoError(t, fs.WalkDir(pageFiles, "templates/staff", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := pageFiles.ReadFile(path)
		for _, m := range used.FindAllStringSubmatch(string(b), -1) {
			keys[m[1]] = true
		}
		for _, m := range defined.FindAllStringSubmatch(string(b), -1) {
			add("page.", m[1])
		}
		return err
	}))
	all := map[string]texts{}
	for _, lang := range languages {
		var err error
		all[lang], err = loadTexts(lang, "staff.", "figures.")
		require.NoError(t, err)
		for k := range keys {
			require.NotEmpty(t, all[lang][k], "%s has no text for %s", lang, k)
		}
	}
	for k := range all["zh"] {
		require.Contains(t, all["en"], k)
		require.Equal(t, strings.Contains(all["zh"][k], "{"), strings.Contains(all["en"][k], "{"), k)
	}
	require.Len(t, all["en"], len(all["zh"]))
}

// TestARouteWithoutRoleDoesNotStart: what nobody said who may use, nobody may.
func TestARouteWithoutRoleDoesNotStart(t *testing.T) {
	w := &Web{}
	w.note("GET", "/healthz", anybody())
	w.note("GET", "/c/{cabinet_id}", riders())
	w.note("GET", "/staff/x", only(staff.Admin))
	require.NoError(t, w.checkRoutes())
	w.note("POST", "/staff/y", access{fresh: true})
	require.ErrorContains(t, w.checkRoutes(), "route POST /staff/y has no role")
}

// TestSafeNext: a link to the sign-in page cannot lead away from the console.
func TestSafeNext(t *testing.T) {
	require.Equal(t, "/staff/swaps?find=x", safeNext("/staff/swaps?find=x"))
	for _, bad := range []string{"", "https://evil.example", "//evil.example", "/c/hb-0001", "/staff/sign-in?next=/staff/x", "/staff/\\evil", "/staff/\r\nX: y"} {
		require.Equal(t, "/staff/cabinets", safeNext(bad), bad)
	}
}

// TestNeeds: who needs somebody, and who first.
func TestNeeds(t *testing.T) {
	texts, err := loadTexts("en", "staff.")
	require.NoError(t, err)
	age := int64(125_000)
	require.Equal(t, "2 min ago", texts.age(&age))
	require.Equal(t, "never", texts.age(nil))
	require.Equal(t, "never", texts.ago(nil))
}

// TestSaid: what records say is told in words; what has none is shown as it is.
func TestSaid(t *testing.T) {
	en, err := loadTexts("en", "staff.")
	require.NoError(t, err)
	for payload, want := range map[string]string{
		`{"door":"shut","purpose":"return","slot":2}`:                                           "closed · to give the battery back",
		`{"pulse":1,"purpose":"deposit","slot":1}`:                                              "to put the battery in",
		`{"pulse":2,"purpose":"dispense","slot":1}`:                                             "to hand out a charged battery · try 2",
		`{"kind":"held_battery","slot":3}`:                                                      "A battery is held",
		`{"kind":"smoke","cleared":true,"on_site":true}`:                                        "Smoke · over · on site",
		`{"kind":"of_a_newer_agent"}`:                                                           "of_a_newer_agent",
		`{"accepted":false,"reason":"not_expected"}`:                                            "not accepted",
		`{"accepted":true,"battery":{"soc":28,"voltage_mv":58922,"cell_max_c":25}}`:             "accepted · 28 %, 58.9 V, 25.0 °C",
		`{"deposited":"B-1","kind":"swap","outcome":"swapped","taken":"B-2","take_slot":8}`:     "swap · Swapped · Deposited B-1 · Taken B-2",
		`{"kind":"swap","outcome":"review","explanations":["deposited_owed","no_deposit"]}`:     "swap · Under review · It may be: Deposited, got nothing: owed; Nothing deposited",
		`{"config":{"version":5,"slots_out":[6,7],"flagged_serials":["B-1"]},"keys_version":1}`: "version 5, slots out: 6 7, recalled batteries: 1",
		`{"cut_bytes":12,"software":"1.2"}`:                                                     "cut_bytes 12 · software 1.2",
		`{"slot":"what","pulse":"what","battery":[1]}`:                                          "",
		`no JSON`: "",
	} {
		require.Equal(t, want, strings.Join(en.said(json.RawMessage(payload)), " · "), payload)
	}
	warm := 31.26
	require.Equal(t, "31.3 °C", celsius(&warm))
	require.Equal(t, "–", celsius(nil))
}

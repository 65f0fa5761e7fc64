package postgres_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// counted is a take as the chronicle's own books have it: what it belonged to when
// it was told.
type counted struct {
	rider            swap.RiderID
	path             []int64
	platform, street string
	cabinet          protocol.CabinetID
	// The ledger's.
	day      statistics.Day
	hour     int
	position int64
}

// courierOf is a rider of a chronicle.
type courierOf struct {
	id       swap.RiderID
	own      protocol.BatterySerial
	body     int64 // 0: of none
	platform string
	busy     bool
}

// chronicle is what happens in a small union, and what was asked meanwhile.
type chronicle struct {
	*rapid.T
	d       *deck
	k       *desk
	ctx     context.Context //nolint:containedctx // of who may see single riders
	union   context.Context //nolint:containedctx // of who may not
	boxes   []*cabinet
	street  map[protocol.CabinetID]string
	untold  map[protocol.CabinetID]*courierOf // a swap that its cabinet has not told
	swaps   map[protocol.CabinetID]protocol.SwapID
	crew    []*courierOf
	parent  map[int64]int64 // of bodies
	takes   map[protocol.SwapID]*counted
	answers []answered
	n       int
}

// answered is a figure and who asked for it.
type answered struct {
	statistics.Figure
	by context.Context //nolint:containedctx // whose question it was
}

// TestFiguresAreANaiveRecount: whatever happens, late records, clocks that are
// wrong, decisions, cabinets and riders that move, a union that is reorganised:
// each figure is what counting the ledger's takes one by one gives, with what they
// belonged to when they were booked; the same question as of the same position has
// the same answer when all is over.
func TestFiguresAreANaiveRecount(t *testing.T) {
	t.Parallel()
	require.NoError(t, quickRapid())
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(t, rt)
		defer h.k.Close()
		rt.Repeat(map[string]func(*rapid.T){
			"swap": h.swap, "swap again": h.swap, "tell": h.tell, "rush": h.rush, "dispute": h.dispute, "move": h.move, "change": h.change,
			"reorganise": h.reorganise, "ask": h.ask, "old": h.askOld, "closed": h.askClosed,
		})
		for _, c := range h.boxes {
			h.tellOf(c)
		}
		h.ask(rt)
		h.askClosed(rt)
		for _, was := range h.answers {
			is := h.figure(was.by, was.Question)
			was.Later, is.Later = 0, 0
			require.Equal(h, was.Figure, is, "the answer has changed")
		}
		rep, err := h.d.store.Audit(context.Background())
		require.NoError(h, err)
		require.Empty(h, rep.Differences)
		require.EqualValues(h, len(h.takes), rep.Swaps)
	})
}

func newHistory(t *testing.T, rt *rapid.T) *chronicle {
	h := &chronicle{
		T: rt, d: newDeck(oneOf{t, rt}), street: map[protocol.CabinetID]string{}, untold: map[protocol.CabinetID]*courierOf{}, swaps: map[protocol.CabinetID]protocol.SwapID{},
		parent: map[int64]int64{}, takes: map[protocol.SwapID]*counted{}, ctx: staff.As(context.Background(), staff.Actor{Login: "p", Roles: []staff.Role{staff.Personal}}),
		union: staff.As(context.Background(), staff.Actor{Login: "u", Roles: []staff.Role{staff.Union}}),
	}
	h.k = h.d.desk(h.d.store)
	for i, body := range [][3]string{{"city", "City", ""}, {"district", "North", "1"}, {"district", "South", "1"}, {"branch", "N-1", "2"}, {"branch", "S-1", "3"}} {
		require.NoError(rt, h.d.exec(`INSERT INTO union_body (level, name, parent_id) VALUES ($1, $2, NULLIF($3, '')::bigint)`, body[0], body[1], body[2]))
		h.parent[int64(i+1)], _ = strconv.ParseInt(body[2], 10, 64)
	}
	for i := range 3 {
		c := h.d.cabinet(protocol.CabinetID(fmt.Sprintf("hb-000%d", i)))
		h.street[c.id] = "Street"
		h.boxes = append(h.boxes, c)
	}
	require.NoError(rt, h.d.exec(`UPDATE cabinet SET enrolled_at = now() - interval '70 days'`))
	for i := range 24 {
		id, err := h.d.store.AddRider(context.Background(), postgres.NewRider{Name: fmt.Sprintf("R%d", i)})
		require.NoError(rt, err)
		k := &courierOf{id: id}
		h.give(k)
		h.crew = append(h.crew, k)
		h.belongs(k, int64(4+i%2), []string{"red", "blue"}[i/20])
	}
	return h
}

// give hands a rider a battery of their own.
func (h *chronicle) give(k *courierOf) {
	h.n++
	k.own = protocol.BatterySerial(fmt.Sprintf("OWN-%d", h.n))
	h.d.battery(k.own, swap.Place{RiderID: k.id})
}

func (h *chronicle) belongs(k *courierOf, body int64, platform string) {
	k.body, k.platform = body, platform
	require.NoError(h, h.d.exec(`UPDATE rider SET union_id = NULLIF($2::bigint, 0), platform = $3 WHERE rider_id = $1`, string(k.id), body, platform))
}

func (h *chronicle) path(body int64) []int64 {
	out := []int64{}
	for ; body != 0; body = h.parent[body] {
		out = append([]int64{body}, out...)
	}
	return out
}

func (h *chronicle) idle() *courierOf {
	i := rapid.IntRange(0, len(h.crew)-1).Draw(h.T, "rider")
	for n := range h.crew {
		if k := h.crew[(i+n)%len(h.crew)]; !k.busy {
			return k
		}
	}
	h.Fatal("everybody swaps")
	return nil
}

// swap is one at a cabinet that has told its last; it tells later. Its clock may
// be days behind or ahead, or not synchronised.
func (h *chronicle) swap(*rapid.T) {
	c := rapid.SampledFrom(h.boxes).Draw(h.T, "cabinet")
	if h.untold[c.id] != nil {
		h.tellOf(c)
	}
	c.ahead = -time.Duration(rapid.IntRange(-30, 65*24).Draw(h.T, "hours behind")) * time.Hour
	c.adrift = rapid.IntRange(0, 9).Draw(h.T, "adrift") == 0
	h.swapBy(c, h.idle())
}

func (h *chronicle) swapBy(c *cabinet, k *courierOf) {
	g := c.granted(k.id, false)
	k.own = c.swapped(g, k.own)
	k.busy, h.untold[c.id], h.swaps[c.id] = true, k, g.SwapID
}

func (h *chronicle) tell(*rapid.T) { h.tellOf(rapid.SampledFrom(h.boxes).Draw(h.T, "cabinet")) }

func (h *chronicle) tellOf(c *cabinet) {
	h.k.sends(c)
	if k := h.untold[c.id]; k != nil {
		h.takes[h.swaps[c.id]] = h.countedNow(c, k)
		k.busy = false
		delete(h.untold, c.id)
	}
}

func (h *chronicle) countedNow(c *cabinet, k *courierOf) *counted {
	return &counted{rider: k.id, path: h.path(k.body), platform: k.platform, street: h.street[c.id], cabinet: c.id}
}

// rush is everybody who is idle at one cabinet on one day.
func (h *chronicle) rush(*rapid.T) {
	if h.n++; h.n%3 > 0 { // it takes its time
		return
	}
	c := h.boxes[0]
	h.tellOf(c)
	c.ahead, c.adrift = -time.Duration(rapid.IntRange(0, 60*24).Draw(h.T, "hours behind"))*time.Hour, false
	for _, k := range h.crew {
		if !k.busy {
			h.swapBy(c, k)
			h.tellOf(c)
		}
	}
}

// dispute is a swap that a person decides: the battery was taken.
func (h *chronicle) dispute(*rapid.T) {
	c, k := h.boxes[2], h.idle()
	h.tellOf(c)
	h.n++
	serial := protocol.BatterySerial(fmt.Sprintf("X-%d", h.n))
	c.serials, c.ahead, c.adrift = map[int]protocol.BatterySerial{7: serial}, 0, false
	h.d.battery(serial, swap.Place{})
	g := c.granted(k.id, false)
	c.unclear(g, k.own)
	h.k.sends(c)
	id := query[int64](h.d, `SELECT max(review_id) FROM review WHERE swap_id = $1`, string(g.SwapID))
	require.NoError(h, h.d.store.DecideReview(context.Background(), ruled(id, swap.RuledTaken)))
	h.takes[g.SwapID] = h.countedNow(c, k)
	k.own = serial
	h.n++
	c.serials = map[int]protocol.BatterySerial{8: protocol.BatterySerial(fmt.Sprintf("X-%d", h.n))}
	h.d.battery(c.serials[8], swap.Place{})
}

func (h *chronicle) move(*rapid.T) {
	c := rapid.SampledFrom(h.boxes).Draw(h.T, "cabinet")
	h.street[c.id] = rapid.SampledFrom([]string{"Street", "Lane", "Road"}).Draw(h.T, "street")
	require.NoError(h, h.d.store.MoveCabinet(context.Background(), c.id, "Station", h.street[c.id], "moved"))
}

func (h *chronicle) change(*rapid.T) {
	k := rapid.SampledFrom(h.crew).Draw(h.T, "rider")
	h.belongs(k, rapid.Int64Range(0, 5).Draw(h.T, "body"), rapid.SampledFrom([]string{"", "red", "blue"}).Draw(h.T, "platform"))
}

func (h *chronicle) reorganise(*rapid.T) {
	branch, district := rapid.Int64Range(4, 5).Draw(h.T, "branch"), rapid.Int64Range(1, 3).Draw(h.T, "district")
	h.parent[branch] = district
	require.NoError(h, h.d.exec(`UPDATE union_body SET parent_id = $2 WHERE union_id = $1`, branch, district))
}

func (h *chronicle) figure(by context.Context, q statistics.Question) statistics.Figure {
	f, err := h.d.store.Figure(by, q)
	require.NoError(h, err)
	return f
}

func (h *chronicle) ask(*rapid.T) {
	today := statistics.DayOf(time.Now())
	to := today - statistics.Day(rapid.IntRange(-1, 50).Draw(h.T, "days ago"))
	h.question(statistics.Range{From: to - statistics.Day(rapid.IntRange(0, 70).Draw(h.T, "days")), To: to}, 0)
}

// askOld asks a new question about an old position.
func (h *chronicle) askOld(*rapid.T) {
	if len(h.answers) == 0 {
		return
	}
	was := rapid.SampledFrom(h.answers).Draw(h.T, "answer")
	r := was.Range
	r.From -= statistics.Day(rapid.IntRange(0, 40).Draw(h.T, "more"))
	h.question(r, was.AsOf)
}

// askClosed asks as somebody who may not ask for single riders.
func (h *chronicle) askClosed(*rapid.T) {
	h.readLedger()
	r := statistics.Range{From: statistics.DayOf(time.Now()) - statistics.Day(rapid.IntRange(0, 70).Draw(h.T, "days")), To: statistics.DayOf(time.Now())}.Closed(time.Now())
	for _, by := range []statistics.Dimension{statistics.ByUnion, statistics.ByPlatform} {
		h.answer(h.union, statistics.Question{Range: r, By: by})
	}
}

func (h *chronicle) question(r statistics.Range, asOf int64) {
	h.readLedger()
	for _, by := range statistics.Dimensions() {
		h.answer(h.ctx, statistics.Question{Range: r, By: by, AsOf: asOf})
	}
	h.answer(h.ctx, statistics.Question{Range: r, By: statistics.ByCabinet, AsOf: asOf, Street: "Lane"})
}

func (h *chronicle) answer(by context.Context, q statistics.Question) {
	f := h.figure(by, q)
	require.Equal(h, h.recount(by, f.Question), f)
	h.answers = append(h.answers, answered{f, by})
}

// readLedger finds when each take was, and where in the ledger.
func (h *chronicle) readLedger() {
	rows, err := h.d.direct().Query(context.Background(), `SELECT swap_id::text, position, day, at FROM ledger WHERE counted`)
	require.NoError(h, err)
	var id protocol.SwapID
	var position int64
	var day, at time.Time
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&id, &position, &day, &at}, func() error {
		x := h.takes[id]
		require.NotNil(h, x, "a take that nobody took")
		y, m, d := day.Date()
		x.position, x.day, x.hour = position, statistics.DateOf(y, m, d), at.UTC().Add(8*time.Hour).Hour()
		n++
		return nil
	})
	require.NoError(h, err)
	require.Equal(h, len(h.takes), n)
}

// recount answers a question take by take.
func (h *chronicle) recount(who context.Context, q statistics.Question) statistics.Figure {
	f := statistics.Figure{Question: q}
	by := map[string]int{}
	streets := map[string]map[string]bool{}
	for _, x := range h.takes {
		if !q.Has(x.day) || q.Street != "" && x.street != q.Street {
			continue
		}
		if x.position > q.AsOf {
			f.Later++
			continue
		}
		f.Swaps++
		key := ""
		switch q.By {
		case statistics.ByHour:
			key = fmt.Sprintf("%d/%02d", x.day.Weekday(), x.hour)
		case statistics.ByDay:
			key = x.day.String()
		case statistics.ByStreet:
			key = x.street
		case statistics.ByCabinet:
			key = string(x.cabinet)
		}
		by[key]++
		if streets[key] == nil {
			streets[key] = map[string]bool{}
		}
		streets[key][x.street] = true
	}
	f.PerDay = (2*f.Swaps + q.Days()) / (2 * q.Days())
	f.Groups = h.grouped(q, &f, by, streets, h.members(who, q))
	if q.By.ByPeople() && !staff.Who(who).Has(staff.Personal) && len(q.Months()) > 1 {
		f.Riders = nil
		for i := range f.Groups {
			f.Groups[i].Riders = nil
		}
	}
	return f
}

// members are the riders of a question, each as what they were: for who may not ask
// for single riders, of months up to where these were closed.
func (h *chronicle) members(who context.Context, q statistics.Question) []statistics.Member {
	closed := map[statistics.Day]int64{}
	for _, m := range q.Months() {
		if !staff.Who(who).Has(staff.Personal) && q.By.ByPeople() {
			closed[m] = query[int64](h.d, `SELECT coalesce((SELECT position FROM month_closing WHERE month = '`+m.String()+`'), 0)`)
		}
	}
	type as struct {
		rider, path, platform string
	}
	members := map[as]*statistics.Member{}
	for _, x := range h.takes {
		if !q.Has(x.day) {
			continue
		}
		until, period := q.AsOf, uint64(1)
		if len(closed) > 0 {
			until, period = closed[x.day.Month()], 1<<slices.Index(q.Months(), x.day.Month())
		}
		if x.position > until {
			continue
		}
		who := as{string(x.rider), fmt.Sprint(x.path), x.platform}
		if members[who] == nil {
			members[who] = &statistics.Member{Rider: string(x.rider), Path: x.path, Platform: x.platform}
		}
		members[who].Swaps++
		members[who].Periods |= period
	}
	var out []statistics.Member
	for _, m := range members {
		out = append(out, *m)
	}
	return out
}

func (h *chronicle) grouped(q statistics.Question, f *statistics.Figure, by map[string]int, streets map[string]map[string]bool, members []statistics.Member) []statistics.Group {
	var out []statistics.Group
	if q.By.ByPeople() || q.By == statistics.ByRider {
		f.Ungrouped = f.Swaps
		for _, m := range members {
			f.Ungrouped -= m.Swaps
		}
	}
	switch q.By {
	case statistics.Total:
		return nil
	case statistics.ByDay:
		for d := q.From; d <= q.To; d++ {
			out = append(out, statistics.Group{Key: d.String(), Name: d.String(), Swaps: by[d.String()]})
		}
		return out
	case statistics.ByUnion:
		f.Riders, out = statistics.Count(members), statistics.Unions(members)
		for i, g := range out {
			n, err := strconv.Atoi(g.Key[strings.LastIndexByte(g.Key, '/')+1:])
			if err == nil {
				out[i].Name, out[i].Level = []string{"City", "North", "South", "N-1", "S-1"}[n-1], []string{"city", "district", "district", "branch", "branch"}[n-1]
			}
		}
		return out
	case statistics.ByPlatform:
		f.Riders = statistics.Count(members)
		return statistics.Platforms(members)
	case statistics.ByRider:
		f.Riders, out = statistics.Count(members), statistics.Riders(members)
		for i, g := range out {
			require.NotEmpty(h, g.Key)
			out[i].Name = "R**"
		}
		return out
	}
	for key, n := range by {
		name := key
		if q.By == statistics.ByCabinet {
			var all []string
			for s := range streets[key] {
				all = append(all, s)
			}
			slices.Sort(all)
			name = strings.Join(all, ", ")
		}
		out = append(out, statistics.Group{Key: key, Name: name, Swaps: n})
	}
	slices.SortFunc(out, func(a, b statistics.Group) int {
		if q.By == statistics.ByHour {
			return cmp.Compare(a.Key, b.Key)
		}
		return cmp.Or(cmp.Compare(b.Swaps, a.Swaps), cmp.Compare(a.Key, b.Key))
	})
	return out
}

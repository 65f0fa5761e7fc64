package pilot

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// fate is how a rider's visit to a cabinet goes. Each ends with one battery taken
// in exchange for one, which counts.
type fate string

const (
	usual     fate = "usual"
	hesitates fate = "hesitates" // the door is closed with nothing put in; the next scan goes well
	forgotten fate = "forgotten" // the charged battery is not taken: it is owed, and taken a little later
	silent    fate = "silent"    // the cabinet loses its network after the grant, and tells hours later
	blackout  fate = "blackout"  // the power fails after the deposit, and comes back without network or clock
)

// Shares of the fates, in permille; the rest is usual.
var fates = []struct {
	fate  fate
	share int
}{{hesitates, 30}, {forgotten, 15}, {silent, 8}, {blackout, 4}}

// visit is one rider's wish for a charged battery.
type visit struct {
	at      time.Time
	cabinet int // which stands nearest
	fate    fate
}

// street is where the pilot took place: all its days begin at midnight there.
var street = time.FixedZone("UTC+8", 8*60*60)

// hours weighs the hours of a day: couriers swap before and between the meals.
var hours = [24]int{6: 1, 7: 2, 8: 3, 9: 5, 10: 9, 11: 11, 12: 8, 13: 6, 14: 4, 15: 4, 16: 9, 17: 11, 18: 9, 19: 6, 20: 5, 21: 3, 22: 1, 23: 1}

// weekdays weighs the days of a week from Sunday on.
var weekdays = [7]int{112, 95, 96, 98, 100, 108, 115}

// newPlan spreads the swaps over the days that begin at first, a midnight of the
// street.
func newPlan(o Options, first time.Time) []visit {
	random := rand.New(rand.NewPCG(o.Seed, 38))
	days := make([]int, o.Days)
	for i := range days {
		noise := 90 + random.IntN(21)
		days[i] = weekdays[first.AddDate(0, 0, i).Weekday()] * noise
	}
	var plan []visit
	for day, n := range spread(o.Swaps, days) {
		for hour, m := range spread(n, hours[:]) {
			for range m {
				at := first.AddDate(0, 0, day).Add(time.Duration(hour)*time.Hour + time.Duration(random.Int64N(int64(50*time.Minute))))
				plan = append(plan, visit{at: at, cabinet: random.IntN(o.Cabinets), fate: draw(random)})
			}
		}
	}
	slices.SortFunc(plan, func(a, b visit) int { return a.at.Compare(b.at) })
	return plan
}

func draw(random *rand.Rand) fate {
	n := random.IntN(1000)
	for _, f := range fates {
		if n -= f.share; n < 0 {
			return f.fate
		}
	}
	return usual
}

// spread divides total by weights without losing one: the largest remainders get
// what whole numbers leave.
func spread(total int, weights []int) []int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	parts := make([]int, len(weights))
	order := make([]int, len(weights))
	left := total
	for i, w := range weights {
		parts[i] = total * w / sum
		left -= parts[i]
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(total*weights[b]%sum, total*weights[a]%sum) })
	for _, i := range order[:left] {
		parts[i]++
	}
	return parts
}

package soak

import (
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

var (
	matrixFlag = flag.Bool("matrix", false, "every single cut with every luck and absence, and every pair of cuts")
	cutFlag    = flag.String("cut", "", "replay one course: \"SCRIPT AT,AT LUCK ABSENCE\"")
)

const (
	someDoubles = 40     // without -matrix, one of so many pairs of cuts is made
	draws       = 2      // of luck and absence, for each pair of cuts
	most        = 10_000 // moments after a cut
)

// course is what was made of one script.
type course struct {
	points, single, double int
	moments                map[string]int // at which the power went
	ends                   map[protocol.Outcome]int
}

// matrix is the courses of all scripts.
type matrix struct {
	mu      sync.Mutex
	courses map[string]*course
	broken  []string
}

func (m *matrix) note(sc script, c cuts, e ended) {
	m.mu.Lock()
	defer m.mu.Unlock()
	row := m.courses[sc.name]
	if len(c.at) == 1 {
		row.single++
	} else {
		row.double++
	}
	row.moments[e.cuts[len(e.cuts)-1]]++
	row.ends[e.outcome]++
	if e.broken != nil && len(m.broken) < 10 {
		m.broken = append(m.broken, fmt.Sprintf("%s %s: %s\nreplay: go test ./simulator/soak -count=1 -v -run TestCut -cut '%s %s'", sc.name, c, e.broken, sc.name, c))
	}
}

// mix draws luck and absence from where the cuts are, so that a course is the same
// in every run.
func mix(at ...int) (uint, luck, absence) {
	x := uint(17)
	for _, n := range at {
		x = (x ^ uint(n)) * 0x9e3779b97f4a7c15
		x ^= x >> 29
	}
	return x >> 8, luck(x % uint(lucks)), absence(x / uint(lucks) % uint(absences))
}

// from makes the courses whose first cut is at a point: all, or some of them.
func (m *matrix) from(sc script, n int, whole bool) {
	for l := range lucks {
		for ab := range absences {
			if _, ml, mab := mix(n); whole || l == ml && ab == mab {
				c := cuts{[]int{n}, l, ab}
				m.note(sc, c, play(sc, c, false))
			}
		}
	}
	last := most
	if !whole {
		last = m.courses[sc.name].points
	}
	more := true
	for next := 1; next <= last && more; next++ {
		more = m.twice(sc, n, next, whole)
	}
}

// twice makes the courses whose second cut is so many moments after the first.
// False: there is no such moment.
func (m *matrix) twice(sc script, n, next int, whole bool) (more bool) {
	for draw := range draws {
		x, l, ab := mix(n, next, draw)
		if !whole && (draw > 0 || x%someDoubles != 0) {
			return true // another pair may be one of the few
		}
		c := cuts{[]int{n, next}, l, ab}
		e := play(sc, c, false)
		if len(e.cuts) == 2 {
			more = true
			m.note(sc, c, e)
		}
	}
	return more
}

// TestCrashMatrix cuts the power at every moment of every script: before, in and
// after each write, after each sync, before and after each act, of the swap and
// of each boot; and again at every moment after that.
func TestCrashMatrix(t *testing.T) {
	m := &matrix{courses: map[string]*course{}}
	type task struct {
		sc script
		n  int
	}
	var tasks []task
	for _, sc := range scripts() {
		e := play(sc, cuts{}, false)
		require.Nil(t, e.broken, sc.name)
		require.Equal(t, sc.want, e.outcome, sc.name)
		m.courses[sc.name] = &course{points: e.points, moments: map[string]int{}, ends: map[protocol.Outcome]int{}}
		for n := range e.points {
			tasks = append(tasks, task{sc, n + 1})
		}
	}
	todo := make(chan task)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for x := range todo {
				m.from(x.sc, x.n, *matrixFlag)
			}
		})
	}
	for i, x := range tasks {
		if i%sparse == 0 || *matrixFlag {
			todo <- x
		}
	}
	close(todo)
	workers.Wait()
	t.Logf("\n%s", m)
	for _, b := range m.broken {
		t.Error(b)
	}
	if *matrixFlag {
		m.requireWhole(t)
	}
}

// requireWhole: every single cut was made in every way, and every kind has come
// to every end that it can have.
func (m *matrix) requireWhole(t *testing.T) {
	double, ends := 0, map[protocol.Kind]map[protocol.Outcome]int{}
	for _, sc := range scripts() {
		row := m.courses[sc.name]
		require.Equal(t, row.points*int(lucks)*int(absences), row.single, sc.name)
		double += row.double
		if ends[sc.kind] == nil {
			ends[sc.kind] = map[protocol.Outcome]int{}
		}
		for o, n := range row.ends {
			ends[sc.kind][o] += n
		}
	}
	require.GreaterOrEqual(t, double, 50_000)
	for kind, all := range table() {
		for _, o := range all {
			require.NotZero(t, ends[kind][o], "no %s ends %s", kind, o)
		}
		require.Len(t, ends[kind], len(all), "%v", ends[kind])
	}
}

// String is the table of what was cut, and how it ended.
func (m *matrix) String() string {
	var b strings.Builder
	var single, double int
	moments := map[string]int{}
	fmt.Fprintf(&b, "%-34s%8s%8s%8s  ends\n", "script", "moments", "single", "double")
	for _, sc := range scripts() {
		row := m.courses[sc.name]
		single, double = single+row.single, double+row.double
		fmt.Fprintf(&b, "%-34s%8d%8d%8d  %v\n", sc.name, row.points, row.single, row.double, row.ends)
		for k, n := range row.moments {
			moments[k] += n
		}
	}
	fmt.Fprintf(&b, "%d single cuts, %d double; the last cut came", single, double)
	for _, k := range slices.Sorted(maps.Keys(moments)) {
		fmt.Fprintf(&b, " %s %d,", k, moments[k])
	}
	return strings.TrimSuffix(b.String(), ",")
}

// TestCut replays one course.
func TestCut(t *testing.T) {
	if *cutFlag == "" {
		return
	}
	words := strings.Fields(*cutFlag)
	require.Len(t, words, 4)
	i := slices.IndexFunc(scripts(), func(sc script) bool { return sc.name == words[0] })
	c := cuts{luck: luck(slices.Index(luckNames[:], words[2])), absence: absence(slices.Index(absenceNames[:], words[3]))}
	for _, at := range strings.Split(words[1], ",") {
		n, err := strconv.Atoi(at)
		require.NoError(t, err)
		c.at = append(c.at, n)
	}
	e := play(scripts()[i], c, true)
	for _, l := range e.trace {
		t.Log(l)
	}
	require.Nil(t, e.broken)
	t.Log(e.outcome)
}

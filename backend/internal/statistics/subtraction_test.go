package statistics

import (
	"fmt"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// cell is one unknown of who would find out: the swaps of a body itself, in a month.
type cell struct {
	body  string
	month int
}

// TestNoSmallGroupByAnySum: somebody asks for every range of months there is, knows
// all totals, and solves the equations. Still no group of fewer than ten riders in
// a month comes out, nor several together that have so few.
func TestNoSmallGroupByAnySum(t *testing.T) {
	t.Parallel()
	hiddenAtAll := 0
	rapid.Check(t, func(rt *rapid.T) {
		const months = 3
		takes, riders := drawTakes(rt, months)
		var cells []cell
		for c := range riders {
			cells = append(cells, c)
		}
		known := &equations{cells: cells}
		for from := range months {
			for to := from; to < months; to++ {
				for _, g := range append(Unions(takes(from, to)), Group{Key: "all"}) {
					if g.Hidden {
						hiddenAtAll++
						continue
					}
					known.add(func(c cell) bool {
						return from <= c.month && c.month <= to && (g.Key == "all" || within(c.body, g.Key))
					})
				}
			}
		}
		for _, few := range fewRiders(riders, months) {
			require.False(rt, known.tell(func(c cell) bool { return few[c] }), "%v comes out", few)
		}
	})
	require.NotZero(t, hiddenAtAll)
}

// drawTakes makes riders of four bodies, each in some months. The bodies are leaves:
// 1/1, 1/2, 1/3 and 2. It gives what a question for a range reads, and who is in
// each cell.
func drawTakes(rt *rapid.T, months int) (func(from, to int) []Member, map[cell]int) {
	leaves := [][]int64{{1, 1}, {1, 2}, {1, 3}, {2}}
	var all []Member // of one month each
	riders := map[cell]int{}
	for i, path := range leaves {
		for m := range months {
			n := rapid.SampledFrom([]int{0, 1, 5, 9, 10, 11, 12, 20, 30}).Draw(rt, "riders")
			for r := range n {
				all = append(all, Member{Rider: fmt.Sprintf("%d-%d", i, r), Path: path, Swaps: 1, Periods: 1 << m})
			}
			if n > 0 {
				riders[cell{pathKey(path), m}] = n
			}
		}
	}
	return func(from, to int) []Member {
		in := map[string]*Member{}
		var out []Member
		for _, m := range all {
			if p := m.Periods; p < 1<<from || p > 1<<to {
				continue
			}
			key := m.Rider
			if in[key] == nil {
				in[key] = &Member{Rider: m.Rider, Path: m.Path}
			}
			in[key].Swaps += m.Swaps
			in[key].Periods |= m.Periods
		}
		for _, m := range in {
			out = append(out, *m)
		}
		return out
	}, riders
}

func within(body, key string) bool {
	return body == key || len(body) > len(key) && body[:len(key)] == key && body[len(key)] == '/'
}

// fewRiders are the sets of cells of one month that have fewer than ten riders
// between them, but for all of the month: its total is always told.
func fewRiders(riders map[cell]int, months int) []map[cell]bool {
	var out []map[cell]bool
	for m := range months {
		var of []cell
		for c := range riders {
			if c.month == m {
				of = append(of, c)
			}
		}
		for set := 1; set < 1<<len(of)-1; set++ {
			few, n := map[cell]bool{}, 0
			for i, c := range of {
				if set>>i&1 == 1 {
					few[c] = true
					n += riders[c]
				}
			}
			if n < Least {
				out = append(out, few)
			}
		}
	}
	return out
}

// equations are sums of cells that are known, in echelon form.
type equations struct {
	cells []cell
	rows  [][]*big.Rat
}

func (e *equations) row(in func(cell) bool) []*big.Rat {
	out := make([]*big.Rat, len(e.cells))
	for i, c := range e.cells {
		out[i] = new(big.Rat)
		if in(c) {
			out[i].SetInt64(1)
		}
	}
	return out
}

// reduce takes what is known off a row; pivot is where something is left, or -1.
func (e *equations) reduce(row []*big.Rat) (pivot int) {
	for _, known := range e.rows {
		p := first(known)
		if row[p].Sign() == 0 {
			continue
		}
		f := new(big.Rat).Quo(row[p], known[p])
		for i := range row {
			row[i].Sub(row[i], new(big.Rat).Mul(f, known[i]))
		}
	}
	return first(row)
}

func first(row []*big.Rat) int {
	for i, v := range row {
		if v.Sign() != 0 {
			return i
		}
	}
	return -1
}

func (e *equations) add(in func(cell) bool) {
	if row := e.row(in); e.reduce(row) >= 0 {
		e.rows = append(e.rows, row)
	}
}

// tell reports whether the sum of these cells follows from what is known.
func (e *equations) tell(in func(cell) bool) bool { return e.reduce(e.row(in)) < 0 }

package statistics

import (
	"cmp"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Least is how many riders a group must have to be shown (surfaces.md).
const Least = 10

// Member is one rider's swaps as one of a body and a platform.
type Member struct {
	Rider    string
	Path     []int64 // union_ids from the top down; none: of no body
	Platform string  // "": of none
	Swaps    int
	// Periods has a bit for each period in which the rider took one as this. What
	// is hidden is decided for each period by itself.
	Periods uint64
}

// node is a group while it is judged.
type node struct {
	key    string
	id     string // the last part of the key
	depth  int
	swaps  int
	riders map[string]uint64 // and their periods
	in     [64]int           // how many riders, by period
	below  map[string]*node
	hidden uint64 // the periods in which it is
}

func newNode(key, id string, depth int) *node {
	return &node{key: key, id: id, depth: depth, riders: map[string]uint64{}, below: map[string]*node{}}
}

func (n *node) add(m Member) {
	n.swaps += m.Swaps
	had := n.riders[m.Rider]
	n.riders[m.Rider] = had | m.Periods
	for p := m.Periods &^ had; p != 0; p &= p - 1 {
		n.in[bits.TrailingZeros64(p)]++
	}
}

// child is the group below with this identifier.
func (n *node) child(id string) *node {
	c := n.below[id]
	if c == nil {
		key := id
		if n.depth >= 0 {
			key = n.key + "/" + id
		}
		c = newNode(key, id, n.depth+1)
		n.below[id] = c
	}
	return c
}

// judge hides, period by period, the groups below that are small in it. A group
// that is hidden in one period is in no sum of periods: so each sum that is shown
// is one of sums of single periods that are shown, and who subtracts ranges from
// each other finds nothing that stands in no period.
func (n *node) judge() {
	for p := range 64 {
		n.hide(p)
	}
}

// hide hides what is small below. What is hidden of one parent can be found
// together by subtraction: so it is at least two groups, with enough riders between
// them; others are hidden, too, the smallest first.
func (n *node) hide(p int) {
	bit := uint64(1) << p
	var below []*node
	for _, c := range n.sorted(func(c *node) int { return c.in[p] }) {
		if c.in[p] > 0 {
			below = append(below, c)
		}
	}
	hidden := map[string]bool{}
	groups := 0
	put := func(c *node) {
		c.hidden |= bit
		groups++
		for r, periods := range c.riders {
			if periods&bit != 0 {
				hidden[r] = true
			}
		}
	}
	for _, c := range below {
		if n.hidden&bit != 0 || c.in[p] < Least {
			put(c)
		}
	}
	for i := len(below) - 1; i >= 0 && groups > 0 && (groups < 2 || len(hidden) < Least); i-- {
		if below[i].hidden&bit == 0 {
			put(below[i])
		}
	}
	for _, c := range below {
		c.hide(p)
	}
}

// sorted are the groups below, the largest first; what is equal by its key, so that
// the same question hides the same.
func (n *node) sorted(size func(*node) int) []*node {
	out := make([]*node, 0, len(n.below))
	for _, c := range n.below {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *node) int {
		return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a.key, b.key))
	})
	return out
}

// groups writes the tree down: each group, then what is below it; those that are
// shown by their swaps, then the hidden ones by their keys.
func (n *node) groups() []Group {
	var out []Group
	add := func(hidden bool, size func(*node) int) {
		for _, c := range n.sorted(size) {
			if (c.hidden != 0) != hidden {
				continue
			}
			g := Group{Key: c.key, Depth: c.depth, Hidden: hidden}
			if !hidden {
				riders := len(c.riders)
				g.Swaps, g.Riders = c.swaps, &riders
			}
			out = append(append(out, g), c.groups()...)
		}
	}
	add(false, func(c *node) int { return c.swaps })
	add(true, func(*node) int { return 0 })
	return out
}

// Direct is the last part of the key of those who belong to a body itself, where
// it has bodies below it, too.
const Direct = "-"

// Unions breaks members down by the tree of the union; the key "" is of those of
// no body.
func Unions(members []Member) []Group {
	inner := map[string]bool{} // bodies with bodies below
	for _, m := range members {
		for i := 1; i < len(m.Path); i++ {
			inner[pathKey(m.Path[:i])] = true
		}
	}
	root := newNode("", "", -1)
	for _, m := range members {
		n := root
		if len(m.Path) == 0 {
			n = n.child("")
			n.add(m)
		}
		for _, id := range m.Path {
			n = n.child(strconv.FormatInt(id, 10))
			n.add(m)
		}
		if len(m.Path) > 0 && inner[pathKey(m.Path)] {
			n.child(Direct).add(m)
		}
	}
	root.judge()
	return root.groups()
}

func pathKey(path []int64) string {
	parts := make([]string, len(path))
	for i, id := range path {
		parts[i] = strconv.FormatInt(id, 10)
	}
	return strings.Join(parts, "/")
}

// Platforms breaks members down by the company that they ride for.
func Platforms(members []Member) []Group {
	root := newNode("", "", -1)
	for _, m := range members {
		root.child(m.Platform).add(m)
	}
	root.judge()
	out := root.groups()
	for i := range out {
		out[i].Name = out[i].Key
	}
	return out
}

// Riders breaks members down by rider, those with most swaps first.
func Riders(members []Member) []Group {
	by := map[string]int{}
	for _, m := range members {
		by[m.Rider] += m.Swaps
	}
	out := make([]Group, 0, len(by))
	for r, n := range by {
		out = append(out, Group{Key: r, Swaps: n})
	}
	slices.SortFunc(out, func(a, b Group) int { return cmp.Or(cmp.Compare(b.Swaps, a.Swaps), cmp.Compare(a.Key, b.Key)) })
	return out
}

// Count is how many riders there are, nil when they are too few to be told.
func Count(members []Member) *int {
	seen := map[string]bool{}
	for _, m := range members {
		seen[m.Rider] = true
	}
	if n := len(seen); n == 0 || n >= Least {
		return &n
	}
	return nil
}

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
	// Months has a bit for each month that the range touches in which the rider
	// took one as this: in the whole of it, also outside the range.
	Months uint64
}

// node is a group while it is judged.
type node struct {
	key    string
	id     string // the last part of the key
	depth  int
	swaps  int
	riders map[string]uint64 // and their months
	below  map[string]*node
	hidden bool
}

func newNode(key, id string, depth int) *node {
	return &node{key: key, id: id, depth: depth, riders: map[string]uint64{}, below: map[string]*node{}}
}

func (n *node) add(m Member) {
	n.swaps += m.Swaps
	n.riders[m.Rider] |= m.Months
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

// small reports whether too few riders are in the group: in the range, or in any
// month that the range touches and in which there are some. The months make one
// range safe against another: whoever subtracts two that are shown is left with
// days of months that each have enough.
func (n *node) small() bool {
	if len(n.riders) < Least {
		return true
	}
	var in [64]int
	for _, months := range n.riders {
		for ; months != 0; months &= months - 1 {
			in[bits.TrailingZeros64(months)]++
		}
	}
	return slices.ContainsFunc(in[:], func(k int) bool { return 0 < k && k < Least })
}

// hide hides the groups below that are small. What is hidden of one parent can be
// found together by subtraction: so it is at least two groups, with enough riders
// between them; others are hidden, too, the smallest first.
func (n *node) hide() {
	below := n.sorted()
	hidden := map[string]bool{}
	groups := 0
	put := func(c *node) {
		c.hidden = true
		groups++
		for r := range c.riders {
			hidden[r] = true
		}
	}
	for _, c := range below {
		if n.hidden || c.small() {
			put(c)
		}
	}
	for i := len(below) - 1; i >= 0 && groups > 0 && (groups < 2 || len(hidden) < Least); i-- {
		if !below[i].hidden {
			put(below[i])
		}
	}
	for _, c := range below {
		c.hide()
	}
}

// sorted are the groups below, those with most riders first; what is equal by
// its key, so that the same question hides the same.
func (n *node) sorted() []*node {
	out := make([]*node, 0, len(n.below))
	for _, c := range n.below {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *node) int {
		return cmp.Or(cmp.Compare(len(b.riders), len(a.riders)), cmp.Compare(a.key, b.key))
	})
	return out
}

// groups writes the tree down: each group, then what is below it; those that are
// shown by their swaps, then the hidden ones by their keys.
func (n *node) groups() []Group {
	below := n.sorted()
	slices.SortStableFunc(below, func(a, b *node) int {
		switch {
		case a.hidden != b.hidden:
			return map[bool]int{true: 1, false: -1}[a.hidden]
		case a.hidden:
			return cmp.Compare(a.key, b.key)
		}
		return cmp.Compare(b.swaps, a.swaps)
	})
	var out []Group
	for _, c := range below {
		g := Group{Key: c.key, Depth: c.depth, Hidden: c.hidden}
		if !c.hidden {
			riders := len(c.riders)
			g.Swaps, g.Riders = c.swaps, &riders
		}
		out = append(out, g)
		out = append(out, c.groups()...)
	}
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
	root.hide()
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
	root.hide()
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

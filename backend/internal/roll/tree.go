package roll

import "slices"

// Tree is the union as far as it is known.
type Tree struct {
	bodies []Body
	byID   map[int64]int
	named  map[nameAt][]int64
	// Added are bodies that the books have not yet; their identifiers are below 0.
	Added []Body
}

type nameAt struct {
	level int
	name  string
}

// NewTree makes a tree.
func NewTree(bodies []Body) Tree {
	t := Tree{byID: map[int64]int{}, named: map[nameAt][]int64{}}
	for _, b := range bodies {
		t.put(b)
	}
	return t
}

func (t *Tree) put(b Body) {
	t.byID[b.ID] = len(t.bodies)
	t.bodies = append(t.bodies, b)
	at := nameAt{b.Level, b.Name}
	t.named[at] = append(t.named[at], b.ID)
}

// Resolve finds the body that a row names, from the city down: levels that the
// row leaves out are passed over where that leaves one body only. UnionUnknown:
// some of it is not there.
func (t *Tree) Resolve(names [Levels]string) (int64, Code) {
	found, missing, code := t.locate(names)
	if code == "" && missing < Levels {
		code = UnionUnknown
	}
	if code != "" {
		return 0, code
	}
	return found, ""
}

// Add finds the body that a row names and adds what is not there, below what is.
func (t *Tree) Add(names [Levels]string) (int64, Code) {
	found, missing, code := t.locate(names)
	if code != "" {
		return 0, code
	}
	for level := missing; level < Levels; level++ {
		if names[level] == "" {
			continue
		}
		b := Body{ID: -int64(len(t.Added)) - 1, Level: level, Name: names[level], Parent: found}
		t.Added = append(t.Added, b)
		t.put(b)
		found = b.ID
	}
	return found, ""
}

// locate goes down as far as the names are known: found is the last body, missing
// the level of the first name that is not there, or Levels.
func (t *Tree) locate(names [Levels]string) (found int64, missing int, code Code) {
	for level, name := range names {
		if name == "" {
			continue
		}
		var fits []int64
		for _, id := range t.named[nameAt{level, name}] {
			if found == 0 || t.below(id, found) {
				fits = append(fits, id)
			}
		}
		switch len(fits) {
		case 0:
			return found, level, ""
		case 1:
			found = fits[0]
		default:
			return 0, level, UnionUnclear
		}
	}
	return found, Levels, ""
}

// below reports whether a body is somewhere below another.
func (t *Tree) below(id, top int64) bool {
	for range Levels {
		i, known := t.byID[id]
		if !known || id == 0 {
			return false
		}
		if id = t.bodies[i].Parent; id == top {
			return true
		}
	}
	return false
}

// Path is a body's names from the top, and its own last.
func (t *Tree) Path(id int64) []string {
	var out []string
	for range Levels {
		i, known := t.byID[id]
		if !known {
			break
		}
		out = append(out, t.bodies[i].Name)
		id = t.bodies[i].Parent
	}
	slices.Reverse(out)
	return out
}

package roll

import (
	"cmp"
	"time"

	"batteryswap/backend/internal/phone"
)

// Fate is what becomes of a row.
type Fate string

// The fates.
const (
	Added     Fate = "added"
	Changed   Fate = "changed"
	Unchanged Fate = "unchanged"
	Refused   Fate = "refused"
	Above     Fate = "above" // it stands above the heading
)

// Fates are all that can become of a row, in the order in which they are shown.
func Fates() []Fate { return []Fate{Refused, Above, Added, Changed, Unchanged} }

// Body is one of the union's: a node of its tree.
type Body struct {
	ID     int64
	Level  int // 0 to Levels-1
	Name   string
	Parent int64 // 0: none is known
}

// Known is a rider whom the books have already, as a roll sees them.
type Known struct {
	RiderID      string
	Name         string
	PhoneHash    string
	MembershipNo string
	UnionID      int64
	Street       string
	Platform     string
	From, To     string // YYYY-MM-DD, "" for none
}

// Books are what an import is compared with.
type Books struct {
	Tree     Tree
	Riders   map[string]*Known // by rider_id
	byPhone  map[string]*Known
	byNumber map[string]*Known
	hash     func(phone.Number) string
}

// NewBooks makes books of riders; hash gives by what a phone is found.
func NewBooks(tree Tree, riders []*Known, hash func(phone.Number) string) *Books {
	b := &Books{Tree: tree, Riders: map[string]*Known{}, byPhone: map[string]*Known{}, byNumber: map[string]*Known{}, hash: hash}
	for _, k := range riders {
		b.Riders[k.RiderID] = k
		b.index(k)
	}
	return b
}

func (b *Books) index(k *Known) {
	if k.PhoneHash != "" {
		b.byPhone[k.PhoneHash] = k
	}
	if k.MembershipNo != "" {
		b.byNumber[k.MembershipNo] = k
	}
}

// Settled is a row and what becomes of it.
type Settled struct {
	Member
	Fate     Fate
	Rider    *Known  // nil when refused
	Fields   []Field // that changed
	Mistakes []Mistake
	hash     string // of the phone, "" without one
}

func (s *Settled) refuse(code Code, f Field) {
	s.Fate, s.Rider, s.Mistakes = Refused, nil, append(s.Mistakes, Mistake{Row: s.Row, Code: code, Field: f})
}

// Settle says what becomes of the members of a file, in which no phone and no
// membership number stands twice, and the books follow. An empty cell changes
// nothing. newID gives a new rider's identifier; addBodies adds to the tree what
// it has not.
//
// # Why
//
// The order of rows must not matter, or a second import would change what the
// first has left. So members who are found by their number come first, all at
// once: two of them may have exchanged their phones. The others are found by
// phone in what that leaves.
func (b *Books) Settle(members []Member, addBodies bool, newID func() string) []Settled {
	all := make([]Settled, len(members))
	var numbered []*Settled
	for i, m := range members {
		s := &all[i]
		s.Member = m
		if m.Phone != "" {
			s.hash = b.hash(m.Phone)
		}
		if s.check(b, addBodies); s.Fate != Refused && s.Rider != nil {
			numbered = append(numbered, s)
		}
	}
	b.exchangePhones(numbered)
	rows := map[*Known]int{}
	for _, s := range numbered {
		rows[s.Rider] = s.Row
	}
	for i := range all {
		if s := &all[i]; s.Fate != Refused {
			b.settle(s, rows, newID)
		}
	}
	return all
}

// check finds a row's rider by number and refuses what is wrong whoever has which
// phone.
func (s *Settled) check(b *Books, addBodies bool) {
	if s.MembershipNo != "" {
		s.Rider = b.byNumber[s.MembershipNo]
	}
	_, missing, code := b.Tree.locate(s.Union)
	if code == "" && missing < Levels && !addBodies {
		code = UnionUnknown
	}
	switch {
	case code != "":
		s.refuse(code, Branch)
	case s.Rider != nil && s.Rider.endsBefore(s.Member):
		s.refuse(EndsBefore, To)
	}
}

// exchangePhones gives riders who were found by number the phones of their rows.
// Who wants one that somebody keeps is refused and keeps the old one, which then
// nobody else gets.
func (b *Books) exchangePhones(rows []*Settled) {
	wants := map[string]*Settled{} // by phone
	old := map[*Known]string{}
	for _, s := range rows {
		if s.hash != "" && s.hash != s.Rider.PhoneHash {
			wants[s.hash] = s
			old[s.Rider] = s.Rider.PhoneHash
		}
	}
	free := func(hash string) bool {
		k := b.byPhone[hash]
		if k == nil {
			return true
		}
		_, leaves := old[k]
		return leaves
	}
	var refused []*Settled
	for _, s := range rows {
		if wants[s.hash] == s && !free(s.hash) {
			refused = append(refused, s)
		}
	}
	for len(refused) > 0 {
		s := refused[0]
		refused = refused[1:]
		kept := s.Rider.PhoneHash
		delete(old, s.Rider)
		delete(wants, s.hash)
		s.refuse(PhoneOfOther, Phone)
		if next := wants[kept]; kept != "" && next != nil {
			refused = append(refused, next)
			delete(wants, kept)
		}
	}
	for _, hash := range old {
		delete(b.byPhone, hash)
	}
	for hash, s := range wants {
		b.byPhone[hash] = s.Rider
	}
}

// settle ends a row that nothing is wrong with but, perhaps, that its phone is
// another member's. rows are those of the riders who were found by number.
func (b *Books) settle(s *Settled, rows map[*Known]int, newID func() string) {
	if s.Rider == nil && s.hash != "" {
		s.Rider = b.byPhone[s.hash]
		if other, twice := rows[s.Rider]; twice && s.Rider != nil {
			s.refuse(MemberTwice, Phone)
			s.Mistakes[0].Other = other
			return
		}
	}
	switch k := s.Rider; {
	case k == nil:
		s.Fate, s.Rider = Added, &Known{RiderID: newID()}
		b.Riders[s.Rider.RiderID] = s.Rider
	case k.MembershipNo != "" && s.MembershipNo != "" && k.MembershipNo != s.MembershipNo:
		s.refuse(NumberOfOther, MembershipNo)
		return
	case k.endsBefore(s.Member):
		s.refuse(EndsBefore, To)
		return
	}
	union, code := b.Tree.Add(s.Union)
	if code != "" { // bodies were only added since it was checked
		s.refuse(code, Branch)
		return
	}
	s.Fields = s.Rider.take(s.Member, s.hash, union)
	b.index(s.Rider)
	switch {
	case s.Fate == Added:
	case len(s.Fields) > 0:
		s.Fate = Changed
	default:
		s.Fate = Unchanged
	}
}

// endsBefore reports whether the row's days and those that the books keep would
// not be a span.
func (k *Known) endsBefore(m Member) bool {
	from, to := cmp.Or(day(m.From), k.From), cmp.Or(day(m.To), k.To)
	return from != "" && to != "" && to < from
}

// day is a day as the books write it, "" for none.
func day(d time.Time) string {
	if d.IsZero() {
		return ""
	}
	return d.Format(time.DateOnly)
}

// take changes what the row says and gives the fields that changed.
func (k *Known) take(m Member, hash string, union int64) []Field {
	var changed []Field
	set := func(f Field, at *string, v string) {
		if v != "" && *at != v {
			*at = v
			changed = append(changed, f)
		}
	}
	set(Name, &k.Name, m.Name)
	set(Phone, &k.PhoneHash, hash)
	set(MembershipNo, &k.MembershipNo, m.MembershipNo)
	if union != 0 && k.UnionID != union {
		k.UnionID = union
		changed = append(changed, Branch)
	}
	set(Street, &k.Street, m.Street)
	set(Platform, &k.Platform, m.Platform)
	set(From, &k.From, day(m.From))
	set(To, &k.To, day(m.To))
	return changed
}

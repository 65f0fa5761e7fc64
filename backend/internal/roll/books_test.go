package roll_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/roll"
)

func hash(n phone.Number) string { return "h" + string(n) }

func counter() func() string {
	n := 0
	return func() string { n++; return fmt.Sprintf("new-%d", n) }
}

func tree() roll.Tree {
	return roll.NewTree([]roll.Body{
		{1, 0, "杭州", 0}, {2, 1, "拱墅", 1}, {3, 1, "西湖", 1}, {4, 2, "东新", 2}, {5, 3, "一分会", 4}, {6, 3, "一分会", 3}, {7, 3, "独立分会", 0},
	})
}

func TestResolve(t *testing.T) {
	for name, c := range map[string]struct {
		names [4]string
		want  int64
		code  roll.Code
	}{
		"whole path":          {[4]string{"杭州", "拱墅", "东新", "一分会"}, 5, ""},
		"levels left out":     {[4]string{"", "拱墅", "", "一分会"}, 5, ""},
		"the same name twice": {[4]string{"", "", "", "一分会"}, 0, roll.UnionUnclear},
		"below another":       {[4]string{"", "西湖", "东新", ""}, 0, roll.UnionUnknown},
		"alone":               {[4]string{"", "", "", "独立分会"}, 7, ""},
		"only the city":       {[4]string{"杭州"}, 1, ""},
		"unknown":             {[4]string{"", "", "", "x"}, 0, roll.UnionUnknown},
	} {
		tr := tree()
		got, code := tr.Resolve(c.names)
		require.Equal(t, c.code, code, name)
		require.Equal(t, c.want, got, name)
		require.Empty(t, tr.Added)
	}
	tr := tree()
	got, code := tr.Add([4]string{"", "西湖", "北山", "二分会"})
	require.Empty(t, code)
	require.Equal(t, []roll.Body{{-1, 2, "北山", 3}, {-2, 3, "二分会", -1}}, tr.Added)
	require.Equal(t, []string{"杭州", "西湖", "北山", "二分会"}, tr.Path(got))
	again, _ := tr.Add([4]string{"", "西湖", "北山", "二分会"})
	require.Equal(t, got, again, "added once")
}

func TestSettle(t *testing.T) {
	books := func() *roll.Books {
		return roll.NewBooks(tree(), []*roll.Known{
			{RiderID: "a", Name: "A", PhoneHash: "h13800000001", MembershipNo: "1", UnionID: 5, From: "2026-01-01"},
			{RiderID: "b", Name: "B", PhoneHash: "h13800000002"},
		}, hash)
	}
	for name, c := range map[string]struct {
		m      roll.Member
		fate   roll.Fate
		rider  string
		fields []roll.Field
		code   roll.Code
	}{
		"the same again":             {roll.Member{Name: "A", Phone: "13800000001", MembershipNo: "1"}, roll.Unchanged, "a", nil, ""},
		"by the number, a new phone": {roll.Member{Name: "A", Phone: "13800000009", MembershipNo: "1"}, roll.Changed, "a", []roll.Field{roll.Phone}, ""},
		"by the phone, a first number": {
			roll.Member{Name: "B2", Phone: "13800000002", MembershipNo: "2"}, roll.Changed, "b", []roll.Field{roll.Name, roll.MembershipNo}, "",
		},
		"new": {roll.Member{Name: "C", Phone: "13800000003", MembershipNo: "3"}, roll.Added, "new-1", []roll.Field{roll.Name, roll.Phone, roll.MembershipNo}, ""},
		"the phone of a member with another number": {roll.Member{Name: "C", Phone: "13800000001", MembershipNo: "3"}, roll.Refused, "", nil, roll.NumberOfOther},
		"one's number, another's phone":             {roll.Member{Name: "A", Phone: "13800000002", MembershipNo: "1"}, roll.Refused, "", nil, roll.PhoneOfOther},
		"an end before what the books begin with":   {roll.Member{Name: "A", MembershipNo: "1", To: day(2025, 12, 31)}, roll.Refused, "", nil, roll.EndsBefore},
		"an end":  {roll.Member{Name: "A", MembershipNo: "1", To: day(2026, 12, 31)}, roll.Changed, "a", []roll.Field{roll.To}, ""},
		"moved":   {roll.Member{Name: "A", MembershipNo: "1", Union: [4]string{3: "独立分会"}}, roll.Changed, "a", []roll.Field{roll.Branch}, ""},
		"nowhere": {roll.Member{Name: "A", MembershipNo: "1", Union: [4]string{3: "x"}}, roll.Refused, "", nil, roll.UnionUnknown},
	} {
		s := books().Settle([]roll.Member{c.m}, false, counter())[0]
		require.Equal(t, c.fate, s.Fate, name)
		require.Equal(t, c.fields, s.Fields, name)
		if c.code != "" {
			require.Equal(t, c.code, s.Mistakes[0].Code, name)
			continue
		}
		require.Equal(t, c.rider, s.Rider.RiderID, name)
	}
}

func fates(all []roll.Settled) (out []roll.Fate) {
	for _, s := range all {
		out = append(out, s.Fate)
	}
	return out
}

func TestPhonesChangeHands(t *testing.T) {
	for name, c := range map[string]struct {
		file []roll.Member
		want []roll.Fate
	}{
		"two exchange theirs": {
			[]roll.Member{{Name: "A", Phone: "13800000002", MembershipNo: "1"}, {Name: "B", Phone: "13800000001", MembershipNo: "2"}},
			[]roll.Fate{roll.Changed, roll.Changed},
		},
		"a new member has one that another leaves, whichever stands first": {
			[]roll.Member{{Name: "N", Phone: "13800000001", MembershipNo: "9"}, {Name: "A", Phone: "13800000008", MembershipNo: "1"}},
			[]roll.Fate{roll.Added, roll.Changed},
		},
		"who does not leave it keeps it, and so on": {
			[]roll.Member{{Name: "A", Phone: "13800000002", MembershipNo: "1"}, {Name: "B", Phone: "13800000003", MembershipNo: "2"}},
			[]roll.Fate{roll.Refused, roll.Refused}, // the third stays with C
		},
		"found by phone in what is left": {
			[]roll.Member{{Name: "X", Phone: "13800000001"}, {Name: "A", Phone: "13800000009", MembershipNo: "1"}}, []roll.Fate{roll.Added, roll.Changed},
		},
	} {
		b := roll.NewBooks(roll.NewTree(nil), []*roll.Known{
			{RiderID: "a", Name: "A", PhoneHash: "h13800000001", MembershipNo: "1"},
			{RiderID: "b", Name: "B", PhoneHash: "h13800000002", MembershipNo: "2"},
			{RiderID: "c", Name: "C", PhoneHash: "h13800000003"},
		}, hash)
		require.Equal(t, c.want, fates(b.Settle(c.file, false, counter())), name)
	}
}

// A second import changes nothing, and no two riders share a phone or a number.
func TestImportIsRepeatable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		member := rapid.Custom(func(t *rapid.T) roll.Member {
			m := roll.Member{Name: rapid.SampledFrom([]string{"A", "B", "C"}).Draw(t, "name")}
			if n := rapid.IntRange(0, 6).Draw(t, "phone"); n > 0 {
				m.Phone = phone.Number(fmt.Sprintf("1380000000%d", n))
			}
			if n := rapid.IntRange(0, 6).Draw(t, "number"); n > 0 || m.Phone == "" {
				m.MembershipNo = fmt.Sprint(n)
			}
			m.Union[3] = rapid.SampledFrom([]string{"", "独立分会", "x"}).Draw(t, "union")
			return m
		})
		// A file has no phone and no number twice: Read refuses those rows.
		seen := map[string]bool{}
		var file []roll.Member
		for _, m := range rapid.SliceOfN(member, 1, 12).Draw(t, "file") {
			p, n := "p"+string(m.Phone), "n"+m.MembershipNo
			if m.Phone != "" && seen[p] || m.MembershipNo != "" && seen[n] {
				continue
			}
			seen[p], seen[n] = true, true
			file = append(file, m)
		}
		b := roll.NewBooks(tree(), nil, hash)
		id := counter()
		for range rapid.IntRange(0, 4).Draw(t, "before") { // what other files have left
			b.Settle([]roll.Member{member.Draw(t, "earlier")}, true, id)
		}
		b.Settle(file, true, id)
		phones, numbers := map[string]string{}, map[string]string{}
		for rider, k := range b.Riders {
			if k.PhoneHash != "" {
				require.Empty(t, phones[k.PhoneHash], "a phone of two riders")
				phones[k.PhoneHash] = rider
			}
			if k.MembershipNo != "" {
				require.Empty(t, numbers[k.MembershipNo], "a number of two riders")
				numbers[k.MembershipNo] = rider
			}
		}
		b.Tree.Added = nil
		for _, fate := range fates(b.Settle(file, true, id)) {
			require.Contains(t, []roll.Fate{roll.Unchanged, roll.Refused}, fate)
		}
		require.Empty(t, b.Tree.Added)
	})
}

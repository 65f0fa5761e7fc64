package roll_test

import (
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/roll"
)

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

func TestFindHeader(t *testing.T) {
	const (
		skip   = roll.Skip
		name   = roll.Name
		phone  = roll.Phone
		branch = roll.Branch
	)
	data := []string{"李", "13800001234"}
	for what, c := range map[string]struct {
		rows         [][]string
		first, below int
		named        bool
		want         roll.Columns
	}{
		"below a title and a blank row": {
			[][]string{{"东新街道外卖配送行业工会会员名册（2026年）"}, {}, {"序号", "姓 名", "手机号码", "入会日期（年/月/日）", "所属工会"}, {"1", "李", "13800001234"}}, 2, 3, true,
			roll.Columns{skip, name, phone, roll.From, branch},
		},
		"English":               {[][]string{{"Membership No.", "Name", "Mobile"}}, 0, 1, true, roll.Columns{roll.MembershipNo, name, phone}},
		"a name twice":          {[][]string{{"姓名", "电话", "联系电话"}}, 0, 1, true, roll.Columns{name, phone, skip}},
		"nothing known":         {[][]string{{}, {"a", "b"}, {"c"}}, 1, 2, false, roll.Columns{skip, skip}},
		"empty":                 {nil, 0, 0, false, nil},
		"blank":                 {[][]string{{""}, {}}, 1, 2, false, nil},
		"members wider":         {[][]string{{"姓名", "电话"}, {"李", "13800001234", "", "x", "", ""}}, 0, 1, true, roll.Columns{name, phone, skip, skip}},
		"one word, below":       {[][]string{{"李", "甲"}, {"王", "公司"}}, 0, 1, false, roll.Columns{skip, skip}},
		"one word, first":       {[][]string{{}, {"全称", "公司"}}, 1, 2, true, roll.Columns{skip, roll.Platform}},
		"two words of a member": {[][]string{{"李", "7", "甲", "乙"}, {"王", "8", "工会", "公司"}}, 0, 1, false, make(roll.Columns, 4)},
		"a member with a phone": {[][]string{data, {"13900001234", "工会", "公司"}}, 0, 1, false, make(roll.Columns, 3)},
		"the name alone, below": {[][]string{{"名册"}, {"姓名", "编码"}, data}, 1, 2, true, roll.Columns{name, skip}},
		"days as headings":      {[][]string{{"姓名", "手机", "2026-01-31"}, data}, 0, 1, true, roll.Columns{name, phone, skip}},
		"two rows": {
			[][]string{{"名册"}, {"姓名", "手机号", "所属工会"}, {"", "", "区", "街道工会", "分会"}, data}, 1, 3, true,
			roll.Columns{name, phone, roll.District, roll.UnionStreet, branch},
		},
		"two rows, the name in the lower": {
			[][]string{{"基本信息", "", "分会"}, {"姓名", "手机"}, data}, 0, 2, true, roll.Columns{name, phone, branch},
		},
		"two rows, as many as the upper": {
			[][]string{{"姓名", "手机", "所属工会"}, {"", "", "分会", "备注"}, data}, 0, 2, true, roll.Columns{name, phone, branch, skip},
		},
		"groups that name nothing": {[][]string{{"基本信息", "", "所属"}, {"姓名", "手机", "分会"}, data}, 1, 2, true, roll.Columns{name, phone, branch}},
		"a note above":             {[][]string{{"街道", "东新"}, {"姓名", "手机", "街道"}, data}, 1, 2, true, roll.Columns{name, phone, roll.Street}},
		"a member above":           {[][]string{{"李", "13800001234", "工会"}, {"姓名", "手机"}, data}, 1, 2, true, roll.Columns{name, phone}},
		"a short number above":     {[][]string{{"李", "7", "工会"}, {"姓名", "会员号"}, {"王", "8"}}, 1, 2, true, roll.Columns{name, roll.MembershipNo}},
		"a member with a column's name": {
			[][]string{{"姓名", "会员号", "分会", "平台"}, {"李", "7", "工会", "公司"}}, 0, 1, true, roll.Columns{name, roll.MembershipNo, branch, roll.Platform},
		},
		"a member with many": {
			[][]string{{"姓名", "会员号", "x", "y", "z"}, {"李", "", "工会", "公司", "街道"}}, 0, 1, true, roll.Columns{name, roll.MembershipNo, skip, skip, skip},
		},
		"a member without a name": {
			[][]string{{"姓名", "会员号", "x"}, {"", "10007", "工会"}}, 0, 1, true, roll.Columns{name, roll.MembershipNo, skip},
		},
	} {
		h := roll.FindHeader(c.rows)
		require.Equal(t, [2]int{c.first, c.below}, [2]int{h.First, h.Below}, what)
		require.Equal(t, c.named, h.Named, what)
		require.Equal(t, c.want, h.Columns, what)
		require.Len(t, h.Cells, len(h.Columns), what)
	}
}

// TestAbove: rows above the heading that are not blank, as spreadsheets count them.
func TestAbove(t *testing.T) {
	rows := [][]string{{"名册"}, {"", ""}, {"李", "13800001234"}, {"姓名", "手机"}, {"王", "13900001234"}}
	require.Equal(t, []int{1, 3}, roll.FindHeader(rows).Above(rows))
	require.Empty(t, roll.FindHeader(rows[3:]).Above(rows[3:]))
	require.Empty(t, roll.FindHeader(nil).Above(nil))
}

func TestLooksLikeMember(t *testing.T) {
	for _, cells := range [][]string{{"李伟", "13800001234"}, {"李伟", "138-0000-1234"}, {"李伟", "2026年1月31日"}, {"Li", "HZ-100234"}} {
		require.True(t, roll.LooksLikeMember(cells), cells)
	}
	for _, cells := range [][]string{{"姓名", "手机"}, {"会员全称", "随便什么"}, {"2026年名册"}, {}} {
		require.False(t, roll.LooksLikeMember(cells), cells)
	}
}

// TestNoRowIsLostToAHeading that is none.
func TestNoRowIsLostToAHeading(t *testing.T) {
	s := roll.Read([][]string{{"李伟", "13800001234"}, {"王芳", "1390"}}, 0, roll.Columns{roll.Name, roll.Phone})
	require.Equal(t, 1, s.Members[0].Row)
	require.Equal(t, 2, s.Mistakes[0].Row)
}

// TestCodesAreAll: the closed list is closed.
func TestCodesAreAll(t *testing.T) {
	b, err := os.ReadFile("read.go")
	require.NoError(t, err)
	codes := regexp.MustCompile(`\bCode += "([a-z_]+)"`).FindAllStringSubmatch(string(b), -1)
	require.Len(t, roll.Codes(), len(codes))
	for _, c := range codes {
		require.Contains(t, roll.Codes(), roll.Code(c[1]))
		m, known := roll.ParseFileMistake((&roll.FileMistake{Code: roll.Code(c[1]), N: 7}).Error())
		require.True(t, known)
		require.Equal(t, roll.FileMistake{Code: roll.Code(c[1]), N: 7}, m)
	}
	_, known := roll.ParseFileMistake("file: sheet \"x\": boom")
	require.False(t, known)
}

func TestComplete(t *testing.T) {
	require.Equal(t, roll.NoNameColumn, roll.Columns{roll.Phone}.Complete())
	require.Equal(t, roll.NoKeyColumn, roll.Columns{roll.Name, roll.Platform}.Complete())
	require.Equal(t, roll.ColumnTwice, roll.Columns{roll.Name, roll.Phone, roll.Phone}.Complete())
	require.Empty(t, roll.Columns{roll.Skip, roll.Name, roll.MembershipNo, roll.Skip}.Complete())
}

func TestReadMembers(t *testing.T) {
	columns := roll.Columns{roll.Name, roll.Phone, roll.MembershipNo, roll.Branch, roll.From, roll.To, roll.Skip, roll.Platform, roll.District, roll.Street}
	s := roll.Read([][]string{
		{"title"},
		{"header"},
		{"李伟", "+86 138 0000 1234", "Z-7", "东新一分会", "2026年1月31日", "46387", "x", "P", "拱墅区", "东新街道"},
		{},
		{"王芳", "1.3900001234E10", "1002.0"},
	}, 2, columns)
	require.Empty(t, s.Mistakes)
	require.Equal(t, 1, s.Blank)
	require.Equal(t, []roll.Member{
		{
			Row: 3, Name: "李伟", Phone: "13800001234", MembershipNo: "Z-7", Union: [4]string{"", "拱墅区", "", "东新一分会"},
			From: day(2026, 1, 31), To: day(2026, 12, 31), Platform: "P", Street: "东新街道",
		},
		{Row: 5, Name: "王芳", Phone: "13900001234", MembershipNo: "1002"},
	}, s.Members)
}

func TestReadMistakes(t *testing.T) {
	columns := roll.Columns{roll.Name, roll.Phone, roll.MembershipNo, roll.From, roll.To}
	long := string(make([]byte, 101))
	for name, c := range map[string]struct {
		row  []string
		want []roll.Mistake
	}{
		"no name":       {[]string{"", "13800001234"}, []roll.Mistake{{2, roll.NoName, roll.Name, 0}}},
		"no key":        {[]string{"a"}, []roll.Mistake{{2, roll.NoKey, roll.Phone, 0}}},
		"bad phone":     {[]string{"a", "0571-88886666"}, []roll.Mistake{{2, roll.BadPhone, roll.Phone, 0}}},
		"rounded phone": {[]string{"a", "1.38E+10"}, []roll.Mistake{{2, roll.RoundedPhone, roll.Phone, 0}}},
		"bad date":      {[]string{"a", "", "7", "31.1.26"}, []roll.Mistake{{2, roll.BadDate, roll.From, 0}}},
		"ends before":   {[]string{"a", "", "7", "2026-02-01", "2026-01-31"}, []roll.Mistake{{2, roll.EndsBefore, roll.To, 0}}},
		"too long":      {[]string{long, "13800001234"}, []roll.Mistake{{2, roll.TooLong, roll.Name, 0}, {2, roll.NoName, roll.Name, 0}}},
		"all that is wrong": {[]string{"", "12", "7", "x"}, []roll.Mistake{
			{2, roll.BadPhone, roll.Phone, 0}, {2, roll.BadDate, roll.From, 0}, {2, roll.NoName, roll.Name, 0},
		}},
	} {
		s := roll.Read([][]string{{"header"}, c.row}, 1, columns)
		require.Empty(t, s.Members, name)
		require.Equal(t, c.want, s.Mistakes, name)
	}
}

func TestTwiceInTheFile(t *testing.T) {
	s := roll.Read([][]string{
		{}, {"a", "13800001234", "1"}, {"b", "138-0000-1234", "2"}, {"c", "13800009999", "1"}, {"d", "", ""},
		{"e", "13800007777"}, {"f", "13800008888"}, // no number twice is no number twice
	}, 1, roll.Columns{roll.Name, roll.Phone, roll.MembershipNo})
	require.Equal(t, []roll.Mistake{{3, roll.PhoneTwice, roll.Phone, 2}, {4, roll.MemberTwice, roll.MembershipNo, 2}, {5, roll.NoKey, roll.Phone, 0}}, s.Mistakes)
	require.Len(t, s.Members, 3)
}

func TestParseDay(t *testing.T) {
	for _, text := range []string{"2026-01-31", "2026/1/31", "2026.1.31", "2026年1月31日", "2026年01月31日", "20260131", "46053", "46053.5", "2026-01-31 00:00:00", "2026-01-31T08:00:00Z"} {
		got, ok := roll.ParseDay(text)
		require.True(t, ok, text)
		require.Equal(t, day(2026, 1, 31), got, text)
	}
	for _, text := range []string{"", "x", "2026", "31/1/2026", "2026-02-30", "0001-01-01", "99999999", "1e300", "NaN", "2026-1"} {
		_, ok := roll.ParseDay(text)
		require.False(t, ok, text)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("李伟", "13800001234", "2026-01-31")
	f.Add("a", "1.38E+10", "46053")
	f.Add("", "1E99999999", "1e9")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		rows := [][]string{{a, b, c}, {"姓名", "手机", "入会日期"}, {a, b, c}, {b, c, a}, {a, b, c}}
		h := roll.FindHeader(rows)
		require.Len(t, h.Cells, len(h.Columns))
		require.Less(t, h.First, h.Below)
		require.LessOrEqual(t, h.Below, len(rows))
		s := roll.Read(rows, 2, roll.Columns{roll.Name, roll.Phone, roll.From})
		for _, m := range s.Members {
			again, err := phone.Parse(string(m.Phone))
			require.NoError(t, err)
			require.Equal(t, again, m.Phone)
			require.NotEmpty(t, m.Name)
		}
		require.LessOrEqual(t, len(s.Members), 2, "the third row says what the first says")
	})
}

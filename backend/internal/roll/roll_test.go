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
	for name, c := range map[string]struct {
		rows   [][]string
		header int
		want   roll.Columns
	}{
		"below a title and a blank row": {
			[][]string{{"东新街道外卖配送行业工会会员名册（2026年）"}, {}, {"序号", "姓 名", "手机号码", "入会日期（年/月/日）", "所属工会"}, {"1", "李", "13800001234"}}, 2,
			roll.Columns{roll.Skip, roll.Name, roll.Phone, roll.From, roll.Branch},
		},
		"English":       {[][]string{{"Membership No.", "Name", "Mobile"}}, 0, roll.Columns{roll.MembershipNo, roll.Name, roll.Phone}},
		"a name twice":  {[][]string{{"姓名", "电话", "联系电话"}}, 0, roll.Columns{roll.Name, roll.Phone, roll.Skip}},
		"nothing known": {[][]string{{}, {"a", "b"}, {"c"}}, 1, roll.Columns{roll.Skip, roll.Skip}},
		"empty":         {nil, 0, nil},
	} {
		header, columns, named := roll.FindHeader(c.rows)
		require.Equal(t, c.header, header, name)
		require.Equal(t, name != "nothing known" && name != "empty", named, name)
		require.Equal(t, c.want, columns, name)
	}
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
	s := roll.Read([][]string{{"李伟", "13800001234"}, {"王芳", "1390"}}, -1, roll.Columns{roll.Name, roll.Phone})
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
	}, 1, columns)
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
		s := roll.Read([][]string{{"header"}, c.row}, 0, columns)
		require.Empty(t, s.Members, name)
		require.Equal(t, c.want, s.Mistakes, name)
	}
}

func TestTwiceInTheFile(t *testing.T) {
	s := roll.Read([][]string{
		{}, {"a", "13800001234", "1"}, {"b", "138-0000-1234", "2"}, {"c", "13800009999", "1"}, {"d", "", ""},
		{"e", "13800007777"}, {"f", "13800008888"}, // no number twice is no number twice
	}, 0, roll.Columns{roll.Name, roll.Phone, roll.MembershipNo})
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
		roll.FindHeader(rows)
		s := roll.Read(rows, 1, roll.Columns{roll.Name, roll.Phone, roll.From})
		for _, m := range s.Members {
			again, err := phone.Parse(string(m.Phone))
			require.NoError(t, err)
			require.Equal(t, again, m.Phone)
			require.NotEmpty(t, m.Name)
		}
		require.LessOrEqual(t, len(s.Members), 2, "the third row says what the first says")
	})
}

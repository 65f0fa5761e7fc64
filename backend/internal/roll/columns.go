package roll

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Field is what a column of a roll holds.
type Field string

// The fields. A row needs a name, and a membership number or a phone by which
// its member is found again.
const (
	Skip         Field = ""
	Name         Field = "name"
	Phone        Field = "phone"
	MembershipNo Field = "membership_no"
	City         Field = "city"
	District     Field = "district"
	UnionStreet  Field = "union_street"
	Branch       Field = "branch"
	Street       Field = "street" // of statistics: where the rider belongs
	Platform     Field = "platform"
	From         Field = "member_from"
	To           Field = "member_to"
)

// Fields are all that a column can be, in the order in which they are shown.
func Fields() []Field {
	return []Field{Skip, Name, Phone, MembershipNo, City, District, UnionStreet, Branch, Street, Platform, From, To}
}

// Columns says of each column of a sheet what it holds.
type Columns []Field

// Has reports whether a column holds f.
func (c Columns) Has(f Field) bool { return slices.Contains(c, f) }

// called are the names by which columns are known, without blanks and marks, in
// lower case.
func called() map[Field][]string {
	return map[Field][]string{
		Name:         {"姓名", "名字", "会员姓名", "骑手姓名", "name", "ridername", "membername"},
		Phone:        {"手机", "手机号", "手机号码", "电话", "电话号码", "联系电话", "联系方式", "移动电话", "phone", "phonenumber", "mobile", "tel", "telephone"},
		MembershipNo: {"会员号", "会员编号", "会员证号", "会员卡号", "工会编号", "membershipno", "membershipnumber", "memberno", "membernumber", "membership"},
		City:         {"市", "市工会", "市总工会", "城市", "city", "cityunion"},
		District:     {"区", "区工会", "区总工会", "区县", "区县工会", "district", "districtunion"},
		UnionStreet:  {"街道工会", "街道总工会", "乡镇街道工会", "镇街工会", "streetunion"},
		Branch:       {"分会", "工会", "工会小组", "所属工会", "基层工会", "分会名称", "branch", "union", "branchunion"},
		Street:       {"街道", "所属街道", "镇街", "street"},
		Platform:     {"平台", "所属平台", "配送平台", "公司", "platform", "company"},
		From:         {"入会日期", "入会时间", "入会", "起始日期", "开始日期", "memberfrom", "from", "since", "joined"},
		To:           {"到期日期", "到期时间", "退会日期", "退会时间", "有效期至", "截止日期", "memberto", "to", "until", "left"},
	}
}

// headerWithin is among how many first rows the header is looked for: lists of
// unions begin with a title, blank rows and who made them.
const headerWithin = 20

// FindHeader gives the row that names the columns, counted from 0, and what it
// says they hold. Of two columns with one name the first counts. Where no row names
// a column, named is false and it is the first that is not blank: it may be a
// heading with other words, or a member.
func FindHeader(rows [][]string) (header int, columns Columns, named bool) {
	best := 0
	names := map[string]Field{}
	for f, all := range called() {
		for _, n := range all {
			names[n] = f
		}
	}
	for i, row := range rows[:min(len(rows), headerWithin)] {
		c := make(Columns, len(row))
		known := 0
		for j, cell := range row {
			if f := names[plain(cell)]; f != Skip && !c.Has(f) {
				c[j] = f
				known++
			}
		}
		if known > best {
			best, header, columns = known, i, c
		}
	}
	for best == 0 && header < len(rows)-1 && strings.Join(rows[header], "") == "" {
		header++
	}
	if best == 0 && len(rows) > 0 {
		columns = make(Columns, len(rows[header]))
	}
	return header, columns, best > 0
}

// LooksLikeMember reports whether a row is one of values: it has a phone, a day or a
// long number, which headings have not.
func LooksLikeMember(cells []string) bool {
	for _, c := range cells {
		digits := strings.Map(func(r rune) rune {
			if unicode.IsDigit(r) {
				return r
			}
			return -1
		}, c)
		if len(digits) > 4 {
			return true
		}
		if _, ok := ParseDay(c); ok {
			return true
		}
	}
	return false
}

// plain is a header's cell without what people decorate it with.
func plain(cell string) string {
	if i := strings.IndexAny(cell, "(（"); i > 0 { // "入会日期（年-月-日）"
		cell = cell[:i]
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, cell)
}

// Complete says what is missing in columns, or "" when rows can be read by them.
func (c Columns) Complete() Code {
	for i, f := range c {
		if f != Skip && slices.Contains(c[:i], f) {
			return ColumnTwice
		}
	}
	switch {
	case !c.Has(Name):
		return NoNameColumn
	case !c.Has(Phone) && !c.Has(MembershipNo):
		return NoKeyColumn
	default:
		return ""
	}
}

// Validate says what is wrong with columns that somebody chose: a field that is
// none. What is missing or there twice is Complete's.
func (c Columns) Validate() error {
	for i, f := range c {
		if !slices.Contains(Fields(), f) {
			return fmt.Errorf("column %d: %.20q is no field", i+1, f)
		}
	}
	return nil
}

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

// Header is what a sheet calls its columns.
type Header struct {
	// Rows from First on, counted from 0, to the one before Below, where members begin:
	// one, or two where groups of columns stand over their names. An empty sheet has none.
	First, Below int
	// Cells and Columns are as wide as the first rows are: below a group's cell, which
	// is merged, or where there is no heading at all, columns hold something, too.
	Cells   []string
	Columns Columns
	// Named is false where no row names the columns. Then the header is the first row
	// that is not blank: a heading with other words, or a member.
	Named bool
}

// Above are the rows above the header that are not blank, as spreadsheets count them.
func (h Header) Above(rows [][]string) []int {
	var above []int
	for i, row := range rows[:h.First] {
		if !blank(row) {
			above = append(above, i+1)
		}
	}
	return above
}

// FindHeader finds the row or the two rows that name most columns, one with the names of
// members before any other. Of two columns with one name the first counts.
func FindHeader(rows [][]string) Header {
	var h Header
	best, names := 0, fieldsByName()
	for h.First < len(rows)-1 && blank(rows[h.First]) {
		h.First++
	}
	first := h.First
	for i, row := range rows[:min(len(rows), headerWithin)] {
		one := readHeading(row, names)
		if one.worth() > best && one.isHeading(i == first) {
			h, best = Header{First: i, Below: i + 1, Cells: row, Columns: one.columns, Named: true}, one.worth()
		}
		if one.known == 0 || i+1 == len(rows) || !one.columns.Has(Name) && HasDigit(one.rest) {
			continue // it is no group's row: nothing, the last, or a member
		}
		lower := readHeading(rows[i+1], names)
		cells := overlay(row, rows[i+1])
		both := readHeading(cells, names)
		if lower.known == 0 || LooksLikeMember(lower.rest) || both.worth() < one.worth() || both.worth() <= lower.worth() {
			continue // the next row is no part of this heading
		}
		if (both.worth() > best || h.First == i) && both.isHeading(i == first) {
			h, best = Header{First: i, Below: i + 2, Cells: cells, Columns: both.columns, Named: true}, both.worth()
		}
	}
	if !h.Named && len(rows) > 0 {
		h.Below, h.Cells = h.First+1, rows[h.First]
	}
	h.widen(rows)
	return h
}

// widen makes the header as wide as the widest of the first rows from it on.
func (h *Header) widen(rows [][]string) {
	width := len(h.Cells)
	for _, row := range rows[h.First:min(len(rows), h.Below+headerWithin)] {
		for j := width; j < len(row); j++ {
			if row[j] != "" {
				width = j + 1
			}
		}
	}
	h.Cells = append(slices.Clone(h.Cells), make([]string, width-len(h.Cells))...)
	h.Columns = append(h.Columns, make(Columns, width-len(h.Columns))...)
}

// fieldsByName is called the other way round.
func fieldsByName() map[string]Field {
	names := map[string]Field{}
	for f, all := range called() {
		for _, n := range all {
			names[n] = f
		}
	}
	return names
}

// heading is a row, read as one that names columns.
type heading struct {
	columns Columns
	known   int      // columns that it names
	rest    []string // cells that name none
}

func readHeading(row []string, names map[string]Field) heading {
	h := heading{columns: make(Columns, len(row))}
	for j, cell := range row {
		if f := names[plain(cell)]; f != Skip && !h.columns.Has(f) {
			h.columns[j] = f
			h.known++
			continue
		}
		h.rest = append(h.rest, cell)
	}
	return h
}

// worth ranks headings: by how many columns they name, after the column of names.
func (h heading) worth() int {
	if h.columns.Has(Name) {
		return len(Fields()) + h.known
	}
	return h.known
}

// isHeading tells a heading from a member that has a column's name for a value: a
// platform may be a 公司, a branch a 工会, but nobody is called 姓名. Without the column
// of names it must name two, or one in the first row, and have no number in its other
// cells.
func (h heading) isHeading(first bool) bool {
	if h.columns.Has(Name) {
		return h.known > 1 || !LooksLikeMember(h.rest)
	}
	return !HasDigit(h.rest) && (h.known > 1 || h.known == 1 && first)
}

// overlay lays the lower of two rows over the upper: a cell wins where it is not empty.
func overlay(upper, lower []string) []string {
	out := make([]string, max(len(upper), len(lower)))
	copy(out, upper)
	for j, cell := range lower {
		if cell != "" {
			out[j] = cell
		}
	}
	return out
}

func blank(row []string) bool { return strings.Join(row, "") == "" }

// HasDigit reports whether a digit stands anywhere in a row: a member has one, in a
// number or a phone.
func HasDigit(cells []string) bool {
	return strings.ContainsFunc(strings.Join(cells, ""), unicode.IsDigit)
}

// LooksLikeMember reports whether a row is one of values: it has a phone, a day or a
// long number, which headings have not.
func LooksLikeMember(cells []string) bool {
	for _, c := range cells {
		digits := 0
		for _, r := range c {
			if unicode.IsDigit(r) {
				digits++
			}
		}
		if digits > 4 {
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

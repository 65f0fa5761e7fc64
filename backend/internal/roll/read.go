package roll

import (
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"batteryswap/backend/internal/phone"
)

// Code is what is wrong with a row, with the columns, or with the file. The list is
// closed: each has a text.
type Code string

// The codes of a file as a whole. What stands behind some is FileMistake's number.
const (
	FileMissing    Code = "file_missing"
	FileCut        Code = "file_cut"       // it did not come whole
	FileTooLarge   Code = "file_too_large" // most, in MiB
	FileEmpty      Code = "file_empty"
	FileUnknown    Code = "file_unknown" // neither a workbook nor text
	WorkbookUnread Code = "workbook_unread"
	CSVUnread      Code = "csv_unread"       // line
	TooManyRows    Code = "too_many_rows"    // most
	TooManyColumns Code = "too_many_columns" // row
	KeyChanged     Code = "key_changed"      // the file was kept with another key
	BooksChanged   Code = "books_changed"    // a member was changed meanwhile
	NotKept        Code = "not_kept"         // the database refuses something in it
	NoHeading      Code = "no_heading"       // no row names a column
)

// The codes of columns and rows.
const (
	NoNameColumn  Code = "no_name_column"
	NoKeyColumn   Code = "no_key_column"
	ColumnTwice   Code = "column_twice"
	NoName        Code = "no_name"
	NoKey         Code = "no_key"
	BadPhone      Code = "bad_phone"
	RoundedPhone  Code = "rounded_phone" // 1.38E+10: a spreadsheet has thrown digits away
	PhoneTwice    Code = "phone_twice"   // in the file
	MemberTwice   Code = "member_twice"
	BadDate       Code = "bad_date"
	EndsBefore    Code = "ends_before_it_begins"
	TooLong       Code = "too_long"
	UnionUnknown  Code = "union_unknown"
	UnionUnclear  Code = "union_unclear"  // several bodies of that name
	PhoneOfOther  Code = "phone_of_other" // the books give it to another member
	NumberOfOther Code = "number_of_other"
)

// Codes is the closed list.
func Codes() []Code {
	return []Code{
		FileMissing, FileCut, FileTooLarge, FileEmpty, FileUnknown, WorkbookUnread, CSVUnread, TooManyRows, TooManyColumns, KeyChanged, BooksChanged, NotKept, NoHeading,
		NoNameColumn, NoKeyColumn, ColumnTwice, NoName, NoKey, BadPhone, RoundedPhone, PhoneTwice, MemberTwice, BadDate, EndsBefore, TooLong,
		UnionUnknown, UnionUnclear, PhoneOfOther, NumberOfOther,
	}
}

// FileMistake is what is wrong with a file as a whole.
type FileMistake struct {
	Code Code
	N    int // as the code says, 0 for none
}

// Error is how it is kept, too: ParseFileMistake reads it.
func (m *FileMistake) Error() string {
	if m.N == 0 {
		return string(m.Code)
	}
	return string(m.Code) + " " + strconv.Itoa(m.N)
}

// ParseFileMistake reads what was kept; false: it is none of the list.
func ParseFileMistake(text string) (FileMistake, bool) {
	code, number, _ := strings.Cut(text, " ")
	n, _ := strconv.Atoi(number) // none: 0
	return FileMistake{Code(code), n}, slices.Contains(Codes(), Code(code))
}

// FirstRow says what the first row is of a sheet in which no row names a column.
type FirstRow string

// What it can be. It is never guessed: a member would be lost, or a heading would
// become one.
const (
	FirstRowUnsaid  FirstRow = ""
	FirstRowHeading FirstRow = "heading"
	FirstRowMember  FirstRow = "member"
)

// Levels is how deep a union's tree is: city, district, street, branch.
const Levels = 4

// Level names a level of the tree, from 0.
func Level(n int) string { return [Levels]string{"city", "district", "street", "branch"}[n] }

// Member is one row. What the row does not say is empty, and changes nothing.
type Member struct {
	Row          int // as spreadsheets count
	Name         string
	Phone        phone.Number
	MembershipNo string
	Union        [Levels]string // names of bodies, "" where the row says none
	Street       string
	Platform     string
	From, To     time.Time // days in UTC; zero: not said
}

// Mistake is what is wrong with a row.
type Mistake struct {
	Row   int
	Code  Code
	Field Field
	// Other is a row that this one contradicts, 0 for none.
	Other int
}

// Bounds of a cell, in characters.
const (
	maxCell         = 100
	maxMembershipNo = 40
)

// Sheet is a roll as it was read.
type Sheet struct {
	Members  []Member
	Mistakes []Mistake
	// Blank rows and rows of notes below the list are passed over.
	Blank int
}

// Read reads the members of a sheet: all rows from the one at index first on. A row that
// is wrong is told with all that is wrong with it, and is no member.
func Read(rows [][]string, first int, columns Columns) Sheet {
	var s Sheet
	byPhone, byNumber := map[phone.Number]int{}, map[string]int{}
	for i, cells := range rows[min(len(rows), first):] {
		row := first + 1 + i // as spreadsheets count
		if blank(cells) {
			s.Blank++
			continue
		}
		m, mistakes := readRow(row, cells, columns)
		if other, twice := byPhone[m.Phone]; twice && m.Phone != "" {
			mistakes = append(mistakes, Mistake{row, PhoneTwice, Phone, other})
		}
		if other, twice := byNumber[m.MembershipNo]; twice && m.MembershipNo != "" {
			mistakes = append(mistakes, Mistake{row, MemberTwice, MembershipNo, other})
		}
		if len(mistakes) > 0 {
			s.Mistakes = append(s.Mistakes, mistakes...)
			continue
		}
		byPhone[m.Phone], byNumber[m.MembershipNo] = row, row
		s.Members = append(s.Members, m)
	}
	return s
}

func readRow(row int, cells []string, columns Columns) (Member, []Mistake) {
	m := Member{Row: row}
	var mistakes []Mistake
	wrong := func(code Code, f Field) { mistakes = append(mistakes, Mistake{Row: row, Code: code, Field: f}) }
	for i, f := range columns {
		if i >= len(cells) || cells[i] == "" || f == Skip {
			continue
		}
		text := cells[i]
		if utf8.RuneCountInString(text) > maxCell || f == MembershipNo && utf8.RuneCountInString(text) > maxMembershipNo {
			wrong(TooLong, f)
			continue
		}
		if code := m.set(f, text); code != "" {
			wrong(code, f)
		}
	}
	if m.Name == "" {
		wrong(NoName, Name)
	}
	if m.Phone == "" && m.MembershipNo == "" && len(mistakes) == 0 {
		wrong(NoKey, Phone)
	}
	if !m.From.IsZero() && !m.To.IsZero() && m.To.Before(m.From) {
		wrong(EndsBefore, To)
	}
	return m, mistakes
}

// set reads one cell, or says what is wrong with it.
func (m *Member) set(f Field, text string) Code {
	switch f {
	case Name:
		m.Name = text
	case Phone:
		n, err := phone.Parse(exact(text))
		if err != nil {
			if strings.ContainsAny(text, "eE") {
				return RoundedPhone
			}
			return BadPhone
		}
		m.Phone = n
	case MembershipNo:
		m.MembershipNo = exact(text)
	case City:
		m.Union[0] = text
	case District:
		m.Union[1] = text
	case UnionStreet:
		m.Union[2] = text
	case Branch:
		m.Union[3] = text
	case Street:
		m.Street = text
	case Platform:
		m.Platform = text
	case From, To:
		day, ok := ParseDay(text)
		if !ok {
			return BadDate
		}
		if f == From {
			m.From = day
		} else {
			m.To = day
		}
	}
	return ""
}

// exact writes a number that a spreadsheet keeps as 1.3800001234E10 with all its
// digits, where it has kept them all.
func exact(text string) string {
	mantissa, exponent, ok := strings.Cut(strings.ToUpper(text), "E")
	if !ok {
		return strings.TrimSuffix(text, ".0")
	}
	e, err := strconv.Atoi(strings.TrimPrefix(exponent, "+"))
	_, decimals, _ := strings.Cut(mantissa, ".")
	if err != nil || e < 0 || e > 20 || len(decimals) != e {
		return text
	}
	n, ok := new(big.Rat).SetString(text)
	if !ok || !n.IsInt() {
		return text
	}
	return n.Num().String()
}

// Days that a spreadsheet can mean by a number: it counts from 1899-12-30
// (ECMA-376 part 1, 18.17.4.1), and here from 1954 to 2118.
const (
	firstSerial, lastSerial = 20_000, 80_000
)

// ParseDay reads a day as people and spreadsheets write it: 2026-01-31,
// 2026/1/31, 2026.1.31, 2026年1月31日, 20260131, a time behind it or not, or the
// number of a day.
func ParseDay(text string) (time.Time, bool) {
	if n, err := strconv.ParseFloat(text, 64); err == nil && n >= firstSerial && n < lastSerial {
		return time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC).AddDate(0, 0, int(n)), true
	}
	text, _, _ = strings.Cut(strings.ReplaceAll(text, "T", " "), " ")
	text = strings.TrimSuffix(strings.NewReplacer("年", "-", "月", "-", "/", "-", ".", "-", "日", "").Replace(text), "-")
	for _, form := range []string{"2006-1-2", "20060102"} {
		if day, err := time.Parse(form, text); err == nil && day.Year() >= 1950 && day.Year() < 2200 {
			return day, true
		}
	}
	return time.Time{}, false
}

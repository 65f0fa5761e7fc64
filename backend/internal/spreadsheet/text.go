package spreadsheet

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// inert keeps a spreadsheet from taking a text for a formula (security.md, T20).
// What begins like one gets an apostrophe; blanks before it do not help it.
func inert(s string) string {
	for _, r := range s {
		switch r {
		case '=', '+', '-', '@', '\t', '\r', '\n', 0, '＝', '＋', '－', '＠':
			return "'" + s
		case ' ', '\u00a0', '\u3000', '\ufeff', '\u200b':
		default:
			return s
		}
	}
	return s
}

// kept keeps a spreadsheet from taking a text for something else: an identifier of
// digits for a number, which loses its zeros or its end, a key like 1/07 for a day.
// Such a text gets an apostrophe, too.
func kept(s string) string {
	if isValue(s) {
		return "'" + s
	}
	return s
}

// isValue reports whether a spreadsheet could take a text for a number, a day, a
// time or a truth: it consists of digits and what stands among them in one of these.
// Rather too many than too few, for programs and their languages differ.
func isValue(s string) bool {
	s = strings.ToLower(strings.TrimSpace(strings.Map(narrow, s)))
	if s == "true" || s == "false" {
		return true
	}
	digits, dashes, before := 0, 0, rune(0)
	for s != "" {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r >= '0' && r <= '9':
			digits++
		case r == '-':
			if dashes++; dashes > 2 { // a UUID
				return false
			}
		case strings.ContainsRune(" /.:,%()$¥€£", r):
		default:
			if n = word(s, before); n == 0 {
				return false
			}
		}
		s, before = s[n:], r
	}
	return digits > 0
}

// narrow is the ASCII character of a full-width one, and a blank of any other blank.
func narrow(r rune) rune {
	switch {
	case r >= '！' && r <= '～':
		return r - '！' + '!'
	case unicode.IsSpace(r):
		return ' '
	}
	return r
}

// word is the length of a word at the beginning of a text, in small letters, that
// stands in days, times or numbers, 0 when there is none. before is the character
// before it.
func word(s string, before rune) int {
	for _, w := range [...]string{
		"january", "february", "march", "april", "june", "july", "august", "september", "october", "november", "december",
		"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sept", "sep", "oct", "nov", "dec",
		"am", "pm", "年", "月", "日", "时", "時", "点", "分", "秒", "上午", "下午",
	} {
		if strings.HasPrefix(s, w) {
			return len(w)
		}
	}
	letters := ""
	switch {
	case before >= '0' && before <= '9':
		letters = "etzap" // 1e5, 2026-01-02T03:04Z, 1:30p
	case before == ' ':
		letters = "ap" // 1:30 p
	}
	if strings.IndexByte(letters, s[0]) >= 0 {
		return 1
	}
	return 0
}

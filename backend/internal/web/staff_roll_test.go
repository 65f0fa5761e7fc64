package web

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/roll"
	"batteryswap/backend/internal/staff"
)

// TestEveryMistakeOfARollHasItsText: each row's and each file's, each field and each
// fate, in both languages, and none is shown as its code; a number is where one
// belongs.
func TestEveryMistakeOfARollHasItsText(t *testing.T) {
	numbered := map[roll.Code]bool{
		roll.FileTooLarge: true, roll.CSVUnread: true, roll.TooManyRows: true, roll.TooManyColumns: true, roll.PhoneTwice: true, roll.MemberTwice: true,
	}
	chinese := regexp.MustCompile(`\p{Han}`)
	for _, lang := range languages {
		words, err := loadTexts(lang, "staff.", "figures.")
		require.NoError(t, err)
		for _, code := range roll.Codes() {
			key := "rollcode." + string(code)
			require.Contains(t, words, key, lang)
			require.Equal(t, numbered[code], strings.Contains(words[key], "{n}"), "%s %s", lang, key)
			require.Equal(t, lang == "zh", chinese.MatchString(words[key]), "%s %s", lang, key)
			row := words.fate(staff.RollFate{Fate: roll.Refused, Mistakes: []roll.Mistake{{Row: 9, Code: code, Field: roll.Phone, Other: 7}}})
			require.Len(t, row, 1)
			require.NotContains(t, row[0], string(code))
			require.NotContains(t, words.rollMistake((&roll.FileMistake{Code: code, N: 7}).Error()), string(code))
		}
		for _, f := range roll.Fields() {
			require.Contains(t, words, "rollfield."+string(f), lang)
		}
		for _, f := range roll.Fates() {
			require.Contains(t, words, "fate."+string(f), lang)
		}
	}
	require.Equal(t, "文件无法读取： of an older program", mustTexts(t, "zh").rollMistake("of an older program"))
}

func mustTexts(t *testing.T, lang string) texts {
	t.Helper()
	words, err := loadTexts(lang, "staff.")
	require.NoError(t, err)
	return words
}

// TestAFileThatDoesNotCome is told by its code.
func TestAFileThatDoesNotCome(t *testing.T) {
	form := func(body string) *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/staff/roll", strings.NewReader(strings.ReplaceAll(body, "\n", "\r\n")))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		return r
	}
	part := func(name, content string) string {
		return "--x\nContent-Disposition: form-data; name=\"" + name + "\"; filename=\"a.csv\"\n\n" + content + "\n--x--\n"
	}
	var wrong *uploadMistake
	for code, r := range map[roll.Code]*http.Request{
		roll.FileCut: form(strings.TrimSuffix(part("file", "abc"), "\n--x--\n")), roll.FileMissing: form(part("other", "a")), roll.FileEmpty: form(part("file", "")),
	} {
		_, _, err := readFile(r, 1<<20)
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, roll.FileMistake{Code: code}, wrong.FileMistake)
		require.ErrorContains(t, err, "file: ")
	}
	r := form(part("file", strings.Repeat("a", 100)))
	r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, 50)
	_, _, err := readFile(r, 3<<20)
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, roll.FileMistake{Code: roll.FileTooLarge, N: 3}, wrong.FileMistake)
	name, file, err := readFile(form(part("file", "姓名")), 1<<20)
	require.NoError(t, err)
	require.Equal(t, "a.csv 姓名", name+" "+string(file))
}

// TestLettersOfColumns are as spreadsheets have them.
func TestLettersOfColumns(t *testing.T) {
	for n, want := range map[int]string{0: "A", 25: "Z", 26: "AA", 49: "AX", 701: "ZZ", 702: "AAA"} {
		require.Equal(t, want, letters(n))
	}
}

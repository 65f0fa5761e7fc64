package postgres_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/roll"
	"batteryswap/backend/internal/staff"
)

func readCSV(file []byte) ([][]string, error) {
	r := csv.NewReader(bytes.NewReader(file))
	r.FieldsPerRecord = -1
	return r.ReadAll()
}

// sendRoll sends a file and has it checked.
func (d *deck) sendRoll(file string, addBodies bool) staff.RollImport {
	d.t.Helper()
	id, err := d.store.NewRollImport(d.as("li"), "roll.csv", []byte(file))
	require.NoError(d.t, err)
	i := d.runRoll(id)
	if addBodies {
		require.NoError(d.t, d.store.CheckRoll(d.as("li"), id, i.Columns, true, i.FirstRow))
		i = d.runRoll(id)
	}
	return i
}

func (d *deck) runRoll(id int64) staff.RollImport {
	d.t.Helper()
	did, err := d.store.RunRoll(context.Background(), readCSV)
	require.NoError(d.t, err)
	require.True(d.t, did)
	i, err := d.store.RollImport(context.Background(), id)
	require.NoError(d.t, err)
	return i
}

func (d *deck) importRoll(file string, addBodies bool) staff.RollImport {
	d.t.Helper()
	i := d.sendRoll(file, addBodies)
	require.Equal(d.t, staff.ImportChecked, i.State, i.Mistake)
	require.NoError(d.t, d.store.ImportRoll(d.as("li"), i.ID, *i.FinishedAt))
	return d.runRoll(i.ID)
}

func counts(i staff.RollImport) []int { return []int{i.Added, i.Changed, i.Unchanged, i.Refused} }

const aRoll = `东新街道工会名册,,,,,,
,,,,,,
姓名,手机,会员号,区工会,街道工会,分会,平台,街道,入会日期,到期日期
李伟,138 0000 1234,Z-1,拱墅区总工会,东新街道总工会,一分会,甲,东新街道,2026-01-01,
王芳,13900001234,Z-2,拱墅区总工会,东新街道总工会,二分会,乙,东新街道,2026年2月1日,2026-12-31
,13700001234,Z-3,,,,,,,
张三,0571-8888,Z-4,,,,,,x,
`

// TestImportARoll: a dry run changes nothing; the import adds the union's bodies
// and the riders; a second one changes nothing; a third changes what differs.
func TestImportARoll(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	ctx := d.as("li")

	dry := d.sendRoll(aRoll, false)
	require.Equal(t, staff.ImportChecked, dry.State, dry.Mistake)
	require.Equal(t, []int{0, 0, 0, 4}, counts(dry), "no body of the union is known")
	dry = d.sendRoll(aRoll, true)
	require.Equal(t, []int{2, 0, 0, 2}, counts(dry))
	require.Equal(t, 4, dry.Bodies)
	require.Equal(t, int64(2), query[int64](d, `SELECT count(*) FROM rider`), "nothing was imported")
	require.Zero(t, query[int64](d, `SELECT count(*) FROM union_body`))

	done := d.importRoll(aRoll, true)
	require.Equal(t, staff.ImportImported, done.State)
	require.Equal(t, []int{2, 0, 0, 2}, counts(done))
	require.False(t, done.HasFile, "the file is not kept")
	fates, err := d.store.RollFates(ctx, done.ID, "", 0, 10)
	require.NoError(t, err)
	require.Len(t, fates, 5, "of the title, too")
	require.Equal(t, staff.RollFate{Row: 1, Fate: roll.Above}, fates[2])
	require.Equal(t, staff.RollFate{Row: 6, Fate: roll.Refused, Mistakes: []roll.Mistake{{Row: 6, Code: roll.NoName, Field: roll.Name}}}, fates[0])
	require.Equal(t, 7, fates[1].Row)
	require.Len(t, fates[1].Mistakes, 2, "all that is wrong with a row")
	tree, err := d.store.UnionTree(ctx)
	require.NoError(t, err)
	var shown []string
	for _, b := range tree {
		shown = append(shown, fmt.Sprint(strings.Repeat("> ", b.Depth), b.Level, " ", b.Name, " ", b.Riders))
	}
	require.Equal(t, []string{"district 拱墅区总工会 0", "> street 东新街道总工会 0", "> > branch 一分会 1", "> > branch 二分会 1"}, shown)
	require.Equal(t, "2026-02-01 2026-12-31", query[string](d, `SELECT member_from || ' ' || member_to FROM rider WHERE membership_no = 'Z-2'`))

	again := d.importRoll(aRoll, true)
	require.Equal(t, []int{0, 0, 2, 2}, counts(again))
	require.Zero(t, again.Bodies)

	other := strings.NewReplacer("13900001234", "13800001234", "138 0000 1234", "13900001234", "李伟", "李大伟").Replace(aRoll)
	changed := d.importRoll(other, false)
	require.Equal(t, []int{0, 2, 0, 2}, counts(changed), "they exchanged their phones")
	fates, err = d.store.RollFates(ctx, changed.ID, roll.Changed, 0, 10)
	require.NoError(t, err)
	require.Equal(t, []roll.Field{roll.Name, roll.Phone}, fates[0].Fields)
	sealed := query[string](d, `SELECT phone_sealed FROM rider WHERE membership_no = 'Z-1'`)
	number, err := testVault(t).Open(string(fates[0].RiderID), sealed)
	require.NoError(t, err)
	require.Equal(t, phone.Number("13900001234"), number)
	require.NotContains(t, fmt.Sprint(query[string](d, `SELECT string_agg(t::text, ' ') FROM (SELECT * FROM rider) t`)), "1390000")
	require.NotContains(t, query[string](d, `SELECT string_agg(t::text, ' ') FROM (SELECT * FROM roll_fate) t`), "1380000")
	d.honest()
}

func TestARollThatCannotBeRead(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	i := d.sendRoll("姓名,备注\n李伟,x\n", false)
	require.Equal(t, staff.ImportFailed, i.State)
	require.Equal(t, string(roll.NoKeyColumn), i.Mistake)
	refusal(t, d.store.ImportRoll(d.as("li"), i.ID, *i.FinishedAt), staff.AlreadyDone)
	require.NoError(t, d.store.CheckRoll(d.as("li"), i.ID, roll.Columns{roll.Name, roll.MembershipNo}, false, ""), "with other columns it can")
	require.Equal(t, []int{1, 0, 0, 0}, counts(d.runRoll(i.ID)))

	i = d.sendRoll("姓名,手机\n\"", false)
	require.Equal(t, staff.ImportFailed, i.State)
	require.Equal(t, string(roll.FileUnknown), i.Mistake, "whatever cannot be read has a text")
	require.ErrorIs(t, d.store.ImportRoll(d.as("li"), 999, time.Now()), staff.ErrNotFound)
}

// TestABadRollHoldsNobodyUp: what the database cannot keep, and a file whose key is
// gone, end their own import, and the next roll is read.
func TestABadRollHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	i := d.sendRoll("姓\x00名,手机\n李\x00伟,13800001234\n", false)
	require.Equal(t, []int{1, 0, 0, 0}, counts(i), i.Mistake)
	id, err := d.store.NewRollImport(d.as("li"), "roll.csv", []byte("姓名,手机\n"))
	require.NoError(t, err)
	_, err = d.direct().Exec(t.Context(), `UPDATE roll_import SET file_sealed = '\x00' WHERE import_id = $1`, id)
	require.NoError(t, err)
	i = d.runRoll(id)
	require.Equal(t, staff.ImportFailed, i.State)
	require.Equal(t, string(roll.KeyChanged), i.Mistake)
	require.Equal(t, string(roll.FileEmpty), d.sendRoll("\n", false).Mistake, "not a row")
	require.Equal(t, staff.ImportImported, d.importRoll(aRoll, true).State)
}

// TestARollWithoutHeadings: a person says what the columns hold and what the first row
// is, and sees nobody's name or phone. No member is lost to a heading, and no heading
// becomes a member.
func TestARollWithoutHeadings(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	i := d.sendRoll("李小伟,13800001234,Z-1001\n王芳,13900001234,Z-1002\n", false)
	require.Equal(t, staff.ImportFailed, i.State)
	require.Equal(t, string(roll.NoHeading), i.Mistake)
	require.Equal(t, []string{"李**", "138****1234", "Z*****"}, i.Header)
	columns := roll.Columns{roll.Name, roll.Phone, roll.MembershipNo}
	check := func(first roll.FirstRow) staff.RollImport {
		require.NoError(t, d.store.CheckRoll(d.as("li"), i.ID, columns, false, first))
		return d.runRoll(i.ID)
	}
	require.Equal(t, string(roll.NoHeading), check("").Mistake, "it is never guessed")
	require.Equal(t, []int{1, 0, 0, 0}, counts(check(roll.FirstRowHeading)))
	checked := check(roll.FirstRowMember)
	require.Equal(t, []int{2, 0, 0, 0}, counts(checked))
	require.Equal(t, roll.FirstRowMember, checked.FirstRow)
	fates, err := d.store.RollFates(t.Context(), i.ID, "", 0, 10)
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, []int{fates[0].Row, fates[1].Row}, "rows are as spreadsheets count them")
	require.Error(t, d.store.CheckRoll(d.as("li"), i.ID, columns, false, "nonsense"))
	require.NoError(t, d.store.ImportRoll(d.as("li"), i.ID, *checked.FinishedAt))
	require.Equal(t, []int{2, 0, 0, 0}, counts(d.runRoll(i.ID)), "imported as it was checked")

	i = d.sendRoll("全称,随便\n李小伟,x\n", false)
	require.Equal(t, string(roll.NoHeading), i.Mistake)
	require.Equal(t, []string{"全称", "随便"}, i.Header, "a heading in other words is shown")
}

// TestNobodyIsShownForAHeading: without a heading no cell of a row with a digit is kept
// as it is, nor of one that a person calls a member; when the file goes, the heading
// goes, too.
func TestNobodyIsShownForAHeading(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	i := d.sendRoll("李小伟,0007,一分会\n王芳,0008,一分会\n", false)
	require.Equal(t, string(roll.NoHeading), i.Mistake)
	require.Equal(t, []string{"李**", "0***", "一**"}, i.Header)

	i = d.sendRoll("李小伟,甲,乙号\n王芳,乙,丙号\n", false)
	require.NoError(t, d.store.CheckRoll(d.as("li"), i.ID, roll.Columns{roll.Name, roll.Skip, roll.MembershipNo}, false, roll.FirstRowMember))
	i = d.runRoll(i.ID)
	require.Equal(t, []string{"李**", "甲", "乙*"}, i.Header)
	require.NoError(t, d.store.ImportRoll(d.as("li"), i.ID, *i.FinishedAt))
	require.Empty(t, d.runRoll(i.ID).Header, "it is of no use any more")
	require.Empty(t, d.importRoll(aRoll, true).Header)

	waits := d.sendRoll(aRoll, false)
	_, err := d.direct().Exec(t.Context(), `UPDATE roll_import SET finished_at = now() - interval '23 hours' WHERE import_id = $1`, waits.ID)
	require.NoError(t, err)
	require.NoError(t, d.store.ForgetRolls(t.Context()))
	waits, err = d.store.RollImport(t.Context(), waits.ID)
	require.NoError(t, err)
	require.True(t, waits.HasFile)
	require.NotEmpty(t, waits.Header)
	_, err = d.direct().Exec(t.Context(), `UPDATE roll_import SET finished_at = now() - interval '25 hours' WHERE import_id = $1`, waits.ID)
	require.NoError(t, err)
	require.NoError(t, d.store.ForgetRolls(t.Context()))
	waits, err = d.store.RollImport(t.Context(), waits.ID)
	require.NoError(t, err)
	require.False(t, waits.HasFile)
	require.Empty(t, waits.Header)
}

// TestNoRowGoesWithoutAWord: a value that is also the name of a column makes no heading,
// and what stands above a heading is told, row by row.
func TestNoRowGoesWithoutAWord(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	for _, third := range []string{"赵六,13700001234,工会", "赵六,0009,公司", "赵六,0009,工会,公司", "赵六,甲,公司"} {
		i := d.sendRoll("李小伟,13800001234,一分会\n王芳,13900001234,一分会\n"+third+"\n", true)
		require.Equal(t, string(roll.NoHeading), i.Mistake, third)
		require.Equal(t, []string{"李**", "138****1234", "一**"}, i.Header[:3], third)
	}
	require.Equal(t, string(roll.NoHeading), d.sendRoll("李小伟,0007,工会\n王芳,0008,工会\n", false).Mistake, "nor in the first row")

	i := d.sendRoll("东新街道名册,2026年\n,,\n李小伟,13800001234,\n姓名,手机,备注\n王芳,13900001234,\n", false)
	require.Equal(t, []int{1, 0, 0, 0}, counts(i), i.Mistake)
	fates, err := d.store.RollFates(t.Context(), i.ID, "", 0, 10)
	require.NoError(t, err)
	require.Equal(t, []staff.RollFate{{Row: 1, Fate: roll.Above}, {Row: 3, Fate: roll.Above}}, fates[:2])
	require.Len(t, fates, 3)
	above, err := d.store.RollFates(t.Context(), i.ID, roll.Above, 0, 10)
	require.NoError(t, err)
	require.Equal(t, fates[:2], above)
}

// TestAnotherCheckIsNotImported: what is imported is the check that somebody has read,
// not what a colleague has tried since.
func TestAnotherCheckIsNotImported(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	mine := d.sendRoll("姓名,会员号,分会\n李伟,Z-1,一分会\n", false)
	require.Equal(t, []int{0, 0, 0, 1}, counts(mine))
	require.NoError(t, d.store.CheckRoll(d.as("wang"), mine.ID, mine.Columns, true, ""))
	refusal(t, d.store.ImportRoll(d.as("li"), mine.ID, *mine.FinishedAt), staff.RollChanged)
	theirs := d.runRoll(mine.ID)
	require.Equal(t, []int{1, 0, 0, 0}, counts(theirs))
	refusal(t, d.store.ImportRoll(d.as("li"), mine.ID, *mine.FinishedAt), staff.RollChanged)
	refusal(t, d.store.ImportRoll(d.as("li"), mine.ID, time.Time{}), staff.RollChanged)
	require.NoError(t, d.store.ImportRoll(d.as("wang"), mine.ID, *theirs.FinishedAt))
	refusal(t, d.store.ImportRoll(d.as("wang"), mine.ID, *theirs.FinishedAt), staff.AlreadyDone)
	require.Equal(t, staff.ImportImported, d.runRoll(mine.ID).State)
}

// TestARiderWhoChangesMeanwhile: what somebody else has changed since it was read is
// not changed back.
func TestARiderWhoChangesMeanwhile(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	d.importRoll("姓名,会员号\n李伟,Z-1\n", false)
	i := d.sendRoll("姓名,会员号,平台\n李伟,Z-1,甲\n", false)
	require.NoError(t, d.store.ImportRoll(d.as("li"), i.ID, *i.FinishedAt))
	conn, err := pgx.Connect(t.Context(), d.url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE rider SET street = 'elsewhere' WHERE membership_no = 'Z-1'`)
	require.NoError(t, err)
	done := make(chan staff.RollImport)
	go func() { done <- d.runRoll(i.ID) }()
	require.Eventually(t, func() bool {
		return query[int64](d, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR NO KEY UPDATE'`) > 0
	}, 20*time.Second, 20*time.Millisecond)
	require.NoError(t, tx.Commit(t.Context()))
	i = <-done
	require.Equal(t, staff.ImportFailed, i.State)
	require.Equal(t, string(roll.BooksChanged), i.Mistake)
	require.Equal(t, "elsewhere ", query[string](d, `SELECT street || ' ' || platform FROM rider WHERE membership_no = 'Z-1'`))
}

// TestRollOfADyingReplica: the work of a replica that goes in the middle has not
// happened, and the next one does it.
func TestRollOfADyingReplica(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	i := d.sendRoll(aRoll, true)
	require.NoError(t, d.store.ImportRoll(d.as("li"), i.ID, *i.FinishedAt))
	ctx, die := context.WithCancel(context.Background())
	_, err := d.store.RunRoll(ctx, func([]byte) ([][]string, error) {
		// Meanwhile nobody else takes it, and it is not asked for again.
		did, err := d.open().RunRoll(context.Background(), readCSV)
		require.NoError(t, err)
		require.False(t, did)
		refusal(t, d.store.CheckRoll(d.as("li"), i.ID, i.Columns, false, ""), staff.TryAgain)
		die()
		return nil, errors.New("gone")
	})
	require.Error(t, err)
	require.Equal(t, int64(2), query[int64](d, `SELECT count(*) FROM rider`))
	require.Equal(t, []int{2, 0, 0, 2}, counts(d.runRoll(i.ID)))
	require.Equal(t, int64(4), query[int64](d, `SELECT count(*) FROM rider`))
}

// TestFiftyThousandRows: a whole city's roll in well under a minute.
func TestFiftyThousandRows(t *testing.T) {
	t.Parallel()
	d := newDeck(t)
	var b strings.Builder
	b.WriteString("姓名,手机,会员号,平台\n")
	for n := range 50_000 {
		fmt.Fprintf(&b, "骑手%d,138%08d,Z-%d,平台%d\n", n, n, n, n%3)
	}
	began := time.Now()
	require.Equal(t, []int{50_000, 0, 0, 0}, counts(d.importRoll(b.String(), false)))
	took := time.Since(began)
	require.Equal(t, []int{0, 0, 50_000, 0}, counts(d.sendRoll(b.String(), false)))
	t.Logf("50,000 rows: checked and imported in %v, checked again in %v", took, time.Since(began)-took)
	require.Less(t, took, time.Minute)
}

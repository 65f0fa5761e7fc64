package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/roll"
	"batteryswap/backend/internal/staff"
)

const (
	// MaxRollRows bounds a roll.
	MaxRollRows = 60_000
	maxFileName = 200
	// rollFileLife is how long a roll waits for somebody to import it.
	rollFileLife = 24 * time.Hour
	// rollKept is for how long the report of a roll is kept.
	rollKept = 90 * 24 * time.Hour
	rollStep = 2_000 // rows between two words on how far it is
)

// NewRollImport keeps a file that staff sent, closed, and asks for a dry run.
func (s *Store) NewRollImport(ctx context.Context, fileName string, file []byte) (id int64, err error) {
	if s.o.Vault == nil {
		return 0, errNoVault
	}
	fileName = clean(fileName)
	if r := []rune(fileName); len(r) > maxFileName {
		fileName = string(r[:maxFileName])
	}
	err = s.acting(ctx, "send a roll", func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `INSERT INTO roll_import (file_name, state, made_by, wanted_by, file_sealed) VALUES ($1, 'check', $2, $2, $3) RETURNING import_id`,
			fileName, staff.Who(ctx).Login, s.o.Vault.CloseFile(file)).Scan(&id)
		if err != nil {
			return err
		}
		return audit(ctx, tx, "roll.send", fmt.Sprint(id), map[string]any{"bytes": len(file)})
	})
	return id, err
}

// CheckRoll asks for another dry run, with other columns; first says what the first
// row is where none names the columns.
func (s *Store) CheckRoll(ctx context.Context, id int64, columns roll.Columns, addBodies bool, first roll.FirstRow) error {
	if first != roll.FirstRowUnsaid && first != roll.FirstRowHeading && first != roll.FirstRowMember {
		return staff.Mistakef("first_row is %.20q: want heading or member", first)
	}
	return s.wantRoll(ctx, id, staff.ImportCheck, time.Time{}, `columns = $3, add_bodies = $4, first_row = $5`, columns, addBodies, string(first))
}

// ImportRoll asks for the import of a roll as it was checked; checked is when that
// check, whose report somebody has read, had finished. Another one, with other
// columns perhaps, is not imported in its place.
func (s *Store) ImportRoll(ctx context.Context, id int64, checked time.Time) error {
	return s.wantRoll(ctx, id, staff.ImportImport, checked, ``)
}

func (s *Store) wantRoll(ctx context.Context, id int64, state string, checked time.Time, set string, args ...any) error {
	if set != "" {
		set = ", " + set
	}
	return s.acting(ctx, "roll", func(tx pgx.Tx) error {
		var is string
		var hasFile bool
		var finished *time.Time
		err := tx.QueryRow(ctx, `SELECT state, file_sealed IS NOT NULL, finished_at FROM roll_import WHERE import_id = $1 FOR UPDATE NOWAIT`, id).Scan(&is, &hasFile, &finished)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("roll %d: %w", id, ErrNotFound)
		case sqlState(err) == "55P03": // it is being worked on
			return &staff.Refusal{Code: staff.TryAgain}
		case err != nil:
			return err
		case state == staff.ImportImport && (is == staff.ImportCheck || is == staff.ImportChecked && !finished.Equal(checked)):
			return &staff.Refusal{Code: staff.RollChanged}
		case !hasFile, state == staff.ImportImport && is != staff.ImportChecked, is == staff.ImportImport:
			return &staff.Refusal{Code: staff.AlreadyDone, Detail: is}
		}
		_, err = tx.Exec(ctx, `UPDATE roll_import SET state = $2, finished_at = NULL, mistake = NULL, wanted_by = `+
			fmt.Sprintf("$%d", len(args)+3)+set+` WHERE import_id = $1`, append(append([]any{id, state}, args...), staff.Who(ctx).Login)...)
		if err != nil {
			return err
		}
		return audit(ctx, tx, "roll."+state, fmt.Sprint(id), nil)
	})
}

const sqlRollImports = `SELECT i.import_id, file_name, state, made_by, made_at, finished_at, columns, header, add_bodies, first_row, coalesce(mistake, ''),
	added, changed, unchanged, refused, bodies, coalesce(p.done, 0), coalesce(p.rows, 0), file_sealed IS NOT NULL
	FROM roll_import i LEFT JOIN roll_progress p USING (import_id)`

func scanRollImport(r pgx.CollectableRow) (i staff.RollImport, err error) {
	return i, r.Scan(&i.ID, &i.FileName, &i.State, &i.MadeBy, &i.MadeAt, &i.FinishedAt, &i.Columns, &i.Header, &i.AddBodies, &i.FirstRow, &i.Mistake,
		&i.Added, &i.Changed, &i.Unchanged, &i.Refused, &i.Bodies, &i.Done, &i.Rows, &i.HasFile)
}

// RollImports are the rolls that were sent, the newest first.
func (s *Store) RollImports(ctx context.Context) ([]staff.RollImport, error) {
	rows, err := s.pool.Query(ctx, sqlRollImports+` ORDER BY import_id DESC LIMIT 50`)
	if err != nil {
		return nil, fmt.Errorf("list rolls: %w", err)
	}
	return pgx.CollectRows(rows, scanRollImport)
}

// RollImport is one, or ErrNotFound.
func (s *Store) RollImport(ctx context.Context, id int64) (staff.RollImport, error) {
	rows, err := s.pool.Query(ctx, sqlRollImports+` WHERE i.import_id = $1`, id)
	if err != nil {
		return staff.RollImport{}, fmt.Errorf("roll %d: %w", id, err)
	}
	i, err := pgx.CollectExactlyOneRow(rows, scanRollImport)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return i, fmt.Errorf("roll %d: %w", id, err)
	}
	return i, nil
}

// rollDetail is what roll_fate keeps of a row.
type rollDetail struct {
	Fields   []roll.Field   `json:"fields,omitempty"`
	Mistakes []roll.Mistake `json:"mistakes,omitempty"`
}

// RollFates are what became of rows, those that were refused first, then those above
// the heading; from is how many to pass over, and most how many to give.
func (s *Store) RollFates(ctx context.Context, id int64, fate roll.Fate, from, most int) ([]staff.RollFate, error) {
	rows, err := s.pool.Query(ctx, `SELECT row_no, fate, coalesce(rider_id::text, ''), detail FROM roll_fate WHERE import_id = $1 AND ($2 = '' OR fate = $2)
		ORDER BY fate <> 'refused', fate <> 'above', row_no OFFSET $3 LIMIT $4`, id, string(fate), from, most)
	if err != nil {
		return nil, fmt.Errorf("rows of roll %d: %w", id, err)
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (f staff.RollFate, err error) {
		var d rollDetail
		err = r.Scan(&f.Row, &f.Fate, &f.RiderID, &d)
		f.Fields, f.Mistakes = d.Fields, d.Mistakes
		return f, err
	})
}

// RunRoll takes a roll that somebody wants checked or imported and does it; false
// means there was none. read reads a file's rows. It is one transaction: when it
// ends early nothing has happened, and whoever calls next begins anew.
func (s *Store) RunRoll(ctx context.Context, read func([]byte) ([][]string, error)) (bool, error) {
	if s.o.Vault == nil {
		return false, nil
	}
	var id int64
	var fails error
	var state string
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		job, err := s.takeRoll(ctx, tx)
		if err != nil || job == nil {
			return err
		}
		id = job.id
		if err = job.open(s.o.Vault); err == nil {
			err = s.runRoll(staff.As(ctx, staff.Actor{Login: job.by}), tx, job, read)
		}
		if m := mistakeOfRoll(err); m != nil && ctx.Err() == nil {
			fails, state = m, job.state
			s.log.Warn("a roll could not be read or imported", "reason", string(m.Code), "err", err)
		}
		return err
	})
	if fails != nil {
		_, err = s.pool.Exec(ctx, `UPDATE roll_import SET state = 'failed', finished_at = now(), mistake = $2 WHERE import_id = $1 AND state = $3`, id, fails.Error(), state)
	}
	if err != nil {
		return false, fmt.Errorf("roll %d: %w", id, err)
	}
	return id != 0, nil
}

// mistakeOfRoll is what staff are told of an import that failed, nil when it is to be
// tried again. What the database refuses it would refuse again: the next roll must
// not wait.
func mistakeOfRoll(err error) *roll.FileMistake {
	var m *roll.FileMistake
	var refusal *staff.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &m):
		return m
	case errors.As(err, &refusal):
		return &roll.FileMistake{Code: roll.BooksChanged}
	case refused(err):
		return &roll.FileMistake{Code: roll.NotKept}
	}
	return nil
}

type rollJob struct {
	id        int64
	state, by string
	sealed    []byte
	file      []byte
	columns   roll.Columns
	addBodies bool
	firstRow  roll.FirstRow
}

func (s *Store) takeRoll(ctx context.Context, tx pgx.Tx) (*rollJob, error) {
	var j rollJob
	err := tx.QueryRow(ctx, `SELECT import_id, state, wanted_by, file_sealed, columns, add_bodies, first_row FROM roll_import WHERE state IN ('check', 'import')
		ORDER BY import_id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED`).Scan(&j.id, &j.state, &j.by, &j.sealed, &j.columns, &j.addBodies, &j.firstRow)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &j, nil
}

// open opens the file.
func (j *rollJob) open(v *phone.Vault) (err error) {
	if j.file, err = v.OpenFile(j.sealed); err != nil {
		return fmt.Errorf("%w: %w", &roll.FileMistake{Code: roll.KeyChanged}, err)
	}
	return nil
}

// readSheet finds the heading of a roll and what its columns hold, and reads its
// members. shown is the heading as it is kept, above are the rows that stand over it.
func (j *rollJob) readSheet(rows [][]string) (sheet roll.Sheet, columns roll.Columns, shown []string, above []int, mistake *roll.FileMistake) {
	if len(rows) == 0 {
		return sheet, roll.Columns{}, []string{}, nil, &roll.FileMistake{Code: roll.FileEmpty}
	}
	h := roll.FindHeader(rows)
	member := !h.Named && j.firstRow == roll.FirstRowMember
	shown = shownHeader(h.Cells, member || !h.Named && roll.HasDigit(h.Cells))
	columns = h.Columns
	if j.columns != nil {
		columns = j.columns
	}
	switch code := columns.Complete(); {
	case !h.Named && j.firstRow == roll.FirstRowUnsaid:
		mistake = &roll.FileMistake{Code: roll.NoHeading}
	case code != "":
		mistake = &roll.FileMistake{Code: code}
	}
	if mistake == nil {
		from := h.Below
		if member {
			from = h.First
		}
		sheet = roll.Read(rows, from, columns)
	}
	return sheet, columns, shown, h.Above(rows), mistake
}

func (s *Store) runRoll(ctx context.Context, tx pgx.Tx, j *rollJob, read func([]byte) ([][]string, error)) error {
	rows, err := read(j.file)
	if err != nil {
		if mistakeOfRoll(err) == nil {
			err = fmt.Errorf("%w: %w", &roll.FileMistake{Code: roll.FileUnknown}, err)
		}
		return err
	}
	s.rollProgress(ctx, j.id, 0, len(rows))
	sheet, columns, header, above, mistake := j.readSheet(rows)
	if mistake != nil {
		_, err = tx.Exec(ctx, `DELETE FROM roll_fate WHERE import_id = $1`, j.id)
		if err == nil {
			err = finishRoll(ctx, tx, j.id, staff.ImportFailed, columns, header, mistake.Error(), [4]int{}, 0)
		}
		return err
	}
	writes := j.state == staff.ImportImport
	if writes { // one at a time: two rolls may name the same rider
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('roll import'))`); err != nil {
			return err
		}
	}
	settled, was, tree, err := s.settleRoll(ctx, tx, sheet, j.addBodies)
	if err != nil {
		return err
	}
	s.rollProgress(ctx, j.id, len(rows)/2, len(rows))
	counts, err := s.writeFates(ctx, tx, j.id, above, sheet.Mistakes, settled)
	if err != nil {
		return err
	}
	if writes { // last: riders wait for whoever holds their rows
		became, err := addBodies(ctx, tx, tree.Added)
		if err == nil {
			err = s.holdRiders(ctx, tx, settled, was)
		}
		if err == nil {
			err = s.writeRoll(ctx, tx, settled, became)
		}
		if err != nil {
			return err
		}
	}
	state := staff.ImportChecked
	if writes {
		state = staff.ImportImported
		err = audit(ctx, tx, "roll.imported", fmt.Sprint(j.id), map[string]any{
			"added": counts[0], "changed": counts[1], "unchanged": counts[2], "refused": counts[3], "bodies": len(tree.Added),
		})
	}
	if err == nil {
		err = finishRoll(ctx, tx, j.id, state, columns, header, "", counts, len(tree.Added))
	}
	return err
}

// shownHeader is a header as it is kept for a person to say what the columns hold; of
// a member only what tells a name from a number.
func shownHeader(cells []string, member bool) []string {
	out := make([]string, len(cells))
	for i, c := range cells {
		if n, err := phone.Parse(c); err == nil {
			c = n.Mask()
		} else if r := []rune(c); member && len(r) > 1 {
			c = string(r[:1]) + strings.Repeat("*", min(len(r)-1, 7))
		}
		out[i] = clean(c)
	}
	return out
}

// settleRoll says what becomes of each member, and as what the riders were read.
func (s *Store) settleRoll(ctx context.Context, tx pgx.Tx, sheet roll.Sheet, addBodies bool) ([]roll.Settled, map[string]roll.Known, *roll.Tree, error) {
	all, err := bodies(ctx, tx)
	if err != nil {
		return nil, nil, nil, err
	}
	riders, err := s.knownRiders(ctx, tx, sheet.Members)
	if err != nil {
		return nil, nil, nil, err
	}
	was := map[string]roll.Known{}
	for _, k := range riders {
		was[k.RiderID] = *k
	}
	books := roll.NewBooks(roll.NewTree(all), riders, s.phoneHash)
	settled := books.Settle(sheet.Members, addBodies, func() string { return string(newID()) })
	return settled, was, &books.Tree, nil
}

// writeFates keeps what becomes of each row and counts it: added, changed,
// unchanged, refused. Rows above the heading are told, but are no members.
func (s *Store) writeFates(ctx context.Context, tx pgx.Tx, id int64, above []int, mistakes []roll.Mistake, settled []roll.Settled) (counts [4]int, err error) {
	var rows [][]any
	at := map[int]int{} // place of a refused row in rows: it may have several mistakes
	add := func(row int, fate roll.Fate, rider *string, d rollDetail) {
		rows = append(rows, []any{id, row, string(fate), rider, d})
		if n := slices.Index([]roll.Fate{roll.Added, roll.Changed, roll.Unchanged, roll.Refused}, fate); n >= 0 {
			counts[n]++
		}
	}
	for _, row := range above {
		add(row, roll.Above, nil, rollDetail{})
	}
	for _, m := range mistakes {
		i, there := at[m.Row]
		if !there {
			at[m.Row] = len(rows)
			add(m.Row, roll.Refused, nil, rollDetail{Mistakes: []roll.Mistake{m}})
			continue
		}
		d := rows[i][4].(rollDetail)
		d.Mistakes = append(d.Mistakes, m)
		rows[i][4] = d
	}
	for _, x := range settled {
		d := rollDetail{Fields: x.Fields, Mistakes: x.Mistakes}
		if x.Fate == roll.Added {
			d.Fields = nil // all of them
		}
		var rider *string
		if x.Rider != nil {
			rider = &x.Rider.RiderID
		}
		add(x.Row, x.Fate, rider, d)
	}
	if _, err := tx.Exec(ctx, `DELETE FROM roll_fate WHERE import_id = $1`, id); err != nil {
		return counts, err
	}
	if _, err := tx.Exec(ctx, `CREATE TEMPORARY TABLE fate_new (row_no integer, fate text, rider_id text, detail jsonb) ON COMMIT DROP`); err != nil {
		return counts, err
	}
	for i := range rows {
		rows[i] = rows[i][1:]
		if i%rollStep == 0 {
			s.rollProgress(ctx, id, (len(rows)+i)/2, len(rows))
		}
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"fate_new"}, []string{"row_no", "fate", "rider_id", "detail"}, pgx.CopyFromRows(rows)); err != nil {
		return counts, err
	}
	_, err = tx.Exec(ctx, `INSERT INTO roll_fate (import_id, row_no, fate, rider_id, detail) SELECT $1, row_no, fate, rider_id::uuid, detail FROM fate_new`, id)
	return counts, err
}

// finishRoll keeps the result. The file and its heading go with the import.
func finishRoll(ctx context.Context, tx pgx.Tx, id int64, state string, columns roll.Columns, header []string, mistake string, counts [4]int, bodies int) error {
	c, err := json.Marshal(columns)
	if err != nil {
		return err
	}
	if state == staff.ImportImported {
		header = []string{}
	}
	_, err = tx.Exec(ctx, `UPDATE roll_import SET state = $2, columns = $3, header = $4, mistake = NULLIF($5, ''), added = $6, changed = $7, unchanged = $8, refused = $9,
		bodies = $10, finished_at = now(), file_sealed = CASE WHEN $2 = 'imported' THEN NULL ELSE file_sealed END WHERE import_id = $1`,
		id, state, c, header, mistake, counts[0], counts[1], counts[2], counts[3], bodies)
	return err
}

// rollProgress says how far it is, beside the transaction that does the work. To
// fail at that is no reason to fail.
func (s *Store) rollProgress(ctx context.Context, id int64, done, rows int) {
	_, err := s.pool.Exec(ctx, `INSERT INTO roll_progress (import_id, done, rows) VALUES ($1, $2, $3)
		ON CONFLICT (import_id) DO UPDATE SET done = EXCLUDED.done, rows = EXCLUDED.rows`, id, done, rows)
	if err != nil {
		s.log.Debug("progress of a roll", "err", err)
	}
}

// ForgetRolls throws away files that nobody imported, with their headings, and reports
// of long ago.
func (s *Store) ForgetRolls(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `UPDATE roll_import SET file_sealed = NULL, header = '[]' WHERE file_sealed IS NOT NULL AND state IN ('checked', 'failed') AND finished_at < now() - $1::interval`, rollFileLife)
	if err == nil {
		_, err = s.pool.Exec(ctx, `DELETE FROM roll_import WHERE state IN ('checked', 'imported', 'failed') AND finished_at < now() - $1::interval`, rollKept)
	}
	if err != nil {
		return fmt.Errorf("forget rolls: %w", err)
	}
	return nil
}

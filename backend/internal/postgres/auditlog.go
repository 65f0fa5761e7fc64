package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
)

// appendAudit writes a line of the audit log in the transaction of the act.
const appendAudit = `SELECT audit_append($1, $2, $3, $4)`

// audit writes a line of the audit log: who acts is in ctx.
func audit(ctx context.Context, tx pgx.Tx, act, object string, detail map[string]any) error {
	args, err := auditArgs(ctx, act, object, detail)
	if err == nil {
		_, err = tx.Exec(ctx, appendAudit, args...)
	}
	return err
}

// queueAudit does the same in a batch.
func queueAudit(ctx context.Context, b *pgx.Batch, act, object string, detail map[string]any) error {
	args, err := auditArgs(ctx, act, object, detail)
	if err == nil {
		b.Queue(appendAudit, args...)
	}
	return err
}

func auditArgs(ctx context.Context, act, object string, detail map[string]any) ([]any, error) {
	if detail == nil {
		detail = map[string]any{}
	}
	d, err := json.Marshal(detail)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return []any{staff.Who(ctx).Login, act, object, d}, nil
}

// tx runs act in a transaction of its own.
func (s *Store) tx(ctx context.Context, act func(pgx.Tx) error) error {
	return rerun(ctx, func() error { return pgx.BeginFunc(ctx, s.pool, act) })
}

// acting runs an act of staff; what names it in an error.
func (s *Store) acting(ctx context.Context, what string, act func(pgx.Tx) error) error {
	if err := s.tx(ctx, act); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// AuditCheck is what reading the whole audit log found.
type AuditCheck struct {
	Lines int64
	Head  string // NO:HASH
	// Wrong is what was altered, nil if nothing.
	Wrong error
}

// VerifyAuditLog reads the audit log from its first line on. noted, unless
// empty, is a head that somebody wrote down before: it must still be there.
func (s *Store) VerifyAuditLog(ctx context.Context, noted string) (AuditCheck, error) {
	var check AuditCheck
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var head staff.Chain
		if err := tx.QueryRow(ctx, `SELECT no, hash FROM audit_head`).Scan(&head.No, &head.Hash); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT no, body, hash FROM audit_log ORDER BY no`)
		if err != nil {
			return err
		}
		defer rows.Close()
		var c staff.Chain
		found := noted == ""
		for rows.Next() {
			var l staff.Link
			if err := rows.Scan(&l.No, &l.Body, &l.Hash); err != nil {
				return err
			}
			if _, err := c.Add(l); err != nil {
				check.Wrong = err
				break
			}
			found = found || c.Head() == noted
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return err
		}
		check.Lines, check.Head = c.No, c.Head()
		switch {
		case check.Wrong != nil:
		case c.Head() != head.Head():
			check.Wrong = fmt.Errorf("the log ends at %s, its head says %s: lines at the end are missing", c.Head(), head.Head())
		case !found:
			check.Wrong = fmt.Errorf("the head %.90q is not in the log: what was written before it has been changed", noted)
		}
		return nil
	})
	if err != nil {
		return check, fmt.Errorf("read the audit log: %w", err)
	}
	return check, nil
}

// AuditHead is the end of the audit log, as NO:HASH.
func (s *Store) AuditHead(ctx context.Context) (string, error) {
	var c staff.Chain
	if err := s.pool.QueryRow(ctx, `SELECT no, hash FROM audit_head`).Scan(&c.No, &c.Hash); err != nil {
		return "", fmt.Errorf("read the audit log's head: %w", err)
	}
	return c.Head(), nil
}

// AuditLines are lines of the audit log, the newest first, below a number (0:
// all), about an object or by an actor ("": any).
func (s *Store) AuditLines(ctx context.Context, about string, below int64, limit int) ([]staff.Line, error) {
	sql, args := `SELECT body FROM audit_log WHERE no < $1`, []any{below}
	if below <= 0 {
		args[0] = int64(maxSeq)
	}
	if about != "" {
		sql += ` AND (body::jsonb ->> 'object' = $3 OR body::jsonb ->> 'actor' = $3)`
		args = append(args, limit, about)
	} else {
		args = append(args, limit)
	}
	rows, err := s.pool.Query(ctx, sql+` ORDER BY no DESC LIMIT least($2, 200)`, args...)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (l staff.Line, err error) {
		var body string
		if err = r.Scan(&body); err == nil {
			err = json.Unmarshal([]byte(body), &l)
		}
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return out, nil
}

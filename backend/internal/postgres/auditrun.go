package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
)

// AuditLock is the advisory lock of the replica that audits.
const AuditLock = 0x5357_4155 // "SWAU"

// AuditRest is how long after an audit began staff can ask for the next one: it
// reads all books, and nobody needs it more often.
const AuditRest = 10 * time.Minute

// AuditRun is an audit that was made.
type AuditRun struct {
	BeganAt     time.Time // by the database's clock
	Took        time.Duration
	Swaps       int64 // counted takes; 0 in those of before they were counted
	Entries     int64
	Records     int64
	Differences int64
}

// StoreAudit keeps the result of an audit, for metrics of every replica. Who asked
// before it began has got it.
func (s *Store) StoreAudit(ctx context.Context, r Report) error {
	err := s.tx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO audit_run (began_at, took_ms, entries, records, differences, swaps) VALUES ($1, $2, $3, $4, $5, $6)`,
			r.BeganAt, r.TookMS, r.Entries, r.Records, len(r.Differences), r.Swaps)
		if err == nil && r.wanted != nil {
			_, err = tx.Exec(ctx, `UPDATE fleet SET audit_wanted_at = NULL WHERE audit_wanted_at = $1`, *r.wanted)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("store the audit: %w", err)
	}
	return nil
}

// LastAudit is the newest audit that was stored; ErrNotFound when there is none. One
// that began in the future, as a clock that was off said, is none.
func (s *Store) LastAudit(ctx context.Context) (AuditRun, error) {
	var r AuditRun
	var ms int64
	err := s.pool.QueryRow(ctx, `SELECT began_at, took_ms, entries, records, differences, coalesce(swaps, 0) FROM audit_run WHERE began_at <= clock_timestamp()
		ORDER BY began_at DESC, audit_id DESC LIMIT 1`).Scan(&r.BeganAt, &ms, &r.Entries, &r.Records, &r.Differences, &r.Swaps)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, ErrNotFound
	}
	if err != nil {
		return r, fmt.Errorf("read the last audit: %w", err)
	}
	r.Took = time.Duration(ms) * time.Millisecond
	return r, nil
}

// AuditIfDue audits and stores the result when staff ask for it, or none has begun
// since the last moment at which one was due; unless another replica is at it. It
// reports whether it did. last says of a time, the database's, when that moment was.
// It closes the months that are due, too. Where all that it finds is takes that were
// not counted, it counts them and audits once more.
func (s *Store) AuditIfDue(ctx context.Context, last func(now time.Time) time.Time) (rep Report, did bool, err error) {
	if is, err := s.auditDue(ctx, last); err != nil || !is {
		return rep, false, err
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return rep, false, fmt.Errorf("audit lock: %w", err)
	}
	var got bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(AuditLock)).Scan(&got); err != nil || !got {
		conn.Release()
		if err != nil {
			return rep, false, fmt.Errorf("audit lock: %w", err)
		}
		return rep, false, nil
	}
	defer unlock(conn)
	if is, err := s.auditDue(ctx, last); err != nil || !is { // somebody did it meanwhile
		return rep, false, err
	}
	if err := s.CloseMonths(ctx); err != nil { // the first question closes them, too
		s.log.Error("months are not closed", "event", "close_months", "err", err)
	}
	if rep, err = s.Audit(ctx); err == nil && onlyMissed(rep.Differences) {
		missed, counted := s.CountMissed(ctx)
		s.log.Warn("takes were in the ledger and in no figure", "event", "missed_counted", "takes", missed, "err", counted)
		if missed > 0 {
			rep, err = s.Audit(ctx)
		}
	}
	if err != nil {
		return rep, false, err
	}
	return rep, true, s.StoreAudit(ctx, rep)
}

// auditDue reports whether an audit is to be made now.
func (s *Store) auditDue(ctx context.Context, last func(now time.Time) time.Time) (bool, error) {
	var now time.Time
	var wanted bool
	if err := s.pool.QueryRow(ctx, `SELECT clock_timestamp(), audit_wanted_at IS NOT NULL FROM fleet`).Scan(&now, &wanted); err != nil {
		return false, fmt.Errorf("is an audit due: %w", err)
	}
	run, err := s.LastAudit(ctx)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	return wanted || run.BeganAt.Before(last(now)), err
}

// unlock gives the lock up; if the database does not answer, with its connection.
func unlock(conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, int64(AuditLock)); err != nil {
		hangUp(conn.Hijack())
		return
	}
	conn.Release()
}

// Audited is the last audit, and whether another one was asked for since.
func (s *Store) Audited(ctx context.Context) (statistics.Audit, error) {
	var out statistics.Audit
	last, err := s.LastAudit(ctx)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return out, err
	}
	if err == nil {
		out = statistics.Audit{BeganAt: last.BeganAt, Took: last.Took, Swaps: last.Swaps, Entries: last.Entries, Records: last.Records, Differences: last.Differences}
	}
	var wanted *time.Time
	if err := s.pool.QueryRow(ctx, `SELECT audit_wanted_at FROM fleet`).Scan(&wanted); err != nil {
		return out, fmt.Errorf("audit: %w", err)
	}
	if wanted != nil {
		out.WantedAt = *wanted
	}
	return out, nil
}

// sqlAuditing is when an audit began that runs now: the connection that has the lock
// has done nothing since.
const sqlAuditing = `SELECT coalesce(max(a.query_start), clock_timestamp()) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = $1 AND l.objsubid = 1
		AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) HAVING count(*) > 0`

// AskAudit asks for an audit: a replica makes one soon. While one is wanted or runs,
// and for AuditRest after the last one began, it is refused.
func (s *Store) AskAudit(ctx context.Context) error {
	return s.acting(ctx, "ask for an audit", func(tx pgx.Tx) error {
		var wanted, runs, last *time.Time
		var now time.Time
		if err := tx.QueryRow(ctx, `SELECT audit_wanted_at FROM fleet FOR UPDATE`).Scan(&wanted); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `SELECT clock_timestamp(), (`+sqlAuditing+`), (SELECT max(began_at) FROM audit_run WHERE began_at <= clock_timestamp())`,
			int64(AuditLock)).Scan(&now, &runs, &last)
		if err != nil {
			return err
		}
		next := now
		for _, began := range []*time.Time{wanted, runs, last} {
			if began != nil && began.Add(AuditRest).After(next) {
				next = began.Add(AuditRest)
			}
		}
		if wanted != nil || runs != nil { // it may take longer than the rest
			next = later(next, now.Add(time.Minute))
		}
		if next.After(now) {
			return &staff.Refusal{Code: staff.TooSoon, Next: next}
		}
		if _, err := tx.Exec(ctx, `UPDATE fleet SET audit_wanted_at = clock_timestamp()`); err != nil {
			return err
		}
		return audit(ctx, tx, "audit.ask", "books", nil)
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
)

// AddAccount adds a staff account.
func (s *Store) AddAccount(ctx context.Context, n staff.NewAccount) error {
	if err := staff.CheckLogin(n.Login); err != nil {
		return err
	}
	if n.Name == "" || clean(n.Name) != n.Name {
		return staff.Mistakef("name: want 1 to %d bytes of text", maxText)
	}
	secret, err := s.o.Seal.Close(n.Login, n.Secret)
	if err != nil {
		return err
	}
	return s.acting(ctx, "add account", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO staff_account (login, name, roles, password_hash, secret) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
			n.Login, n.Name, strs(n.Roles...), n.PasswordHash, secret)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("login %q: %w", n.Login, staff.ErrExists)
		}
		if _, err := tx.Exec(ctx, `INSERT INTO staff_recovery (code_hash, login) SELECT unnest($2::bytea[]), $1`, n.Login, n.Recovery); err != nil {
			return err
		}
		return audit(ctx, tx, "account.add", n.Login, map[string]any{"name": n.Name, "roles": n.Roles})
	})
}

// ResetAccount gives an account a new password, app secret and recovery codes,
// opens it if it was disabled, and ends its sessions.
func (s *Store) ResetAccount(ctx context.Context, login string, c staff.Credentials) error {
	secret, err := s.o.Seal.Close(login, c.Secret)
	if err != nil {
		return err
	}
	return s.acting(ctx, "reset account", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE staff_account SET password_hash = $2, secret = $3, disabled_at = NULL WHERE login = $1`, login, c.PasswordHash, secret)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("login %.40q: %w", login, ErrNotFound)
		}
		if err := setRecovery(ctx, tx, login, c.Recovery); err != nil {
			return err
		}
		if err := endSessions(ctx, tx, login); err != nil {
			return err
		}
		return audit(ctx, tx, "account.reset", login, nil)
	})
}

func endSessions(ctx context.Context, tx pgx.Tx, login string) error {
	_, err := tx.Exec(ctx, `UPDATE staff_session SET ended_at = now() WHERE login = $1 AND ended_at IS NULL`, login)
	return err
}

// SetAccount changes an account's roles, or disables it with none. Its sessions
// end: what they may do has changed.
func (s *Store) SetAccount(ctx context.Context, login string, roles []staff.Role) error {
	return s.acting(ctx, "set account", func(tx pgx.Tx) error {
		// All admins are locked: two who take the role from each other wait.
		rows, err := tx.Query(ctx, `SELECT login FROM staff_account WHERE 'admin' = ANY(roles) AND disabled_at IS NULL ORDER BY login FOR UPDATE`)
		if err != nil {
			return err
		}
		admins, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if !slices.Contains(roles, staff.Admin) && len(admins) == 1 && admins[0] == login {
			return &staff.Refusal{Code: staff.LastAdmin, Detail: "the last account with the role admin: want another one first"}
		}
		sql, args, act := `UPDATE staff_account SET roles = $2, disabled_at = NULL WHERE login = $1`, []any{login, strs(roles...)}, "account.roles"
		if len(roles) == 0 {
			sql, args, act = `UPDATE staff_account SET disabled_at = coalesce(disabled_at, now()) WHERE login = $1`, args[:1], "account.disable"
		}
		tag, err := tx.Exec(ctx, sql, args...)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("login %.40q: %w", login, ErrNotFound)
		}
		if err := endSessions(ctx, tx, login); err != nil {
			return err
		}
		return audit(ctx, tx, act, login, map[string]any{"roles": roles})
	})
}

// Account is a staff account as others see it.
type Account = staff.Account

// Accounts lists all staff accounts.
func (s *Store) Accounts(ctx context.Context) ([]Account, error) {
	rows, err := s.pool.Query(ctx, `SELECT a.login, a.name, a.roles, a.added_at, a.disabled_at IS NOT NULL,
		(SELECT max(seen_at) FROM staff_session x WHERE x.login = a.login),
		(SELECT count(*) FROM staff_session x WHERE x.login = a.login AND ended_at IS NULL AND seen_at > now() - $1::interval
			AND created_at > now() - $2::interval),
		(SELECT count(*) FROM staff_recovery x WHERE x.login = a.login AND used_at IS NULL)
		FROM staff_account a ORDER BY a.login`, staff.Idle, staff.SessionLife)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (a Account, err error) {
		err = r.Scan(&a.Login, &a.Name, &a.Roles, &a.AddedAt, &a.Disabled, &a.SeenAt, &a.Sessions, &a.RecoveryCodes)
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return out, nil
}

// SealSecrets closes the secrets that were kept open before there was a seal. It
// says how many.
func (s *Store) SealSecrets(ctx context.Context) (int, error) {
	n := 0
	err := s.tx(ctx, func(tx pgx.Tx) error {
		n = 0
		rows, err := tx.Query(ctx, `SELECT login, secret FROM staff_account WHERE NOT starts_with(secret, $1) ORDER BY login FOR UPDATE`, staff.SealMark)
		if err != nil {
			return err
		}
		type kept struct{ login, secret string }
		all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (k kept, err error) { return k, r.Scan(&k.login, &k.secret) })
		if err != nil {
			return err
		}
		for _, a := range all {
			secret, err := s.o.Seal.Close(a.login, a.secret)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `UPDATE staff_account SET secret = $2 WHERE login = $1`, a.login, secret); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("seal secrets: %w", err)
	}
	return n, nil
}

// BeginTry counts a try and gives what to check it with, or staff.ErrTooManyTries. The
// secrets of an account that does not exist fit nothing.
func (s *Store) BeginTry(ctx context.Context, login, address string) (staff.Try, error) {
	login, address = clip(login), clip(address)
	t := staff.Try{Secrets: staff.Secrets{Login: login}}
	err := s.tx(ctx, func(tx pgx.Tx) error {
		if err := lockWords(ctx, tx, "login "+login, "address "+address); err != nil {
			return err
		}
		var many bool
		err := tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM staff_try WHERE login = $1 AND address = $2 AND NOT correct AND at > clock_timestamp() - $3::interval) >= $4
			OR (SELECT count(*) FROM staff_try WHERE login = $1 AND NOT correct AND at > clock_timestamp() - $3::interval) >= $5
			OR (SELECT count(*) FROM staff_try WHERE address = $2 AND NOT correct AND at > clock_timestamp() - $3::interval) >= $6`,
			login, address, staff.Window, staff.TriesOfPair, staff.TriesOfLogin, staff.TriesOfAddress).Scan(&many)
		if err != nil {
			return err
		}
		if many {
			return staff.ErrTooManyTries
		}
		if err := tx.QueryRow(ctx, `INSERT INTO staff_try (login, address) VALUES ($1, $2) RETURNING try_id`, login, address).Scan(&t.ID); err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `SELECT password_hash, secret, step FROM staff_account WHERE login = $1 AND disabled_at IS NULL`, login).
			Scan(&t.Secrets.PasswordHash, &t.Secrets.Secret, &t.Secrets.Step)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil {
			t.Secrets.Secret, err = s.o.Seal.Open(login, t.Secrets.Secret)
		}
		return err
	})
	if err != nil {
		return staff.Try{}, fmt.Errorf("sign in: %w", err)
	}
	return t, nil
}

// clip bounds what somebody who has not signed in makes the database keep.
func clip(s string) string {
	return clean(s[:min(len(s), 64)])
}

// consume uses a proof up: of two who show the same, one has it.
func consume(ctx context.Context, tx pgx.Tx, t staff.Try, p staff.Proof) error {
	sql, args := `UPDATE staff_account SET step = $2 WHERE login = $1 AND step < $2 AND disabled_at IS NULL`, []any{t.Secrets.Login, p.Step}
	if p.Recovery != nil {
		sql, args = `UPDATE staff_recovery SET used_at = now() WHERE login = $1 AND code_hash = $2 AND used_at IS NULL`, []any{t.Secrets.Login, p.Recovery}
	}
	tag, err := tx.Exec(ctx, sql, args...)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return staff.ErrWrong
	}
	_, err = tx.Exec(ctx, `UPDATE staff_try SET correct = true WHERE try_id = $1`, t.ID)
	return err
}

// OpenSession uses the proof up and opens a session. staff.ErrWrong: somebody
// used the code before.
func (s *Store) OpenSession(ctx context.Context, t staff.Try, p staff.Proof, tokenHash []byte, address string) error {
	err := s.tx(ctx, func(tx pgx.Tx) error {
		if err := consume(ctx, tx, t, p); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO staff_session (token_hash, login, address) VALUES ($1, $2, $3)`, tokenHash, t.Secrets.Login, clip(address)); err != nil {
			return err
		}
		ctx := staff.As(ctx, staff.Actor{Login: t.Secrets.Login})
		return audit(ctx, tx, "sign_in", t.Secrets.Login, map[string]any{"address": clip(address), "recovery_code": p.Recovery != nil})
	})
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	return nil
}

// ConfirmSession uses the proof up and makes the session fresh.
func (s *Store) ConfirmSession(ctx context.Context, t staff.Try, p staff.Proof, tokenHash []byte) error {
	err := s.tx(ctx, func(tx pgx.Tx) error {
		if err := consume(ctx, tx, t, p); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE staff_session SET confirmed_at = now() WHERE token_hash = $1 AND login = $2 AND ended_at IS NULL`, tokenHash, t.Secrets.Login)
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("confirm: %w", err)
	}
	return nil
}

// seenEvery spares a write for each click.
const seenEvery = time.Minute

// StaffSession is the open session of a token, or ErrNotFound. touch says that a
// person used it: it is not idle then.
func (s *Store) StaffSession(ctx context.Context, tokenHash []byte, touch bool) (staff.Session, error) {
	var v staff.Session
	var old bool
	err := s.pool.QueryRow(ctx, `SELECT a.login, a.name, a.roles, x.confirmed_at, x.seen_at < now() - $4::interval
		FROM staff_session x JOIN staff_account a USING (login)
		WHERE x.token_hash = $1 AND x.ended_at IS NULL AND a.disabled_at IS NULL
			AND x.seen_at > now() - $2::interval AND x.created_at > now() - $3::interval`,
		tokenHash, staff.Idle, staff.SessionLife, seenEvery).Scan(&v.Login, &v.Name, &v.Roles, &v.ConfirmedAt, &old)
	if errors.Is(err, pgx.ErrNoRows) {
		return v, ErrNotFound
	}
	if err == nil && touch && old {
		_, err = s.pool.Exec(ctx, `UPDATE staff_session SET seen_at = now() WHERE token_hash = $1 AND ended_at IS NULL`, tokenHash)
	}
	if err != nil {
		return v, fmt.Errorf("read session: %w", err)
	}
	return v, nil
}

// sessionID names a session on its own account's page: the hash of its token, cut.
const sessionID = `left(encode(token_hash, 'hex'), 16)`

// OwnAccount gives the open sessions of an account, the one that asks first, and
// how many recovery codes are left.
func (s *Store) OwnAccount(ctx context.Context, login string, tokenHash []byte) ([]staff.OpenSession, int, error) {
	var left int
	err := s.pool.QueryRow(ctx, `SELECT count(*) FROM staff_recovery WHERE login = $1 AND used_at IS NULL`, login).Scan(&left)
	if err != nil {
		return nil, 0, fmt.Errorf("read own account: %w", err)
	}
	rows, err := s.pool.Query(ctx, `SELECT `+sessionID+`, address, created_at, seen_at, token_hash = $2 AS here FROM staff_session
		WHERE login = $1 AND ended_at IS NULL AND seen_at > now() - $3::interval AND created_at > now() - $4::interval
		ORDER BY here DESC, created_at DESC`, login, tokenHash, staff.Idle, staff.SessionLife)
	if err != nil {
		return nil, 0, fmt.Errorf("read own account: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (x staff.OpenSession, err error) {
		return x, r.Scan(&x.ID, &x.Address, &x.OpenedAt, &x.SeenAt, &x.Here)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read own account: %w", err)
	}
	return out, left, nil
}

// SetPassword gives the account of a try that was right a new password, and ends
// its sessions but the one that asks.
func (s *Store) SetPassword(ctx context.Context, t staff.Try, passwordHash string, tokenHash []byte) error {
	login := t.Secrets.Login
	return s.acting(ctx, "set password", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE staff_account SET password_hash = $2 WHERE login = $1 AND password_hash = $3 AND disabled_at IS NULL`,
			login, passwordHash, t.Secrets.PasswordHash)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return staff.ErrWrong // somebody changed it meanwhile
		}
		if _, err := tx.Exec(ctx, `UPDATE staff_try SET correct = true WHERE try_id = $1`, t.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE staff_session SET ended_at = now() WHERE login = $1 AND ended_at IS NULL AND token_hash <> $2`, login, tokenHash); err != nil {
			return err
		}
		return audit(ctx, tx, "account.password", login, nil)
	})
}

// SetRecovery gives an account new recovery codes: the old ones work no more.
func (s *Store) SetRecovery(ctx context.Context, login string, hashes [][]byte) error {
	return s.acting(ctx, "set recovery codes", func(tx pgx.Tx) error {
		if err := setRecovery(ctx, tx, login, hashes); err != nil {
			return err
		}
		return audit(ctx, tx, "account.recovery_codes", login, map[string]any{"codes": len(hashes)})
	})
}

func setRecovery(ctx context.Context, tx pgx.Tx, login string, hashes [][]byte) error {
	if _, err := tx.Exec(ctx, `UPDATE staff_recovery SET used_at = now() WHERE login = $1 AND used_at IS NULL`, login); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO staff_recovery (code_hash, login) SELECT unnest($2::bytea[]), $1`, login, hashes)
	return err
}

// EndOwnSession signs one of an account's own sessions out.
func (s *Store) EndOwnSession(ctx context.Context, login, id string) error {
	return s.acting(ctx, "end session", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE staff_session SET ended_at = now() WHERE login = $1 AND ended_at IS NULL AND `+sessionID+` = $2`, login, clip(id))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		return audit(ctx, tx, "account.end_session", login, nil)
	})
}

// EndSession signs one session out; EndSessions all of an account.
func (s *Store) EndSession(ctx context.Context, tokenHash []byte) error {
	if _, err := s.pool.Exec(ctx, `UPDATE staff_session SET ended_at = now() WHERE token_hash = $1 AND ended_at IS NULL`, tokenHash); err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return nil
}

// EndSessions signs an account out everywhere.
func (s *Store) EndSessions(ctx context.Context, login string) error {
	return s.acting(ctx, "end sessions", func(tx pgx.Tx) error {
		var known bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM staff_account WHERE login = $1)`, login).Scan(&known); err != nil {
			return err
		}
		if !known {
			return fmt.Errorf("login %.40q: %w", login, ErrNotFound)
		}
		if err := endSessions(ctx, tx, login); err != nil {
			return err
		}
		return audit(ctx, tx, "account.sign_out", login, nil)
	})
}

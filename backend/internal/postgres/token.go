package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
)

// AddToken lets a machine use the API until expires.
func (s *Store) AddToken(ctx context.Context, name string, roles []staff.Role, tokenHash []byte, expires time.Time) error {
	if err := staff.CheckLogin(name); err != nil {
		return fmt.Errorf("token's name: %w", err)
	}
	return s.acting(ctx, "add token", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO staff_token (name, roles, token_hash, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING`,
			name, strs(roles...), tokenHash, expires)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("token %q: %w", name, staff.ErrExists)
		}
		return audit(ctx, tx, "token.add", "token:"+name, map[string]any{"roles": roles, "expires_at": expires.UTC()})
	})
}

// RevokeToken ends a machine's token.
func (s *Store) RevokeToken(ctx context.Context, name string) error {
	return s.acting(ctx, "revoke token", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE staff_token SET revoked_at = now() WHERE name = $1 AND revoked_at IS NULL`, name)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("token %.40q: %w", name, ErrNotFound)
		}
		return audit(ctx, tx, "token.revoke", "token:"+name, nil)
	})
}

// Tokens lists the machines' tokens.
func (s *Store) Tokens(ctx context.Context) ([]staff.Token, error) {
	rows, err := s.pool.Query(ctx, `SELECT name, roles, added_at, expires_at, revoked_at IS NOT NULL OR expires_at < now() FROM staff_token ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (t staff.Token, err error) {
		err = r.Scan(&t.Name, &t.Roles, &t.AddedAt, &t.ExpiresAt, &t.Ended)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return out, nil
}

// TokenActor is the machine that a token speaks for, or ErrNotFound.
func (s *Store) TokenActor(ctx context.Context, tokenHash []byte) (staff.Actor, error) {
	var a staff.Actor
	err := s.pool.QueryRow(ctx, `SELECT 'token:' || name, roles FROM staff_token WHERE token_hash = $1 AND revoked_at IS NULL AND expires_at > now()`,
		tokenHash).Scan(&a.Login, &a.Roles)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, ErrNotFound
	}
	if err != nil {
		return a, fmt.Errorf("read token: %w", err)
	}
	return a, nil
}

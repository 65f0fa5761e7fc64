package postgres

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// CreateSession lets whoever shows the token speak for a rider until expires.
// Only the token's hash is kept.
func (s *Store) CreateSession(ctx context.Context, rider swap.RiderID, tokenHash []byte, expires time.Time) error {
	if !isUUID(string(rider)) {
		return ErrNotFound
	}
	tag, err := s.pool.Exec(ctx, `INSERT INTO session (token_hash, rider_id, expires_at)
		SELECT $1, rider_id, $3 FROM rider WHERE rider_id = $2 AND active`, tokenHash, string(rider), expires)
	if err != nil {
		return fmt.Errorf("create session: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNotFound
	}
	return nil
}

// SessionRider is the rider that a token speaks for, or ErrNotFound.
func (s *Store) SessionRider(ctx context.Context, tokenHash []byte) (swap.RiderID, error) {
	var id swap.RiderID
	err := s.pool.QueryRow(ctx, `SELECT rider_id::text FROM session WHERE token_hash = $1 AND expires_at > now()`, tokenHash).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("read session: %w", err)
	}
	return id, nil
}

// EndRiderSession makes a token speak for nobody. One that did not is no error.
func (s *Store) EndRiderSession(ctx context.Context, tokenHash []byte) error {
	if _, err := s.pool.Exec(ctx, `DELETE FROM session WHERE token_hash = $1`, tokenHash); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// DeviceKey is a key that speaks for a cabinet.
type DeviceKey struct {
	KeyID     string
	PublicKey ed25519.PublicKey
}

// DeviceKeys are the keys that speak for cabinets now. Notifications tells when
// they change.
func (s *Store) DeviceKeys(ctx context.Context) (map[protocol.CabinetID][]DeviceKey, error) {
	rows, err := s.pool.Query(ctx, `SELECT cabinet_id, kid, public_key FROM cabinet_key WHERE revoked_at IS NULL`)
	if err != nil {
		return nil, fmt.Errorf("read device keys: %w", err)
	}
	out := map[protocol.CabinetID][]DeviceKey{}
	var id protocol.CabinetID
	var kid string
	var key []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &kid, &key}, func() error {
		out[id] = append(out[id], DeviceKey{kid, ed25519.PublicKey(append([]byte(nil), key...))})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read device keys: %w", err)
	}
	return out, nil
}

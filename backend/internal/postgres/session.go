package postgres

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// CreateSession lets whoever shows the token speak for a rider, without a proof: for
// development only. ErrNotFound: there is no such rider.
func (s *Store) CreateSession(ctx context.Context, rider swap.RiderID, n binding.Session) error {
	if !isUUID(string(rider)) {
		return ErrNotFound
	}
	err := s.tx(ctx, func(tx pgx.Tx) error {
		var known bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM rider WHERE rider_id = $1 AND forgotten_at IS NULL)`, string(rider)).Scan(&known)
		if err == nil && !known {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		return addSession(ctx, tx, rider, n)
	})
	if err != nil {
		return fmt.Errorf("create session: %w", err)
	}
	return nil
}

// addSession opens a session, and ends the one that was used longest ago where a
// rider has too many. Only the token's hash is kept. A form of the browser's history
// makes the session of before again.
func addSession(ctx context.Context, tx pgx.Tx, rider swap.RiderID, n binding.Session) error {
	tag, err := tx.Exec(ctx, `INSERT INTO session (token_hash, rider_id, expires_at, app, system) VALUES ($1, $2, now() + $3::interval, $4, $5)
		ON CONFLICT (token_hash) DO UPDATE SET expires_at = excluded.expires_at, created_at = now(), seen_at = now(),
			app = excluded.app, system = excluded.system WHERE session.rider_id = excluded.rider_id`,
		n.TokenHash, string(rider), binding.SessionLife, n.Browser.App, n.Browser.System)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 { // whoever has the token speaks for somebody else
		return binding.ErrWrong
	}
	_, err = tx.Exec(ctx, `DELETE FROM session WHERE token_hash IN (SELECT token_hash FROM session
		WHERE rider_id = $1 AND token_hash <> $2 ORDER BY seen_at DESC, created_at DESC OFFSET $3 - 1)`, string(rider), n.TokenHash, binding.MaxDevices)
	if err != nil || n.Privacy == "" {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO privacy_acceptance (rider_id, version) VALUES ($1, $2)`, string(rider), n.Privacy)
	return err
}

// SessionRider is the rider that a token speaks for, or ErrNotFound.
func (s *Store) SessionRider(ctx context.Context, tokenHash []byte) (swap.RiderID, error) {
	var id swap.RiderID
	var old bool
	err := s.pool.QueryRow(ctx, `SELECT s.rider_id::text, s.seen_at < now() - $2::interval FROM session s JOIN rider r USING (rider_id)
		WHERE s.token_hash = $1 AND s.expires_at > now() AND r.forgotten_at IS NULL`, tokenHash, binding.SeenEvery).Scan(&id, &old)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", ErrNotFound
	}
	if err == nil && old {
		_, err = s.pool.Exec(ctx, `UPDATE session SET seen_at = now() WHERE token_hash = $1`, tokenHash)
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

// Devices are what speaks for a rider; the one whose token it is comes first.
func (s *Store) Devices(ctx context.Context, rider swap.RiderID, tokenHash []byte) ([]binding.Device, error) {
	if !isUUID(string(rider)) {
		return nil, ErrNotFound
	}
	rows, err := s.pool.Query(ctx, `SELECT `+sessionID+`, app, system, created_at, seen_at, token_hash = $2 AS here FROM session
		WHERE rider_id = $1 AND expires_at > now() ORDER BY here DESC, seen_at DESC, created_at DESC`, string(rider), tokenHash)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (d binding.Device, err error) {
		return d, r.Scan(&d.ID, &d.Browser.App, &d.Browser.System, &d.FirstSeen, &d.LastSeen, &d.Here)
	})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return out, nil
}

// EndDevice ends one of a rider's own devices, or ErrNotFound.
func (s *Store) EndDevice(ctx context.Context, rider swap.RiderID, id string) error {
	if !isUUID(string(rider)) {
		return ErrNotFound
	}
	tag, err := s.pool.Exec(ctx, `DELETE FROM session WHERE rider_id = $1 AND `+sessionID+` = $2`, string(rider), clip(id))
	if err != nil {
		return fmt.Errorf("end device: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNotFound
	}
	return nil
}

// EndOtherDevices ends all of a rider's devices but the one whose token it is.
func (s *Store) EndOtherDevices(ctx context.Context, rider swap.RiderID, tokenHash []byte) error {
	if !isUUID(string(rider)) {
		return ErrNotFound
	}
	if _, err := s.pool.Exec(ctx, `DELETE FROM session WHERE rider_id = $1 AND token_hash <> $2`, string(rider), tokenHash); err != nil {
		return fmt.Errorf("end devices: %w", err)
	}
	return nil
}

// EndDevices is staff's: all devices of a rider speak for nobody, and a code that
// is out binds none.
func (s *Store) EndDevices(ctx context.Context, rider swap.RiderID) error {
	if !isUUID(string(rider)) {
		return fmt.Errorf("rider: %w", ErrNotFound)
	}
	return s.acting(ctx, "end devices", func(tx pgx.Tx) error {
		var known bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM rider WHERE rider_id = $1)`, string(rider)).Scan(&known)
		if err == nil && !known {
			err = fmt.Errorf("rider %s: %w", rider, ErrNotFound)
		}
		if err != nil {
			return err
		}
		// Codes first: whoever is binding with one holds its row, and is waited for.
		for _, table := range []string{"binding_code", "phone_code"} {
			if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE rider_id = $1`, string(rider)); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, `DELETE FROM session WHERE rider_id = $1`, string(rider))
		if err != nil {
			return err
		}
		return audit(ctx, tx, "rider.end_devices", string(rider), map[string]any{"devices": tag.RowsAffected()})
	})
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

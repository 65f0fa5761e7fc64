package postgres

import (
	"context"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/binding"
	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/swap"
)

// lockWords makes whoever names one of the same words wait until the transaction
// ends, so that a hundred at once are not counted before the first is written.
func lockWords(ctx context.Context, tx pgx.Tx, words ...string) error {
	_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(k) FROM (SELECT hashtextextended(x, 5) AS k FROM unnest($1::text[]) x ORDER BY k) o`, words)
	return err
}

// For how long no further code is sent, in seconds: to this phone or from this
// address, and to all. A bound of n in a span is reached as long as the n-th last
// is not older than the span.
const sqlCodeWait = `SELECT
	coalesce(extract(epoch FROM greatest(
		(SELECT max(at) + @pause::interval FROM code_ask WHERE phone_hash = @phone),
		(SELECT at + interval '1 hour' FROM code_ask WHERE phone_hash = @phone ORDER BY at DESC OFFSET @per_hour - 1 LIMIT 1),
		(SELECT at + interval '1 day' FROM code_ask WHERE phone_hash = @phone ORDER BY at DESC OFFSET @per_day - 1 LIMIT 1),
		(SELECT at + interval '1 hour' FROM code_ask WHERE address = @address ORDER BY at DESC OFFSET @per_address - 1 LIMIT 1)
	) - clock_timestamp()), 0)::float8,
	coalesce(extract(epoch FROM
		(SELECT at + interval '1 hour' FROM code_ask WHERE sent ORDER BY at DESC OFFSET @of_all - 1 LIMIT 1) - clock_timestamp()), 0)::float8`

// A new code takes the place of the phone's old one.
const sqlNewCode = `WITH r AS (SELECT rider_id FROM rider WHERE phone_hash = @phone AND forgotten_at IS NULL),
	a AS (INSERT INTO code_ask (phone_hash, address, sent) SELECT @phone, @address, EXISTS (SELECT FROM r))
	INSERT INTO phone_code (phone_hash, message_id, rider_id, code_hash, code_sealed, language, expires_at, due_at)
	SELECT @phone, @message, (SELECT rider_id FROM r), @hash, CASE WHEN EXISTS (SELECT FROM r) THEN @sealed END, @language,
		clock_timestamp() + @life::interval, clock_timestamp()
	ON CONFLICT (phone_hash) DO UPDATE SET message_id = excluded.message_id, rider_id = excluded.rider_id, code_hash = excluded.code_hash,
		code_sealed = excluded.code_sealed, language = excluded.language, expires_at = excluded.expires_at, due_at = excluded.due_at,
		tries = 0, used_at = NULL, used_by = NULL, sends = 0`

// SendCode makes a code for a phone. If the phone is a rider's, ClaimMessages gives
// it; whoever asks is not told. *binding.TooMany: a bound is reached.
func (s *Store) SendCode(ctx context.Context, n phone.Number, address, language string) error {
	if s.o.Vault == nil {
		return errNoVault
	}
	address = clip(address)
	hash, code, message := s.o.Vault.Hash(n), binding.NewCode(binding.CodeDigits), string(newID())
	err := s.tx(ctx, func(tx pgx.Tx) error {
		if err := lockWords(ctx, tx, "code "+hex.EncodeToString(hash), "code from "+address); err != nil {
			return err
		}
		var wait, all float64
		err := tx.QueryRow(ctx, sqlCodeWait, pgx.NamedArgs{
			"phone": hash, "address": address, "pause": binding.CodePause, "per_hour": binding.CodesPerHour, "per_day": binding.CodesPerDay,
			"per_address": binding.CodesPerAddress, "of_all": s.o.messagesPerHour(),
		}).Scan(&wait, &all)
		switch {
		case err != nil:
			return err
		case wait > 0 || all > 0:
			return &binding.TooMany{Wait: seconds(max(wait, all)), All: wait <= 0}
		}
		_, err = tx.Exec(ctx, sqlNewCode, pgx.NamedArgs{
			"phone": hash, "address": address, "message": message, "hash": s.o.Vault.HashCode(hex.EncodeToString(hash), code),
			"sealed": s.o.Vault.CloseCode(message, code), "language": language, "life": binding.CodeLife,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("send a code: %w", err)
	}
	return nil
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// Bind lets the session of a phone speak for the rider whose proof it shows. A code
// is used up by that; the same proof for the same session is taken again while the
// code would hold, for whoever did not hear the answer. binding.ErrWrong: it
// proves nothing. *binding.TooMany: too many wrong ones came from there.
func (s *Store) Bind(ctx context.Context, p binding.Proof, n binding.Session) (swap.RiderID, error) {
	if s.o.Vault == nil {
		return "", errNoVault
	}
	p.Address, p.MembershipNo = clip(p.Address), clip(p.MembershipNo)
	var rider swap.RiderID
	err := s.tx(ctx, func(tx pgx.Tx) error {
		rider = ""
		if err := lockWords(ctx, tx, "bind "+hex.EncodeToString(s.o.Vault.Hash(p.Phone))+p.MembershipNo, "bind from "+p.Address); err != nil {
			return err
		}
		var wait float64
		err := tx.QueryRow(ctx, `SELECT coalesce(extract(epoch FROM (SELECT at + interval '1 hour' FROM binding_try WHERE address = $1
			ORDER BY at DESC OFFSET $2 - 1 LIMIT 1) - clock_timestamp()), 0)::float8`, p.Address, binding.WrongPerAddress).Scan(&wait)
		switch {
		case err != nil:
			return err
		case wait > 0:
			return &binding.TooMany{Wait: seconds(wait)}
		}
		var again bool
		if rider, again, err = s.prove(ctx, tx, p, n.TokenHash); err != nil || again {
			return err
		}
		if rider == "" {
			_, err = tx.Exec(ctx, `INSERT INTO binding_try (address) VALUES ($1)`, p.Address)
			return err
		}
		return addSession(ctx, tx, rider, n)
	})
	if err == nil && rider == "" {
		err = binding.ErrWrong
	}
	if err != nil {
		return "", fmt.Errorf("bind: %w", err)
	}
	return rider, nil
}

// nobody is no rider.
const nobody = "00000000-0000-0000-0000-000000000000"

// prove counts the try and uses the code up if it is right. "" is nobody; again: it
// was used up before, by this very session.
func (s *Store) prove(ctx context.Context, tx pgx.Tx, p binding.Proof, tokenHash []byte) (rider swap.RiderID, again bool, err error) {
	digits := p.Digits()
	switch len(digits) {
	case binding.CodeDigits:
		hash := s.o.Vault.Hash(p.Phone)
		return useCode(ctx, tx, "phone_code", "phone_hash", hash, s.o.Vault.HashCode(hex.EncodeToString(hash), digits), tokenHash)
	case binding.StaffDigits:
		var id string
		err := tx.QueryRow(ctx, `SELECT rider_id::text FROM rider WHERE (phone_hash = $1 OR membership_no = $2) AND forgotten_at IS NULL`,
			s.o.Vault.Hash(p.Phone), p.MembershipNo).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			id, err = nobody, nil // is looked for all the same
		}
		if err != nil {
			return "", false, err
		}
		return useCode(ctx, tx, "binding_code", "rider_id", id, s.o.Vault.HashCode(id, digits), tokenHash)
	}
	return "", false, nil
}

// useCode tries a code of a table, whose row is found by a key.
func useCode(ctx context.Context, tx pgx.Tx, table, key string, of any, codeHash, tokenHash []byte) (rider swap.RiderID, again bool, err error) {
	var want []byte
	err = tx.QueryRow(ctx, `UPDATE `+table+` SET tries = tries + 1
		WHERE `+key+` = $1 AND used_at IS NULL AND tries < $2 AND expires_at > clock_timestamp() RETURNING coalesce(rider_id::text, ''), code_hash`,
		of, binding.Tries).Scan(&rider, &want)
	if errors.Is(err, pgx.ErrNoRows) {
		err = tx.QueryRow(ctx, `SELECT c.rider_id::text FROM `+table+` c JOIN session s ON s.token_hash = c.used_by
			WHERE c.`+key+` = $1 AND c.code_hash = $2 AND c.used_by = $3 AND c.expires_at > clock_timestamp()`, of, codeHash, tokenHash).Scan(&rider)
		if errors.Is(err, pgx.ErrNoRows) {
			return "", false, nil
		}
		return rider, err == nil, err
	}
	if err != nil || !hmac.Equal(want, codeHash) {
		return "", false, err
	}
	_, err = tx.Exec(ctx, `UPDATE `+table+` SET used_at = clock_timestamp(), used_by = $2 WHERE `+key+` = $1`, of, tokenHash)
	return rider, false, err
}

// ForgetOldCodes deletes what no bound needs any longer, and sessions that have ended.
func (s *Store) ForgetOldCodes(ctx context.Context) error {
	for _, sql := range []string{
		`DELETE FROM code_ask WHERE at < now() - interval '1 day'`,
		`DELETE FROM binding_try WHERE at < now() - interval '1 day'`,
		`DELETE FROM phone_code WHERE expires_at < now() - interval '1 day'`,
		`DELETE FROM binding_code WHERE expires_at < now() - interval '1 day'`,
		`DELETE FROM session WHERE expires_at < now()`,
	} {
		if _, err := s.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("forget old codes: %w", err)
		}
	}
	return nil
}

// ClaimMessages takes at most n codes that are to be sent, new ones first, for a
// lease: after it they are due again, if they still hold.
func (s *Store) ClaimMessages(ctx context.Context, n int, lease time.Duration) ([]binding.Message, error) {
	if s.o.Vault == nil {
		return nil, errNoVault
	}
	rows, err := s.pool.Query(ctx, `UPDATE phone_code c SET sends = c.sends + 1, due_at = clock_timestamp() + $2::interval
		FROM (SELECT phone_hash FROM phone_code WHERE code_sealed IS NOT NULL AND due_at <= clock_timestamp() AND expires_at > clock_timestamp()
			AND used_at IS NULL ORDER BY sends, due_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED) d, rider r
		WHERE c.phone_hash = d.phone_hash AND r.rider_id = c.rider_id AND r.phone_hash = c.phone_hash
		RETURNING c.message_id::text, c.rider_id::text, c.code_sealed, r.phone_sealed, c.expires_at, c.language, c.sends`, n, lease)
	if err != nil {
		return nil, fmt.Errorf("claim messages: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (m binding.Message, err error) {
		var code, number string
		if err = r.Scan(&m.MessageID, &m.RiderID, &code, &number, &m.ExpiresAt, &m.Language, &m.Tries); err != nil {
			return m, err
		}
		if m.Code, err = s.o.Vault.OpenCode(m.MessageID, code); err == nil {
			m.Phone, err = s.o.Vault.Open(m.RiderID, number)
		}
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("claim messages: %w", err)
	}
	return out, nil
}

// MessageSent says that a code is out: it is never due again.
func (s *Store) MessageSent(ctx context.Context, messageID string) error {
	if _, err := s.pool.Exec(ctx, `UPDATE phone_code SET code_sealed = NULL WHERE message_id = $1`, messageID); err != nil {
		return fmt.Errorf("a message that was sent: %w", err)
	}
	return nil
}

// MessageFailed makes a code due again after a pause.
func (s *Store) MessageFailed(ctx context.Context, messageID string, pause time.Duration) error {
	_, err := s.pool.Exec(ctx, `UPDATE phone_code SET due_at = clock_timestamp() + $2::interval WHERE message_id = $1`, messageID, pause)
	if err != nil {
		return fmt.Errorf("a message that failed: %w", err)
	}
	return nil
}

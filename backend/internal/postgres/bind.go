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
		(SELECT at + interval '1 hour' FROM code_ask WHERE sent ORDER BY at DESC OFFSET @of_all - 1 LIMIT 1) - clock_timestamp()), 0)::float8,
	` + sqlGuessWait

// For how long no code of a phone works: too many wrong ones were tried.
const sqlGuessWait = `coalesce(extract(epoch FROM
		(SELECT at + interval '1 hour' FROM binding_try WHERE guess ORDER BY at DESC OFFSET @wrong - 1 LIMIT 1) - clock_timestamp()), 0)::float8`

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
		var asked, messages, wrong float64
		err := tx.QueryRow(ctx, sqlCodeWait, pgx.NamedArgs{
			"phone": hash, "address": address, "pause": binding.CodePause, "per_hour": binding.CodesPerHour, "per_day": binding.CodesPerDay,
			"per_address": binding.CodesPerAddress, "of_all": s.o.messagesPerHour(), "wrong": s.o.wrongPerHour(),
		}).Scan(&asked, &messages, &wrong)
		if err == nil {
			err = longest(reached{binding.OfAsking, asked}, reached{binding.OfMessages, messages}, reached{binding.OfGuessing, wrong})
		}
		if err != nil {
			return err
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

// reached is a bound and for how many seconds it holds; 0: it is not reached.
type reached struct {
	bound binding.Bound
	wait  float64
}

// longest is the *binding.TooMany of the bound that holds longest, nil if none does.
func longest(bounds ...reached) error {
	var most reached
	for _, r := range bounds {
		if r.wait > most.wait {
			most = r
		}
	}
	if most.wait <= 0 {
		return nil
	}
	return &binding.TooMany{Wait: time.Duration(most.wait * float64(time.Second)), Bound: most.bound}
}

// Bind lets the session of a phone speak for the rider whose proof it shows. A code
// is used up by that; the same proof for the same session is taken again while the
// code would hold, for whoever did not hear the answer. binding.ErrWrong: it
// proves nothing. *binding.TooMany: too many wrong ones came from there, or from
// all together.
func (s *Store) Bind(ctx context.Context, p binding.Proof, n binding.Session) (swap.RiderID, error) {
	if s.o.Vault == nil {
		return "", errNoVault
	}
	p.Address, p.MembershipNo = clip(p.Address), clip(p.MembershipNo)
	words := []string{"bind " + hex.EncodeToString(s.o.Vault.Hash(p.Phone)) + p.MembershipNo, "bind from " + p.Address}
	if !p.Handed() { // they are counted together, exactly
		words = append(words, "bind with codes of phones")
	}
	var rider swap.RiderID
	err := s.tx(ctx, func(tx pgx.Tx) error {
		rider = ""
		if err := lockWords(ctx, tx, words...); err != nil {
			return err
		}
		if err := s.mayTry(ctx, tx, p); err != nil {
			return err
		}
		try, err := s.prove(ctx, tx, p, n.TokenHash)
		if rider = try.rider; err != nil || try.again {
			return err
		}
		if rider == "" {
			return try.write(ctx, tx, p)
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

// mayTry says that a bound of wrong codes is reached. Those that staff hand out are
// counted apart, and are in none of all together: they stay the way out.
func (s *Store) mayTry(ctx context.Context, tx pgx.Tx, p binding.Proof) error {
	var here, all float64
	err := tx.QueryRow(ctx, `SELECT coalesce(extract(epoch FROM (SELECT at + interval '1 hour' FROM binding_try WHERE address = @address AND handed = @handed
			ORDER BY at DESC OFFSET @per_address - 1 LIMIT 1) - clock_timestamp()), 0)::float8, `+sqlGuessWait, pgx.NamedArgs{
		"address": p.Address, "handed": p.Handed(), "per_address": binding.WrongPerAddress, "wrong": s.o.wrongPerHour(),
	}).Scan(&here, &all)
	if err != nil {
		return err
	}
	if p.Handed() {
		all = 0
	}
	return longest(reached{binding.OfTrying, here}, reached{binding.OfGuessing, all})
}

// nobody is no rider.
const nobody = "00000000-0000-0000-0000-000000000000"

// tried is what came of a proof.
type tried struct {
	rider swap.RiderID // "": it proved nothing
	again bool         // it was used up before, by this very session
	// Of one that was wrong: guess, a rider's phone had a code that held; codes, which
	// of staff held.
	guess bool
	codes [][]byte
}

// write counts what was wrong.
func (t tried) write(ctx context.Context, tx pgx.Tx, p binding.Proof) error {
	if len(t.codes) == 0 {
		t.codes = [][]byte{nil}
	}
	_, err := tx.Exec(ctx, `INSERT INTO binding_try (address, handed, guess, code) SELECT $1::text, $2::boolean, $3::boolean, c FROM unnest($4::bytea[]) c`,
		p.Address, p.Handed(), t.guess, t.codes)
	return err
}

// prove counts the try and uses the code up if it is right.
func (s *Store) prove(ctx context.Context, tx pgx.Tx, p binding.Proof, tokenHash []byte) (tried, error) {
	var t tried
	digits := p.Digits()
	switch len(digits) {
	case binding.CodeDigits:
		hash := s.o.Vault.Hash(p.Phone)
		c := codes{table: "phone_code", key: "phone_hash", tries: binding.Tries}
		held, err := c.use(ctx, tx, hash, s.o.Vault.HashCode(hex.EncodeToString(hash), digits), tokenHash, &t)
		t.guess = held.rider != "" && t.rider == ""
		return t, err
	case binding.StaffDigits:
		rows, err := tx.Query(ctx, `SELECT rider_id::text FROM rider WHERE (phone_hash = $1 OR membership_no = $2) AND forgotten_at IS NULL ORDER BY rider_id`,
			s.o.Vault.Hash(p.Phone), p.MembershipNo)
		if err != nil {
			return t, err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return t, err
		}
		for len(ids) < 2 { // a number may be one's phone and another's membership: how many it is nobody learns by the time it takes
			ids = append(ids, nobody)
		}
		c := codes{table: "binding_code", key: "rider_id", tries: binding.StaffTries, address: p.Address}
		for _, id := range ids {
			held, err := c.use(ctx, tx, id, s.o.Vault.HashCode(id, digits), tokenHash, &t)
			if err != nil || t.rider != "" {
				return t, err
			}
			if held.hash != nil {
				t.codes = append(t.codes, held.hash)
			}
		}
	}
	return t, nil
}

// codes is a table of them, whose rows are found by a key.
type codes struct {
	table, key string
	tries      int
	address    string // "" where tries are not counted by address
}

// held is a code that a proof was checked against.
type held struct {
	rider swap.RiderID // "": nobody's
	hash  []byte
}

// use tries the code of a key, and says what it found.
func (c codes) use(ctx context.Context, tx pgx.Tx, of any, codeHash, tokenHash []byte, t *tried) (held, error) {
	var h held
	err := tx.QueryRow(ctx, `UPDATE `+c.table+` c SET tries = tries + 1
		WHERE `+c.key+` = $1 AND used_at IS NULL AND tries < $2 AND expires_at > clock_timestamp()
			AND ($3 = '' OR (SELECT count(*) FROM binding_try t WHERE t.code = c.code_hash AND t.address = $3) < $4)
		RETURNING coalesce(rider_id::text, ''), code_hash`, of, c.tries, c.address, binding.Tries).Scan(&h.rider, &h.hash)
	if errors.Is(err, pgx.ErrNoRows) {
		err = tx.QueryRow(ctx, `SELECT c.rider_id::text FROM `+c.table+` c JOIN session s ON s.token_hash = c.used_by
			WHERE c.`+c.key+` = $1 AND c.code_hash = $2 AND c.used_by = $3 AND c.expires_at > clock_timestamp()`, of, codeHash, tokenHash).Scan(&t.rider)
		if errors.Is(err, pgx.ErrNoRows) {
			return held{}, nil
		}
		t.again = err == nil
		return held{}, err
	}
	if err != nil || !hmac.Equal(h.hash, codeHash) {
		return h, err
	}
	t.rider = h.rider
	_, err = tx.Exec(ctx, `UPDATE `+c.table+` SET used_at = clock_timestamp(), used_by = $2 WHERE `+c.key+` = $1`, of, tokenHash)
	return h, err
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

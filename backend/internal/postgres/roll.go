package postgres

import (
	"context"
	"encoding/hex"
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

// UnionTree is the union from the top, each body before those below it.
func (s *Store) UnionTree(ctx context.Context) ([]staff.UnionBody, error) {
	rows, err := s.pool.Query(ctx, `WITH RECURSIVE tree AS (
			SELECT union_id, level, name, 0 AS depth, ARRAY[name] AS path FROM union_body WHERE parent_id IS NULL
			UNION ALL SELECT b.union_id, b.level, b.name, t.depth + 1, t.path || b.name FROM union_body b JOIN tree t ON b.parent_id = t.union_id)
		SELECT union_id, level, name, depth, (SELECT count(*) FROM rider r WHERE r.union_id = tree.union_id) FROM tree ORDER BY path COLLATE "C", union_id`)
	if err != nil {
		return nil, fmt.Errorf("read the union: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (b staff.UnionBody, err error) {
		return b, r.Scan(&b.ID, &b.Level, &b.Name, &b.Depth, &b.Riders)
	})
	if err != nil {
		return nil, fmt.Errorf("read the union: %w", err)
	}
	return out, nil
}

// RenameBody gives a body of the union another name.
func (s *Store) RenameBody(ctx context.Context, id int64, name string) error {
	name = clean(strings.TrimSpace(name))
	if n := len([]rune(name)); n < 1 || n > maxBodyName {
		return staff.Mistakef("name: %d characters, want 1 to %d", n, maxBodyName)
	}
	return s.acting(ctx, "rename a body of the union", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE union_body SET name = $2 WHERE union_id = $1`, id, name)
		switch {
		case sqlState(err) == uniqueViolation:
			return fmt.Errorf("%s: %w", name, staff.ErrExists)
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			return fmt.Errorf("body %d: %w", id, ErrNotFound)
		}
		return audit(ctx, tx, "union.rename", fmt.Sprint(id), map[string]any{"name": name})
	})
}

const (
	maxBodyName     = 100
	uniqueViolation = "23505"
)

// bodies reads the union for an import.
func bodies(ctx context.Context, tx pgx.Tx) ([]roll.Body, error) {
	rows, err := tx.Query(ctx, `SELECT union_id, array_position(ARRAY['city', 'district', 'street', 'branch'], level) - 1, name, coalesce(parent_id, 0)
		FROM union_body ORDER BY union_id`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (b roll.Body, err error) {
		return b, r.Scan(&b.ID, &b.Level, &b.Name, &b.Parent)
	})
}

// addBodies writes bodies that an import adds, and gives what their identifiers
// have become.
func addBodies(ctx context.Context, tx pgx.Tx, added []roll.Body) (map[int64]int64, error) {
	became := map[int64]int64{}
	for _, b := range added { // each below one before it
		var parent *int64
		if b.Parent != 0 {
			id := b.Parent
			if id < 0 {
				id = became[id]
			}
			parent = &id
		}
		var id int64
		err := tx.QueryRow(ctx, `INSERT INTO union_body (level, name, parent_id) VALUES ($1, $2, $3) RETURNING union_id`,
			roll.Level(b.Level), clean(b.Name), parent).Scan(&id)
		if sqlState(err) == uniqueViolation {
			return nil, &staff.Refusal{Code: staff.TryAgain, Detail: b.Name}
		}
		if err != nil {
			return nil, err
		}
		became[b.ID] = id
	}
	return became, nil
}

// unionNamed finds the body of a name, and adds it as a branch of its own where
// there is none.
func unionNamed(ctx context.Context, tx pgx.Tx, name string) (*int64, error) {
	if name == "" {
		return nil, nil
	}
	rows, err := tx.Query(ctx, `SELECT union_id FROM union_body WHERE name = $1 LIMIT 2`, clean(name))
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	switch {
	case err != nil:
		return nil, err
	case len(ids) > 1:
		return nil, staff.Mistakef("union: several bodies are called %s: import the rider with the roll, with its district and street", name)
	case len(ids) == 1:
		return &ids[0], nil
	}
	added, err := addBodies(ctx, tx, []roll.Body{{ID: -1, Level: roll.Levels - 1, Name: name}})
	id := added[-1]
	return &id, err
}

// sqlKnown reads a rider as a roll sees them.
const sqlKnown = `SELECT rider_id::text, name, coalesce(encode(phone_hash, 'hex'), ''), coalesce(membership_no, ''), coalesce(union_id, 0), street, platform,
	coalesce(to_char(member_from, 'YYYY-MM-DD'), ''), coalesce(to_char(member_to, 'YYYY-MM-DD'), '') FROM rider `

func scanKnown(r pgx.CollectableRow) (*roll.Known, error) {
	k := &roll.Known{}
	return k, r.Scan(&k.RiderID, &k.Name, &k.PhoneHash, &k.MembershipNo, &k.UnionID, &k.Street, &k.Platform, &k.From, &k.To)
}

// knownRiders are the riders that rows may be about, found by number or phone.
func (s *Store) knownRiders(ctx context.Context, tx pgx.Tx, members []roll.Member) ([]*roll.Known, error) {
	numbers, hashes := make([]string, 0, len(members)), make([][]byte, 0, len(members))
	for _, m := range members {
		if m.MembershipNo != "" {
			numbers = append(numbers, clean(m.MembershipNo))
		}
		if m.Phone != "" {
			hashes = append(hashes, s.o.Vault.Hash(m.Phone))
		}
	}
	rows, err := tx.Query(ctx, sqlKnown+`WHERE rider_id IN (SELECT rider_id FROM rider JOIN unnest($1::text[]) AS number ON membership_no = number
		UNION SELECT rider_id FROM rider JOIN unnest($2::bytea[]) AS hash ON phone_hash = hash) ORDER BY rider_id`, numbers, hashes)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanKnown)
}

// holdRiders takes the rows of the riders who change, in the order of all
// transactions. One that somebody else has changed since it was read is changed by
// nobody: the roll is to be tried again.
func (s *Store) holdRiders(ctx context.Context, tx pgx.Tx, settled []roll.Settled, was map[string]roll.Known) error {
	var ids []string
	for _, x := range settled {
		if x.Fate == roll.Changed {
			ids = append(ids, x.Rider.RiderID)
		}
	}
	rows, err := tx.Query(ctx, sqlKnown+`WHERE rider_id = ANY($1::uuid[]) ORDER BY rider_id FOR NO KEY UPDATE`, ids)
	if err != nil {
		return err
	}
	now, err := pgx.CollectRows(rows, scanKnown)
	if err != nil {
		return err
	}
	for _, k := range now {
		if *k != was[k.RiderID] {
			return &staff.Refusal{Code: staff.TryAgain}
		}
	}
	if len(now) != len(ids) {
		return &staff.Refusal{Code: staff.TryAgain}
	}
	return nil
}

// phoneHash is how an import compares phones.
func (s *Store) phoneHash(n phone.Number) string { return hex.EncodeToString(s.o.Vault.Hash(n)) }

// rollColumns of a temporary table that holds what riders are to become.
var rollColumns = []string{
	"rider_id", "is_new", "name", "phone_sealed", "phone_hash", "phone_changed", "membership_no", "union_id", "street", "platform", "member_from", "member_to",
}

// writeRoll writes riders who are new or changed, in a few statements.
func (s *Store) writeRoll(ctx context.Context, tx pgx.Tx, settled []roll.Settled, became map[int64]int64) error {
	if _, err := tx.Exec(ctx, `CREATE TEMPORARY TABLE roll_new (rider_id text, is_new boolean, name text, phone_sealed text, phone_hash bytea, phone_changed boolean,
		membership_no text, union_id bigint, street text, platform text, member_from date, member_to date) ON COMMIT DROP`); err != nil {
		return err
	}
	var rows [][]any
	for _, x := range settled {
		if x.Fate != roll.Added && x.Fate != roll.Changed {
			continue
		}
		row, err := s.rollRow(x, became)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"roll_new"}, rollColumns, pgx.CopyFromRows(rows)); err != nil {
		return err
	}
	for _, sql := range []string{
		// Phones and numbers that change hands are free first: a unique index looks at each row.
		`UPDATE rider r SET phone_hash = NULL, phone_sealed = NULL FROM roll_new n WHERE r.rider_id = n.rider_id::uuid AND n.phone_changed`,
		// What was sent to the old number proves nothing any more.
		`DELETE FROM phone_code c USING roll_new n WHERE c.rider_id = n.rider_id::uuid AND n.phone_changed`,
		`INSERT INTO rider (rider_id, name, phone_sealed, phone_hash, membership_no, union_id, street, platform, member_from, member_to)
			SELECT rider_id::uuid, name, phone_sealed, phone_hash, membership_no, union_id, street, platform, member_from, member_to FROM roll_new WHERE is_new`,
		`UPDATE rider r SET name = n.name, membership_no = n.membership_no, union_id = n.union_id, street = n.street, platform = n.platform,
			member_from = n.member_from, member_to = n.member_to,
			phone_sealed = CASE WHEN n.phone_changed THEN n.phone_sealed ELSE r.phone_sealed END,
			phone_hash = CASE WHEN n.phone_changed THEN n.phone_hash ELSE r.phone_hash END
			FROM roll_new n WHERE r.rider_id = n.rider_id::uuid AND NOT n.is_new`,
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			if sqlState(err) == uniqueViolation {
				return &staff.Refusal{Code: staff.TryAgain}
			}
			return err
		}
	}
	return nil
}

func (s *Store) rollRow(x roll.Settled, became map[int64]int64) ([]any, error) {
	k := x.Rider
	var sealed *string
	var hash []byte
	changed := x.Phone != "" && slices.Contains(x.Fields, roll.Phone)
	if changed {
		text := s.o.Vault.Close(k.RiderID, x.Phone)
		sealed, hash = &text, s.o.Vault.Hash(x.Phone)
	}
	union := k.UnionID
	if union < 0 {
		union = became[union]
	}
	from, err := dayOrNone(k.From)
	if err != nil {
		return nil, err
	}
	to, err := dayOrNone(k.To)
	if err != nil {
		return nil, err
	}
	return []any{k.RiderID, x.Fate == roll.Added, clean(k.Name), sealed, hash, changed, textOrNone(k.MembershipNo), idOrNone(union), clean(k.Street), clean(k.Platform), from, to}, nil
}

func dayOrNone(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	day, err := time.Parse(time.DateOnly, text)
	return &day, err
}

func textOrNone(text string) *string {
	if text == "" {
		return nil
	}
	text = clean(text)
	return &text
}

func idOrNone(id int64) *int64 {
	if id == 0 {
		return nil
	}
	return &id
}

var errNoVault = errors.New("phone numbers are kept closed: want the backend's keys")

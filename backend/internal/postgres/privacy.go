package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
)

// Reveal gives a rider's name and phone, for a reason that is written down.
func (s *Store) Reveal(ctx context.Context, id swap.RiderID, reason string) (r staff.Revealed, err error) {
	if err := staff.CheckReason(reason); err != nil {
		return r, err
	}
	err = s.aboutRider(ctx, "reveal", id, func(tx pgx.Tx, who person) error {
		r.Name = who.name
		if who.sealed != "" {
			if s.o.Vault == nil {
				return errNoVault
			}
			number, err := s.o.Vault.Open(string(id), who.sealed)
			if err != nil {
				return err
			}
			r.Phone = string(number)
		}
		return audit(ctx, tx, "rider.reveal", string(id), map[string]any{"reason": clean(strings.TrimSpace(reason))})
	})
	return r, err
}

// person is what ties a pseudonym to somebody.
type person struct{ name, sealed string }

// aboutRider runs an act on one rider, whose row it holds.
func (s *Store) aboutRider(ctx context.Context, what string, id swap.RiderID, act func(pgx.Tx, person) error) error {
	if !isUUID(string(id)) {
		return fmt.Errorf("rider: %w", ErrNotFound)
	}
	return s.acting(ctx, what, func(tx pgx.Tx) error {
		var p person
		err := tx.QueryRow(ctx, `SELECT name, coalesce(phone_sealed, '') FROM rider WHERE rider_id = $1 FOR NO KEY UPDATE`, string(id)).Scan(&p.name, &p.sealed)
		if errors.Is(err, pgx.ErrNoRows) {
			err = fmt.Errorf("rider %s: %w", id, ErrNotFound)
		}
		if err == nil {
			err = act(tx, p)
		}
		return err
	})
}

// sqlRiderData gathers every row that is about a rider, but no secret.
const sqlRiderData = `SELECT jsonb_build_object(
	'rider', (SELECT to_jsonb(r) - '{phone_sealed,phone_hash}'::text[] FROM rider r WHERE rider_id = $1),
	'union', (SELECT b.name FROM union_body b JOIN rider r USING (union_id) WHERE r.rider_id = $1),
	'sessions', (SELECT coalesce(jsonb_agg(to_jsonb(x) - 'token_hash'), '[]') FROM session x WHERE rider_id = $1),
	'privacy_acceptances', (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY accepted_at), '[]') FROM privacy_acceptance x WHERE rider_id = $1),
	'scans', (SELECT coalesce(jsonb_agg(to_jsonb(x) - 'idempotency_key' ORDER BY at), '[]') FROM scan x WHERE rider_id = $1),
	'swaps', (SELECT coalesce(jsonb_agg(to_jsonb(x) - '{nonce,boot_id,epoch}'::text[] ORDER BY requested_at), '[]') FROM swap x WHERE rider_id = $1),
	'ledger', (SELECT coalesce(jsonb_agg(to_jsonb(x) - 'epoch' ORDER BY position), '[]') FROM ledger x WHERE rider_id = $1),
	'day_counts', (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY day, cabinet_id), '[]') FROM day_count x WHERE rider_id = $1),
	'credits', (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY opened_at), '[]') FROM credit x WHERE rider_id = $1),
	'batteries', (SELECT coalesce(jsonb_agg(battery_serial ORDER BY 1), '[]') FROM battery WHERE rider_id = $1),
	'reviews', (SELECT coalesce(jsonb_agg(to_jsonb(x) - '{epoch,inventory}'::text[] ORDER BY review_id), '[]') FROM review x WHERE rider_id = $1),
	'counted_as', (SELECT coalesce(jsonb_agg(to_jsonb(x) - '{digest,counted_rider_id}'::text[] ORDER BY counted_rider_id), '[]') FROM counted_rider x WHERE rider_id = $1),
	'roll_rows', (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY import_id, row_no), '[]') FROM roll_fate x WHERE rider_id = $1),
	'fault_reports', (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY report_id), '[]') FROM fault_report x WHERE rider_id = $1))`

// RiderData is all that is kept about a rider, as JSON, for the person who asked
// for it; the reason is written down.
func (s *Store) RiderData(ctx context.Context, id swap.RiderID, reason string) ([]byte, error) {
	if err := staff.CheckReason(reason); err != nil {
		return nil, err
	}
	var out []byte
	err := s.aboutRider(ctx, "rider's data", id, func(tx pgx.Tx, who person) error {
		var all map[string]json.RawMessage
		if err := tx.QueryRow(ctx, sqlRiderData, string(id)).Scan(&all); err != nil {
			return err
		}
		if who.sealed != "" {
			if s.o.Vault == nil {
				return errNoVault
			}
			number, err := s.o.Vault.Open(string(id), who.sealed)
			if err != nil {
				return err
			}
			all["phone"] = json.RawMessage(`"` + string(number) + `"`)
		}
		var err error
		if out, err = json.MarshalIndent(all, "", "  "); err != nil {
			return err
		}
		return audit(ctx, tx, "rider.data", string(id), map[string]any{"reason": clean(strings.TrimSpace(reason))})
	})
	return out, err
}

// sqlUnsettled is what is open with rider r.
const sqlUnsettled = `array_remove(ARRAY[
	CASE WHEN EXISTS (SELECT FROM battery x WHERE x.rider_id = r.rider_id AND x.holder = 'rider') THEN 'battery' END,
	CASE WHEN EXISTS (SELECT FROM swap x WHERE x.rider_id = r.rider_id AND x.state <> 'closed') THEN 'swap' END,
	CASE WHEN EXISTS (SELECT FROM credit x WHERE x.rider_id = r.rider_id AND x.state IN ('open', 'reserved')) THEN 'credit' END,
	CASE WHEN EXISTS (SELECT FROM review x WHERE x.rider_id = r.rider_id AND x.decided_at IS NULL) THEN 'review' END], NULL)`

// ForgetRider takes the person away from a pseudonym: name, phone, membership and
// sessions go, counts and ledger stay. One who still has a battery, or is owed one,
// or whose case is open, is not forgotten: somebody has to be asked about it.
func (s *Store) ForgetRider(ctx context.Context, id swap.RiderID, reason string) error {
	if err := staff.CheckReason(reason); err != nil {
		return err
	}
	return s.aboutRider(ctx, "forget rider", id, func(tx pgx.Tx, _ person) error {
		var open []string
		var forgotten bool
		err := tx.QueryRow(ctx, `SELECT `+sqlUnsettled+`, forgotten_at IS NOT NULL FROM rider r WHERE rider_id = $1`, string(id)).Scan(&open, &forgotten)
		if err != nil || forgotten {
			return err
		}
		if len(open) > 0 {
			return &staff.Refusal{Code: staff.NotSettled, Detail: strings.Join(open, ", ")}
		}
		for _, sql := range []string{
			`UPDATE rider SET name = '', phone_sealed = NULL, phone_hash = NULL, membership_no = NULL, member_from = NULL, member_to = NULL, union_id = NULL, street = '', platform = '',
				active = false, forgotten_at = now() WHERE rider_id = $1`,
			`DELETE FROM binding_code WHERE rider_id = $1`, // before sessions: whoever is binding is waited for
			`DELETE FROM phone_code WHERE rider_id = $1`,
			`DELETE FROM session WHERE rider_id = $1`,
			`DELETE FROM privacy_acceptance WHERE rider_id = $1`,
			`UPDATE fault_report SET text = '' WHERE rider_id = $1`, // who knows what they wrote
		} {
			if _, err := tx.Exec(ctx, sql, string(id)); err != nil {
				return err
			}
		}
		return audit(ctx, tx, "rider.forget", string(id), map[string]any{"reason": clean(strings.TrimSpace(reason))})
	})
}

// maxForgotten bounds what one call forgets: the next goes on.
const maxForgotten = 500

// Retention is who takes persons away in the audit log when nobody asked.
const Retention = "retention"

// ForgetEnded forgets riders whose membership ended so many months ago, and gives
// how many it forgot and of how many something is open yet.
func (s *Store) ForgetEnded(ctx context.Context, months int) (forgotten, unsettled int, err error) {
	const ended = ` FROM rider r WHERE forgotten_at IS NULL AND member_to < (now() AT TIME ZONE 'Asia/Shanghai')::date - make_interval(months => $1)`
	rows, err := s.pool.Query(ctx, `SELECT rider_id::text`+ended+` AND cardinality(`+sqlUnsettled+`) = 0 ORDER BY member_to LIMIT $2`, months, maxForgotten)
	if err != nil {
		return 0, 0, fmt.Errorf("forget riders: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[swap.RiderID])
	if err != nil {
		return 0, 0, fmt.Errorf("forget riders: %w", err)
	}
	ctx = staff.As(ctx, staff.Actor{Login: Retention})
	for _, id := range ids {
		err := s.ForgetRider(ctx, id, fmt.Sprintf("the membership ended more than %d months ago", months))
		if refusal := (*staff.Refusal)(nil); errors.As(err, &refusal) {
			continue // something was opened meanwhile
		}
		if err != nil {
			return forgotten, 0, err
		}
		forgotten++
	}
	if err := s.pool.QueryRow(ctx, `SELECT count(*)`+ended, months).Scan(&unsettled); err != nil {
		return forgotten, 0, fmt.Errorf("forget riders: %w", err)
	}
	return forgotten, unsettled, nil
}

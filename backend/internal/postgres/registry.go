package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
	"batteryswap/protocol"
)

const sqlBatteries = `SELECT b.battery_serial, b.type, b.is_foreign, b.holder, coalesce(b.rider_id::text, ''), coalesce(b.cabinet_id, ''), coalesce(b.slot, 0),
	(SELECT coalesce(jsonb_agg(jsonb_build_object('mark', mark, 'reason', reason, 'by', marked_by, 'at', marked_at) ORDER BY marked_at), '[]')
		FROM battery_mark m WHERE m.battery_serial = b.battery_serial) FROM battery b`

func scanBattery(r pgx.CollectableRow) (b staff.Battery, err error) {
	var marks []byte
	if err = r.Scan(&b.Serial, &b.Type, &b.Foreign, &b.Holder, &b.RiderID, &b.CabinetID, &b.Slot, &marks); err == nil {
		err = json.Unmarshal(marks, &b.Marks)
	}
	return b, err
}

// Batteries finds batteries by the start of a serial, or all with a mark.
func (s *Store) Batteries(ctx context.Context, find, mark string) ([]staff.Battery, error) {
	sql, args := sqlBatteries+` WHERE starts_with(b.battery_serial, $1)`, []any{clean(find)}
	if mark != "" {
		sql += ` AND EXISTS (SELECT FROM battery_mark m WHERE m.battery_serial = b.battery_serial AND m.mark = $2)`
		args = append(args, mark)
	}
	rows, err := s.pool.Query(ctx, sql+` ORDER BY b.battery_serial LIMIT 200`, args...)
	if err != nil {
		return nil, fmt.Errorf("find batteries: %w", err)
	}
	out, err := pgx.CollectRows(rows, scanBattery)
	if err != nil {
		return nil, fmt.Errorf("find batteries: %w", err)
	}
	return out, nil
}

// maxHistory bounds the custody history that is shown.
const maxHistory = 200

// BatteryDetail is one battery and who had it, or ErrNotFound.
func (s *Store) BatteryDetail(ctx context.Context, serial protocol.BatterySerial) (staff.BatteryDetail, error) {
	var d staff.BatteryDetail
	rows, err := s.pool.Query(ctx, sqlBatteries+` WHERE b.battery_serial = $1`, clean(string(serial)))
	if err == nil {
		d.Battery, err = pgx.CollectExactlyOneRow(rows, scanBattery)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return d, fmt.Errorf("battery %.50s: %w", serial, err)
	}
	entries, err := s.entries(ctx, `position IN (SELECT position FROM ledger WHERE battery_serial = $1 ORDER BY position DESC LIMIT $2)`, string(serial), maxHistory)
	if err != nil {
		return d, err
	}
	if err := s.maintainers(ctx, entries); err != nil {
		return d, err
	}
	slices.Reverse(entries)
	for _, x := range entries {
		d.History = append(d.History, entryEvent(x))
	}
	return d, nil
}

// recalled are the serials that cabinets are told to keep.
func (s *Store) recalled(ctx context.Context) ([]protocol.BatterySerial, error) {
	rows, err := s.pool.Query(ctx, `SELECT battery_serial FROM battery_mark WHERE mark = 'recalled' ORDER BY battery_serial`)
	if err != nil {
		return nil, fmt.Errorf("read what is recalled: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[protocol.BatterySerial])
	if err != nil {
		return nil, fmt.Errorf("read what is recalled: %w", err)
	}
	return out, nil
}

// MarkBattery puts a mark on a battery for a reason, or takes it off. A recalled
// battery is kept by whatever cabinet it comes into, and is never dispensed: all
// cabinets get a new configuration. Only a battery that staff have is retired;
// that ends its recall.
func (s *Store) MarkBattery(ctx context.Context, serial protocol.BatterySerial, mark string, on bool, reason string) error {
	if !slices.Contains([]string{staff.Flagged, staff.Recalled, staff.Gone}, mark) {
		return staff.Mistakef("mark %.20q: want flagged, recalled or retired", mark)
	}
	if err := staff.CheckReason(reason); err != nil {
		return err
	}
	return s.acting(ctx, "mark battery", func(tx pgx.Tx) error {
		// One mark at a time: the limit of recalls is counted.
		if _, err := tx.Exec(ctx, `LOCK TABLE battery_mark IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		var holder string
		err := tx.QueryRow(ctx, `SELECT holder FROM battery WHERE battery_serial = $1 FOR NO KEY UPDATE`, clean(string(serial))).Scan(&holder)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("battery %.50s: %w", serial, ErrNotFound)
		case err != nil:
			return err
		case on && mark == staff.Gone && holder != "staff":
			return &staff.Refusal{Code: staff.NotWithStaff, Detail: string(serial)}
		}
		if err := setMark(ctx, tx, serial, mark, on, clean(strings.TrimSpace(reason))); err != nil {
			return err
		}
		return audit(ctx, tx, "battery."+mark, string(serial), map[string]any{"on": on, "reason": clean(strings.TrimSpace(reason))})
	})
}

func setMark(ctx context.Context, tx pgx.Tx, serial protocol.BatterySerial, mark string, on bool, reason string) error {
	var had bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM battery_mark WHERE battery_serial = $1 AND mark = 'recalled')`, string(serial)).Scan(&had); err != nil {
		return err
	}
	if on && mark == staff.Gone {
		if _, err := tx.Exec(ctx, `DELETE FROM battery_mark WHERE battery_serial = $1 AND mark = 'recalled'`, string(serial)); err != nil {
			return err
		}
	}
	sql, args := `INSERT INTO battery_mark (battery_serial, mark, reason, marked_by) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		[]any{string(serial), mark, reason, staff.Who(ctx).Login}
	if !on {
		sql, args = `DELETE FROM battery_mark WHERE battery_serial = $1 AND mark = $2`, args[:2]
	}
	if _, err := tx.Exec(ctx, sql, args...); err != nil {
		return err
	}
	var has bool
	var many int
	err := tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE battery_serial = $1) > 0, count(*) FROM battery_mark WHERE mark = 'recalled'`, string(serial)).Scan(&has, &many)
	switch {
	case err != nil:
		return err
	case many > protocol.MaxFlaggedSerials:
		return &staff.Refusal{Code: staff.TooManyRecalled, Detail: fmt.Sprint(protocol.MaxFlaggedSerials)}
	case has == had:
		return nil
	}
	_, err = tx.Exec(ctx, `UPDATE cabinet SET config_version = config_version + 1 WHERE cabinet_id IN
		(SELECT cabinet_id FROM cabinet WHERE retired_at IS NULL ORDER BY cabinet_id FOR NO KEY UPDATE)`)
	return err
}

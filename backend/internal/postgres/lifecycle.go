package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
	"batteryswap/protocol"
)

// config is what staff set for a cabinet.
func (s *Store) config(ctx context.Context, id protocol.CabinetID) (protocol.CabinetConfig, error) {
	var c protocol.CabinetConfig
	var repairs []byte
	err := s.pool.QueryRow(ctx, `SELECT config_version, out_of_service, slots_out, repairs,
		ARRAY(SELECT battery_serial FROM battery_mark WHERE mark = 'recalled' ORDER BY battery_serial) FROM cabinet WHERE cabinet_id = $1`, string(id)).
		Scan(&c.Version, &c.OutOfService, &c.SlotsOut, &repairs, &c.FlaggedSerials)
	if err == nil {
		err = json.Unmarshal(repairs, &c.ClearFaults)
	}
	if err != nil {
		return c, fmt.Errorf("read the configuration of %s: %w", id, err)
	}
	return c, nil
}

// configure changes what staff set for a cabinet, and its version.
func (s *Store) configure(ctx context.Context, id protocol.CabinetID, act, reason string, detail map[string]any, change func(pgx.Tx, int) error) error {
	if err := staff.CheckReason(reason); err != nil {
		return err
	}
	return s.acting(ctx, act, func(tx pgx.Tx) error {
		var slots int
		var retired bool
		err := tx.QueryRow(ctx, `SELECT slots, retired_at IS NOT NULL FROM cabinet WHERE cabinet_id = $1 FOR NO KEY UPDATE`, string(id)).Scan(&slots, &retired)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("cabinet %.24s: %w", id, ErrNotFound)
		case err != nil:
			return err
		case retired:
			return &staff.Refusal{Code: staff.Retired, Detail: string(id)}
		}
		if err := change(tx, slots); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE cabinet SET config_version = config_version + 1 WHERE cabinet_id = $1`, string(id)); err != nil {
			return err
		}
		if detail == nil {
			detail = map[string]any{}
		}
		detail["reason"] = clean(strings.TrimSpace(reason))
		return audit(ctx, tx, act, string(id), detail)
	})
}

// SetSlot takes a slot out of service, or puts it in again: that says that it is
// repaired, and clears its fault.
func (s *Store) SetSlot(ctx context.Context, id protocol.CabinetID, slot int, out bool, reason string) error {
	act := "slot.in"
	if out {
		act = "slot.out"
	}
	return s.configure(ctx, id, act, reason, map[string]any{"slot": slot}, func(tx pgx.Tx, slots int) error {
		if slot < 1 || slot > slots {
			return &staff.Refusal{Code: staff.SlotUnknown, Detail: strconv.Itoa(slot)}
		}
		sql := `UPDATE cabinet SET slots_out = array_remove(slots_out, $2::smallint),
			repairs = repairs || jsonb_build_object($2::text, coalesce((repairs ->> $2::text)::bigint, 0) + 1) WHERE cabinet_id = $1`
		if out {
			sql = `UPDATE cabinet SET slots_out = (SELECT array_agg(n ORDER BY n) FROM (SELECT unnest(slots_out) UNION SELECT $2::smallint) AS u(n)) WHERE cabinet_id = $1`
		}
		_, err := tx.Exec(ctx, sql, string(id), slot)
		return err
	})
}

// SetService takes a whole cabinet out of service, or puts it in again.
func (s *Store) SetService(ctx context.Context, id protocol.CabinetID, out bool, reason string) error {
	act := "cabinet.in"
	if out {
		act = "cabinet.out"
	}
	return s.configure(ctx, id, act, reason, nil, func(tx pgx.Tx, _ int) error {
		_, err := tx.Exec(ctx, `UPDATE cabinet SET out_of_service = $2 WHERE cabinet_id = $1`, string(id), out)
		return err
	})
}

// MoveCabinet says where a cabinet stands from now on.
func (s *Store) MoveCabinet(ctx context.Context, id protocol.CabinetID, station, street, reason string) error {
	if station == "" || clean(station) != station {
		return staff.Mistakef("station: want a name")
	}
	if street == "" || clean(street) != street {
		return staff.Mistakef("street: want a name")
	}
	return s.configure(ctx, id, "cabinet.move", reason, map[string]any{"station": station, "street": street}, func(tx pgx.Tx, _ int) error {
		_, err := tx.Exec(ctx, `UPDATE cabinet SET station = $2, street = $3 WHERE cabinet_id = $1`, string(id), station, street)
		return err
	})
}

// Unconfirmed is a configuration that a cabinet in contact has not confirmed:
// the answer to a hello carries it, also unasked for.
type Unconfirmed struct {
	CabinetID protocol.CabinetID
	HelloOK   protocol.HelloOK
}

// maxUnconfirmed bounds one round.
const maxUnconfirmed = 200

// Unconfirmed finds cabinets whose last CONFIG record names an older version.
// The first version needs no telling: hello's answer carries it.
// What they have confirmed meanwhile is noted.
func (s *Store) Unconfirmed(ctx context.Context) ([]Unconfirmed, error) {
	rows, err := s.pool.Query(ctx, `SELECT k.cabinet_id, k.epoch, k.boot_id, k.last_seq, now() FROM cabinet c JOIN cabinet_cursor k USING (cabinet_id)
		LEFT JOIN cabinet_state t USING (cabinet_id)
		WHERE c.config_confirmed < c.config_version AND c.config_version > 1 AND c.retired_at IS NULL AND k.epoch IS NOT NULL AND NOT k.forked AND k.boot_id IS NOT NULL
			AND `+heard+` > now() - $1::interval LIMIT $2`, heardWithin, maxUnconfirmed)
	if err != nil {
		return nil, fmt.Errorf("look for configurations: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (u Unconfirmed, err error) {
		var epoch, boot []byte
		var last int64
		err = r.Scan(&u.CabinetID, &epoch, &boot, &last, &u.HelloOK.ServerTime)
		copy(u.HelloOK.Epoch[:], epoch)
		copy(u.HelloOK.BootID[:], boot)
		u.HelloOK.Verdict, u.HelloOK.ResumeSeq = protocol.VerdictResume, uint64(last)+1
		return u, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for configurations: %w", err)
	}
	for i := range all {
		if err := s.confirmed(ctx, &all[i]); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(all, func(u Unconfirmed) bool { return u.HelloOK.Config.Version == 0 }), nil
}

// confirmed notes what the cabinet's last CONFIG record says; the configuration
// stays empty when that is the newest.
func (s *Store) confirmed(ctx context.Context, u *Unconfirmed) error {
	records, err := s.recordEvents(ctx, 1, `FROM record r WHERE r.cabinet_id = $1 AND r.epoch = $2 AND r.type = 15 ORDER BY r.seq DESC LIMIT $3`,
		string(u.CabinetID), u.HelloOK.Epoch[:])
	if err != nil {
		return err
	}
	var told protocol.ConfigApplied
	for _, r := range records {
		if err := json.Unmarshal(r.Payload, &told); err != nil {
			return fmt.Errorf("CONFIG of %s: %w", u.CabinetID, err)
		}
	}
	c, err := s.config(ctx, u.CabinetID)
	if err != nil {
		return err
	}
	if told.Config.Version < c.Version {
		u.HelloOK.Config = c
	}
	_, err = s.pool.Exec(ctx, `UPDATE cabinet SET config_confirmed = $2 WHERE cabinet_id = $1 AND config_confirmed < $2`, string(u.CabinetID), told.Config.Version)
	if err != nil {
		return fmt.Errorf("note the configuration of %s: %w", u.CabinetID, err)
	}
	return nil
}

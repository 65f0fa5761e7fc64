package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

const sqlFleet = `SELECT c.cabinet_id, c.station, c.street, c.slots, coalesce(` + heard + ` > now() - $1::interval, false), ` + heard + `,
		coalesce(t.out_of_service, ''), c.out_of_service, coalesce(t.alarms, '{}'), coalesce(t.software, ''), t.upper_c,
		coalesce(t.backlog_records, 0), t.inventory, coalesce(w.swap_id::text, ''), w.requested_at, k.forked,
		EXISTS (SELECT FROM cabinet_epoch e WHERE e.cabinet_id = c.cabinet_id AND e.state = 'waiting'),
		(SELECT count(*) FROM review v WHERE v.cabinet_id = c.cabinet_id AND v.decided_at IS NULL),
		(SELECT count(*) FROM fault_report f WHERE f.cabinet_id = c.cabinet_id AND f.done_at IS NULL),
		c.slots_out, c.config_version, c.config_confirmed, now()
	FROM cabinet c JOIN cabinet_cursor k USING (cabinet_id) LEFT JOIN cabinet_state t USING (cabinet_id)
	LEFT JOIN LATERAL (SELECT swap_id, requested_at FROM swap WHERE cabinet_id = c.cabinet_id AND state <> 'closed' ORDER BY swap_id LIMIT 1) w ON true
	WHERE c.retired_at IS NULL`

// Fleet lists all cabinets with what each needs: who needs somebody first.
func (s *Store) Fleet(ctx context.Context) ([]staff.Cabinet, error) {
	rows, err := s.pool.Query(ctx, sqlFleet, heardWithin)
	if err != nil {
		return nil, fmt.Errorf("list the fleet: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (staff.Cabinet, error) {
		c, _, err := scanFleet(r)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the fleet: %w", err)
	}
	staff.ByNeed(out)
	return out, nil
}

// scanFleet also gives the database's time.
func scanFleet(r pgx.Row) (c staff.Cabinet, now time.Time, err error) {
	var inventory []byte
	err = r.Scan(&c.CabinetID, &c.Station, &c.Street, &c.Slots, &c.Reachable, &c.LastSeen, &c.OutOfService, &c.Off, &c.Alarms, &c.Software,
		&c.UpperC, &c.Backlog, &inventory, &c.OpenSwap, &c.OpenSince, &c.Forked, &c.EpochWaits, &c.Reviews, &c.Faults, &c.SlotsOut,
		&c.ConfigVersion, &c.ConfigConfirmed, &now)
	if err != nil {
		return c, now, err
	}
	if inventory != nil {
		if err := json.Unmarshal(inventory, &c.Inventory); err != nil {
			return c, now, fmt.Errorf("inventory: %w", err)
		}
	}
	for _, st := range c.Inventory {
		switch {
		case st.Out:
		case st.Charged && st.Presence == protocol.HoldsBattery:
			c.Charged++
		case st.Presence == protocol.PresenceEmpty:
			c.Empty++
		}
	}
	c.Needs = c.WhatItNeeds(now)
	return c, now, nil
}

// maxLastRecords is how many records a cabinet's page shows.
const maxLastRecords = 40

// CabinetDetail is one cabinet, or ErrNotFound.
func (s *Store) CabinetDetail(ctx context.Context, id protocol.CabinetID) (staff.CabinetDetail, error) {
	var d staff.CabinetDetail
	if id.Validate() != nil {
		return d, fmt.Errorf("cabinet: %w", ErrNotFound)
	}
	var now time.Time
	var err error
	d.Cabinet, now, err = scanFleet(s.pool.QueryRow(ctx, sqlFleet+` AND c.cabinet_id = $2`, heardWithin, string(id)))
	if errors.Is(err, pgx.ErrNoRows) {
		return d, fmt.Errorf("cabinet %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return d, fmt.Errorf("read cabinet %s: %w", id, err)
	}
	if err := s.slotTable(ctx, &d, now); err != nil {
		return d, fmt.Errorf("read cabinet %s: %w", id, err)
	}
	if err := s.maintenance(ctx, &d); err != nil {
		return d, err
	}
	d.Records, err = s.recordEvents(ctx, maxLastRecords, `FROM record r JOIN cabinet_cursor k ON k.cabinet_id = r.cabinet_id AND k.epoch = r.epoch
		WHERE r.cabinet_id = $1 ORDER BY r.seq DESC LIMIT $2`, string(id))
	return d, err
}

// slotTable puts what the cabinet reports beside what the books have.
func (s *Store) slotTable(ctx context.Context, d *staff.CabinetDetail, now time.Time) error {
	rows, err := s.pool.Query(ctx, `SELECT slot, battery_serial FROM battery WHERE cabinet_id = $1 AND holder = 'slot'`, string(d.CabinetID))
	if err != nil {
		return err
	}
	booked := map[int]protocol.BatterySerial{}
	var n int
	var serial protocol.BatterySerial
	if _, err := pgx.ForEachRow(rows, []any{&n, &serial}, func() error { booked[n] = serial; return nil }); err != nil {
		return err
	}
	recalled, err := s.recalled(ctx)
	if err != nil {
		return err
	}
	since := int64(0)
	if d.LastSeen != nil {
		since = max(0, now.Sub(*d.LastSeen).Milliseconds())
	}
	later := func(age *int64) *int64 {
		if age == nil {
			return nil
		}
		v := *age + since
		return &v
	}
	for n := 1; n <= d.Slots; n++ {
		st, told := d.Inventory.Slot(n)
		st.Slot = n
		row := staff.Slot{SlotState: st, SeenAgeMS: later(st.AgeMS), NowAgeMS: later(st.SocAgeMS), Booked: booked[n]}
		holds := st.Presence == protocol.HoldsBattery
		row.Differs = told && (holds && st.BatterySerial != "" && st.BatterySerial != row.Booked || st.Presence == protocol.PresenceEmpty && row.Booked != "")
		for _, out := range d.SlotsOut {
			row.Off = row.Off || out == n
		}
		for _, a := range d.Alarms {
			if kind, slot := staff.ParseAlarm(a); slot == n {
				row.Alarms = append(row.Alarms, kind)
			}
		}
		for _, r := range recalled {
			row.Recalled = row.Recalled || r == st.BatterySerial && r != ""
		}
		d.Table = append(d.Table, row)
	}
	return nil
}

// recordEvents are records with their payloads, out of the messages that the
// cabinets signed. from selects rows r of record; its last argument bounds them.
func (s *Store) recordEvents(ctx context.Context, limit int, from string, args ...any) ([]staff.Event, error) {
	rows, err := s.pool.Query(ctx, `SELECT r.cabinet_id, r.seq, r.type, r.at, r.time_quality, coalesce(r.swap_id::text, ''),
		(SELECT envelope FROM log_batch b WHERE b.cabinet_id = r.cabinet_id AND b.epoch = r.epoch AND b.upto_seq >= r.seq ORDER BY b.upto_seq LIMIT 1) `+from,
		append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	keys, err := allKeys(ctx, s.pool)
	if err != nil {
		rows.Close()
		return nil, err
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (staff.Event, error) {
		var kind protocol.RecordType
		var at time.Time
		var envelope []byte
		e := staff.Event{Source: "record"}
		if err := r.Scan(&e.CabinetID, &e.Seq, &kind, &at, &e.Quality, &e.SwapID, &envelope); err != nil {
			return e, err
		}
		e.At, e.What = &at, kind.String()
		_, rs, err := openLog(envelope, keys)
		if err != nil {
			s.log.Error("a stored log message cannot be read", "cabinet_id", e.CabinetID, "err", err)
			return e, nil
		}
		for _, rec := range rs {
			if rec.Seq == e.Seq {
				e.Payload = rec.Payload
				e = e.Summed()
			}
		}
		return e, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	return out, nil
}

// Alarms are the last safety records of the fleet, the newest first.
func (s *Store) Alarms(ctx context.Context) ([]staff.Event, error) {
	return s.recordEvents(ctx, 100, `FROM record r WHERE r.type IN (11, 12, 13) ORDER BY r.at DESC LIMIT $1`)
}

// entryEvent is an entry of the ledger as a line of a story.
func entryEvent(x swap.Entry) staff.Event {
	at := x.At
	e := staff.Event{
		At: &at, Quality: x.Quality, Source: "ledger", What: string(x.What), CabinetID: x.CabinetID, SwapID: x.SwapID,
		RiderID: x.RiderID, Slot: x.Slot, Serial: x.BatterySerial, Holder: x.Holder, By: x.By,
	}
	if x.What == swap.Assigned || x.SwapID.Validate() != nil {
		e.SwapID = "" // an act of staff has no swap, nor has maintenance
	}
	return e
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// OrderMaintenance writes an order of staff down, and gives what the cabinet is
// asked. Any replica grants what the cabinet answers. An order that was given before
// (sameOrder) is that one: how it stands is its answer. key is 1 to 64 printable
// characters, or "" for none.
func (s *Store) OrderMaintenance(ctx context.Context, id protocol.CabinetID, what protocol.Order, slot int, key string) (staff.Order, protocol.MaintenanceRequest, error) {
	m := protocol.MaintenanceRequest{OrderID: protocol.OrderID(newID()), What: what, Slot: slot}
	if err := m.Validate(); err != nil {
		return staff.Order{}, m, staff.AsMistake(err)
	}
	if key != "" {
		if err := checkKey(key); err != nil {
			return staff.Order{}, m, staff.AsMistake(err)
		}
	}
	made := m.OrderID
	err := s.acting(ctx, "order maintenance", func(tx pgx.Tx) error {
		m.OrderID = made
		if err := lockWords(ctx, tx, "orders of "+staff.Who(ctx).Login); err != nil {
			return err
		}
		same, err := sameOrder(ctx, tx, id, m, key)
		if err != nil || same != "" {
			m.OrderID = same
			return err
		}
		var slots int
		var retired bool
		err = tx.QueryRow(ctx, `SELECT slots, retired_at IS NOT NULL FROM cabinet WHERE cabinet_id = $1`, string(id)).Scan(&slots, &retired)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("cabinet %.24s: %w", id, ErrNotFound)
		case err != nil:
			return err
		case retired:
			return &staff.Refusal{Code: staff.Retired, Detail: string(id)}
		case slot > slots:
			return &staff.Refusal{Code: staff.SlotUnknown, Detail: strconv.Itoa(slot)}
		}
		if _, err := tx.Exec(ctx, `INSERT INTO maintenance_order (order_id, cabinet_id, what, slot, requested_by, idempotency_key) VALUES ($1, $2, $3, NULLIF($4, 0), $5, NULLIF($6, ''))`,
			string(m.OrderID), string(id), string(what), slot, staff.Who(ctx).Login, key); err != nil {
			return err
		}
		detail := map[string]any{"order_id": m.OrderID}
		if slot != 0 {
			detail["slot"] = slot
		}
		return audit(ctx, tx, "maintenance."+string(what), string(id), detail)
	})
	if err != nil {
		return staff.Order{}, m, err
	}
	o, err := s.MaintenanceOrder(ctx, m.OrderID)
	return o, m, err
}

// sameOrder is the order that this one repeats, "" for none: one of the same key; one
// of the same words by the same person that the cabinet may still carry out; or,
// without a key, one that it has just carried out, or a maintenance that is under
// way. Who wants a door opened once more gives a new key.
func sameOrder(ctx context.Context, tx pgx.Tx, id protocol.CabinetID, m protocol.MaintenanceRequest, key string) (same protocol.OrderID, err error) {
	login := staff.Who(ctx).Login
	var matches bool
	err = tx.QueryRow(ctx, `SELECT order_id::text, cabinet_id = $3 AND what = $4 AND coalesce(slot, 0) = $5 FROM maintenance_order
		WHERE requested_by = $1 AND idempotency_key = NULLIF($2, '')`, login, key, string(id), string(m.What), m.Slot).Scan(&same, &matches)
	switch {
	case err == nil && !matches:
		return "", staff.Mistakef("Idempotency-Key: it was used for another order: want a new one")
	case err == nil || !errors.Is(err, pgx.ErrNoRows):
		return same, err
	}
	err = tx.QueryRow(ctx, `SELECT order_id::text FROM maintenance_order WHERE requested_by = $1 AND cabinet_id = $3 AND what = $4 AND coalesce(slot, 0) = $5 AND (
			state = 'requested' AND requested_at > clock_timestamp() - $8::interval
			OR state = 'granted' AND requested_at > clock_timestamp() - $6::interval
			OR $2 = '' AND state = 'done' AND (done_at > clock_timestamp() - $6::interval
				OR what = 'begin' AND ended_at IS NULL AND done_at > clock_timestamp() - $7::interval))
		ORDER BY requested_at DESC LIMIT 1`, login, key, string(id), string(m.What), m.Slot, staff.OrderAnswers, staff.MaintenanceWindow, swap.PreparedWithin).Scan(&same)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return same, err
}

const orderColumns = `SELECT order_id::text, what, coalesce(slot, 0), requested_by, requested_at, state, coalesce(reason, ''), done_at FROM maintenance_order`

func scanOrder(r pgx.Row) (o staff.Order, err error) {
	err = r.Scan(&o.OrderID, &o.What, &o.Slot, &o.By, &o.At, &o.State, &o.Reason, &o.DoneAt)
	return o, err
}

// MaintenanceOrder is how an order stands, or ErrNotFound.
func (s *Store) MaintenanceOrder(ctx context.Context, id protocol.OrderID) (staff.Order, error) {
	o, err := scanOrder(s.pool.QueryRow(ctx, orderColumns+` WHERE order_id = $1`, string(id)))
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return o, fmt.Errorf("order %s: %w", id, err)
	}
	return o, nil
}

// MaintenanceAnswered takes a cabinet's answer to an order, under its cursor's
// lock and in one commit. A nil grant means that it is not granted; why is logged.
func (s *Store) MaintenanceAnswered(ctx context.Context, id protocol.CabinetID, m protocol.MaintenanceAnswer) (*protocol.MaintenanceGrant, error) {
	var g *protocol.MaintenanceGrant
	var why error
	err := s.tx(ctx, func(tx pgx.Tx) error {
		g, why = nil, errors.New("not an order to this cabinet")
		rows, err := tx.Query(ctx, `SELECT `+cabinetColumns+` WHERE k.cabinet_id = $1 FOR NO KEY UPDATE OF k`, string(id))
		if err != nil {
			return err
		}
		c, err := pgx.CollectExactlyOneRow(rows, func(pgx.CollectableRow) (*swap.Cabinet, error) { return scanCabinet(rows) })
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		o := swap.Order{OrderID: m.OrderID, CabinetID: id}
		var now time.Time
		err = tx.QueryRow(ctx, `SELECT what, coalesce(slot, 0), state, requested_at, clock_timestamp() FROM maintenance_order
			WHERE order_id = $1 AND cabinet_id = $2 FOR NO KEY UPDATE`, string(m.OrderID), string(id)).Scan(&o.What, &o.Slot, &o.State, &o.RequestedAt, &now)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		was := o.State
		if g, why = o.Answer(c, m, now); o.State == was {
			return nil
		}
		var nonce []byte
		if g != nil {
			nonce = g.Nonce[:]
		}
		_, err = tx.Exec(ctx, `UPDATE maintenance_order SET state = $2, reason = NULLIF($3, ''), nonce = coalesce($4, nonce) WHERE order_id = $1`,
			string(o.OrderID), string(o.State), string(o.Reason), nonce)
		return err
	})
	switch {
	case isConstraint(err, "one_order_per_nonce"):
		s.log.Warn("order not granted", "cabinet_id", id, "reason", "its nonce has been used before")
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("grant order %s: %w", m.OrderID, err)
	case why != nil:
		s.log.Info("order not granted", "cabinet_id", id, "reason", why.Error())
	}
	return g, nil
}

// queueMaintenance notes what cabinets told of their orders. An order that a
// restored database has lost is in no row, and none is made: the records are there.
func queueMaintenance(b *pgx.Batch, events []swap.MaintenanceEvent) {
	for _, e := range events {
		if e.OrderID != "" {
			b.Queue(`UPDATE maintenance_order SET state = 'done', reason = NULL, done_at = $3 WHERE order_id = $1 AND cabinet_id = $2`,
				string(e.OrderID), string(e.CabinetID), e.At)
		}
		switch e.What {
		case protocol.OrderBegin: // one that was under way has ended, untold
			b.Queue(`UPDATE maintenance_order SET ended_at = $3 WHERE cabinet_id = $2 AND what = 'begin' AND state = 'done' AND ended_at IS NULL AND order_id <> $1`,
				string(e.MaintenanceID), string(e.CabinetID), e.At)
		case protocol.OrderEnd:
			b.Queue(`UPDATE maintenance_order SET ended_at = $3, ended_reason = NULLIF($4, ''), ended_epoch = $5, ended_seq = $6
				WHERE order_id = $1 AND cabinet_id = $2 AND what = 'begin'`,
				string(e.MaintenanceID), string(e.CabinetID), e.At, string(e.Reason), nullable16(e.Epoch), int64(e.Seq))
		}
	}
}

// endMaintenance: nothing more will be told of what was under way in an epoch that
// is left.
func endMaintenance(b *pgx.Batch, id protocol.CabinetID) {
	b.Queue(`UPDATE maintenance_order SET ended_at = now(), ended_reason = $2 WHERE cabinet_id = $1 AND what = 'begin' AND state = 'done' AND ended_at IS NULL`,
		string(id), string(protocol.ReasonEpochReplaced))
}

// maxOrders is how many orders a cabinet's page shows.
const maxOrders = 10

// maintenance puts what is under way at a cabinet, and its last orders, beside the
// rest.
func (s *Store) maintenance(ctx context.Context, d *staff.CabinetDetail) error {
	var m staff.Visit
	err := s.pool.QueryRow(ctx, `SELECT order_id::text, requested_by, done_at FROM maintenance_order
		WHERE cabinet_id = $1 AND what = 'begin' AND state = 'done' AND ended_at IS NULL ORDER BY done_at DESC LIMIT 1`, string(d.CabinetID)).
		Scan(&m.MaintenanceID, &m.By, &m.BeganAt)
	switch {
	case err == nil:
		m.Until = m.BeganAt.Add(staff.MaintenanceWindow)
		d.Maintenance = &m
	case !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("read maintenance of %s: %w", d.CabinetID, err)
	}
	rows, err := s.pool.Query(ctx, orderColumns+` WHERE cabinet_id = $1 ORDER BY requested_at DESC LIMIT $2`, string(d.CabinetID), maxOrders)
	if err == nil {
		d.Orders, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (staff.Order, error) { return scanOrder(r) })
	}
	if err != nil {
		return fmt.Errorf("read orders to %s: %w", d.CabinetID, err)
	}
	return nil
}

// maintainers says who began the maintenance that entries of the ledger are of.
func (s *Store) maintainers(ctx context.Context, entries []swap.Entry) error {
	for i, e := range entries {
		if e.What != swap.Removed && e.What != swap.Added {
			continue
		}
		err := s.pool.QueryRow(ctx, `SELECT requested_by FROM maintenance_order WHERE cabinet_id = $1 AND ended_epoch = $2 AND ended_seq = $3`,
			string(e.CabinetID), e.Epoch[:], int64(e.Seq)).Scan(&entries[i].By)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("read who maintained %s: %w", e.CabinetID, err)
		}
	}
	return nil
}

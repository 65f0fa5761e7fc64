package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Notice is a safety event that nobody has been told of yet.
type Notice struct {
	swap.SafetyEvent
	Station, Street string
	Tries           int // with the one that begins now
}

// A safety event that is there already is the same one: after a restore cabinets
// tell again.
var writeEvents = inserts("safety_event", "ON CONFLICT DO NOTHING",
	text("cabinet_id", func(e swap.SafetyEvent) protocol.CabinetID { return e.CabinetID }),
	b16("epoch", func(e swap.SafetyEvent) protocol.Epoch { return e.Epoch }),
	numbers("seq", func(e swap.SafetyEvent) uint64 { return e.Seq }),
	text("record", func(e swap.SafetyEvent) swap.SafetyRecord { return e.Record }),
	plain("kind", "text", func(e swap.SafetyEvent) string { return clean(string(e.Alarm.Kind)) }),
	nullZero(numbers("slot", func(e swap.SafetyEvent) int {
		if e.Alarm.Slot < 0 || e.Alarm.Slot > protocol.MaxSlots {
			return 0
		}
		return e.Alarm.Slot
	})),
	uuids("swap_id", func(e swap.SafetyEvent) protocol.SwapID {
		if e.Alarm.SwapID.Validate() != nil {
			return ""
		}
		return e.Alarm.SwapID
	}),
	flags("cleared", func(e swap.SafetyEvent) bool { return e.Alarm.Cleared }),
	times("at", func(e swap.SafetyEvent) time.Time { return e.At }),
	text("time_quality", func(e swap.SafetyEvent) swap.TimeQuality { return e.Quality }),
	times("received_at", func(e swap.SafetyEvent) time.Time { return e.ReceivedAt }),
	times("due_at", func(e swap.SafetyEvent) time.Time { return e.ReceivedAt }),
)

// ClaimNotices takes at most n notices that are due, new ones first. Nobody else
// gets them before lease has passed; by then NoticeTold or NoticeFailed must have
// been called, or they are due again: whoever claimed them has died.
func (s *Store) ClaimNotices(ctx context.Context, n int, lease time.Duration) ([]Notice, error) {
	rows, err := s.pool.Query(ctx, `UPDATE safety_event e SET tries = e.tries + 1, due_at = clock_timestamp() + $2::interval
		FROM (SELECT cabinet_id, epoch, seq FROM safety_event WHERE told_at IS NULL AND due_at <= clock_timestamp()
			ORDER BY tries, due_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED) d LEFT JOIN cabinet c USING (cabinet_id)
		WHERE e.cabinet_id = d.cabinet_id AND e.epoch = d.epoch AND e.seq = d.seq
		RETURNING e.cabinet_id, e.epoch, e.seq, e.record, e.kind, coalesce(e.slot, 0), coalesce(e.swap_id::text, ''), e.cleared,
			e.at, e.time_quality, e.received_at, e.tries, coalesce(c.station, ''), coalesce(c.street, '')`, n, lease)
	if err != nil {
		return nil, fmt.Errorf("claim notices: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (Notice, error) {
		var x Notice
		var epoch []byte
		err := r.Scan(&x.CabinetID, &epoch, &x.Seq, &x.Record, &x.Alarm.Kind, &x.Alarm.Slot, &x.Alarm.SwapID, &x.Alarm.Cleared,
			&x.At, &x.Quality, &x.ReceivedAt, &x.Tries, &x.Station, &x.Street)
		copy(x.Epoch[:], epoch)
		return x, err
	})
	if err != nil {
		return nil, fmt.Errorf("claim notices: %w", err)
	}
	return out, nil
}

// NoticeTold says that somebody has been told: it is never due again.
func (s *Store) NoticeTold(ctx context.Context, n Notice) error {
	_, err := s.pool.Exec(ctx, `UPDATE safety_event SET told_at = clock_timestamp() WHERE cabinet_id = $1 AND epoch = $2 AND seq = $3`,
		string(n.CabinetID), n.Epoch[:], int64(n.Seq))
	if err != nil {
		return fmt.Errorf("a notice that was told: %w", err)
	}
	return nil
}

// NoticeFailed makes a notice due again after a pause.
func (s *Store) NoticeFailed(ctx context.Context, n Notice, pause time.Duration) error {
	_, err := s.pool.Exec(ctx, `UPDATE safety_event SET due_at = clock_timestamp() + $4::interval
		WHERE cabinet_id = $1 AND epoch = $2 AND seq = $3 AND told_at IS NULL`, string(n.CabinetID), n.Epoch[:], int64(n.Seq), pause)
	if err != nil {
		return fmt.Errorf("a notice that failed: %w", err)
	}
	return nil
}

package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// A database that was restored from a backup does not know it. It is told by
// staff (BeginRecovery), or by the first cabinet that was acknowledged more than
// it has; so that none keeps silent about that, cabinets are asked for a hello
// whenever a replica starts or has its database back. Nothing in the database or
// beside it can tell better: the system identifier and the timeline survive a
// dump that is loaded again, and a token kept outside would have to be kept by
// every replica, each of which restarts at its own time.

// sqlBegin begins a recovery, unless one is under way. $1 cabinet, $2 seq.
const sqlBegin = `UPDATE fleet SET recovering_since = now(), recovering_cabinet = $1, recovering_seq = $2,
	challenge = decode(replace(gen_random_uuid()::text, '-', ''), 'hex') WHERE recovering_since IS NULL`

// sqlEnd ends a recovery: since it began every cabinet that is in service has
// said hello, and all that each had to tell has been ingested.
const sqlEnd = `UPDATE fleet SET recovering_since = NULL, recovering_cabinet = NULL, recovering_seq = NULL
	WHERE recovering_since IS NOT NULL AND NOT EXISTS (
		SELECT FROM cabinet_cursor k JOIN cabinet c USING (cabinet_id)
		WHERE k.epoch IS NOT NULL AND NOT k.forked AND NOT c.out_of_service AND c.retired_at IS NULL
			AND (k.hello_challenge IS DISTINCT FROM fleet.challenge OR k.last_seq < k.hello_tail_seq))`

// queueRecovering says that a cabinet knows of records that this database has
// lost. One that staff took out of service begins nothing: a key that was stolen
// must not stop the fleet again and again.
func (s *Store) queueRecovering(l *loaded, b *pgx.Batch, c *swap.Cabinet, seq uint64) {
	if c.OutOfService || l.recovering {
		return
	}
	b.Queue(sqlBegin, string(c.CabinetID), int64(seq))
	s.log.Error("a cabinet knows of records that this database has lost: no owed or first batteries until all cabinets have told",
		"cabinet_id", c.CabinetID, "event", "recovering", "seq", seq, "last_seq", c.LastSeq)
}

// queueCaughtUp ends a recovery that is over. It follows the writes.
func queueCaughtUp(b *pgx.Batch) { b.Queue(sqlEnd) }

// BeginRecovery says that the database was restored from a backup. Whoever
// restores one calls it before the first replica starts.
func (s *Store) BeginRecovery(ctx context.Context) error {
	return s.acting(ctx, "begin a recovery", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlBegin, nil, nil); err != nil {
			return err
		}
		return audit(ctx, tx, "fleet.begin_recovery", "fleet", nil)
	})
}

// WaiveRecovery lets owed and issue grants go on after a restore, though some
// cabinet has not caught up: the named one, or any of them for "".
func (s *Store) WaiveRecovery(ctx context.Context, id protocol.CabinetID) error {
	if id == "" {
		return s.acting(ctx, "waive the recovery", func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `UPDATE fleet SET recovering_since = NULL, recovering_cabinet = NULL, recovering_seq = NULL`); err != nil {
				return err
			}
			return audit(ctx, tx, "fleet.waive_recovery", "fleet", nil)
		})
	}
	return s.acting(ctx, "waive the recovery", func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE cabinet_cursor SET hello_challenge = fleet.challenge, hello_tail_seq = last_seq FROM fleet WHERE cabinet_id = $1`, string(id))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("cabinet_id %s: %w", id, ErrNotFound)
		}
		if _, err := tx.Exec(ctx, sqlEnd); err != nil {
			return err
		}
		return audit(ctx, tx, "cabinet.waive_recovery", string(id), nil)
	})
}

// ToAsk are the cabinets that are to say hello, and with what challenge: in a
// recovery those that have not said it since, and all when a replica cannot know
// what became of the database meanwhile.
func (s *Store) ToAsk(ctx context.Context, all bool) ([]protocol.CabinetID, protocol.Challenge, error) {
	var c protocol.Challenge
	var drawn []byte
	var recovering bool
	if err := s.pool.QueryRow(ctx, `SELECT challenge, recovering_since IS NOT NULL FROM fleet`).Scan(&drawn, &recovering); err != nil {
		return nil, c, fmt.Errorf("read the challenge: %w", err)
	}
	copy(c[:], drawn)
	if !all && !recovering {
		return nil, c, nil
	}
	rows, err := s.pool.Query(ctx, `SELECT k.cabinet_id FROM cabinet_cursor k JOIN cabinet c USING (cabinet_id)
		WHERE c.retired_at IS NULL AND ($1 OR k.hello_challenge IS DISTINCT FROM $2) ORDER BY 1`, all, drawn)
	if err != nil {
		return nil, c, fmt.Errorf("read who is to say hello: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[protocol.CabinetID])
	if err != nil {
		return nil, c, fmt.Errorf("read who is to say hello: %w", err)
	}
	return ids, c, nil
}

// RetireCabinet takes a cabinet out of the fleet for good: its device key ends,
// what was open there goes to review, and no recovery waits for it. While the
// books have batteries inside it is refused: nobody would look for them there.
func (s *Store) RetireCabinet(ctx context.Context, id protocol.CabinetID) error {
	inventory, err := s.lastInventory(ctx, id)
	if err != nil {
		return err
	}
	w := wanted{cabinets: strs(id), openAt: strs(id)}
	for slot := range protocol.MaxSlots {
		w.slotCabinets, w.slotNumbers = append(w.slotCabinets, string(id)), append(w.slotNumbers, slot+1)
	}
	err = s.transact(ctx, w, func(l *loaded, b *pgx.Batch) error {
		c := l.books.Cabinets[id]
		if c == nil {
			return ErrNotFound
		}
		if inside := batteriesIn(l.books, id); len(inside) > 0 {
			return &staff.Refusal{Code: staff.BatteriesInside, Detail: strings.Join(inside, ", ")}
		}
		l.books.LeaveEpoch(c, inventory, swap.Now(l.now))
		endMaintenance(b, c.CabinetID)
		l.books.EnterEpoch(c, protocol.Epoch{})
		b.Queue(`UPDATE cabinet SET retired_at = now(), out_of_service = true, config_version = config_version + 1 WHERE cabinet_id = $1`, string(id))
		b.Queue(`UPDATE cabinet_epoch SET state = 'left', changed_at = now() WHERE cabinet_id = $1 AND state <> 'left'`, string(id))
		b.Queue(`UPDATE cabinet_key SET revoked_at = now() WHERE cabinet_id = $1 AND revoked_at IS NULL`, string(id))
		b.Queue(`SELECT pg_notify($1, '')`, channelKeys)
		l.queueChanges(b)
		queueCaughtUp(b)
		return queueAudit(ctx, b, "cabinet.retire", string(id), nil)
	})
	if err != nil {
		return fmt.Errorf("retire cabinet %s: %w", id, err)
	}
	return nil
}

// batteriesIn lists what the books have in a cabinet, slot by slot.
func batteriesIn(b *swap.Books, id protocol.CabinetID) []string {
	var in []*swap.Battery
	for _, x := range b.Batteries {
		if x.Holder == swap.InSlot && x.CabinetID == id {
			in = append(in, x)
		}
	}
	slices.SortFunc(in, func(a, b *swap.Battery) int { return cmp.Compare(a.Slot, b.Slot) })
	out := make([]string, len(in))
	for i, x := range in {
		out[i] = fmt.Sprintf("slot %d: %s", x.Slot, x.BatterySerial)
	}
	return out
}

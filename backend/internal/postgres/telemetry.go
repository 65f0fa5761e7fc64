package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// tellerIdle is how long the lock is kept without anything to write: perhaps this
// replica has gone deaf, and another hears.
const tellerIdle = 5 * time.Second

// TelemetryLock is the advisory lock of the one replica that writes telemetry.
const TelemetryLock = 0x5357_4150 // "SWAP"

// Heard is one telemetry message of one cabinet.
type Heard struct {
	CabinetID protocol.CabinetID
	Telemetry protocol.Telemetry
}

// teller holds the connection whose session has the lock.
type teller struct {
	mu    sync.Mutex
	conn  *pgxpool.Conn
	wrote time.Time
}

func (t *teller) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release()
}

// release gives the connection up for good: closing it gives the lock up.
func (t *teller) release() {
	if t.conn != nil {
		hangUp(t.conn.Hijack())
		t.conn = nil
	}
}

var writeStates = inserts("cabinet_state", `ON CONFLICT (cabinet_id) DO UPDATE SET seen_at = EXCLUDED.seen_at, boot_id = EXCLUDED.boot_id,
	boot_seq = EXCLUDED.boot_seq, software = EXCLUDED.software, backlog_records = EXCLUDED.backlog_records,
	out_of_service = EXCLUDED.out_of_service, alarms = EXCLUDED.alarms, upper_c = EXCLUDED.upper_c, mono_ms = EXCLUDED.mono_ms, energy_j = EXCLUDED.energy_j, inventory = EXCLUDED.inventory,
	slots_out = EXCLUDED.slots_out, slots_charged = EXCLUDED.slots_charged, slots_holding = EXCLUDED.slots_holding, slots_empty = EXCLUDED.slots_empty`,
	text("cabinet_id", func(h Heard) protocol.CabinetID { return h.CabinetID }),
	seenNow(),
	plain("boot_id", "bytea", func(h Heard) []byte { return h.Telemetry.BootID[:] }),
	numbers("boot_seq", func(h Heard) uint32 { return h.Telemetry.BootSeq }),
	plain("software", "text", func(h Heard) string { return clean(h.Telemetry.Software) }),
	numbers("backlog_records", func(h Heard) uint64 { return min(h.Telemetry.BacklogRecords, maxSeq) }),
	text("out_of_service", func(h Heard) string { return clean(string(h.Telemetry.OutOfService)) }),
	alarmList(),
	plain("upper_c", "double precision", func(h Heard) *float64 { return h.Telemetry.UpperC }),
	numbers("mono_ms", func(h Heard) uint64 { return min(h.Telemetry.MonoMS, maxSeq) }),
	plain("energy_j", "double precision", func(h Heard) *float64 {
		if h.Telemetry.EnergyJ == nil {
			return nil
		}
		j := float64(*h.Telemetry.EnergyJ)
		return &j
	}),
	inventoryOf(),
	numbers("slots_out", func(h Heard) int { return swap.CountSlots(h.Telemetry.Slots).Out }),
	numbers("slots_charged", func(h Heard) int { return swap.CountSlots(h.Telemetry.Slots).Charged }),
	numbers("slots_holding", func(h Heard) int { return swap.CountSlots(h.Telemetry.Slots).Holding }),
	numbers("slots_empty", func(h Heard) int { return swap.CountSlots(h.Telemetry.Slots).Empty }),
)

// The database's clock says when a cabinet was heard: its own is not trusted,
// and replicas' differ.
func seenNow() column[Heard] {
	c := plain("seen_at", "boolean", func(Heard) bool { return true })
	c.expr = "clock_timestamp()"
	return c
}

func alarmList() column[Heard] {
	c := documents("alarms", func(h Heard) any {
		out := make([]string, len(h.Telemetry.Alarms))
		for i, a := range h.Telemetry.Alarms {
			out[i] = clean(a)
		}
		return out
	})
	c.expr = "ARRAY(SELECT jsonb_array_elements_text(" + c.expr + "))"
	return c
}

func inventoryOf() column[Heard] {
	c := documents("inventory", func(h Heard) any { return known(h.Telemetry.Slots) })
	c.expr = "coalesce(" + c.expr + ", '[]')"
	return c
}

// known keeps only answers that are on the lists: what a page shows is not what
// a broken agent made up.
func known(inv protocol.Inventory) protocol.Inventory {
	out := slices.Clone(inv)
	for i := range out {
		if d := out[i].Door; d != protocol.DoorOpen && d != protocol.DoorShut {
			out[i].Door = protocol.DoorUnknown
		}
		if p := out[i].Presence; p != protocol.PresenceEmpty && p != protocol.HoldsBattery {
			out[i].Presence = protocol.PresenceUnknown
		}
	}
	return out
}

// Telemetry writes the last words of cabinets, later ones over earlier ones. It
// does so only on the replica that holds TelemetryLock, and reports whether it
// is that one. It is called again and again, with nothing too: a replica that
// hears nothing gives the lock up.
func (s *Store) Telemetry(ctx context.Context, heard []Heard) (wrote bool, err error) {
	s.teller.mu.Lock()
	defer s.teller.mu.Unlock()
	if len(heard) == 0 {
		if time.Since(s.teller.wrote) > tellerIdle {
			s.teller.release()
		}
		return s.teller.conn != nil, nil
	}
	if err := s.lockTelemetry(ctx); err != nil || s.teller.conn == nil {
		return false, err
	}
	last := map[protocol.CabinetID]Heard{}
	for _, h := range heard {
		last[h.CabinetID] = h
	}
	ids := make([]string, 0, len(last))
	for id := range last {
		ids = append(ids, string(id))
	}
	// Only enrolled cabinets, in the order in which all lock.
	rows, err := s.teller.conn.Query(ctx, `SELECT cabinet_id FROM cabinet WHERE cabinet_id = ANY($1) ORDER BY 1`, ids)
	if err == nil {
		var enrolled []protocol.CabinetID
		if enrolled, err = pgx.CollectRows(rows, pgx.RowTo[protocol.CabinetID]); err == nil {
			out := make([]Heard, len(enrolled))
			for i, id := range enrolled {
				out[i] = last[id]
			}
			var b pgx.Batch
			writeStates.queue(&b, out)
			err = s.teller.conn.SendBatch(ctx, &b).Close()
		}
	}
	if err != nil {
		s.teller.release()
		return false, fmt.Errorf("write telemetry: %w", err)
	}
	s.teller.wrote = time.Now()
	return true, nil
}

// lockTelemetry takes the lock if it is free, and keeps its connection.
func (s *Store) lockTelemetry(ctx context.Context) error {
	if s.teller.conn != nil {
		return nil
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("telemetry lock: %w", err)
	}
	var got bool
	err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(TelemetryLock)).Scan(&got)
	if err != nil || !got {
		conn.Release()
		if err != nil {
			return errors.Join(errors.New("telemetry lock"), err)
		}
		return nil
	}
	s.teller.conn = conn
	return nil
}

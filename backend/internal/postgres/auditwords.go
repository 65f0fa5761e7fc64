package postgres

import (
	"context"
	"crypto/ed25519"
	"fmt"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// chain is how far one cabinet's epoch has been read.
type chain struct {
	cabinet protocol.CabinetID
	epoch   protocol.Epoch
	seq     uint64
	hash    protocol.Hash
}

// auditWords reads every log message again as the cabinet signed it: signature,
// chain, and that each TAKEN is one entry and each entry one TAKEN (I3), unless
// the entry was derived or a person has been asked.
func auditWords(ctx context.Context, tx pgx.Tx, rep *Report) error {
	keys, err := allKeys(ctx, tx)
	if err != nil {
		return err
	}
	takes, err := ledgerTakes(ctx, tx)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `SELECT cabinet_id, epoch, from_seq, upto_seq, envelope FROM log_batch ORDER BY cabinet_id, epoch, upto_seq`)
	if err != nil {
		return fmt.Errorf("read log messages: %w", err)
	}
	var at chain
	var w words
	var epoch []byte
	_, err = pgx.ForEachRow(rows, []any{&w.cabinet, &epoch, &w.first, &w.last, &w.envelope}, func() error {
		w.epoch = protocol.Epoch(epoch)
		if at.cabinet != w.cabinet || at.epoch != w.epoch {
			at = chain{cabinet: w.cabinet, epoch: w.epoch}
		}
		if why := at.follow(w, keys, takes, rep); why != nil {
			rep.Differences = append(rep.Differences, Difference{
				"log_batch", fmt.Sprintf("%s %s %d-%d", w.cabinet, w.epoch, w.first, w.last), "stored", why.Error(),
			})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read log messages: %w", err)
	}
	for id, t := range takes {
		if !t.said && !t.excused {
			rep.Differences = append(rep.Differences, Difference{"I3 an entry without its TAKEN", string(id), string(t.serial), "no record"})
		}
	}
	return nil
}

// follow checks one message and goes on behind it.
func (c *chain) follow(w words, keys protocol.KeyLookup, takes map[protocol.SwapID]*ledgerTake, rep *Report) error {
	e, err := protocol.Open(w.envelope, keys)
	if err != nil {
		return err
	}
	var l protocol.Log
	if err := protocol.Decode(e, &l); err != nil {
		return err
	}
	if e.CabinetID != w.cabinet || l.Epoch != w.epoch {
		return fmt.Errorf("the envelope is of %s %s", e.CabinetID, l.Epoch)
	}
	rs, err := swap.DecodeLog(l)
	if err != nil {
		return err
	}
	for _, r := range rs {
		if r.Seq < w.first || r.Seq > w.last {
			continue
		}
		if r.Seq == c.seq+1 && r.PrevHash != c.hash {
			return fmt.Errorf("record %d does not follow record %d", r.Seq, c.seq)
		}
		c.seq, c.hash = r.Seq, r.Hash
		rep.Records++
		if t, ok := r.Body.(protocol.Taken); ok {
			told(t, w.cabinet, takes, rep)
		}
	}
	if c.seq != w.last {
		return fmt.Errorf("ends with record %d", c.seq)
	}
	return nil
}

func told(t protocol.Taken, cabinet protocol.CabinetID, takes map[protocol.SwapID]*ledgerTake, rep *Report) {
	have := takes[t.SwapID]
	switch {
	case have == nil:
		rep.Differences = append(rep.Differences, Difference{"I3 a TAKEN without its entry", string(t.SwapID), "none", string(t.BatterySerial)})
	case have.cabinet != cabinet: // another cabinet's swap: that record has its own review
	case have.serial == t.BatterySerial:
		have.said = true
	case !have.excused:
		rep.Differences = append(rep.Differences, Difference{"I3 a TAKEN of another battery", string(t.SwapID), string(have.serial), string(t.BatterySerial)})
	}
}

// ledgerTake is a swap's take in the ledger.
type ledgerTake struct {
	serial  protocol.BatterySerial
	cabinet protocol.CabinetID
	excused bool // derived, or a person has been asked
	said    bool
}

func ledgerTakes(ctx context.Context, tx pgx.Tx) (map[protocol.SwapID]*ledgerTake, error) {
	rows, err := tx.Query(ctx, `SELECT coalesce(l.swap_id, v.swap_id)::text, coalesce(l.battery_serial, ''), coalesce(l.cabinet_id, v.cabinet_id),
			coalesce(l.derived, false) OR v.swap_id IS NOT NULL
		FROM (SELECT * FROM ledger WHERE what = 'take') l
		FULL JOIN (SELECT swap_id, cabinet_id FROM review WHERE swap_id IS NOT NULL) v USING (swap_id)`)
	if err != nil {
		return nil, fmt.Errorf("read takes: %w", err)
	}
	out := map[protocol.SwapID]*ledgerTake{}
	var id protocol.SwapID
	var t ledgerTake
	_, err = pgx.ForEachRow(rows, []any{&id, &t.serial, &t.cabinet, &t.excused}, func() error {
		have := t
		out[id] = &have
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read takes: %w", err)
	}
	return out, nil
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// allKeys are the keys that ever spoke for a cabinet.
func allKeys(ctx context.Context, tx querier) (protocol.KeyLookup, error) {
	rows, err := tx.Query(ctx, `SELECT cabinet_id || ' ' || kid, public_key FROM cabinet_key`)
	if err != nil {
		return nil, fmt.Errorf("read device keys: %w", err)
	}
	keys := map[string]ed25519.PublicKey{}
	var name string
	var key []byte
	_, err = pgx.ForEachRow(rows, []any{&name, &key}, func() error {
		keys[name] = append(ed25519.PublicKey(nil), key...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read device keys: %w", err)
	}
	return func(kid string, _ protocol.Type, cabinet protocol.CabinetID) (ed25519.PublicKey, bool) {
		k, ok := keys[string(cabinet)+" "+kid]
		return k, ok
	}, nil
}

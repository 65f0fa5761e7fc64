package postgres

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// loaded is what came back, and what a decision adds to it.
type loaded struct {
	books *swap.Books
	scans map[scanKey]storedScan
	now   time.Time // of the database, after the locks were had
	// recovering: the database was restored, and cabinets know more.
	recovering bool
	challenge  protocol.Challenge // that a hello must give back to count in a recovery
	review     swap.Case
	epochState string       // of the one that was asked for, "": none is known
	newScans   []storedScan // to be written
	moved      []string     // swaps whose riders are to be told, after COMMIT
	lane       int          // of the hours that this replica counts
}

const sqlNow = `SELECT clock_timestamp(), recovering_since IS NOT NULL, challenge FROM fleet`

// queueLoad adds the statements that lock and read what is wanted. The answer
// is whole once the batch is closed.
func queueLoad(b *pgx.Batch, w wanted) *loaded {
	l := &loaded{books: swap.NewBooks(), scans: map[scanKey]storedScan{}}
	load := func(when bool, sql string, scan func(pgx.Rows) error) {
		if when && sql != "" {
			sql, args := w.bind(sql)
			each(b, sql, args, scan)
		}
	}
	load(len(w.cabinets) > 0, sqlLockCursors, l.addCabinet)
	load(true, w.lockRiders(), l.addRider)
	load(len(w.scanKeys) > 0, sqlScans, l.addScan)
	load(true, w.lockCredits(), l.addCredit)
	load(true, w.lockBatteries(), l.addBattery)
	load(true, w.lockSwaps(), l.addSwap)
	load(len(w.deposits) > 0, sqlOtherSwaps, l.addSwap)
	load(len(w.lastSeqs) > 0, sqlHashes, l.addHash)
	load(len(w.epochs) > 0, sqlEpochState, func(r pgx.Rows) error { return r.Scan(&l.epochState) })
	load(len(w.riders) > 0, sqlOtherCabinets, l.addCabinet)
	if w.review != 0 {
		queueCase(b, w, l)
	}
	// After the locks: a wait for them does not make a request look younger.
	b.Queue(sqlNow).QueryRow(func(r pgx.Row) error {
		var drawn []byte
		err := r.Scan(&l.now, &l.recovering, &drawn)
		copy(l.challenge[:], drawn)
		return err
	})
	return l
}

func each(b *pgx.Batch, sql string, args []any, scan func(pgx.Rows) error) {
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// reachable reports whether a cabinet was heard of lately.
func (l *loaded) reachable(c *swap.Cabinet) bool { return l.now.Sub(c.HeardAt) < heardWithin }

func (l *loaded) addCabinet(r pgx.Rows) error {
	c, err := scanCabinet(r)
	l.books.Cabinets[c.CabinetID] = c
	return err
}

func (l *loaded) addRider(r pgx.Rows) error {
	var x swap.Rider
	err := r.Scan(&x.RiderID, &x.Active, &x.Deposits, &x.Returns, &x.Takes, &x.Counted, &x.Issued, &x.CreditsDue, &x.OpenReviews)
	l.books.Riders[x.RiderID] = &x
	return err
}

func (l *loaded) addScan(r pgx.Rows) error {
	x, err := scanStored(r)
	l.scans[x.key()] = x
	return err
}

func (l *loaded) addCredit(r pgx.Rows) error {
	var x swap.Credit
	err := r.Scan(&x.CreditID, &x.RiderID, &x.Origin, &x.State, &x.SwapID, &x.OpenedAt)
	l.books.Credits[x.CreditID] = &x
	return err
}

func (l *loaded) addBattery(r pgx.Rows) error {
	var x swap.Battery
	err := r.Scan(&x.BatterySerial, &x.Type, &x.Foreign, &x.Holder, &x.RiderID, &x.CabinetID, &x.Slot, &x.AheadOf, &x.Entries)
	l.books.AddBattery(&x)
	return err
}

func (l *loaded) addSwap(r pgx.Rows) error {
	s, err := scanSwap(r)
	if err == nil {
		l.books.Swaps[s.SwapID] = s
	}
	return err
}

func scanCabinet(r pgx.Rows) (*swap.Cabinet, error) {
	var c swap.Cabinet
	var heard *time.Time
	var epoch, hash, boot []byte
	err := r.Scan(&c.CabinetID, &c.Slots, &c.EnrolledAt, &c.OutOfService, &heard, &epoch, &c.LastSeq, &hash, &c.Hole, &c.Forked,
		&c.BootSeq, &boot, &c.ClockBoot, &c.ClockOffsetMS)
	copy(c.Epoch[:], epoch)
	copy(c.LastHash[:], hash)
	copy(c.BootID[:], boot)
	if heard != nil {
		c.HeardAt = *heard
	}
	return &c, err
}

func (l *loaded) addHash(r pgx.Rows) error {
	var id protocol.CabinetID
	var seq uint64
	var epoch, hash []byte
	if err := r.Scan(&id, &epoch, &seq, &hash); err != nil {
		return err
	}
	c := l.books.Cabinets[id]
	if c == nil || protocol.Epoch(epoch) != c.Epoch {
		return nil
	}
	if c.Hashes == nil {
		c.Hashes = map[uint64]protocol.Hash{}
	}
	c.Hashes[seq] = protocol.Hash(hash)
	return nil
}

func scanSwap(r pgx.Row) (*swap.Swap, error) {
	var s swap.Swap
	var epoch, boot, nonce, deposits, offers, pulsed []byte
	var closed *time.Time
	err := r.Scan(&s.SwapID, &s.CabinetID, &s.RiderID, &s.Kind, &s.State, &s.ByFact, &s.Parked,
		&epoch, &s.BootSeq, &boot, &nonce, &deposits, &offers, &s.CreditID,
		&s.Step, &s.Slot, &s.Door, &s.Judgement, &s.DepositSlot, &s.Deposited, &s.Soc, &pulsed,
		&s.TakeSlot, &s.Taken, &s.Outcome, &s.Reason, &s.Reviewed, &s.Ruling, &s.Entries,
		&s.ViewSeq, &s.RequestedAt, &s.UpdatedAt, &closed)
	if err != nil {
		return nil, err
	}
	copy(s.Epoch[:], epoch)
	copy(s.BootID[:], boot)
	copy(s.Nonce[:], nonce)
	if closed != nil {
		s.ClosedAt = *closed
	}
	for _, f := range []struct {
		from []byte
		to   any
	}{{deposits, &s.DepositSlots}, {offers, &s.Dispense}, {pulsed, &s.Pulsed}} {
		if f.from == nil {
			continue
		}
		if err := json.Unmarshal(f.from, f.to); err != nil {
			return nil, fmt.Errorf("row of swap %s: %w", s.SwapID, err)
		}
	}
	return &s, nil
}

// strs turns identifiers into what the driver sends.
func strs[S ~string](in ...S) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}

// isUUID guards columns of that type: a text that is none names nobody, which
// is an answer and not an error of the database.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') {
			return false
		}
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

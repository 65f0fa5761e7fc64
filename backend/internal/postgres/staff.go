package postgres

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// Enrolment is what staff say of a cabinet.
type Enrolment = staff.Enrolment

func checkEnrolment(e Enrolment) error {
	var errs []error
	add := func(ok bool, format string, a ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, a...))
		}
	}
	if err := e.CabinetID.Validate(); err != nil {
		errs = append(errs, err)
	}
	add(len(e.DeviceKey) == ed25519.PublicKeySize, "device_key: %d bytes, want %d", len(e.DeviceKey), ed25519.PublicKeySize)
	add(e.Slots >= 1 && e.Slots <= protocol.MaxSlots, "slots is %d: want 1 to %d", e.Slots, protocol.MaxSlots)
	add(e.Station != "" && clean(e.Station) == e.Station, "station: want a name")
	add(e.Street != "" && clean(e.Street) == e.Street, "street: want a name")
	return staff.AsMistake(errors.Join(errs...))
}

// EnrolCabinet makes a cabinet known, or gives it a new device key.
func (s *Store) EnrolCabinet(ctx context.Context, e Enrolment) error {
	if err := checkEnrolment(e); err != nil {
		return err
	}
	inventory, err := s.lastInventory(ctx, e.CabinetID)
	if err != nil {
		return err
	}
	err = s.transact(ctx, wanted{cabinets: strs(e.CabinetID), openAt: strs(e.CabinetID)}, func(l *loaded, b *pgx.Batch) error {
		c := l.books.Cabinets[e.CabinetID]
		switch {
		case e.Since.After(l.now):
			return staff.Mistakef("since: %s, want a time that has passed", e.Since.Format(time.RFC3339))
		case c == nil && e.Replace:
			return fmt.Errorf("cabinet_id %s: %w: nothing to replace", e.CabinetID, ErrNotFound)
		case c != nil && !e.Replace:
			return staff.Mistakef("cabinet_id %s: enrolled already; replacing gives it a new device key", e.CabinetID)
		case c == nil:
			b.Queue(`INSERT INTO cabinet (cabinet_id, station, street, slots, enrolled_at) VALUES ($1, $2, $3, $4, coalesce($5, now()))`,
				string(e.CabinetID), e.Station, e.Street, e.Slots, sinceOf(e))
			b.Queue(`INSERT INTO cabinet_cursor (cabinet_id) VALUES ($1)`, string(e.CabinetID))
		default:
			l.books.LeaveEpoch(c, inventory, swap.Now(l.now))
			endMaintenance(b, c.CabinetID)
			l.books.EnterEpoch(c, protocol.Epoch{})
			b.Queue(`UPDATE cabinet SET station = $2, street = $3, slots = $4,
				out_of_service = out_of_service AND retired_at IS NULL, retired_at = NULL,
				config_version = config_version + 1, config_confirmed = 0 WHERE cabinet_id = $1`, string(e.CabinetID), e.Station, e.Street, e.Slots)
			b.Queue(`UPDATE cabinet_epoch SET state = 'left', changed_at = now() WHERE cabinet_id = $1 AND state <> 'left'`, string(e.CabinetID))
			b.Queue(`UPDATE cabinet_key SET revoked_at = now() WHERE cabinet_id = $1 AND revoked_at IS NULL`, string(e.CabinetID))
		}
		b.Queue(`INSERT INTO cabinet_key (cabinet_id, kid, public_key) VALUES ($1, $2, $3)
			ON CONFLICT (cabinet_id, kid) DO UPDATE SET revoked_at = NULL`, string(e.CabinetID), protocol.KeyID(e.DeviceKey), []byte(e.DeviceKey))
		b.Queue(`SELECT pg_notify($1, '')`, channelKeys)
		return queueAudit(ctx, b, "cabinet.enrol", string(e.CabinetID), map[string]any{
			"kid": protocol.KeyID(e.DeviceKey), "slots": e.Slots, "station": e.Station, "street": e.Street, "replace": e.Replace,
		})
	})
	if err != nil {
		return fmt.Errorf("enrol cabinet: %w", err)
	}
	return nil
}

// sinceOf is NULL for now.
func sinceOf(e Enrolment) *time.Time {
	if e.Since.IsZero() {
		return nil
	}
	return &e.Since
}

// AcceptEpoch makes the epoch that waits at a cabinet the one that counts. What
// was open in the old one goes to review.
func (s *Store) AcceptEpoch(ctx context.Context, id protocol.CabinetID) error {
	inventory, err := s.lastInventory(ctx, id)
	if err != nil {
		return err
	}
	var waiting []byte
	err = s.pool.QueryRow(ctx, `SELECT epoch FROM cabinet_epoch WHERE cabinet_id = $1 AND state = 'waiting' ORDER BY seen_at DESC LIMIT 1`,
		string(id)).Scan(&waiting)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("accept an epoch of %s: %w", id, &staff.Refusal{Code: staff.NothingWaits, Detail: string(id)})
	}
	if err != nil {
		return fmt.Errorf("accept an epoch of %s: %w", id, err)
	}
	err = s.transact(ctx, wanted{cabinets: strs(id), openAt: strs(id)}, func(l *loaded, b *pgx.Batch) error {
		c := l.books.Cabinets[id]
		if c == nil {
			return ErrNotFound
		}
		l.books.LeaveEpoch(c, inventory, swap.Now(l.now))
		endMaintenance(b, c.CabinetID)
		l.books.EnterEpoch(c, protocol.Epoch(waiting))
		b.Queue(`UPDATE cabinet_epoch SET state = 'left', changed_at = now() WHERE cabinet_id = $1 AND state <> 'left'`, string(id))
		queueEpoch(b, id, c.Epoch)
		return queueAudit(ctx, b, "cabinet.accept_epoch", string(id), map[string]any{"epoch": c.Epoch})
	})
	if err != nil {
		return fmt.Errorf("accept an epoch of %s: %w", id, err)
	}
	return nil
}

// lastInventory is what a cabinet's telemetry showed last.
func (s *Store) lastInventory(ctx context.Context, id protocol.CabinetID) (protocol.Inventory, error) {
	var raw []byte
	var inv protocol.Inventory
	err := s.pool.QueryRow(ctx, `SELECT inventory FROM cabinet_state WHERE cabinet_id = $1`, string(id)).Scan(&raw)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &inv)
	}
	if err != nil {
		return nil, fmt.Errorf("read the last inventory of %s: %w", id, err)
	}
	return inv, nil
}

// Battery is one row of the registry.
type Battery = staff.NewBattery

// ImportBatteries registers batteries, all or none; new ones are with staff. It
// returns how many were new.
func (s *Store) ImportBatteries(ctx context.Context, rows []Battery) (added int, err error) {
	serials := make([]string, len(rows))
	for i, r := range rows {
		if err := r.BatterySerial.Validate(); err != nil {
			return 0, staff.Mistakef("row %d: %w", i+1, err)
		}
		if clean(r.Type) != r.Type {
			return 0, staff.Mistakef("row %d: type: want at most %d bytes of text", i+1, maxText)
		}
		serials[i] = string(r.BatterySerial)
	}
	act := newID()
	err = s.transact(ctx, wanted{serials: distinct(serials)}, func(l *loaded, b *pgx.Batch) error {
		added = 0
		for i, r := range rows {
			if l.books.Import(act, i+1, r.BatterySerial, r.Type, swap.Now(l.now)) {
				added++
			}
		}
		return queueAudit(ctx, b, "battery.import", "batteries", map[string]any{"rows": len(rows), "new": added})
	})
	if err != nil {
		return 0, fmt.Errorf("import batteries: %w", err)
	}
	return added, nil
}

// Place is where staff say that a battery is.
type Place = swap.Place

// AssignBattery books where staff say that a battery is.
func (s *Store) AssignBattery(ctx context.Context, serial protocol.BatterySerial, to Place) error {
	w := wanted{serials: strs(serial)}
	if to.RiderID != "" {
		if !isUUID(string(to.RiderID)) {
			return staff.Mistakef("rider_id %.40q: want a UUID", to.RiderID)
		}
		w.riders = strs(to.RiderID)
	}
	if to.CabinetID != "" {
		w.cabinets, w.slotCabinets, w.slotNumbers = strs(to.CabinetID), strs(to.CabinetID), []int{to.Slot}
	}
	act := newID()
	err := s.transact(ctx, w, func(l *loaded, b *pgx.Batch) error {
		if err := l.books.Assign(act, serial, to, swap.Now(l.now)); err != nil {
			return staff.AsMistake(err)
		}
		return queueAudit(ctx, b, "battery.assign", string(serial), map[string]any{"rider_id": to.RiderID, "cabinet_id": to.CabinetID, "slot": to.Slot})
	})
	if err != nil {
		return fmt.Errorf("assign battery: %w", err)
	}
	return nil
}

// NewRider is a rider to add; RiderID "" makes one. Phone and MembershipNo may be
// missing: who has neither binds no phone.
type NewRider struct {
	RiderID                       swap.RiderID
	Name, Union, Street, Platform string
	Phone                         phone.Number
	MembershipNo                  string
	// MemberFrom and MemberTo are the first and the last day; "": no bound.
	MemberFrom, MemberTo swap.Day
}

// AddRider adds a rider.
func (s *Store) AddRider(ctx context.Context, r NewRider) (swap.RiderID, error) {
	if r.RiderID == "" {
		r.RiderID = swap.RiderID(uuid.Must(uuid.NewV7()).String())
	}
	if !isUUID(string(r.RiderID)) {
		return "", fmt.Errorf("rider_id %.40q: want a UUID in lower case", r.RiderID)
	}
	if r.Name == "" {
		return "", errors.New("name: want one")
	}
	var sealed, hash any
	if r.Phone != "" {
		if s.o.Vault == nil {
			return "", errNoVault
		}
		sealed, hash = s.o.Vault.Close(string(r.RiderID), r.Phone), s.o.Vault.Hash(r.Phone)
	}
	err := s.acting(ctx, "add rider", func(tx pgx.Tx) error {
		union, err := unionNamed(ctx, tx, r.Union)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `INSERT INTO rider (rider_id, name, union_id, street, platform, phone_sealed, phone_hash, membership_no, member_from, member_to)
			VALUES ($1, $2, $3, $4, $5, $6, $7, NULLIF($8, ''), NULLIF($9, '')::date, NULLIF($10, '')::date) ON CONFLICT (rider_id) DO NOTHING`,
			string(r.RiderID), clean(r.Name), union, clean(r.Street), clean(r.Platform), sealed, hash, clean(r.MembershipNo),
			string(r.MemberFrom), string(r.MemberTo))
		switch {
		case isConstraint(err, "rider_phone_hash_key"):
			return fmt.Errorf("another rider with this phone: %w", staff.ErrExists)
		case isConstraint(err, "rider_membership_no_key"):
			return fmt.Errorf("another rider with this membership number: %w", staff.ErrExists)
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			return fmt.Errorf("rider_id %s: %w", r.RiderID, staff.ErrExists)
		}
		return audit(ctx, tx, "rider.add", string(r.RiderID), nil)
	})
	if err != nil {
		return "", err
	}
	return r.RiderID, nil
}

// StaffCredit gives a rider a first battery to come: the next scan becomes an
// issue.
func (s *Store) StaffCredit(ctx context.Context, rider swap.RiderID) error {
	if !isUUID(string(rider)) {
		return fmt.Errorf("rider_id %.40q: want a UUID", rider)
	}
	act := newID()
	err := s.transact(ctx, wanted{riders: strs(rider)}, func(l *loaded, b *pgx.Batch) error {
		if err := l.books.StaffCredit(act, rider, swap.Now(l.now)); err != nil {
			return staff.AsMistake(err)
		}
		return queueAudit(ctx, b, "rider.credit", string(rider), map[string]any{"credit_id": act})
	})
	if err != nil {
		return fmt.Errorf("staff credit: %w", err)
	}
	return nil
}

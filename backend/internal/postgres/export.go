package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
)

// NoteExport writes down that somebody takes figures along, before they get them.
func (s *Store) NoteExport(ctx context.Context, e statistics.Export, what string) error {
	detail := map[string]any{"from": e.From, "to": e.To, "as_of": e.AsOf, "format": e.Format, "by": e.By}
	if e.Street != "" {
		detail["street"] = e.Street
	}
	if e.Personal {
		if !staff.Who(ctx).Has(staff.Personal) {
			return &staff.Refusal{Code: staff.NotPersonal, Detail: string(staff.Personal)}
		}
		if err := staff.CheckReason(e.Reason); err != nil {
			return err
		}
		detail["personal"], detail["reason"] = true, clean(strings.TrimSpace(e.Reason))
	}
	return s.acting(ctx, "export", func(tx pgx.Tx) error { return audit(ctx, tx, "export", what, detail) })
}

// ExportTakes gives each counted take of a question in the order of days, after it
// has written down who wanted them. Without the permission nothing of riders comes
// along: of what they are neither, for it would be counted.
func (s *Store) ExportTakes(ctx context.Context, e statistics.Export, each func(statistics.Take) error) error {
	var err error
	if e.AsOf, err = s.asOf(ctx, e.AsOf); err != nil {
		return err
	}
	if err := s.NoteExport(ctx, e, "takes"); err != nil {
		return err
	}
	x := exporting{store: s, personal: e.Personal, phones: map[string]string{}, bodies: map[int64]string{}}
	all := e.Question
	if all.By.ByPeople() { // takes have no breakdown
		all.By = statistics.Total
	}
	err = s.figure(ctx, all, func(k *figuring) error {
		if e.Personal {
			if err := x.nameBodies(k); err != nil {
				return err
			}
		}
		return x.takes(k, each)
	})
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// exporting is one export while it is read.
type exporting struct {
	store    *Store
	personal bool
	phones   map[string]string // by rider
	bodies   map[int64]string
}

func (x *exporting) nameBodies(k *figuring) error {
	var id int64
	var name string
	return k.read(`SELECT union_id, name FROM union_body`, nil, []any{&id, &name}, func() error {
		x.bodies[id] = name
		return nil
	})
}

func (x *exporting) takes(k *figuring, each func(statistics.Take) error) error {
	columns, from := ``, ``
	var t statistics.Take
	var day time.Time
	var path []int64
	var sealed string
	scan := []any{&t.Position, &day, &t.At, &t.SwapID, &t.CabinetID, &t.Street, &t.Owed}
	if x.personal {
		columns = `, r.rider_id::text, r.union_path, r.platform, coalesce(p.name, ''), coalesce(p.membership_no, ''), coalesce(p.phone_sealed, '')`
		from = ` JOIN counted_rider r USING (counted_rider_id) LEFT JOIN rider p ON p.rider_id = r.rider_id`
		scan = append(scan, &t.RiderID, &path, &t.Platform, &t.Name, &t.MembershipNo, &sealed)
	}
	return k.read(`SELECT t.position, t.day, t.at, t.swap_id::text, c.cabinet_id, c.street, t.owed`+columns+`
		FROM counted_take t JOIN counted_cabinet c USING (counted_cabinet_id)`+from+`
		WHERE t.day BETWEEN @from AND @to AND t.position <= @as_of AND (@street = '' OR c.street = @street) ORDER BY t.day, t.position`, pgx.NamedArgs{"street": k.Street}, scan, func() error {
		t.Day = dayOf(day)
		if x.personal {
			t.Union = ""
			if len(path) > 0 {
				t.Union = x.bodies[path[len(path)-1]]
			}
			var err error
			if t.Phone, err = x.phone(t.RiderID, sealed); err != nil {
				return err
			}
		}
		return each(t)
	})
}

// phone opens a rider's number, once for all their takes.
func (x *exporting) phone(rider, sealed string) (string, error) {
	if sealed == "" || x.store.o.Vault == nil {
		return "", nil
	}
	if n, ok := x.phones[rider]; ok {
		return n, nil
	}
	n, err := x.store.o.Vault.Open(rider, sealed)
	if err != nil {
		return "", fmt.Errorf("phone of rider %s: %w", rider, err)
	}
	x.phones[rider] = string(n)
	return string(n), nil
}

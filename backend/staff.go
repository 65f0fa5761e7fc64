package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"batteryswap/backend/fleet"
	"batteryswap/backend/internal/config"
	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/spreadsheet"
	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// actTimeout bounds an act of staff.
const actTimeout = 30 * time.Second

// auditTimeout bounds an audit: it reads everything.
const auditTimeout = 2 * time.Hour

// withStore runs an act on the books.
func withStore(s shell, d config.Database, act func(context.Context, *postgres.Store) error) error {
	return withStoreFor(s, d, actTimeout, act)
}

func withStoreFor(s shell, d config.Database, most time.Duration, act func(context.Context, *postgres.Store) error) error {
	return withStoreAs(s, d, postgres.Options{}, most, act)
}

// withSealedStore runs an act on what is kept closed: secrets of staff, phone numbers.
func withSealedStore(s shell, d config.Database, dir string, most time.Duration, act func(context.Context, *postgres.Store) error) error {
	keys, err := fleet.LoadKeys(dir)
	if err != nil {
		return config.Mistakes{fmt.Errorf("--key-dir: %w", err)}
	}
	return withStoreAs(s, d, postgres.Options{Seal: keys.Seal(), Vault: keys.Vault()}, most, act)
}

func withStoreAs(s shell, d config.Database, o postgres.Options, most time.Duration, act func(context.Context, *postgres.Store) error) error {
	if err := d.Check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, most)
	defer cancel()
	store, err := postgres.Open(ctx, d.DatabaseURL, o)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	defer store.Close()
	return act(ctx, store)
}

type migrateCommand struct{ config.Database }

// Run migrates.
func (c migrateCommand) Run(s shell) error {
	if err := c.Check(); err != nil {
		return err
	}
	if err := postgres.Migrate(s.ctx, c.DatabaseURL); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

type cabinetCommand struct {
	Enrol         cabinetEnrolCommand         `cmd:"" help:"Add a cabinet with its device key (printed by 'firmware-agent keygen')."`
	Place         cabinetPlaceCommand         `cmd:"" help:"Say where a cabinet stands, and whom its riders call."`
	List          cabinetListCommand          `cmd:"" help:"List all cabinets."`
	AcceptEpoch   cabinetAcceptEpochCommand   `cmd:"" name:"accept-epoch" help:"Let a cabinet whose journal was lost or rolled back go on with its new one."`
	BeginRecovery cabinetBeginRecoveryCommand `cmd:"" name:"begin-recovery" help:"After a restore from a backup, before the first replica starts: no owed or first batteries until every cabinet has told again what was lost."`
	WaiveRecovery cabinetWaiveRecoveryCommand `cmd:"" name:"waive-recovery" help:"After a restore from a backup: do not wait for a cabinet that has not caught up, or for any."`
	Retire        cabinetRetireCommand        `cmd:"" help:"Take a cabinet out of the fleet for good: its key ends, what was open there goes to review."`
}

type cabinetEnrolCommand struct {
	config.Database
	ID        string `name:"id" env:"SWAP_CABINET_ID" required:"" placeholder:"ID" help:"4 to 24 of a-z, 0-9 and -, as on the sticker."`
	DeviceKey string `name:"device-key" env:"SWAP_CABINET_DEVICE_KEY" required:"" placeholder:"BASE64" help:"The agent's public key."`
	Slots     int    `name:"slots" env:"SWAP_CABINET_SLOTS" required:"" help:"Number of slots."`
	Station   string `name:"station" env:"SWAP_CABINET_STATION" required:"" placeholder:"NAME" help:"Where it stands."`
	Street    string `name:"street" env:"SWAP_CABINET_STREET" required:"" placeholder:"NAME" help:"The street that statistics count it under."`
	Replace   bool   `name:"replace" env:"SWAP_CABINET_REPLACE" help:"The cabinet was replaced: this is its new key, its old journal is gone."`
	// Since is of a cabinet that worked before this backend knew of it.
	Since time.Time `name:"since" env:"SWAP_CABINET_SINCE" placeholder:"RFC3339" help:"When it began to work, if that was before now: its records are believed from a day before."`
}

// Run enrols.
func (c cabinetEnrolCommand) Run(s shell) error {
	var m config.Mistakes
	key, err := base64.StdEncoding.DecodeString(c.DeviceKey)
	if err != nil || len(key) != ed25519.PublicKeySize {
		m = append(m, fmt.Errorf("--device-key: want %d bytes in base64", ed25519.PublicKeySize))
	}
	if err := protocol.CabinetID(c.ID).Validate(); err != nil {
		m = append(m, fmt.Errorf("--id: %w", err))
	}
	if c.Slots < 2 || c.Slots > protocol.MaxSlots {
		m = append(m, fmt.Errorf("--slots: %d, want 2 to %d", c.Slots, protocol.MaxSlots))
	}
	if len(m) > 0 {
		return m
	}
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		return store.EnrolCabinet(ctx, postgres.Enrolment{
			CabinetID: protocol.CabinetID(c.ID), DeviceKey: key, Slots: c.Slots, Station: c.Station, Street: c.Street, Replace: c.Replace, Since: c.Since,
		})
	})
}

type cabinetListCommand struct{ config.Database }

// Run lists.
func (c cabinetListCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		all, err := store.Cabinets(ctx)
		if err != nil {
			return err
		}
		t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "CABINET\tSTATION\tSTREET\tSLOTS\tCHARGED\tEMPTY\tREACHABLE\tLAST SEEN\tOUT OF SERVICE")
		for _, v := range all {
			seen := "never"
			if !v.LastSeen.IsZero() {
				seen = v.LastSeen.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%t\t%s\t%s\n", v.CabinetID, v.Station, v.Street, v.Slots, v.Charged, v.Empty,
				v.Reachable, seen, v.OutOfService)
		}
		return t.Flush()
	})
}

type cabinetAcceptEpochCommand struct {
	config.Database
	ID string `arg:"" name:"id" help:"The cabinet."`
}

// Run accepts the epoch.
func (c cabinetAcceptEpochCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		return store.AcceptEpoch(ctx, protocol.CabinetID(c.ID))
	})
}

type cabinetBeginRecoveryCommand struct{ config.Database }

// Run begins.
func (c cabinetBeginRecoveryCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error { return store.BeginRecovery(ctx) })
}

type cabinetWaiveRecoveryCommand struct {
	config.Database
	ID string `arg:"" optional:"" name:"id" help:"The cabinet; without it, all of them."`
}

// Run waives.
func (c cabinetWaiveRecoveryCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		return store.WaiveRecovery(ctx, protocol.CabinetID(c.ID))
	})
}

type cabinetRetireCommand struct {
	config.Database
	ID string `arg:"" name:"id" help:"The cabinet."`
}

// Run retires.
func (c cabinetRetireCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		return store.RetireCabinet(ctx, protocol.CabinetID(c.ID))
	})
}

type batteryCommand struct {
	Import batteryImportCommand `cmd:"" help:"Add batteries from an xlsx or CSV file with the header battery_serial, type."`
	Assign batteryAssignCommand `cmd:"" help:"Say where a battery is: at a rider, in a slot, or with staff."`
}

type batteryImportCommand struct {
	config.Database
	File   string `arg:"" name:"file" help:"The file, or - for standard input."`
	DryRun bool   `name:"dry-run" env:"SWAP_DRY_RUN" help:"Only say what is wrong with the file."`
}

// Run imports.
func (c batteryImportCommand) Run(s shell) error {
	in := s.in
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return fmt.Errorf("battery import: %w", err)
		}
		defer f.Close()
		in = f
	}
	rows, err := readBatteries(in)
	if err != nil {
		return err
	}
	if c.DryRun {
		_, err := fmt.Fprintf(s.out, "%d batteries, nothing wrong, nothing done\n", len(rows))
		return err
	}
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		n, err := store.ImportBatteries(ctx, rows)
		if err == nil {
			fmt.Fprintf(s.out, "%d batteries, %d of them new\n", len(rows), n)
		}
		return err
	})
}

// maxFile bounds a spreadsheet, in bytes.
const maxFile = 20 << 20

// readBatteries reads the whole file before anything is done and says every row
// that is wrong.
func readBatteries(in io.Reader) ([]postgres.Battery, error) {
	b, err := io.ReadAll(io.LimitReader(in, maxFile))
	if err != nil {
		return nil, fmt.Errorf("battery import: %w", err)
	}
	rows, err := spreadsheet.Rows(b, staff.MaxSheet)
	if err != nil {
		return nil, config.Mistakes{fmt.Errorf("battery import: %w", err)}
	}
	sheet := staff.ReadBatteries(rows)
	if len(sheet.Mistakes) == 0 {
		return sheet.Batteries, nil
	}
	var m config.Mistakes
	for _, x := range sheet.Mistakes {
		m = append(m, fmt.Errorf("battery import: row %d: %s", x.Row, x.What))
	}
	return nil, m
}

type batteryAssignCommand struct {
	config.Database
	Serial  string `arg:"" name:"serial" help:"The battery."`
	Rider   string `name:"rider" env:"SWAP_BATTERY_RIDER" xor:"place" placeholder:"ID" help:"This rider has it."`
	Cabinet string `name:"cabinet" env:"SWAP_BATTERY_CABINET" xor:"place" placeholder:"ID" help:"It is in --slot of this cabinet."`
	Slot    int    `name:"slot" env:"SWAP_BATTERY_SLOT" help:"The slot."`
	Staff   bool   `name:"staff" env:"SWAP_BATTERY_STAFF" xor:"place" help:"Staff have it."`
}

// Run assigns.
func (c batteryAssignCommand) Run(s shell) error {
	switch {
	case c.Rider == "" && c.Cabinet == "" && !c.Staff:
		return config.Mistakes{errors.New("battery assign: want --rider, --cabinet with --slot, or --staff")}
	case (c.Cabinet != "") != (c.Slot != 0):
		return config.Mistakes{errors.New("battery assign: want --cabinet and --slot together")}
	}
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		return store.AssignBattery(ctx, protocol.BatterySerial(c.Serial), swap.Place{
			RiderID: swap.RiderID(c.Rider), CabinetID: protocol.CabinetID(c.Cabinet), Slot: c.Slot,
		})
	})
}

type riderCommand struct {
	Add    riderAddCommand    `cmd:"" help:"Add a rider; prints the rider_id."`
	Credit riderCreditCommand `cmd:"" help:"Owe a rider a first battery: the next scan issues it."`
}

type riderCreditCommand struct {
	config.Database
	ID string `arg:"" name:"id" help:"The rider_id."`
}

// Run credits.
func (c riderCreditCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		return store.StaffCredit(ctx, swap.RiderID(c.ID))
	})
}

type auditCommand struct {
	config.Database
	JSON bool `name:"json" env:"SWAP_AUDIT_JSON" help:"Print everything as JSON."`
}

// Run audits.
func (c auditCommand) Run(s shell) error {
	return withStoreFor(s, c.Database, auditTimeout, func(ctx context.Context, store *postgres.Store) error {
		report, err := store.Audit(ctx)
		if err != nil {
			return err
		}
		if err := store.StoreAudit(ctx, report); err != nil {
			return err
		}
		if err := printReport(s.out, report, c.JSON); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		if len(report.Differences) > 0 {
			return errFailed
		}
		return nil
	})
}

func printReport(out io.Writer, r postgres.Report, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RIDER\tNAME\tDEPOSITS\tTAKES\tCOUNTED\tISSUED\tCREDITS\tBATTERIES\tOPEN SWAPS\tREVIEWS")
	for _, v := range r.Riders {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", v.RiderID, v.Name, v.Deposits, v.Takes, v.Counted, v.Issued,
			v.OpenCredits, len(v.Batteries), len(v.OpenSwaps), v.Reviews)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, d := range r.Differences {
		fmt.Fprintf(out, "DIFFERENCE %s of %s: the books say %s, the ledger says %s\n", d.What, d.Key, d.Books, d.Ledger)
	}
	for _, table := range slices.Sorted(maps.Keys(r.Examined)) {
		fmt.Fprintf(out, "%s: %d rows examined\n", table, r.Examined[table])
	}
	_, err := fmt.Fprintf(out, "%d counted swaps, %d ledger entries and %d records examined in %d ms, %d differences\n", r.Swaps, r.Entries, r.Records, r.TookMS, len(r.Differences))
	return err
}

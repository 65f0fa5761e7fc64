package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"batteryswap/backend/fleet"
	"batteryswap/backend/internal/config"
	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/roll"
	"batteryswap/backend/internal/staff"
)

type rollCommand struct {
	Import rollImportCommand `cmd:"" help:"Try a roll and say what becomes of each row; import it with --apply."`
}

type rollImportCommand struct {
	config.Database
	sealing
	File      string `arg:"" name:"file" help:"xlsx, or CSV in UTF-8 or GB18030. The console asks what the columns hold; here it is as their headings say."`
	Apply     bool   `name:"apply" env:"SWAP_ROLL_APPLY" help:"Import the rows that nothing is wrong with."`
	AddUnions bool   `name:"add-unions" env:"SWAP_ROLL_ADD_UNIONS" help:"Add bodies of the union that are not known yet."`
}

const (
	rollPause   = 100 * time.Millisecond
	rollTimeout = 5 * time.Minute
	maxTold     = 1000 // rows that are refused
)

// Run tries, and imports.
func (c rollImportCommand) Run(s shell) error {
	f, err := os.Open(c.File)
	if err != nil {
		return fmt.Errorf("roll import: %w", err)
	}
	defer f.Close()
	file, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return fmt.Errorf("roll import: %w", err)
	}
	return withSealedStore(s, c.Database, c.KeyDir, rollTimeout, func(ctx context.Context, store *postgres.Store) error {
		id, err := store.NewRollImport(ctx, filepath.Base(c.File), file)
		if err != nil {
			return err
		}
		i, err := settleRoll(ctx, store, id)
		if err == nil && c.AddUnions && i.State == staff.ImportChecked {
			if err = store.CheckRoll(ctx, id, i.Columns, true, i.FirstRow); err == nil {
				i, err = settleRoll(ctx, store, id)
			}
		}
		if err == nil && c.Apply && i.State == staff.ImportChecked {
			if err = store.ImportRoll(ctx, id, *i.FinishedAt); err == nil {
				i, err = settleRoll(ctx, store, id)
			}
		}
		if err != nil {
			return err
		}
		return tellRoll(ctx, s, store, i)
	})
}

// settleRoll does what is wanted of a roll, or waits for the server that took it
// first.
func settleRoll(ctx context.Context, store *postgres.Store, id int64) (staff.RollImport, error) {
	for {
		i, err := store.RollImport(ctx, id)
		if err != nil || !i.Running() {
			return i, err
		}
		did, err := store.RunRoll(ctx, fleet.ReadRoll)
		if err != nil {
			return i, err
		}
		if !did {
			select {
			case <-ctx.Done():
				return i, ctx.Err()
			case <-time.After(rollPause):
			}
		}
	}
}

// tellRoll prints the counts and every row that was refused or stands above the heading.
func tellRoll(ctx context.Context, s shell, store *postgres.Store, i staff.RollImport) error {
	if i.State == staff.ImportFailed {
		return fmt.Errorf("roll import: %s", i.Mistake)
	}
	fates, err := store.RollFates(ctx, i.ID, roll.Refused, 0, maxTold)
	if err != nil {
		return err
	}
	above, err := store.RollFates(ctx, i.ID, roll.Above, 0, maxTold)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for _, f := range above {
		fmt.Fprintf(t, "row %d\tabove the heading\n", f.Row)
	}
	for _, f := range fates {
		for _, m := range f.Mistakes {
			fmt.Fprintf(t, "row %d\trefused\t%s\t%s\n", f.Row, m.Field, m.Code)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s: %d added, %d changed, %d unchanged, %d refused, %d union bodies\n", i.State, i.Added, i.Changed, i.Unchanged, i.Refused, i.Bodies)
	return err
}

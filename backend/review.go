package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"batteryswap/backend/internal/config"
	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

type reviewCommand struct {
	List     reviewListCommand     `cmd:"" help:"List cases that a person must decide."`
	Show     reviewShowCommand     `cmd:"" help:"Print all evidence of a case."`
	Decide   reviewDecideCommand   `cmd:"" help:"Decide a case, once."`
	Hardship reviewHardshipCommand `cmd:"" help:"Give the rider of an open case a battery to go on with; once a day."`
	Move     reviewMoveCommand     `cmd:"" help:"Close an open swap whose cabinet has been silent for more than 10 minutes, as a case."`
}

type reviewListCommand struct {
	config.Database
	All bool `name:"all" env:"SWAP_REVIEW_ALL" help:"Also those that were decided."`
}

// Run lists, page by page.
func (c reviewListCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "REVIEW\tOPENED\tCABINET\tRIDER\tREASON\tEXPLANATIONS\tDECIDED")
		for cursor := int64(0); ; {
			page, next, err := store.Reviews(ctx, swap.ReviewFilter{Open: !c.All}, cursor)
			if err != nil {
				return err
			}
			for _, v := range page {
				fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%v\t%s\n", v.ReviewID, v.OpenedAt.UTC().Format(time.RFC3339), v.CabinetID,
					cmp.Or(string(v.RiderID), "-"), v.Reason, v.Explanations, decided(v.Decided))
			}
			if cursor = next; next == 0 {
				return t.Flush()
			}
		}
	})
}

func decided(d *swap.Decided) string {
	if d == nil {
		return "-"
	}
	return fmt.Sprintf("%s (%s) by %s on %s", d.Decision, d.Reason, d.By, d.At.UTC().Format(time.RFC3339))
}

type reviewShowCommand struct {
	config.Database
	ID int64 `arg:"" name:"id" help:"The review."`
}

// Run shows.
func (c reviewShowCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		rv, err := store.Review(ctx, c.ID)
		if err != nil {
			return err
		}
		return printCase(s.out, rv)
	})
}

func printCase(out io.Writer, c swap.ReviewCase) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "review\t%d, opened %s\ncabinet\t%s\nrider\t%s\nreason\t%s\nexplanations\t%v\ndecided\t%s\npossible\t%v\n",
		c.ReviewID, c.OpenedAt.UTC().Format(time.RFC3339), c.CabinetID, cmp.Or(string(c.RiderID), "-"), c.Reason, c.Explanations,
		decided(c.Decided), c.Possible)
	if s := c.Swap; s != nil {
		fmt.Fprintf(t, "swap\t%s %s %s %s\ndeposited\t%s slot %d %s\ntaken\t%s slot %d\n", s.SwapID, s.Kind, s.State, s.Outcome,
			cmp.Or(string(s.Deposited), "-"), s.DepositSlot, s.Judgement, cmp.Or(string(s.Taken), "-"), s.TakeSlot)
	}
	for _, x := range c.Batteries {
		fmt.Fprintf(t, "battery\t%s: %s %s%s slot %d\n", x.BatterySerial, x.Holder, x.RiderID, x.CabinetID, x.Slot)
	}
	for _, x := range c.Credits {
		fmt.Fprintf(t, "credit\t%s: %s, %s\n", x.CreditID, x.Origin, x.State)
	}
	printInventory(t, "before", c.Before)
	printInventory(t, "after", c.After)
	for _, e := range c.Entries {
		fmt.Fprintf(t, "entry\t%s %s %s%s%s\n", e.At.UTC().Format(time.RFC3339), e.What, e.BatterySerial, e.CreditID, e.Ruling)
	}
	for _, r := range c.Records {
		late := ""
		if r.Late {
			late = ", late"
		}
		fmt.Fprintf(t, "record\t%d boot %d %s%s\t%s\n", r.Seq, r.BootSeq, r.Type, late, r.Payload)
	}
	return t.Flush()
}

func printInventory(out io.Writer, when string, inv protocol.Inventory) {
	for _, x := range inv {
		fmt.Fprintf(out, "%s\tslot %d: %s, %s %s\n", when, x.Slot, cmp.Or(string(x.Door), "door unknown"), cmp.Or(string(x.Presence), "unknown"), x.BatterySerial)
	}
}

type reviewDecideCommand struct {
	config.Database
	ID        int64  `arg:"" name:"id" help:"The review."`
	Decision  string `arg:"" name:"decision" help:"taken, returned, owed or not_deposited; noted for one that belongs to no rider's swap."`
	Reason    string `name:"reason" env:"SWAP_REVIEW_REASON" required:"" help:"What it rests on: seen_on_site, camera, records, rider, battery_found or cannot_be_told."`
	By        string `name:"by" env:"SWAP_REVIEW_BY" required:"" placeholder:"NAME" help:"Who decides."`
	Deposited string `name:"deposited" env:"SWAP_REVIEW_DEPOSITED" placeholder:"SERIAL" help:"The battery that was put in, where the records do not say."`
	Taken     string `name:"taken" env:"SWAP_REVIEW_TAKEN" placeholder:"SERIAL" help:"The battery that left, where the records do not say."`
}

// Run decides.
func (c reviewDecideCommand) Run(s shell) error {
	d := swap.ReviewDecision{
		ReviewID: c.ID, Decision: swap.Ruling(c.Decision), Reason: swap.Ground(c.Reason), By: c.By,
		Deposited: protocol.BatterySerial(c.Deposited), Taken: protocol.BatterySerial(c.Taken),
	}
	if err := d.Validate(); err != nil {
		return config.Mistakes{err}
	}
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error { return store.DecideReview(ctx, d) })
}

type reviewHardshipCommand struct {
	config.Database
	ID int64  `arg:"" name:"id" help:"The review."`
	By string `name:"by" env:"SWAP_REVIEW_BY" required:"" placeholder:"NAME" help:"Who gives it."`
}

// Run gives the credit.
func (c reviewHardshipCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error { return store.Hardship(ctx, c.ID, c.By) })
}

type reviewMoveCommand struct {
	config.Database
	SwapID string `arg:"" name:"swap" help:"The swap."`
}

// Run moves.
func (c reviewMoveCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		return store.MoveToReview(ctx, protocol.SwapID(c.SwapID))
	})
}

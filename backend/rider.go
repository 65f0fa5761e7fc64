package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"batteryswap/backend/internal/config"
	"batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/swap"
)

type riderAddCommand struct {
	config.Database
	Name         string `name:"name" env:"SWAP_RIDER_NAME" required:"" help:"The rider's name."`
	ID           string `name:"id" env:"SWAP_RIDER_ID" placeholder:"UUID" help:"Use this rider_id; else one is made."`
	Union        string `name:"union" env:"SWAP_RIDER_UNION" help:"The body the rider belongs to."`
	Street       string `name:"street" env:"SWAP_RIDER_STREET" help:"The street that statistics count the rider under."`
	Platform     string `name:"platform" env:"SWAP_RIDER_PLATFORM" help:"The delivery company."`
	Phone        string `name:"phone" env:"SWAP_RIDER_PHONE" help:"The mobile number that codes are sent to; it is kept closed, which needs --key-dir."`
	KeyDir       string `name:"key-dir" env:"SWAP_KEY_DIR" placeholder:"DIR" help:"Where 'keys init' put the keys: they keep the number closed."`
	MembershipNo string `name:"membership-no" env:"SWAP_RIDER_MEMBERSHIP_NO" help:"The number in the union's roll."`
	From         string `name:"from" env:"SWAP_RIDER_FROM" placeholder:"YYYY-MM-DD" help:"First day of the membership; else it has begun."`
	To           string `name:"to" env:"SWAP_RIDER_TO" placeholder:"YYYY-MM-DD" help:"Last day of the membership; else it does not end."`
}

// maxMembershipNo bounds a membership number, in bytes.
const maxMembershipNo = 40

// rider reads the flags and says all that is wrong with them. What was given as a
// phone is not repeated.
func (c riderAddCommand) rider() (postgres.NewRider, error) {
	var m config.Mistakes
	r := postgres.NewRider{
		RiderID: swap.RiderID(strings.ToLower(c.ID)), Name: c.Name, Union: c.Union, Street: c.Street, Platform: c.Platform,
		MembershipNo: strings.TrimSpace(c.MembershipNo), MemberFrom: swap.Day(c.From), MemberTo: swap.Day(c.To),
	}
	if c.Phone != "" {
		var err error
		if r.Phone, err = phone.Parse(c.Phone); err != nil {
			m = append(m, fmt.Errorf("--phone: %w", err))
		}
		if c.KeyDir == "" {
			m = append(m, errors.New("--key-dir: missing: --phone needs it"))
		}
	}
	if n := len(r.MembershipNo); n > maxMembershipNo {
		m = append(m, fmt.Errorf("--membership-no: %d characters, want at most %d", n, maxMembershipNo))
	}
	for flag, day := range map[string]string{"from": c.From, "to": c.To} {
		if _, err := time.Parse(time.DateOnly, day); day != "" && err != nil {
			m = append(m, fmt.Errorf("--%s: %.20q: want a day as 2026-03-01", flag, day))
		}
	}
	if c.From != "" && c.To != "" && c.From > c.To {
		m = append(m, errors.New("--to: before --from"))
	}
	return r, m.OrNil()
}

// Run adds.
func (c riderAddCommand) Run(s shell) error {
	r, err := c.rider()
	if err != nil {
		return err
	}
	add := func(ctx context.Context, store *postgres.Store) error {
		id, err := store.AddRider(ctx, r)
		if err == nil {
			fmt.Fprintln(s.out, id)
		}
		return err
	}
	if r.Phone != "" {
		return withSealedStore(s, c.Database, c.KeyDir, actTimeout, add)
	}
	return withStore(s, c.Database, add)
}

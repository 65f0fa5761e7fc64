package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"batteryswap/backend/internal/config"
	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/staff"
)

type staffCommand struct {
	Add      staffAddCommand      `cmd:"" help:"Add an account; prints its password, app secret and recovery codes once."`
	Reset    staffResetCommand    `cmd:"" help:"Give an account a new password, app secret and recovery codes; it is signed out everywhere."`
	Disable  staffDisableCommand  `cmd:"" help:"Close an account; it is signed out everywhere."`
	List     staffListCommand     `cmd:"" help:"List the accounts and the tokens."`
	Token    staffTokenCommand    `cmd:"" help:"Tokens of machines that use the API."`
	AuditLog staffAuditLogCommand `cmd:"" name:"audit-log" help:"What staff did."`
}

// credentials are new ones, with what is told of them once.
type credentials struct {
	staff.Credentials
	password string
	codes    []string
}

func newCredentials() (credentials, error) {
	c := credentials{password: rand.Text()[:20], codes: staff.NewRecoveryCodes()}
	var err error
	c.PasswordHash, err = staff.HashPassword(c.password)
	c.Secret = staff.NewSecret()
	for _, code := range c.codes {
		c.Recovery = append(c.Recovery, staff.HashRecovery(code))
	}
	return c, err
}

func (c credentials) tell(out io.Writer, login string) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "login\t%s\npassword\t%s\nsecret\t%s\nfor the app\t%s\n", login, c.password, c.Secret, staff.SecretURL(login, c.Secret))
	for _, code := range c.codes {
		fmt.Fprintf(t, "recovery code\t%s\n", staff.ShowRecovery(code))
	}
	return t.Flush()
}

// sealing is where the key is that keeps secrets of staff closed.
type sealing struct {
	KeyDir string `name:"key-dir" env:"SWAP_KEY_DIR" required:"" placeholder:"DIR" help:"Where 'keys init' put the keys: they keep the app's secret closed."`
}

type staffAddCommand struct {
	config.Database
	sealing
	Login string   `arg:"" name:"login" help:"1 to 32 of a-z, 0-9, -, . and _."`
	Name  string   `name:"name" env:"SWAP_STAFF_NAME" required:"" help:"The person's name."`
	Role  []string `name:"role" env:"SWAP_STAFF_ROLE" required:"" help:"operator, union, maintenance, admin or personal; several with commas."`
}

// Run adds.
func (c staffAddCommand) Run(s shell) error {
	roles, err := staff.ParseRoles(c.Role)
	if err != nil {
		return config.Mistakes{fmt.Errorf("--role: %w", err)}
	}
	if err := staff.CheckLogin(c.Login); err != nil {
		return config.Mistakes{err}
	}
	made, err := newCredentials()
	if err != nil {
		return err
	}
	return withSealedStore(s, c.Database, c.KeyDir, actTimeout, func(ctx context.Context, store *postgres.Store) error {
		err := store.AddAccount(ctx, staff.NewAccount{Login: c.Login, Name: c.Name, Roles: roles, Credentials: made.Credentials})
		if err != nil {
			return err
		}
		return made.tell(s.out, c.Login)
	})
}

type staffResetCommand struct {
	config.Database
	sealing
	Login string `arg:"" name:"login" help:"The account."`
}

// Run resets.
func (c staffResetCommand) Run(s shell) error {
	made, err := newCredentials()
	if err != nil {
		return err
	}
	return withSealedStore(s, c.Database, c.KeyDir, actTimeout, func(ctx context.Context, store *postgres.Store) error {
		if err := store.ResetAccount(ctx, c.Login, made.Credentials); err != nil {
			return err
		}
		return made.tell(s.out, c.Login)
	})
}

type staffDisableCommand struct {
	config.Database
	Login string `arg:"" name:"login" help:"The account."`
}

// Run disables.
func (c staffDisableCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		return store.SetAccount(ctx, c.Login, nil)
	})
}

type staffListCommand struct{ config.Database }

// Run lists.
func (c staffListCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		accounts, err := store.Accounts(ctx)
		if err != nil {
			return err
		}
		tokens, err := store.Tokens(ctx)
		if err != nil {
			return err
		}
		t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "ACCOUNT\tNAME\tROLES\tSESSIONS\tRECOVERY CODES\tSTATE")
		for _, a := range accounts {
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\n", a.Login, a.Name, a.Roles, a.Sessions, a.RecoveryCodes, state(a.Disabled, "disabled"))
		}
		for _, k := range tokens {
			fmt.Fprintf(t, "token:%s\t\t%s\t\t\t%s\n", k.Name, k.Roles, state(k.Ended, "ended"))
		}
		return t.Flush()
	})
}

func state(ended bool, word string) string {
	if ended {
		return word
	}
	return "open"
}

type staffTokenCommand struct {
	Add    staffTokenAddCommand    `cmd:"" help:"Make a token; it is printed once."`
	Revoke staffTokenRevokeCommand `cmd:"" help:"End a token."`
}

type staffTokenAddCommand struct {
	config.Database
	Name string   `arg:"" name:"name" help:"1 to 32 of a-z, 0-9, -, . and _."`
	Role []string `name:"role" env:"SWAP_STAFF_ROLE" required:"" help:"operator, union, maintenance, admin or personal; several with commas."`
	Days int      `name:"days" env:"SWAP_TOKEN_DAYS" default:"90" help:"For how long it holds."`
}

// Run adds.
func (c staffTokenAddCommand) Run(s shell) error {
	roles, err := staff.ParseRoles(c.Role)
	life := time.Duration(c.Days) * 24 * time.Hour
	switch {
	case err != nil:
		return config.Mistakes{fmt.Errorf("--role: %w", err)}
	case life <= 0 || life > staff.MaxTokenLife:
		return config.Mistakes{fmt.Errorf("--days: %d, want 1 to %d", c.Days, int(staff.MaxTokenLife.Hours()/24))}
	}
	token := staff.NewToken()
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		if err := store.AddToken(ctx, c.Name, roles, staff.HashToken(token), time.Now().Add(life)); err != nil {
			return err
		}
		_, err := fmt.Fprintln(s.out, token)
		return err
	})
}

type staffTokenRevokeCommand struct {
	config.Database
	Name string `arg:"" name:"name" help:"The token's name."`
}

// Run revokes.
func (c staffTokenRevokeCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error { return store.RevokeToken(ctx, c.Name) })
}

type staffAuditLogCommand struct {
	Verify staffAuditLogVerifyCommand `cmd:"" help:"Check the chain of the audit log; exit 1 when a line was altered."`
}

type staffAuditLogVerifyCommand struct {
	config.Database
	Head string `name:"head" env:"SWAP_AUDIT_HEAD" placeholder:"NO:HASH" help:"A head that was noted before, as the server logs it daily: it must still be in the log."`
}

// Run verifies.
func (c staffAuditLogVerifyCommand) Run(s shell) error {
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		check, err := store.VerifyAuditLog(ctx, c.Head)
		if err != nil {
			return err
		}
		if check.Wrong != nil {
			fmt.Fprintf(s.out, "ALTERED: %v\n", check.Wrong)
			return errFailed
		}
		_, err = fmt.Fprintf(s.out, "%d lines, 0 altered, head %s\n", check.Lines, check.Head)
		return err
	})
}

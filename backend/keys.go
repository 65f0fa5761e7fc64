package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	"batteryswap/backend/fleet"
	"batteryswap/backend/internal/config"
)

type keysCommand struct {
	Init keysInitCommand `cmd:"" help:"Make all keys and the first signed key list. Overwrites nothing."`
	Show keysShowCommand `cmd:"" help:"Check a key directory and print what is public of it."`
}

type keyDir struct {
	Dir string `name:"dir" env:"SWAP_KEY_DIR" required:"" placeholder:"DIR" help:"Where the keys are."`
}

type keysInitCommand struct{ keyDir }

// Run makes the keys.
func (c keysInitCommand) Run(s shell) error {
	if err := fleet.InitKeys(c.Dir); err != nil {
		return err
	}
	k, err := fleet.LoadKeys(c.Dir)
	if err != nil {
		return err
	}
	fmt.Fprintln(s.errout, "Keep root.key off line: only signing the next key list needs it. Agents need root.pub and keys.json.")
	return showKeys(s, k)
}

type keysShowCommand struct{ keyDir }

// Run prints the public part.
func (c keysShowCommand) Run(s shell) error {
	k, err := fleet.LoadKeys(c.Dir)
	if err != nil {
		return config.Mistakes{err}
	}
	return showKeys(s, k)
}

func showKeys(s shell, k fleet.Keys) error {
	b, err := json.MarshalIndent(map[string]any{
		"root_public_key": base64.StdEncoding.EncodeToString(k.Root), "version": k.List.Version, "keys": k.List.Keys,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("print keys: %w", err)
	}
	fmt.Fprintln(s.out, string(b))
	return nil
}

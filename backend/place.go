package main

import (
	"context"
	"errors"
	"fmt"

	"batteryswap/backend/internal/config"
	"batteryswap/backend/internal/place"
	"batteryswap/backend/internal/postgres"
	"batteryswap/protocol"
)

type cabinetPlaceCommand struct {
	config.Database
	ID        string   `arg:"" name:"id" help:"The cabinet."`
	Latitude  *float64 `name:"latitude" env:"SWAP_CABINET_LATITUDE" placeholder:"DEGREES" help:"North, in WGS-84 (not as maps in China draw it)."`
	Longitude *float64 `name:"longitude" env:"SWAP_CABINET_LONGITUDE" placeholder:"DEGREES" help:"East, in WGS-84."`
	Hotline   *string  `name:"hotline" env:"SWAP_CABINET_HOTLINE" placeholder:"PHONE" help:"The street's hotline, as on the sticker."`
}

// Run writes the place down.
func (c cabinetPlaceCommand) Run(s shell) error {
	var m config.Mistakes
	if err := protocol.CabinetID(c.ID).Validate(); err != nil {
		m = append(m, fmt.Errorf("id: %w", err))
	}
	switch {
	case (c.Latitude == nil) != (c.Longitude == nil):
		m = append(m, errors.New("--latitude and --longitude: want both, or neither"))
	case c.Latitude != nil:
		if err := (place.Point{Latitude: *c.Latitude, Longitude: *c.Longitude}).Validate(); err != nil {
			m = append(m, fmt.Errorf("--latitude, --longitude: %w", err))
		}
	case c.Hotline == nil:
		m = append(m, errors.New("want --latitude and --longitude, --hotline, or all"))
	}
	if len(m) > 0 {
		return m
	}
	return withStore(s, c.Database, func(ctx context.Context, store *postgres.Store) error {
		return store.PlaceCabinet(ctx, postgres.CabinetPlace{
			CabinetID: protocol.CabinetID(c.ID), Latitude: c.Latitude, Longitude: c.Longitude, Hotline: c.Hotline,
		})
	})
}

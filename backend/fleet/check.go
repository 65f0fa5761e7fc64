package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"time"

	"batteryswap/backend/internal/link"
	"batteryswap/backend/internal/postgres"
)

// checkTimeout bounds how long a check waits for each of the two.
const checkTimeout = 15 * time.Second

// CheckDatabase says why the books cannot be reached, or nil.
func CheckDatabase(ctx context.Context, databaseURL string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	store, err := postgres.Open(ctx, databaseURL, postgres.Options{})
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	defer store.Close()
	if err := store.Ping(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

// CheckBroker says why the broker cannot be used, by each of the connections, or
// nil. conf and telemetry are as of Options.
func CheckBroker(ctx context.Context, u *url.URL, conf, telemetry *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var errs []error
	if err := link.Probe(ctx, u, conf); err != nil {
		errs = append(errs, fmt.Errorf("broker: %w", err))
	}
	if telemetry != nil {
		if err := link.Probe(ctx, u, telemetry); err != nil {
			errs = append(errs, fmt.Errorf("broker, telemetry: %w", err))
		}
	}
	return errors.Join(errs...)
}

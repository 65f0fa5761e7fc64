package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime/debug"
	"time"

	"batteryswap/backend/fleet"
	"batteryswap/backend/internal/config"
)

// stopTimeout is what a stopping server gets to finish.
const stopTimeout = 20 * time.Second

type serveCommand struct{ config.Serve }

// Run serves until a signal comes.
func (c serveCommand) Run(s shell) error {
	broker, public, err := c.Check()
	var keys fleet.Keys
	if c.KeyDir != "" {
		var keysErr error
		if keys, keysErr = fleet.LoadKeys(c.KeyDir); keysErr != nil {
			err = withMistake(err, keysErr)
		}
	}
	tells, notifyErr := notifier(c.Notify)
	if notifyErr != nil {
		err = withMistake(err, notifyErr)
	}
	codes, codesErr := codeSender(c.RiderNotify, s.log)
	if codesErr != nil {
		err = withMistake(err, codesErr)
	}
	if err != nil {
		return err
	}
	if c.PublicURL == "" {
		public = nil // the address that is really listened on
	}
	proxies, err := c.Proxies()
	if err != nil {
		return err
	}
	f, err := fleet.New(fleet.Options{
		DatabaseURL: c.DatabaseURL, BrokerURL: broker.URL, BrokerTLS: broker.TLS, TelemetryTLS: broker.TelemetryTLS, Keys: keys,
		Listen: c.Listen, MetricsListen: c.MetricsListen, MetricsSlots: fleet.MetricsSlots(c.MetricsSlots), PublicURL: public, RiderCode: c.RiderCode, RetentionMonths: c.RetentionMonths, Hotline: c.Hotline, Notifier: tells,
		CodeSender: codes, CodesPerHour: c.RiderCodesPerHour, WrongPerHour: c.RiderWrongPerHour,
		TrustedProxies: proxies, Version: version(), Log: s.log,
	})
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.KeyDir + "/root.key"); err == nil {
		s.log.Warn("root.key is in --key-dir: keep it off line; the server does not need it")
	}
	if err := f.Start(s.ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	<-s.ctx.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), stopTimeout)
	defer cancel()
	f.Stop(ctx)
	return nil
}

func withMistake(err, more error) error {
	var m config.Mistakes
	if err != nil && !errors.As(err, &m) {
		return errors.Join(err, more)
	}
	return append(m, more)
}

// version is what this program was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) > 12 {
			return s.Value[:12]
		}
	}
	return info.Main.Version
}

type checkConfigCommand struct{ config.Serve }

// Run says everything that is wrong, also what only trying shows.
func (c checkConfigCommand) Run(s shell) error {
	broker, _, err := c.Check()
	if c.KeyDir != "" {
		if _, keysErr := fleet.LoadKeys(c.KeyDir); keysErr != nil {
			err = withMistake(err, keysErr)
		}
	}
	if _, notifyErr := notifier(c.Notify); notifyErr != nil {
		err = withMistake(err, notifyErr)
	}
	if _, codesErr := codeSender(c.RiderNotify, s.log); codesErr != nil {
		err = withMistake(err, codesErr)
	}
	if c.Database.Check() == nil {
		if dbErr := fleet.CheckDatabase(s.ctx, c.DatabaseURL); dbErr != nil {
			err = withMistake(err, dbErr)
		}
	}
	if usable(broker) {
		if mqErr := fleet.CheckBroker(s.ctx, broker.URL, broker.TLS, broker.TelemetryTLS); mqErr != nil {
			err = withMistake(err, mqErr)
		}
	}
	if err == nil {
		fmt.Fprintln(s.out, "ok")
	}
	return err
}

// usable reports whether the broker's flags were without mistakes.
func usable(b config.Broker) bool {
	return b.URL != nil && (b.TLS != nil || plain(b.URL))
}

func plain(u *url.URL) bool { return u.Scheme == "tcp" }

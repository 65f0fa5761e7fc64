package main

import (
	"fmt"
	"log/slog"
	"time"

	"batteryswap/backend/fleet"
	"batteryswap/backend/internal/config"
	"batteryswap/backend/internal/notify"
)

// notifier is what the flags name, nil for the log. All mistakes are said.
func notifier(c config.Notify) (fleet.Notifier, error) {
	w, err := webhook("notify", c.Notify, c.NotifyURL, c.NotifySecretFile)
	if w == nil {
		return nil, err
	}
	return w, err
}

// codeSender is what the flags name, nil for none. All mistakes are said.
func codeSender(c config.RiderNotify, log *slog.Logger) (fleet.CodeSender, error) {
	w, err := webhook("rider-notify", c.RiderNotify, c.RiderNotifyURL, c.RiderNotifySecretFile)
	switch {
	case w != nil:
		return w, err
	case c.RiderNotify == config.NotifyNone || c.RiderNotify == "" || err != nil:
		return nil, err
	}
	return notify.Log{Log: log}, nil
}

// webhook is what the flags of a name say, nil where its kind is another.
func webhook(flag, kind, address, secretFile string) (*notify.Webhook, error) {
	var m config.Mistakes
	if kind != config.NotifyWebhook {
		for name, value := range map[string]string{"url": address, "secret-file": secretFile} {
			if value != "" {
				m = append(m, fmt.Errorf("--%s-%s: --%s is %q: want webhook", flag, name, flag, kind))
			}
		}
		return nil, m.OrNil()
	}
	if address == "" {
		m = append(m, fmt.Errorf("--%s-url: missing: --%s webhook needs it", flag, flag))
	} else if err := notify.CheckURL(address); err != nil {
		m = append(m, fmt.Errorf("--%s-url: %w", flag, err))
	}
	var secret []byte
	if secretFile == "" {
		m = append(m, fmt.Errorf("--%s-secret-file: missing: --%s webhook needs it", flag, flag))
	} else {
		var err error
		if secret, err = notify.ReadSecret(secretFile); err != nil {
			m = append(m, fmt.Errorf("--%s-secret-file: %w", flag, err))
		}
	}
	if len(m) > 0 {
		return nil, m
	}
	return notify.NewWebhook(address, secret, time.Now)
}

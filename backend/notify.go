package main

import (
	"fmt"
	"time"

	"batteryswap/backend/fleet"
	"batteryswap/backend/internal/config"
	"batteryswap/backend/internal/notify"
)

// notifier is what the flags name, nil for the log. All mistakes are said.
func notifier(c config.Notify) (fleet.Notifier, error) {
	var m config.Mistakes
	if c.Notify != config.NotifyWebhook {
		for flag, value := range map[string]string{"notify-url": c.NotifyURL, "notify-secret-file": c.NotifySecretFile} {
			if value != "" {
				m = append(m, fmt.Errorf("--%s: --notify is %q: want webhook", flag, c.Notify))
			}
		}
		return nil, m.OrNil()
	}
	if c.NotifyURL == "" {
		m = append(m, fmt.Errorf("--notify-url: missing: --notify webhook needs it"))
	} else if err := notify.CheckURL(c.NotifyURL); err != nil {
		m = append(m, fmt.Errorf("--notify-url: %w", err))
	}
	var secret []byte
	if c.NotifySecretFile == "" {
		m = append(m, fmt.Errorf("--notify-secret-file: missing: --notify webhook needs it"))
	} else {
		var err error
		if secret, err = notify.ReadSecret(c.NotifySecretFile); err != nil {
			m = append(m, fmt.Errorf("--notify-secret-file: %w", err))
		}
	}
	if len(m) > 0 {
		return nil, m
	}
	return notify.NewWebhook(c.NotifyURL, secret, time.Now)
}

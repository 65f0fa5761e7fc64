package link

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/url"

	"batteryswap/protocol"
)

// Probe connects once, subscribes as a backend does, and says what went wrong.
func Probe(ctx context.Context, u *url.URL, conf *tls.Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reached := false
	connected := func(_ string, up bool) {
		reached = reached || up
		cancel()
	}
	c, err := newConnection("probe", u, conf, connected, slog.New(slog.DiscardHandler),
		map[string]byte{protocol.Filter(protocol.UpTelemetry): 0}, func(string, []byte, bool) {})
	if err != nil {
		return err
	}
	c.accept(true)
	if err := c.once(ctx); !reached {
		return err
	}
	return nil
}

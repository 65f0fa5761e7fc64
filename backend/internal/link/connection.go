package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const (
	keepAlive      = 30 * time.Second
	pingTimeout    = 10 * time.Second
	writeTimeout   = 10 * time.Second
	connectTimeout = 10 * time.Second
	// A backend is one of few: it may be back sooner than a cabinet.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
	// steady is how long a connection lasts before the wait starts anew.
	steady       = 30 * time.Second
	flushTimeout = 3 * time.Second
	// quiesceMS is what a last message gets to leave, in ms.
	quiesceMS = 250
	// subscriptionRefused is the return code of a SUBACK (MQTT 3.1.1, 3.9.3).
	subscriptionRefused = 0x80
)

// connection keeps one MQTT connection up, with its subscriptions.
type connection struct {
	name    string
	url     *url.URL
	tls     *tls.Config
	changed func(string, bool)
	log     *slog.Logger
	filters map[string]byte
	receive func(topic string, payload []byte, retained bool)

	client    atomic.Pointer[mqtt.Client] // nil while down
	last      mqtt.Token                  // of publish; used by the sender alone
	accepting atomic.Bool
	kick      chan struct{} // accepting changed
}

func newConnection(name string, u *url.URL, t *tls.Config, changed func(string, bool), log *slog.Logger,
	filters map[string]byte, receive func(string, []byte, bool),
) (*connection, error) {
	switch u.Scheme {
	case "tcp", "mqtt":
		t = nil
	case "ssl", "tls", "mqtts":
		if t == nil {
			return nil, fmt.Errorf("link: url %s needs a CA, a certificate and a key", u.Redacted())
		}
	default:
		return nil, fmt.Errorf("link: url scheme %q: want tcp or ssl", u.Scheme)
	}
	if u.Port() == "" {
		return nil, fmt.Errorf("link: url %s: want a port", u.Redacted())
	}
	return &connection{
		name: name, url: u, tls: t, changed: changed, log: log.With("connection", name),
		filters: filters, receive: receive, kick: make(chan struct{}, 1),
	}, nil
}

func (c *connection) up() bool { return c.client.Load() != nil }

func (c *connection) accept(yes bool) {
	if c.accepting.Swap(yes) == yes {
		return
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// run connects again and again until ctx ends.
func (c *connection) run(ctx context.Context) {
	wait := firstRetry
	quiet := false
	for ctx.Err() == nil {
		began := time.Now()
		err := c.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > steady {
			wait, quiet = firstRetry, false
		}
		if !quiet { // one line when it goes away; the next when it is back
			c.log.Error("no connection to the broker; trying again", "err", err)
		}
		quiet = !errors.Is(err, errLost)
		sleep(ctx, jitter(wait))
		wait = min(2*wait, lastRetry)
	}
}

var errLost = errors.New("connection lost")

// once is one connection, from dialling to its loss.
func (c *connection) once(ctx context.Context) error {
	lost := make(chan error, 1)
	var socket atomic.Pointer[net.Conn]
	client := mqtt.NewClient(c.options(ctx, lost, &socket))
	token := client.Connect()
	if err := waitFor(ctx, token); err != nil {
		if conn := socket.Load(); conn != nil {
			_ = (*conn).Close() // a broker that says nothing is waited for no longer
		}
		<-token.Done()
		return fmt.Errorf("connect to %s: %w", c.url.Redacted(), err)
	}
	defer client.Disconnect(quiesceMS)
	subscribed := false
	if err := c.subscribe(ctx, client, &subscribed); err != nil {
		return err
	}
	c.client.Store(&client)
	c.changed(c.name, true)
	c.log.Info("connected to the broker", "url", c.url.Redacted())
	defer func() {
		c.client.Store(nil)
		c.changed(c.name, false)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-lost:
			return fmt.Errorf("%w: %w", errLost, err)
		case <-c.kick:
			if err := c.subscribe(ctx, client, &subscribed); err != nil {
				return err
			}
		}
	}
}

func (c *connection) options(ctx context.Context, lost chan<- error, socket *atomic.Pointer[net.Conn]) *mqtt.ClientOptions {
	o := mqtt.NewClientOptions()
	o.AddBroker(c.url.String())
	o.SetClientID(clientID(c.name))
	if user := c.url.User; user != nil {
		o.SetUsername(user.Username())
		if password, ok := user.Password(); ok {
			o.SetPassword(password)
		}
	}
	o.SetProtocolVersion(4)
	o.SetCleanSession(true)
	o.SetOrderMatters(true)
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetKeepAlive(keepAlive)
	o.SetPingTimeout(pingTimeout)
	o.SetWriteTimeout(writeTimeout)
	o.SetConnectTimeout(connectTimeout)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		conn, err := c.dial(ctx)
		if err != nil {
			return nil, err
		}
		socket.Store(&conn)
		if ctx.Err() != nil {
			_ = conn.Close() // who stops us may have looked before
		}
		return conn, nil
	})
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { c.receive(m.Topic(), m.Payload(), m.Retained()) })
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err })
	return o
}

func (c *connection) dial(ctx context.Context) (net.Conn, error) {
	d := &net.Dialer{Timeout: connectTimeout}
	if c.tls == nil {
		return d.DialContext(ctx, "tcp", c.url.Host)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return (&tls.Dialer{NetDialer: d, Config: c.tls}).DialContext(ctx, "tcp", c.url.Host)
}

// subscribe brings the subscriptions to what accepting says.
func (c *connection) subscribe(ctx context.Context, client mqtt.Client, subscribed *bool) error {
	want := c.accepting.Load()
	if want == *subscribed {
		return nil
	}
	if !want {
		names := make([]string, 0, len(c.filters))
		for f := range c.filters {
			names = append(names, f)
		}
		if err := waitFor(ctx, client.Unsubscribe(names...)); err != nil {
			return fmt.Errorf("unsubscribe: %w", err)
		}
		*subscribed = false
		return nil
	}
	token := client.SubscribeMultiple(c.filters, nil)
	if err := waitFor(ctx, token); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	for filter, code := range token.(*mqtt.SubscribeToken).Result() {
		if code == subscriptionRefused {
			return fmt.Errorf("subscribe: the broker refuses %s: see its ACL", filter)
		}
	}
	*subscribed = true
	return nil
}

// publish hands a message to the broker; it waits only for the socket.
func (c *connection) publish(topic string, payload []byte) error {
	client := c.client.Load()
	if client == nil {
		return mqtt.ErrNotConnected
	}
	c.last = (*client).Publish(topic, 1, false, payload)
	select {
	case <-c.last.Done():
		return c.last.Error()
	default:
		return nil
	}
}

// flush waits until the broker has what was published: closing a socket with
// answers unread throws away what the other side has not read yet.
func (c *connection) flush() {
	if c.last != nil && c.up() {
		c.last.WaitTimeout(flushTimeout)
	}
}

func waitFor(ctx context.Context, t mqtt.Token) error {
	timeout := time.NewTimer(connectTimeout)
	defer timeout.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-timeout.C:
		return errors.New("no answer in time")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// jitter keeps replicas that lost one broker from coming back in step: ± 20 %.
func jitter(d time.Duration) time.Duration {
	return d*4/5 + rand.N(d*2/5)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"batteryswap/protocol"
)

// Settings of the MQTT connection.
const (
	keepAlive      = 30 * time.Second
	pingTimeout    = 10 * time.Second
	writeTimeout   = 10 * time.Second
	connectTimeout = 10 * time.Second
	// maxUnconfirmed bounds the messages that a broker has taken and not
	// confirmed: the client stores them. A confirmation proves nothing, but a
	// broker that never gives one must not fill the memory.
	maxUnconfirmed = 64
	// quiesceMS lets the DISCONNECT go out, so that the will stays unsent.
	quiesceMS = 250
)

// Broker says how to reach the broker.
type Broker struct {
	URL string // tcp://host:port or ssl://host:port
	// For ssl://: who signed the broker's certificate, and this cabinet's own.
	// They are read at each connection, so that renewed ones are used.
	CAFile, CertFile, KeyFile string
	// Time is what certificates are checked against.
	Time func() time.Time
}

// client is a pipe over paho.
type client struct {
	mqtt        mqtt.Client
	gone        chan struct{}
	unconfirmed []mqtt.Token
}

// dial connects and subscribes.
func dial(ctx context.Context, opt Options, will []byte, receive func(inbound)) (pipe, error) {
	c := &client{gone: make(chan struct{})}
	var once sync.Once
	lose := func() { once.Do(func() { close(c.gone) }) }
	handle := func(_ mqtt.Client, m mqtt.Message) {
		receive(inbound{topic: m.Topic(), retained: m.Retained(), payload: m.Payload()})
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	connected := func() bool { return false }
	o := mqtt.NewClientOptions().
		AddBroker(opt.Broker.URL).
		SetClientID(string(opt.CabinetID)).
		SetProtocolVersion(4).
		SetCleanSession(true).
		SetOrderMatters(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetKeepAlive(keepAlive).
		SetPingTimeout(pingTimeout).
		SetWriteTimeout(writeTimeout).
		SetConnectTimeout(connectTimeout).
		SetStore(mqtt.NewMemoryStore()).
		SetBinaryWill(protocol.Topic(opt.CabinetID, protocol.UpWill), will, 1, false).
		SetDefaultPublishHandler(handle).
		SetConnectionLostHandler(func(mqtt.Client, error) { lose() }).
		SetCustomOpenConnectionFn(func(u *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
			conn, err := openConn(ctx, u, opt.Broker)
			if err != nil {
				return nil, err
			}
			// The client waits for the broker's answer without looking at ctx.
			connected = context.AfterFunc(ctx, func() { _ = conn.Close() })
			return &guardedConn{Conn: conn}, nil
		})
	c.mqtt = mqtt.NewClient(o)
	if err := finish(ctx, c.mqtt.Connect()); err != nil {
		c.close()
		return nil, fmt.Errorf("connect to %s: %w", opt.Broker.URL, err)
	}
	defer func() { connected() }()
	topic := protocol.Topic(opt.CabinetID, protocol.Down)
	token := c.mqtt.Subscribe(topic, 1, handle)
	err := finish(ctx, token)
	if sub, ok := token.(*mqtt.SubscribeToken); ok && err == nil && sub.Result()[topic] > 2 {
		err = errors.New("the broker refuses the subscription")
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("subscribe to %s: %w", topic, err)
	}
	return c, nil
}

// finish waits for a token, but not for ever.
func finish(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return fmt.Errorf("no answer: %w", ctx.Err())
	}
}

func (c *client) lost() <-chan struct{} { return c.gone }

func (c *client) close() { c.mqtt.Disconnect(quiesceMS) }

// publish hands a message over. What the broker confirms is only counted.
func (c *client) publish(topic string, qos byte, payload []byte) error {
	c.unconfirmed = slices.DeleteFunc(c.unconfirmed, func(t mqtt.Token) bool {
		select {
		case <-t.Done():
			return true
		default:
			return false
		}
	})
	if len(c.unconfirmed) >= maxUnconfirmed {
		return fmt.Errorf("%d messages are unconfirmed", len(c.unconfirmed))
	}
	t := c.mqtt.Publish(topic, qos, false, payload)
	select {
	case <-t.Done():
		return t.Error()
	default:
		c.unconfirmed = append(c.unconfirmed, t)
		return nil
	}
}

func openConn(ctx context.Context, u *url.URL, b Broker) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil || u.Scheme != "ssl" {
		return conn, err
	}
	config, err := b.tlsConfig(u.Hostname())
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS: %w", err), conn.Close())
	}
	return secure, nil
}

func (b Broker) tlsConfig(host string) (*tls.Config, error) {
	pem, err := os.ReadFile(b.CAFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: want certificates in PEM", b.CAFile)
	}
	own, err := tls.LoadX509KeyPair(b.CertFile, b.KeyFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: host, RootCAs: roots,
		Certificates: []tls.Certificate{own}, Time: b.Time,
	}, nil
}

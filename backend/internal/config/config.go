package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// Database says where the books are.
type Database struct {
	DatabaseURL string `name:"database-url" env:"DATABASE_URL" placeholder:"URL" help:"PostgreSQL 15 or later, as postgres://USER@HOST/NAME."`
}

// Logging says how to log.
type Logging struct {
	LogFormat string `name:"log-format" env:"SWAP_LOG_FORMAT" enum:"json,text" default:"json" help:"json or text."`
	LogLevel  string `name:"log-level" env:"SWAP_LOG_LEVEL" enum:"debug,info,warn,error" default:"info" help:"debug, info, warn or error."`
}

// Serve is all that the server is told.
type Serve struct {
	Database
	MQTTURL       string `name:"mqtt-url" env:"MQTT_URL" placeholder:"URL" help:"The broker: tcp://HOST:1883, or ssl://HOST:8883 with the three files."`
	MQTTCAFile    string `name:"mqtt-ca-file" env:"SWAP_MQTT_CA_FILE" placeholder:"FILE" help:"Who signed the broker's certificate (PEM)."`
	MQTTCertFile  string `name:"mqtt-cert-file" env:"SWAP_MQTT_CERT_FILE" placeholder:"FILE" help:"This backend's certificate (PEM)."`
	MQTTKeyFile   string `name:"mqtt-key-file" env:"SWAP_MQTT_KEY_FILE" placeholder:"FILE" help:"Its private key (PEM)."`
	TelemetryCert string `name:"mqtt-telemetry-cert-file" env:"SWAP_MQTT_TELEMETRY_CERT_FILE" placeholder:"FILE" help:"Certificate of the second connection: one certificate is one connection at a broker that names clients by it."`
	TelemetryKey  string `name:"mqtt-telemetry-key-file" env:"SWAP_MQTT_TELEMETRY_KEY_FILE" placeholder:"FILE" help:"Its private key (PEM)."`
	KeyDir        string `name:"key-dir" env:"SWAP_KEY_DIR" placeholder:"DIR" help:"Where 'keys init' put the keys."`
	Listen        string `name:"listen" env:"SWAP_LISTEN" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Pages and API."`
	MetricsListen string `name:"metrics-listen" env:"SWAP_METRICS_LISTEN" default:"127.0.0.1:9464" placeholder:"HOST:PORT" help:"/metrics."`
	MetricsSlots  string `name:"metrics-slots" env:"SWAP_METRICS_SLOTS" enum:"off,faulty,all" default:"faulty" help:"Series of single slots: off, faulty (only while an alarm is on), or all (refused above 12,000 slots)."`
	PublicURL     string `name:"public-url" env:"SWAP_PUBLIC_URL" placeholder:"URL" help:"How phones reach this backend, as https://swap.example. Default: http:// and the address of --listen."`
	Hotline       string `name:"hotline" env:"SWAP_HOTLINE" placeholder:"PHONE" help:"Whom riders call where a cabinet has no number of its own."`
	RiderCode     string `name:"rider-code" env:"SWAP_RIDER_CODE" placeholder:"CODE" help:"For development and demonstrations only: every rider signs in with this code."`

	RetentionMonths int `name:"retention-months" env:"SWAP_RETENTION_MONTHS" default:"13" placeholder:"N" help:"How long a person is kept after their membership ended; the counts stay."`

	TrustedProxies []string `name:"trusted-proxies" env:"SWAP_TRUSTED_PROXIES" placeholder:"CIDR" help:"Addresses of your own proxies, as 10.0.0.0/8: their X-Forwarded-For says where a request comes from. Several with commas."`

	Notify
	RiderNotify
}

const (
	maxRetentionMonths = 120
	// maxCodesPerHour is a city's riders, all in one hour. Below minWrongPerHour
	// people who only mistype would stop each other.
	maxCodesPerHour = 100_000
	minWrongPerHour = 50
)

// Proxies reads the trusted proxies.
func (s Serve) Proxies() ([]netip.Prefix, error) {
	var m Mistakes
	out := s.proxies(&m)
	return out, m.OrNil()
}

func (s Serve) proxies(m *Mistakes) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range s.TrustedProxies {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		switch {
		case err != nil:
			m.add("trusted-proxies", "%.50q: want ADDRESS/BITS, as 10.0.0.0/8 or 192.0.2.7/32", text)
		case p.Bits() == 0:
			m.add("trusted-proxies", "%s: that is everybody, who could then say any address", p)
		default:
			out = append(out, p)
		}
	}
	return out
}

// NotifyWebhook is the value of --notify that posts to a gateway.
const NotifyWebhook = "webhook"

// Notify says how people are told of safety events.
type Notify struct {
	Notify           string `name:"notify" env:"SWAP_NOTIFY" enum:"log,webhook" default:"log" help:"How safety events are told at once: log, or webhook with the next two."`
	NotifyURL        string `name:"notify-url" env:"SWAP_NOTIFY_URL" placeholder:"URL" help:"Where each is posted as signed JSON, as https://HOST/PATH."`
	NotifySecretFile string `name:"notify-secret-file" env:"SWAP_NOTIFY_SECRET_FILE" placeholder:"FILE" help:"The secret that signs them (HMAC-SHA256): 32 characters or more, mode 0600."`
}

// NotifyNone is the value of --rider-notify that sends nothing.
const NotifyNone = "none"

// RiderNotify says how codes come to riders' phones.
type RiderNotify struct {
	RiderNotify           string `name:"rider-notify" env:"SWAP_RIDER_NOTIFY" enum:"none,log,webhook" default:"none" help:"How codes are sent to riders' phones: webhook with the next two; none: riders bind with codes that staff hand out; log: for demonstrations only."`
	RiderNotifyURL        string `name:"rider-notify-url" env:"SWAP_RIDER_NOTIFY_URL" placeholder:"URL" help:"Where each is posted as signed JSON, as https://HOST/PATH."`
	RiderNotifySecretFile string `name:"rider-notify-secret-file" env:"SWAP_RIDER_NOTIFY_SECRET_FILE" placeholder:"FILE" help:"The secret that signs them (HMAC-SHA256): 32 characters or more, mode 0600."`
	RiderCodesPerHour     int    `name:"rider-codes-per-hour" env:"SWAP_RIDER_CODES_PER_HOUR" default:"1000" help:"At most so many are sent in an hour to all phones together."`
	RiderWrongPerHour     int    `name:"rider-wrong-codes-per-hour" env:"SWAP_RIDER_WRONG_CODES_PER_HOUR" default:"500" help:"After so many wrong ones in an hour, of all phones together, only codes that staff hand out work."`
}

// Mistakes are all that is wrong with a configuration.
type Mistakes []error

// Error lists them, one a line.
func (m Mistakes) Error() string { return errors.Join(m...).Error() }

func (m *Mistakes) add(flag, format string, a ...any) {
	*m = append(*m, fmt.Errorf("--%s: %w", flag, fmt.Errorf(format, a...)))
}

// OrNil keeps an empty list from being a non-nil error.
func (m Mistakes) OrNil() error {
	if len(m) == 0 {
		return nil
	}
	return m
}

// Check says what is wrong with the database's address, or nil.
func (d Database) Check() error {
	var m Mistakes
	d.check(&m)
	return m.OrNil()
}

func (d Database) check(m *Mistakes) {
	if d.DatabaseURL == "" {
		m.add("database-url", "missing: want postgres://USER@HOST/NAME, here or in DATABASE_URL")
		return
	}
	u, err := url.Parse(d.DatabaseURL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") { // err would show a password
		m.add("database-url", "want postgres://USER@HOST/NAME")
	}
}

// Logger makes the program's logger: UTC, milliseconds.
func (l Logging) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.LogLevel)); err != nil {
		level = slog.LevelInfo // the flag's list of values was enforced before
	}
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if t, ok := a.Value.Any().(time.Time); ok && a.Key == slog.TimeKey {
			a.Value = slog.StringValue(t.UTC().Format("2006-01-02T15:04:05.000Z"))
		}
		return a
	}}
	if l.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// Broker is how to reach the broker.
type Broker struct {
	URL *url.URL
	// TLS and TelemetryTLS are nil for tcp://.
	TLS, TelemetryTLS *tls.Config
}

// Check reads everything and says all that is wrong.
func (s Serve) Check() (Broker, *url.URL, error) {
	var m Mistakes
	s.Database.check(&m)
	b := s.broker(&m)
	public := s.publicURL(&m)
	if s.KeyDir == "" {
		m.add("key-dir", "missing: want the directory that 'keys init' filled")
	}
	checkAddress(&m, "listen", s.Listen)
	checkAddress(&m, "metrics-listen", s.MetricsListen)
	if s.Listen == s.MetricsListen && !isPortZero(s.Listen) {
		m.add("metrics-listen", "is --listen: want another port")
	}
	s.proxies(&m)
	between(&m, "retention-months", s.RetentionMonths, 1, maxRetentionMonths)
	between(&m, "rider-codes-per-hour", s.RiderCodesPerHour, 1, maxCodesPerHour)
	between(&m, "rider-wrong-codes-per-hour", s.RiderWrongPerHour, minWrongPerHour, maxCodesPerHour)
	if n := len(s.RiderCode); n > 64 {
		m.add("rider-code", "%d characters, want at most 64", n)
	}
	return b, public, m.OrNil()
}

func between(m *Mistakes, flag string, n, least, most int) {
	if n < least || n > most {
		m.add(flag, "%d, want %d to %d", n, least, most)
	}
}

func isPortZero(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port == "0"
}

func checkAddress(m *Mistakes, flag, address string) {
	if _, err := net.ResolveTCPAddr("tcp", address); err != nil || address == "" {
		m.add(flag, "%q: want HOST:PORT", address)
	}
}

func (s Serve) publicURL(m *Mistakes) *url.URL {
	if s.PublicURL == "" {
		return &url.URL{Scheme: "http", Host: s.Listen}
	}
	u, err := url.Parse(s.PublicURL)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		m.add("public-url", "%q: want http://HOST or https://HOST", s.PublicURL)
	case (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.User != nil:
		m.add("public-url", "%q: want nothing behind the host", s.PublicURL)
	}
	return u
}

func (s Serve) broker(m *Mistakes) Broker {
	if s.MQTTURL == "" {
		m.add("mqtt-url", "missing: want tcp://HOST:1883 or ssl://HOST:8883, here or in MQTT_URL")
		return Broker{}
	}
	u, err := url.Parse(s.MQTTURL)
	if err != nil || u.Hostname() == "" || u.Port() == "" || (u.Scheme != "tcp" && u.Scheme != "ssl") { // err would show a password
		m.add("mqtt-url", "want tcp://HOST:PORT or ssl://HOST:PORT")
		return Broker{}
	}
	if (s.TelemetryCert == "") != (s.TelemetryKey == "") {
		m.add("mqtt-telemetry-cert-file", "want a certificate and a key, or neither")
	}
	if u.Scheme == "tcp" {
		if s.MQTTCAFile+s.MQTTCertFile+s.MQTTKeyFile+s.TelemetryCert+s.TelemetryKey != "" {
			m.add("mqtt-url", "certificates are given, but tcp:// uses none: want ssl://")
		}
		return Broker{URL: u}
	}
	b := Broker{URL: u}
	roots := readRoots(m, s.MQTTCAFile)
	b.TLS = clientTLS(m, u, roots, "mqtt-cert-file", s.MQTTCertFile, "mqtt-key-file", s.MQTTKeyFile)
	if s.TelemetryCert != "" && s.TelemetryKey != "" {
		b.TelemetryTLS = clientTLS(m, u, roots, "mqtt-telemetry-cert-file", s.TelemetryCert, "mqtt-telemetry-key-file", s.TelemetryKey)
	}
	return b
}

func readRoots(m *Mistakes, file string) *x509.CertPool {
	if file == "" {
		m.add("mqtt-ca-file", "missing: ssl:// needs it")
		return nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		m.add("mqtt-ca-file", "%w", err)
		return nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		m.add("mqtt-ca-file", "%s: want certificates in PEM", file)
	}
	return roots
}

func clientTLS(m *Mistakes, u *url.URL, roots *x509.CertPool, certFlag, certFile, keyFlag, keyFile string) *tls.Config {
	if certFile == "" || keyFile == "" {
		if certFile == "" {
			m.add(certFlag, "missing: ssl:// needs it")
		}
		if keyFile == "" {
			m.add(keyFlag, "missing: ssl:// needs it")
		}
		return nil
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		m.add(certFlag, "%w", err)
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: u.Hostname(), Certificates: []tls.Certificate{pair},
	}
}

package config

import (
	"bytes"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

func good() Serve {
	return Serve{
		Database: Database{DatabaseURL: "postgres://swap@127.0.0.1/swap"}, MQTTURL: "tcp://127.0.0.1:1883",
		KeyDir: "/etc/batteryswap/keys", Listen: "127.0.0.1:8080", MetricsListen: "127.0.0.1:9464", RetentionMonths: 13,
		RiderNotify: RiderNotify{RiderCodesPerHour: 1000, RiderWrongPerHour: 500},
	}
}

func TestGood(t *testing.T) {
	b, public, err := good().Check()
	require.NoError(t, err)
	require.Nil(t, b.TLS)
	require.Equal(t, "http://127.0.0.1:8080", public.String())
	s := good()
	s.Listen, s.MetricsListen = "127.0.0.1:0", "127.0.0.1:0"
	_, _, err = s.Check()
	require.NoError(t, err)
}

func TestEveryMistakeNamesItsFlag(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Serve)
		want   string
	}{
		{"no database", func(s *Serve) { s.DatabaseURL = "" }, "--database-url: missing"},
		{"mysql", func(s *Serve) { s.DatabaseURL = "mysql://u:secret@h/d" }, "--database-url: want postgres://"},
		{"no broker", func(s *Serve) { s.MQTTURL = "" }, "--mqtt-url: missing"},
		{"no port", func(s *Serve) { s.MQTTURL = "tcp://broker" }, "--mqtt-url: want tcp://"},
		{"http broker", func(s *Serve) { s.MQTTURL = "http://u:secret@broker:80" }, "--mqtt-url: want tcp://"},
		{"ssl without files", func(s *Serve) { s.MQTTURL = "ssl://broker:8883" }, "--mqtt-ca-file: missing"},
		{"tcp with files", func(s *Serve) { s.MQTTCAFile = "ca.pem" }, "--mqtt-url: certificates are given"},
		{"half a pair", func(s *Serve) { s.TelemetryCert = "t.pem" }, "--mqtt-telemetry-cert-file: want a certificate and a key"},
		{"no keys", func(s *Serve) { s.KeyDir = "" }, "--key-dir: missing"},
		{"listen", func(s *Serve) { s.Listen = "8080" }, `--listen: "8080": want HOST:PORT`},
		{"same port", func(s *Serve) { s.MetricsListen = s.Listen }, "--metrics-listen: is --listen"},
		{"no prefix", func(s *Serve) { s.TrustedProxies = []string{"10.0.0.0/8", "proxy.example"} }, `--trusted-proxies: "proxy.example": want ADDRESS/BITS`},
		{"everybody", func(s *Serve) { s.TrustedProxies = []string{"0.0.0.0/0"} }, "--trusted-proxies: 0.0.0.0/0: that is everybody"},
		{"no retention", func(s *Serve) { s.RetentionMonths = 0 }, "--retention-months: 0, want 1 to 120"},
		{"no codes", func(s *Serve) { s.RiderCodesPerHour = 0 }, "--rider-codes-per-hour: 0, want 1 to 100000"},
		{"many codes", func(s *Serve) { s.RiderCodesPerHour = 100_001 }, "--rider-codes-per-hour: 100001, want 1 to 100000"},
		{"few wrong codes", func(s *Serve) { s.RiderWrongPerHour = 49 }, "--rider-wrong-codes-per-hour: 49, want 50 to 100000"},
		{"many wrong codes", func(s *Serve) { s.RiderWrongPerHour = 100_001 }, "--rider-wrong-codes-per-hour: 100001, want 50 to 100000"},
		{"public", func(s *Serve) { s.PublicURL = "swap.example" }, "--public-url"},
		{"public path", func(s *Serve) { s.PublicURL = "https://swap.example/x" }, "--public-url"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := good()
			c.change(&s)
			_, _, err := s.Check()
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	_, _, err := Serve{MQTTURL: "ssl://broker:8883", MQTTCAFile: "/absent", MQTTCertFile: "/absent", MQTTKeyFile: "/absent", Listen: "x"}.Check()
	var m Mistakes
	require.ErrorAs(t, err, &m)
	require.Len(t, m, 9, err.Error())
}

func TestEveryFlagHasItsEnvironmentName(t *testing.T) {
	var cli struct {
		Logging
		Serve Serve `cmd:""`
	}
	k, err := kong.New(&cli)
	require.NoError(t, err)
	n := 0
	for _, flags := range k.Model.Leaves(false)[0].AllFlags(false) {
		for _, f := range flags {
			if f.Name == "help" {
				continue
			}
			n++
			require.NotEmpty(t, f.Help, f.Name)
			require.Len(t, f.Envs, 1, f.Name)
			require.Regexp(t, "^(SWAP_[A-Z_]+|DATABASE_URL|MQTT_URL)$", f.Envs[0])
		}
	}
	require.Equal(t, 26, n)
}

func TestLogger(t *testing.T) {
	var b bytes.Buffer
	l := Logging{LogFormat: "json", LogLevel: "warn"}.Logger(&b)
	l.Info("not shown")
	l.Warn("shown", "cabinet_id", "hb-0001")
	require.Regexp(t, `^\{"time":"[0-9T:-]+\.\d{3}Z","level":"WARN","msg":"shown","cabinet_id":"hb-0001"\}\n$`, b.String())
}

package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

func TestDefaultsAndEveryField(t *testing.T) {
	c, err := Load("testdata/good.yaml")
	require.NoError(t, err)
	want := Default()
	want.CabinetID, want.Serial.Port = "hb-0001", "/dev/ttyUSB0"
	want.RootPublicKey = c.RootPublicKey
	require.Equal(t, want, c)
	require.Equal(t, Charging{3000, 100, 4, []string{"11:00-13:30", "17:00-20:00"}, []string{"22:00-08:00"}, 480}, c.Charging)
	require.Equal(t, Safety{300, 60, 10_100}, c.Safety)
	require.Equal(t, 90, c.Limits.ReleaseSoc)

	c, err = Load("testdata/full.yaml")
	require.NoError(t, err)
	require.Equal(t, Config{
		CabinetID: "hb-0001", StateDir: "/var/lib/agent", DeviceKeyFile: "/etc/device.key",
		RootPublicKey: c.RootPublicKey, KeyListFile: "/etc/keys.json",
		MQTT:   MQTT{"ssl://broker.example:8883", "/etc/ca.pem", "/etc/cert.pem", "/etc/key.pem"},
		Serial: Serial{"/dev/serial/by-path/x", 115200, "even", 2, 20},
		Board:  Board{"slotboard", 48, 4},
		Meter:  Instrument{"ddsu666", 201}, Climate: Instrument{"xymd02", 202},
		Limits: Limits{60, 80}, ScreenListen: "[::1]:8082",
		Charging: Charging{5000, 80, 3, []string{"10:30-13:00"}, []string{"23:00-07:00", "12:00-14:00"}, 540},
		Safety:   Safety{400, 55, 20_000},
		Batteries: []Battery{
			{Name: "small", SerialPrefix: "BT10", HotC: 58, MaxMA: 5000}, {Name: "all others", WarmC: 50, RiseCPerS: .5},
		},
	}, c)
	known, standard := c.BatteryTypes()
	require.Equal(t, 50, standard.WarmC)
	require.Equal(t, 60, standard.HotC)
	require.Len(t, known, 1)
	require.Equal(t, Battery{"small", "BT10", 50, 58, .5, 0, 10, 45, 60, 95, 100, 5000, 68_000, 20_000}, known[0])
	require.Equal(t, 20*time.Millisecond, c.Serial.DeviceTime())
	root, err := c.Root()
	require.NoError(t, err)
	require.Equal(t, byte(31), root[31])
}

// Each fixture says in its first line what must be said of it, and only that.
func TestEveryMistakeIsNamed(t *testing.T) {
	files, err := filepath.Glob("testdata/mistake.*.yaml")
	require.NoError(t, err)
	require.Greater(t, len(files), 25)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		line, _, _ := bytes.Cut(content, []byte("\n"))
		want, ok := strings.CutPrefix(string(line), "# want: ")
		require.True(t, ok, file)
		_, err = Load(file)
		var found Mistakes
		require.ErrorAs(t, err, &found, file)
		require.Len(t, found, 1, "%s: %v", file, found)
		require.Contains(t, err.Error(), want, file)
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	_, err := Load("testdata/many.yaml")
	require.EqualError(t, err, strings.TrimSpace(`
root_public_key: is "": want 32 bytes in base64, as in root.pub
line 1: cabinet_id: is "X": want 4 to 24 characters of a-z, 0-9 and -
line 2: state_dir: is "relative": want an absolute path
line 3: mqtt.url: is "nothing": want tcp://host:port or ssl://host:port
line 4: serial.port: is missing: want a device such as /dev/serial/by-path/…
line 5: serial.baud: want a whole number, not "fast"
line 6: serial.stop_bits: is 9: want 1 to 2
line 7: board.colour: there is no such field
line 7: board.slots: is 0: want 1 to 48
`))
	_, err = Load("testdata/empty.yaml")
	require.ErrorContains(t, err, "cabinet_id: is \"\"")
	_, err = Load("testdata/absent.yaml")
	require.ErrorIs(t, err, os.ErrNotExist)
	big := filepath.Join(t.TempDir(), "big.yaml")
	require.NoError(t, os.WriteFile(big, bytes.Repeat([]byte("#\n"), MaxFile), 0o600))
	_, err = Load(big)
	require.ErrorContains(t, err, "larger than 65536 bytes")
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	require.NoError(f, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.NoError(t, c.CabinetID.Validate())
	})
}

// files writes what a configuration names into a directory.
func files(t *testing.T) (Config, ed25519.PublicKey) {
	t.Helper()
	dir := t.TempDir()
	c := Default()
	c.CabinetID, c.StateDir, c.Serial.Port = "hb-0001", dir, "/dev/null"
	c.DeviceKeyFile = filepath.Join(dir, "device.key")
	c.KeyListFile = filepath.Join(dir, "keys.json")
	device, err := GenerateDeviceKey(c.DeviceKeyFile)
	require.NoError(t, err)
	rootPub, root, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	c.RootPublicKey = base64.StdEncoding.EncodeToString(rootPub)
	list, err := protocol.SealKeyList(root, protocol.KeyList{
		Version: 1, Keys: []protocol.Key{{KeyID: "g1", Use: protocol.UseGrant, PublicKey: rootPub}},
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(c.KeyListFile, list, 0o644))
	return c, device
}

func TestFiles(t *testing.T) {
	c, device := files(t)
	id, err := c.ReadFiles()
	require.NoError(t, err)
	require.Equal(t, device, id.DeviceKey.Public())
	_, err = protocol.OpenKeyList(id.KeyList, id.Root)
	require.NoError(t, err)
	info, err := os.Stat(c.DeviceKeyFile)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	_, err = GenerateDeviceKey(c.DeviceKeyFile)
	require.ErrorIs(t, err, os.ErrExist)
}

func TestMistakesInFiles(t *testing.T) {
	write := func(path string, content string, mode os.FileMode) {
		require.NoError(t, os.WriteFile(path, []byte(content), mode))
		require.NoError(t, os.Chmod(path, mode))
	}
	for what, spoil := range map[string]func(c *Config){
		"device_key_file: stat ": func(c *Config) { c.DeviceKeyFile += "x" },
		"has the mode 0640: want 0600": func(c *Config) {
			require.NoError(t, os.Chmod(c.DeviceKeyFile, 0o640))
		},
		"want a PKCS#8 private key in PEM": func(c *Config) { write(c.DeviceKeyFile, "no key", 0o600) },
		"want an Ed25519 key in PKCS#8": func(c *Config) {
			other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			require.NoError(t, err)
			der, err := x509.MarshalPKCS8PrivateKey(other)
			require.NoError(t, err)
			write(c.DeviceKeyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), 0o600)
		},
		"key_list_file: key list: wrong signature": func(c *Config) {
			c.RootPublicKey = base64.StdEncoding.EncodeToString(make([]byte, 32))
		},
		"key_list_file: open ":  func(c *Config) { c.KeyListFile += "x" },
		"want at most 65536":    func(c *Config) { write(c.KeyListFile, strings.Repeat("x", maxKeyFile+1), 0o600) },
		"mqtt.ca_file: open ":   func(c *Config) { withTLS(t, c); c.MQTT.CAFile += "x" },
		"certificates in PEM":   func(c *Config) { withTLS(t, c); write(c.MQTT.CAFile, "x", 0o600) },
		"mqtt.key_file: stat ":  func(c *Config) { withTLS(t, c); c.MQTT.KeyFile += "x" },
		"mqtt.cert_file: open ": func(c *Config) { withTLS(t, c); c.MQTT.CertFile += "x" },
		"mqtt.key_file: " + "/": func(c *Config) { withTLS(t, c); require.NoError(t, os.Chmod(c.MQTT.KeyFile, 0o644)) },
	} {
		c, _ := files(t)
		spoil(&c)
		_, err := c.ReadFiles()
		require.ErrorContains(t, err, what)
	}
	c, _ := files(t)
	withTLS(t, &c)
	_, err := c.ReadFiles()
	require.NoError(t, err)
	c.DeviceKeyFile, c.KeyListFile, c.MQTT.CAFile = "/no/1", "/no/2", "/no/3"
	_, err = c.ReadFiles()
	require.Len(t, err, 3, "all at once")
}

// withTLS makes a certificate that signs itself.
func withTLS(t *testing.T, c *Config) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hb-0001"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, pub, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	c.MQTT.URL = "ssl://127.0.0.1:8883"
	for name, b := range map[*string]*pem.Block{
		&c.MQTT.CAFile:   {Type: "CERTIFICATE", Bytes: der},
		&c.MQTT.CertFile: {Type: "CERTIFICATE", Bytes: der},
		&c.MQTT.KeyFile:  {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		f, err := os.CreateTemp(t.TempDir(), "pem")
		require.NoError(t, err)
		_, err = f.Write(pem.EncodeToMemory(b))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		*name = f.Name()
	}
}

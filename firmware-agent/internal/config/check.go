package config

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"batteryswap/protocol"
)

// Kinds of board that the agent can drive, and line settings that exist.
var (
	boardKinds   = [...]string{"slotboard"}
	meterKinds   = [...]string{"ddsu666", "dtsu666", "sdm120", "sdm630"}
	climateKinds = [...]string{"xymd02"}
	parities     = [...]string{"none", "even", "odd"}
	bauds        = [...]int{1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200}
)

// checker collects mistakes. A field whose type is wrong already is not checked
// further.
type checker struct {
	places  places
	already Mistakes
	found   Mistakes
}

func (k *checker) expect(ok bool, field, format string, args ...any) {
	if !ok && !k.already.has(field) {
		k.found = append(k.found, Mistake{Line: k.places.of(field), Field: field, Text: fmt.Sprintf(format, args...)})
	}
}

func (k *checker) within(n int, field, unit string, low, high int) {
	k.expect(n >= low && n <= high, field, "is %d: want %d to %d%s", n, low, high, unit)
}

func (c Config) check(p places, already Mistakes) Mistakes {
	k := &checker{places: p, already: already}
	if err := c.CabinetID.Validate(); err != nil {
		k.expect(false, "cabinet_id", "is %.30q: want 4 to 24 characters of a-z, 0-9 and -", string(c.CabinetID))
	}
	k.expect(filepath.IsAbs(c.StateDir), "state_dir", "is %q: want an absolute path", c.StateDir)
	k.expect(c.DeviceKeyFile != "", "device_key_file", "is missing: want the file that keygen made")
	k.expect(c.KeyListFile != "", "key_list_file", "is missing: want the file keys.json of the backend")
	_, err := c.Root()
	k.expect(err == nil, "root_public_key", "is %.60q: want 32 bytes in base64, as in root.pub", c.RootPublicKey)
	c.MQTT.check(k)
	k.expect(c.Serial.Port != "", "serial.port", "is missing: want a device such as /dev/serial/by-path/…")
	k.expect(slices.Contains(bauds[:], c.Serial.Baud), "serial.baud", "is %d: want one of %v", c.Serial.Baud, bauds)
	k.expect(slices.Contains(parities[:], c.Serial.Parity), "serial.parity", "is %q: want one of %v", c.Serial.Parity, parities)
	k.within(c.Serial.StopBits, "serial.stop_bits", "", 1, 2)
	k.within(c.Serial.DeviceTimeMS, "serial.device_time_ms", " ms", 0, 1000)
	k.expect(slices.Contains(boardKinds[:], c.Board.Kind), "board.kind", "is %q: want one of %v", c.Board.Kind, boardKinds)
	k.within(c.Board.Slots, "board.slots", "", 1, protocol.MaxSlots)
	c.Meter.check(k, "meter", meterKinds[:])
	c.Climate.check(k, "climate", climateKinds[:])
	k.expect(c.Meter.Address != c.Climate.Address || c.Meter.Kind == "" || c.Climate.Kind == "",
		"climate.address", "is %d, as the meter's: want another", c.Climate.Address)
	// Fewer than 18 pulses left refuse a swap, so a smaller bucket never serves.
	k.within(c.Limits.MaxPulsesPerHour, "limits.max_pulses_per_hour", "", 18, 600)
	k.within(c.Limits.ReleaseSoc, "limits.release_soc", " %", 1, 100)
	k.within(c.Board.Columns, "board.columns", "", 1, protocol.MaxSlots)
	c.checkCharging(k)
	if c.MetricsListen != "" {
		k.expect(isHostPort(c.MetricsListen, true), "metrics_listen", `is %q: want host:port, or "" for none`, c.MetricsListen)
	}
	if c.ScreenListen != "" {
		k.expect(isHostPort(c.ScreenListen, true) && isLoopback(c.ScreenListen), "screen_listen",
			`is %q: want an address of this machine only, as 127.0.0.1:8081, or "" for none`, c.ScreenListen)
	}
	return k.found
}

// Addresses of instruments: those below are the slots' and the cabinet's board.
const (
	firstInstrument = 101
	lastInstrument  = 247
)

func (i Instrument) check(k *checker, name string, kinds []string) {
	if i == (Instrument{}) {
		return
	}
	k.expect(slices.Contains(kinds, i.Kind), name+".kind", "is %q: want one of %v", i.Kind, kinds)
	k.within(i.Address, name+".address", "; 1 to 100 are the boards'", firstInstrument, lastInstrument)
}

// Advice is what would be better, though it is no mistake.
func (c Config) Advice() []string {
	var advice []string
	if !strings.HasPrefix(c.Serial.Port, "/dev/serial/by-path/") {
		advice = append(advice, fmt.Sprintf(
			"serial.port: %s can become another adapter when one is replugged: a name of /dev/serial/by-path stays with its socket", c.Serial.Port))
	}
	return advice
}

func (m MQTT) check(k *checker) {
	u, err := url.Parse(m.URL)
	ok := err == nil && (u.Scheme == "tcp" || u.Scheme == "ssl") && isHostPort(u.Host, false) &&
		u.User == nil && u.Path == "" && u.RawQuery == ""
	k.expect(ok, "mqtt.url", "is %.80q: want tcp://host:port or ssl://host:port", m.URL)
	if !ok {
		return
	}
	for _, f := range []struct{ name, value string }{
		{"mqtt.ca_file", m.CAFile}, {"mqtt.cert_file", m.CertFile}, {"mqtt.key_file", m.KeyFile},
	} {
		if u.Scheme == "ssl" {
			k.expect(f.value != "", f.name, "is missing: ssl:// needs it")
		} else {
			k.expect(f.value == "", f.name, "is %q, but tcp:// uses no certificate: want ssl://, or nothing here", f.value)
		}
	}
}

// isHostPort checks host:port; port 0 and no host are for listening only.
func isHostPort(s string, listen bool) bool {
	host, port, err := net.SplitHostPort(s)
	n, err2 := strconv.Atoi(port)
	return err == nil && err2 == nil && n >= 0 && n <= 65535 && (listen || n > 0 && host != "")
}

// isLoopback: the screen's code proves that somebody stands before the cabinet,
// so nobody elsewhere may read it.
func isLoopback(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

// Root is RootPublicKey.
func (c Config) Root() (ed25519.PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(c.RootPublicKey)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("root_public_key: want %d bytes in base64", ed25519.PublicKeySize)
	}
	return b, nil
}

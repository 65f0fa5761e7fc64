// Package config reads the agent's configuration.
//
// It knows the file's fields, their defaults and what is wrong with a value; it
// gives one struct, and every mistake at once with its line and field. It needs
// the files themselves; the defaults of charging and safety are package charging's.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.yaml.in/yaml/v3"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/protocol"
)

// Config is the agent's configuration file.
type Config struct {
	CabinetID protocol.CabinetID `yaml:"cabinet_id"`
	// StateDir holds the journal and the newest key list.
	StateDir string `yaml:"state_dir"`
	// DeviceKeyFile is the cabinet's own Ed25519 key, PKCS#8 in PEM, for no
	// one but the agent to read.
	DeviceKeyFile string `yaml:"device_key_file"`
	// RootPublicKey is of the offline root that signs key lists, in base64.
	RootPublicKey string `yaml:"root_public_key"`
	// KeyListFile is the first signed key list.
	KeyListFile string `yaml:"key_list_file"`

	MQTT   MQTT   `yaml:"mqtt"`
	Serial Serial `yaml:"serial"`
	Board  Board  `yaml:"board"`
	// Meter and Climate hang on the same line as the boards, at addresses of
	// their own.
	Meter   Instrument `yaml:"meter"`
	Climate Instrument `yaml:"climate"`
	Limits  Limits     `yaml:"limits"`

	Charging  Charging  `yaml:"charging"`
	Safety    Safety    `yaml:"safety"`
	Batteries []Battery `yaml:"batteries"`

	// MetricsListen is where /metrics is served, host:port; "" is nowhere.
	MetricsListen string `yaml:"metrics_listen"`
	// ScreenListen is where the cabinet's own page is served to the browser beside
	// the agent, on the loopback interface; "" is nowhere.
	ScreenListen string `yaml:"screen_listen"`
}

// MQTT says how the broker is reached.
type MQTT struct {
	URL string `yaml:"url"` // tcp://host:port, or ssl://host:port with the three files
	// CAFile signs the broker's certificate; CertFile and KeyFile are this
	// cabinet's own.
	CAFile   string `yaml:"ca_file"`
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// Serial says how the board is reached.
type Serial struct {
	Port     string `yaml:"port"` // a device; by-path names survive replugging
	Baud     int    `yaml:"baud"`
	Parity   string `yaml:"parity"` // none, even, odd
	StopBits int    `yaml:"stop_bits"`
	// DeviceTimeMS is how long a device may think before it answers, in ms.
	DeviceTimeMS int `yaml:"device_time_ms"`
}

// DeviceTime is DeviceTimeMS.
func (s Serial) DeviceTime() time.Duration { return time.Duration(s.DeviceTimeMS) * time.Millisecond }

// Board says what is at the other end of the line.
type Board struct {
	Kind  string `yaml:"kind"`
	Slots int    `yaml:"slots"` // numbered from 1, as painted on the doors
	// Columns is how many slots stand side by side, numbered row by row.
	Columns int `yaml:"columns"`
}

// Instrument is a meter or a sensor at an address of its own.
type Instrument struct {
	Kind    string `yaml:"kind"` // "": there is none
	Address int    `yaml:"address"`
}

// Limits are the cabinet's own: no message of the backend changes them.
type Limits struct {
	MaxPulsesPerHour int `yaml:"max_pulses_per_hour"`
	ReleaseSoc       int `yaml:"release_soc"` // %, from which a battery is charged
}

// Default is every default there is.
func Default() Config {
	plan, safety := charging.DefaultPlan(), charging.DefaultLimits(1)
	return Config{
		StateDir:      "/var/lib/batteryswap/agent",
		DeviceKeyFile: "/etc/batteryswap/device.key",
		KeyListFile:   "/etc/batteryswap/keys.json",
		// A broker beside the agent, as in a demo; in the field always ssl://.
		MQTT: MQTT{URL: "tcp://127.0.0.1:1883"},
		// SlotBoard v1: 19200 8N1. Boards typically answer within 20 to 50 ms;
		// slow ones, up to 150 ms, need the field.
		Serial: Serial{Baud: 19200, Parity: "none", StopBits: 1, DeviceTimeMS: 50},
		Board:  Board{Kind: "slotboard", Slots: 12, Columns: 1},
		Limits: Limits{
			// A swap takes two pulses: 60 swaps an hour, one a minute, is more
			// than a cabinet ever does, and bounds a hostile backend.
			MaxPulsesPerHour: 120,
			ReleaseSoc:       plan.ReleaseSoc,
		},
		Charging: Charging{
			BudgetW: plan.BudgetW, HeaterW: plan.HeaterW, Reserve: plan.Reserve, Peaks: windows(plan.Peaks), Cheap: windows(plan.Cheap),
			UTCOffsetMin: 480, // China's
		},
		Safety:        Safety{CurrentWhenOffMA: safety.CurrentOffMA, AirHotC: safety.AirHotC, BackupMinMV: safety.BackupMinMV},
		MetricsListen: "127.0.0.1:9465",
		ScreenListen:  "127.0.0.1:8081",
	}
}

// MaxFile bounds the configuration file, in bytes.
const MaxFile = 64 << 10

// Load reads a file and checks it. The error holds every mistake, see Mistakes.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	content, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	if len(content) > MaxFile {
		return Config{}, Mistakes{{Text: fmt.Sprintf("the file is larger than %d bytes", MaxFile)}}
	}
	return Parse(content)
}

// Parse reads and checks the content of a configuration file.
func Parse(content []byte) (Config, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(content, &root); err != nil {
		return Config{}, Mistakes{syntaxMistake(err)}
	}
	var found Mistakes
	strict := yaml.NewDecoder(bytes.NewReader(content))
	strict.KnownFields(true)
	places := placesOf(&root)
	if err := strict.Decode(new(Config)); err != nil && !errors.Is(err, io.EOF) {
		found = typeMistakes(err, places)
	} else if err == nil && strict.Decode(new(yaml.Node)) == nil {
		found = append(found, Mistake{Text: "there is a second document in the file: want one"})
	}
	// Once more for the values: what is wrong with one field, or given twice,
	// must not keep the others from being checked.
	c := Default()
	firstsOnly(&root)
	if err := root.Decode(&c); err != nil && root.Kind != 0 && len(found) == 0 {
		found = typeMistakes(err, places)
	}
	found = append(found, c.check(places, found)...)
	if len(found) > 0 {
		return Config{}, found.sorted()
	}
	return c, nil
}

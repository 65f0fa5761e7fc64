package acceptance

// module is the path that every package of this tree starts with.
const module = "batteryswap"

// Outside libraries, by the short names that the table uses.
const (
	kong       = "github.com/alecthomas/kong"
	qrCode     = "github.com/boombuler/barcode"
	paho       = "github.com/eclipse/paho.mqtt.golang"
	pgx        = "github.com/jackc/pgx/v5"
	pgxpool    = "github.com/jackc/pgx/v5/pgxpool"
	goose      = "github.com/pressly/goose/v3"
	huma       = "github.com/danielgtaylor/huma/v2"
	uuid       = "github.com/google/uuid"
	prometheus = "github.com/prometheus/client_golang"
	broker     = "github.com/mochi-mqtt/server/v2"
	ptyLibrary = "github.com/creack/pty"
	serialPort = "go.bug.st/serial"
	systemd    = "github.com/coreos/go-systemd/v22"
	yaml       = "go.yaml.in/yaml/v3"
	browser    = "github.com/chromedp"
	otp        = "github.com/pquerna/otp"
	argon2     = "golang.org/x/crypto"
	excelize   = "github.com/xuri/excelize/v2"
)

// row says what the packages that match may import beside the standard library.
type row struct {
	// packages are import paths below the module. A last element "..." also
	// matches everything below; "*" matches one element.
	packages []string
	// allowed are packages of this tree (in the same notation) or libraries,
	// which cover what is below them.
	allowed []string
	// inTests may be imported by test files besides what allowed says.
	inTests []string
}

// rows is who may import whom. The first row that matches holds; a package
// without a row is refused until it has one.
func rows() []row {
	return []row{
		{packages: []string{"protocol/..."}, allowed: []string{"protocol/..."}, inTests: []string{yaml}},

		{
			packages: []string{"firmware-agent"},
			allowed:  []string{"firmware-agent/agent", "firmware-agent/internal/...", "protocol/...", kong},
		},
		{
			packages: []string{"firmware-agent/agent"},
			allowed:  []string{"firmware-agent/internal/...", "protocol/...", prometheus, serialPort, "golang.org/x/sys", systemd},
			inTests:  []string{ptyLibrary, broker, paho},
		},
		{
			packages: []string{"firmware-agent/internal/swap", "firmware-agent/internal/charging"},
			allowed:  []string{"protocol", "firmware-agent/internal/slot"},
		},
		{
			packages: []string{"firmware-agent/internal/slot"},
			allowed:  []string{"protocol"},
		},
		{packages: []string{"firmware-agent/internal/bus"}, allowed: []string{"protocol/..."}, inTests: []string{ptyLibrary, serialPort}},
		{packages: []string{"firmware-agent/internal/journal"}, allowed: []string{"protocol/..."}},
		{
			packages: []string{"firmware-agent/internal/driver"},
			allowed:  []string{"protocol/...", "firmware-agent/internal/bus", "firmware-agent/internal/slot", "firmware-agent/internal/driver/..."},
		},
		{
			packages: []string{"firmware-agent/internal/driver/..."},
			allowed:  []string{"protocol/...", "firmware-agent/internal/driver/...", "firmware-agent/internal/bus", "firmware-agent/internal/slot"},
			inTests:  []string{ptyLibrary, serialPort},
		},
		{
			packages: []string{"firmware-agent/internal/safety"},
			allowed: []string{
				"firmware-agent/internal/charging", "firmware-agent/internal/slot", "firmware-agent/internal/driver", "protocol",
			},
			inTests: []string{
				"firmware-agent/internal/bus", "firmware-agent/internal/cabinet", "firmware-agent/internal/driver/...", "protocol/...",
			},
		},
		{packages: []string{"firmware-agent/internal/screen"}, allowed: []string{"protocol", qrCode}, inTests: []string{browser}},
		{
			packages: []string{"firmware-agent/internal/cabinet"},
			allowed: []string{
				"firmware-agent/internal/swap", "firmware-agent/internal/slot", "firmware-agent/internal/charging",
				"firmware-agent/internal/driver", "firmware-agent/internal/journal", "protocol",
			},
		},
		{packages: []string{"*/internal/link"}, allowed: []string{paho, "protocol"}, inTests: []string{broker}},
		{packages: []string{"firmware-agent/internal/config"}, allowed: []string{yaml, "protocol", "firmware-agent/internal/charging"}},
		{packages: []string{"backend/internal/config"}, allowed: []string{kong, "protocol"}},

		{
			packages: []string{"backend"},
			allowed:  []string{"backend/fleet", "backend/internal/...", "protocol/...", kong},
		},
		{
			packages: []string{"backend/fleet"},
			allowed:  []string{"backend/internal/...", "protocol/...", pgxpool, prometheus},
			inTests:  []string{broker, paho, excelize, "golang.org/x/text"},
		},
		{packages: []string{"backend/internal/swap", "backend/internal/statistics"}, allowed: []string{"protocol"}},
		{packages: []string{"backend/internal/spreadsheet"}, allowed: []string{excelize, "golang.org/x/text"}},
		{packages: []string{"backend/internal/staff"}, allowed: []string{"protocol", "backend/internal/roll", "backend/internal/swap", otp, argon2}},
		{packages: []string{"backend/internal/phone"}},
		{packages: []string{"backend/internal/binding"}, allowed: []string{"backend/internal/phone"}},
		{packages: []string{"backend/internal/roll"}, allowed: []string{"backend/internal/phone"}},
		{packages: []string{"backend/internal/notify"}, allowed: []string{"backend/internal/phone", "protocol"}},
		{packages: []string{"backend/internal/memory"}, allowed: []string{"backend/internal/swap", "protocol"}},
		{packages: []string{"backend/internal/place"}, allowed: []string{"backend/internal/swap", "protocol"}},
		{
			packages: []string{"backend/internal/postgres/pgtest"},
			allowed:  []string{pgx, testify, "backend/internal/postgres"},
		},
		{
			packages: []string{"backend/internal/postgres"},
			allowed:  []string{pgx, goose, uuid, "backend/internal/binding", "backend/internal/swap", "backend/internal/phone", "backend/internal/roll", "backend/internal/staff", "backend/internal/statistics", "protocol"},
			inTests:  []string{"backend/internal/memory", "backend/internal/postgres/pgtest", "github.com/anishathalye/porcupine"},
		},
		{
			packages: []string{"backend/internal/web"},
			allowed:  []string{"backend/internal/binding", "backend/internal/phone", "backend/internal/place", "backend/internal/roll", "backend/internal/swap", "backend/internal/staff", "backend/internal/spreadsheet", "backend/internal/statistics", "protocol", huma, uuid, qrCode, prometheus},
			inTests:  []string{browser},
		},

		{
			packages: []string{"simulator/..."},
			allowed:  []string{"protocol/...", "simulator/...", broker, ptyLibrary, qrCode, kong, "golang.org/x/sys"},
			inTests:  []string{"firmware-agent/agent", "backend/fleet", browser, paho, yaml},
		},
	}
}

const testify = "github.com/stretchr/testify"

// testLibraries may be imported by the tests of every package.
func testLibraries() []string {
	return []string{testify + "/require", "pgregory.net/rapid"}
}

// purePackages hold decisions and wire forms: no I/O, no clock, no goroutine.
func purePackages() []string {
	return []string{
		"protocol/...",
		"firmware-agent/internal/swap", "firmware-agent/internal/slot", "firmware-agent/internal/charging",
		"backend/internal/swap", "backend/internal/statistics",
	}
}

// testPackages exist for tests: only test files, and each other, import them.
func testPackages() []string {
	return []string{"firmware-agent/internal/driver/drivertest", "backend/internal/postgres/pgtest", "simulator/acceptance"}
}

// impureImports may not be imported by a pure package.
func impureImports() []string {
	return []string{"os", "net", "syscall", "io/ioutil", "log", "crypto/rand", "database/sql"}
}

// impureCalls are functions that a pure package may not use.
func impureCalls() map[string][]string {
	return map[string][]string{
		"time": {"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick"},
		"fmt":  {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
	}
}

// seededRand are the functions of math/rand that do not use its global source.
func seededRand() []string {
	return []string{"New", "NewSource", "NewPCG", "NewChaCha8", "NewZipf", "Rand", "Source", "PCG", "ChaCha8", "Zipf"}
}

// topLevel is what may stand beside the dotfiles at the root of the tree; bin
// is where programs are built, and ignored.
func topLevel() []string {
	return []string{"firmware-agent", "backend", "protocol", "simulator", "go.mod", "go.sum", "Makefile", "README.md", "bin"}
}

// vagueNames say nothing of what is inside.
func vagueNames() []string {
	return []string{"models", "types", "util", "utils", "common", "helpers", "cmd", "pkg"}
}

// testHabits are calls that a test may not make, and why. Sleeping is allowed
// where tests run in a bubble of testing/synctest.
func testHabits() map[string]string {
	return map[string]string{
		"time.Sleep": "wait for a condition, or use testing/synctest",
		"Skip":       "a missing tool is a failure",
		"Skipf":      "a missing tool is a failure",
		"SkipNow":    "a missing tool is a failure",
	}
}

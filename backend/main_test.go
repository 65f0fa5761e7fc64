package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
	"batteryswap/backend/internal/postgres/pgtest"
)

// shellRun runs the program with nothing in the environment.
func shellRun(t *testing.T, in string, args ...string) (status int, out, errout string) {
	t.Helper()
	for _, name := range os.Environ() {
		name, _, _ = strings.Cut(name, "=")
		if strings.HasPrefix(name, "SWAP_") || name == "DATABASE_URL" || name == "MQTT_URL" {
			t.Setenv(name, "")
			require.NoError(t, os.Unsetenv(name))
		}
	}
	var o, e bytes.Buffer
	status = run(context.Background(), args, strings.NewReader(in), &o, &e)
	return status, o.String(), e.String()
}

func TestUsage(t *testing.T) {
	status, out, _ := shellRun(t, "", "--help")
	require.Equal(t, 0, status)
	for _, c := range []string{"serve", "check-config", "migrate", "keys init", "keys show", "cabinet enrol", "battery import", "rider add", "audit"} {
		require.Contains(t, out, c)
	}
	_, out, _ = shellRun(t, "", "serve", "--help")
	for _, env := range []string{"$DATABASE_URL", "$MQTT_URL", "$SWAP_LISTEN", "$SWAP_KEY_DIR", "$SWAP_LOG_FORMAT"} {
		require.Contains(t, out, env)
	}
	for _, args := range [][]string{
		{}, {"nonsense"}, {"serve", "--nonsense"}, {"keys", "init"}, {"cabinet", "enrol", "--id", "hb-0001"},
		{"--log-level", "loud", "migrate"}, {"battery", "assign"}, {"battery", "assign", "B-1", "--rider", "a", "--staff"},
	} {
		status, _, errout := shellRun(t, "", args...)
		require.Equal(t, 2, status, args)
		require.NotEmpty(t, errout)
	}
}

func TestServeSaysAllMistakesAtOnce(t *testing.T) {
	status, _, errout := shellRun(t, "", "serve", "--listen", "x")
	require.Equal(t, 2, status)
	for _, flag := range []string{"--database-url", "--mqtt-url", "--key-dir", "--listen"} {
		require.Contains(t, errout, "backend: "+flag)
	}
	status, _, errout = shellRun(t, "", "serve", "--database-url", "postgres://h/d", "--mqtt-url", "tcp://h:1", "--key-dir", t.TempDir())
	require.Equal(t, 2, status)
	require.Contains(t, errout, "root.pub")
	require.Contains(t, errout, "grant.key")
	for args, want := range map[string]string{
		"--notify webhook": "--notify-url: missing",
		"--notify webhook --notify-url http://gateway.example/": "--notify-url: want https://",
		"--notify webhook --notify-secret-file /absent":         "--notify-secret-file: stat /absent",
		"--notify-url https://gateway.example/":                 `--notify-url: --notify is "log"`,
		"--rider-notify webhook":                                "--rider-notify-secret-file: missing",
		"--rider-notify-url https://gateway.example/":           `--rider-notify-url: --rider-notify is "none"`,
	} {
		status, _, errout = shellRun(t, "", append([]string{"check-config"}, strings.Fields(args)...)...)
		require.Equal(t, 2, status, args)
		require.Contains(t, errout, want)
	}
	status, _, _ = shellRun(t, "", "check-config", "--notify", "pigeon")
	require.Equal(t, 2, status)
}

func TestCheckConfigTriesEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	status, out, errout := shellRun(t, "", "keys", "init", "--dir", dir)
	require.Equal(t, 0, status, errout)
	require.Contains(t, out, `"root_public_key"`)
	status, again, _ := shellRun(t, "", "keys", "show", "--dir", dir)
	require.Equal(t, 0, status)
	require.Equal(t, out, again)
	status, _, errout = shellRun(t, "", "keys", "init", "--dir", dir)
	require.Equal(t, 1, status)
	require.Contains(t, errout, "nothing was changed")

	require.NoError(t, os.Chmod(filepath.Join(dir, "grant.key"), 0o644))
	status, _, errout = shellRun(t, "", "check-config", "--key-dir", dir, "--database-url", "postgres://swap:secret@127.0.0.1:1/swap",
		"--mqtt-url", "tcp://127.0.0.1:1", "--public-url", "nonsense")
	require.Equal(t, 2, status)
	for _, want := range []string{"--public-url", "grant.key: mode 0644", "database: ", "broker: "} {
		require.Contains(t, errout, want)
	}
	require.NotContains(t, errout, "secret")
}

func TestStaffMistakes(t *testing.T) {
	const url = "--database-url=postgres://swap@127.0.0.1:1/swap"
	status, _, errout := shellRun(t, "", "migrate")
	require.Equal(t, 2, status)
	require.Contains(t, errout, "--database-url: missing")
	status, _, errout = shellRun(t, "", "migrate", url)
	require.Equal(t, 1, status)
	require.Contains(t, errout, "migrate: ")
	status, _, errout = shellRun(t, "", "cabinet", "enrol", url, "--id", "X", "--device-key", "AAAA", "--slots", "99", "--station", "s", "--street", "s")
	require.Equal(t, 2, status)
	for _, flag := range []string{"--id", "--device-key: want 32 bytes", "--slots: 99"} {
		require.Contains(t, errout, flag)
	}
	status, _, errout = shellRun(t, "", "battery", "assign", url, "B-1", "--cabinet", "hb-0001")
	require.Equal(t, 2, status)
	require.Contains(t, errout, "--cabinet and --slot together")
	status, _, errout = shellRun(t, "", "battery", "import", url, "/absent")
	require.Equal(t, 1, status)
	require.Contains(t, errout, "/absent")
	status, _, errout = shellRun(t, "battery_serial,type\nB 1,x\nB-2,x\nB-2,y\n", "battery", "import", url, "-")
	require.Equal(t, 2, status)
	require.Contains(t, errout, "row 2: battery_serial")
	require.Contains(t, errout, "row 4: B-2 is in row 3 already")
	status, _, errout = shellRun(t, "serial\nB-1\n", "battery", "import", url, "-")
	require.Equal(t, 2, status)
	require.Contains(t, errout, "want the header battery_serial, type")
}

func TestReadBatteries(t *testing.T) {
	rows, err := readBatteries(strings.NewReader("\ufeffbattery_serial,type\r\nB-1,60V20Ah\r\n B-2 , 48V \r\n"))
	require.NoError(t, err)
	require.Equal(t, []postgres.Battery{{BatterySerial: "B-1", Type: "60V20Ah"}, {BatterySerial: "B-2", Type: "48V"}}, rows)
}

func TestAuditPrintsDifferences(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, printReport(&b, postgres.Report{
		Riders:      []postgres.RiderReport{{RiderID: "0190aaaa-0000-7000-8000-00000000000a", Name: "Demo", Deposits: 3, Takes: 3, Counted: 3}},
		Differences: []postgres.Difference{{What: "rider.swaps", Key: "0190aaaa", Books: "4", Ledger: "3"}}, Entries: 7, Records: 9,
	}, false))
	require.Contains(t, b.String(), "DIFFERENCE rider.swaps of 0190aaaa: the books say 4, the ledger says 3")
	require.Contains(t, b.String(), "7 ledger entries and 9 records examined in 0 ms, 1 differences")
}

func TestStaffAndServeAgainstADatabase(t *testing.T) {
	url := "--database-url=" + pgtest.Empty(t)
	ok := func(in string, args ...string) string {
		t.Helper()
		status, out, errout := shellRun(t, in, append(args, url)...)
		require.Equal(t, 0, status, "%v: %s", args, errout)
		return strings.TrimSpace(out)
	}
	ok("", "migrate")
	ok("", "migrate")
	require.Equal(t, "2 batteries, 2 of them new", ok("battery_serial,type\nB-1,60V20Ah\nB-2,60V20Ah\n", "battery", "import", "-"))
	require.Equal(t, "1 batteries, 0 of them new", ok("battery_serial,type\nB-1,60V20Ah\n", "battery", "import", "-"))
	pub, _, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	key := base64.StdEncoding.EncodeToString(pub)
	enrol := []string{"cabinet", "enrol", "--id", "hb-0001", "--device-key", key, "--slots", "12", "--station", "Hubin", "--street", "Wensan Road"}
	ok("", enrol...)
	status, _, errout := shellRun(t, "", append(enrol, url)...)
	require.Equal(t, 1, status, "twice")
	require.Contains(t, errout, "hb-0001")
	require.Regexp(t, `hb-0001 +Hubin +Wensan Road +12 +0 +0 +false +never`, ok("", "cabinet", "list"))
	ok("", "cabinet", "place", "hb-0001", "--latitude", "30.2583", "--longitude", "120.1592", "--hotline", "0571-5555-0100")
	ok("", "cabinet", "place", "hb-0001", "--hotline", "")
	for want, args := range map[string][]string{
		"want both, or neither": {"hb-0001", "--latitude", "30"},
		"latitude is 120.1592":  {"hb-0001", "--latitude", "120.1592", "--longitude", "30.2583"},
		"or all":                {"hb-0001"},
		"not found":             {"hb-0404", "--hotline", "1"},
		"hotline: want a phone": {"hb-0001", "--hotline", strings.Repeat("1", 41)},
	} {
		_, _, errout := shellRun(t, "", append(append([]string{"cabinet", "place"}, args...), url)...)
		require.Contains(t, errout, want)
	}
	ok("", "battery", "assign", "B-1", "--cabinet", "hb-0001", "--slot", "7")
	rider := ok("", "rider", "add", "--name", "Li")
	require.Regexp(t, `^[0-9a-f-]{36}$`, rider)
	const given = "0190aaaa-0000-7000-8000-00000000000a"
	require.Equal(t, given, ok("", "rider", "add", "--name", "Wang", "--id", strings.ToUpper(given)))
	for want, args := range map[string]string{
		"--phone: phone: want a mobile number": "--phone 12345",
		"--key-dir: missing: --phone needs it": "--phone 15400000001",
		"--from: \"1 March\": want a day":      "--from 1_March",
		"--to: before --from":                  "--from 2026-03-02 --to 2026-03-01",
		"--membership-no: 41 characters":       "--membership-no " + strings.Repeat("1", 41),
	} {
		args := strings.Split(args, " ")
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "_", " ")
		}
		status, _, errout := shellRun(t, "", append(append([]string{"rider", "add", "--name", "Li"}, args...), url)...)
		require.Equal(t, 2, status)
		require.Contains(t, errout, want)
		require.NotContains(t, errout, "12345")
	}
	ok("", "battery", "assign", "B-2", "--rider", rider)
	ok("", "rider", "credit", given)
	status, _, errout = shellRun(t, "", "battery", "assign", "B-404", "--rider", rider, url)
	require.Equal(t, 1, status)
	require.Contains(t, errout, "B-404")

	var report struct {
		Riders []struct {
			RiderID     string   `json:"rider_id"`
			OpenCredits int      `json:"open_credits"`
			Batteries   []string `json:"batteries"`
		}
		Differences []any
	}
	require.NoError(t, json.Unmarshal([]byte(ok("", "audit", "--json")), &report))
	require.Len(t, report.Riders, 2)
	require.Empty(t, report.Differences)
	require.Contains(t, ok("", "audit"), "0 differences")

	// Without a broker the server is up, and stops when it is told to.
	dir := filepath.Join(t.TempDir(), "keys")
	status, _, errout = shellRun(t, "", "keys", "init", "--dir", dir)
	require.Equal(t, 0, status, errout)
	member := []string{"rider", "add", "--name", "Zhao", "--phone", "154 0000 0001", "--key-dir", dir, "--membership-no", "HZ-1", "--from", "2026-01-01", "--to", "2099-12-31"}
	require.Regexp(t, `^[0-9a-f-]{36}$`, ok("", member...))
	status, out, errout := shellRun(t, "", append(member[:8:8], url)...)
	require.Equal(t, 1, status)
	require.Contains(t, errout, "another rider with this phone: there already")
	require.NotRegexp(t, `1[3-9][0-9]{9}`, out+errout)
	serve := []string{"--key-dir", dir, "--mqtt-url", "tcp://127.0.0.1:1", url}
	status, _, errout = shellRun(t, "", append([]string{"check-config"}, serve...)...)
	require.Equal(t, 2, status)
	require.Contains(t, errout, "backend: broker: ")
	require.NotContains(t, errout, "database")
	ctx, cancel := context.WithCancel(t.Context())
	log := &watched{until: `"event":"started"`, seen: cancel}
	args := append([]string{"serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--rider-code", "letmein"}, serve...)
	require.Equal(t, 0, run(ctx, args, nil, io.Discard, log))
	require.Contains(t, log.text(), "DEVELOPMENT SIGN-IN")
	require.Contains(t, log.text(), "root.key is in --key-dir")
	require.Contains(t, log.text(), `"event":"stopped"`)
	require.NotContains(t, log.text(), "letmein")
}

// watched is a log that tells when a line has been written.
type watched struct {
	mu    sync.Mutex
	b     bytes.Buffer
	until string
	seen  func()
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.Contains(string(p), w.until) {
		w.seen()
	}
	return w.b.Write(p)
}

func (w *watched) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// TestStaffAccounts adds the first account, tokens, and checks the audit log.
func TestStaffAccounts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	status, _, errout := shellRun(t, "", "keys", "init", "--dir", dir)
	require.Equal(t, 0, status, errout)
	keys := "--key-dir=" + dir
	url := "--database-url=" + pgtest.New(t)
	for _, args := range [][]string{
		{"staff", "add", url, keys, "li", "--name", "Li", "--role", "root"}, {"staff", "add", url, keys, "Li", "--name", "Li", "--role", "admin"},
		{"staff", "add", url, keys, "li", "--name", "Li"}, {"staff", "token", "add", url, "billing", "--role", "union", "--days", "0"},
	} {
		status, _, errout := shellRun(t, "", args...)
		require.Equal(t, 2, status, args)
		require.NotEmpty(t, errout)
	}
	status, _, errout = shellRun(t, "", "staff", "add", url, "li", "--name", "Li", "--role", "admin", "--key-dir", t.TempDir())
	require.Equal(t, 2, status)
	require.Contains(t, errout, "--key-dir")
	status, out, errout := shellRun(t, "", "staff", "add", url, keys, "li", "--name", "Li", "--role", "admin,operator")
	require.Equal(t, 0, status, errout)
	for _, want := range []string{"password", "secret", "otpauth://totp/", "recovery code"} {
		require.Contains(t, out, want)
	}
	status, _, errout = shellRun(t, "", "staff", "add", url, keys, "li", "--name", "Li", "--role", "admin")
	require.Equal(t, 1, status)
	require.Contains(t, errout, "there already")
	status, token, errout := shellRun(t, "", "staff", "token", "add", url, "billing", "--role", "union")
	require.Equal(t, 0, status, errout)
	require.True(t, strings.HasPrefix(token, "swst_"), token)
	status, out, _ = shellRun(t, "", "staff", "list", url)
	require.Equal(t, 0, status)
	require.Contains(t, out, "token:billing")
	require.NotContains(t, out, strings.TrimSpace(token))
	status, _, errout = shellRun(t, "", "staff", "disable", url, "li")
	require.Equal(t, 1, status)
	require.Contains(t, errout, "the last account with the role admin")
	status, _, errout = shellRun(t, "", "staff", "reset", url, keys, "li")
	require.Equal(t, 0, status, errout)
	status, _, errout = shellRun(t, "", "staff", "token", "revoke", url, "billing")
	require.Equal(t, 0, status, errout)
	status, out, _ = shellRun(t, "", "staff", "audit-log", "verify", url)
	require.Equal(t, 0, status)
	require.Contains(t, out, "4 lines, 0 altered, head 4:")
	status, out, _ = shellRun(t, "", "staff", "audit-log", "verify", url, "--head", "4:00")
	require.Equal(t, 1, status)
	require.Contains(t, out, "ALTERED: ")
}

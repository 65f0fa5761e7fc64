package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"batteryswap/backend/internal/postgres"
)

// shellRun runs the program with nothing in the environment.
func shellRun(t *testing.T, in string, args ...string) (status int, out, errout string) {
	t.Helper()
	for _, name := range os.Environ() {
		name, _, _ = strings.Cut(name, "=")
		if strings.HasPrefix(name, "SWAP_") || name == "DATABASE_URL" || name == "MQTT_URL" {
			t.Setenv(name, "")
			os.Unsetenv(name)
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
	require.Contains(t, errout, "line 2: battery_serial")
	require.Contains(t, errout, "line 4: B-2 is in line 3 already")
	status, _, errout = shellRun(t, "serial\nB-1\n", "battery", "import", url, "-")
	require.Equal(t, 2, status)
	require.Contains(t, errout, "wrong number of fields")
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
	require.Contains(t, b.String(), "7 ledger entries and 9 records examined, 1 differences")
}

package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
)

// output is what a command prints, read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// try runs a command to its end.
func try(t *testing.T, env map[string]string, args ...string) (status int, out, errout string) {
	t.Helper()
	var o, e output
	status = run(t.Context(), args, func(name string) string { return env[name] }, &o, &e)
	return status, o.String(), e.String()
}

// place makes an agent's files, and gives their directory and the configuration.
func place(t *testing.T) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	status, out, errout := try(t, nil, "keygen", "--out", filepath.Join(dir, "device.key"))
	require.Zero(t, status, errout)
	var made struct {
		KeyID     string `json:"kid"`
		PublicKey []byte `json:"public_key"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &made))
	require.Equal(t, protocol.KeyID(made.PublicKey), made.KeyID)
	pub, root, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	list, err := protocol.SealKeyList(root, protocol.KeyList{Version: 1, Keys: []protocol.Key{
		{KeyID: "g1", Use: protocol.UseGrant, PublicKey: pub},
	}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "keys.json"), list, 0o600))
	file = filepath.Join(dir, "agent.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
cabinet_id: hb-0001
state_dir: %[1]s/state
device_key_file: %[1]s/device.key
root_public_key: %[2]s
key_list_file: %[1]s/keys.json
mqtt: {url: "tcp://127.0.0.1:1"}
serial: {port: %[1]s/absent}
board: {slots: 2}
metrics_listen: 127.0.0.1:0
screen_listen: 127.0.0.1:0
`, dir, base64.StdEncoding.EncodeToString(pub)), 0o600))
	return dir, file
}

func TestHelpNamesEverything(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"run", "-h"}, {"journal", "--help"}} {
		status, out, errout := try(t, nil, args...)
		require.Zero(t, status)
		require.Empty(t, errout)
		for _, want := range []string{
			"firmware-agent run\n", "check-config", "journal print DIR", "journal verify DIR", "keygen",
			"--config", "$SWAP_CONFIG", "--out", "$SWAP_OUT", "$SWAP_LOG_FORMAT", "$SWAP_LOG_LEVEL",
		} {
			require.Contains(t, out, want)
		}
	}
}

func TestWrongUsage(t *testing.T) {
	for args, want := range map[string]string{
		"":                            "want a command",
		"fly":                         `there is no command "fly"`,
		"run away":                    `run: "away" is too much`,
		"journal":                     `there is no command "journal"`,
		"journal print":               "want DIR",
		"journal print a b":           "is too much",
		"journal print /no/such":      "no such file or directory",
		"run --speed 9":               "flag provided but not defined: -speed",
		"keygen":                      "want --out",
		"clear-alarm":                 "want SLOT|all",
		"clear-alarm door":            `"door": want a slot's number, 0 for the cabinet, or all`,
		"clear-alarm 65":              "want a slot's number",
		"keygen --config x":           "keygen takes no --config",
		"run --log-format xml":        "want json or text",
		"run --log-level loud":        "want debug, info, warn or error",
		"run --config /no/agent.yaml": "no such file or directory",
		"check-config --config=/no/x": "no such file or directory",
	} {
		status, out, errout := try(t, nil, strings.Fields(args)...)
		require.Equal(t, 2, status, args)
		require.Empty(t, out, args)
		require.Contains(t, errout, want, args)
		require.True(t, strings.HasPrefix(errout, "firmware-agent: "), args)
	}
}

func TestClearAlarmNeedsARunningAgent(t *testing.T) {
	_, file := place(t)
	status, out, errout := try(t, nil, "clear-alarm", "all", "--config", file)
	require.Equal(t, 1, status)
	require.Empty(t, out)
	require.Contains(t, errout, "ask the agent, which must run: ")
}

func TestCheckConfig(t *testing.T) {
	dir, file := place(t)
	status, out, _ := try(t, nil, "check-config", "--config", file)
	require.Zero(t, status)
	require.Contains(t, out, "no mistakes")
	status, out, _ = try(t, map[string]string{"SWAP_CONFIG": file, "SWAP_OUT": "of no use here"}, "check-config")
	require.Zero(t, status)
	require.Contains(t, out, "no mistakes")

	require.Contains(t, out, "better: serial.port: "+dir+"/absent can become another adapter")
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	good := strings.Replace(string(content), dir+"/absent", "/dev/serial/by-path/platform-usb-0:1", 1)
	require.NoError(t, os.WriteFile(file, []byte(good), 0o600))
	status, out, _ = try(t, nil, "check-config", "--config", file)
	require.Zero(t, status)
	require.NotContains(t, out, "better")

	require.NoError(t, os.Chmod(filepath.Join(dir, "device.key"), 0o644))
	require.NoError(t, os.Remove(filepath.Join(dir, "keys.json")))
	status, _, errout := try(t, nil, "check-config", "--config", file)
	require.Equal(t, 2, status)
	require.Contains(t, errout, "firmware-agent: device_key_file: ")
	require.Contains(t, errout, "want 0600")
	require.Contains(t, errout, "firmware-agent: key_list_file: ")
}

func TestKeygenNeverOverwrites(t *testing.T) {
	dir, _ := place(t)
	key := filepath.Join(dir, "device.key")
	before, err := os.ReadFile(key)
	require.NoError(t, err)
	status, out, errout := try(t, nil, "keygen", "--out", key)
	require.Equal(t, 1, status)
	require.Empty(t, out)
	require.Contains(t, errout, "file exists")
	after, err := os.ReadFile(key)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// boot runs the agent until it says that it has started, and stops it.
func boot(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errout output
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"run"}, args...), func(string) string { return "" }, &out, &errout)
	}()
	require.Eventually(t, func() bool { return strings.Contains(errout.String(), "agent started") },
		20*time.Second, 10*time.Millisecond, "%s", &errout)
	cancel()
	require.Zero(t, <-ended)
	return errout.String()
}

func TestRunAndLookIntoTheJournal(t *testing.T) {
	dir, file := place(t)
	logged := boot(t, "--config", file)
	first, _, _ := strings.Cut(logged, "\n")
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(first), &line), first)
	require.Equal(t, "hb-0001", line["cabinet_id"])
	at, err := time.Parse("2006-01-02T15:04:05.000Z", line["time"].(string))
	require.NoError(t, err)
	require.Less(t, time.Since(at).Abs(), time.Minute)
	require.Contains(t, boot(t, "--config", file, "--log-format", "text", "--log-level=debug"), `msg="agent started"`)

	journal := filepath.Join(dir, "state", "journal")
	status, out, errout := try(t, nil, "journal", "print", journal)
	require.Zero(t, status, errout)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.GreaterOrEqual(t, len(lines), 2)
	var rec printed
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &rec))
	require.Equal(t, "BOOT", rec.Type)
	require.Equal(t, uint64(1), rec.Seq)
	var b protocol.Boot
	require.NoError(t, json.Unmarshal(rec.Payload, &b))
	require.Equal(t, rec.Epoch, b.Epoch)

	status, out, errout = try(t, nil, "journal", "verify", journal)
	require.Zero(t, status, errout)
	require.Contains(t, out, fmt.Sprintf(`"tail_seq":%d`, len(lines)))

	// A flipped bit in the first of the records is corruption.
	files, err := filepath.Glob(filepath.Join(journal, "*.seg"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	content, err := os.ReadFile(files[0])
	require.NoError(t, err)
	content[70] ^= 1
	require.NoError(t, os.WriteFile(files[0], content, 0o600))
	status, _, errout = try(t, nil, "journal", "verify", journal)
	require.Equal(t, 1, status)
	require.Contains(t, errout, "corrupt after seq 0")

	// The agent keeps the file, and starts out of service in a new epoch.
	require.Contains(t, boot(t, "--config", file), "begins a new epoch")
	status, out, _ = try(t, nil, "journal", "verify", journal)
	require.Equal(t, 1, status)
	require.Equal(t, 2, strings.Count(out, "\n"), "two epochs")
	status, _, errout = try(t, nil, "journal", "verify", t.TempDir())
	require.Equal(t, 1, status)
	require.Contains(t, errout, "no journal here")
}

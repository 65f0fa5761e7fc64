package demo

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/boombuler/barcode/qr"
	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
	"batteryswap/simulator/console"
	"batteryswap/simulator/world"
)

func TestPageMovesBatteries(t *testing.T) {
	w := world.New(rand.New(rand.NewPCG(1, 1)), 1)
	require.NoError(t, w.AddCabinet("hb-0001", 3))
	require.NoError(t, w.PutInHands(li, world.Battery{Serial: "B1", SocPermille: 310}))
	at := time.Duration(0)
	now := func() time.Duration { at += time.Second; return at }
	p, err := newPage(&console.Console{World: w, Person: li, Now: now}, w, now, "hb-0001")
	require.NoError(t, err)
	server := httptest.NewServer(p.handler())
	defer server.Close()
	body := func(resp *http.Response) string {
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(b)
	}
	get := func(path string) string {
		resp, err := server.Client().Get(server.URL + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		return body(resp)
	}
	post := func(act string) string {
		resp, err := server.Client().PostForm(server.URL+"/cabinets/hb-0001", url.Values{"act": {act}, "slot": {"2"}})
		require.NoError(t, err)
		defer resp.Body.Close()
		return body(resp)
	}
	require.NotContains(t, get("/"), "insert-2", "the door is shut")
	require.Contains(t, post("insert"), "the door is shut")
	require.NoError(t, w.Pulse(now(), "hb-0001", 2, time.Second))
	require.Contains(t, get("/"), "insert-2")
	require.Contains(t, post("insert"), "remove-2")
	require.NotContains(t, post("close"), "remove-2")
	require.Equal(t, "B1", w.Facts(now(), "hb-0001")[1].Battery.Serial)
	require.True(t, w.Facts(now(), "hb-0001")[1].BoltLocked)

	require.Contains(t, get("/cabinets/hb-0001"), "http-equiv")
	require.NotContains(t, get("/cabinets/hb-0001?still"), "http-equiv")
	resp, err := server.Client().Get(server.URL + "/cabinets/hb-0009")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusNotFound, resp.StatusCode)

	foreign, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/cabinets/hb-0001", strings.NewReader("act=close&slot=2"))
	require.NoError(t, err)
	foreign.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	foreign.Header.Set("Origin", "http://elsewhere.example")
	resp, err = server.Client().Do(foreign)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
}

// The drawing is the code, module by module, with a margin of four.
func TestTerminalQRDrawsTheCode(t *testing.T) {
	const link = "http://127.0.0.1:8080/c/hb-0003"
	drawn, err := terminalQR(link)
	require.NoError(t, err)
	code, err := qr.Encode(link, qr.M, qr.Auto)
	require.NoError(t, err)
	n := code.Bounds().Dx()
	var rows []string
	lines := bufio.NewScanner(strings.NewReader(drawn))
	for lines.Scan() {
		line := strings.TrimSuffix(strings.TrimPrefix(lines.Text(), "\x1b[30;107m"), "\x1b[0m")
		upper, lower := "", ""
		for _, c := range line {
			upper += map[rune]string{'█': "1", '▀': "1", '▄': "0", ' ': "0"}[c]
			lower += map[rune]string{'█': "1", '▀': "0", '▄': "1", ' ': "0"}[c]
		}
		rows = append(rows, upper, lower)
	}
	margin := strings.Repeat("0", n+8)
	require.Equal(t, []string{margin, margin, margin, margin}, rows[:4])
	for y := range n {
		row := ""
		for x := range n {
			r, _, _, _ := code.At(x, y).RGBA()
			row += map[bool]string{true: "1", false: "0"}[r == 0]
		}
		require.Equal(t, "0000"+row+"0000", rows[4+y], "row %d", y)
	}
}

func TestPhonesAreServedOverTLS(t *testing.T) {
	require.True(t, loopback("127.0.0.1:8080"))
	require.True(t, loopback("localhost:8080"))
	require.True(t, loopback("[::1]:8080"))
	require.False(t, loopback("0.0.0.0:8080"))
	require.False(t, loopback(":8080"))
	require.False(t, loopback("192.168.1.2:8080"))

	backend := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, r.Host, " ", r.Header.Get("X-Forwarded-Proto"))
	}))
	defer backend.Close()
	s := &stage{replicas: []*replica{{url: backend.URL}}, log: slog.New(slog.DiscardHandler)}
	public, err := s.servePhones("127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, s.close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, public, nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, strings.TrimPrefix(public, "https://")+" https", string(b))
	_, port, err := net.SplitHostPort(strings.TrimPrefix(public, "https://"))
	require.NoError(t, err)
	require.NotEqual(t, "0", port)
}

// In a database that is kept, no demo meets the cabinets of the one before.
func TestNamesOfAKeptDatabase(t *testing.T) {
	own := &stage{}
	require.Equal(t, "hb-0001", own.cabinetID(0))
	kept := Options{DatabaseURL: "postgres://"}
	first := &stage{tag: runTag(kept, time.Unix(1_800_000_000, 0))}
	later := &stage{tag: runTag(kept, time.Unix(1_800_000_001, 0))}
	for _, s := range []*stage{own, first, later} {
		require.NoError(t, protocol.CabinetID(s.cabinetID(49)).Validate())
		require.Len(t, s.serial(999), 24)
		require.NoError(t, protocol.BatterySerial(s.serial(999)).Validate())
	}
	require.NotEqual(t, first.cabinetID(0), later.cabinetID(0))
	require.NotEqual(t, first.serial(0), later.serial(0))
	require.Empty(t, runTag(Options{}, time.Now()))
}

func TestOptionsSayEveryMistake(t *testing.T) {
	good := Options{Cabinets: 3, Slots: 12, Riders: 12, Swaps: 60, Exit: true, Speed: 1, Replicas: 1, Listen: "127.0.0.1:0"}
	require.NoError(t, good.Check())
	for name, spoil := range map[string]func(*Options){
		"--cabinets":    func(o *Options) { o.Cabinets = 0 },
		"--slots":       func(o *Options) { o.Slots = 1000 },
		"--riders":      func(o *Options) { o.Riders = -1 },
		"--swaps":       func(o *Options) { o.Swaps = -1 },
		"--exit":        func(o *Options) { o.Swaps = 0 },
		"--speed":       func(o *Options) { o.Speed = 0 },
		"--kill-agents": func(o *Options) { o.Exit, o.KillAgents = false, 1 },
		"--kill-broker": func(o *Options) { o.KillBroker = -1 },
		"--bad-network": func(o *Options) { o.Exit, o.BadNetwork = false, true },
		"--mqtt-url":    func(o *Options) { o.KillBroker, o.MQTTURL = 1, "tcp://127.0.0.1:1883" },
		"--database-url": func(o *Options) {
			o.KillPostgres, o.DatabaseURL = 1, "postgres://localhost/swap"
		},
		"--replicas": func(o *Options) { o.Replicas = 0 },
		"--scenario": func(o *Options) { o.Scenario = "earthquake" },
		"--listen":   func(o *Options) { o.Listen = "8080" },
	} {
		o := good
		spoil(&o)
		require.ErrorContains(t, o.Check(), name)
	}
	require.ErrorContains(t, Options{}.Check(), "--speed", "all at once")
}

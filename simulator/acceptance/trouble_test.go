package acceptance

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"batteryswap/protocol"
	"batteryswap/simulator/board"
	"batteryswap/simulator/process"
	"batteryswap/simulator/rider"
	"batteryswap/simulator/world"
)

// swapsAgain does one whole swap: what is broken no more must not be felt.
func (s *stage) swapsAgain(c *cabinet, riderID string, n int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	result, err := s.quickRider(s.replicas[0], riderID, c).Swap(ctx, n)
	require.NoError(s.t, err)
	require.Equal(s.t, protocol.OutcomeSwapped, result.Swap.Outcome)
	s.until("the swap is not counted", func() bool { return s.audited().of(s.t, riderID).Counted == n })
}

// TestConfigMistakesAreToldAtOnce gives programs configurations with several
// mistakes: each is named, and the status is 2.
func TestConfigMistakesAreToldAtOnce(t *testing.T) {
	t.Parallel()
	tools := process.Tools{Dir: programs(t)}
	file := filepath.Join(t.TempDir(), "agent.yaml")
	require.NoError(t, os.WriteFile(file, []byte("cabinet_id: HB 7\nstate_dir: here\nserial: {port: /dev/null, baud: 12}\nlimit: {}\n"), 0o600))
	for _, command := range []string{"check-config", "run"} {
		_, err := tools.Run(t.Context(), "", "firmware-agent", command, "--config", file)
		require.Equal(t, 2, process.ExitStatus(err), "%s: %v", command, err)
		for _, field := range []string{"cabinet_id", "state_dir", "serial.baud", "limit", "root_public_key"} {
			require.ErrorContains(t, err, field, command)
		}
	}
	_, err := tools.Run(t.Context(), "", "firmware-agent", "run", "--config", file+".absent")
	require.Equal(t, 2, process.ExitStatus(err))
	require.ErrorContains(t, err, "agent.yaml.absent")

	for _, command := range []string{"check-config", "serve"} {
		_, err = tools.Run(t.Context(), "", "backend", command, "--listen", "nowhere", "--database-url", "mysql://x", "--mqtt-url", "")
		require.Equal(t, 2, process.ExitStatus(err), "%s: %v", command, err)
		for _, flag := range []string{"listen", "database-url", "mqtt-url", "key-dir"} {
			require.ErrorContains(t, err, flag, command)
		}
	}
	for _, program := range []string{"firmware-agent", "backend", "simulator"} {
		_, err = tools.Run(t.Context(), "", program, "--no-such-flag")
		require.Equal(t, 2, process.ExitStatus(err), program)
		require.ErrorContains(t, err, "no-such-flag", program)
	}
}

// TestDatabaseAndBrokerAway starts everything without database and broker,
// brings them, takes them away in the middle of a swap, and brings them again.
func TestDatabaseAndBrokerAway(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	c := s.newCabinet(6, 4)
	id, _ := s.newRider()
	s.database.Stop()
	s.broker.Stop()

	r := s.newReplica()
	require.NoError(t, r.Start())
	t.Cleanup(r.Stop)
	s.replicas = append(s.replicas, r)
	c.startBoards()
	c.startAgent()
	s.until("the backend does not live without database and broker", func() bool { return r.status("/healthz") == http.StatusOK })
	require.Equal(t, http.StatusServiceUnavailable, r.status("/readyz"))
	require.Equal(t, http.StatusServiceUnavailable, r.status("/api/v1/cabinets"))
	require.Zero(t, metric(t, r.metrics, "swap_mqtt_connected"))
	require.Zero(t, metric(t, c.metrics, "swap_mqtt_connected"))
	s.until("the backend's log does not name the database", func() bool { return said(r.Program, "database") })
	s.until("the agent's log does not name the broker", func() bool { return said(c.Program, "broker") })

	require.NoError(t, s.database.Start())
	require.NoError(t, s.broker.Start())
	s.until("the backend does not find database and broker again", func() bool { return r.status("/readyz") == http.StatusOK })
	c.heard(4)
	s.swapsAgain(c, id, 1)

	// In the middle: the battery is in, the charged one not yet taken.
	id, own := s.newRider()
	v := s.scan(r, id, c)
	slot := s.openDoor(c, 1)
	require.NoError(t, s.world.Insert(s.now(), id, c.id, slot, own, true))
	s.database.Kill()
	s.broker.Kill()
	require.NoError(t, s.world.CloseDoor(s.now(), id, c.id, slot))
	slot = s.openDoor(c, 1) // the cabinet finishes alone
	taken, err := s.world.Take(s.now(), id, c.id, slot)
	require.NoError(t, err)
	require.NoError(t, s.world.CloseDoor(s.now(), id, c.id, slot))
	require.Equal(t, http.StatusServiceUnavailable, r.status("/readyz"))

	require.NoError(t, s.database.Start())
	require.NoError(t, s.broker.Start())
	s.until("the swap is not counted", func() bool {
		got, ok := s.swapOf(r, id, v)
		return ok && got.Outcome == protocol.OutcomeSwapped
	})
	books := s.audited().of(t, id)
	require.Equal(t, 1, books.Counted)
	require.Equal(t, []string{taken}, books.Batteries)
	s.swapsAgain(c, id, 2)
}

// scan asks for a swap, which must be granted.
func (s *stage) scan(r *replica, riderID string, c *cabinet) protocol.SwapID {
	s.t.Helper()
	phone := s.phone(r, riderID)
	var granted protocol.SwapID
	s.until("the scan is not granted", func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), patience)
		defer cancel()
		v, err := phone.Scan(ctx, c.id, fmt.Sprintf("key-%s-%d", riderID, s.now()))
		var refused *rider.Refused
		if errors.As(err, &refused) && refused.Reason == protocol.ReasonBusy {
			return false // no door is known to be closed before it has been so for two seconds
		}
		require.NoError(s.t, err)
		granted = v.SwapID
		return true
	})
	return granted
}

// swapOf reads a rider's swap.
func (s *stage) swapOf(r *replica, riderID string, id protocol.SwapID) (v struct {
	Outcome protocol.Outcome
}, ok bool,
) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	got, err := s.phone(r, riderID).Swap(ctx, id)
	v.Outcome = got.Outcome
	return v, err == nil
}

// openDoor waits for so many open doors of a cabinet and returns the first.
func (s *stage) openDoor(c *cabinet, doors int) int {
	s.t.Helper()
	slot := 0
	s.until("no door opens", func() bool {
		n := 0
		for _, v := range s.world.View(s.now(), c.id) {
			if v.DoorOpen {
				if n++; n == 1 {
					slot = v.Slot
				}
			}
		}
		return n == doors
	})
	return slot
}

// TestSerialPortAway starts an agent without its serial port, plugs it in,
// pulls it out and plugs it in again.
func TestSerialPortAway(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	r := s.startReplica()
	c := s.newCabinet(6, 4)
	id, _ := s.newRider()
	require.NoError(t, c.port.Vanish())
	c.extraConfig = fmt.Sprintf("meter: {kind: ddsu666, address: %d}\nclimate: {kind: xymd02, address: %d}\n", board.MeterUnit, board.ClimateUnit)
	c.startBoards()
	c.startAgent()
	s.until("the agent does not name the port", func() bool { return said(c.Program, c.device) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := s.phone(r, id).Scan(ctx, c.id, "before-the-port")
	require.Error(t, err, "a cabinet that knows nothing of its slots was granted a swap")
	require.Zero(t, metric(t, c.metrics, "swap_bus_up"))
	require.NoError(t, c.Alone())

	require.NoError(t, c.port.Return())
	c.heard(4)
	s.until("the meter is not read", func() bool { return metric(t, c.metrics, "swap_cabinet_power_watts") >= 60 })
	s.until("the climate sensor is not read", func() bool { return metric(t, c.metrics, "swap_cabinet_air_celsius") >= 25 })
	s.swapsAgain(c, id, 1)

	require.NoError(t, c.port.Vanish())
	c.heard(0) // what is not known any more is not told
	_, err = s.phone(r, id).Scan(ctx, c.id, "while-the-port-is-away")
	require.Error(t, err)
	require.Zero(t, metric(t, c.metrics, "swap_bus_up"))
	require.NoError(t, c.port.Return())
	c.heard(3) // the one that was deposited is not charged yet
	require.Positive(t, metric(t, c.metrics, "swap_bus_up"))
	s.swapsAgain(c, id, 2)
}

// peer speaks MQTT as anybody with access to the broker could.
type peer struct {
	s      *stage
	client mqtt.Client
}

func (s *stage) newPeer() *peer {
	s.t.Helper()
	o := mqtt.NewClientOptions().AddBroker(s.mqttURL).SetClientID("peer").SetCleanSession(true)
	client := mqtt.NewClient(o)
	token := client.Connect()
	require.True(s.t, token.WaitTimeout(patience))
	require.NoError(s.t, token.Error())
	s.t.Cleanup(func() { client.Disconnect(0) })
	return &peer{s, client}
}

func (p *peer) publish(topic string, payload []byte) {
	p.s.t.Helper()
	token := p.client.Publish(topic, 1, false, payload)
	require.True(p.s.t, token.WaitTimeout(patience))
	require.NoError(p.s.t, token.Error())
}

// deviceKey reads a key that keygen made.
func deviceKey(t testing.TB, file string) (kid string, key ed25519.PrivateKey) {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	block, _ := pem.Decode(b)
	require.NotNil(t, block)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	key = parsed.(ed25519.PrivateKey)
	return protocol.KeyID(key.Public().(ed25519.PublicKey)), key
}

// TestHostileMessages lets a peer say what no program of ours says, to backend
// and agent: each is counted with its reason and named in the log, no door
// opens, and a swap works afterwards.
func TestHostileMessages(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	r := s.startReplica()
	c := s.newCabinet(6, 4)
	c.startBoards()
	c.startAgent()
	c.heard(4)
	id, _ := s.newRider()
	p := s.newPeer()
	strange := filepath.Join(s.dir, "strange.key")
	s.run("firmware-agent", "keygen", "--out", strange)
	strangeKid, strangeKey := deviceKey(t, strange)
	kid, key := deviceKey(t, c.keyFile())
	hello := protocol.Hello{Epoch: protocol.Epoch{1}, BootID: protocol.BootID{1}, BootSeq: 1, TailSeq: 1, FirstSeq: 1}
	seal := func(kid string, key ed25519.PrivateKey, id protocol.CabinetID, m protocol.Message) []byte {
		raw, err := protocol.Seal(kid, key, id, m)
		require.NoError(t, err)
		return raw
	}
	changed := seal(kid, key, protocol.CabinetID(c.id), protocol.Will{BootID: protocol.BootID{1}})
	changed[20] ^= 1
	rpc := protocol.Topic(protocol.CabinetID(c.id), protocol.UpRPC)
	for _, hostile := range []struct {
		topic   string
		payload []byte
		result  string
	}{
		{rpc, []byte("not json"), "malformed"},
		{rpc, nil, "malformed"},
		{rpc, bytes.Repeat([]byte("x"), protocol.MaxEnvelope+1), "oversized"},
		{"swap/v1/hb-9999/up/rpc", seal(strangeKid, strangeKey, "hb-9999", hello), "unknown_cabinet"},
		{rpc, seal(strangeKid, strangeKey, protocol.CabinetID(c.id), hello), "unknown_key"},
		{rpc, seal(kid, strangeKey, protocol.CabinetID(c.id), hello), "wrong_signature"},
		{rpc, seal(kid, key, protocol.CabinetID(c.id), protocol.Cancel{SwapID: "01920000-0000-7000-8000-000000000001"}), "unexpected_type"},
		{"swap/v1/hb-9998/up/rpc", seal(kid, key, protocol.CabinetID(c.id), hello), "foreign_cabinet"},
	} {
		before := metric(t, r.metrics, "swap_mqtt_messages_total", `result="`+hostile.result+`"`)
		p.publish(hostile.topic, hostile.payload)
		s.until("the backend does not count what is "+hostile.result, func() bool {
			return metric(t, r.metrics, "swap_mqtt_messages_total", `result="`+hostile.result+`"`) > before
		})
		s.until("the backend's log does not name what is "+hostile.result, func() bool { return said(r.Program, hostile.result) })
	}

	grant := protocol.Grant{
		SwapID: "01920000-0000-7000-8000-000000000001", Kind: protocol.KindSwap, Nonce: protocol.Nonce{1}, BootID: protocol.BootID{1},
		RiderRef: "00112233445566778899aabbccddeeff", DepositSlots: []int{1},
		Dispense:      []protocol.Offer{{Slot: 6, BatterySerial: protocol.BatterySerial(world.Serial(1)), Soc: 96}},
		ExpectSerials: []protocol.BatterySerial{"BT-X"},
	}
	down := protocol.Topic(protocol.CabinetID(c.id), protocol.Down)
	for _, hostile := range []struct {
		payload []byte
		why     string
	}{
		{[]byte("not json"), "malformed"},
		{bytes.Repeat([]byte("x"), protocol.MaxEnvelope+1), "oversized"},
		{seal(strangeKid, strangeKey, protocol.CabinetID(c.id), grant), "unknown_key"},
		{seal(kid, key, protocol.CabinetID(c.id), grant), "unknown_key"},                              // its own key does not speak for the backend
		{s.backendSays("service", c.id, grant), "unknown_key"},                                        // nor a service key for a grant
		{seal(s.backendKid("grant"), strangeKey, protocol.CabinetID(c.id), grant), "wrong_signature"}, // nor whoever knows its name
		{s.backendSays("grant", "hb-0002", grant), "foreign"},                                         // nor what was meant for another
		{s.backendSays("grant", c.id, grant), "nonce"},                                                // and a grant needs a nonce of this boot
	} {
		labels := `why="` + hostile.why + `"`
		before := metric(t, c.metrics, "swap_rejected_total", labels)
		p.publish(down, hostile.payload)
		s.until("the agent does not count what is "+hostile.why, func() bool {
			return metric(t, c.metrics, "swap_rejected_total", labels) > before
		})
		s.until("the agent's log does not name what is "+hostile.why, func() bool { return said(c.Program, "refused", hostile.why) })
	}
	for _, e := range s.world.Events(0) {
		require.NotEqual(t, world.Pulsed, e.Kind, "a hostile message opened a door: %+v", e)
	}
	s.swapsAgain(c, id, 1)
}

// backendSays seals a message with a key of the backend's own.
func (s *stage) backendSays(use string, id string, m protocol.Message) []byte {
	s.t.Helper()
	_, key := deviceKey(s.t, filepath.Join(s.keys(), use+".key"))
	raw, err := protocol.Seal(s.backendKid(use), key, protocol.CabinetID(id), m)
	require.NoError(s.t, err)
	return raw
}

// backendKid is the name of the backend's key of a use.
func (s *stage) backendKid(use string) string {
	s.t.Helper()
	for _, k := range s.keyList().Keys {
		if string(k.Use) == use {
			return k.KeyID
		}
	}
	s.t.Fatalf("keys.json does not list a %s key", use)
	return ""
}

// TestWrongRequests sends the API what it does not want: a problem each, that
// names the field, and no door.
func TestWrongRequests(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	r := s.startReplica()
	c := s.newCabinet(6, 4)
	c.startBoards()
	c.startAgent()
	c.heard(4)
	id, _ := s.newRider()
	_, body := r.post(t, "/api/v1/sessions", "", nil, fmt.Sprintf(`{"rider_id":%q,"code":%q}`, id, riderCode))
	var session struct {
		Token string `json:"token"`
	}
	require.NoError(t, json.Unmarshal(body, &session))
	token := session.Token
	require.NotEmpty(t, token)
	key := map[string]string{"Idempotency-Key": "k1"}
	for name, c := range map[string]struct {
		path, token, body string
		header            map[string]string
		status            int
		says              string
	}{
		"wrong code":      {"/api/v1/sessions", "", fmt.Sprintf(`{"rider_id":%q,"code":"0"}`, id), nil, 403, "sign-in-refused"},
		"no rider":        {"/api/v1/sessions", "", `{"code":"0"}`, nil, 422, "privacy_version"},
		"no session":      {"/api/v1/swaps", "", `{"cabinet_id":"hb-0001"}`, key, 401, "sign-in-required"},
		"wrong session":   {"/api/v1/swaps", "x", `{"cabinet_id":"hb-0001"}`, key, 401, "sign-in-required"},
		"not json":        {"/api/v1/swaps", token, `{"cabinet_id"`, key, 400, "invalid-request"},
		"another type":    {"/api/v1/swaps", token, `{"cabinet_id":7}`, key, 422, "cabinet_id"},
		"unknown field":   {"/api/v1/swaps", token, `{"cabinet_id":"hb-0001","door":3}`, key, 422, "door"},
		"no key":          {"/api/v1/swaps", token, `{"cabinet_id":"hb-0001"}`, nil, 422, "Idempotency-Key"},
		"bad cabinet":     {"/api/v1/swaps", token, `{"cabinet_id":"HB 1"}`, key, 422, "cabinet_id"},
		"unknown cabinet": {"/api/v1/swaps", token, `{"cabinet_id":"hb-9999"}`, key, 404, "cabinet_unknown"},
		"too large":       {"/api/v1/swaps", token, `{"cabinet_id":"` + strings.Repeat("x", 20<<10) + `"}`, key, 413, "body"},
		"no such swap":    {"/api/v1/swaps/01920000-0000-7000-8000-000000000001/wish", token, `{"what":"recheck"}`, nil, 404, "not-found"},
		"no such path":    {"/api/v1/doors", token, `{}`, nil, 404, "not-found"},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := r.post(t, c.path, c.token, c.header, c.body)
			require.Equal(t, c.status, resp.StatusCode, "%s", body)
			require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"), "%s", body)
			require.Contains(t, string(body), c.says)
			require.NotContains(t, string(body), riderCode)
		})
	}
	require.Positive(t, metric(t, r.metrics, "swap_http_requests_total", `status="422"`))
	for _, e := range s.world.Events(0) {
		require.NotEqual(t, world.Pulsed, e.Kind)
	}
	s.swapsAgain(c, id, 1)
	log, err := os.ReadFile(r.Log)
	require.NoError(t, err)
	require.NotContains(t, string(log), riderCode, "a code is in the log")
	require.NotContains(t, string(log), token, "a session's token is in the log")
}

// post sends JSON and returns the answer with its body read.
func (r *replica) post(t testing.TB, path, token string, header map[string]string, body string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, answer
}

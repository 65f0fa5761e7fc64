package rider

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"batteryswap/protocol"
)

// Bounds of what a phone takes from the backend.
const (
	requestTimeout = 15 * time.Second // a scan waits up to 5 s for the cabinet
	maxBody        = 64 << 10
	maxEventLine   = 64 << 10
)

// Swap is a swap as the page sees it.
type Swap struct {
	SwapID    protocol.SwapID        `json:"swap_id"`
	CabinetID protocol.CabinetID     `json:"cabinet_id"`
	Kind      protocol.Kind          `json:"kind"`
	State     string                 `json:"state"`
	Step      string                 `json:"step"`
	Slot      int                    `json:"slot"`
	Door      protocol.Door          `json:"door"`
	Outcome   protocol.Outcome       `json:"outcome"`
	Reason    protocol.Reason        `json:"reason"`
	Deposited protocol.BatterySerial `json:"deposited"`
	Taken     protocol.BatterySerial `json:"taken"`
	Seq       uint64                 `json:"seq"`
	Reachable bool                   `json:"reachable"`
}

// Closed reports whether the swap has ended.
func (s Swap) Closed() bool { return s.State == "closed" }

// Account is what the backend says of a rider.
type Account struct {
	SwapsTotal  int                      `json:"swaps_total"`
	OpenCredits int                      `json:"open_credits"`
	Batteries   []protocol.BatterySerial `json:"batteries"`
	OpenSwap    protocol.SwapID          `json:"open_swap"`
}

// Refused is the backend's answer to a scan that did not become a swap.
type Refused struct {
	Status int
	Reason protocol.Reason
	SwapID protocol.SwapID
}

// Error names the reason.
func (r *Refused) Error() string {
	return fmt.Sprintf("refused with status %d: %s", r.Status, r.Reason)
}

// Phone is one rider's session with the backend.
type Phone struct {
	base   string
	http   *http.Client
	signIn func(context.Context, *Phone) error
	// address is where it says to come from, to a backend that believes us; "":
	// from here.
	address string

	mu    sync.Mutex
	token string
}

// NewPhone is a phone that signs in at base (scheme and host) as a rider with
// the development code.
func NewPhone(base, riderID, code string, client *http.Client) *Phone {
	return &Phone{base: strings.TrimRight(base, "/"), http: client, signIn: func(ctx context.Context, p *Phone) error {
		return p.open(ctx, "", map[string]any{"rider_id": riderID, "code": code})
	}}
}

// Scan asks for a swap at a cabinet. The same key asks the same question again.
func (p *Phone) Scan(ctx context.Context, cabinetID, key string) (Swap, error) {
	return p.ScanWithCode(ctx, cabinetID, key, "")
}

// ScanWithCode is Scan with the code on the cabinet's screen, "" for none.
func (p *Phone) ScanWithCode(ctx context.Context, cabinetID, key, code string) (Swap, error) {
	var s Swap
	body := map[string]any{"cabinet_id": cabinetID}
	if code != "" {
		body["presence"] = code
	}
	err := p.call(ctx, http.MethodPost, "/api/v1/swaps", key, body, &s)
	return s, err
}

// Swap reads a swap.
func (p *Phone) Swap(ctx context.Context, id protocol.SwapID) (Swap, error) {
	var s Swap
	err := p.call(ctx, http.MethodGet, "/api/v1/swaps/"+string(id), "", nil, &s)
	return s, err
}

// Recheck says "I closed the door".
func (p *Phone) Recheck(ctx context.Context, id protocol.SwapID) error {
	return p.call(ctx, http.MethodPost, "/api/v1/swaps/"+string(id)+"/wish", "", map[string]any{"what": "recheck"}, nil)
}

// Account reads the rider's own account.
func (p *Phone) Account(ctx context.Context) (Account, error) {
	var a Account
	err := p.call(ctx, http.MethodGet, "/api/v1/riders/me", "", nil, &a)
	return a, err
}

// call does one request, and signs in first where the session is missing or
// has ended.
func (p *Phone) call(ctx context.Context, method, path, key string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for range 2 {
		err := p.try(ctx, method, path, key, body, out)
		var refused *Refused
		if !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
			return err
		}
		if err := p.signIn(ctx, p); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s %s: signed in, and still not let in", method, path)
}

// open opens a session with a proof.
func (p *Phone) open(ctx context.Context, key string, proof map[string]any) error {
	var session struct {
		Token string `json:"token"`
	}
	if err := p.try(ctx, http.MethodPost, "/api/v1/sessions", key, proof, &session); err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	p.mu.Lock()
	p.token = session.Token
	p.mu.Unlock()
	return nil
}

func (p *Phone) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, payload)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if p.address != "" {
		req.Header.Set("X-Forwarded-For", p.address)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	return req, nil
}

func (p *Phone) try(ctx context.Context, method, path, key string, body, out any) error {
	req, err := p.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		return refusal(resp.StatusCode, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}

func refusal(status int, body []byte) error {
	var problem struct {
		Reason protocol.Reason `json:"reason"`
		SwapID protocol.SwapID `json:"swap_id"`
	}
	// An answer that is no problem+json (a proxy's) has no reason: status says enough.
	_ = json.Unmarshal(body, &problem)
	return &Refused{Status: status, Reason: problem.Reason, SwapID: problem.SwapID}
}

// Follow reads the swap's event stream and hands on every view until the stream
// ends. It returns nil when the backend ended it.
func (p *Phone) Follow(ctx context.Context, id protocol.SwapID, lastSeq uint64, see func(Swap)) error {
	path := "/api/v1/swaps/" + string(id) + "/events"
	req, err := p.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if lastSeq > 0 {
		req.Header.Set("Last-Event-ID", fmt.Sprint(lastSeq))
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return fmt.Errorf("follow the swap: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("follow the swap: %w", &Refused{Status: resp.StatusCode})
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEventLine)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var s Swap
		if err := json.Unmarshal([]byte(data), &s); err != nil {
			return fmt.Errorf("follow the swap: read an event: %w", err)
		}
		see(s)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("follow the swap: %w", err)
	}
	return nil
}

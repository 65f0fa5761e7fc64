package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"batteryswap/firmware-agent/internal/charging"
	"batteryswap/firmware-agent/internal/config"
	"batteryswap/protocol"
)

// The door for who stands at the cabinet: a socket that only the agent's own
// user, and root, can reach. It clears safety alarms and does nothing else.
const (
	siteSocket = "agent.sock"
	// siteTime is what reading a request may take, what clearing may take, and what
	// the answer may take.
	siteTime = 5 * time.Second
	// siteAgain and siteSeldom bound the pause after a connection that could not be
	// accepted: it doubles from one to the other.
	siteAgain  = 100 * time.Millisecond
	siteSeldom = 10 * time.Second
	// maxSiteLine bounds a request, maxSiteReply an answer: a line for each alarm
	// that there can be.
	maxSiteLine  = 256
	maxSiteReply = 64 << 10
)

// siteRequest asks to clear the alarms of a slot, of the cabinet (0), or of
// EverySlot.
type siteRequest struct {
	Slot int `json:"slot"`
}

// siteReply is what came of it.
type siteReply struct {
	Cleared []string `json:"cleared,omitempty"`
	Refused []string `json:"refused,omitempty"`
}

// EverySlot stands for all slots and the cabinet.
const EverySlot = -1

func (a *Agent) startSite() error {
	path := filepath.Join(a.c.StateDir, siteSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		a.o.Log.Warn("alarms cannot be cleared on site", "err", err)
		return nil
	}
	l, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil { // a disk that fails keeps nothing else from working
		a.o.Log.Warn("alarms cannot be cleared on site", "err", err)
		return nil
	}
	a.goes("site socket", func(ctx context.Context) { a.acceptSite(ctx, l) })
	a.push("site listener", l.Close) // first: Accept waits for no context
	return nil
}

// acceptSite answers until ctx ends and the listener is closed.
func (a *Agent) acceptSite(ctx context.Context, l net.Listener) {
	var pause time.Duration
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			a.serveSite(c)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case pause == 0:
			a.o.Log.Warn("nobody can clear alarms on site for now", "err", err)
		}
		pause = min(max(2*pause, siteAgain), siteSeldom)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// serveSite answers one request; one at a time is enough for one key.
func (a *Agent) serveSite(c net.Conn) {
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(siteTime)); err != nil {
		return
	}
	var q siteRequest
	reply := siteReply{}
	if err := json.NewDecoder(io.LimitReader(c, maxSiteLine)).Decode(&q); err != nil {
		reply.Refused = []string{fmt.Sprintf("request: %v", err)}
	} else {
		reply = a.clearAlarms(q)
	}
	if err := c.SetWriteDeadline(time.Now().Add(siteTime)); err != nil {
		return
	}
	if err := json.NewEncoder(c).Encode(reply); err != nil {
		a.o.Log.Debug("site socket", "err", err)
	}
}

func (a *Agent) clearAlarms(q siteRequest) siteReply {
	ctx, cancel := context.WithTimeout(context.Background(), siteTime)
	defer cancel()
	reply := siteReply{}
	if a.cabinet == nil {
		reply.Refused = append(reply.Refused, "there is no journal to record it: out of service")
		return reply
	}
	for _, on := range a.safety.State().Alarms {
		if (q.Slot != EverySlot && on.Slot != q.Slot) || on.Kind == protocol.AlarmSupply {
			continue
		}
		name := alarmName(on)
		if err := a.safety.Clear(ctx, on); err != nil {
			reply.Refused = append(reply.Refused, fmt.Sprintf("%s: %v", name, err))
			continue
		}
		reply.Cleared = append(reply.Cleared, name)
	}
	if len(reply.Cleared)+len(reply.Refused) == 0 {
		reply.Refused = append(reply.Refused, charging.ErrNotOn.Error())
	}
	return reply
}

func alarmName(a charging.Alarm) string {
	if a.Slot == 0 {
		return string(a.Kind) + " of the cabinet"
	}
	return fmt.Sprintf("%s of slot %d", a.Kind, a.Slot)
}

// ClearAlarms asks the agent that runs with this configuration to clear latched
// safety alarms: of one slot, of the cabinet (0), or of EverySlot. The agent demands
// the maintenance key. It gives what was cleared and what was not; an error is that
// the agent cannot be asked.
func ClearAlarms(configFile string, slotNumber int) (cleared, refused []string, err error) {
	cfg, err := config.Load(configFile)
	if err != nil {
		return nil, nil, err
	}
	c, err := net.DialTimeout("unix", filepath.Join(cfg.StateDir, siteSocket), siteTime)
	if err != nil {
		return nil, nil, fmt.Errorf("ask the agent, which must run: %w", err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(3 * siteTime)); err != nil {
		return nil, nil, fmt.Errorf("ask the agent: %w", err)
	}
	var reply siteReply
	if err := json.NewEncoder(c).Encode(siteRequest{Slot: slotNumber}); err != nil {
		return nil, nil, fmt.Errorf("ask the agent: %w", err)
	}
	if err := json.NewDecoder(io.LimitReader(c, maxSiteReply)).Decode(&reply); err != nil {
		return nil, nil, fmt.Errorf("ask the agent: %w", err)
	}
	return reply.Cleared, reply.Refused, nil
}

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
	siteSocket  = "agent.sock"
	siteTime    = 5 * time.Second
	maxSiteLine = 256
)

// siteRequest asks to clear one alarm; no kind is all of a slot, or of the whole
// cabinet when the slot is -1.
type siteRequest struct {
	Kind protocol.AlarmKind `json:"kind,omitempty"`
	Slot int                `json:"slot"`
}

// siteReply is what came of it.
type siteReply struct {
	Cleared []string `json:"cleared,omitempty"`
	Refused []string `json:"refused,omitempty"`
}

// everySlot asks for the alarms of all slots and of the cabinet.
const everySlot = -1

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
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			a.serveSite(c)
		}
	}()
	a.push("site socket", func() error {
		err := l.Close()
		<-ended
		return err
	})
	return nil
}

// serveSite answers one request; one at a time is enough for one key.
func (a *Agent) serveSite(c net.Conn) {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(siteTime)); err != nil {
		return
	}
	var q siteRequest
	reply := siteReply{}
	if err := json.NewDecoder(io.LimitReader(c, maxSiteLine)).Decode(&q); err != nil {
		reply.Refused = []string{fmt.Sprintf("request: %v", err)}
	} else {
		reply = a.clearAlarms(q)
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
		if (q.Slot != everySlot && on.Slot != q.Slot) || (q.Kind != "" && on.Kind != q.Kind) || on.Kind == protocol.AlarmSupply {
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
		reply.Refused = append(reply.Refused, "no such alarm is latched")
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
// safety alarms: of one slot, of the cabinet (0), or all (-1); of one kind, or of
// all (""). The agent demands the maintenance key. It gives what was cleared and
// what was not; an error is that the agent cannot be asked.
func ClearAlarms(configFile string, slotNumber int, kind protocol.AlarmKind) (cleared, refused []string, err error) {
	cfg, err := config.Load(configFile)
	if err != nil {
		return nil, nil, err
	}
	c, err := net.DialTimeout("unix", filepath.Join(cfg.StateDir, siteSocket), siteTime)
	if err != nil {
		return nil, nil, fmt.Errorf("ask the agent, which must run: %w", err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * siteTime)); err != nil {
		return nil, nil, fmt.Errorf("ask the agent: %w", err)
	}
	var reply siteReply
	if err := json.NewEncoder(c).Encode(siteRequest{Kind: kind, Slot: slotNumber}); err != nil {
		return nil, nil, fmt.Errorf("ask the agent: %w", err)
	}
	if err := json.NewDecoder(c).Decode(&reply); err != nil {
		return nil, nil, fmt.Errorf("ask the agent: %w", err)
	}
	return reply.Cleared, reply.Refused, nil
}

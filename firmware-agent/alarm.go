package main

import (
	"fmt"
	"strconv"

	"batteryswap/firmware-agent/agent"
	"batteryswap/protocol"
)

// clearAlarm clears latched safety alarms on site. SLOT is a slot's number, 0 for
// the cabinet, or all.
func clearAlarm(s shell) error {
	slot := agent.EverySlot
	if s.arg != "all" {
		n, err := strconv.Atoi(s.arg)
		if err != nil || n < 0 || n > protocol.MaxSlots {
			return usageError{fmt.Errorf("clear-alarm: %q: want a slot's number, 0 for the cabinet, or all", s.arg)}
		}
		slot = n
	}
	cleared, refused, err := agent.ClearAlarms(s.config, slot)
	if err != nil {
		return wrongConfig(err)
	}
	for _, name := range cleared {
		fmt.Fprintf(s.out, "cleared: %s\n", name)
	}
	for _, why := range refused {
		fmt.Fprintf(s.errout, "firmware-agent: not cleared: %s\n", why)
	}
	if len(refused) > 0 {
		return errFailed
	}
	return nil
}

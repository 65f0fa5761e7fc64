package agent

import (
	"fmt"

	"batteryswap/firmware-agent/internal/config"
	"batteryswap/firmware-agent/internal/driver"
	"batteryswap/firmware-agent/internal/driver/slotboard"
)

// kinds is the table of the kinds of board that there are. A new kind is a
// folder below internal/driver and a line here.
func kinds() []driver.Kind {
	return []driver.Kind{
		slotboard.Kind(),
	}
}

// openBoard opens a board of the configured kind. It asks nothing of it.
func openBoard(c config.Board, o driver.Options) (driver.Board, error) {
	names := []string{}
	for _, kind := range kinds() {
		if kind.Name != c.Kind {
			names = append(names, kind.Name)
			continue
		}
		o.Slots = c.Slots
		board, err := kind.Open(o)
		if err != nil {
			return nil, fmt.Errorf("open the board: %w", err)
		}
		return board, nil
	}
	return nil, fmt.Errorf("board.kind is %q, expected one of %q", c.Kind, names)
}

package acceptance

import (
	"log/slog"
	"os"
	"strings"

	"batteryswap/simulator/process"
)

// discard is a logger for those who only speak of what the test sees anyway.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// said reports whether a program's log holds a line with all of these words.
func said(p *process.Program, words ...string) bool {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return true
		}
	}
	return false
}

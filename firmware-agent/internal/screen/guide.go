package screen

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"batteryswap/protocol"
)

// maxGuideFile bounds the file that a guide is kept in, in bytes.
const maxGuideFile = 16 << 10

// guideBook is the newest guide, and the file that keeps it over a restart.
type guideBook struct {
	file string

	mu    sync.Mutex
	guide protocol.Guide
}

// openGuides reads the guide of the last run. Without a file there is none yet.
func openGuides(file string) (*guideBook, error) {
	b := &guideBook{file: file}
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return b, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxGuideFile))
	if err != nil {
		return b, err
	}
	var g protocol.Guide
	if err := json.Unmarshal(content, &g); err != nil {
		return b, fmt.Errorf("%s: %w", file, err)
	}
	if err := g.Validate(); err != nil {
		return b, fmt.Errorf("%s: %w", file, err)
	}
	b.guide = g
	return b, nil
}

func (b *guideBook) look() protocol.Guide {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.guide
}

// take keeps a newer guide. An error is of the file only: the screen shows it.
func (b *guideBook) take(g protocol.Guide) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g.At.Before(b.guide.At) {
		return nil // the broker has repeated an old one
	}
	b.guide = g
	content, err := json.Marshal(g)
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.file+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(b.file+".new", b.file)
}

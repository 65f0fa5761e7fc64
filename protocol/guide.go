package protocol

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Bounds of a guide.
const (
	MaxNeighbours = 4
	MaxPageURL    = 200 // bytes
	maxGuideText  = 120 // bytes
	maxMetres     = 40_000_000
)

// Guide is what a cabinet's screen tells riders beside the swap: where their page
// is, whom to call, and which cabinets are near. It decides nothing: one that a
// broker repeats is old advice, no more.
type Guide struct {
	// PageURL is the rider's page of this cabinet, for the QR code; the screen
	// adds the presence code as the fragment, which no server sees.
	PageURL string      `json:"page_url"`
	Hotline string      `json:"hotline,omitempty"`
	At      time.Time   `json:"at"` // when the counts were taken, by the backend's clock
	Nearest []Neighbour `json:"nearest"`
}

// Neighbour is another cabinet, as the backend knew it last.
type Neighbour struct {
	CabinetID CabinetID `json:"cabinet_id"`
	Station   string    `json:"station"`
	Street    string    `json:"street"`
	Metres    int       `json:"metres"` // as the crow flies
	Charged   int       `json:"charged"`
	Empty     int       `json:"empty"`
}

// MessageType names the message.
func (Guide) MessageType() Type { return TypeGuide }

// Validate says what is wrong with the message, or nil.
func (m Guide) Validate() error {
	switch {
	case len(m.PageURL) > MaxPageURL || !strings.HasPrefix(m.PageURL, "https://") && !strings.HasPrefix(m.PageURL, "http://"):
		return fmt.Errorf("page_url: want http:// or https:// in at most %d bytes", MaxPageURL)
	case strings.ContainsAny(m.PageURL, "# \t\r\n"):
		return errors.New("page_url: want no fragment and no blank")
	case len(m.Hotline) > maxGuideText:
		return fmt.Errorf("hotline: want at most %d bytes", maxGuideText)
	case len(m.Nearest) > MaxNeighbours:
		return fmt.Errorf("nearest: %d, want at most %d", len(m.Nearest), MaxNeighbours)
	}
	for i, n := range m.Nearest {
		if err := n.validate(); err != nil {
			return fmt.Errorf("nearest[%d].%w", i, err)
		}
	}
	return nil
}

func (n Neighbour) validate() error {
	switch {
	case len(n.Station) > maxGuideText || len(n.Street) > maxGuideText:
		return fmt.Errorf("station and street: want at most %d bytes each", maxGuideText)
	case n.Metres < 0 || n.Metres > maxMetres:
		return fmt.Errorf("metres is %d: want 0 to %d", n.Metres, maxMetres)
	case n.Charged < 0 || n.Charged > MaxSlots || n.Empty < 0 || n.Empty > MaxSlots:
		return fmt.Errorf("charged and empty: want 0 to %d", MaxSlots)
	}
	return n.CabinetID.Validate()
}

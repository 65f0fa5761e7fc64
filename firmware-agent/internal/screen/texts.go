package screen

import (
	"embed"
	"encoding/json"
	"fmt"
	"time"
)

//go:embed locales
var localeFiles embed.FS

// languages are shown together, the first on top.
var languages = [...]string{"zh", "en"}

// chinaAhead is how far the wall clocks of all cabinets are ahead of UTC: China
// has one time and no summer time.
const chinaAhead = 8 * time.Hour

// texts are all texts, by language and key.
type texts map[string]map[string]string

func loadTexts() (texts, error) {
	t := texts{}
	for _, lang := range languages {
		b, err := localeFiles.ReadFile("locales/" + lang + ".json")
		if err != nil {
			return nil, fmt.Errorf("texts of %s: %w", lang, err)
		}
		var of map[string]string
		if err := json.Unmarshal(b, &of); err != nil {
			return nil, fmt.Errorf("texts of %s: %w", lang, err)
		}
		t[lang] = of
	}
	return t, nil
}

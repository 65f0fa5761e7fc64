package rider

import (
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
	"strings"
)

// codeOnScreen is where a person's eyes find the code.
const codeOnScreen = `id="code">([^<]+)<`

// readCode looks at a cabinet's screen and reads the code.
func readCode(ctx context.Context, client *http.Client, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", fmt.Errorf("look at the screen: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("look at the screen: %w", err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return "", fmt.Errorf("look at the screen: %w", err)
	}
	found := regexp.MustCompile(codeOnScreen).FindSubmatch(page)
	if found == nil {
		return "", fmt.Errorf("look at the screen: it shows no code")
	}
	return strings.TrimSpace(html.UnescapeString(string(found[1]))), nil
}

package web

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

//go:embed locales
var localeFiles embed.FS

// languages are those that pages exist in; the first is what is shown to who
// asks for none of them.
var languages = [...]string{"zh", "en"}

// texts are all texts of one language.
type texts map[string]string

// loadTexts reads the texts of riders; what more names are of others, and stand
// before those of the same key.
func loadTexts(lang string, more ...string) (texts, error) {
	t := texts{}
	for _, name := range append([]string{""}, more...) {
		b, err := localeFiles.ReadFile("locales/" + name + lang + ".json")
		if err != nil {
			return nil, fmt.Errorf("texts of %s: %w", lang, err)
		}
		if err := json.Unmarshal(b, &t); err != nil {
			return nil, fmt.Errorf("texts of %s%s: %w", name, lang, err)
		}
	}
	return t, nil
}

// text is the text of a key. A key without a text is shown as it is: a test
// demands a text for everything that can be shown.
func (t texts) text(key string) string {
	if s, ok := t[key]; ok {
		return s
	}
	return key
}

// number is the text of a key with a number in the place of what stands for it.
func (t texts) number(key, place string, n any) string {
	if p, ok := n.(*int); ok {
		n = *p
	}
	return strings.ReplaceAll(t.text(key), place, fmt.Sprint(n))
}

// words is the text of a key with words in the places of what stands for them.
func (t texts) words(key string, pairs ...string) string {
	return strings.NewReplacer(pairs...).Replace(t.text(key))
}

// lasts says how long something lasts, rounded up: seconds to two minutes, minutes to
// two hours, so that there is never one of them.
func (t texts) lasts(d time.Duration) string {
	key, unit := "span.hours", time.Hour
	switch {
	case d <= 2*time.Minute:
		const step = 5 * time.Second
		return t.number("span.seconds", "{n}", 5*max(1, int64((d+step-1)/step)))
	case d <= 2*time.Hour:
		key, unit = "span.minutes", time.Minute
	}
	return t.number(key, "{n}", int64((d+unit-1)/unit))
}

// wait is the text of a key with how long something lasts.
func (t texts) wait(key string, d time.Duration) string { return t.words(key, "{wait}", t.lasts(d)) }

const languageCookie = "lang"

// language is what a request asks for: ?lang=, else the cookie, else the first
// known one of Accept-Language.
func language(r *http.Request) string {
	asked := []string{r.URL.Query().Get("lang")}
	if c, err := r.Cookie(languageCookie); err == nil {
		asked = append(asked, c.Value)
	}
	asked = append(asked, strings.Split(r.Header.Get("Accept-Language"), ",")...)
	for _, a := range asked {
		for _, l := range languages {
			if tag, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(a)), ";"); tag == l || strings.HasPrefix(tag, l+"-") {
				return l
			}
		}
	}
	return languages[0]
}
